//! `x.items` without a call: of a dict the dot finds methods before keys, in Jinja, and a method is true and defined.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, State, Value};

/// Methods of dicts that the reference's sandbox lets a template see, and the names of functions that get them; no
/// template can say those.
const METHODS: [(&str, &str); 6] = [
    ("copy", ".copy"),
    ("fromkeys", ".fromkeys"),
    ("get", ".get"),
    ("items", ".items"),
    ("keys", ".keys"),
    ("values", ".values"),
];

/// Gives an environment the functions, and Jinja's filter `attr`, to which a dict's keys are no attributes.
pub(super) fn register(environment: &mut Environment<'_>) {
    for (name, function) in METHODS {
        environment.add_function(function, move |value: &Value| match is_dict(value) {
            true => Ok(Value::from_object(Method { of: value.clone(), name })),
            false => value.get_attr(name),
        });
    }
    environment.add_filter("attr", |value: &Value, name: &str| {
        let method = METHODS.iter().find(|(method, _)| *method == name);
        match (is_dict(value), method) {
            (true, Some((name, _))) => Ok(Value::from_object(Method { of: value.clone(), name })),
            (true, None) => Ok(Value::UNDEFINED),
            (false, _) => value.get_attr(name),
        }
    });
}

/// Whether a value is what the function `namespace` makes, which minijinja has no name for.
pub(super) fn is_namespace(value: &Value) -> bool {
    is_a(value, "Namespace")
}

/// Namespaces and the variable `loop` have keys, and those are attributes.
fn is_dict(value: &Value) -> bool {
    value.kind() == ValueKind::Map && !is_namespace(value) && !is_a(value, "Loop")
}

fn is_a(value: &Value, name: &str) -> bool {
    value.as_object().is_some_and(|object| object.type_name().rsplit("::").next() == Some(name))
}

/// The function in place of the attribute `name`, where it may be a method.
pub(super) fn function(name: &str) -> Option<&'static str> {
    METHODS.iter().find(|(method, _)| *method == name).map(|(_, function)| *function)
}

/// A method that was not called.
#[derive(Debug)]
struct Method {
    of: Value,
    name: &'static str,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        self.of.call_method(state, self.name, arguments)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of dict object>", self.name)
    }
}
