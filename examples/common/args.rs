//! What every example takes: `--addr HOST:PORT`, `--shards N`, `--cores 0,2`, `--congestion NAME`.

use soloist::{Error, Result, Server};

/// The server that the command line asks for.
#[allow(dead_code)] // one example has a flag of its own
pub fn server() -> Result<Server> {
    server_of(std::env::args().skip(1))
}

/// The server that these arguments ask for.
pub fn server_of(mut args: impl Iterator<Item = String>) -> Result<Server> {
    // Warnings of the start, and errors of handlers, go to standard error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (mut addr, mut shards, mut cores) = (String::from("127.0.0.1:8080"), None, None);
    let mut congestion = None;
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| usage(&format!("{flag}: no value")));
        match flag.as_str() {
            "--addr" => addr = value()?,
            "--shards" => shards = Some(value()?.parse().map_err(|_| usage("--shards: a number"))?),
            "--cores" => {
                let list: std::result::Result<Vec<usize>, _> =
                    value()?.split(',').map(str::parse).collect();
                cores = Some(list.map_err(|_| usage("--cores: numbers with commas"))?);
            }
            "--congestion" => congestion = Some(value()?),
            _ => return Err(usage(&format!("{flag}: not known"))),
        }
    }
    println!("http://{addr}/ (Ctrl-C drains and ends)");
    let mut server = Server::bind(addr);
    if let Some(shards) = shards {
        server = server.shards(shards);
    }
    if let Some(cores) = cores {
        server = server.cores(cores);
    }
    if let Some(congestion) = congestion {
        server = server.congestion(congestion);
    }
    Ok(server)
}

fn usage(why: &str) -> Error {
    let flags = "[--addr HOST:PORT] [--shards N] [--cores 0,2] [--congestion NAME]";
    Error::new(500, format!("{why}\nusage: {flags}"))
}
