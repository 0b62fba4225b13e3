//! Worker threads: started when first needed, asleep when there is nothing to do, gone when the group is.
//!
//! Worker `w` of `n` sees to the delegates `w`, `w + n`, `w + 2n`... Under `PerCore` it serves every request; under
//! `Adaptive` it serves what callers leave over, and alarms: a delegate can ask to be tended at a time, which is how a
//! cache gives back the memory of what expired while nobody calls.
//!
//! The bell is the other Dekker pair of this crate (see `delegate` for the first): a sender counts its message and then
//! reads the bell; a worker sets the bell to `PARKED`, or `GONE`, and then looks for messages; with `SeqCst` fences in
//! between on both sides. Called by `group` (ring) and `handle` (start, shutdown).

use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::Resident;
use crate::delegate::{Aftermath, NO_ALARM, Runner};
use crate::group::Group;
use crate::inside;
use crate::sync::{
    AtomicBool, AtomicU32, AtomicU64, JoinHandle, Mutex, Ordering, fence, lock, park, park_timeout, yield_now,
};
use crate::waiting::{SPIN_FOR_WORKER, spin};

/// Not started yet.
const ABSENT: u32 = 0;
/// Running, or being started: looks at every delegate of its own before it sleeps or ends.
const AWAKE: u32 = 1;
/// Asleep until it is unparked or an alarm is due.
const PARKED: u32 = 2;
/// Ended, or could not be started: senders serve themselves.
const GONE: u32 = 3;

/// Alarms this close to each other are served by one waking.
const ALARM_SLACK: Duration = Duration::from_millis(1);

/// The worker threads of a group.
pub(crate) struct Crew {
    workers: Box<[Worker]>,
    /// Threads are called this and their number.
    name: String,
    /// Which cores worker threads are tied to, in turn; empty: to none.
    cores: Vec<CoreId>,
    /// Whether workers poll for a little while before they sleep (`PerCore`).
    spins: bool,
    processors: usize,
    closing: AtomicBool,
    /// Alarms count from here.
    epoch: Instant,
}

struct Worker {
    bell: AtomicU32,
    /// Valid while `bell` is `PARKED`: when it wakes by itself, in the units of alarms.
    sleeps_until: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Crew {
    pub(crate) fn new(workers: usize, name: String, cores: Vec<CoreId>, spins: bool, processors: usize) -> Self {
        let worker = || Worker {
            bell: AtomicU32::new(ABSENT),
            sleeps_until: AtomicU64::new(NO_ALARM),
            thread: Mutex::new(None),
        };
        Self {
            workers: (0..workers).map(|_| worker()).collect(),
            name,
            cores,
            spins,
            processors,
            closing: AtomicBool::new(false),
            epoch: Instant::now(),
        }
    }

    /// How many threads run now.
    pub(crate) fn running(&self) -> usize {
        let runs = |worker: &&Worker| matches!(worker.bell.load(Ordering::Relaxed), AWAKE | PARKED);
        self.workers.iter().filter(runs).count()
    }

    /// Wakes or starts the worker that sees to delegate `index`, after a message was counted. False: there is none.
    pub(crate) fn ring<S: Resident>(&self, group: &Group<S>, index: usize) -> bool {
        if self.workers.is_empty() {
            return false;
        }
        let number = index % self.workers.len();
        let worker = &self.workers[number];
        // The message was counted before; see the module's text.
        fence(Ordering::SeqCst);
        match worker.bell.load(Ordering::Acquire) {
            AWAKE => true,
            PARKED => {
                worker.wake();
                true
            }
            ABSENT => self.start(group, number),
            _ => false,
        }
    }

    /// Asks that delegate `index` be tended in `delay` at the latest.
    pub(crate) fn wake_in<S: Resident>(&self, group: &Group<S>, index: usize, delay: Duration) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.now().saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(NO_ALARM));
        if group.delegates[index].alarm.fetch_min(at, Ordering::AcqRel) <= at {
            return;
        }
        let number = index % self.workers.len();
        let worker = &self.workers[number];
        fence(Ordering::SeqCst);
        match worker.bell.load(Ordering::Acquire) {
            PARKED if worker.sleeps_until.load(Ordering::Relaxed) > at => worker.wake(),
            ABSENT => {
                self.start(group, number);
            }
            _ => {}
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(NO_ALARM)
    }

    #[cold]
    fn start<S: Resident>(&self, group: &Group<S>, number: usize) -> bool {
        let worker = &self.workers[number];
        let mut thread = lock(&worker.thread);
        if worker.bell.load(Ordering::Acquire) != ABSENT {
            return worker.bell.load(Ordering::Acquire) != GONE;
        }
        if self.closing.load(Ordering::Acquire) {
            return false;
        }
        worker.bell.store(AWAKE, Ordering::Release);
        let started = spawn(format!("{}-{number}", self.name), {
            let group = group.clone();
            move || {
                let crew = &group.shared.crew;
                if !crew.cores.is_empty() {
                    // Not being pinned costs speed and nothing else, so a refusal is no error.
                    core_affinity::set_for_current(crew.cores[number % crew.cores.len()]);
                }
                crew.work(&group, number);
            }
        });
        match started {
            Ok(handle) => {
                *thread = Some(handle);
                true
            }
            Err(_no_thread) => {
                drop(thread);
                self.leave(group, number);
                false
            }
        }
    }

