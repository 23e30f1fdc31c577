//! Writing sparse files: zeros take no room on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Size of a block of zeros that is left out, in bytes; its offset is a multiple of this.
const HOLE_BLOCK_BYTES: usize = 4 << 10;
const ZEROS: &[u8] = &[0; HOLE_BLOCK_BYTES];

/// Appends bytes to a file of length `end`. Whole blocks of 4 KiB of zeros are not written but become holes, which read
/// as zeros.
///
/// The file's length includes zeros at its end. Bytes after `end`, left by a write that failed, are cut off first.
///
/// # Errors
///
/// Errors of the disk. The file then has the bytes up to `end`, and possibly some of the new ones.
pub fn append(file: &File, end: u64, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() > end {
        file.set_len(end)?;
    }
    // Of the bytes up to `looked_at`, those before `from` are written.
    let (mut from, mut looked_at) = (0, 0);
    while looked_at < bytes.len() {
        let left_of_block = HOLE_BLOCK_BYTES - ((end + looked_at as u64) % HOLE_BLOCK_BYTES as u64) as usize;
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

    /// File that is written piece by piece, and removed at the end of the test.
    struct Written(std::path::PathBuf, File);

    impl Written {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("rantai-sparse-{}", uuid::Uuid::new_v4()));
            let file = File::options().read(true).write(true).create_new(true).open(&path).expect("made");
            Self(path, file)
        }

        /// Appends `bytes` in pieces of this size; checks after each that the file contains exactly the bytes written
        /// so far.
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
    fn blocks_of_zeros_become_holes_and_read_back() {
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
                // A piece that ends within a block of zeros causes some zeros to be written.
                let room = written.allocated();
                assert!(room <= 256 << 10, "{at:?} in {piece}: {room} bytes of the disk");
            }
        }
    }

    #[test]
    fn partial_blocks_of_zeros_are_written() {
        for size in [0, 1, HOLE_BLOCK_BYTES - 1, HOLE_BLOCK_BYTES, HOLE_BLOCK_BYTES + 1, 3 * HOLE_BLOCK_BYTES]
        {
            for begin in [0, 1, HOLE_BLOCK_BYTES - 1, HOLE_BLOCK_BYTES] {
                let written = Written::new();
                written.append(&vec![1; begin], 1 << 20);
                written.append(&vec![0; size], 1 << 20);
                written.append(&[2; 3], 1 << 20);
                let bytes = [&vec![1; begin][..], &vec![0; size], &[2; 3]].concat();
                assert_eq!(std::fs::read(&written.0).expect("there"), bytes, "{begin} {size}");
            }
        }
    }

    /// Regression: the file would have contained bytes that were not part of the digest.
    #[test]
    fn bytes_of_a_failed_write_are_cut_off_before_a_hole() {
        let written = Written::new();
        written.append(&[1; HOLE_BLOCK_BYTES], HOLE_BLOCK_BYTES);
        written.1.write_all_at(&[9; 2 * HOLE_BLOCK_BYTES], HOLE_BLOCK_BYTES as u64).expect("written");
        append(&written.1, HOLE_BLOCK_BYTES as u64, &[0; HOLE_BLOCK_BYTES]).expect("written");
        let bytes = [[1; HOLE_BLOCK_BYTES], [0; HOLE_BLOCK_BYTES]].concat();
        assert!(std::fs::read(&written.0).expect("there") == bytes);
    }
}
