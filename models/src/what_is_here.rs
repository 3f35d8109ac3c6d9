//! What lies at a path that was given as a model or as an adapter: [`Found`], for the words of an error.
//!
//! People give the folder around the one that is meant, a file of it, or the files of another program. The names in the
//! folder, and its two small configurations, tell which; weights are not opened and nothing is executed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use firebrand_adapters::peft::{CONFIG_FILE, PICKLE_FILE, TENSOR_FILE};
use serde_json::Value;

use crate::error::ModelError;
use crate::pipeline::{INDEX, is_pipeline};

/// The most names that are read of a folder.
const MOST_NAMES: usize = 10_000;
/// The most names that a message lists.
const SHOWN: usize = 6;
/// The longest configuration that is read.
const LONGEST: u64 = 4 << 20;

/// What was wanted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A model folder.
    Model,
    /// A PEFT adapter folder.
    Adapter,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file, with its ending in lower case.
    File(String),
    /// A model folder; it may lack weights.
    Model,
    /// A PEFT adapter folder; it may lack tensors.
    Adapter {
        /// `base_model_name_or_path`.
        base: Option<String>,
    },
    /// An adapter as mlx-lm writes it.
    MlxAdapter,
    /// Files of llama.cpp.
    Gguf(Vec<String>),
    /// A model in the layout of Mistral's own programs.
    Mistral,
    /// A diffusers pipeline, by its class.
    Pipeline(String),
    /// Weights of ONNX, TensorFlow or Flax, by the name of the program.
    Foreign(&'static str),
    /// The output of a run of this program, with its folders of results.
    Run(Vec<String>),
    /// A folder of folders that are models or adapters.
    Around {
        /// Those with a model.
        models: Vec<String>,
        /// Those with an adapter.
        adapters: Vec<String>,
    },
    /// Anything else, with the names in it.
    Other(Vec<String>),
}

