//! Both kinds of files hold the same rows, and the reader of data files reads them back.

use serde_json::{Value, json};

use super::*;
use crate::source::tests::rows;

fn written(kind: TableKind, columns: Columns, rows: &[RowStatistics]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = StatisticsFile::new(kind, columns, &mut bytes).unwrap();
    rows.iter().for_each(|row| file.push(row).unwrap());
    file.finish().unwrap();
    bytes
}

/// More rows than one row group of Parquet holds; one of them is cut, one has no label.
fn many() -> Vec<RowStatistics> {
    let row = |number: usize| RowStatistics {
        example: number,
        source: Location::new("a, \"b\".jsonl", number + 1),
        format: Format::Messages,
        part: "alone",
        tokens: number % 7,
        labelled_tokens: number % 5,
        truncated_from: (number == 1).then_some(9),
        weight: 0.1 * number as f64,
        score: (!number.is_multiple_of(5))
            .then_some(RowScore { loss: 1.0 / (number as f64 + 3.0), token_accuracy: 0.5 }),
        ..RowStatistics::blank()
    };
    (0..70_000).map(row).collect()
}

#[test]
fn a_table_is_read_back_from_either_kind_of_file() {
    let many = many();
    let parquet = rows("t.parquet", &written(TableKind::Parquet, Columns::Scored, &many));
    let csv = rows("t.csv", &written(TableKind::Csv, Columns::Scored, &many));
    assert_eq!((parquet.len(), csv.len()), (many.len(), many.len()));
    for ((row, parquet), csv) in many.iter().zip(parquet).zip(csv) {
        let (Value::Object(parquet), Value::Object(csv)) = (parquet.unwrap().1, csv.unwrap().1) else { panic!() };
        assert_eq!(parquet["file"], "a, \"b\".jsonl");
        assert_eq!(parquet["example"], json!(row.example));
        assert_eq!(parquet.get("truncated_from"), row.truncated_from.map(|tokens| json!(tokens)).as_ref());
        assert_eq!(parquet.get("loss"), row.score.map(|score| json!(score.loss)).as_ref());
        // The cells of CSV are texts of the same values.
        assert_eq!(parquet.keys().collect::<Vec<_>>(), csv.keys().collect::<Vec<_>>());
        for (name, value) in &parquet {
            let text = csv[name].as_str().unwrap();
            match value {
                Value::String(value) => assert_eq!(text, value),
                value => assert_eq!(text.parse::<f64>().unwrap(), value.as_f64().unwrap(), "{name}"),
            }
        }
    }
}

#[test]
fn without_a_model_there_are_no_columns_for_it() {
    let csv = written(TableKind::Csv, Columns::Plain, &[]);
    let header = "file,line,example,source,format,part,tokens,labelled_tokens,truncated_from,weight\n";
    assert_eq!(String::from_utf8(csv).unwrap(), header);
    assert!(rows("t.parquet", &written(TableKind::Parquet, Columns::Plain, &[])).is_empty());
}

#[test]
fn the_ending_says_the_kind() {
    let kinds = ["a.csv", "b/a.PARQUET", "a.json", "csv", "a.csv.gz"].map(|name| TableKind::of(Path::new(name)));
    assert_eq!(kinds, [Some(TableKind::Csv), Some(TableKind::Parquet), None, None, None]);
}
