//! Random bytes of the system, and passwords made of them.

use std::fs::File;
use std::io::{self, Read as _};

/// Letters and digits that are not easily confused.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Returns cryptographically secure random bytes.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Returns a password of 100 random bits, in groups that can be read aloud: `k7fm-x2qa-…`.
pub(crate) fn random_password() -> io::Result<String> {
    let letters = random_bytes::<20>()?.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_passwords_differ_and_have_groups_of_unambiguous_letters() {
        let (one, other) = (random_password().expect("random"), random_password().expect("random"));
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [4; 5], "{one}");
        assert!(one.bytes().all(|letter| letter == b'-' || LETTERS.contains(&letter)), "{one}");
    }
}
