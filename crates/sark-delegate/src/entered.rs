//! A delegate that the caller runs itself: the fast path, from taking an idle one to looking for messages afterwards.
//!
//! Made by `group`; `delegate` has the steps. It never waits, and while it exists nothing else of this thread may.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::Resident;
use crate::delegate::{Delegate, Owned};
use crate::group::Group;

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
