//! What the two bare loops share: requests in a buffer become answers in another.

use std::io::Write;
use std::time::SystemTime;

use crate::HELLO;

/// The one answer, with the date of the second.
pub struct Stamp {
    second: u64,
    keep: Vec<u8>,
    close: Vec<u8>,
}

/// What became of the bytes that came.
pub struct Turn {
    /// Bytes of whole requests, all answered.
    pub taken: usize,
    /// The last answer says that the connection ends with it.
    pub close: bool,
}

const HEADERS_MAX: usize = 32;
/// A head that does not end within this is refused.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

impl Stamp {
    pub fn new() -> Stamp {
        let mut stamp = Stamp { second: 0, keep: Vec::new(), close: Vec::new() };
        stamp.refresh();
        stamp
    }

    /// Once a turn: a new date if the second is over.
    pub fn refresh(&mut self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec as u64;
        if now == self.second {
            return;
        }
        self.second = now;
        let date = httpdate::fmt_http_date(SystemTime::now());
        for (answer, connection) in
            [(&mut self.keep, ""), (&mut self.close, "connection: close\r\n")]
        {
            answer.clear();
            let _ = write!(
                answer,
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n\
                 content-length: {}\r\n{connection}date: {date}\r\n\r\n{HELLO}",
                HELLO.len()
            );
        }
    }

    /// Answers every whole request in `input`. Requests of these benches have no body here.
    #[inline]
    pub fn answer(&self, input: &[u8], output: &mut Vec<u8>) -> Turn {
        let mut taken = 0;
        while taken < input.len() {
            let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
            let mut head = httparse::Request::new(&mut []);
            match head.parse_with_uninit_headers(&input[taken..], &mut headers) {
                Ok(httparse::Status::Complete(bytes)) => taken += bytes,
                Ok(httparse::Status::Partial) if input.len() - taken < HEAD_BYTES_MAX => break,
                Ok(httparse::Status::Partial) | Err(_) => {
                    output.extend_from_slice(
                        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    );
                    return Turn { taken: input.len(), close: true };
                }
            }
            let close = head.version == Some(0)
                || head.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("connection")
                        && header.value.eq_ignore_ascii_case(b"close")
                });
            if close {
                output.extend_from_slice(&self.close);
                return Turn { taken: input.len(), close };
            }
            output.extend_from_slice(&self.keep);
        }
        Turn { taken, close: false }
    }
}

impl Default for Stamp {
    fn default() -> Stamp {
        Stamp::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for (input, answers, taken, close) in [
            (get.to_string(), 1, get.len(), false),
            (get.repeat(3), 3, 3 * get.len(), false),
            (get.repeat(2) + "GET / HT", 2, 2 * get.len(), false),
            ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n".into(), 1, 37, true),
            ("GET / HTTP/1.0\r\n\r\n".into(), 1, 18, true),
            ("nonsense\r\n\r\n".into(), 1, 12, true),
            ("x".repeat(HEAD_BYTES_MAX), 1, HEAD_BYTES_MAX, true),
        ] {
            let mut output = Vec::new();
            let turn = Stamp::new().answer(input.as_bytes(), &mut output);
            let text = String::from_utf8(output).unwrap();
            assert_eq!(text.matches("HTTP/1.1 ").count(), answers, "{input}");
            assert_eq!((turn.taken, turn.close), (taken, close), "{input}");
            assert_eq!(text.contains("connection: close"), close, "{input}");
        }
    }
}
