//! Which threads may touch what holds Python objects: the rule that the soundness of this binding rests on.
//!
//! **A shard that holds Python objects is run only by a thread attached to the interpreter. While the thread
//! owns the shard, it never detaches, never runs Python code (`__eq__`, `__hash__`, `__del__`, listeners,
//! logging), never allocates a collectable object, and never drops a reference.** It may take references.
//! What leaves a shard is carried out of it and dropped after the release.
//!
//! It follows that:
//!
//! * With a GIL, every shard is free whenever a thread gets to run: its owner would have had to release the
//!   GIL inside the shard. So ownership is a plain flag, which only catches mistakes. A forked child finds
//!   every shard free, and code that calls back into the cache from `__eq__` or `__del__` is just another
//!   call.
//! * Without a GIL, owners never wait for anything, so a shard is soon free. Other threads detach before they
//!   wait for it, so they never hold up a garbage collection that stops the world.
//! * The garbage collector runs when a collectable object is allocated (or when the world is stopped at a
//!   point where threads can be), so never while a shard is owned. It may inspect every shard without asking,
//!   and always shows everything. Skipping a shard once would make the collector free objects that are alive.

use std::cell::UnsafeCell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// State that one thread at a time may touch, under the rule above.
pub(crate) struct Owned<S> {
    word: Word,
    state: UnsafeCell<S>,
}

/// The state is owned by a thread that can't own it: a bug of this module, not of its users.
#[derive(Debug)]
pub(crate) struct Busy;

impl From<Busy> for PyErr {
    #[cold]
    fn from(_: Busy) -> Self {
        PyRuntimeError::new_err("the cache is in use by this very thread: this is a bug in sark_cache")
    }
}

// SAFETY: the state is reached only through `run`, by the thread that took the word, and through `inspect`,
// whose callers know that no thread holds it. Any attached thread may use references to Python objects.
unsafe impl<S> Sync for Owned<S> {}
// SAFETY: as above. The state moves only with the Python object that holds it.
unsafe impl<S> Send for Owned<S> {}

impl<S> Owned<S> {
    pub(crate) fn new(state: S) -> Self {
        Self { word: Word::new(), state: UnsafeCell::new(state) }
    }

    /// Runs `request` with exclusive access to the state. `request` must keep the rule.
    #[inline]
    pub(crate) fn run<R>(&self, py: Python<'_>, request: impl FnOnce(&mut S) -> R) -> Result<R, Busy> {
        let _held = self.word.take(py)?;
        // SAFETY: the word is taken until `_held` is dropped, after `request` returned or unwound. Any other
        // access to the state takes the word first.
        Ok(request(unsafe { &mut *self.state.get() }))
    }

    /// Inspects the state without taking it.
    ///
    /// # Safety
    /// Only for the garbage collector's traversal, during which no thread owns anything (see above), and
    /// which runs nothing but the collector's visitor.
    pub(crate) unsafe fn inspect<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: the caller guarantees that no other thread has access.
        look(unsafe { &mut *self.state.get() })
    }
}

/// Releases the word, also if the request panics: the shard is still valid then.
struct Held<'w>(&'w Word);

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(not(Py_GIL_DISABLED))]
use with_gil::Word;
#[cfg(Py_GIL_DISABLED)]
use without_gil::Word;

#[cfg(not(Py_GIL_DISABLED))]
mod with_gil {
    use std::cell::Cell;

    use pyo3::prelude::*;

    use super::{Busy, Held};

    /// A plain flag, read and written only by threads that hold the GIL.
    pub(super) struct Word(Cell<bool>);

    impl Word {
        pub(super) fn new() -> Self {
            Self(Cell::new(false))
        }

        /// Takes the word. It is always free, unless the rule was broken.
        #[inline]
        pub(super) fn take(&self, _py: Python<'_>) -> Result<Held<'_>, Busy> {
            if self.0.replace(true) { Err(Busy) } else { Ok(Held(self)) }
        }

        #[inline]
        pub(super) fn release(&self) {
            self.0.set(false);
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod without_gil {
    use std::hint;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use pyo3::prelude::*;

    use super::{Busy, Held};

    /// An owner works for less than a microsecond, so at first looking again is cheaper than sleeping.
    const SPINS: u32 = 100;
    const YIELDS: u32 = 20;
    const NAP: Duration = Duration::from_micros(50);

    /// A word that threads try to take; there is no queue.
    pub(super) struct Word(AtomicBool);

    impl Word {
        pub(super) fn new() -> Self {
            Self(AtomicBool::new(false))
        }

        #[inline]
        pub(super) fn take(&self, py: Python<'_>) -> Result<Held<'_>, Busy> {
            if self.try_take() {
                return Ok(Held(self));
            }
            self.wait(py);
            Ok(Held(self))
        }

        /// Acquire: sees everything that the last owner did.
        #[inline]
        fn try_take(&self) -> bool {
            self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        /// Waits without holding up threads that need all others to stand still. The word is taken only after
        /// attaching again, since an owner is never detached.
        #[cold]
        fn wait(&self, py: Python<'_>) {
            let free = || !self.0.load(Ordering::Relaxed);
            loop {
                if !(0..SPINS).any(|_| {
                    hint::spin_loop();
                    free()
                }) {
                    py.detach(|| {
                        for turn in 0.. {
                            if free() {
                                return;
                            }
                            if turn < YIELDS { thread::yield_now() } else { thread::sleep(NAP) }
                        }
                    });
                }
                if self.try_take() {
                    return;
                }
            }
        }

        /// Release: the next owner sees everything that this one did.
        #[inline]
        pub(super) fn release(&self) {
            self.0.store(false, Ordering::Release);
        }
    }
}
