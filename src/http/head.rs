//! The head of a request: bytes in, spans out, RFC 9112 without leniency.
//!
//! The verdict is a function of the bytes alone. Whatever way they arrive, every shorter prefix
//! gives `Partial`, then one final answer that no further byte changes. Three rules make it so:
//!
//! 1. Only the first `head_bytes_max` bytes are looked at. A head that does not end within them is
//!    431, or 414 when its version is not even reached.
//! 2. What is wrong at a byte is said as soon as that byte is seen: leading lines, method, target
//!    (length, then characters), version, the shape of field lines, their number.
//! 3. What takes the whole head is said at its end. Any 400 goes before a 501, a 501 before a 417.
//!
//! Decisions where the RFCs leave room: a bare LF, or a field value that is not UTF-8, is 400 (at
//! the end of the head). An empty Host is taken, as RFC 9112 section 3.2 has it, unless the target
//! names an authority. Of an absolute-form target and Host the target wins, but Host must still be
//! valid. CONNECT is 501. Every well-formed version but 1.0 and 1.1 is 505.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;
use std::str;

/// A piece of the bytes given to [`parse`].
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u16,
    pub end: u16,
}

impl Span {
    /// The bytes of this span; `bytes` begins where the parsed ones began.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }

    /// The same as text: every span of an accepted head is UTF-8.
    pub(crate) fn text(self, bytes: &[u8]) -> &str {
        str::from_utf8(self.of(bytes)).unwrap_or_default()
    }

    pub(crate) fn len(self) -> usize {
        usize::from(self.end - self.start)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Where `piece` lies in a window that begins at the address `base`.
    fn at(base: usize, piece: &[u8]) -> Span {
        let start = piece.as_ptr().addr() - base;
        Span::new(start, start + piece.len())
    }

    /// Offsets stay below [`HEAD_BYTES_LIMIT`].
    fn new(start: usize, end: usize) -> Span {
        Span { start: start as u16, end: end as u16 }
    }
}

/// One field line.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: Span,
    pub value: Span,
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Connect,
    Trace,
    /// Its name is [`Head::method_name`].
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub(crate) fn from_bytes(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"PATCH" => Method::Patch,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }
}

#[cfg(test)]
impl Method {
    /// Empty for [`Method::Other`].
    fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
            Method::Connect => "CONNECT",
            Method::Trace => "TRACE",
            Method::Other => "",
        }
    }
}

/// How the body is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// A parsed head, reused from request to request: [`parse`] clears and refills it.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub method: Method,
    pub method_name: Span,
    pub target: Span,
    /// `*` for the asterisk form; `/` when an absolute form has none.
    pub path: Span,
    /// Empty when there is none.
    pub query: Span,
    pub has_query: bool,
    /// The authority of an absolute-form target, else the value of Host, else empty.
    pub host: Span,
    /// The minor version: 0 or 1.
    pub minor: u8,
    pub fields: Vec<Field>,
    pub body: Body,
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends a body that is not empty.
    pub expect_continue: bool,
    /// HTTP/1.1 with `Connection: upgrade` and an Upgrade field.
    pub upgrade: bool,
    /// All bytes of the head, a leading empty line included.
    pub len: usize,
}

impl Head {
    /// The value of the first field of that name.
    pub(crate) fn field<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a str> {
        let same = |f: &&Field| {
            f.name.len() == name.len() && f.name.of(bytes).eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields.iter().find(same).map(|f| f.value.text(bytes))
    }

    fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Head { fields, ..Head::default() };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    pub target_bytes_max: usize,
    /// At most [`HEAD_BYTES_LIMIT`]: more is taken as that.
    pub head_bytes_max: usize,
    /// At most [`FIELDS_LIMIT`]: more is taken as that.
    pub fields_max: usize,
}

/// Why a request is refused, in one line of plain text for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Partial,
    Complete,
    Refused(Refusal),
}

/// Offsets are 16 bits wide.
pub(crate) const HEAD_BYTES_LIMIT: usize = u16::MAX as usize;

/// Field lines are collected on the stack first.
pub(crate) const FIELDS_LIMIT: usize = 128;

/// Parses the head at the start of `bytes`. `head` means something after `Complete` only.
pub(crate) fn parse(bytes: &[u8], limits: &HeadLimits, head: &mut Head) -> Parsed {
    head.clear();
    let window_bytes = limits.head_bytes_max.min(HEAD_BYTES_LIMIT);
    let window = &bytes[..bytes.len().min(window_bytes)];
    let skipped = match window.first() {
        Some(b'\r' | b'\n') | None => match leading_line(window) {
            Ok(Some(skipped)) => skipped,
            Ok(None) if window.len() == window_bytes => return Parsed::Refused(LINE_TOO_LONG),
            Ok(None) => return Parsed::Partial,
            Err(refusal) => return Parsed::Refused(refusal),
        },
        Some(_) => 0,
    };

    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_LIMIT];
    let slots = &mut slots[..limits.fields_max.min(FIELDS_LIMIT)];
    let mut request = httparse::Request::new(&mut []);
    let error = match request.parse_with_uninit_headers(&window[skipped..], slots) {
        Ok(httparse::Status::Complete(len)) => {
            let window = &window[..skipped + len];
            return match fill(window, skipped, &request, limits, head) {
                Ok(()) => Parsed::Complete,
                Err(refusal) => Parsed::Refused(refusal),
            };
        }
        Ok(httparse::Status::Partial) => None,
        Err(error) => Some(error),
    };
    let full = window.len() == window_bytes;
    unfinished(&window[skipped..], full, &request, error, limits)
}

