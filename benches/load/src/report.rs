//! Formatting of numbers in Markdown reports, and replacement of a section in a page.

use crate::spread::Spread;

/// Formats a number with this many decimal places, and commas between thousands.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", &*text), |text| ("-", text));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Formats the median followed by minimum and maximum, or a single number if all are equal.
pub fn spread(spread: Spread, digits: usize) -> String {
    let Spread { median, low, high } = spread;
    if low.total_cmp(&high).is_eq() {
        return number(median, digits);
    }
    format!("{} ({} to {})", number(median, digits), number(low, digits), number(high, digits))
}

/// Returns `page` with `text` between the lines `from` and `to`, or from `from` to the end if `to` is `None`. Returns
/// `None` if the page does not contain these lines.
pub fn replace_section(page: &str, from: &str, to: Option<&str>, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(from)?;
    Some(match to {
        None => format!("{before}{from}\n{text}"),
        Some(to) => format!("{before}{from}\n{text}\n{to}{}", rest.split_once(to)?.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_by_commas() {
        for (value, digits, text) in [
            (0.0, 0, "0"),
            (999.6, 0, "1,000"),
            (123_456.78, 1, "123,456.8"),
            (1_234_567.0, 0, "1,234,567"),
            (-1_234.5, 1, "-1,234.5"),
            (-123.0, 0, "-123"),
        ] {
            assert_eq!(number(value, digits), text);
        }
        let of = |values: &[f64]| Spread::of(values).expect("values");
        assert_eq!(spread(of(&[1.0, 1_000.0, 2.0]), 0), "2 (1 to 1,000)");
        assert_eq!(spread(of(&[1.0, 1.0]), 0), "1");
    }

    #[test]
    fn a_section_is_replaced_and_the_rest_of_the_page_stays() {
        let page = "head\n<from>\n\nold\n\n<to>\ntail\n";
        let new = replace_section(page, "<from>\n", Some("<to>\n"), "new\n");
        assert_eq!(new.as_deref(), Some("head\n<from>\n\nnew\n\n<to>\ntail\n"));
        assert_eq!(
            replace_section(page, "<from>\n", None, "new\n").as_deref(),
            Some("head\n<from>\n\nnew\n")
        );
        assert_eq!(replace_section(page, "<none>\n", None, "new\n"), None);
        assert_eq!(replace_section(page, "<from>\n", Some("<none>\n"), "new\n"), None);
    }
}
