//! Errors of a disk, for tests of whole processes.
//!
//! [`build_library`] makes a library, and [`Control::preload`] has a command load it (`LD_PRELOAD`). There it stands in front of
//! libc's `write`, `pwrite64`, `fsync`, `fdatasync`, `ftruncate64`, `rename`, and of `open64` for writing. While a test has
//! [`begun`](Control::begin) faults, each of these calls that is for a file below one directory may fail, write a part, or wait.
//! Number and seed of the call decide which. At other times a call costs two loads from memory more.
//!
//! | Module | What |
//! |---|---|
//! | `page` | What test and library share: a page of a file, mapped into the process |
//! | `control` | The side of the test: begins and ends faults, and counts them |
//! | `library` | Builds the library |
//! | `draw` | What comes of a call, by its number and the seed |
//! | `preload` | The functions (feature `preload`, in the library alone) |
//!
//! Programs that are linked statically, or that call the kernel without libc (rustix does), are not reached: the database files and
//! whatever `std::fs` writes are. It needs Linux with glibc on a 64-bit machine ([`IS_SUPPORTED`]).

mod control;
#[cfg(any(test, feature = "preload"))]
mod draw;
mod library;
mod page;
#[cfg(all(feature = "preload", target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod preload;

pub use control::{Control, Counts};
pub use library::build_library;
pub use page::Faults;

/// Whether the library can be loaded into programs of this platform.
pub const IS_SUPPORTED: bool =
    cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"));
