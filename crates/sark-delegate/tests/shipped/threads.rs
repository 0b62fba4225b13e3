//! Threads: started only when needed, named, deaf to the process's signals, pinned where they may be, and
//! asleep when idle.

use std::sync::Arc;
use std::thread;

use sark_delegate::{Config, ConfigError, Delegates};

use crate::common::{Post, Room, adaptive, alone, hold, per_core, rooms};

#[test]
fn there_is_no_thread_before_the_first_request_that_needs_one() {
    let (callers, workers) = (rooms(adaptive(), 4), rooms(per_core(), 4));
    assert_eq!((callers.threads(), workers.threads()), (0, 0));
    (0..4).for_each(|index| callers.run(index, |_| ()));
    workers.run(2, |_| ());
    assert_eq!((callers.threads(), workers.threads()), (0, 1));
}

#[test]
fn with_no_workers_allowed_there_is_never_a_thread() {
    let rooms = rooms(Config { mailbox: 4, ..alone() }, 2);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || {
                for number in 0..if cfg!(miri) { 50 } else { 2000 } {
                    rooms.post(0, Post::Say(number));
                    drop(rooms.submit(1, |_| ()));
                    rooms.wake_in(0, std::time::Duration::ZERO);
                }
            })
        })
        .collect();
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        assert_eq!(rooms.threads(), 0);
        thread::yield_now();
    }
    assert_eq!((rooms.threads(), rooms.counts().by_worker), (0, 0));
}

#[test]
fn a_name_that_threads_cannot_have_is_refused() {
    let config = Config { name: "nul\0".to_owned(), ..adaptive() };
    assert_eq!(Delegates::new(config, [Room::default()]).err(), Some(ConfigError::Name));
}

#[test]
fn settings_out_of_range_are_refused() {
    let made = |config: Config, count: usize| Delegates::new(config, (0..count).map(|_| Room::default())).err();
    assert_eq!(made(adaptive(), 0), Some(ConfigError::NoStates));
    assert_eq!(made(Config { workers: Some(0), ..per_core() }, 1), Some(ConfigError::NoWorkers));
    assert_eq!(made(Config { mailbox: 0, ..adaptive() }, 1), Some(ConfigError::Mailbox(0)));
    assert_eq!(made(Config { mailbox: 65537, ..adaptive() }, 1), Some(ConfigError::Mailbox(65537)));
}

#[test]
fn there_are_no_more_workers_than_states_or_than_allowed() {
    let rooms = rooms(Config { workers: Some(2), ..per_core() }, 5);
    (0..5).for_each(|index| rooms.run(index, |_| ()));
    assert_eq!(rooms.threads(), 2);
}

