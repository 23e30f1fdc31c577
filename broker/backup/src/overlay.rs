//! Read-only file as storage of a database: what the database writes stays in memory.
//!
//! A database that was not closed is repaired when it is opened, which writes to it. With this a check can read such a file
//! and leave it as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4 << 10;
/// Maximum number of pages that are written; a repair writes a small part of a file.
const MOST_PAGES: usize = (256 << 20) / PAGE as usize;

/// File with its changes in memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    /// Length of the file; behind it there are zeros.
    end: u64,
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, end, changed: Mutex::new(Changed { len: end, pages: BTreeMap::new() }) })
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the file, with zeros behind its end.
    fn original(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inside = self.end.saturating_sub(offset).min(out.len() as u64) as usize;
        let (read, rest) = out.split_at_mut(inside);
        rest.fill(0);
        self.file.read_exact_at(read, offset)
    }
}

/// Calls `each` with the page, the range in it, and the range in the buffer, for each page of a range of bytes.
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
            // What is behind the new end reads as zeros if the file grows again.
            let first = len.div_ceil(PAGE);
            let behind = self.end.min(changed.len).div_ceil(PAGE);
            for page in first..behind {
                changed.pages.insert(page, vec![0; PAGE as usize].into());
                if changed.pages.len() > MOST_PAGES {
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
                if changed.pages.len() >= MOST_PAGES {
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
