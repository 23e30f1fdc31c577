//! Word boundaries, and matching of insults.

use std::collections::HashMap;
use std::ops::Range;

/// Insults, indexed by their first word.
#[derive(Clone, Debug, Default)]
pub(super) struct Censor {
    /// For each first word, the words that have to follow; the longest first.
    by_first: HashMap<String, Vec<Vec<String>>>,
}

/// Word of a text: its range, and the letters by which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    at: Range<usize>,
    letters: String,
}

impl Censor {
    /// Adds an insult, which may have several words.
    pub(super) fn add(&mut self, insult: &str) {
        let mut words = words(insult).into_iter().map(|word| word.letters);
        let Some(first) = words.next() else { return };
        let following = self.by_first.entry(first).or_default();
        let rest: Vec<String> = words.collect();
        if !following.contains(&rest) {
            following.push(rest);
            following.sort_by_key(|rest| std::cmp::Reverse(rest.len()));
        }
    }

    /// Replaces each insult in the text with `mask`; all other characters are kept.
    pub(super) fn censor(&self, text: &str, mask: &str) -> String {
        let words = words(text);
        let (mut censored, mut copied, mut index) = (String::with_capacity(text.len()), 0, 0);
        while let Some(word) = words.get(index) {
            let length = self.insult_at(&words[index..]);
            if length == 0 {
                index += 1;
                continue;
            }
            censored.push_str(&text[copied..word.at.start]);
            censored.push_str(mask);
            copied = words[index + length - 1].at.end;
            index += length;
        }
        censored.push_str(&text[copied..]);
        censored
    }

    /// Returns the number of words of the longest insult at the beginning.
    fn insult_at(&self, words: &[Word]) -> usize {
        let Some((first, others)) = words.split_first() else { return 0 };
        let following = self.by_first.get(&first.letters);
        let fits = |rest: &&Vec<String>| {
            rest.len() <= others.len()
                && rest.iter().zip(others).all(|(wanted, word)| *wanted == word.letters)
        };
        following.and_then(|all| all.iter().find(fits)).map_or(0, |rest| rest.len() + 1)
    }
}

/// Normalizes an insult for registration: trimmed, in lower case. `None` if it contains no word.
pub(super) fn insult(text: &str) -> Option<String> {
    let insult = text.trim().to_lowercase();
    (!words(&insult).is_empty()).then_some(insult)
}

/// Splits a text into words, which are sequences of letters and digits. Punctuation is not part of a word, so that it
/// cannot hide one; invisible characters do not divide a word.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<Word> = None;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        if c.is_alphanumeric() || is_mark(c) {
            let word = open.get_or_insert_with(|| Word { at: at..end, letters: String::new() });
            word.at.end = end;
            word.letters.extend(c.to_lowercase());
        } else if !is_unseen(c) {
            words.extend(open.take());
        }
    }
    words.extend(open);
    words
}

/// Checks for an accent that follows its letter.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Checks for an invisible character, such as soft hyphens and joiners.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn censored(insults: &[&str], text: &str) -> String {
        let mut censor = Censor::default();
        for insult in insults {
            censor.add(insult);
        }
        censor.censor(text, "CENSORED")
    }

    #[test]
    fn whole_words_are_replaced_beside_any_punctuation() {
        for (text, expected) in [
            ("eres tonto", "eres CENSORED"),
            ("¡TONTO!", "¡CENSORED!"),
            ("(tonto),tonto;tonto", "(CENSORED),CENSORED;CENSORED"),
            ("_tonto_ 'tonto' \"tonto\"", "_CENSORED_ 'CENSORED' \"CENSORED\""),
            ("tontos atonto tonto2", "tontos atonto tonto2"),
            ("ton\u{200b}to y ton\u{ad}to", "CENSORED y CENSORED"),
            ("tonto", "CENSORED"),
            ("", ""),
            ("  nada  de  eso  ", "  nada  de  eso  "),
            ("tonto\ntonto\t tonto", "CENSORED\nCENSORED\t CENSORED"),
            ("Ñoño 本 📖 tonto°", "CENSORED 本 📖 CENSORED°"),
        ] {
            assert_eq!(censored(&["tonto", "ñoño"], text), expected, "{text:?}");
        }
    }

    #[test]
    fn insults_of_several_words_are_found_and_the_longest_first() {
        let insults = ["cabeza", "cabeza de chorlito", "Cabeza-de-Ajo!"];
        for (text, expected) in [
            ("cabeza de chorlito, cabeza de ajo", "CENSORED, CENSORED"),
            ("CABEZA  DE\nCHORLITO!", "CENSORED!"),
            ("cabeza de", "CENSORED de"),
            ("la cabeza de", "la CENSORED de"),
        ] {
            assert_eq!(censored(&insults, text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_insult_is_registered_in_lower_case() {
        assert_eq!(insult(" TONTO \n").as_deref(), Some("tonto"));
        assert_eq!(insult("ÑOÑO!").as_deref(), Some("ñoño!"));
        for nothing in ["", "  ", "!!!", "\u{200b}"] {
            assert_eq!(insult(nothing), None, "{nothing:?}");
        }
        assert_eq!(censored(&["!!!"], "!!!"), "!!!");
    }
}
