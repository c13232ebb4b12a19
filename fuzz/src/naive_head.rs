//! A request head by the letter of RFC 9112: byte by byte, with owned strings, as slow as it likes.

use std::net::Ipv6Addr;

use crate::head::HeadLimits;
use crate::reader::{Reader, Stop, is_tchar, is_value_byte, without_ows};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaiveHead {
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: Option<String>,
    pub host: String,
    pub minor: u8,
    pub fields: Vec<(String, String)>,
    pub body: NaiveBody,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub upgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NaiveBody {
    None,
    Length(u64),
    Chunked,
}

/// The verdict, and how many bytes had to be seen for it.
pub(crate) fn parse(bytes: &[u8], limits: &HeadLimits) -> (Result<NaiveHead, Stop>, usize) {
    let size = limits.head_bytes_max.min(65_535);
    let window = &bytes[..bytes.len().min(size)];
    let mut reader = Reader::new(window);
    let mut raw = Raw::default();
    let mut verdict = raw.read(&mut reader, limits).and_then(|()| raw.judge());
    if verdict == Err(Stop::Partial) && window.len() == size {
        verdict = Err(Stop::Refused(if raw.version_seen { 431 } else { 414 }));
    }
    (verdict, reader.at)
}

const BAD: Stop = Stop::Refused(400);

/// The head as text, before it is asked what it means.
#[derive(Default)]
struct Raw {
    method: String,
    target: String,
    minor: u8,
    version_seen: bool,
    fields: Vec<(String, Vec<u8>)>,
    /// Some line ended in LF alone: wrong, and said when the head is whole.
    bare_lf: bool,
}

impl Raw {
    fn read(&mut self, reader: &mut Reader, limits: &HeadLimits) -> Result<(), Stop> {
        // A server may skip one empty line (section 2.2).
        let mut byte = reader.next()?;
        if byte == b'\r' {
            if reader.next()? != b'\n' {
                return Err(BAD);
            }
            byte = reader.next()?;
        }

        // request-line = method SP request-target SP HTTP-version
        while byte != b' ' {
            if !is_tchar(byte) {
                return Err(BAD);
            }
            self.method.push(char::from(byte));
            byte = reader.next()?;
        }
        if self.method.is_empty() {
            return Err(BAD);
        }
        let mut target = Vec::new();
        loop {
            match reader.next()? {
                b' ' => break,
                0..0x21 | 0x7f => return Err(BAD),
                byte => target.push(byte),
            }
            if target.len() > limits.target_bytes_max {
                return Err(Stop::Refused(414));
            }
        }
        if target.is_empty() || !target.is_ascii() || target.contains(&b'#') {
            return Err(BAD);
        }
        self.target = String::from_utf8(target).map_err(|_| BAD)?;
        self.read_version(reader)?;

        // *( field-line CRLF ) CRLF
        loop {
            let mut byte = reader.next()?;
            if self.is_line_end(byte, reader)? {
                return Ok(());
            }
            let mut name = String::new();
            while byte != b':' {
                if !is_tchar(byte) {
                    return Err(BAD);
                }
                name.push(char::from(byte));
                byte = reader.next()?;
            }
            if name.is_empty() {
                return Err(BAD);
            }
            let mut value = Vec::new();
            loop {
                let byte = reader.next()?;
                if self.is_line_end(byte, reader)? {
                    break;
                }
                if !is_value_byte(byte) {
                    return Err(BAD);
                }
                value.push(byte);
            }
            if self.fields.len() == limits.fields_max.min(128) {
                return Err(Stop::Refused(431));
            }
            self.fields.push((name, value));
        }
    }

    /// HTTP-version = "HTTP/" DIGIT "." DIGIT
    fn read_version(&mut self, reader: &mut Reader) -> Result<(), Stop> {
        for want in *b"HTTP/" {
            if reader.next()? != want {
                return Err(BAD);
            }
        }
        let major = reader.next()?;
        if !major.is_ascii_digit() {
            return Err(BAD);
        }
        if reader.next()? != b'.' {
            return Err(BAD);
        }
        let minor = reader.next()?;
        if !minor.is_ascii_digit() {
            return Err(BAD);
        }
        if major == b'1' && minor <= b'1' {
            self.minor = minor - b'0';
            self.version_seen = true;
            let byte = reader.next()?;
            return if self.is_line_end(byte, reader)? { Ok(()) } else { Err(BAD) };
        }
        for want in *b"\r\n" {
            if reader.next()? != want {
                return Err(BAD);
            }
        }
        Err(Stop::Refused(505))
    }

    fn is_line_end(&mut self, byte: u8, reader: &mut Reader) -> Result<bool, Stop> {
        match byte {
            b'\r' if reader.next()? == b'\n' => Ok(true),
            b'\r' => Err(BAD),
            b'\n' => {
                self.bare_lf = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What the head means. Whatever is 400 comes first, then 501, then 417.
    fn judge(&self) -> Result<NaiveHead, Stop> {
        if self.bare_lf {
            return Err(BAD);
        }
        let mut fields = Vec::new();
        for (name, value) in &self.fields {
            let value = String::from_utf8(value.clone()).map_err(|_| BAD)?;
            fields.push((name.clone(), without_ows(&value).to_owned()));
        }
        let all = |name: &str| -> Vec<String> {
            let wanted = fields.iter().filter(|(n, _)| n.to_ascii_lowercase() == name);
            wanted.map(|(_, value)| value.to_ascii_lowercase()).collect()
        };

        // Section 3.2: the forms of a request target.
        let (before_query, query) = match self.target.split_once('?') {
            Some((before, query)) => (before.to_owned(), Some(query.to_owned())),
            None => (self.target.clone(), None),
        };
        let lower = before_query.to_ascii_lowercase();
        let mut authority = None;
        let path = if before_query.starts_with('/') {
            before_query
        } else if self.method == "CONNECT" || (self.method == "OPTIONS" && self.target == "*") {
            self.target.clone()
        } else {
            let scheme = ["http://", "https://"].into_iter().find(|s| lower.starts_with(s));
            let rest = &before_query[scheme.ok_or(BAD)?.len()..];
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !is_authority(host) {
                return Err(BAD);
            }
            authority = Some(host.to_owned());
            if path.is_empty() { "/".to_owned() } else { path.to_owned() }
        };

        // Section 3.2: exactly one valid Host in HTTP/1.1, at most one in HTTP/1.0.
        let hosts: Vec<_> = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case("host")).collect();
        if hosts.len() > 1 || (hosts.is_empty() && self.minor == 1) {
            return Err(BAD);
        }
        let host = hosts.first().map(|(_, value)| value.clone());
        match host.as_deref() {
            Some("") if authority.is_some() => return Err(BAD),
            Some("") | None => {}
            Some(host) if !is_authority(host) => return Err(BAD),
            Some(_) => {}
        }

        // Section 6.3: the length of the body.
        let codings: Vec<String> = all("transfer-encoding")
            .iter()
            .flat_map(|value| {
                value.split(',').map(|c| without_ows(c).to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let lengths = all("content-length");
        let mut body = NaiveBody::None;
        if let [length] = lengths.as_slice() {
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(BAD);
            }
            body = NaiveBody::Length(length.parse().map_err(|_| BAD)?);
        } else if lengths.len() > 1 {
            return Err(BAD);
        }
        let mut unknown_coding = false;
        for (at, coding) in codings.iter().enumerate() {
            let name = without_ows(coding.split(';').next().unwrap_or_default());
            let is_last = at + 1 == codings.len();
            if !is_token(name) || (name == "chunked" && (!is_last || coding != "chunked")) {
                return Err(BAD);
            }
            unknown_coding |= name != "chunked";
        }
        if !codings.is_empty() {
            if self.minor == 0 || !lengths.is_empty() {
                return Err(BAD);
            }
            body = NaiveBody::Chunked;
        }

        // Section 9: connection management.
        let mut options = Vec::new();
        for value in all("connection") {
            for option in value.split(',').map(without_ows).filter(|o| !o.is_empty()) {
                if !is_token(option) {
                    return Err(BAD);
                }
                options.push(option.to_owned());
            }
        }
        let has = |name: &str| options.iter().any(|o| o == name);
        let expectations = all("expect");

        if unknown_coding || self.method == "CONNECT" {
            return Err(Stop::Refused(501));
        }
        if expectations.iter().any(|e| e != "100-continue") {
            return Err(Stop::Refused(417));
        }
        let has_body = body != NaiveBody::None && body != NaiveBody::Length(0);
        Ok(NaiveHead {
            method: self.method.clone(),
            target: self.target.clone(),
            path,
            query,
            host: authority.or(host).unwrap_or_default(),
            minor: self.minor,
            body,
            keep_alive: if has("close") { false } else { self.minor == 1 || has("keep-alive") },
            expect_continue: !expectations.is_empty() && self.minor == 1 && has_body,
            upgrade: has("upgrade") && !all("upgrade").is_empty() && self.minor == 1,
            fields,
        })
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// `uri-host [ ":" port ]` of RFC 3986 section 3.2, without userinfo and with a host.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let number = port.trim_start_matches('0');
    if !port.bytes().all(|b| b.is_ascii_digit()) || number.len() > 5 {
        return false;
    }
    if number.parse::<u32>().unwrap_or(0) > 65_535 {
        return false;
    }
    if let Some(literal) = host.strip_prefix('[') {
        let address = literal.strip_suffix(']').unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let mut rest = host.chars();
    while let Some(c) = rest.next() {
        let fits = match c {
            '%' => {
                [rest.next(), rest.next()].iter().all(|d| d.is_some_and(|d| d.is_ascii_hexdigit()))
            }
            c => c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c),
        };
        if !fits {
            return false;
        }
    }
    !host.is_empty()
}
