//! Writing files whose zeros take no room on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Zeros that are left out are whole blocks of this many bytes, at multiples of it.
const BLOCK: usize = 4 << 10;
const ZEROS: &[u8] = &[0; BLOCK];

/// Writes bytes at the end of a file, which is at `end`. Whole blocks of 4 KiB of zeros are not written but become
/// holes, which read as zeros.
///
/// The file is as long as what it has, also where that ends with zeros. What is there beyond `end`, of a write that
/// failed, is cut off first.
///
/// # Errors
///
/// Those of the disk. The file then has the bytes up to `end` and maybe some of the new ones.
pub fn append(file: &File, end: u64, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() > end {
        file.set_len(end)?;
    }
    // Of what was looked at, `from` on is to be written.
    let (mut from, mut looked_at) = (0, 0);
    while looked_at < bytes.len() {
        let left_of_block = BLOCK - ((end + looked_at as u64) % BLOCK as u64) as usize;
        let next = (looked_at + left_of_block).min(bytes.len());
        if &bytes[looked_at..next] == ZEROS {
            file.write_all_at(&bytes[from..looked_at], end + from as u64)?;
            from = next;
        }
        looked_at = next;
    }
    if from < bytes.len() {
        file.write_all_at(&bytes[from..], end + from as u64)
    } else if from > 0 {
        file.set_len(end + from as u64)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A file that is written piece by piece, and removed in the end.
    struct Written(std::path::PathBuf, File);

    impl Written {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("rantai-sparse-{}", uuid::Uuid::new_v4()));
            let file = File::options().read(true).write(true).create_new(true).open(&path).expect("made");
            Self(path, file)
        }

        /// Appends `bytes` in pieces of this size; after each the file has what was written and no more.
        fn append(&self, bytes: &[u8], piece: usize) {
            for piece in bytes.chunks(piece) {
                let end = self.1.metadata().expect("there").len();
                append(&self.1, end, piece).expect("written");
                assert_eq!(self.1.metadata().expect("there").len(), end + piece.len() as u64);
            }
        }

        fn allocated(&self) -> u64 {
            self.1.sync_all().expect("written");
            self.1.metadata().expect("there").blocks() * 512
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn zeros_anywhere_are_read_again_and_take_no_room() {
        const SIZE: usize = 1 << 20;
        let data = [7; 5_000];
        for at in [None, Some(0), Some(SIZE / 2 + 77), Some(SIZE - data.len())] {
            let mut bytes = vec![0; SIZE];
            if let Some(at) = at {
                bytes[at..at + data.len()].copy_from_slice(&data);
            }
            for piece in [SIZE, 64 << 10, 100_000] {
                let written = Written::new();
                written.append(&bytes, piece);
                assert!(std::fs::read(&written.0).expect("there") == bytes, "{at:?} in {piece}");
                // A piece that ends within a block of zeros writes some of them.
                let room = written.allocated();
                assert!(room <= 256 << 10, "{at:?} in {piece}: {room} bytes of the disk");
            }
        }
    }

    #[test]
    fn what_is_no_whole_block_of_zeros_is_written() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            for begin in [0, 1, BLOCK - 1, BLOCK] {
                let written = Written::new();
                written.append(&vec![1; begin], 1 << 20);
                written.append(&vec![0; size], 1 << 20);
                written.append(&[2; 3], 1 << 20);
                let bytes = [&vec![1; begin][..], &vec![0; size], &[2; 3]].concat();
                assert_eq!(std::fs::read(&written.0).expect("there"), bytes, "{begin} {size}");
            }
        }
    }

    /// The file would have had bytes that were not digested.
    #[test]
    fn what_a_failed_write_left_does_not_show_through_a_hole() {
        let written = Written::new();
        written.append(&[1; BLOCK], BLOCK);
        written.1.write_all_at(&[9; 2 * BLOCK], BLOCK as u64).expect("written");
        append(&written.1, BLOCK as u64, &[0; BLOCK]).expect("written");
        let bytes = [[1; BLOCK], [0; BLOCK]].concat();
        assert!(std::fs::read(&written.0).expect("there") == bytes);
    }
}
