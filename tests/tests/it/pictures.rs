//! Rows with pictures on the command line: image folders as people have them, what the model is given, wrong first steps.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebrand_tests::golden;
use image::{ImageFormat, Rgb, RgbImage};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says};

const RECIPE: &str = r#"model = "towers"
init = "random"
output = "run"
seed = 7

[[data.train]]
path = "pictures"

[train]
steps = 3
batch_size = 4
micro_batch_size = 2

[optimizer]
learning_rate = 1e-3
[log]
tensorboard = false
"#;

const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 30, 30]), ("green", [20, 160, 60]), ("blue", [30, 60, 210]), ("white", [250, 250, 250])];

/// A picture of one colour with a black corner, so that turning it would be seen.
fn picture(colour: [u8; 3], width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| if x + y < 9 { Rgb([0; 3]) } else { Rgb(colour) })
}

fn save(picture: &RgbImage, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// The shipped towers with a recipe that trains them from random weights.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/clip-tiny");
    fs::create_dir(workshop.path("towers")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), workshop.path("towers").join(entry.file_name())).unwrap();
    }
    workshop.write("recipe.toml", RECIPE);
    workshop
}

/// The files that `data --tensors` writes, a row each.
fn given(workshop: &Workshop, more: &[&str]) -> Vec<Vec<u8>> {
    let _ = fs::remove_dir_all(workshop.path("out"));
    workshop.succeed(&[&["data", "recipe.toml", "--tensors", "out"][..], more].concat());
    let rows = workshop.read_rows("out/rows.jsonl");
    rows.iter().map(|row| workshop.read(&format!("out/{}", row["tensors"].as_str().unwrap()))).collect()
}

/// The shape of an array and its bytes.
fn array(file: &[u8], name: &str) -> (Vec<usize>, Vec<u8>) {
    let file = SafeTensors::deserialize(file).unwrap();
    let view = file.tensor(name).unwrap();
    (view.shape().to_vec(), view.data().to_vec())
}

