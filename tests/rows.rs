//! Rows and copies as streams, and what a client costs that stops reading: in a process of its own,
//! whose memory nobody else takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use soloist::prelude::*;
use soloist::sqlx::{self, Row};
use soloist::testing::TestServer;

#[path = "stores/ledger.rs"]
mod ledger;
#[path = "stores/postgres.rs"]
mod postgres;

use ledger::{all_is_accounted_for, ask, ledger, number, options, reset, stats, until};
use postgres::Postgres as Store;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn rows_stream_and_copies_arrive() {
    let store = Store::start(20);
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let app = ledger(shard, options(&url).query_max(Duration::from_secs(20))).await?;
        Ok(app
            .get("/rows/:count", async |cx| {
                let sql = "SELECT generate_series(1, $1::bigint), repeat('x', 1000)";
                let query = sqlx::query(sql).bind(cx.param::<i64>("count")?);
                let mut rows = query.fetch(cx.state());
                let mut out = cx.stream("text/plain").await?;
                while let Some(row) = rows.next().await {
                    let row = row?;
                    let line = (row.get::<i64, _>(0), row.get::<&str, _>(1));
                    out.write(format!("{} {}\n", line.0, line.1)).await?;
                }
                drop(rows);
                out.finish().await
            })
            .get("/copy/:count", async |cx| {
                let count: i64 = cx.param("count")?;
                let mut conn = cx.state().acquire().await?;
                let mut copy = conn.copy_in_raw("COPY ledger FROM STDIN").await?;
                for n in 0..count {
                    copy.send(format!("{}\n", 1_000_000 + n).as_bytes()).await?;
                }
                cx.json(&copy.finish().await?)
            }))
    });
    let body = server.get("/rows/10000").expect(200);
    let lines = std::str::from_utf8(body.body()).expect("text").lines();
    assert_eq!(lines.clone().count(), 10_000);
    assert!(lines.zip(1..).all(|(line, n): (_, i64)| line.starts_with(&format!("{n} "))));
    server.get("/copy/10000").expect(200).text("10000");
    assert_eq!(store.psql("SELECT count(*) FROM ledger").trim(), "10000");

    // Clients that stop reading hold a connection each, and no more memory than what is on its way.
    let before_kib = memory_kib();
    let slow = (0..3).map(|_| {
        let mut socket = TcpStream::connect(server.addr()).expect("a connection");
        let request = b"GET /rows/100000000 HTTP/1.1\r\nhost: test\r\n\r\n"; // 100 GB
        socket.write_all(request).expect("sent");
        assert!(socket.read(&mut [0; 4096]).expect("bytes") > 0);
        socket
    });
    let slow: Vec<_> = slow.collect();
    let mut last = (0, Instant::now());
    until("the server waits for them", PATIENCE, || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        let is_still = memory_kib() == last.0;
        if !is_still || store.psql(busy).trim() != "3" {
            last = (memory_kib(), Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
    let grown_kib = memory_kib().saturating_sub(before_kib);
    println!("three slow readers: {grown_kib} KiB");
    assert!(grown_kib < 16 * 1024, "{grown_kib} KiB");
    assert_eq!(number(&stats(&server), "in_use"), 3);
    assert_eq!(ask(server.addr(), "/one").0, 200);
    slow.into_iter().for_each(reset);
    all_is_accounted_for(&server, &store, "rows");
}

/// Of this process.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number")
}
