//! Ranges, preconditions and paths of files beside nginx: every row of the tables is asked of both.
//!
//! Where the two differ the row has what we answer, and why; sections are those of RFC 9110. What
//! nginx answers is that of 1.22.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use soloist::App;
use soloist::testing::TestServer;

/// Of every file.
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// One request, and what becomes of it.
struct Row {
    method: &'static str,
    path: &'static str,
    /// Lines. `{tag}` is the tag that the server which is asked gives, `{bare}` is it unquoted.
    fields: String,
    /// What nginx answers, in the words of [`Seen::gist`].
    nginx: &'static str,
    /// What we answer where it is something else, and why.
    ours: Option<&'static str>,
    why: &'static str,
}

fn row(
    method: &'static str,
    path: &'static str,
    fields: impl Into<String>,
    nginx: &'static str,
) -> Row {
    Row { method, path, fields: fields.into(), nginx, ours: None, why: "" }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { method, path, fields, nginx, ours, why } = self;
        write!(f, "{method} {path:?} {fields:?}: nginx {nginx}, ours {ours:?}, {why:?}")
    }
}

impl Row {
    fn but(self, ours: &'static str, why: &'static str) -> Row {
        assert!(ours != self.nginx && !why.is_empty(), "{self}");
        Row { ours: Some(ours), why, ..self }
    }
}

