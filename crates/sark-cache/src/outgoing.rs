//! Entries on their way out: taken from a shard while it is held, told of and dropped when it isn't any more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use sark_shard::{RemovalCause, Removals, Removed};
use smallvec::SmallVec;

/// Whoever wants to have what leaves.
pub(crate) type EvictionListener<K, V> = dyn Fn(K, V, RemovalCause) + Send + Sync;
/// A cache's, if it has one.
pub(crate) type Listener<K, V> = Option<Arc<EvictionListener<K, V>>>;

/// Collects what leaves a shard. Lives on the caller's stack, so its drop runs the user's listener and destructors there, with
/// nothing held. The usual one or two need no allocation.
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

/// The same of what leaves by the hand of a worker, or of who serves somebody's post: they have no cache at hand.
pub(crate) struct Leftovers<K, V> {
    entries: SmallVec<[Removed<K, V>; 2]>,
    /// That of the shard that the first of them was served on.
    listener: Listener<K, V>,
}

impl<K, V> Leftovers<K, V> {
    /// Sees to it that this listener is told, if there is one.
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

/// Tells of each, whatever happens on the way; then the first panic goes on.
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

/// Drops a panic that goes no further. What it carries is the user's, and may panic again when dropped: then that is
/// leaked, since it could go on for ever.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
