//! Signals are the application's business: worker threads are born with all of them blocked that are sent to the process.
//!
//! Not those that a thread gets for what it does itself, such as overflowing its stack: blocked, they would end the process
//! without a word, where a handler says what happened and where. Nor the profiler's, which then would never see a worker.

/// Blocks the signals in the calling thread, whose new threads inherit that, until the guard is dropped.
pub(crate) fn block_those_of_the_process() -> Blocked {
    Blocked::new()
}

/// What stays as it is.
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
        // SAFETY: `sigset_t` is plain data that `sigfillset` and `pthread_sigmask` write completely; all these calls only
        // fail for arguments that these are not.
        unsafe {
            let mut blocked = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&raw mut blocked);
            for signal in OF_A_THREAD {
                libc::sigdelset(&raw mut blocked, signal);
            }
            // Besides what the caller blocks already.
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
