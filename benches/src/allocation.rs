//! How many bytes are allocated: the program's allocator is the system's, with a counter that is off unless asked for.
//!
//! Off, it costs each allocation one look at a flag, the same for every contestant. Counted is what was asked for, not what
//! the allocator rounds it up to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
/// Of all threads: a cache may allocate on its own.
static BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator with the counter.
#[derive(Debug)]
pub struct Counting;

#[inline]
fn count(bytes: usize, sign: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        BYTES.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to `System` as it came, and what that returns is returned; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s promises, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: `pointer` came from `System` with this layout, since all allocations here do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as for `dealloc`; the caller keeps the promises about `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Counts while it exists. One at a time: the counter is one for the whole program.
#[derive(Debug)]
pub struct Count(());

impl Count {
    /// Begins at zero.
    pub fn begin() -> Self {
        BYTES.store(0, Ordering::Relaxed);
        COUNTING.store(true, Ordering::Relaxed);
        Self(())
    }

    /// Bytes allocated and not freed since it began.
    pub fn bytes(&self) -> i64 {
        BYTES.load(Ordering::Relaxed)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        COUNTING.store(false, Ordering::Relaxed);
    }
}
