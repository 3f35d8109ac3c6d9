//! The objects that burn-train's types require and our training loop does not use: a module, an optimiser, a
//! schedule, two data loaders and a logger.

use crate::observer::{EvalReport, StepReport};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::module::{Module, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, ExecutionError, Tensor};

use burn_train::logger::MetricLogger;
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{MetricDefinition, NumericEntry};
use burn_train::{InferenceStep, ItemLazy, Learner, TrainOutput, TrainStep};
use std::sync::Arc;

/// Stands in for the model. It has one parameter because burn-train asks the model for its first
/// device, although a custom strategy makes that unnecessary.
#[derive(Module, Debug)]
pub(super) struct Carrier {
    weight: Param<Tensor<1>>,
}

impl Carrier {
    /// A learner whose optimiser and schedule are never stepped.
    pub(super) fn learner() -> Learner<Self> {
        let weight = Param::from_tensor(Tensor::zeros([1], &Device::flex().autodiff()));
        Learner::new(Self { weight }, SgdConfig::new().init(), 0.0)
    }
}

impl TrainStep for Carrier {
    type Input = StepReport;
    type Output = StepReport;

    fn step(&self, item: StepReport) -> TrainOutput<StepReport> {
        TrainOutput { grads: GradientsParams::new(), item }
    }
}

impl InferenceStep for Carrier {
    type Input = EvalReport;
    type Output = EvalReport;

    fn step(&self, item: EvalReport) -> EvalReport {
        item
    }
}

// Reports hold numbers, and no tensors that are still being computed.
impl ItemLazy for StepReport {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl ItemLazy for EvalReport {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

/// An empty data loader: the training loop has its own data.
pub(super) struct NoBatches;

impl<T: 'static> DataLoader<T> for NoBatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<T> + 'a> {
        Box::new(Nothing(std::iter::empty()))
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<T>> {
        Arc::new(NoBatches)
    }

    fn slice(&self, _start: usize, _end: usize) -> Arc<dyn DataLoader<T>> {
        Arc::new(NoBatches)
    }
}

struct Nothing<T>(std::iter::Empty<T>);

impl<T> Iterator for Nothing<T> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

impl<T> DataLoaderIterator<T> for Nothing<T> {
    fn progress(&self) -> Progress {
        Progress::new(0, 0, None)
    }
}

/// A logger that writes nothing. Without it burn-train would register its own, which writes rounded averages to files.
pub(super) struct NoFiles;

impl MetricLogger for NoFiles {
    fn log(&mut self, _update: MetricsUpdate, _epoch: usize, _split: &Split) {}

    /// burn-train's early stopping and checkpoint strategies read metrics back; ours do not.
    fn read_numeric(&mut self, _name: &str, _epoch: usize, _split: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