/// The length of the empty line before a request line: RFC 9112 section 2.2 lets a server skip one.
fn leading_line(window: &[u8]) -> Result<Option<usize>, Refusal> {
    match window {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(LEADING_LINES),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        _ => Err(BARE_LINE_END),
    }
}

/// The verdict on a head that did not parse, or not yet. What httparse got through is known good.
#[cold]
fn unfinished(
    window: &[u8],
    full: bool,
    request: &httparse::Request<'_, '_>,
    error: Option<httparse::Error>,
    limits: &HeadLimits,
) -> Parsed {
    let Some(method) = request.method else {
        return match error {
            Some(_) => Parsed::Refused(BAD_METHOD),
            None => wait(full, LINE_TOO_LONG),
        };
    };
    let target_start = method.len() + 1;
    let Some(target) = request.path else {
        let seen = window[target_start..].iter().take_while(|b| **b > b' ' && **b != 0x7f);
        return match error {
            _ if seen.count() > limits.target_bytes_max => Parsed::Refused(LINE_TOO_LONG),
            Some(_) => Parsed::Refused(BAD_TARGET),
            None => wait(full, LINE_TOO_LONG),
        };
    };
    if let Err(refusal) = target_characters(target.as_bytes(), limits) {
        return Parsed::Refused(refusal);
    }
    match error {
        Some(httparse::Error::Version) => {
            match version_refusal(&window[target_start + target.len() + 1..]) {
                Some(refusal) => Parsed::Refused(refusal),
                None => wait(full, LINE_TOO_LONG),
            }
        }
        Some(httparse::Error::HeaderName) => Parsed::Refused(BAD_FIELD_NAME),
        Some(httparse::Error::HeaderValue) => Parsed::Refused(BAD_FIELD_VALUE),
        Some(httparse::Error::TooManyHeaders) => Parsed::Refused(TOO_MANY_FIELDS),
        Some(_) => Parsed::Refused(BARE_LINE_END),
        None if request.version.is_none() => wait(full, LINE_TOO_LONG),
        None => wait(full, HEAD_TOO_LONG),
    }
}

fn wait(full: bool, refusal: Refusal) -> Parsed {
    if full { Parsed::Refused(refusal) } else { Parsed::Partial }
}

/// httparse takes 1.0 and 1.1 only, and does not say whether the rest is a version at all.
/// `None` while that cannot be told.
fn version_refusal(version: &[u8]) -> Option<Refusal> {
    for (at, want) in b"HTTP/d.d\r\n".iter().enumerate() {
        let fits = match (want, version.get(at)?) {
            (b'd', seen) => seen.is_ascii_digit(),
            (want, seen) => want == seen,
        };
        if !fits {
            return Some(BAD_VERSION);
        }
    }
    Some(OTHER_VERSION)
}

fn target_characters(target: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    if target.len() > limits.target_bytes_max {
        Err(LINE_TOO_LONG)
    } else if !target.is_ascii() {
        Err(BAD_TARGET)
    } else if memchr::memchr(b'#', target).is_some() {
        Err(FRAGMENT)
    } else {
        Ok(())
    }
}

/// `window` is the whole head; `request` was parsed from it after `skipped` bytes.
fn fill(
    window: &[u8],
    skipped: usize,
    request: &httparse::Request<'_, '_>,
    limits: &HeadLimits,
    head: &mut Head,
) -> Result<(), Refusal> {
    let base = window.as_ptr().addr();
    let method = request.method.unwrap_or_default().as_bytes();
    let target = request.path.unwrap_or_default().as_bytes();
    head.len = window.len();
    head.minor = request.version.unwrap_or_default();
    head.method = Method::from_bytes(method);
    head.method_name = Span::new(skipped, skipped + method.len());
    head.target = Span::at(base, target);

    // The same order as in `target_characters`, which sees a head before its end.
    let is_ascii = window.is_ascii();
    if target.len() > limits.target_bytes_max {
        return Err(LINE_TOO_LONG);
    } else if !is_ascii && !target.is_ascii() {
        return Err(BAD_TARGET);
    }
    split_target(target, head)?;

    // httparse lets a bare LF end a line, and no other control byte in: looking at the two bytes
    // before each line's start, and at the end, covers every line end.
    let mut seen = Seen::default();
    for header in request.headers.iter() {
        let field = Field {
            name: Span::at(base, header.name.as_bytes()),
            value: Span::at(base, header.value),
        };
        if !window[..usize::from(field.name.start)].ends_with(b"\r\n") {
            return Err(BARE_LINE_END);
        }
        head.fields.push(field);
        seen.field(header.name.as_bytes(), header.value, field.value)?;
    }
    if !window.ends_with(b"\r\n\r\n") {
        return Err(BARE_LINE_END);
    }
    if !is_ascii && request.headers.iter().any(|h| str::from_utf8(h.value).is_err()) {
        return Err(NOT_UTF8);
    }
    seen.conclude(head)
}

