//! SQL of a recipe: [`condition`] reads what stands in `where`, [`selection`] what stands in `sql`. What `sqlparser`
//! understands beyond rows of one table, each by itself, is refused by name.

use sqlparser::ast::{
    Expr, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr, Statement as Parsed, TableFactor, Value,
    WildcardAdditionalOptions,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::expression::Expressions;
use super::statement::{Item, Output, Statement};
use super::term::Term;

/// The most bytes of a query, and the most words and signs in it beside numbers, texts, commas and parentheses.
const LONGEST: usize = 64 << 10;
const MOST_WORDS: usize = 1024;

/// The most parentheses that are open at once. `sqlparser` reads what stands in the parentheses of a function twice, so
/// its time doubles with each.
const DEEPEST: usize = 12;

/// The name of the source in its own query.
const SELF: &str = "self";

/// Reads a condition.
///
/// # Errors
/// Why it is none.
pub(super) fn condition(sql: &str) -> Result<Statement, String> {
    let mut parser = parser(sql)?;
    let expression = parser.parse_expr().map_err(reason)?;
    let next = parser.peek_token().token;
    match next {
        Token::EOF => {}
        Token::Word(word) if CLAUSES.contains(&word.value.to_ascii_uppercase().as_str()) => {
            return Err(format!(
                "`where` holds a condition alone, and {} follows it; whole queries go into `sql`",
                word.value.to_ascii_uppercase()
            ));
        }
        other => return Err(format!("the condition ends before `{other}`; join conditions with AND or OR")),
    }
    let mut expressions = Expressions::new(vec![SELF.into()]);
    let condition = Some(expressions.term(&expression)?);
    Ok(Statement { columns: expressions.columns, condition, output: Output::Same, skip: 0, most: None })
}

/// Words that begin clauses after a condition.
const CLAUSES: [&str; 9] = ["ORDER", "GROUP", "LIMIT", "OFFSET", "HAVING", "UNION", "FROM", "SELECT", "WHERE"];

/// Reads `SELECT .. FROM self ..`.
///
/// # Errors
/// Why it is no such query, or what in it a row by itself cannot answer.
pub(super) fn selection(sql: &str) -> Result<Statement, String> {
    let shape = "`sql` is one query, SELECT .. FROM self WHERE ..";
    let mut statements = parser(sql)?.parse_statements().map_err(reason)?;
    let query = match (statements.pop(), statements.is_empty()) {
        (Some(Parsed::Query(query)), true) => *query,
        (Some(_), true) => return Err(format!("{shape}, and this is no query")),
        (Some(_), false) => return Err(format!("{shape}, and these are several statements")),
        (None, _) => return Err(format!("{shape}, and this is empty")),
    };
    let plain = match parser("SELECT 1 FROM self")?.parse_query() {
        Ok(plain) => *plain,
        Err(problem) => return Err(reason(problem)),
    };
    let (Query { limit_clause, .. }, SetExpr::Select(select)) = (&query, query.body.as_ref()) else {
        return Err(format!("{shape}; UNION, VALUES and the like are not rows of the source"));
    };
    let refused = "the rows of a source are looked at one by one, so that each keeps its line in the file";
    if let Some(clause) = beyond(&query, select) {
        return Err(format!("{clause} is not possible: {refused}"));
    }
    let tables = tables(select)?;
    let mut expressions = Expressions::new(tables);
    let condition = select.selection.as_ref().map(|condition| expressions.term(condition)).transpose()?;
    let output = output(&select.projection, &mut expressions)?;
    let (skip, most) = limits(limit_clause.as_ref(), &mut expressions)?;
    // Whatever else stands in the query is not known here, so it is not passed over.
    let rest = Query { limit_clause: None, body: bare(select), ..query.clone() };
    let SetExpr::Select(simple) = plain.body.as_ref() else { return Err(shape.into()) };
    if rest != (Query { body: bare(simple), ..plain.clone() }) {
        return Err(format!(
            "a part of it is not possible beside SELECT, FROM self, WHERE, LIMIT and OFFSET: {refused}"
        ));
    }
    Ok(Statement { columns: expressions.columns, condition, output, skip, most })
}

fn parser(sql: &str) -> Result<Parser<'static>, String> {
    if sql.len() > LONGEST {
        return Err(format!("it is longer than {} KiB", LONGEST >> 10));
    }
    let tokens =
        Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(|problem| problem.to_string())?;
    let is_value = |token: &Token| {
        matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::LParen
                | Token::RParen
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::EOF
        )
    };
    let words = tokens.iter().filter(|token| !is_value(&token.token));
    // `NOT NOT ..` is as deep as it is long, and CASE is open up to its END.
    let (mut depth, mut negations) = (0_usize, 0_usize);
    for token in &tokens {
        let word = match &token.token {
            Token::Whitespace(_) => continue,
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
            other => other.to_string(),
        };
        negations = if word == "not" { negations + 1 } else { 0 };
        match word.as_str() {
            "(" | "case" => depth += 1,
            ")" | "end" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth.max(negations) > DEEPEST {
            return Err(format!(
                "it is nested too deep: more than {DEEPEST} of ( and CASE are open at once, or NOT in a row"
            ));
        }
    }
    if words.count() > MOST_WORDS {
        return Err(format!("it has more than {MOST_WORDS} words and signs; long lists go into IN (..)"));
    }
    Ok(Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens))
}

