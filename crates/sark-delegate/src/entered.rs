//! Delegates that the caller runs itself: the fast path, from taking an idle one (or a number of them) to looking for messages
//! afterwards.
//!
//! Made by `group`; `delegate` has the steps. Nothing here waits, and while one is held nothing else of this thread may.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::Resident;
use crate::delegate::{Aftermath, Delegate, Owned};
use crate::group::Group;
use crate::inside;

/// The right to run an idle delegate right here; see [`Delegates::enter`](crate::Delegates::enter).
///
/// Giving it back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct Entered<'g, S: Resident> {
    group: &'g Group<S>,
    /// Given back by our own `Drop`.
    owned: ManuallyDrop<Owned<'g, S>>,
    /// That a delegate is held is noted in this thread.
    _stays_on_this_thread: PhantomData<*const ()>,
}

impl<'g, S: Resident> Entered<'g, S> {
    #[inline(always)]
    pub(crate) fn new(group: &'g Group<S>, owned: Owned<'g, S>) -> Self {
        Self { group, owned: ManuallyDrop::new(owned), _stays_on_this_thread: PhantomData }
    }

    /// Runs a request, or a part of one, on the state.
    ///
    /// What [`Delegates::run`](crate::Delegates::run) says of requests goes for this one, but that it need not be `Send`.
    #[inline(always)]
    pub fn run<R>(&mut self, request: impl FnOnce(&mut S) -> R) -> R {
        self.owned.run(request)
    }
}

impl<S: Resident> Drop for Entered<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        let released = self.owned.give_back(self.group.barrier);
        if released.anything() {
            self.group.after_release(self.owned.delegate(), released);
        }
    }
}

impl<S: Resident> std::fmt::Debug for Entered<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// For how many requests one thread may hold delegates at once: what a batch of some size needs, and few enough that it doesn't hold them long.
pub(crate) const MOST_HELD: usize = 64;

/// The right to run several idle delegates right here; see [`Delegates::enter_several`](crate::Delegates::enter_several).
///
/// Giving them back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct EnteredSeveral<'g, S: Resident> {
    group: &'g Group<S>,
    /// What each request asked for, if it is to be had: held, and free of messages when it was taken.
    had: [Option<&'g Delegate<S>>; MOST_HELD],
    marks: AllMarks,
    /// That delegates are held is noted in this thread.
    _stays_on_this_thread: PhantomData<*const ()>,
}

/// What is known of 64 delegates, a bit for each.
#[derive(Clone, Copy, Default)]
struct Marks {
    /// Was tried for, with whatever outcome.
    tried: u64,
    /// Is held, and was free of messages when it was taken: may be run.
    ours: u64,
    /// Was taken, and is to be looked at after the release.
    taken: u64,
}

/// Marks of all delegates of a group: those of the first few hundred without allocating.
struct AllMarks {
    first: [Marks; Self::INLINE],
    /// How many of `first` are in use.
    inline: usize,
    more: Vec<Marks>,
}

impl AllMarks {
    const INLINE: usize = 4;

    fn of(delegates: usize) -> Self {
        let words = delegates.div_ceil(64);
        let inline = words.min(Self::INLINE);
        Self { first: [Marks::default(); Self::INLINE], inline, more: vec![Marks::default(); words - inline] }
    }

    #[inline]
    fn of_word(&mut self, word: usize) -> Option<&mut Marks> {
        if word < Self::INLINE { Some(&mut self.first[word]) } else { self.more.get_mut(word - Self::INLINE) }
    }

