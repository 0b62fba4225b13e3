//! Expiry: deadlines that come, and deadlines that change.
//!
//! The caller says what time it is and how much to do. Nothing here runs on its own, and an expired entry
//! stays until an operation reclaims it.

use equivalent::Equivalent;

use super::Shard;
use crate::index::ShortHash;
use crate::removed::{RemovalCause, Removals};
use crate::slot::Slot;
use crate::time::{Lifetime, Nanos};

/// How far an advance came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries handed back as [`RemovalCause::Expired`].
    pub expired: usize,
    /// Whether the budget ran out before everything due at this time was done. If so, call again.
    pub more: bool,
}

/// How many entries are prefetched at once before they are handed back: as many loads as a core keeps in
/// flight, and few enough that it costs little where they are near.
const FORESEEN: usize = 16;
/// How many entries are handed back before anything is prefetched.
const UNFORESEEN: usize = 4;

impl<K, V> Shard<K, V> {
    /// Hands back entries whose deadline has come by `now`, in no particular order.
    ///
    /// Each entry handed back, and each one whose timer only had to be moved, costs one of `budget`; the next
    /// call carries on with what is left. O(budget), and O(1) for each entry altogether: its timer moves at
    /// most eleven times, and as often again for each time that its deadline was put off.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// for key in 0..3 {
    ///     shard.insert(hash(key), key, key, 1, Lifetime::For(10), Nanos(0), &mut NoPool, &mut removed);
    /// }
    /// assert_eq!(shard.advance(Nanos(9), 64, &mut removed).expired, 0);
    /// assert_eq!(shard.advance(Nanos(1000), 2, &mut removed), Progress { expired: 2, more: true });
    /// assert_eq!(shard.advance(Nanos(1000), 2, &mut removed), Progress { expired: 1, more: false });
    /// ```
    pub fn advance(&mut self, now: Nanos, budget: usize, removed: &mut impl Removals<K, V>) -> Progress {
        let mut left = budget;
        let mut expired = 0;
        // Usually there are one or two, so there is nothing to prefetch.
        let mut part = left.min(UNFORESEEN);
        loop {
            let mut unused = part;
            while let Some(slot) = self.deadlines.pop_dead(now, &mut unused, self.slab.capacity()) {
                self.hand_back(slot, RemovalCause::Expired, removed);
                expired += 1;
            }
            left -= part - unused;
            if unused > 0 || left == 0 {
                break;
            }
            part = left.min(FORESEEN);
            self.foresee_deaths(now, part);
        }
        Progress { expired, more: left == 0 && self.deadlines.is_due(now) }
    }

    /// Starts loading what it takes to hand back the expired entries among those that are looked at next.
    fn foresee_deaths(&self, now: Nanos, among: usize) {
        for slot in self.deadlines.upcoming(now, among) {
            self.slab.prefetch(slot);
            self.hint.prefetch(u64::from(self.index.hash_of(slot).0));
        }
    }

    /// A time at which [`advance`](Self::advance) may have something to do. It is never after the earliest
    /// deadline, and perhaps before it, when there are only timers to move. O(1).
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.deadlines.next()
    }

    /// A time before which no deadline comes, [`Nanos::MAX`] only if there are none.
    ///
    /// It is never after [`next_deadline`](Self::next_deadline), which takes a closer look. An
    /// [`advance`](Self::advance) that gets to its end sets it anew, to a time after that. O(1), without a
    /// search.
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(7, 1, 10, 1, Lifetime::For(100), Nanos(0), &mut NoPool, &mut removed);
    /// assert_eq!(shard.quiet_until(), Nanos(100));
    /// shard.remove(7, &1, Nanos(1), &mut removed);
    /// assert_eq!((shard.quiet_until(), shard.next_deadline()), (Nanos(100), None));
    /// shard.advance(Nanos(100), 1, &mut removed);
    /// assert_eq!(shard.quiet_until(), Nanos::MAX);
    /// ```
    #[must_use]
    #[inline]
    pub fn quiet_until(&self) -> Nanos {
        self.deadlines.quiet_until()
    }

    /// Whether any entry has a deadline now, so that time matters. O(1).
    #[must_use]
    #[inline]
    pub fn has_deadlines(&self) -> bool {
        self.deadlines.len() > 0
    }

    /// Gives `key` a new lifetime from `now` on, and returns whether it was there and live.
    ///
    /// This is not a use: the order and the time of access stay. With a lifetime of zero, the entry is handed
    /// back as [`RemovalCause::Expired`]. O(1).
    ///
    /// ```
    /// # use sark_shard::*;
    /// # let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    /// # let (mut shard, mut removed) = (Shard::<u64, u64>::new(Config::default()), Vec::new());
    /// shard.insert(hash(1), 1, 10, 1, Lifetime::For(10), Nanos(0), &mut NoPool, &mut removed);
    /// assert!(shard.set_lifetime(hash(1), &1, Lifetime::For(10), Nanos(5), &mut removed));
    /// assert_eq!(shard.peek(hash(1), &1, Nanos(14)), Some(&10));
    /// ```
    pub fn set_lifetime<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        lifetime: Lifetime,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
    ) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.find(ShortHash::of(hash), key) {
            Some((slot, _)) => self.set_lifetime_found(slot, lifetime, now, removed),
            None => false,
        }
    }

    /// Changes the lifetime of a live slot.
    pub(super) fn set_lifetime_found(
        &mut self,
        slot: Slot,
        lifetime: Lifetime,
        now: Nanos,
        removed: &mut impl Removals<K, V>,
    ) -> bool {
        let alive = !self.is_dead(slot, now);
        match self.deadlines.fixed(lifetime, now) {
            Some(fixed) if alive => {
                self.deadlines.change(slot, fixed, self.slab.capacity());
                self.slab.set_horizon(slot, self.deadlines.horizon(fixed));
            }
            _ => self.hand_back(slot, RemovalCause::Expired, removed),
        }
        alive
    }
}
