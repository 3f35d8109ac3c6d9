//! From token ids to the residual stream.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Lora, Mode};

use super::{DecoderConfig, EmbeddingConfig, Inputs, Norm, PositionConfig};
use crate::parameters::{ParameterSource, linear};

/// The token table, and what happens to its rows before the first block.
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
    /// Reads the parameters under `path`.
    pub fn new(config: &DecoderConfig, path: &str, source: &mut dyn ParameterSource) -> Self {
        let width = config.hidden_size;
        let mut embedding = Self {
            tokens: source.matrix(&format!("{path}.tokens"), [config.vocab_size, config.embedding_width()]),
            adapter: None,
            positions: None,
            norm: None,
            project: None,
            scale: None,
            offset: 0,
            padding_token: config.padding_token,
        };
        if let PositionConfig::Learned { offset } = config.position {
            let rows = config.max_positions + offset;
            embedding.positions = Some(source.matrix(&format!("{path}.positions"), [rows, width]));
            embedding.offset = offset;
        }
        match config.embedding {
            EmbeddingConfig::Plain => {}
            EmbeddingConfig::Scaled(scale) => embedding.scale = Some(scale),
            EmbeddingConfig::Normalised => {
                embedding.norm = Some(Norm::new(config.norm, width, &format!("{path}.norm"), source));
            }
            EmbeddingConfig::Projected { width: narrow } => {
                embedding.project = Some(linear(source, &format!("{path}.project"), [width, narrow], false));
            }
        }
        embedding
    }

    /// Embedded tokens `[batch, time, hidden_size]`.
    pub fn forward(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        let mut x = self.look_up(inputs);
        if let Some(scale) = self.scale {
            x = x * scale;
        }
        if let Some(project) = &self.project {
            x = project.forward(x, mode);
        }
        if let Some(positions) = &self.positions {
            // A place the table does not have is refused where lengths are known; the last row keeps the maths defined.
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
            let x = burn::tensor::module::embedding(table, ids.clone());
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

    /// Folds the adapter into the table.
    pub(super) fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            self.tokens = self.tokens.clone().map(|tokens| tokens + adapter.delta().transpose());
        }
    }

    /// The token table, `[vocab_size, width]`.
    pub fn tokens(&self) -> Tensor<2> {
        self.tokens.val()
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.tokens.lazy_device()
    }

    /// The linear maps with their names below the embedding, and the adapter of the token table.
    pub(super) fn adapter_places(&mut self) -> (Vec<(&'static str, &mut Linear)>, &mut Option<Lora>) {
        (self.project.iter_mut().map(|map| ("project", map)).collect(), &mut self.adapter)
    }
}

/// `[batch, time]` of one integer a token.
pub(super) fn ids_tensor(ids: Vec<i32>, inputs: &Inputs, device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids, [inputs.batch, inputs.time]), device)
}
