//! `fork` without `exec`: the child of a group that could be held still works, any other is told, and nothing
//! hangs.
//!
//! A child does little, ends by `_exit`, and is killed by its own alarm if it hangs.
#![cfg(all(unix, not(loom), not(miri)))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use sark_delegate::{Config, Delegates, Dispatch, Resident, Transport, TryError};

/// What was posted, and what maintenance does.
#[derive(Default)]
struct Log(Vec<u32>, Option<Box<dyn FnMut() + Send>>);

impl Resident for Log {
    type Post = u32;
    type Leftovers = ();

    fn accept(&mut self, post: u32, _: &mut ()) {
        self.0.push(post);
    }

    fn tend(&mut self, _: &mut ()) -> Option<Duration> {
        if let Some(tend) = &mut self.1 {
            tend();
        }
        None
    }
}

type Logs = Arc<Delegates<Log>>;

fn logs(dispatch: Dispatch, workers: usize) -> Logs {
    logs_of(Config { dispatch, workers: Some(workers), ..Config::default() })
}

fn logs_of(config: Config) -> Logs {
    Arc::new(Delegates::new(config, [Log::default(), Log::default()]).unwrap())
}

/// Lets one test run at a time: a fork holds every group of the process, and waits for those that a thread is
/// busy in.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const FINE: i32 = 7;

/// Forks. The child runs `work` and ends. Returns the child's status when it ended.
fn in_child(work: impl FnOnce()) -> i32 {
    // SAFETY: the child runs code that was made for it (the subject of these tests), and then `_exit`.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1, "no fork");
    if child == 0 {
        // SAFETY: ends a child that hangs; no handler is involved.
        unsafe { libc::alarm(60) };
        let fine = catch_unwind(AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if fine { FINE } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is ours, and `status` is there to be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

#[track_caller]
fn assert_fine(status: i32) {
    assert!(libc::WIFEXITED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), FINE, "something failed in the child");
}

/// Checks that every call reports it, and that no call or end hangs.
fn assert_sealed(logs: Logs) {
    for index in 0..2 {
        assert_eq!(logs.try_run(index, |_| ()).expect_err("it is sealed").reason, TryError::Forked);
        let refused = logs.try_post(index, 1).expect_err("it is sealed");
        assert_eq!((refused.reason, refused.request), (TryError::Forked, 1));
        assert_eq!(logs.run_each(vec![(index, |_: &mut Log| ())]), Err(TryError::Forked));
        assert!(catch_unwind(AssertUnwindSafe(|| logs.run(index, |_| ()))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| logs.post(index, 1))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(logs.submit(index, |_| ())))).is_err());
        logs.wake_in(index, Duration::ZERO);
    }
    assert_eq!(logs.threads(), 0);
    logs.shutdown();
    drop(Arc::into_inner(logs));
}

fn assert_usable(logs: &Logs) {
    for index in 0..2 {
        let before = logs.run(index, |log| log.0.len());
        logs.post(index, 1);
        assert_eq!(logs.run(index, |log| log.0.len()), before + 1);
    }
    assert_eq!(logs.run_each([0, 1].map(|index| (index, move |_: &mut Log| index)).into()), Ok(vec![0, 1]));
}

#[test]
fn the_child_of_a_group_without_threads_has_its_contents_and_works() {
    let _alone = alone();
    let logs = logs(Dispatch::Adaptive, 0);
    (0..3).for_each(|number| logs.post(0, number));
    assert_fine(in_child(|| {
        assert_eq!(logs.run(0, |log| log.0.clone()), [0, 1, 2]);
        assert_usable(&logs);
    }));
    assert_eq!(logs.run(0, |log| log.0.clone()), [0, 1, 2], "the child has a copy");
    assert_usable(&logs);
}

#[test]
fn the_child_of_a_busy_group_without_threads_works() {
    let _alone = alone();
    the_child_works_while_busy(logs(Dispatch::Adaptive, 0));
}

