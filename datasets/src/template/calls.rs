//! Arguments of tool calls: [`values`] passes them as JSON text or as an object, whichever the template expects.
//! OpenAI's API writes them as the JSON text of an object.
//!
//! A template that writes `arguments | tojson` would quote the text a second time, and the model would learn a form of
//! answer that no program can read. So text is passed unchanged, unless the template quotes it or fails on it: then the
//! object is.

use serde_json::Value;

use super::ChatTemplate;
use crate::record::Chat;

/// The messages of a dialogue, with the arguments of calls in the form that the template expects.
pub(crate) fn values(template: &ChatTemplate, chat: &Chat) -> Vec<Value> {
    let values = chat.values();
    let mut texts = Vec::new();
    let mut objects = values.clone();
    objects.iter_mut().for_each(|message| widen(message, &mut texts));
    if texts.is_empty() {
        return values;
    }
    let quoted = |rendered: &str| texts.iter().any(|text| rendered.contains(&Value::from(text.as_str()).to_string()));
    match template.try_render(&values, chat.tools.as_deref(), false) {
        Ok((rendered, _)) if !quoted(&rendered) => values,
        _ => objects,
    }
}

/// Replaces texts of arguments by the objects they hold, and appends the texts to `texts`.
fn widen(message: &mut Value, texts: &mut Vec<String>) {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
    for call in calls {
        let inner = call.get("function").is_some();
        let function = if inner { call.get_mut("function") } else { Some(call) };
        let Some(arguments) = function.and_then(|function| function.get_mut("arguments")) else { continue };
        if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
            && object.is_object()
            && let Value::String(text) = std::mem::replace(arguments, object)
        {
            texts.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{Message, Role};
    use crate::testing;

    fn rendered(source: &str, arguments: Value) -> String {
        let mut call = Message::new(Role::Assistant, "");
        call.fields.insert("tool_calls".into(), json!([{"function": {"name": "sum", "arguments": arguments}}]));
        let chat = Chat { messages: vec![call], tools: None, prompt_messages: None };
        let template = testing::template(source);
        template.render(&values(&template, &chat), None, false).unwrap()
    }

    #[test]
    fn arguments_are_quoted_once_by_every_template() {
        let loop_ = |body: &str| {
            format!("{{% for m in messages %}}{{% for c in m.tool_calls %}}{body}{{% endfor %}}{{% endfor %}}")
        };
        let dumps = loop_("{{ c.function.arguments | tojson }}");
        let adds = loop_("{{ '<' + c.function.arguments + '>' }}");
        let walks = loop_("{% for k, v in c.function.arguments | items %}{{ k }}={{ v }}{% endfor %}");
        for arguments in [json!({"a": 1}), json!("{\"a\": 1}")] {
            assert_eq!(rendered(&dumps, arguments.clone()), "{\"a\": 1}");
            assert_eq!(rendered(&walks, arguments), "a=1");
        }
        assert_eq!(rendered(&adds, json!("{\"a\": 1}")), "<{\"a\": 1}>");
        assert_eq!(rendered(&dumps, json!("")), "\"\"");
    }
}
