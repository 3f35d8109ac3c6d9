//! What scores of whole texts are worth: [`ScoreSums`] counts over the texts of a step, or of an evaluation.
//!
//! `accuracy` is the share of texts whose highest score is that of their class; of several classes, the share of texts and
//! classes whose score is above zero where it should be. `f1` is the mean over all classes of `2 tp / (2 tp + fp + fn)`, 0
//! for a class that is neither there nor guessed (scikit-learn's `f1_score(average="macro", zero_division=0)` over all
//! classes of the head). Rewards are the raw scores.

use firebrand_datasets::{Problem, Target};

use super::parts::{EvalMetrics, Evaluated, Parts};

/// What is learned of each text.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// The number of its class.
    Class(Vec<usize>),
    /// For each class, whether the text is of it.
    Classes(Vec<Vec<bool>>),
    /// Its value.
    Values(Vec<f64>),
    /// The first half is better than the second.
    Pairs,
}

impl Targets {
    /// The targets of all texts.
    pub fn of(targets: Vec<Target>) -> Self {
        let mut sorted = (vec![], vec![], vec![]);
        for target in targets {
            match target {
                Target::Class(class) => sorted.0.push(class),
                Target::Classes(classes) => sorted.1.push(classes),
                Target::Value(value) => sorted.2.push(value),
            }
        }
        // All targets of one problem are of one kind.
        match sorted {
            (classes, several, values) if several.is_empty() && values.is_empty() => Self::Class(classes),
            (_, several, values) if values.is_empty() => Self::Classes(several),
            (_, _, values) => Self::Values(values),
        }
    }
}

/// Sums over texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreSums {
    /// Weighted losses.
    pub loss: f64,
    /// Sum of the weights.
    pub weight: f64,
    /// Number of texts, or of pairs.
    count: u64,
    counts: Vec<ClassCounts>,
    /// Number of decisions, and how many of them were right.
    decided: u64,
    right: u64,
    /// Sums of the scores of better and of worse answers.
    chosen: f64,
    rejected: f64,
    /// Number of pairs, and of those whose better answer has the higher score.
    pairs: u64,
    preferred: u64,
}

/// How often a class was guessed and was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ClassCounts {
    both: u64,
    guessed: u64,
    there: u64,
}

impl ScoreSums {
    /// Adds texts with their scores, in the order of `targets`.
    pub(super) fn add(&mut self, targets: &Targets, scores: &[Vec<f32>]) {
        match targets {
            Targets::Class(classes) => {
                for (scores, class) in scores.iter().zip(classes) {
                    let best = best(scores);
                    self.count += 1;
                    self.decide(scores.len(), |number| (number == best, number == *class));
                    self.decided += 1;
                    self.right += u64::from(best == *class);
                }
            }
            Targets::Classes(of_rows) => {
                for (scores, of) in scores.iter().zip(of_rows) {
                    self.count += 1;
                    self.decide(scores.len(), |number| (scores[number] > 0.0, of[number]));
                    self.decided += scores.len() as u64;
                    self.right += scores.iter().zip(of).filter(|(score, is)| (**score > 0.0) == **is).count() as u64;
                }
            }
            Targets::Values(values) => self.count += values.len() as u64,
            Targets::Pairs => {
                let first = |scores: &Vec<f32>| f64::from(scores.first().copied().unwrap_or(f32::NAN));
                let (better, worse) = scores.split_at(scores.len() / 2);
                for (better, worse) in better.iter().zip(worse) {
                    let (better, worse) = (first(better), first(worse));
                    self.count += 1;
                    self.pairs += 1;
                    self.chosen += better;
                    self.rejected += worse;
                    self.preferred += u64::from(better > worse);
                }
            }
        }
    }

    fn decide(&mut self, classes: usize, of: impl Fn(usize) -> (bool, bool)) {
        self.counts.resize(classes.max(self.counts.len()), ClassCounts::default());
        for (number, counts) in self.counts.iter_mut().enumerate().take(classes) {
            let (guessed, there) = of(number);
            counts.both += u64::from(guessed && there);
            counts.guessed += u64::from(guessed);
            counts.there += u64::from(there);
        }
    }

