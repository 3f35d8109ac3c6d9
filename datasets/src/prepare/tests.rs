//! Whole preparations: files in, datasets, packs and batches out.

use std::cell::Cell;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::config::{BrokenRows, Format, SourceConfig, TrainOn, Truncation};
use crate::documents::DocumentAttention;
use crate::source::{Fetch, NoFetch};
use crate::template::{Builtin, ChatTemplate};
use crate::testing;
use crate::tokenizer::Tokenizer;
use crate::tokens::NOT_TRAINED;

mod broken;
mod chosen;
mod tensors;

/// A folder with `rows.jsonl`, and a configuration that trains on it.
fn setup(rows: &[Value]) -> (tempfile::TempDir, DataConfig) {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join("rows.jsonl"), lines.join("\n")).unwrap();
    let config = DataConfig { max_length: 64, train: vec![SourceConfig::new("rows.jsonl")], ..DataConfig::default() };
    (dir, config)
}

fn request<'a>(
    dir: &'a tempfile::TempDir,
    config: &'a DataConfig,
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
) -> Prepare<'a> {
    Prepare {
        config,
        split: Split::Train,
        base: dir.path(),
        tokenizer: Some(tokenizer),
        template: Some(template),
        pictures: None,
        fetch: &NoFetch,
        micro_batch: 4,
        cache: None,
        keep_text: false,
        limit: None,
        progress: &|_| ControlFlow::Continue(()),
    }
}

fn run(dir: &tempfile::TempDir, config: &DataConfig) -> Result<Dataset, DataError> {
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    prepare(&request(dir, config, &tokenizer, &template))
}

fn talks(count: usize) -> Vec<Value> {
    let words = ["one", "two", "three", "four", "five six", "the river is green", "seven"];
    (0..count)
        .map(|index| {
            let answer: Vec<_> = (0..=index % 5).map(|word| words[(index * 3 + word) % words.len()]).collect();
            json!({"messages": [
                {"role": "user", "content": format!("what is {index}?")},
                {"role": "assistant", "content": answer.join(" ")},
            ]})
        })
        .collect()
}

#[test]
fn rows_come_out_in_file_order_with_their_lines() {
    let (dir, config) = setup(&talks(5000));
    let dataset = run(&dir, &config).unwrap();
    let lines: Vec<_> = dataset.examples().map(|example| example.unwrap().source.line).collect();
    assert_eq!(lines, (1..=5000).collect::<Vec<_>>());
    assert_eq!(dataset.decisions[0].format, Format::Messages);
    assert_eq!(dataset.files[0].sha256.len(), 64);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (dir, config) = setup(&talks(3000));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let dataset = run(&dir, &config).unwrap();
            (dataset.hash(), dataset.epoch(42, 1))
        })
    };
    assert_eq!(with(1), with(8));
}

#[test]
fn an_epoch_packs_every_row_once_and_batches_keep_their_labels() {
    let (dir, config) = setup(&talks(300));
    let config = DataConfig { max_length: 256, ..config };
    let dataset = run(&dir, &config).unwrap();
    let epoch = dataset.epoch(7, 0);
    let mut rows: Vec<_> = epoch.packs.iter().flat_map(|pack| pack.examples).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..300).collect::<Vec<_>>());
    // With 300 rows the last windows stay half open; the tests of `pack` claim more for many rows.
    assert!(epoch.efficiency > 0.9, "{}", epoch.efficiency);
    let packs: Vec<_> = epoch.packs.iter().collect();
    let batches: Vec<_> = packs.chunks(8).map(|packs| dataset.batch(packs).unwrap()).collect();
    assert_eq!(batches.iter().map(|batch| batch.labelled_tokens()).sum::<usize>(), dataset.labelled_tokens());
    assert_eq!(batches.iter().map(|batch| batch.tokens()).sum::<usize>(), dataset.tokens());
    let unpacked = DataConfig { packing: false, ..config };
    let singles = run(&dir, &unpacked).unwrap();
    assert_eq!(singles.epoch(7, 0).packs.len(), 300);
    assert_eq!(singles.epoch(7, 0), singles.epoch(7, 0));
    assert_ne!(singles.epoch(7, 0), singles.epoch(7, 1));
}

