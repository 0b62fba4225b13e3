//! What a runner owes others once a delegate is released.
//!
//! * **Waking callers** that were answered in their sleep. A thread that is woken often takes the processor
//!   of the one that wakes it. Were that to happen while the delegate is held, the woken thread and all
//!   others would soon run into the delegate and go to sleep, and the runner's next release would wake them
//!   in the same way, and so on. So the runner wakes them right after the release.
//! * **Other people's code:** waking futures, and dropping what is left over. That code may wait for
//!   anything, so the runner must hold nothing meanwhile, and must have looked for messages before it.
//!
//! Filled by `delegate` while it is held, which wakes as it releases; `group` and `worker` see to the rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::Resident;
use crate::sync::Thread;
use crate::task::{Errand, Panic, discard};

/// What serving other callers' messages leaves to do.
pub(crate) struct Aftermath<S: Resident> {
    pub(crate) sleepers: Sleepers,
    pub(crate) leftovers: S::Leftovers,
    /// Whether anything had the chance to leave something over.
    pub(crate) has_leftovers: bool,
    /// Performed errands, whose results may be left to us to drop.
    pub(crate) errands: Vec<Errand<S>>,
    pub(crate) wakers: Vec<Waker>,
    /// Of posts and maintenance, already counted: what they carry is dropped outside, too.
    pub(crate) panics: Vec<Panic>,
}

impl<S: Resident> Aftermath<S> {
    pub(crate) fn new() -> Self {
        Self {
            sleepers: Sleepers::default(),
            leftovers: S::Leftovers::default(),
            has_leftovers: false,
            errands: Vec::new(),
            wakers: Vec::new(),
            panics: Vec::new(),
        }
    }

    /// Whether settling it runs no user code.
    pub(crate) fn is_empty(&self) -> bool {
        let leftovers = self.has_leftovers && std::mem::needs_drop::<S::Leftovers>();
        !leftovers && self.errands.is_empty() && self.wakers.is_empty() && self.panics.is_empty()
    }

    /// Wakes futures and those that waited for room, and drops what errands and posts left over. Panics stay
    /// here: no caller waits for that code, and the thread that runs this has nothing to do with it. Returns
    /// how many there were.
    pub(crate) fn settle(self) -> u64 {
        let Self { sleepers, leftovers, errands, wakers, panics: caught, has_leftovers: _ } = self;
        // None is left after a release. In any case they come before other people's code.
        drop(sleepers);
        let mut panics = 0;
        let mut guarded = |work: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                panics += 1;
                discard(panic);
            }
        };
        // Those that wait come first: what is dropped may be waiting for them.
        for waker in wakers {
            let mut waker = Some(waker);
            guarded(&mut || {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            });
        }
        for errand in errands {
            let mut errand = Some(errand);
            guarded(&mut || drop(errand.take()));
        }
        let mut leftovers = Some(leftovers);
        guarded(&mut || drop(leftovers.take()));
        caught.into_iter().for_each(discard);
        panics
    }
}

/// Callers that went to sleep before their request was served, and have their answer now. They are woken at
/// the latest when this is dropped.
#[derive(Default)]
pub(crate) struct Sleepers(Vec<Thread>);

impl Sleepers {
    pub(crate) fn add(&mut self, caller: Thread) {
        self.0.push(caller);
    }

    /// Wakes all of them.
    #[inline]
    pub(crate) fn wake(&mut self) {
        self.0.drain(..).for_each(|caller| caller.unpark());
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.wake();
    }
}
