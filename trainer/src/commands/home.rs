//! The `~` of paths on the command line: [`expand`].

use std::path::PathBuf;

use firebrand_datasets::TemplateChoice;

use crate::cli::{AdapterCommand, Command, DistillCommand, ModelArgs};
use crate::home::{expanded, expanded_text};

/// Replaces a first `~` in every path of a command. Those of recipes and of `--set` are replaced where recipes are read.
pub fn expand(command: &mut Command) {
    match command {
        Command::Train(train) => {
            path(&mut train.recipe);
            optional(train.resume.as_mut().and_then(Option::as_mut));
        }
        Command::Bench(bench) => {
            path(&mut bench.recipe);
            optional(bench.trace.as_mut());
        }
        Command::Check(check) => paths(&mut check.recipes),
        Command::Data(data) => {
            path(&mut data.recipe);
            optional(data.stats.as_mut());
            if let Some(model) = &mut data.model {
                text(model);
            }
            paths(&mut data.adapter);
        }
        Command::Init(init) => {
            text(&mut init.model);
            text(&mut init.data);
            path(&mut init.out);
        }
        Command::Eval(eval) => {
            model(&mut eval.model);
            eval.data.iter_mut().for_each(text);
            template(&mut eval.rows.template);
        }
        Command::Score(score) => {
            model(&mut score.model);
            path(&mut score.data);
            path(&mut score.out);
            template(&mut score.rows.template);
        }
        Command::Generate(generate) => {
            model(&mut generate.model);
            optional(generate.data.as_mut());
            optional(generate.out.as_mut());
            optional(generate.latents.as_mut());
            template(&mut generate.template);
        }
        Command::Merge(merge) => {
            text(&mut merge.model);
            path(&mut merge.adapter);
            path(&mut merge.out);
        }
        Command::Enlarge(enlarge) => {
            text(&mut enlarge.model);
            path(&mut enlarge.out);
        }
        Command::Student(student) => {
            text(&mut student.model);
            path(&mut student.out);
        }
        Command::Distill(DistillCommand::Cache(cache)) => path(&mut cache.recipe),
        Command::Adapter(AdapterCommand::Merge(merge)) => {
            paths(&mut merge.adapters);
            path(&mut merge.out);
        }
        Command::Adapter(AdapterCommand::Inspect(inspect)) => path(&mut inspect.path),
        Command::Adapter(AdapterCommand::Extract(extract)) => {
            text(&mut extract.base);
            text(&mut extract.tuned);
            path(&mut extract.out);
        }
        Command::Inspect(inspect) => path(&mut inspect.path),
        Command::Cache(_)
        | Command::Devices(_)
        | Command::Selftest(_)
        | Command::Schema
        | Command::Completions { .. } => {}
    }
}

fn model(arguments: &mut ModelArgs) {
    if let Some(model) = &mut arguments.model {
        text(model);
    }
    paths(&mut arguments.adapter);
}

fn template(choice: &mut TemplateChoice) {
    if let TemplateChoice::File(file) = choice {
        path(file);
    }
}

fn optional(given: Option<&mut PathBuf>) {
    if let Some(given) = given {
        path(given);
    }
}

fn paths(given: &mut [PathBuf]) {
    given.iter_mut().for_each(path);
}

fn path(given: &mut PathBuf) {
    *given = expanded(given);
}

fn text(given: &mut String) {
    *given = expanded_text(given);
}
