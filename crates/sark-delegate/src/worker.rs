//! Worker threads: started when first needed, asleep when there is nothing to do, gone when the group is.
//!
//! Worker `w` of `n` sees to the delegates `w`, `w + n`, `w + 2n`... Under `PerCore` it serves every request.
//! Under `Adaptive` it serves what callers leave over, and alarms: a delegate can ask to be tended at a time,
//! which is how a cache gives back the memory of what expired while no thread calls.
//!
//! The bell is the other Dekker pair of this crate (see `delegate` for the first). A sender counts its
//! message and then reads the bell; a worker sets the bell to `PARKED`, or `GONE`, and then looks for
//! messages. `SeqCst` fences are in between on both sides.
//!
//! Some of what workers do for others is other callers' code (dropping what posts left over, waking). It may
//! wait for anything, even for a caller that waits for the worker. So the bell says `ELSEWHERE` meanwhile.
//! Under `Adaptive` no sender that reads this relies on the worker; under `PerCore` a caller that has waited
//! for long helps itself (`waiting`).
//!
//! Called by `group` (ring, shut down), `handle` (make, wake) and `fork`. A worker only ever tries a
//! delegate; one that is busy is left alone for a moment.

use std::cell::Cell;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::Resident;
use crate::aftermath::Aftermath;
use crate::delegate::{AbortOnUnwind, NO_ALARM, Whose};
use crate::group::Group;
use crate::inside;
use crate::sync::{
    AtomicBool, AtomicU32, AtomicU64, JoinHandle, Mutex, Ordering, fence, fence_before_reading, lock, park,
    park_timeout, yield_now,
};
use crate::waiting::{SPIN_FOR_WORKER, spin};

/// Not started yet.
const ABSENT: u32 = 0;
/// Running, or being started: looks at each of its delegates before it sleeps or ends.
const AWAKE: u32 = 1;
/// Asleep until it is unparked or an alarm is due.
const PARKED: u32 = 2;
/// Ended, or could not be started: senders serve themselves.
const GONE: u32 = 3;

/// Runs other callers' code, and looks at each of its delegates after it.
const ELSEWHERE: u32 = 4;

/// Where callers run delegates themselves, a worker serves this many rounds before it goes `ELSEWHERE` with
/// messages unserved.
const ROUNDS_BEFORE_SETTLING: u32 = 16;
/// How long a worker leaves a delegate alone that another thread is running.
const PATIENCE_WITH_OWNER: Duration = Duration::from_micros(100);
/// Alarms this close to each other are served by one waking.
const ALARM_SLACK: Duration = Duration::from_millis(1);

#[cfg(not(loom))]
thread_local! {
    /// The crew that this thread belongs to, as an address; 0: none.
    static MEMBER_OF: Cell<usize> = const { Cell::new(0) };
}
#[cfg(loom)]
crate::sync::thread_local! {
    static MEMBER_OF: Cell<usize> = Cell::new(0);
}

/// Whether this thread is a worker, of any crew.
pub(crate) fn on_worker_thread() -> bool {
    MEMBER_OF.with(Cell::get) != 0
}

/// What became of telling a worker about a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rung {
    /// It looks at the mailbox, with no other callers' code in between.
    Told,
    /// It looks at the mailbox when it is through with other callers' code.
    Elsewhere,
    /// There is no worker.
    Nobody,
}

/// What a worker found to do in a round.
struct Found {
    messages: bool,
    alarms: bool,
}

impl Found {
    fn anything(&self) -> bool {
        self.messages || self.alarms
    }
}

/// The worker threads of a group.
pub(crate) struct Crew {
    workers: Box<[Worker]>,
    /// Threads are called this, with a hyphen and their number.
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
    /// Valid while `bell` is `PARKED`: when the worker wakes without being woken, in the units of alarms.
    sleeps_until: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Set in a forked child if `thread` must not be locked: a thread that doesn't exist here may hold the
    /// lock for ever.
    lost: std::sync::atomic::AtomicBool,
}

