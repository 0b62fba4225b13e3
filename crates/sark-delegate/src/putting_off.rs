//! Puts other callers' code off for a while, beyond the end of each request.
//!
//! A caller that serves others' messages on its way runs their code afterwards, with nothing held: it drops
//! what their posts displaced and wakes their futures. The caller may meanwhile hold something else that
//! others wait for, which this crate knows nothing about, and that code might wait for it in turn. So the
//! caller says for how long such code is to be put off. Serving messages is never put off, and neither are
//! the caller's own posts.
//!
//! Made by `handle`; `group` asks `inside` whether code is being put off.

use std::marker::PhantomData;

use crate::Resident;
use crate::group::Group;
use crate::inside;

/// While this exists, its thread puts off what serving others leaves it to do; see
/// [`Delegates::put_off_others`](crate::Delegates::put_off_others).
#[must_use = "what is put off is done when this is dropped"]
pub struct OthersPutOff<'g, S: Resident> {
    group: &'g Group<S>,
    /// Putting off is a state of this thread.
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
