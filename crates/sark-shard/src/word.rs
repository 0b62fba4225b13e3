//! Words: what each slot keeps alongside its entry. The word of a live slot says when the entry was used last
//! and until when it certainly lives. The word of a free slot names the next free one.
//!
//! ```text
//!  63   62 ............................ 26   25 ............ 0
//! ┌────┬────────────────────────────────────┬────────────────┐
//! │  0 │              last use              │  horizon + 1   │  live
//! ├────┼────┬───────────────────────────────┼────────────────┤
//! │  1 │    │           next free           │       0        │  free
//! └────┴────┴───────────────────────────────┴────────────────┘
//! ```
//!
//! A look-up reads this word in any case, since it is on the cache line of the key. So what a look-up needs
//! to know of the entry's deadline is here as well. It is coarse, but enough for nearly all look-ups, which
//! then read no other line for it. One comparison of the low bits says both that a slot is live and that its
//! entry certainly lives. The nodes call this module, which never reads the exact deadline.

use crate::time::Nanos;

/// The number of a use of an entry among all uses of the shard: the greater, the later. At most [`LAST_USE`].
pub(crate) type Use = u64;

/// The number of bits of the horizon.
const LIFE_BITS: u32 = 26;
const LIFE: u64 = (1 << LIFE_BITS) - 1;
const FREE: u64 = 1 << 63;
/// The greatest number of a use. After it the entries of the shard are renumbered, in one sort. With ten
/// million uses of one shard a second that happens every four hours.
pub(crate) const LAST_USE: Use = (1 << (63 - LIFE_BITS)) - 1;

/// The length of a horizon's step in nanoseconds, as a power of two: 4.3 seconds.
const STEP_BITS: u32 = 32;

/// A time until which an entry certainly lives, in steps from the origin of time.
///
/// The entry's deadline is less than a step later, or unknown, or too far away to be represented: more than
/// nine years from the origin. On a clock past that, no entry certainly lives, and each look-up checks the
/// exact deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon(u32);

impl Horizon {
    /// The horizon of an entry whose deadline is to be looked up each time.
    pub(crate) const UNKNOWN: Self = Self(0);
    /// The furthest horizon.
    const MAX: u64 = LIFE - 1;

    /// Returns the horizon of an entry with this deadline.
    #[inline]
    pub(crate) const fn of(deadline: Nanos) -> Self {
        let steps = deadline.0 >> STEP_BITS;
        Self(if steps < Self::MAX { steps as u32 } else { Self::MAX as u32 })
    }