    /// Calls `visit` with the index of each delegate that is taken.
    #[inline]
    fn for_each_taken(&self, mut visit: impl FnMut(usize)) {
        for (word, marks) in self.first[..self.inline].iter().chain(&self.more).enumerate() {
            let mut bits = marks.taken;
            while bits != 0 {
                visit(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

impl<'g, S: Resident> EnteredSeveral<'g, S> {
    /// Takes nothing if not `may_run`.
    pub(crate) fn new(group: &'g Group<S>, indexes: impl Iterator<Item = usize>, may_run: bool) -> Self {
        let marks = AllMarks::of(group.delegates.len());
        let mut several = Self { group, had: [None; MOST_HELD], marks, _stays_on_this_thread: PhantomData };
        if may_run {
            for (had, index) in several.had.iter_mut().zip(indexes) {
                let delegate = &group.delegates[index];
                let bit = 1 << (index % 64);
                let Some(marks) = several.marks.of_word(index / 64) else { continue };
                if marks.tried & bit == 0 {
                    marks.tried |= bit;
                    if let Some(owned) = delegate.try_take() {
                        marks.taken |= bit;
                        if owned.nothing_before_us() {
                            marks.ours |= bit;
                            owned.count_in_place();
                        }
                        // It is ours by its mark from here on.
                        owned.keep_held();
                    }
                }
                if marks.ours & bit != 0 {
                    *had = Some(delegate);
                }
            }
        }
        several
    }

    /// Whether what the request with this number asked for may be run.
    #[must_use]
    #[inline]
    pub fn has(&self, number: usize) -> bool {
        self.had.get(number).is_some_and(Option::is_some)
    }

    /// Runs a request, or a part of one, on the state that the one with this number asked for, if that was to be had.
    #[inline]
    pub fn run<R>(&mut self, number: usize, request: impl FnOnce(&mut S) -> R) -> Option<R> {
        let delegate = (*self.had.get(number)?)?;
        // SAFETY: `new` took and kept it, and `Drop` gives it back; until then there is no other `Owned` of it but these, one at a
        // time since `self` is borrowed for it.
        let mut owned = unsafe { delegate.held() };
        Some(owned.run(request))
    }

    /// Runs something for each of as many items as there were requests: on the state that the request with the item's number asked for, or
    /// on none if that was not to be had. The same as [`run`](Self::run) for one after the other, with less to look up.
    ///
    /// ```
    /// # use sark_delegate::{Config, Delegates, Resident};
    /// # struct Counter(u64);
    /// # impl Resident for Counter {
    /// #     type Post = u64;
    /// #     type Leftovers = ();
    /// #     fn accept(&mut self, more: u64, _: &mut ()) {
    /// #         self.0 += more;
    /// #     }
    /// # }
    /// let counters = Delegates::new(Config::default(), [Counter(0), Counter(0)])?;
    /// let mut several = counters.enter_several([1, 0, 1]);
    /// let mut seen = Vec::new();
    /// several.run_for_each([5, 6, 7], |counter, more| {
    ///     let Some(counter) = counter else { return };
    ///     counter.0 += more;
    ///     seen.push(counter.0);
    /// });
    /// assert_eq!(seen, [5, 6, 12]);
    /// # Ok::<(), sark_delegate::ConfigError>(())
    /// ```
    #[inline]
    pub fn run_for_each<T>(&mut self, items: impl IntoIterator<Item = T>, mut request: impl FnMut(Option<&mut S>, T)) {
        let mut items = items.into_iter();
        for had in &self.had {
            let Some(item) = items.next() else { return };
            match *had {
                // SAFETY: as in `run`.
                Some(delegate) => unsafe { delegate.held() }.run(|state| request(Some(state), item)),
                None => request(None, item),
            }
        }
        items.for_each(|item| request(None, item));
    }
}

impl<S: Resident> Drop for EnteredSeveral<'_, S> {
    fn drop(&mut self) {
        let Self { group, marks, .. } = self;
        let mut holds_any = false;
        marks.for_each_taken(|index| {
            group.delegates[index].let_go();
            holds_any = true;
        });
        if !holds_any {
            return;
        }
        // One barrier and one word to this thread for all of them; only then anything is served.
        group.barrier.light();
        let deferred = inside::leave();
        let mut aftermath = None;
        marks.for_each_taken(|index| {
            if group.delegates[index].is_announced() {
                group.serve_what_is_left(index, true, aftermath.get_or_insert_with(Aftermath::new));
            }
        });
        match aftermath {
            Some(aftermath) => group.finish(aftermath),
            None if deferred => inside::run_deferred(),
            None => {}
        }
    }
}

impl<S: Resident> std::fmt::Debug for EnteredSeveral<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut held = 0;
        self.marks.for_each_taken(|_| held += 1);
        f.debug_struct("EnteredSeveral").field("held", &held).finish_non_exhaustive()
    }
}
