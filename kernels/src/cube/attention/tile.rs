//! What the three attention kernels share: tiles of 32 x 32 scores, computed by cubes of 16 x 16 units.
//!
//! A unit has the scores of two rows and two columns, [`SIDE`] apart. Operands pass through shared memory 32 numbers of a head at a time,
//! so that heads of any size fit 16 KiB.

use burn_cubecl::cubecl::{self, prelude::*};

/// Units of a cube along each side.
pub(super) const SIDE: usize = 16;
pub(super) const UNITS: usize = SIDE * SIDE;
/// Queries and keys of a tile, and numbers of a head that pass at once.
pub(super) const TILE: usize = 2 * SIDE;
/// Words of a shared tile; its rows lie one word further apart than they are long, so that columns fall in different banks.
pub(super) const PITCH: usize = TILE + 1;
pub(super) const WORDS: usize = TILE * PITCH;
/// Below every score, and finite.
pub(super) const HIDDEN: f32 = -1e30;

/// What is compiled into a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Queries see only keys at and before their position.
    pub causal: bool,
    /// They see only so many of them.
    pub windowed: bool,
    /// Positions belong to segments.
    pub segmented: bool,
    /// Scores are capped.
    pub capped: bool,
    /// Scores have a bias by distance.
    pub biased: bool,
    /// Numbers of a head of queries and keys, and of values.
    pub dim: usize,
    pub value_dim: usize,
}

/// Sizes and factors of a call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct Sizes {
    pub queries: u32,
    pub keys: u32,
    pub heads: u32,
    pub groups: u32,
    pub window: u32,
    pub scale: f32,
    pub cap: f32,
}

/// Copies 32 rows of 32 numbers to shared memory, zeros where there are none: rows from `first` on of so many, numbers from `column` on of
/// heads of `dim`. `base` is the place of the first row, `stride` the distance from row to row.
#[cube]
pub(super) fn load(
    from: &[f32],
    to: &mut [f32],
    base: usize,
    stride: usize,
    first: usize,
    rows: usize,
    #[comptime] column: usize,
    #[comptime] dim: usize,
) {
    #[unroll]
    for step in 0..comptime!(TILE * TILE / UNITS) {
        let at = UNIT_POS as usize + step * UNITS;
        let (row, inside) = (at / TILE, at % TILE);
        let mut value = 0.0f32;
        if first + row < rows && column + inside < dim {
            value = from[base + (first + row) * stride + column + inside];
        }
        to[row * PITCH + inside] = value;
    }
}

/// Adds the products of rows of two shared tiles, over their 32 numbers, to four sums: `sums[2 i + j]` is that of rows
/// `unit y + 16 i` of the left and `unit x + 16 j` of the right.
#[cube]
pub(super) fn add_products(left: &[f32], right: &[f32], sums: &mut Array<f32>) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    for inside in 0..TILE {
        let left_0 = left[y * PITCH + inside];
        let left_1 = left[(y + SIDE) * PITCH + inside];
        let right_0 = right[x * PITCH + inside];
        let right_1 = right[(x + SIDE) * PITCH + inside];
        sums[0] += left_0 * right_0;
        sums[1] += left_0 * right_1;
        sums[2] += left_1 * right_0;
        sums[3] += left_1 * right_1;
    }
}

/// Whether a query at a position sees a key.
#[cube]
pub(super) fn sees(
    query: usize,
    key: usize,
    batch: usize,
    segments: &[i32],
    sizes: &Sizes,
    batches: usize,
    #[comptime] form: Form,
) -> bool {
    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let mut seen = query < queries && key < keys;
    if seen {
        let position = query + keys - queries;
        if comptime!(form.causal) {
            seen = key <= position;
        }
        if comptime!(form.windowed) {
            seen = seen && position < key + sizes.window as usize;
        }
        if comptime!(form.segmented) {
            let of_query = segments[batch * queries + query];
            let of_key = segments[batches * queries + batch * keys + key];
            seen = seen && of_query == of_key;
        }
    }
    seen
}

/// The score of a product of query and key: scaled, biased and capped.
#[cube]
pub(super) fn score(product: f32, query: usize, key: usize, slope: f32, sizes: &Sizes, #[comptime] form: Form) -> f32 {
    let mut score = product * sizes.scale;
    if comptime!(form.biased) {
        let position = query + sizes.keys as usize - sizes.queries as usize;
        score += slope * (f32::cast_from(key as u32) - f32::cast_from(position as u32));
    }
    if comptime!(form.capped) {
        score = sizes.cap * (score / sizes.cap).tanh();
    }
    score
}

/// What the gradient of a score is multiplied by, for that of the product.
#[cube]
pub(super) fn slope_of(score: f32, sizes: &Sizes, #[comptime] form: Form) -> f32 {
    let mut slope = 1.0f32;
    if comptime!(form.capped) {
        let capped = score / sizes.cap;
        slope = 1.0f32 - capped * capped;
    }
    slope
}

/// The first key, a multiple of a tile, that a query from `query` on sees.
#[cube]
pub(super) fn first_key(query: usize, sizes: &Sizes, #[comptime] form: Form) -> usize {
    let mut first = 0usize;
    if comptime!(form.windowed) {
        let position = query + sizes.keys as usize - sizes.queries as usize + 1;
        if position > sizes.window as usize {
            first = (position - sizes.window as usize) / TILE * TILE;
        }
    }
    first
}

/// The end of the keys that queries up to the one before `end` see.
#[cube]
pub(super) fn end_of_keys(end: usize, sizes: &Sizes, #[comptime] form: Form) -> usize {
    let mut keys = sizes.keys as usize;
    if comptime!(form.causal) {
        keys = min(keys, end + keys - sizes.queries as usize);
    }
    keys
}
