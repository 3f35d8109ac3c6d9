//! Broken rows end a preparation or are left out of it.

use super::*;

#[test]
fn broken_rows_are_named_together() {
    let (dir, config) = setup(&talks(3));
    let path = dir.path().join("rows.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += "\nnot json\n{\"messages\": [{\"role\": \"boss\", \"content\": \"x\"}]}\n{\"messages\": []}\n";
    std::fs::write(&path, text).unwrap();
    let error = run(&dir, &config).unwrap_err().to_string();
    assert!(error.starts_with("3 broken row(s)"), "{error}");
    for line in ["rows.jsonl:4", "rows.jsonl:5", "rows.jsonl:6"] {
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn a_preparation_that_is_no_longer_wanted_ends_and_leaves_nothing() {
    let (dir, config) = setup(&talks(6000));
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let cache = dir.path().join("cache");
    let stop = |progress: Progress| if progress.rows > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let wanted = request(&dir, &config, &tokenizer, &template);
    let ended = prepare(&Prepare { cache: Some(&cache), progress: &stop, ..wanted });
    assert!(matches!(ended, Err(DataError::Interrupted)), "{ended:?}");
    let left = crate::cache::Cache::new(&cache).entries().unwrap();
    assert!(left.is_empty(), "{left:?}");
    let whole = prepare(&Prepare { cache: Some(&cache), ..wanted }).unwrap();
    assert_eq!((whole.len(), &whole.kept), (6000, &crate::dataset::Kept::Stored));
}

#[test]
fn what_is_wrong_with_every_row_is_said_once() {
    let (dir, mut config) = setup(&talks(150));
    config.train[0].columns = [("messages", "talk")].into();
    let error = run(&dir, &config).unwrap_err().to_string();
    assert_eq!(error.matches("the column `talk`").count(), 1, "{error}");
    assert!(error.starts_with("150 broken row(s)") && error.contains("rows.jsonl:1:"), "{error}");
}

#[test]
fn a_column_that_rows_may_lack_is_looked_for_in_all_files_of_a_source() {
    let (dir, mut config) = setup(&talks(3));
    std::fs::write(dir.path().join("more.jsonl"), talks(1)[0].to_string().replacen('{', "{\"factor\": 2, ", 1))
        .unwrap();
    config.train[0] = SourceConfig { path: "*.jsonl".into(), ..config.train[0].clone() };
    config.train[0].columns = [("messages", "messages"), ("weight", "factor")].into();
    assert_eq!(run(&dir, &config).unwrap().len(), 4);
    config.train[0].columns = [("messages", "messages"), ("weight", "w")].into();
    let error = run(&dir, &config).unwrap_err().to_string();
    assert!(error.contains("*.jsonl: no row has the column `w`"), "{error}");
    // Rows that were not read may have the column.
    let tokenizer = testing::tokenizer();
    let template = testing::template(Builtin::ChatMl.source());
    let limited = Prepare { limit: Some(2), ..request(&dir, &config, &tokenizer, &template) };
    assert_eq!(prepare(&limited).unwrap().len(), 2);
    // A row that lacks one renamed column still has the other.
    config.train[0].columns = [("messages", "talk"), ("weight", "factor")].into();
    let error = run(&dir, &config).unwrap_err().to_string();
    assert!(error.contains("the column `talk`"), "{error}");
}

#[test]
fn an_empty_source_is_an_error_even_after_a_full_one() {
    let (dir, mut config) = setup(&talks(2));
    std::fs::write(dir.path().join("empty.jsonl"), "\n\n").unwrap();
    config.train.push(SourceConfig::new("empty.jsonl"));
    let error = run(&dir, &config).unwrap_err().to_string();
    assert!(error.contains("empty.jsonl"), "{error}");
}

#[test]
fn broken_rows_are_left_out_where_the_recipe_says_so() {
    let (dir, config) = setup(&talks(3));
    let path = dir.path().join("rows.jsonl");
    let mut text = String::from("not json\n{\"question\": \"?\"}\n") + &std::fs::read_to_string(&path).unwrap();
    for _ in 0..150 {
        text += "\n{\"messages\": []}";
    }
    std::fs::write(&path, text).unwrap();
    let dataset = run(&dir, &DataConfig { broken: BrokenRows::Skip, ..config.clone() }).unwrap();
    let lines: Vec<_> = (0..dataset.len()).map(|row| dataset.location(row).line).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!((dataset.broken().count, dataset.broken().first[0].0.line), (152, 1));
    assert!(run(&dir, &config).unwrap_err().to_string().contains("`question`"));
}

#[test]
fn rows_that_cannot_be_written_are_an_error_and_leave_nothing() {
    let (dir, config) = setup(&talks(3));
    let path = dir.path().join("rows.jsonl");
    let text = std::fs::read_to_string(&path).unwrap() + "\nnot json\n";
    std::fs::write(&path, text).unwrap();
    let (tokenizer, template) = (testing::tokenizer(), testing::template(Builtin::ChatMl.source()));
    let cache = dir.path().join("cache");
    let request = request(&dir, &config, &tokenizer, &template);
    assert!(prepare(&Prepare { cache: Some(&cache), ..request }).is_err());
    assert_eq!(std::fs::read_dir(cache.join("rows")).unwrap().count(), 0);
}

#[test]
fn rows_with_an_empty_cell_are_named_or_left_out_and_counted() {
    let (dir, mut config) = setup(&[]);
    let rows = "id,Customer Question,Agent Reply,label\n1,Where?,Here.,x\n2,When?,,x\n3,,Now.,x\n4,Who?,We.,x\n";
    std::fs::write(dir.path().join("rows.csv"), rows).unwrap();
    config.train[0].path = "rows.csv".into();
    let none = run(&dir, &config).unwrap_err().to_string();
    assert!(none.contains("columns = { instruction = \"Customer Question\", output = \"Agent Reply\" }"), "{none}");
    config.train[0].columns = [("prompt", "Customer Question"), ("completion", "Agent Reply")].into();
    let error = run(&dir, &config).unwrap_err().to_string();
    assert!(error.contains("rows.csv:3: expected `completion`"), "{error}");
    assert!(error.contains("found nothing: the cell `Agent Reply` is empty"), "{error}");
    assert!(
        error.contains("rows.csv:4: expected `prompt`") && error.contains("`Customer Question` is empty"),
        "{error}"
    );
    config.empty = crate::config::EmptyRows::Skip;
    let dataset = run(&dir, &config).unwrap();
    let lines: Vec<_> = dataset.examples().map(|example| example.unwrap().source.line).collect();
    assert_eq!((lines, dataset.left_empty().0), (vec![2, 5], 2));
    assert_eq!(dataset.notes, ["rows.csv: not used: `id`, `label` (in all rows)"]);
    let report = crate::gate::Report::new(Some(&dataset), None, Some(&testing::tokenizer()), &config.gate).unwrap();
    let said = report.pass().unwrap().to_string();
    assert!(said.contains("empty-message: 2 of 4 rows: something in them is empty, and they are left out"), "{said}");
    // A message without text, too.
    let mut talks = talks(3);
    talks[1]["messages"][1]["content"] = json!(" ");
    let (dir, config) = setup(&talks);
    assert_eq!(run(&dir, &config).unwrap().len(), 3);
    let config = DataConfig { empty: crate::config::EmptyRows::Skip, ..config };
    assert_eq!(run(&dir, &config).unwrap().len(), 2);
}

#[test]
fn a_value_of_another_type_is_named_with_its_column() {
    for (row, said) in [
        (
            json!({"prompt": "How many?", "completion": 7}),
            "`completion` to be a string or a list of messages, found a number: 7; write it as text, \"7\"",
        ),
        (
            json!({"prompt": 5, "completion": " five"}),
            "`prompt` to be a string or a list of messages, found a number: 5",
        ),
        (
            json!({"prompt": "x", "completion": {"answer": 1}}),
            "`completion` to be a string or a list of messages, found an object: {\"answer\":1}",
        ),
        (json!({"prompt": "x", "completion": true}), "found a boolean: true; write it as text, \"true\""),
        (
            json!({"prompt": null, "completion": " only"}),
            "expected `prompt` (a string or a list of messages), found nothing: `prompt` is null",
        ),
        (
            json!({"instruction": "Add", "output": ["4", "four"]}),
            "`output` to be a string, found a list: [\"4\",\"four\"]",
        ),
        (
            json!({"instruction": "Add", "input": "", "output": 4}),
            "`output` to be a string, found a number: 4; write it as text, \"4\"",
        ),
        (json!({"instruction": null, "input": "2", "output": "4"}), "found nothing: `instruction` is null"),
        (
            json!({"messages": {"role": "user", "content": "How many?"}}),
            "`messages` to be a list of messages, found an object",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": 7}]}),
            "messages[1].content to be a string or a list of text parts, found a number: 7; write it as text, \"7\"",
        ),
        (json!({"text": 5}), "`text` to be a string, found a number: 5; write it as text"),
        (
            json!({"chosen": 1, "rejected": "b", "prompt": "p"}),
            "`chosen` to be a string or a list of messages, found a number: 1",
        ),
    ] {
        let (dir, config) = setup(std::slice::from_ref(&row));
        let error = run(&dir, &config).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:1: expected ") && error.contains(said), "{row}: {error}");
    }
}
