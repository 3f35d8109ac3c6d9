//! Expressions: [`Expressions`] turns SQL into a [`Term`], and refuses what is no value of one row.

use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, TrimWhereField, TypedString, UnaryOperator, Value,
};

use super::term::{Argument, Arithmetic, CastTo, Comparison, FUNCTIONS, Function, Literal, OF_SEVERAL_ROWS, Term};
use crate::source::columns::nearest;

/// How deep terms may be nested. The engine's own depth on its threads grows with it.
const DEEPEST: usize = 64;

/// The largest number that a text function takes: more than the longest row.
const LONGEST: u64 = 1 << 30;

/// The columns named so far.
pub(super) struct Expressions {
    pub columns: Vec<String>,
    tables: Vec<String>,
    depth: usize,
}

impl Expressions {
    /// Nothing named yet; columns may be qualified by `tables`.
    pub fn new(tables: Vec<String>) -> Self {
        Self { columns: Vec::new(), tables, depth: 0 }
    }

    pub fn is_table(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.eq_ignore_ascii_case(name))
    }

    /// The term of an expression.
    ///
    /// # Errors
    /// What in it is not possible, and what is in its place.
    pub fn term(&mut self, expression: &Expr) -> Result<Term, String> {
        if self.depth == DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let term = self.read(expression);
        self.depth -= 1;
        term
    }

    fn boxed(&mut self, expression: &Expr) -> Result<Box<Term>, String> {
        self.term(expression).map(Box::new)
    }

    fn read(&mut self, expression: &Expr) -> Result<Term, String> {
        Ok(match expression {
            Expr::Nested(inner) => self.term(inner)?,
            Expr::Identifier(name) => self.column(std::slice::from_ref(name)),
            Expr::CompoundIdentifier(names) => self.column(names),
            Expr::Value(value) => literal(&value.value)?,
            Expr::TypedString(TypedString { data_type: DataType::Date, value, .. }) => match &value.value {
                Value::SingleQuotedString(day) => Term::day(day)?,
                other => return Err(format!("DATE {other} is no day")),
            },
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Term::All(self.chain(&BinaryOperator::And, left, right)?)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                Term::Any(self.chain(&BinaryOperator::Or, left, right)?)
            }
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                // `||` is NULL where a part is, which `concat` is not.
                let parts = self.chain(&BinaryOperator::StringConcat, left, right)?;
                let whole = parts.iter().map(|part| negated(Term::IsNull(Box::new(part.clone())), true)).collect();
                let joined = call("concat", parts)?;
                Term::Case { cases: vec![(Term::All(whole), joined)], otherwise: Box::new(Term::Null) }
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Term::Not(self.boxed(expr)?),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Term::Negative(self.boxed(expr)?),
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.term(expr)?,
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => Term::IsNull(self.boxed(inner)?),
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => negated(Term::IsNull(self.boxed(inner)?), true),
            Expr::IsTrue(inner) => self.is(inner, true, false)?,
            Expr::IsNotTrue(inner) => self.is(inner, true, true)?,
            Expr::IsFalse(inner) => self.is(inner, false, false)?,
            Expr::IsNotFalse(inner) => self.is(inner, false, true)?,
            Expr::IsDistinctFrom(left, right) => negated(Term::Same(self.boxed(left)?, self.boxed(right)?), true),
            Expr::IsNotDistinctFrom(left, right) => Term::Same(self.boxed(left)?, self.boxed(right)?),
            Expr::Between { expr, negated: not, low, high } => {
                let (term, low, high) = (self.term(expr)?, self.boxed(low)?, self.boxed(high)?);
                let above = Term::Compare(Comparison::GreaterOrEqual, Box::new(term.clone()), low);
                let below = Term::Compare(Comparison::LessOrEqual, Box::new(term), high);
                negated(Term::All(vec![above, below]), *not)
            }
            Expr::InList { expr, list, negated: not } => {
                let list = list.iter().map(|item| self.term(item)).collect::<Result<Vec<_>, _>>()?;
                if let Some(null) = list.iter().position(|item| *item == Term::Null) {
                    return Err(format!("item {} of IN (..) is NULL, which nothing equals; write IS NULL", null + 1));
                }
                negated(Term::In(self.boxed(expr)?, list), *not)
            }
            Expr::Like { negated: not, any: false, expr, pattern, escape_char: None } => {
                negated(self.like(expr, pattern, false)?, *not)
            }
            Expr::ILike { negated: not, any: false, expr, pattern, escape_char: None } => {
                negated(self.like(expr, pattern, true)?, *not)
            }
            Expr::RLike { negated: not, expr, pattern, .. } => negated(self.matches(expr, pattern, "")?, *not),
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                let list = self.term(right)?;
                call("array_contains", vec![list, self.term(left)?])?
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let operand = operand.as_ref().map(|operand| self.term(operand)).transpose()?;
                let mut cases = Vec::new();
                for case in conditions {
                    let condition = self.term(&case.condition)?;
                    let condition = match &operand {
                        None => condition,
                        Some(operand) => {
                            Term::Compare(Comparison::Equal, Box::new(operand.clone()), Box::new(condition))
                        }
                    };
                    cases.push((condition, self.term(&case.result)?));
                }
                let otherwise = else_result.as_ref().map_or(Ok(Term::Null), |result| self.term(result))?;
                Term::Case { cases, otherwise: Box::new(otherwise) }
            }
            Expr::Cast { kind, expr, data_type, array: false, format: None } => {
                let or_null = matches!(kind, CastKind::TryCast | CastKind::SafeCast);
                Term::Cast { term: self.boxed(expr)?, to: cast_to(data_type)?, or_null }
            }
            Expr::Extract { field, expr, .. } => Term::PartOfDay(part_of_day(field)?, self.boxed(expr)?),
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("ceil", vec![self.term(expr)?])?
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("floor", vec![self.term(expr)?])?
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut arguments = vec![self.term(expr)?, self.term(from)?];
                arguments.extend(substring_for.as_ref().map(|length| self.term(length)).transpose()?);
                call("substr", arguments)?
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters: None } => {
                let what = trim_what.as_ref().map(|what| self.term(what)).transpose()?;
                let text = self.term(expr)?;
                let trimmed = |name, text| call(name, std::iter::once(text).chain(what.clone()).collect());
                match trim_where {
                    Some(TrimWhereField::Leading) => trimmed("ltrim", text)?,
                    Some(TrimWhereField::Trailing) => trimmed("rtrim", text)?,
                    Some(TrimWhereField::Both) | None => trimmed("rtrim", trimmed("ltrim", text)?)?,
                }
            }
            Expr::Function(function) => self.function(function)?,
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                return Err("a query inside of the query is not possible: a row is looked at by itself".into());
            }
            other => return Err(format!("`{}` is not possible here", shortened(other))),
        })
    }

    fn column(&mut self, names: &[Ident]) -> Term {
        let names = match names {
            [table, rest @ ..] if !rest.is_empty() && table.quote_style.is_none() && self.is_table(&table.value) => {
                rest
            }
            all => all,
        };
        let path = names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".");
        let known = self.columns.iter().position(|column| *column == path);
        Term::Column(known.unwrap_or_else(|| {
            self.columns.push(path);
            self.columns.len() - 1
        }))
    }

    /// The operands of a chain of one operator. Its length is no depth.
    fn chain(&mut self, op: &BinaryOperator, left: &Expr, right: &Expr) -> Result<Vec<Term>, String> {
        let mut operands = vec![right];
        let mut rest = left;
        while let Expr::BinaryOp { left, op: another, right } = rest
            && another == op
        {
            operands.push(right);
            rest = left;
        }
        operands.push(rest);
        operands.into_iter().rev().map(|operand| self.term(operand)).collect()
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Term, String> {
        let compare = |comparison, left, right| match (&left, &right) {
            (Term::Null, _) | (_, Term::Null) => Err("nothing equals NULL; write IS NULL or IS NOT NULL".to_string()),
            _ => Ok(Term::Compare(comparison, Box::new(left), Box::new(right))),
        };
        let compute = |arithmetic, left, right| Term::Arithmetic(arithmetic, Box::new(left), Box::new(right));
        Ok(match op {
            BinaryOperator::Eq => compare(Comparison::Equal, self.term(left)?, self.term(right)?)?,
            BinaryOperator::NotEq => compare(Comparison::Unequal, self.term(left)?, self.term(right)?)?,
            BinaryOperator::Lt => compare(Comparison::Less, self.term(left)?, self.term(right)?)?,
            BinaryOperator::LtEq => compare(Comparison::LessOrEqual, self.term(left)?, self.term(right)?)?,
            BinaryOperator::Gt => compare(Comparison::Greater, self.term(left)?, self.term(right)?)?,
            BinaryOperator::GtEq => compare(Comparison::GreaterOrEqual, self.term(left)?, self.term(right)?)?,
            BinaryOperator::Plus => compute(Arithmetic::Add, self.term(left)?, self.term(right)?),
            BinaryOperator::Minus => compute(Arithmetic::Subtract, self.term(left)?, self.term(right)?),
            BinaryOperator::Multiply => compute(Arithmetic::Multiply, self.term(left)?, self.term(right)?),
            BinaryOperator::Divide => compute(Arithmetic::Divide, self.term(left)?, self.term(right)?),
            BinaryOperator::Modulo => compute(Arithmetic::Remainder, self.term(left)?, self.term(right)?),
            BinaryOperator::PGRegexMatch => self.matches(left, right, "")?,
            BinaryOperator::PGRegexIMatch => self.matches(left, right, "(?i)")?,
            BinaryOperator::PGRegexNotMatch => negated(self.matches(left, right, "")?, true),
            BinaryOperator::PGRegexNotIMatch => negated(self.matches(left, right, "(?i)")?, true),
            other => return Err(format!("the operator {other} is not possible here")),
        })
    }

    /// `IS TRUE` and its like, which are never NULL.
    fn is(&mut self, inner: &Expr, value: bool, not: bool) -> Result<Term, String> {
        Ok(negated(Term::Same(self.boxed(inner)?, Box::new(Term::Boolean(value))), not))
    }

    fn like(&mut self, text: &Expr, pattern: &Expr, any_case: bool) -> Result<Term, String> {
        match self.term(pattern)? {
            Term::Text(pattern) if pattern.contains('\\') => {
                Err("a pattern of LIKE has no escapes; write REGEXP_LIKE(column, 'expression')".into())
            }
            Term::Text(pattern) => Ok(Term::Like { text: self.boxed(text)?, pattern, any_case }),
            _ => Err("the pattern of LIKE is a text in single quotes".into()),
        }
    }

    fn matches(&mut self, text: &Expr, pattern: &Expr, flags: &str) -> Result<Term, String> {
        let Term::Text(pattern) = self.term(pattern)? else {
            return Err("a regular expression is a text in single quotes".into());
        };
        let pattern = format!("{flags}{pattern}");
        check_pattern(&pattern)?;
        Ok(Term::Matches { text: self.boxed(text)?, pattern })
    }

    fn function(&mut self, function: &sqlparser::ast::Function) -> Result<Term, String> {
        let name = function.name.to_string().to_ascii_lowercase();
        let shown = name.to_ascii_uppercase();
        let many = format!("{shown} looks at several rows, and a row is looked at by itself");
        if function.over.is_some() {
            return Err(format!("{shown} .. OVER looks at several rows, and a row is looked at by itself"));
        }
        if OF_SEVERAL_ROWS.contains(&name.as_str()) {
            return Err(match name.as_str() {
                "max" => format!("{many}; the largest of several columns is GREATEST(..)"),
                "min" => format!("{many}; the smallest of several columns is LEAST(..)"),
                _ => many,
            });
        }
        let FunctionArguments::List(list) = &function.args else {
            return Err(format!("{shown} is called with its arguments in parentheses"));
        };
        let plain = list.duplicate_treatment.is_none() && list.clauses.is_empty() && function.filter.is_none();
        let plain = plain && function.null_treatment.is_none() && function.within_group.is_empty();
        if !plain || function.parameters != FunctionArguments::None || function.uses_odbc_syntax {
            return Err(format!("`{function}` is not possible here; write {shown}(..) alone"));
        }
        let mut arguments = Vec::new();
        for argument in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return Err(format!("{shown} takes values, found `{argument}`"));
            };
            arguments.push(self.term(argument)?);
        }
        match (name.as_str(), arguments.as_mut_slice()) {
            ("mod", [left, right]) => {
                let (left, right) = (std::mem::replace(left, Term::Null), std::mem::replace(right, Term::Null));
                Ok(Term::Arithmetic(Arithmetic::Remainder, Box::new(left), Box::new(right)))
            }
            ("date_part", [Term::Text(part), day]) => {
                let field = DateTimeField::Custom(Ident::new(part.clone()));
                let day = std::mem::replace(day, Term::Null);
                Ok(Term::PartOfDay(part_of_day(&field)?, Box::new(day)))
            }
            _ => call(&name, arguments),
        }
    }
}

