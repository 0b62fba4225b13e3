//! Slots: a second way to a worker for requests whose callers wait, beside the mailbox ([`Transport::Slots`](crate::Transport)).
//!
//! A request crosses a mailbox on three cache lines that both sides write in turn: the place in the channel, the count of what is
//! pending, and the request itself on its caller's stack. A slot replaces two of them by one that only callers write: it holds where
//! the request is and how many there were in this slot, and the worker, which looks there by itself, remembers how many it served.
//! A caller that finds its slot in use, since there are more callers than slots, uses the mailbox.
//!
//! Slots keep the order that the mailbox promises: who runs the delegate looks at them first, and serves all that is in the mailbox before
//! it serves them. What a request comes after was in there before the request was in its slot.
//!
//! Filled by `group`; emptied by `delegate`, with ownership.

use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::task::{Header, TaskPointer};

/// A worker looks at no more than these.
const MOST: usize = 32;
const FEWEST: usize = 4;

/// The slots of one delegate; none where requests go by mailbox only.
pub(crate) struct Slots<S>(Box<[Slot<S>]>);

/// Three lines, by who writes them and when; those that a worker looks at all the time with nothing beside them.
#[repr(C, align(128))]
struct Slot<S> {
    request: Request<S>,
    /// How many requests of this slot were served. Written by the owner of the delegate.
    served: OwnLines<AtomicU32>,
    /// Whether a caller has this slot: callers alone know.
    in_use: AtomicBool,
}

#[repr(align(128))]
struct OwnLines<T>(T);

/// Written by the caller that has the slot.
#[repr(align(128))]
struct Request<S> {
    /// The newest one.
    task: AtomicPtr<Header<S>>,
    /// How many there were, that one included. Wraps around.
    number: AtomicU32,
}

impl<S> Slots<S> {
    pub(crate) fn none() -> Self {
        Self(Box::default())
    }

    /// As many as threads can run at once, within reason; a power of two.
    pub(crate) fn for_callers_on(processors: usize) -> Self {
        let slots = if cfg!(loom) { 1 } else { processors.next_power_of_two().clamp(FEWEST, MOST) };
        Self(std::iter::repeat_with(Slot::new).take(slots).collect())
    }

    /// The slot of this thread, if there is one and nobody uses it.
    #[inline]
    pub(crate) fn seat(&self) -> Option<Seat<'_, S>> {
        if self.0.is_empty() {
            return None;
        }
        let slot = &self.0[number_of_this_thread() & (self.0.len() - 1)];
        // Acquire, and Release where it ends: one caller's requests in it come after another's.
        let free = slot.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // Made only if it is: what is made is dropped, and that frees the slot.
        free.then(|| Seat(slot))
    }

    /// Whether a request is in any of them. Relaxed: the order comes from a barrier before it, as with the count of messages. (Who
    /// isn't the owner may see one that was served.)
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|slot| {
            let any = slot.request.number.load(Ordering::Relaxed) != slot.served.0.load(Ordering::Relaxed);
            if any {
                prefetch_to_write(slot.request.task.load(Ordering::Relaxed));
            }
            any
        })
    }

    /// Those that have a request in them, for the owner of the delegate. Acquire: what their callers did before is seen from here on.
    #[inline]
    pub(crate) fn filled(&self) -> Filled {
        let filled =
            |slot: &Slot<S>| slot.request.number.load(Ordering::Acquire) != slot.served.0.load(Ordering::Relaxed);
        Filled(self.0.iter().enumerate().fold(0, |bits, (index, slot)| bits | u32::from(filled(slot)) << index))
    }

    /// Takes the next of them out.
    ///
    /// # Safety
    /// The caller owns the delegate, and has since it asked for `filled`.
    #[inline]
    pub(crate) unsafe fn take_next(&self, filled: &mut Filled) -> Option<TaskPointer<S>> {
        if filled.0 == 0 {
            return None;
        }
        let slot = &self.0[filled.0.trailing_zeros() as usize];
        filled.0 &= filled.0 - 1;
        let Slot { request: Request { task, number }, served, .. } = slot;
        // Neither changes before the request is answered.
        served.0.store(number.load(Ordering::Relaxed), Ordering::Relaxed);
        // SAFETY: by contract this is the request that `filled` saw. It came from `into_raw` before its number was stored, and is taken
        // once: it isn't counted as served before, and is from here on.
        Some(unsafe { TaskPointer::from_raw(task.load(Ordering::Relaxed)) })
    }

    /// Forgets all requests, in a forked child: their callers don't exist here.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn abandon(&self) {
        for Slot { request, served, in_use } in &self.0 {
            served.0.store(request.number.load(Ordering::Relaxed), Ordering::Relaxed);
            in_use.store(false, Ordering::Relaxed);
        }
    }
}

impl<S> Slot<S> {
    fn new() -> Self {
        Self {
            request: Request { task: AtomicPtr::new(std::ptr::null_mut()), number: AtomicU32::new(0) },
            served: OwnLines(AtomicU32::new(0)),
            in_use: AtomicBool::new(false),
        }
    }
}

/// Slots that had a request in them, a bit for each.
#[derive(Clone, Copy)]
pub(crate) struct Filled(u32);

impl Filled {
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

/// The right to use a slot, for one request after the other.
pub(crate) struct Seat<'s, S>(&'s Slot<S>);

impl<S> Seat<'_, S> {
    /// Puts a request in. The one before must have been answered, and so must this one before `self` ends.
    #[inline]
    pub(crate) fn fill(&self, task: TaskPointer<S>) {
        let Request { task: place, number } = &self.0.request;
        place.store(task.into_raw(), Ordering::Relaxed);
        // Read-modify-write, as the count of messages is: what comes next is the barrier before reading the worker's bell.
        number.fetch_add(1, Ordering::Release);
    }
}

impl<S> Drop for Seat<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.0.in_use.store(false, Ordering::Release);
    }
}

/// Asks for the line at `place`, which may be gone by now, to be brought for writing.
#[inline]
fn prefetch_to_write<T>(place: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(place.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = place;
}

/// Those of threads that began one after the other differ, modulo any number of slots.
#[cfg(not(loom))]
#[inline]
fn number_of_this_thread() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;

    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    match NUMBER.get() {
        0 => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            NUMBER.set(number);
            number
        }
        number => number,
    }
}

#[cfg(loom)]
fn number_of_this_thread() -> usize {
    0
}
