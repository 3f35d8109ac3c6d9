//! Files written by torch (`tests/goldens/pickles.py`) give the same tensors as safetensors; hostile ones are refused.

use std::{fs, path::Path};

use burn::tensor::Device;

use super::*;
use crate::{
    Hold, Model,
    weights::{Checkpoint, SafetensorsFile, WeightsFile},
};

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../fixtures/pickles/", $name)).as_slice())
    };
}

const MIXED: [(&str, &[u8]); 6] = [
    fixture!("mixed.bin"),
    fixture!("mixed-protocol-1.bin"),
    fixture!("mixed-protocol-5.bin"),
    fixture!("mixed-older.bin"),
    fixture!("mixed-older-protocol-1.bin"),
    fixture!("mixed-older-protocol-4.bin"),
];
const VIEWS: [(&str, &[u8]); 2] = [fixture!("views.bin"), fixture!("views-older.bin")];

fn open(bytes: &[u8]) -> Result<PickleFile, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    fs::write(&path, bytes).unwrap();
    // The mapping stays valid after the file's name is removed.
    PickleFile::open(&path)
}

fn error((name, bytes): (&str, &[u8])) -> String {
    match open(bytes) {
        Ok(_) => panic!("{name} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn safetensors(bytes: &[u8]) -> SafetensorsFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    SafetensorsFile::open(&path).unwrap()
}

fn assert_equal(file: &PickleFile, expected: &SafetensorsFile, what: &str) {
    for view in file.tensors() {
        let expected = expected.get(view.name).unwrap();
        assert_eq!((view.dtype, view.shape), (expected.dtype, expected.shape), "{what}: {}", view.name);
        assert_eq!(view.bytes(), expected.bytes(), "{what}: {}", view.name);
        assert_eq!((view.elements(), view.byte_count()), (expected.elements(), expected.byte_count()));
        assert_eq!(file.get(view.name).unwrap().name, view.name);
    }
}

#[test]
fn both_formats_in_all_protocols_hold_the_tensors_of_safetensors_bit_for_bit() {
    let expected = safetensors(include_bytes!("../fixtures/mixed.safetensors"));
    for (name, bytes) in MIXED {
        let file = open(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file.names().len(), expected.names().len());
        assert_equal(&file, &expected, name);
        assert!(file.tensors().all(|view| matches!(view.data, Data::RowMajor(_))), "{name} copies");
        assert!(file.get("layers.0.wieght").unwrap_err().to_string().contains("nearest: `layers.0.weight`"));
    }
}

#[test]
fn views_of_storages_are_put_together() {
    let expected = safetensors(include_bytes!("../fixtures/pickles/views.safetensors"));
    for ((name, bytes), count) in VIEWS.into_iter().zip([14, 13]) {
        let file = open(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file.names().len(), count);
        assert_equal(&file, &expected, name);
        let mut strided: Vec<&str> =
            file.tensors().filter(|view| matches!(view.data, Data::Strided { .. })).map(|view| view.name).collect();
        strided.sort_unstable();
        assert_eq!(strided, ["columns", "every_other", "permuted", "repeated", "short", "transposed"]);
    }
}

#[test]
fn tied_tensors_share_their_bytes_and_the_order_is_that_of_the_dictionary() {
    let file = open(VIEWS[0].1).unwrap();
    let [embedding, head] = ["embedding", "head"].map(|name| file.get(name).unwrap().bytes().as_ptr());
    assert_eq!(embedding, head);
    let names: Vec<&str> = file.names().collect();
    assert_eq!(names[..4], ["whole", "transposed", "permuted", "columns"]);
}

#[test]
fn a_pickle_that_asks_for_more_than_tensors_is_refused_by_name_and_not_run() {
    // The name of `os.system` on the machine that wrote the files (`posix`).
    for hostile in [fixture!("hostile.bin"), fixture!("hostile-older.bin"), fixture!("hostile-protocol-4.bin")] {
        let message = error(hostile);
        assert!(message.contains("asks for `posix.system`; a weights file holds tensors"), "{message}");
        assert!(message.contains("nothing was executed"), "{message}");
    }
    let made = "executed-by-a-pickle";
    assert!(hostile_fixture_would_make(made) && !Path::new(made).exists());
    for (pickle, asks_for) in [
        (&b"\x80\x02cos\nsystem\n"[..], "os.system"),
        (b"\x80\x02ios\nsystem\n", "os.system"),
        (b"\x80\x02cbuiltins\neval\n", "builtins.eval"),
        (b"\x80\x02ctorch.serialization\nload\n", "torch.serialization.load"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93", "builtins.exec"),
        (b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n", "torch._utils._rebuild_wrapper_subclass"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n", "numpy.core.multiarray._reconstruct"),
    ] {
        let message = error(("a pickle", pickle));
        assert!(message.contains(&format!("asks for `{asks_for}`")), "{message}");
    }
}

fn hostile_fixture_would_make(file: &str) -> bool {
    let (_, bytes) = fixture!("hostile.bin");
    bytes.windows(file.len()).any(|window| window == file.as_bytes())
}

#[test]
fn what_is_no_state_dict_of_dense_tensors_is_named() {
    for (fixture, says) in [
        (fixture!("nested.bin"), "`epoch` is an integer; a weights file holds tensors by name"),
        (fixture!("expanded.bin"), "`mask`: expected elements of a storage of 1, found [1048576, 1048576] from 0"),
        (fixture!("float8.bin"), "found `torch.float8_e4m3fn`"),
        (fixture!("complex.bin"), "found `torch.ComplexFloatStorage`"),
        (fixture!("negated.bin"), "found one with metadata"),
        (("safetensors", include_bytes!("../fixtures/mixed.safetensors").as_slice()), "expected a PyTorch file"),
        (("nothing", b"".as_slice()), "found something else"),
        (("a list", b"\x80\x02]q\0.".as_slice()), "found a list"),
    ] {
        let message = error(fixture);
        assert!(message.contains(says), "{}: {message}", fixture.0);
    }
}

#[test]
fn another_byte_order_is_refused_by_name() {
    let edited = |bytes: &[u8], from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    };
    let zipped = edited(MIXED[0].1, b"little", b"big   ");
    assert!(error(("big", &zipped)).contains("expected the byte order `little`, found `big"));
    let older = edited(MIXED[3].1, b"little_endianq\x02\x88", b"little_endianq\x02\x89");
    assert!(error(("big", &older)).contains("expected the byte order `little`, found `big`"));
}

#[test]
fn truncation_at_any_length_is_an_error() {
    for (name, bytes) in MIXED.into_iter().chain(VIEWS) {
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "accepted the first {length} bytes of {name}");
        }
        assert!(read(&[bytes, b"x"].concat()).is_err(), "accepted a byte more than {name}");
    }
}

