//! Placeholder of the room; see docs.
