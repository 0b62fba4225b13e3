//! Delegates that the caller runs itself: the fast path, from taking an idle one (or several of them) to
//! looking for messages afterwards.
//!
//! Made by `group`; `delegate` has the steps. Nothing here waits, and while a delegate is held, nothing else
//! in this thread may wait.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::Resident;
use crate::aftermath::Aftermath;
use crate::delegate::{Delegate, Owned};
use crate::group::Group;
use crate::inside;

/// The right to run an idle delegate right here; see [`Delegates::enter`](crate::Delegates::enter).
///
/// Giving it back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct Entered<'g, S: Resident> {
    group: &'g Group<S>,
    /// Given back by our own `Drop`.
    owned: ManuallyDrop<Owned<'g, S>>,
    /// This thread has noted that a delegate is held.
    _stays_on_this_thread: PhantomData<*const ()>,
}

impl<'g, S: Resident> Entered<'g, S> {
    #[inline(always)]
    pub(crate) fn new(group: &'g Group<S>, owned: Owned<'g, S>) -> Self {
        Self { group, owned: ManuallyDrop::new(owned), _stays_on_this_thread: PhantomData }
    }

    /// Runs a request, or a part of one, on the state.
    ///
    /// What [`Delegates::run`](crate::Delegates::run) says of requests goes for this one, except that it need
    /// not be `Send`.
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

/// For how many requests one thread may hold delegates at once: what a batch of some size needs, and few
/// enough that it doesn't hold them long.
pub(crate) const MOST_HELD: usize = 64;

/// The right to run several idle delegates right here; see
/// [`Delegates::enter_several`](crate::Delegates::enter_several).
///
/// Giving them back, on a panic too, looks for messages that came meanwhile and sees to their being served.
pub struct EnteredSeveral<'g, S: Resident> {
    group: &'g Group<S>,
    /// What each request asked for, if it is available: held, and free of messages when it was taken.
    had: [Cell<Option<&'g Delegate<S>>>; MOST_HELD],
    /// For which requests delegates were taken, a bit for each number. Other requests that have a delegate
    /// share one of these.
    takers: Cell<u64>,
    /// Delegates that were taken but are not available: messages were before us.
    aside: RefCell<Vec<&'g Delegate<S>>>,
    /// This thread has noted that delegates are held.
    _stays_on_this_thread: PhantomData<*const ()>,
}

const _: () = assert!(MOST_HELD <= u64::BITS as usize, "each has a bit among the takers");

#[inline]
fn is_same<S: Resident>(had: Option<&Delegate<S>>, delegate: &Delegate<S>) -> bool {
    std::ptr::eq(had.map_or(std::ptr::null(), std::ptr::from_ref), delegate)
}

/// Which request asked first for each of the delegates, by the lowest bits of their indexes. So each delegate
/// is tried for once, if there are no more of them than places. If there are more, two may share a place:
/// whether the second was tried for is then searched for, or it is tried for again.
struct FirstAsked([u8; Self::PLACES]);

impl FirstAsked {
    /// More delegates than most groups have, and few enough to be cleared for each batch.
    const PLACES: usize = 256;
    const NOBODY: u8 = u8::MAX;
    /// A request that didn't get it.
    const IN_VAIN: u8 = u8::MAX - 1;

    #[inline]
    fn of(&mut self, index: usize) -> &mut u8 {
        &mut self.0[index % Self::PLACES]
    }
}

const _: () = assert!(MOST_HELD <= FirstAsked::IN_VAIN as usize);

impl<'g, S: Resident> EnteredSeveral<'g, S> {
    /// Takes delegates for the requests; takes nothing if not `may_run`.
    pub(crate) fn new(group: &'g Group<S>, indexes: impl Iterator<Item = usize>, may_run: bool) -> Self {
        let several = Self {
            group,
            had: [const { Cell::new(None) }; MOST_HELD],
            takers: Cell::new(0),
            aside: RefCell::new(Vec::new()),
            _stays_on_this_thread: PhantomData,
        };
        if may_run {
            let mut asked = FirstAsked([FirstAsked::NOBODY; FirstAsked::PLACES]);
            for (number, (had, index)) in several.had.iter().zip(indexes).enumerate() {
                let delegate = &group.delegates[index];
                let first = asked.of(index);
                match several.had.get(usize::from(*first)) {
                    Some(earlier) if is_same(earlier.get(), delegate) => had.set(Some(delegate)),
                    Some(_another) => several.share_or_take(number, delegate),
                    None if *first == FirstAsked::NOBODY => {
                        *first = if several.take(number, delegate) { number as u8 } else { FirstAsked::IN_VAIN };
                    }
                    None if group.delegates.len() > FirstAsked::PLACES => several.share_or_take(number, delegate),
                    None => {}
                }
            }
        }
        several
    }

    /// Takes a delegate for a request, if it is available. Returns whether it was.
    #[inline]
    fn take(&self, number: usize, delegate: &'g Delegate<S>) -> bool {
        let Some(owned) = delegate.try_take() else { return false };
        let is_to_be_had = owned.nothing_before_us();
        if is_to_be_had {
            owned.count_in_place();
            self.had[number].set(Some(delegate));
            self.takers.set(self.takers.get() | 1 << number);
        } else {
            self.aside.borrow_mut().push(delegate);
        }
        // It is given back by what is noted of it.
        owned.keep_held();
        is_to_be_had
    }

