//! Arrays come back as they were saved; a file that is damaged, hostile or changed is an error.

use safetensors::tensor::TensorView;

use super::*;

fn location() -> Location {
    Location::new("rows.jsonl", 5)
}

/// The bytes of a file of these arrays: name, type, shape, bytes.
fn saved(arrays: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn le<const N: usize, T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn every_type() -> Vec<u8> {
    saved(&[
        ("noise", Dtype::F32, &[2, 2], le(&[0.5_f32, -1.0, f32::MIN_POSITIVE, 3.25], f32::to_le_bytes)),
        ("half", Dtype::F16, &[2], le(&[1.5_f32, -2.0], |value| f16::from_f32(value).to_le_bytes())),
        ("brain", Dtype::BF16, &[1, 2], le(&[1.0_f32, 256.0], |value| bf16::from_f32(value).to_le_bytes())),
        ("ids", Dtype::I64, &[3], le(&[7_i64, -100, i64::MAX], i64::to_le_bytes)),
        ("mask", Dtype::I32, &[2], le(&[1_i32, -1], i32::to_le_bytes)),
        ("timestep", Dtype::I64, &[], le(&[999_i64], i64::to_le_bytes)),
        ("nothing", Dtype::F32, &[0, 4], Vec::new()),
    ])
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("row.safetensors");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

#[test]
fn arrays_of_every_type_are_read_as_f32_or_i64() {
    let (_dir, path) = file(&every_type());
    let file = TensorFile::open(path, &location()).unwrap();
    let arrays = file.read(&location()).unwrap();
    let array = |shape: &[usize], values| Array { shape: shape.to_vec(), values };
    let expected = NamedArrays::from(
        [
            ("noise", array(&[2, 2], ArrayValues::F32(vec![0.5, -1.0, f32::MIN_POSITIVE, 3.25]))),
            ("half", array(&[2], ArrayValues::F32(vec![1.5, -2.0]))),
            ("brain", array(&[1, 2], ArrayValues::F32(vec![1.0, 256.0]))),
            ("ids", array(&[3], ArrayValues::I64(vec![7, -100, i64::MAX]))),
            ("mask", array(&[2], ArrayValues::I64(vec![1, -1]))),
            ("timestep", array(&[], ArrayValues::I64(vec![999]))),
            ("nothing", array(&[0, 4], ArrayValues::F32(Vec::new()))),
        ]
        .map(|(name, array)| (name.to_string(), array)),
    );
    assert_eq!(arrays, expected);
    for array in arrays.values() {
        assert_eq!(array.values.len(), array.shape.iter().product::<usize>());
    }
    let types: Vec<_> = arrays.values().map(|array| array.values.dtype()).collect();
    assert_eq!(types, ["f32", "f32", "i64", "i64", "f32", "f32", "i64"]);
}

#[test]
fn an_outline_is_the_arrays_without_their_real_numbers() {
    let (_dir, path) = file(&every_type());
    let file = TensorFile::open(path.clone(), &location()).unwrap();
    let read = file.read(&location()).unwrap();
    let expected: NamedOutlines = read.iter().map(|(name, array)| (name.clone(), array.outline())).collect();
    assert_eq!(file.outline(&location()).unwrap(), expected);
    assert_eq!(expected["ids"].values, OutlineValues::I64(vec![7, -100, i64::MAX]));
    std::fs::write(&path, [&every_type()[..], b"more"].concat()).unwrap();
    let said = file.outline(&location()).unwrap_err().to_string();
    assert!(said.contains("rows.jsonl:5") && said.contains("another than when its row was prepared"), "{said}");
}

#[test]
fn other_types_are_refused_by_name() {
    for (dtype, name) in [(Dtype::F64, "F64"), (Dtype::U8, "U8"), (Dtype::BOOL, "BOOL"), (Dtype::U32, "U32")] {
        let bytes = saved(&[("odd", dtype, &[1], vec![0; dtype.bitsize() / 8])]);
        let (_dir, path) = file(&bytes);
        let error = TensorFile::open(path, &location()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("rows.jsonl:5") && said.contains("row.safetensors"), "{said}");
        assert!(said.contains(&format!("`odd` is {name};")), "{said}");
        assert!(error.is_about_one_row());
    }
}

#[test]
fn a_changed_or_missing_file_is_an_error_that_names_row_and_path() {
    let (dir, path) = file(&every_type());
    let opened = TensorFile::open(path.clone(), &location()).unwrap();
    let mut changed = every_type();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [changed, saved(&[("ids", Dtype::I64, &[1], vec![0; 8])]), Vec::new()] {
        std::fs::write(&path, bytes).unwrap();
        let said = opened.read(&location()).unwrap_err().to_string();
        assert!(said.contains("rows.jsonl:5") && said.contains("row.safetensors"), "{said}");
        assert!(said.contains("another than when its row was prepared"), "{said}");
    }
    std::fs::write(&path, every_type()).unwrap();
    assert!(opened.read(&location()).is_ok());
    drop(dir);
    assert!(opened.read(&location()).unwrap_err().to_string().contains("row.safetensors"));
}

#[test]
fn bytes_that_are_no_file_of_tensors_are_an_error_and_take_no_room() {
    let good = every_type();
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut hostile = vec![
        Vec::new(),
        b"{}".to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
        (1_u64 << 40).to_le_bytes().to_vec(),
        header("{}"),
        header("[]"),
        header(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#),
        header(r#"{"a": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 0]}}"#),
        header(r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}"#),
        header(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#),
        header(r#"{"a": {"dtype": "F4", "shape": [], "data_offsets": [0, 0]}}"#),
    ];
    hostile.extend((0..good.len()).step_by(7).map(|length| good[..length].to_vec()));
    hostile.push([&good[..], b"more"].concat());
    for bytes in hostile {
        let (_dir, path) = file(&bytes);
        assert!(TensorFile::open(path.clone(), &location()).is_err(), "{:?}", String::from_utf8_lossy(&bytes));
        // Of files that are whole otherwise an outline may be had; it takes no more than their bytes.
        if let Ok(outlines) = outline(&path, bytes.len() as u64) {
            let whole = |it: &ArrayOutline| match &it.values {
                OutlineValues::F32 => 0,
                OutlineValues::I64(values) => values.len(),
            };
            assert!(outlines.values().map(whole).sum::<usize>() <= bytes.len());
        }
    }
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        // Other values or an error, but never a panic.
        let (_dir, path) = file(&bad);
        let _ = outline(&path, bad.len() as u64);
        if let Ok(arrays) = arrays(&bad) {
            assert!(arrays.values().all(|array| array.values.len() == array.shape.iter().product::<usize>()));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(TensorFile::open(folder.path().to_path_buf(), &location()).unwrap_err().to_string().contains("no file"));
}
