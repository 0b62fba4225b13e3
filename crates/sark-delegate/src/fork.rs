//! `fork` without `exec`: held still where that is possible, an error in the child where it isn't.
//!
//! A fork while another thread is inside a delegate copies torn memory, and nothing can repair that in the
//! child. So before a fork (`pthread_atfork`) every group that has no worker thread is held still: its
//! messages are served, then the forking thread takes every delegate. Parent and child give ownership back,
//! and the child starts with empty mailboxes. Other callers' code runs only while the registry is unlocked,
//! because it may make groups and end them.
//!
//! A group can't be held if it has threads, if the fork happens inside one of its requests, or if some thread
//! doesn't let go for a second. Such a group is sealed in the child: calls fail with
//! [`TryError::Forked`](crate::TryError::Forked) instead of hanging. If it was a worker that forked, inside
//! something that it served, the worker ends in the child.
//!
//! Each `Delegates` registers itself here; the C library calls the hooks. Unix only; other systems have no
//! fork.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::Resident;
use crate::aftermath::Aftermath;
use crate::delegate::Delegate;
use crate::group::Group;
use crate::inside;
use crate::waiting::nobody_spins;

/// How long a fork waits for a thread that doesn't let go of a delegate.
const PATIENCE: Duration = Duration::from_secs(1);

/// A group, as far as a fork is concerned.
trait Forkable: Send + Sync {
    /// Whether it can be held still at all.
    fn can_be_held(&self) -> bool;
    /// Sees to it that what was posted before is served. Runs other callers' code.
    fn catch_up(&self);
    /// Takes every delegate. Returns false if some thread doesn't let go of one: then none is held.
    fn hold(&self) -> bool;
    fn release_in_parent(&self);
    /// Serves what came while it was held. Runs other callers' code.
    fn look_after(&self);
    fn release_in_child(&self);
    fn seal_in_child(&self);
}

static GROUPS: Mutex<Vec<(u64, Arc<dyn Forkable>)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static HOOKS: Once = Once::new();

type Groups = MutexGuard<'static, Vec<(u64, Arc<dyn Forkable>)>>;

fn groups() -> Groups {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a group before the fork.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Held,
    /// It was held in part for a while, so messages may have come that no thread saw to.
    GivenUp,
    NotTried,
}

/// The registry, locked, and what became of its groups: from `prepare` to `parent` or `child`, on one thread.
struct Forking {
    groups: Groups,
    holds: Vec<Hold>,
}

