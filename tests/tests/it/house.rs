//! The architecture's promises, read from sources and manifests.

use std::fs;
use std::path::{Path, PathBuf};

use firebrand_models::families::Family;
use firebrand_tests::families::family_table;
use firebrand_tests::imports::Imports;
use firebrand_tests::sources::{Source, sources};
use firebrand_tests::{golden, repository};

const CRATES: [&str; 7] = ["files", "kernels", "adapters", "models", "datasets", "hub", "trainer"];

#[test]
fn the_version_of_burn_that_runs_are_marked_with_is_the_one_that_is_built() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let of_burn = lock.split("name = \"burn\"\nversion = \"").nth(1).unwrap();
    let version = of_burn.split('"').next().unwrap();
    let train = fs::read_to_string(repository().join("trainer/src/commands/train/info.rs")).unwrap();
    assert!(train.contains(&format!("(\"burn\".into(), \"{version}\".into())")), "{version}");
}

fn program() -> Vec<Source> {
    CRATES.iter().flat_map(|name| sources(&format!("{name}/src"))).collect()
}

/// Every place where the code of the program holds one of `words`.
fn places(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut found = vec![];
    for source in sources {
        for (number, line) in source.code() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

fn assert_none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn the_scanner_sees_code_and_not_tests() {
    let text =
        "fn a() {\n    b();\n}\n// b()\n#[cfg(test)]\nmod tests {\n    fn c() {\n        b();\n    }\n}\nfn d() {}\n";
    let source = Source { path: "x/src/y.rs".into(), text: text.into() };
    let lines: Vec<&str> = source.code().into_iter().map(|(_, line)| line.trim()).collect();
    assert_eq!(lines, ["fn a() {", "b();", "}", "fn d() {}"]);
    let source = Source { path: "x/src/y.rs".into(), text: "#[cfg(test)]\nmod tests;\nuse z;\n".into() };
    assert_eq!(source.code(), [(3, "use z;")]);
}

#[test]
fn datasets_does_not_depend_on_burn() {
    let manifest = fs::read_to_string(repository().join("datasets/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for name in manifest.get(section).and_then(|table| table.as_table()).into_iter().flat_map(|table| table.keys())
        {
            assert!(!name.starts_with("burn") && !name.starts_with("firebrand"), "datasets depends on {name}");
        }
    }
}

#[test]
fn crates_depend_in_one_direction() {
    for (position, name) in CRATES.iter().enumerate() {
        let manifest = fs::read_to_string(repository().join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let Some(dependencies) = manifest.get("dependencies").and_then(|table| table.as_table()) else { continue };
        for later in &CRATES[position + 1..] {
            assert!(!dependencies.contains_key(&format!("firebrand-{later}")), "{name} depends on {later}");
        }
        assert!(!dependencies.contains_key("firebrand"), "{name} depends on the program");
    }
    let models = fs::read_to_string(repository().join("models/Cargo.toml")).unwrap();
    assert!(!models.contains("datasets"), "models know no data");
    let hub = fs::read_to_string(repository().join("hub/Cargo.toml")).unwrap();
    assert!(
        ["models", "adapters", "kernels"].iter().all(|name| !hub.contains(name)),
        "the hub knows files, not models"
    );
}

/// Crates whose files must not import each other, over however many others.
const WITHOUT_CIRCLES: [&str; 5] = ["files", "models", "datasets", "hub", "trainer"];

#[test]
fn files_do_not_import_each_other() {
    let mut found = vec![];
    for name in CRATES {
        let imports = Imports::of(name);
        let circles = imports.circles();
        let sizes: Vec<usize> = circles.iter().map(|circle| circle.files.len()).collect();
        println!("{name}: {} files, circles of {sizes:?}", imports.len());
        if WITHOUT_CIRCLES.contains(&name) {
            found.extend(circles.iter().map(ToString::to_string));
        }
    }
    assert_none(found, "files that import each other; a type that both need belongs in a file of its own");
}

#[test]
fn only_the_rewriting_of_templates_knows_the_machinery_of_the_engine() {
    let mut sources = program();
    sources.retain(|source| !source.path.starts_with("datasets/src/template/rewrite/"));
    assert_none(places(&sources, &["minijinja::machinery", "machinery::"]), "minijinja's machinery named elsewhere");
}

#[test]
fn only_families_and_weights_know_hugging_face_tensor_names() {
    let names = ["self_attn", "_proj\"", "embed_tokens", "lm_head", "_layernorm", "model.layers", "query_key_value"];
    let mut sources = program();
    sources.retain(|source| {
        let knows =
            ["models/src/families/", "models/src/weights/"].iter().any(|folder| source.path.starts_with(folder));
        // What users write as targets, in examples and help.
        let explains = source.path.starts_with("trainer/src/recipe/") || source.path.starts_with("adapters/src/peft/");
        !knows && !explains
    });
    assert_none(places(&sources, &names), "names of tensors outside of families/ and weights/");
}

/// What a parameter is for is said by its role.
#[test]
fn only_models_know_paths_of_parameters() {
    let mut sources = program();
    sources.retain(|source| !source.path.starts_with("models/"));
    let paths = ["\"layers.", "\"embed.", ".mlp.", ".attention.", ".norms.", ".adapter.", "\"head.", "\"adapter.\""];
    let mut found = places(&sources, &paths);
    // A field of a struct is no path, and what follows it no text.
    found.retain(|place| place.split_once(": ").is_some_and(|(_, line)| is_in_text(line, &paths)));
    assert_none(found, "a path of a parameter outside of models");
}

/// Whether one of `words` stands between quotes.
fn is_in_text(line: &str, words: &[&str]) -> bool {
    line.split('"').skip(1).step_by(2).any(|text| words.iter().any(|word| text.contains(word.trim_matches('"'))))
}

#[test]
fn kinds_of_networks_are_told_apart_where_that_is_the_subject() {
    let knows = [
        "models/src/network.rs",
        "models/src/views.rs",
        "models/src/families/mod.rs",
        "trainer/src/objective/mod.rs",
        "trainer/src/inference/",
        "trainer/src/inspect/",
    ];
    let mut sources = program();
    sources.retain(|source| !knows.iter().any(|place| source.path.starts_with(place)));
    let networks = ["Network::Decoder", "Network::Towers", "Network::Image", "Network::Diffusion"];
    let kinds = ["Kind::Decoder", "Kind::Classifier", "Kind::Towers", "Kind::Image", "Kind::Diffusion"];
    let configs =
        ["NetworkConfig::Decoder", "NetworkConfig::Towers", "NetworkConfig::Image", "NetworkConfig::Diffusion"];
    assert_none(places(&sources, &[&networks[..], &kinds[..], &configs[..]].concat()), "kinds told apart");
    for folder in
        ["models/src/weights/", "models/src/model/", "trainer/src/training/", "trainer/src/run/", "trainer/src/optim/"]
    {
        let of_folder: Vec<Source> = program().into_iter().filter(|source| source.path.starts_with(folder)).collect();
        assert!(!of_folder.is_empty());
        assert_none(
            places(&of_folder, &["Towers", "towers", "Diffusion", "diffusion", ".predictor()"]),
            "a kind in a room that knows none",
        );
    }
}

#[test]
fn only_kernels_are_generic_over_backends() {
    let mut sources = program();
    sources.retain(|source| !source.path.starts_with("kernels/"));
    assert_none(places(&sources, &["<B: Backend", "B: Backend>", "where B: Backend"]), "generic over a backend");
}

#[test]
fn only_the_trainer_chooses_devices() {
    let mut sources = program();
    sources.retain(|source| ["adapters/", "models/", "datasets/"].iter().any(|name| source.path.starts_with(name)));
    let chosen =
        places(&sources, &["Device::cuda", "Device::vulkan", "Device::metal", "Device::rocm", "Device::default"]);
    assert_none(chosen, "a device chosen outside of the trainer");
}

/// Where there is unsafe code, and what for.
const UNSAFE: [(&str, &str); 3] = [
    ("kernels/src/cpu/", "intrinsics, blocks of outputs, the allocator"),
    ("datasets/src/store/mod.rs", "mapped files"),
    ("models/src/weights/mapping.rs", "mapped files"),
];

#[test]
fn unsafe_code_is_in_listed_places() {
    let mut sources = program();
    for (path, _) in UNSAFE {
        assert!(places(&sources, &["unsafe "]).iter().any(|place| place.starts_with(path)), "{path} has none");
    }
    sources.retain(|source| !UNSAFE.iter().any(|(path, _)| source.path.starts_with(path)));
    assert_none(places(&sources, &["unsafe {", "unsafe fn", "unsafe impl"]), "unsafe code outside of listed places");
}

/// Where optimisers and objectives wait for the device, and what for. Anything else there keeps an accelerator idle at every step.
const WAITS: [(&str, &str); 18] = [
    (
        "trainer/src/optim/clip.rs",
        "loss and global norm, once a step; sizes of tensors on the CPU, which is not waited for",
    ),
    ("trainer/src/optim/adamw_8bit.rs", "8-bit states are on the host"),
    ("trainer/src/optim/state.rs", "checkpoints"),
    ("trainer/src/optim/average.rs", "checkpoints"),
    ("trainer/src/objective/gradients.rs", "naming the gradient that is no number, when a run ends by it"),
    ("trainer/src/objective/pending.rs", "a loss that is not read with a norm, in tests and tools"),
    ("trainer/src/objective/router.rs", "the visits of experts, which decide on the host"),
    ("trainer/src/objective/sft.rs", "evaluation, and the parts of a regularised loss beside the loss"),
    ("trainer/src/objective/distill.rs", "the parts of the loss of a micro-batch"),
    ("trainer/src/objective/projections.rs", "checkpoints"),
    ("trainer/src/objective/on_policy.rs", "the logits of which the student draws its next token"),
    ("trainer/src/objective/score.rs", "the scores of a micro-batch, of which metrics are counted"),
    (
        "trainer/src/objective/preference/answers.rs",
        "log-probabilities without a gradient: the reference's, and evaluation",
    ),
    (
        "trainer/src/objective/preference/mod.rs",
        "the log-probabilities of a micro-batch, of which formulas are computed",
    ),
    ("trainer/src/objective/denoise.rs", "what a merged network tells, which is compared with the adapted one"),
    ("trainer/src/objective/conditions.rs", "what frozen networks make of a row, once, without a gradient"),
    ("trainer/src/objective/contrastive.rs", "the embeddings and the loss of a step, and evaluation"),
    ("trainer/src/objective/retrieval.rs", "evaluation: the cosines of pictures with captions"),
];

#[test]
fn steps_wait_for_the_device_in_listed_places_only() {
    let mut sources = program();
    sources.retain(|source| {
        ["optim/", "objective/"].iter().any(|room| source.path.starts_with(&format!("trainer/src/{room}")))
    });
    let waits = places(&sources, &["into_scalar", "into_data", "to_data"]);
    let is_in = |place: &str, file: &str| place.strip_prefix(file).is_some_and(|rest| rest.starts_with(':'));
    for (file, what_for) in WAITS {
        let waiting = waits.iter().any(|place| is_in(place, file));
        assert!(waiting, "{file} no longer waits for {what_for}: take it from the list");
    }
    let unlisted = waits.into_iter().filter(|place| !WAITS.iter().any(|(file, _)| is_in(place, file)));
    assert_none(unlisted.collect(), "waits for the device that are not listed");
}

/// Burn's own product rounds f32 to TF32 where a device's matrix units want that.
#[test]
fn tensors_are_multiplied_in_one_place() {
    let mut sources = program();
    sources.retain(|source| source.path != "kernels/src/portable.rs");
    assert_none(
        places(&sources, &[".matmul("]),
        "products that are not `firebrand_kernels::multiply` or one of its operations",
    );
}

#[test]
fn the_trainer_writes_under_another_name_by_one_module() {
    let mut sources = program();
    sources.retain(|source| ["trainer/", "hub/"].iter().any(|name| source.path.starts_with(name)));
    // Checkpoints are renamed before they are removed, and put back after a crash; the names in a snapshot are links.
    sources.retain(|source| !["run/checkpoint.rs", "/cache.rs"].iter().any(|name| source.path.ends_with(name)));
    assert_none(places(&sources, &["::rename(", ".persist("]), "a rename that is not firebrand-files'");
}

#[test]
fn models_know_no_experiment() {
    let mut sources = program();
    sources.retain(|source| source.path.starts_with("models/") || source.path.starts_with("kernels/"));
    assert_none(places(&sources, &["Recipe", "clap", "recipe."]), "a recipe in models or kernels");
}

#[test]
fn every_family_has_a_golden_a_recipe_and_a_row_in_the_readme() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for family in Family::ALL {
        assert!(!golden::models_of(*family).is_empty(), "{} has no golden", family.name());
        assert!(has_recipe(*family), "{} has no recipe", family.name());
    }
    let table = family_table();
    assert!(readme.contains(&table), "the README's table of families is out of date; it should be:\n{table}");
}

/// `recipes/families/<family>.toml`; one for each file of `models/src/families/`.
fn has_recipe(family: Family) -> bool {
    let names = fs::read_dir(repository().join("recipes/families")).unwrap();
    let names = names.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string());
    // `gemma3_text` is in `gemma3.rs`.
    names.into_iter().any(|name| name == family.name().trim_end_matches("_text"))
}

#[test]
fn files_are_small() {
    let mut all = program();
    all.extend(sources("tests/src"));
    all.extend(sources("tests/tests"));
    let long = all.iter().map(|source| (&source.path, source.text.lines().count())).filter(|(_, lines)| *lines > 500);
    assert_none(long.map(|(path, lines)| format!("{path}: {lines} lines")).collect(), "longer than 500 lines");
}

#[test]
fn files_say_what_they_are() {
    let silent = program().into_iter().filter(|source| !source.is_test() && !source.text.starts_with("//!"));
    assert_none(silent.map(|source| source.path).collect(), "without a module doc");
}

#[test]
fn the_program_never_unwraps() {
    assert_none(
        places(&program(), &[".unwrap()", ".expect(\"", ".expect(&", ".unwrap_unchecked("]),
        "unwrap or expect",
    );
}

#[test]
fn nothing_is_unfinished_or_hidden() {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "allow(dead_code)", "allow(unused", "dbg!("];
    let mut all = program();
    all.retain(|source| !source.is_test());
    assert_none(places(&all, &words), "unfinished or hidden");
    // In tests and comments too, but for this list of words itself.
    for source in program().iter().chain(&sources("tests/src")).chain(&sources("tests/tests")) {
        let hidden = ["#[ig", "nore]"].concat();
        assert!(!source.text.contains(&hidden), "{} ignores a test", source.path);
    }
}

#[test]
fn the_project_speaks_of_itself_only() {
    let mut texts: Vec<(String, String)> =
        program().into_iter().chain(sources("tests")).map(|source| (source.path, source.text)).collect();
    for folder in ["", "docs", "recipes", "configs", ".ci"] {
        let Ok(entries) = fs::read_dir(repository().join(folder)) else { continue };
        // In a linked work tree `.git` is a file that says where the repository lies.
        let is_ours = |path: &PathBuf| path.is_file() && !path.ends_with(".git");
        for path in entries.map(|entry| entry.unwrap().path()).filter(is_ours) {
            if let Ok(text) = fs::read_to_string(&path) {
                texts.push((path.display().to_string(), text));
            }
        }
    }
    for (path, text) in texts {
        let own = Path::new(&path).file_name().is_some_and(|name| name == "house.rs");
        for word in ["/work/", "/root/"].iter().filter(|_| !own) {
            assert!(!text.contains(word), "{path} names a folder of somebody's machine: {word}");
        }
    }
}
