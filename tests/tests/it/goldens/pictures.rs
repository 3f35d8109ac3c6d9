//! Pictures against Pillow, the processors of transformers and the transforms of open_clip and diffusers
//! (`tests/goldens/pictures/`).

use std::collections::BTreeMap;
use std::fs;

use firebrand_datasets::ArrayValues;
use firebrand_datasets::picture::{MOST_PIXELS, Processor, decode};
use firebrand_tests::golden;
use safetensors::SafeTensors;

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden::path("pictures").join(name)).unwrap()
}

/// The RGB of every file, as Pillow reads it: height, width, samples.
fn decoded() -> BTreeMap<String, (usize, usize, Vec<u8>)> {
    let file = bytes("decoded.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let read = tensors.iter().map(|(name, view)| {
        let [height, width, 3] = view.shape() else { panic!("{name}: {:?}", view.shape()) };
        (name.to_string(), (*height, *width, view.data().to_vec()))
    });
    read.collect()
}

#[test]
fn files_decode_as_pillow_decodes_them() {
    let decoded = decoded();
    assert!(decoded.len() >= 20);
    for (name, (height, width, expected)) in decoded {
        let picture = decode(&bytes(&name), MOST_PIXELS).unwrap_or_else(|why| panic!("{name} {why}"));
        assert_eq!((picture.height as usize, picture.width as usize), (height, width), "{name}");
        let apart = picture.rgb.iter().zip(&expected).map(|(ours, theirs)| ours.abs_diff(*theirs)).max().unwrap();
        // Decoders of JPEG round the transform, and the colours between samples, in their own ways.
        let most = match name.as_str() {
            "usual.jpg" => 6,
            name if name.ends_with(".jpg") => 3,
            _ => 0,
        };
        assert!(apart <= most, "{name}: {apart} levels apart");
    }
}

/// The pixel values of a case: backend and file, shape, values.
fn processed(case: &str) -> Vec<(String, String, Vec<usize>, Vec<f32>)> {
    let file = bytes("processed.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let read = tensors.iter().filter_map(|(name, view)| {
        let [of, backend, picture] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (of == case).then(|| (backend.to_string(), picture.to_string(), view.shape().to_vec(), values))
    });
    read.collect()
}

/// Compares a processor with a case: the largest difference in levels and the share of samples that differ, by backend.
fn compare(case: &str, processor: &Processor) -> BTreeMap<String, (f32, f32)> {
    let mut apart = BTreeMap::<String, (f32, f32)>::new();
    for (backend, name, shape, expected) in processed(case) {
        let picture = decode(&bytes(&name), MOST_PIXELS).unwrap();
        let array = processor.pixels(&processor.fit(&picture).0);
        assert_eq!(array.shape, shape, "{case}/{backend}/{name}");
        let (height, width) = processor.size(picture.height, picture.width);
        assert_eq!(&array.shape[1..], [height as usize, width as usize], "{case}/{name}");
        let ArrayValues::F32(values) = array.values else { panic!("f32") };
        let plane = shape[1] * shape[2];
        let levels = values
            .iter()
            .zip(&expected)
            .enumerate()
            .map(|(index, (ours, theirs))| (ours - theirs).abs() * processor.std[index / plane] / processor.scale);
        let levels: Vec<f32> = levels.collect();
        let most = levels.iter().fold(0.0_f32, |most, level| most.max(*level));
        let other = levels.iter().filter(|level| **level > 0.5).count() as f32 / levels.len() as f32;
        let entry = apart.entry(backend).or_default();
        *entry = (entry.0.max(most), entry.1.max(other));
    }
    assert!(!apart.is_empty(), "{case}");
    apart
}

#[test]
fn processors_give_the_numbers_of_the_references() {
    let mut cases: Vec<String> = fs::read_dir(golden::path("pictures/processors"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    cases.sort();
    assert!(cases.len() >= 9, "{cases:?}");
    for case in cases {
        let folder = golden::path("pictures/processors").join(&case);
        let processor = Processor::of_folder(&folder).unwrap().unwrap();
        for (backend, (most, other)) in compare(&case, &processor) {
            eprintln!("{case}/{backend}: {most} levels apart, {other} of the samples");
            match backend.as_str() {
                // The two processors of transformers pad an odd rest on different sides; ours is the usual one's.
                "pil" if case == "padded" => {}
                "pil" | "transform" => assert!(most < 0.01, "{case}/{backend}: {most} levels"),
                // Its fixed-point weights have fewer bits; and it always takes widths first, where Pillow takes heights first
                // in pictures that shrink a lot in height, as those of this case do.
                "torchvision" => {
                    let share = if case == "bit-squash" { 0.2 } else { 0.02 };
                    assert!(most < 1.01 && other < share, "{case}/{backend}: {most} levels, {other}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn pictures_of_diffusion_are_cut_as_diffusers_cuts_them() {
    for (backend, (most, _)) in compare("diffusers", &Processor::square(16)) {
        assert!(most < 0.01, "{backend}: {most} levels");
    }
}
