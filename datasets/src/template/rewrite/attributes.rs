//! Methods of dicts as attributes: in Jinja, `x.items` without a call finds the method of a dict before a key of that
//! name, and a method is true and defined.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, State, Value};

/// Methods of dicts that the reference's sandbox lets a template see, with the names of the functions that return them.
/// No template can write these names.
const METHODS: [(&str, &str); 6] = [
    ("copy", ".copy"),
    ("fromkeys", ".fromkeys"),
    ("get", ".get"),
    ("items", ".items"),
    ("keys", ".keys"),
    ("values", ".values"),
];

/// Adds the functions to an environment, and Jinja's filter `attr`, which does not find the keys of a dict.
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

/// Whether a value is a namespace; minijinja has no public type for them.
pub(super) fn is_namespace(value: &Value) -> bool {
    is_a(value, "Namespace")
}

/// Whether a value is a dict. Namespaces and the variable `loop` are maps too, but their keys are attributes.
fn is_dict(value: &Value) -> bool {
    value.kind() == ValueKind::Map && !is_namespace(value) && !is_a(value, "Loop")
}

fn is_a(value: &Value, name: &str) -> bool {
    value.as_object().is_some_and(|object| object.type_name().rsplit("::").next() == Some(name))
}

/// The function that replaces the attribute `name`, if it may be a method.
pub(super) fn function(name: &str) -> Option<&'static str> {
    METHODS.iter().find(|(method, _)| *method == name).map(|(_, function)| *function)
}

/// A method of a dict that was not called.
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
