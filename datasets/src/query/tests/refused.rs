//! What a query may not ask, and what the errors say.

use super::{error, of_sql, of_where};
use crate::config::SourceConfig;
use crate::query::Query;

const ROWS: &str =
    "{\"lang\":\"en\",\"score\":5,\"messages\":[{\"role\":\"user\"}],\"meta\":{\"a\":1},\"flag\":true}\n";

/// The error of a query that is wrong whatever the rows are.
fn refused(source: &SourceConfig) -> String {
    Query::of(source).err().unwrap_or_else(|| panic!("{source:?} is not refused")).to_string()
}

#[test]
fn what_looks_at_several_rows_is_refused_by_name() {
    for (sql, says) in [
        ("SELECT lang FROM self GROUP BY lang", "GROUP BY is not possible"),
        ("SELECT DISTINCT lang FROM self", "DISTINCT is not possible"),
        ("SELECT lang FROM self ORDER BY score", "ORDER BY is not possible"),
        ("SELECT COUNT(*) AS n FROM self", "COUNT looks at several rows"),
        ("SELECT MAX(score) AS n FROM self", "GREATEST"),
        ("SELECT SUM(score) OVER () AS n FROM self", "OVER looks at several rows"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY score) AS n FROM self", "looks at several rows"),
        ("SELECT LAG(score) AS n FROM self", "LAG looks at several rows"),
        ("SELECT a.lang FROM self AS a JOIN self AS b ON a.lang = b.lang", "a join is not possible"),
        ("SELECT lang FROM self, self AS b", "a join is not possible"),
        ("SELECT lang FROM self HAVING score > 1", "HAVING is not possible"),
        ("SELECT lang FROM self QUALIFY RANK() OVER () = 1", "QUALIFY is not possible"),
        ("WITH x AS (SELECT 1) SELECT lang FROM self", "WITH is not possible"),
        ("SELECT lang FROM self UNION SELECT lang FROM self", "UNION"),
        ("SELECT lang FROM self WHERE score > (SELECT 1)", "a query inside of the query"),
        ("SELECT lang FROM self WHERE score IN (SELECT score FROM self)", "a query inside of the query"),
        ("SELECT lang FROM self WHERE EXISTS (SELECT 1)", "a query inside of the query"),
        ("SELECT score > ANY(scores) AS x FROM self", "is not possible here"),
        ("SELECT lang FROM self TABLESAMPLE (10)", "FROM self"),
        ("SELECT lang FROM self FOR UPDATE", "a part of it is not possible"),
        ("SELECT RANDOM() AS x FROM self", "there is no function RANDOM"),
        ("SELECT UNNEST(tags) AS x FROM self", "there is no function UNNEST"),
    ] {
        let said = refused(&of_sql(sql));
        assert!(said.contains(says) && said.starts_with("rows: sql = "), "{sql}: {said}");
    }
}

#[test]
fn no_file_and_no_other_table_can_be_named() {
    for table in [
        "read_csv('/etc/passwd')",
        "read_parquet('x')",
        "read_ipc('x')",
        "read_json('x')",
        "scan_csv('x')",
        "'rows.csv'",
        "\"/etc/passwd\"",
        "\"self\"",
        "other",
        "a.self",
        "self('x')",
        "TABLE(f())",
        "UNNEST(x)",
        "(SELECT * FROM self)",
        "(VALUES (1))",
    ] {
        let said = refused(&of_sql(&format!("SELECT a FROM {table}")));
        assert!(said.contains("FROM self") || said.contains("is no SQL"), "{table}: {said}");
    }
    for statement in [
        "DROP TABLE self",
        "CREATE TABLE x AS SELECT 1",
        "COPY self TO 'x'",
        "SELECT 1 AS a FROM self; SELECT 2",
        "",
        "FROM self",
    ] {
        refused(&of_sql(statement));
    }
    for condition in
        ["read_csv('x') = 1", "pg_read_file('/etc/passwd') = 'x'", "lang IN (TABLE self)", "columns('*') = 1"]
    {
        refused(&of_where(condition));
    }
}

