//! Decoding: [`decode`] turns the bytes of a picture file into a [`Picture`].
//!
//! Bytes are untrusted. The size in the header is compared with a limit before anything is allocated, and the decoder may
//! allocate a few times what the picture takes.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::source::quietly;

/// The most pixels of a picture where a recipe says nothing: those at which Pillow refuses a file.
pub const MOST_PIXELS: u64 = 178_956_970;
/// What a decoder may allocate beside the pixels, in bytes.
const BESIDE: u64 = 64 << 20;
/// The formats that are read, for messages.
const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP or TIFF";

/// A picture of 8-bit RGB samples, as it is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `[height, width, 3]`, row-major.
    pub rgb: Vec<u8>,
}

/// Decodes a picture of at most `most` pixels. The content decides the format, not the name of the file.
///
/// The orientation in its EXIF data is applied. Palettes and grey become RGB. Alpha is dropped and not blended, as
/// Pillow's `convert("RGB")` does. Of 16 bits the high byte is kept. Of a GIF or an animation the first frame is read.
///
/// # Errors
/// Bytes that are no such picture, a damaged picture, and one with more pixels: a sentence that begins after "the picture".
pub fn decode(bytes: &[u8], most: u64) -> Result<Picture, String> {
    quietly(|| decoded(bytes, most))
        .unwrap_or_else(|_| Err("cannot be decoded: its decoder gave up, so the file is damaged".into()))
}

fn open(bytes: &[u8], most: u64) -> Result<(impl ImageDecoder + '_, Orientation), String> {
    let format = format_of(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The size is not known yet; a decoder that allocates while it reads the header has this much room.
    reader.limits(limits(most.saturating_mul(8)));
    let mut decoder = reader.into_decoder().map_err(|problem| format!("cannot be decoded: {problem}"))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > most {
        return Err(format!("has {width} x {height} pixels, more than data.max_pixels ({most})"));
    }
    if pixels == 0 {
        return Err(format!("has {width} x {height} pixels: there is nothing to see"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    decoder
        .set_limits(limits(decoder.total_bytes().saturating_mul(3)))
        .map_err(|problem| format!("cannot be decoded: {problem}"))?;
    Ok((decoder, orientation))
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes.saturating_add(BESIDE));
    limits
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() {
        return Err("is empty".into());
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        Ok(other) => Err(format!("is {}, and what is read is {FORMATS}", other.to_mime_type())),
        Err(_) => Err(match std::str::from_utf8(&bytes[..bytes.len().min(64)]) {
            Ok(text) if text.starts_with("version https://git-lfs") => {
                "is a pointer of Git LFS and no picture; fetch it with git lfs pull".into()
            }
            Ok(_) => format!("holds text; what is read is {FORMATS}"),
            Err(_) => format!("begins like none of {FORMATS}"),
        }),
    }
}

fn decoded(bytes: &[u8], most: u64) -> Result<Picture, String> {
    let (decoder, orientation) = open(bytes, most)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|problem| format!("cannot be decoded: {problem}"))?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    Ok(Picture { width, height, rgb: rgb(picture)? })
}

/// The high byte of each sample, three a pixel.
fn rgb(picture: DynamicImage) -> Result<Vec<u8>, String> {
    fn of<const CHANNELS: usize, T: Copy>(samples: &[T], byte: impl Fn(T) -> u8) -> Vec<u8> {
        let pixel = |pixel: &[T; CHANNELS]| match CHANNELS {
            1 | 2 => [byte(pixel[0]); 3],
            _ => [0, 1, 2].map(|channel| byte(pixel[channel])),
        };
        samples.as_chunks::<CHANNELS>().0.iter().flat_map(pixel).collect()
    }
    let high = |sample: u16| (sample >> 8) as u8;
    Ok(match picture {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageRgba8(picture) => of::<4, _>(&picture, |sample| sample),
        DynamicImage::ImageLuma8(picture) => of::<1, _>(&picture, |sample| sample),
        DynamicImage::ImageLumaA8(picture) => of::<2, _>(&picture, |sample| sample),
        DynamicImage::ImageRgb16(picture) => of::<3, _>(&picture, high),
        DynamicImage::ImageRgba16(picture) => of::<4, _>(&picture, high),
        DynamicImage::ImageLuma16(picture) => of::<1, _>(&picture, high),
        DynamicImage::ImageLumaA16(picture) => of::<2, _>(&picture, high),
        other => return Err(format!("has {} samples; what is read has 8 or 16 bits", named(other.color()))),
    })
}

fn named(color: ColorType) -> String {
    format!("{color:?}").to_lowercase()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bytes of a picture in a format.
    pub(crate) fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A picture whose pixels all differ.
    pub(crate) fn gradient(width: u32, height: u32) -> DynamicImage {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x + y) as u8])).into()
    }

    #[test]
    fn formats_without_loss_give_the_pixels() {
        let picture = gradient(13, 9);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff] {
            let read = decode(&encoded(&picture, format), MOST_PIXELS).unwrap();
            assert_eq!((read.width, read.height), (13, 9), "{format:?}");
            assert_eq!(read.rgb, picture.to_rgb8().into_raw(), "{format:?}");
        }
    }

    #[test]
    fn alpha_is_dropped_grey_repeated_and_sixteen_bits_keep_their_high_byte() {
        let rgba = image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([10 + x as u8, 20, 30, 0]));
        let read = |picture: DynamicImage| decode(&encoded(&picture, ImageFormat::Png), MOST_PIXELS).unwrap().rgb;
        assert_eq!(read(rgba.into()), [10, 20, 30, 11, 20, 30]);
        assert_eq!(read(image::GrayImage::from_raw(2, 1, vec![3, 250]).unwrap().into()), [3, 3, 3, 250, 250, 250]);
        let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0x12ff, 0xff00]).unwrap();
        assert_eq!(read(DynamicImage::ImageLuma16(deep)), [0x12, 0x12, 0x12, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn what_is_no_picture_is_said_to_be_so() {
        for (bytes, said) in [
            (&b""[..], "is empty"),
            (b"hello, I am a text", "holds text"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (&[0xff, 0xfe, 0, 9, 3], "begins like none of"),
        ] {
            let error = decode(bytes, MOST_PIXELS).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_cut_or_changed_file_is_an_error_or_another_picture_and_never_a_panic() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let whole = encoded(&gradient(40, 30), format);
            for end in (0..whole.len()).step_by(7) {
                let _ = decode(&whole[..end], MOST_PIXELS);
            }
            for place in (0..whole.len()).step_by(3) {
                let mut changed = whole.clone();
                changed[place] ^= 0x55;
                let _ = decode(&changed, 1 << 20);
            }
            let half = decode(&whole[..whole.len() / 2], MOST_PIXELS);
            assert!(half.is_err(), "{format:?}: half of the file was taken for a picture");
        }
    }

    #[test]
    fn a_huge_canvas_is_refused_by_its_header() {
        // A PNG header of 60,000 x 60,000 pixels and nothing behind it.
        let mut bytes = encoded(&gradient(1, 1), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let check = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&check.to_be_bytes());
        let error = decode(&bytes, MOST_PIXELS).unwrap_err();
        assert!(error.contains("60000 x 60000") && error.contains("data.max_pixels"), "{error}");
        let error = decode(&encoded(&gradient(40, 30), ImageFormat::Jpeg), 1199).unwrap_err();
        assert!(error.contains("40 x 30"), "{error}");
        assert!(decode(&encoded(&gradient(40, 30), ImageFormat::Jpeg), 1200).is_ok());
    }

    /// The checksum of a PNG chunk.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
        })
    }
}
