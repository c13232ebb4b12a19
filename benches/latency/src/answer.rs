//! Reads one answer: is it whole, what does it say.

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Of head and body together.
    pub bytes: usize,
    /// The server says that it will close.
    pub close: bool,
}

/// `Ok(None)` while bytes are missing; `Err` for what can never become an answer.
pub fn read(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("no HTTP/1.1 answer"),
    };
    let (mut body_bytes, mut close) = (None, head.version == Some(0));
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            body_bytes = Some(text.parse::<usize>().map_err(|_| "bad content-length")?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            close = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let body_bytes = body_bytes.ok_or("no content-length")?;
    let bytes_wanted = head_bytes.checked_add(body_bytes).ok_or("bad content-length")?;
    if bytes.len() < bytes_wanted {
        return Ok(None);
    }
    Ok(Some(Answer { status: head.code.unwrap_or_default(), bytes: bytes_wanted, close }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_only_with_its_last_byte() {
        let text = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: Close\r\n\r\nabc";
        for cut in 0..text.len() {
            assert_eq!(read(&text[..cut]), Ok(None), "cut at {cut}");
        }
        let whole = Answer { status: 404, bytes: text.len(), close: true };
        assert_eq!(read(text), Ok(Some(whole)));
    }

    #[test]
    fn refused() {
        for text in [
            "HTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
