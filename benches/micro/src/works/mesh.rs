//! A ping to another shard and back, and a word about a cache that it hears, against two bare
//! threads that play ping-pong over eventfds: the least that it takes to reach a sleeping thread,
//! and to be reached by it, on this machine.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use soloist::prelude::*;

use crate::figure::{Figure, Round};
use crate::runner::Runner;

pub const MESH: &str = "mesh_ping";
/// `cache.remove(key).everywhere()`.
pub const INVALIDATION: &str = "invalidation";
pub const EVENTFD: &str = "eventfd_ping";

const ROUNDS: usize = 7;
const PINGS: usize = 20_000;

/// One for each side; none where there is but one core.
type Cores = Option<[usize; 2]>;

pub fn run(runner: &mut Runner) {
    let names = [MESH, INVALIDATION, EVENTFD];
    if !runner.is_timed() || !names.iter().any(|name| runner.wants(name)) {
        return;
    }
    let rounds = rounds().expect("two shards and two threads");
    for (name, rounds) in names.iter().zip(&rounds) {
        runner.push(Figure::of_rounds(name, rounds));
    }
}

/// Interleaved, so that both meet the same machine.
fn rounds() -> Result<[Vec<Round>; 3]> {
    let cores = first_cores()?;
    let server = Server::bind("127.0.0.1:0");
    let server = match cores {
        Some(cores) => server.cores(cores),
        None => server.unpinned(2),
    };
    let app = async |shard: Shard| {
        let cache = shard.cache::<u64, u64>("pings"); // on both shards
        let mesh = async |cx: &Ctx<()>| {
            let other = 1 - cx.shard().id();
            pings(cx, async || _ = cx.ping(other).await.expect("the other shard answers")).await
        };
        let invalidation = async move |cx: &Ctx<()>| {
            pings(cx, async || cache.remove(7).everywhere().await.expect("no store of all nodes"))
                .await
        };
        Ok(App::new(()).get("/mesh", mesh).get("/invalidation", invalidation))
    };
    let server = server.start(app).map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut all = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        all[0].push(Round::of(ask(server.addrs()[0], "mesh")?));
        all[1].push(Round::of(ask(server.addrs()[0], "invalidation")?));
        all[2].push(Round::of(ping_pong(cores)?));
    }
    server.stop_now();
    server.join().expect("a clean end");
    Ok(all)
}

async fn pings(cx: &Ctx<()>, ping: impl AsyncFn()) -> soloist::Result<Reply> {
    let mut pings = String::with_capacity(PINGS * 8);
    for _ in 0..PINGS {
        let start = Instant::now();
        ping().await;
        pings += &format!("{}\n", start.elapsed().as_nanos());
    }
    cx.text(pings)
}

/// Nanoseconds of each ping that one of the server's handlers made.
fn ask(addr: SocketAddr, what: &str) -> Result<Vec<u64>> {
    let mut connection = TcpStream::connect(addr)?;
    write!(connection, "GET /{what} HTTP/1.1\r\nhost: micro\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    Ok(body.lines().map(|line| line.parse().expect("a number")).collect())
}

/// Nanoseconds of each way there and back between two threads that block.
fn ping_pong(cores: Cores) -> Result<Vec<u64>> {
    let pair = || Ok::<_, std::io::Error>(File::from(eventfd(0, EventfdFlags::empty())?));
    let (there, back) = (&pair()?, &pair()?);
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            pin(cores.map(|cores| cores[1]))?;
            for _ in 0..PINGS {
                wait(there)?;
                wake(back)?;
            }
            Ok(())
        });
        let ping = scope.spawn(move || {
            pin(cores.map(|cores| cores[0]))?;
            let mut pings = Vec::with_capacity(PINGS);
            for _ in 0..PINGS {
                let start = Instant::now();
                wake(there)?;
                wait(back)?;
                pings.push(start.elapsed().as_nanos() as u64);
            }
            Ok(pings)
        });
        echo.join().expect("no panic").and(ping.join().expect("no panic"))
    })
}

fn wake(mut eventfd: &File) -> Result<()> {
    eventfd.write_all(&1_u64.to_ne_bytes())
}

fn wait(mut eventfd: &File) -> Result<()> {
    eventfd.read_exact(&mut [0; 8])
}

fn first_cores() -> Result<Cores> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Ok(cores.next().zip(cores.next()).map(|(first, second)| [first, second]))
}

fn pin(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut mask = CpuSet::new();
    mask.set(core);
    Ok(sched_setaffinity(None, &mask)?)
}
