//! One shard of a cache: a single-threaded LRU with deadlines.
//!
//! A [`Shard`] stores entries under hashes that the caller computed, within a given [`Room`]: when it is
//! full, the least recently used entry leaves. Entries may have a [`Lifetime`].
//!
//! All operations, expiry included, are O(1): evictions in the long run, all others always. The exceptions
//! are growing, renumbering all uses once in 2^37 of them, and whatever goes through all entries
//! ([`Shard::iter`]; [`Shard::visit`] does it a few at a time).
//!
//! ```
//! use sark_shard::{Config, Lifetime, Nanos, NoPool, RemovalCause, Room, Shard};
//! # fn hash(key: &str) -> u64 { key.bytes().fold(7, |h, b| (h ^ u64::from(b)).wrapping_mul(0x9E37_79B9_7F4A_7C15)) }
//!
//! let mut shard = Shard::new(Config { budget: Room::for_entries(2), ..Config::default() });
//! let mut removed = Vec::new();
//! let now = Nanos(0);
//! for key in ["a", "b"] {
//!     shard.insert(hash(key), key, key.len(), 1, Lifetime::For(100), now, &mut NoPool, &mut removed);
//! }
//! assert_eq!(shard.get(hash("a"), &"a", now, &mut removed, |len| *len), Some(1));
//!
//! // A third entry doesn't fit, so the least recently used one leaves, and the caller gets it.
//! shard.insert(hash("c"), "c", 1, 1, Lifetime::Default, now, &mut NoPool, &mut removed);
//! assert_eq!((removed[0].key, removed[0].cause), ("b", RemovalCause::Size));
//!
//! // Nothing is served at or after its deadline, whether or not anybody has reclaimed it.
//! assert_eq!(shard.peek(hash("a"), &"a", Nanos(100)), None);
//! shard.advance(Nanos(100), 64, &mut removed);
//! assert_eq!((removed[1].key, removed[1].cause), ("a", RemovalCause::Expired));
//! ```
//!
//! # What it never does
//!
//! * It has no thread, lock, atomic, clock or I/O. Every operation takes `&self` or `&mut self`. The time is
//!   an argument, in [`Nanos`] since an origin that the caller picks. If time goes back, nothing breaks, and
//!   nothing that was reclaimed comes back.
//! * It hashes nothing. The caller brings a well-mixed 64-bit hash. The shard uses its **low 32 bits**, so
//!   that the caller can pick shards by the others. The upper bits of those 32 say where an entry is looked
//!   for first, so hashes that are small numbers make everything O(n).
//! * It drops nothing of the caller's, except when the shard (or its [`Contents`]) is itself dropped. What
//!   leaves goes into the [`Removals`] that the caller brings.
//! * It never exceeds its budget, not even for a moment: it makes room before it stores an entry.
//! * It does not depend on the behaviour of the caller's code: if `Eq`, a closure or a `Drop` panics, the
//!   shard stays valid. The shard's own code does not panic, except that growing may run out of memory.
//!
//! # What an entry costs
//!
//! In addition to its key and value, an entry takes 8 bytes for its last use and a coarse deadline (padded to
//! the alignment of key and value), 4 for the hash and 8 to 12 in the index (8 if the expected number of
//! entries was given). Once there are evictions, the candidates for the next ones take 5 more, or 9 in shards
//! of up to 4,096 slots. A deadline costs 16 more, time to idle another 16, a weight other than one 4, and
//! [deciding equality outside](Shard::find_by) 8. Each of these is paid only from the first entry on that
//! needs it. [`Shard::memory`] gives the current figures.
//!
//! # Modules
//!
//! * `shard`: the operations, by theme.
//! * `slab`: the entries. All unsafe code is here, except for one comparison in `line` and that of
//!   `prefetch`.
//! * `nodes`: the slots, and their `word`s (last use, coarse deadline). The slab is built on it.
//! * `index`: from hash to slot, in `line`s (a cache line of tags and slots). `probe`: hints at where the
//!   index is.
//! * `eldest`: which entry leaves next.
//! * `deadlines`: the lifetimes, on top of the timers in `wheel`.
//! * `prefetch`: asks for memory ahead.
//! * `column`: one value per slot, free of cost while all are the usual one.
//! * `room`, `removed`, `time`, `slot` and `counters`: the types that callers and modules share.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod column;
mod counters;
mod deadlines;
mod eldest;
mod index;
mod line;
mod nodes;
mod prefetch;
mod probe;
mod removed;
mod room;
mod shard;
mod slab;
mod slot;
mod time;
mod wheel;
mod word;

pub use counters::Counters;
pub use probe::ProbeHint;
pub use removed::{RemovalCause, Removals, Removed};
pub use room::{NoPool, Pool, Room};
pub use shard::{
    Candidate, Changed, Config, Contents, EntryRef, Expected, Finding, Insertion, Iter, Match, Memory, Progress, Shard,
    Stamp, Undecided, Unstored, Walk,
};
pub use slot::Slot;
pub use time::{Lifetime, Nanos};
