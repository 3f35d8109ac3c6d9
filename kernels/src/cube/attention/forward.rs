//! Output and log-sum of each query: a cube for a head and 32 queries, which passes over the keys they see, 32 at a time.
//!
//! Sums are rescaled when a larger score comes, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135).

use burn_cubecl::cubecl::{self, prelude::*};

use super::tile::{
    Form, HIDDEN, PITCH, SIDE, Sizes, TILE, WORDS, add_products, end_of_keys, first_key, load, score, sees,
};

/// `segments` has those of all queries, then of all keys. A query that sees no key has zeros and a log-sum of zero.
#[cube(launch)]
pub(super) fn forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    segments: &[i32],
    slopes: &[f32],
    out: &mut [f32],
    log_sums: &mut [f32],
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let (x, y, unit) = (UNIT_POS_X as usize, UNIT_POS_Y as usize, UNIT_POS as usize);
    let (head, batch, batches) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Z as usize);
    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, groups) = (sizes.heads as usize, sizes.groups as usize);
    let group = head / (heads / groups);
    let first = CUBE_POS_X as usize * TILE;
    let mut slope = 0.0f32;
    if comptime!(form.biased) {
        slope = slopes[head];
    }

    let mut left = Shared::new_slice(WORDS);
    let mut right = Shared::new_slice(WORDS);
    let mut weights = Shared::new_slice(WORDS);
    let mut largest = Shared::new_slice(TILE);
    let mut sums = Shared::new_slice(TILE);
    let mut shrink = Shared::new_slice(TILE);
    let chunks = comptime!(form.dim.div_ceil(TILE));
    let value_chunks = comptime!(form.value_dim.div_ceil(TILE));
    let mut mixed = Array::<f32>::new(comptime!(4 * value_chunks));
    #[unroll]
    for at in 0..comptime!(4 * value_chunks) {
        mixed[at] = 0.0f32;
    }
    if unit < TILE {
        largest[unit] = f32::new(HIDDEN);
        sums[unit] = 0.0f32;
    }
    let mut key = first_key(first, sizes, form);
    let end = end_of_keys(min(first + TILE, queries), sizes, form);
    while key < end {
        let mut products = Array::<f32>::new(4usize);
        #[unroll]
        for at in 0..4 {
            products[at] = 0.0f32;
        }
        #[unroll]
        for chunk in 0..chunks {
            let column = comptime!(chunk * TILE);
            load(
                q,
                &mut left,
                (batch * queries * heads + head) * form.dim,
                heads * form.dim,
                first,
                queries,
                column,
                form.dim,
            );
            load(
                k,
                &mut right,
                (batch * keys * groups + group) * form.dim,
                groups * form.dim,
                key,
                keys,
                column,
                form.dim,
            );
            sync_cube();
            add_products(&left, &right, &mut products);
            sync_cube();
        }
        #[unroll]
        for i in 0..2 {
            #[unroll]
            for j in 0..2 {
                let (row, column) = (y + i * SIDE, x + j * SIDE);
                let (query, of_key) = (first + row, key + column);
                let mut value = f32::new(HIDDEN);
                if sees(query, of_key, batch, segments, sizes, batches, form) {
                    value = score(products[comptime!(2 * i + j)], query, of_key, slope, sizes, form);
                }
                weights[row * PITCH + column] = value;
            }
        }
        sync_cube();
        if unit < TILE {
            let before = largest[unit];
            let mut most = before;
            for column in 0..TILE {
                most = max(most, weights[unit * PITCH + column]);
            }
            let mut sum = 0.0f32;
            for column in 0..TILE {
                let score = weights[unit * PITCH + column];
                let mut weight = 0.0f32;
                if score > f32::new(comptime!(HIDDEN * 0.5)) {
                    weight = (score - most).exp();
                }
                weights[unit * PITCH + column] = weight;
                sum += weight;
            }
            let factor = (before - most).exp();
            sums[unit] = sums[unit] * factor + sum;
            largest[unit] = most;
            shrink[unit] = factor;
        }
        sync_cube();
        let (shrink_0, shrink_1) = (shrink[y], shrink[y + SIDE]);
        #[unroll]
        for chunk in 0..value_chunks {
            load(
                v,
                &mut right,
                (batch * keys * groups + group) * form.value_dim,
                groups * form.value_dim,
                key,
                keys,
                comptime!(chunk * TILE),
                form.value_dim,
            );
            sync_cube();
            mixed[comptime!(4 * chunk)] *= shrink_0;
            mixed[comptime!(4 * chunk + 1)] *= shrink_0;
            mixed[comptime!(4 * chunk + 2)] *= shrink_1;
            mixed[comptime!(4 * chunk + 3)] *= shrink_1;
            for column in 0..TILE {
                let weight_0 = weights[y * PITCH + column];
                let weight_1 = weights[(y + SIDE) * PITCH + column];
                let value_0 = right[column * PITCH + x];
                let value_1 = right[column * PITCH + x + SIDE];
                mixed[comptime!(4 * chunk)] += weight_0 * value_0;
                mixed[comptime!(4 * chunk + 1)] += weight_0 * value_1;
                mixed[comptime!(4 * chunk + 2)] += weight_1 * value_0;
                mixed[comptime!(4 * chunk + 3)] += weight_1 * value_1;
            }
            sync_cube();
        }
        key += TILE;
    }
    sync_cube();
    #[unroll]
    for chunk in 0..value_chunks {
        #[unroll]
        for i in 0..2 {
            #[unroll]
            for j in 0..2 {
                let (row, inside) = (y + i * SIDE, comptime!(chunk * TILE) + x + j * SIDE);
                let query = first + row;
                if query < queries && inside < form.value_dim {
                    let mut value = 0.0f32;
                    if sums[row] > 0.0 {
                        value = mixed[comptime!(4 * chunk + 2 * i + j)] / sums[row];
                    }
                    out[((batch * queries + query) * heads + head) * form.value_dim + inside] = value;
                }
            }
        }
    }
    if unit < TILE && first + unit < queries {
        let mut log_sum = 0.0f32;
        if sums[unit] > 0.0 {
            log_sum = largest[unit] + sums[unit].ln();
        }
        log_sums[(batch * queries + first + unit) * heads + head] = log_sum;
    }
}
