//! `data --out sheet.png`: a contact sheet of pictures as training will see them, with what is said of each below it.

use std::convert::Infallible;
use std::path::Path;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_6X10;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::Text;
use firebrand_datasets::picture::Picture;
use firebrand_datasets::{Dataset, ExampleContent, Pictures};
use image::{Rgb, RgbImage};

use crate::error::Error;

/// Rows shown when their number is not asked for.
pub const SHOWN: usize = 24;
/// The side of a cell's picture, and what lies between cells, in pixels.
const SIDE: u32 = 192;
const GAP: u32 = 12;
/// Lines of text below a picture, and the size of a letter in pixels.
const LINES: usize = 3;
const LETTER: Size = Size::new(6, 10);
const COLUMNS: usize = 6;

/// Writes a sheet of the first `rows` pictures of `dataset` to `path`, a PNG file, and returns their number.
///
/// # Errors
/// Rows without pictures; a picture that cannot be read again as it was; a file that cannot be written.
pub fn write(dataset: &Dataset, pictures: &Pictures, rows: usize, path: &Path) -> Result<usize, Error> {
    let mut cells = vec![];
    for number in dataset.rows().take(rows).flatten() {
        let example = dataset.example(number)?;
        let ExampleContent::Pictured(pictured) = &example.content else {
            return Err(Error::Request {
                problem: format!("{}: a row without a picture", example.source),
                help: "--out makes a sheet of pictures; leave it out, and rows are printed".into(),
            });
        };
        let label = pictured.label.as_ref().and_then(|row| row.label.as_ref());
        let said = match (label, &pictured.caption) {
            (Some(label), _) => label.to_string(),
            (None, Some(caption)) => caption.text.clone(),
            (None, None) => pictured.image.name(),
        };
        cells.push((pictured.fitted(&example.source, pictures)?, said));
    }
    let sheet = sheet(&cells);
    let written = sheet.save_with_format(path, image::ImageFormat::Png);
    written.map_err(|problem| Error::Request {
        problem: format!("{}: the sheet cannot be written: {problem}", path.display()),
        help: "name a file in a folder that is there".into(),
    })?;
    Ok(cells.len())
}

/// The sheet of pictures and the words below each.
fn sheet(cells: &[(Picture, String)]) -> RgbImage {
    let columns = cells.len().clamp(1, COLUMNS);
    let lines = cells.len().div_ceil(columns).max(1);
    let height = SIDE + LINES as u32 * LETTER.height + GAP;
    let (width, whole) = (columns as u32 * (SIDE + GAP) + GAP, lines as u32 * (height + GAP) + GAP);
    let mut canvas = Canvas(RgbImage::from_pixel(width, whole, Rgb([255; 3])));
    for (index, (picture, said)) in cells.iter().enumerate() {
        let (column, line) = ((index % columns) as u32, (index / columns) as u32);
        let (left, top) = (GAP + column * (SIDE + GAP), GAP + line * (height + GAP));
        canvas.picture(picture, left, top);
        canvas.text(said, left, top + SIDE + LETTER.height);
    }
    canvas.0
}

struct Canvas(RgbImage);

impl Canvas {
    /// Draws a picture so that its longer side fills the cell, in whole pixels: what is seen are the pixels that a model is
    /// given.
    fn picture(&mut self, picture: &Picture, left: u32, top: u32) {
        let longest = picture.width.max(picture.height).max(1);
        let (width, height) = (picture.width * SIDE / longest, picture.height * SIDE / longest);
        for row in 0..height {
            for column in 0..width {
                let (x, y) = (column * picture.width / width, row * picture.height / height);
                let at = (y as usize * picture.width as usize + x as usize) * 3;
                let pixel = [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]];
                self.0.put_pixel(left + column, top + row, Rgb(pixel));
            }
        }
    }

    /// Writes as many lines of a text as there is room for.
    fn text(&mut self, text: &str, left: u32, top: u32) {
        let style = MonoTextStyle::new(&FONT_6X10, Rgb888::BLACK);
        for (line, words) in wrapped(text, (SIDE / LETTER.width) as usize).iter().enumerate() {
            let place = Point::new(left as i32, (top + line as u32 * LETTER.height) as i32);
            let Ok(_) = Text::new(words, place, style).draw(self);
        }
    }
}

/// The first lines of a text of at most `width` letters, broken between words where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(width) {
            let part: String = part.iter().collect();
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + part.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(&part);
                }
                _ => lines.push(part),
            }
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(width.saturating_sub(3)).collect::<String>() + "...";
        }
    }
    lines
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(place, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(place.x), u32::try_from(place.y)) else { continue };
            if x < self.0.width() && y < self.0.height() {
                self.0.put_pixel(x, y, Rgb([color.r(), color.g(), color.b()]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_together_and_the_rest_is_cut() {
        assert_eq!(wrapped("a red circle", 7), ["a red", "circle"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("one two three four five", 5), ["one", "two", "th..."]);
        assert!(wrapped(" ", 5).is_empty());
    }

    #[test]
    fn pictures_of_any_shape_have_their_place_on_the_sheet() {
        let picture =
            |width, height, red| Picture { width, height, rgb: [red, 0, 0].repeat((width * height) as usize) };
        let cells = [(picture(8, 4, 200), "wide".to_string()), (picture(300, 500, 100), "high".to_string())];
        let sheet = sheet(&cells);
        assert_eq!(sheet.width(), 2 * (SIDE + GAP) + GAP);
        assert_eq!(sheet.get_pixel(GAP, GAP).0, [200, 0, 0]);
        assert_eq!(sheet.get_pixel(GAP, GAP + SIDE / 2 + 1).0, [255; 3]);
        assert_eq!(sheet.get_pixel(2 * GAP + SIDE, GAP + SIDE - 1).0, [100, 0, 0]);
        let written = sheet.enumerate_pixels().filter(|(_, y, pixel)| *y > GAP + SIDE && pixel.0 == [0; 3]).count();
        assert!(written > 20, "{written} pixels of text");
    }
}
