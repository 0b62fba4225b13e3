//! Signals are the application's business: worker threads are born with all of them blocked.

/// Blocks every signal in the calling thread, whose new threads inherit that, until the guard is dropped.
pub(crate) fn block_all() -> Blocked {
    Blocked::new()
}

/// Restores the thread's signal mask when dropped.
#[cfg(all(unix, not(miri)))]
pub(crate) struct Blocked(libc::sigset_t);

#[cfg(all(unix, not(miri)))]
impl Blocked {
    fn new() -> Self {
        // SAFETY: `sigset_t` is plain data that `sigfillset` and `pthread_sigmask` write completely; both calls only
        // fail for arguments that these are not.
        unsafe {
            let mut all = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
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