/// GETs of the ten digits in which one thing varies, `{}` in `fields`: (it, the answer of both).
fn same(fields: &str, cases: &[(&str, &'static str)]) -> Vec<Row> {
    let one = |(it, both): &(&str, &'static str)| {
        row("GET", "/digits.txt", fields.replace("{}", it), both)
    };
    cases.iter().map(one).collect()
}

/// As [`same`], but the two differ: (it, nginx, ours).
fn differ(
    fields: &str,
    why: &'static str,
    cases: &[(&str, &'static str, &'static str)],
) -> Vec<Row> {
    let one = |(it, nginx, ours): &(&str, &'static str, &'static str)| {
        row("GET", "/digits.txt", fields.replace("{}", it), nginx).but(ours, why)
    };
    cases.iter().map(one).collect()
}

fn at(path: &'static str, rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| Row { path, ..row }).collect()
}

const INVALID: &str =
    "a field with a mistake may be ignored (14.2): who resumes still gets the file";
const ONE_LIST: &str = "a list may have empty elements (5.6.1.2), and tabs are space (5.6.3)";
const BEYOND: &str = "a last position beyond the end means the end, however large (14.1.2)";
const JOINED: &str = "ranges that overlap or nearly touch may become one (15.3.7.2)";
const TOO_MUCH: &str = "ranges that cost more than the whole may be ignored (14.2, 17.15)";
const GET_ONLY: &str = "ranges are of GET alone, elsewhere the field MUST be ignored (14.2)";
const NO_BYTES: &str = "of no bytes only a suffix that is not 0 can be satisfied (14.1.2)";
const TWICE: &str = "a field of one value that comes twice is no value (5.3), and is ignored";

fn ranges() -> Vec<Row> {
    let range = "range: {}";
    let many = |count: usize, step: usize| -> String {
        let all: Vec<_> = (0..count).map(|it| format!("{0}-{0}", it * step)).collect();
        format!("range: bytes={}", all.join(","))
    };
    let rows = [
        same(
            range,
            &[
                ("bytes=0-0", "206 0-0/10"),
                ("bytes=2-4", "206 2-4/10"),
                ("bytes=0-9", "206 0-9/10"),
                ("bytes=9-9", "206 9-9/10"),
                ("bytes=0-99", "206 0-9/10"),
                ("bytes=0-", "206 0-9/10"),
                ("bytes=7-", "206 7-9/10"),
                ("bytes=9-", "206 9-9/10"),
                ("bytes=-3", "206 7-9/10"),
                ("bytes=-10", "206 0-9/10"),
                ("bytes=-99", "206 0-9/10"),
                ("BYTES=0-1", "206 0-1/10"),
                ("bytes= 0-1", "206 0-1/10"),
                ("bytes=0-1 ", "206 0-1/10"),
                ("bytes=000000000000000000000000002-0000000000000000000000000004", "206 2-4/10"),
                ("bytes=0-9223372036854775807", "206 0-9/10"),
                // Beyond the end.
                ("bytes=10-", "416 */10"),
                ("bytes=10-20", "416 */10"),
                ("bytes=-0", "416 */10"),
                ("bytes=9223372036854775808-", "416 */10"),
                ("bytes=18446744073709551615-18446744073709551616", "416 */10"),
                ("bytes=99999999999999999999999-", "416 */10"),
                ("bytes=20-,30-", "416 */10"),
                ("bytes=10-,-0", "416 */10"),
                ("bytes=-0,20-30", "416 */10"),
                // Some of them.
                ("bytes=10-,0-1", "206 0-1/10"),
                ("bytes=0-1,10-", "206 0-1/10"),
                ("bytes=-0,0-0", "206 0-0/10"),
                // More than there is.
                ("bytes=0-5,4-9", "200"),
                ("bytes=0-9,0-9", "200"),
                // Other units, or none.
                ("items=0-1", "200"),
                ("bytes 0-1", "200"),
                ("bytes = 0-1", "200"),
                ("bytes=", "200"),
                ("bytes", "200"),
                ("", "200"),
            ],
        ),
        differ(
            range,
            BEYOND,
            &[
                ("bytes=0-18446744073709551615", "416 */10", "206 0-9/10"),
                ("bytes=0-99999999999999999999999", "416 */10", "206 0-9/10"),
                ("bytes=-99999999999999999999999", "416 */10", "206 0-9/10"),
            ],
        ),
        differ(
            range,
            INVALID,
            &[
                ("bytes=4-2", "416 */10", "200"),
                ("bytes=a-b", "416 */10", "200"),
                ("bytes=0", "416 */10", "200"),
                ("bytes=-", "416 */10", "200"),
                ("bytes=--1", "416 */10", "200"),
                ("bytes=-1.5", "416 */10", "200"),
                ("bytes=+1-2", "416 */10", "200"),
                ("bytes=0x0-1", "416 */10", "200"),
                ("bytes=1-2-3", "416 */10", "200"),
                ("bytes=0-1;2-3", "416 */10", "200"),
                ("bytes=0-1, x", "416 */10", "200"),
                ("bytes=x, 0-1", "416 */10", "200"),
                ("bytes=20-30,4-2", "416 */10", "200"),
                ("bytes=,", "416 */10", "200"),
                ("bytes=\u{e9}-1", "416 */10", "200"),
                ("bytes=0-1,4-2", "206 0-1/10", "200"),
                ("bytes=0 - 1", "206 0-1/10", "200"),
            ],
        ),
        differ(
            range,
            ONE_LIST,
            &[
                ("bytes=,0-1,,", "416 */10", "206 0-1/10"),
                ("bytes=0-1,", "416 */10", "206 0-1/10"),
                ("bytes=,0-1", "416 */10", "206 0-1/10"),
                ("bytes=\t0-1", "416 */10", "206 0-1/10"),
            ],
        ),
        differ(
            range,
            JOINED,
            &[
                ("bytes=0-1 , 3-4", "206 parts 0-1/10 3-4/10", "206 0-4/10"),
                ("bytes=0-2,1-4", "206 parts 0-2/10 1-4/10", "206 0-4/10"),
            ],
        ),
        differ(
            range,
            TOO_MUCH,
            &[
                ("bytes=0-1,8-9", "206 parts 0-1/10 8-9/10", "200"),
                ("bytes=0-4,5-9", "206 parts 0-4/10 5-9/10", "200"),
            ],
        ),
        differ(
            "range: bytes=0-1\nrange: {}",
            TWICE,
            &[("bytes=0-1", "206 0-1/10", "200"), ("bytes=3-4", "206 0-1/10", "200")],
        ),
        at(
            "/large",
            same(
                range,
                &[
                    ("bytes=0-9,1000-1009", "206 parts 0-9/10000 1000-1009/10000"),
                    ("bytes=1000-1009,0-9", "206 parts 1000-1009/10000 0-9/10000"),
                    ("bytes=0-0,-1", "206 parts 0-0/10000 9999-9999/10000"),
                    ("bytes=-1,0-0", "206 parts 9999-9999/10000 0-0/10000"),
                    ("bytes=9000-,0-0", "206 parts 9000-9999/10000 0-0/10000"),
                    ("bytes=0-9,91-99", "206 parts 0-9/10000 91-99/10000"),
                    ("bytes=20000-,0-9,500-509", "206 parts 0-9/10000 500-509/10000"),
                    ("bytes=0-9,20000-,500-509", "206 parts 0-9/10000 500-509/10000"),
                    ("bytes=0-9,300-309,-1", "206 parts 0-9/10000 300-309/10000 9999-9999/10000"),
                    ("bytes=0-5000,4000-9999", "200"),
                    ("bytes=0-,0-", "200"),
                    ("bytes=0-,-10000", "200"),
                ],
            ),
        ),
        at(
            "/large",
            differ(
                range,
                JOINED,
                &[
                    ("bytes=0-9,5-14", "206 parts 0-9/10000 5-14/10000", "206 0-14/10000"),
                    ("bytes=5-14,0-9", "206 parts 5-14/10000 0-9/10000", "206 0-14/10000"),
                    ("bytes=0-9,10-19", "206 parts 0-9/10000 10-19/10000", "206 0-19/10000"),
                    ("bytes=0-9,90-99", "206 parts 0-9/10000 90-99/10000", "206 0-99/10000"),
                    ("bytes=0-9,0-9", "206 parts 0-9/10000 0-9/10000", "206 0-9/10000"),
                    (
                        "bytes=0-9,500-509,5-20",
                        "206 parts 0-9/10000 500-509/10000 5-20/10000",
                        "206 parts 0-20/10000 500-509/10000",
                    ),
                    // More bytes than there are, until they are joined.
                    ("bytes=0-8000,1000-8500", "200", "206 0-8500/10000"),
                ],
            ),
        ),
        vec![
            row(
                "GET",
                "/large",
                "range: bytes=0-4999,5000-9999",
                "206 parts 0-4999/10000 5000-9999/10000",
            )
            .but("200", TOO_MUCH),
            row("GET", "/large", many(32, 300), "206, 32 parts"),
            row("GET", "/large", many(33, 300), "206, 33 parts").but("200", TOO_MUCH),
            row("GET", "/large", many(200, 0), "206, 200 parts").but("200", TOO_MUCH),
            row("GET", "/large", "range: bytes=".to_owned() + &"0-,".repeat(199) + "0-", "200"),
        ],
        at(
            "/empty.txt",
            same(range, &[("bytes=-1", "200"), ("bytes=0-0,-1", "200"), ("bytes=1-", "416 */0")]),
        ),
        at(
            "/empty.txt",
            differ(
                range,
                NO_BYTES,
                &[
                    ("bytes=0-", "200", "416 */0"),
                    ("bytes=0-0", "200", "416 */0"),
                    ("bytes=-0", "200", "416 */0"),
                ],
            ),
        ),
        vec![
            row("GET", "/empty.txt", "range: bytes=5-4", "416 */0").but("200", INVALID),
            row("HEAD", "/digits.txt", "range: bytes=0-1", "206 0-1/10").but("200", GET_ONLY),
            row("HEAD", "/digits.txt", "range: bytes=-1", "206 9-9/10").but("200", GET_ONLY),
            row("HEAD", "/digits.txt", "range: bytes=10-", "416 */10").but("200", GET_ONLY),
            row("HEAD", "/digits.txt", "range: bytes=x", "416 */10").but("200", GET_ONLY),
            row("HEAD", "/large", "range: bytes=0-9,500-509", "206, parts").but("200", GET_ONLY),
            row("HEAD", "/digits.txt", "range: bytes=0-1\nif-range: {tag}", "206 0-1/10")
                .but("200", GET_ONLY),
            row("HEAD", "/empty.txt", "range: bytes=0-", "200"),
            row("HEAD", "/nothing", "range: bytes=0-1", "404"),
            row("GET", "/nothing", "range: bytes=0-1", "404"),
            row("GET", "/page/", "range: bytes=0-1", "206 0-1/8"),
            row("POST", "/digits.txt", "range: bytes=0-1\ncontent-length: 0", "405"),
        ],
        same(
            "range: bytes=0-1\nif-range: {}",
            &[
                ("{tag}", "206 0-1/10"),
                ("W/{tag}", "200"),
                ("\"x\"", "200"),
                ("*", "200"),
                ("{tag}, \"x\"", "200"),
                ("\"x\", {tag}", "200"),
                ("{bare}", "200"),
                ("", "200"),
                ("Sun, 06 Nov 1994 08:49:37 GMT", "206 0-1/10"),
                ("Sunday, 06-Nov-94 08:49:37 GMT", "206 0-1/10"),
                ("Sun Nov  6 08:49:37 1994", "206 0-1/10"),
                ("Sun, 06 Nov 1994 08:49:36 GMT", "200"),
                ("Sun, 06 Nov 1994 08:49:38 GMT", "200"),
                ("yesterday", "200"),
            ],
        ),
        same(
            "if-range: {}",
            &[
                ("\"x\"\nrange: bytes=10-", "200"),
                ("\"x\"\nrange: bytes=x", "200"),
                ("Sun, 06 Nov 1994 08:49:36 GMT\nrange: bytes=10-", "200"),
                ("{tag}\nrange: bytes=10-", "416 */10"),
                ("\"x\"", "200"),
            ],
        ),
        differ(
            "range: bytes=0-1\nif-range: {tag}\nif-range: {}",
            TWICE,
            &[("{tag}", "400", "200"), ("\"x\"", "400", "200")],
        ),
        at(
            "/large",
            same(
                "range: bytes=0-9,500-509\nif-range: {}",
                &[("{tag}", "206 parts 0-9/10000 500-509/10000"), ("\"x\"", "200")],
            ),
        ),
    ];
    rows.into_iter().flatten().collect()
}

const LISTS: &str = "lines of one list are one list (5.3)";
const NO_LIST: &str = "what follows a mistake in a list of tags is not read: the safe default";
const TAG_FIRST: &str =
    "a tag says more than a date, which MUST be ignored beside it (13.1.3, 13.1.4)";
const NO_DATE: &str = "a date that is none MUST be ignored (13.1.3, 13.1.4)";
const NOT_SINCE: &str = "earlier than that date, or of it, is not modified since (13.1.3)";
const KEPT: &str = "308 keeps the method, which 301 may change to GET (15.4.9)";

fn preconditions() -> Vec<Row> {
    let (none_match, matches) = ("if-none-match: {}", "if-match: {}");
    let (since, until) = ("if-modified-since: {}", "if-unmodified-since: {}");
    let tags = |fields, has: &'static str, has_weakly: &'static str, not: &'static str| {
        same(
            fields,
            &[
                ("{tag}", has),
                ("*", has),
                (" * ", has),
                ("\"x\", {tag}", has),
                ("\"x\",{tag}", has),
                ("{tag}, \"x\"", has),
                ("{tag},", has),
                (",,{tag}", has),
                ("\"a,b\", {tag}", has),
                ("W/{tag}", has_weakly),
                ("\"x\" , W/{tag}", has_weakly),
                ("\"x\"", not),
                ("\"\"", not),
                ("w/{tag}", not),
                ("{bare}", not),
                ("x", not),
                ("\"x", not),
                ("\"x\", *", not),
                ("", not),
            ],
        )
    };
    let rows = [
        tags(none_match, "304", "304", "200"),
        tags(matches, "200", "412", "412"),
        differ(none_match, NO_LIST, &[("*, {tag}", "304", "200"), ("x, {tag}", "304", "200")]),
        differ(matches, NO_LIST, &[("*, {tag}", "200", "412"), ("x, {tag}", "200", "412")]),
        same(none_match, &[("\"x\" {tag}", "200")]),
        same(matches, &[("\"x\" {tag}", "412")]),
        differ(none_match, LISTS, &[("\"x\"\nif-none-match: {tag}", "400", "304")]),
        differ(matches, LISTS, &[("\"x\"\nif-match: {tag}", "400", "200")]),
        same(
            since,
            &[
                ("Sun, 06 Nov 1994 08:49:37 GMT", "304"),
                ("Sunday, 06-Nov-94 08:49:37 GMT", "304"),
                ("Sun Nov  6 08:49:37 1994", "304"),
                ("Sun, 06 Nov 1994 08:49:36 GMT", "200"),
                ("Thu, 01 Jan 1970 00:00:00 GMT", "200"),
                ("Fri, 01 Jan 1904 00:00:00 GMT", "200"),
                ("Sun, 06 Nov 1994 24:49:37 GMT", "200"),
                ("Sun, 31 Feb 1994 08:49:37 GMT", "200"),
                ("yesterday", "200"),
                ("784111777", "200"),
                ("0", "200"),
                ("", "200"),
            ],
        ),
        differ(
            since,
            NOT_SINCE,
            &[
                ("Sun, 06 Nov 1994 08:49:38 GMT", "200", "304"),
                ("Fri, 31 Dec 9999 23:59:59 GMT", "200", "304"),
            ],
        ),
        differ(
            since,
            NO_DATE,
            &[
                ("Sun, 06 Nov 1994 08:49:37", "304", "200"),
                ("Sun, 06 Nov 1994 08:49:37 +0000", "304", "200"),
                ("Mon, 06 Nov 1994 08:49:37 GMT", "304", "200"),
            ],
        ),
        same(
            until,
            &[
                ("Sun, 06 Nov 1994 08:49:37 GMT", "200"),
                ("Sunday, 06-Nov-94 08:49:37 GMT", "200"),
                ("Sun Nov  6 08:49:37 1994", "200"),
                ("Sun, 06 Nov 1994 08:49:38 GMT", "200"),
                ("Fri, 31 Dec 9999 23:59:59 GMT", "200"),
                ("Sun, 06 Nov 1994 08:49:36 GMT", "412"),
                ("Thu, 01 Jan 1970 00:00:00 GMT", "412"),
                ("Fri, 01 Jan 1904 00:00:00 GMT", "412"),
                ("Fri Jan  1 00:00:00 1904", "412"),
            ],
        ),
        differ(
            until,
            NO_DATE,
            &[
                ("Sat, 01 Jan 1904 00:00:00 GMT", "412", "200"),
                ("Sun, 06 Nov 1994 24:49:37 GMT", "412", "200"),
                ("Sun, 31 Feb 1994 08:49:37 GMT", "412", "200"),
                ("yesterday", "412", "200"),
                ("784111777", "412", "200"),
                ("0", "412", "200"),
                ("", "412", "200"),
            ],
        ),
        differ(
            "{}: Sun, 06 Nov 1994 08:49:37 GMT\n{}: Sun, 06 Nov 1994 08:49:37 GMT",
            TWICE,
            &[("if-modified-since", "400", "200"), ("if-unmodified-since", "400", "200")],
        ),
        // Several.
        same(
            "if-none-match: {}",
            &[
                ("\"x\"\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", "200"),
                ("{tag}\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", "304"),
                ("{tag}\nif-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", "304"),
                ("{tag}\nif-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", "412"),
                ("{tag}\nif-match: {tag}", "304"),
                ("{tag}\nif-match: \"x\"", "412"),
                ("\"x\"\nif-match: {tag}", "200"),
                ("{tag}\nrange: bytes=0-1", "304"),
                ("{tag}\nrange: bytes=10-", "304"),
                ("{tag}\nrange: bytes=0-1\nif-range: \"x\"", "304"),
                ("\"x\"\nrange: bytes=0-1", "206 0-1/10"),
                ("\"x\"\nrange: bytes=10-", "416 */10"),
                ("\"x\"\nrange: bytes=0-1\nif-range: {tag}", "206 0-1/10"),
            ],
        ),
        same(
            "if-match: {}",
            &[
                ("{tag}\nif-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", "200"),
                ("\"x\"\nif-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", "412"),
                ("{tag}\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", "304"),
                ("{tag}\nrange: bytes=0-1", "206 0-1/10"),
                ("\"x\"\nrange: bytes=0-1", "412"),
                ("\"x\"\nrange: bytes=10-", "412"),
                ("{tag}\nrange: bytes=0-1\nif-range: \"x\"", "200"),
            ],
        ),
        same(
            "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\n{}",
            &[
                ("if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", "304"),
                ("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", "412"),
                ("range: bytes=0-1", "304"),
            ],
        ),
        same(
            "range: bytes=0-1\n{}",
            &[
                ("if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT", "206 0-1/10"),
                ("if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", "206 0-1/10"),
                ("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", "412"),
            ],
        ),
        differ(
            "{}",
            TAG_FIRST,
            &[
                (
                    "if-none-match: {tag}\nif-modified-since: Sun, 06 Nov 1994 08:49:36 GMT",
                    "200",
                    "304",
                ),
                ("if-none-match: {tag}\nif-modified-since: yesterday", "200", "304"),
                (
                    "if-match: {tag}\nif-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT",
                    "412",
                    "200",
                ),
            ],
        ),
        vec![
            row("HEAD", "/digits.txt", "if-none-match: {tag}", "304"),
            row("HEAD", "/digits.txt", "if-none-match: \"x\"", "200"),
            row("HEAD", "/digits.txt", "if-match: {tag}", "200"),
            row("HEAD", "/digits.txt", "if-match: \"x\"", "412"),
            row("HEAD", "/digits.txt", format!("if-modified-since: {DATE}"), "304"),
            row("HEAD", "/digits.txt", format!("if-unmodified-since: {DATE}"), "200"),
            row("GET", "/empty.txt", "if-none-match: {tag}", "304"),
            row("GET", "/empty.txt", "if-match: {tag}", "200"),
            row("GET", "/page/", "if-none-match: {tag}", "304"),
            row("GET", "/page/", "if-match: \"x\"", "412"),
            // Preconditions are of what would be 2xx (13.2.1).
            row("GET", "/nothing", "if-none-match: *", "404"),
            row("GET", "/nothing", "if-match: *", "404"),
            row("GET", "/nothing", format!("if-modified-since: {DATE}"), "404"),
            row("POST", "/digits.txt", "if-match: \"x\"\ncontent-length: 0", "405"),
            row("POST", "/digits.txt", "if-none-match: *\ncontent-length: 0", "405"),
            row("GET", "/page", "if-match: \"x\"", "301 /page/").but("308 /page/", KEPT),
            row("GET", "/page", "if-none-match: *", "301 /page/").but("308 /page/", KEPT),
        ],
    ];
    rows.into_iter().flatten().collect()
}

const AS_IT_IS: &str = "a path is never rewritten: what a middleware judged is what is served";
const NO_PATH: &str = "what names no file is not found: hostile paths get no answer of their own";
const NO_INDEX: &str = "whether a folder without an index is there is nobody's business (15.5.5)";
const HIDDEN: &str =
    "names with a dot in front hold secrets: the safe default is not to serve them";
const BENEATH: &str = "no symlink leads out of the folder: the safe default";
const NO_FRAGMENT: &str = "a target has no fragment (RFC 9112 section 3.2)";
const BY_METHOD: &str = "the route knows GET and HEAD, whatever there is below it (15.5.6)";
const OPTIONS: &str = "OPTIONS is answered with what is allowed (9.3.7)";

fn paths() -> Vec<Row> {
    // (path, nginx, ours where they differ, why)
    type Case = (&'static str, &'static str, &'static str, &'static str);
    let cases: &[Case] = &[
        ("/digits.txt", "200", "", ""),
        ("/digits.txt?", "200", "", ""),
        ("/digits.txt?a=/../b", "200", "", ""),
        ("/digits.txt#a", "200", "400", NO_FRAGMENT),
        ("/empty.txt", "200", "", ""),
        ("/large", "200", "", ""),
        ("/%64igits.txt", "200", "", ""),
        ("/digits%2Etxt", "200", "", ""),
        ("/sub/digits.txt", "200", "", ""),
        ("/sub%2fdigits.txt", "200", "", ""),
        ("/a%20b%25.txt", "200", "", ""),
        ("/a+b%25.txt", "404", "", ""),
        ("/a b%25.txt", "400", "", ""),
        ("/DIGITS.txt", "404", "", ""),
        ("/digits.txt.", "404", "", ""),
        ("/nothing", "404", "", ""),
        ("/nothing/", "404", "", ""),
        ("", "400", "", ""),
        ("*", "400", "", ""),
        ("digits.txt", "400", "", ""),
        ("http://a/digits.txt", "200", "", ""),
        // Folders.
        ("/page/", "200", "", ""),
        ("/page/?a=b", "200", "", ""),
        ("/page/index.html", "200", "", ""),
        ("/page", "301 /page/", "308 /page/", KEPT),
        ("/page?a=b", "301 /page/?a=b", "308 /page/?a=b", KEPT),
        ("http://a/page", "301 /page/", "308 /page/", KEPT),
        ("/sub", "301 /sub/", "308 /sub/", KEPT),
        ("/sub/", "403", "404", NO_INDEX),
        ("/", "403", "404", NO_INDEX),
        ("http://a", "403", "404", NO_INDEX),
        ("/digits.txt/", "404", "", ""),
        ("/digits.txt/x", "404", "", ""),
        ("/digits.txt/.", "404", "", ""),
        // Steps up and on the spot.
        ("/./digits.txt", "200", "404", AS_IT_IS),
        ("/sub/./digits.txt", "200", "404", AS_IT_IS),
        ("/page/.", "200", "404", AS_IT_IS),
        ("/.", "403", "404", AS_IT_IS),
        ("/sub/../digits.txt", "200", "404", AS_IT_IS),
        ("/sub/%2e%2e/digits.txt", "200", "404", AS_IT_IS),
        ("/sub/..%2fdigits.txt", "200", "404", AS_IT_IS),
        ("/sub%2f..%2fdigits.txt", "200", "404", AS_IT_IS),
        ("/sub/..", "403", "404", AS_IT_IS),
        ("/..", "400", "404", NO_PATH),
        ("/../digits.txt", "400", "404", NO_PATH),
        ("/%2e%2e/digits.txt", "400", "404", NO_PATH),
        ("/../outside.txt", "400", "404", NO_PATH),
        ("/..%2foutside.txt", "400", "404", NO_PATH),
        ("/%2e%2e%2foutside.txt", "400", "404", NO_PATH),
        ("http://a/../outside.txt", "400", "404", NO_PATH),
        ("/%252e%252e/outside.txt", "404", "", ""),
        ("/..%5coutside.txt", "404", "", ""),
        ("/..;/outside.txt", "404", "", ""),
        ("/....//outside.txt", "404", "", ""),
        ("/%c0%ae%c0%ae/outside.txt", "404", "", ""),
        // Slashes.
        ("//digits.txt", "200", "404", AS_IT_IS),
        ("///digits.txt", "200", "404", AS_IT_IS),
        ("/sub//digits.txt", "200", "404", AS_IT_IS),
        ("/page//", "200", "404", AS_IT_IS),
        ("//page", "301 /page/", "404", AS_IT_IS),
        ("/sub%5cdigits.txt", "404", "", ""),
        ("/sub\\digits.txt", "404", "", ""),
        // Bytes that no name has.
        ("/digits.txt\0", "400", "", ""),
        ("/digits.txt%00", "400", "404", NO_PATH),
        ("/sub%00/digits.txt", "400", "404", NO_PATH),
        ("/%00", "400", "404", NO_PATH),
        ("/digits.txt%0a", "404", "", ""),
        ("/digits.txt%0d%0ax:y", "404", "", ""),
        ("/page%0d%0ax:y", "404", "", ""),
        ("/%ff", "404", "", ""),
        ("/%", "400", "404", NO_PATH),
        ("/%2", "400", "404", NO_PATH),
        ("/%zz", "400", "404", NO_PATH),
        ("/digits.txt%", "400", "404", NO_PATH),
        ("/%u002e", "400", "404", NO_PATH),
        // What is not for everybody.
        ("/.env", "200", "404", HIDDEN),
        ("/%2eenv", "200", "404", HIDDEN),
        ("/sub/.git/config", "200", "404", HIDDEN),
        ("/sub/.git", "301 /sub/.git/", "404", HIDDEN),
        ("/sub/.git/", "403", "404", HIDDEN),
        ("/inside", "200", "", ""),
        ("/outside", "200", "404", BENEATH),
    ];
    let mut rows = Vec::new();
    for &(path, nginx, ours, why) in cases {
        for method in ["GET", "HEAD"] {
            let row = row(method, path, "", nginx);
            let ours = if ours.is_empty() { nginx } else { ours };
            rows.push(if ours == nginx { row } else { row.but(ours, why) });
        }
    }
    let empty = "content-length: 0";
    rows.extend([
        row("POST", "/digits.txt", empty, "405"),
        row("PUT", "/digits.txt", empty, "405"),
        row("DELETE", "/digits.txt", "", "405"),
        row("POST", "/nothing", empty, "404").but("405", BY_METHOD),
        row("POST", "/page", empty, "301 /page/").but("405", BY_METHOD),
        row("OPTIONS", "/digits.txt", "", "405").but("204", OPTIONS),
    ]);
    rows
}

/// Which of [`NAMES`] an answer has, by its status.
struct Facts {
    status: u16,
    nginx: &'static [&'static str],
    ours: &'static [&'static str],
    why: &'static str,
}

