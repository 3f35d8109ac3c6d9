//! Pictures of texts by a diffusion pipeline: [`Painting`]. Reference: diffusers' `StableDiffusionPipeline` and
//! `StableDiffusionXLPipeline`.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::{normal, stream};
use firebrand_datasets::Pictures;
use firebrand_models::Conditioner;
use firebrand_models::diffusion::{AddedInputs, Asked, Diffusion, PartsConfig, sample};
use firebrand_models::families::sampler_of;
use firebrand_models::hf_config::HfConfig;
use image::{Rgb, RgbImage};

use crate::error::Error;

/// What is asked of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What is to be seen.
    pub prompt: String,
    /// What is to be avoided.
    pub negative: Option<String>,
    /// Number of steps.
    pub steps: usize,
    /// How much more the prompt counts than what is to be avoided; at 1 and below the prompt alone is asked.
    pub guidance: f64,
    /// Height and width in pixels.
    pub size: (usize, usize),
    /// Noise to start from; absent: drawn from `seed`.
    pub latents: Option<Latents>,
    /// Seed of the draw.
    pub seed: u64,
}

/// Standard normal noise that a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    /// The file, for errors.
    pub path: PathBuf,
    /// Channels, height and width.
    pub shape: Vec<usize>,
    /// In the order of that shape.
    pub values: Vec<f32>,
}

/// A pipeline that makes pictures.
pub struct Painting<'a> {
    model: &'a Diffusion,
    parts: &'a PartsConfig,
    pictures: &'a Pictures,
    networks: Conditioner,
}

impl<'a> Painting<'a> {
    /// Reads the frozen networks of the pipeline.
    ///
    /// # Errors
    /// A folder without them, or without a scheduler that can be sampled with.
    pub fn new(model: &'a Diffusion, pictures: Option<&'a Pictures>) -> Result<Self, Error> {
        let config = model.config();
        let (Some(parts), Some(pictures)) = (&config.parts, pictures) else {
            return Err(Error::Request {
                problem: "the pipeline has no vae/, text_encoder/ and tokenizer/ that are supported".into(),
                help: "give the folder of the whole pipeline".into(),
            });
        };
        if config.sampler.is_none() || config.schedule.is_none() {
            // The file says best what is not known in it.
            sampler_of(&HfConfig::open_with_words(parts.folder.join("scheduler/scheduler_config.json"))?)?;
            return Err(Error::Request {
                problem: "scheduler/scheduler_config.json names a scheduler that is not sampled with here".into(),
                help: "write DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler as its _class_name".into(),
            });
        }
        let networks = Conditioner::open(&parts.folder, &model.device())?;
        Ok(Self { model, parts, pictures, networks })
    }

