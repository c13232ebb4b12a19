//! One line a request.

use std::fmt::{self, Write};
use std::net::IpAddr;

use tracing::Level;

use super::request_id::RequestId;
use crate::app::core::Phase;
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::reply::is_bodiless;
use crate::http::head::Method;

/// How a request is written down: see [`access_log`].
///
/// ```
/// use soloist::middleware::{LogFormat, access_log};
/// use soloist::prelude::*;
///
/// // A subscriber that writes JSON by itself wants `Fields`; one that writes plain lines, a line.
/// let json = std::env::var_os("LOG_JSON").is_some();
/// let format = if json { LogFormat::Json } else { LogFormat::Combined };
/// let app = App::new(()).wrap(access_log(format)).get("/", async |cx| cx.text("hello"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Fields of the event, for a subscriber that formats them: `method`, `path`, `status`,
    /// `bytes`, `us`, `request_id`, `client`, `route`, `cut`.
    Fields,
    /// The event's message is a line of the Combined Log Format, with the query.
    Combined,
    /// The event's message is a JSON object with the names of `Fields`.
    Json,
}

/// Writes one `tracing` event a request, at INFO, with the target `soloist::access`.
///
/// An answer is written down when its last byte has been handed on: a streamed one when it ends,
/// with the bytes that were sent. `us` is the time since its head was read, in microseconds. A
/// request that ended without an answer is there too, with the status 499 if the client has gone,
/// 503 if the server's deadline has passed, 500 if the handler panicked; a stream that did not
/// reach its end is `cut`. The path is written without its query, which may hold secrets, but in
/// the combined format. Requests that are refused for their head are not there.
///
/// Put it outside of what answers by itself (limits, auth, CORS), and inside of
/// [`request_id`](super::request_id). Errors are answered here: middleware outside of it sees
/// their answers.
///
/// ```
/// use soloist::middleware::{LogFormat, access_log};
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(access_log(LogFormat::Combined)).get("/", async |cx| cx.text("hello"));
/// ```
pub fn access_log<S: 'static>(format: LogFormat) -> impl Middleware<S> {
    async move |cx: &Ctx<S>, next: Next<'_>| {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return next.run().await;
        }
        let mut entry = Entry { cx, format, answered: false };
        let reply = next.reply().await;
        entry.answered = true;
        Ok(reply)
    }
}

const TARGET: &str = "soloist::access";

/// A request that is under way; dropped, it is written down.
struct Entry<'a, S> {
    cx: &'a Ctx<S>,
    format: LogFormat,
    answered: bool,
}

impl<S> Drop for Entry<'_, S> {
    fn drop(&mut self) {
        let line = Line::new(self.cx, self.answered);
        match self.format {
            LogFormat::Fields => tracing::info!(
                target: TARGET,
                method = line.method,
                path = line.path,
                status = line.status,
                bytes = line.bytes,
                us = line.us,
                request_id = line.request_id,
                client = line.client.map(tracing::field::display),
                route = line.route,
                cut = line.cut,
            ),
            LogFormat::Combined => tracing::info!(target: TARGET, "{}", Combined(&line, self.cx)),
            LogFormat::Json => tracing::info!(target: TARGET, "{}", Json(&line)),
        }
    }
}

struct Line<'a> {
    method: &'a str,
    path: &'a str,
    status: u16,
    bytes: u64,
    us: u64,
    request_id: Option<&'a str>,
    client: Option<IpAddr>,
    route: Option<&'a str>,
    cut: bool,
}

impl<'a> Line<'a> {
    fn new<S>(cx: &'a Ctx<S>, answered: bool) -> Line<'a> {
        let core = &*cx.core;
        let begun = matches!(core.phase.get(), Phase::Streaming | Phase::Finished);
        let status = match (answered || begun, cx.deadline()) {
            (true, _) => core.status.get(),
            _ if std::thread::panicking() => 500,
            (_, Some(left)) if left.is_zero() => 503,
            _ => 499,
        };
        let silent = core.head.method == Method::Head || is_bodiless(status);
        let bytes = match begun {
            true => core.streamed_bytes.get(),
            false if silent || !answered => 0,
            false => core.body_bytes() as u64,
        };
        Line {
            method: cx.method(),
            path: cx.path(),
            status,
            bytes,
            us: (core.local.clock.peek_ns() - core.received_ns) / 1_000,
            request_id: cx.got::<RequestId>().map(RequestId::as_str),
            client: cx.client(),
            route: cx.route(),
            cut: core.phase.get() == Phase::Streaming,
        }
    }
}

/// `host - - [time] "request" status bytes "referer" "user-agent"`.
struct Combined<'a, S>(&'a Line<'a>, &'a Ctx<S>);

impl<S> fmt::Display for Combined<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Combined(line, cx) = self;
        match line.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_str("-")?,
        }
        // From `Sun, 06 Nov 1994 08:49:37 GMT`.
        let date = cx.core.date();
        let part = |from, to| str::from_utf8(&date[from..to]).unwrap_or("-");
        let (day, month, year, time) = (part(5, 7), part(8, 11), part(12, 16), part(17, 25));
        write!(f, " - - [{day}/{month}/{year}:{time} +0000] \"{}", Escaped(line.method))?;
        write!(f, " {}", Escaped(line.path))?;
        if cx.core.head.has_query {
            write!(f, "?{}", Escaped(cx.query()))?;
        }
        write!(f, " HTTP/1.{}\" {} {}", cx.core.head.minor, line.status, line.bytes)?;
        for name in ["referer", "user-agent"] {
            write!(f, " \"{}\"", Escaped(cx.header(name).unwrap_or("-")))?;
        }
        Ok(())
    }
}

/// Text of a client that cannot end its quotes or its line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0);
        }
        for byte in self.0.bytes() {
            match is_plain(byte) {
                true => f.write_char(char::from(byte))?,
                false => write!(f, "\\x{byte:02X}")?,
            }
        }
        Ok(())
    }
}

struct Json<'a>(&'a Line<'a>);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0;
        write!(f, "{{\"method\":{},\"path\":{}", Quoted(line.method), Quoted(line.path))?;
        write!(f, ",\"status\":{},\"bytes\":{},\"us\":{}", line.status, line.bytes, line.us)?;
        if let Some(id) = line.request_id {
            write!(f, ",\"request_id\":{}", Quoted(id))?;
        }
        if let Some(client) = line.client {
            write!(f, ",\"client\":\"{client}\"")?;
        }
        if let Some(route) = line.route {
            write!(f, ",\"route\":{}", Quoted(route))?;
        }
        if line.cut {
            f.write_str(",\"cut\":true")?;
        }
        f.write_char('}')
    }
}

/// A JSON string (RFC 8259 section 7).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ..=' ' if c != ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