const NAMES: [&str; 4] = ["accept-ranges", "content-length", "etag", "last-modified"];
const UNDERSTOOD: &str = "whoever asks again may know that ranges are understood (14.3)";

/// Other statuses have a length alone.
const FACTS: [Facts; 4] = [
    Facts { status: 200, nginx: &NAMES, ours: &NAMES, why: "" },
    Facts { status: 204, nginx: &[], ours: &[], why: "" },
    Facts {
        status: 206,
        nginx: &["content-length", "etag", "last-modified"],
        ours: &NAMES,
        why: UNDERSTOOD,
    },
    Facts {
        status: 304,
        nginx: &["etag", "last-modified"],
        ours: &["accept-ranges", "etag", "last-modified"],
        why: UNDERSTOOD,
    },
];

#[test]
fn what_nginx_answers_and_where_and_why_we_do_not() {
    let Some(program) = Nginx::find() else {
        // Past what the harness keeps to itself.
        let _ = writeln!(io::stderr(), "no nginx: the comparison with it is left out");
        return;
    };
    let site = site();
    let root = site.0.join("root");
    let nginx = Nginx::start(&program, &root);
    let server = TestServer::start(1, move |_| {
        let app = App::new(()).files("/", &root);
        async move { Ok(app) }
    });
    let mut asked = BTreeSet::new();
    let (mut wrong, mut differing) = (Vec::new(), 0);
    for row in ranges().into_iter().chain(preconditions()).chain(paths()) {
        let once = asked.insert(format!("{} {} {}", row.method, row.path, row.fields));
        assert!(once, "twice in the tables: {row}");
        differing += usize::from(row.ours.is_some());
        let (theirs, own) = (Seen::ask(nginx.addr, &row), Seen::ask(server.addr(), &row));
        let sides = [("nginx", theirs, row.nginx), ("ours", own, row.ours.unwrap_or(row.nginx))];
        for (who, seen, want) in sides {
            let right = ensure(seen.gist(&row) == want, || format!("{want} expected"));
            let right = right.and_then(|()| seen.is_sound(&row)).and_then(|()| {
                let facts = FACTS.iter().find(|it| it.status == seen.status);
                let want = match (facts, who) {
                    (None, _) => &["content-length"],
                    (Some(facts), "nginx") => facts.nginx,
                    (Some(facts), _) => facts.ours,
                };
                let have: Vec<_> = NAMES.into_iter().filter(|it| seen.has(it)).collect();
                ensure(have == want, || format!("{want:?} expected, not {have:?}"))
            });
            if let Err(what) = right {
                wrong.push(format!("{who}: {} instead: {what}\n  {row}", seen.gist(&row)));
            }
        }
    }
    for facts in FACTS {
        assert_eq!(facts.nginx == facts.ours, facts.why.is_empty(), "{}", facts.status);
    }
    let version = Seen::ask(nginx.addr, &row("GET", "/", "", "")).fields;
    let version = version.into_iter().find(|it| it.0 == "server").unwrap_or_default().1;
    assert!(
        wrong.is_empty(),
        "beside {version}, {} of {} answers:\n{}",
        wrong.len(),
        asked.len() * 2,
        wrong.join("\n")
    );
    assert!(differing < asked.len() / 2, "alike in most things");
}

