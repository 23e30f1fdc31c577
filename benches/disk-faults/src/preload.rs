//! Functions of libc with faults, which replace libc's own in a process that preloads this library. Each makes the
//! system call itself, and so does not need the function that it replaces.
#![expect(
    unsafe_code,
    reason = "functions with the names and pointers of C, and a page that another process writes"
)]

use std::env;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread::sleep;
use std::time::Duration;

use libc::{c_char, c_int, c_long, c_uint, c_void, mode_t, off64_t, size_t, ssize_t};

use crate::draw::{CallKind, Fate};
use crate::page::{BELOW, CONTROL, LOADED, Page};

/// Interval at which a delayed call checks whether the faults have ended.
const END_CHECK_INTERVAL: Duration = Duration::from_millis(10);

static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());
/// Directory, followed by a slash.
static DIRECTORY: OnceLock<Vec<u8>> = OnceLock::new();

// SAFETY: the loader calls the functions in this section once, before `main`, on the only thread.
#[unsafe(link_section = ".init_array")]
#[used]
static LOAD: extern "C" fn() = load;

/// Maps the page. Without a page there are no faults, which the test detects by `Counts::loaded`.
extern "C" fn load() {
    let (Some(control), Some(below)) = (env::var_os(CONTROL), env::var_os(BELOW)) else { return };
    let Ok(file) = File::options().read(true).write(true).open(control) else { return };
    let mut directory = below.into_vec();
    directory.push(b'/');
    // SAFETY: a new mapping that stays until the process ends. The creator of the file gave it the length of a page.
    let page = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(null_mut(), size_of::<Page>(), access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if page != libc::MAP_FAILED && DIRECTORY.set(directory).is_ok() {
        PAGE.store(page.cast(), Ordering::Release);
        if let Some(page) = self::page() {
            page.counts[LOADED].fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn page() -> Option<&'static Page> {
    // SAFETY: null, or a mapping that is never unmapped, of a type that consists of atomic integers.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// File that a call affects: an open file, or a path that ends with NUL.
#[derive(Clone, Copy)]
enum Of {
    File(c_int),
    Path(*const c_char),
}

impl Of {
    fn is_below(self, directory: &[u8]) -> bool {
        match self {
            Self::File(file) => {
                let mut name = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
                if write_number(&mut name[14..24], file).is_none() {
                    return false;
                }
                let mut found = [0_u8; 4096];
                // SAFETY: `name` ends with NUL, and `found` has the given length.
                let length =
                    unsafe { libc::readlink(name.as_ptr().cast(), found.as_mut_ptr().cast(), found.len()) };
                usize::try_from(length).is_ok_and(|length| found[..length].starts_with(directory))
            }
            // SAFETY: the caller of `open` or `rename` passes a path that ends with NUL.
            Self::Path(path) => unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes().starts_with(directory),
        }
    }
}

/// Writes a number in decimal digits. Does not use the allocator, which may be the caller. `None` for a negative
/// number.
fn write_number(to: &mut [u8], number: c_int) -> Option<()> {
    let mut left = u32::try_from(number).ok()?;
    let digits = left.checked_ilog10().unwrap_or(0) as usize + 1;
    for digit in to.get_mut(..digits)?.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    Some(())
}

/// Returns the outcome of this call, after its delay.
fn fate(kind: CallKind, of: Of) -> Fate {
    let Some(page) = page() else { return Fate::Passes };
    if page.on.load(Ordering::Acquire) == 0 {
        return Fate::Passes;
    }
    if !DIRECTORY.get().is_some_and(|directory| of.is_below(directory)) {
        return Fate::Passes;
    }
    let fate = page.draw(kind);
    if fate == Fate::Stalls {
        let mut left = Duration::from_millis(page.stall_ms.load(Ordering::Relaxed).into());
        while !left.is_zero() && page.on.load(Ordering::Relaxed) == 1 {
            sleep(END_CHECK_INTERVAL.min(left));
            left = left.saturating_sub(END_CHECK_INTERVAL);
        }
        return Fate::Passes;
    }
    fate
}

fn fail(is_full: bool) -> c_int {
    // SAFETY: each thread has its own errno.
    unsafe { *libc::__errno_location() = if is_full { libc::ENOSPC } else { libc::EIO } };
    -1
}

/// Executes a write of `count` bytes; `write` makes the system call for a given number of bytes.
fn writing(file: c_int, count: size_t, write: impl Fn(size_t) -> c_long) -> ssize_t {
    let result = match fate(CallKind::Write, Of::File(file)) {
        Fate::Passes | Fate::Stalls => write(count),
        Fate::IsShort => write(count.div_ceil(2)),
        Fate::Fails { is_full, in_the_middle } => {
            if in_the_middle {
                write(count / 2);
            }
            fail(is_full).into()
        }
    };
    result as ssize_t
}

/// Executes a call that either succeeds or fails as a whole.
fn all_or_nothing(kind: CallKind, of: Of, call: impl Fn() -> c_long) -> c_int {
    match fate(kind, of) {
        Fate::Fails { is_full, .. } => fail(is_full),
        _ => call() as c_int,
    }
}

/// See write(2).
// SAFETY: this function and those below have the signatures of libc's functions, and pass their arguments to the
// kernel.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: as above.
    writing(file, count, |count| unsafe { libc::syscall(libc::SYS_write, file, bytes, count) })
}

/// See pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(file: c_int, bytes: *const c_void, count: size_t, at: off64_t) -> ssize_t {
    // SAFETY: as above.
    writing(file, count, |count| unsafe { libc::syscall(libc::SYS_pwrite64, file, bytes, count, at) })
}

/// See fsync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: as above.
    all_or_nothing(CallKind::Sync, Of::File(file), || unsafe { libc::syscall(libc::SYS_fsync, file) })
}

/// See fdatasync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    // SAFETY: as above.
    all_or_nothing(CallKind::Sync, Of::File(file), || unsafe { libc::syscall(libc::SYS_fdatasync, file) })
}

/// See ftruncate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(file: c_int, length: off64_t) -> c_int {
    // SAFETY: as above.
    all_or_nothing(CallKind::Change, Of::File(file), || unsafe {
        libc::syscall(libc::SYS_ftruncate, file, length)
    })
}

/// See rename(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let flags: c_uint = 0;
    // SAFETY: as above.
    all_or_nothing(CallKind::Change, Of::Path(to), || unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, flags)
    })
}

/// See open(2). In C, the mode is only passed if a file may be created; otherwise its value is arbitrary, and the
/// kernel ignores it.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    let open = || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) };
    if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_CREAT == 0 {
        return open() as c_int;
    }
    all_or_nothing(CallKind::Change, Of::Path(path), open)
}