    /// Returns the horizon as it is in the word of a live entry.
    #[inline]
    const fn bits(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// A count of uses, in the form in which a [`Word`] has it, so that a hit stores it without shifting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Uses(u64);

impl Uses {
    pub(crate) const NONE: Self = Self(0);

    /// Returns the count of this many uses, at most [`LAST_USE`].
    pub(crate) fn counted(number: Use) -> Self {
        debug_assert!(number <= LAST_USE);
        Self(number << LIFE_BITS & !FREE)
    }

    /// Returns the count with one more use, or `None` after [`LAST_USE`].
    #[inline]
    pub(crate) const fn next(self) -> Option<Self> {
        let next = self.0 + (1 << LIFE_BITS);
        if next < FREE { Some(Self(next)) } else { None }
    }

    /// The number of the last use.
    #[inline]
    pub(crate) const fn last(self) -> Use {
        self.0 >> LIFE_BITS
    }
}

/// The word of a slot; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(u64);

impl Word {
    /// Returns the word of a live slot whose last use is the last of `uses`.
    #[inline]
    pub(crate) const fn live(uses: Uses, horizon: Horizon) -> Self {
        Self(uses.0 | horizon.bits())
    }

    #[inline]
    pub(crate) const fn free(next: u32) -> Self {
        Self(FREE | (next as u64) << LIFE_BITS)
    }

    #[inline]
    pub(crate) const fn is_live(self) -> bool {
        // This does not test the top bit: wherever an entry is known to live for certain, its low bits imply
        // this, too.
        self.0 & LIFE != 0
    }

    /// The next free slot, as given to [`free`](Self::free). Only for the word of a free slot.
    #[inline]
    pub(crate) const fn next_free(self) -> u32 {
        (self.0 >> LIFE_BITS) as u32
    }

    /// The last use. Only for the word of a live slot.
    #[inline]
    pub(crate) const fn last_use(self) -> Use {
        self.0 >> LIFE_BITS
    }

    /// Returns the word of the same live slot with the last of `uses` as its last use.
    #[inline]
    pub(crate) fn used(self, uses: Uses) -> Self {
        debug_assert!(self.is_live());
        Self(self.0 & LIFE | uses.0)
    }

    /// Returns the word of the same live slot with another horizon.
    #[inline]
    pub(crate) const fn with_horizon(self, horizon: Horizon) -> Self {
        Self(self.0 & !LIFE | horizon.bits())
    }

    /// Whether the slot is live and its entry certainly lives at `now`. False proves nothing.
    #[inline]
    pub(crate) const fn outlives(self, now: Nanos) -> bool {
        self.0 & LIFE > (now.0 >> STEP_BITS) + 1
    }

    /// Whether the slot is live and its last use is one of the `width` uses from `from` on.
    #[inline]
    pub(crate) const fn was_used_among(self, from: Use, width: u64) -> bool {
        // One comparison checks all of it: an earlier use wraps around to a great number, and a free slot has
        // one.
        self.last_use().wrapping_sub(from) < width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 1 << STEP_BITS;

    fn live(number: Use, horizon: Horizon) -> Word {
        Word::live(Uses::counted(number), horizon)
    }

    #[test]
    fn last_use_and_horizon_don_t_touch_each_other() {
        for deadline in [Nanos(0), Nanos(5 * STEP), Nanos::MAX] {
            let horizon = Horizon::of(deadline);
            for number in [0, 1, LAST_USE] {
                let word = live(number, horizon);
                let [first, again] = [7, number].map(Uses::counted);
                assert!(word.is_live());
                assert_eq!(
                    (word.last_use(), word.used(first).last_use(), word.used(first).used(again)),
                    (number, 7, word)
                );
                assert_eq!(word.with_horizon(Horizon::UNKNOWN).with_horizon(horizon), word);
            }
        }
        for next in [0, 7, u32::MAX] {
            let free = Word::free(next);
            assert_eq!((free.is_live(), free.next_free(), free.outlives(Nanos(0))), (false, next, false));
        }
    }

    #[test]
    fn uses_are_counted_to_the_last() {
        assert_eq!((Uses::NONE.last(), Uses::NONE.next()), (0, Some(Uses::counted(1))));
        assert_eq!(Uses::counted(LAST_USE - 1).next(), Some(Uses::counted(LAST_USE)));
        assert_eq!((Uses::counted(LAST_USE).last(), Uses::counted(LAST_USE).next()), (LAST_USE, None));
    }

    #[test]
    fn a_horizon_is_never_after_the_deadline_and_less_than_a_step_before_it() {
        for deadline in [0, 1, STEP - 1, STEP, STEP + 1, 7 * STEP - 1, Horizon::MAX * STEP - 1] {
            let word = live(1, Horizon::of(Nanos(deadline)));
            assert!(!word.outlives(Nanos(deadline)), "{deadline} is past");
            assert!(deadline < STEP || word.outlives(Nanos(deadline - STEP)), "{deadline} is a step away");
        }
    }

    #[test]
    fn what_is_too_far_away_to_be_told_lives_for_years_and_is_looked_up_then() {
        let years = Horizon::MAX * STEP;
        for deadline in [Nanos(years), Nanos(years * 9), Nanos::MAX] {
            let word = live(1, Horizon::of(deadline));
            assert!(word.outlives(Nanos(0)) && word.outlives(Nanos(years - 1)) && !word.outlives(Nanos(years)));
            assert!(!word.outlives(Nanos::MAX));
        }
        assert!(!live(1, Horizon::UNKNOWN).outlives(Nanos(0)));
    }

    #[test]
    fn uses_are_compared_whatever_the_horizon() {
        let word = live(10, Horizon::of(Nanos::MAX));
        assert!(word.was_used_among(10, 1) && word.was_used_among(0, 11) && word.was_used_among(10, LAST_USE));
        assert!(!word.was_used_among(11, 100) && !word.was_used_among(0, 10));
        assert!([0, 10, u32::MAX].into_iter().all(|next| !Word::free(next).was_used_among(0, LAST_USE + 1)));
    }
}
