//! What a column holds, over the whole source: [`Seen`] looks at every value, [`Found`] is what came of it. The kind of a
//! column must not depend on where a chunk of rows ends.
//!
//! Cells of CSV are text. A column of them can be read as numbers where all of its cells are numbers; leading zeros make
//! text (`007`). Whole numbers and fractions mix to fractions, as long as each is exact as one.

use serde_json::Value;

use crate::location::Location;
use crate::source::shown;

/// The largest magnitude up to which every whole number is exact as a float.
const EXACT: i128 = 1 << 53;

/// The kind of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but NULL.
    Nothing,
    Boolean,
    Whole,
    Fraction,
    Text,
    Day,
    List(Box<Kind>),
    /// A list whose items are no plain values of one kind.
    Lists,
    Object,
}

impl Kind {
    pub fn words(&self) -> &'static str {
        match self {
            Self::Nothing => "NULL",
            Self::Boolean => "true or false",
            Self::Whole | Self::Fraction => "a number",
            Self::Text => "text",
            Self::Day => "a day",
            Self::List(_) | Self::Lists => "a list",
            Self::Object => "an object",
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Whole | Self::Fraction)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub location: Location,
    pub shown: String,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: Kind,
    /// Its first value.
    pub example: Option<Place>,
    /// What its cells can be read as; absent where they are no cells of CSV.
    pub cells: Option<Cells>,
}

/// What cells of CSV can be read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    /// Whole numbers or fractions, or the first cell that prevents it.
    pub number: Result<Kind, Place>,
    pub boolean: Result<(), Place>,
}

/// A number as it stands in a cell or in JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    Fraction(f64),
}

/// The values of a column so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether any row has it, even as NULL.
    pub present: bool,
    boolean: Option<Place>,
    whole: Option<Place>,
    fraction: Option<Place>,
    text: Option<Place>,
    list: Option<Place>,
    object: Option<Place>,
    /// The first whole number that is not exact as a float.
    inexact: Option<Place>,
    /// The items of lists.
    items: Option<Box<Seen>>,
    cells: SeenCells,
}

#[derive(Debug, Default)]
struct SeenCells {
    any: bool,
    /// Whether there are texts that are no cells: files of several formats.
    others: bool,
    fraction: bool,
    inexact: Option<Place>,
    no_number: Option<Place>,
    no_boolean: Option<Place>,
}

impl Seen {
    /// Takes in a value; `cell` says that it is a cell of CSV.
    pub fn add(&mut self, value: &Value, location: &Location, cell: bool) {
        self.present = true;
        let place = || Place { location: location.clone(), shown: shown(value) };
        let first = |slot: &mut Option<Place>| {
            if slot.is_none() {
                *slot = Some(place());
            }
        };
        match value {
            Value::Null => {}
            Value::Bool(_) => first(&mut self.boolean),
            Value::Number(_) => match number(value) {
                Some(Number::Whole(whole)) => {
                    first(&mut self.whole);
                    if whole.abs() > EXACT {
                        first(&mut self.inexact);
                    }
                }
                Some(Number::Fraction(_)) | None => first(&mut self.fraction),
            },
            Value::String(text) => {
                first(&mut self.text);
                match cell {
                    true => self.cells.add(text, place),
                    false => self.cells.others = true,
                }
            }
            Value::Array(items) => {
                first(&mut self.list);
                let seen = self.items.get_or_insert_default();
                items.iter().for_each(|item| seen.add(item, location, false));
            }
            Value::Object(_) => first(&mut self.object),
        }
    }

    /// What the column holds.
    ///
    /// # Errors
    /// Two values that no one kind holds, for a message that begins with the column.
    pub fn found(&self) -> Result<Found, String> {
        let kinds = [
            (&self.boolean, Kind::Boolean),
            (&self.whole, Kind::Whole),
            (&self.fraction, Kind::Fraction),
            (&self.text, Kind::Text),
            (&self.list, Kind::Lists),
            (&self.object, Kind::Object),
        ];
        let mut there = kinds.into_iter().filter_map(|(place, kind)| Some((place.as_ref()?, kind)));
        let Some((example, mut kind)) = there.next() else {
            return Ok(Found { kind: Kind::Nothing, example: None, cells: None });
        };
        for (place, other) in there {
            kind = match (kind, other) {
                (Kind::Whole, Kind::Fraction) => Kind::Fraction,
                (kind, other) => {
                    let at = |kind: &Kind, place: &Place| {
                        format!("{} in {} ({})", kind.words(), place.location, place.shown)
                    };
                    return Err(format!("holds {} and {}", at(&kind, example), at(&other, place)));
                }
            };
        }
        if let (Kind::Fraction, Some(large), Some(fraction)) = (&kind, &self.inexact, &self.fraction) {
            return Err(format!(
                "holds {} in {} and {} in {}, and no kind of number of 64 bits holds both exactly",
                fraction.shown, fraction.location, large.shown, large.location
            ));
        }
        if kind == Kind::Lists
            && let Some(items) = &self.items
        {
            kind = match items.found().map(|found| found.kind) {
                Ok(Kind::List(_) | Kind::Lists | Kind::Object | Kind::Day) | Err(_) => Kind::Lists,
                Ok(plain) => Kind::List(Box::new(plain)),
            };
        }
        let cells = (kind == Kind::Text && self.cells.any && !self.cells.others).then(|| self.cells.found());
        Ok(Found { kind, example: Some(example.clone()), cells })
    }
}

impl SeenCells {
    fn add(&mut self, text: &str, place: impl Fn() -> Place) {
        self.any = true;
        match of_cell(text) {
            Some(Number::Whole(whole)) if whole.abs() > EXACT && self.inexact.is_none() => self.inexact = Some(place()),
            Some(Number::Whole(_)) => {}
            Some(Number::Fraction(_)) => self.fraction = true,
            None if self.no_number.is_none() => self.no_number = Some(place()),
            None => {}
        }
        if self.no_boolean.is_none() && truth(text).is_none() {
            self.no_boolean = Some(place());
        }
    }

    fn found(&self) -> Cells {
        let number = match (&self.no_number, self.fraction, &self.inexact) {
            (Some(place), ..) | (None, true, Some(place)) => Err(place.clone()),
            (None, true, None) => Ok(Kind::Fraction),
            (None, false, _) => Ok(Kind::Whole),
        };
        Cells { number, boolean: self.no_boolean.clone().map_or(Ok(()), Err) }
    }
}

/// The number that a JSON number is.
pub(super) fn number(value: &Value) -> Option<Number> {
    let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    whole.map(Number::Whole).or_else(|| value.as_f64().map(Number::Fraction))
}

/// The number that stands in a cell; absent where it is another text.
pub(super) fn of_cell(text: &str) -> Option<Number> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !is_number || digits.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Number::Whole);
    }
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(Number::Fraction)
}

/// Whether a cell says true or false.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim_ascii().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