/// Sets path, query and, for the absolute form, host: RFC 9112 section 3.2.
fn split_target(target: &[u8], head: &mut Head) -> Result<(), Refusal> {
    let start = usize::from(head.target.start);
    let mut path_end = target.len();
    if let Some(mark) = memchr::memchr2(b'?', b'#', target) {
        if memchr::memchr(b'#', &target[mark..]).is_some() {
            return Err(FRAGMENT);
        }
        path_end = mark;
        head.has_query = true;
        head.query = Span::new(start + mark + 1, start + target.len());
    }
    if target.first() == Some(&b'/') {
        head.path = Span::new(start, start + path_end);
        return Ok(());
    }
    if head.method == Method::Connect || (head.method == Method::Options && target == b"*") {
        head.path = head.target;
        return Ok(());
    }
    let authority_start = match target {
        _ if starts_folded(target, b"http://") => b"http://".len(),
        _ if starts_folded(target, b"https://") => b"https://".len(),
        _ => return Err(BAD_FORM),
    };
    let rest = target.get(authority_start..path_end).unwrap_or_default();
    let authority = &rest[..memchr::memchr(b'/', rest).unwrap_or(rest.len())];
    if !is_authority(authority) {
        return Err(BAD_AUTHORITY);
    }
    let path_start = authority_start + authority.len();
    head.host = Span::new(start + authority_start, start + path_start);
    head.path = Span::new(start + path_start, start + path_end);
    if head.path.is_empty() {
        // An empty path is "/" (RFC 9110 section 4.2.3): the last byte of "://" is one.
        head.path = Span::new(start + authority_start - 1, start + authority_start);
    }
    Ok(())
}

/// What the fields say of framing and connection, gathered in one pass.
#[derive(Default)]
struct Seen {
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
    other_coding: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: bool,
    expect_continue: bool,
    expect_other: bool,
}

impl Seen {
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8], span: Span) -> Result<(), Refusal> {
        match name.len() {
            4 if is_folded(name, b"host") => {
                if self.host.is_some() {
                    return Err(SECOND_HOST);
                }
                if !value.is_empty() && !is_authority(value) {
                    return Err(BAD_HOST);
                }
                self.host = Some(span);
            }
            6 if is_folded(name, b"expect") => match is_folded(value, b"100-continue") {
                true => self.expect_continue = true,
                false => self.expect_other = true,
            },
            7 if is_folded(name, b"upgrade") => self.upgrade = true,
            10 if is_folded(name, b"connection") => self.connection(value)?,
            14 if is_folded(name, b"content-length") => {
                if self.length.is_some() {
                    return Err(SECOND_LENGTH);
                }
                self.length = Some(decimal(value).ok_or(BAD_LENGTH)?);
            }
            17 if is_folded(name, b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if is_folded(value, b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in value.split(|b| *b == b',').map(trim) {
            if is_folded(option, b"keep-alive") {
                self.keep_alive = true;
            } else if is_folded(option, b"close") {
                self.close = true;
            } else if is_folded(option, b"upgrade") {
                self.upgrade_option = true;
            } else if !option.iter().all(|b| is_token_byte(*b)) {
                return Err(BAD_CONNECTION);
            }
        }
        Ok(())
    }

    /// `chunked` once, last and alone is understood. An unknown coding is 501, a list that ends a
    /// body twice or nowhere 400 (RFC 9112 sections 6.1, 6.3 and 7).
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for coding in value.split(|b| *b == b',').map(trim) {
            if self.chunked {
                return Err(AFTER_CHUNKED);
            }
            if is_folded(coding, b"chunked") {
                self.chunked = true;
                continue;
            }
            let name = trim(coding.split(|b| *b == b';').next().unwrap_or_default());
            let is_token = !name.is_empty() && name.iter().all(|b| is_token_byte(*b));
            if !is_token || is_folded(name, b"chunked") {
                return Err(BAD_CODING);
            }
            self.other_coding = true;
        }
        Ok(())
    }

    fn conclude(&self, head: &mut Head) -> Result<(), Refusal> {
        let has_authority = !head.host.is_empty();
        match self.host {
            None if head.minor == 1 => return Err(NO_HOST),
            Some(host) if has_authority && host.is_empty() => return Err(BAD_HOST),
            Some(host) if !has_authority => head.host = host,
            _ => {}
        }
        if self.chunked || self.other_coding {
            if self.length.is_some() {
                return Err(LENGTH_AND_CODING);
            }
            if head.minor == 0 {
                return Err(CODING_IN_1_0);
            }
            if self.other_coding {
                return Err(OTHER_CODING);
            }
            head.body = Body::Chunked;
        } else if let Some(length) = self.length {
            head.body = Body::Length(length);
        }
        if head.method == Method::Connect {
            return Err(CONNECT);
        }
        if self.expect_other {
            return Err(OTHER_EXPECTATION);
        }
        let is_1_1 = head.minor == 1;
        let has_body = !matches!(head.body, Body::None | Body::Length(0));
        head.keep_alive = !self.close && (is_1_1 || self.keep_alive);
        head.expect_continue = self.expect_continue && is_1_1 && has_body;
        head.upgrade = self.upgrade && self.upgrade_option && is_1_1;
        Ok(())
    }
}

/// `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 section 4.2.1) and no userinfo
/// (section 4.2.4). No IPvFuture is defined, so none is taken.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    if let Some(literal) = authority.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        let is_v6 = str::from_utf8(&literal[..end]).is_ok_and(|t| t.parse::<Ipv6Addr>().is_ok());
        return is_v6 && is_port(&literal[end..]);
    }
    let mut at = 0;
    loop {
        let plain = authority[at..].iter().position(|b| !REG_NAME[usize::from(*b)]);
        let Some(plain) = plain else { return !authority.is_empty() };
        at += plain;
        match &authority[at..] {
            [b':', ..] => return at > 0 && is_port(&authority[at - 1..]),
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
            _ => return false,
        }
    }
}

