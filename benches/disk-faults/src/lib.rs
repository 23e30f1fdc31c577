//! Disk errors for tests of whole processes.
//!
//! [`build_library`] builds a library, and [`Control::preload`] makes a command load it (`LD_PRELOAD`). The library
//! replaces libc's `write`, `pwrite64`, `fsync`, `fdatasync`, `ftruncate64`, `rename`, and `open64` for writing. After
//! a test has [`begun`](Control::begin) faults, each of these calls for a file below one directory may fail, write
//! only a part, or be delayed, depending on its number and the seed. At other times, the library adds two loads from
//! memory to a call.
//!
//! | Module | Contents |
//! |---|---|
//! | `page` | Page of a file that test and library share, mapped into the process |
//! | `control` | Test's side: starts and stops faults, and reads the counters |
//! | `library` | Build of the library |
//! | `draw` | Outcome of a call, from its number and the seed |
//! | `preload` | Replaced functions (feature `preload`, only in the library) |
//!
//! Statically linked programs, and calls to the kernel without libc (as rustix makes them), are not affected; the
//! database files and everything written by `std::fs` are. Requires Linux with glibc on a 64-bit machine
//! ([`IS_SUPPORTED`]).

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

/// Whether programs of this platform can load the library.
pub const IS_SUPPORTED: bool =
    cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"));
