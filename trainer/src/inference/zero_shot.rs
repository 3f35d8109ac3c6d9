//! Classes of pictures by their names alone, as two towers know them: [`ZeroShot`] (Radford et al. 2021, arXiv:2103.00020,
//! section 3.1).
//!
//! The embedding of a class is the mean of the embeddings, each of length one, of its name in every template, again of length
//! one. A picture is of the class whose embedding is nearest.

use burn::tensor::{Device, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{ArrayValues, CaptionReader, Classes, Dataset, Label, Pictures, Problem, Target};
use firebrand_kernels::{Precision, multiply};
use firebrand_models::towers::{TextInputs, Towers};

use crate::error::Error;

/// The prompt of a class where none is given. `{}` stands for its name.
pub const TEMPLATE: &str = "a photo of a {}.";
/// What stands for the name of a class in a template.
const NAME: &str = "{}";

/// Towers that tell classes apart by their names.
pub struct ZeroShot<'a> {
    towers: &'a Towers,
    classes: Classes,
    /// `[classes, embedding]`, of length one.
    embeddings: Tensor<2>,
}

impl<'a> ZeroShot<'a> {
    /// Computes the embeddings of the classes `names`.
    ///
    /// # Errors
    /// A model that reads no captions; a template without `{}`; no class; a name that the tokenizer refuses.
    pub fn new(
        towers: &'a Towers,
        pictures: &Pictures,
        names: Vec<String>,
        templates: &[String],
    ) -> Result<Self, Error> {
        let Some(reader) = pictures.captions.first() else {
            return Err(Error::Request {
                problem: "the model reads no captions, so it knows no class by its name".into(),
                help: "--zero-shot is for two towers".into(),
            });
        };
        if let Some(template) = templates.iter().find(|template| !template.contains(NAME)) {
            return Err(Error::Request {
                problem: format!("the template {template:?} has no {NAME}, where the name of the class stands"),
                help: format!("write it as {TEMPLATE:?}"),
            });
        }
        let each =
            names.iter().map(|name| class(towers, reader, name, templates)).collect::<Result<Vec<_>, Error>>()?;
        if each.is_empty() {
            let help = "name one or more in the file of --classes".into();
            return Err(Error::Request { problem: "there is no class to choose from".into(), help });
        }
        Ok(Self { towers, classes: Classes { problem: Problem::Single, names }, embeddings: Tensor::cat(each, 0) })
    }

    /// The share of the rows whose nearest class is their label. `progress` is called with the number of rows done.
    ///
    /// # Errors
    /// A row without a picture, or whose label is none of the classes.
    pub fn accuracy(&self, dataset: &Dataset, mut progress: impl FnMut(usize)) -> Result<f64, Error> {
        self.classes.check(dataset)?;
        let mut right = 0;
        for (number, example) in dataset.examples().enumerate() {
            let example = example?;
            let arrays = dataset.arrays(&example)?;
            let Some((shape, ArrayValues::F32(pixels))) =
                arrays.get("pixel_values").map(|array| (&array.shape, &array.values))
            else {
                return Err(Error::Request {
                    problem: format!("{}: a row without a picture", example.source),
                    help: "rows are {\"image\": .., \"label\": ..}, or a folder for each class".into(),
                });
            };
            let shape = [1, shape[0], shape[1], shape[2]];
            let pixels = Tensor::from_data(TensorData::new(pixels.clone(), shape), &self.device());
            let image = normalised(self.towers.vision().forward(pixels, Mode::Inference));
            let cosines = multiply(image, self.embeddings.clone().transpose(), Precision::F32).into_data();
            let nearest =
                cosines.iter::<f32>().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
            let label: Option<&Label> = example.label().and_then(|row| row.label.as_ref());
            let target = label.and_then(|label| self.classes.target(label).ok());
            right += usize::from(target == nearest.map(|(class, _)| Target::Class(class)));
            progress(number + 1);
        }
        Ok(right as f64 / dataset.len().max(1) as f64)
    }

    fn device(&self) -> Device {
        self.towers.device()
    }
}

/// The embedding of a class, `[1, embedding]`.
fn class(towers: &Towers, reader: &CaptionReader, name: &str, templates: &[String]) -> Result<Tensor<2>, Error> {
    let texts = templates.iter().map(|template| {
        let (ids, _) = reader.read(&template.replace(NAME, name))?;
        let inputs = TextInputs { ids, texts: 1, mask: None };
        Ok(normalised(towers.text().forward(&inputs, Mode::Inference)))
    });
    let texts = Tensor::cat(texts.collect::<Result<Vec<_>, Error>>()?, 0);
    Ok(normalised(texts.mean_dim(0)))
}

/// Each row scaled to length one.
fn normalised(embeddings: Tensor<2>) -> Tensor<2> {
    let length = (embeddings.clone() * embeddings.clone()).sum_dim(1).sqrt();
    embeddings / length
}
