//! Losses of judged answers and their gradients equal TRL's, on random logits.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand::objective::{Dpo, Kto, Orpo, PairFormula, Scored, Simpo};
use firebrand::recipe::DpoVariant;
use firebrand_datasets::Judgement;
use firebrand_kernels::linear_log_probabilities;
use firebrand_tests::golden;
use serde_json::Value;

/// The KL that the golden takes.
const KL: f64 = 0.35;

/// An answer with its prompt, as logits through a head that changes nothing.
struct Answer {
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    /// Its log-probabilities.
    found: Vec<f32>,
    prompt: usize,
    reference: f64,
}

impl Answer {
    fn of(value: &Value, vocabulary: usize) -> Self {
        let device = Device::flex().autodiff();
        let numbers: Vec<f32> =
            value["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let targets: Vec<i64> = value["targets"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect();
        let count = targets.len();
        let logits = Tensor::<2>::from_data(TensorData::new(numbers, [count, vocabulary]), &device).require_grad();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), &device);
        let prompt = value["prompt"].as_u64().unwrap() as usize;
        let mut answer =
            Self { logits, targets, found: vec![], prompt, reference: value["reference"].as_f64().unwrap() };
        answer.found = answer.log_probabilities().into_data().iter::<f32>().collect();
        answer
    }

    fn log_probabilities(&self) -> Tensor<1> {
        let head = Tensor::eye(self.logits.dims()[1], &self.logits.device());
        linear_log_probabilities(self.logits.clone(), head, None, self.targets.clone(), None)
    }

    fn scored(&self) -> Scored {
        let answer = &self.found[self.prompt..];
        let sum = answer.iter().map(|value| f64::from(*value)).sum();
        Scored { sum, reference: self.reference, tokens: answer.len() as f64 }
    }

    /// The gradient by the logits, where each log-probability of the answer has the derivative `slope`, and each one at all
    /// `of_all` beside it.
    fn gradient(&self, slope: f64, of_all: f64) -> Vec<f32> {
        let count = self.found.len();
        let slopes = (0..count).map(|index| if index < self.prompt { of_all } else { slope + of_all } as f32);
        let slopes = TensorData::new(slopes.collect::<Vec<f32>>(), [count]);
        let slopes = Tensor::<1>::from_data(slopes, &self.logits.device());
        let tape = (self.log_probabilities() * slopes).sum().backward();
        self.logits.grad(&tape).unwrap().into_data().iter::<f32>().collect()
    }
}

enum Formula {
    Pairs(PairFormula),
    Kto(Kto),
}

fn formula(case: &Value) -> Formula {
    let number = |key: &str, default: f64| case["keys"][key].as_f64().unwrap_or(default);
    match case["kind"].as_str().unwrap() {
        "dpo" => {
            let variant = match case["keys"]["variant"].as_str() {
                None => DpoVariant::Sigmoid,
                Some("hinge") => DpoVariant::Hinge,
                Some("ipo") => DpoVariant::Ipo,
                Some(other) => panic!("{other}"),
            };
            let (beta, label_smoothing) = (number("beta", 0.1), number("label_smoothing", 0.0));
            Formula::Pairs(PairFormula::Dpo(Dpo { beta, variant, label_smoothing }))
        }
        "orpo" => Formula::Pairs(PairFormula::Orpo(Orpo { lambda: number("lambda", 0.1) })),
        "simpo" => Formula::Pairs(PairFormula::Simpo(Simpo { beta: number("beta", 2.0), gamma: number("gamma", 0.5) })),
        "kto" => Formula::Kto(Kto {
            beta: number("beta", 0.1),
            desirable_weight: number("desirable_weight", 1.0),
            undesirable_weight: number("undesirable_weight", 1.0),
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn losses_and_gradients_equal_trl() {
    let golden = golden::json("preference.json");
    let vocabulary = golden["vocabulary"].as_u64().unwrap() as usize;
    let pairs: Vec<Vec<Answer>> = golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair.as_array().unwrap().iter().map(|answer| Answer::of(answer, vocabulary)).collect())
        .collect();
    let count = pairs.len() as f64;
    for case in golden["cases"].as_array().unwrap() {
        let (mut loss, mut slopes) = (0.0, vec![]);
        let mut of_all = 0.0;
        match formula(case) {
            Formula::Pairs(formula) => {
                for pair in &pairs {
                    let found = formula.pair(pair[0].scored(), pair[1].scored());
                    loss += found.loss / count;
                    slopes.push(found.slopes.map(|slope| slope / count));
                }
                if let PairFormula::Orpo(_) = formula {
                    let chosen = || pairs.iter().flat_map(|pair| &pair[0].found);
                    of_all = -1.0 / chosen().count() as f64;
                    loss += of_all * chosen().map(|value| f64::from(*value)).sum::<f64>();
                }
            }
            Formula::Kto(kto) => {
                for pair in &pairs {
                    let sides = [Judgement::Good, Judgement::Bad].into_iter().zip(pair);
                    let found: Vec<_> = sides.map(|(side, answer)| kto.answer(answer.scored(), side, KL)).collect();
                    loss += (found[0].loss + found[1].loss) / (2.0 * count);
                    slopes.push([found[0].slope / (2.0 * count), found[1].slope / (2.0 * count)]);
                }
            }
        }
        let name = format!("{} {}", case["kind"], case["keys"]);
        let expected = case["loss"].as_f64().unwrap();
        // The golden is computed in f32.
        assert!((loss - expected).abs() < 2e-6 * expected.abs().max(1.0), "{name}: {loss} instead of {expected}");
        for (index, (pair, slopes)) in pairs.iter().zip(slopes).enumerate() {
            for (side, answer) in pair.iter().enumerate() {
                let found = answer.gradient(slopes[side], if side == 0 { of_all } else { 0.0 });
                let expected = case["gradient"][index][side].as_array().unwrap();
                assert_eq!(found.len(), expected.len(), "{name}");
                for (found, expected) in found.iter().zip(expected) {
                    let expected = expected.as_f64().unwrap();
                    let apart = (f64::from(*found) - expected).abs();
                    assert!(
                        apart < 2e-6 * expected.abs().max(0.1),
                        "{name}: pair {index}: {found} instead of {expected}"
                    );
                }
            }
        }
    }
}
