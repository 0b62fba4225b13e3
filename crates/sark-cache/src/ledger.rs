//! The capacity of a whole cache, shared by its shards.
//!
//! What is in use is counted here, for all shards together, and never exceeds the capacity. A shard that
//! wants to store an entry takes room for it first, and gives back at once what it doesn't use. So each
//! shard's budget is what it uses, and the rest is the free pool. Budgets and pool sum to the capacity, and
//! nothing is evicted while there is room anywhere. The count of entries is exact and never above the
//! capacity.
//!
//! The price is one atomic addition for each entry that comes or goes while the cache isn't full. A full
//! cache replaces an old entry by a new one in the same shard, which only reads the ledger.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sark_shard::{Pool, Room};

/// The capacity of a cache, and how much of it is in use.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Account,
    weight: Account,
    /// Whether weights are counted. If not, every entry weighs nothing here.
    weighted: bool,
    /// The limit on entries that applies where weights are counted, unless the capacity is zero.
    most_entries: u64,
    /// The id of the process in which a thread gathers room from several shards, or zero. Only one thread
    /// gathers at a time, so that two can't starve each other.
    ///
    /// This is not a mutex, because a mutex would stay locked for ever in a child that is forked meanwhile.
    gatherer: AtomicU32,
    /// What that thread has gathered and not used. It counts as used, so no other thread can take it.
    gathered: [AtomicU64; 2],
}

/// The turn to gather room, and the room gathered. The thread that has it must not run user code, which might
/// want the turn.
#[derive(Debug)]
pub(crate) struct Gathering<'l>(&'l Ledger);

/// Where an insertion takes its room from, and where it returns what it doesn't use.
pub(crate) trait Source: Pool {
    fn put_back(&mut self, room: Room);
}

/// A thread that waits for the turn looks this often before it sleeps between two looks.
const LOOKS_BEFORE_SLEEP: u32 = 64;
/// It sleeps this long then: less than it takes to gather from some shards.
const SLEEP_BETWEEN_LOOKS: Duration = Duration::from_micros(50);

impl Ledger {
    /// Waits for the turn. Acquire, and Release where the turn ends, so that the next thread sees what the
    /// one before left in `gathered`.
    pub(crate) fn gather(&self) -> Gathering<'_> {
        let this = std::process::id();
        for look in 0_u32.. {
            match self.gatherer.compare_exchange(0, this, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) if other == this && look < LOOKS_BEFORE_SLEEP => thread::yield_now(),
                Err(other) if other == this => thread::sleep(SLEEP_BETWEEN_LOOKS),
                // This is a forked child, and the thread that had the turn isn't in it. What that thread had
                // gathered belongs to no thread here.
                Err(parent) => {
                    let inherited = self.gatherer.compare_exchange(parent, this, Ordering::Acquire, Ordering::Relaxed);
                    if inherited.is_ok() {
                        break;
                    }
                }
            }
        }
        Gathering(self)
    }
}

impl Gathering<'_> {
    /// What was gathered and not used.
    pub(crate) fn room(&self) -> Room {
        // Relaxed here and below: only the thread that has the turn reads or writes it.
        let [entries, weight] = self.0.gathered.each_ref().map(|part| part.load(Ordering::Relaxed));
        Room { entries, weight }
    }

    fn set_room(&self, room: Room) {
        self.0.gathered[0].store(room.entries, Ordering::Relaxed);
        self.0.gathered[1].store(room.weight, Ordering::Relaxed);
    }

    /// Gives all of it back to the ledger.
    pub(crate) fn give_back(&self) {
        let room = self.room();
        self.set_room(Room::NONE);
        self.0.give_back(room);
    }

    /// Adds what a shard gave up. Called while that shard is held, so that a forked child finds the room
    /// either there or here.
    pub(crate) fn add(&self, room: Room) {
        self.set_room(self.room().saturating_add(room));
    }
}

/// Takes from what was gathered first, then from the ledger.
impl Pool for &Gathering<'_> {
    fn take(&mut self, wanted: Room) -> Room {
        let gathered = self.room();
        let own = wanted.min(gathered);
        self.set_room(gathered.saturating_sub(own));
        own.saturating_add((&mut &*self.0).take(wanted.saturating_sub(own)))
    }
}

/// Returns room to the turn. If it went to the ledger, other threads would take it, and the gathering thread
/// would have to begin anew.
impl Source for &Gathering<'_> {
    fn put_back(&mut self, room: Room) {
        self.add(room);
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.give_back();
        self.0.gatherer.store(0, Ordering::Release);
    }
}

