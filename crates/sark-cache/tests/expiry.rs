//! Nothing is served past its deadline, and its memory comes back.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Census;
use sark_cache::{Builder, Cache, Clock, Dispatch};

fn builder<V: Send + 'static>(dispatch: Dispatch) -> Builder<u64, V> {
    Cache::builder().dispatch(dispatch).pin(false).max_capacity(10_000)
}

const MINUTE: Duration = Duration::from_secs(60);

under_both_dispatches! {
    fn an_entry_is_served_until_just_before_its_deadline(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_live(MINUTE).clock(clock).build().unwrap();
        cache.insert(1, 1);
        hands.advance(MINUTE - Duration::from_nanos(1));
        assert_eq!((cache.get(&1), cache.expires_in(&1)), (Some(1), Some(Duration::from_nanos(1))));
        hands.advance(Duration::from_nanos(1));
        assert!(!cache.contains_key(&1));
        assert_eq!((cache.get(&1), cache.peek(&1), cache.remove(&1), cache.expires_in(&1)), (None, None, None, None));
        assert_eq!(cache.get_many(&[1]), [None]);
        assert_eq!((cache.stats().expired, cache.stats().expired_on_get), (1, 1));
    }

    fn time_that_passes_while_a_batch_s_keys_come_counts(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_live(MINUTE).clock(clock).build().unwrap();
        let slowly = |number: u64| {
            hands.advance(MINUTE / 10);
            number
        };
        // All are stored when the last of them has come, and their lifetime starts then.
        assert_eq!(cache.insert_many((0..100).map(|key| (slowly(key), key))), 100);
        assert_eq!(cache.expires_in(&0), Some(MINUTE));
        // Those that are looked up last have long expired by then.
        let keys: Vec<u64> = (0..100).collect();
        let found = cache.get_many(keys.iter().inspect(|key| {
            slowly(**key);
        }));
        assert_eq!(found[99], None);
        assert_eq!(found, vec![None; 100], "each is looked up when all that go with it have come");
    }

    fn the_room_of_what_a_batch_finds_expired_is_free(dispatch) {
        for size in [3, 40] {
            let (clock, hands) = Clock::manual();
            let cache = builder(dispatch).clock(clock).build().unwrap();
            let keys: Vec<u64> = (0..size).collect();
            for &key in &keys {
                cache.insert_with_ttl(key, key, MINUTE);
            }
            hands.advance(MINUTE);
            assert_eq!(cache.get_many(&keys), vec![None; keys.len()]);
            assert_eq!((cache.entry_count(), cache.stats().expired_on_get), (0, size));
        }
    }

    fn a_hit_does_not_extend_the_time_to_live(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_live(MINUTE).clock(clock).build().unwrap();
        cache.insert(1, 1);
        for _ in 0..5 {
            hands.advance(MINUTE / 6);
            assert_eq!(cache.get(&1), Some(1));
        }
        hands.advance(MINUTE / 6);
        assert_eq!(cache.get(&1), None);
    }

    fn a_hit_extends_the_time_to_idle(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_idle(MINUTE).time_to_live(10 * MINUTE).clock(clock).build().unwrap();
        cache.insert(1, 1);
        cache.insert(2, 2);
        for _ in 0..10 {
            hands.advance(MINUTE - Duration::from_secs(1));
            assert_eq!(cache.get(&1), Some(1));
        }
        assert_eq!(cache.peek(&2), None);
        hands.advance(MINUTE);
        assert_eq!(cache.get(&1), None, "the time to live goes on");
    }

    fn looking_without_a_trace_does_not_extend_the_time_to_idle(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_idle(MINUTE).clock(clock).build().unwrap();
        cache.insert(1, 1);
        hands.advance(MINUTE / 2);
        assert_eq!(cache.peek(&1), Some(1));
        hands.advance(MINUTE / 2);
        assert_eq!(cache.peek(&1), None);
    }

    fn an_entry_may_have_its_own_time_to_live(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).time_to_live(MINUTE).clock(clock).build().unwrap();
        cache.insert_with_ttl(1, 1, MINUTE / 2);
        cache.insert_with_ttl(2, 2, MINUTE * 2);
        cache.insert(3, 3);
        hands.advance(MINUTE / 2);
        assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(2), Some(3)]);
        hands.advance(MINUTE / 2);
        assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(2), None]);
        hands.advance(MINUTE);
        assert_eq!(cache.get(&2), None);
    }

    fn a_time_to_live_of_zero_keeps_nothing_and_forgets_an_older_value(dispatch) {
        let cache = builder(dispatch).build().unwrap();
        cache.insert(1, 1);
        assert!(!cache.insert_with_ttl(1, 2, Duration::ZERO));
        assert_eq!((cache.get(&1), cache.entry_count()), (None, 0));
    }

    fn pending_tasks_reclaim_everything_due_and_nothing_else(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(3).clock(clock).build().unwrap();
        for key in 0..3000 {
            cache.insert_with_ttl(key, key, Duration::from_millis(key + 1));
        }
        for due in [1_u64, 64, 1000, 2999, 3000] {
            hands.set(Duration::from_millis(due));
            cache.run_pending_tasks();
            assert_eq!(cache.entry_count(), 3000 - due);
            assert_eq!(cache.stats().expired, due);
        }
    }

    fn pending_tasks_ask_only_the_shards_that_have_something_due(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(16).clock(clock).build().unwrap();
        for key in 0..1000 {
            cache.insert_with_ttl(key, key, if key == 7 { MINUTE } else { 2 * MINUTE });
        }
        let served = || {
            let dispatch = cache.stats().dispatch;
            dispatch.in_place + dispatch.delegated
        };
        // `stats` asks each shard, too.
        let (before, statistics) = (served(), 16);
        let visits_until = |time: Duration, visited: u64| {
            hands.set(time);
            cache.run_pending_tasks();
            served() - before - visited
        };
        let none = visits_until(MINUTE - Duration::from_millis(1), statistics);
        let one = visits_until(MINUTE, 2 * statistics + none);
        assert_eq!((none, cache.entry_count()), (1, 999), "the first is always asked");
        assert!((1..16).contains(&one), "{one} visits for one entry, which may be in the first");
        // It can't be known what is under way to a shard that entries were posted to.
        cache.post_insert(1000, 1000);
        cache.run_pending_tasks();
        assert_eq!(cache.entry_count(), 1000);
    }

    fn insertions_reclaim_what_is_due_before_they_evict_what_is_not(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = Cache::builder().dispatch(dispatch).pin(false).max_capacity(10).clock(clock).build().unwrap();
        for key in 0..5_u64 {
            cache.insert_with_ttl(key, key, 10 * MINUTE);
        }
        for key in 5..10 {
            cache.insert_with_ttl(key, key, MINUTE);
        }
        hands.advance(MINUTE);
        for key in 10..15 {
            cache.insert(key, key);
        }
        assert_eq!(cache.stats().evicted, 0);
        assert!((0..5).all(|key| cache.contains_key(&key)));
    }

    fn a_full_cache_gives_up_expired_entries_first_though_live_ones_share_their_bucket(dispatch) {
        let (clock, hands) = Clock::manual();
        let cache = builder(dispatch).shards(1).max_capacity(28).clock(clock).build().unwrap();
        // About a minute, and about a minute and a half: one bucket of the wheel, as long as both are far
        // away.
        let (soon, later) = (Duration::from_nanos((1 << 36) + 1000), Duration::from_nanos((1 << 36) + (1 << 35)));
        for key in 14..28_u64 {
            cache.insert_with_ttl(key, key, soon);
        }
        for key in 0..14 {
            cache.insert_with_ttl(key, key, later);
        }
        assert!((14..28).all(|key| cache.get(&key).is_some()), "so that they are not the least recently used");
        hands.advance(soon);
        for key in 28..42 {
            cache.insert_with_ttl(key, key, later);
        }
        assert_eq!(cache.stats().evicted, 0);
        assert!((0..14).all(|key| cache.contains_key(&key)), "the live ones were used least recently");
    }

    fn workers_reclaim_without_any_call(dispatch) {
        let census = Census::default();
        let cache = builder(dispatch).build().unwrap();
        for key in 0..5000 {
            cache.insert_with_ttl(key, census.make(key), Duration::from_millis(50));
        }
        census.wait_until_nothing_is_alive();
        assert_eq!((cache.entry_count(), cache.stats().expired), (0, 5000));
    }

    fn workers_hear_of_deadlines_that_come_with_new_entries_of_a_full_cache(dispatch) {
        // New keys take the place of old ones, then keys that are there get new values: no room changes
        // hands.
        for first in [100, 0] {
            let (old, new) = (Census::default(), Census::default());
            let cache = builder(dispatch).max_capacity(100).shards(1).build().unwrap();
            for key in 0..100 {
                cache.insert(key, old.make(key));
            }
            for key in first..first + 100 {
                cache.insert_with_ttl(key, new.make(key), Duration::from_millis(50));
            }
            new.wait_until_nothing_is_alive();
            // On a busy machine the first ones expire before the last ones come, which then don't need the
            // room of old ones.
            let left = u64::try_from(old.alive()).unwrap();
            assert_eq!((cache.entry_count(), cache.stats().expired), (left, 100));
        }
    }

    fn workers_hear_of_posted_entries_that_no_call_reads(dispatch) {
        let census = Census::default();
        let cache = builder(dispatch).time_to_idle(Duration::from_millis(50)).build().unwrap();
        for key in 0..10 {
            cache.post_insert(key, census.make(key));
        }
        census.wait_until_nothing_is_alive();
        assert_eq!((cache.entry_count(), cache.stats().expired), (0, 10));
    }

    fn on_the_system_clock_nothing_is_ever_served_late(dispatch) {
        // A long lifetime for the coarse clock, and a short one for the precise clock. The long one begins
        // with a tick and ends late in another tick, where the coarse clock shows most of a tick still to go.
        let tick = clocks::tick();
        let long = (tick * 35 / 4).max(Duration::from_millis(20));
        for lifetime in [long, Duration::from_millis(3)] {
            let idling = builder(dispatch).time_to_idle(lifetime).build().unwrap();
            let living = builder(dispatch).time_to_live(lifetime).build().unwrap();
            let own = builder(dispatch).build().unwrap();
            for key in 0..5 {
                idling.insert(key, ());
                let last = clocks::coarse();
                until(|| clocks::coarse() != last);
                living.insert(key, ());
                own.insert_with_ttl(key, (), lifetime);
                // This is a use, if the entry is still there.
                idling.get(&key);
                // All lifetimes began at this time or before.
                let (end, coarse_end) = (clocks::precise() + lifetime, clocks::coarse() + lifetime);
                // On a busy machine a tick may be late. Until it comes, no reader of the coarse clock can
                // know better.
                until(|| clocks::precise() >= end && clocks::coarse() + tick >= coarse_end);
                let served = [("used", idling.get(&key)), ("stored", living.get(&key)), ("with its own", own.get(&key))];
                let late: Vec<_> = served.iter().filter(|(_which, value)| value.is_some()).collect();
                assert!(late.is_empty(), "served {lifetime:?} after it began: {late:?}");
            }
        }
    }
}