    /// Finds or takes a delegate for a request whose place among those asked for is another's.
    #[cold]
    #[inline(never)]
    fn share_or_take(&self, number: usize, delegate: &'g Delegate<S>) {
        if self.had[..number].iter().any(|had| is_same(had.get(), delegate)) {
            self.had[number].set(Some(delegate));
        } else {
            self.take(number, delegate);
        }
    }

    /// Calls `visit` with each delegate that is held.
    #[inline]
    fn for_each_held(&self, mut visit: impl FnMut(&'g Delegate<S>)) {
        let mut takers = self.takers.get();
        while takers != 0 {
            if let Some(delegate) = self.had[takers.trailing_zeros() as usize % MOST_HELD].get() {
                visit(delegate);
            }
            takers &= takers - 1;
        }
        self.aside.borrow().iter().for_each(|delegate| visit(delegate));
    }

    /// Whether what the request with this number asked for may be run.
    #[must_use]
    #[inline]
    pub fn has(&self, number: usize) -> bool {
        self.had.get(number).is_some_and(|had| had.get().is_some())
    }

    /// Runs a request, or a part of one, on the state that the request with this number asked for, if that
    /// was available.
    #[inline]
    pub fn run<R>(&mut self, number: usize, request: impl FnOnce(&mut S) -> R) -> Option<R> {
        let delegate = self.had.get(number)?.get()?;
        // SAFETY: it was taken and kept, and `Drop` gives it back; until then these are its only `Owned`, one
        // at a time since `self` is borrowed for it.
        let mut owned = unsafe { delegate.held() };
        Some(owned.run(request))
    }

    /// Runs something for each of as many items as there were requests: on the state that the request with
    /// the item's number asked for, or on none if that was not available. It does the same as
    /// [`run`](Self::run) for one after the other, with less to look up.
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
            match had.get() {
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
        if self.takers.get() == 0 && self.aside.get_mut().is_empty() {
            return;
        }
        self.for_each_held(Delegate::let_go);
        // One barrier and one note to this thread for all of them; only then is anything served.
        let group = self.group;
        group.barrier.light();
        let deferred = inside::leave();
        let mut aftermath = None;
        self.for_each_held(|delegate| {
            if delegate.is_announced() {
                let aftermath = aftermath.get_or_insert_with(Aftermath::new);
                group.serve_what_is_left(group.index_of(delegate), true, aftermath);
            }
        });
        match aftermath {
            Some(aftermath) => group.finish(aftermath),
            None if deferred => group.run_deferred(),
            None => {}
        }
    }
}

impl<S: Resident> std::fmt::Debug for EnteredSeveral<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut held = 0;
        self.for_each_held(|_| held += 1);
        f.debug_struct("EnteredSeveral").field("held", &held).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::task::Message;
    use crate::{Config, Delegates};

    struct Said(Vec<u32>);

    impl Resident for Said {
        type Post = u32;
        type Leftovers = ();

        fn accept(&mut self, post: u32, _: &mut ()) {
            self.0.push(post);
        }
    }

    fn delegates(count: usize) -> Delegates<Said> {
        let config = Config { workers: Some(0), ..Config::default() };
        Delegates::new(config, (0..count).map(|_| Said(Vec::new()))).expect("the configuration is valid")
    }

    /// Leaves a message like a sender that has not come to look after it yet.
    fn leave(delegates: &Delegates<Said>, index: usize) {
        assert!(delegates.group.delegates[index].try_send(Message::Post(7)).is_ok());
    }

    #[test]
    fn what_is_before_us_is_not_overtaken_and_served_when_several_are_given_back() {
        for asked in [&[0][..], &[1, 0, 2, 0], &[256, 0, 512, 0]] {
            let delegates = delegates(600);
            leave(&delegates, 0);
            let several = delegates.enter_several(asked.iter().copied());
            for (number, &index) in asked.iter().enumerate() {
                assert_eq!(several.has(number), index != 0, "{number} of {asked:?}");
            }
            drop(several);
            assert!(!inside::is_inside());
            assert_eq!(delegates.enter(0).expect("it was given back").run(|said| said.0.clone()), [7]);
            assert!(asked.iter().all(|&index| delegates.enter(index).is_some()));
        }
    }

    #[test]
    fn a_panic_while_several_are_taken_gives_back_those_with_messages_before_us_too() {
        let delegates = delegates(2);
        leave(&delegates, 0);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(delegates.enter_several([0, 1, 2]))));
        assert!(outcome.is_err() && !inside::is_inside());
        assert!(delegates.enter(0).is_some_and(|mut entered| entered.run(|said| said.0 == [7])));
        assert!(delegates.enter(1).is_some());
    }

    #[test]
    fn as_many_items_as_there_are_are_run_on_what_was_to_be_had() {
        let delegates = delegates(100);
        let held = delegates.group.delegates[3].try_take().expect("it is free");
        // As if another thread held it.
        inside::leave();
        let mut several = delegates.enter_several(0..100);
        let mut seen = Vec::new();
        several.run_for_each(0..100, |said, item| {
            seen.push((item, said.is_some()));
            said.into_iter().for_each(|said| said.0.push(item));
        });
        drop(several);
        drop(held);
        assert!(seen.into_iter().eq((0..100).map(|item| (item, item != 3 && item < 64))));
        for index in 0..100 {
            let expected: &[u32] = if index != 3 && index < 64 { &[index] } else { &[] };
            assert_eq!(
                delegates.enter(index as usize).expect("it was given back").run(|said| said.0.clone()),
                expected
            );
        }
    }
}
