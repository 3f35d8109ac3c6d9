//! `adapter_config.json`: [`PeftConfig`] parses and renders it.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{
    AdapterConfig, AdapterError, Biases, Ia3Config, Layers, LoraConfig, LoraInit, ModulePattern, Targets, TrainedBase,
    Tying,
};

/// A parsed `adapter_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// The adapter's configuration.
    pub method: AdapterConfig,
    /// `base_model_name_or_path`, if the file names one.
    pub base_model: Option<String>,
    /// Rows of the token table or of the head that the adapter replaces (`trainable_token_indices`).
    pub rows: Vec<TokenRows>,
    /// The start that was taken out of the base's weights, where the tensors are those of the trained factors: the start
    /// has to be made again from the base.
    pub restart: Option<LoraInit>,
    /// The whole file, including unknown keys.
    pub raw: Map<String, Value>,
}

/// Rows that an adapter replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRows {
    /// The end of the path of the module; absent: the input embedding.
    pub module: Option<String>,
    /// Ids of tokens, in the order of the tensor's rows.
    pub ids: Vec<usize>,
}

/// The base model of an adapter, as `adapter_config.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// Its path or id: `base_model_name_or_path`.
    pub name: String,
    /// Whether files hold the matrices of the adapted modules as `[in, out]`. Readers correct a wrong value by the type
    /// of the module, so it is ignored when reading.
    pub fan_in_fan_out: bool,
    /// The task type under which PEFT wraps it.
    pub task: Task,
}

/// The task type under which PEFT wraps a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `CAUSAL_LM`.
    CausalLm,
    /// `SEQ_CLS`: a classifier of whole texts.
    Classification,
    /// No task: the model itself. Readers find its class by these names (`auto_mapping`).
    Plain {
        /// The class in transformers.
        class: String,
        /// The module of that class.
        library: String,
    },
}

impl Task {
    fn task_type(&self) -> Value {
        match self {
            Self::CausalLm => json!("CAUSAL_LM"),
            Self::Classification => json!("SEQ_CLS"),
            Self::Plain { .. } => Value::Null,
        }
    }

    /// Adds `auto_mapping` where it is needed; readers of language models do without.
    fn add_mapping(&self, config: &mut Value) {
        if let Self::Plain { class, library } = self {
            config["auto_mapping"] = json!({ "base_model_class": class, "parent_library": library });
        }
    }

    /// The task in a parsed file.
    fn of(raw: &Map<String, Value>) -> Self {
        let name = |key: &str| Some(raw.get("auto_mapping")?.get(key)?.as_str()?.to_string());
        match (name("base_model_class"), name("parent_library"), raw.get("task_type").and_then(Value::as_str)) {
            (Some(class), Some(library), _) => Self::Plain { class, library },
            (_, _, Some("SEQ_CLS")) => Self::Classification,
            _ => Self::CausalLm,
        }
    }
}

type IsInert = fn(&Value) -> bool;

/// Keys that change the meaning of an adapter, with a check for the values that do not.
const INERT: &[(&str, IsInert)] = &[
    ("use_qalora", is_off),
    // Several maps in one, each adapted or not: PEFT before 0.3.
    ("enable_lora", is_off),
    ("lora_bias", is_off),
    ("layer_replication", is_off),
    ("target_parameters", is_off),
    ("alora_invocation_tokens", is_off),
    ("use_bdlora", is_off),
    ("kasa_config", is_off),
    ("arrow_config", is_off),
    ("velora_config", is_off),
    ("monteclora_config", is_off),
    ("loftq_config", is_off),
];

