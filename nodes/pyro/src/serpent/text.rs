//! Literals of texts and bytes, with the escapes of Python.

use super::SerpentError;

/// Reads a text that begins with a quotation mark at `at`; returns it with the offset behind it.
pub(super) fn string_literal(text: &str, at: usize) -> Result<(String, usize), SerpentError> {
    let mut literal = String::new();
    let end = scan(text, at, |piece, at| {
        match piece {
            Piece::Plain(plain) => literal.push_str(plain),
            Piece::Escape(code) => {
                let wrong = SerpentError::Syntax { expected: "a character that is not a lone surrogate", at };
                literal.push(char::from_u32(code).ok_or(wrong)?);
            }
        }
        Ok(())
    })?;
    Ok((literal, end))
}

/// Reads bytes; `at` is the offset of their quotation mark.
pub(super) fn bytes_literal(text: &str, at: usize) -> Result<(Vec<u8>, usize), SerpentError> {
    let mut literal = Vec::new();
    let end = scan(text, at, |piece, at| {
        match piece {
            Piece::Plain(plain) if plain.is_ascii() => literal.extend_from_slice(plain.as_bytes()),
            Piece::Escape(code) if code <= 0xFF => literal.push(code as u8),
            _ => return Err(SerpentError::Syntax { expected: "a byte", at }),
        }
        Ok(())
    })?;
    Ok((literal, end))
}

enum Piece<'a> {
    Plain(&'a str),
    /// Code point of an escape.
    Escape(u32),
}

fn scan(
    text: &str,
    begin: usize,
    mut take: impl FnMut(Piece<'_>, usize) -> Result<(), SerpentError>,
) -> Result<usize, SerpentError> {
    let bytes = text.as_bytes();
    let quote = bytes[begin];
    let (mut at, mut plain) = (begin + 1, begin + 1);
    loop {
        let Some(&byte) = bytes.get(at) else {
            return Err(SerpentError::Syntax { expected: "the end of a text", at });
        };
        if byte == b'\n' || byte == b'\r' || byte == 0 {
            return Err(SerpentError::Syntax { expected: "an escape instead of this character", at });
        }
        if byte != quote && byte != b'\\' {
            at += 1;
            continue;
        }
        if plain < at {
            take(Piece::Plain(&text[plain..at]), plain)?;
        }
        if byte == quote {
            return Ok(at + 1);
        }
        let (code, end) = escape(bytes, at + 1)?;
        if let Some(code) = code {
            take(Piece::Escape(code), at)?;
        }
        (at, plain) = (end, end);
    }
}

/// Reads what stands behind a backslash; returns its code point, `None` for an escaped end of line, and the offset behind it.
fn escape(bytes: &[u8], at: usize) -> Result<(Option<u32>, usize), SerpentError> {
    let wrong = SerpentError::Syntax { expected: "an escape of Python", at };
    let Some(&byte) = bytes.get(at) else { return Err(wrong) };
    let hexadecimal = |digits: usize| {
        let text = bytes.get(at + 1..at + 1 + digits)?;
        let code = text.iter().try_fold(0, |code, byte| Some(code * 16 + char::from(*byte).to_digit(16)?))?;
        Some((Some(code), at + 1 + digits))
    };
    let simple = match byte {
        b'\n' => return Ok((None, at + 1)),
        b'\\' | b'\'' | b'"' => u32::from(byte),
        b'a' => 7,
        b'b' => 8,
        b't' => 9,
        b'n' => 10,
        b'v' => 11,
        b'f' => 12,
        b'r' => 13,
        b'x' => return hexadecimal(2).ok_or(wrong),
        b'u' => return hexadecimal(4).ok_or(wrong),
        b'U' => return hexadecimal(8).ok_or(wrong),
        b'0'..=b'7' => {
            let digits = bytes[at..].iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7'));
            let (mut code, mut end) = (0, at);
            for digit in digits {
                code = code * 8 + u32::from(digit - b'0');
                end += 1;
            }
            return Ok((Some(code), end));
        }
        _ => return Err(wrong),
    };
    Ok((Some(simple), at + 1))
}
