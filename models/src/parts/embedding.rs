//! [`Embedding`]: from token ids to the residual stream.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Lora, Mode};

use super::maps::{Maps, maps};
use super::{Inputs, Norm, NormConfig};
use crate::parameters::{Initial, ParameterSource, Role, frozen, join, linear, tensor, under};

/// Sizes and variants of the token embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEmbeddingConfig {
    /// Rows of the token table.
    pub rows: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// What is done to embedded tokens before the first block.
    pub embedding: EmbeddingConfig,
    /// A trained vector for each position; absent: positions enter elsewhere.
    pub positions: Option<LearnedPositions>,
    /// The norm of [`EmbeddingConfig::Normalised`].
    pub norm: NormConfig,
    /// A token whose row is looked up, but gets no gradient from that.
    pub padding_token: Option<usize>,
    /// Initial values of the tables, if they are new.
    pub initial: Initial,
}

/// The table of learned positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedPositions {
    /// Number of its rows.
    pub rows: usize,
    /// Rows before that of position 0.
    pub offset: usize,
}

/// What is done to embedded tokens before the first block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EmbeddingConfig {
    /// Nothing.
    Plain,
    /// They are multiplied by a number (Gemma).
    Scaled(f64),
    /// They are normalised (BLOOM).
    Normalised,
    /// They are narrower than the stream: one matrix leads in, another from the stream to the head (OPT-350m).
    Projected {
        /// Width of the embedding and of the head.
        width: usize,
    },
}

impl EmbeddingConfig {
    /// Width of the token table for a stream of `width`.
    pub fn table_width(self, width: usize) -> usize {
        match self {
            Self::Projected { width } => width,
            Self::Plain | Self::Scaled(_) | Self::Normalised => width,
        }
    }
}

/// The token table, and what is done to its rows before the first block.
#[derive(Module, Debug)]
pub struct Embedding {
    tokens: Param<Tensor<2>>,
    adapter: Option<Lora>,
    /// A trained vector for each position.
    positions: Option<Param<Tensor<2>>>,
    norm: Option<Norm>,
    /// From the width of the table to that of the stream.
    project: Option<Linear>,
    #[module(skip)]
    scale: Option<f64>,
    /// Rows of `positions` before that of position 0.
    #[module(skip)]
    offset: usize,
    #[module(skip)]
    padding_token: Option<usize>,
}

impl Embedding {
    /// Reads the parameters from `source`.
    pub fn new(config: &TokenEmbeddingConfig, source: &mut dyn ParameterSource) -> Self {
        let TokenEmbeddingConfig { rows, width, embedding, positions, norm, padding_token, initial } = *config;
        let table = [rows, embedding.table_width(width)];
        let tokens = tensor(source, "tokens", table, Role::TokenTable, initial);
        let (table, offset) = match positions {
            Some(LearnedPositions { rows, offset }) => {
                (Some(tensor(source, "positions", [rows, width], Role::Table, initial)), offset)
            }
            None => (None, 0),
        };
        let mut part = Self {
            tokens,
            adapter: None,
            positions: table,
            norm: None,
            project: None,
            scale: None,
            offset,
            padding_token,
        };
        match embedding {
            EmbeddingConfig::Plain => {}
            EmbeddingConfig::Scaled(scale) => part.scale = Some(scale),
            EmbeddingConfig::Normalised => part.norm = Some(Norm::new(norm, width, &mut under(source, "norm"))),
            EmbeddingConfig::Projected { width: narrow } => {
                part.project = Some(linear(source, "project", [width, narrow], false, Role::Projection));
            }
        }
        part
    }

    /// Embedded tokens `[batch, time, hidden_size]`.
    pub fn forward(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        let mut x = self.look_up(inputs);
        if let Some(scale) = self.scale {
            x = x * scale;
        }
        // transformers adds it to what its embedding module returns, which is scaled and has no positions yet.
        if let Some(noise) = inputs.noise(x.dims()[2], &x.device()) {
            x = x + noise;
        }
        if let Some(project) = &self.project {
            x = project.forward(x, mode);
        }
        if let Some(positions) = &self.positions {
            // Positions beyond the table are refused where lengths are known; taking the last row keeps the maths
            // defined.
            let last = positions.lazy_shape().dims::<2>()[0] - 1;
            let rows = inputs.positions.iter().map(|&position| (position as usize + self.offset).min(last) as i32);
            let rows = ids_tensor(rows.collect(), inputs, &self.device());
            x = x + burn::tensor::module::embedding(positions.val(), rows);
        }
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn look_up(&self, inputs: &Inputs) -> Tensor<3> {
        let ids = ids_tensor(inputs.ids.clone(), inputs, &self.device());
        let rows = |table: Tensor<2>| {
            let x = burn::tensor::module::embedding(table, ids.clone()).cast(DType::F32);
            match self.padding_token {
                Some(padding) if x.is_tracked() => {
                    let [batch, time, width] = x.dims();
                    let mask =
                        ids.clone().equal_elem(padding as i32).unsqueeze_dim::<3>(2).expand([batch, time, width]);
                    x.clone().mask_where(mask, x.detach())
                }
                _ => x,
            }
        };
        let x = rows(self.tokens.val());
        match &self.adapter {
            Some(adapter) => x + adapter.look_up(rows),
            None => x,
        }
    }

    /// Merges the adapter into the table.
    pub(crate) fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            self.tokens = self.tokens.clone().map(|tokens| tokens.cast(DType::F32) + adapter.delta().transpose());
        }
    }

    /// Replaces the token table by what `change` makes of it, frozen.
    pub(crate) fn replace_tokens(&mut self, change: impl FnOnce(Tensor<2>) -> Tensor<2>) {
        self.tokens = frozen(change(self.tokens.val()));
    }

    /// The token table, `[vocab_size, width]`.
    pub fn tokens(&self) -> Tensor<2> {
        self.tokens.val()
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.tokens.lazy_device()
    }

    /// The adapter of the token table, if there is one.
    pub(crate) fn adapter(&self) -> &Option<Lora> {
        &self.adapter
    }

    /// Adds the linear maps to `found` with their paths below `path`; returns the place for an adapter of the token
    /// table.
    pub(crate) fn sites_mut<'a>(
        &'a mut self,
        path: &str,
        maps: &mut Vec<(String, &'a mut Linear)>,
    ) -> &'a mut Option<Lora> {
        self.project.maps_mut(&join(path, "project"), maps);
        &mut self.adapter
    }
}

maps!(Embedding { project });

/// An integer tensor `[batch, time]` with one value per token.
pub(crate) fn ids_tensor(ids: Vec<i32>, inputs: &Inputs, device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids, [inputs.batch, inputs.time]), device)
}
