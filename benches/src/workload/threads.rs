//! The threads that send requests: started together, each on its processor, timed from the first one's start
//! to the last one's end.

use std::sync::{Barrier, LazyLock};
use std::time::{Duration, Instant};

use core_affinity::CoreId;

/// The prefix of the load's thread names, which tells them from threads that a cache owns.
pub const LOAD_THREAD: &str = "load";

/// The processors that this process may use.
static PROCESSORS: LazyLock<Vec<CoreId>> = LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());

/// Where the threads of [`together`] sit, as a sentence.
pub const SEATS: &str = "Where several threads send requests, they sit on the processors in turn.";

/// Seats the calling thread, one of several. Left to the system, two threads often share one processor for
/// most of a short round. Each then finds what the other wrote in its own cache, which may halve the time,
/// and which contestants that happens to is chance.
fn sit(index: usize) {
    if let Some(&processor) = PROCESSORS.get(index % PROCESSORS.len().max(1)) {
        core_affinity::set_for_current(processor);
    }
}

/// Runs `work(0)` to `work(threads - 1)` on one thread each. Several threads sit on the processors in turn.
/// Returns the time they took together, and their results.
///
/// On Linux a thread that a cache starts only in here inherits the processor of the thread that starts it.
///
/// `work` is called through its vtable, once per thread. Starting threads is therefore compiled once per
/// result type, and not for each contestant in each scenario.
pub fn together<R: Send>(threads: usize, work: &(dyn Fn(usize) -> R + Sync)) -> (Duration, Vec<R>) {
    // Asked for here, on a thread that may run anywhere.
    let several = threads > 1 && PROCESSORS.len() > 1;
    start(threads, several, work)
}

/// As [`together`], but leaves it to the system where the threads run, and those that a cache starts in here.
/// For what is not measured.
pub fn anywhere<R: Send>(threads: usize, work: &(dyn Fn(usize) -> R + Sync)) -> Vec<R> {
    start(threads, false, work).1
}

fn start<R: Send>(threads: usize, seated: bool, work: &(dyn Fn(usize) -> R + Sync)) -> (Duration, Vec<R>) {
    let barrier = &Barrier::new(threads);
    let ran: Vec<(Instant, Instant, R)> = std::thread::scope(|scope| {
        let start = |index| {
            let body = move || {
                if seated {
                    sit(index);
                }
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
    #[cfg(target_os = "linux")]
    fn several_threads_sit_on_the_processors_in_turn_and_others_anywhere() {
        let seats = |_: usize| core_affinity::get_core_ids().unwrap_or_default();
        let all = seats(0);
        let in_turn: Vec<Vec<CoreId>> = all.iter().cycle().take(5).map(|&processor| vec![processor]).collect();
        assert_eq!(together(5, &seats).1, in_turn);
        assert_eq!(together(1, &seats).1, [all.as_slice()]);
        assert_eq!(anywhere(2, &seats), [all.as_slice(); 2]);
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