fn negated(term: Term, not: bool) -> Term {
    if not { Term::Not(Box::new(term)) } else { term }
}

/// A call of a function, once its arguments are as many as it takes and the written ones are written.
fn call(name: &str, arguments: Vec<Term>) -> Result<Term, String> {
    let shown = name.to_ascii_uppercase();
    let Some(function) = Function::by_name(name) else {
        let known: Vec<&str> =
            FUNCTIONS.iter().flat_map(|known| std::iter::once(&known.name).chain(known.others)).copied().collect();
        let near = nearest(name, known.iter().copied()).to_ascii_uppercase().replace("IS THERE", "is there");
        let all = FUNCTIONS.iter().map(|known| known.name.to_ascii_uppercase()).collect::<Vec<_>>().join(", ");
        return Err(format!("there is no function {shown}{near}; there are {all}, CAST, TRY_CAST, CASE and EXTRACT"));
    };
    let most = function.arguments.len();
    let fits = arguments.len() >= most - function.optional && (function.repeated || arguments.len() <= most);
    if !fits {
        return Err(format!("{shown} takes {most} argument(s), found {}", arguments.len()));
    }
    for (position, argument) in arguments.iter().enumerate() {
        let Some(Argument::Written(literal)) = function.argument(position) else { continue };
        let place = position + 1;
        match (literal, argument) {
            (Literal::Text, Term::Text(_)) => {}
            (Literal::Pattern, Term::Text(pattern)) => check_pattern(pattern)?,
            (Literal::Count, Term::Whole(digits)) if digits.parse::<u64>().is_ok_and(|count| count <= LONGEST) => {}
            (Literal::Text | Literal::Pattern, _) => {
                return Err(format!("argument {place} of {shown} is a text in single quotes"));
            }
            (Literal::Count, _) => {
                return Err(format!(
                    "argument {place} of {shown} is a whole number that stands there itself, from 0 on"
                ));
            }
        }
    }
    Ok(Term::Call(function, arguments))
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(problem) => Err(format!("'{pattern}' is no regular expression: {problem}")),
    }
}

