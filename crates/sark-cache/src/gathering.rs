//! Making room across shards: for an entry that its own shard can't make room for, and when the capacity is
//! lowered.
//!
//! Called by `cache`, `storing` and `batch`. The gathering thread holds the ledger's turn, which one thread
//! at a time has, and never holds a shard while it waits for another. User code might want the turn. So what
//! other callers' posts displaced is put off, and what is evicted is dropped when the turn has ended. `Eq`, and
//! the change of an `update_or_insert`, run inside a shard, where calls that would wait are refused.

use sark_shard::{Nanos, Room};

use crate::arrival::{Short, Unless};
use crate::cache::Inner;
use crate::outgoing::Outgoing;

/// How often an insertion goes round the shards for room before it gives up. Once is enough, unless the
/// capacity is lowered meanwhile.
const ROUNDS_FOR_ROOM: usize = 16;

/// When the capacity is lowered, a shard is held for about this many entries at a time.
const SLICE: usize = 256;

impl<K, V, H> Inner<K, V, H>
where
    K: Eq + Send + 'static,
    V: Send + 'static,
{
    /// Sets the capacity. If that is less than what is there, every shard gives up its share before this
    /// returns.
    pub(crate) fn change_capacity(&self, capacity: u64) {
        let ledger = &self.common.ledger;
        let mut out = self.outgoing();
        // If shards can't be asked, this fails before anything is changed.
        self.delegates.run(0, |_| ());
        let others = self.delegates.put_off_others();
        let gathering = ledger.gather();
        // What a forked child inherits with the turn is in no shard, and the loop below looks for room only
        // there.
        gathering.give_back();
        ledger.set_capacity(capacity);
        loop {
            let (excess, used) = (ledger.excess(), ledger.used());
            if excess.is_none() {
                break;
            }
            for index in 0..self.delegates.len() {
                let mut left = self.delegates.run(index, |cell| share_of(excess, cell.shard.used(), used));
                let average = used.weight.div_ceil(used.entries.max(1)).max(1);
                let slice = Room { entries: SLICE as u64, weight: average.saturating_mul(SLICE as u64) };
                loop {
                    let wanted = left.min(slice).min(ledger.excess());
                    if wanted.is_none() {
                        break;
                    }
                    // Given back while the shard is held, for the same reason as in `Gathering::add`.
                    let freed = self.delegates.run(index, |cell| {
                        let freed = cell.evict_for_another(wanted, &mut out);
                        ledger.give_back(freed);
                        freed
                    });
                    if freed.is_none() {
                        break;
                    }
                    left = left.saturating_sub(freed);
                }
            }
        }
        drop(gathering);
        drop(others);
        drop(out);
    }

    /// Stores an entry whose own shard has too little room even if it evicts everything. The other shards
    /// give room first, their least recently used entries. One thread at a time does this and keeps what it
    /// has gathered, so it always gets there.
    #[cold]
    pub(crate) fn insert_with_room_of_others(
        &self,
        index: usize,
        short: Short<K, V>,
        now: Nanos,
        unless: &mut Unless<'_, K, V>,
        out: &mut Outgoing<'_, K, V>,
    ) -> bool {
        let Short { mut arrival, mut missing } = short;
        let ledger = &self.common.ledger;
        // In this order, so that the turn ends first.
        let _others = self.delegates.put_off_others();
        let gathering = ledger.gather();
        let whole = Room { entries: 1, weight: if ledger.is_weighted() { u64::from(arrival.weight) } else { 0 } };
        let shards = self.delegates.len();
        let tries = if whole.fits_in(ledger.limit()) { shards * ROUNDS_FOR_ROOM } else { 0 };
        for step in 1..=tries {
            let other = (index + step) % shards;
            if other != index {
                let wanted = missing.saturating_sub(gathering.room());
                self.delegates.run(other, |cell| gathering.add(cell.evict_for_another(wanted, out)));
            }
            if !missing.fits_in(gathering.room()) && step % shards != 0 {
                continue;
            }
            let mut short = None;
            let (kept, alarm) = self
                .delegates
                .run(index, |cell| cell.insert_unless(unless, arrival, now, &mut &gathering, out, &mut short));
            if let Some(delay) = alarm {
                self.delegates.wake_in(index, delay);
            }
            match short {
                None => return kept,
                Some(Short { arrival: back, missing: still }) => {
                    arrival = back;
                    // This is missing in addition to what was offered, which is gathered again.
                    missing = still.saturating_add(gathering.room());
                }
            }
        }
        self.delegates.run(index, |cell| {
            if let Some(arrival) = cell.admit(unless, arrival, out) {
                cell.reject(arrival, now, out);
            }
        });
        false
    }
}

/// What a shard gives up of `excess`, in proportion to what it uses of `all`. Rounded up.
fn share_of(excess: Room, used: Room, all: Room) -> Room {
    let share = |excess: u64, used: u64, all: u64| {
        let share = (u128::from(excess) * u128::from(used)).div_ceil(u128::from(all.max(1)));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    Room {
        entries: share(excess.entries, used.entries, all.entries),
        weight: share(excess.weight, used.weight, all.weight),
    }
}

#[cfg(test)]
mod tests {
    use sark_shard::{Pool, Room};

    use crate::{Cache, Dispatch};

    #[test]
    fn a_forked_child_that_inherits_gathered_room_can_lower_its_capacity() {
        let cache: Cache<u32, u32> = Cache::builder().shards(2).max_capacity(10).workers(0).build().unwrap();
        (0..6).for_each(|key| assert!(cache.insert(key, key)));
        let ledger = &cache.inner().common.ledger;
        let gathered = Room { entries: 4, weight: 0 };
        assert_eq!((&mut &*ledger).take(gathered), gathered);
        ledger.leave_as_in_a_parent(gathered);
        cache.set_capacity(2);
        assert_eq!((cache.capacity(), cache.entry_count()), (2, 2));
    }

    #[test]
    fn a_value_too_heavy_to_be_stored_leaves_and_changes_one_that_came_meanwhile() {
        for dispatch in [Dispatch::Adaptive, Dispatch::PerCore] {
            let weigher = |_: &u32, value: &u32| *value;
            let builder = Cache::builder().dispatch(dispatch).pin(false).max_capacity(100).weigher(weigher);
            let cache = builder.build().unwrap();
            let turn = cache.inner().common.ledger.gather();
            std::thread::scope(|scope| {
                let heavy = scope.spawn(|| cache.update_or_insert(1, 101, |value| *value += 1));
                // Then it has missed, and waits for the turn.
                while cache.stats().misses == 0 {
                    std::thread::yield_now();
                }
                cache.insert(1, 40);
                drop(turn);
                assert_eq!((heavy.join().unwrap(), cache.get(&1)), (Some(()), Some(41)));
            });
        }
    }
}