#[test]
fn batches_predict_the_next_token_of_the_same_row_only() {
    let (dir, config) = setup(&talks(60));
    let dataset = run(&dir, &DataConfig { train_on: TrainOn::All, ..config }).unwrap();
    let batch = dataset.batch(&dataset.epoch(1, 0).packs.iter().collect::<Vec<_>>()).unwrap();
    let batch = batch.into_tokens().unwrap();
    for at in 0..batch.input_ids.len() {
        let (row, column) = (at / batch.length, at % batch.length);
        let same = column + 1 < batch.length && batch.segments[at] != 0 && batch.segments[at + 1] == batch.segments[at];
        let expected = if same { batch.input_ids[at + 1] } else { NOT_TRAINED as i32 };
        assert_eq!(batch.targets[at], expected, "row {row}, column {column}");
        let starts = column == 0 || batch.segments[at] != batch.segments[at - 1];
        let expected = if starts || batch.segments[at] == 0 { 0 } else { batch.positions[at - 1] + 1 };
        assert_eq!(batch.positions[at], expected);
    }
}

#[test]
fn joined_documents_are_one_row_and_only_where_they_may_be() {
    let texts: Vec<Value> = (0..9).map(|index| json!({"text": format!("the river is green {index}")})).collect();
    let (dir, config) = setup(&texts);
    let joined = DataConfig { document_attention: DocumentAttention::Joined, shuffle: false, ..config };
    let dataset = run(&dir, &joined).unwrap();
    let packs: Vec<_> = dataset.epoch(1, 0).packs.iter().collect();
    assert!(packs.len() > 1 && packs.iter().any(|pack| pack.examples.len() > 1));
    let batch = dataset.batch(&packs).unwrap().into_tokens().unwrap();
    for (row, pack) in packs.iter().enumerate() {
        let at = row * batch.length..row * batch.length + pack.length;
        let ids: Vec<i32> = pack
            .examples
            .iter()
            .flat_map(|number| dataset.example(*number).unwrap().tokens().unwrap().input_ids.clone())
            .map(|id| id as i32)
            .collect();
        assert_eq!(batch.input_ids[at.clone()], ids);
        assert_eq!(batch.targets[at.start..at.end - 1], ids[1..], "also across documents");
        assert_eq!(batch.positions[at.clone()], (0..pack.length as i32).collect::<Vec<_>>());
        assert!(batch.segments[at].iter().all(|segment| *segment == 1));
    }
    assert_eq!(dataset.most_positions(), 64);
    let separate = DataConfig { document_attention: DocumentAttention::Separate, ..joined.clone() };
    assert_eq!(run(&dir, &separate).unwrap().most_positions(), dataset.length(0));
    let refused = |dir, config: &DataConfig| run(dir, config).unwrap_err().to_string();
    let message = refused(&dir, &DataConfig { packing: false, ..joined.clone() });
    assert!(message.contains("packing = false"), "{message}");
    let (dir, _) = setup(&talks(3));
    for format in [Format::Auto, Format::Messages] {
        let source = SourceConfig { format, ..SourceConfig::new("rows.jsonl") };
        let message = refused(&dir, &DataConfig { train: vec![source], ..joined.clone() });
        assert!(message.contains("rows.jsonl: document_attention") && message.contains("format messages"), "{message}");
    }
}

#[test]
fn rows_without_labels_stay_out_of_the_packs() {
    let mut rows = talks(4);
    rows.push(json!({"messages": [{"role": "user", "content": "nobody answers"}]}));
    let (dir, config) = setup(&rows);
    let dataset = run(&dir, &config).unwrap();
    assert_eq!(dataset.len(), 5);
    assert!(dataset.epoch(1, 0).packs.iter().all(|pack| !pack.examples.contains(&4)));
}

