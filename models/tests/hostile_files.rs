//! Hostile files: whatever stands in them, reading gives a value or an error, without a panic and without allocating
//! more than the file's own size and a small constant. The allocator of this test counts.
//!
//! The mutated files come from a fixed seed, so a failure names a case that can be repeated.

mod common;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use common::{mutate, peak};
use firebrand_models::{
    ModelError,
    hf_config::{HfConfig, RopeDefaults},
    weights::{Checkpoint, PickleFile, SafetensorsFile, WeightsFile},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const MIXED: &[u8] = include_bytes!("../src/weights/fixtures/mixed.safetensors");
const SHARDS: [(&str, &[u8]); 2] = [
    (
        "model-00001-of-00002.safetensors",
        include_bytes!("../src/weights/fixtures/sharded/model-00001-of-00002.safetensors"),
    ),
    (
        "model-00002-of-00002.safetensors",
        include_bytes!("../src/weights/fixtures/sharded/model-00002-of-00002.safetensors"),
    ),
];
const PICKLES: [&[u8]; 3] = [
    include_bytes!("../src/weights/fixtures/pickles/mixed.bin"),
    include_bytes!("../src/weights/fixtures/pickles/views.bin"),
    include_bytes!("../src/weights/fixtures/pickles/mixed-protocol-5.bin"),
];
const OLDER_PICKLES: [&[u8]; 3] = [
    include_bytes!("../src/weights/fixtures/pickles/mixed-older.bin"),
    include_bytes!("../src/weights/fixtures/pickles/views-older.bin"),
    include_bytes!("../src/weights/fixtures/pickles/mixed-older-protocol-4.bin"),
];
const INDEX: &[u8] = include_bytes!("../src/weights/fixtures/sharded/model.safetensors.index.json");
const CONFIG: &[u8] = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16,
  "max_position_embeddings": 131072, "rope_theta": 500000.0, "partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "llama3",
  "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
  "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": [1, 2], "rms_norm_eps": 1e-05}"#;

/// What a small file may cost beyond its size: paths, messages, the smallest capacities of vectors.
const SMALL: usize = 16 << 10;

/// A changed safetensors file. Mostly only its header is changed and its length put right, so that the change is seen
/// by more than the first check.
fn mutated_safetensors(random: &mut ChaCha8Rng) -> Vec<u8> {
    let original = if random.random() { MIXED } else { SHARDS[0].1 };
    if random.random_ratio(1, 4) {
        let mut file = original.to_vec();
        mutate(&mut file, random);
        return file;
    }
    let length = u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let (mut header, data) = (original[8..8 + length].to_vec(), &original[8 + length..]);
    mutate(&mut header, random);
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

fn read_everything(path: &Path) -> Result<(), ModelError> {
    let file = WeightsFile::open(path)?;
    for view in file.tensors() {
        assert_eq!(view.bytes().len(), view.byte_count());
        // An integer or a NaN is an error, and a fine answer here.
        let _ = view.to_f32().map(|values| assert_eq!(values.len(), view.elements()));
        let _ = view.check_finite();
    }
    Ok(())
}

/// Runs `read` on `cases` mutated files, and `check` on those it accepts; how many these are. Errors are also made
/// into messages.
fn survives(
    cases: usize,
    path: &Path,
    mutated: impl Fn(&mut ChaCha8Rng) -> Vec<u8>,
    beside: usize,
    read: impl Fn() -> Result<(), ModelError>,
    check: impl Fn(&[u8]),
) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut accepted = 0;
    for case in 0..cases {
        let bytes = mutated(&mut random);
        // A new file each time: some file systems sync one that is truncated and written again, which takes most of
        // the time.
        let _ = fs::remove_file(path);
        fs::write(path, &bytes).unwrap();
        let mut outcome = None;
        let allocated = peak(|| {
            let read = || read().map_err(|error| assert!(error.to_string().len() > 10));
            outcome = catch_unwind(AssertUnwindSafe(read)).ok();
        });
        let outcome = outcome.unwrap_or_else(|| panic!("case {case} panicked: {}", String::from_utf8_lossy(&bytes)));
        let limit = bytes.len() + beside + SMALL;
        assert!(allocated <= limit, "case {case}: {allocated} bytes for a file of {}", bytes.len());
        if outcome.is_ok() {
            accepted += 1;
            check(&bytes);
        }
    }
    accepted
}

#[test]
fn ten_thousand_mutated_safetensors_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    // Ours is the stricter reader: what it takes, the reference takes too, and sees the same.
    let reference_agrees = |bytes: &[u8]| {
        let theirs = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let ours = SafetensorsFile::open(&path).unwrap();
        assert_eq!(ours.names().len(), theirs.len());
        for (name, tensor) in theirs.iter() {
            let view = ours.get(name).unwrap();
            assert_eq!((view.shape, &*view.bytes()), (tensor.shape(), tensor.data()));
        }
    };
    let accepted = survives(10_000, &path, mutated_safetensors, 0, || read_everything(&path), reference_agrees);
    // Changed names, metadata or values leave a valid file, a changed structure does not: both must have been tried.
    assert!((100..5_000).contains(&accepted), "{accepted} accepted");
}

