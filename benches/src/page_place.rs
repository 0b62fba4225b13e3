//! Where the page goes: written beside its place and moved there when it is whole, so that an older page stays until then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A place that can be written to.
#[derive(Debug)]
pub struct PagePlace {
    /// Where the page is to be.
    page: PathBuf,
    /// Where it is until it is whole; `None` for what is no file and can't be replaced by one.
    beside: Option<PathBuf>,
}

impl PagePlace {
    /// Finds out that a page can be written there, before anything is measured for it.
    ///
    /// # Errors
    /// When it can't.
    pub fn prepare(output: &Path) -> Result<Self> {
        let wrong = || format!("cannot write the page {}", output.display());
        ensure!(!output.is_dir(), "{}: it is a folder", wrong());
        // What a link points to is replaced, and not the link.
        let page = fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
        let special = page.exists() && !page.is_file();
        let mut beside = page.clone().into_os_string();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = (!special).then_some(PathBuf::from(beside));
        if let Some(beside) = &beside {
            File::create(beside).with_context(wrong)?;
        }
        Ok(Self { page, beside })
    }

    /// Puts the page there.
    ///
    /// # Errors
    /// When there is no room for it any more, or no place.
    pub fn write(mut self, page: &str) -> Result<()> {
        let wrong = format!("cannot write the page {}", self.page.display());
        match self.beside.take() {
            Some(beside) => {
                let moved = fs::write(&beside, page).and_then(|()| fs::rename(&beside, &self.page));
                // Left to the drop again, should it still be there.
                self.beside = moved.is_err().then_some(beside);
                moved.context(wrong)
            }
            None => fs::write(&self.page, page).context(wrong),
        }
    }
}

impl Drop for PagePlace {
    /// Without a page there is nothing to leave behind.
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _gone = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_page_stays_until_the_new_one_is_whole() {
        let folder = std::env::temp_dir().join(format!("sark-bench-page-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let page = folder.join("page.html");
        fs::write(&page, "old").unwrap();
        let place = PagePlace::prepare(&page).unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), "old");
        place.write("new").unwrap();
        drop(PagePlace::prepare(&page).unwrap());
        assert_eq!(fs::read_to_string(&page).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        assert!(PagePlace::prepare(&folder).unwrap_err().to_string().contains("it is a folder"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