const DIGITS: &[u8] = b"0123456789";
const INDEX: &[u8] = b"<p>index";

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(what: &str) -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (number, id) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let dir = std::env::temp_dir().join(format!("soloist-{what}-{id}-{number}"));
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }

    /// Writes a file whose date is that of RFC 9110's examples.
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("in the directory")).expect("a directory");
        fs::write(&path, bytes).expect("a file");
        let file = fs::File::options().write(true).open(&path).expect("the file");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(784_111_777)).expect("a date");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Both folders of a site: what is served, and what lies beside it.
fn site() -> Dir {
    let dir = Dir::new("beside-nginx");
    dir.write("outside.txt", b"secret");
    dir.write("root/digits.txt", DIGITS);
    dir.write("root/empty.txt", b"");
    dir.write("root/large", &large());
    dir.write("root/a b%.txt", DIGITS);
    dir.write("root/page/index.html", INDEX);
    dir.write("root/sub/digits.txt", DIGITS);
    dir.write("root/.env", b"secret");
    dir.write("root/sub/.git/config", b"secret");
    symlink("digits.txt", dir.0.join("root/inside")).expect("a link");
    symlink("../outside.txt", dir.0.join("root/outside")).expect("a link");
    dir
}

/// 10 000 bytes, no two hundred of which are like two hundred others.
fn large() -> Vec<u8> {
    (0..5_000u16).flat_map(|at| at.to_be_bytes()).collect()
}