// `ManuallyDrop`, so that it has no destructor and is there if a thread forks while its other thread-locals
// are being destroyed. It is empty except between the hooks of one fork.
thread_local! {
    static FORKING: ManuallyDrop<RefCell<Option<Forking>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// A group's place in the registry.
#[derive(Clone, Copy)]
pub(crate) struct Registration(u64);

impl Registration {
    pub(crate) fn new<S: Resident>(group: Group<S>) -> Self {
        HOOKS.call_once(|| {
            // SAFETY: the three hooks are `extern "C"` functions without arguments that don't unwind. If
            // there is no memory for them, forked children aren't looked after, which is all that can be done
            // about it.
            unsafe {
                libc::pthread_atfork(Some(prepare), Some(parent), Some(child));
            }
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        groups().push((number, Arc::new(group)));
        Self(number)
    }

    pub(crate) fn end(self) {
        let mut groups = groups();
        let place = groups.iter().position(|(number, _)| *number == self.0);
        let entry = place.map(|place| groups.swap_remove(place));
        // The states may go with it, and their destructors are user code: not under the lock.
        drop(groups);
        drop(entry);
    }
}

extern "C" fn prepare() {
    let known: Vec<_> = groups().iter().map(|(_, group)| Arc::clone(group)).collect();
    for group in &known {
        if group.can_be_held() {
            group.catch_up();
        }
    }
    drop(known);
    let groups = groups();
    let hold = |group: &dyn Forkable| match group.can_be_held() {
        true if group.hold() => Hold::Held,
        true => Hold::GivenUp,
        false => Hold::NotTried,
    };
    let holds = groups.iter().map(|(_, group)| hold(group.as_ref())).collect();
    FORKING.with(|forking| *forking.borrow_mut() = Some(Forking { groups, holds }));
}

extern "C" fn parent() {
    let Some(Forking { groups, holds }) = FORKING.with(|forking| forking.borrow_mut().take()) else { return };
    let mut touched = Vec::new();
    for ((_, group), hold) in groups.iter().zip(holds) {
        if hold == Hold::Held {
            group.release_in_parent();
        }
        if hold != Hold::NotTried {
            touched.push(Arc::clone(group));
        }
    }
    drop(groups);
    for group in touched {
        group.look_after();
    }
}

extern "C" fn child() {
    let Some(Forking { groups, holds }) = FORKING.with(|forking| forking.borrow_mut().take()) else { return };
    nobody_spins();
    for ((_, group), hold) in groups.iter().zip(holds) {
        if hold == Hold::Held { group.release_in_child() } else { group.seal_in_child() }
    }
}

impl<S: Resident> Group<S> {
    /// Closes a delegate that this thread has just released if this is a forked child that can't use it: what
    /// forked is a request that this thread ran, and the release has opened what had been sealed. Returns
    /// whether it did.
    #[inline]
    pub(crate) fn seal_again(&self, delegate: &Delegate<S>) -> bool {
        let forked = self.check_fork().is_err();
        if forked {
            delegate.seal();
        }
        forked
    }
}

impl<S: Resident> Forkable for Group<S> {
    fn can_be_held(&self) -> bool {
        !inside::is_inside() && self.shared.crew.running() == 0 && !self.shared.forked.load(Ordering::Relaxed)
    }

    fn catch_up(&self) {
        let began = Instant::now();
        for (index, delegate) in self.delegates.iter().enumerate() {
            // `holds_messages` asks what is announced, and not only what is pending: a message of a call that
            // returned is announced at least. (Where nothing is announced, its count may have gone to an
            // earlier message, so the mailbox is looked into first.)
            self.serve_if_free(index);
            while delegate.holds_messages() && began.elapsed() < PATIENCE {
                self.serve_if_free(index);
                std::thread::yield_now();
            }
        }
    }

    fn hold(&self) -> bool {
        let began = Instant::now();
        for (index, delegate) in self.delegates.iter().enumerate() {
            loop {
                if let Some(owned) = delegate.try_take() {
                    owned.keep();
                    break;
                }
                if began.elapsed() > PATIENCE {
                    for held in &self.delegates[..index] {
                        held.owner.release();
                    }
                    return false;
                }
                std::thread::yield_now();
            }
        }
        true
    }

    fn release_in_parent(&self) {
        for delegate in self.delegates.iter() {
            delegate.owner.release();
        }
    }

    fn look_after(&self) {
        self.barrier.light();
        let mut aftermath = Aftermath::new();
        for (index, delegate) in self.delegates.iter().enumerate() {
            if delegate.has_messages() {
                self.serve_what_is_left(index, true, &mut aftermath);
            }
        }
        self.finish(aftermath);
    }

    fn release_in_child(&self) {
        if self.delegates.iter().any(Delegate::is_locked_for_ever) {
            self.seal_in_child();
            return;
        }
        self.shared.crew.restart_in_child();
        for delegate in self.delegates.iter() {
            delegate.restart_in_child();
        }
    }

    fn seal_in_child(&self) {
        self.shared.forked.store(true, Ordering::Relaxed);
        for delegate in self.delegates.iter() {
            delegate.seal();
        }
        self.shared.crew.close_in_child();
        // The states may be torn, so they are never dropped here.
        std::mem::forget(self.clone());
    }
}
