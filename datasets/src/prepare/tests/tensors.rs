//! Rows of tensors, from their files to batches; and files that change between two starts or during one.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::array::{ArrayValues, NamedArrays};
use crate::batch::BatchContent;
use crate::gate::Report;
use crate::kind::RowKind;

/// Writes a file with `latents [2]` and `timestep []`.
fn write(path: &Path, value: f32) {
    let latents: Vec<u8> = [value, -value].iter().flat_map(|value| value.to_le_bytes()).collect();
    let timestep = (value as i64).to_le_bytes();
    let views = [
        ("latents", TensorView::new(Dtype::F32, vec![2], &latents).unwrap()),
        ("timestep", TensorView::new(Dtype::I64, vec![], &timestep).unwrap()),
    ];
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A folder with `count` rows of tensors; row `n` holds the value `n`.
fn setup_tensors(count: usize) -> (tempfile::TempDir, DataConfig) {
    let rows: Vec<Value> = (0..count).map(|row| json!({"tensors": format!("files/{row}.safetensors")})).collect();
    let (dir, config) = setup(&rows);
    std::fs::create_dir(dir.path().join("files")).unwrap();
    (0..count).for_each(|row| write(&dir.path().join(format!("files/{row}.safetensors")), row as f32));
    (dir, config)
}

fn plain<'a>(dir: &'a tempfile::TempDir, config: &'a DataConfig, cache: Option<&'a Path>) -> Prepare<'a> {
    Prepare {
        config,
        split: Split::Train,
        base: dir.path(),
        tokenizer: None,
        template: None,
        pictures: None,
        fetch: &NoFetch,
        micro_batch: 2,
        cache,
        keep_text: false,
        limit: None,
        progress: &|_| ControlFlow::Continue(()),
    }
}

fn values(arrays: &NamedArrays) -> f32 {
    let ArrayValues::F32(latents) = &arrays["latents"].values else { panic!("f32") };
    assert_eq!((latents[1], &arrays["timestep"].values), (-latents[0], &ArrayValues::I64(vec![latents[0] as i64])));
    latents[0]
}

#[test]
fn a_row_of_tensors_is_a_pack_by_itself_and_its_arrays_are_read_for_the_batch() {
    let (dir, config) = setup_tensors(9);
    for (packing, group_by_length) in [(true, false), (false, false), (false, true)] {
        let config = DataConfig { packing, group_by_length, max_length: 2, ..config.clone() };
        let dataset = prepare(&plain(&dir, &config, None)).unwrap();
        assert_eq!((dataset.kind(), dataset.len(), dataset.tokens()), (RowKind::Tensors, 9, 9));
        assert_eq!((dataset.labelled_tokens(), dataset.largest_id(), dataset.rendered()), (9, None, false));
        let epoch = dataset.epoch(3, 0);
        assert_eq!((epoch.packs.len(), epoch.efficiency, epoch.ungrouped), (9, 1.0, None));
        let packs: Vec<_> = epoch.packs.iter().collect();
        assert!(packs.iter().all(|pack| pack.length == 1 && pack.examples.len() == 1));
        let mut seen = Vec::new();
        for packs in packs.chunks(4) {
            let batch = dataset.batch(packs).unwrap();
            assert_eq!((batch.tokens(), batch.labelled_tokens()), (packs.len(), packs.len()));
            assert_eq!(batch.examples, packs.iter().map(|pack| pack.examples.clone()).collect::<Vec<_>>());
            let BatchContent::Tensors(rows) = &batch.content else { panic!("tensors") };
            let numbers = rows.iter().map(|arrays| values(arrays) as usize);
            assert!(numbers.clone().eq(packs.iter().map(|pack| pack.examples[0])));
            seen.extend(numbers);
            assert!(batch.into_tokens().unwrap_err().to_string().contains("rows of tensors"));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..9).collect::<Vec<_>>());
        let report = Report::new(Some(&dataset), None, None, &config.gate).unwrap();
        assert_eq!(report, Report::default(), "the checks of texts have nothing to say");
    }
}

#[test]
fn an_example_shows_the_types_and_shapes_of_its_arrays() {
    let (dir, config) = setup_tensors(1);
    let example = prepare(&plain(&dir, &config, None)).unwrap().example(0).unwrap();
    let shown: Value = serde_json::from_str(&example.json().unwrap()).unwrap();
    let expected = json!({
        "latents": {"dtype": "f32", "shape": [2]},
        "timestep": {"dtype": "i64", "shape": []},
    });
    assert_eq!((&shown["tensors"], &shown["source"]["line"]), (&expected, &json!(1)));
    assert!(example.tokens().unwrap_err().to_string().contains("rows.jsonl:1"));
}

#[test]
fn threads_change_nothing_and_equal_files_are_duplicates() {
    let (dir, config) = setup_tensors(300);
    write(&dir.path().join("files/7.safetensors"), 3.0);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let dataset = prepare(&plain(&dir, &config, None)).unwrap();
            let duplicates = Report::new(Some(&dataset), None, None, &config.gate).unwrap().warnings;
            assert_eq!((duplicates.len(), duplicates[0].count), (1, 1));
            assert_eq!(duplicates[0].examples[0].line, 8);
            (dataset.hash(), dataset.epoch(42, 1))
        })
    };
    assert_eq!(with(1), with(8));
}

