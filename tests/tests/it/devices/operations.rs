//! Every operation of `firebrand-kernels` on the device, forward and backward, against its composed form on the processor; and twice,
//! for the same bits.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebrand_kernels::{self as kernels, composed};
use firebrand_kernels::{
    Activation, Alibi, AttentionOptions, Distillation, Divergence, FourBit, FrozenWeight, HeadWeight, Labels,
    Precision, Predicted, QuantizationScheme, QuantizedWeight, Regularisation, RopeStyle, Sight, TeacherTokens,
};
use firebrand_tests::device;

use super::row;

/// Where an operation runs, and in which form.
struct Place {
    device: Device,
    composed: bool,
}

/// Outputs and gradients.
type Values = Vec<Vec<f32>>;

const F32: Precision = Precision::F32;

impl Place {
    fn floats<const D: usize>(&self, shape: [usize; D], seed: u32) -> Tensor<D> {
        Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), &self.device)
    }

    /// A tensor that has a gradient.
    fn leaf<const D: usize>(&self, shape: [usize; D], seed: u32) -> Tensor<D> {
        self.floats(shape, seed).require_grad()
    }

    fn integers<const D: usize>(&self, values: Vec<i32>, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// `out`, and the gradients of its inner product with random numbers.
    fn passes<const D: usize>(&self, out: Tensor<D>, of: &[Leaf]) -> Values {
        let direction = self.floats(out.dims(), 99);
        let tape = (out.clone() * direction).sum().backward();
        let gradients = of.iter().map(|leaf| match leaf {
            Leaf::One(x) => read(x.grad(&tape).unwrap()),
            Leaf::Two(x) => read(x.grad(&tape).unwrap()),
            Leaf::Three(x) => read(x.grad(&tape).unwrap()),
            Leaf::Four(x) => read(x.grad(&tape).unwrap()),
        });
        std::iter::once(read(out)).chain(gradients).collect()
    }
}

