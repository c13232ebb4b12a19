//! The Date field's value (RFC 9110 section 5.6.7), made once a second.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) const DATE_BYTES: usize = 29;

#[derive(Debug)]
pub(crate) struct DateCache {
    unix_secs: Cell<u64>,
    text: Cell<[u8; DATE_BYTES]>,
}

impl DateCache {
    pub(crate) fn new() -> DateCache {
        DateCache { unix_secs: Cell::new(0), text: Cell::new(text(0)) }
    }

    /// The date of that second.
    #[inline]
    pub(crate) fn at(&self, unix_secs: u64) -> [u8; DATE_BYTES] {
        if self.unix_secs.replace(unix_secs) != unix_secs {
            self.text.set(text(unix_secs));
        }
        self.text.get()
    }
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache::new()
    }
}

/// The format has four digits for the year: later dates stay at its end.
const UNIX_SECS_MAX: u64 = 253_402_300_799;

fn text(unix_secs: u64) -> [u8; DATE_BYTES] {
    let time = UNIX_EPOCH + Duration::from_secs(unix_secs.min(UNIX_SECS_MAX));
    let mut text = [b' '; DATE_BYTES];
    // The text has that length for every year of four digits, so nothing is cut off.
    let _ = write!(&mut text[..], "{}", HttpDate::from(time));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cache = DateCache::new();
        for (unix_secs, want) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (UNIX_SECS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(&cache.at(unix_secs), want.as_bytes(), "{unix_secs}");
        }
    }
}
