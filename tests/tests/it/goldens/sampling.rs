//! What is drawn from: equal to transformers' logits processors, each alone and together.

use firebrand::inference::generate::{Draw, Sampling};
use firebrand_tests::golden;
use serde_json::Value;

/// Row 50.
#[test]
fn tokens_are_drawn_from_what_transformers_draws_from() {
    let golden = golden::json("sampling.json");
    for case in golden["cases"].as_array().unwrap() {
        let settings = &case["settings"];
        let number = |key: &str, neutral: f64| settings[key].as_f64().unwrap_or(neutral);
        let draw = Draw {
            temperature: number("temperature", 1.0),
            top_k: number("top_k", 0.0) as usize,
            top_p: number("top_p", 1.0),
            min_p: number("min_p", 0.0),
            seed: 1,
        };
        let greedy = case["greedy"].as_array();
        let sampling = if greedy.is_some() { Sampling::Greedy } else { Sampling::Random(draw) };
        let mut sampler = sampling.start().penalising(number("repetition_penalty", 1.0));
        for (step, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            let floats = |list: &Value| -> Vec<f32> {
                list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
            };
            let logits = floats(&expected["logits"]);
            let seen: Vec<u32> = serde_json::from_value(expected["seen"].clone()).unwrap();
            let mut ours = sampler.probabilities(&logits, &seen);
            ours.sort_by_key(|(id, _)| *id);
            let kept = expected["kept"].as_array().unwrap();
            let ids: Vec<u64> = ours.iter().map(|(id, _)| u64::from(*id)).collect();
            let theirs: Vec<u64> = kept.iter().map(|pair| pair[0].as_u64().unwrap()).collect();
            assert_eq!(ids, theirs, "{settings}, step {step}");
            for ((id, probability), pair) in ours.iter().zip(kept) {
                // The reference computes in f32.
                let difference = (probability - pair[1].as_f64().unwrap()).abs();
                assert!(difference < 1e-6, "{settings}, step {step}, token {id}: {difference}");
            }
            match greedy {
                Some(greedy) => {
                    assert_eq!(u64::from(sampler.choose(&logits, &seen)), greedy[step].as_u64().unwrap(), "{settings}");
                }
                None => assert!(ids.contains(&u64::from(sampler.choose(&logits, &seen))), "{settings}"),
            }
        }
    }
}