impl PeftConfig {
    /// Parses `text`, the content of `path`.
    ///
    /// # Errors
    /// The text is not a JSON object, a key has the wrong type, or a key has a meaning that is not implemented.
    pub fn parse(path: &Path, text: &str) -> Result<Self, AdapterError> {
        let raw: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| AdapterError::Json { path: path.to_path_buf(), source })?;
        let reader = Reader { path, raw: &raw };
        let kind = reader.string("peft_type")?.unwrap_or_default();
        for (key, inert) in INERT {
            if let Some(value) = raw.get(*key)
                && !inert(value)
            {
                return Err(reader.unsupported(key, value, "adapters without it"));
            }
        }
        let method = match kind.as_str() {
            "LORA" => reader.low_rank()?,
            "IA3" => AdapterConfig::Ia3(reader.ia3()?),
            _ => return Err(reader.unsupported("peft_type", &json!(kind), "\"LORA\", \"IA3\"")),
        };
        let base_model = reader.string("base_model_name_or_path")?.filter(|name| !name.is_empty());
        let (rows, restart) = (reader.token_rows()?, reader.restart(&method)?);
        Ok(Self { method, base_model, rows, restart, raw })
    }

    /// Whether the adapter goes with a base that is not the published one: parts of it were trained whole, or a start was
    /// taken out of it.
    pub fn changes_base(&self) -> bool {
        !self.method.trained_base().is_empty() || !self.rows.is_empty() || self.restart.is_some()
    }

    /// The base model in the file.
    pub fn base(&self) -> BaseModel {
        BaseModel {
            name: self.base_model.clone().unwrap_or_default(),
            fan_in_fan_out: self.raw.get("fan_in_fan_out") == Some(&true.into()),
            task: Task::of(&self.raw),
        }
    }

    /// The text of an `adapter_config.json` for `method`. `modules` are the paths of the adapted modules; they replace
    /// `all-linear`, which PEFT resolves differently for some families.
    pub fn render(method: &AdapterConfig, modules: &[String], base: &BaseModel) -> String {
        match method {
            AdapterConfig::Lora(lora) => render_low_rank(&lora.in_files(), false, modules, base),
            AdapterConfig::Dora(lora) => render_low_rank(lora, true, modules, base),
            AdapterConfig::Ia3(ia3) => render_ia3(ia3, modules, base),
        }
    }
}

fn render_low_rank(lora: &LoraConfig, dora: bool, modules: &[String], base: &BaseModel) -> String {
    let mut config = json!({
        // The order of patterns matters, because the first match counts.
        "alpha_pattern": table(lora.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha)))),
        "base_model_name_or_path": base.name,
        "bias": biases(lora.base.biases),
        "fan_in_fan_out": base.fan_in_fan_out,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(lora.alpha),
        "lora_dropout": lora.dropout,
        "modules_to_save": modules_to_save(&lora.base),
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": table(lora.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank)))),
        "target_modules": targets(&lora.targets, lora.exclude.as_ref(), modules),
        "task_type": base.task.task_type(),
        "use_dora": dora,
        "use_rslora": lora.rslora,
    });
    base.task.add_mapping(&mut config);
    // Older readers do not know the key.
    if lora.base.tying == Tying::Kept {
        config["ensure_weight_tying"] = json!(true);
    }
    // Where targets are full paths, these already belong to the chosen layers.
    if let (Some(layers), None) = (&lora.layers, &lora.exclude) {
        config["layers_to_transform"] = json!(layers.indices);
        config["layers_pattern"] = if layers.patterns.is_empty() { Value::Null } else { json!(layers.patterns) };
    }
    format!("{config:#}\n")
}

fn render_ia3(ia3: &Ia3Config, modules: &[String], base: &BaseModel) -> String {
    let chosen = targets(&ia3.targets, ia3.exclude.as_ref(), modules);
    // PEFT refuses lists of which one does not contain the other.
    let within =
        |names: &Vec<String>| names.iter().all(|name| chosen.as_array().is_some_and(|all| all.contains(&json!(name))));
    let (chosen, feedforward) = match &ia3.feedforward {
        ModulePattern::Suffixes(names) if chosen.is_array() && !within(names) => {
            (json!(modules), json!(ia3.feeding(modules).unwrap_or_default()))
        }
        pattern => (chosen.clone(), json_pattern(pattern)),
    };
    let mut config = json!({
        "base_model_name_or_path": base.name,
        "fan_in_fan_out": base.fan_in_fan_out,
        "feedforward_modules": feedforward,
        "inference_mode": true,
        "init_ia3_weights": true,
        "modules_to_save": modules_to_save(&ia3.base),
        "peft_type": "IA3",
        "target_modules": chosen,
        "task_type": base.task.task_type(),
    });
    base.task.add_mapping(&mut config);
    format!("{config:#}\n")
}

fn modules_to_save(base: &TrainedBase) -> Value {
    if base.modules.is_empty() { Value::Null } else { json!(base.modules) }
}

fn biases(biases: Biases) -> &'static str {
    match biases {
        Biases::None => "none",
        Biases::All => "all",
        Biases::OfAdapted => "lora_only",
    }
}

/// The value of `target_modules`. Older readers do not know `exclude_modules`, so a selection with exclusions lists
/// full paths.
fn targets(targets: &Targets, exclude: Option<&ModulePattern>, modules: &[String]) -> Value {
    match (targets, exclude) {
        (_, Some(_)) => json!(modules),
        (Targets::AllLinear, None) => json!(shared_suffixes(modules)),
        (Targets::Pattern(targets), None) => json_pattern(targets),
    }
}