impl Found {
    /// Looks at `path`.
    pub fn at(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(_) => Self::Nothing,
            Ok(kind) if !kind.is_dir() => {
                Self::File(path.extension().unwrap_or_default().to_string_lossy().to_lowercase())
            }
            Ok(_) => Self::in_folder(path),
        }
    }

    fn in_folder(folder: &Path) -> Self {
        let names = names(folder);
        let has = |name: &str| names.iter().any(|known| known == name);
        let ending =
            |end: &str| names.iter().filter(|name| name.to_lowercase().ends_with(end)).cloned().collect::<Vec<_>>();
        if has(CONFIG_FILE) {
            let config = object(&folder.join(CONFIG_FILE));
            let text =
                |key: &str| config.as_ref()?.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty());
            let of_mlx = has("adapters.safetensors") || has("adapters.npz");
            if text("peft_type").is_none() && (of_mlx || text("fine_tune_type").is_some()) {
                return Self::MlxAdapter;
            }
            return Self::Adapter { base: text("base_model_name_or_path") };
        }
        if has("adapters.safetensors") || has("adapters.npz") {
            return Self::MlxAdapter;
        }
        if has(TENSOR_FILE) || has(PICKLE_FILE) {
            return Self::Adapter { base: None };
        }
        if is_pipeline(folder) {
            return Self::Model;
        }
        if has(INDEX) {
            let class = object(&folder.join(INDEX));
            let class = class.as_ref().and_then(|index| index.get("_class_name")?.as_str()).unwrap_or("a pipeline");
            return Self::Pipeline(class.to_owned());
        }
        if has("run.json") {
            let results = ["adapter", "model"].into_iter().map(str::to_owned);
            let of = |name: &String| folder.join(name).is_dir();
            return Self::Run(results.filter(of).chain(checkpoints(&names)).collect());
        }
        let gguf = ending(".gguf");
        let own_weights = names.iter().any(|name| {
            let weights = name.ends_with(".safetensors") || name.ends_with(".bin");
            weights && (name.starts_with("model") || name.starts_with("pytorch_model"))
        });
        if !gguf.is_empty() && !own_weights {
            return Self::Gguf(gguf);
        }
        if has("params.json") && !own_weights {
            return Self::Mistral;
        }
        let foreign = [(".onnx", "ONNX"), (".msgpack", "Flax"), (".h5", "TensorFlow"), (".mlmodel", "Core ML")];
        if let Some((_, program)) = foreign.into_iter().find(|(end, _)| !own_weights && !ending(end).is_empty()) {
            return Self::Foreign(program);
        }
        if has("config.json") {
            return Self::Model;
        }
        let inner = |file: &str| -> Vec<String> {
            let holds = |name: &&String| folder.join(name).join(file).is_file();
            names.iter().filter(holds).take(SHOWN).cloned().collect()
        };
        let (models, adapters) = (inner("config.json"), inner(CONFIG_FILE));
        match models.is_empty() && adapters.is_empty() {
            true => Self::Other(names),
            false => Self::Around { models, adapters },
        }
    }

    /// What it is and what to give instead; `None` where it is what was wanted, so that another error tells more.
    pub fn words(&self, path: &Path, wanted: Wanted) -> Option<(String, String)> {
        let inside = |names: &[String]| {
            let paths: Vec<String> = names.iter().map(|name| path.join(name).display().to_string()).collect();
            paths.join(" or ")
        };
        let (what, whole) = match wanted {
            Wanted::Model => ("model", "a folder with config.json and weights in safetensors or PyTorch's format"),
            Wanted::Adapter => ("adapter", "a PEFT folder with adapter_config.json and adapter_model.safetensors"),
        };
        let give = |names: &[String], otherwise: String| match names.is_empty() {
            true => otherwise,
            false => format!("did you mean {}?", inside(names)),
        };
        let converted = "take the folder with the weights in safetensors that it was made from";
        Some(match self {
            Self::Nothing => {
                let file = match wanted {
                    Wanted::Model => "config.json",
                    Wanted::Adapter => CONFIG_FILE,
                };
                let file = path.join(file);
                (format!("there is no {}", file.display()), format!("give {whole}"))
            }
            Self::File(ending) => {
                let kind = match ending.as_str() {
                    "gguf" => return Some(("it is a GGUF file, of llama.cpp".into(), format!("{converted}; GGUF is not read"))),
                    "safetensors" | "bin" | "pt" | "pth" => "it is a file of weights",
                    "json" => "it is a file of settings",
                    "zip" | "gz" | "tar" | "tgz" => "it is an archive: unpack it first",
                    _ => "it is a file",
                };
                let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let folder = folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string());
                (kind.into(), format!("give {whole}, such as the one it lies in, {folder}"))
            }
            Self::Model => match wanted {
                Wanted::Model => return None,
                Wanted::Adapter => (
                    "it is a model folder, not an adapter".into(),
                    "give it as the model, without an adapter, or name the folder of an adapter for it".into(),
                ),
            },
            Self::Adapter { base } => match wanted {
                Wanted::Adapter => return None,
                Wanted::Model => {
                    let base = base.as_ref().map_or_else(String::new, |base| format!(" for the base model `{base}`"));
                    (
                        format!("it is an adapter{base}, not a model"),
                        "give the base as the model, and this folder as the adapter (--adapter, or adapter.init_from in a recipe)"
                            .into(),
                    )
                }
            },
            Self::MlxAdapter => (
                "it is an adapter of MLX (adapters.safetensors)".into(),
                "fuse it into its model with `mlx_lm.fuse --de-quantize` and give the fused model, or train an adapter here; MLX's \
                 adapters are not read"
                    .into(),
            ),
            Self::Gguf(names) => {
                (format!("it holds GGUF files, of llama.cpp: {}", listed(names)), format!("{converted}; GGUF is not read"))
            }
            Self::Mistral => (
                "it is in the layout of Mistral's own programs (params.json)".into(),
                "take the files of the same repository for transformers: config.json, model*.safetensors and tokenizer.json".into(),
            ),
            Self::Pipeline(class) => (
                format!("it is a pipeline of diffusers ({class}), which is several models"),
                format!("give {whole}; of pipelines, those with a unet/ are trained"),
            ),
            Self::Foreign(program) => (format!("it holds weights of {program} only"), converted.into()),
            Self::Run(results) => {
                let fitting: Vec<String> = results.iter().filter(|name| name.as_str() == what).cloned().collect();
                let none = match (results.first(), wanted) {
                    (None, _) => "it has no results yet".into(),
                    (Some(_), Wanted::Adapter) => format!("its results are {}", listed(results)),
                    (Some(first), Wanted::Model) => format!(
                        "it has no merged model; give the base as the model and {} as the adapter, or merge both with `firebrand merge`",
                        path.join(first).display()
                    ),
                };
                ("it is the output of a run, not one of its results".into(), give(&fitting, none))
            }
            Self::Around { models, adapters } => {
                let (fitting, others) = match wanted {
                    Wanted::Model => (models, adapters),
                    Wanted::Adapter => (adapters, models),
                };
                let none = match wanted {
                    Wanted::Model => format!("the adapter in {} is for a model that has to be named too", inside(others)),
                    Wanted::Adapter => format!("there are models in it: {}", listed(others)),
                };
                (format!("it is a folder around others: {}", listed(&[models.as_slice(), adapters].concat())), give(fitting, none))
            }
            Self::Other(names) => {
                let holds = if names.is_empty() { "it is empty".into() } else { format!("it holds {}", listed(names)) };
                (holds, format!("give {whole}"))
            }
        })
    }

    /// The error for `path`, unless it is what was wanted.
    pub(crate) fn error(path: &Path, wanted: Wanted) -> Option<ModelError> {
        let (found, instead) = Self::at(path).words(path, wanted)?;
        let wanted = match wanted {
            Wanted::Model => "a model folder",
            Wanted::Adapter => "an adapter folder",
        };
        Some(ModelError::OtherThing { path: path.to_path_buf(), wanted, found, instead })
    }
}

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_NAMES);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Folders of checkpoints, the newest first.
fn checkpoints(names: &[String]) -> Vec<String> {
    let number = |name: &String| name.strip_prefix("checkpoint-")?.parse::<u64>().ok();
    let mut found: Vec<(u64, String)> = names.iter().filter_map(|name| Some((number(name)?, name.clone()))).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, name)| name).collect()
}

