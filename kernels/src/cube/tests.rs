//! Kernels on a device against the composed forms on the processor.

use super::*;
use crate::{Activation, Alibi, AttentionOptions, Precision, QuantizationScheme, FourBit, QuantizedWeight, RopeStyle, Sight, composed, testing::numbers};
use burn::tensor::{DType, DeviceKind, Int, Tensor, TensorData};
use std::sync::Arc;

fn on<const D: usize>(device: &Device, shape: [usize; D], seed: u32) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), device)
}
fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> { t.into_data().iter::<f32>().collect() }
fn far(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), b.iter().map(Vec::len).collect::<Vec<_>>());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, |m, x| if x.is_nan() || x > m { x } else { m })
}
fn places() -> [Device; 2] { [Device::flex().autodiff(), Device::wgpu(DeviceKind::Cpu).autodiff()] }

fn show(name: &str, run: impl Fn(&Device, bool) -> Vec<Vec<f32>>) {
    let [cpu, gpu] = places();
    let expected = run(&cpu, true);
    let start = std::time::Instant::now();
    let found = run(&gpu, false);
    let first = start.elapsed();
    let again = run(&gpu, false);
    println!("{name}: {:.1e} same {} {first:.1?}", far(&found, &expected), found == again);
}

#[test]
fn device_attention() {
    let cases = [
        (2, 5, 5, 2, 1, 8, 8, None, false),
        (1, 40, 40, 4, 2, 16, 16, None, true),
        (2, 70, 70, 4, 2, 36, 20, Some(17), true),
        (1, 33, 65, 2, 2, 64, 64, Some(9), false),
        (1, 1, 30, 6, 3, 32, 32, None, false),
    ];
    for (batch, queries, keys, heads, groups, dim, value_dim, window, segmented) in cases {
        for (sight, cap, alibi) in [(Sight::Causal { window }, None, false), (Sight::Full, Some(2.0), false), (Sight::Causal { window: None }, None, true)] {
            let options = AttentionOptions {
                scale: 0.7, sight, softcap: cap, precision: Precision::F32,
                alibi: alibi.then(|| Alibi::Exact { slopes: (0..heads).map(|h| 0.5f32.powi(h as i32 + 1)).collect() }),
            };
            show(&format!("attention {batch} {queries} {keys} {heads} {groups} {dim} {value_dim} {sight:?} {cap:?} {alibi} {segmented}"), |device, plain| {
                let q = on(device, [batch, queries, heads, dim], 1).require_grad();
                let k = on(device, [batch, keys, groups, dim], 2).require_grad();
                let v = on(device, [batch, keys, groups, value_dim], 3).require_grad();
                let of = |n: usize, from: usize| Tensor::<2, Int>::from_data(TensorData::new((0..batch * n).map(|i| ((i % n + from) / 13) as i32).collect::<Vec<_>>(), [batch, n]), device);
                let segments = segmented.then(|| (of(queries, keys - queries), of(keys, 0)));
                let form = if plain { composed::attention } else { crate::attention };
                let out = form(q.clone(), k.clone(), v.clone(), segments, &options);
                let grads = (out.clone() * on(device, [batch, queries, heads, value_dim], 9)).sum().backward();
                vec![read(out), read(q.grad(&grads).unwrap()), read(k.grad(&grads).unwrap()), read(v.grad(&grads).unwrap())]
            });
        }
    }
}

