//! One shard of a cache: a single-threaded LRU with deadlines.
//!
//! A [`Shard`] stores entries under hashes that the caller computed, in at most so much [`Room`]:
//! when it is full, the entry that was used least recently leaves. Entries may have a [`Lifetime`];
//! all operations, expiry included, are O(1): evictions in the long run, all others always, but for growing, for numbering all
//! uses anew once in 2^37 of them, and for what goes through all entries ([`Shard::iter`]; a few
//! at a time: [`Shard::visit`]).
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
//! * It has no thread, lock, atomic, clock or I/O. `&mut self` everywhere; the time is an argument,
//!   in [`Nanos`] since an origin that the caller picks. If time goes back, nothing breaks, and
//!   nothing that was reclaimed comes back.
//! * It hashes nothing. The caller brings a well-mixed 64-bit hash; the shard uses its **low 32
//!   bits**, so that shards can be picked by the others. The upper ones of these say where an entry is looked for first, so hashes
//!   that are small numbers make everything O(n).
//! * It drops nothing of the caller's, except when the shard (or its [`Contents`]) is itself
//!   dropped. What leaves goes into the [`Removals`] that the caller brings.
//! * It exceeds its budget for no moment: room is found before an entry is stored.
//! * It does not depend on the caller's code to behave: if `Eq`, a closure or a `Drop` panics, the
//!   shard stays valid. It does not panic by itself, except that growing may run out of memory.
//!
//! # What an entry costs
//!
//! Beside its key and value: 8 bytes for its last use and a coarse deadline (padded to the alignment of both), 4 of hash and 8 to 12
//! in the index, 8 if it was said how many entries there will be. Once there are evictions, candidates for the next ones take 5 more, or 9 in
//! shards of up to 4,096 slots. A deadline costs 16 more, time-to-idle another 16, a weight other than
//! one 4, and [deciding equality outside](Shard::find_by) 8; each only from the first entry that needs
//! it. [`Shard::memory`] tells.
//!
//! # Rooms
//!
//! `slab` (entries; all unsafe code but one comparison of `line` and that of `prefetch`) over `nodes` (slots) and their `word`s (last
//! use, coarse deadline); `prefetch` (asking for memory ahead); `index` (hash to slot) of `line`s (a cache line of tags and slots);
//! `probe` (hints at where the index is); `eldest` (who leaves next); `deadlines` over `wheel`
//! (timers); `shard` (the operations, by theme).

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