/// What the parser says, without its own name.
fn reason(problem: sqlparser::parser::ParserError) -> String {
    use sqlparser::parser::ParserError;
    match problem {
        ParserError::RecursionLimitExceeded => "it is nested too deep".into(),
        ParserError::TokenizerError(why) | ParserError::ParserError(why) => format!("it is no SQL: {why}"),
    }
}

/// The first clause that looks at more than one row of the source, or at another table.
fn beyond(query: &Query, select: &Select) -> Option<&'static str> {
    let grouped = select.group_by != sqlparser::ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
    let joined = select.from.len() > 1 || select.from.iter().any(|table| !table.joins.is_empty());
    let clauses = [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.fetch.is_some(), "FETCH (write LIMIT)"),
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP (write LIMIT)"),
        (select.into.is_some(), "INTO"),
        (joined, "a join"),
        (grouped, "GROUP BY"),
        (select.having.is_some(), "HAVING"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
    ];
    clauses.into_iter().find_map(|(is, clause)| is.then_some(clause))
}

/// A `SELECT` without what was read of it.
fn bare(select: &Select) -> Box<SetExpr> {
    let mut bare = select.clone();
    bare.selection = None;
    bare.projection.clear();
    bare.from.clear();
    Box::new(SetExpr::Select(Box::new(bare)))
}

/// The names under which columns may be qualified: the source's own and its alias.
fn tables(select: &Select) -> Result<Vec<String>, String> {
    let expected = "the only table is the source itself, FROM self";
    let Some(table) = select.from.first() else {
        return Err(format!("{expected}, and there is no FROM"));
    };
    let TableFactor::Table { name, alias, .. } = &table.relation else {
        return Err(format!("{expected}, found FROM {}", table.relation));
    };
    let mut plain = TableFactor::Table {
        name: name.clone(),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    if let TableFactor::Table { alias: plain, .. } = &mut plain {
        plain.clone_from(alias);
    }
    if !is_self(name) || plain != table.relation || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return Err(format!("{expected}, found FROM {}", table.relation));
    }
    let alias = alias.as_ref().map(|alias| alias.name.value.clone());
    Ok(std::iter::once(SELF.to_string()).chain(alias).collect())
}

fn is_self(name: &ObjectName) -> bool {
    let [part] = name.0.as_slice() else { return false };
    // A quoted name could be a file's.
    part.as_ident().is_some_and(|name| name.quote_style.is_none() && name.value.eq_ignore_ascii_case(SELF))
}

fn output(projection: &[SelectItem], expressions: &mut Expressions) -> Result<Output, String> {
    let mut items = Vec::new();
    for item in projection {
        items.push(match item {
            SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default() => Item::All,
            SelectItem::QualifiedWildcard(kind, options)
                if *options == WildcardAdditionalOptions::default()
                    && expressions.is_table(kind.to_string().trim_end_matches(".*")) =>
            {
                Item::All
            }
            SelectItem::UnnamedExpr(expression) => match expressions.term(expression)? {
                Term::Column(column) => {
                    let name = last_name(expression).ok_or_else(|| format!("`{expression}` needs a name: AS .."))?;
                    Item::Column { column, name }
                }
                _ => return Err(format!("`{expression}` needs a name: {expression} AS prompt")),
            },
            SelectItem::ExprWithAlias { expr, alias } => match expressions.term(expr)? {
                Term::Column(column) => Item::Column { column, name: alias.value.clone() },
                term => Item::Computed { term, name: alias.value.clone() },
            },
            other => return Err(format!("`{other}` is not possible; name the columns, or write * alone")),
        });
    }
    let names: Vec<&str> = items.iter().filter_map(Item::name).collect();
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        Some((_, twice)) => Err(format!("two columns would have the name `{twice}`")),
        None => Ok(Output::Columns(items)),
    }
}

impl Item {
    fn name(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Column { name, .. } | Self::Computed { name, .. } => Some(name),
        }
    }
}

/// The name that a column has without `AS`.
fn last_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        Expr::Nested(inner) => last_name(inner),
        _ => None,
    }
}

fn limits(clause: Option<&LimitClause>, expressions: &mut Expressions) -> Result<(u64, Option<u64>), String> {
    let mut count = |expression: &Expr| match expression {
        Expr::Value(value) if matches!(&value.value, Value::Number(..)) => match expressions.term(expression)? {
            Term::Whole(digits) => {
                digits.parse().map_err(|_| format!("LIMIT and OFFSET are row numbers, found {digits}"))
            }
            _ => Err(format!("LIMIT and OFFSET are whole numbers, found {expression}")),
        },
        other => Err(format!("LIMIT and OFFSET are whole numbers, found {other}")),
    };
    match clause {
        None => Ok((0, None)),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            let skip = offset.as_ref().map(|offset| count(&offset.value)).transpose()?;
            Ok((skip.unwrap_or(0), limit.as_ref().map(&mut count).transpose()?))
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => Ok((count(offset)?, Some(count(limit)?))),
        Some(LimitClause::LimitOffset { .. }) => Err("LIMIT BY is not possible".into()),
    }
}
