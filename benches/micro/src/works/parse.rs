//! Heads of requests.

use std::hint::black_box;

use crate::head::{Head, HeadLimits, Parsed, parse};
use crate::runner::Runner;

const SMALL: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const BROWSER: &str = "GET /articles/2026/thread-per-core?page=2 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/articles\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=4f5d8c0a9b7e4d21; theme=dark; seen=1732435200\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=0, i\r\n\r\n";

/// Those of a server by default.
const LIMITS: HeadLimits =
    HeadLimits { target_bytes_max: 8_000, head_bytes_max: 16 * 1024, fields_max: 100 };

pub fn run(runner: &mut Runner) {
    let mut head = Head::default();
    for (name, text) in [("parse_small", SMALL), ("parse_browser", BROWSER)] {
        assert_eq!(parse(text.as_bytes(), &LIMITS, &mut head), Parsed::Complete);
        runner.run(name, || {
            black_box(parse(black_box(text.as_bytes()), &LIMITS, &mut head));
        });
    }
}
