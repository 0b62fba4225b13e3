//! How an entry enters a shard: into a free place, or into the place of an older entry.
//!
//! Everything here runs while the shard is owned. It takes references and drops none.

use pyo3::prelude::*;
use sark_shard::{Insertion, Lifetime, Nanos, NoPool, Slot};

use super::outgoing::Outgoing;
use super::store::ObjectShard;
use crate::key::{Key, Sought};
use crate::object::Object;

/// How many expired entries an insertion reclaims first, at most.
const RECLAIM_PER_INSERT: usize = 16;

/// An entry on its way in, with everything that is decided before the shard is taken. References are taken
/// only when it is stored.
pub(super) struct Arrival<'a, 'py> {
    pub(super) sought: &'a Sought<'a, 'py>,
    pub(super) value: Borrowed<'a, 'py, PyAny>,
    pub(super) weight: u32,
    pub(super) lifetime: Lifetime,
    pub(super) now: Nanos,
    /// All entries weigh the same and there is no listener, so one value can simply take the place of another.
    pub(super) plain: bool,
}

impl Arrival<'_, '_> {
    /// Stores the entry in the place of its key. If it is heavier than the whole cache, forgets the older
    /// value, which would now be wrong, and returns the weight.
    #[inline]
    pub(super) fn store(&self, shard: &mut ObjectShard, place: Option<Slot>, out: &mut Outgoing) -> Option<u32> {
        let mut place = place;
        if shard.quiet_until() <= self.now {
            shard.advance(self.now, RECLAIM_PER_INSERT, out);
            // The entry that was sought may have been among those due.
            place = place.filter(|&slot| shard.key_at(slot).is_some());
        }
        let mut value = Object::new(self.value);
        if self.plain
            && let Some(slot) = place
        {
            value = match shard.swap_slot(slot, value, self.lifetime, self.now) {
                Ok(older) => {
                    out.displaced = Some(older);
                    return None;
                }
                Err(value) => value,
            };
        }
        match self.put(shard, place, self.sought.to_key(), value, self.lifetime, out) {
            Insertion::Short { key, value, .. } => {
                let rejected = self.put(shard, place, key, value, Lifetime::For(0), out);
                debug_assert!(matches!(rejected, Insertion::Rejected));
                Some(self.weight)
            }
            Insertion::Inserted | Insertion::Replaced | Insertion::Rejected => None,
        }
    }

    #[inline]
    fn put(
        &self,
        shard: &mut ObjectShard,
        place: Option<Slot>,
        key: Key,
        value: Object,
        lifetime: Lifetime,
        out: &mut Outgoing,
    ) -> Insertion<Key, Object> {
        let (hash, weight, now) = (self.sought.hash, self.weight, self.now);
        match place {
            None => shard.insert_absent(hash, key, value, weight, lifetime, now, &mut NoPool, out),
            Some(slot) => match shard.replace_slot(slot, key, value, weight, lifetime, now, &mut NoPool, out) {
                Ok(insertion) => insertion,
                Err(_) => unreachable!("the slot was looked at in this same hold"),
            },
        }
    }
}
