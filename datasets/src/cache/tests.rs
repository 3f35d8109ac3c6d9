//! Rows that were prepared before are found again, and only when they are the same.

use serde_json::json;
use std::ops::ControlFlow;

use super::*;
use crate::config::{DataConfig, SourceConfig, Split, Truncation};
use crate::dataset::{Dataset, Kept};
use crate::prepare::{Prepare, prepare};
use crate::template::Builtin;
use crate::testing;

struct Place {
    folder: tempfile::TempDir,
    config: DataConfig,
    template: &'static str,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self {
            config: DataConfig {
                max_length: 64,
                train: vec![SourceConfig::new("rows.jsonl")],
                ..DataConfig::default()
            },
            template: Builtin::ChatMl.source(),
            folder,
        };
        place.write("rows.jsonl", 40);
        place
    }

    fn write(&self, name: &str, rows: usize) {
        let row = |row: usize| {
            let messages = json!([{"role": "user", "content": format!("what is {row}?")},
                {"role": "assistant", "content": "a number"}]);
            json!({ "messages": messages }).to_string() + "\n"
        };
        fs::write(self.folder.path().join(name), (0..rows).map(row).collect::<String>()).unwrap();
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.folder.path().join("cache"))
    }

    fn prepare_with(&self, config: &DataConfig) -> Dataset {
        let (tokenizer, template) = (testing::tokenizer(), testing::template(self.template));
        prepare(&Prepare {
            config,
            split: Split::Train,
            base: self.folder.path(),
            tokenizer: Some(&tokenizer),
            template: Some(&template),
            pictures: None,
            fetch: &crate::source::NoFetch,
            micro_batch: 4,
            cache: Some(&self.folder.path().join("cache")),
            keep_text: false,
            limit: None,
            progress: &|_| ControlFlow::Continue(()),
        })
        .unwrap()
    }

    fn prepare(&self) -> Dataset {
        self.prepare_with(&self.config)
    }

    fn change(&self, change: impl Fn(&mut DataConfig)) -> DataConfig {
        let mut config = self.config.clone();
        change(&mut config);
        config
    }

    /// The only store in the cache.
    fn store(&self) -> PathBuf {
        let [entry] = &self.cache().entries().unwrap()[..] else { panic!("not one entry") };
        self.cache().store(&entry.key)
    }
}

#[test]
fn a_second_preparation_finds_the_rows_of_the_first() {
    let place = Place::new();
    let (first, second) = (place.prepare(), place.prepare());
    assert_eq!((&first.kept, &second.kept), (&Kept::Stored, &Kept::Found));
    assert_eq!(first.hash(), second.hash());
    assert_eq!(first.epoch(1, 0), second.epoch(1, 0));
    assert_eq!((first.decisions.clone(), first.files.clone()), (second.decisions.clone(), second.files.clone()));
    for row in 0..40 {
        assert_eq!(first.example(row).unwrap(), second.example(row).unwrap());
    }
    let entry = place.cache().entries().unwrap().remove(0);
    assert_eq!((entry.rows, entry.tokens), (Some(40), Some(first.tokens() as u64)));
    assert!(entry.files[0].ends_with("rows.jsonl") && entry.unused_seconds < 600);
}

#[test]
fn a_file_under_another_ending_is_another_file() {
    let place = Place::new();
    let bytes = "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n";
    let tokens = |name: &str| {
        std::fs::write(place.folder.path().join(name), bytes).unwrap();
        let config = place.change(|config| config.train = vec![crate::config::SourceConfig::new(name)]);
        let dataset = place.prepare_with(&config);
        (dataset.tokens(), dataset.kept.clone())
    };
    let (objects, _) = tokens("same.jsonl");
    let (texts, kept) = tokens("same.txt");
    assert_eq!(kept, Kept::Stored);
    assert!(texts > objects, "the text of an object is longer than what is in it: {texts} {objects}");
    assert_eq!(tokens("same.ndjson"), (objects, Kept::Found), "two endings of one format");
}

