//! The format of a trace file, guessed from its name and first line unless it is given.

use std::path::Path;

use anyhow::{Result, bail};

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `timestamp key size ttl op`, separated by blanks, `-` where unknown.
    Plain,
    /// The ARC authors' `.lis`: `first_block blocks ignored request`, where each line requests a run of
    /// blocks.
    Lis,
    /// One key per line.
    Keys,
    /// Comma-separated, with the columns named in the first line.
    Csv,
}

impl Format {
    /// Guesses from the file's extensions (apart from compression), then from the first line of `start`.
    pub(super) fn guess(path: &Path, start: &[u8]) -> Result<Self> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        for ending in file.rsplit('.').take_while(|ending| *ending != file) {
            match ending {
                "zst" | "gz" | "xz" => continue,
                "lis" => return Ok(Self::Lis),
                "csv" => return Ok(Self::Csv),
                _ => break,
            }
        }
        let start = String::from_utf8_lossy(start);
        let line = start.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        match line.map(|line| (line.split_ascii_whitespace().count(), line.contains(','))) {
            None => bail!("it is empty"),
            Some((5, false)) => Ok(Self::Plain),
            Some((1, false)) => Ok(Self::Keys),
            Some((_, true)) => Ok(Self::Csv),
            Some((fields, _)) => bail!(
                "its first line has {fields} fields, so its format can't be guessed; say it with --format plain|lis|keys|csv"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_before_the_first_line() {
        for (name, first_line, format) in [
            ("P1.lis", "1 2 3 4", Format::Lis),
            ("P1.LIS.gz", "1 2 0 0", Format::Lis),
            ("day.csv.xz", "key", Format::Csv),
            ("arc.txt.zst", "- 1 - - get", Format::Plain),
            ("keys", "\n# comment\nabc\n", Format::Keys),
            ("table.txt", "time,key", Format::Csv),
        ] {
            assert_eq!(Format::guess(Path::new(name), first_line.as_bytes()).unwrap(), format, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_guessed_is_said() {
        let error = Format::guess(Path::new("x"), b"1 2 3").unwrap_err().to_string();
        assert!(error.contains("--format"), "{error}");
    }
}
