//! Entries on their way out. They are taken from a shard while it is held, and reported and dropped when it
//! no longer is.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use sark_shard::{RemovalCause, Removals, Removed};
use smallvec::SmallVec;

/// The user's function that gets what leaves.
pub(crate) type EvictionListener<K, V> = dyn Fn(K, V, RemovalCause) + Send + Sync;
/// The listener of a cache, if it has one.
pub(crate) type Listener<K, V> = Option<Arc<EvictionListener<K, V>>>;

/// Collects what leaves a shard. It lives on the caller's stack, so its drop runs the user's listener and
/// destructors there, with nothing held. The usual one or two entries need no allocation.
pub(crate) struct Outgoing<'l, K, V> {
    entries: SmallVec<[Removed<K, V>; 2]>,
    listener: &'l Listener<K, V>,
}

impl<'l, K, V> Outgoing<'l, K, V> {
    #[inline]
    pub(crate) fn new(listener: &'l Listener<K, V>) -> Self {
        Self { entries: SmallVec::new(), listener }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K, V> Removals<K, V> for Outgoing<'_, K, V> {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        self.entries.push(removed);
    }
}

impl<K, V> Drop for Outgoing<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            tell_and_drop(self.listener, std::mem::take(&mut self.entries));
        }
    }
}

/// Collects what workers reclaim and what posts displace. The threads that do this have no cache at hand.
pub(crate) struct Leftovers<K, V> {
    entries: SmallVec<[Removed<K, V>; 2]>,
    /// The listener of the shard that served the first of them.
    listener: Listener<K, V>,
}

impl<K, V> Leftovers<K, V> {
    /// Reports the entries to this listener, if there is one.
    #[inline]
    pub(crate) fn tell(&mut self, listener: &Listener<K, V>) {
        if self.listener.is_none() {
            self.listener.clone_from(listener);
        }
    }
}

impl<K, V> Default for Leftovers<K, V> {
    fn default() -> Self {
        Self { entries: SmallVec::new(), listener: None }
    }
}

impl<K, V> Removals<K, V> for Leftovers<K, V> {
    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        self.entries.push(removed);
    }
}

impl<K, V> Drop for Leftovers<K, V> {
    fn drop(&mut self) {
        tell_and_drop(&self.listener, std::mem::take(&mut self.entries));
    }
}

#[inline(never)]
fn tell_and_drop<K, V>(listener: &Listener<K, V>, entries: SmallVec<[Removed<K, V>; 2]>) {
    match listener {
        Some(listener) => tell_of_all(&**listener, entries.into_iter().map(|it| (it.key, it.value, it.cause))),
        None => drop(entries),
    }
}

/// Reports every entry, even if the listener panics on the way. The first panic then goes on, unless the
/// thread is panicking already.
#[cold]
#[inline(never)]
pub(crate) fn tell_of_all<K, V>(
    listener: &EvictionListener<K, V>,
    entries: impl IntoIterator<Item = (K, V, RemovalCause)>,
) {
    let mut first = FirstPanic::default();
    for (key, value, cause) in entries {
        first.catch(|| listener(key, value, cause));
    }
    if thread::panicking() {
        first.0.into_iter().for_each(discard);
    } else {
        first.go_on();
    }
}

/// The first of the panics on a way that is gone to its end.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    pub(crate) fn catch(&mut self, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.note(panic);
        }
    }

    pub(crate) fn note(&mut self, panic: Box<dyn Any + Send>) {
        match self.0 {
            None => self.0 = Some(panic),
            Some(_) => discard(panic),
        }
    }

    /// If there was one.
    pub(crate) fn go_on(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }
}

/// Runs code whose panic is of no concern to the caller. The panic hook has reported it.
pub(crate) fn catch_and_discard(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        discard(panic);
    }
}

/// Drops a panic that goes no further. Its payload is the user's and may panic again when dropped. That
/// second payload is leaked, since this could go on for ever.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
