//! multipart/form-data, decoded as it arrives: RFC 7578, and RFC 2046 section 5.1.
//!
//! Lines of framing end in CRLF only, and no field of a part's head is folded. A boundary is one
//! wherever it begins a line (RFC 2046 section 5.1.1): what follows it is `--`, or blanks and CRLF,
//! and anything else is refused. What a parameter means is never a guess: one that comes twice, or
//! is malformed, is refused. What is wrong is said at its byte, so segmentation changes nothing.

use std::str;

use memchr::memmem::Finder;

use super::head::{Refusal, is_token_byte};

/// Decoder of one body.
///
/// Of data it holds back only what may be the start of a boundary. That is a prefix of the
/// delimiter, so a count is all that is kept.
#[derive(Debug)]
pub(crate) struct Multipart {
    limits: MultipartLimits,
    state: State,
    /// `CRLF "--" boundary`. A CR is its first byte and no other.
    delimiter: Vec<u8>,
    finder: Finder<'static>,
    /// Bytes of the delimiter that the last bytes of the input were.
    matched: usize,
    /// Those of them that are no data even if no boundary comes of it: the line break in front of
    /// a body or of a part's data is not part of it, but may be the one of a delimiter.
    foreign: usize,
    /// In a part, not in the preamble.
    in_part: bool,
    parts: usize,
    /// Bytes of the part's head so far.
    counted: usize,
    /// Its line that is being read.
    line: Vec<u8>,
    head: PartHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MultipartLimits {
    /// Of a part's head: field lines and the empty line.
    pub head_bytes_max: usize,
    /// Of a part's name, and of its file name, each decoded.
    pub name_bytes_max: usize,
    pub parts_max: usize,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub name: String,
    /// As it was sent: there may be a path in front of it.
    pub file_name: Option<String>,
    /// Not empty.
    pub content_type: Option<String>,
    has_disposition: bool,
    has_name: bool,
    has_content_type: bool,
}

/// What [`Multipart::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All of the input is taken, more must come.
    More,
    /// A part's head is complete: [`Multipart::head`].
    Part { taken: usize },
    /// Data of the part at `input[start..end]`. `end` bytes are taken.
    Data { start: usize, end: usize },
    /// Data of the part that were held back, at `delimiter()[start..end]`. None of the input is
    /// taken.
    Held { start: usize, end: usize },
    /// The part is over, and its boundary is a right one.
    PartEnd { taken: usize },
}

/// The boundary parameter of a Content-Type (RFC 2046 section 5.1.1): 415 if that is not
/// multipart/form-data, 400 if there is no boundary, or one that is not valid.
pub(crate) fn boundary(content_type: &str) -> Result<&str, Refusal> {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let (essence, mut rest) = content_type.split_at(end);
    if !essence.trim_matches(is_blank).eq_ignore_ascii_case(FORM_DATA) {
        return Err(NOT_FORM_DATA);
    }
    let mut found = None;
    while let Some((name, value)) = parameter(&mut rest).map_err(|_| BAD_PARAMETER)? {
        if !name.eq_ignore_ascii_case("boundary") {
            continue;
        }
        let (Value::Token(text) | Value::Quoted(text)) = value;
        let valid = (1..=BOUNDARY_BYTES_MAX).contains(&text.len())
            && text.bytes().all(is_boundary_byte)
            && !text.ends_with(' ');
        match found.replace(text) {
            None if valid => {}
            None => return Err(BAD_BOUNDARY),
            Some(_) => return Err(TWO_BOUNDARIES),
        }
    }
    found.ok_or(NO_BOUNDARY)
}

/// What this decodes.
pub(crate) const FORM_DATA: &str = "multipart/form-data";

/// RFC 2046 section 5.1.1: 69 of any, and one that is no space.
const BOUNDARY_BYTES_MAX: usize = 70;

impl Multipart {
    /// For a boundary that [`boundary`] gave.
    pub(crate) fn new(boundary: &str, limits: MultipartLimits) -> Multipart {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Multipart {
            limits,
            state: State::Search,
            finder: Finder::new(&delimiter).into_owned(),
            delimiter,
            matched: LINE_BREAK,
            foreign: LINE_BREAK,
            in_part: false,
            parts: 0,
            counted: 0,
            line: Vec::new(),
            head: PartHead::default(),
        }
    }

    /// The head of the last part that began.
    pub(crate) fn head(&self) -> &PartHead {
        &self.head
    }

    /// What data that were held back lie in.
    pub(crate) fn delimiter(&self) -> &[u8] {
        &self.delimiter
    }

