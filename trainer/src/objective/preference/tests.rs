use firebrand_datasets::Pack;

use super::*;
use crate::recipe::DpoVariant;

fn scored(sum: f64, reference: f64, tokens: f64) -> Scored {
    Scored { sum, reference, tokens }
}

fn pair_formulas() -> Vec<PairFormula> {
    let dpo = |variant, label_smoothing| PairFormula::Dpo(Dpo { beta: 0.3, variant, label_smoothing });
    vec![
        dpo(DpoVariant::Sigmoid, 0.0),
        dpo(DpoVariant::Sigmoid, 0.2),
        dpo(DpoVariant::Hinge, 0.0),
        dpo(DpoVariant::Ipo, 0.0),
        PairFormula::Orpo(Orpo { lambda: 0.7 }),
        PairFormula::Simpo(Simpo { beta: 2.0, gamma: 0.5 }),
    ]
}

const STEP: f64 = 1e-5;

#[test]
fn derivatives_equal_finite_differences() {
    for formula in pair_formulas() {
        for (chosen, rejected) in [
            (scored(-3.0, -4.0, 2.0), scored(-5.0, -4.5, 3.0)),
            (scored(-9.0, -4.0, 1.0), scored(-0.5, -4.5, 4.0)),
            (scored(-0.01, -0.02, 1.0), scored(-700.0, -600.0, 90.0)),
        ] {
            let found = formula.pair(chosen, rejected);
            for side in 0..2 {
                let moved = |by: f64| {
                    let mut pair = [chosen, rejected];
                    pair[side].sum += by;
                    formula.pair(pair[0], pair[1]).loss
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let apart = (found.slopes[side] - expected).abs();
                assert!(apart < 1e-6 * expected.abs().max(1.0), "{formula:?}: {} {expected}", found.slopes[side]);
            }
        }
    }
    let kto = Kto { beta: 0.4, desirable_weight: 1.3, undesirable_weight: 0.8 };
    for judgement in [Judgement::Good, Judgement::Bad] {
        for sum in [-1.0, -5.0, -60.0] {
            let loss = |sum| kto.answer(scored(sum, -4.0, 3.0), judgement, 0.6).loss;
            let found = kto.answer(scored(sum, -4.0, 3.0), judgement, 0.6).slope;
            let expected = (loss(sum + STEP) - loss(sum - STEP)) / (2.0 * STEP);
            assert!((found - expected).abs() < 1e-8, "{judgement:?}: {found} {expected}");
        }
    }
}

#[test]
fn what_is_no_number_stays_so() {
    for formula in pair_formulas() {
        for pair in [[f64::NAN, -1.0], [-1.0, f64::NAN]] {
            let found = formula.pair(scored(pair[0], -1.0, 1.0), scored(pair[1], -1.0, 1.0));
            assert!(found.loss.is_nan(), "{formula:?}: {found:?}");
        }
    }
    assert!(Apart { sum: f64::NAN, rows: 3.0 }.kl().is_nan());
    assert_eq!(Apart { sum: -3.0, rows: 3.0 }.kl(), 0.0);
}

#[test]
fn certain_answers_have_finite_odds() {
    let found = PairFormula::Orpo(Orpo { lambda: 1.0 }).pair(scored(0.0, 0.0, 3.0), scored(-30.0, 0.0, 3.0));
    assert!(found.loss.is_finite() && found.slopes.iter().all(|slope| slope.is_finite()), "{found:?}");
}

/// An example whose answer begins at the index `prompt`.
fn example(ids: &[u32], prompt: usize) -> Tokens {
    let label = |index: usize| if index >= prompt { i64::from(ids[index]) } else { firebrand_datasets::NOT_TRAINED };
    let labels: Vec<i64> = (0..ids.len()).map(label).collect();
    let weights = labels.iter().map(|label| if *label >= 0 { 0.5 } else { 0.0 }).collect();
    Tokens { input_ids: ids.to_vec(), labels, weights, ..Tokens::default() }
}

fn pack(examples: &[usize], length: usize) -> Pack {
    Pack { examples: examples.to_vec(), length }
}

#[test]
fn answers_are_the_labelled_tokens_of_their_segments() {
    let examples = [example(&[1, 2, 3, 4], 2), example(&[1, 2, 5], 2), example(&[6, 7, 8], 1), example(&[6, 9], 1)];
    let tokens = TokenBatch::new(&examples, &[pack(&[0, 1], 7), pack(&[2, 3], 5)]);
    let parts = [vec![Part::Chosen, Part::Rejected], vec![Part::Chosen, Part::Rejected]];
    let judged = Judged { parts: &parts, tokens: &tokens };
    // Positions in two rows of 7 columns.
    let answers = Answers::of(judged, false);
    let places = |answers: &Answers, answer: &Answer| answers.tokens_of(answer).collect::<Vec<_>>();
    let found: Vec<_> = answers.all.iter().map(|answer| places(&answers, answer)).collect();
    assert_eq!(found, [vec![0, 1], vec![2], vec![3, 4], vec![5]]);
    assert_eq!(answers.predicted(), [(1, 3), (2, 4), (5, 5), (7, 7), (8, 8), (10, 9)]);
    assert_eq!(answers.all.iter().map(|answer| answer.weight).collect::<Vec<_>>(), [0.5; 4]);
    assert_eq!(answers.pairs().unwrap().len(), 2);
    let log_probabilities: Vec<f32> = (1..=6).map(|value| -(value as f32)).collect();
    let first = answers.scored(&answers.all[0], &log_probabilities, Some(&[-1.0; 4]));
    assert_eq!(answers.sums(&log_probabilities), [-3.0, -3.0, -9.0, -6.0]);
    assert_eq!(first, scored(-3.0, -1.0, 2.0));
    // With prompts: those of chosen answers are predicted too, and are no part of the answer.
    let answers = Answers::of(judged, true);
    assert_eq!(answers.predicted()[..4], [(0, 2), (1, 3), (2, 4), (5, 5)]);
    assert_eq!((answers.all[0].predictions(), places(&answers, &answers.all[0])), (0..3, vec![1, 2]));
    assert_eq!((answers.all[2].predictions(), places(&answers, &answers.all[2])), (4..6, vec![4, 5]));
    // Neighbours that are no pair are an error.
    let parts = [vec![Part::Chosen, Part::Chosen], vec![Part::Chosen, Part::Rejected]];
    assert!(Answers::of(Judged { parts: &parts, tokens: &tokens }, false).pairs().is_err());
}

#[test]
fn every_prompt_gets_the_answer_before_it_however_a_step_is_split() {
    let examples = [example(&[1, 2, 3, 4], 2), example(&[5, 6], 1), example(&[7, 8, 9], 2)];
    let expected = [vec![5, 3, 4], vec![7, 8, 6], vec![1, 2, 9]];
    let batch = |packs: &[Pack]| TokenBatch::new(&examples, packs);
    let splits = [
        vec![batch(&[pack(&[0, 1, 2], 9)])],
        vec![batch(&[pack(&[0], 4), pack(&[1], 2), pack(&[2], 3)])],
        vec![batch(&[pack(&[0], 4)]), batch(&[pack(&[1, 2], 5)])],
    ];
    for split in splits {
        let mut mismatched = Mismatched::default();
        let mut rows = vec![];
        for tokens in &split {
            let starts = |row: &[i32]| row.iter().max().copied().unwrap_or(0);
            let counts = tokens.segments.chunks(tokens.length).map(starts);
            let parts: Vec<Vec<Part>> = counts.map(|count| vec![Part::Good; count as usize]).collect();
            rows.extend(mismatched.next(Judged { parts: &parts, tokens }));
        }
        rows.extend(mismatched.end());
        let ids: Vec<Vec<u32>> = rows.iter().map(|row| row.input_ids.clone()).collect();
        assert_eq!(ids, expected);
        assert_eq!(rows[0].labels, [-100, 3, 4]);
        // Laid out again, with the longest of them cut.
        let laid = batches(rows, &split[0], 2);
        let tokens: usize = laid.iter().map(|(_, tokens)| tokens.tokens()).sum();
        assert_eq!(tokens, 6);
    }
    let mut alone = Mismatched::default();
    let tokens = batch(&[pack(&[1], 2)]);
    assert!(alone.next(Judged { parts: &[vec![Part::Bad]], tokens: &tokens }).is_empty());
    assert_eq!(alone.end().unwrap().input_ids, [5, 6]);
}
