//! Signals belong to the application: worker threads start with all signals blocked that are sent to the
//! process.
//!
//! Signals that a thread gets for what it does itself, such as overflowing its stack, are left alone. If they
//! were blocked, they would end the process without a word, where a handler says what happened and where. The
//! profiler's signal is left alone, too: if it were blocked, the profiler would never see a worker.
//!
//! Called by `worker`, around the start of a thread. Installs no handler.

/// Blocks the signals in the calling thread until the guard is dropped. Threads that it starts meanwhile
/// inherit that.
pub(crate) fn block_those_of_the_process() -> Blocked {
    Blocked::new()
}

/// The signals that are left alone.
#[cfg(all(unix, not(miri)))]
const OF_A_THREAD: [libc::c_int; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGPROF,
];

/// Restores the thread's signal mask when dropped.
#[cfg(all(unix, not(miri)))]
pub(crate) struct Blocked(libc::sigset_t);

#[cfg(all(unix, not(miri)))]
impl Blocked {
    fn new() -> Self {
        // SAFETY: `sigset_t` is plain data that `sigfillset` and `pthread_sigmask` write completely. All
        // these calls fail only for invalid arguments, which these are not.
        unsafe {
            let mut blocked = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&raw mut blocked);
            for signal in OF_A_THREAD {
                libc::sigdelset(&raw mut blocked, signal);
            }
            // In addition to what the caller blocks already.
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
            Self(before)
        }
    }
}

#[cfg(all(unix, not(miri)))]
impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask is what `pthread_sigmask` wrote in `new`; no old mask is asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

#[cfg(not(all(unix, not(miri))))]
pub(crate) struct Blocked;

#[cfg(not(all(unix, not(miri))))]
impl Blocked {
    fn new() -> Self {
        Self
    }
}