#[test]
fn formats_and_weights_are_those_of_each_source() {
    let (dir, mut config) = setup(&talks(4));
    std::fs::write(dir.path().join("texts.csv"), "text\nthe sky is blue\nthe grass is green\n").unwrap();
    let mut texts = SourceConfig::new("texts.csv");
    texts.weight = 1.5;
    config.train.push(texts);
    let dataset = run(&dir, &config).unwrap();
    let formats: Vec<_> = dataset.decisions.iter().map(|decision| decision.format).collect();
    assert_eq!(formats, [Format::Messages, Format::Text]);
    let visits: usize = dataset.epoch(3, 0).packs.iter().map(|pack| pack.examples.len()).sum();
    assert_eq!(visits, 4 + 3);
    assert_eq!(dataset.example(5).unwrap().source_index, 1);
}

#[test]
fn nothing_is_prepared_from_nothing() {
    let (dir, config) = setup(&[]);
    assert!(run(&dir, &config).unwrap_err().to_string().contains("no row"));
    let (dir, mut config) = setup(&talks(1));
    let empty = DataConfig { train: Vec::new(), ..config.clone() };
    assert!(run(&dir, &empty).unwrap_err().to_string().contains("[[data.train]]"));
    config.max_length = 1;
    assert!(run(&dir, &config).unwrap_err().to_string().contains("max_length"));
    config.max_length = 8;
    config.train[0].weight = -1.0;
    assert!(run(&dir, &config).unwrap_err().to_string().contains("weight"));
}

#[test]
fn a_limit_reads_the_first_rows_and_progress_counts_up() {
    let (dir, config) = setup(&talks(100));
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let last = Cell::new(Progress::default());
    let request = Prepare {
        config: &config,
        split: Split::Train,
        base: dir.path(),
        tokenizer: Some(&tokenizer),
        template: Some(&template),
        pictures: None,
        micro_batch: 4,
        cache: None,
        fetch: &NoFetch,
        keep_text: true,
        limit: Some(7),
        progress: &|progress| {
            last.set(progress);
            ControlFlow::Continue(())
        },
    };
    let dataset = prepare(&request).unwrap();
    assert_eq!(dataset.len(), 7);
    assert!(dataset.examples().all(|example| example.unwrap().tokens().unwrap().text.is_some()));
    assert_eq!(last.get().rows, 7);
    prepare(&Prepare { limit: None, ..request }).unwrap();
    assert_eq!((last.get().rows, last.get().bytes), (100, last.get().total_bytes));
}