/// A JSON object in a small file.
fn object(path: &PathBuf) -> Option<Value> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    serde_json::from_str::<Value>(&text).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// Names and contents of files, and what is said of them as a model and as an adapter.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

    /// The words for a folder of these files, as a model and as an adapter; empty: it is one.
    fn words(files: &[(&str, &str)]) -> [String; 2] {
        let folder = folder(files);
        [Wanted::Model, Wanted::Adapter].map(|wanted| {
            let words = Found::at(folder.path()).words(folder.path(), wanted);
            words.map_or_else(String::new, |(found, instead)| {
                format!("{found}; {instead}").replace(&folder.path().display().to_string(), "HERE")
            })
        })
    }

    #[test]
    fn each_thing_is_named_with_what_to_give_instead() {
        const PEFT: &str = r#"{"peft_type": "LORA", "base_model_name_or_path": "a/b"}"#;
        const MLX: &str = r#"{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}"#;
        let adapter = [("adapter_config.json", PEFT), ("adapter_model.safetensors", "")];
        let cases: [Case<'_>; 14] = [
            (&[("config.json", "{}"), ("model.safetensors", "")], "", "it is a model folder"),
            (&adapter, "an adapter for the base model `a/b`, not a model; give the base as the model", ""),
            (&[("sql/adapter_config.json", PEFT), ("README.md", "")], "HERE/sql", "did you mean HERE/sql?"),
            (&[("checkpoint-10/adapter_config.json", PEFT)], "", "did you mean HERE/checkpoint-10?"),
            (&[("checkpoint-10/config.json", "{}")], "did you mean HERE/checkpoint-10?", "there are models in it"),
            (&[("adapter_config.json", MLX), ("adapters.safetensors", "")], "of MLX", "mlx_lm.fuse"),
            (&[("m.Q4_K_M.gguf", "GGUF")], "GGUF files, of llama.cpp: m.Q4_K_M.gguf; take the folder", "GGUF"),
            (&[("config.json", "{}"), ("m.gguf", "")], "GGUF", "GGUF"),
            (
                &[("params.json", "{}"), ("tekken.json", ""), ("consolidated.safetensors", "")],
                "Mistral's own",
                "Mistral's",
            ),
            (&[("model_index.json", r#"{"_class_name": "FluxPipeline"}"#)], "diffusers (FluxPipeline)", "diffusers"),
            (&[("config.json", "{}"), ("model.onnx", "")], "weights of ONNX only", "ONNX"),
            (
                &[("metrics.jsonl", ""), ("run.json", "{}"), ("model/config.json", "{}"), ("adapter/x", "")],
                "did you mean HERE/model?",
                "did you mean HERE/adapter?",
            ),
            (
                &[("metrics.jsonl", ""), ("run.json", "{}"), ("adapter/x", "")],
                "no merged model; give the base as the model and HERE/adapter as the adapter",
                "HERE/adapter?",
            ),
            (
                &[("notes.txt", "")],
                "it holds notes.txt; give a folder with config.json",
                "it holds notes.txt; give a PEFT folder",
            ),
        ];
        for (files, as_model, as_adapter) in cases {
            let [model, adapter] = words(files);
            assert!(model.contains(as_model), "{files:?}: {model}");
            assert!(adapter.contains(as_adapter), "{files:?}: {adapter}");
        }
        assert_eq!(words(&adapter)[1], "");
        assert_eq!(words(&[("config.json", "{}"), ("model.safetensors", ""), ("m.gguf", "")])[0], "");
    }

    #[test]
    fn files_and_absent_paths_are_named() {
        let folder = folder(&[("model.safetensors", ""), ("m.GGUF", ""), ("config.json", "{}")]);
        let words = |name: &str| {
            let path = folder.path().join(name);
            Found::at(&path).words(&path, Wanted::Model).map(|(found, instead)| format!("{found}; {instead}")).unwrap()
        };
        assert!(words("model.safetensors").contains("a file of weights; give a folder"));
        assert!(words("model.safetensors").ends_with(&folder.path().display().to_string()));
        assert!(words("m.GGUF").contains("it is a GGUF file"));
        assert!(words("none").contains("there is no "));
    }
}