/// A zip archive of entries stored as they are.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = (file.len() as u32).to_le_bytes();
        let lengths = [(content.len() as u32).to_le_bytes(); 2].concat();
        let name_length = (name.len() as u16).to_le_bytes();
        file.extend([b"PK\x03\x04", &[0; 14][..], &lengths, &name_length, &[0; 2], name.as_bytes(), content].concat());
        let head = [b"PK\x01\x02", &[0; 16][..], &lengths, &name_length, &[0; 12], &offset, name.as_bytes()];
        directory.extend(head.concat());
    }
    let (length, offset) = ((directory.len() as u32).to_le_bytes(), (file.len() as u32).to_le_bytes());
    [&file, &directory, &b"PK\x05\x06"[..], &[0; 8], &length, &offset, &[0; 2]].concat()
}

/// A pickle in an archive where it finds storages of 96 bytes, enough for every tensor of the fixtures.
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let names: Vec<String> = (0..14).map(|key| format!("archive/data/{key}")).collect();
    let mut entries = vec![("archive/data.pkl", pickle), ("archive/byteorder", b"little")];
    entries.extend(names.iter().map(|name| (name.as_str(), &[0x3f; 96][..])));
    zip(&entries)
}

/// The pickle of a file of torch: its first entry.
fn pickle_of(archive: &[u8]) -> &[u8] {
    let length = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
    let content = &archive[30 + length(26) + length(28)..];
    let after = content.windows(4).position(|bytes| bytes == b"PK\x07\x08").unwrap();
    &content[..after]
}

/// A changed file of torch, mostly with the change in the pickle and everything around it put right.
fn mutated_pickle(random: &mut ChaCha8Rng) -> Vec<u8> {
    let fixtures = if random.random() { PICKLES } else { OLDER_PICKLES };
    let original = fixtures[random.random_range(0..fixtures.len())];
    if !original.starts_with(b"PK") || random.random_ratio(1, 3) {
        let mut file = original.to_vec();
        mutate(&mut file, random);
        return file;
    }
    let mut pickle = pickle_of(original).to_vec();
    mutate(&mut pickle, random);
    archive_of(&pickle)
}

#[test]
fn ten_thousand_mutated_pickles() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    for original in PICKLES {
        fs::write(&path, archive_of(pickle_of(original))).unwrap();
        read_everything(&path).unwrap();
    }
    let accepted = survives(10_000, &path, mutated_pickle, 0, || read_everything(&path), |_| ());
    assert!((50..5_000).contains(&accepted), "{accepted} accepted");
}

/// Pickles made to be expensive: a byte of a pickle can stand for a value, a tensor or a large shape.
#[test]
fn expensive_pickles_cost_no_more_than_the_file() {
    const LARGE: usize = 4 << 20;
    let repeated = |piece: &[u8]| piece.repeat((2 << 20) / piece.len());
    // A tensor of 32 dimensions of one, by reference: storage, offset, shape and strides are arguments in the memo.
    let tensor = [
        b"ctorch._utils\n_rebuild_tensor_v2\nq\0((X\x07\0\0\0storagectorch\nByteStorage\nX\x01\0\0\x000X\0\0\0\0K\x01tQK\0",
        &[b"(", &b"K\x01".repeat(32)[..], b"tq\x01h\x01\x89}tq\x02"].concat()[..],
    ]
    .concat();
    let named = |count: u32| {
        (0..count).flat_map(|i| [&b"X\x04\0\0\0"[..], format!("{i:04x}").as_bytes(), b"h\0h\x02R"].concat())
    };
    let tensors: Vec<u8> = [b"\x80\x02", &tensor[..], b"}(", &named(60_000).collect::<Vec<u8>>(), b"u."].concat();
    let few: Vec<u8> = [b"\x80\x02", &tensor[..], b"}(", &named(2_000).collect::<Vec<u8>>(), b"u."].concat();
    let begun = |rest: Vec<u8>| [b"\x80\x02", &rest[..]].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("values", begun(repeated(b"N"))),
        ("marks", begun(repeated(b"("))),
        ("empty tuples", begun(repeated(b")"))),
        ("references", begun(repeated(b"N\x94"))),
        ("lists in lists", begun(repeated(b"]a"))),
        ("items of a list", begun([b"](", &repeated(b"N")[..], b"e."].concat())),
        ("a long string", begun([b"X\0\0\x20\0", &repeated(b"x")[..], b"."].concat())),
        ("many tensors of many dimensions", tensors),
        ("fewer", few),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    for (what, pickle) in cases {
        for file in [pickle.clone(), archive_of(&pickle)] {
            fs::write(&path, &file).unwrap();
            let mut opened = false;
            let allocated = peak(|| match PickleFile::open(&path) {
                Ok(file) => opened = file.names().len() == 2_000,
                Err(error) => assert!(error.to_string().len() < 2_000, "{what}"),
            });
            assert_eq!(opened, what == "fewer" && file.starts_with(b"PK"), "{what}");
            assert!(allocated <= file.len() + LARGE + SMALL, "{what}: {allocated} bytes for a file of {}", file.len());
        }
    }
    let names: Vec<String> = (0..50_000).map(|i| format!("{i:x}")).collect();
    let file = zip(&names.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    fs::write(&path, &file).unwrap();
    let allocated = peak(|| assert!(PickleFile::open(&path).unwrap_err().to_string().contains("data.pkl")));
    assert!(allocated <= file.len(), "{allocated} bytes for a directory in a file of {}", file.len());
}

#[test]
fn mutated_indexes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in SHARDS {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let beside = SHARDS.iter().map(|(_, bytes)| bytes.len()).sum();
    let mutated = |random: &mut ChaCha8Rng| {
        let mut index = INDEX.to_vec();
        mutate(&mut index, random);
        index
    };
    let path = folder.path().join("model.safetensors.index.json");
    let accepted = survives(3_000, &path, mutated, beside, || Checkpoint::open(folder.path()).map(drop), |_| ());
    assert!((10..1_500).contains(&accepted), "{accepted} accepted");
}

#[test]
fn mutated_configs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let mutated = |random: &mut ChaCha8Rng| {
        let mut config = CONFIG.to_vec();
        mutate(&mut config, random);
        config
    };
    let read = || {
        let config = HfConfig::open(&path)?;
        let head_dim = config.size_in("head_dim", 1..=1024)?;
        let (freqs, _) =
            config.rope(head_dim, &RopeDefaults::default())?.inv_freq(config.size("max_position_embeddings")?);
        assert!(freqs.len() <= head_dim / 2 && freqs.iter().all(|freq| !freq.is_nan()));
        HfConfig::from_json(&path, config.to_json()).map(drop)
    };
    let accepted = survives(3_000, &path, mutated, 0, read, |_| ());
    assert!((100..2_500).contains(&accepted), "{accepted} accepted");
}

