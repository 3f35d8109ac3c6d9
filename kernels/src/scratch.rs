//! Buffers that keep their memory between calls, one of each kind a thread.

use std::{cell::RefCell, thread::LocalKey};

/// A buffer of this thread; it grows to the largest size asked for and stays.
pub(crate) type Slot = LocalKey<RefCell<Vec<f32>>>;

/// Lends `len` numbers of `slot`; what they are is arbitrary.
pub(crate) fn with_buffer<R>(slot: &'static Slot, len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out, not borrowed: while a parallel call waits, its thread may run another operation.
    let mut buffer = slot.take();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = work(&mut buffer[..len]);
    slot.set(buffer);
    result
}
