//! Counts allocated bytes: the program's allocator is the system's, with a counter that is off unless a
//! scenario asks for it.
//!
//! While the counter is off, each allocation costs one look at a flag, the same for every contestant. The
//! counter adds up the bytes requested, not what the allocator rounds them up to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
/// The bytes of all threads, since a cache may allocate on threads of its own.
static BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator with a counter.
#[derive(Debug)]
pub struct Counting;

#[inline]
fn count(bytes: usize, sign: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        BYTES.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to `System` unchanged and its result is returned unchanged; counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s promises, which are also those of `System::alloc`.
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

/// Counts allocations while it exists. Only one may exist at a time, since the program has a single counter.
#[derive(Debug)]
pub struct Count(());

impl Count {
    /// Starts counting at zero.
    pub fn begin() -> Self {
        BYTES.store(0, Ordering::Relaxed);
        COUNTING.store(true, Ordering::Relaxed);
        Self(())
    }

    /// Returns the bytes allocated since counting began, less those freed.
    pub fn bytes(&self) -> i64 {
        BYTES.load(Ordering::Relaxed)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        COUNTING.store(false, Ordering::Relaxed);
    }
}
