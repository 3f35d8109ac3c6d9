//! What the frozen networks of a diffusion pipeline make of pictures and texts: [`Conditions`].
//!
//! A pipeline's autoencoder and text encoders are read when a row first needs them, once a process. What they say of a picture or
//! a text is kept, so that later epochs do not compute it again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use firebrand_models::Conditioner;
use firebrand_models::diffusion::Diffusion;

use crate::error::Error;
use crate::pictures::pictures_of;

/// The most numbers that are kept: 1 GiB.
const MOST_KEPT: usize = 1 << 28;

/// The pipelines whose networks were read, by their folders.
static READ: LazyLock<Mutex<HashMap<PathBuf, Arc<Conditions>>>> = LazyLock::new(Mutex::default);

/// The states of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    /// `[tokens, width]`.
    pub shape: [usize; 2],
    /// Row-major.
    pub values: Vec<f32>,
}

/// The frozen networks of a pipeline, and what they said.
pub struct Conditions {
    folder: PathBuf,
    networks: Conditioner,
    device: Device,
    kept: Mutex<Kept>,
    silence: Mutex<Option<Arc<Text>>>,
}

#[derive(Default)]
struct Kept {
    pictures: HashMap<u64, Arc<Picture>>,
    texts: HashMap<u64, Arc<Text>>,
    numbers: usize,
}

/// The distribution of a picture's latents.
pub struct Picture {
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Row-major.
    pub mean: Vec<f32>,
    /// As `mean`.
    pub deviation: Vec<f32>,
}

/// A text as a UNet is told of it.
pub struct Text {
    /// Its states.
    pub states: States,
    /// The text as one vector, where the pipeline has two encoders.
    pub pooled: Option<Vec<f32>>,
}

impl Conditions {
    /// The frozen networks of the pipeline of `model`.
    ///
    /// # Errors
    /// A model without a pipeline around it; a component that cannot be read.
    pub fn of(model: &Diffusion) -> Result<Arc<Self>, Error> {
        let parts = model.config().parts.as_ref().ok_or_else(|| Error::Request {
            problem: "rows of pictures and token ids need the pipeline's vae/ and text_encoder/, and the model has none that are \
                      supported"
                .into(),
            help: "give the folder of the whole pipeline, or rows of latents and encoder_hidden_states".into(),
        })?;
        let mut read = locked(&READ);
        if let Some(found) = read.get(&parts.folder) {
            return Ok(Arc::clone(found));
        }
        let device = model.device().inner();
        let networks = Conditioner::open(&parts.folder, &device)?;
        let conditions = Arc::new(Self {
            folder: parts.folder.clone(),
            networks,
            device,
            kept: Mutex::default(),
            silence: Mutex::default(),
        });
        read.insert(parts.folder.clone(), Arc::clone(&conditions));
        Ok(conditions)
    }

    /// The latents of a picture, `[channels, height, width]` within -1 and 1.
    pub fn picture(&self, pixels: &[f32], shape: [usize; 3]) -> Arc<Picture> {
        let mut hasher = DefaultHasher::new();
        shape.hash(&mut hasher);
        pixels.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        let key = hasher.finish();
        if let Some(found) = locked(&self.kept).pictures.get(&key) {
            return Arc::clone(found);
        }
        let [channels, height, width] = shape;
        let data = TensorData::new(pixels.to_vec(), [1, channels, height, width]);
        let latents = self.networks.vae().encode(Tensor::from_data(data, &self.device));
        let [_, channels, height, width] = latents.mean.dims();
        let deviation = host(latents.log_variance).into_iter().map(|value| (0.5 * value).exp()).collect();
        let picture = Arc::new(Picture { shape: [channels, height, width], mean: host(latents.mean), deviation });
        let mut kept = locked(&self.kept);
        if kept.numbers < MOST_KEPT {
            kept.numbers += 2 * picture.mean.len();
            kept.pictures.insert(key, Arc::clone(&picture));
        }
        picture
    }

    /// What a UNet is told of a text, by its token ids for each encoder.
    pub fn text(&self, ids: &[Vec<u32>]) -> Arc<Text> {
        let mut hasher = DefaultHasher::new();
        ids.hash(&mut hasher);
        let key = hasher.finish();
        if let Some(found) = locked(&self.kept).texts.get(&key) {
            return Arc::clone(found);
        }
        let told = self.networks.texts_as_told(ids, 1);
        let [_, tokens, width] = told.states.dims();
        let states = States { shape: [tokens, width], values: host(told.states) };
        let text = Arc::new(Text { states, pooled: told.pooled.map(host) });
        let mut kept = locked(&self.kept);
        if kept.numbers < MOST_KEPT {
            kept.numbers += text.states.values.len();
            kept.texts.insert(key, Arc::clone(&text));
        }
        text
    }

    /// What a UNet is told of the empty text.
    ///
    /// # Errors
    /// A pipeline without tokenizers.
    pub fn silence(&self) -> Result<Arc<Text>, Error> {
        let mut silence = locked(&self.silence);
        if let Some(found) = &*silence {
            return Ok(Arc::clone(found));
        }
        let pictures = pictures_of(&self.folder, None)?.ok_or_else(|| Error::Request {
            problem: format!("{}: there is no tokenizer, which the empty text needs", self.folder.display()),
            help: "give the folder of the whole pipeline, or leave caption_dropout out".into(),
        })?;
        let ids = pictures.captions.iter().map(|reader| Ok(reader.read("")?.0)).collect::<Result<Vec<_>, Error>>()?;
        Ok(Arc::clone(silence.insert(self.text(&ids))))
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// What a panic elsewhere left is whole: nothing is changed in part.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
