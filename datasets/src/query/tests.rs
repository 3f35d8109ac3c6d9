//! Which rows a query keeps, with which values, and what it refuses.

mod refused;

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Chosen, Query, Selection};
use crate::config::SourceConfig;
use crate::error::DataError;
use crate::source::{Names, Reading, Row};

/// A kept row, by its line, or the error in its place.
type Kept = Vec<Result<(usize, Value), String>>;

/// Files with what stands in them.
struct Files {
    /// Holds the files until they have been read.
    _folder: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, bytes)| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        Self { _folder: dir, paths }
    }

    fn ask(&self, source: &SourceConfig) -> Result<(Kept, Chosen), DataError> {
        let query = Query::of(source)?.unwrap();
        let mut selection =
            Selection::new(&query, source, &Reading::from(source), &self.paths, &|| ControlFlow::Continue(()))?;
        let mut names = Names::new(&source.columns);
        let mut kept = Vec::new();
        for path in &self.paths {
            let mut receiver = |row: Result<Row, DataError>| {
                kept.push(
                    row.map(|row| (row.location.line, Value::Object(row.object))).map_err(|error| error.to_string()),
                );
                ControlFlow::Continue(())
            };
            selection.read(path, &Reading::from(source), &mut names, &mut receiver, &|| false)?;
        }
        Ok((kept, selection.chosen()))
    }
}

fn of_where(condition: &str) -> SourceConfig {
    SourceConfig { keep: Some(condition.into()), ..SourceConfig::new("rows") }
}

fn of_sql(sql: &str) -> SourceConfig {
    SourceConfig { sql: Some(sql.into()), ..SourceConfig::new("rows") }
}

/// The lines of the rows of a file of which a condition is true.
fn lines(name: &str, text: &str, condition: &str) -> Vec<usize> {
    let (kept, chosen) =
        Files::new(&[(name, text.as_bytes())]).ask(&of_where(condition)).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<usize> = kept.into_iter().map(|row| row.unwrap_or_else(|error| panic!("{error}")).0).collect();
    assert_eq!(chosen.kept as usize, lines.len());
    lines
}

