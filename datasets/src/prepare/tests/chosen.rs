//! Sources with a query: the places of their rows, how many were kept, and what the cache knows of it.

use super::*;
use crate::dataset::Kept;
use crate::query::Chosen;

/// Forty dialogues with a score that is their number, with `where` or `sql`.
fn scored(change: impl Fn(&mut SourceConfig)) -> (tempfile::TempDir, DataConfig) {
    let mut rows = talks(40);
    for (number, row) in rows.iter_mut().enumerate() {
        row["score"] = json!(number);
    }
    let (dir, mut config) = setup(&rows);
    change(&mut config.train[0]);
    (dir, config)
}

fn lines(dataset: &Dataset) -> Vec<usize> {
    dataset.examples().map(|example| example.unwrap().source.line).collect()
}

#[test]
fn rows_that_are_kept_have_their_own_lines_and_are_counted() {
    let (dir, config) = scored(|source| source.keep = Some("score % 10 = 3".into()));
    let dataset = run(&dir, &config).unwrap();
    assert_eq!(lines(&dataset), [4, 14, 24, 34]);
    assert_eq!(dataset.chosen[0].rows, Chosen { kept: 4, left_out: 36 });
    assert_eq!(dataset.chosen[0].to_string(), "rows.jsonl: 4 rows kept, 36 left out");
    let (dir, config) = scored(|source| source.sql = Some("SELECT messages FROM self WHERE score > 36".into()));
    assert_eq!(lines(&run(&dir, &config).unwrap()), [38, 39, 40]);
    // Where only the first rows are wanted, the counts are still those of the whole source.
    let (tokenizer, template) = (testing::tokenizer(), testing::template(Builtin::ChatMl.source()));
    let first = prepare(&Prepare { limit: Some(2), ..request(&dir, &config, &tokenizer, &template) }).unwrap();
    assert_eq!((lines(&first), first.chosen[0].rows), (vec![38, 39], Chosen { kept: 3, left_out: 37 }));
}

#[test]
fn a_query_is_part_of_what_prepared_rows_are_found_by() {
    let (dir, config) = scored(|source| source.keep = Some("score < 10".into()));
    let (tokenizer, template) = (testing::tokenizer(), testing::template(Builtin::ChatMl.source()));
    let cache = dir.path().join("cache");
    let prepared = |config: &DataConfig| {
        prepare(&Prepare { cache: Some(&cache), ..request(&dir, config, &tokenizer, &template) }).unwrap()
    };
    let (first, second) = (prepared(&config), prepared(&config));
    assert_eq!((&first.kept, &second.kept), (&Kept::Stored, &Kept::Found));
    assert_eq!(second.chosen, first.chosen, "the counts are kept with the rows");
    let with = |keep: Option<&str>, sql: Option<&str>| {
        let mut other = config.clone();
        (other.train[0].keep, other.train[0].sql) = (keep.map(Into::into), sql.map(Into::into));
        prepared(&other)
    };
    for (keep, sql, rows) in [
        (Some("score < 11"), None, 11),
        (None, None, 40),
        (None, Some("SELECT messages FROM self WHERE score < 10"), 10),
        (None, Some("SELECT messages FROM self WHERE score < 10 LIMIT 4"), 4),
    ] {
        let dataset = with(keep, sql);
        assert_eq!((dataset.len(), &dataset.kept), (rows, &Kept::Stored), "{keep:?} {sql:?}");
    }
}

#[test]
fn a_query_that_keeps_nothing_or_is_wrong_ends_the_preparation() {
    for (keep, says) in [
        ("score > 100", "it keeps none of the 40 row(s)"),
        ("scor > 1", "(`score` is there)"),
        ("score >", "it is no SQL"),
        ("CAST('x' AS BIGINT) > score", "broken row(s)"),
    ] {
        let (dir, config) = scored(|source| source.keep = Some(keep.into()));
        let said = run(&dir, &config).unwrap_err().to_string();
        assert!(said.contains(says), "{keep}: {said}");
    }
    let (dir, config) = scored(|source| {
        source.keep = Some("score > 1".into());
        source.sql = Some("SELECT * FROM self".into());
    });
    assert!(run(&dir, &config).unwrap_err().to_string().contains("`where` and `sql`"));
}

#[test]
fn broken_rows_stay_broken_and_rows_that_cannot_be_computed_are() {
    let (dir, mut config) = scored(|source| source.keep = Some("CAST(note AS BIGINT) > 1 OR score < 3".into()));
    let mut text = std::fs::read_to_string(dir.path().join("rows.jsonl")).unwrap();
    text += &format!("\n{}\nnonsense\n", json!({"messages": talks(1)[0]["messages"], "note": "x", "score": 50}));
    std::fs::write(dir.path().join("rows.jsonl"), text).unwrap();
    let said = run(&dir, &config).unwrap_err().to_string();
    assert!(said.contains("2 broken row(s)") && said.contains("rows.jsonl:41"), "{said}");
    assert!(said.contains("rows.jsonl:42"), "{said}");
    config.broken = BrokenRows::Skip;
    let dataset = run(&dir, &config).unwrap();
    assert_eq!((lines(&dataset), dataset.broken().count), (vec![1, 2, 3], 2));
    assert_eq!(dataset.chosen[0].rows, Chosen { kept: 3, left_out: 37 }, "a broken row is neither");
}

#[test]
fn the_number_of_threads_changes_no_row() {
    let (dir, config) = scored(|source| source.keep = Some("LENGTH(CAST(score AS VARCHAR)) = 1 AND score <> 5".into()));
    let hashes: Vec<String> = (0..3).map(|_| run(&dir, &config).unwrap().hash()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}
