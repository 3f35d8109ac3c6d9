//! Gradients of attention: of the queries by cubes that pass over keys, of keys and values by cubes that pass over queries. Scores are
//! computed again from the log-sums; no sum is added by two cubes, so the bits are always the same.

use burn_cubecl::cubecl::{self, prelude::*};

use super::tile::{
    Form, PITCH, SIDE, Sizes, TILE, WORDS, add_products, end_of_keys, first_key, load, score, sees, slope_of,
};

/// Numbers of a row of [`per_row`].
pub(super) const PER_ROW: usize = 3;

/// For each query and head: the log-sum, the product of output and its gradient, and the slope of the bias. A unit a row.
#[cube(launch)]
pub(super) fn per_row(
    out: &[f32],
    grad: &[f32],
    log_sums: &[f32],
    slopes: &[f32],
    rows: &mut [f32],
    heads: u32,
    #[comptime] form: Form,
) {
    let row = ABSOLUTE_POS;
    if row >= log_sums.len() {
        terminate!();
    }
    let mut product = 0.0f32;
    for inside in 0..form.value_dim {
        product += out[row * form.value_dim + inside] * grad[row * form.value_dim + inside];
    }
    rows[PER_ROW * row] = log_sums[row];
    rows[PER_ROW * row + 1] = product;
    let mut slope = 0.0f32;
    if comptime!(form.biased) {
        slope = slopes[row % heads as usize];
    }
    rows[PER_ROW * row + 2] = slope;
}

/// Weights of a tile, and the gradients of its products: those of rows `unit y + 16 i` and columns `unit x + 16 j` at `2 i + j`.
#[cube]
fn again(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    grad: &[f32],
    rows: &[f32],
    segments: &[i32],
    left: &mut [f32],
    right: &mut [f32],
    weights: &mut Array<f32>,
    derivatives: &mut Array<f32>,
    batch: usize,
    batches: usize,
    head: usize,
    first: usize,
    key: usize,
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, groups) = (sizes.heads as usize, sizes.groups as usize);
    let group = head / (heads / groups);
    let mut products = Array::<f32>::new(4usize);
    #[unroll]
    for at in 0..4 {
        products[at] = 0.0f32;
        derivatives[at] = 0.0f32;
    }
    #[unroll]
    for chunk in 0..comptime!(form.dim.div_ceil(TILE)) {
        let column = comptime!(chunk * TILE);
        load(q, left, (batch * queries * heads + head) * form.dim, heads * form.dim, first, queries, column, form.dim);
        load(k, right, (batch * keys * groups + group) * form.dim, groups * form.dim, key, keys, column, form.dim);
        sync_cube();
        add_products(&*left, &*right, &mut products);
        sync_cube();
    }
    #[unroll]
    for chunk in 0..comptime!(form.value_dim.div_ceil(TILE)) {
        let column = comptime!(chunk * TILE);
        load(
            grad,
            left,
            (batch * queries * heads + head) * form.value_dim,
            heads * form.value_dim,
            first,
            queries,
            column,
            form.value_dim,
        );
        load(
            v,
            right,
            (batch * keys * groups + group) * form.value_dim,
            groups * form.value_dim,
            key,
            keys,
            column,
            form.value_dim,
        );
        sync_cube();
        add_products(&*left, &*right, derivatives);
        sync_cube();
    }
    #[unroll]
    for i in 0..2 {
        #[unroll]
        for j in 0..2 {
            let at = comptime!(2 * i + j);
            let (query, of_key) = (first + y + i * SIDE, key + x + j * SIDE);
            let mut weight = 0.0f32;
            let mut derivative = 0.0f32;
            if sees(query, of_key, batch, segments, sizes, batches, form) {
                let row = PER_ROW * ((batch * queries + query) * heads + head);
                let score = score(products[at], query, of_key, rows[row + 2], sizes, form);
                weight = (score - rows[row]).exp();
                derivative = weight * (derivatives[at] - rows[row + 1]) * slope_of(score, sizes, form) * sizes.scale;
            }
            weights[at] = weight;
            derivatives[at] = derivative;
        }
    }
}

