//! Where the page goes. It is written next to its destination and moved there when complete, so that an older
//! page stays until then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A place that the page can be written to.
#[derive(Debug)]
pub struct PagePlace {
    /// The path of the page.
    page: PathBuf,
    /// The path of the page while it is incomplete; `None` if the destination is not a regular file, which
    /// can't be replaced by one.
    beside: Option<PathBuf>,
}

impl PagePlace {
    /// Checks that a page can be written there, before anything is measured for it.
    ///
    /// # Errors
    /// If it can't.
    pub fn prepare(output: &Path) -> Result<Self> {
        let wrong = || format!("cannot write the page {}", output.display());
        ensure!(!output.is_dir(), "{}: it is a folder", wrong());
        // If it is a link, its target is replaced and not the link.
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

    /// Writes the page.
    ///
    /// # Errors
    /// If there is no longer room for it, or its folder is gone.
    pub fn write(mut self, page: &str) -> Result<()> {
        let wrong = format!("cannot write the page {}", self.page.display());
        match self.beside.take() {
            Some(beside) => {
                let moved = fs::write(&beside, page).and_then(|()| fs::rename(&beside, &self.page));
                // If the file is still there, dropping `self` removes it.
                self.beside = moved.is_err().then_some(beside);
                moved.context(wrong)
            }
            None => fs::write(&self.page, page).context(wrong),
        }
    }
}

impl Drop for PagePlace {
    /// Removes the incomplete page, if there is one.
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
