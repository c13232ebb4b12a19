//! What the command line asks for.

pub const USAGE: &str = "\
micro [options]

  --only NAME      works whose names begin with this (default: all)
  --requests N     run each work N times, warm, and time nothing: for counting instructions;
                   all but the pings
  --json           print one JSON object instead of a table
  --help           print this

works
  parse_small      the head of a client that says little
  parse_browser    the head of a browser: 13 fields
  router_static    a look-up among 40 routes, all of its segments static
  router_param     the same with two parameters
  router_unknown   the same for a path that nobody serves
  arena_future     a request's arena: a handler's future placed, polled, dropped, the arena reset
  arena_text       the same for a formatted text
  ctx_hello        a whole warm request in memory: GET /
  ctx_param_json   the same: GET /users/42, answered in JSON
  ctx_json_body    the same: POST /echo, JSON both ways
  std5_none        hello once more, to compare the next two with
  std5_unheard     with five middlewares (id, log, time-out, CORS, secure headers), no subscriber
  std5_logged      the same with a subscriber that formats each line for a sink
  alone_br ..      100 KiB of JSON compressed by the library: br (4), zstd (3), gzip (6)
  compress_br ..   the same as an answer by the middleware; compress_none: sent as it is
  mesh_ping        from a handler to another shard and back, pinned to two cores if there are two
  invalidation     a word about a cache, until the other shard has heard it and said so
  eventfd_ping     the same way between two bare threads over eventfds; runs with both
";

#[derive(Debug, PartialEq)]
pub enum Asked {
    Run(Options),
    Help,
}

#[derive(Debug, Default, PartialEq)]
pub struct Options {
    /// A prefix; empty for all.
    pub only: String,
    pub requests: Option<u64>,
    pub json: bool,
}

impl Options {
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut options = Options::default();
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag}: no value"));
            match flag.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--json" => options.json = true,
                "--only" => options.only = value()?,
                "--requests" => {
                    let value = value()?;
                    let count = value.parse().map_err(|why| format!("{flag} {value}: {why}"))?;
                    options.requests = Some(count);
                }
                _ => return Err(format!("unknown option {flag}")),
            }
        }
        Ok(Asked::Run(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Options::from_args(line.split_whitespace().map(String::from))
    }

    #[test]
    fn lines() {
        let only = Options { only: "ctx".into(), ..Options::default() };
        for (line, want) in [
            ("", Asked::Run(Options::default())),
            ("--only ctx", Asked::Run(only)),
            (
                "--requests 7 --json",
                Asked::Run(Options { requests: Some(7), json: true, ..Options::default() }),
            ),
            ("--json --help", Asked::Help),
        ] {
            assert_eq!(parse(line), Ok(want), "{line}");
        }
        for line in ["--only", "--requests x", "--requests", "ctx"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
