//! Slots: a second way to a worker for requests whose callers wait, alongside the mailbox
//! ([`Transport::Slots`](crate::Transport)).
//!
//! A request crosses a mailbox on three cache lines that both sides write in turn: the place in the channel,
//! the count of what is pending, and the request itself on its caller's stack. A slot replaces two of them by
//! one that only callers write: it holds where the request is and how many there were in this slot. The
//! worker looks there unasked, and remembers how many it served. A caller that finds its slot in use, since
//! there are more callers than slots, uses the mailbox.
//!
//! Slots keep the order that the mailbox promises: the runner looks at them first, and serves all that is in
//! the mailbox before it serves them. The messages that a request comes after were in the mailbox before the
//! request was in its slot.
//!
//! Filled by `group`; emptied by `delegate`, with ownership. Posts and submissions never go through a slot.

use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::task::{Header, TaskPointer};

/// A worker looks at no more than this many.
const MOST: usize = 32;
const FEWEST: usize = 4;

/// The slots of one delegate; none where requests go through the mailbox only.
pub(crate) struct Slots<S>(Option<Box<Row<S>>>);

struct Row<S> {
    slots: Box<[Slot<S>]>,
    /// How many requests of each slot were served. Written by the owner of the delegate.
    served: Served,
}

#[repr(align(128))]
struct Served([AtomicU32; MOST]);

/// What a worker looks at all the time, with nothing else on its lines, and what only callers look at.
#[repr(C, align(128))]
struct Slot<S> {
    request: Request<S>,
    /// Whether a caller has this slot.
    in_use: AtomicBool,
}

/// Written by the caller that has the slot.
#[repr(align(128))]
struct Request<S> {
    /// The newest one.
    task: AtomicPtr<Header<S>>,
    /// How many there were, including that one. Wraps around.
    number: AtomicU32,
}

impl<S> Slots<S> {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// As many as threads can run at once, within reason; a power of two.
    pub(crate) fn for_callers_on(processors: usize) -> Self {
        let slots = if cfg!(loom) { 1 } else { processors.next_power_of_two().clamp(FEWEST, MOST) };
        Self(Some(Box::new(Row {
            slots: std::iter::repeat_with(Slot::new).take(slots).collect(),
            served: Served(std::array::from_fn(|_| AtomicU32::new(0))),
        })))
    }

    pub(crate) fn exist(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the slot of this thread, if there is one and no other caller uses it.
    #[inline]
    pub(crate) fn seat(&self) -> Option<Seat<'_, S>> {
        let slots = &self.0.as_ref()?.slots;
        let slot = &slots[number_of_this_thread() & (slots.len() - 1)];
        // Acquire, and Release where the seat ends: one caller's requests in the slot come after another's.
        let free = slot.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // Made only if the slot is free: a `Seat` that is made is dropped, and that frees the slot.
        free.then(|| Seat(slot))
    }

    /// Whether a request is in any of them. Relaxed: the order comes from a barrier before it, as with the
    /// count of messages. (A thread that isn't the owner may see one that was served.)
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.each().any(|(slot, served)| {
            let any = slot.request.number.load(Ordering::Relaxed) != served.load(Ordering::Relaxed);
            if any {
                prefetch(slot.request.task.load(Ordering::Relaxed));
            }
            any
        })
    }

    /// Returns the slots that have a request in them, for the owner of the delegate. Acquire: what their
    /// callers did before is seen from here on.
    #[inline]
    pub(crate) fn filled(&self) -> Filled {
        let filled = |(slot, served): (&Slot<S>, &AtomicU32)| {
            slot.request.number.load(Ordering::Acquire) != served.load(Ordering::Relaxed)
        };
        Filled(self.each().enumerate().fold(0, |bits, (index, one)| bits | u32::from(filled(one)) << index))
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
        let index = filled.0.trailing_zeros() as usize;
        filled.0 &= filled.0 - 1;
        let Row { slots, served } = &**self.0.as_ref()?;
        let (Request { task, number }, served) = (&slots[index].request, &served.0[index]);
        // Neither changes before the request is answered.
        served.store(number.load(Ordering::Relaxed), Ordering::Relaxed);
        // SAFETY: by contract this is the request that `filled` saw. It came from `into_raw` before its
        // number was stored, and is taken once: it isn't counted as served before, and is from here on.
        Some(unsafe { TaskPointer::from_raw(task.load(Ordering::Relaxed)) })
    }

    /// Each slot, with how many of its requests were served.
    #[inline]
    fn each(&self) -> impl Iterator<Item = (&Slot<S>, &AtomicU32)> {
        let (slots, served): (&[_], &[_]) = self.0.as_ref().map_or((&[], &[]), |row| (&row.slots, &row.served.0));
        slots.iter().zip(served)
    }

    /// Forgets all requests, in a forked child: their callers don't exist here. A slot that is in use stays
    /// so. That may be the forking thread's; for all others it only means that they use the mailbox.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn abandon(&self) {
        for (slot, served) in self.each() {
            served.store(slot.request.number.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl<S> Slot<S> {
    fn new() -> Self {
        Self {
            request: Request { task: AtomicPtr::new(std::ptr::null_mut()), number: AtomicU32::new(0) },
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
        // A read-modify-write, like the addition to the count of messages: what comes next is the barrier
        // before the worker's bell is read.
        number.fetch_add(1, Ordering::Release);
    }
}

impl<S> Drop for Seat<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.0.in_use.store(false, Ordering::Release);
    }
}

/// Asks for the line at `place`, which may be gone by now.
#[inline]
fn prefetch<T>(place: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = place;
}

/// Returns this thread's number. Threads that began one after the other differ, modulo any number of slots.
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
