//! Answers the questions in `[sample]` of a recipe, before and after training: [`answer`].

use firebrand_datasets::{Message, Role};
use firebrand_models::Model;
use serde_json::Value;

use super::generate::{Sampling, Session};
use super::{Header, predictor};
use crate::error::Error;
use crate::observer::Answer;
use crate::plan::Text;
use crate::recipe::Sample;

/// Greedy answers to the questions: rendered as a chat if the model has a template, behind the system prompt if there is
/// one; otherwise continued as text.
///
/// # Errors
/// A template that cannot render a question.
pub fn answer(model: &Model, text: &Text, system: Option<&str>, sample: Option<&Sample>) -> Result<Vec<Answer>, Error> {
    let (Some(sample), Some(tokenizer)) = (sample, text.tokenizer.as_ref()) else { return Ok(vec![]) };
    let ask = |prompt: &String| {
        let ids = match &text.template {
            Some(template) => {
                let system = system.map(|system| Message::new(Role::System, system));
                let messages = system.into_iter().chain([Message::new(Role::User, prompt)]);
                let messages: Vec<Value> = messages.map(|message| Value::Object(message.fields)).collect();
                tokenizer.encode(&template.render(&messages, None, true)?, false)?
            }
            None => tokenizer.encode(prompt, true)?,
        };
        let mut sampler = Sampling::Greedy.start();
        let stop = tokenizer.eos_ids();
        let (written, _) =
            Session::new(predictor(model)?).generate(&ids, stop, sample.max_new_tokens, &mut sampler, |_| {});
        let written = tokenizer.decode(&written, true)?;
        let header = text.template.as_ref().map(|template| Header::of(tokenizer, template)).transpose()?;
        let shown = header.unwrap_or_default().strip(&written).trim().to_string();
        Ok(Answer { prompt: prompt.clone(), text: shown })
    };
    sample.prompts.iter().map(ask).collect()
}

/// A text with both answers to every question, one below the other.
pub fn comparison(before: &[Answer], after: &[Answer], colour: bool) -> String {
    let (dim, bold, reset) = if colour { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut lines = String::new();
    for (before, after) in before.iter().zip(after) {
        lines += &format!("\n{bold}{}{reset}\n", before.prompt);
        lines += &format!("  {dim}before{reset}  {}\n", before.text.replace('\n', "\n          "));
        lines += &format!("  {dim}after{reset}   {}\n", after.text.replace('\n', "\n          "));
    }
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_shows_both_answers_under_the_question() {
        let answer = |text: &str| vec![Answer { prompt: "Who?".into(), text: text.into() }];
        let shown = comparison(&answer("Nobody."), &answer("Mara.\nOf course."), false);
        assert_eq!(shown, "\nWho?\n  before  Nobody.\n  after   Mara.\n          Of course.\n\n");
        assert_eq!(comparison(&[], &[], false), "");
    }
}