#[test]
fn whatever_changes_rows_changes_the_key_and_nothing_else_does() {
    let mut place = Place::new();
    place.prepare();
    let same: [fn(&mut DataConfig); 6] = [
        |config| config.packing = false,
        |config| config.shuffle = false,
        |config| config.validation_split = Some(0.3),
        |config| config.train[0].weight = 2.0,
        |config| config.train[0].rows = Some(7),
        |config| config.gate.allow_empty = 0.5,
    ];
    for (number, change) in same.into_iter().enumerate() {
        assert_eq!(place.prepare_with(&place.change(change)).kept, Kept::Found, "harmless change {number}");
    }
    let others: [fn(&mut DataConfig); 5] = [
        |config| config.system = Some("Be kind.".into()),
        |config| config.max_length = 63,
        |config| config.train_on = crate::config::TrainOn::All,
        |config| config.truncation = Truncation::Drop,
        |config| config.train[0].format = crate::config::Format::Messages,
    ];
    for (number, change) in others.into_iter().enumerate() {
        assert_eq!(place.prepare_with(&place.change(change)).kept, Kept::Stored, "change {number}");
    }
    place.template = Builtin::Zephyr.source();
    assert_eq!(place.prepare().kept, Kept::Stored);
    assert_eq!(place.cache().entries().unwrap().len(), 7);
}

#[test]
fn rows_are_found_by_content_not_by_name_and_changed_files_are_read_again() {
    let mut place = Place::new();
    let first = place.prepare();
    place.write("copy.jsonl", 40);
    place.config.train = vec![SourceConfig::new("copy.jsonl")];
    let copy = place.prepare();
    assert_eq!(copy.kept, Kept::Found);
    assert!(copy.location(3).to_string().ends_with("copy.jsonl:4"), "{}", copy.location(3));
    place.write("copy.jsonl", 41);
    let changed = place.prepare();
    assert_eq!((changed.kept.clone(), changed.len()), (Kept::Stored, 41));
    assert_ne!(changed.hash(), first.hash());
}

#[test]
fn a_template_that_prints_the_clocks_date_is_not_cached_one_with_a_fixed_date_is() {
    let mut place = Place::new();
    place.template = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.role }}{{ m.content }}<|im_end|>{% endfor %}\
                      {% if add_generation_prompt %}assistant{% endif %}";
    assert!(matches!(place.prepare().kept, Kept::Not(_)));
    let dated = place.change(|config| config.date = Some("2026-01-02".into()));
    assert_eq!(place.prepare_with(&dated).kept, Kept::Stored);
    let later = place.change(|config| config.date = Some("2026-01-03".into()));
    assert_eq!(place.prepare_with(&later).kept, Kept::Stored);
}

#[test]
fn what_is_damaged_or_interrupted_is_made_again() {
    let place = Place::new();
    let good = place.prepare().hash();
    let store = place.store();
    let bytes = fs::read(&store).unwrap();
    for length in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        // As when a disk lost the end of a file.
        fs::remove_file(&store).unwrap();
        fs::write(&store, &bytes[..length]).unwrap();
        let again = place.prepare();
        assert_eq!((again.kept.clone(), again.hash()), (Kept::Stored, good.clone()));
        assert_eq!(fs::read(&store).unwrap(), bytes);
    }
    // A build that was interrupted leaves a file that no program has locked; one in progress is locked.
    let rows = store.parent().unwrap();
    let (left, held) = (rows.join(".a.1-0.tmp"), rows.join(".b.1-0.tmp"));
    fs::write(&left, &bytes).unwrap();
    let file = File::create(&held).unwrap();
    file.try_lock().unwrap();
    assert_eq!(place.cache().entries().unwrap().len(), 1);
    place.prepare_with(&place.change(|config| config.max_length = 50));
    assert!(!left.exists() && held.exists());
}

#[test]
fn two_that_build_the_same_rows_at_once_do_no_harm() {
    let place = Place::new();
    let hashes: Vec<(String, Kept)> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| place.prepare())).collect();
        builds.into_iter().map(|build| build.join().unwrap()).map(|dataset| (dataset.hash(), dataset.kept)).collect()
    });
    assert!(hashes.iter().all(|(hash, _)| *hash == hashes[0].0), "{hashes:?}");
    assert_eq!(place.prepare().kept, Kept::Found);
    assert_eq!(fs::read_dir(place.store().parent().unwrap()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let place = Place::new();
    fs::write(place.folder.path().join("cache"), "a file is in the way").unwrap();
    let dataset = place.prepare();
    assert!(matches!(&dataset.kept, Kept::Not(why) if why.contains("cache")), "{:?}", dataset.kept);
    assert_eq!(dataset.len(), 40);
}

#[test]
fn removed_rows_stay_readable_for_who_has_them_open() {
    let place = Place::new();
    let dataset = place.prepare();
    let key = place.cache().entries().unwrap().remove(0).key;
    place.cache().remove(&key).unwrap();
    place.cache().tidy().unwrap();
    assert!(place.cache().entries().unwrap().is_empty());
    assert!(dataset.examples().all(|example| example.is_ok()));
    assert!(place.cache().remove(&key).is_err());
}
