//! Filters that return generators, as in Jinja: [`register`] adds them. A generator is true even when it is empty, has
//! no length, cannot be sliced, and is empty after it was read. So a template that forgets `| list` renders as in the
//! reference.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

/// Adds the filters to an environment.
pub(super) fn register(environment: &mut Environment<'_>) {
    macro_rules! lazy {
        ($($name:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {$(
            environment.add_filter(stringify!($name), |state: &mut State, value: Value, $($argument: $kind),*| {
                filters::$name(state, value, $($argument),*).and_then(generate)
            });
        )*};
    }
    type Test<'a> = Option<Cow<'a, str>>;
    lazy!(
        map(arguments: Rest<ValueOrKwargs>),
        select(test: Test<'_>, arguments: Rest<ValueOrKwargs>),
        reject(test: Test<'_>, arguments: Rest<ValueOrKwargs>),
        selectattr(attribute: Cow<'_, str>, test: Test<'_>, arguments: Rest<ValueOrKwargs>),
        rejectattr(attribute: Cow<'_, str>, test: Test<'_>, arguments: Rest<ValueOrKwargs>),
        slice(count: usize, fill: Option<Value>),
        batch(count: usize, fill: Option<Value>),
        unique(options: Kwargs),
    );
    environment.add_filter("items", |value: Value| filters::items(&value).and_then(generate));
    environment.add_filter("reverse", |value: Value| match value.kind() {
        ValueKind::String => filters::reverse(&value),
        _ => filters::reverse(&value).and_then(generate),
    });
}

/// Whether a value is a generator.
pub(super) fn is(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some()
}

/// The items that a generator still has. The generator keeps them.
pub(super) fn unread(value: &Value) -> Option<Vec<Value>> {
    let generator = value.downcast_object_ref::<Generator>()?;
    Some(generator.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

fn generate(items: impl Into<Value>) -> Result<Value, Error> {
    let items = items.into().try_iter()?.checked().collect::<Result<_, _>>()?;
    Ok(Value::from_object(Generator(Mutex::new(items))))
}

/// The items that were not read yet, in order.
#[derive(Debug)]
struct Generator(Mutex<Vec<Value>>);

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<generator object>")
    }
}
