//! Prefetching: asking the processor for memory before it is needed.
//!
//! The slab, the columns, the wheel and the hints call this module for addresses of their own. The shard
//! calls it for entries that are about to be dropped. Asking for memory reads none of it into the program, so
//! any address will do, though it may be useless. Where the target has no way to ask, nothing happens.

use core::mem::{MaybeUninit, needs_drop};

/// Starts loading `place`.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_address(core::ptr::from_ref(place).addr());
}

/// Starts loading what is at `address`, whatever that is, if anything.
#[inline(always)]
pub(crate) fn prefetch_address(address: usize) {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing into the program and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(address)) };
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse", not(miri))))]
    prefetch_word(MaybeUninit::new(address));
}

/// The number of a value's words that are taken for addresses, at most.
const MOST_WORDS: usize = 4;

/// Starts loading what dropping `value` will probably touch: the text of a `String`, the counts of an `Arc`,
/// the contents of a `Box`.
///
/// Only the type knows which of its words are addresses, so each word is taken for one. (Cooksey, Jourdan and
/// Grunwald, "A Stateless, Content-Directed Data Prefetching Mechanism", ASPLOS 2002, have processors do
/// that.) A length or a capacity taken for an address costs the processor a look into the first of its page
/// tables. For types that drop nothing this does nothing and costs nothing.
#[inline(always)]
pub(crate) fn prefetch_for_drop<T>(value: &T) {
    if !needs_drop::<T>() || align_of::<T>() < align_of::<usize>() {
        return;
    }
    let words = core::ptr::from_ref(value).cast::<MaybeUninit<usize>>();
    for word in 0..MOST_WORDS.min(size_of::<T>() / size_of::<usize>()) {
        // SAFETY: the word lies within the value, and is aligned, since the alignment of the value is at
        // least that of a word. It need not be initialised, since it may be padding.
        prefetch_word(unsafe { words.add(word).read() });
    }
}

/// Starts loading what is at an address that need not be initialised, which no intrinsic takes.
#[inline(always)]
fn prefetch_word(address: MaybeUninit<usize>) {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse", not(miri)))]
    {
        // SAFETY: a prefetch reads nothing into the program and faults at no address.
        unsafe {
            core::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, nomem, preserves_flags));
        }
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: a prefetch reads nothing into the program and faults at no address.
        unsafe {
            core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, nomem, preserves_flags));
        }
    }
    let _ = address;
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn any_address_will_do() {
        for address in [0, 1, usize::MAX, usize::MAX / 2 + 1, core::ptr::from_ref(&7).addr()] {
            prefetch_address(address);
        }
    }

    #[test]
    fn any_value_will_do_and_is_left_as_it_is() {
        #[derive(Clone, PartialEq, Debug)]
        #[repr(C)]
        struct Padded(u8, Vec<u64>, u8, Option<String>);

        #[derive(Clone, PartialEq, Debug)]
        #[repr(C, align(32))]
        struct Wide(String);

        fn unchanged<T: Clone + PartialEq + core::fmt::Debug>(value: T) {
            let before = value.clone();
            prefetch_for_drop(&value);
            assert_eq!(value, before);
        }
        unchanged(());
        unchanged(7_u64);
        unchanged(String::from("text"));
        unchanged(Vec::<u8>::new());
        unchanged(Arc::<str>::from("text"));
        unchanged(Some(Arc::new([7; 100])));
        unchanged([const { String::new() }; 9]);
        unchanged(Padded(1, [1, 2].into(), 3, None));
        unchanged(Wide("text".into()));
    }
}
