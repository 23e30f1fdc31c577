//! `rantai demo`, often the first command of a new user.

use super::process::{finish, rantai};

#[test]
fn every_result_of_the_demo_is_right() {
    let done = finish(rantai().arg("demo"));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.ends_with("every result was right\n") && !done.stdout.contains("WRONG"), "{done:?}");
    for shown in ["Kota Awal ? subang", "Buku dengan judul Dune berhasil dibeli!", "did you mean"] {
        assert!(done.stdout.contains(shown), "{shown}: {}", done.stdout);
    }
}
