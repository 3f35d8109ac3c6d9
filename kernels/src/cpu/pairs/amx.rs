//! Products of pairs with AMX-BF16: `TDPBF16PS` adds the products of 16 rows of 16 pairs with 16 pairs of 16 columns to a tile of
//! 16 x 16 f32. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, and volume 1, chapter 18.
//!
//! A block of the output has two by two tiles. The left operand is read a row of 16 pairs at a time, so its panels are turned once
//! they are packed ([`finish_left`]); the right one lies as the instruction wants it.

use super::{
    Held, PairInstructions,
    layout::{Lies, Product, Tile},
    turn_words,
};
use crate::cpu::BlockMut;
use std::{arch::asm, sync::OnceLock};

/// Rows and columns of a tile, and pairs that an instruction takes.
const TILE: usize = 16;
pub(super) const PAIRS: usize = TILE;
/// Rows and columns of a block of tiles.
pub(super) const ROWS: usize = 2 * TILE;
pub(super) const COLUMNS: usize = 2 * TILE;
const WORD: usize = size_of::<u32>();

/// What a block of tiles is made from: places of words, and bytes between them.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// The first word of the first row, and the bytes from row to row and from one [`PAIRS`] to the next.
    pub left: *const u32,
    pub left_row: usize,
    pub left_step: usize,
    /// The first word of the first pair. Pairs follow each other.
    pub right: *const u32,
    /// How many times [`PAIRS`] there are.
    pub steps: usize,
    /// The first number of the block, and the bytes from row to row.
    pub out: *mut f32,
    pub out_row: usize,
    /// Whether the sums start with what the output has.
    pub add: bool,
}

/// Turns each [`PAIRS`] x [`ROWS`] words of panels, so that the pairs of a row follow each other.
pub(super) fn finish_left(instructions: PairInstructions, panels: &mut [u32]) {
    for block in panels.as_chunks_mut::<{ PAIRS * ROWS }>().0 {
        let words = *block;
        turn_words(instructions, block, PAIRS, &words, ROWS, [PAIRS, ROWS]);
    }
}

pub(super) fn multiply(held: Held, product: Product, out: &mut BlockMut) {
    let sum = Sum::of(held);
    sum.start();
    let each = |tile: Tile, out: &mut BlockMut| {
        assert!(tile.pairs.is_multiple_of(PAIRS) && tile.right.len() == tile.pairs * COLUMNS);
        let (left, left_row, left_step) = match tile.left {
            Lies::Panel(words) => (words, PAIRS, PAIRS * ROWS),
            Lies::Rows(words, stride) => (words, stride, PAIRS),
        };
        let steps = tile.pairs / PAIRS;
        assert!(left.len() >= (steps - 1) * left_step + (ROWS - 1) * left_row + PAIRS);
        let operands = |out: *mut f32, out_row: usize| Operands {
            left: left.as_ptr(),
            left_row: left_row * WORD,
            left_step: left_step * WORD,
            right: tile.right.as_ptr(),
            steps,
            out,
            out_row: out_row * WORD,
            add: tile.add,
        };
        if let Some((place, stride)) = out.whole(&tile.rows, &tile.columns, [ROWS, COLUMNS]) {
            // SAFETY: the instructions are there, by the first argument; both operands have all words, checked above; the block of
            // the output is whole, and was written where sums are added to it.
            return unsafe { sum.block(operands(place, stride)) };
        }
        // At an edge, in a block beside it: sums start with what is there here too, so a number does not depend on its place.
        let mut beside = [0.0; ROWS * COLUMNS];
        if tile.add {
            for (row, beside) in tile.rows.clone().zip(beside.chunks_exact_mut(COLUMNS)) {
                for (to, from) in beside.iter_mut().zip(out.cells(row, &tile.columns)) {
                    // SAFETY: sums are added to numbers that were written.
                    *to = unsafe { from.assume_init() };
                }
            }
        }
        // SAFETY: as above, with a block of its own.
        unsafe { sum.block(operands(beside.as_mut_ptr(), COLUMNS)) };
        for (row, beside) in tile.rows.clone().zip(beside.chunks_exact(COLUMNS)) {
            for (to, from) in out.cells(row, &tile.columns).iter_mut().zip(beside) {
                to.write(*from);
            }
        }
    };
    // SAFETY: both ways write all rows and columns of a tile.
    unsafe { product.walk::<ROWS, COLUMNS>(out, each) };
    sum.end();
}

