//! The settings and the end of a run as TensorBoard's HPARAMS tab reads them (`tensorboard/plugins/hparams`): summaries
//! without a value, whose metadata hold the plugin's own messages.

use protobuf::well_known_types::Value as Setting;
use protobuf::{Message, RepeatedField};
use serde_json::Value;
use std::io;
use tensorboard_proto::api::{DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status};
use tensorboard_proto::plugin_hparams::{HParamsPluginData, SessionEndInfo, SessionStartInfo};
use tensorboard_proto::summary::{Summary_Value, SummaryMetadata, SummaryMetadata_PluginData};

/// The metrics that the tab compares runs by.
const METRICS: [&str; 2] = ["train/loss", "eval/loss"];

/// What is written when a run begins: which settings and metrics there are, and the settings of this run. `name` groups
/// the runs of one folder; `began` is in seconds since 1970.
pub(super) fn start(name: &str, settings: &[(String, Value)], began: f64) -> io::Result<Vec<Summary_Value>> {
    let mut experiment = Experiment::new();
    experiment.set_time_created_secs(began);
    experiment.set_hparam_infos(RepeatedField::from(
        settings.iter().map(|(key, value)| info(key, value)).collect::<Vec<_>>(),
    ));
    experiment.set_metric_infos(RepeatedField::from(METRICS.map(metric).to_vec()));
    let mut about = HParamsPluginData::new();
    about.set_experiment(experiment);
    let mut session = SessionStartInfo::new();
    session.set_group_name(name.to_string());
    session.set_start_time_secs(began);
    session.set_hparams(settings.iter().map(|(key, value)| (key.clone(), setting(value))).collect());
    let mut data = HParamsPluginData::new();
    data.set_session_start_info(session);
    Ok(vec![summary("_hparams_/experiment", &about)?, summary("_hparams_/session_start_info", &data)?])
}

/// What is written when a run is over.
pub(super) fn end(ended: f64) -> io::Result<Summary_Value> {
    let mut session = SessionEndInfo::new();
    session.set_status(Status::STATUS_SUCCESS);
    session.set_end_time_secs(ended);
    let mut data = HParamsPluginData::new();
    data.set_session_end_info(session);
    summary("_hparams_/session_end_info", &data)
}

fn info(key: &str, value: &Value) -> HParamInfo {
    let mut info = HParamInfo::new();
    info.set_name(key.to_string());
    info.set_field_type(match value {
        Value::Bool(_) => DataType::DATA_TYPE_BOOL,
        Value::Number(_) => DataType::DATA_TYPE_FLOAT64,
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => DataType::DATA_TYPE_STRING,
    });
    info
}

fn metric(tag: &str) -> MetricInfo {
    let mut name = MetricName::new();
    name.set_tag(tag.to_string());
    let mut metric = MetricInfo::new();
    metric.set_name(name);
    metric
}

fn setting(value: &Value) -> Setting {
    let mut setting = Setting::new();
    match value {
        Value::Bool(flag) => setting.set_bool_value(*flag),
        Value::Number(number) => setting.set_number_value(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => setting.set_string_value(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => setting.set_string_value(value.to_string()),
    }
    setting
}

fn summary(tag: &str, data: &HParamsPluginData) -> io::Result<Summary_Value> {
    let mut plugin = SummaryMetadata_PluginData::new();
    plugin.set_plugin_name("hparams".to_string());
    plugin.set_content(data.write_to_bytes().map_err(io::Error::other)?);
    let mut metadata = SummaryMetadata::new();
    metadata.set_plugin_data(plugin);
    let mut value = Summary_Value::new();
    value.set_tag(tag.to_string());
    value.set_metadata(metadata);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_read_back_as_they_were() {
        let settings = vec![("train.steps".into(), json!(6)), ("model".into(), json!("m")), ("x".into(), json!(true))];
        let values = start("bot", &settings, 1.5).unwrap();
        let read = |value: &Summary_Value| {
            HParamsPluginData::parse_from_bytes(value.get_metadata().get_plugin_data().get_content()).unwrap()
        };
        let session = read(&values[1]).take_session_start_info();
        assert_eq!((session.get_group_name(), session.get_start_time_secs()), ("bot", 1.5));
        assert_eq!(session.get_hparams()["train.steps"].get_number_value(), 6.0);
        assert_eq!(session.get_hparams()["model"].get_string_value(), "m");
        assert!(session.get_hparams()["x"].get_bool_value());
        assert_eq!(read(&values[0]).get_experiment().get_hparam_infos().len(), 3);
        assert_eq!(read(&end(2.5).unwrap()).get_session_end_info().get_end_time_secs(), 2.5);
    }
}
