use super::*;
use crate::testing::{assert_near, finite_differences, in_pools, integers, numbers, random, values};
use burn::tensor::{Device, TensorData};

type Packing = Option<(Tensor<2, Int>, Tensor<2, Int>)>;
type Form = fn(Tensor<4>, Tensor<4>, Tensor<4>, Packing, &AttentionOptions) -> Tensor<4>;

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    groups: usize,
    dim: usize,
}

const CAUSAL: Sight = Sight::Causal { window: None };
const PLAIN: AttentionOptions =
    AttentionOptions { scale: 0.4, sight: CAUSAL, softcap: None, alibi: None, precision: Precision::F32 };

fn shape([batch, queries, keys, heads, groups, dim]: [usize; 6]) -> Shape {
    Shape { batch, queries, keys, heads, groups, dim }
}

fn operands(shape: Shape) -> [Tensor<4>; 3] {
    let Shape { batch, queries, keys, heads, groups, dim } = shape;
    // Large enough that the weights are far from equal.
    let (q, k) = (random([batch, queries, heads, dim], 1) * 6.0, random([batch, keys, groups, dim], 2) * 6.0);
    [q, k, random([batch, keys, groups, dim], 3)]
}

/// Segments `of` each position of a row of keys, the same for every row; the queries are the last.
fn segments(shape: Shape, of: impl Fn(usize) -> i64) -> Packing {
    let row: Vec<i64> = (0..shape.keys).map(of).collect();
    let last = &row[shape.keys - shape.queries..];
    Some((
        integers(&last.repeat(shape.batch), [shape.batch, shape.queries]),
        integers(&row.repeat(shape.batch), [shape.batch, shape.keys]),
    ))
}

fn passes(form: Form, inputs: [Tensor<4>; 3], segments: Packing, options: &AttentionOptions) -> [Vec<f32>; 4] {
    let [q, k, v] = inputs.map(Tensor::require_grad);
    let out = form(q.clone(), k.clone(), v.clone(), segments, options);
    let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
    let of = |x: Tensor<4>| values(x.grad(&grads).unwrap());
    [values(out), of(q), of(k), of(v)]
}

fn assert_equals_composed(shape: Shape, segments: Packing, options: &AttentionOptions) {
    let found = passes(attention, operands(shape), segments.clone(), options);
    let expected = passes(composed, operands(shape), segments, options);
    for (found, expected) in found.iter().zip(&expected) {
        assert_near(found, expected, 1e-5);
    }
}

const SHAPES: [[usize; 6]; 8] = [
    [1, 1, 1, 1, 1, 1],
    [2, 1, 9, 6, 2, 10],
    [1, 5, 5, 1, 1, 8],
    [2, 17, 17, 6, 2, 10],
    [1, 7, 30, 4, 4, 16],
    [2, 130, 130, 3, 1, 8],
    [1, 200, 210, 2, 2, 33],
    [1, 40, 40, 40, 1, 4],
];

#[test]
fn equals_composed() {
    for sizes in SHAPES {
        assert_equals_composed(shape(sizes), None, &PLAIN);
    }
}

fn within(window: usize) -> Sight {
    Sight::Causal { window: Some(window) }
}

#[test]
fn window_softcap_and_alibi_equal_composed() {
    for sizes in SHAPES {
        let shape = shape(sizes);
        let slopes: Vec<f32> = (0..shape.heads).map(|head| 0.5 / (head + 1) as f32).collect();
        for window in [1, 4, 1000] {
            assert_equals_composed(shape, None, &AttentionOptions { sight: within(window), ..PLAIN });
        }
        assert_equals_composed(shape, None, &AttentionOptions { softcap: Some(1.5), ..PLAIN });
        for alibi in [Alibi::Exact { slopes: slopes.clone() }, Alibi::Bf16 { slopes }] {
            let alibi = Some(alibi);
            assert_equals_composed(shape, None, &AttentionOptions { alibi: alibi.clone(), ..PLAIN });
            assert_equals_composed(
                shape,
                segments(shape, |i| i as i64 / 50),
                &AttentionOptions { sight: within(20), alibi: alibi.clone(), ..PLAIN },
            );
            let all =
                AttentionOptions { scale: 0.3, sight: within(5), softcap: Some(2.0), alibi, precision: Precision::F32 };
            assert_equals_composed(shape, segments(shape, |i| i as i64 / 4), &all);
        }
    }
}

