//! The native part of `sark_cache.policy`: a look-up of a decision in one call.
//!
//! `encoding` turns what a request holds into bytes that no other request has, `keys` turns those into the key,
//! `decoding` turns stored JSON into a dict, `latency` counts how long that took, and `front` is the class that Python
//! calls. The Python package has the definition of the keys and the same behaviour in plain Python; nothing here may
//! differ from it.
//!
//! Everything in this folder runs attached to the interpreter, and none of it while a shard is held.

mod decoding;
mod encoding;
mod front;
mod keys;
mod latency;

pub(crate) use front::PolicyFront;
