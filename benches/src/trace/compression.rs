//! Compressed traces, recognized by their first bytes and not by their names.

use std::io::{BufRead, BufReader, Read};

use anyhow::Result;

const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// Returns the plain bytes of a file that may be compressed.
pub(super) fn decompress(file: impl Read + 'static) -> Result<Box<dyn Read>> {
    let mut file = BufReader::new(file);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(ZSTD) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else if start.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(XZ) {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file))
    } else {
        Box::new(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    const TEXT: &[u8] = b"- 1 - - get\n- 2 - - get\n";

    fn plain(bytes: Vec<u8>) -> Vec<u8> {
        let mut text = Vec::new();
        decompress(Cursor::new(bytes)).unwrap().read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn every_compression_gives_the_same_text() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(TEXT).unwrap();
        assert_eq!(plain(TEXT.to_vec()), TEXT);
        assert_eq!(plain(zstd::encode_all(TEXT, 1).unwrap()), TEXT);
        assert_eq!(plain(gzip.finish().unwrap()), TEXT);
        assert_eq!(plain(xz.finish().unwrap()), TEXT);
    }
}
