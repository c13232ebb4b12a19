//! PostgreSQL of one test, on a port of its own.

#![allow(dead_code)] // each test uses some of it

#[path = "port.rs"]
pub mod port;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Whose the servers are where tests run as root: PostgreSQL refuses to.
pub const NOBODY: u32 = 65_534;

/// A server of this test alone: `postgres` is its administrator, `soloist` the one who owns the
/// database of that name. It stops, and its folder goes, when it drops.
pub struct Postgres {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Mutex<Child>,
}

impl Postgres {
    pub fn start(connections_max: usize) -> Postgres {
        Postgres::start_with(connections_max, &[])
    }

    /// Settings as `name=value`.
    pub fn start_with(connections_max: usize, settings: &[&str]) -> Postgres {
        let folder = new_folder();
        let data = folder.join("data");
        let init = command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C", "-D"])
            .arg(data)
            .output()
            .unwrap_or_else(|error| panic!("initdb: {error}: see tests/run"));
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        let connections = format!("max_connections={connections_max}");
        let settings = settings.iter().copied().chain([
            &*connections,
            "listen_addresses=127.0.0.1",
            "shared_buffers=16MB",
            // What was acknowledged outlives the processes, not the machine.
            "fsync=off",
            // In the folder, that nothing stays behind.
            "dynamic_shared_memory_type=mmap",
        ]);
        let arguments = settings.flat_map(|it| ["-c".to_owned(), it.to_owned()]).collect();
        let store = Postgres::open(folder, arguments);
        let role = "CREATE ROLE soloist LOGIN";
        store.psql_in("postgres", &format!("{role}; CREATE DATABASE soloist OWNER soloist"));
        store
    }

    /// A hot standby that follows this one.
    pub fn replica(&self) -> Postgres {
        let folder = new_folder();
        copy(self.port, &folder);
        Postgres::open(folder, self.arguments.clone())
    }

    /// It ends, forgets what it had, and is a hot standby of another one from now on, at its port.
    pub fn follow(&self, primary: &Postgres) {
        self.kill();
        forget_memory(&self.folder);
        fs::remove_dir_all(self.folder.join("data")).expect("forgotten");
        copy(primary.port, &self.folder);
        self.restart();
    }

    fn open(folder: PathBuf, arguments: Vec<String>) -> Postgres {
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = port::free();
            let mut child = spawn(port, &folder, &arguments);
            if comes_up(&mut child, port, &folder) {
                return Postgres { port, folder, arguments, child: Mutex::new(child) };
            }
            end(&mut child);
        }
        panic!("PostgreSQL does not start: {}", log(&folder));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("postgres://soloist@127.0.0.1:{}/soloist", self.port)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the administrator is answered: lines of rows, `|` between columns.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("soloist", sql)
    }

    #[track_caller]
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        self.ask(database, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// Each statement by itself; what went wrong.
    pub fn ask(&self, database: &str, sql: &str) -> Result<String, String> {
        ask(self.port, &self.folder, database, sql)
    }

    /// SIGKILL to all of its processes.
    pub fn kill(&self) {
        end(&mut self.child());
    }

    /// After `kill`, at the same port.
    pub fn restart(&self) {
        let mut child = self.child();
        end(&mut child);
        *child = spawn(self.port, &self.folder, &self.arguments);
        let is_up = comes_up(&mut child, self.port, &self.folder);
        assert!(is_up, "it starts again: {}", log(&self.folder));
    }

    /// All of its processes stop where they are: connections stay, and nothing answers.
    pub fn freeze(&self) {
        let child = self.child();
        // The first of them first, that it starts no others meanwhile.
        signal("STOP", &[child.id()]);
        signal("STOP", &children(child.id()));
    }

    pub fn thaw(&self) {
        let child = self.child();
        signal("CONT", &children(child.id()));
        signal("CONT", &[child.id()]);
    }

    /// Connections of others, until there is room for no more; they end when they drop.
    pub fn fill(&self) -> Vec<TcpStream> {
        std::iter::from_fn(|| open_session(self.port)).collect()
    }

    /// Of a standby: it goes on to be sent changes, and shows none of them.
    pub fn pause_replay(&self) {
        self.psql("SELECT pg_wal_replay_pause()");
    }

    pub fn resume_replay(&self) {
        self.psql("SELECT pg_wal_replay_resume()");
    }

    /// Of a standby: it is one no more, and takes writes.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote()").trim(), "t", "promoted");
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        let mut child = self.child();
        // At once, and unlike SIGKILL with nothing left behind in the kernel.
        signal("QUIT", &[child.id()]);
        let start = Instant::now();
        while let Ok(None) = child.try_wait() {
            if start.elapsed() > Duration::from_secs(5) {
                break;
            }
            thread::sleep(Duration::from_millis(5)); // another process ends
        }
        end(&mut child);
        drop(child);
        forget_memory(&self.folder);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A session of `soloist`; none if the server lets it have none.
fn open_session(port: u16) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let body = b"\0\x03\0\0user\0soloist\0database\0soloist\0\0";
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend_from_slice(body);
    socket.write_all(&message).ok()?;
    // R: it may come in. E: it may not.
    let mut first = [0];
    socket.read_exact(&mut first).ok()?;
    (first == *b"R").then_some(())?;
    // Its last word, with no transaction open: then it is counted among the others.
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        match socket.read(&mut some).ok()? {
            0 => return None,
            count => answer.extend_from_slice(&some[..count]),
        }
    }
    Some(socket)
}