fn ids(file: &[u8]) -> Vec<i64> {
    array(file, "input_ids").1.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

#[test]
fn every_layout_of_the_same_pictures_gives_the_model_the_same() {
    let workshop = workshop();
    let caption = |colour: &str| format!("a {colour} square");
    for (colour, rgb) in COLOURS {
        let path = workshop.path("pictures").join(format!("{colour}.png"));
        save(&picture(rgb, 40, 32), &path);
        fs::write(path.with_extension("txt"), caption(colour) + "\n").unwrap();
    }
    fs::write(workshop.path("pictures/notes.txt"), "no caption").unwrap();
    let beside = given(&workshop, &[]);
    assert_eq!(beside.len(), 4);
    // Sorted by name: blue, green, red, white.
    assert_eq!(array(&beside[0], "pixel_values").0, [3, 32, 32]);
    let words = ids(&beside[0]);
    assert_eq!((words.len(), words[0], *words.last().unwrap()), (5, 2, 27));

    // The same with a table of rows, in a subfolder, and as bytes in the rows.
    let colours: Vec<&str> = ["blue", "green", "red", "white"].into();
    fs::rename(workshop.path("pictures"), workshop.path("files")).unwrap();
    fs::create_dir(workshop.path("pictures")).unwrap();
    fs::rename(workshop.path("files"), workshop.path("pictures/files")).unwrap();
    let row = |colour: &&str| json!({ "file_name": format!("files/{colour}.png"), "text": caption(colour) });
    workshop.write_rows("pictures/metadata.jsonl", &colours.iter().map(row).collect::<Vec<_>>());
    let listed = given(&workshop, &[]);
    let cells = colours.iter().map(|colour| format!("files/{colour}.png,a {colour} square\n")).collect::<String>();
    fs::remove_file(workshop.path("pictures/metadata.jsonl")).unwrap();
    workshop.write("pictures/metadata.csv", &format!("file_name,text\n{cells}"));
    let cells = given(&workshop, &[]);
    let row = |colour: &&str| {
        let bytes = fs::read(workshop.path("pictures/files").join(format!("{colour}.png"))).unwrap();
        json!({ "photo": { "bytes": STANDARD.encode(bytes), "path": "x.png" }, "caption": caption(colour) })
    };
    workshop.write_rows("rows.jsonl", &colours.iter().map(row).collect::<Vec<_>>());
    let columns = "data.train=[{ path = \"rows.jsonl\", columns = { image = \"photo\", text = \"caption\" } }]";
    let held = given(&workshop, &["--set", columns]);
    for (other, layout) in [(listed, "metadata.jsonl"), (cells, "metadata.csv"), (held, "bytes in rows")] {
        assert!(other == beside, "{layout}: the model is given something else");
    }
}

#[test]
fn towers_learn_from_a_folder_of_pictures_and_go_on_with_the_same_bytes() {
    let workshop = workshop();
    for (colour, rgb) in COLOURS {
        for (shape, size) in [("square", (40, 40)), ("bar", (70, 33))] {
            let path = workshop.path("pictures").join(format!("{colour}-{shape}.webp"));
            save(&picture(rgb, size.0, size.1), &path);
            fs::write(path.with_extension("txt"), format!("a {colour} {shape}")).unwrap();
        }
    }
    let eval = ["--set", "data.validation_split=0.4", "--set", "eval.every=2", "--set", "checkpoint.every=2"];
    let said = workshop.succeed(&[&["train", "recipe.toml", "--ui", "plain"][..], &eval].concat());
    assert!(
        said.stderr.contains("with a caption beside it") || said.stdout.contains("with a caption beside it"),
        "{said:?}"
    );
    let log = workshop.read_rows("run/metrics.jsonl");
    assert!(log.iter().any(|line| line.get("eval_recall/text_to_image@5").is_some()), "{log:?}");
    let whole = fs::read(workshop.path("run/model/model.safetensors")).unwrap();
    assert!(workshop.path("run/model/preprocessor_config.json").is_file());
    let parts = ["train", "recipe.toml", "--output", "parts"];
    workshop.succeed(&[&parts[..], &eval].concat());
    workshop.succeed(&[&parts[..], &eval, &["--resume", "checkpoint-2"]].concat());
    assert!(fs::read(workshop.path("parts/model/model.safetensors")).unwrap() == whole);
    // Embeddings of a picture are those of its tensors.
    let tensors = given(&workshop, &[]);
    assert_eq!(tensors.len(), 8);
    workshop.succeed(&["score", "--model", "run/model", "--data", "pictures", "--out", "pictures.jsonl"]);
    workshop.succeed(&["score", "--model", "run/model", "--data", "out/rows.jsonl", "--out", "tensors.jsonl"]);
    let embeds = |name: &str| -> Vec<Value> {
        workshop.read_rows(name).into_iter().map(|row| json!([row["image_embeds"], row["text_embeds"]])).collect()
    };
    assert_eq!(embeds("pictures.jsonl"), embeds("tensors.jsonl"));
    let report = workshop.succeed(&["eval", "--model", "run/model", "--data", "pictures", "--json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["pairs"], 8);
    assert!(report["recall/image_to_text@10"].as_f64().unwrap() == 1.0, "{report}");
}

#[test]
fn a_sheet_shows_what_training_sees() {
    let workshop = workshop();
    for (colour, rgb) in COLOURS {
        save(&picture(rgb, 40, 32), &workshop.path("pictures").join(format!("{colour}.bmp")));
        workshop.write(&format!("pictures/{colour}.txt"), "a thing");
    }
    workshop.succeed(&["data", "recipe.toml", "--out", "sheet.png"]);
    let sheet = image::open(workshop.path("sheet.png")).unwrap().to_rgb8();
    let wanted = COLOURS.map(|(_, rgb)| rgb);
    for rgb in wanted {
        assert!(sheet.pixels().any(|pixel| pixel.0 == rgb), "{rgb:?}");
    }
    let shown = workshop.succeed(&["data", "recipe.toml", "--rows", "1"]).stdout;
    assert!(shown.contains("blue.bmp, 40 x 32 pixels") && shown.contains("a thing"), "{shown}");
}

#[test]
fn the_gate_counts_what_is_odd_about_pictures() {
    let workshop = workshop();
    let red = picture(COLOURS[0].1, 40, 32);
    save(&red, &workshop.path("pictures/a.png"));
    red.save_with_format(workshop.path("pictures/b.bmp"), ImageFormat::Bmp).unwrap();
    save(&picture([9; 3], 5, 32), &workshop.path("pictures/c.png"));
    save(&picture([99; 3], 33, 32), &workshop.path("pictures/d.png"));
    workshop.write("pictures/a.txt", "a red square");
    workshop.write("pictures/b.txt", "a red thing");
    workshop.write("pictures/c.txt", &"a ".repeat(40));
    let said = workshop.fail(&["check", "recipe.toml"]);
    assert_says!(&said, "empty-message", "d.png:1", "tiny", "c.png:1", "same-picture", "b.bmp:1", "truncated");
    let allowed = workshop.succeed(&["check", "recipe.toml", "--json", "--set", "data.empty=skip"]).stdout;
    for check in ["tiny", "same-picture", "truncated"] {
        assert!(allowed.contains(check), "{check}: {allowed}");
    }
}

#[test]
fn a_picture_that_cannot_be_read_is_named_with_its_row() {
    let workshop = workshop();
    save(&picture([9; 3], 40, 40), &workshop.path("pictures/good.png"));
    let whole = fs::read(workshop.path("pictures/good.png")).unwrap();
    fs::write(workshop.path("pictures/cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    workshop.write("pictures/text.png", "I am a text");
    let row = |name: &str| json!({ "file_name": name, "text": "a red square" });
    workshop.write_rows(
        "pictures/metadata.jsonl",
        &[row("good.png"), row("cut.jpg"), row("text.png"), row("../recipe.toml"), row("/dev/zero"), row("gone.png")],
    );
    let said = workshop.fail(&["train", "recipe.toml"]);
    assert_says!(
        &said,
        "metadata.jsonl:2",
        "cut.jpg",
        "cannot be decoded",
        "metadata.jsonl:3",
        "holds text",
        "metadata.jsonl:4",
        "allow_outside",
        "metadata.jsonl:6"
    );
    assert!(!workshop.path("run").exists());
    // A small file that claims a huge canvas is refused from its header.
    workshop.write_rows("pictures/metadata.jsonl", &[row("good.png"), row("good.png")]);
    let said = workshop.fail(&["train", "recipe.toml", "--set", "data.max_pixels=1599"]);
    assert_says!(&said, "metadata.jsonl:1", "40 x 40", "data.max_pixels");
}

#[test]
fn a_model_without_a_processor_says_what_is_missing() {
    let workshop = workshop();
    save(&picture([9; 3], 40, 40), &workshop.path("pictures/a.png"));
    save(&picture([99; 3], 40, 40), &workshop.path("pictures/b.png"));
    let row = |name: &str| json!({ "file_name": name, "text": "a red square" });
    workshop.write_rows("pictures/metadata.jsonl", &[row("a.png"), row("b.png")]);
    fs::remove_file(workshop.path("towers/preprocessor_config.json")).unwrap();
    let format = "data.train=[{ path = \"pictures\", format = \"captioned\" }]";
    let said = workshop.fail(&["check", "recipe.toml", "--set", format]);
    assert_says!(&said, "preprocessor_config.json");
    // A processor that makes pictures of another size than the model reads.
    let text = r#"{"image_processor_type": "CLIPImageProcessor", "size": 16, "crop_size": 16}"#;
    workshop.write("towers/preprocessor_config.json", text);
    let said = workshop.fail(&["check", "recipe.toml"]);
    assert_says!(&said, "pixel_values", "[3, 32, 32]", "[3, 16, 16]", "preprocessor_config.json");
    workshop
        .write("towers/preprocessor_config.json", r#"{"image_processor_type": "CLIPImageProcessor", "do_pad": true}"#);
    let said = workshop.fail(&["check", "recipe.toml"]);
    assert_says!(&said, "preprocessor_config.json", "`do_pad`");
}

/// A tiny DINOv2 without a head, a folder for each class, and a recipe that trains a new head and all below it.
fn classifier() -> Workshop {
    let workshop = Workshop::new();
    let from = golden::path("images/dinov2-bare");
    fs::create_dir(workshop.path("backbone")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), workshop.path("backbone").join(name)).unwrap();
    }
    let processor = r#"{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 28}"#;
    workshop.write("backbone/preprocessor_config.json", processor);
    for (colour, rgb) in COLOURS {
        for number in 0..4 {
            let shade = rgb.map(|level: u8| level.saturating_sub(number * 5));
            save(
                &picture(shade, 30 + u32::from(number), 40),
                &workshop.path(&format!("pictures/{colour}/{number}.png")),
            );
        }
    }
    let recipe = RECIPE.replace("model = \"towers\"\ninit = \"random\"", "model = \"backbone\"");
    workshop.write("recipe.toml", &recipe.replace("learning_rate = 1e-3", "learning_rate = 3e-3"));
    workshop
}

#[test]
fn the_folders_of_pictures_are_classes_that_a_backbone_learns() {
    let workshop = classifier();
    let long = ["train", "recipe.toml", "--set", "train.steps=40", "--set", "data.validation_split=0.25"];
    workshop.succeed(&long);
    let config: Value = serde_json::from_slice(&workshop.read("run/model/config.json")).unwrap();
    assert_eq!(config["id2label"], json!({ "0": "blue", "1": "green", "2": "red", "3": "white" }));
    assert_eq!(config["architectures"], json!(["Dinov2ForImageClassification"]));
    assert!(workshop.path("run/model/preprocessor_config.json").is_file());
    let report = workshop.succeed(&["eval", "--model", "run/model", "--data", "pictures", "--json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["rows"], 16);
    assert!(report["accuracy"].as_f64().unwrap() >= 0.9, "{report}");
    workshop.succeed(&["score", "--model", "run/model", "--data", "pictures", "--out", "scores.jsonl"]);
    let scores = workshop.read_rows("scores.jsonl");
    assert_eq!((scores.len(), scores[5]["logits"].as_array().unwrap().len()), (16, 4));
    // The labels that the model is given are the numbers of these names.
    let labels: Vec<i64> = given(&workshop, &[])
        .iter()
        .map(|file| i64::from_le_bytes(array(file, "labels").1.try_into().unwrap()))
        .collect();
    assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
}

#[test]
fn a_class_that_the_head_does_not_have_is_named_by_its_picture() {
    let workshop = classifier();
    let labels = ["--set", "objective.kind=classify", "--set", "objective.labels=[\"blue\", \"green\", \"red\"]"];
    let said = workshop.fail(&[&["check", "recipe.toml"][..], &labels].concat());
    assert_says!(&said, "white/0.png:1", "\"white\"", "blue");
    fs::remove_dir_all(workshop.path("pictures/green")).unwrap();
    fs::remove_dir_all(workshop.path("pictures/red")).unwrap();
    fs::remove_dir_all(workshop.path("pictures/white")).unwrap();
    let said = workshop.fail(&["check", "recipe.toml"]);
    assert_says!(&said, "at least two classes");
}

#[test]
fn towers_tell_classes_apart_by_their_names() {
    let workshop = classifier();
    let towers = crate::pictures::workshop();
    fs::rename(towers.path("towers"), workshop.path("towers")).unwrap();
    workshop.write("recipe.toml", &RECIPE.replace("\"pictures\"", "\"captions\""));
    for (colour, rgb) in COLOURS {
        for number in 0..3 {
            let shade = rgb.map(|level: u8| level.saturating_sub(number * 7));
            let path = workshop.path(&format!("captions/{colour}-{number}.png"));
            save(&picture(shade, 32, 32), &path);
            fs::write(path.with_extension("txt"), format!("a {colour} square")).unwrap();
        }
    }
    let long = ["--set", "train.steps=60", "--set", "train.batch_size=12", "--set", "train.micro_batch_size=12"];
    workshop.succeed(&[&["train", "recipe.toml"][..], &long].concat());
    workshop.write("prompts.txt", "a {} square\nthe {} square\n");
    let zero_shot = ["eval", "--model", "run/model", "--data", "pictures", "--zero-shot", "--json"];
    let said = workshop.succeed(&[&zero_shot[..], &["--templates", "prompts.txt"]].concat()).stdout;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["classes"], &report["rows"]), (&json!(4), &json!(16)));
    assert!(report["zero_shot_accuracy"].as_f64().unwrap() > 0.7, "{report}");
    workshop.write("classes.txt", "blue\ngreen\n");
    let said = workshop.fail(&[&zero_shot[..], &["--classes", "classes.txt"]].concat());
    assert_says!(&said, "red/0.png:1", "one of the classes");
    workshop.write("prompts.txt", "a square\n");
    let said = workshop.fail(&[&zero_shot[..], &["--templates", "prompts.txt"]].concat());
    assert_says!(&said, "{}", "a square");
}

/// Copies a folder with its subfolders, without the goldens' own files.
pub fn copy_pipeline(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        let is_golden = ["forward", "parts", "sampling", "schedule", "samplers"]
            .iter()
            .any(|part| path.file_stem().is_some_and(|stem| stem == *part));
        match path.is_dir() {
            _ if is_golden => {}
            true => copy_pipeline(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

#[test]
fn a_pipeline_learns_from_captioned_pictures_as_from_what_it_is_given_of_them() {
    let workshop = Workshop::new();
    for (pipeline, ids) in [("sd1", 1), ("sdxl", 2)] {
        let _ = fs::remove_dir_all(workshop.path("towers"));
        copy_pipeline(&golden::path(&format!("diffusion/{pipeline}")), &workshop.path("towers"));
        for (colour, rgb) in COLOURS {
            let path = workshop.path(&format!("pictures/{colour}.png"));
            save(&picture(rgb, 40, 52), &path);
            fs::write(path.with_extension("txt"), format!("a {colour} thing")).unwrap();
        }
        let recipe = RECIPE.replace("init = \"random\"\n", "[adapter]\nkind = \"lora\"\nrank = 2\nalpha = 2.0\n");
        let recipe = recipe.replace("output = \"run\"\nseed = 7\n", "");
        workshop.write("recipe.toml", &format!("output = \"run\"\nseed = 7\n{recipe}"));
        let given = given(&workshop, &[]);
        assert_eq!(given.len(), 4);
        let (shape, pixels) = array(&given[0], "pixel_values");
        assert!(shape[0] == 3 && shape[1] == shape[2], "{shape:?}");
        let pixels: Vec<f32> = pixels.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert!(pixels.iter().all(|value| (-1.0..=1.0).contains(value)));
        let length = array(&given[0], "input_ids").0[0];
        assert!(given.iter().all(|file| array(file, "input_ids").0 == [length]), "texts are padded");
        let names = SafeTensors::deserialize(&given[0]).unwrap().names().len();
        assert_eq!(names, [3, 5][ids - 1], "pixels, ids, what is drawn; for XL other ids and sizes");
        let (output, tensors) = (format!("{pipeline}-pictures"), format!("{pipeline}-tensors"));
        workshop.succeed(&["train", "recipe.toml", "--output", &output]);
        let rows = "data.train=[{ path = \"out/rows.jsonl\" }]";
        workshop.succeed(&["train", "recipe.toml", "--output", &tensors, "--set", rows]);
        let losses = |run: &str| -> Vec<Value> {
            workshop.read_rows(&format!("{run}/metrics.jsonl")).into_iter().map(|row| row["loss"].clone()).collect()
        };
        assert_eq!(losses(&output), losses(&tensors), "{pipeline}");
        assert!(workshop.path(&format!("{output}/adapter/pytorch_lora_weights.safetensors")).is_file());
        // Another size of squares; one that the autoencoder cannot halve often enough is refused.
        workshop.succeed(&["check", "recipe.toml", "--set", &format!("data.resolution={}", shape[1] * 2)]);
        let said = workshop.fail(&["check", "recipe.toml", "--set", &format!("data.resolution={}", shape[1] + 1)]);
        assert_says!(&said, "pixel_values", "blue.png:1");
        // A share of one is a run without texts; evaluation keeps them.
        let dropped = |run: &str, share: &str| {
            let share = format!("objective={{ kind = \"denoise\", caption_dropout = {share} }}");
            workshop.succeed(&["train", "recipe.toml", "--output", run, "--set", &share]);
            losses(run)
        };
        let none = dropped(&format!("{pipeline}-none"), "1.0");
        assert!(none != losses(&output) && dropped(&format!("{pipeline}-half"), "0.5") != none);
        for (colour, _) in COLOURS {
            fs::write(workshop.path(&format!("pictures/{colour}.txt")), "").unwrap();
        }
        let silent = format!("{pipeline}-silent");
        workshop.succeed(&["train", "recipe.toml", "--output", &silent, "--set", "data.gate.allow_empty=1.0"]);
        assert_eq!(losses(&silent), none);
    }
}
