//! Where io_uring is denied, a server says what is missing and what mends it: an error and an
//! exit code, no panic.
//!
//! Each case is a process of its own: this test binary again, which denies itself something and
//! then starts a server the way a user's `main` does.

use std::env;
use std::process::{Command, Output, exit};

use soloist::prelude::*;

const DENIED: &str = "SOLOIST_PROBE_DENIED";

#[test]
fn what_is_denied_is_an_error_that_names_the_mend() {
    // denied, exit code, words of the text
    let table: &[(&str, i32, &[&str])] = &[
        ("nothing", 0, &[]),
        (
            "eperm",
            1,
            &["io_uring is refused by a seccomp filter", "EPERM", "io_uring_setup", "mend it"],
        ),
        ("enosys", 1, &["io_uring is refused by a seccomp filter", "ENOSYS"]),
        ("register", 1, &["io_uring is refused by a seccomp filter", "io_uring_register"]),
        ("enter", 1, &["io_uring is refused by a seccomp filter", "io_uring_enter"]),
        ("memlock", 1, &["memlock limit is 65536 bytes", "at least 524288", "mend it"]),
    ];
    for (denied, code, words) in table {
        let output = start_without(denied);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{denied}: {text}");
        assert!(!text.contains("panicked"), "{denied}: {text}");
        for word in *words {
            assert!(text.contains(word), "{denied}: \"{word}\" is not in: {text}");
        }
    }
}

/// Not a test of its own: the other process's `main`.
#[test]
fn child() {
    let Ok(denied) = env::var(DENIED) else { return };
    let refuse = |call: libc::c_long, errno: i32| deny::call(call as u32, errno as u32);
    match denied.as_str() {
        "nothing" => {}
        "eperm" => refuse(libc::SYS_io_uring_setup, libc::EPERM),
        "enosys" => refuse(libc::SYS_io_uring_setup, libc::ENOSYS),
        "register" => refuse(libc::SYS_io_uring_register, libc::EPERM),
        "enter" => refuse(libc::SYS_io_uring_enter, libc::EPERM),
        "memlock" => deny::memlock(65_536),
        other => panic!("nothing to deny is called {other}"),
    }
    // `fn main() -> Result<()>` prints errors like this and leaves with 1.
    match Server::bind("127.0.0.1:0").start(app) {
        Ok(_) => exit(0),
        Err(error) => {
            eprintln!("Error: {error:?}");
            exit(1);
        }
    }
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("hello")))
}

fn start_without(denied: &str) -> Output {
    let this = env::current_exe().expect("the test binary has a path");
    Command::new(this)
        .args(["--exact", "child", "--nocapture"])
        .env(DENIED, denied)
        .output()
        .expect("the test binary starts")
}

/// What a sandbox does to a process, done to this one.
mod deny {
    use std::mem::offset_of;

    /// Refuses `call` with `errno` from now on, for this thread and those it starts.
    pub fn call(call: u32, errno: u32) {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let number = offset_of!(libc::seccomp_data, nr) as u32;
        let mut filter = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, number),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program =
            libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
        // SAFETY: `program` and the filter it points to live through both calls, which copy them.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
        };
        assert!(done, "the filter is refused: {}", std::io::Error::last_os_error());
    }

    /// Lowers both memlock limits, so that nothing can raise them again.
    pub fn memlock(bytes: u64) {
        let limits = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: `limits` is a whole rlimit, read only.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limits) };
        assert_eq!(done, 0, "the limit is refused: {}", std::io::Error::last_os_error());
    }
}