#[test]
fn the_child_of_a_busy_group_whose_threads_have_ended_works_with_slots_too() {
    let _alone = alone();
    let config = Config { dispatch: Dispatch::PerCore, transport: Transport::Slots, ..Config::default() };
    let logs = logs_of(config);
    // Callers serve themselves from here on, through their slots.
    logs.shutdown();
    the_child_works_while_busy(logs);
}

fn the_child_works_while_busy(logs: Logs) {
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..2)
        .map(|number| {
            let (logs, stop) = (Arc::clone(&logs), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    logs.run(number, |log| log.0.push(1));
                    logs.post(1 - number, 1);
                    logs.run(0, |log| log.0.clear());
                    logs.run(1, |log| log.0.clear());
                }
            })
        })
        .collect();
    for _ in 0..20 {
        assert_fine(in_child(|| assert_usable(&logs)));
    }
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    assert_usable(&logs);
}

#[test]
fn a_child_may_start_threads_of_its_own() {
    let _alone = alone();
    let logs = logs(Dispatch::Adaptive, 1);
    logs.run(0, |_| ());
    assert_fine(in_child(|| {
        let (tended, report) = mpsc::channel();
        logs.run(0, move |log| log.1 = Some(Box::new(move || tended.send(()).unwrap())));
        logs.wake_in(0, Duration::ZERO);
        report.recv_timeout(Duration::from_secs(50)).unwrap();
        assert_eq!(logs.threads(), 1);
        logs.shutdown();
        assert_eq!(logs.threads(), 0);
    }));
    assert_eq!(logs.threads(), 0);
}

#[test]
fn the_child_of_a_group_with_threads_is_told_so() {
    let _alone = alone();
    for (dispatch, workers) in [(Dispatch::PerCore, 2), (Dispatch::Adaptive, 1)] {
        let logs = logs(dispatch, workers);
        logs.run(0, |_| ());
        logs.wake_in(0, Duration::from_secs(3600));
        assert!(logs.threads() > 0);
        let status = {
            let mut handle = Some(Arc::clone(&logs));
            in_child(|| assert_sealed(handle.take().unwrap()))
        };
        assert_fine(status);
        assert_usable(&logs);
    }
}

#[test]
fn the_child_of_a_fork_inside_a_request_is_told_so_and_stays_so() {
    let _alone = alone();
    let logs = logs(Dispatch::Adaptive, 0);
    let mut status = 0;
    let child = logs.run(0, |log| {
        log.0.push(1);
        // SAFETY: as in `in_child`; the child comes out of the request, which is the point, and ends below.
        unsafe { libc::fork() }
    });
    assert_ne!(child, -1, "no fork");
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::alarm(60) };
        let fine = catch_unwind(AssertUnwindSafe(|| assert_sealed(Arc::clone(&logs)))).is_ok();
        // SAFETY: as above.
        unsafe { libc::_exit(if fine { FINE } else { 1 }) };
    }
    // SAFETY: as above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_fine(status);
    assert_usable(&logs);
}

