//! The settings of an answer, and the answer written token by token.

use std::ops::ControlFlow;

use firebrand_datasets::Tokenizer;

use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::Header;
use crate::inference::generate::{Draw, Finish, Sampler, Sampling, Session, StopTexts};
use crate::say;
use crate::ui::verbosity;

/// Checks that the numbers of the settings mean something.
///
/// # Errors
/// The first that does not.
pub(super) fn check_numbers(arguments: &GenerateArgs) -> Result<(), Error> {
    let share = |number: f64| (0.0..=1.0).contains(&number);
    let checks = [
        (
            "--temperature",
            arguments.temperature,
            "of 0 (greedy) or more",
            (|number| number.is_finite() && number >= 0.0) as fn(f64) -> bool,
        ),
        ("--top-p", arguments.top_p, "above 0 and at most 1", |number| number > 0.0 && number <= 1.0),
        ("--min-p", arguments.min_p, "between 0 and 1", share),
        ("--repetition-penalty", arguments.repetition_penalty, "above 0; 1 changes nothing", |number| {
            number.is_finite() && number > 0.0
        }),
    ];
    for (name, number, expected, holds) in checks {
        if let Some(number) = number.filter(|number| !holds(*number)) {
            let problem = format!("{name} is {number}");
            return Err(Error::Request { problem, help: format!("give a number {expected}") });
        }
    }
    let drawn = [
        ("--top-k", arguments.top_k.is_some()),
        ("--top-p", arguments.top_p.is_some()),
        ("--min-p", arguments.min_p.is_some()),
    ];
    let useless: Vec<&str> = drawn.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    if arguments.temperature.unwrap_or(0.0) == 0.0 && !useless.is_empty() {
        let flags = useless.join(" and ");
        verbosity::tell(&format!("note     {flags} changes nothing at temperature 0, which takes the likeliest token"));
    }
    Ok(())
}

/// A sampler by the settings, at the start of its random stream.
pub(super) fn sampler(arguments: &GenerateArgs) -> Sampler {
    let temperature = arguments.temperature.unwrap_or(0.0);
    let sampling = if temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random(Draw {
            temperature,
            top_k: arguments.top_k.unwrap_or(0),
            top_p: arguments.top_p.unwrap_or(1.0),
            min_p: arguments.min_p.unwrap_or(0.0),
            seed: arguments.seed,
        })
    };
    sampling.start().penalising(arguments.repetition_penalty.unwrap_or(1.0))
}

/// Writes answers.
pub(super) struct Writing<'a> {
    pub arguments: &'a GenerateArgs,
    pub tokenizer: &'a Tokenizer,
}

impl Writing<'_> {
    /// Prints the answer as it comes, without `header`, and returns its text.
    ///
    /// # Errors
    /// An empty prompt; those of decoding and printing.
    pub fn answer(&self, session: &mut Session<'_>, prompt: &[u32], header: Header) -> Result<String, Error> {
        if prompt.is_empty() {
            return Err(Error::Request {
                problem: "the prompt is empty and the tokenizer adds no token to start with".into(),
                help: "give at least one character".into(),
            });
        }
        Ok(self.generate(session, prompt, header, |piece| say!("{piece}"))?.0)
    }

    /// Generates an answer, up to an end token or one of the texts of `--stop`, and gives `show` each piece of it but
    /// `header`.
    ///
    /// # Errors
    /// Those of decoding and of `show`.
    pub fn generate(
        &self,
        session: &mut Session<'_>,
        prompt: &[u32],
        mut header: Header,
        show: impl Fn(&str) -> Result<(), Error>,
    ) -> Result<(String, Vec<u32>, Finish), Error> {
        let mut sampler = sampler(self.arguments);
        let mut stream = self.tokenizer.decode_stream(true);
        let mut texts = StopTexts::new(&self.arguments.stop);
        let mut answer = String::new();
        let mut problem: Option<Error> = None;
        let limit = self.arguments.max_new_tokens;
        let ends = self.tokenizer.eos_ids();
        let (written, finish) = session.generate_while(prompt, ends, limit, &mut sampler, |token| {
            let shown = stream.push(token).map_err(Error::from).and_then(|piece| {
                let piece = header.pass(&texts.push(&piece));
                answer.push_str(&piece);
                show(&piece)
            });
            match shown {
                Ok(()) if !texts.stopped() => ControlFlow::Continue(()),
                Ok(()) => ControlFlow::Break(()),
                Err(error) => {
                    problem = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        let mut rest = texts.push(&stream.finish()?);
        let finish = if texts.stopped() { Finish::Stop } else { finish };
        rest += &texts.finish();
        let rest = header.pass(&rest) + &header.rest();
        show(&rest)?;
        answer.push_str(&rest);
        Ok((answer, written, finish))
    }
}