/// What computes blocks.
#[derive(Clone, Copy)]
enum Sum {
    Instructions,
    #[cfg(test)]
    Emulated,
}

impl Sum {
    fn of(_: Held) -> Self {
        #[cfg(test)]
        if testing::EMULATED.get() {
            return Self::Emulated;
        }
        Self::Instructions
    }

    /// Says what the tile registers hold, until [`Self::end`].
    fn start(self) {
        match self {
            // SAFETY: a `Sum` is made from proof that the instructions are there; no other code on this thread uses tiles between.
            Self::Instructions => unsafe { configure() },
            #[cfg(test)]
            Self::Emulated => {}
        }
    }

    fn end(self) {
        match self {
            // SAFETY: as above.
            Self::Instructions => unsafe { asm!("tilerelease", options(nostack, preserves_flags)) },
            #[cfg(test)]
            Self::Emulated => {}
        }
    }

    /// # Safety
    /// All words and numbers that the operands name are there, and [`Self::start`] was called on this thread.
    unsafe fn block(self, operands: Operands) {
        match self {
            // SAFETY: by the caller's promise.
            Self::Instructions => unsafe { block(operands) },
            #[cfg(test)]
            // SAFETY: by the caller's promise.
            Self::Emulated => unsafe { super::emulated::block(operands) },
        }
    }
}

/// # Safety
/// The instructions are there.
unsafe fn configure() {
    /// `LDTILECFG`'s 64 bytes.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_a_row: [u16; 16],
        rows: [u8; 16],
    }
    const EIGHT: Configuration = {
        let (mut bytes_a_row, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            bytes_a_row[tile] = (TILE * WORD) as u16;
            rows[tile] = TILE as u8;
            tile += 1;
        }
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes_a_row, rows }
    };
    let configuration = &EIGHT;
    // SAFETY: the instructions are there, by the caller's promise; all reserved bytes are zero.
    unsafe { asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, preserves_flags, readonly)) };
}

/// # Safety
/// The instructions are there, tiles are configured, and so are all words and numbers that the operands name.
unsafe fn block(operands: Operands) {
    let Operands { left, left_row, left_step, right, steps, out, out_row, add } = operands;
    // SAFETY: by the caller's promise. Every pass of the loop reads 2 x 16 rows of 64 bytes of the left operand and 16 rows of 128
    // of the right one; the output is read where `add` says so, and written, in 32 rows of 128 bytes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {out_row}*1]",
            "tileloadd tmm1, [{out} + {out_row}*1 + 64]",
            "tileloadd tmm2, [{below} + {out_row}*1]",
            "tileloadd tmm3, [{below} + {out_row}*1 + 64]",
            "2:",
            "tileloadd tmm4, [{left} + {left_row}*1]",
            "tileloadd tmm6, [{right} + {right_row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {right_row}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, {left_step}",
            "add {lower}, {left_step}",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {out_row}*1], tmm0",
            "tilestored [{out} + {out_row}*1 + 64], tmm1",
            "tilestored [{below} + {out_row}*1], tmm2",
            "tilestored [{below} + {out_row}*1 + 64], tmm3",
            add = in(reg) usize::from(add),
            left = inout(reg) left => _,
            lower = inout(reg) left.wrapping_byte_add(TILE * left_row) => _,
            left_row = in(reg) left_row,
            left_step = in(reg) left_step,
            right = inout(reg) right => _,
            right_row = in(reg) COLUMNS * WORD,
            steps = inout(reg) steps => _,
            out = in(reg) out,
            below = in(reg) out.wrapping_byte_add(TILE * out_row),
            out_row = in(reg) out_row,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Multiplies tiles so many times, and says how many multiplications that were.