enum Leaf {
    One(Tensor<1>),
    Two(Tensor<2>),
    Three(Tensor<3>),
    Four(Tensor<4>),
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Numbers in `-0.5..0.5` that look random and are the same on every machine.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// An operation at a place.
type Operation = fn(&Place) -> Values;

/// Operations by name.
const OPERATIONS: [(&str, Operation); 20] = [
    ("linear", linear),
    ("linear, one row", linear_of_one_row),
    ("linear, frozen in f16", linear_in_16_bits),
    ("frozen linear with LoRA", low_rank),
    ("frozen linear in NF4, FP4 and INT8", quantized),
    ("attention, causal, grouped, segments, window", attention),
    ("attention, full, soft-capped", attention_in_full),
    ("attention, ALiBi", attention_by_distance),
    ("attention, rounded ALiBi", attention_by_rounded_distance),
    ("cross-entropy with its head", cross_entropy),
    ("log-probabilities and likeliest tokens", log_probabilities),
    ("distillation", distillation),
    ("RMSNorm, LayerNorm", norms),
    ("RoPE", rope),
    ("SiLU", |place| activation(place, Activation::Silu)),
    ("GELU", |place| activation(place, Activation::GeluExact)),
    ("GELU by tanh", |place| activation(place, Activation::GeluTanh)),
    ("ReLU", |place| activation(place, Activation::Relu)),
    ("quick GELU", |place| activation(place, Activation::QuickGelu)),
    ("rows of experts", rows_of_experts),
];

/// Sums of up to 200 products of numbers below one, in another order; exponentials of a driver. The CPU's own forms are within 2e-6.
const TOLERANCE: f32 = 1e-5;

#[test]
fn operations_equal_their_composed_forms_on_the_processor() {
    let processor = Place { device: Device::flex().autodiff(), composed: true };
    let place = Place { device: device::open().autodiff(), composed: false };
    let mut far = vec![];
    for (name, operation) in OPERATIONS {
        let expected = operation(&processor);
        let start = Instant::now();
        let found = operation(&place);
        assert!(found == operation(&place), "{name}: other bits at the second time");
        let largest = distance(&found, &expected);
        row(name, &format!("{largest:.1e}"), start);
        if largest.is_nan() || largest > TOLERANCE {
            far.push(format!("{name}: {largest:e}"));
        }
    }
    assert!(far.is_empty(), "{far:?}");
}

/// The largest distance of two numbers, beside one and their size.
fn distance(found: &Values, expected: &Values) -> f32 {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    let apart = found.iter().flatten().zip(expected.iter().flatten());
    let apart = apart.map(|(found, expected)| (found - expected).abs() / (1.0 + expected.abs()));
    apart.fold(0.0, |most, next| if next.is_nan() || next > most { next } else { most })
}

fn linear(place: &Place) -> Values {
    let form = if place.composed { composed::linear::<3> } else { kernels::linear::<3> };
    let (x, weight) = (place.leaf([2, 33, 130], 1), place.leaf([96, 130], 2));
    place.passes(form(x.clone(), weight.clone(), F32), &[Leaf::Three(x), Leaf::Two(weight)])
}

fn linear_of_one_row(place: &Place) -> Values {
    let form = if place.composed { composed::linear::<2> } else { kernels::linear::<2> };
    let (x, weight) = (place.leaf([1, 65], 1), place.leaf([7, 65], 2));
    place.passes(form(x.clone(), weight.clone(), F32), &[Leaf::Two(x), Leaf::Two(weight)])
}

fn linear_in_16_bits(place: &Place) -> Values {
    let form = if place.composed { composed::linear::<2> } else { kernels::linear::<2> };
    let (x, weight) = (place.leaf([37, 130], 1), place.floats([96, 130], 2).cast(DType::F16));
    place.passes(form(x.clone(), weight, F32), &[Leaf::Two(x)])
}

fn low_rank(place: &Place) -> Values {
    let form = if place.composed { composed::low_rank_linear::<3> } else { kernels::low_rank_linear::<3> };
    let (x, weight) = (place.leaf([2, 20, 64], 1), place.floats([48, 64], 2));
    let (a, b) = (place.leaf([4, 64], 3), place.leaf([48, 4], 4));
    let out = form(x.clone(), FrozenWeight::Dense(weight), [a.clone(), b.clone()], 0.7, F32);
    place.passes(out, &[Leaf::Three(x), Leaf::Two(a), Leaf::Two(b)])
}

fn quantized(place: &Place) -> Values {
    let form = if place.composed { composed::frozen_matmul::<2> } else { kernels::frozen_matmul::<2> };
    let schemes = [
        QuantizationScheme::NF4,
        QuantizationScheme::FourBit { code: FourBit::Fp4, block: 32, double: false },
        QuantizationScheme::INT8,
    ];
    let of_scheme = |scheme| {
        // Blocks of one scale that end inside rows, and more rows, columns and inner numbers than a tile has.
        [[19, 192, 67], [70, 513, 130], [1, 65, 7]].into_iter().flat_map(move |[rows, inputs, outputs]| {
            let weight = TensorData::new(numbers(outputs * inputs, 2), [outputs, inputs]);
            let weight = Arc::new(QuantizedWeight::quantize(&weight, scheme).unwrap());
            let x = place.leaf([rows, inputs], 1);
            place.passes(form(x.clone(), &weight, F32), &[Leaf::Two(x)])
        })
    };
    schemes.into_iter().flat_map(of_scheme).collect()
}

/// Batch, queries, keys, query heads, key-value heads, and numbers of a head of queries and of values.
type Sizes = [usize; 7];

fn attend(place: &Place, sizes: Sizes, segments: bool, options: AttentionOptions) -> Values {
    let form = if place.composed { composed::attention } else { kernels::attention };
    let [batch, queries, keys, heads, groups, width, value_width] = sizes;
    let q = place.leaf([batch, queries, heads, width], 1);
    let (k, v) = (place.leaf([batch, keys, groups, width], 2), place.leaf([batch, keys, groups, value_width], 3));
    let segments = segments.then(|| {
        // Two rows in the first pack; one row and padding in the others.
        let ids = |first: usize| {
            let of = |at: usize| if at < keys { 1 + i32::from(at >= 20) } else { i32::from(at % keys < 30) };
            let ids: Vec<i32> = (0..batch * keys).filter(|at| at % keys >= first).map(of).collect();
            place.integers(ids, [batch, keys - first])
        };
        (ids(keys - queries), ids(0))
    });
    let out = form(q.clone(), k.clone(), v.clone(), segments, &options);
    place.passes(out, &[Leaf::Four(q), Leaf::Four(k), Leaf::Four(v)])
}

fn options(sight: Sight) -> AttentionOptions {
    AttentionOptions { scale: 0.25, sight, softcap: None, alibi: None, precision: F32 }
}

/// One tile of queries and several, heads that fill tiles and heads that do not, and queries that are the last of the keys.
fn attention(place: &Place) -> Values {
    let all = attend(place, [2, 37, 37, 4, 2, 16, 16], true, options(Sight::Causal { window: None }));
    let window = attend(place, [2, 70, 70, 4, 4, 40, 20], true, options(Sight::Causal { window: Some(9) }));
    let wide = attend(place, [1, 33, 90, 2, 1, 64, 64], false, options(Sight::Causal { window: Some(40) }));
    let last = attend(place, [2, 1, 45, 6, 3, 32, 32], true, options(Sight::Causal { window: None }));
    [all, window, wide, last].concat()
}

fn attention_in_full(place: &Place) -> Values {
    let capped = AttentionOptions { softcap: Some(0.5), ..options(Sight::Full) };
    [[2, 37, 37, 4, 1, 16, 16], [1, 65, 65, 2, 2, 36, 36]]
        .into_iter()
        .flat_map(|sizes| attend(place, sizes, false, capped.clone()))
        .collect()
}

fn attention_by_distance(place: &Place) -> Values {
    let alibi = Some(Alibi::Exact { slopes: vec![0.5, 0.25, 0.125, 0.0625] });
    let options = AttentionOptions { alibi, ..options(Sight::Causal { window: None }) };
    [[2, 37, 37, 4, 4, 16, 16], [1, 20, 66, 4, 2, 8, 8]]
        .into_iter()
        .flat_map(|sizes| attend(place, sizes, sizes[0] == 2, options.clone()))
        .collect()
}

/// Falcon's bias, which devices compose.
fn attention_by_rounded_distance(place: &Place) -> Values {
    let alibi = Some(Alibi::Bf16 { slopes: vec![0.5, 0.25] });
    let options = AttentionOptions { alibi, ..options(Sight::Causal { window: None }) };
    attend(place, [1, 37, 37, 2, 1, 16, 16], true, options)
}

/// Hidden states, a head with a low-rank part, its bias, targets and weights of 29 tokens.
fn head(place: &Place) -> (Tensor<2>, [Tensor<2>; 2], Tensor<1>, Tensor<1, Int>, Tensor<1>) {
    let (tokens, width, rank, vocab) = (29, 24, 3, 150);
    let targets = (0..tokens as i32).map(|at| at * 37 % vocab as i32).collect();
    let matrices = [place.leaf([vocab, width], 2), place.leaf([vocab, rank], 3)];
    (
        place.leaf([tokens, width + rank], 1),
        matrices,
        place.leaf([vocab], 4),
        place.integers(targets, [tokens]),
        place.floats([tokens], 5),
    )
}

fn cross_entropy(place: &Place) -> Values {
    let (hidden, [matrix, low_rank], bias, targets, weights) = head(place);
    let weight = HeadWeight { matrix: matrix.clone(), low_rank: Some(low_rank.clone()), precision: F32 };
    let terms = Regularisation { label_smoothing: 0.1, z_loss: 0.01 };
    let form = if place.composed { composed::regularised_cross_entropy } else { kernels::regularised_cross_entropy };
    let losses = form(hidden.clone(), weight, Some(bias.clone()), targets, weights, Some(3.0), terms);
    let parts = [losses.cross_entropy, losses.squared_log_sum].map(read);
    let of = [Leaf::Two(hidden), Leaf::Two(matrix), Leaf::Two(low_rank), Leaf::One(bias)];
    [place.passes(losses.loss, &of), parts.to_vec()].concat()
}

fn log_probabilities(place: &Place) -> Values {
    let (hidden, [matrix, _], bias, targets, _) = head(place);
    let hidden = hidden.slice([0..29, 0..24]).detach().require_grad();
    let form = if place.composed { composed::linear_log_probabilities } else { kernels::linear_log_probabilities };
    let given = form(hidden.clone(), matrix.clone(), Some(bias.clone()), targets.clone(), None);
    let passes = place.passes(given, &[Leaf::Two(hidden.clone()), Leaf::Two(matrix.clone()), Leaf::One(bias.clone())]);
    let form = if place.composed { composed::token_statistics } else { kernels::token_statistics };
    let inner = |x: Tensor<2>| x.inner();
    let (of_targets, likeliest) = form(inner(hidden), inner(matrix), Some(bias.inner()), targets.inner(), None);
    let likeliest = likeliest.into_data().iter::<i64>().map(|id| id as f32).collect();
    [passes, vec![read(of_targets), likeliest]].concat()
}

fn distillation(place: &Place) -> Values {
    let (hidden, [matrix, _], bias, targets, weights) = head(place);
    let hidden = hidden.slice([0..29, 0..24]).detach().require_grad();
    let head = |matrix: Tensor<2>| HeadWeight { matrix, low_rank: None, precision: F32 };
    let student =
        Predicted { hidden: hidden.clone(), head: head(matrix.clone()), bias: Some(bias.clone()), softcap: None };
    let teacher = Predicted {
        hidden: place.floats([29, 10], 11),
        head: head(place.floats([150, 10], 12)),
        bias: None,
        softcap: None,
    };
    let labels = Labels { targets, of_cross_entropy: weights.clone(), of_divergence: weights };
    let settings = Distillation { divergence: Divergence::Jsd { beta: 0.3 }, temperature: 1.5, alpha: 0.6 };
    let form = if place.composed { composed::linear_distillation } else { kernels::linear_distillation };
    let distilled = form(student, TeacherTokens::Head(teacher), labels, settings);
    let parts = read(distilled.parts);
    [place.passes(distilled.loss, &[Leaf::Two(hidden), Leaf::Two(matrix), Leaf::One(bias)]), vec![parts]].concat()
}

/// Rows that a group of units passes over once and several times, and more rows than one part of a weight's gradient has.
fn norms(place: &Place) -> Values {
    [[2, 17, 70], [3, 50, 300]].into_iter().flat_map(|shape| norms_of(place, shape)).collect()
}

fn norms_of(place: &Place, shape: [usize; 3]) -> Values {
    let (x, weight, bias) = (place.leaf(shape, 1), place.leaf([shape[2]], 2), place.leaf([shape[2]], 3));
    let form = if place.composed { composed::rms_norm } else { kernels::rms_norm };
    let rms = form(x.clone(), weight.clone(), 1e-5, 1.0);
    let rms = place.passes(rms, &[Leaf::Three(x.clone()), Leaf::One(weight.clone())]);
    let form = if place.composed { composed::layer_norm } else { kernels::layer_norm };
    let layer = form(x.clone(), weight.clone(), Some(bias.clone()), 1e-5);
    [rms, place.passes(layer, &[Leaf::Three(x), Leaf::One(weight), Leaf::One(bias)])].concat()
}

fn rope(place: &Place) -> Values {
    let form = if place.composed { composed::rope } else { kernels::rope };
    let of_style = |style| {
        let (x, angles) = (place.leaf([2, 9, 3, 16], 1), place.floats([2, 9, 6], 2));
        place.passes(form(x.clone(), angles.clone().cos(), angles.sin(), style), &[Leaf::Four(x)])
    };
    [RopeStyle::Half, RopeStyle::Interleaved].into_iter().flat_map(of_style).collect()
}

fn activation(place: &Place, activation: Activation) -> Values {
    let gated = if place.composed { composed::gated } else { kernels::gated };
    let plain = if place.composed { composed::activate } else { kernels::activate };
    let (x, up) = (place.leaf([1, 7, 33], 1), place.leaf([1, 7, 33], 2));
    let of_gate = gated(x.clone() * 4.0, up.clone(), activation);
    let of_gate = place.passes(of_gate, &[Leaf::Three(x.clone()), Leaf::Three(up)]);
    [of_gate, place.passes(plain(x.clone() * 4.0, activation), &[Leaf::Three(x)])].concat()
}

fn rows_of_experts(place: &Place) -> Values {
    let gather = if place.composed { composed::gather_rows } else { kernels::gather_rows };
    let x = place.leaf([6, 5], 3);
    let parts = gather(x.clone(), vec![vec![5, 0, 0], vec![2], vec![1, 5]]);
    place.passes(Tensor::cat(parts, 0), &[Leaf::Two(x)])
}