    /// The picture that is wished for; `stepped` is called after each step.
    ///
    /// # Errors
    /// A size that the autoencoder cannot make, latents of another shape, a prompt that the tokenizer refuses.
    pub fn paint(&self, wish: &Wish, stepped: impl FnMut()) -> Result<RgbImage, Error> {
        let config = self.model.config();
        let (Some(sampler), Some(schedule)) = (&config.sampler, &config.schedule) else {
            return Err(Error::Request {
                problem: "the pipeline has no scheduler".into(),
                help: "add scheduler/".into(),
            });
        };
        let most = sampler.most_steps(schedule);
        if !(1..=most).contains(&wish.steps) {
            return Err(Error::Request {
                problem: format!("{} steps: the scheduler of the pipeline has 1 to {most}", wish.steps),
                help: "write --steps 50, or fewer".into(),
            });
        }
        if !wish.guidance.is_finite() {
            return Err(Error::Request {
                problem: format!("--guidance is {}", wish.guidance),
                help: "give a number, such as 7.5; at 1 the prompt alone is asked".into(),
            });
        }
        let shape = self.shape(wish)?;
        let noise = self.noise(wish, shape)?;
        let asked = self.asked(wish)?;
        let latents = sample(self.model.unet(), sampler, schedule, &asked, &noise, shape, stepped);
        let scaling = self.parts.vae.scaling as f32;
        let latents = latents.into_iter().map(|value| value / scaling).collect();
        let latents = TensorData::new::<f32, _>(latents, [1, shape[0], shape[1], shape[2]]);
        let picture = self.networks.vae().decode(Tensor::from_data(latents, &self.model.device()));
        let [_, channels, height, width] = picture.dims();
        let values: Vec<f32> = picture.into_data().iter::<f32>().collect();
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Request {
                problem: format!("the picture's value {place} is {}", values[place]),
                help: "`firebrand inspect` tells whether weights are numbers".into(),
            });
        }
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            Rgb([0, 1, 2].map(|channel| byte(values[channel.min(channels - 1) * height * width + at])))
        }))
    }

    /// Channels, height and width of the latents.
    fn shape(&self, wish: &Wish) -> Result<[usize; 3], Error> {
        let by = self.parts.vae.shrinks();
        let (height, width) = wish.size;
        let fits = |side: usize| side > 0 && side.is_multiple_of(by);
        match fits(height) && fits(width) {
            true => Ok([self.model.config().unet.channels(), height / by, width / by]),
            false => Err(Error::Request {
                problem: format!("a picture of {width} x {height} pixels: sides must be multiples of {by}"),
                help: format!("write --width {} --height {}", width.div_ceil(by) * by, height.div_ceil(by) * by),
            }),
        }
    }

    fn noise(&self, wish: &Wish, shape: [usize; 3]) -> Result<Vec<f32>, Error> {
        match &wish.latents {
            None => {
                let mut rng = stream(wish.seed, "generate/latents");
                Ok((0..shape.iter().product()).map(|_| normal(&mut rng) as f32).collect())
            }
            Some(latents) if latents.shape == shape => Ok(latents.values.clone()),
            Some(Latents { path, shape: found, .. }) => Err(Error::Request {
                problem: format!(
                    "{}: `latents` is {found:?}, and a picture of this size starts from {shape:?}",
                    path.display()
                ),
                help: "give latents of that shape, or --width and --height that fit them".into(),
            }),
        }
    }

    /// The texts as the network is told of them: the one to be avoided, and the prompt.
    fn asked(&self, wish: &Wish) -> Result<Asked, Error> {
        let is_guided = wish.guidance > 1.0;
        let avoided = wish.negative.as_deref().filter(|_| is_guided);
        let texts: Vec<&str> =
            if is_guided { vec![avoided.unwrap_or_default(), &wish.prompt] } else { vec![&wish.prompt] };
        let ids = self.pictures.captions.iter().map(|reader| {
            let ids = texts.iter().map(|text| Ok(reader.read(text)?.0)).collect::<Result<Vec<_>, Error>>()?;
            Ok(ids.concat())
        });
        let told = self.networks.texts_as_told(&ids.collect::<Result<Vec<_>, Error>>()?, texts.len());
        let (mut states, mut pooled) = (told.states, told.pooled);
        if is_guided && avoided.is_none() && self.parts.silent_without_prompt {
            states = silenced(states);
            pooled = pooled.map(silenced);
        }
        let (height, width) = (wish.size.0 as f32, wish.size.1 as f32);
        let added = pooled.map(|pooled| AddedInputs {
            pooled,
            numbers: [height, width, 0.0, 0.0, height, width].repeat(texts.len()),
        });
        Ok(Asked { text: states, added, guidance: wish.guidance, steps: wish.steps })
    }
}

/// The same with zeros in the first row.
fn silenced<const D: usize>(rows: Tensor<D>) -> Tensor<D> {
    let count = rows.dims()[0];
    Tensor::cat(vec![rows.clone().slice_dim(0, 0..1) * 0.0, rows.slice_dim(0, 1..count)], 0)
}