under_both_dispatches! {
    fn a_worker_that_slept_wakes_for_the_next_request(config) {
        let rooms = rooms(config, 1);
        for number in 0..20 {
            let held = hold(&rooms, 0);
            rooms.post(0, Post::Say(number));
            held.let_go();
        }
        assert_eq!(rooms.run(0, |room| room.said.len()), 20);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::fs::read_to_string;
    use std::time::Duration;

    use super::*;
    use crate::common::until;

    /// Returns the `/proc/self/task/*` of the threads whose name begins with `name`.
    fn tasks(name: &str) -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let paths = tasks.map(|task| task.path().display().to_string());
        paths.filter(|path| read_to_string(format!("{path}/comm")).unwrap_or_default().starts_with(name)).collect()
    }

    fn field(task: &str, name: &str) -> String {
        let status = read_to_string(format!("{task}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }

    fn started(name: &str) -> (crate::common::Rooms, Vec<String>) {
        started_as(name, per_core())
    }

    fn started_as(name: &str, config: Config) -> (crate::common::Rooms, Vec<String>) {
        let rooms = rooms(Config { name: name.to_owned(), workers: Some(2), ..config }, 2);
        (0..2).for_each(|index| rooms.run(index, |_| ()));
        (rooms, tasks(name))
    }

    #[test]
    fn workers_are_called_what_was_asked_for() {
        let (rooms, tasks) = started("called");
        let mut names: Vec<_> = tasks.iter().map(|task| field(task, "Name")).collect();
        names.sort();
        assert_eq!(names, ["called-0", "called-1"]);
        rooms.shutdown();
        until("they are gone", || super::linux::tasks("called").is_empty());
    }

    #[test]
    fn workers_block_the_signals_that_are_sent_to_the_process() {
        let (_rooms, tasks) = started("deaf");
        assert_eq!(tasks.len(), 2);
        for task in tasks {
            let blocked = u64::from_str_radix(&field(&task, "SigBlk"), 16).unwrap();
            // Those of the application: not KILL and STOP, and not the two that the C library keeps for
            // itself.
            let application = (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal));
            for signal in application.filter(|signal| !OF_A_THREAD.contains(signal)) {
                assert_ne!(blocked & 1 << (signal - 1), 0, "signal {signal} is not blocked");
            }
        }
    }

    /// The signals that a thread gets for what it does itself, and the one that a profiler sends to each
    /// thread.
    const OF_A_THREAD: [i32; 8] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGABRT,
        libc::SIGPROF,
    ];

    #[test]
    fn signals_that_a_thread_gets_for_what_it_does_are_what_they_are_in_the_thread_that_starts_it() {
        let blocked = |task: &str| u64::from_str_radix(&field(task, "SigBlk"), 16).unwrap();
        let here = blocked("/proc/thread-self");
        let (_rooms, tasks) = started("hurt");
        for (task, signal) in tasks.iter().flat_map(|task| OF_A_THREAD.map(|signal| (task, signal))) {
            let of_signal = 1 << (signal - 1);
            assert_eq!(blocked(task) & of_signal, here & of_signal, "signal {signal}");
        }
    }

    #[test]
    fn a_worker_whose_stack_overflows_says_so() {
        const IN_CHILD: &str = "SARK_TEST_OVERFLOWS";
        const THIS: &str = "threads::linux::a_worker_whose_stack_overflows_says_so";

        #[expect(unconditional_recursion, reason = "that is how a stack overflows")]
        fn deeper(depth: u64) -> u64 {
            std::hint::black_box(deeper(std::hint::black_box(depth + 1))) + 1
        }

        if std::env::var_os(IN_CHILD).is_some() {
            rooms(per_core(), 1).run(0, |_| deeper(0));
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--nocapture"])
            .env(IN_CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success() && said.contains("overflow"), "{}, and said: {said}", child.status);
    }

    #[test]
    fn the_thread_that_starts_a_worker_keeps_its_signals() {
        let before = field("/proc/thread-self", "SigBlk");
        let _rooms = started("keeps");
        assert_eq!(field("/proc/thread-self", "SigBlk"), before);
    }

    fn cpus(list: &str) -> Vec<usize> {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => (number(first)..=number(last)).collect(),
            None => vec![number(part)],
        };
        list.split(',').flat_map(range).collect()
    }

    #[test]
    fn pinned_workers_stay_within_the_cores_that_the_process_may_use() {
        let allowed = cpus(&field("/proc/thread-self", "Cpus_allowed_list"));
        let (_rooms, tasks) = started("pinned");
        for task in tasks {
            until("it is pinned", || cpus(&field(&task, "Cpus_allowed_list")).len() == 1);
            assert!(allowed.contains(&cpus(&field(&task, "Cpus_allowed_list"))[0]));
        }
    }

    #[test]
    fn workers_that_are_not_pinned_may_use_all_of_them() {
        let allowed = field("/proc/thread-self", "Cpus_allowed_list");
        let rooms = rooms(Config { name: "free".to_owned(), pin: false, ..per_core() }, 1);
        rooms.run(0, |_| ());
        assert!(tasks("free").iter().all(|task| field(task, "Cpus_allowed_list") == allowed));
    }

    #[test]
    fn an_idle_worker_uses_no_processor() {
        is_idle(started("idle"));
    }

    #[test]
    fn an_idle_worker_that_looks_at_slots_uses_no_processor() {
        is_idle(started_as("slots-idle", crate::common::slots()));
    }

    fn is_idle((_rooms, tasks): (crate::common::Rooms, Vec<String>)) {
        let used = || -> u64 {
            let of = |task: &String| read_to_string(format!("{task}/schedstat")).unwrap_or_default();
            tasks.iter().filter_map(|task| of(task).split(' ').next()?.parse::<u64>().ok()).sum()
        };
        // They have 20 us to notice that nothing comes.
        tasks.iter().for_each(|task| {
            until("it sleeps", || field(task, "State").starts_with('S'));
        });
        let before = used();
        thread::sleep(Duration::from_millis(300));
        let spent = Duration::from_nanos(used() - before);
        assert!(spent < Duration::from_millis(30), "two idle workers used {spent:?} of 300 ms");
    }
}

/// A thread that is woken often takes the processor of the one that wakes it. If that one holds the delegate,
/// the next callers go to sleep over it, are woken in the same way, and so on.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_caller_that_was_answered_in_its_sleep_is_woken_when_the_delegate_is_released() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use crate::common::{is_asleep, receive, thread_number, until_asleep};

    for config in [alone(), per_core()] {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        let answered = Arc::new(AtomicBool::new(false));
        let (number, its_number) = channel();
        let caller = thread::spawn({
            let (rooms, answered) = (Arc::clone(&rooms), Arc::clone(&answered));
            move || {
                number.send(thread_number()).unwrap();
                // The last thing that could make it sleep is the call.
                rooms.run(0, |_| answered.store(true, Ordering::Relaxed));
                while answered.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        let its_number = receive(&its_number);
        until_asleep(its_number);
        let (seen, what_was_seen) = channel();
        let post = move || seen.send((answered.swap(false, Ordering::Relaxed), is_asleep(its_number))).unwrap();
        rooms.post(0, Post::Do(Box::new(post)));
        held.let_go();
        assert_eq!(receive(&what_was_seen), (true, true), "the post comes after the request, with the delegate held");
        caller.join().unwrap();
    }
}