/// What is in use of one limit. `used` never exceeds `limit`, except while the limit is being lowered.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Account {
    fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    /// Takes up to `wanted`. Relaxed: the number is all that threads have to agree on, and no other memory
    /// depends on it.
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
    /// `weight` is the limit on the sum of weights, if weights are counted.
    pub(crate) fn new(entries: u64, weight: Option<u64>) -> Self {
        Self {
            entries: Account::new(entries),
            weight: Account::new(weight.unwrap_or(u64::MAX)),
            weighted: weight.is_some(),
            most_entries: entries,
            gatherer: AtomicU32::new(0),
            gathered: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// The budget of a shard that uses `used`: exactly that, but unlimited in weight if weights aren't
    /// counted.
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

    /// Whether one more entry makes another one leave. That is exact where only entries are bounded. Where
    /// weights are, it goes by an entry of average weight.
    pub(crate) fn is_full(&self) -> bool {
        let (used, limit) = (self.used(), self.limit());
        let average = if self.weighted { used.weight / used.entries.max(1) } else { 0 };
        used.entries >= limit.entries || self.weighted && used.weight.saturating_add(average) >= limit.weight
    }

    pub(crate) fn is_weighted(&self) -> bool {
        self.weighted
    }

    /// Sets the capacity: the limit on weight if weights are counted, otherwise the limit on entries.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        let account = if self.weighted { &self.weight } else { &self.entries };
        account.limit.store(capacity, Ordering::Relaxed);
        if self.weighted {
            // A capacity of zero keeps nothing, not even entries that weigh nothing.
            let entries = if capacity == 0 { 0 } else { self.most_entries };
            self.entries.limit.store(entries, Ordering::Relaxed);
        }
    }

    /// How much is in use beyond a limit that was lowered.
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

impl Source for &Ledger {
    #[inline]
    fn put_back(&mut self, room: Room) {
        self.give_back(room);
    }
}

#[cfg(test)]
impl Ledger {
    /// Leaves the turn taken, and room in it that counts as used, as by a thread that isn't in this process.
    pub(crate) fn leave_as_in_a_parent(&self, gathered: Room) {
        std::mem::ManuallyDrop::new(Gathering(self)).add(gathered);
        self.gatherer.store(std::process::id() + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn entries(entries: u64) -> Room {
        Room { entries, weight: 0 }
    }

    #[test]
    fn what_is_gathered_is_counted_as_used_until_the_turn_is_over() {
        let ledger = Ledger::new(10, None);
        let took = (&mut &ledger).take(entries(10));
        let gathering = ledger.gather();
        gathering.add(entries(4));
        assert_eq!((took, (&mut &ledger).take(entries(1))), (entries(10), entries(0)));
        assert_eq!((&mut &gathering).take(entries(3)), entries(3));
        (&mut &gathering).put_back(entries(1));
        assert_eq!(gathering.room(), entries(2));
        drop(gathering);
        assert_eq!(ledger.used().entries, 8);
    }

    #[test]
    fn one_thread_gathers_at_a_time() {
        let ledger = Ledger::new(10, None);
        let gathering = ledger.gather();
        let (say, heard) = mpsc::channel();
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let gathering = ledger.gather();
                say.send("mine").unwrap();
                gathering.room()
            });
            gathering.add(entries(1));
            assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Empty));
            (&mut &gathering).take(entries(1));
            drop(gathering);
            assert_eq!((second.join().unwrap(), heard.recv()), (Room::NONE, Ok("mine")));
        });
    }

    #[test]
    fn a_forked_child_takes_over_the_turn_and_what_was_gathered_in_it() {
        let ledger = Ledger::new(10, None);
        (&mut &ledger).take(entries(10));
        ledger.leave_as_in_a_parent(entries(4));
        let gathering = ledger.gather();
        assert_eq!(gathering.room(), entries(4));
        drop(gathering);
        assert_eq!((ledger.used().entries, ledger.gather().room()), (6, Room::NONE));
    }

    #[test]
    fn a_capacity_of_zero_refuses_even_entries_that_weigh_nothing() {
        let ledger = Ledger::new(10, Some(100));
        (&mut &ledger).take(entries(3));
        ledger.set_capacity(0);
        assert_eq!((ledger.excess(), (&mut &ledger).take(entries(1))), (entries(3), entries(0)));
        ledger.set_capacity(1);
        assert_eq!((ledger.excess(), (&mut &ledger).take(entries(1))), (entries(0), entries(1)));
    }
}