/// Files made to be expensive: what opening them allocates is bounded by their size, here with 4 MiB on top.
#[test]
fn expensive_headers_cost_no_more_than_the_file() {
    const LARGE: usize = 4 << 20;
    let empty = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let many = |count: usize| (0..count).map(empty).collect::<Vec<_>>().join(",");
    let ranks = |count: usize| {
        let tensor = |i| empty(i).replace("[0]", &format!("[{}0]", "0,".repeat(31)));
        (0..count).map(tensor).collect::<Vec<_>>().join(",")
    };
    let long = "n".repeat(900_000);
    let escaped = r"\u0041".repeat(150_000);
    let cases: [(&str, String, u64); 9] = [
        ("many empty tensors", format!("{{{}}}", many(18_000)), 0),
        ("many dimensions", format!("{{{}}}", ranks(8_000)), 0),
        ("a large file with many empty tensors", large_file(&many(140_000)), 30 << 20),
        ("a large file with many dimensions", large_file(&ranks(60_000)), 30 << 20),
        ("a long name", format!(r#"{{"{long}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#), 0),
        ("a long escaped name", format!(r#"{{"{escaped}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#), 0),
        ("a long escaped value", format!(r#"{{"__metadata__":{{"a":"{escaped}"}}}}"#), 0),
        ("a long unknown key", format!(r#"{{"w":{{"{long}":0}}}}"#), 0),
        ("a long dtype", format!(r#"{{"w":{{"dtype":"{long}","shape":[0],"data_offsets":[0,0]}}}}"#), 0),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for (what, header, data) in cases {
        fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
        let size = 8 + header.len() as u64 + data;
        // The data is a hole in the file: it takes no space on the disk.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
        let allocated = peak(|| match SafetensorsFile::open(&path) {
            Ok(file) => assert!(file.names().len() != 1, "{what}"),
            Err(error) => assert!(error.to_string().len() < 2_000, "{what}"),
        });
        assert!(allocated <= size as usize + LARGE, "{what}: {allocated} bytes for a file of {size}");
    }
}

/// One tensor that covers 30 MiB of data, and `others`.
fn large_file(others: &str) -> String {
    format!(r#"{{"all":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}},{others}}}"#, 30 << 20)
}

#[test]
fn announced_sizes_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let shapes =
        ["[1099511627776]", "[4294967296,4294967295]", "[18446744073709551615]", "[1000000,1000000,1000000,1000000]"];
    for shape in shapes {
        for end in ["8", "1099511627776", "18446744073709551615"] {
            let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
            fs::write(&path, &bytes).unwrap();
            let allocated = peak(|| {
                let error = read_everything(&path).unwrap_err().to_string();
                assert!(error.contains("`w`"), "{error}");
            });
            assert!(allocated <= bytes.len() + SMALL, "{allocated} bytes");
        }
    }
}
