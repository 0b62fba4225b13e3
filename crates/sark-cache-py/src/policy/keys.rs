//! From a request to its key: the digest over everything that decides, between parts that people can read.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use sha2::{Digest, Sha256};

use super::encoding::{Buffer, Uncacheable, encode, encode_context, utf8};

/// Goes first into every digest: `_VERSION` of `keys.py`.
const VERSION: u8 = 1;
/// How many bytes of a context's digest are shown.
const SHOWN: usize = 8;

/// What the keys of one cache have in common.
pub(crate) struct KeyBuilder {
    prefix: String,
    /// The encoding of the policies' revision.
    revision: Buffer,
    /// Fields that are left out of contexts.
    volatile: Vec<String>,
}

/// The generations under which a key is built; `State` of `generations.py`.
pub(crate) type State<'py> = (Bound<'py, PyBytes>, Bound<'py, PyDict>);

/// What a decision is asked for, as the caller passed it.
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

        let mut named = Buffer::new();
        encode(request.user, &mut named)?;
        let user_ends = named.len();
        encode(request.action, &mut named)?;
        encode(request.resource, &mut named)?;

        let (everything, users) = state;
        let generation = generation_of(&named[..user_ends], users)?;
        let (everything, generation) =
            (everything.as_bytes(), generation.as_ref().map_or(&[][..], |bytes| bytes.as_bytes()));
        let mut digest = Sha256::new();
        let mut head = Buffer::new();
        head.push(VERSION);
        for part in [everything, generation] {
            head.extend_from_slice(&u32::try_from(part.len()).map_err(|_| Uncacheable)?.to_be_bytes());
        }
        head.extend_from_slice(everything);
        head.extend_from_slice(generation);
        digest.update(&head);
        digest.update(&named);
        digest.update(&self.revision);
        match &context {
            Some(context) => {
                digest.update(b"c");
                digest.update(context);
            }
            None => digest.update(b"n"),
        }
        self.readable(request, &digest.finalize().into(), context.as_ref())
    }

    fn readable(
        &self,
        request: &Request<'_, '_>,
        digest: &[u8; 32],
        context: Option<&[u8; 32]>,
    ) -> Result<String, Uncacheable> {
        let (user, action, resource) = (shown(request.user)?, shown(request.action)?, shown(request.resource)?);
        // Four colons, the digest, and what is shown of the context.
        let length = self.prefix.len() + user.len() + action.len() + resource.len() + 5 + 64 + 2 * SHOWN;
        let mut key = String::with_capacity(length);
        for part in [self.prefix.as_str(), user, action] {
            key.push_str(part);
            key.push(':');
        }
        let mut rest = resource;
        while let Some(at) = rest.find([':', '/']) {
            key.push_str(&rest[..at]);
            key.push('_');
            rest = &rest[at + 1..];
        }
        key.push_str(rest);
        key.push(':');
        push_hex(digest, &mut key);
        key.push(':');
        match context {
            Some(context) => push_hex(&context[..SHOWN], &mut key),
            None => key.push_str("none"),
        }
        Ok(key)
    }
}

/// The generation of a user, by the encoding of the id; `None` for one who was never invalidated.
fn generation_of<'py>(user: &[u8], users: &Bound<'py, PyDict>) -> Result<Option<Bound<'py, PyBytes>>, Uncacheable> {
    if users.is_empty() {
        return Ok(None);
    }
    let found = users.get_item(PyBytes::new(users.py(), user)).map_err(|_| Uncacheable)?;
    found.map(|generation| generation.cast_into::<PyBytes>().map_err(|_| Uncacheable)).transpose()
}

/// What isn't text is shown as `_`: the digest knows it.
fn shown<'a>(part: &'a Bound<'_, PyAny>) -> Result<&'a str, Uncacheable> {
    part.cast::<PyString>().map_or(Ok("_"), utf8)
}

fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