/// `rest` is one byte of the host, then `:` and digits, or nothing.
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [_] | [_, b':'] => true,
        // Five digits at most, as nearly always, need no look at overflow.
        [_, b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let value = |sum: u32, digit: &u8| sum * 10 + u32::from(digit - b'0');
            digits.iter().fold(0, value) <= u32::from(u16::MAX)
        }
        [_, b':', digits @ ..] => decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    }
}

/// `1*DIGIT`, nothing else, within 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    let digit = |sum: u64, byte: &u8| {
        let value = byte.checked_sub(b'0').filter(|v| *v <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(value))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
}

/// Case-insensitive equality with `want`: lower-case letters, digits and `-`. Setting bit 5 folds
/// letters, and takes only control bytes, which never get here, to digits and `-`.
#[inline]
fn is_folded<const N: usize>(bytes: &[u8], want: &[u8; N]) -> bool {
    let Ok(bytes) = <&[u8; N]>::try_from(bytes) else { return false };
    bytes.iter().zip(want).fold(0, |odd, (b, w)| odd | ((b | 0x20) ^ w)) == 0
}

fn starts_folded(bytes: &[u8], want: &[u8]) -> bool {
    bytes.get(..want.len()).is_some_and(|start| start.eq_ignore_ascii_case(want))
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// `tchar` of RFC 9110 section 5.6.2.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// `unreserved / sub-delims` of RFC 3986.
static REG_NAME: [bool; 256] = table(b"-._~!$&'()*+,;=");

const fn table(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
}

const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

const LEADING_LINES: Refusal = refusal(400, "more than one empty line before the request line");
const BARE_LINE_END: Refusal = refusal(400, "a line does not end in CRLF");
const BAD_METHOD: Refusal = refusal(400, "the method is not a token followed by one space");
const BAD_TARGET: Refusal = refusal(400, "the request target has a byte that is not allowed there");
const BAD_FORM: Refusal = refusal(400, "the request target is neither a path nor an http URL");
const BAD_AUTHORITY: Refusal = refusal(400, "the request target names no valid host");
const FRAGMENT: Refusal = refusal(400, "the request target has a fragment");
const BAD_VERSION: Refusal = refusal(400, "the request line does not end in an HTTP version");
const BAD_FIELD_NAME: Refusal = refusal(400, "a header field has no valid name before its colon");
const BAD_FIELD_VALUE: Refusal = refusal(400, "a header field value has a forbidden byte");
const NOT_UTF8: Refusal = refusal(400, "a header field value is not UTF-8");
const NO_HOST: Refusal = refusal(400, "Host is missing");
const SECOND_HOST: Refusal = refusal(400, "Host is there more than once");
const BAD_HOST: Refusal = refusal(400, "Host is not a valid host and port");
const BAD_LENGTH: Refusal = refusal(400, "Content-Length is not a decimal number of 64 bits");
const SECOND_LENGTH: Refusal = refusal(400, "Content-Length is there more than once");
const LENGTH_AND_CODING: Refusal = refusal(400, "both Content-Length and Transfer-Encoding");
const CODING_IN_1_0: Refusal = refusal(400, "Transfer-Encoding in an HTTP/1.0 request");
const BAD_CODING: Refusal = refusal(400, "Transfer-Encoding is malformed");
const AFTER_CHUNKED: Refusal = refusal(400, "chunked is not the last transfer coding");
const BAD_CONNECTION: Refusal = refusal(400, "Connection is not a list of tokens");
const LINE_TOO_LONG: Refusal = refusal(414, "the request line is too long");
const OTHER_EXPECTATION: Refusal = refusal(417, "only 100-continue can be expected");
const HEAD_TOO_LONG: Refusal = refusal(431, "the request head is too long");
const TOO_MANY_FIELDS: Refusal = refusal(431, "the request has too many header fields");
const OTHER_CODING: Refusal = refusal(501, "chunked is the only transfer coding known here");
const CONNECT: Refusal = refusal(501, "this server is no proxy: CONNECT is not offered");
const OTHER_VERSION: Refusal = refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits =
        HeadLimits { target_bytes_max: 40, head_bytes_max: 300, fields_max: 4 };

    /// Feeds every prefix: `Partial` up to some length, one and the same answer from there on, with
    /// anything after it.
    fn verdict(bytes: &[u8], limits: &HeadLimits) -> (Parsed, Head) {
        let mut head = Head::default();
        let whole = parse(bytes, limits, &mut head);
        let mut grown = Head { fields: vec![Field::default()], len: 7, ..Head::default() };
        let mut decided = false;
        for len in 0..=bytes.len() {
            let now = parse(&bytes[..len], limits, &mut grown);
            decided |= now != Parsed::Partial;
            let want = if decided { whole } else { Parsed::Partial };
            assert_eq!(now, want, "{len} bytes of {:?}", bytes.escape_ascii().to_string());
            if now == Parsed::Complete {
                assert_eq!(grown, head, "{len} bytes of {:?}", bytes.escape_ascii().to_string());
            }
        }
        if whole != Parsed::Partial {
            for more in ["\0", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", " x"] {
                let bytes = [bytes, more.as_bytes()].concat();
                assert_eq!(parse(&bytes, limits, &mut grown), whole);
            }
        }
        (whole, head)
    }

    fn accepted(text: &str) -> Head {
        let (parsed, head) = verdict(text.as_bytes(), &LIMITS);
        assert_eq!(parsed, Parsed::Complete, "{text:?}");
        head
    }

    #[test]
    fn targets() {
        let with_host = "HTTP/1.1\r\nHost: h\r\n\r\n";
        for (line, path, query, host) in [
            ("GET /", "/", None, "h"),
            ("GET /a/b%20c", "/a/b%20c", None, "h"),
            ("GET /a?", "/a", Some(""), "h"),
            ("GET /a?b=c?d", "/a", Some("b=c?d"), "h"),
            ("GET //a", "//a", None, "h"),
            ("GET /http://x/", "/http://x/", None, "h"),
            ("OPTIONS *", "*", None, "h"),
            ("OPTIONS /", "/", None, "h"),
            ("GET http://x/a?b", "/a", Some("b"), "x"),
            ("GET HTTP://x:80/", "/", None, "x:80"),
            ("GET https://[::1]:8/a", "/a", None, "[::1]:8"),
            ("GET http://x", "/", None, "x"),
            ("GET http://x?b/c", "/", Some("b/c"), "x"),
            ("GET http://x/a?b=http://y/", "/a", Some("b=http://y/"), "x"),
        ] {
            let text = format!("{line} {with_host}");
            let bytes = text.as_bytes();
            let head = accepted(&text);
            let (method, target) = line.split_once(' ').unwrap();
            assert_eq!(head.method_name.text(bytes), method);
            assert_eq!(head.method.as_str(), method);
            assert_eq!(head.target.text(bytes), target);
            assert_eq!(head.path.text(bytes), path, "{line}");
            assert_eq!(head.has_query.then(|| head.query.text(bytes)), query, "{line}");
            assert!(head.has_query || head.query.is_empty());
            assert_eq!(head.host.text(bytes), host, "{line}");
            assert_eq!(head.len, bytes.len());
        }
    }

    #[test]
    fn methods() {
        for (name, method) in [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("POST", Method::Post),
            ("PUT", Method::Put),
            ("DELETE", Method::Delete),
            ("PATCH", Method::Patch),
            ("OPTIONS", Method::Options),
            ("TRACE", Method::Trace),
            ("get", Method::Other),
            ("GE", Method::Other),
            ("GETS", Method::Other),
            ("M-SEARCH", Method::Other),
            ("!#$%&'*+-.^_`|~09azAZ", Method::Other),
        ] {
            let text = format!("{name} / HTTP/1.0\r\n\r\n");
            let head = accepted(&text);
            assert_eq!((head.method, head.method_name.text(text.as_bytes())), (method, name));
            assert!(
                method == Method::Other || Method::from_bytes(method.as_str().as_bytes()) == method
            );
        }
    }

    #[test]
    fn framing_and_connection() {
        let none = "";
        for (minor, fields, body, flags) in [
            (1, "", Body::None, "keep"),
            (0, "", Body::None, none),
            (1, "content-length: 0\r\n", Body::Length(0), "keep"),
            (1, "Content-Length:5\r\n", Body::Length(5), "keep"),
            (1, "content-length: \t 007 \t\r\n", Body::Length(7), "keep"),
            (0, "content-length: 18446744073709551615\r\n", Body::Length(u64::MAX), none),
            (1, "transfer-encoding: chunked\r\n", Body::Chunked, "keep"),
            (1, "TRANSFER-ENCODING:ChunkeD\r\n", Body::Chunked, "keep"),
            (1, "connection: close\r\n", Body::None, none),
            (1, "connection: keep-alive\r\n", Body::None, "keep"),
            (1, "connection: keep-alive, Close\r\n", Body::None, none),
            (1, "connection: x\r\nconnection:CLOSE\r\n", Body::None, none),
            (1, "connection: closed, x-close\r\n", Body::None, "keep"),
            (1, "connection:\r\nconnection: ,, \t,close\r\n", Body::None, none),
            (0, "connection: Keep-Alive\r\n", Body::None, "keep"),
            (0, "connection: close\r\nconnection: keep-alive\r\n", Body::None, none),
            (1, "connection: upgrade\r\nupgrade: echo\r\n", Body::None, "keep upgrade"),
            (1, "connection: keep-alive, Upgrade\r\nUpgrade: x\r\n", Body::None, "keep upgrade"),
            (1, "connection: upgrade\r\n", Body::None, "keep"),
            (1, "upgrade: echo\r\n", Body::None, "keep"),
            (0, "connection: upgrade\r\nupgrade: echo\r\n", Body::None, none),
            (1, "expect: 100-Continue\r\ncontent-length: 1\r\n", Body::Length(1), "keep expect"),
            (1, "expect: 100-continue\r\ncontent-length: 0\r\n", Body::Length(0), "keep"),
            (1, "expect: 100-continue\r\n", Body::None, "keep"),
            (0, "expect: 100-continue\r\ncontent-length: 1\r\n", Body::Length(1), none),
        ] {
            let head = accepted(&format!("POST / HTTP/1.{minor}\r\nhost: h\r\n{fields}\r\n"));
            let seen = [
                head.keep_alive.then_some("keep"),
                head.upgrade.then_some("upgrade"),
                head.expect_continue.then_some("expect"),
            ];
            let seen: Vec<_> = seen.into_iter().flatten().collect();
            assert_eq!((head.minor, head.body), (minor, body), "{fields:?}");
            assert_eq!(seen.join(" "), flags, "1.{minor} {fields:?}");
        }
    }

    #[test]
    fn fields() {
        let text = "\r\nGET / HTTP/1.1\r\nHost:\r\nX-A: \t a  b\t \r\nx-a:2\r\nx-\u{62}: caf\u{e9}\r\n\r\n";
        let bytes = text.as_bytes();
        let head = accepted(text);
        let pair = |f: &Field| (f.name.text(bytes), f.value.text(bytes));
        let pairs: Vec<_> = head.fields.iter().map(pair).collect();
        assert_eq!(pairs, [("Host", ""), ("X-A", "a  b"), ("x-a", "2"), ("x-b", "caf\u{e9}")]);
        assert_eq!(head.field(bytes, "x-A"), Some("a  b"));
        assert_eq!(head.field(bytes, "host"), Some(""));
        assert_eq!(head.field(bytes, "x-c"), None);
        assert_eq!((head.len, head.host.len()), (bytes.len(), 0));
    }

    #[test]
    fn hosts() {
        for (host, valid) in [
            ("h", true),
            ("h:80", true),
            ("h:", true),
            ("h:65535", true),
            ("a-b_c.d~e!$&'()*+,;=", true),
            ("%41%zz", false),
            ("%41b%7e", true),
            ("%4", false),
            ("127.0.0.1:8080", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("[::ffff:1.2.3.4]", true),
            ("[::1", false),
            ("[::1]80", false),
            ("[::1]:x", false),
            ("[::1%25lo]", false),
            ("[v1.x]", false),
            ("[]", false),
            (":80", false),
            ("h:65536", false),
            ("h:8 0", false),
            ("h:+80", false),
            ("h:80:80", false),
            ("u@h", false),
            ("h/p", false),
            ("h?q", false),
            ("a b", false),
            ("a\\b", false),
            ("a,b", true),
            ("caf\u{e9}", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let (parsed, head) = verdict(text.as_bytes(), &LIMITS);
            assert_eq!(parsed == Parsed::Complete, valid, "{host}");
            assert!(valid || parsed == Parsed::Refused(BAD_HOST), "{host}");
            assert!(!valid || head.host.text(text.as_bytes()) == host);
        }
    }

    #[test]
    fn refusals() {
        let long = "x".repeat(300);
        let line = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nhost: h\r\n{fields}\r\n");
        for (text, refusal) in [
            ("\n".to_owned(), BARE_LINE_END),
            ("\rG".to_owned(), BARE_LINE_END),
            ("\r\n\r\nGET / HTTP/1.0\r\n\r\n".to_owned(), LEADING_LINES),
            ("\r\n\nGET / HTTP/1.0\r\n\r\n".to_owned(), LEADING_LINES),
            ("\nGET / HTTP/1.0\r\n\r\n".to_owned(), BARE_LINE_END),
            (" GET / HTTP/1.0\r\n\r\n".to_owned(), BAD_METHOD),
            ("\r\n GET / HTTP/1.0\r\n\r\n".to_owned(), BAD_METHOD),
            ("G(T / HTTP/1.0\r\n\r\n".to_owned(), BAD_METHOD),
            ("GET\t/ HTTP/1.0\r\n\r\n".to_owned(), BAD_METHOD),
            ("GET\r\n".to_owned(), BAD_METHOD),
            ("GET\0".to_owned(), BAD_METHOD),
            ("G\u{e9}T / HTTP/1.0\r\n\r\n".to_owned(), BAD_METHOD),
            ("GET  / HTTP/1.0\r\n\r\n".to_owned(), BAD_TARGET),
            ("GET /\r\n\r\n".to_owned(), BAD_TARGET),
            ("GET /\n".to_owned(), BAD_TARGET),
            ("GET /\t HTTP/1.0\r\n\r\n".to_owned(), BAD_TARGET),
            ("GET /\0 HTTP/1.0\r\n\r\n".to_owned(), BAD_TARGET),
            ("GET /\u{7f} HTTP/1.0\r\n\r\n".to_owned(), BAD_TARGET),
            ("GET /  HTTP/1.0\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / \r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / x HTTP/1.0\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / http/1.1\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / HTTP/11\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / HTTP/1.11\r\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/2\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / HTTP/2.0\n\n".to_owned(), BAD_VERSION),
            ("GET / HTTP/2.0x\r\n\r\n".to_owned(), BAD_VERSION),
            ("GET / HTTP/1.1 \r\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.1\rx".to_owned(), BARE_LINE_END),
            ("GET / HTTP/0.9\r\n\r\n".to_owned(), OTHER_VERSION),
            ("GET / HTTP/1.2\r\n\r\n".to_owned(), OTHER_VERSION),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), OTHER_VERSION),
            ("GET / HTTP/1.0\n\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\n\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\na: b\r\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\na: b\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\na:\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\na: b\nc: d\r\n\r\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\na: b\r\n\n".to_owned(), BARE_LINE_END),
            ("GET / HTTP/1.0\r\na: b\r\n\rx".to_owned(), BARE_LINE_END),
            (line("a"), BAD_FORM),
            (line("*"), BAD_FORM),
            (line("*a"), BAD_FORM),
            (line("h:80"), BAD_FORM),
            (line("?a"), BAD_FORM),
            (line("ftp://h/"), BAD_FORM),
            (line("http:/h/"), BAD_FORM),
            (line("http://"), BAD_AUTHORITY),
            (line("http:///a"), BAD_AUTHORITY),
            (line("http://?a"), BAD_AUTHORITY),
            (line("http://u@h/"), BAD_AUTHORITY),
            (line("http://h:x/"), BAD_AUTHORITY),
            (line("/#a"), FRAGMENT),
            (line("/?#"), FRAGMENT),
            (line("http://h#/"), FRAGMENT),
            (line("a#"), FRAGMENT),
            (line("/caf\u{e9}"), BAD_TARGET),
            (line(&long[..41]), LINE_TOO_LONG),
            (format!("GET /{long}"), LINE_TOO_LONG),
            (format!("GET /\u{e9}{long}"), LINE_TOO_LONG),
            (long.clone(), LINE_TOO_LONG),
            (format!("{} / HTTP/1.1\r\n", &long[..290]), LINE_TOO_LONG),
            (with(&format!("a: {long}\r\n")), HEAD_TOO_LONG),
            (with(&format!("a: {}\r\n", &long[..300 - 32])), HEAD_TOO_LONG),
            (with(&format!("{long}: a\r\n")), HEAD_TOO_LONG),
            (with("a:\r\nb:\r\nc:\r\nd:\r\n"), TOO_MANY_FIELDS),
            (with(": a\r\n"), BAD_FIELD_NAME),
            (with("a : b\r\n"), BAD_FIELD_NAME),
            (with("a\t: b\r\n"), BAD_FIELD_NAME),
            (with("a\r\n"), BAD_FIELD_NAME),
            (with("a b: c\r\n"), BAD_FIELD_NAME),
            (with("caf\u{e9}: c\r\n"), BAD_FIELD_NAME),
            (with(" a: b\r\n"), BAD_FIELD_NAME),
            (with("a: b\r\n c\r\n"), BAD_FIELD_NAME),
            (with("a: b\r\n\tc\r\n"), BAD_FIELD_NAME),
            (with("a: b\rc\r\n"), BAD_FIELD_VALUE),
            (with("a: b\r\r\n"), BAD_FIELD_VALUE),
            (with("a: \0\r\n"), BAD_FIELD_VALUE),
            (with("a: b\u{1}c\r\n"), BAD_FIELD_VALUE),
            (with("a: \u{7f}\r\n"), BAD_FIELD_VALUE),
            (with("host: h\r\n"), SECOND_HOST),
            ("GET / HTTP/1.0\r\nhost: h\r\nHost: h\r\n\r\n".to_owned(), SECOND_HOST),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), NO_HOST),
            ("GET http://h/ HTTP/1.1\r\n\r\n".to_owned(), NO_HOST),
            ("GET http://h/ HTTP/1.1\r\nhost:\r\n\r\n".to_owned(), BAD_HOST),
            ("GET / HTTP/1.0\r\nhost: a/b\r\n\r\n".to_owned(), BAD_HOST),
            (with("content-length:\r\n"), BAD_LENGTH),
            (with("content-length: +5\r\n"), BAD_LENGTH),
            (with("content-length: -5\r\n"), BAD_LENGTH),
            (with("content-length: 5 5\r\n"), BAD_LENGTH),
            (with("content-length: 5, 5\r\n"), BAD_LENGTH),
            (with("content-length: 0x5\r\n"), BAD_LENGTH),
            (with("content-length: 5.0\r\n"), BAD_LENGTH),
            (with("content-length: 18446744073709551616\r\n"), BAD_LENGTH),
            (with("content-length: 99999999999999999999\r\n"), BAD_LENGTH),
            (with("content-length: 5\r\nContent-Length: 5\r\n"), SECOND_LENGTH),
            (with("content-length: 5\r\nContent-Length: 6\r\n"), SECOND_LENGTH),
            (with("content-length: 5\r\ntransfer-encoding: chunked\r\n"), LENGTH_AND_CODING),
            (with("transfer-encoding: chunked\r\ncontent-length: 5\r\n"), LENGTH_AND_CODING),
            (with("transfer-encoding: gzip\r\ncontent-length: 5\r\n"), LENGTH_AND_CODING),
            (with("transfer-encoding:\r\n"), BAD_CODING),
            (with("transfer-encoding: ,chunked\r\n"), BAD_CODING),
            (with("transfer-encoding: \"chunked\"\r\n"), BAD_CODING),
            (with("transfer-encoding: chunked;a=b\r\n"), BAD_CODING),
            (with("transfer-encoding: chun ked\r\n"), BAD_CODING),
            (with("transfer-encoding: chunked,\r\n"), AFTER_CHUNKED),
            (with("transfer-encoding: chunked, chunked\r\n"), AFTER_CHUNKED),
            (with("transfer-encoding: chunked, identity\r\n"), AFTER_CHUNKED),
            (with("transfer-encoding: chunked\r\ntransfer-encoding: x\r\n"), AFTER_CHUNKED),
            ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), CODING_IN_1_0),
            (with("transfer-encoding: gzip\r\n"), OTHER_CODING),
            (with("transfer-encoding: identity\r\n"), OTHER_CODING),
            (with("transfer-encoding: xchunked\r\n"), OTHER_CODING),
            (with("transfer-encoding: gzip;q=1, chunked\r\n"), OTHER_CODING),
            (with("transfer-encoding: gzip\r\nexpect: x\r\n"), OTHER_CODING),
            (with("connection: a b\r\n"), BAD_CONNECTION),
            (with("connection: \"close\"\r\n"), BAD_CONNECTION),
            (with("expect: 200-ok\r\n"), OTHER_EXPECTATION),
            (with("expect:\r\n"), OTHER_EXPECTATION),
            ("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n".to_owned(), CONNECT),
            ("CONNECT * HTTP/1.0\r\nexpect: x\r\n\r\n".to_owned(), CONNECT),
            ("CONNECT h:80 HTTP/1.1\r\n\r\n".to_owned(), NO_HOST),
            ("CONNECT h#80 HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), FRAGMENT),
        ] {
            let (parsed, _) = verdict(text.as_bytes(), &LIMITS);
            assert_eq!(parsed, Parsed::Refused(refusal), "{text:?}");
        }
    }

    #[test]
    fn text_that_is_not_utf8() {
        for (bytes, refusal) in [
            (&b"GET /\xff HTTP/1.0\r\n\r\n"[..], BAD_TARGET),
            (b"GET / HTTP/1.0\r\na: \xff\r\n\r\n", NOT_UTF8),
            (b"GET / HTTP/1.0\r\na: \xc3\r\nb: \xa9\r\n\r\n", NOT_UTF8),
            (b"GET / HTTP/1.0\r\n\xc3: a\r\n\r\n", BAD_FIELD_NAME),
        ] {
            assert_eq!(verdict(bytes, &LIMITS).0, Parsed::Refused(refusal));
        }
    }

    #[test]
    fn limits_are_exact() {
        let fields = "host: h\r\na:\r\nb:\r\nc:\r\n\r\n";
        let text = format!("GET /{} HTTP/1.1\r\n{fields}", "x".repeat(39));
        let exact = HeadLimits { head_bytes_max: text.len(), ..LIMITS };
        assert_eq!(verdict(text.as_bytes(), &exact).0, Parsed::Complete);
        let less = HeadLimits { head_bytes_max: text.len() - 1, ..exact };
        assert_eq!(verdict(text.as_bytes(), &less).0, Parsed::Refused(HEAD_TOO_LONG));
        let less = HeadLimits { target_bytes_max: 39, ..exact };
        assert_eq!(verdict(text.as_bytes(), &less).0, Parsed::Refused(LINE_TOO_LONG));
        let less = HeadLimits { fields_max: 3, ..exact };
        assert_eq!(verdict(text.as_bytes(), &less).0, Parsed::Refused(TOO_MANY_FIELDS));

        let wide = HeadLimits {
            target_bytes_max: usize::MAX,
            head_bytes_max: usize::MAX,
            fields_max: usize::MAX,
        };
        let mut head = Head::default();
        for (size, want) in [
            (HEAD_BYTES_LIMIT, Parsed::Complete),
            (HEAD_BYTES_LIMIT + 1, Parsed::Refused(HEAD_TOO_LONG)),
        ] {
            let text = format!("GET / HTTP/1.0\r\na: {}\r\n\r\n", "x".repeat(size - 23));
            assert_eq!(text.len(), size);
            assert_eq!(parse(text.as_bytes(), &wide, &mut head), want);
        }
        for (count, want) in
            [(FIELDS_LIMIT, Parsed::Complete), (FIELDS_LIMIT + 1, Parsed::Refused(TOO_MANY_FIELDS))]
        {
            let text = format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count));
            assert_eq!(parse(text.as_bytes(), &wide, &mut head), want);
        }
    }

    #[test]
    fn a_warm_head_keeps_its_buffer() {
        let mut head = Head::default();
        let text = b"GET / HTTP/1.1\r\nhost: h\r\na: b\r\n\r\n";
        assert_eq!(parse(text, &LIMITS, &mut head), Parsed::Complete);
        let (at, first) = (head.fields.as_ptr(), head.clone());
        for bytes in [&b"GET"[..], b"GET / HTTP/3.0\r\n", text] {
            parse(bytes, &LIMITS, &mut head);
        }
        assert_eq!((head.fields.as_ptr(), &head), (at, &first));
    }
}