/// Four numbers of each unit become a shared tile.
#[cube]
fn share(values: &Array<f32>, to: &mut [f32]) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    to[y * PITCH + x] = values[0];
    to[y * PITCH + x + SIDE] = values[1];
    to[(y + SIDE) * PITCH + x] = values[2];
    to[(y + SIDE) * PITCH + x + SIDE] = values[3];
}

/// Writes four numbers of each unit, `sums[4 chunk ..]`, to rows from `first` on of so many.
#[cube]
fn write(
    sums: &Array<f32>,
    to: &mut [f32],
    base: usize,
    stride: usize,
    first: usize,
    rows: usize,
    #[comptime] chunk: usize,
    #[comptime] from: usize,
    #[comptime] dim: usize,
) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    #[unroll]
    for i in 0..2 {
        #[unroll]
        for j in 0..2 {
            let (row, inside) = (first + y + i * SIDE, comptime!(chunk * TILE) + x + j * SIDE);
            if row < rows && inside < dim {
                to[base + row * stride + inside] = sums[comptime!(from + 4 * chunk + 2 * i + j)];
            }
        }
    }
}

/// The gradient of the queries: a cube for a head and 32 of them.
#[cube(launch)]
pub(super) fn of_queries(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    grad: &[f32],
    rows: &[f32],
    segments: &[i32],
    d_q: &mut [f32],
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let (head, batch, batches) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Z as usize);
    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, groups) = (sizes.heads as usize, sizes.groups as usize);
    let group = head / (heads / groups);
    let first = CUBE_POS_X as usize * TILE;
    let mut left = Shared::new_slice(WORDS);
    let mut right = Shared::new_slice(WORDS);
    let mut tile = Shared::new_slice(WORDS);
    let mut weights = Array::<f32>::new(4usize);
    let mut derivatives = Array::<f32>::new(4usize);
    let chunks = comptime!(form.dim.div_ceil(TILE));
    let mut sums = Array::<f32>::new(comptime!(4 * chunks));
    #[unroll]
    for at in 0..comptime!(4 * chunks) {
        sums[at] = 0.0f32;
    }
    let mut key = first_key(first, sizes, form);
    let end = end_of_keys(min(first + TILE, queries), sizes, form);
    while key < end {
        again(
            q,
            k,
            v,
            grad,
            rows,
            segments,
            &mut left,
            &mut right,
            &mut weights,
            &mut derivatives,
            batch,
            batches,
            head,
            first,
            key,
            sizes,
            form,
        );
        share(&derivatives, &mut tile);
        #[unroll]
        for chunk in 0..chunks {
            load(
                k,
                &mut right,
                (batch * keys * groups + group) * form.dim,
                groups * form.dim,
                key,
                keys,
                comptime!(chunk * TILE),
                form.dim,
            );
            sync_cube();
            for column in 0..TILE {
                let derivative_0 = tile[y * PITCH + column];
                let derivative_1 = tile[(y + SIDE) * PITCH + column];
                let key_0 = right[column * PITCH + x];
                let key_1 = right[column * PITCH + x + SIDE];
                sums[comptime!(4 * chunk)] += derivative_0 * key_0;
                sums[comptime!(4 * chunk + 1)] += derivative_0 * key_1;
                sums[comptime!(4 * chunk + 2)] += derivative_1 * key_0;
                sums[comptime!(4 * chunk + 3)] += derivative_1 * key_1;
            }
            sync_cube();
        }
        key += TILE;
    }
    #[unroll]
    for chunk in 0..chunks {
        write(
            &sums,
            d_q,
            (batch * queries * heads + head) * form.dim,
            heads * form.dim,
            first,
            queries,
            chunk,
            0usize,
            form.dim,
        );
    }
}