#[test]
fn device_rows() {
    for (time, width) in [(1, 1), (7, 10), (70, 33), (50, 576)] {
        show(&format!("rms {time} {width}"), |device, plain| {
            let (x, w) = (on(device, [2, time, width], 1).require_grad(), on(device, [width], 2).require_grad());
            let form = if plain { composed::rms_norm } else { crate::rms_norm };
            let out = form(x.clone(), w.clone(), 1e-2, 1.0);
            let grads = (out.clone() * on(device, [2, time, width], 9)).sum().backward();
            vec![read(out), read(x.grad(&grads).unwrap()), read(w.grad(&grads).unwrap())]
        });
        show(&format!("layer {time} {width}"), |device, plain| {
            let (x, w, b) = (on(device, [2, time, width], 1).require_grad(), on(device, [width], 2).require_grad(), on(device, [width], 3).require_grad());
            let form = if plain { composed::layer_norm } else { crate::layer_norm };
            let out = form(x.clone() + 3.0, w.clone(), Some(b.clone()), 1e-2);
            let grads = (out.clone() * on(device, [2, time, width], 9)).sum().backward();
            vec![read(out), read(x.grad(&grads).unwrap()), read(w.grad(&grads).unwrap()), read(b.grad(&grads).unwrap())]
        });
    }
    for style in [RopeStyle::Half, RopeStyle::Interleaved] {
        for (dim, half) in [(8, 4), (10, 3), (64, 32)] {
            show(&format!("rope {style:?} {dim} {half}"), |device, plain| {
                let x = on(device, [2, 5, 3, dim], 1).require_grad();
                let form = if plain { composed::rope } else { crate::rope };
                let out = form(x.clone(), on(device, [2, 5, half], 2), on(device, [2, 5, half], 3), style);
                let grads = (out.clone() * on(device, [2, 5, 3, dim], 9)).sum().backward();
                vec![read(out), read(x.grad(&grads).unwrap())]
            });
        }
    }
    for kind in [Activation::Silu, Activation::GeluExact, Activation::GeluTanh, Activation::Relu, Activation::QuickGelu] {
        show(&format!("gated {kind:?}"), |device, plain| {
            let (g, u) = (on(device, [2, 5, 33], 1).require_grad(), on(device, [2, 5, 33], 2).require_grad());
            let form = if plain { composed::gated } else { crate::gated };
            let out = form(g.clone() * 8.0, u.clone(), kind);
            let form = if plain { composed::activate } else { crate::activate };
            let out = out + form(g.clone() * 4.0, kind);
            let grads = (out.clone() * on(device, [2, 5, 33], 9)).sum().backward();
            vec![read(out), read(g.grad(&grads).unwrap()), read(u.grad(&grads).unwrap())]
        });
    }
}

#[test]
fn device_quantized() {
    for scheme in [QuantizationScheme::NF4, QuantizationScheme::INT8, QuantizationScheme::FourBit { code: FourBit::Fp4, block: 32, double: false }] {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 65, 70), (97, 513, 67), (9, 33, 257), (130, 200, 130)] {
            let weight = Arc::new(QuantizedWeight::quantize(&TensorData::new(numbers(outputs * inputs, 2), [outputs, inputs]), scheme).unwrap());
            show(&format!("{scheme:?} {rows} {inputs} {outputs}"), |device, plain| {
                let x = on(device, [rows, inputs], 1).require_grad();
                let form = if plain { composed::frozen_matmul::<2> } else { crate::frozen_matmul::<2> };
                let out = form(x.clone(), &weight, Precision::F32);
                let grads = (out.clone() * on(device, [rows, outputs], 9)).sum().backward();
                vec![read(out), read(x.grad(&grads).unwrap())]
            });
        }
    }
}

#[test]
fn device_linear() {
    for dtype in [DType::F32, DType::F16] {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 65, 70), (97, 513, 67), (130, 200, 130)] {
            show(&format!("linear {dtype:?} {rows} {inputs} {outputs}"), |device, plain| {
                let x = on(device, [rows, inputs], 1).require_grad();
                let weight = on(device, [outputs, inputs], 2).cast(dtype);
                let form = if plain { composed::linear::<2> } else { crate::linear::<2> };
                let out = form(x.clone(), weight, Precision::F32);
                let grads = (out.clone() * on(device, [rows, outputs], 9)).sum().backward();
                vec![read(out), read(x.grad(&grads).unwrap())]
            });
        }
    }
}