#[test]
fn what_is_wrong_is_named_with_what_to_write() {
    for (condition, says) in [
        ("lang =", "it is no SQL"),
        ("lang = 'en", "Unterminated"),
        ("lang = 'en' score > 4", "join conditions with AND or OR"),
        ("lang = 'en' LIMIT 5", "go into `sql`"),
        ("lang = NULL", "IS NULL"),
        ("lang IN ('en', NULL)", "IS NULL"),
        ("lang LIKE score", "single quotes"),
        ("lang LIKE '50\\%'", "REGEXP_LIKE"),
        ("lang ~ '('", "no regular expression"),
        ("lang ~ '((a{1000}){1000}){1000}'", "no regular expression"),
        ("lenght(lang) > 4", "(`LENGTH` is there)"),
        ("LEFT(lang, score) = 'e'", "a whole number that stands there itself"),
        ("REPLACE(lang, lang, lang) = 'e'", "a text in single quotes"),
        ("SUBSTR(lang, -1) = 'e'", "from 0 on"),
        ("LENGTH(lang, 2) = 2", "takes 1 argument(s), found 2"),
        ("CAST(score AS DECIMAL(10, 2)) > 1", "BOOLEAN, BIGINT, DOUBLE, VARCHAR or DATE"),
        ("score > 99999999999999999999999", "larger than any whole number"),
        ("score & 4 = 4", "the operator & is not possible"),
        ("score > $1", "is not possible here"),
        ("DATE '2024-13-01' = '2024-01-01'", "is no day"),
        ("SUM(score) > 4", "SUM looks at several rows"),
    ] {
        let said = refused(&of_where(condition));
        assert!(said.contains(says) && said.contains("rows: where = "), "{condition}: {said}");
    }
    for (sql, says) in [
        ("SELECT score + 1 FROM self", "needs a name"),
        ("SELECT lang, score AS lang FROM self", "two columns would have the name `lang`"),
        ("SELECT * EXCLUDE (lang) FROM self", "name the columns"),
        ("SELECT lang FROM self LIMIT score", "whole numbers"),
        ("SELECT lang", "there is no FROM"),
    ] {
        let said = refused(&of_sql(sql));
        assert!(said.contains(says), "{sql}: {said}");
    }
    let both = SourceConfig { sql: Some("SELECT * FROM self".into()), ..of_where("score > 4") };
    assert!(refused(&both).contains("both say which rows are kept"));
}

#[test]
fn a_column_that_is_not_there_or_of_another_kind_is_named() {
    for (condition, says) in [
        (
            "scroe > 4",
            "no row has a column `scroe` (`score` is there); the columns are flag, lang, messages, meta, score",
        ),
        ("lang = \"en\"", "no row has a column `en`"),
        ("lang = \"en\"", "single quotes"),
        ("meta.b = 1", "no row has a column `meta.b`"),
        ("lang > 4", "CAST(lang AS DOUBLE)"),
        ("lang > 4", "`lang` (text, \"en\" in"),
        ("score = 'five'", "are not of one kind"),
        ("score", "`score` (a number, 5 in"),
        ("score AND flag", "is no condition"),
        ("flag = 1", "not of one kind"),
        ("flag > FALSE", "have no order"),
        ("messages = 'x'", "is a list"),
        ("meta = 'x'", "is an object"),
        ("LENGTH(score) > 1", "CAST(`score` AS VARCHAR)"),
        ("lang + 1 > 2", "is no number"),
        ("ARRAY_LENGTH(lang) > 2", "is about lists"),
        ("ARRAY_CONTAINS(messages, 'x')", "no plain values"),
        ("COALESCE(score, 'none') = 'none'", "are not of one kind"),
        ("EXTRACT(YEAR FROM lang) = 2024", "CAST(`lang` AS DATE)"),
    ] {
        let said = error("a.jsonl", ROWS, &of_where(condition));
        assert!(said.contains(says) && said.contains("where = "), "{condition}: {said}");
    }
    let renamed = SourceConfig { columns: [("prompt", "lang")].into(), ..of_where("prompt = 'x'") };
    assert!(error("a.jsonl", ROWS, &renamed).contains("the file's own columns, here `lang`"));
}

#[test]
fn nesting_and_length_are_bounded() {
    let deep = |open: &str, close: &str, many: usize| format!("{}score > 1{}", open.repeat(many), close.repeat(many));
    for condition in [
        deep("(", ")", 10_000),
        deep("NOT (", ")", 400),
        deep("NOT ", "", 900),
        format!("{} > 1", vec!["score"; 400].join(" + ")),
        format!("{} > 1", vec!["score"; 100].join(" + ")),
        format!("{}score{} > 1", "ABS(".repeat(13), ")".repeat(13)),
        format!("{}1{} > 1", "CASE WHEN TRUE THEN ".repeat(70), " END".repeat(70)),
        format!("score > {}1", "-".repeat(900)),
        vec!["score = 1"; 5000].join(" OR "),
        format!("lang = '{}'", "x".repeat(70_000)),
    ] {
        let said = error("a.jsonl", ROWS, &of_where(&condition));
        assert!(said.len() < 1000, "{said}");
        assert!(["nested", "longer than", "more than", "no SQL"].iter().any(|word| said.contains(word)), "{said}");
    }
    // Long and flat is no depth.
    let long = format!("{} OR score = 5", vec!["score = 1"; 200].join(" OR "));
    assert_eq!(super::lines("a.jsonl", ROWS, &long), [1]);
    let numbers = (0..5000).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    assert_eq!(super::lines("a.jsonl", ROWS, &format!("score IN ({numbers})")), [1]);
    assert_eq!(super::lines("a.jsonl", ROWS, &format!("score + 6000 NOT IN ({numbers})")), [1]);
    let texts = numbers.replace(", ", "', '");
    assert_eq!(super::lines("a.jsonl", ROWS, &format!("CAST(score AS VARCHAR) IN ('{texts}')")), [1]);
    let nested = format!("{}score{} = 5", "ABS(".repeat(10), ")".repeat(10));
    assert_eq!(super::lines("a.jsonl", ROWS, &nested), [1]);
}