/// What a server has, as one that follows it.
fn copy(port: u16, folder: &Path) {
    let copied = command("pg_basebackup")
        .args(["--no-sync", "-R", "-c", "fast", "-U", "postgres", "-h", "127.0.0.1", "-p"])
        .arg(port.to_string())
        .arg("-D")
        .arg(folder.join("data"))
        .output()
        .expect("pg_basebackup");
    let why = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "pg_basebackup: {why}");
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("soloist-postgres-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    folder
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Debian keeps the server's programs out of PATH, one folder a version.
fn command(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|it| it.path().join("bin").join(name)).filter(|it| it.exists()).max();
    let mut command = Command::new(newest.unwrap_or_else(|| name.into()));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // Its own group: Ctrl-C at the tests ends them, and they end it.
    command.process_group(0).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log"));
    let log = log.expect("a log");
    let mut command = command("postgres");
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    command.args(["-p", &port.to_string()]).args(arguments);
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("postgres: {error}: see tests/run"))
}

fn comes_up(child: &mut Child, port: u16, folder: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Ok(Some(_)) = child.try_wait() {
            return false;
        }
        if ask(port, folder, "postgres", "SELECT 1").is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(10)); // another process starts
    }
    false
}

fn ask(port: u16, folder: &Path, database: &str, sql: &str) -> Result<String, String> {
    let mut child = Command::new("psql")
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &port.to_string(), "-h"])
        .arg(folder)
        .args(["-d", database])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("psql: {error}: see tests/run"));
    // One that cannot connect reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(sql.as_bytes());
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8(bytes).map_err(|error| error.to_string());
    if output.status.success() { text(output.stdout) } else { Err(text(output.stderr)?) }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// SIGKILL to it and to its children, and none of them left when it returns.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    signal("STOP", &[child.id()]); // it starts no others meanwhile
    let children = children(child.id());
    signal("KILL", &[child.id()]);
    signal("KILL", &children);
    let _ = child.wait();
    while children.iter().any(|it| is_running(*it)) {
        thread::sleep(Duration::from_millis(1)); // others end
    }
}

fn children(id: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|it| it.parse().ok()).collect()
}

/// One that waits for its parent to look at it is not.
fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Those that have gone meanwhile are passed over.
fn signal(name: &str, ids: &[u32]) {
    if ids.is_empty() {
        return;
    }
    let ids = ids.iter().map(u32::to_string);
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(ids).stderr(Stdio::null());
    kill.status().expect("kill");
}

/// What one that was killed, and not started again, has left: its file names it.
fn forget_memory(folder: &Path) {
    let Ok(file) = fs::read_to_string(folder.join("data/postmaster.pid")) else { return };
    let id = file.lines().nth(6).and_then(|it| it.split_whitespace().nth(1));
    if let Some(id) = id {
        let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
    }
}