/// Adds the products of columns of a shared tile with rows of another, over 32 queries, to `sums[from + 4 chunk ..]`.
#[cube]
fn add_columns(tile: &[f32], left: &[f32], sums: &mut Array<f32>, #[comptime] at: usize) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    for query in 0..TILE {
        let column_0 = tile[query * PITCH + y];
        let column_1 = tile[query * PITCH + y + SIDE];
        let value_0 = left[query * PITCH + x];
        let value_1 = left[query * PITCH + x + SIDE];
        sums[at] += column_0 * value_0;
        sums[comptime!(at + 1)] += column_0 * value_1;
        sums[comptime!(at + 2)] += column_1 * value_0;
        sums[comptime!(at + 3)] += column_1 * value_1;
    }
}

/// The gradients of keys and values, those of the keys first: a cube for 32 keys of a group, which passes over the query heads that share
/// it.
#[cube(launch)]
pub(super) fn of_keys(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    grad: &[f32],
    rows: &[f32],
    segments: &[i32],
    d_keys_and_values: &mut [f32],
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let (group, batch, batches) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Z as usize);
    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, groups) = (sizes.heads as usize, sizes.groups as usize);
    let shared = heads / groups;
    let key = CUBE_POS_X as usize * TILE;
    let mut left = Shared::new_slice(WORDS);
    let mut right = Shared::new_slice(WORDS);
    let mut tile = Shared::new_slice(WORDS);
    let mut weights = Array::<f32>::new(4usize);
    let mut derivatives = Array::<f32>::new(4usize);
    let chunks = comptime!(form.dim.div_ceil(TILE));
    let value_chunks = comptime!(form.value_dim.div_ceil(TILE));
    let mut sums = Array::<f32>::new(comptime!(4 * (chunks + value_chunks)));
    #[unroll]
    for at in 0..comptime!(4 * (chunks + value_chunks)) {
        sums[at] = 0.0f32;
    }
    // The queries that may see one of these keys.
    let mut start = 0usize;
    let mut end = queries;
    if comptime!(form.causal) {
        let offset = keys - queries;
        if key > offset {
            start = (key - offset) / TILE * TILE;
        }
        if comptime!(form.windowed) {
            let last = key + TILE - 1 + sizes.window as usize;
            if last > offset {
                end = min(end, last - offset);
            } else {
                end = 0usize;
            }
        }
    }
    for of_group in 0..shared {
        let head = group * shared + of_group;
        let mut first = start;
        while first < end {
            again(
                q,
                k,
                v,
                grad,
                rows,
                segments,
                &mut left,
                &mut right,
                &mut weights,
                &mut derivatives,
                batch,
                batches,
                head,
                first,
                key,
                sizes,
                form,
            );
            share(&weights, &mut tile);
            #[unroll]
            for chunk in 0..value_chunks {
                load(
                    grad,
                    &mut left,
                    (batch * queries * heads + head) * form.value_dim,
                    heads * form.value_dim,
                    first,
                    queries,
                    comptime!(chunk * TILE),
                    form.value_dim,
                );
                sync_cube();
                add_columns(&tile, &left, &mut sums, comptime!(4 * (chunks + chunk)));
                sync_cube();
            }
            share(&derivatives, &mut tile);
            #[unroll]
            for chunk in 0..chunks {
                load(
                    q,
                    &mut left,
                    (batch * queries * heads + head) * form.dim,
                    heads * form.dim,
                    first,
                    queries,
                    comptime!(chunk * TILE),
                    form.dim,
                );
                sync_cube();
                add_columns(&tile, &left, &mut sums, comptime!(4 * chunk));
                sync_cube();
            }
            first += TILE;
        }
    }
    let of_values = batches * keys * groups * form.dim;
    #[unroll]
    for chunk in 0..chunks {
        write(
            &sums,
            d_keys_and_values,
            (batch * keys * groups + group) * form.dim,
            groups * form.dim,
            key,
            keys,
            chunk,
            0usize,
            form.dim,
        );
    }
    #[unroll]
    for chunk in 0..value_chunks {
        write(
            &sums,
            d_keys_and_values,
            of_values + (batch * keys * groups + group) * form.value_dim,
            groups * form.value_dim,
            key,
            keys,
            chunk,
            comptime!(4 * chunks),
            form.value_dim,
        );
    }
}
