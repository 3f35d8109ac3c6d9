//! Rows as columns: [`Layout`] says which columns the engine sees, and how. It sees nothing of a row but these, under
//! names of ours, so that neither the name nor the value of a column can mean something to it.

use polars_core::chunked_array::builder::get_list_builder;
use polars_core::prelude::{
    BooleanChunked, Column, DataFrame, DataType, Float64Chunked, Int128Chunked, IntoSeries, NewChunkedArray,
    PolarsResult, Series, StringChunked,
};
use serde_json::{Map, Value};

use super::kind::{Kind, Number, number, of_cell, truth};
use crate::source::find;

/// The number of a row in its frame.
pub(super) const ROW: &str = "row";

/// How a column is shown to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum As {
    /// As what it holds.
    Values(Kind),
    /// As the whole numbers or fractions that its cells are.
    Numbers(Kind),
    /// As the true and false that its cells are.
    Truths,
}

/// The columns of a frame: the number of each among those that the query names, and how it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout(Vec<(usize, As)>);

impl Layout {
    /// The name of a column in the frame, which is added to it.
    pub fn name(&mut self, column: usize, shown: As) -> String {
        let name = named(column, &shown);
        if !self.0.iter().any(|(other, as_)| *other == column && *as_ == shown) {
            self.0.push((column, shown));
        }
        name
    }

    /// The frame of some rows. `paths` are the columns that the query names.
    ///
    /// # Errors
    /// What the engine says; the columns have one length.
    pub fn frame(&self, paths: &[String], rows: &[&Map<String, Value>]) -> PolarsResult<DataFrame> {
        let numbers = Int128Chunked::from_iter_options(ROW.into(), (0..rows.len()).map(|row| Some(row as i128)));
        let mut columns = vec![Column::from(numbers.into_series())];
        for (column, shown) in &self.0 {
            let values: Vec<Option<Value>> =
                rows.iter().map(|row| find(row, &paths[*column]).map(|value| value.into_owned())).collect();
            columns.push(series(&named(*column, shown), shown, &values)?.into());
        }
        DataFrame::new(rows.len(), columns)
    }
}

fn named(column: usize, shown: &As) -> String {
    let letter = match shown {
        As::Values(_) => 'c',
        As::Numbers(_) => 'n',
        As::Truths => 't',
    };
    format!("{letter}{column}")
}

fn series(name: &str, shown: &As, values: &[Option<Value>]) -> PolarsResult<Series> {
    let there = || values.iter().map(Option::as_ref);
    match shown {
        As::Values(kind) => of_kind(name, kind, there()),
        As::Numbers(Kind::Whole) => {
            let whole = there().map(|value| match of_cell(value?.as_str()?)? {
                Number::Whole(whole) => Some(whole),
                Number::Fraction(_) => None,
            });
            Ok(Int128Chunked::from_iter_options(name.into(), whole).into_series())
        }
        As::Numbers(_) => {
            let numbers = there().map(|value| Some(float(of_cell(value?.as_str()?)?)));
            Ok(Float64Chunked::from_iter_options(name.into(), numbers).into_series())
        }
        As::Truths => {
            let truths = there().map(|value| truth(value?.as_str()?));
            Ok(BooleanChunked::from_iter_options(name.into(), truths).into_series())
        }
    }
}

fn of_kind<'v>(name: &str, kind: &Kind, values: impl Iterator<Item = Option<&'v Value>>) -> PolarsResult<Series> {
    let name = name.into();
    Ok(match kind {
        Kind::Nothing => Series::full_null(name, values.count(), &DataType::Null),
        Kind::Boolean => BooleanChunked::from_iter_options(name, values.map(|value| value?.as_bool())).into_series(),
        Kind::Whole => {
            let whole = values.map(|value| match number(value?)? {
                Number::Whole(whole) => Some(whole),
                Number::Fraction(_) => None,
            });
            Int128Chunked::from_iter_options(name, whole).into_series()
        }
        Kind::Fraction => {
            Float64Chunked::from_iter_options(name, values.map(|value| Some(float(number(value?)?)))).into_series()
        }
        Kind::Text | Kind::Day => {
            StringChunked::from_iter_options(name, values.map(|value| value?.as_str())).into_series()
        }
        Kind::List(item) => lists(name, item, values)?,
        Kind::Lists => lists(name, &Kind::Boolean, values)?,
        // Whether it is there is all that can be asked of an object.
        Kind::Object => {
            let there = values.map(|value| value.filter(|value| !value.is_null()).map(|_| true));
            BooleanChunked::from_iter_options(name, there).into_series()
        }
    })
}

fn lists<'v>(
    name: polars_core::prelude::PlSmallStr,
    item: &Kind,
    values: impl Iterator<Item = Option<&'v Value>>,
) -> PolarsResult<Series> {
    let dtype = match item {
        Kind::Boolean | Kind::Nothing | Kind::List(_) | Kind::Lists | Kind::Object => DataType::Boolean,
        Kind::Whole => DataType::Int128,
        Kind::Fraction => DataType::Float64,
        Kind::Text | Kind::Day => DataType::String,
    };
    let item = match item {
        Kind::Nothing | Kind::List(_) | Kind::Lists | Kind::Object => &Kind::Boolean,
        plain => plain,
    };
    let mut builder = get_list_builder(&dtype, 0, 0, name);
    for value in values {
        match value.and_then(Value::as_array) {
            None => builder.append_null(),
            Some(items) => builder.append_series(&of_kind("", item, items.iter().map(Some))?)?,
        }
    }
    Ok(builder.finish().into_series())
}

fn float(number: Number) -> f64 {
    match number {
        Number::Whole(whole) => whole as f64,
        Number::Fraction(fraction) => fraction,
    }
}