impl Crew {
    pub(crate) fn new(workers: usize, name: String, cores: Vec<CoreId>, spins: bool, processors: usize) -> Self {
        let worker = || Worker {
            bell: AtomicU32::new(ABSENT),
            sleeps_until: AtomicU64::new(NO_ALARM),
            thread: Mutex::new(None),
            lost: std::sync::atomic::AtomicBool::new(false),
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
        let runs = |worker: &&Worker| matches!(worker.bell.load(Ordering::Relaxed), AWAKE | PARKED | ELSEWHERE);
        self.workers.iter().filter(runs).count()
    }

    /// Returns the number of the worker that sees to delegate `index`. There must be workers.
    fn number_of(&self, index: usize) -> usize {
        // Usually each delegate has a worker to itself. No division then: each message comes this way.
        if index < self.workers.len() { index } else { index % self.workers.len() }
    }

    /// Whether delegate `index` has a worker that isn't held up by other callers' code.
    pub(crate) fn attends(&self, index: usize) -> bool {
        let bell = |worker: &Worker| worker.bell.load(Ordering::Relaxed);
        !self.workers.is_empty() && matches!(bell(&self.workers[self.number_of(index)]), AWAKE | PARKED)
    }

    /// Wakes or starts the worker that sees to delegate `index`, after a message was counted.
    pub(crate) fn ring<S: Resident>(&self, group: &Group<S>, index: usize) -> Rung {
        if self.workers.is_empty() {
            return Rung::Nobody;
        }
        let number = self.number_of(index);
        let worker = &self.workers[number];
        // The message was counted before: by a read-modify-write of ours or, as we have read, by another
        // thread's. See the module's documentation.
        fence_before_reading();
        match worker.bell.load(Ordering::Acquire) {
            AWAKE => Rung::Told,
            PARKED => {
                worker.wake();
                Rung::Told
            }
            ELSEWHERE => Rung::Elsewhere,
            ABSENT => self.start(group, number),
            _ => Rung::Nobody,
        }
    }

    /// Asks that delegate `index` be tended in `delay` at the latest.
    pub(crate) fn wake_in<S: Resident>(&self, group: &Group<S>, index: usize, delay: Duration) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.now().saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(NO_ALARM));
        if group.delegates[index].alarm().fetch_min(at, Ordering::AcqRel) <= at {
            return;
        }
        let number = self.number_of(index);
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
    fn start<S: Resident>(&self, group: &Group<S>, number: usize) -> Rung {
        let worker = &self.workers[number];
        let mut thread = lock(&worker.thread);
        match worker.bell.load(Ordering::Acquire) {
            ABSENT if self.closing.load(Ordering::Acquire) => return Rung::Nobody,
            ABSENT => {}
            GONE => return Rung::Nobody,
            // Another thread has started it meanwhile.
            _ => {
                drop(thread);
                return self.ring(group, number);
            }
        }
        worker.bell.store(AWAKE, Ordering::Release);
        let started = spawn(format!("{}-{number}", self.name), {
            let group = group.clone();
            move || {
                // What runs in here for others is caught. A worker that went away without a word would leave
                // waiters behind.
                let guard = AbortOnUnwind;
                let crew = &group.shared.crew;
                MEMBER_OF.with(|crew_of_mine| crew_of_mine.set(std::ptr::from_ref(crew).addr()));
                if !crew.cores.is_empty() {
                    // Not being pinned costs speed and nothing else, so a refusal is no error.
                    core_affinity::set_for_current(crew.cores[number % crew.cores.len()]);
                }
                crew.work(&group, number);
                std::mem::forget(guard);
            }
        });
        match started {
            Ok(handle) => {
                *thread = Some(handle);
                Rung::Told
            }
            Err(_no_thread) => {
                drop(thread);
                if inside::is_inside() {
                    let group = group.clone();
                    inside::defer(inside::NO_ORDER, move || group.shared.crew.leave(&group, number));
                } else {
                    self.leave(group, number);
                }
                Rung::Nobody
            }
        }
    }

    fn own_delegates<S: Resident>(&self, group: &Group<S>, number: usize) -> impl Iterator<Item = usize> + use<S> {
        // Not by `step_by`, which divides: a worker that spins asks this in each turn.
        let (every, end) = (self.workers.len(), group.delegates.len());
        let mut next = number;
        std::iter::from_fn(move || {
            let index = next;
            next += every;
            (index < end).then_some(index)
        })
    }

