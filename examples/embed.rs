//! A server inside another program: started on threads of its own, asked, and stopped.
//!
//! Run with: `cargo run --release --example embed`
//! Try: nothing more, it asks itself; or give it an address, `--addr 127.0.0.1:8080`, and
//! `curl http://127.0.0.1:8080/` while it runs (a second)

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use soloist::prelude::*;

/// What one shard owns.
#[derive(Default)]
struct Counts {
    served: Cell<u64>,
}

fn main() -> Result<()> {
    let addr = std::env::args().skip_while(|it| it != "--addr").nth(1);
    // Port 0 takes a free one. `start` returns once every shard accepts.
    let server = Server::bind(addr.unwrap_or("127.0.0.1:0".to_owned()));
    let running = server.unpinned(2).start(app)?;
    let addr = running.addrs()[0];
    println!("listening at {addr}");

    // The program goes on with its own work.
    for _ in 0..10 {
        get(addr, "/")?;
    }
    println!("served by each shard: {}", get(addr, "/served")?);
    std::thread::sleep(Duration::from_secs(1));
    let requests: u64 = running.stats().iter().map(|shard| shard.get("requests")).sum();
    println!("requests counted from outside: {requests}");

    running.stop(); // drains: what runs ends, within the grace
    running.join() // an error if a shard ended before it was told to
}

async fn app(_: Shard) -> Result<App<Counts>> {
    let app = App::new(Counts::default()).get("/", hello).get("/served", served);
    Ok(app.on_stop(async || println!("a shard has ended")))
}

async fn hello(cx: &Ctx<Counts>) -> Result<Reply> {
    cx.state().served.set(cx.state().served.get() + 1);
    cx.text("hello")
}

/// Asks every shard for its part: the closure runs over there, where its state is.
async fn served(cx: &Ctx<Counts>) -> Result<Reply> {
    let shard = cx.shard();
    let each = shard.on_all(async |there| {
        let counts = there.got::<Counts>().ok_or("not built yet")?;
        Ok(counts.served.get())
    });
    cx.json(&each.await?)
}

/// The body of an answer.
fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned()))
}
