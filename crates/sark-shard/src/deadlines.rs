//! Deadlines: when each entry expires, by its lifetime and the shard's time to idle, and the wheel that finds
//! what is due.
//!
//! The shard calls it. Without time to idle, the wheel's deadline *is* the entry's. With it, a hit only
//! records the time of the access here. The wheel, armed for an earlier moment, is armed again when that
//! moment comes. This module never removes an entry: it only says which slots have expired.

use crate::column::Column;
use crate::slot::Slot;
use crate::time::{Lifetime, Nanos};
use crate::wheel::Wheel;
use crate::word::Horizon;

const NEVER: u64 = u64::MAX;

/// What time to idle needs to know of a slot.
#[derive(Clone, Copy, PartialEq)]
struct Use {
    /// The deadline that accesses don't move.
    fixed: u64,
    /// The time of the last access.
    accessed: u64,
}

/// No slot in use has this value, since deadlines are after zero. So the column reaches all slots in use.
const UNUSED: Use = Use { fixed: 0, accessed: 0 };

/// The deadlines of all slots.
#[repr(C)]
pub(crate) struct Deadlines {
    /// `NEVER` if the shard has none.
    time_to_idle: u64,
    wheel: Wheel,
    /// `NEVER` if the shard has none.
    time_to_live: u64,
    /// Reaches all live slots if there is a time to idle, and is empty otherwise.
    uses: Column<Use>,
}

impl Deadlines {
    /// How many bytes at its beginning a hit reads if there is no time to idle.
    pub(crate) const HOT_BYTES: usize = core::mem::offset_of!(Self, wheel) + Wheel::HOT_BYTES;

    pub(crate) fn new(time_to_live: Option<u64>, time_to_idle: Option<u64>) -> Self {
        Self {
            wheel: Wheel::at(0),
            time_to_idle: time_to_idle.unwrap_or(NEVER),
            time_to_live: time_to_live.unwrap_or(NEVER),
            uses: Column::new(UNUSED),
        }
    }

    /// Returns the same rules without any deadlines, with a wheel that has reached the same time.
    pub(crate) fn emptied(&self) -> Self {
        Self { wheel: Wheel::at(self.wheel.elapsed()), uses: Column::new(UNUSED), ..*self }
    }

    /// Returns the deadline that `lifetime` means at `now`, apart from idling, or `None` if nothing is to be
    /// kept.
    #[inline]
    pub(crate) fn fixed(&self, lifetime: Lifetime, now: Nanos) -> Option<Nanos> {
        let nanos = match lifetime {
            Lifetime::Default => self.time_to_live,
            Lifetime::Forever => NEVER,
            Lifetime::For(nanos) => nanos,
        };
        if nanos == 0 || self.time_to_idle == 0 { None } else { Some(now.after(nanos)) }
    }

    /// Returns until when an entry with this deadline certainly lives.
    #[inline]
    pub(crate) fn horizon(&self, fixed: Nanos) -> Horizon {
        // With time to idle, a deadline moves with each use.
        if self.time_to_idle == NEVER { Horizon::of(fixed) } else { Horizon::UNKNOWN }
    }

    /// Returns when `slot` expires if it is not used before.
    #[inline]
    pub(crate) fn deadline(&self, slot: Slot) -> u64 {
        if self.time_to_idle == NEVER {
            return self.wheel.deadline(slot);
        }
        let Use { fixed, accessed } = self.uses.get(slot);
        fixed.min(accessed.saturating_add(self.time_to_idle))
    }

    #[inline]
    pub(crate) fn is_dead(&self, slot: Slot, now: Nanos) -> bool {
        // Deadlines are after zero, and a caller without a clock passes zero. For such a caller nothing in
        // here is read.
        now != Nanos(0) && now.tick() >= self.deadline(slot)
    }

    /// Records an access.
    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot, now: Nanos) {
        if now != Nanos(0) && self.time_to_idle != NEVER {
            self.uses.change(slot, |uses| uses.accessed = uses.accessed.max(now.0));
        }
    }

    /// Starts the time of an entry that was just written.
    #[inline]
    pub(crate) fn start(&mut self, slot: Slot, fixed: Nanos, now: Nanos, capacity: usize) {
        // Usually either nothing in here has a deadline, or everything has.
        if self.wheel.len() != 0 || fixed != Nanos::MAX || self.time_to_idle != NEVER {
            self.start_over(slot, fixed, now, capacity);
        }
    }

    fn start_over(&mut self, slot: Slot, fixed: Nanos, now: Nanos, capacity: usize) {
        if self.time_to_idle != NEVER {
            self.uses.set(slot, Use { fixed: fixed.0, accessed: now.0 }, capacity);
        }
        self.arm(slot, fixed, capacity);
    }

    /// Changes the deadline that accesses don't move.
    pub(crate) fn change(&mut self, slot: Slot, fixed: Nanos, capacity: usize) {
        self.uses.change(slot, |uses| uses.fixed = fixed.0);
        self.arm(slot, fixed, capacity);
    }

    /// Forgets a slot.
    #[inline]
    pub(crate) fn cancel(&mut self, slot: Slot) {
        self.wheel.cancel(slot);
    }

    /// Takes an expired slot out of the wheel; see [`Wheel::pop_due`].
    pub(crate) fn pop_dead(&mut self, now: Nanos, budget: &mut usize, capacity: usize) -> Option<Slot> {
        loop {
            let slot = self.wheel.pop_due(now.tick(), budget)?;
            if self.time_to_idle == NEVER || self.deadline(slot) <= now.tick().max(self.wheel.elapsed()) {
                return Some(slot);
            }
            self.wheel.schedule(slot, self.deadline(slot), capacity);
        }
    }

    /// The slots that [`Self::pop_dead`] takes out next, as far as is known.
    pub(crate) fn upcoming(&self, now: Nanos, among: usize) -> impl Iterator<Item = Slot> + '_ {
        self.wheel.upcoming(now.tick(), among)
    }

    /// Whether [`Self::pop_dead`] would have anything to do.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        self.wheel.is_due(now.tick())
    }

    /// Returns a time not after the earliest deadline; see [`Wheel::next`].
    #[inline]
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.wheel.next().map(Nanos)
    }

    /// Returns a time not after the earliest deadline; see [`Wheel::quiet_until`].
    #[inline]
    pub(crate) fn quiet_until(&self) -> Nanos {
        Nanos(self.wheel.quiet_until())
    }

    /// The number of slots with a deadline.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }

    /// Starts loading the deadline of `slot`.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot) {
        self.wheel.prefetch(slot);
    }

    /// The number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.wheel.bytes() + self.uses.bytes()
    }

    #[inline]
    fn arm(&mut self, slot: Slot, fixed: Nanos, capacity: usize) {
        let deadline = if self.time_to_idle == NEVER { fixed.0 } else { self.deadline(slot) };
        self.wheel.schedule(slot, deadline, capacity);
    }

    /// Asserts the wheel's invariants.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        self.wheel.validate();
    }

    /// Asserts that the wheel will look at `slot` no later than the slot expires, and not at all if it is not
    /// `live`.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate_slot(&self, slot: Slot, live: bool) {
        let armed = self.wheel.deadline(slot);
        if live {
            let deadline = self.deadline(slot);
            let in_time = if self.time_to_idle == NEVER { armed == deadline } else { armed <= deadline };
            assert!(in_time, "deadlines: {slot:?} dies at {deadline}, the wheel looks at {armed}");
        } else {
            assert_eq!(armed, NEVER, "deadlines: {slot:?} is free and has a deadline");
        }
    }
}
