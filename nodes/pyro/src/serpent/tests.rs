use super::*;
use crate::value::PyValue;

/// Written by serpent 1.43: `serpent.dumps` of a `dict` with a value of each type.
const GOLDEN: &str = "# serpent utf-8 python3.2\n{'a':(1,),'b':[1,2.5,-3,1e30000,True,None],'c':{1,2},\
    'd':{'data': 'eHk=', 'encoding': 'base64'},'e':(1.0+2.0j),'f':'it\\'s \"q\"\\n\u{e9}\\x07\u{1f600}\\x85',\
    'g':1180591620717411303424,'n':{'__class__':'float','value':'nan'},(1,2):()}";

#[test]
fn every_type_of_serpent_is_read() {
    let value = read(GOLDEN.as_bytes()).expect("a literal");
    let text = |name: &str| value.get(name).expect(name);
    assert_eq!(*text("a"), PyValue::Tuple(vec![PyValue::Int(1)]));
    let PyValue::List(items) = text("b") else { panic!("a list") };
    assert_eq!(items[3], PyValue::Float(f64::INFINITY));
    assert_eq!(items[5], PyValue::None);
    assert_eq!(*text("c"), PyValue::Set(vec![PyValue::Int(1), PyValue::Int(2)]));
    assert_eq!(text("d").as_bytes(), Some(b"xy".to_vec()));
    assert_eq!(*text("e"), PyValue::Complex(1.0, 2.0));
    assert_eq!(text("f").as_str(), Some("it's \"q\"\n\u{e9}\u{7}\u{1f600}\u{85}"));
    assert_eq!(*text("g"), PyValue::Big("1180591620717411303424".to_owned()));
    assert!(matches!(text("n"), PyValue::Float(number) if number.is_nan()));
}

#[test]
fn literals_of_python_are_read() {
    use PyValue::{Bytes, Complex, Dict, Float, Int, List, Str, Tuple};
    for (literal, expected) in [
        (" [ 1 ,\n 2, ] # comment", List(vec![Int(1), Int(2)])),
        ("(((3)))", Int(3)),
        ("(1.5, )", Tuple(vec![Float(1.5)])),
        ("b'a\\x00\\'\\377'", Bytes(vec![b'a', 0, b'\'', 255])),
        ("u\"\\u00e9\\U0001F600\\101\"", Str("\u{e9}\u{1f600}A".to_owned())),
        ("{'a': {},}", Dict(vec![(Str("a".to_owned()), Dict(vec![]))])),
        ("-1e-3", Float(-0.001)),
        ("-2j", Complex(0.0, -2.0)),
        ("-9223372036854775808", Int(i64::MIN)),
        (".5", Float(0.5)),
    ] {
        assert_eq!(read(literal.as_bytes()), Ok(expected), "{literal}");
    }
}

#[test]
fn texts_that_are_no_literal_are_refused() {
    for text in [
        "",
        "nan",
        "Nonesense",
        "[1",
        "[1 2]",
        "{1:2,3}",
        "{1,2:3}",
        "'a",
        "'a\nb'",
        "'\\q'",
        "'\\ud800'",
        "b'\u{e9}'",
        "1 2",
        "--1",
        "1+2",
        "1e",
        "-",
        "__import__('os')",
        "f(1)",
        "'a' 'b'",
        "[,]",
        "{,}",
        "'\0'",
    ] {
        assert!(matches!(read(text.as_bytes()), Err(SerpentError::Syntax { .. })), "{text:?}");
    }
    assert_eq!(read(b"'\xff'"), Err(SerpentError::NotUtf8));
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(read(nested(100_000).as_bytes()), Err(SerpentError::TooDeep));
    assert_eq!(read("(".repeat(100_000).as_bytes()), Err(SerpentError::TooDeep));
    let many = format!("[{}]", "1,".repeat(crate::value::MAX_VALUES));
    assert_eq!(read(many.as_bytes()), Err(SerpentError::TooMany));
}

#[test]
fn values_are_read_as_they_were_written() {
    let text: String = (0..0x300).filter_map(char::from_u32).chain(['\u{2028}', '\u{1f600}']).collect();
    let values = vec![
        PyValue::Str(text),
        PyValue::Float(0.1),
        PyValue::Float(1e300),
        PyValue::Float(-5e-324),
        PyValue::Float(2.0),
        PyValue::Int(-7),
        PyValue::Complex(0.5, -1.0),
        PyValue::Tuple(vec![]),
        PyValue::Tuple(vec![PyValue::None]),
        PyValue::Tuple(vec![PyValue::None, PyValue::Bool(false)]),
        PyValue::Set(vec![PyValue::Int(1)]),
        PyValue::Dict(vec![(PyValue::Int(1), PyValue::List(vec![])), (PyValue::text("a"), PyValue::None)]),
    ];
    for value in values {
        assert_eq!(read(&write(&value)), Ok(value));
    }
    assert_eq!(read(&write(&PyValue::Set(vec![]))), Ok(PyValue::Tuple(vec![])));
    assert_eq!(read(&write(&PyValue::Bytes(vec![9]))).expect("read").as_bytes(), Some(vec![9]));
}

#[test]
fn random_texts_never_panic() {
    const PIECES: [&str; 24] = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "'",
        "\"",
        "\\",
        "1",
        "-",
        ".",
        "e",
        "j",
        "b'",
        "u'",
        "None",
        "True",
        "#",
        "\n",
        "\u{e9}",
        "'__class__':'float','value':'nan'",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..50_000 {
        let pieces = random.usize(..12);
        let text: String = (0..pieces).map(|_| PIECES[random.usize(..PIECES.len())]).collect();
        let _ = read(text.as_bytes());
        let mut damaged = GOLDEN.as_bytes().to_vec();
        let at = random.usize(..damaged.len());
        damaged[at] = random.u8(..);
        damaged.truncate(random.usize(..=damaged.len()));
        let _ = read(&damaged);
    }
}
