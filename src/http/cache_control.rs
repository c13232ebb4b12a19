//! What Cache-Control says (RFC 9111 section 5.2; RFC 5861 for the two that allow stale answers).

/// The directives of a request or of an answer that a shared cache looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// There was one, known or not.
    pub(crate) any: bool,
    pub(crate) no_store: bool,
    /// With field names too: they are few, and a cache may take it for all of the answer.
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    /// `proxy-revalidate` too: this is a shared cache.
    pub(crate) must_revalidate: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age_s: Option<u64>,
    pub(crate) s_maxage_s: Option<u64>,
    pub(crate) stale_while_revalidate_s: Option<u64>,
    pub(crate) stale_if_error_s: Option<u64>,
}

/// What larger numbers count as (RFC 9111 section 1.2.2).
pub(crate) const DELTA_S_MAX: u64 = 1 << 31;

impl Directives {
    /// Those of all lines of the field. What is said twice counts as the stricter of the two.
    pub(crate) fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Directives {
        let mut all = Directives::default();
        for line in lines {
            let mut rest = line;
            while !rest.is_empty() {
                let (element, after) = split(rest);
                all.add(element.trim_ascii());
                rest = after;
            }
        }
        all
    }

    fn add(&mut self, element: &[u8]) {
        if element.is_empty() {
            return;
        }
        self.any = true;
        let at = memchr::memchr(b'=', element);
        let (name, value) = match at {
            Some(at) => (element[..at].trim_ascii_end(), element[at + 1..].trim_ascii_start()),
            None => (element, &b""[..]),
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let seconds = |known: &mut Option<u64>| {
            let told = delta_s(value);
            *known = Some(known.map_or(told, |before| before.min(told)));
        };
        match name.len() {
            6 if is("public") => self.public = true,
            7 if is("private") => self.private = true,
            7 if is("max-age") => seconds(&mut self.max_age_s),
            8 if is("no-store") => self.no_store = true,
            8 if is("no-cache") => self.no_cache = true,
            8 if is("s-maxage") => seconds(&mut self.s_maxage_s),
            14 if is("only-if-cached") => self.only_if_cached = true,
            14 if is("stale-if-error") => seconds(&mut self.stale_if_error_s),
            15 if is("must-revalidate") => self.must_revalidate = true,
            16 if is("proxy-revalidate") => self.must_revalidate = true,
            22 if is("stale-while-revalidate") => seconds(&mut self.stale_while_revalidate_s),
            _ => {}
        }
    }
}

/// The first element of a list, and what follows its comma. One within quotes is none.
fn split(list: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&list[..at], &list[at + 1..]),
            _ => {}
        }
    }
    (list, b"")
}

/// Seconds, bare or in quotes. What is no number is none at all: then nothing is fresh.
pub(crate) fn delta_s(value: &[u8]) -> u64 {
    let bare = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    let digits = bare.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let add = |sum: u64, digit: &u8| {
        sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(DELTA_S_MAX)
    };
    digits.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        let none = Directives::default();
        let any = Directives { any: true, ..none };
        let age = |max_age_s| Directives { max_age_s: Some(max_age_s), ..any };
        let private = Directives { private: true, ..any };
        let cases: &[(&[&str], Directives)] = &[
            (&[], none),
            (&["", " , ,"], none),
            (&["unknown"], any),
            (&["max-age=60"], age(60)),
            (&["MAX-Age = 60 "], age(60)),
            (&["max-age=\"60\""], age(60)),
            (&["max-age=60, max-age=5"], age(5)),
            (&["max-age=5", "max-age=60"], age(5)),
            (&["max-age"], age(0)),
            (&["max-age="], age(0)),
            (&["max-age=-1"], age(0)),
            (&["max-age=+1"], age(0)),
            (&["max-age=1.5"], age(0)),
            (&["max-age=0x10"], age(0)),
            (&["max-age=1 000"], age(0)),
            (&["max-age=\"60"], age(0)),
            (&["max-age=99999999999999999999999999999"], age(DELTA_S_MAX)),
            (&["xmax-age=60"], any),
            (&["x=\"max-age=60, public\""], any),
            (&["x=\"\\\", private\""], any),
            (&["x=\"private"], any),
            (&["private"], private),
            (&["private=\"set-cookie, x-a\""], private),
            (&["x=\"a, b\", private"], private),
            (&["no-cache=\"x\""], Directives { no_cache: true, ..any }),
            (
                &["Public,,must-revalidate"],
                Directives { public: true, must_revalidate: true, ..any },
            ),
            (&["proxy-revalidate"], Directives { must_revalidate: true, ..any }),
            (&["no-store, only-if-cached"], {
                Directives { no_store: true, only_if_cached: true, ..any }
            }),
            (
                &["s-maxage=7,stale-while-revalidate=8 , stale-if-error=9"],
                Directives {
                    s_maxage_s: Some(7),
                    stale_while_revalidate_s: Some(8),
                    stale_if_error_s: Some(9),
                    ..any
                },
            ),
        ];
        for (lines, want) in cases {
            let got = Directives::read(lines.iter().map(|line| line.as_bytes()));
            assert_eq!(got, *want, "{lines:?}");
        }
    }
}