/// The system's clocks, read without the cache.
#[cfg(target_os = "linux")]
mod clocks {
    use std::time::Duration;

    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    fn duration(time: Timespec) -> Duration {
        Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
    }

    pub fn precise() -> Duration {
        duration(clock_gettime(ClockId::Monotonic))
    }

    pub fn coarse() -> Duration {
        duration(clock_gettime(ClockId::MonotonicCoarse))
    }

    pub fn tick() -> Duration {
        duration(clock_getres(ClockId::MonotonicCoarse))
    }
}

/// There is no coarse clock here.
#[cfg(not(target_os = "linux"))]
mod clocks {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    pub fn precise() -> Duration {
        ORIGIN.get_or_init(Instant::now).elapsed()
    }

    pub fn coarse() -> Duration {
        precise()
    }

    pub fn tick() -> Duration {
        Duration::ZERO
    }
}

/// Waits without giving up the processor, so that what follows is as close to that moment as possible.
fn until(come: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !come() {
        assert!(Instant::now() < patience, "it doesn't come");
    }
}

/// Keys of one shard and of one place in it. Comparing key 2 with anything panics.
#[derive(Debug)]
struct Explosive(u8);

impl std::hash::Hash for Explosive {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(0);
    }
}

impl PartialEq for Explosive {
    fn eq(&self, other: &Self) -> bool {
        assert!(self.0 != 2 && other.0 != 2, "on purpose");
        self.0 == other.0
    }
}

