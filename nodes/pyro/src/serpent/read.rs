//! Reading literals of Python, as serpent writes them and `ast.literal_eval` reads them.

use super::text::{bytes_literal, string_literal};
use super::{MAX_DEPTH, SerpentError};
use crate::value::{MAX_VALUES, PyValue, integer};

/// Reads one literal.
///
/// # Errors
///
/// The bytes are not UTF-8 or not one literal of the supported types, or are nested too deeply, or have too many values.
pub(crate) fn read(bytes: &[u8]) -> Result<PyValue, SerpentError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SerpentError::NotUtf8)?;
    let mut reader = Reader { text, at: 0, values: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() { Err(reader.wrong("the end")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn wrong(&self, expected: &'static str) -> SerpentError {
        SerpentError::Syntax { expected, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' => self.at += 1,
                b'#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    /// Skips white space, and then the byte if it is the next one.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, level: usize) -> Result<PyValue, SerpentError> {
        if level > MAX_DEPTH {
            return Err(SerpentError::TooDeep);
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(SerpentError::TooMany);
        }
        self.skip_space();
        let Some(byte) = self.peek() else { return Err(self.wrong("a value")) };
        let next = self.text.as_bytes().get(self.at + 1);
        match byte {
            b'(' => self.parentheses(level),
            b'[' => {
                self.at += 1;
                self.items(b']', Vec::new(), level).map(PyValue::List)
            }
            b'{' => self.braces(level),
            b'\'' | b'"' => self.string(0).map(PyValue::Str),
            b'u' if matches!(next, Some(b'\'' | b'"')) => self.string(1).map(PyValue::Str),
            b'b' if matches!(next, Some(b'\'' | b'"')) => self.bytes().map(PyValue::Bytes),
            b'-' | b'+' | b'.' | b'0'..=b'9' => self.number(),
            _ => self.keyword(),
        }
    }

    /// Reads a text, whose quotation mark stands behind a prefix of this length.
    fn string(&mut self, prefix: usize) -> Result<String, SerpentError> {
        self.at += prefix;
        let (text, end) = string_literal(self.text, self.at)?;
        self.at = end;
        Ok(text)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, SerpentError> {
        let (bytes, end) = bytes_literal(self.text, self.at + 1)?;
        self.at = end;
        Ok(bytes)
    }

    fn keyword(&mut self) -> Result<PyValue, SerpentError> {
        let known = [("None", PyValue::None), ("True", PyValue::Bool(true)), ("False", PyValue::Bool(false))];
        for (word, value) in known {
            let Some(rest) = self.rest().strip_prefix(word) else { continue };
            if !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("a value"))
    }

    /// Reads a tuple, or one value in parentheses, as serpent writes complex numbers.
    fn parentheses(&mut self, level: usize) -> Result<PyValue, SerpentError> {
        self.at += 1;
        if self.takes(b')') {
            return Ok(PyValue::Tuple(Vec::new()));
        }
        let first = self.value(level + 1)?;
        if self.takes(b')') {
            return Ok(first);
        }
        if !self.takes(b',') {
            return Err(self.wrong("`,` or `)`"));
        }
        self.items(b')', vec![first], level).map(PyValue::Tuple)
    }

    /// Reads items up to the closing bracket, with a comma behind each but the last.
    fn items(
        &mut self,
        close: u8,
        mut items: Vec<PyValue>,
        level: usize,
    ) -> Result<Vec<PyValue>, SerpentError> {
        loop {
            if self.takes(close) {
                return Ok(items);
            }
            items.push(self.value(level + 1)?);
            if !self.takes(b',') {
                return if self.takes(close) {
                    Ok(items)
                } else {
                    Err(self.wrong("`,` or the end of the items"))
                };
            }
        }
    }

    /// Reads a `dict` or a `set`. A `dict` of the class `float` is a number that has no literal.
    fn braces(&mut self, level: usize) -> Result<PyValue, SerpentError> {
        self.at += 1;
        if self.takes(b'}') {
            return Ok(PyValue::Dict(Vec::new()));
        }
        let first = self.value(level + 1)?;
        if !self.takes(b':') {
            if self.takes(b'}') {
                return Ok(PyValue::Set(vec![first]));
            }
            if !self.takes(b',') {
                return Err(self.wrong("`:`, `,` or `}`"));
            }
            return self.items(b'}', vec![first], level).map(PyValue::Set);
        }
        let mut members = vec![(first, self.value(level + 1)?)];
        loop {
            let goes_on = self.takes(b',');
            if self.takes(b'}') {
                break;
            }
            if !goes_on {
                return Err(self.wrong("`,` or `}`"));
            }
            let key = self.value(level + 1)?;
            if !self.takes(b':') {
                return Err(self.wrong("`:`"));
            }
            members.push((key, self.value(level + 1)?));
        }
        let dict = PyValue::Dict(members);
        let text = |name: &str| dict.get(name).and_then(PyValue::as_str);
        if text("__class__") == Some("float")
            && let Some(number) = text("value").and_then(|value| value.parse().ok())
        {
            return Ok(PyValue::Float(number));
        }
        Ok(dict)
    }

    /// Reads a number, or a complex number: an imaginary part, or a sum of a real and an imaginary part.
    fn number(&mut self) -> Result<PyValue, SerpentError> {
        let real = self.real()?;
        if self.imaginary() {
            return Ok(PyValue::Complex(0.0, double(&real)));
        }
        if !matches!(self.peek(), Some(b'+' | b'-')) {
            return Ok(real);
        }
        let imaginary = self.real()?;
        if !self.imaginary() {
            return Err(self.wrong("`j`"));
        }
        Ok(PyValue::Complex(double(&real), double(&imaginary)))
    }

    /// Skips the `j` of an imaginary number.
    fn imaginary(&mut self) -> bool {
        let is_next = self.peek() == Some(b'j');
        self.at += usize::from(is_next);
        is_next
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }

    fn real(&mut self) -> Result<PyValue, SerpentError> {
        if self.peek() == Some(b'+') {
            self.at += 1;
        }
        let begin = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut digits = self.digits();
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            digits += self.digits();
        }
        if digits == 0 {
            return Err(self.wrong("a digit"));
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.wrong("a digit"));
            }
        }
        let text = &self.text[begin..self.at];
        let number = if is_integer { integer(text) } else { text.parse().ok().map(PyValue::Float) };
        number.ok_or(SerpentError::Syntax { expected: "a number", at: begin })
    }
}

fn double(number: &PyValue) -> f64 {
    match number {
        PyValue::Int(value) => *value as f64,
        PyValue::Float(value) => *value,
        PyValue::Big(digits) => digits.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}
