//! Storage of a database that reads from a file and keeps writes in memory.
//!
//! A database that was not closed is repaired when it is opened, which writes to it. With this storage, a check can
//! open such a file without changing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4 << 10;
/// Maximum number of pages in memory. A repair writes only a small part of a file.
const MAX_CHANGED_PAGES: usize = (256 << 20) / PAGE as usize;

/// File with its changed pages in memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    /// Length of the file on disk; bytes at and after this offset read as zero.
    end: u64,
    changed: Mutex<ChangedPages>,
}

#[derive(Debug)]
struct ChangedPages {
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, end, changed: Mutex::new(ChangedPages { len: end, pages: BTreeMap::new() }) })
    }

    fn changed(&self) -> MutexGuard<'_, ChangedPages> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the file on disk, with zeros after its end.
    fn original(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inside = self.end.saturating_sub(offset).min(out.len() as u64) as usize;
        let (read, rest) = out.split_at_mut(inside);
        rest.fill(0);
        self.file.read_exact_at(read, offset)
    }
}

/// Splits a range of bytes into pages, and calls `each` with the page, the range within the page, and the range within
/// the buffer.
fn for_pages(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let begin = (at % PAGE) as usize;
        let part = (PAGE as usize - begin).min(length - done);
        each(at / PAGE, begin..begin + part, done..done + part)?;
        done += part;
    }
    Ok(())
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changed.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.original(offset, out)?;
        for_pages(offset, out.len(), |page, within, place| {
            if let Some(bytes) = changed.pages.get(&page) {
                out[place].copy_from_slice(&bytes[within]);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed();
        if len < changed.len {
            // Bytes after the new end are removed, so that they read as zero if the file grows again.
            let first = len.div_ceil(PAGE);
            let behind = self.end.min(changed.len).div_ceil(PAGE);
            for page in first..behind {
                changed.pages.insert(page, vec![0; PAGE as usize].into());
                if changed.pages.len() > MAX_CHANGED_PAGES {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
            }
        }
        changed.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changed = self.changed();
        for_pages(offset, data.len(), |page, within, place| {
            if !changed.pages.contains_key(&page) {
                if changed.pages.len() >= MAX_CHANGED_PAGES {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                self.original(page * PAGE, &mut bytes)?;
                changed.pages.insert(page, bytes);
            }
            let bytes = changed.pages.get_mut(&page).expect("inserted above");
            bytes[within].copy_from_slice(&data[place]);
            Ok(())
        })
    }
}
