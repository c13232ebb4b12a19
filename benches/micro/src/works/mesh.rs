//! A ping to another shard and back, against two bare threads that play ping-pong over eventfds:
//! the least that it takes to reach a sleeping thread, and to be reached by it, on this machine.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use soloist::prelude::{App, Server};

use crate::figure::{Figure, Round};
use crate::runner::Runner;

pub const MESH: &str = "mesh_ping";
pub const EVENTFD: &str = "eventfd_ping";

const ROUNDS: usize = 7;
const PINGS: usize = 20_000;

/// One for each side; none where there is but one core.
type Cores = Option<[usize; 2]>;

pub fn run(runner: &mut Runner) {
    if !runner.is_timed() || !(runner.wants(MESH) || runner.wants(EVENTFD)) {
        return;
    }
    let (mesh, bare) = rounds().expect("two shards and two threads");
    runner.push(Figure::of_rounds(MESH, &mesh));
    runner.push(Figure::of_rounds(EVENTFD, &bare));
}

/// Interleaved, so that both meet the same machine.
fn rounds() -> Result<(Vec<Round>, Vec<Round>)> {
    let cores = first_cores()?;
    let server = Server::bind("127.0.0.1:0");
    let server = match cores {
        Some(cores) => server.cores(cores),
        None => server.unpinned(2),
    };
    let app = async |_| {
        Ok(App::new(()).get("/", async |cx| {
            let other = 1 - cx.shard().id();
            let mut pings = String::with_capacity(PINGS * 8);
            for _ in 0..PINGS {
                let start = Instant::now();
                cx.ping(other).await.expect("the other shard answers");
                pings += &format!("{}\n", start.elapsed().as_nanos());
            }
            cx.text(pings)
        }))
    };
    let server = server.start(app).map_err(|error| std::io::Error::other(error.to_string()))?;
    let (mut mesh, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mesh.push(Round::of(ask(server.addrs()[0])?));
        bare.push(Round::of(ping_pong(cores)?));
    }
    server.stop_now();
    server.join().expect("a clean end");
    Ok((mesh, bare))
}

/// Nanoseconds of each ping that the server's handler made.
fn ask(addr: SocketAddr) -> Result<Vec<u64>> {
    let mut connection = TcpStream::connect(addr)?;
    connection.write_all(b"GET / HTTP/1.1\r\nhost: micro\r\nconnection: close\r\n\r\n")?;
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
