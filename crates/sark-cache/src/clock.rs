//! Time, as the cache sees it: nanoseconds since an origin that never changes. This module decides how much a
//! look-up pays for the time.
//!
//! A look-up needs the time only to know whether an entry is past its deadline, and a precise clock costs
//! more than the rest of the look-up. So there are three modes, and a cache only ever moves forward through
//! them ([`Timekeeping`]):
//!
//! 1. No entry has a deadline, and no clock is read.
//! 2. All lifetimes are long compared to the resolution of a coarse clock, which is read.
//! 3. Some lifetime was so short that the precise clock is needed.
//!
//! An entry is live while `now < stored_at + ttl`. The coarse clock is behind by up to its resolution, and by
//! the delay that the system's tick always has, which is the same at both ends. So the start is taken as the
//! clock shows it, and the end is compared with the clock plus its resolution: the cache errs early, never
//! late. Under time-to-idle a use starts a time, too. But it comes with the time of a reading, to which the
//! resolution is already added, so the shard gets a time-to-idle that is shorter by the resolution
//! ([`Timekeeping::idle_time`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use sark_shard::Nanos;

/// The source of time for deadlines: the system's clock, or one that is moved by hand.
///
/// ```
/// use std::time::Duration;
/// use sark_cache::{Cache, Clock};
///
/// let (clock, hands) = Clock::manual();
/// let cache = Cache::builder().time_to_live(Duration::from_secs(60)).clock(clock).build()?;
/// cache.insert("key", 1);
/// hands.advance(Duration::from_secs(59));
/// assert_eq!(cache.get("key"), Some(1));
/// hands.advance(Duration::from_secs(1));
/// assert_eq!(cache.get("key"), None);
/// # Ok::<(), sark_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The monotonic clock. `resolution` is by how many nanoseconds the coarse reading may be behind.
    System { resolution: u64 },
    /// Nanoseconds, as the hands set them.
    Manual(Arc<AtomicU64>),
}

/// Moves a [manual clock](Clock::manual). Cheap to clone; all clones move the same clock.
#[derive(Clone)]
pub struct Hands(Arc<AtomicU64>);

/// A manual clock starts here, so that it can also be set back a little.
const MANUAL_START: u64 = 1_000_000_000;

impl Clock {
    /// Returns the system's monotonic clock.
    ///
    /// If that clock stands still while the machine sleeps, entries don't age meanwhile.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { resolution: system::coarse_resolution() })
    }

    /// Returns a clock that stands still until its hands are moved.
    ///
    /// It is for tests and for replaying recorded time.
    ///
    /// Workers can't know when a deadline comes on this clock. So other operations and
    /// [`Cache::run_pending_tasks`](crate::Cache::run_pending_tasks) reclaim what expired.
    #[must_use]
    pub fn manual() -> (Self, Hands) {
        let nanos = Arc::new(AtomicU64::new(MANUAL_START));
        (Self(Source::Manual(Arc::clone(&nanos))), Hands(nanos))
    }

    /// Whether worker threads can sleep until a time on this clock.
    pub(crate) fn can_be_slept_on(&self) -> bool {
        matches!(self.0, Source::System { .. })
    }

    pub(crate) fn precise(&self) -> Nanos {
        match &self.0 {
            Source::System { .. } => Nanos(system::precise()),
            Source::Manual(nanos) => Nanos(nanos.load(Ordering::Acquire)),
        }
    }

    /// Never ahead of `precise`, and behind by less than [`resolution`](Self::resolution) plus the delay that
    /// the system's tick always has.
    #[inline]
    fn coarse(&self) -> Nanos {
        match &self.0 {
            Source::System { .. } => Nanos(system::coarse()),
            Source::Manual(nanos) => Nanos(nanos.load(Ordering::Acquire)),
        }
    }

    fn resolution(&self) -> u64 {
        match self.0 {
            Source::System { resolution } => resolution,
            Source::Manual(_) => 0,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Hands {
    /// Moves the clock forward, at most to the end of its range (584 years).
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        // This can't fail, because the closure never returns `None`.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(by)));
    }

    /// Sets the clock to this long after it was made.
    ///
    /// It may go back. What was reclaimed doesn't come back with it.
    pub fn set(&self, since_made: Duration) {
        self.0.store(MANUAL_START.saturating_add(nanos(since_made)), Ordering::Release);
    }
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hands").field(&self.0.load(Ordering::Relaxed)).finish()
    }
}

/// Converts a duration to nanoseconds. At most `u64::MAX`, which is further away than any deadline can be.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a cache, and how precisely the cache has to read it.
///
/// Every [`Cache`](crate::Cache) has one. It is public for code that runs shards (`sark_shard::Shard`)
/// without a `Cache`, such as the Python binding.
///
/// ```
/// use sark_cache::{Clock, Timekeeping};
///
/// let time = Timekeeping::new(Clock::system());
/// assert_eq!(time.for_reading().0, 0, "nothing has a deadline: no clock is read");
/// time.prepare_for(60_000_000_000);
/// assert!(time.for_reading() >= time.for_storing());
/// ```
#[derive(Debug)]
pub struct Timekeeping {
    clock: Clock,
    /// `UNTIMED`, `COARSE` or `PRECISE`. It only ever grows.
    mode: AtomicU8,
}

/// Nothing has a deadline, so the time doesn't matter.
const UNTIMED: u8 = 0;
const COARSE: u8 = 1;
const PRECISE: u8 = 2;

/// Lifetimes of fewer ticks of the coarse clock than this are kept on the precise one.
const COARSE_STEPS: u64 = 8;

