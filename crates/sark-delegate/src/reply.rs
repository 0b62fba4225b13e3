//! The answer to a submission, between the runner that produces it and the future that waits for it.
//!
//! There is one writer, one reader and one word of state; neither side waits for the other. The waker cell
//! belongs to the reader, except in the moment after the writer found `LISTENING`. Used by `submission`;
//! explored by the loom models.

use std::task::{Context, Poll, Waker};

use crate::sync::{AtomicU32, Ordering, UnsafeCell};
use crate::task::Panic;

/// No answer yet, and no task to wake; the reader may write the waker cell.
const EMPTY: u32 = 0;
/// No answer yet; the waker cell holds the waker to wake.
const LISTENING: u32 = 1;
/// The answer is there (or never comes: the answer cell is empty). Final.
const ANSWERED: u32 = 2;

/// What a submission ends with: its result, its panic, or nothing, if its message was destroyed unserved.
pub(crate) type Answer<R> = Option<Result<R, Panic>>;

pub(crate) struct Reply<R> {
    state: AtomicU32,
    waker: UnsafeCell<Option<Waker>>,
    /// Written by the writer before `ANSWERED`, taken by the reader after it.
    answer: UnsafeCell<Answer<R>>,
}

// SAFETY: both cells are handed from one thread to the other by `state` (Release on each change that hands
// one over, Acquire on each look), so they are never touched by two threads at once; the result itself
// crosses threads, hence `R: Send`.
unsafe impl<R: Send> Sync for Reply<R> {}
// SAFETY: a `Waker` and an answer may be dropped on any thread; `R: Send`.
unsafe impl<R: Send> Send for Reply<R> {}

impl<R> Reply<R> {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), waker: UnsafeCell::new(None), answer: UnsafeCell::new(None) }
    }

    /// Leaves the answer; for the writer, once. If the reader listens, returns its waker, which the caller
    /// must wake.
    pub(crate) fn answer(&self, answer: Answer<R>) -> Option<Waker> {
        self.answer.with_mut(|cell| {
            // SAFETY: the reader looks at this cell only after ANSWERED, which is stored below, once.
            unsafe { *cell = answer };
        });
        if self.state.swap(ANSWERED, Ordering::AcqRel) != LISTENING {
            return None;
        }
        self.waker.with_mut(|cell| {
            // SAFETY: the swap took LISTENING away, so the reader finds ANSWERED and leaves this cell to us.
            unsafe { (*cell).take() }
        })
    }

    /// Returns the answer, once, or `Pending` with the task's waker registered; for the reader.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Answer<R>> {
        // Looked at first: a change would take the line away from the runner that is about to write the
        // answer.
        if self.state.load(Ordering::Acquire) == ANSWERED {
            return Poll::Ready(self.take());
        }
        // Take the waker cell back if we left a waker there, unless the answer came.
        if self.state.compare_exchange(LISTENING, EMPTY, Ordering::Acquire, Ordering::Acquire) == Err(ANSWERED) {
            return Poll::Ready(self.take());
        }
        self.waker.with_mut(|cell| {
            // SAFETY: the state is EMPTY, in which only the reader touches this cell.
            let cell = unsafe { &mut *cell };
            // Taken out first: if cloning panics, no waker is left behind in the cell.
            *cell = match cell.take() {
                Some(waker) if waker.will_wake(context.waker()) => Some(waker),
                _ => Some(context.waker().clone()),
            };
        });
        match self.state.compare_exchange(EMPTY, LISTENING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Poll::Pending,
            Err(_answered) => {
                let waker = self.waker.with_mut(|cell| {
                    // SAFETY: the writer found EMPTY, so it has left this cell to us.
                    unsafe { (*cell).take() }
                });
                // Dropped here, and not wherever the last owner of the reply drops it.
                drop(waker);
                Poll::Ready(self.take())
            }
        }
    }

    fn take(&self) -> Answer<R> {
        self.answer.with_mut(|cell| {
            // SAFETY: ANSWERED was read with Acquire; the writer doesn't come back.
            unsafe { (*cell).take() }
        })
    }
}