    fn accuracy(&self) -> Option<f64> {
        (self.decided > 0).then(|| self.right as f64 / self.decided as f64)
    }

    fn f1(&self) -> Option<f64> {
        let of = |counts: &ClassCounts| match counts.guessed + counts.there {
            0 => 0.0,
            both => 2.0 * counts.both as f64 / both as f64,
        };
        (!self.counts.is_empty()).then(|| self.counts.iter().map(of).sum::<f64>() / self.counts.len() as f64)
    }

    /// Sets the numbers of a step.
    pub(super) fn report(&self, parts: &mut Parts) {
        if let (Some(accuracy), Some(f1)) = (self.accuracy(), self.f1()) {
            parts.set("accuracy", accuracy);
            parts.set("f1", f1);
        } else if self.pairs > 0 {
            self.rewards().iter().for_each(|(name, value)| parts.set(name, *value));
        }
    }

    fn rewards(&self) -> [(&'static str, f64); 4] {
        let mean = |sum: f64| sum / self.count as f64;
        [
            ("rewards/chosen", mean(self.chosen)),
            ("rewards/rejected", mean(self.rejected)),
            ("rewards/margins", mean(self.chosen - self.rejected)),
            ("rewards/accuracies", mean(self.preferred as f64)),
        ]
    }

    /// The sums as the result of an evaluation; `problem` is that of labels, absent for pairs.
    pub(super) fn evaluated(&self, problem: Option<Problem>) -> Evaluated {
        let loss = self.loss / self.weight;
        let metrics = match problem {
            Some(Problem::Single | Problem::Multi | Problem::Regression) => {
                EvalMetrics::Classes { accuracy: self.accuracy(), f1: self.f1(), rows: self.count }
            }
            None => {
                let [(_, chosen), (_, rejected), (_, margins), (_, accuracies)] = self.rewards();
                EvalMetrics::Rewards { chosen, rejected, margins, accuracies, pairs: self.count }
            }
        };
        Evaluated { loss, metrics }
    }
}

/// The number of the highest score; of several the first.
fn best(scores: &[f32]) -> usize {
    let better = |best: usize, number: usize| if scores[number] > scores[best] { number } else { best };
    (1..scores.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(targets: Targets, scores: &[&[f32]]) -> ScoreSums {
        let mut sums = ScoreSums::default();
        sums.add(&targets, &scores.iter().map(|scores| scores.to_vec()).collect::<Vec<_>>());
        sums
    }

    #[test]
    fn the_mean_of_f1_is_over_all_classes() {
        // Class 0: guessed twice, right once, there once. Class 1: there twice, guessed once, rightly. Class 2: neither.
        let scores: [&[f32]; 3] = [&[2.0, 1.0, 0.0], &[2.0, 1.0, 0.0], &[0.0, 1.0, 0.5]];
        let sums = sums(Targets::Class(vec![0, 1, 1]), &scores);
        assert_eq!(sums.accuracy(), Some(2.0 / 3.0));
        assert!((sums.f1().unwrap() - (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn several_classes_are_decided_one_by_one() {
        let sums = sums(Targets::Classes(vec![vec![true, false], vec![false, false]]), &[&[1.0, 0.0], &[1.0, -1.0]]);
        assert_eq!(sums.accuracy(), Some(0.75));
        assert!((sums.f1().unwrap() - (2.0 / 3.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_draw_is_no_preference() {
        let sums = sums(Targets::Pairs, &[&[1.0], &[2.0], &[1.0], &[0.0]]);
        let mut parts = Parts::default();
        sums.report(&mut parts);
        let get = |name: &str| parts.get(name).unwrap();
        assert_eq!((get("rewards/accuracies"), get("rewards/margins")), (0.5, 1.0));
        assert_eq!((get("rewards/chosen"), get("rewards/rejected")), (1.5, 0.5));
    }

    #[test]
    fn a_value_is_neither_right_nor_wrong() {
        let sums = sums(Targets::Values(vec![1.0]), &[&[1.0]]);
        assert_eq!((sums.accuracy(), sums.f1(), sums.count), (None, None, 1));
    }
}
