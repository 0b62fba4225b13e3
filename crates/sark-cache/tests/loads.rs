//! Loads by threads and tasks while keys are invalidated: what was invalidated is never seen again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sark_cache::{Cache, Dispatch};

/// The number of keys, more than fit into the cache.
const KEYS: u64 = 8;
const TASKS: u64 = 24;
/// The number of operations of each task.
const STEPS: u64 = 10_000;

/// What is cached: the number of times that each key has changed, now and as of its last invalidation.
struct Source {
    now: [AtomicU64; KEYS as usize],
    invalidated: [AtomicU64; KEYS as usize],
}

impl Source {
    fn now(&self, key: u64) -> u64 {
        self.now[key as usize].load(Ordering::SeqCst)
    }
}

/// Awaits other tasks so many times.
async fn others(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

async fn step(cache: &Cache<u64, u64>, source: &Arc<Source>, random: u64) {
    let (key, what) = (random % KEYS, (random >> 8) % 100);
    if what < 6 {
        let changed = source.now[key as usize].fetch_add(1, Ordering::SeqCst) + 1;
        match what {
            0 => cache.invalidate_all(),
            1 => drop(cache.retain(|&other, _| other != key)),
            2 => drop(cache.remove(&key)),
            _ => cache.invalidate(&key),
        }
        source.invalidated[key as usize].fetch_max(changed, Ordering::SeqCst);
        return;
    }
    let least = source.invalidated[key as usize].load(Ordering::SeqCst);
    let value = if what < 12 {
        Some(cache.get_or_insert_with(&key, || {
            let value = source.now(key);
            std::thread::yield_now();
            value
        }))
    } else {
        let load = async {
            let value = source.now(key);
            others((random >> 20) % 4).await;
            if what % 7 == 0 { Err(()) } else { Ok(value) }
        };
        let asked = cache.get_or_try_insert_async(&key, load);
        if what % 5 == 0 {
            // Given up after some time.
            tokio::select! {
                biased;
                value = asked => value.ok(),
                () = others((random >> 30) % 5) => None,
            }
        } else {
            asked.await.ok()
        }
    };
    assert!(value.is_none_or(|value| value >= least), "key {key}: {value:?}, and {least} was invalidated");
}

#[test]
fn what_was_invalidated_is_never_seen_again_whatever_is_being_loaded() {
    let times: u64 = std::env::var("SARK_STRESS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    for (dispatch, steps) in [(Dispatch::Adaptive, STEPS), (Dispatch::PerCore, STEPS / 10)] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let builder = Cache::builder().max_capacity(KEYS - 2).shards(2).pin(false).dispatch(dispatch);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        let counts = || [(); KEYS as usize].map(|()| AtomicU64::new(0));
        let source = Arc::new(Source { now: counts(), invalidated: counts() });
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (cache, source) = (cache.clone(), Arc::clone(&source));
                runtime.spawn(async move {
                    let mut random = task * 7919 + 1;
                    for _ in 0..steps * times {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        step(&cache, &source, random).await;
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        cache.invalidate_all();
        assert_eq!(cache.entry_count(), 0);
    }
}
