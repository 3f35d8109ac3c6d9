//! What the allocator keeps: [`keep_large_blocks`], and [`give_back_free_blocks`] where a phase of a program ends.

/// Blocks up to this size come from the heap, not from the system one by one (the largest that glibc allows).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FROM_HEAP: i32 = 32 << 20;

/// Makes the allocator keep the memory of tensors that were dropped for those that come next, where it is glibc's. Without this it gives
/// every large block back to the system, which hands out zeroed pages again, one page fault each: 5 % of a step. To be called before
/// threads are started.
pub fn keep_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function only sets parameters of the allocator; it refuses values that it does not allow, which changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_HEAP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Gives the system all memory that is not in use. What comes next (a merge after a run) needs other sizes, and would take new memory
/// beside that which is kept.
pub fn give_back_free_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function only gives back pages of free blocks.
    unsafe {
        libc::malloc_trim(0);
    }
}
