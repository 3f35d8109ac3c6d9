//! `firebrand selftest`: checks the promises about numbers again on this machine. See [`run`].
//!
//! Processors, drivers and builds differ, so a tiny model made here is trained on the device that will be used, and
//! every promise is checked with the functions that `train`, `merge` and `generate` call. The checks need no shipped
//! file and leave none behind. Not here: text, templates and the command line, which do not depend on the machine.

mod fixture;
mod goldens;
mod layout;
mod measured;
mod outputs;
mod resume;
mod tiny;

use std::fmt;
use std::time::Instant;

use burn::tensor::Device;
use firebrand_kernels::has_fused;
use serde::Serialize;

use crate::error::Error;
use fixture::Fixture;

pub use measured::Measured;

/// The claims, in the order in which they are checked.
const CLAIMS: &[(&str, Claim)] = &[
    ("losses of an adapter run are the reference's", goldens::adapter),
    ("losses of a full run are the reference's", goldens::full),
    (IN_BF16, goldens::bf16),
    ("packed rows train as rows on their own", layout::packing),
    ("a split into micro-batches changes nothing", layout::accumulation),
    ("recomputed blocks give the same gradients", layout::recomputation),
    ("a resumed run ends with the same bytes", resume::bytes),
    ("a merged model is the adapted one", outputs::merging),
    ("the cache of generation changes nothing", outputs::caching),
];

/// Only the processor computes in bf16 so far.
const IN_BF16: &str = "in bf16 the losses of both are near those";

type Claim = fn(&Fixture) -> Result<Measured, Error>;

/// The check of one claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The claim in words.
    pub claim: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// The measured number; absent if it could not be measured.
    pub measured: Option<Measured>,
    /// The reason why it could not be measured.
    pub error: Option<String>,
    /// Duration of the check in seconds.
    pub seconds: f64,
}

/// Checks every claim that is about `device`. `report` is called with each result as it is known.
///
/// # Errors
/// Only those of making the tiny model, such as a full disk. A claim that cannot be checked counts as failed.
pub fn run(device: &Device, mut report: impl FnMut(&Check)) -> Result<Vec<Check>, Error> {
    let fixture = Fixture::new(device)?;
    let claims = CLAIMS.iter().filter(|(claim, _)| *claim != IN_BF16 || has_fused(device));
    let tried = claims.map(|(claim, measure)| {
        let start = Instant::now();
        let check = Check::new(claim, measure(&fixture), start.elapsed().as_secs_f64());
        report(&check);
        check
    });
    Ok(tried.collect())
}

impl Check {
    fn new(claim: &'static str, result: Result<Measured, Error>, seconds: f64) -> Self {
        match result {
            Ok(measured) => Self { claim, passed: measured.holds(), measured: Some(measured), error: None, seconds },
            Err(error) => Self { claim, passed: false, measured: None, error: Some(error.to_string()), seconds },
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}  {:46} ", if self.passed { "ok" } else { "FAIL" }, self.claim)?;
        match (&self.measured, &self.error) {
            (Some(Measured { what, value, limit }), _) => {
                write!(f, "{what}: {}, at most {} ({:.1} s)", short(*value), short(*limit), self.seconds)
            }
            (None, error) => write!(f, "{}", error.as_deref().unwrap_or("not tried")),
        }
    }
}

/// A small number in short form, for people.
fn short(number: f64) -> String {
    if number == 0.0 { "0".into() } else { format!("{number:.0e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64) -> Measured {
        Measured { what: "difference".into(), value, limit: 1e-4 }
    }

    #[test]
    fn every_claim_holds_on_the_cpu() {
        let checks = run(&Device::flex(), |check| println!("{check}")).unwrap();
        let broken: Vec<String> = checks.iter().filter(|check| !check.passed).map(Check::to_string).collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        assert_eq!(checks.len(), CLAIMS.len());
    }

    #[test]
    fn a_value_above_its_limit_or_no_number_fails() {
        assert!(Check::new("c", Ok(measured(1e-4)), 0.0).passed);
        assert!(!Check::new("c", Ok(measured(1.1e-4)), 0.0).passed);
        assert!(!Check::new("c", Ok(measured(f64::NAN)), 0.0).passed);
    }

    #[test]
    fn an_error_is_a_failed_check_that_says_why() {
        let error = Error::Merge { problem: "they differ".into() };
        let check = Check::new("c", Err(error), 0.0);
        assert!(!check.passed && check.to_string().contains("they differ"), "{check}");
    }
}
