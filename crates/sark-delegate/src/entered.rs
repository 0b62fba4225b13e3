//! Delegates that the caller runs itself: the fast path, from taking an idle one (or a few at once) to looking for messages
//! afterwards.
//!
//! Made by `group`; `delegate` has the steps. Nothing here waits, and while one is held nothing else of this thread may.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::Resident;
use crate::delegate::{Delegate, Owned, Released};
use crate::group::Group;
use crate::inside;

/// The right to run an idle delegate right here; see [`Delegates::enter`](crate::Delegates::enter).
///
/// Giving it back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct Entered<'g, S: Resident> {
    group: &'g Group<S>,
    delegate: &'g Delegate<S>,
    /// Given back by our own `Drop`.
    owned: ManuallyDrop<Owned<'g, S>>,
    /// That a delegate is held is noted in this thread.
    _stays_on_this_thread: PhantomData<*const ()>,
}

impl<'g, S: Resident> Entered<'g, S> {
    #[inline(always)]
    pub(crate) fn new(group: &'g Group<S>, delegate: &'g Delegate<S>, owned: Owned<'g, S>) -> Self {
        Self { group, delegate, owned: ManuallyDrop::new(owned), _stays_on_this_thread: PhantomData }
    }

    /// Runs `request` on the state, which is given back before the result is returned.
    ///
    /// What [`Delegates::run`](crate::Delegates::run) says of requests goes for this one, but that it need not be `Send`.
    #[inline(always)]
    pub fn run<R>(mut self, request: impl FnOnce(&mut S) -> R) -> R {
        self.owned.run_in_place(request)
    }
}

impl<S: Resident> Drop for Entered<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        let released = self.owned.give_back(self.group.barrier);
        if released.anything() {
            self.group.after_release(self.delegate, released);
        }
    }
}

impl<S: Resident> std::fmt::Debug for Entered<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// How many delegates one thread may hold at once: enough for the misses of a batch to overlap, few enough that others
/// rarely find theirs busy.
pub(crate) const MOST_HELD: usize = 8;

/// The right to run several idle delegates right here; see [`Delegates::enter_several`](crate::Delegates::enter_several).
///
/// Giving them back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct EnteredSeveral<'g, S: Resident> {
    group: &'g Group<S>,
    /// One for each delegate asked for, in that order. Given back by our own `Drop`.
    held: [Option<Held<'g, S>>; MOST_HELD],
    /// That delegates are held is noted in this thread.
    _stays_on_this_thread: PhantomData<*const ()>,
}

struct Held<'g, S: Resident> {
    delegate: &'g Delegate<S>,
    owned: ManuallyDrop<Owned<'g, S>>,
    /// No message was before us when we took it.
    ours_now: bool,
}

impl<'g, S: Resident> EnteredSeveral<'g, S> {
    pub(crate) fn new(group: &'g Group<S>, indexes: impl Iterator<Item = usize>) -> Self {
        let mut several = Self { group, held: [const { None }; MOST_HELD], _stays_on_this_thread: PhantomData };
        for (place, index) in several.held.iter_mut().zip(indexes) {
            let delegate = &group.delegates[index];
            *place = delegate.try_take().map(|owned| {
                let ours_now = owned.nothing_before_us();
                Held { delegate, owned: ManuallyDrop::new(owned), ours_now }
            });
        }
        several
    }

    /// Whether the delegate asked for in this place was to be had.
    #[must_use]
    pub fn has(&self, place: usize) -> bool {
        matches!(self.held.get(place), Some(Some(Held { ours_now: true, .. })))
    }

    /// Runs `request` on the state asked for in this place, if that was to be had.
    #[inline]
    pub fn run<R>(&mut self, place: usize, request: impl FnOnce(&mut S) -> R) -> Option<R> {
        match self.held.get_mut(place) {
            Some(Some(Held { owned, ours_now: true, .. })) => Some(owned.run_in_place(request)),
            _ => None,
        }
    }
}

impl<S: Resident> Drop for EnteredSeveral<'_, S> {
    fn drop(&mut self) {
        let mut holds_any = false;
        for held in self.held.iter_mut().flatten() {
            held.owned.let_go();
            holds_any = true;
        }
        if !holds_any {
            return;
        }
        // One barrier and one word to this thread for all of them; only then anything is served.
        self.group.barrier.light();
        let deferred = inside::leave();
        for held in self.held.iter().flatten() {
            if held.delegate.is_announced() {
                self.group.after_release(held.delegate, Released { messages: true, deferred: false });
            }
        }
        if deferred {
            inside::run_deferred();
        }
    }
}

impl<S: Resident> std::fmt::Debug for EnteredSeveral<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnteredSeveral").field("held", &self.held.iter().flatten().count()).finish()
    }
}
