//! The native part of `sark_cache.policy`: looks a decision up in one call.
//!
//! `encoding` turns a request into bytes that no other request has, `keys` turns those into the key,
//! `decoding` turns stored JSON into a dict, `latency` measures how long that took, and `front` is the class
//! that Python calls. The Python package defines the keys and has the same behaviour in plain Python. Nothing
//! here may differ from it.
//!
//! Everything in this folder runs attached to the interpreter, and none of it while a shard is held.

mod decoding;
mod encoding;
mod front;
mod keys;
mod latency;

pub(crate) use front::PolicyFront;