#[test]
fn pairs_are_visited_packed_and_weighed_together() {
    let pairs: Vec<_> = (0..40)
        .map(|index| {
            let long = vec!["word"; 1 + index % 7].join(" ");
            json!({"prompt": format!("what is {index}?"), "chosen": [{"role": "assistant", "content": long}], "rejected": "no"})
        })
        .collect();
    let (dir, mut config) = setup(&pairs);
    config.train[0].weight = 1.5;
    for packing in [true, false] {
        let config = DataConfig { packing, ..config.clone() };
        let dataset = run(&dir, &config).unwrap();
        assert_eq!(dataset.len(), 80);
        let epoch = dataset.epoch(5, 0);
        let mut visits = 0;
        for pack in epoch.packs.iter() {
            assert!(pack.length <= 2 * config.max_length);
            assert_eq!(pack.length, pack.examples.iter().map(|&row| dataset.length(row)).sum::<usize>());
            for pair in pack.examples.chunks(2) {
                assert_eq!((pair[0] % 2, pair[1]), (0, pair[0] + 1));
                visits += 1;
            }
        }
        assert_eq!(visits, 60);
        let batch = dataset.batch(&epoch.packs.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(batch.examples.iter().map(Vec::len).sum::<usize>(), 120);
    }
}

#[test]
fn a_hub_is_asked_for_the_files_of_the_split() {
    struct Hub(PathBuf);
    impl Fetch for Hub {
        fn fetch(&self, repository: &source::Repository, choose: &source::Choose<'_>) -> Result<Vec<PathBuf>, String> {
            assert_eq!((repository.name.as_str(), repository.revision.as_deref()), ("owner/name", Some("v1")));
            let chosen = choose(&["README.md", "train.jsonl", "test.jsonl"])?;
            Ok(chosen.iter().map(|file| self.0.join(file)).collect())
        }
    }
    let (dir, mut config) = setup(&talks(3));
    std::fs::rename(dir.path().join("rows.jsonl"), dir.path().join("train.jsonl")).unwrap();
    config.train = vec![SourceConfig::new("hf://datasets/owner/name@v1")];
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let hub = Hub(dir.path().to_path_buf());
    let request = Prepare {
        config: &config,
        split: Split::Train,
        base: Path::new("nowhere"),
        tokenizer: Some(&tokenizer),
        template: Some(&template),
        pictures: None,
        fetch: &hub,
        micro_batch: 1,
        cache: None,
        keep_text: false,
        limit: None,
        progress: &|_| ControlFlow::Continue(()),
    };
    assert_eq!(prepare(&request).unwrap().len(), 3);
    let error = prepare(&Prepare { fetch: &NoFetch, ..request }).unwrap_err().to_string();
    assert!(error.contains("hf://datasets/owner/name@v1"), "{error}");
}

#[test]
fn rows_left_out_for_their_length_are_counted() {
    let (dir, config) = setup(&talks(20));
    let config = DataConfig { truncation: Truncation::Drop, max_length: 20, ..config };
    let dataset = run(&dir, &config).unwrap();
    assert!(!dataset.dropped().is_empty());
    assert_eq!(dataset.len() + dataset.dropped().len(), 20);
    assert!((0..dataset.len()).all(|row| dataset.length(row) <= 20));
}

#[test]
fn the_hash_depends_on_what_is_trained() {
    let (dir, config) = setup(&talks(10));
    let plain = run(&dir, &config).unwrap().hash();
    assert_eq!(plain, run(&dir, &config).unwrap().hash());
    let all = DataConfig { train_on: TrainOn::All, ..config };
    assert_ne!(plain, run(&dir, &all).unwrap().hash());
}

#[test]
fn the_store_has_the_same_bytes_with_one_thread_and_with_eight() {
    let (dir, config) = setup(&talks(5000));
    let with = |threads: usize| {
        let cache = dir.path().join(format!("cache-{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (tokenizer, template) = (testing::tokenizer(), testing::template(Builtin::ChatMl.source()));
        let dataset = pool.install(|| {
            let request = request(&dir, &config, &tokenizer, &template);
            prepare(&Prepare { cache: Some(&cache), ..request }).unwrap()
        });
        let entry = std::fs::read_dir(cache.join("rows")).unwrap().next().unwrap().unwrap();
        (entry.file_name(), std::fs::read(entry.path()).unwrap(), dataset.hash(), dataset.epoch(3, 2))
    };
    assert!(with(1) == with(8));
}

#[test]
fn the_hash_is_that_of_rows_and_sources() {
    let (dir, mut config) = setup(&talks(30));
    config.train[0].weight = 1.5;
    let dataset = run(&dir, &config).unwrap();
    let mut hash = Sha256::new();
    for example in dataset.examples() {
        hash.update(example.unwrap().digest());
    }
    hash.update(30_u64.to_le_bytes());
    hash.update(1.5_f64.to_le_bytes());
    assert_eq!(dataset.hash(), crate::hex::hex(&hash.finalize()));
}

#[test]
fn a_row_stays_on_its_side_when_rows_are_added_or_moved_and_equal_rows_share_one() {
    let sides = |rows: &[Value]| {
        let (dir, config) = setup(rows);
        let config = DataConfig { validation_split: Some(0.25), ..config };
        let train = run(&dir, &config).unwrap();
        let eval = train.set_aside(&config).unwrap();
        let digests = |dataset: &Dataset| -> Vec<[u8; 32]> {
            let mut all: Vec<_> = dataset.examples().map(|example| example.unwrap().digest()).collect();
            all.sort_unstable();
            all
        };
        assert_eq!((train.len() + eval.len(), train.split, eval.split), (rows.len(), Split::Train, Split::Eval));
        assert_eq!(
            train.tokens() + eval.tokens(),
            train.examples().chain(eval.examples()).map(|row| row.unwrap().length()).sum::<usize>()
        );
        let tokenizer = testing::tokenizer();
        let template = testing::template(Builtin::ChatMl.source());
        let alone = prepare(&Prepare { split: Split::Eval, ..request(&dir, &config, &tokenizer, &template) }).unwrap();
        assert_eq!(alone.hash(), eval.hash());
        (digests(&train), digests(&eval))
    };
    let rows = talks(200);
    let (train, eval) = sides(&rows);
    assert!(eval.len() > 20 && eval.len() < 90, "{}", eval.len());
    let mut more: Vec<Value> = talks(260).into_iter().rev().collect();
    more.extend(rows[..50].iter().cloned());
    let (more_train, more_eval) = sides(&more);
    assert!(train.iter().all(|row| more_train.binary_search(row).is_ok() && more_eval.binary_search(row).is_err()));
    assert!(eval.iter().all(|row| more_eval.binary_search(row).is_ok() && more_train.binary_search(row).is_err()));
}

#[test]
fn sources_keep_their_shares_in_packs_and_every_row_comes_as_often_as_asked() {
    let (dir, mut config) = setup(&talks(300));
    let lines: Vec<_> = talks(900).iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join("more.jsonl"), lines.join("\n")).unwrap();
    config.packing = false;
    config.train[0].rows = Some(200);
    config.train.push(SourceConfig { rows: Some(600), ..SourceConfig::new("more.jsonl") });
    let dataset = run(&dir, &config).unwrap();
    let mut counts = vec![0; 1200];
    for epoch in 0..3 {
        let packs: Vec<usize> = dataset.epoch(5, epoch).packs.iter().flat_map(|pack| pack.examples).collect();
        assert_eq!(packs.len(), 800);
        for window in packs.windows(40) {
            let first = window.iter().filter(|row| **row < 300).count();
            assert!((9..=11).contains(&first), "{first} of 40 in epoch {epoch}");
        }
        packs.iter().for_each(|row| counts[*row] += 1);
    }
    // 600 visits of 300 rows, 1800 of 900.
    assert!(counts.iter().all(|count| *count == 2), "{counts:?}");
    assert_eq!(dataset.epochs(), None);
    config.train.iter_mut().for_each(|source| source.epochs = Some(1.5));
    let limited = run(&dir, &config).unwrap();
    assert_eq!(limited.epochs(), Some(3));
    let visits: usize = (0..4).map(|epoch| limited.epoch(5, epoch).packs.len()).sum();
    assert_eq!(visits, 450 + 1350);
}

#[test]
fn rows_that_train_nothing_take_nobodys_place_in_a_mixture() {
    let mut rows = talks(20);
    rows.extend((0..20).map(|row| json!({"messages": [{"role": "user", "content": format!("nobody answers {row}")}]})));
    let (dir, mut config) = setup(&rows);
    config.packing = false;
    config.train[0].rows = Some(15);
    let dataset = run(&dir, &config).unwrap();
    let packs = &dataset.epoch(1, 1).packs;
    assert_eq!(packs.len(), 15);
    assert!(packs.iter().all(|pack| pack.examples[0] < 20));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let (dir, config) = setup(&talks(10));
    let says = |change: &dyn Fn(&mut DataConfig), word: &str| {
        let mut config = config.clone();
        change(&mut config);
        let error = run(&dir, &config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    says(&|config| config.group_by_length = true, "packing = false");
    says(&|config| config.validation_split = Some(1.0), "between 0 and 1");
    says(
        &|config| {
            config.validation_split = Some(0.5);
            config.eval = config.train.clone();
        },
        "[[data.eval]]",
    );
    says(
        &|config| {
            config.train[0].rows = Some(3);
            config.train[0].weight = 2.0;
        },
        "keep one of them",
    );
    says(&|config| config.train[0].epochs = Some(0.0), "positive");
}
