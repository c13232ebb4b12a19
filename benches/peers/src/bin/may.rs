//! may_minihttp: a loop over coroutines with no router, so the paths are matched by hand.

use std::io::{Error, Read, Result, Write};
use std::os::fd::BorrowedFd;

use may_minihttp::{HttpServer, HttpService, Request, Response};
use serde::Serialize;
use socket2::SockRef;
use soloist_peers::{Echo, HELLO, Options, User};

#[derive(Clone)]
struct App;

impl HttpService for App {
    fn call(&mut self, request: Request, response: &mut Response) -> Result<()> {
        match (request.method(), request.path()) {
            ("GET", "/") => {
                response.header("Content-Type: text/plain; charset=utf-8").body(HELLO);
                Ok(())
            }
            ("GET", path) if path.starts_with("/users/") => match path["/users/".len()..].parse() {
                Ok(id) => json(response, &User::new(id)),
                Err(_) => {
                    response.status_code(400, "Bad Request");
                    Ok(())
                }
            },
            ("POST", "/echo") => {
                let mut body = Vec::with_capacity(256);
                request.body().read_to_end(&mut body)?;
                json(response, &serde_json::from_slice::<Echo>(&body)?.next())
            }
            _ => {
                response.status_code(404, "Not Found");
                Ok(())
            }
        }
    }
}

fn json(response: &mut Response, value: &impl Serialize) -> Result<()> {
    response.header("Content-Type: application/json");
    Ok(serde_json::to_writer(Writer(response), value)?)
}

struct Writer<'a, 'b>(&'a mut Response<'b>);

impl Write for Writer<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.body_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn main() -> Result<()> {
    let options = Options::from_args();
    // Stacks and pool as in the crate's own benchmark example.
    may::config().set_workers(options.workers).set_pool_capacity(10_000).set_stack_size(0x1000);
    let server = HttpServer(App).start(options.addr)?;
    dress_listener(&options)?;
    server.join().map_err(|_| Error::other("the server panicked"))
}

/// The server binds its listener itself: find it, and give it the options of all others.
fn dress_listener(options: &Options) -> Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Ok(fd) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        // SAFETY: the descriptor is only asked what it is, and set up if it is our listener.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&socket);
        if socket.is_listener().unwrap_or(false) {
            return options.dress(&socket);
        }
    }
    Err(Error::other("no listener found"))
}