pub(super) fn most(held: Held, turns: usize) -> f64 {
    /// Steps of one block. The words stay in a first-level cache, and are read while tiles are multiplied.
    const STEPS: usize = 8;
    // A step takes as long as some turns of vectors.
    let blocks = turns.div_ceil(8 * STEPS);
    let (left, right) = ([0; PAIRS * ROWS], [0; STEPS * PAIRS * COLUMNS]);
    let mut out = [0.0; ROWS * COLUMNS];
    let operands = Operands {
        left: left.as_ptr(),
        left_row: PAIRS * WORD,
        left_step: 0,
        right: right.as_ptr(),
        steps: STEPS,
        out: out.as_mut_ptr(),
        out_row: COLUMNS * WORD,
        add: true,
    };
    let sum = Sum::of(held);
    sum.start();
    for _ in 0..blocks {
        // SAFETY: the arrays have the words of all steps, the left one by a step of nothing, and the numbers of a block.
        unsafe { sum.block(operands) };
    }
    sum.end();
    std::hint::black_box(out);
    (blocks * STEPS * ROWS * COLUMNS * 2 * PAIRS) as f64
}

/// Whether this CPU has the instructions, the system lets this process use them, and they compute what they should.
pub(in crate::cpu) fn has_tiles() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| is_there() && is_permitted() && is_right())
}

/// Bits of leaf 7 of `CPUID`, in EDX: AMX-BF16 and AMX-TILE.
fn is_there() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let has = |bit: u32| __cpuid_count(7, 0).edx >> bit & 1 == 1;
    __cpuid(0).eax >= 7 && has(22) && has(24) && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Linux keeps the state of tiles only for processes that ask (5.16 or later); other systems are not asked.
fn is_permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: the call changes nothing but what this process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// A product of small whole numbers, which is exact.
fn is_right() -> bool {
    let number = |at: usize| (at * 7 % 11) as f32 - 5.0;
    let word = |at: usize| number(2 * at).to_bits() >> 16 | number(2 * at + 1).to_bits() & 0xffff_0000;
    let left: [u32; 2 * PAIRS * ROWS] = std::array::from_fn(word);
    let right: [u32; 2 * PAIRS * COLUMNS] = std::array::from_fn(|at| word(at + 3));
    let mut out = [1.0; ROWS * COLUMNS];
    let operands = Operands {
        left: left.as_ptr(),
        left_row: 2 * PAIRS * WORD,
        left_step: PAIRS * WORD,
        right: right.as_ptr(),
        steps: 2,
        out: out.as_mut_ptr(),
        out_row: COLUMNS * WORD,
        add: true,
    };
    // SAFETY: called where the instructions are there and permitted; the arrays have 32 rows of 32 words, 32 pairs of 32 columns, and
    // 32 rows of 32 numbers.
    unsafe {
        Sum::Instructions.start();
        block(operands);
    }
    Sum::Instructions.end();
    out.iter().enumerate().all(|(at, sum)| {
        let (row, column) = (at / COLUMNS, at % COLUMNS);
        let products = (0..4 * PAIRS).map(|depth| {
            let left = number(row * 4 * PAIRS + depth);
            left * number(2 * (depth / 2 * COLUMNS + column + 3) + depth % 2)
        });
        *sum == 1.0 + products.sum::<f32>()
    })
}

#[cfg(test)]
pub(in crate::cpu) mod testing {
    use std::cell::Cell;

    thread_local! {
        /// Whether this thread computes blocks without the instructions.
        pub static EMULATED: Cell<bool> = const { Cell::new(false) };
    }
}
