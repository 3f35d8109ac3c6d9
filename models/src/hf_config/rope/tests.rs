//! Both spellings and every scaling are read, and contradictions are refused.

use super::*;

/// A config of 4 heads of 16 dimensions; `rest` adds keys.
fn config(rest: &str) -> HfConfig {
    HfConfig::from_json("config.json", format!(r#"{{"max_position_embeddings": 16384, {rest}}}"#)).unwrap()
}

fn rope(rest: &str) -> Rope {
    config(rest).rope(16, &RopeDefaults::default()).unwrap()
}

/// transformers computes powers with a vectorised f32 `pow`, which may be off by two units in the last place.
fn assert_freqs(rope: &Rope, seq_len: usize, expected: &[f32], attention_factor: f32) {
    let (freqs, factor) = rope.inv_freq(seq_len);
    assert_eq!(freqs.len(), expected.len());
    for (freq, expected) in freqs.iter().zip(expected) {
        assert!((freq - expected).abs() <= 3e-7 * expected, "{freqs:?} instead of {expected:?}");
    }
    assert!((factor - attention_factor).abs() < 1e-6, "{factor}");
}

// The expected numbers are those of transformers 5.23.0, `LlamaRotaryEmbedding` and `ROPE_INIT_FUNCTIONS`.

#[test]
fn default_frequencies_match_transformers() {
    let expected = [1.0, 1.9392276e-1, 3.760603e-2, 7.292665e-3, 1.4142134e-3, 2.742482e-4, 5.3182957e-5, 1.0313385e-5];
    assert_freqs(&rope(r#""rope_theta": 500000.0"#), 1, &expected, 1.0);
    assert_freqs(&rope(r#""rope_parameters": {"rope_theta": 500000, "rope_type": "default"}"#), 1, &expected, 1.0);
}

#[test]
fn linear_frequencies_match_transformers() {
    let expected = [0.25, 7.905694e-2, 2.5e-2, 7.905695e-3, 2.5e-3, 7.9056947e-4, 2.5e-4, 7.905695e-5];
    let scaled = rope(r#""rope_scaling": {"type": "linear", "factor": 4.0}"#);
    assert_freqs(&scaled, 1, &expected, 1.0);
    let partial = rope(r#""rope_scaling": {"type": "linear", "factor": 4.0}, "partial_rotary_factor": 0.5"#);
    assert_eq!(partial.dims, 8);
    assert_freqs(&partial, 1, &[0.25, 2.5e-2, 2.5e-3, 2.5e-4], 1.0);
}

#[test]
fn dynamic_frequencies_match_transformers() {
    let text = r#"{"max_position_embeddings": 128, "rope_scaling": {"type": "dynamic", "factor": 2.0}}"#;
    let rope = HfConfig::from_json("c", text).unwrap().rope(16, &RopeDefaults::default()).unwrap();
    let short = [1.0, 3.1622776e-1, 1e-1, 3.162278e-2, 1e-2, 3.1622779e-3, 1e-3, 3.162278e-4];
    assert_freqs(&rope, 100, &short, 1.0);
    assert_freqs(&rope, 128, &short, 1.0);
    let long = [1.0, 2.62445e-1, 6.887737e-2, 1.807652e-2, 4.744092e-3, 1.2450633e-3, 3.267606e-4, 8.575668e-5];
    assert_freqs(&rope, 300, &long, 1.0);
}

#[test]
fn llama3_frequencies_match_transformers() {
    let published = r#""rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#;
    let expected = [1.0, 1.9392276e-1, 3.760603e-2, 7.292665e-3, 5.24846e-4, 3.4281024e-5, 6.6478697e-6, 1.2891732e-6];
    assert_freqs(&rope(published), 1, &expected, 1.0);
    let short = r#""rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}"#;
    let expected = [1.0, 2.4438459e-1, 1.3042256e-2, 3.9528473e-3, 1.25e-3, 3.9528473e-4, 1.25e-4, 3.9528473e-5];
    assert_freqs(&rope(short), 1, &expected, 1.0);
}

#[test]
fn yarn_frequencies_match_transformers() {
    let yarn = |rest: &str| {
        rope(&format!(r#""rope_scaling": {{"rope_type": "yarn", "original_max_position_embeddings": 4096, {rest}}}"#))
    };
    let expected = [1.0, 3.1622776e-1, 1e-1, 2.5693506e-2, 6.2499996e-3, 1.3834966e-3, 2.5e-4, 7.905695e-5];
    assert_freqs(&yarn(r#""factor": 4.0"#), 1, &expected, 1.138_629_4);
    assert_freqs(&yarn(r#""factor": null, "attention_factor": 0.75"#), 1, &expected, 0.75);
    let all =
        r#""factor": 40.0, "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": false"#;
    let expected = [1.0, 3.1622776e-1, 1e-1, 3.162278e-2, 5.7901046e-3, 1.2395246e-4, 2.5e-5, 7.9056945e-6];
    assert_freqs(&yarn(all), 1, &expected, 1.155_722);
    let short = rope(r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}"#);
    let expected = [1.0, 7.905694e-2, 2.5e-2, 7.905695e-3, 2.5e-3, 7.9056947e-4, 2.5e-4, 7.905695e-5];
    assert_freqs(&short, 1, &expected, 1.138_629_4);
}

#[test]
fn both_spellings_mean_the_same() {
    let old = r#""rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2}"#;
    let new = r#""rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000000.0}"#;
    assert_eq!(rope(old), rope(new));
    let silent = Rope { theta: 1e4, dims: 16, partial_rotary_factor: 1.0, scaling: RopeScaling::Default };
    assert_eq!(rope(r#""rope_scaling": null"#), silent);
    assert_eq!(rope(r#""rope_parameters": {}"#), silent);
}

#[test]
fn what_is_unknown_wrong_or_contradictory_is_refused_by_name() {
    let llama3 = |low: &str, high: &str| {
        format!(
            r#""rope_scaling": {{"type": "llama3", "factor": 8, "low_freq_factor": {low}, "high_freq_factor": {high}}}"#
        )
    };
    for (rest, says) in [
        (r#""rope_scaling": {"type": "ntk", "factor": 2}"#, "`rope_scaling.rope_type`: expected one of default"),
        (
            r#""rope_scaling": {"type": "longrope", "factor": 2}"#,
            "`rope_scaling.short_factor`: expected 8 numbers above 0",
        ),
        (
            r#""rope_scaling": {"type": "su", "short_factor": [1,1,1,1,1,1,1,1], "long_factor": [1,2]}"#,
            "`rope_scaling.long_factor`: expected 8 numbers above 0, one for each pair of dimensions, found 2 values",
        ),
        (
            r#""rope_scaling": {"type": "longrope", "short_factor": [1,1,1,1,1,1,0,"1"], "long_factor": [1]}"#,
            "found 8 values, 6 of them such",
        ),
        (r#""rope_scaling": {"type": "linear", "factor": 2, "facter": 1}"#, "`rope_scaling.facter`"),
        (r#""rope_parameters": {"rope_type": "default", "mrope_section": [1]}"#, "`rope_parameters.mrope_section`"),
        (r#""rope_scaling": {"type": "linear"}"#, "`rope_scaling.factor`: expected a number above 0, found nothing"),
        (r#""rope_scaling": {"type": "linear", "factor": 0}"#, "`rope_scaling.factor`"),
        (r#""rope_scaling": {"type": "linear", "factor": -2}"#, "`rope_scaling.factor`"),
        (r#""rope_scaling": {"type": "linear", "factor": "NaN"}"#, "`rope_scaling.factor`"),
        (r#""rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2}"#, "`rope_scaling.type`"),
        (r#""rope_scaling": [1]"#, "`rope_scaling`: expected an object"),
        (r#""rope_theta": 0"#, "`rope_theta`"),
        (r#""rope_theta": 1.0"#, "`rope_theta`: expected a number above 1"),
        (r#""rope_theta": 5, "rope_parameters": {"rope_theta": 6}"#, "`rope_parameters.rope_theta`: expected 5"),
        (r#""rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_theta": 6}"#, "`rope_scaling`"),
        (r#""partial_rotary_factor": 1.5"#, "`partial_rotary_factor`: expected at most 1"),
        (r#""partial_rotary_factor": 0.2"#, "`head_dim`: expected an even number"),
        (
            r#""rope_scaling": {"type": "dynamic", "factor": 2, "original_max_position_embeddings": 7}"#,
            "expected 16384",
        ),
        (r#""partial_rotary_factor": 0.125, "rope_scaling": {"type": "dynamic", "factor": 2}"#, "more than 2"),
        (r#""rope_scaling": {"type": "yarn", "original_max_position_embeddings": 64}"#, "`rope_scaling.factor`"),
        (r#""rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1}"#, "`rope_scaling.beta_fast`"),
        (&llama3("4", "4"), "`rope_scaling.high_freq_factor`: expected more than"),
        (&llama3("0", "4"), "`rope_scaling.low_freq_factor`"),
    ] {
        let error = config(rest).rope(16, &RopeDefaults::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{rest}: {error}");
    }
}