/// Sizes and options that no family was written for: odd head sizes, one key-value head, windows shorter than the text.
#[test]
fn any_sizes_and_options_equal_composed() {
    let mut state = 7u32;
    let mut pick = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    for _ in 0..40 {
        let groups = [1, 1, 2, 3][pick(4)];
        let heads = groups * [1, 2, 5, 7][pick(4)];
        let keys = [1, 2, 9, 33, 70, 161, 320][pick(7)];
        let queries = if pick(2) == 0 { keys } else { 1 + pick(keys) };
        let shape = shape([1 + pick(2), queries, keys, heads, groups, [1, 5, 7, 13, 20][pick(5)]]);
        let slopes: Vec<f32> = (0..heads).map(|head| 0.7 / (head + 1) as f32).collect();
        let options = AttentionOptions {
            scale: 0.4,
            sight: [CAUSAL, within(1), within(2), within(6), within(40), Sight::Full][pick(6)],
            softcap: [None, Some(2.0)][pick(2)],
            alibi: [None, Some(Alibi::Exact { slopes: slopes.clone() }), Some(Alibi::Bf16 { slopes })][pick(3)].clone(),
            precision: Precision::F32,
        };
        let length = 1 + pick(50);
        let segments = if pick(2) == 0 { None } else { segments(shape, |i| (i / length) as i64) };
        assert_equals_composed(shape, segments, &options);
    }
}

