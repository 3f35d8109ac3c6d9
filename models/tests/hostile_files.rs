//! Hostile files: whatever stands in them, reading gives a value or an error, without a panic and without allocating
//! more than the file's own size and a small constant. The allocator of this test counts.
//!
//! The mutated files come from a fixed seed, so a failure names a case that can be repeated.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use firebrand_models::{
    ModelError,
    hf_config::{HfConfig, RopeDefaults},
    weights::{Checkpoint, SafetensorsFile},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Counts the bytes that each thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    HELD.set(HELD.get() + change);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call goes on to the system's allocator unchanged. `realloc` is the default one, which allocates,
// copies and frees: so a growing vector counts with both its places, the worst that can happen.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes allocated at one time by `work` on this thread.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    (MOST.get() - before).max(0) as usize
}

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
const INDEX: &[u8] = include_bytes!("../src/weights/fixtures/sharded/model.safetensors.index.json");
const CONFIG: &[u8] = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16,
  "max_position_embeddings": 131072, "rope_theta": 500000.0, "partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "llama3",
  "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
  "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": [1, 2], "rms_norm_eps": 1e-05}"#;

/// What a small file may cost beyond its size: paths, messages, the smallest capacities of vectors.
const SMALL: usize = 16 << 10;

/// One to four changes of bytes, numbers or pieces.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const NUMBERS: [&str; 14] = [
        "0",
        "1",
        "-1",
        "2",
        "255",
        "65536",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e308",
        "0.5",
        "null",
    ];
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..=16)).min(bytes.len());
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.insert(at, random.random()),
            3 => bytes.insert(at, *br#"{}[]",:\0e"#.get(random.random_range(0..10)).unwrap_or(&b' ')),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let Some(start) = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()) else { continue };
                let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = NUMBERS[random.random_range(0..NUMBERS.len())];
                bytes.splice(start..start + length, number.bytes());
            }
        }
    }
}

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
    let file = SafetensorsFile::open(path)?;
    for view in file.tensors() {
        assert_eq!(file.get(view.name)?.bytes.len(), view.bytes.len());
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
            assert_eq!((view.shape, view.bytes), (tensor.shape(), tensor.data()));
        }
    };
    let accepted = survives(10_000, &path, mutated_safetensors, 0, || read_everything(&path), reference_agrees);
    // Changed names, metadata or values leave a valid file, a changed structure does not: both must have been tried.
    assert!((100..5_000).contains(&accepted), "{accepted} accepted");
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