/// An nginx of our own in the foreground, which ends with the test.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    _dir: Dir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        places.map(|it| it.join("nginx")).find(|it| it.is_file())
    }

    fn start(program: &Path, root: &Path) -> Nginx {
        for _ in 0..5 {
            match Nginx::try_start(program, root) {
                Ok(nginx) => return nginx,
                Err(error) if error.contains("in use") => {} // somebody was faster
                Err(error) => panic!("nginx does not start: {error}"),
            }
        }
        panic!("no port for nginx");
    }

    fn try_start(program: &Path, root: &Path) -> Result<Nginx, String> {
        let dir = Dir::new("nginx");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = free.local_addr().expect("its address");
        drop(free);
        let own = dir.0.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {own}/{what};"))
            .join("\n");
        let config = format!(
            "daemon off; master_process off; pid {own}/pid; error_log stderr;
            events {{ worker_connections 64; }}
            http {{
                access_log off; absolute_redirect off; charset utf-8;
                types {{ text/plain txt; text/html html; }}
                default_type application/octet-stream;
                {temporary}
                server {{ listen {addr}; root {}; }}
            }}",
            root.display()
        );
        fs::write(dir.0.join("config"), config).expect("a file");
        let errors = fs::File::create(dir.0.join("errors")).expect("a file");
        let child = Command::new(program)
            .args(["-e", "stderr", "-p"])
            .arg(&dir.0)
            .arg("-c")
            .arg(dir.0.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut nginx = Nginx { child, addr, _dir: dir };
        let began = Instant::now();
        loop {
            let dir = &nginx._dir.0;
            // It is written once the port is nginx's.
            if fs::read_to_string(dir.join("pid")).is_ok_and(|it| it.ends_with('\n')) {
                return Ok(nginx);
            }
            let ended = nginx.child.try_wait().expect("a process of ours").is_some();
            if ended || began.elapsed() > Duration::from_secs(20) {
                return Err(fs::read_to_string(dir.join("errors")).unwrap_or_default());
            }
            sleep(Duration::from_millis(5)); // another process: there is nothing to wait on
        }
    }
}

