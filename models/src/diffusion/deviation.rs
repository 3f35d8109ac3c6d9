//! [`deviation`]: the size of new weights.

/// The standard deviation of new weights of a map from so many numbers: that of torch's, whose values are uniform within
/// the inverse root of that number.
pub(super) fn deviation(inputs: usize) -> f64 {
    (3.0 * inputs as f64).powf(-0.5)
}
