//! The threads that send requests: started together, timed from the first one's start to the last one's end.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The prefix of the load's thread names, which tells them from threads that a cache owns.
pub const LOAD_THREAD: &str = "load";

/// Runs `work(0)` to `work(threads - 1)` on one thread each. Returns the time they took together, and their
/// results.
///
/// `work` is called through its vtable, once per thread. Starting threads is therefore compiled once per
/// result type, and not for each contestant in each scenario.
pub fn together<R: Send>(threads: usize, work: &(dyn Fn(usize) -> R + Sync)) -> (Duration, Vec<R>) {
    let barrier = &Barrier::new(threads);
    let ran: Vec<(Instant, Instant, R)> = std::thread::scope(|scope| {
        let start = |index| {
            let body = move || {
                barrier.wait();
                let start = Instant::now();
                let result = work(index);
                (start, Instant::now(), result)
            };
            std::thread::Builder::new()
                .name(format!("{LOAD_THREAD}-{index}"))
                .spawn_scoped(scope, body)
                .expect("the system starts a thread")
        };
        let started: Vec<_> = (0..threads).map(start).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let first = ran.iter().map(|(start, ..)| *start).min();
    let last = ran.iter().map(|(_, end, _)| *end).max();
    let elapsed = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    (elapsed, ran.into_iter().map(|(.., result)| result).collect())
}

/// Returns the `index`-th of `parts` nearly equal pieces of `all`.
pub fn share<T>(all: &[T], index: usize, parts: usize) -> &[T] {
    let edge = |index: usize| all.len() * index / parts;
    &all[edge(index)..edge(index + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_threads_are_the_whole() {
        let all: Vec<u32> = (0..1003).collect();
        let joined: Vec<u32> = (0..8).flat_map(|index| share(&all, index, 8).to_vec()).collect();
        assert_eq!(joined, all);
    }

    #[test]
    fn time_runs_from_the_first_start_to_the_last_end() {
        let (elapsed, indices) = together(2, &|index| {
            std::thread::sleep(Duration::from_millis(10 * index as u64));
            index
        });
        assert!(elapsed >= Duration::from_millis(10));
        assert_eq!(indices, [0, 1]);
    }
}