/// Includes the directory of an archive; the larger fuzz test in `tests/` also corrects its offsets and lengths.
#[test]
fn any_byte_changed_gives_tensors_within_the_file_or_an_error() {
    for bytes in [VIEWS[0].1, VIEWS[1].1] {
        let mut accepted = 0;
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                let Ok(entries) = read(&changed) else { continue };
                accepted += 1;
                for entry in entries {
                    let bytes = &changed[entry.range];
                    let data = entry
                        .strides
                        .as_ref()
                        .map_or(Data::RowMajor(bytes), |strides| Data::Strided { bytes, strides });
                    let (file, name) = (Path::new("x"), &*entry.name);
                    let view = TensorView { file, name, dtype: entry.dtype, shape: &entry.shape, data };
                    assert_eq!(Some(view.bytes().len()), entry.dtype.bytes(&entry.shape));
                }
            }
        }
        assert!((100..3 * bytes.len() - 100).contains(&accepted), "{accepted} accepted");
    }
}

#[test]
fn views_must_be_within_their_storage_and_no_larger() {
    let rows = |shape: &[usize], strides: &[usize], offset, available| {
        layout(shape, strides, offset, available).map(|layout| (layout.elements, layout.row_major))
    };
    assert_eq!(rows(&[2, 3], &[3, 1], 4, 10), Ok((4..10, true)));
    assert_eq!(rows(&[3, 2], &[1, 3], 4, 10), Ok((4..10, false)));
    assert_eq!(rows(&[1, 3], &[0, 1], 0, 3), Ok((0..3, true)));
    assert_eq!(rows(&[], &[], 2, 3), Ok((2..3, true)));
    assert_eq!(rows(&[0, 5], &[9, 9], 99, 0), Ok((0..0, true)));
    assert_eq!(rows(&[2, 2], &[0, 1], 0, 4), Ok((0..2, false)));
    for (shape, strides, offset, available) in [
        (&[2, 3][..], &[3, 1][..], 5, 10),
        (&[4], &[3], 0, 9),
        (&[5], &[0], 0, 4),
        (&[], &[], 3, 3),
        (&[1], &[1], -1, 3),
        (&[2], &[usize::MAX], 1, 3),
        (&[3], &[usize::MAX], 0, 3),
        (&[usize::MAX, 2], &[0, 0], 0, 3),
        (&[usize::MAX, 2, 0], &[0, 0, 0], 0, 3),
        (&[2, 1], &[1], 0, 3),
    ] {
        assert!(rows(shape, strides, offset, available).is_err(), "{shape:?} {strides:?} {offset} {available}");
    }
}