impl Eq for Explosive {}

#[test]
fn a_panic_in_the_middle_of_a_batch_hides_no_deadline_from_pending_tasks() {
    let (clock, hands) = Clock::manual();
    let cache = Cache::builder().max_capacity(10).time_to_live(MINUTE).clock(clock).build().unwrap();
    let batch = || cache.insert_many([(Explosive(1), 1), (Explosive(2), 2)]);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(batch)).is_err());
    assert_eq!(cache.entry_count(), 1);
    hands.advance(MINUTE);
    cache.run_pending_tasks();
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn a_panic_in_the_middle_of_a_batch_hides_no_deadline_from_workers() {
    let census = Census::default();
    // Longer than it takes to print a panic, so that what follows comes before the deadline.
    let cache = Cache::builder().max_capacity(10).time_to_live(Duration::from_millis(600)).build().unwrap();
    let batch = || cache.insert_many([1, 2].map(|key| (Explosive(key), census.make(key.into()))));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(batch)).is_err());
    // A look in between keeps nothing from the workers, now or later.
    cache.run_pending_tasks();
    cache.insert(Explosive(3), census.make(3));
    census.wait_until_nothing_is_alive();
}

#[test]
fn pending_tasks_fail_from_inside_the_cache_even_if_nothing_is_due() {
    let (clock, _hands) = Clock::manual();
    let cache = builder(Dispatch::Adaptive).shards(4).clock(clock).build().unwrap();
    cache.insert(1, 1);
    let inside = || cache.get_with(&1, |_| cache.run_pending_tasks());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).is_err());
}

