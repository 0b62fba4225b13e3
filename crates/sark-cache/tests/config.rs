//! Bad settings are errors that say what is wrong. Extreme settings work.

use std::time::Duration;

use sark_cache::{Builder, Cache, ConfigError, Dispatch, Transport};

fn builder() -> Builder<u64, u64> {
    Cache::builder()
}

fn refusal(builder: Builder<u64, u64>) -> String {
    builder.build().expect_err("it must be refused").to_string()
}

#[test]
fn a_capacity_of_zero_is_refused() {
    assert!(refusal(builder().max_capacity(0)).starts_with("max_capacity: 0 was given"));
    assert!(refusal(builder().weigher(|_, _| 1).max_entries(0)).starts_with("max_entries: 0 was given"));
}

#[test]
fn a_default_lifetime_of_zero_is_refused() {
    assert!(refusal(builder().time_to_live(Duration::ZERO)).starts_with("time_to_live:"));
    assert!(refusal(builder().time_to_idle(Duration::ZERO)).starts_with("time_to_idle:"));
}

#[test]
fn an_absurd_number_of_shards_is_refused() {
    assert_eq!(refusal(builder().shards(0)), "shards: 0 was given, 1 to 65536 is allowed");
    assert_eq!(
        refusal(builder().shards(usize::MAX)),
        format!("shards: {} was given, 1 to 65536 is allowed", usize::MAX)
    );
    assert_eq!(
        refusal(builder().max_capacity(5).shards(6)),
        "shards: 6 was given, 1 to 5 is allowed, at most one for each entry that max_capacity lets in"
    );
    let weighed = builder().weigher(|_, _| 1).max_capacity(2).max_entries(5).shards(0);
    assert_eq!(
        refusal(weighed),
        "shards: 0 was given, 1 to 5 is allowed, at most one for each entry that max_entries lets in"
    );
}

#[test]
fn per_core_without_workers_is_refused() {
    let error = builder().dispatch(Dispatch::PerCore).workers(0).build().unwrap_err();
    assert_eq!(error, ConfigError::NoWorkers);
}

#[test]
fn a_name_with_a_nul_is_refused() {
    assert!(refusal(builder().name("a\0b")).starts_with("name: \"a\\0b\" was given"));
}

#[test]
fn a_second_bound_on_entries_needs_a_weigher() {
    assert_eq!(builder().max_entries(5).build().unwrap_err(), ConfigError::EntriesTwice(5));
}

#[test]
fn durations_beyond_the_clock_mean_for_ever() {
    let forever = Duration::from_secs(u64::MAX);
    let cache = builder().time_to_live(forever).time_to_idle(forever).build().unwrap();
    cache.insert(1, 1);
    cache.insert_with_ttl(2, 2, Duration::MAX);
    assert_eq!(cache.get_many(&[1, 2]), [Some(1), Some(2)]);
    assert_eq!(cache.expires_in(&1), Some(Duration::MAX));
}

#[test]
fn capacities_beyond_memory_are_fine_until_they_are_filled() {
    let cache = builder().max_capacity(u64::MAX).build().unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), Some(1));
    let cache = builder().build().unwrap();
    cache.insert(1, 1);
    assert_eq!((cache.capacity(), cache.entry_count()), (u64::MAX, 1));
}

#[test]
fn a_small_cache_has_one_shard_and_a_large_one_has_many_of_bounded_size() {
    let shards = |capacity| builder().max_capacity(capacity).build().unwrap().shard_count();
    assert_eq!(shards(1), 1);
    assert_eq!(shards(1000), 1);
    assert!(shards(100_000) > 1);
    assert!(shards(100_000_000) >= 100_000_000 / 65_536);
}

#[test]
fn a_cache_can_be_debugged_and_named() {
    let cache = builder().max_capacity(10).name("policies").build().unwrap();
    assert_eq!(cache.name(), "policies");
    assert!(format!("{cache:?}").contains("policies"));
    assert!(format!("{:?}", builder().max_capacity(10)).contains("max_capacity: Some(10)"));
}

#[test]
fn both_ways_to_the_threads_of_per_core_give_the_same_answers() {
    for transport in [Transport::Channel, Transport::Slots] {
        let cache = builder().dispatch(Dispatch::PerCore).transport(transport).pin(false).shards(2).build().unwrap();
        std::thread::scope(|scope| {
            for caller in 0..6 {
                let cache = &cache;
                scope.spawn(move || {
                    for number in (0..600).map(|number| number * 6 + caller) {
                        cache.post_insert(number, number);
                        assert_eq!(cache.get(&number), Some(number), "a posted insertion is seen by the next call");
                        assert_eq!(cache.get_many(&[number, u64::MAX]), [Some(number), None]);
                        assert_eq!(cache.remove(&number), Some(number));
                    }
                });
            }
        });
        assert_eq!(cache.entry_count(), 0, "{transport:?}");
    }
}