    /// Takes the next bytes. Call again with what follows the taken ones until `More`; a refusal is
    /// final. Behind the last boundary everything is taken.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let step = self.step(input);
        if let Err(refusal) = step {
            self.state = State::Refused(refusal);
        }
        step
    }

    /// Says that the body is over: it is refused if the last boundary has not come.
    pub(crate) fn finish(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::LastPadding | State::Epilogue => Ok(()),
            State::Refused(refusal) => Err(refusal),
            _ => {
                self.state = State::Refused(UNFINISHED);
                Err(UNFINISHED)
            }
        }
    }

    fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            let next = match (self.state, byte) {
                (State::Search, _) => {
                    if let Some(step) = self.search(input, &mut at) {
                        return Ok(step);
                    }
                    continue;
                }
                (State::HeadLine, _) => {
                    at += self.head_line(&input[at..])?;
                    continue;
                }
                (State::Refused(refusal), _) => return Err(refusal),
                (State::Epilogue, _) => return Ok(Step::More),

                (State::Boundary | State::Padding, b' ' | b'\t') => State::Padding,
                (State::Boundary | State::Padding, b'\r') => State::BoundaryLf,
                (State::Boundary, b'-') => State::LastDash,
                (State::BoundaryLf, b'\n') => {
                    self.begin_head();
                    if std::mem::replace(&mut self.in_part, false) {
                        return Ok(Step::PartEnd { taken: at + 1 });
                    }
                    self.state
                }
                (State::LastDash, b'-') => {
                    self.state = State::LastPadding;
                    if std::mem::replace(&mut self.in_part, false) {
                        return Ok(Step::PartEnd { taken: at + 1 });
                    }
                    self.state
                }
                (State::LastPadding, b' ' | b'\t') => State::LastPadding,
                (State::LastPadding, b'\r') => State::LastLf,
                (State::LastLf, b'\n') => State::Epilogue,
                (State::HeadLf, b'\n') => {
                    self.count_head_byte()?;
                    if self.line.is_empty() {
                        self.begin_data()?;
                        return Ok(Step::Part { taken: at + 1 });
                    }
                    self.keep_field()?;
                    self.line.clear();
                    State::HeadLine
                }
                (State::HeadLf, _) => {
                    self.count_head_byte()?;
                    return Err(BAD_FIELD);
                }
                _ => return Err(BAD_BOUNDARY_LINE),
            };
            self.state = next;
            at += 1;
        }
        match self.state {
            State::Refused(refusal) => Err(refusal),
            _ => Ok(Step::More),
        }
    }

    /// Looks for the delimiter from `at` on, in data or in the preamble: some data, or none where
    /// `at` went on.
    fn search(&mut self, input: &[u8], at: &mut usize) -> Option<Step> {
        let here = &input[*at..];
        if self.matched > 0 {
            let wanted = &self.delimiter[self.matched..];
            let same = here.iter().zip(wanted).take_while(|(a, b)| a == b).count();
            if same == wanted.len() {
                self.found();
                *at += same;
            } else if same == here.len() {
                self.matched += same;
                *at += same;
            } else {
                // The same bytes hold no CR: they begin no delimiter, and are data as they lie.
                let (start, end) = (self.foreign, self.matched);
                (self.matched, self.foreign) = (0, 0);
                if self.in_part && start < end {
                    return Some(Step::Held { start, end });
                }
                // Not found at this byte: `find` makes the step.
                return self.find(input, at);
            }
            return None;
        }
        self.find(input, at)
    }

    fn find(&mut self, input: &[u8], at: &mut usize) -> Option<Step> {
        let (start, here) = (*at, &input[*at..]);
        match self.finder.find(here) {
            Some(0) => {
                self.found();
                *at += self.delimiter.len();
                return None;
            }
            Some(bytes) => *at += bytes,
            None => match here.len() - self.begun(here) {
                0 => {
                    self.matched = here.len();
                    *at += here.len();
                    return None;
                }
                bytes => *at += bytes,
            },
        }
        self.in_part.then_some(Step::Data { start, end: *at })
    }

    /// How many of the last bytes begin a delimiter.
    fn begun(&self, bytes: &[u8]) -> usize {
        let tail = &bytes[bytes.len().saturating_sub(self.delimiter.len() - 1)..];
        let begun = memchr::memrchr(b'\r', tail).map(|cr| &tail[cr..]);
        begun.filter(|begun| self.delimiter.starts_with(begun)).map_or(0, <[u8]>::len)
    }

    fn found(&mut self) {
        (self.matched, self.foreign) = (0, 0);
        self.state = State::Boundary;
    }

    fn begin_head(&mut self) {
        if self.parts == self.limits.parts_max {
            self.state = State::Refused(TOO_MANY_PARTS);
            return;
        }
        self.parts += 1;
        self.counted = 0;
        self.line.clear();
        self.head = PartHead::default();
        self.state = State::HeadLine;
    }

    /// Takes bytes of a line up to its end: how many.
    fn head_line(&mut self, here: &[u8]) -> Result<usize, Refusal> {
        let window = &here[..here.len().min(self.limits.head_bytes_max - self.counted)];
        let Some(end) = window.iter().position(|byte| !is_field_byte(*byte)) else {
            if window.len() < here.len() {
                return Err(HEAD_TOO_LONG);
            }
            self.counted += window.len();
            self.line.extend_from_slice(window);
            return Ok(window.len());
        };
        if window[end] != b'\r' {
            return Err(BAD_FIELD);
        }
        self.counted += end + 1;
        self.line.extend_from_slice(&window[..end]);
        self.state = State::HeadLf;
        Ok(end + 1)
    }

    fn count_head_byte(&mut self) -> Result<(), Refusal> {
        if self.counted == self.limits.head_bytes_max {
            return Err(HEAD_TOO_LONG);
        }
        self.counted += 1;
        Ok(())
    }

    /// A field of a part's head. Those of no meaning here are passed over (RFC 7578 section 4.8).
    fn keep_field(&mut self) -> Result<(), Refusal> {
        let colon = memchr::memchr(b':', &self.line).ok_or(BAD_FIELD)?;
        let (name, value) = (&self.line[..colon], &self.line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(BAD_FIELD);
        }
        let text = || {
            let text = str::from_utf8(value).map_err(|_| NOT_UTF_8)?;
            Ok(text.trim_matches(is_blank))
        };
        if name.eq_ignore_ascii_case(b"content-disposition") {
            if std::mem::replace(&mut self.head.has_disposition, true) {
                return Err(FIELD_TWICE);
            }
            return disposition(text()?, self.limits.name_bytes_max, &mut self.head);
        }
        if name.eq_ignore_ascii_case(b"content-type") {
            if std::mem::replace(&mut self.head.has_content_type, true) {
                return Err(FIELD_TWICE);
            }
            self.head.content_type = Some(text()?.to_owned()).filter(|it| !it.is_empty());
        }
        if name.eq_ignore_ascii_case(b"content-transfer-encoding")
            && !IDENTITY.iter().any(|it| value.trim_ascii().eq_ignore_ascii_case(it))
        {
            return Err(ENCODED);
        }
        Ok(())
    }

    fn begin_data(&mut self) -> Result<(), Refusal> {
        if !self.head.has_disposition {
            return Err(NO_DISPOSITION);
        }
        if !self.head.has_name {
            return Err(NO_NAME);
        }
        // A part without data may end with the line break of its head (RFC 2046 section 5.1.1).
        (self.matched, self.foreign) = (LINE_BREAK, LINE_BREAK);
        self.in_part = true;
        self.state = State::Search;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the preamble, or in the data of a part.
    Search,
    /// Behind a boundary.
    Boundary,
    Padding,
    BoundaryLf,
    HeadLine,
    HeadLf,
    LastDash,
    LastPadding,
    LastLf,
    Epilogue,
    Refused(Refusal),
}

