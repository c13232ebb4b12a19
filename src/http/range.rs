//! Byte ranges (RFC 9110 section 14).

use std::fmt;

use crate::limits::{RANGE_GAP_BYTES_MAX, RANGES_MAX};

/// What a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ranges {
    /// Everything: there is no field, or none that means something.
    Whole,
    One(Span),
    /// Two or more, none of which touch.
    Several(Vec<Span>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Bytes from `from` up to, and not with, `to`; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Span {
    pub(crate) fn len(self) -> u64 {
        self.to - self.from
    }
}

/// Reads a Range field for a body of `len` bytes.
///
/// A field with a mistake, or with another unit, means nothing (section 14.2). Ranges that overlap
/// or nearly touch become one, and where that happens all are put in order (section 15.3.7.2).
/// More than `RANGES_MAX`, or as many bytes as there are, is everything.
pub(crate) fn parse(field: &str, len: u64) -> Ranges {
    let Some(set) = field.trim().get(..6).filter(|it| it.eq_ignore_ascii_case("bytes=")) else {
        return Ranges::Whole;
    };
    let (mut spans, mut any) = (Vec::new(), false);
    let mut first = None;
    for text in field.trim()[set.len()..].split(',').map(|it| it.trim_matches([' ', '\t'])) {
        if text.is_empty() {
            continue;
        }
        let Some(span) = one(text, len) else { return Ranges::Whole };
        any = true;
        match span {
            Asked::Span(span) => match first {
                None => first = Some(span),
                Some(_) if spans.len() + 1 >= RANGES_MAX => return Ranges::Whole,
                Some(_) => spans.push(span),
            },
            Asked::All => return Ranges::Whole,
            Asked::Nothing => {}
        }
    }
    match first {
        None if any => Ranges::Unsatisfiable,
        None => Ranges::Whole,
        Some(span) if spans.is_empty() => Ranges::One(span),
        Some(span) => {
            spans.insert(0, span);
            coalesce(spans, len)
        }
    }
}

enum Asked {
    Span(Span),
    /// The last bytes of nothing: it cannot be said which (section 14.1.2).
    All,
    Nothing,
}

/// One range; none if it is no range.
fn one(text: &str, len: u64) -> Option<Asked> {
    let (first, last) = text.split_once('-')?;
    let clamped = |to: u64| Span { from: 0, to: to.min(len) };
    if first.is_empty() {
        let count = number(last)?;
        return Some(match (count, len) {
            (0, _) => Asked::Nothing,
            (_, 0) => Asked::All,
            _ => Asked::Span(Span { from: len - count.min(len), to: len }),
        });
    }
    let from = number(first)?;
    let to = match last {
        "" => len,
        last => number(last).filter(|last| *last >= from)?.saturating_add(1),
    };
    let to = clamped(to).to;
    Some(if from < to { Asked::Span(Span { from, to }) } else { Asked::Nothing })
}

/// Digits only; a number too large for 64 bits is beyond every file.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

fn coalesce(asked: Vec<Span>, len: u64) -> Ranges {
    let mut sorted = asked.clone();
    sorted.sort_by_key(|it| it.from);
    let mut spans: Vec<Span> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match spans.last_mut() {
            Some(last) if span.from <= last.to.saturating_add(RANGE_GAP_BYTES_MAX) => {
                last.to = last.to.max(span.to);
            }
            _ => spans.push(span),
        }
    }
    if spans.len() == asked.len() {
        spans = asked; // in the client's order
    }
    if spans.iter().map(|it| it.len()).sum::<u64>() >= len {
        return Ranges::Whole;
    }
    match spans[..] {
        [span] => Ranges::One(span),
        _ => Ranges::Several(spans),
    }
}

