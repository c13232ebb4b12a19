//! multipart/form-data by the letter of RFC 2046 section 5.1 and RFC 7578, from bytes that are all
//! there.

use crate::multipart::MultipartLimits;
use crate::reader::{Reader, Stop, is_tchar, is_value_byte, without_ows};

#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct NaivePart {
    pub name: String,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub data: Vec<u8>,
    /// A boundary followed.
    pub is_over: bool,
}

/// Reads into `parts`, and says with which status the body is refused.
pub(crate) fn decode(
    body: &[u8],
    boundary: &str,
    limits: &MultipartLimits,
    parts: &mut Vec<NaivePart>,
) -> Result<(), u16> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // A boundary may begin the body: as if a line ended there.
    let text = [b"\r\n", body].concat();
    let mut at = find(&text, 0, &delimiter).ok_or(400_u16)? + delimiter.len();
    loop {
        if text[at..].starts_with(b"--") {
            if let Some(part) = parts.last_mut() {
                part.is_over = true;
            }
            at = behind_blanks(&text, at + 2);
            let ends = at == text.len() || text[at..].starts_with(b"\r\n");
            return if ends { Ok(()) } else { Err(400) };
        }
        at = behind_blanks(&text, at);
        if !text[at..].starts_with(b"\r\n") {
            return Err(400);
        }
        at += 2;
        if let Some(part) = parts.last_mut() {
            part.is_over = true;
        }
        if parts.len() == limits.parts_max {
            return Err(413);
        }
        let mut reader = Reader::new(&text[at..]);
        let mut part = read_head(&mut reader, limits).map_err(|stop| match stop {
            Stop::Partial => 400,
            Stop::Refused(status) => status,
        })?;
        at += reader.at;
        // The line break of the head may be that of a delimiter.
        let Some(end) = find(&text, at - 2, &delimiter) else {
            let held = (0..delimiter.len()).rev().find(|count| {
                let line = &text[at - 2..];
                line.ends_with(&delimiter[..*count])
            });
            let end = text.len() - held.unwrap_or(0);
            part.data = text[at..end.max(at)].to_vec();
            parts.push(part);
            return Err(400);
        };
        part.data = text[at..end.max(at)].to_vec();
        parts.push(part);
        at = end + delimiter.len();
    }
}

const BAD: Stop = Stop::Refused(400);
const TOO_LONG: Stop = Stop::Refused(413);

fn find(text: &[u8], from: usize, delimiter: &[u8]) -> Option<usize> {
    (from..text.len()).find(|at| text[*at..].starts_with(delimiter))
}

fn behind_blanks(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// Field lines and an empty line.
fn read_head(reader: &mut Reader<'_>, limits: &MultipartLimits) -> Result<NaivePart, Stop> {
    let mut left = limits.head_bytes_max;
    let mut next = || {
        let byte = reader.next()?;
        left = left.checked_sub(1).ok_or(TOO_LONG)?;
        Ok(byte)
    };
    let mut part = NaivePart::default();
    let (mut has_name, mut seen) = (false, Vec::new());
    loop {
        let mut line = Vec::new();
        loop {
            match next()? {
                b'\r' if next()? == b'\n' => break,
                byte if is_value_byte(byte) => line.push(byte),
                _ => return Err(BAD),
            }
        }
        if line.is_empty() {
            return if has_name { Ok(part) } else { Err(BAD) };
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(BAD)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_tchar(*byte)) {
            return Err(BAD);
        }
        let name = String::from_utf8_lossy(name).to_lowercase();
        match &*name {
            "content-disposition" | "content-type" if seen.contains(&name) => return Err(BAD),
            "content-disposition" => {
                let text = str::from_utf8(value).map_err(|_| BAD)?;
                has_name = read_disposition(without_ows(text), limits, &mut part)?;
            }
            "content-type" => {
                let text = without_ows(str::from_utf8(value).map_err(|_| BAD)?);
                part.content_type = (!text.is_empty()).then(|| text.to_owned());
            }
            "content-transfer-encoding" => {
                let text = String::from_utf8_lossy(value).to_lowercase();
                if !["7bit", "8bit", "binary"].contains(&without_ows(&text)) {
                    return Err(Stop::Refused(415));
                }
            }
            _ => {}
        }
        seen.push(name);
    }
}

/// Whether it has a name.
fn read_disposition(
    text: &str,
    limits: &MultipartLimits,
    part: &mut NaivePart,
) -> Result<bool, Stop> {
    let kind: String = text.chars().take_while(|c| *c != ';').collect();
    if without_ows(&kind).to_lowercase() != "form-data" {
        return Err(BAD);
    }
    let (mut pairs, well_formed) = parameters(&text[kind.len()..]);
    pairs.retain(|(name, _)| name == "name" || name == "filename");
    let (mut field, mut file) = (None, None);
    for (name, value) in pairs {
        let slot = if name == "name" { &mut field } else { &mut file };
        if value.len() > limits.name_bytes_max {
            return Err(TOO_LONG);
        }
        if slot.is_some() {
            return Err(BAD);
        }
        *slot = Some(value);
    }
    if !well_formed {
        return Err(BAD);
    }
    let has_name = field.is_some();
    (part.name, part.file_name) = (field.unwrap_or_default(), file);
    Ok(has_name)
}

/// Names in lower case and values without quotes and escapes, up to where it is malformed.
fn parameters(text: &str) -> (Vec<(String, String)>, bool) {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0'); // is in no field
    let token = |mut at: usize| {
        let mut token = String::new();
        while u8::try_from(get(at)).is_ok_and(is_tchar) {
            token.push(get(at));
            at += 1;
        }
        token
    };
    let (mut pairs, mut at) = (Vec::new(), 0);
    loop {
        while matches!(get(at), ' ' | '\t') {
            at += 1;
        }
        if at == chars.len() {
            return (pairs, true);
        }
        if get(at) != ';' {
            return (pairs, false);
        }
        at += 1;
        while matches!(get(at), ' ' | '\t') {
            at += 1;
        }
        if at == chars.len() || get(at) == ';' {
            continue;
        }
        let name = token(at);
        at += name.len();
        if name.is_empty() || get(at) != '=' {
            return (pairs, false);
        }
        at += 1;
        let mut value = String::new();
        if get(at) == '"' {
            at += 1;
            while get(at) != '"' {
                let escape: String = chars[at..].iter().take(3).collect();
                let (c, count) = match &*escape.to_lowercase() {
                    "" => return (pairs, false),
                    "%22" => ('"', 3),
                    "%0d" => ('\r', 3),
                    "%0a" => ('\n', 3),
                    two if two.starts_with("\\\"") => ('"', 2),
                    two if two.starts_with("\\\\") => ('\\', 2),
                    _ => (get(at), 1),
                };
                value.push(c);
                at += count;
            }
            at += 1;
        } else {
            value = token(at);
            at += value.len();
            if value.is_empty() {
                return (pairs, false);
            }
        }
        pairs.push((name.to_lowercase(), value));
    }
}