/// The rows that a query makes of a file.
fn rows(name: &str, text: &str, sql: &str) -> Vec<(usize, Value)> {
    let (kept, _) = Files::new(&[(name, text.as_bytes())]).ask(&of_sql(sql)).unwrap_or_else(|error| panic!("{error}"));
    kept.into_iter().map(|row| row.unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn error(name: &str, text: &str, source: &SourceConfig) -> String {
    match Files::new(&[(name, text.as_bytes())]).ask(source) {
        Err(error) => error.to_string(),
        Ok((kept, _)) => {
            kept.into_iter().find_map(Result::err).unwrap_or_else(|| panic!("nothing is wrong with {source:?}"))
        }
    }
}

const MIXED: &str = r#"{"lang": "en", "score": 5, "q": "a"}
{"lang": "de", "score": 9, "q": "b"}

{"lang": "en", "score": 3.5, "q": "c"}
{"lang": "en", "q": "d"}
{"lang": null, "score": 4, "q": "e"}
{"lang": "en", "score": 10, "q": "f"}
"#;

#[test]
fn a_condition_keeps_rows_with_their_lines_and_null_is_not_true() {
    assert_eq!(lines("a.jsonl", MIXED, "lang = 'en' AND score >= 4"), [1, 7]);
    assert_eq!(lines("a.jsonl", MIXED, "NOT (lang = 'en' AND score >= 4)"), [2, 4], "line 5 and 6 are NULL");
    assert_eq!(lines("a.jsonl", MIXED, "score IS NULL OR lang IS NULL"), [5, 6]);
    assert_eq!(lines("a.jsonl", MIXED, "lang <> 'en'"), [2]);
    assert_eq!(lines("a.jsonl", MIXED, "(lang = 'en') IS NOT TRUE"), [2, 6]);
    assert_eq!(lines("a.jsonl", MIXED, "lang IS DISTINCT FROM 'en'"), [2, 6]);
    assert_eq!(lines("a.jsonl", MIXED, "score NOT IN (5, 3.5)"), [2, 6, 7]);
    assert_eq!(lines("a.jsonl", MIXED, "score BETWEEN 3.5 AND 5"), [1, 4, 6]);
    assert_eq!(lines("a.jsonl", MIXED, "self.q IN ('b', 'd')"), [2, 5]);
    assert_eq!(lines("a.jsonl", MIXED, "COALESCE(score, 0) < 4"), [4, 5]);
    assert_eq!(lines("a.jsonl", MIXED, "TRUE"), [1, 2, 4, 5, 6, 7]);
}

#[test]
fn every_format_is_asked_alike() {
    let expected = [2, 4];
    let csv = "q,score\na,10\nb,9\nc,2\n";
    assert_eq!(lines("a.csv", csv, "score >= 9 OR q = 'c'"), [2, 3, 4]);
    let tsv = csv.replace(',', "\t");
    assert_eq!(lines("a.tsv", &tsv, "score = 10 OR score = 2"), expected);
    let json = r#"[{"q":"a","score":1},{"q":"b","score":10},{"q":"c","score":2},{"q":"d","score":10}]"#;
    assert_eq!(lines("a.json", json, "score = 10"), expected);
    assert_eq!(lines("a.txt", "one\n\ntwo\n\n\nthree\n", "text LIKE 't%'"), [3, 6]);
    let zipped = |name: &str, bytes: Vec<u8>| {
        let (kept, _) = Files::new(&[(name, &bytes)]).ask(&of_where("score > 9")).unwrap();
        kept.into_iter().map(|row| row.unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(zipped("a.csv.zst", zstd::stream::encode_all(csv.as_bytes(), 3).unwrap()), [2]);
}

#[test]
fn cells_of_csv_are_numbers_where_all_of_them_are() {
    let csv = "n,zip,flag,version,q\n10,02134,true,1.10,a\n9,10001,false,1.9,b\n,10002,,1.1,c\n4.5,99999,TRUE,2,d\n";
    assert_eq!(lines("a.csv", csv, "n >= 4.5"), [2, 3, 5], "10 is not text before 4.5");
    assert_eq!(lines("a.csv", csv, "n > 9"), [2]);
    assert_eq!(lines("a.csv", csv, "zip = '02134'"), [2]);
    assert_eq!(lines("a.csv", csv, "flag"), [2, 5]);
    assert_eq!(lines("a.csv", csv, "NOT flag"), [3]);
    assert_eq!(lines("a.csv", csv, "flag = FALSE"), [3]);
    assert_eq!(lines("a.csv", csv, "n > version"), [2, 3, 5], "two columns of numbers are compared as numbers");
    assert_eq!(lines("a.csv", csv, "version = 1.1"), [2, 4]);
    assert_eq!(lines("a.csv", csv, "version = '1.10'"), [2], "beside a text, the cell is the text it is");
    assert_eq!(lines("a.csv", csv, "-n < -9"), [2]);
    assert_eq!(lines("a.csv", csv, "COALESCE(n, 0) < 5"), [4, 5]);
    assert_eq!(lines("a.csv", csv, "CASE WHEN q = 'a' THEN n ELSE 0 END = 10"), [2]);
    assert_eq!(lines("a.csv", csv, "LENGTH(version) = 4"), [2]);
    let made =
        rows("a.csv", csv, "SELECT q || '-' || version AS prompt, version, n * 2 AS twice FROM self WHERE n = 10");
    assert_eq!(made, [(2, json!({"prompt": "a-1.10", "version": "1.10", "twice": 20.0}))]);
    for (condition, says) in [
        ("zip > 5", "`zip` has \"02134\" in"),
        ("zip > 5", "a.csv:2, which is no number"),
        ("q = 4", "`q` has \"a\" in"),
        ("q", "which is neither true nor false"),
        ("n >= '4'", "write 4 without quotes"),
    ] {
        let said = error("a.csv", csv, &of_where(condition));
        assert!(said.contains(says) && said.contains("where = "), "{condition}: {said}");
    }
}

#[test]
fn what_passes_through_a_query_is_exactly_what_stood_in_the_file() {
    let row = json!({
        "messages": [{"role": "user", "content": "q", "weight": 0.1}, {"role": "assistant", "tool_calls": [], "content": "a"}],
        "id": 9007199254740993_i64, "large": 18446744073709551615_u64, "half": 0.1, "whole": 1.0, "flag": true,
        "mixed": [1, "a", {"b": null}], "e": 1e300, "day": "2026-01-31",
    });
    let other = json!({"id": 1, "messages": "text", "mixed": 4, "e": "x", "q": "b"});
    let text = format!("{row}\n{other}\n");
    let (kept, chosen) = Files::new(&[("a.jsonl", text.as_bytes())])
        .ask(&of_where("id = 9007199254740993"))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(kept, [Ok((1, row.clone()))]);
    assert_eq!(kept[0].as_ref().unwrap().1.to_string(), row.to_string(), "to the digit");
    assert_eq!(chosen, Chosen { kept: 1, left_out: 1 });
    assert!(Files::new(&[("a.jsonl", text.as_bytes())]).ask(&of_where("id = 9007199254740992")).unwrap().0.is_empty());
    assert_eq!(lines("a.jsonl", &text, "large = 18446744073709551615"), [1]);
    assert_eq!(lines("a.jsonl", &text, "large > 18446744073709551614 AND large > -1"), [1]);
    let made = rows("a.jsonl", &text, "SELECT messages, id AS number, mixed, e FROM self");
    let (first, second) = (&made[0].1, &made[1].1);
    let expected = json!({"messages": row["messages"], "number": row["id"], "mixed": row["mixed"], "e": row["e"]});
    assert_eq!(first.to_string(), expected.to_string());
    assert_eq!(*second, json!({"messages": "text", "number": 1, "mixed": 4, "e": "x"}));
    let all = rows("a.jsonl", &text, "SELECT *, id + 1 AS id FROM self WHERE flag");
    let mut expected = row.clone();
    expected["id"] = json!(9007199254740994_i64);
    assert_eq!(all, [(1, expected)]);
}

#[test]
fn a_select_list_names_renames_and_computes() {
    let text = "{\"q\":\" Was? \",\"a\":\"Ja\",\"n\":3,\"meta\":{\"score\":2.5,\"tags\":[\"x\",\"y\"]}}\n{\"q\":\"Wie\",\"a\":\"So\",\"n\":-7}\n";
    let made = rows(
        "a.jsonl",
        text,
        "SELECT TRIM(q) AS prompt, a completion, 'Be brief.' AS system, meta.score, n, n / 2 AS half, n % 2 AS rest, \
         LENGTH(a) - LENGTH(q) AS difference, n > 0 AS label, UPPER(a) AS up, CAST(n AS VARCHAR) AS digits FROM self",
    );
    assert_eq!(
        made[0],
        (
            1,
            json!({
                "prompt": "Was?", "completion": "Ja", "system": "Be brief.", "score": 2.5, "n": 3, "half": 1.5, "rest": 1,
                "difference": -4, "label": true, "up": "JA", "digits": "3",
            })
        )
    );
    assert_eq!(made[1].1["half"], json!(-3.5));
    assert_eq!(made[1].1.get("score"), None, "a column that the row lacks is absent");
    assert_eq!(made[1].1["difference"], json!(-1), "a difference of lengths may be negative");
    let texts = rows(
        "a.jsonl",
        text,
        "SELECT SUBSTR(a, 2) AS rest, LEFT(q, 2) AS two, REPLACE(a, 'J', 'N') AS other, SPLIT_PART(q, 'a', 1) AS part, \
         CONCAT(a, n, NULL) AS joined, a || NULL AS nothing, CONCAT_WS('; ', a, q) AS both, GREATEST(n, 0) AS large, \
         ARRAY_LENGTH(meta.tags) AS tags, CASE n WHEN 3 THEN 'three' ELSE 'other' END AS word, ABS(n) AS abs, \
         TRY_CAST(a AS BIGINT) AS none, NULLIF(n, 3) AS not_three, IF(n > 0, 'up', 'down') AS way FROM self",
    );
    assert_eq!(
        texts[0].1,
        json!({
            "rest": "a", "two": " W", "other": "Na", "part": " W", "joined": "Ja3", "both": "Ja;  Was? ", "large": 3,
            "tags": 2, "word": "three", "abs": 3, "way": "up",
        })
    );
    assert_eq!(
        (&texts[1].1["abs"], &texts[1].1["not_three"], &texts[1].1["large"]),
        (&json!(7), &json!(-7), &json!(0))
    );
    let renamed = SourceConfig {
        columns: [("prompt", "question")].into(),
        ..of_sql("SELECT q AS question, a AS completion FROM self")
    };
    let (kept, _) = Files::new(&[("a.jsonl", text.as_bytes())]).ask(&renamed).unwrap();
    assert_eq!(kept[1], Ok((2, json!({"completion": "So", "prompt": "Wie"}))));
}

#[test]
fn lists_texts_and_days_can_be_asked_about() {
    let text = r#"{"tags":["a","b"],"messages":[{"role":"user"},{"role":"assistant"}],"ids":[1,2],"day":"2024-02-29","e":[]}
{"tags":[],"messages":[{"role":"user"}],"ids":[3.5],"day":"2026-01-31","e":[]}
{"tags":null,"day":"1999-12-31","q":"Grüße 50% off"}
"#;
    for (condition, expected) in [
        ("ARRAY_LENGTH(messages) >= 2", vec![1]),
        ("messages IS NULL", vec![3]),
        ("ARRAY_CONTAINS(tags, 'b')", vec![1]),
        ("'a' = ANY(tags)", vec![1]),
        ("NOT ARRAY_CONTAINS(tags, 'b')", vec![2]),
        ("ARRAY_CONTAINS(ids, 2)", vec![1]),
        ("ARRAY_LENGTH(tags) = 0", vec![2]),
        ("NOT ARRAY_CONTAINS(e, 'x')", vec![1, 2]),
        ("day >= '2024-01-01'", vec![1, 2]),
        ("CAST(day AS DATE) < DATE '2024-03-01'", vec![1, 3]),
        ("CAST(day AS DATE) BETWEEN '2024-02-29' AND '2025-01-01'", vec![1]),
        ("EXTRACT(YEAR FROM CAST(day AS DATE)) * 100 + EXTRACT(MONTH FROM CAST(day AS DATE)) = 202402", vec![1]),
        ("q LIKE '%50\u{25} off' AND LENGTH(q) = 13", vec![3]),
        ("q ILIKE 'grü%'", vec![3]),
        ("q ~ '^Gr.+f$'", vec![3]),
        ("REGEXP_LIKE(q, '[0-9]{2}%')", vec![3]),
        ("STARTS_WITH(q, 'Gr') AND ENDS_WITH(q, 'off')", vec![3]),
    ] {
        assert_eq!(lines("a.jsonl", text, condition), expected, "{condition}");
    }
}

#[test]
fn kinds_do_not_depend_on_where_a_chunk_ends() {
    // The first chunks hold NULL, then whole numbers, and a fraction stands in the last row.
    let mut text = String::new();
    for row in 0..9000 {
        text += &match row {
            0..3000 => format!("{{\"row\":{row},\"score\":null}}\n"),
            8999 => format!("{{\"row\":{row},\"score\":0.5}}\n"),
            _ => format!("{{\"row\":{row},\"score\":{}}}\n", row % 10),
        };
    }
    let found = lines("a.jsonl", &text, "score < 1");
    assert_eq!(found.len(), 601);
    assert_eq!((found[0], found[600]), (3001, 9000));
    assert!(found[..600].iter().all(|line| (line - 1) % 10 == 0));
    let csv: String = std::iter::once("n,q\n".to_string())
        .chain((0..9000).map(|row| format!("{row},t\n")))
        .chain(["x,t\n".to_string()])
        .collect();
    let said = error("a.csv", &csv, &of_where("n > 3"));
    assert!(said.contains("`n` has \"x\" in") && said.contains("a.csv:9002"), "{said}");
}

#[test]
fn a_whole_source_has_one_kind_a_column_over_all_of_its_files() {
    let files = Files::new(&[("a.jsonl", b"{\"n\":1}\n{\"n\":2}"), ("b.jsonl", b"{\"n\":2.5}\n{\"n\":1.5}")]);
    let (kept, chosen) = files.ask(&of_where("n > 1.5")).unwrap();
    assert_eq!(kept, [Ok((2, json!({"n": 2}))), Ok((1, json!({"n": 2.5})))]);
    assert_eq!(chosen, Chosen { kept: 2, left_out: 2 });
    let files = Files::new(&[("a.jsonl", b"{\"n\":1}"), ("b.jsonl", b"{\"n\":\"2\"}")]);
    let said = files.ask(&of_where("n > 1")).unwrap_err().to_string();
    assert!(said.contains("`n` holds a number in") && said.contains("a.jsonl:1 (1) and text in"), "{said}");
    assert!(said.contains("b.jsonl:1 (\"2\")"), "{said}");
    let files = Files::new(&[("a.jsonl", b"{\"n\":9007199254740993}\n{\"n\":0.5}")]);
    let said = files.ask(&of_where("n > 1")).unwrap_err().to_string();
    assert!(said.contains("9007199254740993") && said.contains("no kind of number"), "{said}");
}

#[test]
fn limit_and_offset_count_rows_that_are_kept_in_the_order_of_the_files() {
    let files = Files::new(&[("a.jsonl", b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}"), ("b.jsonl", b"{\"n\":4}\n{\"n\":5}")]);
    let numbers = |sql: &str| {
        let (kept, chosen) = files.ask(&of_sql(sql)).unwrap();
        let numbers: Vec<i64> = kept.into_iter().map(|row| row.unwrap().1["n"].as_i64().unwrap()).collect();
        assert_eq!((chosen.kept as usize, chosen.left_out as usize), (numbers.len(), 5 - numbers.len()));
        numbers
    };
    assert_eq!(numbers("SELECT * FROM self WHERE n > 1 LIMIT 3"), [2, 3, 4]);
    assert_eq!(numbers("SELECT n FROM self LIMIT 2 OFFSET 2"), [3, 4]);
    assert_eq!(numbers("SELECT n FROM self AS s WHERE s.n <> 2 OFFSET 1"), [3, 4, 5]);
    assert_eq!(numbers("SELECT n FROM self LIMIT 0"), Vec::<i64>::new());
}

#[test]
fn a_name_or_a_value_says_nothing_to_the_engine() {
    let text =
        json!({"^.*$": 1, "*": 2, "a') OR (1=1": "x' OR '1'='1", "self": "me", "row": 5, "c0": "no"}).to_string();
    assert_eq!(lines("a.jsonl", &text, "\"^.*$\" = 1 AND \"*\" = 2 AND \"row\" = 5 AND c0 = 'no'"), [1]);
    assert_eq!(lines("a.jsonl", &text, "\"a') OR (1=1\" = 'x'' OR ''1''=''1'"), [1]);
    let (kept, _) = Files::new(&[("a.jsonl", text.as_bytes())]).ask(&of_where("\"a') OR (1=1\" = 'x'")).unwrap();
    assert!(kept.is_empty());
    let made = rows("a.jsonl", &text, "SELECT \"*\" || '' AS prompt, self.self AS completion FROM self");
    assert_eq!(made, [(1, json!({"prompt": "2", "completion": "me"}))]);
}

#[test]
fn a_value_that_cannot_be_computed_is_an_error_of_its_row() {
    let text = "{\"a\":\"1\"}\n{\"a\":\"x\"}\n{\"a\":\"3\"}\nnonsense\n";
    let (kept, _) = Files::new(&[("a.jsonl", text.as_bytes())]).ask(&of_where("CAST(a AS BIGINT) > 1")).unwrap();
    assert_eq!(kept.len(), 3, "{kept:?}");
    let said = kept[0].as_ref().unwrap_err();
    assert!(said.contains("a.jsonl:2") && said.contains("\"x\"") && said.contains("CAST(a AS BIGINT)"), "{said}");
    assert_eq!(kept[1], Ok((3, json!({"a": "3"}))));
    assert!(kept[2].as_ref().unwrap_err().contains("a.jsonl:4"));
    // Only rows that are kept are computed.
    let made =
        rows("a.jsonl", "{\"a\":\"1\"}\n{\"a\":\"x\"}\n", "SELECT CAST(a AS BIGINT) AS n FROM self WHERE a <> 'x'");
    assert_eq!(made, [(1, json!({"n": 1}))]);
    let large = "{\"n\":9223372036854775807}\n{\"n\":1}\n";
    let (kept, _) = Files::new(&[("a.jsonl", large.as_bytes())]).ask(&of_where("n + 1 > 0")).unwrap();
    assert!(kept[0].is_err() && kept[1].is_ok(), "nothing wraps: {kept:?}");
    assert_eq!(lines("a.jsonl", "{\"n\":1}\n{\"n\":0}\n", "1 / n > 0 OR 5 % n = 0"), [1], "divided by 0 is NULL");
}

/// Each function over many rows gives what it gives for each row alone.
#[test]
fn no_function_looks_at_other_rows() {
    let text = "{\"t\":\"ab c\",\"n\":-3,\"f\":1.5,\"l\":[\"ab c\"],\"b\":true}\n{\"t\":\"\",\"n\":5,\"f\":-2.5,\"l\":[],\"b\":false}\n{}\n{\"t\":\"b\",\"n\":0}\n";
    let calls: Vec<String> = super::term::FUNCTIONS
        .iter()
        .map(|function| {
            use super::term::{Argument, Literal};
            let arguments: Vec<&str> = function
                .arguments
                .iter()
                .map(|argument| match argument {
                    Argument::Text | Argument::Item => "t",
                    Argument::Number => "f",
                    Argument::Boolean => "b",
                    Argument::List => "l",
                    Argument::Alike | Argument::Anything => "n",
                    Argument::Written(Literal::Text | Literal::Pattern) => "'b'",
                    Argument::Written(Literal::Count) => "1",
                })
                .collect();
            format!("{}({})", function.name, arguments.join(", "))
        })
        .collect();
    for call in calls {
        let sql = format!("SELECT {call} AS value FROM self");
        let together: Vec<Value> = rows("a.jsonl", text, &sql).into_iter().map(|(_, row)| row).collect();
        let head: Map<String, Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        for (line, expected) in text.lines().zip(&together) {
            // The first row stands before it, so that kinds are known.
            let first = Value::Object(head.clone());
            let alone = rows("a.jsonl", &format!("{line}\n{first}\n"), &sql);
            assert_eq!(alone[0].1, *expected, "{call} of {line}");
        }
    }
}