/// The value of Content-Range: which bytes of how many.
pub(crate) struct ContentRange(pub(crate) Option<Span>, pub(crate) u64);

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => write!(f, "bytes {}-{}/{}", span.from, span.to - 1, self.1),
            None => write!(f, "bytes */{}", self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(ranges: Ranges) -> String {
        let span = |it: &Span| format!("{}-{}", it.from, it.to - 1);
        match ranges {
            Ranges::Whole => "whole".to_owned(),
            Ranges::Unsatisfiable => "416".to_owned(),
            Ranges::One(it) => span(&it),
            Ranges::Several(all) => all.iter().map(span).collect::<Vec<_>>().join(","),
        }
    }

    #[test]
    fn fields() {
        let many = |count: usize| {
            let all: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * 200)).collect();
            format!("bytes={}", all.join(","))
        };
        let cases = [
            ("bytes=0-0", 10_000, "0-0"),
            ("bytes=0-499", 10_000, "0-499"),
            ("bytes=500-999", 10_000, "500-999"),
            ("bytes=-500", 10_000, "9500-9999"),
            ("bytes=9500-", 10_000, "9500-9999"),
            ("bytes=0-0,-1", 10_000, "0-0,9999-9999"),
            ("bytes= 0-0 , -1 ", 10_000, "0-0,9999-9999"),
            ("bytes=,0-0,,", 10_000, "0-0"),
            ("BYTES=0-0", 10_000, "0-0"),
            ("bytes=0-99999", 10_000, "0-9999"),
            ("bytes=-99999", 10_000, "0-9999"),
            ("bytes=0-18446744073709551615", 10_000, "0-9999"),
            ("bytes=0-99999999999999999999999", 10_000, "0-9999"),
            ("bytes=99999999999999999999999-", 10_000, "416"),
            ("bytes=10000-", 10_000, "416"),
            ("bytes=10000-10001, -0", 10_000, "416"),
            ("bytes=10000-, 5-6", 10_000, "5-6"),
            ("bytes=-0", 10_000, "416"),
            ("bytes=0-", 0, "416"),
            ("bytes=0-0", 0, "416"),
            ("bytes=-5", 0, "whole"),
            // Mistakes mean nothing.
            ("bytes=5-4", 10_000, "whole"),
            ("bytes=a-b", 10_000, "whole"),
            ("bytes=0", 10_000, "whole"),
            ("bytes=-", 10_000, "whole"),
            ("bytes=+1-2", 10_000, "whole"),
            ("bytes=0-1-2", 10_000, "whole"),
            ("bytes=0 - 1", 10_000, "whole"),
            ("bytes=0-1;2-3", 10_000, "whole"),
            ("bytes=0-1, x", 10_000, "whole"),
            ("bytes 0-1", 10_000, "whole"),
            ("items=0-1", 10_000, "whole"),
            ("bytes", 10_000, "whole"),
            ("bytes=", 10_000, "whole"),
            ("", 10_000, "whole"),
            ("\u{e9}ytes=0-1", 10_000, "whole"),
            // Overlapping and nearly touching ones become one.
            ("bytes=0-9,5-14", 10_000, "0-14"),
            ("bytes=5-14,0-9", 10_000, "0-14"),
            ("bytes=0-9,10-19", 10_000, "0-19"),
            ("bytes=0-9,90-99", 10_000, "0-99"),
            ("bytes=0-9,91-99", 10_000, "0-9,91-99"),
            ("bytes=5000-5009,0-9", 10_000, "5000-5009,0-9"),
            ("bytes=5000-5009,0-9,5-20", 10_000, "0-20,5000-5009"),
            ("bytes=0-,0-,0-,0-", 10_000, "whole"),
            ("bytes=0-5000,5001-", 10_000, "whole"),
        ];
        for (field, len, want) in cases {
            assert_eq!(show(parse(field, len)), want, "{field} of {len}");
        }
        assert!(matches!(parse(&many(RANGES_MAX), 100_000), Ranges::Several(_)));
        assert_eq!(parse(&many(RANGES_MAX + 1), 100_000), Ranges::Whole);
    }
}
