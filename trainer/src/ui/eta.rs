//! Estimates the remaining time: the average step time since this start, times the steps to go.

use crate::observer::StepReport;
use std::time::Duration;

/// The first report after a start is only the point to measure from: the time before it includes
/// earlier starts and the start-up itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Eta {
    mark: Option<(u64, Duration)>,
}

impl Eta {
    pub(crate) fn update(&mut self, report: &StepReport) -> Option<Duration> {
        let (step, elapsed) = *self.mark.get_or_insert((report.step, report.elapsed));
        let made = report.step.checked_sub(step).filter(|made| *made > 0)?;
        let spent = report.elapsed.checked_sub(elapsed)?;
        let left = report.total_steps.saturating_sub(report.step);
        Duration::try_from_secs_f64(spent.as_secs_f64() / made as f64 * left as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::step_report;

    #[test]
    fn a_resumed_run_is_not_charged_for_earlier_sessions() {
        let mut eta = Eta::default();
        let mut report = step_report(50, 100);
        report.elapsed = Duration::from_secs(9000);
        assert_eq!(eta.update(&report), None);
        report.step = 60;
        report.elapsed = Duration::from_secs(9020);
        assert_eq!(eta.update(&report), Some(Duration::from_secs(80)));
        report.step = 100;
        assert_eq!(eta.update(&report), Some(Duration::ZERO));
    }
}