#[test]
fn a_worker_that_forks_ends_in_the_child_and_leaves_the_group_sealed() {
    thread_local! {
        /// Dropped when the thread ends.
        static ALIVE: std::cell::RefCell<Option<mpsc::Sender<()>>> = const { std::cell::RefCell::new(None) };
    }
    let _alone = alone();
    for (dispatch, transport) in [
        (Dispatch::PerCore, Transport::Channel),
        (Dispatch::PerCore, Transport::Slots),
        (Dispatch::Adaptive, Transport::Channel),
    ] {
        let logs = logs_of(Config { dispatch, transport, workers: Some(2), ..Config::default() });
        let handle = Arc::clone(&logs);
        let fork = move || {
            // SAFETY: as in `in_child`. The child comes out of what forked, which is the point, and is ended
            // by the thread below.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as in `in_child`. Workers block signals that are sent to the process, and the set is
                // initialized before it is read.
                unsafe {
                    let mut alarms = std::mem::MaybeUninit::uninit();
                    libc::sigemptyset(alarms.as_mut_ptr());
                    libc::sigaddset(alarms.as_mut_ptr(), libc::SIGALRM);
                    libc::pthread_sigmask(libc::SIG_UNBLOCK, alarms.as_ptr(), std::ptr::null_mut());
                    libc::alarm(20);
                }
                let (alive, worker) = mpsc::channel::<()>();
                ALIVE.set(Some(alive));
                let logs = Arc::clone(&handle);
                thread::spawn(move || {
                    assert!(worker.recv().is_err(), "the worker has ended");
                    let fine = catch_unwind(AssertUnwindSafe(|| assert_sealed(logs))).is_ok();
                    // SAFETY: as above.
                    unsafe { libc::_exit(if fine { FINE } else { 1 }) };
                });
            }
            child
        };
        let child = match dispatch {
            Dispatch::PerCore => logs.run(0, move |_| fork()),
            Dispatch::Adaptive => {
                let (tell, told) = mpsc::channel();
                logs.run(0, move |log| {
                    log.1 = Some(Box::new(move || {
                        let child = fork();
                        if child != 0 {
                            tell.send(child).unwrap();
                        }
                    }));
                });
                logs.wake_in(0, Duration::ZERO);
                told.recv().unwrap()
            }
        };
        assert_ne!(child, -1, "no fork");
        let mut status = 0;
        // SAFETY: as above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_fine(status);
        assert_usable(&logs);
    }
}

#[test]
fn a_group_that_a_thread_does_not_let_go_of_is_sealed_in_the_child_and_looked_after_in_the_parent() {
    let _alone = alone();
    let logs = logs(Dispatch::Adaptive, 0);
    let (go, wait) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let holder = thread::spawn({
        let logs = Arc::clone(&logs);
        move || {
            logs.run(1, move |_| {
                entered.send(()).unwrap();
                wait.recv().unwrap();
            });
        }
    });
    inside.recv().unwrap();
    // The fork holds the first delegate until it gives up on the second: a thread that posts meanwhile leaves
    // a message.
    let poster = thread::spawn({
        let logs = Arc::clone(&logs);
        move || {
            (0..2000).for_each(|number| {
                logs.post(0, number);
                thread::yield_now();
            })
        }
    });
    let handle = Arc::clone(&logs);
    let mut handle = Some(handle);
    assert_fine(in_child(|| assert_sealed(handle.take().unwrap())));
    poster.join().unwrap();
    let counts = logs.counts();
    assert_eq!(counts.in_place + counts.posted, 2001, "a message was left behind");
    go.send(()).unwrap();
    holder.join().unwrap();
    assert_usable(&logs);
}

#[test]
fn a_fork_while_thread_locals_are_destroyed_does_not_keep_what_it_held() {
    struct Forks(Logs);
    impl Drop for Forks {
        fn drop(&mut self) {
            assert_fine(in_child(|| ()));
            assert_usable(&self.0);
        }
    }
    thread_local! {
        static FIRST: std::cell::RefCell<Option<Forks>> = const { std::cell::RefCell::new(None) };
        static LAST: std::cell::RefCell<Option<Forks>> = const { std::cell::RefCell::new(None) };
    }
    let _alone = alone();
    let logs = logs(Dispatch::Adaptive, 0);
    thread::spawn({
        let logs = Arc::clone(&logs);
        move || {
            FIRST.with(|slot| *slot.borrow_mut() = Some(Forks(Arc::clone(&logs))));
            assert_fine(in_child(|| ()));
            LAST.with(|slot| *slot.borrow_mut() = Some(Forks(logs)));
        }
    })
    .join()
    .unwrap();
    assert_usable(&logs);
}

#[test]
fn a_group_made_in_the_child_works() {
    let _alone = alone();
    let parents = logs(Dispatch::PerCore, 2);
    parents.run(0, |_| ());
    assert_fine(in_child(|| {
        let own = logs(Dispatch::PerCore, 2);
        assert_usable(&own);
        assert!(own.threads() > 0);
        drop(own);
    }));
}
