//! `fork` without `exec`: held still where that is possible, an error in the child where it isn't.
//!
//! A fork while another thread is inside a delegate copies torn memory, and nothing can repair that in the child. So
//! before a fork (`pthread_atfork`) every group that has no worker thread is held still: its messages are served, then
//! every delegate is owned by the forking thread. Parent and child give ownership back, and the child starts with
//! empty mailboxes. Groups that can't be held, because they have threads, because the fork happens inside one of
//! their requests, or because somebody doesn't let go for a second, are sealed in the child: calls fail with
//! [`TryError::Forked`](crate::TryError::Forked) instead of hanging.
//!
//! Each `Delegates` registers itself here. Unix only; other systems have no fork.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::Resident;
use crate::delegate::Released;
use crate::group::Group;
use crate::inside;

/// How long a fork waits for somebody who doesn't let go of a delegate.
const PATIENCE: Duration = Duration::from_secs(1);

/// A group, as far as a fork is concerned.
trait Forkable: Send {
    /// Takes every delegate. False, and none is held, if that can't be.
    fn hold(&self) -> bool;
    fn release_in_parent(&self);
    fn release_in_child(&self);
    fn seal_in_child(&self);
}

static GROUPS: Mutex<Vec<(u64, Box<dyn Forkable>)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static HOOKS: Once = Once::new();

type Groups = MutexGuard<'static, Vec<(u64, Box<dyn Forkable>)>>;

fn groups() -> Groups {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry, locked, and which of its groups are held: from `prepare` to `parent` or `child`, on one thread.
struct Held {
    groups: Groups,
    held: Vec<bool>,
}

thread_local! {
    static FORKING: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// A group's place in the registry.
pub(crate) struct Registration(u64);

impl Registration {
    pub(crate) fn new<S: Resident>(group: Group<S>) -> Self {
        HOOKS.call_once(|| {
            // SAFETY: the three hooks are `extern "C"` functions without arguments that don't unwind. If there is no
            // memory for them, forked children aren't looked after, which is all that can be done about it.
            unsafe {
                libc::pthread_atfork(Some(prepare), Some(parent), Some(child));
            }
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        groups().push((number, Box::new(group)));
        Self(number)
    }

    pub(crate) fn end(&self) {
        let mut groups = groups();
        let place = groups.iter().position(|(number, _)| *number == self.0);
        let entry = place.map(|place| groups.swap_remove(place));
        // The states may go with it, and with them user's code: not under the lock.
        drop(groups);
        drop(entry);
    }
}

extern "C" fn prepare() {
    let groups = groups();
    let held = groups.iter().map(|(_, group)| group.hold()).collect();
    // A thread that forks while its thread-locals are being destroyed forks unguarded.
    let _ = FORKING.try_with(|forking| *forking.borrow_mut() = Some(Held { groups, held }));
}

fn after(release: fn(&dyn Forkable), otherwise: fn(&dyn Forkable)) {
    let forking = FORKING.try_with(|forking| forking.borrow_mut().take()).ok().flatten();
    if let Some(Held { groups, held }) = forking {
        for ((_, group), held) in groups.iter().zip(held) {
            if held { release(group.as_ref()) } else { otherwise(group.as_ref()) }
        }
    }
}

extern "C" fn parent() {
    after(|group| group.release_in_parent(), |_| {});
}

extern "C" fn child() {
    after(|group| group.release_in_child(), |group| group.seal_in_child());
}

impl<S: Resident> Forkable for Group<S> {
    fn hold(&self) -> bool {
        if inside::is_inside() || self.shared.crew.running() != 0 || self.shared.forked.load(Ordering::Relaxed) {
            return false;
        }
        let began = Instant::now();
        for (index, delegate) in self.delegates.iter().enumerate() {
            loop {
                match delegate.try_take() {
                    Some(owned) if owned.nothing_before_us() => {
                        owned.keep();
                        break;
                    }
                    Some(owned) => {
                        let released = self.serve(owned, crate::delegate::Runner::Caller).0;
                        if released.deferred {
                            inside::run_deferred();
                        }
                    }
                    None if began.elapsed() > PATIENCE => {
                        for held in &self.delegates[..index] {
                            held.owner.release();
                        }
                        return false;
                    }
                    None => std::thread::yield_now(),
                }
            }
        }
        true
    }

    fn release_in_parent(&self) {
        for delegate in self.delegates.iter() {
            delegate.owner.release();
        }
        self.barrier.light();
        for (index, delegate) in self.delegates.iter().enumerate() {
            if delegate.has_messages() {
                self.after_release(index, Released { messages: true, deferred: false });
            }
        }
    }

    fn release_in_child(&self) {
        for delegate in self.delegates.iter() {
            delegate.restart_in_child();
        }
    }

    fn seal_in_child(&self) {
        self.shared.forked.store(true, Ordering::Relaxed);
        for delegate in self.delegates.iter() {
            delegate.owner.seal();
        }
        self.shared.crew.forget_threads();
    }
}