#[test]
fn segments_equal_composed() {
    for sizes in SHAPES {
        let shape = shape(sizes);
        // Packed rows; padding (segment 0) behind the last; segments that interleave.
        let padded = |i: usize| if i * 4 >= shape.keys * 3 { 0 } else { 1 + i as i64 / 5 };
        for rule in [&|i: usize| i as i64 / 6, &padded, &|i: usize| i as i64 % 3] as [&dyn Fn(usize) -> i64; 3] {
            assert_equals_composed(shape, segments(shape, rule), &PLAIN);
        }
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zeros() {
    let shape = shape([1, 3, 3, 2, 1, 4]);
    let lost = Some((integers(&[7, 1, 7], [1, 3]), integers(&[1, 1, 1], [1, 3])));
    assert_equals_composed(shape, lost.clone(), &PLAIN);
    let [out, ..] = passes(attention, operands(shape), lost, &PLAIN);
    assert_eq!(out[..8], [0.0; 8]);
    assert_ne!(out[8..16], [0.0; 8]);
}

#[test]
fn another_segment_does_not_move_a_row() {
    let shape = shape([1, 150, 150, 6, 2, 16]);
    let split = 70;
    let packed = segments(shape, |i| (i >= split) as i64);
    let out = |inputs: [Tensor<4>; 3]| {
        let [q, k, v] = inputs;
        values(attention(q, k, v, packed.clone(), &PLAIN))
    };
    let before = out(operands(shape));
    let after = out(operands(shape).map(|x| {
        let [_, _, heads, dim] = x.dims();
        let noise = random([1, split, heads, dim], 77) * 1000.0;
        x.slice_assign([0..1, 0..split, 0..heads, 0..dim], noise)
    }));
    let row = shape.heads * shape.dim;
    assert_eq!(before[split * row..], after[split * row..]);
    assert_ne!(before[..split * row], after[..split * row]);
}

#[test]
fn one_query_continues_a_row() {
    let whole = shape([2, 20, 20, 6, 2, 10]);
    let [q, k, v] = operands(whole);
    let all = values(attention(q.clone(), k.clone(), v.clone(), None, &PLAIN).slice([0..2, 19..20]));
    assert_near(&values(attention(q.slice([0..2, 19..20]), k, v, None, &PLAIN)), &all, 1e-6);
}

#[test]
fn gradients_equal_finite_differences() {
    let sizes = [[1, 3, 4, 2], [1, 4, 1, 2], [1, 4, 1, 2]];
    let points: Vec<Vec<f32>> = (0..3).map(|i| numbers(sizes[i].iter().product(), 20 + i as u32)).collect();
    for sight in [within(3), Sight::Full] {
        let options = AttentionOptions {
            scale: 0.9,
            sight,
            softcap: Some(1.1),
            alibi: Some(Alibi::Bf16 { slopes: vec![0.3, 0.2, 0.1, 0.05] }),
            precision: Precision::F32,
        };
        let of = |points: &[Vec<f32>]| {
            [0, 1, 2].map(|i| {
                Tensor::<4>::from_data(TensorData::new(points[i].clone(), sizes[i]), &Device::flex().autodiff())
            })
        };
        let found = passes(attention, of(&points), None, &options);
        for which in 0..3 {
            let value = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                let [q, k, v] = of(&points);
                values((attention(q, k, v, None, &options) * random([1, 3, 4, 2], 9)).sum())[0]
            };
            // Differences in f32 over a step of 0.01 leave about 1e-4.
            assert_near(&found[which + 1], &finite_differences(&points[which], 0.01, value), 1e-4);
        }
    }
}

#[test]
fn a_full_sight_sees_later_keys_of_its_segment_and_no_others() {
    let shape = shape([1, 6, 6, 2, 1, 4]);
    let [q, k, v] = operands(shape);
    let full = AttentionOptions { sight: Sight::Full, ..PLAIN };
    let pack = segments(shape, |i| (i >= 4) as i64);
    let all = values(attention(q.clone(), k.clone(), v.clone(), pack, &full));
    let alone = |range: std::ops::Range<usize>| {
        let part = |x: &Tensor<4>| x.clone().slice_dim(1, range.clone());
        values(attention(part(&q), part(&k), part(&v), None, &full))
    };
    assert_near(&all, &[alone(0..4), alone(4..6)].concat(), 1e-6);
    let causal = values(attention(q, k, v, None, &PLAIN));
    assert!(all.iter().zip(&causal).any(|(full, causal)| (full - causal).abs() > 1e-3));
}

#[test]
fn a_full_sight_reads_other_keys_than_those_of_its_queries() {
    let full = AttentionOptions { sight: Sight::Full, ..PLAIN };
    for sizes in [[1, 9, 1, 2, 2, 5], [2, 130, 7, 4, 4, 8], [1, 7, 30, 2, 1, 10], [1, 200, 77, 8, 8, 16]] {
        assert_equals_composed(shape(sizes), None, &full);
    }
}

#[test]
fn views_are_accepted() {
    let [q, k, v] = operands(shape([2, 6, 6, 4, 2, 8]));
    let turn = |x: Tensor<4>| x.swap_dims(1, 2);
    let views = [turn(q.clone()), turn(k.clone()), turn(v.clone())].map(|x| turn(x + 0.0));
    let found = passes(attention, views, None, &PLAIN);
    let expected = passes(attention, [q, k, v], None, &PLAIN);
    assert_eq!(found, expected);
}

#[test]
fn untrained_inputs_build_no_graph() {
    let [q, k, v] = operands(shape([1, 3, 3, 2, 1, 4]));
    assert!(!attention(q.clone(), k.clone(), v.clone(), None, &PLAIN).is_tracked());
    assert!(attention(q, k, v.require_grad(), None, &PLAIN).is_tracked());
}

#[test]
fn nan_reaches_the_output_of_those_who_see_it() {
    let [q, k, v] = operands(shape([1, 4, 4, 1, 1, 2]));
    let nan = Tensor::<4>::full([1, 1, 1, 2], f32::NAN, &Device::flex().autodiff());
    let broken = |x: &Tensor<4>| x.clone().slice_assign([0..1, 2..3, 0..1, 0..2], nan.clone());
    let out = values(attention(q.clone(), broken(&k), v.clone(), None, &PLAIN));
    assert!(out[..4].iter().all(|x| x.is_finite()));
    assert!(out[4..].iter().all(|x| x.is_nan()));
    let out = values(attention(q.clone(), k.clone(), broken(&v), None, &PLAIN));
    assert!(out[4..].iter().all(|x| x.is_nan()));
    let out = values(attention(broken(&q), k, v, None, &PLAIN));
    assert_eq!(
        out.iter().map(|x| x.is_nan()).collect::<Vec<_>>(),
        [false, false, false, false, true, true, false, false]
    );
}

#[test]
fn bits_do_not_depend_on_threads() {
    for sizes in [[1, 200, 200, 3, 1, 64], [2, 100, 130, 6, 3, 24]] {
        let shape = shape(sizes);
        in_pools(|| passes(attention, operands(shape), segments(shape, |i| i as i64 / 64), &PLAIN));
    }
}

/// What bf16 costs: at most a few of its units in the last place of the largest number, in outputs and gradients.
#[test]
fn bf16_is_near_f32_and_nearer_to_rounded_operands() {
    let test = || {
        for sizes in SHAPES {
            let shape = shape(sizes);
            for sight in [CAUSAL, within(5), Sight::Full] {
                let options = AttentionOptions { sight, precision: Precision::Bf16, ..PLAIN };
                let found = passes(attention, operands(shape), None, &options);
                let rounded = passes(composed, operands(shape), None, &options);
                let plain =
                    passes(composed, operands(shape), None, &AttentionOptions { precision: Precision::F32, ..options });
                for ((found, rounded), plain) in found.iter().zip(&rounded).zip(&plain) {
                    let largest = plain.iter().fold(0.0f32, |most, x| most.max(x.abs())).max(1e-3);
                    let apart = |other: &[f32]| {
                        found.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
                    };
                    assert!(
                        apart(plain) < 0.05 && apart(rounded) < 0.03,
                        "{} {} {sizes:?}",
                        apart(plain),
                        apart(rounded)
                    );
                }
            }
        }
    };
    crate::cpu::testing::with_each_instruction_set(test);
}

#[test]
fn bits_in_bf16_do_not_depend_on_threads() {
    let options = AttentionOptions { precision: Precision::Bf16, ..PLAIN };
    let shape = shape([2, 150, 150, 4, 2, 16]);
    in_pools(|| passes(attention, operands(shape), segments(shape, |i| i as i64 / 64), &options));
}
