//! An entry on its way in, and what may come of it.
//!
//! Made by `storing`, `batch` and `load` with nothing held, and by `upsert`; `resident` stores it, and
//! `gathering` makes room for it where its own shard can't.

use std::sync::atomic::AtomicBool;

use sark_shard::{Lifetime, Nanos, Room};

/// An entry on its way in, with everything about it that is decided outside the shard.
pub(crate) struct Arrival<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) weight: u32,
    pub(crate) lifetime: Lifetime,
}

/// What is decided about an entry outside the shard, without the entry itself.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) hash: u64,
    pub(crate) weight: u32,
    pub(crate) lifetime: Lifetime,
}

/// What may keep an arrival out when its turn comes. It is asked while the shard is held, each time that the
/// arrival is tried.
pub(crate) enum Unless<'u, K, V> {
    /// Nothing.
    Never,
    /// It is outdated by then, and goes out instead. The caller that outdates an arrival sets this first, and
    /// then removes what is stored.
    Outdated(&'u AtomicBool),
    /// Its key is there by then. The value is changed instead.
    There(&'u mut Instead<'u, K, V>),
}

/// What is done to a value if it is there, instead of storing an arrival.
pub(crate) struct Instead<'u, K, V> {
    pub(crate) change: &'u mut (dyn FnMut(&mut V) + Send),
    /// The time that tells whether it is there.
    pub(crate) now: Nanos,
    /// Whether it was looked for before.
    pub(crate) tried: bool,
    /// The arrival while it is sought, and if it was not stored. It is dropped when the shard is no longer
    /// held.
    pub(crate) spare: Option<(K, V)>,
}

/// An arrival that its own shard can't make room for, and what is missing.
pub(crate) struct Short<K, V> {
    pub(crate) arrival: Arrival<K, V>,
    pub(crate) missing: Room,
}
