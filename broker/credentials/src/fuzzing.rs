//! Fuzzing of the password file parser: invariants for arbitrary bytes. Used by the fuzz target in `broker/fuzz` and by a
//! seeded test.

use rantai_access::check_user_name;

use crate::file::PasswordFile;

/// Parses `bytes` as a password file. Parsing may not panic; an error must name one of the lines; the records must stay
/// the same when they are written and parsed again; and changing one user must not change any other.
pub fn password_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut file = PasswordFile::new(&text);
    let records = match file.records() {
        Ok(records) => records,
        Err(error) => {
            assert!((1..=text.lines().count()).contains(&error.line), "{error}");
            drop(error.reason.to_string());
            return;
        }
    };
    assert_eq!(PasswordFile::new(&file.to_string()).records().as_ref(), Ok(&records));
    let mut users: Vec<&String> = records.keys().collect();
    users.sort();
    for user in &users {
        let record = &records[*user];
        assert_eq!(check_user_name(user), Ok(()));
        assert_eq!(record.to_string().parse().as_ref(), Ok(record));
        assert_eq!(file.record(user).as_ref(), Ok(&Some(record.clone())));
    }
    if let [first, others @ ..] = &users[..] {
        assert_eq!(file.set(first, &records[*first]), Ok(true));
        assert_eq!(file.records().as_ref(), Ok(&records));
        assert!(file.remove(first));
        let left = file.records().expect("the other lines");
        assert!(left.len() == others.len() && others.iter().all(|user| left[*user] == records[*user]));
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::cost::Cost;
    use crate::record::Record;

    #[test]
    fn invariants_hold_for_password_files_of_random_pieces_and_bytes() {
        let argon2id = Record::new(b"rahasia", Cost::LOWEST).expect("hashed").to_string();
        let pbkdf2 = Record::for_mosquitto(b"rahasia").expect("hashed").to_string();
        let records = [
            &*argon2id,
            &pbkdf2,
            "$7$101$c2FsdA==$aGFzaA==",
            "$6$",
            "$argon2id$v=19$m=8,t=1,p=1$",
            "plain",
            "",
        ];
        let pieces = ["\r", "#", " ", ":", "$", "=", "\0", "é", "--", "x"];
        let mut rng = Rng::with_seed(16);
        let mut read = 0;
        for _ in 0..10_000 {
            let mut text = String::new();
            for _ in 0..rng.usize(..5) {
                // Duplicate users are rare.
                let user = ["ada", "bob", "eva", "ani", "#ada", ""][rng.usize(..6)];
                let kinds = if rng.bool() { 2 } else { records.len() };
                let record = records[rng.usize(..kinds)];
                let noise = if rng.u8(..8) == 0 { pieces[rng.usize(..pieces.len())] } else { "" };
                text.push_str(&[user, if user.is_empty() { "" } else { ":" }, record, noise, "\n"].concat());
            }
            read += usize::from(PasswordFile::new(&text).records().is_ok_and(|records| !records.is_empty()));
            let mut bytes = text.into_bytes();
            password_file(&bytes);
            if !bytes.is_empty() {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
                password_file(&bytes);
            }
        }
        assert!(read > 500, "only {read} files had records");
    }
}