#[test]
fn rows_of_tensors_and_rows_of_tokens_are_refused_in_one_split() {
    let (dir, config) = setup_tensors(2);
    std::fs::write(dir.path().join("ids.jsonl"), "{\"input_ids\": [1, 2]}\n").unwrap();
    for order in [["rows.jsonl", "ids.jsonl"], ["ids.jsonl", "rows.jsonl"]] {
        let config = DataConfig { train: order.map(SourceConfig::new).to_vec(), ..config.clone() };
        let error = prepare(&plain(&dir, &config, None)).unwrap_err().to_string();
        for said in ["rows.jsonl", "ids.jsonl", "rows of tensors", "rows of tokens"] {
            assert!(error.contains(said), "{error}");
        }
    }
    let config = DataConfig { eval: vec![SourceConfig::new("ids.jsonl")], ..config };
    assert!(prepare(&plain(&dir, &config, None)).is_ok(), "another split may hold others");
}

#[test]
fn a_row_whose_file_is_wrong_is_broken_and_named() {
    let (dir, config) = setup_tensors(5);
    std::fs::write(dir.path().join("files/1.safetensors"), "no tensors").unwrap();
    std::fs::remove_file(dir.path().join("files/3.safetensors")).unwrap();
    let error = prepare(&plain(&dir, &config, None)).unwrap_err().to_string();
    assert!(error.contains("2 broken") && error.contains("rows.jsonl:2") && error.contains("rows.jsonl:4"), "{error}");
    let skipping = DataConfig { broken: BrokenRows::Skip, ..config };
    assert_eq!(prepare(&plain(&dir, &skipping, None)).unwrap().len(), 3);
}

#[test]
fn files_outside_are_read_where_the_recipe_permits_it() {
    let (dir, config) = setup(&[json!({"tensors": "../outside.safetensors"})]);
    let below = dir.path().join("below");
    std::fs::create_dir(&below).unwrap();
    std::fs::rename(dir.path().join("rows.jsonl"), below.join("rows.jsonl")).unwrap();
    write(&dir.path().join("outside.safetensors"), 5.0);
    let config = DataConfig { train: vec![SourceConfig::new("below/rows.jsonl")], ..config };
    let error = prepare(&plain(&dir, &config, None)).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl:1") && error.contains("allow_outside"), "{error}");
    let permitted = DataConfig { allow_outside: true, ..config };
    let dataset = prepare(&plain(&dir, &permitted, None)).unwrap();
    let BatchContent::Tensors(rows) = dataset.batch(&[dataset.epoch(1, 0).packs.get(0)]).unwrap().content else {
        panic!("tensors")
    };
    assert_eq!(values(&rows[0]), 5.0);
}

#[test]
fn prepared_rows_are_found_again_while_the_files_they_name_are_the_same() {
    let (dir, config) = setup_tensors(6);
    let cache = dir.path().join("cache");
    let again = || prepare(&plain(&dir, &config, Some(&cache)));
    let first = again().unwrap();
    assert_eq!((&first.kept, &again().unwrap().kept), (&Kept::Stored, &Kept::Found));
    // Another file under the same name: the rows are prepared again, and the first dataset refuses the new file.
    let file = dir.path().join("files/2.safetensors");
    write(&file, 22.0);
    let second = again().unwrap();
    assert_eq!(second.kept, Kept::Stored);
    assert_ne!(first.hash(), second.hash());
    assert_eq!(again().unwrap().kept, Kept::Found);
    let place = |dataset: &Dataset| {
        let pack = dataset.epoch(1, 0).packs.iter().find(|pack| pack.examples == [2]).unwrap();
        dataset.batch(&[pack]).map(|batch| match batch.content {
            BatchContent::Tensors(rows) => values(&rows[0]),
            BatchContent::Tokens(_) => panic!("tensors"),
        })
    };
    let error = place(&first).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl:3") && error.contains("2.safetensors"), "{error}");
    assert_eq!(place(&second).unwrap(), 22.0);
    std::fs::remove_file(&file).unwrap();
    assert!(again().unwrap_err().to_string().contains("rows.jsonl:3"));
    write(&file, 22.0);
    assert_eq!(again().unwrap().kept, Kept::Found);
    // The same data in another folder finds the same store, and reads the files in that folder.
    let (elsewhere, _) = setup_tensors(6);
    write(&elsewhere.path().join("files/2.safetensors"), 22.0);
    let moved = prepare(&plain(&elsewhere, &config, Some(&cache))).unwrap();
    assert_eq!(moved.kept, Kept::Found);
    drop(dir);
    assert_eq!(place(&moved).unwrap(), 22.0);
    assert!(place(&second).is_err());
}

#[test]
fn the_side_of_a_row_follows_from_its_file() {
    let (dir, config) = setup_tensors(60);
    let config = DataConfig { validation_split: Some(0.3), ..config };
    let train = prepare(&plain(&dir, &config, None)).unwrap();
    let eval = train.set_aside(&config).unwrap();
    assert_eq!((train.len() + eval.len(), eval.kind()), (60, RowKind::Tensors));
    assert!(eval.len() > 5 && train.len() > 20, "{}", eval.len());
}
