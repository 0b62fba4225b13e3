//! Turns a request into its key: the digest over everything that decides, among readable parts.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use sha2::{Digest, Sha256};

use super::encoding::{Buffer, Uncacheable, encode, encode_context, utf8};

/// The first byte of what every digest covers: `_VERSION` of `keys.py`.
const VERSION: u8 = 1;
/// How many bytes of a context's digest appear in the key.
const SHOWN: usize = 8;

/// What the keys of one cache have in common.
pub(crate) struct KeyBuilder {
    prefix: String,
    /// The encoding of the policy revision.
    revision: Buffer,
    /// The fields that are left out of contexts.
    volatile: Vec<String>,
}

/// The generations under which a key is built: `State` of `generations.py`.
pub(crate) type State<'py> = (Bound<'py, PyBytes>, Bound<'py, PyDict>);

/// What a decision is requested for, as the caller passed it.
pub(crate) struct Request<'a, 'py> {
    pub(crate) user: &'a Bound<'py, PyAny>,
    pub(crate) action: &'a Bound<'py, PyAny>,
    pub(crate) resource: &'a Bound<'py, PyAny>,
    pub(crate) context: &'a Bound<'py, PyAny>,
}

impl KeyBuilder {
    pub(crate) fn new(prefix: String, revision: &Bound<'_, PyAny>, volatile: Vec<String>) -> Result<Self, Uncacheable> {
        let mut encoded = Buffer::new();
        encode(revision, &mut encoded)?;
        Ok(Self { prefix, revision: encoded, volatile })
    }

    /// The key of `request` under the generations of `state`.
    pub(crate) fn key(&self, state: &State<'_>, request: &Request<'_, '_>) -> Result<String, Uncacheable> {
        let mut context = Buffer::new();
        let context: Option<[u8; 32]> =
            encode_context(request.context, &self.volatile, &mut context)?.then(|| Sha256::digest(&context).into());

        // Digested in one piece, since a digest over pieces costs more than copying them together.
        let mut all = Buffer::new();
        all.push(VERSION);
        encode(request.user, &mut all)?;
        let user_ends = all.len();
        encode(request.action, &mut all)?;
        encode(request.resource, &mut all)?;
        all.extend_from_slice(&self.revision);
        match &context {
            Some(context) => {
                all.push(b'c');
                all.extend_from_slice(context);
            }
            None => all.push(b'n'),
        }
        let (everything, users) = state;
        let generation = generation_of(&all[1..user_ends], users)?;
        push_generation(everything.as_bytes(), &mut all)?;
        push_generation(generation.as_ref().map_or(&[][..], |bytes| bytes.as_bytes()), &mut all)?;
        self.readable(request, &Sha256::digest(&all).into(), context.as_ref())
    }

    fn readable(
        &self,
        request: &Request<'_, '_>,
        digest: &[u8; 32],
        context: Option<&[u8; 32]>,
    ) -> Result<String, Uncacheable> {
        let (user, action, resource) = (shown(request.user)?, shown(request.action)?, shown(request.resource)?);
        // Five colons, the digest, and the shown part of the context's digest.
        let length = self.prefix.len() + user.len() + action.len() + resource.len() + 5 + 64 + 2 * SHOWN;
        let mut key = Vec::with_capacity(length);
        for part in [self.prefix.as_str(), user, action] {
            key.extend_from_slice(part.as_bytes());
            key.push(b':');
        }
        key.extend(resource.bytes().map(|byte| if matches!(byte, b':' | b'/') { b'_' } else { byte }));
        key.push(b':');
        key.extend_from_slice(hex(digest).as_flattened());
        key.push(b':');
        match context {
            Some(context) => key.extend_from_slice(hex(context)[..SHOWN].as_flattened()),
            None => key.extend_from_slice(b"none"),
        }
        // This is valid text: whole strings, with ASCII replaced by ASCII.
        String::from_utf8(key).map_err(|_| Uncacheable)
    }
}

fn push_generation(generation: &[u8], out: &mut Buffer) -> Result<(), Uncacheable> {
    out.extend_from_slice(&u32::try_from(generation.len()).map_err(|_| Uncacheable)?.to_be_bytes());
    out.extend_from_slice(generation);
    Ok(())
}

/// The generation of a user, found by the encoding of the id. `None` for a user that was never invalidated.
fn generation_of<'py>(user: &[u8], users: &Bound<'py, PyDict>) -> Result<Option<Bound<'py, PyBytes>>, Uncacheable> {
    if users.is_empty() {
        return Ok(None);
    }
    let found = users.get_item(PyBytes::new(users.py(), user)).map_err(|_| Uncacheable)?;
    found.map(|generation| generation.cast_into::<PyBytes>().map_err(|_| Uncacheable)).transpose()
}

/// The readable form of a part: `_` if it isn't text, which the digest covers anyway.
fn shown<'a>(part: &'a Bound<'_, PyAny>) -> Result<&'a str, Uncacheable> {
    part.cast::<PyString>().map_or(Ok("_"), utf8)
}

/// Two hexadecimal digits for each byte.
fn hex(bytes: &[u8; 32]) -> [[u8; 2]; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}
