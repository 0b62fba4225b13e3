//! Keeping other people's code away for a while, beyond the end of each request.
//!
//! Who serves others' messages on his way runs their code afterwards, with nothing held: what their posts displaced is dropped, their
//! futures are woken. If he holds something of his own meanwhile that others wait for, which this crate knows nothing of, that code might
//! wait for it in turn. So he says how long it is to be put off. Made by `handle`; `group` asks `inside` about it.

use std::marker::PhantomData;

use crate::Resident;
use crate::group::Group;
use crate::inside;

/// While this exists, its thread runs no code of other people on their behalf; see
/// [`Delegates::put_off_others`](crate::Delegates::put_off_others).
#[must_use = "what is put off is done when this is dropped"]
pub struct OthersPutOff<'g, S: Resident> {
    group: &'g Group<S>,
    /// It is this thread that puts off.
    _stays_on_this_thread: PhantomData<*const ()>,
}

impl<'g, S: Resident> OthersPutOff<'g, S> {
    pub(crate) fn new(group: &'g Group<S>) -> Self {
        inside::put_off();
        Self { group, _stays_on_this_thread: PhantomData }
    }
}

impl<S: Resident> Drop for OthersPutOff<'_, S> {
    fn drop(&mut self) {
        if inside::take_up_again() {
            self.group.run_deferred();
        }
    }
}

impl<S: Resident> std::fmt::Debug for OthersPutOff<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OthersPutOff").finish_non_exhaustive()
    }
}