#[test]
fn damaged_programs_say_what_is_wrong() {
    for (program, says) in [
        (&b"\x80\x06."[..], "protocol 6"),
        (b"\x80\x02.", "too few values"),
        (b"\x80\x02(N(0", "the instruction 0x30 at byte 5"),
        (b"\x80\x02N(R", "too few values"),
        (b"\x80\x02t", "without a mark"),
        (b"\x80\x02h\x07", "a reference to value 7"),
        (b"\x80\x02Nr\xff\xff\xff\x7f", "the number 2147483647 for value 0"),
        (b"\x80\x02X\xff\xff\xff\xff", "the end of the data"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "the end of the data"),
        (b"\x80\x02X\x01\0\0\0\xff.", "not UTF-8"),
        (b"\x80\x02N)R", "a call of None"),
        (b"\x80\x02ccollections\nOrderedDict\nN\x85R", "`OrderedDict` with its usual arguments"),
        (b"\x80\x02}Na", "items for a dictionary"),
        (b"\x80\x02}(Nu", "items for a dictionary"),
        (b"\x80\x02N}b", "attributes for None"),
        (b"\x80\x02NQ", "expected the identity of a storage, found None"),
        (b"\x80\x02X\x06\0\0\0module\x85Q", "asks for a `module`"),
        (b"\x80\x02\x8a\x09123456789.", "beyond 64 bits"),
        (b"\x80\x02I12x\n.", "the integer `12x`"),
        (b"\x80\x02ccollections", "a line without an end"),
        (b"\x80\x02K\x01.", "expected the number that a file of torch begins with"),
    ] {
        let message = error(("a pickle", program));
        assert!(message.contains(says), "{}: {message}", program.escape_ascii());
    }
}

#[test]
fn a_model_loads_from_shards_of_pytorch_and_is_saved_as_safetensors() {
    let config = r#"{"model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 16, "hidden_act": "silu", "tie_word_embeddings": false}"#;
    let [source, target] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::write(source.path().join("config.json"), config).unwrap();
    for (name, bytes) in [
        fixture!("pytorch_model-00001-of-00002.bin"),
        fixture!("pytorch_model-00002-of-00002.bin"),
        fixture!("pytorch_model.bin.index.json"),
    ] {
        fs::write(source.path().join(name), bytes).unwrap();
    }
    let model = Model::load(source.path(), Hold::Bf16, &Device::flex()).unwrap();
    let layout = Checkpoint::open(source.path()).unwrap();
    model.save_weights(target.path(), None, Some(&layout)).unwrap();
    let written = Checkpoint::open(target.path().join("model.safetensors")).unwrap();
    assert_eq!(written.len(), layout.len());
    for view in layout.tensors() {
        let saved = written.get(view.name).unwrap();
        assert_eq!((saved.dtype, saved.bytes()), (view.dtype, view.bytes()), "{}", view.name);
    }
}

#[test]
fn the_name_of_a_file_says_its_format() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.bin", "model.pt", "model.pth", "model.ckpt"] {
        let path = folder.path().join(name);
        fs::write(&path, MIXED[0].1).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        assert!(matches!(file, WeightsFile::Pickle(_)) && !file.is_empty());
        assert_eq!(file.names().collect::<Vec<_>>(), file.tensors().map(|view| view.name).collect::<Vec<_>>());
    }
}