type Deed = Box<dyn FnOnce() + Send>;

/// A value whose clone may do something, once.
#[derive(Default)]
struct Doing(Option<Arc<Mutex<Option<Deed>>>>);

impl Clone for Doing {
    fn clone(&self) -> Self {
        if let Some(deed) = self.0.as_ref().and_then(|deed| deed.lock().unwrap().take()) {
            deed();
        }
        Self(None)
    }
}

#[test]
fn time_that_passes_between_the_keys_of_a_small_batch_counts() {
    let (clock, hands) = Clock::manual();
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    // Runs when a shard was given back on which a post was served.
    let listener = move |_: u32, _: Doing, _| {
        if is_armed.load(Ordering::Relaxed) {
            hands.advance(MINUTE);
        }
    };
    let builder = Cache::builder().max_capacity(100).shards(1).workers(0).clock(clock);
    let cache: Cache<u32, Doing> = builder.eviction_listener(listener).build().unwrap();
    let deed = Arc::new(Mutex::new(None));
    cache.insert(1, Doing(Some(Arc::clone(&deed))));
    cache.insert_with_ttl(2, Doing::default(), MINUTE);
    cache.insert(3, Doing::default());
    let poster = cache.clone();
    *deed.lock().unwrap() = Some(Box::new(move || poster.post_insert(3, Doing::default())) as Deed);
    armed.store(true, Ordering::Relaxed);
    let found = cache.get_many(&[1, 2]);
    assert!(found[0].is_some() && found[1].is_none());
}
