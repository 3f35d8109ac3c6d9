//! One attention call as the tiles see it: slices, sizes, and which keys each query sees.

use super::AttentionOptions;
use crate::{
    cpu::{BlockMut, Fresh},
    flex::{dense, integers, values},
    matmul::Matrix,
};
use burn_flex::FlexTensor;
use std::ops::Range;

/// Rows of a tile (queries times the heads that share a key-value head): enough to pay for packing keys, few enough for the cache.
const TILE_ROWS: usize = 192;
const LEAST_QUERIES: usize = 8;
const MOST_QUERIES: usize = 96;

/// Dense operands of an attention call.
#[derive(Clone, Debug)]
pub(super) struct Operands {
    pub q: FlexTensor,
    pub k: FlexTensor,
    pub v: FlexTensor,
    pub segments: Option<[FlexTensor; 2]>,
    pub options: AttentionOptions,
}

impl Operands {
    pub fn new([q, k, v]: [FlexTensor; 3], segments: Option<[FlexTensor; 2]>, options: AttentionOptions) -> Self {
        Self { q: dense(q), k: dense(k), v: dense(v), segments, options }
    }
}

/// The keys a query sees: some or all of `keys`.
#[derive(Clone)]
pub(super) struct Seen {
    pub keys: Range<usize>,
    /// Keys of other segments lie in between.
    pub mixed: bool,
    /// The first key of the query's segment, seen or not.
    pub origin: usize,
}

pub(super) struct Problem<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub groups: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub options: &'a AttentionOptions,
    sights: Vec<Seen>,
    segments: Option<[Vec<i64>; 2]>,
}

/// Some queries of one row of the batch, and the query heads that share one key-value head.
#[derive(Clone)]
pub(super) struct TileAt {
    pub batch: usize,
    pub group: usize,
    pub queries: Range<usize>,
}

impl<'a> Problem<'a> {
    pub fn new(operands: &'a Operands) -> Self {
        let q_shape = operands.q.layout().shape();
        let v_shape = operands.v.layout().shape();
        let mut problem = Self {
            q: values(&operands.q),
            k: values(&operands.k),
            v: values(&operands.v),
            batch: q_shape[0],
            queries: q_shape[1],
            keys: v_shape[1],
            heads: q_shape[2],
            groups: v_shape[2],
            head_dim: q_shape[3],
            value_dim: v_shape[3],
            options: &operands.options,
            sights: Vec::new(),
            segments: operands.segments.as_ref().map(|[q, k]| [integers(q), integers(k)]),
        };
        let rows = if problem.segments.is_some() { problem.batch } else { 1 };
        problem.sights =
            (0..rows * problem.queries).map(|i| problem.look(i / problem.queries, i % problem.queries)).collect();
        problem
    }

    /// Query heads that share a key-value head.
    pub fn shared(&self) -> usize {
        self.heads / self.groups
    }

    /// Queries of a tile.
    pub fn tile_queries(&self) -> usize {
        (TILE_ROWS / self.shared()).clamp(LEAST_QUERIES, MOST_QUERIES)
    }

    /// All tiles: row by row of the batch, along its queries, group by group.
    pub fn tiles(&self) -> Vec<TileAt> {
        let (size, queries) = (self.tile_queries(), self.queries);
        let mut tiles = Vec::new();
        for batch in 0..self.batch {
            for first in (0..queries).step_by(size) {
                for group in 0..self.groups {
                    tiles.push(TileAt { batch, group, queries: first..(first + size).min(queries) });
                }
            }
        }
        tiles
    }

