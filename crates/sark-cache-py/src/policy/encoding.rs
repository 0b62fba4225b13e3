//! The canonical encoding of a request: type-tagged, length-prefixed, and the same for equal JSON.
//!
//! `sark_cache/policy/keys.py` defines it. This implementation runs no Python code: it tells values apart by
//! their type, and reads subclasses of str, int and float as the value they hold.

use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use smallvec::SmallVec;

/// Containers nested deeper than this are refused. `MAX_DEPTH` of `keys.py`.
const MAX_DEPTH: usize = 64;

/// The buffer that an encoding is written into. Most requests fit without an allocation.
pub(crate) type Buffer = SmallVec<[u8; 512]>;

/// The request can't have a key: something in it is neither JSON nor bytes, is not valid Unicode, or is too
/// large. The Python code works out which, when asked to explain.
#[derive(Debug)]
pub(crate) struct Uncacheable;

/// Appends the encoding of `value`. Linear in its size, plus sorting the keys of dicts.
pub(crate) fn encode(value: &Bound<'_, PyAny>, out: &mut Buffer) -> Result<(), Uncacheable> {
    encode_within(value, out, MAX_DEPTH)
}

/// Appends the encoding of a context without the fields named in `volatile`. Returns false if no field is left.
pub(crate) fn encode_context(
    context: &Bound<'_, PyAny>,
    volatile: &[String],
    out: &mut Buffer,
) -> Result<bool, Uncacheable> {
    if context.is_none() {
        return Ok(false);
    }
    match context.cast_exact::<PyDict>() {
        Ok(dict) => encode_dict(dict, volatile, out, MAX_DEPTH).map(|fields| fields > 0),
        Err(_) => encode(context, out).map(|()| true),
    }
}

fn encode_within(value: &Bound<'_, PyAny>, out: &mut Buffer, depth: usize) -> Result<(), Uncacheable> {
    if let Ok(text) = value.cast::<PyString>() {
        out.push(b's');
        return push_text(utf8(text)?, out);
    }
    if value.is_none() {
        out.push(b'n');
    } else if let Ok(truth) = value.cast::<PyBool>() {
        out.push(if truth.is_true() { b't' } else { b'f' });
    } else if let Ok(number) = value.cast::<PyInt>() {
        push_int(number, out)?;
    } else if let Ok(number) = value.cast::<PyFloat>() {
        push_float(number.value(), out);
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        encode_dict(dict, &[], out, depth)?;
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        let depth = depth.checked_sub(1).ok_or(Uncacheable)?;
        out.push(b'l');
        // Counted while iterating, since another thread may change the list where there is no GIL.
        let (count_at, mut count) = (reserve_length(out), 0);
        for item in list.iter() {
            encode_within(&item, out, depth)?;
            count += 1;
        }
        write_length(count, count_at, out)?;
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let depth = depth.checked_sub(1).ok_or(Uncacheable)?;
        out.push(b'l');
        push_length(tuple.len(), out)?;
        for item in tuple.iter_borrowed() {
            encode_within(&item, out, depth)?;
        }
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        out.push(b'b');
        push_length(bytes.as_bytes().len(), out)?;
        out.extend_from_slice(bytes.as_bytes());
    } else {
        return Err(Uncacheable);
    }
    Ok(())
}

/// Returns how many fields were written. Fields named in `left_out` are skipped.
fn encode_dict(
    dict: &Bound<'_, PyDict>,
    left_out: &[String],
    out: &mut Buffer,
    depth: usize,
) -> Result<usize, Uncacheable> {
    let depth = depth.checked_sub(1).ok_or(Uncacheable)?;
    // Copied out first: the names have to be sorted, and the dict may change where there is no GIL.
    let fields: SmallVec<[_; 8]> = with_critical_section(dict, || dict.iter().collect());
    let mut named: SmallVec<[(&str, &Bound<'_, PyAny>); 8]> = SmallVec::with_capacity(fields.len());
    for (name, value) in &fields {
        let name = utf8_of_key(name, left_out)?;
        if let Some(name) = name {
            named.push((name, value));
        }
    }
    named.sort_unstable_by_key(|&(name, _)| name);
    out.push(b'm');
    push_length(named.len(), out)?;
    for &(name, value) in &named {
        push_text(name, out)?;
        encode_within(value, out, depth)?;
    }
    Ok(named.len())
}

/// The name of a field, or `None` if the field is to be left out. Only exact strings are names.
fn utf8_of_key<'a>(name: &'a Bound<'_, PyAny>, left_out: &[String]) -> Result<Option<&'a str>, Uncacheable> {
    let name = utf8(name.cast_exact::<PyString>().map_err(|_| Uncacheable)?)?;
    Ok((!left_out.iter().any(|out| out == name)).then_some(name))
}

/// The text of a str. A str with lone surrogates is refused.
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Uncacheable> {
    text.to_str().map_err(|_| Uncacheable)
}

/// Two's complement, big-endian, in `(bit_length + 8) / 8` bytes.
fn push_int(number: &Bound<'_, PyInt>, out: &mut Buffer) -> Result<(), Uncacheable> {
    out.push(b'i');
    if let Ok(small) = number.extract::<i64>() {
        let bits = u64::BITS - small.unsigned_abs().leading_zeros();
        let size = (bits as usize + 8) / 8;
        // Sixteen bytes, because the magnitude of the smallest i64 takes 64 bits and the sign one more.
        let bytes = i128::from(small).to_be_bytes();
        push_length(size, out)?;
        out.extend_from_slice(&bytes[bytes.len() - size..]);
        return Ok(());
    }
    let bytes = big_int(number).map_err(|_| Uncacheable)?;
    push_length(bytes.as_bytes().len(), out)?;
    out.extend_from_slice(bytes.as_bytes());
    Ok(())
}

/// Encodes an int of any size as above. Uses the methods of `int` itself, so that a subclass can't interfere.
fn big_int<'py>(number: &Bound<'py, PyInt>) -> PyResult<Bound<'py, PyBytes>> {
    let py = number.py();
    let int = py.get_type::<PyInt>();
    let bits: usize = int.call_method1("bit_length", (number,))?.extract()?;
    let signed = PyDict::new(py);
    signed.set_item("signed", true)?;
    let bytes = int.call_method("to_bytes", (number, (bits + 8) / 8, "big"), Some(&signed))?;
    Ok(bytes.cast_into::<PyBytes>()?)
}

/// All NaNs are encoded alike.
fn push_float(number: f64, out: &mut Buffer) {
    const NAN: u64 = 0x7ff8_0000_0000_0000;
    out.push(b'd');
    out.extend_from_slice(&(if number.is_nan() { NAN } else { number.to_bits() }).to_be_bytes());
}

fn push_text(text: &str, out: &mut Buffer) -> Result<(), Uncacheable> {
    push_length(text.len(), out)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn push_length(length: usize, out: &mut Buffer) -> Result<(), Uncacheable> {
    out.extend_from_slice(&u32::try_from(length).map_err(|_| Uncacheable)?.to_be_bytes());
    Ok(())
}

/// Reserves room for a length that is known later.
fn reserve_length(out: &mut Buffer) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

fn write_length(length: usize, at: usize, out: &mut Buffer) -> Result<(), Uncacheable> {
    out[at..at + 4].copy_from_slice(&u32::try_from(length).map_err(|_| Uncacheable)?.to_be_bytes());
    Ok(())
}