    fn work<S: Resident>(&self, group: &Group<S>, number: usize) {
        let worker = &self.workers[number];
        let mut aftermath = Aftermath::new();
        loop {
            let served = self.serve(group, number, &mut aftermath);
            #[cfg(all(unix, not(loom), not(miri)))]
            if group.check_fork().is_err() {
                // What it served forked, and this is the child. Nothing here is ours to finish.
                return;
            }
            if served {
                continue;
            }
            if self.closing.load(Ordering::Acquire) {
                break;
            }
            let message = || self.own_delegates(group, number).any(|index| group.delegates[index].has_messages());
            if self.spins && spin(self.processors, SPIN_FOR_WORKER, true, message) {
                continue;
            }
            let until = self.next_alarm(group, number);
            worker.sleeps_until.store(until, Ordering::Relaxed);
            worker.bell.store(PARKED, Ordering::Release);
            fence(Ordering::SeqCst);
            if message() || self.next_alarm(group, number) < until || self.closing.load(Ordering::Acquire) {
                worker.get_up();
                continue;
            }
            if until == NO_ALARM {
                park();
            } else {
                park_timeout(Duration::from_nanos(until.saturating_sub(self.now())));
            }
            worker.get_up();
        }
        self.leave(group, number);
    }

    /// Ends a worker. From now on senders serve themselves; what was counted before they could know is served
    /// here.
    fn leave<S: Resident>(&self, group: &Group<S>, number: usize) {
        self.workers[number].bell.store(GONE, Ordering::Release);
        fence(Ordering::SeqCst);
        let mut aftermath = Aftermath::new();
        for index in self.own_delegates(group, number) {
            while group.delegates[index].has_messages() {
                // The thread that has it looks for messages after its release, as every runner does.
                let Some(owned) = group.delegates[index].try_take() else { break };
                group.serve(owned, Whose::All, &mut aftermath);
            }
        }
        group.settle(aftermath);
        group.run_deferred();
    }

    /// Serves messages and alarms, then does what that leaves. Returns true if there was anything to do.
    fn serve<S: Resident>(&self, group: &Group<S>, number: usize, aftermath: &mut Aftermath<S>) -> bool {
        let worker = &self.workers[number];
        // Under `PerCore` answers are delivered before the next round: a waiting caller helps itself if this
        // takes long (`waiting`).
        let limit = if group.callers_run() { ROUNDS_BEFORE_SETTLING } else { 1 };
        let mut rounds = 0;
        loop {
            while rounds < limit {
                let found = self.round(group, number, aftermath);
                if !found.anything() {
                    break;
                }
                rounds += 1;
                if found.alarms && !found.messages && group.callers_run() {
                    // Maintenance is for when no other thread needs the processor. If the worker gives it up
                    // after each round, it is hardly ever taken away while a delegate is held and callers
                    // wait for it.
                    yield_now();
                }
            }
            if aftermath.is_empty() && !inside::has_deferred() {
                return rounds != 0;
            }
            worker.bell.store(ELSEWHERE, Ordering::Release);
            fence(Ordering::SeqCst);
            // A sender that read AWAKE before relies on us.
            let relied_on = || self.own_delegates(group, number).any(|index| group.delegates[index].has_messages());
            if rounds < limit && relied_on() {
                worker.bell.store(AWAKE, Ordering::Relaxed);
                continue;
            }
            group.settle(std::mem::replace(aftermath, Aftermath::new()));
            group.run_deferred();
            worker.bell.store(AWAKE, Ordering::Relaxed);
            return true;
        }
    }

    /// Looks once at each of the worker's delegates. Returns what there was to do.
    fn round<S: Resident>(&self, group: &Group<S>, number: usize, aftermath: &mut Aftermath<S>) -> Found {
        let mut found = Found { messages: false, alarms: false };
        let mut now = None;
        for index in self.own_delegates(group, number) {
            let delegate = &group.delegates[index];
            if delegate.has_messages() {
                found.messages = true;
                match delegate.try_take() {
                    Some(owned) => {
                        group.serve(owned, Whose::Counted, aftermath);
                    }
                    None => park_timeout(PATIENCE_WITH_OWNER),
                }
            }
            let alarm = delegate.alarm().load(Ordering::Relaxed);
            if alarm != NO_ALARM && alarm <= *now.get_or_insert_with(|| self.now()) {
                found.alarms = true;
                self.tend(group, index, aftermath);
            }
        }
        found
    }

