//! The capacity of a whole cache, shared by its shards.
//!
//! What is in use is counted here for all shards together, and never exceeds the capacity: a shard that wants to store
//! an entry takes room for it first, and what it doesn't use goes back at once. So each shard's budget is what it uses,
//! the rest is the free pool, budgets and pool sum to the capacity, nothing is evicted while there is room anywhere,
//! and the count of entries is exact and never above the capacity.
//!
//! The price is one atomic addition for each entry that comes or goes while the cache isn't full. A full cache replaces
//! an old entry by a new one in the same shard, which only reads this.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sark_shard::{Pool, Room};

/// Capacity and use of a cache.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Account,
    weight: Account,
    /// Whether weights are counted; if not, every entry weighs nothing here.
    weighted: bool,
    /// Of who gathers room from several shards.
    pub(crate) gathering: GatheringTurn,
}

/// One thread at a time gathers room, so that two can't starve each other.
///
/// Who has the turn has it again: on the way from shard to shard a thread may serve what others posted and drop what that displaced, so
/// code of the user's may come to gather in its turn.
#[derive(Debug, Default)]
pub(crate) struct GatheringTurn {
    turn: Mutex<()>,
    /// The thread that has it, or zero.
    thread: AtomicUsize,
}

/// The turn of this thread, or of a call around this one.
pub(crate) struct Gathering<'t> {
    thread: &'t AtomicUsize,
    turn: Option<MutexGuard<'t, ()>>,
}

impl GatheringTurn {
    pub(crate) fn take(&self) -> Gathering<'_> {
        thread_local!(static THREAD: u8 = const { 0 });
        let this = THREAD.with(|thread| std::ptr::from_ref(thread).addr());
        // Relaxed: only this thread ever stores its own number, and only while it has the turn.
        if self.thread.load(Ordering::Relaxed) == this {
            return Gathering { thread: &self.thread, turn: None };
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.thread.store(this, Ordering::Relaxed);
        Gathering { thread: &self.thread, turn: Some(turn) }
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.thread.store(0, Ordering::Relaxed);
        }
    }
}

/// Used never exceeds the limit, except while the limit is being lowered.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Account {
    fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    /// Takes up to `wanted`. Relaxed: the number is all there is to agree on; no other memory depends on it.
    #[inline]
    fn take(&self, wanted: u64) -> u64 {
        if wanted == 0 {
            return 0;
        }
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let given = self.limit.load(Ordering::Relaxed).saturating_sub(used).min(wanted);
            if given == 0 {
                return 0;
            }
            match self.used.compare_exchange_weak(used, used + given, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return given,
                Err(now) => used = now,
            }
        }
    }

    fn give_back(&self, room: u64) {
        if room != 0 {
            self.used.fetch_sub(room, Ordering::Relaxed);
        }
    }

    fn excess(&self) -> u64 {
        self.used.load(Ordering::Relaxed).saturating_sub(self.limit.load(Ordering::Relaxed))
    }
}

impl Ledger {
    /// `weight`: the limit on the sum of weights, if weights are counted.
    pub(crate) fn new(entries: u64, weight: Option<u64>) -> Self {
        Self {
            entries: Account::new(entries),
            weight: Account::new(weight.unwrap_or(u64::MAX)),
            weighted: weight.is_some(),
            gathering: GatheringTurn::default(),
        }
    }

    /// The budget of a shard that uses so much: that, in what is counted.
    pub(crate) fn budget_for(&self, used: Room) -> Room {
        Room { entries: used.entries, weight: if self.weighted { used.weight } else { u64::MAX } }
    }

    pub(crate) fn give_back(&self, room: Room) {
        self.entries.give_back(room.entries);
        if self.weighted {
            self.weight.give_back(room.weight);
        }
    }

    pub(crate) fn used(&self) -> Room {
        let entries = self.entries.used.load(Ordering::Relaxed);
        let weight = if self.weighted { self.weight.used.load(Ordering::Relaxed) } else { entries };
        Room { entries, weight }
    }

    pub(crate) fn limit(&self) -> Room {
        Room { entries: self.entries.limit.load(Ordering::Relaxed), weight: self.weight.limit.load(Ordering::Relaxed) }
    }

    /// Whether an entry more means that another one leaves: exactly where entries are bounded; where weights are, an
    /// average entry more.
    pub(crate) fn is_full(&self) -> bool {
        let (used, limit) = (self.used(), self.limit());
        let average = if self.weighted { used.weight / used.entries.max(1) } else { 0 };
        used.entries >= limit.entries || self.weighted && used.weight.saturating_add(average) >= limit.weight
    }

    pub(crate) fn is_weighted(&self) -> bool {
        self.weighted
    }

    /// Changes what `capacity` means: the weight where weights are counted, the entries where not.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        let account = if self.weighted { &self.weight } else { &self.entries };
        account.limit.store(capacity, Ordering::Relaxed);
    }

    /// How much is in use above a limit that was lowered.
    pub(crate) fn excess(&self) -> Room {
        Room { entries: self.entries.excess(), weight: if self.weighted { self.weight.excess() } else { 0 } }
    }
}

impl Pool for &Ledger {
    #[inline]
    fn take(&mut self, wanted: Room) -> Room {
        Room {
            entries: self.entries.take(wanted.entries),
            weight: if self.weighted { self.weight.take(wanted.weight) } else { 0 },
        }
    }
}

/// Room gathered elsewhere first, then the ledger's.
pub(crate) struct Gathered<'l> {
    pub(crate) room: Room,
    pub(crate) ledger: &'l Ledger,
}

impl Pool for Gathered<'_> {
    fn take(&mut self, wanted: Room) -> Room {
        let own = wanted.min(self.room);
        self.room = self.room.saturating_sub(own);
        let mut ledger = self.ledger;
        own.saturating_add(ledger.take(wanted.saturating_sub(own)))
    }
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        self.ledger.give_back(self.room);
    }
}
