//! Rewriting of templates: [`Program`] reads and changes the instructions of a template between compiling and running,
//! so that operators, loops and attributes are Python's and no value contains itself. This is the only module that
//! knows how minijinja runs a template, and it uses what minijinja calls unstable machinery. `docs/templates.md` says
//! which templates need it, what a new version of minijinja may break, and what would be lost without it.

mod attributes;
mod guards;
mod instructions;
mod operators;

pub(super) use guards::store;

use std::sync::Arc;

use minijinja::machinery::{CompiledTemplate, TemplateConfig, eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, Value};

use instructions::rewritten;

self_cell::self_cell!(
    /// A template's source, and what it was compiled to.
    struct Compiled {
        owner: String,
        #[covariant]
        dependent: CompiledTemplate,
    }
);

/// A compiled template whose instructions are rewritten.
pub(super) struct Program(Compiled);

impl Program {
    /// Compiles `source` with the settings of transformers.
    pub(super) fn new(source: String) -> Result<Self, Error> {
        Compiled::try_new(source, |source| compile(source)).map(Self)
    }

    /// Renders the template in an environment that [`register`] has prepared.
    pub(super) fn run(&self, environment: &Environment<'_>, variables: Value) -> Result<String, Error> {
        let mut text = String::new();
        self.0.with_dependent(|_, template| run(environment, template, variables, &mut text))?;
        Ok(text)
    }
}

/// Adds the functions that the instructions call to an environment.
pub(super) fn register(environment: &mut Environment<'_>) {
    attributes::register(environment);
    guards::register(environment);
    operators::register(environment);
}

/// Compiles a template with the settings of transformers and the operators of Python.
fn compile(source: &str) -> Result<CompiledTemplate<'_>, Error> {
    let config = TemplateConfig {
        syntax_config: SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?,
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    let mut template = CompiledTemplate::new("template", source, &config)?;
    template.instructions = rewritten(&template.instructions);
    template.blocks.values_mut().for_each(|block| *block = rewritten(block));
    Ok(template)
}

fn run<'a>(
    environment: &'a Environment<'a>,
    template: &'a CompiledTemplate<'a>,
    variables: Value,
    text: &mut String,
) -> Result<(), Error> {
    let out = &mut make_string_output(text);
    eval(environment, &template.instructions, variables, &template.blocks, out, AutoEscape::None).map(|_| ())
}