/// CRLF.
const LINE_BREAK: usize = 2;

/// Encodings that change nothing: the others are deprecated, and nobody sends them (RFC 7578
/// section 4.7).
const IDENTITY: [&[u8]; 3] = [b"7bit", b"8bit", b"binary"];

/// The value of a Content-Disposition: name and file name of a part (RFC 7578 section 4.2).
/// `filename*` is among the parameters that mean nothing.
fn disposition(value: &str, name_bytes_max: usize, head: &mut PartHead) -> Result<(), Refusal> {
    let (kind, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    if !kind.trim_end_matches(is_blank).eq_ignore_ascii_case("form-data") {
        return Err(NO_DISPOSITION);
    }
    let mut name = None;
    while let Some((key, value)) = parameter(&mut rest).map_err(|_| BAD_DISPOSITION)? {
        let slot = match key {
            key if key.eq_ignore_ascii_case("name") => &mut name,
            key if key.eq_ignore_ascii_case("filename") => &mut head.file_name,
            _ => continue,
        };
        let text = match value {
            Value::Token(text) => text.to_owned(),
            Value::Quoted(text) => unescape(text),
        };
        if text.len() > name_bytes_max {
            return Err(NAME_TOO_LONG);
        }
        if slot.replace(text).is_some() {
            return Err(NAME_TWICE);
        }
    }
    head.has_name = name.is_some();
    head.name = name.unwrap_or_default();
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'t> {
    Token(&'t str),
    /// What is between the quotes, as it came.
    Quoted(&'t str),
}

struct Malformed;

/// The parameter at the start of `rest`, where a semicolon is in front of each (RFC 9110 section
/// 5.6.6); none at the end.
fn parameter<'t>(rest: &mut &'t str) -> Result<Option<(&'t str, Value<'t>)>, Malformed> {
    loop {
        let text = rest.trim_start_matches(is_blank);
        if text.is_empty() {
            *rest = text;
            return Ok(None);
        }
        let text = text.strip_prefix(';').ok_or(Malformed)?.trim_start_matches(is_blank);
        *rest = text;
        if text.is_empty() || text.starts_with(';') {
            continue; // one that is not there
        }
        let (name, text) = token(text)?;
        let text = text.strip_prefix('=').ok_or(Malformed)?;
        let Some(quoted) = text.strip_prefix('"') else {
            let (value, text) = token(text)?;
            *rest = text;
            return Ok(Some((name, Value::Token(value))));
        };
        let mut bytes = quoted.bytes().enumerate();
        let end = loop {
            match bytes.next().ok_or(Malformed)? {
                (end, b'"') => break end,
                (at, b'\\') if quoted[at + 1..].starts_with(['"', '\\']) => {
                    bytes.next();
                }
                _ => {}
            }
        };
        *rest = &quoted[end + 1..];
        return Ok(Some((name, Value::Quoted(&quoted[..end]))));
    }
}

/// A token, and what follows.
fn token(text: &str) -> Result<(&str, &str), Malformed> {
    match text.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(text.len()) {
        0 => Err(Malformed),
        end => Ok(text.split_at(end)),
    }
}

/// A quoted name as it was meant. A backslash quotes `"` and `\` only: browsers send others as they
/// are, as in `C:\a.txt`. Of percent-escapes there are three: `%22`, `%0D` and `%0A` (HTML, section
/// 4.10.21.8).
fn unescape(quoted: &str) -> String {
    let mut plain = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = rest.find(['\\', '%']) {
        let (clean, escape) = rest.split_at(at);
        plain.push_str(clean);
        let (c, bytes) = match escape.as_bytes() {
            [b'\\', b'"', ..] => ('"', 2),
            [b'\\', b'\\', ..] => ('\\', 2),
            [b'\\', ..] => ('\\', 1),
            [_, b'2', b'2', ..] => ('"', 3),
            [_, b'0', b'D' | b'd', ..] => ('\r', 3),
            [_, b'0', b'A' | b'a', ..] => ('\n', 3),
            _ => ('%', 1),
        };
        plain.push(c);
        rest = &escape[bytes..];
    }
    plain.push_str(rest);
    plain
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// A byte of a field line: HTAB, SP, VCHAR or obs-text.
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `bchars` of RFC 2046 section 5.1.1.
fn is_boundary_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte)
}

const NOT_FORM_DATA: Refusal =
    Refusal { status: 415, reason: "content-type: not multipart/form-data" };
const NO_BOUNDARY: Refusal = Refusal { status: 400, reason: "content-type: no boundary" };
const BAD_BOUNDARY: Refusal =
    Refusal { status: 400, reason: "content-type: the boundary is not 1 to 70 plain characters" };
const TWO_BOUNDARIES: Refusal =
    Refusal { status: 400, reason: "content-type: more than one boundary" };
const BAD_PARAMETER: Refusal =
    Refusal { status: 400, reason: "content-type: a parameter is malformed" };
const BAD_BOUNDARY_LINE: Refusal =
    Refusal { status: 400, reason: "form: something else follows a boundary than a line break" };
const UNFINISHED: Refusal =
    Refusal { status: 400, reason: "form: the body ends before the last boundary" };
const BAD_FIELD: Refusal =
    Refusal { status: 400, reason: "form: a field of a part's head is malformed" };
const FIELD_TWICE: Refusal =
    Refusal { status: 400, reason: "form: a field of a part's head is given more than once" };
const NOT_UTF_8: Refusal = Refusal { status: 400, reason: "form: the head of a part is not UTF-8" };
const NO_DISPOSITION: Refusal =
    Refusal { status: 400, reason: "form: a part has no content-disposition of form-data" };
const BAD_DISPOSITION: Refusal =
    Refusal { status: 400, reason: "form: the content-disposition of a part is malformed" };
const NO_NAME: Refusal = Refusal { status: 400, reason: "form: a part has no name" };
const NAME_TWICE: Refusal =
    Refusal { status: 400, reason: "form: a part has two names, or two file names" };
const NAME_TOO_LONG: Refusal =
    Refusal { status: 413, reason: "form: the name of a part is too long" };
const HEAD_TOO_LONG: Refusal =
    Refusal { status: 413, reason: "form: the head of a part is too long" };
const TOO_MANY_PARTS: Refusal = Refusal { status: 413, reason: "form: too many parts" };
const ENCODED: Refusal =
    Refusal { status: 415, reason: "form: a part has a content-transfer-encoding" };

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MultipartLimits =
        MultipartLimits { head_bytes_max: 120, name_bytes_max: 10, parts_max: 3 };

    /// Heads, data and whether they ended; then the refusal, if any.
    type Outcome = (Vec<(PartHead, Vec<u8>, bool)>, Result<(), Refusal>);

    fn feed<'a>(decoder: &mut Multipart, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
        let mut parts: Vec<(PartHead, Vec<u8>, bool)> = Vec::new();
        for mut input in pieces {
            loop {
                let step = match decoder.decode(input) {
                    Ok(step) => step,
                    Err(refusal) => {
                        assert_eq!(decoder.decode(b"\r\n--x--"), Err(refusal));
                        assert_eq!(decoder.finish(), Err(refusal));
                        return (parts, Err(refusal));
                    }
                };
                let last = parts.last_mut();
                let taken = match (step, last) {
                    (Step::More, _) => break,
                    (Step::Part { taken }, _) => {
                        parts.push((decoder.head().clone(), Vec::new(), false));
                        taken
                    }
                    (Step::Data { start, end }, Some((_, data, false))) => {
                        assert!(start < end);
                        data.extend_from_slice(&input[start..end]);
                        end
                    }
                    (Step::Held { start, end }, Some((_, data, false))) => {
                        assert!(start < end && end < decoder.delimiter().len());
                        data.extend_from_slice(&decoder.delimiter()[start..end]);
                        0
                    }
                    (Step::PartEnd { taken }, Some((_, _, ended @ false))) => {
                        *ended = true;
                        taken
                    }
                    (step, last) => panic!("{step:?} in {last:?}"),
                };
                input = &input[taken..];
            }
        }
        (parts, decoder.finish())
    }

    /// Whole, in pieces of every size, and in two pieces cut at every byte: one outcome.
    fn outcome(boundary: &str, body: &[u8]) -> Outcome {
        let feed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            super::tests::feed(&mut Multipart::new(boundary, LIMITS), pieces)
        };
        let whole = feed(&mut std::iter::once(body));
        for size in 1..=body.len() {
            assert_eq!(feed(&mut body.chunks(size)), whole, "pieces of {size}");
            let halves = [&body[..size], &body[size..]];
            assert_eq!(feed(&mut halves.into_iter()), whole, "cut at {size}");
        }
        whole
    }

    /// A part a line: name, file name, content type, data.
    fn shown((parts, end): Outcome) -> Result<String, Refusal> {
        end?;
        let lines = parts.iter().map(|(head, data, ended)| {
            assert!(ended);
            let file = head.file_name.as_ref().map_or("-".into(), |it| format!("{it:?}"));
            let kind = head.content_type.as_deref().unwrap_or("-");
            format!("{:?} {file} {kind} {:?}", head.name, String::from_utf8_lossy(data))
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    const A: &str = "content-disposition: form-data; name=a\r\n";

    #[test]
    fn bodies() {
        for (body, want) in [
            ("--x--", ""),
            ("--x--\r\n", ""),
            ("--x-- \t\r\nepilogue\r\n--x\r\n", ""),
            ("--x--\t ", ""),
            ("\r\n--x--\r\n", ""),
            ("preamble\r\n--x--", ""),
            ("--\r\n--y\r\n-x\r\n--\r\n--x--", ""),
            ("a--x--\r\n\r\n\r\n--x--", ""),
            ("\n--x\r\n--x--", ""),
            ("\r--x\r\n--x--", ""),
            ("--x\r\n@\r\n1\r\n--x--\r\n", "'a' - - '1'"),
            ("--x \t \r\n@\r\n1\r\n--x \r\n@\r\n2\r\n--x--", "'a' - - '1'\n'a' - - '2'"),
            ("\r\n--x\r\n@\r\n\r\n--x--", "'a' - - ''"),
            // No line break of its own: a part without data (RFC 2046 section 5.1.1).
            ("--x\r\n@\r\n--x--", "'a' - - ''"),
            ("--x\r\n@\r\n--x\r\n@\r\n\r\n\r\n--x--", "'a' - - ''\n'a' - - '\\r\\n'"),
            ("--x\r\n@\r\n\r\n\r\n\r\n--x--", "'a' - - '\\r\\n\\r\\n'"),
            ("--x\r\n@\r\n\r\r\n--x--", "'a' - - '\\r'"),
            ("--x\r\n@\r\n-\r\n--x--", "'a' - - '-'"),
            ("--x\r\n@\r\n--\r\n--x--", "'a' - - '--'"),
            ("--x\r\n@\r\n--y\r\n--x--", "'a' - - '--y'"),
            (
                "--x\r\n@\r\n\r\n\r\n-\r\n--\r\n--y--x\n--x\r--x\r\n --x\r\n--x--",
                "'a' - - '\\r\\n\\r\\n-\\r\\n--\\r\\n--y--x\\n--x\\r--x\\r\\n --x'",
            ),
            (
                "--x\r\nContent-Type: text/plain; charset=\"a b\" \r\nX-Y: \u{e9}\r\nz:\r\n@\r\n\
                 1\r\n--x--",
                "'a' - text/plain; charset=\"a b\" '1'",
            ),
            ("--x\r\n@content-type: \r\n\r\n1\r\n--x--", "'a' - - '1'"),
            ("--x\r\n@Content-Transfer-Encoding: Binary \r\n\r\n1\r\n--x--", "'a' - - '1'"),
        ] {
            let want = want.replace('\'', "\"");
            let body = body.replace('@', A);
            assert_eq!(shown(outcome("x", body.as_bytes())), Ok(want), "{body:?}");
        }
    }

    #[test]
    fn names() {
        for (disposition, want) in [
            ("form-data; name=a", Ok(("a", None))),
            ("FORM-data ;\tNAME=a ;; FileName=b;", Ok(("a", Some("b")))),
            ("form-data;name=\"\";filename=\"\"", Ok(("", Some("")))),
            ("form-data; x=\"a;name=b\"; name=\"c;d=e\"", Ok(("c;d=e", None))),
            ("form-data; name=\"\u{e9} \u{1f3bb}\"", Ok(("\u{e9} \u{1f3bb}", None))),
            // As browsers send them.
            ("form-data; name=\"%22%0D%0a%0d%0A\"", Ok(("\"\r\n\r\n", None))),
            ("form-data; name=\"%41%2\"", Ok(("%41%2", None))),
            ("form-data; name=\"%%22%\"", Ok(("%\"%", None))),
            ("form-data; name=\"%2522\"", Ok(("%2522", None))),
            ("form-data; name=%22", Ok(("%22", None))),
            // As others do.
            (r#"form-data; name="\"\\\"""#, Ok(("\"\\\"", None))),
            (r#"form-data; name="\\"; filename="\\""#, Ok(("\\", Some("\\")))),
            (r#"form-data; name=a; filename="C:\a\b""#, Ok(("a", Some("C:\\a\\b")))),
            (r#"form-data; name=a; filename="\%22""#, Ok(("a", Some("\\\"")))),
            // RFC 7578 section 4.2: it must not be used.
            ("form-data; name=a; filename*=UTF-8''b", Ok(("a", None))),
            ("form-data; filename*=UTF-8''b; name=a; filename=c", Ok(("a", Some("c")))),
            ("form-data; name*=a", Err(NO_NAME)),
            ("form-data", Err(NO_NAME)),
            ("form-data; filename=a", Err(NO_NAME)),
            ("", Err(NO_DISPOSITION)),
            ("file; name=a", Err(NO_DISPOSITION)),
            ("form-data name=a", Err(NO_DISPOSITION)),
            ("\"form-data\"; name=a", Err(NO_DISPOSITION)),
            ("form-data; name", Err(BAD_DISPOSITION)),
            ("form-data; name=", Err(BAD_DISPOSITION)),
            ("form-data; =a", Err(BAD_DISPOSITION)),
            ("form-data; name =a", Err(BAD_DISPOSITION)),
            ("form-data; name= a", Err(BAD_DISPOSITION)),
            ("form-data; name=a b", Err(BAD_DISPOSITION)),
            ("form-data; name=a, filename=b", Err(BAD_DISPOSITION)),
            ("form-data; name=\u{e9}", Err(BAD_DISPOSITION)),
            ("form-data; name='a b'", Err(BAD_DISPOSITION)),
            ("form-data; name=\"a", Err(BAD_DISPOSITION)),
            (r#"form-data; name="a\""#, Err(BAD_DISPOSITION)),
            ("form-data; name=\"a\"b", Err(BAD_DISPOSITION)),
            (r#"form-data; name="a\"; f="b""#, Err(BAD_DISPOSITION)),
            ("form-data; name=a; NAME=a", Err(NAME_TWICE)),
            ("form-data; name=a; filename=a; filename=b", Err(NAME_TWICE)),
            ("form-data; name=0123456789", Ok(("0123456789", None))),
            ("form-data; name=\"%22234567890\"", Ok(("\"234567890", None))),
            ("form-data; name=01234567890", Err(NAME_TOO_LONG)),
            ("form-data; name=a; filename=01234567890", Err(NAME_TOO_LONG)),
        ] {
            let body = format!("--x\r\nContent-Disposition: {disposition}\r\n\r\n\r\n--x--\r\n");
            let (parts, end) = outcome("x", body.as_bytes());
            let got = end.map(|()| {
                let [(head, _, true)] = &parts[..] else { panic!("{disposition}: {parts:?}") };
                (&*head.name, head.file_name.as_deref())
            });
            assert_eq!(got, want, "{disposition}");
        }
    }

    #[test]
    fn refusals() {
        for (body, refusal) in [
            ("", UNFINISHED),
            ("preamble", UNFINISHED),
            ("--x", UNFINISHED),
            ("--x-", UNFINISHED),
            ("--x--\r", UNFINISHED),
            ("--X--\r\n", UNFINISHED),
            ("a--x--\r\n", UNFINISHED),
            ("\n--x--\r\n", UNFINISHED),
            ("--x\r\n", UNFINISHED),
            ("--x\r\n@", UNFINISHED),
            ("--x\r\n@\r\n", UNFINISHED),
            ("--x\r\n@\r\n1\r\n--x", UNFINISHED),
            ("--x\r\n@\r\n1\r\n--x\r\n", UNFINISHED),
            ("--x\r\n@\r\n1\n--x--\r\n", UNFINISHED),
            ("--x\n@\r\n", BAD_BOUNDARY_LINE),
            ("--xy--\r\n--x--", BAD_BOUNDARY_LINE),
            ("--x \n", BAD_BOUNDARY_LINE),
            ("--x -\r\n", BAD_BOUNDARY_LINE),
            ("--x\r\r\n", BAD_BOUNDARY_LINE),
            ("--x-\r\n", BAD_BOUNDARY_LINE),
            ("--x--y", BAD_BOUNDARY_LINE),
            ("--x---", BAD_BOUNDARY_LINE),
            ("--x--\n", BAD_BOUNDARY_LINE),
            ("--x--\ra", BAD_BOUNDARY_LINE),
            ("--x\r\n@\r\n1\r\n--xy\r\n--x--\r\n", BAD_BOUNDARY_LINE),
            ("--x\r\n@\r\n1\r\n--x\n", BAD_BOUNDARY_LINE),
            ("--x\r\n\r\n1", NO_DISPOSITION),
            ("--x\r\nContent-Type: text/plain\r\n\r\n1", NO_DISPOSITION),
            ("--x\r\n--x--\r\n", BAD_FIELD),
            ("--x\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n", BAD_FIELD),
            ("--x\r\n name: a\r\n", BAD_FIELD),
            ("--x\r\nname : a\r\n", BAD_FIELD),
            ("--x\r\n: a\r\n", BAD_FIELD),
            ("--x\r\nname\r\n", BAD_FIELD),
            ("--x\r\nname: a\n", BAD_FIELD),
            ("--x\r\nname: a\rb", BAD_FIELD),
            ("--x\r\nname: a\r\n\r\r", BAD_FIELD),
            ("--x\r\n\n", BAD_FIELD),
            ("--x\r\nname: \0", BAD_FIELD),
            ("--x\r\nname: \u{7f}", BAD_FIELD),
            ("--x\r\n@@", FIELD_TWICE),
            ("--x\r\nContent-Type:\r\ncontent-type: a/b\r\n", FIELD_TWICE),
            ("--x\r\n@Content-Transfer-Encoding: base64\r\n", ENCODED),
            ("--x\r\n@Content-Transfer-Encoding: quoted-printable\r\n", ENCODED),
            ("--x\r\n@Content-Transfer-Encoding:\r\n", ENCODED),
        ] {
            let body = body.replace('@', A);
            assert_eq!(outcome("x", body.as_bytes()).1, Err(refusal), "{body:?}");
        }
        let latin: &[u8] = b"--x\r\nContent-Disposition: form-data; name=\"\xe9\"\r\n";
        assert_eq!(outcome("x", latin).1, Err(NOT_UTF_8));
    }

    #[test]
    fn limits_are_exact() {
        let part = format!("--x\r\n{A}\r\n1\r\n");
        assert_eq!(outcome("x", format!("{}--x--", part.repeat(3)).as_bytes()).1, Ok(()));
        let (parts, end) = outcome("x", format!("{}--x--", part.repeat(4)).as_bytes());
        assert_eq!((parts.len(), end), (3, Err(TOO_MANY_PARTS)));
        assert!(parts.iter().all(|(_, data, ended)| *ended && data == b"1"));

        let field_bytes = LIMITS.head_bytes_max - A.len() - "\r\n".len();
        for (bytes, want) in [(field_bytes, Ok(())), (field_bytes + 1, Err(HEAD_TOO_LONG))] {
            let field = format!("a:{}\r\n", "b".repeat(bytes - 4));
            for head in [format!("{field}{A}"), format!("{A}{field}")] {
                let body = format!("--x\r\n{head}\r\n1\r\n--x--");
                assert_eq!(outcome("x", body.as_bytes()).1, want, "{bytes}");
            }
        }
        let endless = format!("--x\r\n{}", "a".repeat(121));
        assert_eq!(outcome("x", endless.as_bytes()).1, Err(HEAD_TOO_LONG));
    }

    #[test]
    fn boundaries() {
        let (most, more) = ("b".repeat(70), "b".repeat(71));
        let form = |params: &str| format!("multipart/form-data{params}");
        for (content_type, want) in [
            (form("; boundary=x"), Ok("x")),
            (form(";boundary=----WebKitFormBoundary7MA"), Ok("----WebKitFormBoundary7MA")),
            (" Multipart/FORM-data\t;; charset=\"a;\\\"b\";\tBoundary=x ; ".into(), Ok("x")),
            (form("; boundary=\"gc0pJq0M:08jU534c0p\""), Ok("gc0pJq0M:08jU534c0p")),
            (form("; boundary=\"'()+_,-./:=? a\""), Ok("'()+_,-./:=? a")),
            (form(&format!("; boundary={most}")), Ok(&*most)),
            (form(&format!("; boundary={more}")), Err(BAD_BOUNDARY)),
            (form("; boundary=\"\""), Err(BAD_BOUNDARY)),
            (form("; boundary=\"a \""), Err(BAD_BOUNDARY)),
            (form("; boundary=\"a\\b\""), Err(BAD_BOUNDARY)),
            (form("; boundary=\"a\u{e9}\""), Err(BAD_BOUNDARY)),
            (form("; boundary=a*b"), Err(BAD_BOUNDARY)),
            (form("; boundary=x; boundary=x"), Err(TWO_BOUNDARIES)),
            (form("; boundary=x; BOUNDARY=\"\""), Err(TWO_BOUNDARIES)),
            (form(""), Err(NO_BOUNDARY)),
            (form("; charset=\"boundary=x\""), Err(NO_BOUNDARY)),
            (form("; boundary"), Err(BAD_PARAMETER)),
            (form("; boundary="), Err(BAD_PARAMETER)),
            (form("; boundary =x"), Err(BAD_PARAMETER)),
            (form("; boundary= x"), Err(BAD_PARAMETER)),
            (form("; boundary=a:b"), Err(BAD_PARAMETER)),
            (form("; boundary=\"x"), Err(BAD_PARAMETER)),
            (form("; boundary=x y"), Err(BAD_PARAMETER)),
            (form("; boundary=x, boundary=y"), Err(BAD_PARAMETER)),
            (form(" boundary=x"), Err(NOT_FORM_DATA)),
            ("".into(), Err(NOT_FORM_DATA)),
            ("multipart/mixed; boundary=x".into(), Err(NOT_FORM_DATA)),
            ("text/plain; a=multipart/form-data; boundary=x".into(), Err(NOT_FORM_DATA)),
        ] {
            assert_eq!(boundary(&content_type), want, "{content_type}");
        }
    }

    #[test]
    fn data_comes_in_one_piece_and_little_is_held_back() {
        let mut body = format!("--x\r\n{A}\r\n").into_bytes();
        let start = body.len();
        body.resize(start + 0x10000, b'x');
        let mut decoder = Multipart::new("x", LIMITS);
        assert_eq!(decoder.decode(&body), Ok(Step::Part { taken: start }));
        assert_eq!(decoder.decode(&body[start..]), Ok(Step::Data { start: 0, end: 0x10000 }));

        let boundary = "b".repeat(70);
        let data = format!("\r\n--{}", "b".repeat(69)).repeat(3) + "\r\r\n\r\n-\r\n--bb";
        let mut decoder = Multipart::new(&boundary, LIMITS);
        let head = format!("--{boundary}\r\n{A}\r\n");
        assert_eq!(decoder.decode(head.as_bytes()), Ok(Step::Part { taken: head.len() }));
        let (mut handed, mut held_max) = (0, 0);
        for (at, byte) in data.bytes().enumerate() {
            loop {
                match decoder.decode(&[byte]) {
                    Ok(Step::More) => break,
                    Ok(Step::Data { start, end }) => {
                        handed += end - start;
                        break;
                    }
                    Ok(Step::Held { start, end }) => handed += end - start,
                    step => panic!("{step:?}"),
                }
            }
            held_max = held_max.max(at + 1 - handed);
        }
        assert_eq!(held_max, boundary.len() + 3);
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    #[test]
    fn what_is_composed_comes_back() {
        let mut dice = Xorshift(0x9e37_79b9_7f4a_7c15);
        for boundary in ["x", "bound", "--", "a\u{20}b", "aaaaaaaaab", "-----------------------1"] {
            let delimiter = format!("\r\n--{boundary}").into_bytes();
            for _ in 0..500 {
                let parts: Vec<Vec<u8>> =
                    (0..dice.below(4)).map(|_| near_boundaries(&mut dice, &delimiter)).collect();
                let mut body = Vec::new();
                if dice.below(2) == 0 {
                    body = near_boundaries(&mut dice, &delimiter);
                    body.extend_from_slice(b"\r\n");
                }
                for (at, data) in parts.iter().enumerate() {
                    let (line, padding) = (&delimiter[2..], ["", " ", "\t "][dice.below(3)]);
                    let head = format!("Content-Disposition: form-data; name={at}\r\n\r\n");
                    body.extend([line, padding.as_bytes(), b"\r\n", head.as_bytes()].concat());
                    body.extend([data, &b"\r\n"[..]].concat());
                }
                body.extend_from_slice(&delimiter[2..]);
                body.extend_from_slice(b"--");
                if dice.below(2) == 0 {
                    body.extend_from_slice(b"\r\n");
                    body.extend(near_boundaries(&mut dice, &delimiter));
                }

                let mut pieces = Vec::new();
                let (mut rest, size_max) = (&body[..], 1 + dice.below(40));
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rest.len().min(dice.below(size_max) + 1));
                    pieces.push(piece);
                    rest = after;
                }
                let mut decoder = Multipart::new(boundary, LIMITS);
                let (got, end) = feed(&mut decoder, pieces.into_iter());
                let text = String::from_utf8_lossy(&body);
                assert_eq!(end, Ok(()), "{text:?}");
                assert_eq!(got.len(), parts.len(), "{text:?}");
                for (at, ((head, data, ended), want)) in got.iter().zip(&parts).enumerate() {
                    assert!(*ended && head.name == at.to_string(), "{text:?}");
                    assert_eq!(data, want, "{text:?}");
                }
            }
        }
    }

    /// Data made of beginnings of the delimiter and a few other bytes, without a whole one even
    /// where a line break is in front.
    fn near_boundaries(dice: &mut Xorshift, delimiter: &[u8]) -> Vec<u8> {
        loop {
            let mut data = Vec::new();
            for _ in 0..dice.below(8) {
                match dice.below(4) {
                    0 => data.push(b"\r\n-x"[dice.below(4)]),
                    1 => data.extend_from_slice(&delimiter[dice.below(4)..]),
                    _ => data.extend_from_slice(&delimiter[..dice.below(delimiter.len())]),
                }
            }
            let lines = [b"\r\n", &data[..], b"\r\n"].concat();
            if !lines.windows(delimiter.len()).any(|window| window == delimiter) {
                return data;
            }
        }
    }
}
