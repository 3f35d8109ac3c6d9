//! How well towers find the other half of a pair: [`Recall`].

use burn::tensor::Tensor;
use firebrand_kernels::{Precision, multiply};
use serde::{Deserialize, Serialize};

/// Rows of the matrix of cosines that are computed at once.
const CHUNK: usize = 1024;

/// Shares of pairs whose own partner is among the 1, 5 or 10 nearest of all partners, by the cosine of their embeddings. Of
/// partners that are equally near, those of earlier pairs count as nearer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recall {
    /// Texts found by their image.
    #[serde(rename = "eval_recall/image_to_text@1")]
    pub image_to_text_1: f64,
    /// Texts found by their image.
    #[serde(rename = "eval_recall/image_to_text@5")]
    pub image_to_text_5: f64,
    /// Texts found by their image.
    #[serde(rename = "eval_recall/image_to_text@10")]
    pub image_to_text_10: f64,
    /// Images found by their text.
    #[serde(rename = "eval_recall/text_to_image@1")]
    pub text_to_image_1: f64,
    /// Images found by their text.
    #[serde(rename = "eval_recall/text_to_image@5")]
    pub text_to_image_5: f64,
    /// Images found by their text.
    #[serde(rename = "eval_recall/text_to_image@10")]
    pub text_to_image_10: f64,
}

impl Recall {
    /// The recall among embeddings of length one, `[pairs, embedding]` each.
    pub(super) fn of(images: &Tensor<2>, texts: &Tensor<2>) -> Self {
        let [image_to_text_1, image_to_text_5, image_to_text_10] = shares(images, texts);
        let [text_to_image_1, text_to_image_5, text_to_image_10] = shares(texts, images);
        Self { image_to_text_1, image_to_text_5, image_to_text_10, text_to_image_1, text_to_image_5, text_to_image_10 }
    }

    /// The numbers by their names, without `eval_`.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("recall/image_to_text@1", self.image_to_text_1),
            ("recall/image_to_text@5", self.image_to_text_5),
            ("recall/image_to_text@10", self.image_to_text_10),
            ("recall/text_to_image@1", self.text_to_image_1),
            ("recall/text_to_image@5", self.text_to_image_5),
            ("recall/text_to_image@10", self.text_to_image_10),
        ]
    }
}

/// The shares of rows whose own partner is among the 1, 5 and 10 nearest.
fn shares(rows: &Tensor<2>, partners: &Tensor<2>) -> [f64; 3] {
    let pairs = rows.dims()[0];
    let mut found = [0_usize; 3];
    for start in (0..pairs).step_by(CHUNK) {
        let some = rows.clone().slice_dim(0, start..(start + CHUNK).min(pairs));
        let cosines = multiply(some, partners.clone().transpose(), Precision::F32).into_data();
        let cosines: Vec<f32> = cosines.iter::<f32>().collect();
        for (own, row) in (start..).zip(cosines.chunks(pairs)) {
            let rank = rank(row, own);
            found.iter_mut().zip([1, 5, 10]).for_each(|(found, most)| *found += usize::from(rank < most));
        }
    }
    found.map(|found| found as f64 / pairs.max(1) as f64)
}

/// How many are nearer than number `own`. A cosine that is no number is no nearer than any other.
fn rank(cosines: &[f32], own: usize) -> usize {
    let wanted = cosines[own];
    let nearer = |(index, cosine): &(usize, &f32)| match cosine.partial_cmp(&&wanted) {
        Some(order) => order.is_gt() || order.is_eq() && *index < own,
        None => *index != own,
    };
    cosines.iter().enumerate().filter(nearer).count()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn equal_partners_count_in_their_order() {
        assert_eq!([0, 1, 2, 3].map(|own| rank(&[0.5, 0.9, 0.5, 0.1], own)), [1, 0, 2, 3]);
        assert_eq!([0, 1].map(|own| rank(&[f32::NAN, 0.9], own)), [1, 1]);
    }

    #[test]
    fn shares_are_of_all_pairs_in_both_directions() {
        let device = Device::default();
        let images = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &device);
        let texts = Tensor::<2>::from_data([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], &device);
        let recall = Recall::of(&images, &texts);
        assert_eq!((recall.image_to_text_1, recall.image_to_text_5), (1.0 / 3.0, 1.0));
        assert_eq!((recall.text_to_image_1, recall.text_to_image_10), (1.0 / 3.0, 1.0));
    }
}