    /// What the tiles, in their order, have of `[batch, queries, heads, dim]`: blocks of a row a query.
    pub fn blocks<'v>(&self, values: &'v mut Fresh, dim: usize) -> impl Iterator<Item = BlockMut<'v>> + use<'v> {
        let (rows, width, queries) = (self.batch * self.queries, self.heads * dim, self.queries);
        let (size, columns) = (self.tile_queries(), self.shared() * dim);
        let all = values.block(rows, width);
        all.in_rows(queries.max(1))
            .flat_map(move |row| row.in_rows(size).flat_map(move |tile| tile.in_columns(columns)))
    }

    /// Position of a query among the keys; of no meaning where there are fewer keys, none of which then has a place.
    pub fn position(&self, query: usize) -> usize {
        (query + self.keys).saturating_sub(self.queries)
    }

    pub fn sight(&self, batch: usize, query: usize) -> &Seen {
        let row = if self.segments.is_some() { batch } else { 0 };
        &self.sights[row * self.queries + query]
    }

    /// All keys any query of the tile sees, and maybe others in between.
    pub fn keys_of(&self, at: &TileAt) -> Range<usize> {
        let sights = at.queries.clone().map(|query| &self.sight(at.batch, query).keys);
        sights
            .filter(|keys| !keys.is_empty())
            .cloned()
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }

    /// Whether a query and a key belong together, as far as segments tell.
    pub fn same_segment(&self, batch: usize, query: usize, keys: Range<usize>) -> impl Iterator<Item = bool> {
        let known = self.segments.as_ref().map(|[of_queries, of_keys]| {
            let segment = of_queries[batch * self.queries + query];
            of_keys[batch * self.keys..][keys.clone()].iter().map(move |key| *key == segment)
        });
        let unknown = if known.is_none() { keys.len() } else { 0 };
        known.into_iter().flatten().chain(std::iter::repeat_n(true, unknown))
    }

    fn look(&self, batch: usize, query: usize) -> Seen {
        let Range { start, end } = self.options.sight.of(self.position(query), self.keys);
        let Some([of_queries, of_keys]) = &self.segments else {
            return Seen { keys: start..end, mixed: false, origin: 0 };
        };
        let segment = of_queries[batch * self.queries + query];
        let row = &of_keys[batch * self.keys..][..end];
        let first_from = |start: usize| row[start..].iter().position(|key| *key == segment).map(|at| start + at);
        let Some((origin, first)) = first_from(0).and_then(|origin| Some((origin, first_from(start.max(origin))?)))
        else {
            return Seen { keys: start..start, mixed: false, origin: 0 };
        };
        let last = row.iter().rposition(|key| *key == segment).unwrap_or(first);
        let mixed = row[first..=last].iter().any(|key| *key != segment);
        Seen { keys: first..last + 1, mixed, origin }
    }

    /// Some keys of a group, `[keys, head_dim]`.
    pub fn key_matrix(&self, batch: usize, group: usize, keys: Range<usize>) -> Matrix<'a> {
        strided(self.k, self.keys, self.groups, self.head_dim, batch, group, keys)
    }

    /// Some values of a group, `[keys, value_dim]`.
    pub fn value_matrix(&self, batch: usize, group: usize, keys: Range<usize>) -> Matrix<'a> {
        strided(self.v, self.keys, self.groups, self.value_dim, batch, group, keys)
    }

    /// Copies the rows of a tile, `[queries * shared, dim]`, out of `[batch, queries, heads, dim]`, times `scale`.
    pub fn gather(&self, to: &mut [f32], from: &[f32], dim: usize, at: &TileAt, scale: f32) {
        let len = self.shared() * dim;
        for (to, query) in to.chunks_exact_mut(len).zip(at.queries.clone()) {
            let start = (at.batch * self.queries + query) * self.heads * dim + at.group * len;
            for (to, from) in to.iter_mut().zip(&from[start..start + len]) {
                *to = from * scale;
            }
        }
    }
}

fn strided(
    all: &[f32],
    length: usize,
    groups: usize,
    dim: usize,
    batch: usize,
    group: usize,
    keys: Range<usize>,
) -> Matrix<'_> {
    let start = ((batch * length + keys.start) * groups + group) * dim;
    Matrix::strided(&all[start..], keys.len(), dim, groups * dim)
}