    /// Runs a delegate's maintenance, if no thread is running the delegate.
    fn tend<S: Resident>(&self, group: &Group<S>, index: usize, aftermath: &mut Aftermath<S>) {
        let delegate = &group.delegates[index];
        let Some(mut owned) = delegate.try_take() else {
            park_timeout(PATIENCE_WITH_OWNER);
            return;
        };
        // Taken down before the maintenance looks: an alarm set from here on is a new one.
        delegate.alarm().store(NO_ALARM, Ordering::Release);
        owned.drain(Whose::Counted, aftermath);
        let next = owned.tend(aftermath);
        // Callers that came meanwhile wait for this very release. A message that is only announced is served
        // by the next round: the bell says AWAKE.
        let released = owned.release(group.barrier, aftermath);
        group.seal_again(delegate);
        if (released.messages() || !group.callers_run())
            && delegate.has_messages()
            && let Some(owned) = delegate.try_take()
        {
            group.serve(owned, Whose::Counted, aftermath);
        }
        if let Some(delay) = next {
            let slack = if delay.is_zero() { delay } else { delay.max(ALARM_SLACK) };
            let at = self.now().saturating_add(u64::try_from(slack.as_nanos()).unwrap_or(NO_ALARM));
            delegate.alarm().fetch_min(at, Ordering::AcqRel);
        }
    }

    fn next_alarm<S: Resident>(&self, group: &Group<S>, number: usize) -> u64 {
        self.own_delegates(group, number)
            .map(|index| group.delegates[index].alarm().load(Ordering::Relaxed))
            .min()
            .unwrap_or(NO_ALARM)
    }

    /// Ends the threads after what they were given, and waits for them. A worker that calls this waits for
    /// none of them: another one may be waiting for it.
    pub(crate) fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        let among_them = MEMBER_OF.with(Cell::get) == std::ptr::from_ref(self).addr();
        for worker in &self.workers {
            if worker.lost.load(Ordering::Relaxed) {
                continue;
            }
            let thread = lock(&worker.thread).take();
            let Some(thread) = thread else { continue };
            // `closing` was set before; see the module's documentation.
            fence(Ordering::SeqCst);
            thread.thread().unpark();
            if !among_them {
                // The thread's own code doesn't panic: what it runs for others is caught.
                let _ = thread.join();
            }
        }
    }

    /// Forgets the threads' handles, in a forked child: there are no threads to end. Threads may be started
    /// here.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn restart_in_child(&self) {
        for worker in &self.workers {
            match worker.thread.try_lock() {
                Ok(mut thread) => {
                    std::mem::forget(thread.take());
                    worker.bell.store(ABSENT, Ordering::Relaxed);
                }
                Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                    std::mem::forget(poisoned.into_inner().take());
                    worker.bell.store(ABSENT, Ordering::Relaxed);
                }
                Err(std::sync::TryLockError::WouldBlock) => {
                    worker.lost.store(true, Ordering::Relaxed);
                    worker.bell.store(GONE, Ordering::Relaxed);
                }
            }
        }
    }

    /// Closes the crew, in a forked child that can't use the group: no thread is started, rung or waited for.
    #[cfg(all(unix, not(loom), not(miri)))]
    pub(crate) fn close_in_child(&self) {
        for worker in &self.workers {
            worker.lost.store(true, Ordering::Relaxed);
            worker.bell.store(GONE, Ordering::Relaxed);
        }
    }
}

impl Worker {
    /// Says that the worker is awake. This is a read-modify-write, because a sender may just have written the
    /// same: what the worker says next is then ordered after that for every thread. (A plain store would be,
    /// too, by the rule that nothing comes between a read-modify-write and what it read; the model checker
    /// doesn't know that rule.)
    fn get_up(&self) {
        self.bell.swap(AWAKE, Ordering::AcqRel);
    }

    /// Wakes the worker if it sleeps. It says `AWAKE` before it unparks, so that only one sender pays for it.
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
    let _blocked = crate::signals::block_those_of_the_process();
    std::thread::Builder::new().name(name).spawn(work)
}
