//! Bodies of any length are read in the memory of one line, item or record: counted over a socket,
//! while they come in pieces.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use soloist::prelude::*;
use soloist::testing::TestServer;

/// The system's allocator, with what all threads hold and the most that they held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: the system's allocator, with a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }

    // What is large is moved page by page: there are never two of it.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        took(bytes);
        // SAFETY: passed on as it came.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The count is of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const PEAK_BYTES_MAX: usize = 1024 * 1024;
/// Of a form whose client is faster than the disk: what is received, what is written, and what is
/// gathered meanwhile, in buffers of 256 KiB, and a turn of provided buffers before.
#[cfg(feature = "files")]
const FORM_PEAK_BYTES_MAX: usize = 6 * 1024 * 1024;
const FORM: &str = "multipart/form-data; boundary=x";

/// Rows that the handler has had. The client stays close ahead of it: what the kernel and the ring
/// hold of a body that comes faster than it is read is none of a reader's.
static ROWS: AtomicU64 = AtomicU64::new(0);
const ROWS_AHEAD_MAX: u64 = 1_000;

#[derive(Deserialize)]
struct Row {
    id: u64,
    name: String,
    #[serde(default)]
    tags: Vec<String>,
}

async fn app(_: Shard) -> Result<App<()>> {
    let app = App::new(())
        .post("/whole", async |cx| {
            ROWS.store(u64::MAX, Ordering::Relaxed);
            cx.json(&cx.body().await?.len())
        })
        .post("/lines", async |cx| {
            let (mut lines, mut count, mut bytes) = (cx.lines(), 0_u64, 0);
            while let Some(line) = lines.next().await? {
                ROWS.fetch_add(1, Ordering::Relaxed);
                count += 1;
                bytes += line.len() as u64;
            }
            cx.json(&(count, bytes))
        })
        .post("/items", async |cx| {
            let (mut rows, mut count, mut sum) = (cx.json_items::<Row>(), 0_u64, 0);
            while let Some(row) = rows.next().await? {
                ROWS.fetch_add(1, Ordering::Relaxed);
                count += u64::from(row.name.len() > 5 && row.tags.len() == 2);
                sum += row.id;
            }
            cx.json(&(count, sum))
        });
    #[cfg(feature = "files")]
    let app = app.post("/form", async |cx| {
        ROWS.store(u64::MAX, Ordering::Relaxed); // as fast as it comes: the disk is slower
        let mut form = cx.multipart()?;
        let mut sizes = Vec::new();
        while let Some(part) = form.next().await? {
            let mut file = cx.shard().temp_file(std::env::temp_dir()).await?;
            sizes.push(file.take(part).await?);
        }
        cx.json(&sizes)
    });
    #[cfg(feature = "csv")]
    let app = app.post("/csv", async |cx| {
        let (mut rows, mut count, mut sum) = (cx.csv::<(u64, String, String)>(), 0_u64, 0);
        while let Some((id, name, note)) = rows.next().await? {
            ROWS.fetch_add(1, Ordering::Relaxed);
            count += u64::from(name.len() > 5 && note.len() == 2);
            sum += id;
        }
        cx.json(&(count, sum))
    });
    Ok(app)
}

/// Sends a body of so many rows, written one by one, in chunks of no round size: the answer, and
/// the most that was held meanwhile beyond what was held before.
fn send(path: &str, mime: &str, rows: u64, row: impl Fn(u64, &mut String)) -> (String, usize) {
    let _alone = ONE_AT_A_TIME.lock();
    let limits = Limits { body_bytes_max: 100_000_000, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0").unpinned(1).limits(limits);
    let server = TestServer::start_with(server, app);
    if mime != FORM {
        server.send("POST", path, "", b"[]").expect(200); // warm: no reader minds
    }
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    let head = "host: a\r\nconnection: close\r\ntransfer-encoding: chunked";
    let head = format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-type: {mime}\r\n\r\n");
    let (mut text, mut sent) = (String::with_capacity(8_192), 0);
    ROWS.store(0, Ordering::Relaxed);
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    socket.write_all(head.as_bytes()).expect("sent");
    for n in 0..rows {
        let since = Instant::now();
        while ROWS.load(Ordering::Relaxed).saturating_add(ROWS_AHEAD_MAX) < n {
            assert!(since.elapsed() < Duration::from_secs(20), "row {n}: nobody reads");
            thread::sleep(Duration::from_micros(100));
        }
        row(n, &mut text);
        if text.len() > 4_000 || n + 1 == rows {
            write!(socket, "{:x}\r\n{text}\r\n", text.len()).expect("sent");
            sent += text.len();
            text.clear();
        }
    }
    socket.write_all(b"0\r\n\r\n").expect("sent");
    socket.shutdown(Shutdown::Write).expect("a FIN");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("{path}: {sent} bytes sent, {peak} held at the most");
    assert!(sent > 5_000_000, "{sent}: too little to tell anything");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (body.to_owned(), peak)
}

fn object(n: u64, out: &mut String) {
    let first = if n == 0 { "[" } else { ",\n" };
    let last = if n == 99_999 { "]" } else { "" };
    let object = format!(r#"{{"id":{n},"name":"name \"{n}\"","tags":["a,]}}","b"]}}"#);
    write!(out, "{first}{object}{last}").expect("text");
}

#[test]
fn an_array_of_100_000_objects() {
    let (answer, peak) = send("/items", "application/json", 100_000, object);
    assert_eq!(answer, format!("[100000,{}]", 100_000_u64 * 99_999 / 2));
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}

#[test]
fn lines_of_the_same() {
    let (answer, peak) = send("/lines", "text/plain", 100_000, object);
    assert!(answer.starts_with("[100000,"), "{answer}");
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}

#[cfg(feature = "csv")]
#[test]
fn a_csv_of_200_000_rows() {
    let (answer, peak) = send("/csv", "text/csv", 200_000, |n, out| {
        let head = if n == 0 { "id,name,note\r\n" } else { "" };
        write!(out, "{head}{n},\"the name \"\"{n}\"\"\",\"\r\n\"\r\n").expect("text");
    });
    assert_eq!(answer, format!("[200000,{}]", 200_000_u64 * 199_999 / 2));
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}

#[cfg(feature = "files")]
#[test]
fn a_form_with_three_files_of_20_mb() {
    let (answer, peak) = send("/form", FORM, 15_000, |n, out| {
        if n % 5_000 == 0 {
            let end = if n == 0 { "" } else { "\r\n" };
            let head = "content-disposition: form-data; name=a; filename=b\r\n\r\n";
            write!(out, "{end}--x\r\n{head}").expect("text");
        }
        write!(out, "{n:04000}").expect("text");
        if n == 14_999 {
            out.push_str("\r\n--x--\r\n");
        }
    });
    assert_eq!(answer, "[20000000,20000000,20000000]");
    assert!(peak < FORM_PEAK_BYTES_MAX, "{peak} bytes");
}

/// What is counted is what such a body takes: read whole it is over the bound.
#[test]
fn the_same_read_whole_is_over_the_bound() {
    let (answer, peak) = send("/whole", "text/plain", 100_000, object);
    let bytes: usize = answer.parse().expect("a number");
    assert!(bytes > 5_000_000 && peak > PEAK_BYTES_MAX, "{peak} bytes for {bytes}");
}
