//! Preconditions (RFC 9110 section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "files")]
use super::tags::{Compare, has_tag};

#[cfg(feature = "files")]
/// What becomes of a request with preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// 304: the client has it.
    NotModified,
    /// 412.
    Failed,
}

#[cfg(feature = "files")]
/// The fields of a request that set conditions. Lists are those of all lines.
pub(crate) struct Conditions<L> {
    pub(crate) if_match: L,
    pub(crate) if_none_match: L,
    pub(crate) if_modified_since: Option<SystemTime>,
    pub(crate) if_unmodified_since: Option<SystemTime>,
}

#[cfg(feature = "files")]
impl<'a, L: Iterator<Item = &'a str>> Conditions<L> {
    /// The verdict for GET and HEAD of something that exists, in the order of section 13.2.2.
    pub(crate) fn judge(self, tag: &str, modified: SystemTime) -> Verdict {
        let modified = whole_seconds(modified);
        let mut if_match = self.if_match.peekable();
        let mut if_none_match = self.if_none_match.peekable();
        if if_match.peek().is_some() {
            if !if_match.any(|list| has_tag(list, tag, Compare::Strong)) {
                return Verdict::Failed;
            }
        } else if self.if_unmodified_since.is_some_and(|since| modified > since) {
            return Verdict::Failed;
        }
        if if_none_match.peek().is_some() {
            if if_none_match.any(|list| has_tag(list, tag, Compare::Weak)) {
                return Verdict::NotModified;
            }
        } else if self.if_modified_since.is_some_and(|since| modified <= since) {
            return Verdict::NotModified;
        }
        Verdict::Go
    }
}

#[cfg(feature = "files")]
/// Whether a Range field counts, by what If-Range says (section 13.1.5): a strong tag that is this
/// one, or exactly the date of the last change.
pub(crate) fn if_range(value: &str, tag: &str, modified: SystemTime) -> bool {
    match value.as_bytes().first() {
        Some(b'"') => value == tag,
        Some(b'W') if value.starts_with("W/") => false,
        _ => date(value) == Some(whole_seconds(modified)),
    }
}

/// A date of HTTP; one that is none means nothing. All before 1970 are one, earlier than any file.
pub(crate) fn date(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    httpdate::parse_http_date(text).ok().or_else(|| before_1970(text))
}

/// Years that the parser does not know. The calendar repeats every 400 years, weekdays too, so such
/// a date is one if it is one 2000 years later.
fn before_1970(text: &str) -> Option<SystemTime> {
    let at =
        if text.ends_with(" GMT") { "Sun, 06 Nov ".len() } else { text.len().checked_sub(4)? };
    let (day, time) = (text.get(..at)?, text.get(at + 4..)?);
    let digits = text.get(at..at + 4).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?;
    let year = digits.parse::<u32>().ok().filter(|year| *year < 1970)?;
    httpdate::parse_http_date(&format!("{day}{}{time}", year + 2000)).ok()?;
    UNIX_EPOCH.checked_sub(Duration::from_secs(1))
}

#[cfg(feature = "files")]
/// Dates of HTTP have no more.
pub(crate) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(all(test, feature = "files"))]
mod tests {
    use super::*;

    #[test]
    fn preconditions_in_their_order() {
        let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        let (tag, other) = ("\"a\"", "\"b\"");
        let (same, before, after) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:38 GMT",
        );
        let (go, known, failed) = (Verdict::Go, Verdict::NotModified, Verdict::Failed);
        // (If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since) -> verdict
        type Row<'a> = ([&'a str; 4], Verdict);
        let cases: &[Row<'_>] = &[
            (["", "", "", ""], go),
            ([tag, "", "", ""], go),
            (["*", "", "", ""], go),
            ([other, "", "", ""], failed),
            (["W/\"a\"", "", "", ""], failed),
            (["", same, "", ""], go),
            (["", after, "", ""], go),
            (["", before, "", ""], failed),
            (["", "Fri, 01 Jan 1904 00:00:00 GMT", "", ""], failed),
            (["", "yesterday", "", ""], go),
            ([tag, before, "", ""], go), // a tag says more than a date
            ([other, same, "", ""], failed),
            (["", "", tag, ""], known),
            (["", "", "W/\"a\"", ""], known),
            (["", "", "*", ""], known),
            (["", "", other, ""], go),
            (["", "", "", same], known),
            (["", "", "", after], known),
            (["", "", "", before], go),
            (["", "", "", "tomorrow"], go),
            (["", "", other, same], go), // as above
            (["", "", tag, before], known),
            ([tag, "", tag, ""], known),
            ([other, "", tag, ""], failed),
            (["", before, "", same], failed),
        ];
        for ([if_match, unmodified, if_none_match, since], want) in cases {
            let lines = |line: &'static str| Some(line).filter(|it| !it.is_empty()).into_iter();
            let conditions = Conditions {
                if_match: lines(if_match),
                if_none_match: lines(if_none_match),
                if_modified_since: date(since),
                if_unmodified_since: date(unmodified),
            };
            let row = [if_match, unmodified, if_none_match, since];
            assert_eq!(conditions.judge(tag, modified), *want, "{row:?}");
        }
        for (value, want) in [
            (tag, true),
            (other, false),
            ("W/\"a\"", false),
            (same, true),
            (before, false),
            (after, false),
            ("", false),
        ] {
            assert_eq!(if_range(value, tag, modified), want, "If-Range: {value}");
        }
        assert!(!if_range("W/\"a\"", "W/\"a\"", modified));
    }

    #[test]
    fn dates() {
        let earlier = UNIX_EPOCH.checked_sub(Duration::from_secs(1));
        for (text, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(UNIX_EPOCH)),
            (" Thu Jan  1 00:00:00 1970 ", Some(UNIX_EPOCH)),
            ("Thursday, 01-Jan-70 00:00:00 GMT", Some(UNIX_EPOCH)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", earlier),
            ("Fri, 01 Jan 1904 00:00:00 GMT", earlier),
            ("Fri Jan  1 00:00:00 1904", earlier),
            ("Mon, 01 Jan 0001 00:00:00 GMT", earlier),
            ("Tue, 29 Feb 1600 00:00:00 GMT", earlier),
            ("Thu, 29 Feb 1900 00:00:00 GMT", None),
            ("Sat, 01 Jan 1904 00:00:00 GMT", None),
            ("Fri, 32 Jan 1904 00:00:00 GMT", None),
            ("Fri, 01 Jan 1904 24:00:00 GMT", None),
            ("Fri, 01 Jan 1904 00:00:00 +00", None),
            ("Fri, 01 Jan +904 00:00:00 GMT", None),
            ("Fri, 01 Jan 1904 GMT", None),
            ("1904", None),
            ("\u{e9}904", None),
            (" GMT", None),
            ("190", None),
            ("", None),
        ] {
            assert_eq!(date(text), want, "{text}");
        }
    }
}
