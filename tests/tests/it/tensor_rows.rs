//! Rows of tensors on the command line: shown as what they are, and refused where tokens are trained.

use std::fs;

use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says};

/// A safetensors file with `latents [1, 2]` in bf16 and `input_ids [3]` in i32.
fn tensors() -> Vec<u8> {
    let header = json!({
        "input_ids": {"dtype": "I32", "shape": [3], "data_offsets": [0, 12]},
        "latents": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [12, 16]},
    });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 16]].concat()
}

/// A workshop whose rows are two files of tensors.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("files")).unwrap();
    for name in ["a", "b"] {
        fs::write(workshop.path(&format!("files/{name}.safetensors")), tensors()).unwrap();
    }
    let row = |name: &str| json!({ "tensors": format!("files/{name}.safetensors") });
    workshop.write_rows("data.jsonl", &[row("a"), row("b")]);
    workshop
}

#[test]
fn rows_of_tensors_are_shown_with_names_types_and_shapes() {
    let workshop = workshop();
    let shown = workshop.succeed(&["data", "recipe.toml"]).stdout;
    for said in ["data.jsonl: tensors", "data.jsonl:1", "a.safetensors", "input_ids  i64 [3]", "latents    f32 [1, 2]"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let lines = workshop.succeed(&["data", "recipe.toml", "--json"]).stdout;
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    let expected = json!({
        "input_ids": {"dtype": "i64", "shape": [3]},
        "latents": {"dtype": "f32", "shape": [1, 2]},
    });
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((&row["tensors"], &row["source"]["line"]), (&expected, &json!(index + 1)));
        assert_eq!(row.as_object().unwrap().len(), 2, "{row}");
    }
    workshop.succeed(&["data", "recipe.toml", "--stats", "rows.csv"]);
}

#[test]
fn what_trains_on_tokens_refuses_rows_of_tensors_by_their_source() {
    let workshop = workshop();
    for command in ["train", "check"] {
        let said = workshop.fail(&[command, "recipe.toml"]);
        assert_says!(&said, "objective sft trains on dialogues and text", "data.jsonl holds rows of tensors");
    }
    let said = workshop.fail(&["score", "--model", "model", "--data", "data.jsonl", "--out", "scores.jsonl"]);
    assert_says!(&said, "data.jsonl:1", "rows of tokens", "rows of tensors");
    let said = workshop.fail(&["eval", "--model", "model", "--data", "data.jsonl"]);
    assert_says!(&said, "data.jsonl:1", "rows of tokens", "rows of tensors");
}

#[test]
fn files_outside_of_the_rows_folder_are_refused_unless_the_recipe_permits_them() {
    let workshop = workshop();
    workshop.write_rows("files/data.jsonl", &[json!({"tensors": "../outside.safetensors"})]);
    fs::write(workshop.path("outside.safetensors"), tensors()).unwrap();
    let of = ["data", "recipe.toml", "--set", "data.train=[{path=\"files/data.jsonl\"}]"];
    let said = workshop.fail(&of);
    assert_says!(&said, "data.jsonl:1", "`../outside.safetensors`", "allow_outside");
    let permitted = [&of[..], &["--set", "data.allow_outside=true"]].concat();
    assert!(workshop.succeed(&permitted).stdout.contains("latents"));
}
