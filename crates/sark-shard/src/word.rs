//! The word beside an entry: when it was used last, and until when it certainly lives. Of a free slot: the next free one.
//!
//! ```text
//!  63   62 ............ 38   37 ........................... 0
//! ┌────┬────────────────────┬────────────────────────────────┐
//! │  0 │      horizon       │            last use            │  live
//! ├────┼────────────────────┼────────────────┬───────────────┤
//! │  1 │                    │                │   next free   │  free
//! └────┴────────────────────┴────────────────┴───────────────┘
//! ```
//!
//! A look-up reads this word in any case, on the line of the key. So what it needs to know of an entry's deadline is here, too:
//! coarsely, but enough for nearly all look-ups, which then read no other line for it. The nodes call it.

use crate::time::Nanos;

/// A use of an entry, by its number among all uses of the shard: the greater, the later. At most [`LAST_USE`].
pub(crate) type Use = u64;

const USE_BITS: u32 = 38;
/// No use has a greater number.
pub(crate) const LAST_USE: Use = (1 << USE_BITS) - 1;
/// Set in the numbers from half of them on: time to number the entries of the shard anew, in one sort. With ten million uses of
/// one shard a second that is so every four hours.
pub(crate) const MANY_USES: Use = 1 << (USE_BITS - 1);
const FREE: u64 = 1 << 63;

/// A horizon counts in steps of this many nanoseconds, as a power of two: 4.3 seconds.
const STEP_BITS: u32 = 32;

/// A time that an entry certainly lives to see, in steps from the origin of time. Its deadline is less than a step later, or
/// unknown, or too far away to be told: 4.5 years from the origin. On a clock that shows more than that, no entry certainly
/// lives, and each look-up takes a closer look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon(u32);

impl Horizon {
    /// Of an entry whose deadline is to be looked up each time.
    pub(crate) const UNKNOWN: Self = Self(0);
    /// The furthest.
    const MAX: u64 = (1 << (63 - USE_BITS)) - 1;

    /// Of an entry with this deadline.
    #[inline]
    pub(crate) const fn of(deadline: Nanos) -> Self {
        let steps = deadline.0 >> STEP_BITS;
        Self(if steps < Self::MAX { steps as u32 } else { Self::MAX as u32 })
    }
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(u64);

impl Word {
    #[inline]
    pub(crate) fn live(last_use: Use, horizon: Horizon) -> Self {
        debug_assert!(last_use <= LAST_USE && u64::from(horizon.0) <= Horizon::MAX);
        Self(u64::from(horizon.0) << USE_BITS | last_use & LAST_USE)
    }

    #[inline]
    pub(crate) const fn free(next: u32) -> Self {
        Self(FREE | next as u64)
    }

    #[inline]
    pub(crate) const fn is_live(self) -> bool {
        self.0 < FREE
    }

    /// Of a free slot, what it was freed with.
    #[inline]
    pub(crate) const fn next_free(self) -> u32 {
        self.0 as u32
    }

    /// Of a live one.
    #[inline]
    pub(crate) const fn last_use(self) -> Use {
        self.0 & LAST_USE
    }

    /// The same, used again.
    #[inline]
    pub(crate) fn used(self, number: Use) -> Self {
        debug_assert!(self.is_live() && number <= LAST_USE);
        Self(self.0 & !LAST_USE | number)
    }

    /// The same with another horizon.
    #[inline]
    pub(crate) fn with_horizon(self, horizon: Horizon) -> Self {
        Self::live(self.last_use(), horizon)
    }

    /// Whether a live one certainly lives at this time, and `many` is zero: that, or [`MANY_USES`]. False says nothing.
    #[inline]
    pub(crate) const fn outlives(self, now: Nanos, many: Use) -> bool {
        // No horizon is as far as many uses are.
        const { assert!(MANY_USES > Horizon::MAX) }
        self.0 >> USE_BITS > now.0 >> STEP_BITS | many
    }

    /// Whether it is live and was last used from one use on, among so many.
    #[inline]
    pub(crate) const fn was_used_among(self, from: Use, width: u64) -> bool {
        // One comparison for all of it: what was used earlier wraps around to a great number, and what is free is one.
        (self.0 & (FREE | LAST_USE)).wrapping_sub(from) < width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 1 << STEP_BITS;

    #[test]
    fn last_use_and_horizon_don_t_touch_each_other() {
        for deadline in [Nanos(0), Nanos(5 * STEP), Nanos::MAX] {
            let horizon = Horizon::of(deadline);
            for number in [0, 1, LAST_USE] {
                let word = Word::live(number, horizon);
                assert!(word.is_live());
                assert_eq!((word.last_use(), word.used(7).last_use(), word.used(7).used(number)), (number, 7, word));
                assert_eq!(word.with_horizon(Horizon::UNKNOWN).with_horizon(horizon), word);
            }
        }
        assert!(!Word::free(0).is_live());
        assert_eq!((Word::free(u32::MAX).next_free(), Word::free(7).next_free()), (u32::MAX, 7));
    }

    #[test]
    fn a_horizon_is_never_after_the_deadline_and_less_than_a_step_before_it() {
        for deadline in [0, 1, STEP - 1, STEP, STEP + 1, 7 * STEP - 1, Horizon::MAX * STEP - 1] {
            let word = Word::live(1, Horizon::of(Nanos(deadline)));
            let certain = |now: u64| word.outlives(Nanos(now), 0);
            assert!(!certain(deadline), "{deadline} is past");
            assert!(deadline < STEP || certain(deadline - STEP), "{deadline} is a step away");
        }
    }

    #[test]
    fn what_is_too_far_away_to_be_told_lives_for_years_and_is_looked_up_then() {
        let years = Horizon::MAX * STEP;
        for deadline in [Nanos(years), Nanos(years * 9), Nanos::MAX] {
            let word = Word::live(1, Horizon::of(deadline));
            assert!(
                word.outlives(Nanos(0), 0) && word.outlives(Nanos(years - 1), 0) && !word.outlives(Nanos(years), 0)
            );
        }
        assert!(!Word::live(1, Horizon::UNKNOWN).outlives(Nanos(0), 0));
        assert!(!Word::live(1, Horizon::of(Nanos::MAX)).outlives(Nanos(0), MANY_USES));
    }

    #[test]
    fn uses_are_compared_whatever_the_horizon() {
        let word = Word::live(10, Horizon::of(Nanos::MAX));
        assert!(word.was_used_among(10, 1) && word.was_used_among(0, 11) && word.was_used_among(10, LAST_USE));
        assert!(!word.was_used_among(11, 100) && !word.was_used_among(0, 10));
        assert!(!Word::free(10).was_used_among(0, LAST_USE + 1));
    }
}