fn literal(value: &Value) -> Result<Term, String> {
    match value {
        Value::SingleQuotedString(text) => Ok(Term::Text(text.clone())),
        Value::Boolean(value) => Ok(Term::Boolean(*value)),
        Value::Null => Ok(Term::Null),
        Value::Number(digits, false) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            match digits.parse::<u64>() {
                Ok(number) => Ok(Term::Whole(number.to_string())),
                Err(_) => Err(format!("{digits} is larger than any whole number of 64 bits")),
            }
        }
        Value::Number(digits, false) => match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Term::Fraction(number)),
            _ => Err(format!("{digits} is no number of 64 bits")),
        },
        other => Err(format!("`{other}` is not possible here; texts stand in single quotes")),
    }
}

fn cast_to(data_type: &DataType) -> Result<CastTo, String> {
    match data_type {
        DataType::Boolean | DataType::Bool => Ok(CastTo::Boolean),
        DataType::Int(None) | DataType::Integer(None) | DataType::BigInt(None) | DataType::Int64 => Ok(CastTo::Whole),
        DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float64 => Ok(CastTo::Fraction),
        DataType::Float(ExactNumberInfo::None) => Ok(CastTo::Fraction),
        DataType::Varchar(None) | DataType::Text | DataType::String(None) => Ok(CastTo::Text),
        DataType::Date => Ok(CastTo::Day),
        other => Err(format!("values are cast to BOOLEAN, BIGINT, DOUBLE, VARCHAR or DATE, found {other}")),
    }
}

fn part_of_day(field: &DateTimeField) -> Result<&'static str, String> {
    const PARTS: [&str; 7] = ["YEAR", "QUARTER", "MONTH", "DAY", "DOW", "DOY", "ISODOW"];
    let name = field.to_string().to_ascii_uppercase();
    let known = PARTS.into_iter().find(|part| *part == name);
    known.ok_or_else(|| format!("the parts of a day are {}, found {name}", PARTS.join(", ")))
}

/// An expression for a message.
fn shortened(expression: &Expr) -> String {
    let text = expression.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
