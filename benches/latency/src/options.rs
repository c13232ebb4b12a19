//! What the command line asks for.

use std::net::SocketAddr;
use std::time::Duration;

pub const USAGE: &str = "\
openloop --addr 127.0.0.1:8080 [options]

mode (one of)
  --rate N          open loop: N requests a second on a fixed schedule; latency counts from the
                    moment a request was due (default, 1000)
  --closed          closed loop: each connection asks again as soon as it is answered
  --pingpong        closed loop on one connection
  --churn           closed loop, a new connection for each request
  --idle N          open N connections, ask once on each, print a line, hold them

  --connections N   at once (default 64)
  --seconds S       how long to ask, or to hold idle connections (default 3; --idle without it
                    holds until standard input ends)
  --path P          request target (default /)
  --body JSON       POST this instead of GET
  --core N          pin to this core
  --json            print one JSON object instead of text
";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Open { rate: f64 },
    Closed,
    Churn,
    Idle,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Open { .. } => "open",
            Mode::Closed => "closed",
            Mode::Churn => "churn",
            Mode::Idle => "idle",
        }
    }
}

#[derive(Debug)]
pub struct Options {
    pub addr: SocketAddr,
    pub mode: Mode,
    pub connections: usize,
    /// None: hold until standard input ends.
    pub time: Option<Duration>,
    pub path: String,
    pub body: Option<String>,
    pub core: Option<usize>,
    pub json: bool,
}

impl Options {
    pub fn from_args(args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            mode: Mode::Open { rate: 1000.0 },
            connections: 64,
            time: None,
            path: "/".into(),
            body: None,
            core: None,
            json: false,
        };
        let mut args = args;
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--closed" => options.mode = Mode::Closed,
                "--pingpong" => (options.mode, options.connections) = (Mode::Closed, 1),
                "--churn" => options.mode = Mode::Churn,
                "--json" => options.json = true,
                "--help" | "-h" => return Err(USAGE.into()),
                _ => {
                    let value = args.next().ok_or_else(|| format!("{flag}: no value\n{USAGE}"))?;
                    options.set(&flag, value)?;
                }
            }
        }
        if options.mode != Mode::Idle {
            options.time.get_or_insert(Duration::from_secs(3));
        }
        Ok(options)
    }

    /// The bytes of one request.
    pub fn request(&self) -> Vec<u8> {
        let Options { addr, path, .. } = self;
        let close = if self.mode == Mode::Churn { "connection: close\r\n" } else { "" };
        match &self.body {
            None => format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n{close}\r\n"),
            Some(body) => format!(
                "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n{close}\r\n{body}",
                body.len()
            ),
        }
        .into_bytes()
    }

    fn set(&mut self, flag: &str, value: String) -> Result<(), String> {
        let bad = |why: &dyn std::fmt::Display| format!("{flag} {value}: {why}");
        let number = || match value.parse::<f64>() {
            Ok(n) if n > 0.0 && n.is_finite() => Ok(n),
            _ => Err(bad(&"not a positive number")),
        };
        let count = || value.parse::<usize>().map_err(|e| bad(&e));
        match flag {
            "--addr" => self.addr = value.parse().map_err(|e| bad(&e))?,
            "--rate" => self.mode = Mode::Open { rate: number()? },
            "--idle" => (self.mode, self.connections) = (Mode::Idle, count()?),
            "--connections" => self.connections = count()?.max(1),
            "--seconds" => self.time = Some(Duration::from_secs_f64(number()?)),
            "--core" => self.core = Some(count()?),
            "--path" => self.path = value,
            "--body" => self.body = Some(value),
            _ => return Err(format!("unknown option {flag}\n{USAGE}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::from_args(line.split_whitespace().map(String::from))
    }

    #[test]
    fn modes() {
        for (line, mode, connections) in [
            ("", Mode::Open { rate: 1000.0 }, 64),
            ("--rate 2.5 --connections 3", Mode::Open { rate: 2.5 }, 3),
            ("--connections 3 --pingpong", Mode::Closed, 1),
            ("--churn", Mode::Churn, 64),
            ("--idle 9", Mode::Idle, 9),
        ] {
            let options = parse(line).unwrap();
            assert_eq!((options.mode, options.connections), (mode, connections), "{line}");
        }
    }

    #[test]
    fn refused() {
        for line in ["--rate 0", "--rate", "--rate nan", "--addr x", "--nope 1", "--core -1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
