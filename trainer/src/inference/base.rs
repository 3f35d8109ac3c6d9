//! The base model of adapters when the command names none: [`base_model`].

use std::path::{Path, PathBuf};

use firebrand_hub::HubId;
use serde_json::Value;

use crate::cli::ModelArgs;
use crate::error::Error;
use crate::ui::verbosity;

const CONFIG: &str = "adapter_config.json";

/// The model that is named, else the one that the adapters name as their base in `adapter_config.json`: a folder, seen from
/// here or from the adapter, or a hub id.
///
/// # Errors
/// Adapters that name no base, one that is not there, or different ones.
pub fn base_model(arguments: &ModelArgs) -> Result<String, Error> {
    if let Some(model) = &arguments.model {
        return Ok(model.clone());
    }
    let mut found: Option<(String, &Path)> = None;
    for adapter in &arguments.adapter {
        let base = named_base(adapter)?;
        match &found {
            Some((earlier, of)) if *earlier != base => {
                return Err(Error::Request {
                    problem: format!(
                        "{} is an adapter for {earlier}, {} one for {base}",
                        of.display(),
                        adapter.display()
                    ),
                    help: "name the model with --model".into(),
                });
            }
            Some(_) => {}
            None => found = Some((base, adapter)),
        }
    }
    let Some((base, adapter)) = found else {
        return Err(Error::Request {
            problem: "no model is named".into(),
            help: "name one with --model, or an adapter that names its base with --adapter".into(),
        });
    };
    verbosity::tell(&format!("model    {base}, as {} says", adapter.join(CONFIG).display()));
    Ok(base)
}

fn named_base(adapter: &Path) -> Result<String, Error> {
    let path = adapter.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| Error::io(&path)(error.into()))?;
    let wrong = |problem: String| Error::Request { problem, help: "name the base model with --model".into() };
    let key = "base_model_name_or_path";
    let Some(name) = config[key].as_str().filter(|name| !name.trim().is_empty()) else {
        return Err(wrong(format!("{}: `{key}` names no model", path.display())));
    };
    let places = [PathBuf::from(name), adapter.join(name)];
    if let Some(folder) = places.iter().find(|place| place.is_dir()) {
        return Ok(folder.display().to_string());
    }
    if HubId::parse(name).is_err() {
        return Err(wrong(format!("{}: `{key}` is {name}, and there is no such folder", path.display())));
    }
    match config["revision"].as_str().filter(|revision| !revision.is_empty() && !name.contains('@')) {
        Some(revision) => Ok(format!("{name}@{revision}")),
        None => Ok(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Base;
    use crate::recipe::{ComputeDtype, DeviceName};

    fn arguments(adapter: &[&Path]) -> ModelArgs {
        let adapter = adapter.iter().map(|path| path.to_path_buf()).collect();
        ModelArgs {
            model: None,
            adapter,
            base: Base::Trained,
            other_base: false,
            device: DeviceName::Cpu,
            dtype: ComputeDtype::F32,
        }
    }

    #[test]
    fn the_base_is_found_from_the_adapter() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, config: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(CONFIG), config).unwrap();
            path
        };
        std::fs::create_dir(folder.path().join("base")).unwrap();
        let beside = write("beside", r#"{"base_model_name_or_path": "../base"}"#);
        let remote = write("remote", r#"{"base_model_name_or_path": "owner/name", "revision": "main"}"#);
        assert_eq!(base_model(&arguments(&[&beside])).unwrap(), beside.join("../base").display().to_string());
        assert_eq!(base_model(&arguments(&[&remote])).unwrap(), "owner/name@main");
        let named = ModelArgs { model: Some("mine".into()), ..arguments(&[&beside]) };
        assert_eq!(base_model(&named).unwrap(), "mine");
        let said = |adapters: &[&Path]| base_model(&arguments(adapters)).unwrap_err().to_string();
        assert!(said(&[&beside, &remote]).contains("owner/name"), "{}", said(&[&beside, &remote]));
        for config in ["{}", r#"{"base_model_name_or_path": null}"#, r#"{"base_model_name_or_path": ""}"#] {
            let silent = write("silent", config);
            assert!(said(&[&silent]).contains("names no model"), "{}", said(&[&silent]));
        }
        let gone = write("gone", r#"{"base_model_name_or_path": "/nowhere/at/all"}"#);
        assert!(said(&[&gone]).contains("there is no such folder"), "{}", said(&[&gone]));
    }
}
