//! What the naive parsers read from: one byte after another, until there are no more.

/// Why a naive parser gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes end here: nothing is wrong yet.
    Partial,
    /// The status of the refusal.
    Refused(u16),
}

pub(crate) struct Reader<'a> {
    pub bytes: &'a [u8],
    /// How many were read.
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Partial)?;
        self.at += 1;
        Ok(byte)
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char::from(byte))
}

/// What a field value may hold: HTAB / SP / VCHAR / obs-text (RFC 9110 section 5.5).
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || byte == b' ' || (0x21..=0x7e).contains(&byte) || byte >= 0x80
}

/// A value without the optional white space around it (RFC 9110 section 5.6.3).
pub(crate) fn without_ows(text: &str) -> &str {
    text.trim_matches(|c| c == ' ' || c == '\t')
}
