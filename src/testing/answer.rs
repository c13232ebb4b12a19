//! An answer as a test reads it.

use serde::de::DeserializeOwned;

use crate::http::chunked::{ChunkLimits, Chunked, Step};

/// An answer, taken apart. What it insists on fails with the whole exchange in its words.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The head of the request, for those messages.
    asked: String,
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().find(same).map(|field| &*field.1)
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Insists on a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert!(self.status == status, "status {status} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on a body.
    #[track_caller]
    pub fn text(self, text: &str) -> Answer {
        assert!(self.body == text.as_bytes(), "body {text:?} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on text somewhere in the body.
    #[track_caller]
    pub fn contains(self, text: &str) -> Answer {
        let body = String::from_utf8_lossy(&self.body);
        assert!(body.contains(text), "{text:?} expected in the body, but\n{}", self.exchange());
        self
    }

    /// Insists on a header field and its value.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Answer {
        let found = self.header(name);
        assert!(found == Some(value), "{name}: {value} expected, but\n{}", self.exchange());
        self
    }

    /// The answer as text without what changes from run to run (Date): for snapshots.
    pub fn snapshot(&self) -> String {
        let stays = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("date");
        let mut out = format!("{}\n", self.status);
        for (name, value) in self.fields.iter().filter(stays) {
            out += &format!("{name}: {value}\n");
        }
        out + "\n" + &String::from_utf8_lossy(&self.body)
    }

    pub(super) fn exchange(&self) -> String {
        format!("{}\n{self}", self.asked.trim_end())
    }

    /// The body, read as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in\n{}", self.exchange()),
        }
    }

    /// The same, with the head of the request that it answers.
    pub(super) fn asked_by(self, head: String) -> Answer {
        Answer { asked: head, ..self }
    }

    /// Reads the head of an answer from the start of `raw`, interim ones skipped: it and its end.
    pub(super) fn begin(raw: &[u8]) -> Option<(Answer, usize)> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(raw).ok()? else { return None };
        let status = head.code?;
        if (100..200).contains(&status) && status != 101 {
            return Answer::begin(&raw[len..]).map(|(it, end)| (it, end + len));
        }
        let field = |it: &httparse::Header<'_>| {
            (it.name.to_owned(), String::from_utf8_lossy(it.value).into_owned())
        };
        let fields = head.headers.iter().map(field).collect();
        Some((Answer { asked: String::new(), status, fields, body: Vec::new() }, len))
    }

    /// Reads one answer from the start of `raw`: it and its end.
    pub(super) fn read(raw: &[u8], method: &str, closed: bool) -> Option<(Answer, usize)> {
        let (mut answer, len) = Answer::begin(raw)?;
        let (status, rest) = (answer.status, &raw[len..]);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some((answer, len));
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().ok()?;
            answer.body = rest.get(..length)?.to_vec();
            return Some((answer, len + length));
        }
        if answer.header("transfer-encoding").is_some() {
            let mut decoder = Chunked::new(chunk_limits());
            let mut at = 0;
            loop {
                match decoder.decode(&rest[at..]).ok()? {
                    Step::Data { start, end } => {
                        answer.body.extend_from_slice(&rest[at + start..at + end]);
                        at += end;
                    }
                    Step::End { taken } => return Some((answer, len + at + taken)),
                    Step::More { .. } => return None,
                }
            }
        }
        answer.body = rest.to_vec();
        closed.then_some((answer, raw.len()))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

pub(super) fn chunk_limits() -> ChunkLimits {
    ChunkLimits { line_bytes_max: 1024, trailer_bytes_max: 8192, trailers_max: 32 }
}