/// An answer, taken apart.
struct Seen {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    /// Asks on a connection of its own.
    fn ask(addr: SocketAddr, row: &Row) -> Seen {
        let Row { method, path, .. } = row;
        let mut fields: String = row.fields.lines().map(|it| format!("{it}\r\n")).collect();
        if fields.contains('{') {
            let before = Seen::ask(addr, &Row { fields: String::new(), ..*row });
            let tag = before.field("etag").expect("a tag");
            fields = fields.replace("{tag}", tag).replace("{bare}", tag.trim_matches('"'));
        }
        let mut socket = TcpStream::connect(addr).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        socket.write_all(format!("{head}{fields}\r\n").as_bytes()).expect("sent");
        let mut raw = Vec::new();
        let end = socket.read_to_end(&mut raw);
        let seen = Seen::read(&raw).filter(|_| end.is_ok());
        seen.unwrap_or_else(|| panic!("{head}{fields}{}", String::from_utf8_lossy(&raw)))
    }

    fn read(raw: &[u8]) -> Option<Seen> {
        let (head, body) = split(raw, b"\r\n\r\n")?;
        let head = str::from_utf8(head).ok()?;
        let (first, lines) = head.split_once("\r\n")?;
        let status = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Seen { status, fields: fields(lines)?, body: body.to_vec() })
    }

    fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|it| it.0 == name);
        let first = all.next()?;
        assert_eq!(all.next(), None, "{name}, twice");
        Some(&first.1)
    }

    /// Status, and what of the file there is: the words of the tables.
    fn gist(&self, row: &Row) -> String {
        let mut gist = self.status.to_string();
        if row.method == "HEAD" && !self.body.is_empty() {
            gist.push_str(", a body");
        }
        for name in ["location", "content-range"] {
            if let Some(value) = self.field(name) {
                let _ = write!(gist, " {}", value.strip_prefix("bytes ").unwrap_or(value));
            }
        }
        if let Some(parts) = self.parts() {
            match parts.len() {
                0 => gist.push_str(", parts"),
                count @ 5.. => _ = write!(gist, ", {count} parts"),
                _ => gist.push_str(" parts"),
            }
            for (_, range, _) in parts.iter().filter(|_| parts.len() < 5) {
                let _ = write!(gist, " {range}");
            }
        }
        gist
    }

    /// Type, range and bytes of every part of multipart/byteranges.
    fn parts(&self) -> Option<Vec<(String, String, &[u8])>> {
        let mime = self.field("content-type")?;
        let boundary = mime.strip_prefix("multipart/byteranges; boundary=")?;
        let (open, shut) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}--\r\n"));
        let mut parts = Vec::new();
        if self.body.is_empty() {
            return Some(parts); // HEAD
        }
        let body = self.body.strip_prefix(b"\r\n").unwrap_or(&self.body);
        let mut rest = body.strip_suffix(shut.as_bytes()).expect("the end");
        rest = rest.strip_prefix(open.as_bytes()).expect("the first part");
        let open = format!("\r\n{open}");
        loop {
            let next = split(rest, open.as_bytes());
            let (head, bytes) = split(next.map_or(rest, |it| it.0), b"\r\n\r\n").expect("a head");
            let head = fields(str::from_utf8(head).expect("text")).expect("fields");
            let of = |name: &str| {
                head.iter().find(|it| it.0 == name).map(|it| it.1.clone()).expect("a field")
            };
            let range = of("content-range");
            let range = range.strip_prefix("bytes ").expect("bytes").to_owned();
            parts.push((of("content-type"), range, bytes));
            match next {
                Some((_, after)) => rest = after,
                None => return Some(parts),
            }
        }
    }

    /// Whether what an answer says of itself is so: every byte of it is held against the file. With
    /// that, two answers of the same gist are the same.
    fn is_sound(&self, row: &Row) -> Result<(), String> {
        let length = self.field("content-length").map(|it| it.parse::<usize>().expect("digits"));
        let is_head = row.method == "HEAD";
        let is_whole = length == Some(self.body.len());
        ensure(!self.has("transfer-encoding"), || "a length is known".into())?;
        let right = match self.status {
            204 | 304 => self.body.is_empty(),
            // A body is in the gist.
            _ if is_head => self.body.is_empty() || is_whole,
            _ => is_whole,
        };
        ensure(right, || format!("{} bytes of {length:?}", self.body.len()))?;
        for (name, value) in [("last-modified", DATE), ("accept-ranges", "bytes")] {
            let right = self.field(name).is_none_or(|it| it == value);
            ensure(right, || format!("{name}: {:?}", self.field(name)))?;
        }
        if self.status != 200 && self.status != 206 {
            return ensure(split(&self.body, b"secret").is_none(), || "a secret".into());
        }
        let (file, mime) = file_of(row.path);
        let of = |range: &str| {
            let (range, all) = range.split_once('/').expect("of how many");
            let (from, to) = range.split_once('-').expect("from-to");
            assert_eq!(all.parse(), Ok(file.len()));
            file[from.parse().expect("digits")..=to.parse::<usize>().expect("digits")].to_vec()
        };
        let range = self.field("content-range");
        if let Some(parts) = self.parts() {
            ensure(range.is_none() && self.status == 206, || "parts".into())?;
            for (part_mime, range, bytes) in parts {
                ensure(part_mime == mime, || format!("part of {part_mime}"))?;
                ensure(bytes == of(&range), || format!("other bytes at {range}"))?;
            }
            return Ok(());
        }
        ensure((self.status == 206) == range.is_some(), || format!("{range:?}"))?;
        let want = match range {
            Some(range) => of(range.strip_prefix("bytes ").expect("bytes")),
            None => file.clone(),
        };
        ensure(self.field("content-type") == Some(mime), || "another type".into())?;
        ensure(length == Some(want.len()), || format!("length {length:?}"))?;
        ensure(is_head || self.body == want, || "other bytes".into())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// What a path leads to where it leads to something, and its type.
fn file_of(path: &str) -> (Vec<u8>, &'static str) {
    let text = "text/plain; charset=utf-8";
    match path {
        "/inside" => (DIGITS.to_vec(), "application/octet-stream"),
        "/large" => (large(), "application/octet-stream"),
        "/empty.txt" => (Vec::new(), text),
        _ if path.contains("igits") || path.contains("/a") => (DIGITS.to_vec(), text),
        _ if path.contains("page") => (INDEX.to_vec(), "text/html; charset=utf-8"),
        _ => (b"secret".to_vec(), "application/octet-stream"),
    }
}

fn fields(lines: &str) -> Option<Vec<(String, String)>> {
    let one = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    lines.split("\r\n").map(one).collect()
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let from = bytes.windows(at.len()).position(|it| it == at)?;
    Some((&bytes[..from], &bytes[from + at.len()..]))
}
