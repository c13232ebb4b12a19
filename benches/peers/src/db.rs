//! What the programs that ask a database have in common: their flags, tasks that ask for one row at
//! a time, and the figures.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::worlds;

const WARM: Duration = Duration::from_millis(500);

pub struct Options {
    pub url: String,
    /// How many ask at once.
    pub tasks: usize,
    /// The most connections.
    pub connections: usize,
    pub length: Duration,
    /// Which way the queries go, where a program knows more than one.
    pub way: String,
}

impl Options {
    /// Reads the command line; panics at what is wrong with it.
    pub fn from_args() -> Options {
        let mut options = Options {
            url: String::from("postgres://127.0.0.1/bench"),
            tasks: 1,
            connections: 1,
            length: Duration::from_secs(3),
            way: String::from("pool"),
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let value = args.next().expect("a value");
            match flag.as_str() {
                "--url" => options.url = value,
                "--tasks" => options.tasks = value.parse().expect("a number"),
                "--connections" => options.connections = value.parse().expect("a number"),
                "--seconds" => {
                    options.length = Duration::from_secs_f64(value.parse().expect("seconds"));
                }
                "--way" => options.way = value,
                _ => panic!("{flag}: --url --tasks --connections --seconds --way"),
            }
        }
        options
    }

    /// A run that begins now.
    pub fn run(&self) -> Arc<Run> {
        let begin = Instant::now() + WARM;
        let took = Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds in order");
        Arc::new(Run {
            begin,
            end: begin + self.length,
            length: self.length,
            asking: AtomicUsize::new(self.tasks),
            figures: Mutex::new(Figures { took, cpu: None, errors: 0 }),
        })
    }
}

/// What all tasks of a program measure together.
pub struct Run {
    begin: Instant,
    end: Instant,
    length: Duration,
    asking: AtomicUsize,
    figures: Mutex<Figures>,
}

struct Figures {
    /// In nanoseconds.
    took: Histogram<u64>,
    /// Of the process, when the measured part began.
    cpu: Option<Duration>,
    errors: u64,
}

/// One of the tasks that ask, one question after the other.
pub struct Asker {
    run: Arc<Run>,
    start: Instant,
    id: i32,
}

impl Asker {
    pub fn new(run: &Arc<Run>) -> Asker {
        Asker { run: run.clone(), start: Instant::now(), id: 0 }
    }

    /// The number of the next row to ask for, until time is over: the last one prints and exits.
    pub fn next_id(&mut self) -> Option<i32> {
        if self.start < self.run.end {
            self.id = worlds::random();
            return Some(self.id);
        }
        if self.run.asking.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.run.print();
            std::process::exit(0);
        }
        None
    }

    /// What came of it.
    pub fn answered<E: Display>(&mut self, row: Result<(i32, i32), E>) {
        let now = Instant::now();
        if let Err(error) = &row {
            eprintln!("{error}");
        }
        self.run.count(self.start, now, row.is_ok_and(|it| it.0 == self.id));
        self.start = now;
    }
}

impl Run {
    fn count(&self, start: Instant, now: Instant, is_right: bool) {
        if now < self.begin {
            return;
        }
        let mut figures = self.figures.lock().expect("nobody panics");
        figures.cpu.get_or_insert_with(cpu);
        figures.errors += u64::from(!is_right);
        if is_right && start >= self.begin && now < self.end {
            figures.took.saturating_record((now - start).as_nanos() as u64);
        }
    }

    fn print(&self) {
        let figures = self.figures.lock().expect("nobody panics");
        let took = &figures.took;
        let us = |quantile| took.value_at_quantile(quantile) as f64 / 1e3;
        let cpu = cpu() - figures.cpu.unwrap_or_default();
        let whole = serde_json::json!({
            "rps": took.len() as f64 / self.length.as_secs_f64(),
            "cpu_us": cpu.as_secs_f64() * 1e6 / took.len().max(1) as f64,
            "busy_percent": cpu.as_secs_f64() * 100.0 / self.length.as_secs_f64(),
            "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "max_us": us(1.0),
            "errors": figures.errors,
        });
        println!("{whole}");
    }
}

/// CPU of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