fn json_pattern(pattern: &ModulePattern) -> Value {
    match pattern {
        ModulePattern::Suffixes(names) => json!(names),
        ModulePattern::Regex(regex) => json!(regex),
    }
}

fn table(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.collect())
}

/// A number as PEFT writes it: whole numbers as integers. To its readers `8` and `8.0` are equal.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// The distinct last names of `modules`, such as `["q_proj", "v_proj"]` for the modules of all layers.
fn shared_suffixes(modules: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = modules.iter().map(|path| path.rsplit('.').next().unwrap_or(path)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Number(_) | Value::String(_) => false,
    }
}

struct Reader<'a> {
    path: &'a Path,
    raw: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn low_rank(&self) -> Result<AdapterConfig, AdapterError> {
        let raw = self.raw;
        let lora = LoraConfig {
            rank: self.rank("r", raw.get("r"))?,
            alpha: self.number("lora_alpha", raw.get("lora_alpha"))?,
            dropout: raw.get("lora_dropout").map_or(Ok(0.0), |value| self.number("lora_dropout", Some(value)))?,
            rslora: self.flag("use_rslora")?,
            targets: self.targets()?,
            exclude: self.optional_pattern("exclude_modules")?,
            rank_pattern: self.patterns("rank_pattern", |value| self.rank("rank_pattern", Some(value)))?,
            alpha_pattern: self.patterns("alpha_pattern", |value| self.number("alpha_pattern", Some(value)))?,
            layers: self.layers()?,
            // A finished adapter does not depend on its initialisation.
            init: LoraInit::Kaiming,
            base: self.trained_base()?,
        };
        Ok(if self.flag("use_dora")? { AdapterConfig::Dora(lora) } else { AdapterConfig::Lora(lora) })
    }

    /// The start that must be made again. PEFT's other starts leave the base as it is, or need data.
    fn restart(&self, method: &AdapterConfig) -> Result<Option<LoraInit>, AdapterError> {
        let Some(Value::String(name)) = self.raw.get("init_lora_weights") else { return Ok(None) };
        let restart = match name.to_lowercase().as_str() {
            "true" | "false" | "gaussian" | "orthogonal" | "eva" | "mica" => return Ok(None),
            "pissa" => Some(LoraInit::Pissa),
            "olora" => Some(LoraInit::Olora),
            _ => None,
        };
        match (restart, method) {
            (Some(init), AdapterConfig::Lora(_)) => Ok(Some(init)),
            (_, AdapterConfig::Lora(_) | AdapterConfig::Dora(_) | AdapterConfig::Ia3(_)) => {
                Err(AdapterError::ChangedBase { path: self.path.to_path_buf(), init: name.clone() })
            }
        }
    }

    fn token_rows(&self) -> Result<Vec<TokenRows>, AdapterError> {
        const KEY: &str = "trainable_token_indices";
        let wrong = || self.wrong(KEY, "a list of token ids, or such a list for each module", self.raw.get(KEY));
        let ids = |value: &Value| {
            let ids =
                value.as_array()?.iter().map(|id| usize::try_from(id.as_u64()?).ok()).collect::<Option<Vec<_>>>()?;
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            sorted.dedup();
            (sorted.len() == ids.len()).then_some(ids)
        };
        match self.raw.get(KEY) {
            None | Some(Value::Null) => Ok(vec![]),
            Some(list @ Value::Array(_)) => Ok(vec![TokenRows { module: None, ids: ids(list).ok_or_else(wrong)? }]),
            Some(Value::Object(table)) => {
                let rows = table.iter().map(|(module, list)| {
                    Ok(TokenRows { module: Some(module.clone()), ids: ids(list).ok_or_else(wrong)? })
                });
                rows.collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn ia3(&self) -> Result<Ia3Config, AdapterError> {
        Ok(Ia3Config {
            targets: self.targets()?,
            exclude: self.optional_pattern("exclude_modules")?,
            feedforward: self.optional_pattern("feedforward_modules")?.unwrap_or(ModulePattern::Suffixes(vec![])),
            base: self.trained_base()?,
        })
    }

    fn trained_base(&self) -> Result<TrainedBase, AdapterError> {
        let modules = match self.optional_pattern("modules_to_save")? {
            None => vec![],
            Some(ModulePattern::Suffixes(names)) => names,
            Some(ModulePattern::Regex(_)) => {
                return Err(self.wrong("modules_to_save", "a list of names", self.raw.get("modules_to_save")));
            }
        };
        let biases = match self.raw.get("bias") {
            None | Some(Value::Null | Value::Bool(false)) => Biases::None,
            Some(value) if value == "none" => Biases::None,
            Some(value) if value == "all" => Biases::All,
            Some(value) if value == "lora_only" => Biases::OfAdapted,
            found => return Err(self.wrong("bias", "\"none\", \"all\" or \"lora_only\"", found)),
        };
        let tying = if self.flag("ensure_weight_tying")? { Tying::Kept } else { Tying::Broken };
        Ok(TrainedBase { modules, biases, tying })
    }

    fn optional_pattern(&self, key: &str) -> Result<Option<ModulePattern>, AdapterError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Ok(Some(self.pattern(key, value)?)),
        }
    }

    fn layers(&self) -> Result<Option<Layers>, AdapterError> {
        const KEY: &str = "layers_to_transform";
        let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
        let indices = match self.raw.get(KEY) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) if items.is_empty() => return Ok(None),
            Some(Value::Array(items)) => items.iter().map(index).collect(),
            Some(value) => index(value).map(|index| vec![index]),
        };
        let Some(indices) = indices else {
            return Err(self.wrong(KEY, "a number or a list of numbers", self.raw.get(KEY)));
        };
        if let found @ Some(Value::String(_)) = self.raw.get("target_modules") {
            return Err(self.wrong("target_modules", "a list of names, as there is layers_to_transform", found));
        }
        let patterns = match self.optional_pattern("layers_pattern")? {
            None => vec![],
            Some(ModulePattern::Suffixes(names)) => names,
            Some(ModulePattern::Regex(name)) => vec![name],
        };
        Ok(Some(Layers { indices, patterns: patterns.into_iter().filter(|name| !name.is_empty()).collect() }))
    }

    fn unsupported(&self, key: &str, value: &Value, supported: &str) -> AdapterError {
        AdapterError::Unsupported {
            path: self.path.to_path_buf(),
            key: key.into(),
            value: value.to_string(),
            supported: supported.into(),
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: Option<&Value>) -> AdapterError {
        AdapterError::Value {
            path: self.path.to_path_buf(),
            key: key.into(),
            expected: expected.into(),
            found: found.map_or("nothing".into(), Value::to_string),
        }
    }

    fn string(&self, key: &str) -> Result<Option<String>, AdapterError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            found => Err(self.wrong(key, "a string", found)),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, AdapterError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            found => Err(self.wrong(key, "true or false", found)),
        }
    }

    fn rank(&self, key: &str, value: Option<&Value>) -> Result<usize, AdapterError> {
        value
            .and_then(Value::as_u64)
            .filter(|rank| (1..=65_536).contains(rank))
            .map(|rank| rank as usize)
            .ok_or_else(|| self.wrong(key, "a rank from 1 to 65536", value))
    }

    fn number(&self, key: &str, value: Option<&Value>) -> Result<f64, AdapterError> {
        value
            .and_then(Value::as_f64)
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| self.wrong(key, "a number of at least 0", value))
    }

    fn targets(&self) -> Result<Targets, AdapterError> {
        match self.raw.get("target_modules") {
            Some(Value::String(text)) if text == "all-linear" => Ok(Targets::AllLinear),
            Some(value) if !value.is_null() => Ok(Targets::Pattern(self.pattern("target_modules", value)?)),
            found => {
                Err(self.wrong("target_modules", "a list of names, a regular expression or \"all-linear\"", found))
            }
        }
    }

    fn pattern(&self, key: &str, value: &Value) -> Result<ModulePattern, AdapterError> {
        let names =
            |items: &Vec<Value>| items.iter().map(|item| item.as_str().map(String::from)).collect::<Option<Vec<_>>>();
        match value {
            Value::String(regex) => Ok(ModulePattern::Regex(regex.clone())),
            Value::Array(items) => names(items)
                .map(ModulePattern::Suffixes)
                .ok_or_else(|| self.wrong(key, "a list of strings", Some(value))),
            found => Err(self.wrong(key, "a list of names or a regular expression", Some(found))),
        }
    }

    fn patterns<T>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> Result<T, AdapterError>,
    ) -> Result<Vec<(String, T)>, AdapterError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(vec![]),
            Some(Value::Object(map)) => {
                map.iter().map(|(pattern, value)| Ok((pattern.clone(), read(value)?))).collect()
            }
            found => Err(self.wrong(key, "a table", found)),
        }
    }
}

#[cfg(test)]
mod tests;