impl Timekeeping {
    /// Creates a `Timekeeping` that reads no clock yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, mode: AtomicU8::new(UNTIMED) }
    }

    /// Prepares for entries with this lifetime or time-to-idle, in nanoseconds.
    ///
    /// Must be called before the first such entry is stored. Zero changes nothing: an entry without a
    /// lifetime isn't kept, so no look-up will ever ask whether it has expired. Relaxed: a look-up that
    /// doesn't see the change began before that entry was stored.
    ///
    /// ```
    /// use sark_cache::{Clock, Timekeeping};
    ///
    /// let time = Timekeeping::new(Clock::system());
    /// time.prepare_for(0);
    /// assert_eq!(time.for_reading().0, 0, "still no clock is read");
    /// ```
    pub fn prepare_for(&self, lifetime: u64) {
        if lifetime == 0 {
            return;
        }
        let needed = if self.is_long(lifetime) { COARSE } else { PRECISE };
        if self.mode.load(Ordering::Relaxed) < needed {
            self.mode.fetch_max(needed, Ordering::Relaxed);
        }
    }

    /// Returns the time-to-idle to give to a shard, so that no entry is served at or after `time_to_idle`
    /// nanoseconds.
    ///
    /// This is the value for `sark_shard::Config`. [`prepare_for`](Self::prepare_for) must have been called
    /// with either of the two, or be called with it later.
    ///
    /// A use is noted at the time [for reading](Self::for_reading), and the same time decides whether an
    /// entry has expired. On the coarse clock both have its resolution added, where only the second should.
    /// So if the coarse clock will do for this lifetime, the result is one resolution less (4 ms on most
    /// Linux systems).
    ///
    /// ```
    /// use sark_cache::{Clock, Timekeeping};
    ///
    /// let minute = 60_000_000_000;
    /// let (clock, _hands) = Clock::manual();
    /// assert_eq!(Timekeeping::new(clock).idle_time(minute), minute, "it is exact");
    ///
    /// let time = Timekeeping::new(Clock::system());
    /// assert!((minute * 99 / 100..=minute).contains(&time.idle_time(minute)));
    /// assert_eq!(time.idle_time(1), 1, "kept on the precise clock");
    /// assert_eq!(time.idle_time(u64::MAX), u64::MAX, "for ever");
    /// ```
    #[must_use]
    pub fn idle_time(&self, time_to_idle: u64) -> u64 {
        match time_to_idle {
            // For ever.
            u64::MAX => u64::MAX,
            long if self.is_long(long) => long - self.clock.resolution(),
            short => short,
        }
    }

    /// Whether the coarse clock will do for this lifetime.
    fn is_long(&self, lifetime: u64) -> bool {
        lifetime >= self.clock.resolution().saturating_mul(COARSE_STEPS)
    }

    /// Returns the time to compare deadlines with.
    #[inline]
    #[must_use]
    pub fn for_reading(&self) -> Nanos {
        match self.mode.load(Ordering::Relaxed) {
            UNTIMED => Nanos(0),
            COARSE => self.clock.coarse().after(self.clock.resolution()),
            _ => self.clock.precise(),
        }
    }

    /// Returns the time to store an entry at.
    #[inline]
    #[must_use]
    pub fn for_storing(&self) -> Nanos {
        match self.mode.load(Ordering::Relaxed) {
            UNTIMED => Nanos(0),
            COARSE => self.clock.coarse(),
            _ => self.clock.precise(),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    fn nanos(time: Timespec) -> u64 {
        // Monotonic clocks count from boot, so neither part is negative, and the range is 584 years.
        time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
    }

    pub(super) fn precise() -> u64 {
        nanos(clock_gettime(ClockId::Monotonic))
    }

    /// The time of the last timer tick, at a third of the cost.
    #[inline]
    pub(super) fn coarse() -> u64 {
        nanos(clock_gettime(ClockId::MonotonicCoarse))
    }

    pub(super) fn coarse_resolution() -> u64 {
        nanos(clock_getres(ClockId::MonotonicCoarse))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    pub(super) fn precise() -> u64 {
        super::nanos(ORIGIN.get_or_init(Instant::now).elapsed())
    }

    pub(super) fn coarse() -> u64 {
        precise()
    }

    pub(super) fn coarse_resolution() -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_never_ahead_and_never_further_behind_than_its_resolution_and_a_delay() {
        let clock = Clock::system();
        for _ in 0..10_000 {
            let before = clock.precise();
            let coarse = clock.coarse();
            let after = clock.precise();
            assert!(coarse <= after, "{coarse:?} is after {after:?}");
            // The tick itself may be late on a busy machine. That can't be bounded here, except that it is
            // not hours.
            assert!(coarse.0 + clock.resolution() + 1_000_000_000 > before.0);
        }
    }

    #[test]
    fn an_entry_that_is_not_kept_needs_no_clock() {
        let time = Timekeeping::new(Clock::system());
        time.prepare_for(0);
        assert_eq!(time.mode.load(Ordering::Relaxed), UNTIMED);
        time.prepare_for(u64::MAX);
        time.prepare_for(0);
        assert_eq!(time.mode.load(Ordering::Relaxed), COARSE);

        let cache = crate::Cache::new(10);
        assert!(!cache.insert_with_ttl("key", 1, Duration::ZERO));
        assert_eq!(cache.inner().common.time.mode.load(Ordering::Relaxed), UNTIMED);
    }

    #[test]
    fn timekeeping_only_becomes_more_precise() {
        let time = Timekeeping::new(Clock::system());
        assert_eq!(time.for_reading(), Nanos(0));
        time.prepare_for(1);
        let precise = time.for_reading();
        assert!(precise > Nanos(0));
        time.prepare_for(u64::MAX);
        assert_eq!(time.mode.load(Ordering::Relaxed), PRECISE);
    }
}
