//! [`sample`]: pictures from noise, guided towards a text and away from another one (Ho & Salimans 2022, arXiv:2207.12598).

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;

use super::sampler::{Sampler, SamplerConfig};
use super::schedule::Schedule;
use super::unet::{AddedInputs, UNet, UNetInputs};

/// What is asked of a network.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The states of the text, `[1, tokens, width]`; or those of the text to be avoided and of the text, `[2, tokens, width]`.
    pub text: Tensor<3>,
    /// What else the network is told of each.
    pub added: Option<AddedInputs>,
    /// How much more the text counts than the one to be avoided.
    pub guidance: f64,
    /// Number of steps.
    pub steps: usize,
}

/// The latents of a picture, made of standard normal `noise` `[channels, height, width]` of that shape. Waits for the device in
/// every step, and calls `stepped` after it.
pub fn sample(
    unet: &UNet,
    config: &SamplerConfig,
    schedule: &Schedule,
    asked: &Asked,
    noise: &[f32],
    [channels, height, width]: [usize; 3],
    mut stepped: impl FnMut(),
) -> Vec<f32> {
    let mut sampler = Sampler::new(config, schedule, asked.steps);
    let start = sampler.deviation(config.spacing);
    let mut sample: Vec<f32> = noise.iter().map(|value| value * start).collect();
    let rows = asked.text.dims()[0];
    for step in 0..sampler.times().len() {
        let shown = sampler.shown(step, &sample).repeat(rows);
        let shown = TensorData::new(shown, [rows, channels, height, width]);
        let inputs = UNetInputs {
            sample: Tensor::from_data(shown, &unet.device()),
            times: vec![sampler.times()[step]; rows],
            text: asked.text.clone(),
            added: asked.added.clone(),
        };
        let told: Vec<f32> = unet.forward(&inputs, Mode::Inference).into_data().iter::<f32>().collect();
        let told = match told.split_at(told.len() / rows.max(1)) {
            (avoided, wanted) if rows == 2 => {
                let both = avoided.iter().zip(wanted);
                both.map(|(avoided, wanted)| avoided + asked.guidance as f32 * (wanted - avoided)).collect()
            }
            _ => told,
        };
        sample = sampler.step(step, &told, &sample);
        stepped();
    }
    sample
}