    fn own_delegates<S: Resident>(&self, group: &Group<S>, number: usize) -> impl Iterator<Item = usize> + use<S> {
        (number..group.delegates.len()).step_by(self.workers.len())
    }

    fn work<S: Resident>(&self, group: &Group<S>, number: usize) {
        let worker = &self.workers[number];
        loop {
            if self.round(group, number) {
                continue;
            }
            if self.closing.load(Ordering::Acquire) {
                break;
            }
            let message = || self.own_delegates(group, number).any(|index| group.delegates[index].has_messages());
            if self.spins && spin(self.processors, SPIN_FOR_WORKER, message) {
                continue;
            }
            let until = self.next_alarm(group, number);
            worker.sleeps_until.store(until, Ordering::Relaxed);
            worker.bell.store(PARKED, Ordering::Release);
            fence(Ordering::SeqCst);
            if message() || self.next_alarm(group, number) < until || self.closing.load(Ordering::Acquire) {
                worker.bell.store(AWAKE, Ordering::Relaxed);
                continue;
            }
            if until == NO_ALARM {
                park();
            } else {
                park_timeout(Duration::from_nanos(until.saturating_sub(self.now())));
            }
            worker.bell.store(AWAKE, Ordering::Relaxed);
        }
        self.leave(group, number);
    }

    /// From now on senders serve themselves; what was counted before they could know is served here.
    fn leave<S: Resident>(&self, group: &Group<S>, number: usize) {
        self.workers[number].bell.store(GONE, Ordering::Release);
        fence(Ordering::SeqCst);
        for index in self.own_delegates(group, number) {
            while group.delegates[index].has_messages() {
                // Who has it looks for messages after its release, as every runner.
                let Some(owned) = group.delegates[index].try_take() else { break };
                let (released, _) = group.serve(owned, Runner::Worker);
                if released.deferred {
                    inside::run_deferred();
                }
            }
        }
    }

    /// Looks once at every delegate of the worker's. True if there was anything to do.
    fn round<S: Resident>(&self, group: &Group<S>, number: usize) -> bool {
        let mut busy = false;
        let mut now = None;
        for index in self.own_delegates(group, number) {
            let delegate = &group.delegates[index];
            if delegate.has_messages() {
                busy = true;
                match delegate.try_take() {
                    Some(owned) => {
                        let (released, _) = group.serve(owned, Runner::Worker);
                        if released.deferred {
                            inside::run_deferred();
                        }
                    }
                    None => yield_now(),
                }
            }
            let alarm = delegate.alarm.load(Ordering::Relaxed);
            if alarm != NO_ALARM && alarm <= *now.get_or_insert_with(|| self.now()) {
                busy = true;
                self.tend(group, index);
            }
        }
        busy
    }

    /// Runs a delegate's maintenance, if nobody is running the delegate.
    fn tend<S: Resident>(&self, group: &Group<S>, index: usize) {
        let delegate = &group.delegates[index];
        let Some(mut owned) = delegate.try_take() else {
            yield_now();
            return;
        };
        // Taken down before the maintenance looks: an alarm set from here on is a new one.
        delegate.alarm.store(NO_ALARM, Ordering::Release);
        let mut aftermath = Aftermath::new();
        owned.drain(Runner::Worker, &mut aftermath);
        let next = owned.tend(&mut aftermath.leftovers);
        let released = owned.release(group.barrier);
        group.settle(aftermath);
        if let Some(delay) = next {
            let slack = if delay.is_zero() { delay } else { delay.max(ALARM_SLACK) };
            let at = self.now().saturating_add(u64::try_from(slack.as_nanos()).unwrap_or(NO_ALARM));
            delegate.alarm.fetch_min(at, Ordering::AcqRel);
        }
        if released.deferred {
            inside::run_deferred();
        }
    }

    fn next_alarm<S: Resident>(&self, group: &Group<S>, number: usize) -> u64 {
        self.own_delegates(group, number)
            .map(|index| group.delegates[index].alarm.load(Ordering::Relaxed))
            .min()
            .unwrap_or(NO_ALARM)
    }

    /// Ends the threads after what they were given, and waits for them. A worker that calls this doesn't wait for itself.
    pub(crate) fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        for worker in &self.workers {
            let thread = lock(&worker.thread).take();
            let Some(thread) = thread else { continue };
            // `closing` was set before; see the module's text.
            fence(Ordering::SeqCst);
            thread.thread().unpark();
            if thread.thread().id() != crate::sync::current().id() {
                // The thread's own code doesn't panic: what it runs for others is caught.
                let _ = thread.join();
            }
        }
    }

    /// In a forked child there are no threads to end: their handles are forgotten.
    #[cfg(all(unix, not(loom)))]
    pub(crate) fn forget_threads(&self) {
        for worker in &self.workers {
            worker.bell.store(GONE, Ordering::Relaxed);
            if let Ok(mut thread) = worker.thread.try_lock() {
                std::mem::forget(thread.take());
            }
        }
    }
}

impl Worker {
    /// `AWAKE` before unparking, so that only one sender pays for it.
    fn wake(&self) {
        if self.bell.compare_exchange(PARKED, AWAKE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            && let Some(thread) = lock(&self.thread).as_ref()
        {
            thread.thread().unpark();
        }
    }
}

#[cfg(loom)]
fn spawn(_name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    Ok(loom::thread::spawn(work))
}

#[cfg(not(loom))]
fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let _blocked = crate::signals::block_all();
    std::thread::Builder::new().name(name).spawn(work)
}
