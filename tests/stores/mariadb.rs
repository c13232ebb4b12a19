//! MariaDB of one test, on a port of its own.

#![allow(dead_code)] // each test uses some of it

#[path = "port.rs"]
pub mod port;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// A server of this test alone: `root` is its administrator, `soloist` the one who may do anything
/// with the database of that name. It is killed, and its folder goes, when it drops.
pub struct MariaDb {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Mutex<Child>,
}

impl MariaDb {
    /// It allows ten connections at least.
    pub fn start(connections_max: usize) -> MariaDb {
        MariaDb::start_with(connections_max, &[])
    }

    /// Settings as `name=value`.
    pub fn start_with(connections_max: usize, settings: &[&str]) -> MariaDb {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("soloist-mariadb-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let connections = format!("max-connections={connections_max}");
        let arguments: Vec<String> = settings
            .iter()
            .copied()
            .chain([
                &*connections,
                "bind-address=127.0.0.1",
                "skip-name-resolve",
                "innodb-log-file-size=4M",
                "innodb-buffer-pool-size=16M",
                // What was acknowledged outlives the process, not the machine.
                "innodb-flush-log-at-trx-commit=2",
                "innodb-fast-shutdown=2",
                "performance-schema=OFF",
            ])
            .map(|it| format!("--{it}"))
            .collect();
        let install = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=4M"])
            .args(as_whom())
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--tmpdir={}", folder.display()))
            .output()
            .unwrap_or_else(|error| panic!("mariadb-install-db: {error}: see tests/run"));
        let why = String::from_utf8_lossy(&install.stderr);
        assert!(install.status.success(), "mariadb-install-db: {why}");
        let store = MariaDb::open(folder, arguments);
        store.sql(
            "CREATE DATABASE soloist;
             CREATE USER soloist@127.0.0.1 IDENTIFIED BY 'secret';
             GRANT ALL ON soloist.* TO soloist@127.0.0.1;",
        );
        store
    }

    fn open(folder: PathBuf, arguments: Vec<String>) -> MariaDb {
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = port::free();
            let mut child = spawn(port, &folder, &arguments);
            if comes_up(&mut child, port, &folder) {
                return MariaDb { port, folder, arguments, child: Mutex::new(child) };
            }
            end(&mut child);
        }
        panic!("MariaDB does not start: {}", log(&folder));
    }

    pub fn url(&self) -> String {
        format!("mysql://soloist:secret@127.0.0.1:{}/soloist", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the administrator is answered: lines of rows, tabs between columns.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        ask(&self.folder, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// A counter of the server.
    #[track_caller]
    pub fn status(&self, name: &str) -> u64 {
        let row = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        let value = row.split_whitespace().nth(1).and_then(|it| it.parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {row}"))
    }

    /// How many of soloist's connections run a statement with such words.
    pub fn running(&self, words: &str) -> usize {
        let rows = self.sql("SHOW FULL PROCESSLIST");
        rows.lines().filter(|it| it.contains("soloist") && it.contains(words)).count()
    }

    /// SIGKILL.
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

    /// It stops where it is: connections stay, and nothing answers.
    pub fn freeze(&self) {
        let id = self.child().id();
        signal("STOP", id);
        // The signal is on its way: a thread may answer once more.
        let start = Instant::now();
        while !is_stopped(id) {
            assert!(start.elapsed() < Duration::from_secs(10), "it does not stop");
            thread::sleep(Duration::from_millis(1)); // the kernel has its say
        }
    }

    pub fn thaw(&self) {
        signal("CONT", self.child().id());
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// As root it wants to know as whom to go on.
fn as_whom() -> Option<&'static str> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    is_root.then_some("--user=root")
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log"));
    let log = log.expect("a log");
    let of = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let programs = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"]; // out of many a PATH
    let program = programs.iter().find(|it| Path::new(it).exists()).unwrap_or(&"mariadbd");
    let mut command = Command::new(program);
    command.args(["--no-defaults", &of("datadir", "data"), &of("socket", "socket")]);
    command.args([of("pid-file", "pid"), of("tmpdir", ""), format!("--port={port}")]);
    command.args(as_whom()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("mariadbd: {error}: see tests/run"))
}

/// At its socket, and at its port.
fn comes_up(child: &mut Child, port: u16, folder: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if let Ok(Some(_)) = child.try_wait() {
            return false;
        }
        let at_port = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        if ask(folder, "SELECT 1").is_ok() && at_port() {
            return true;
        }
        thread::sleep(Duration::from_millis(10)); // another process starts
    }
    false
}

fn ask(folder: &Path, sql: &str) -> Result<String, String> {
    let output = Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"])
        .arg(format!("--socket={}", folder.join("socket").display()))
        .args(["--execute", sql])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("mariadb: {error}: see tests/run"));
    let text = |bytes| String::from_utf8(bytes).map_err(|error| error.to_string());
    if output.status.success() { text(output.stdout) } else { Err(text(output.stderr)?) }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// One that has ended meanwhile is passed over.
fn signal(name: &str, id: u32) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &id.to_string()]).stderr(Stdio::null());
    kill.status().expect("kill");
}

/// Whether all threads of a process stand still (proc(5)).
fn is_stopped(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("it is there");
    threads.flatten().all(|it| {
        let stat = fs::read_to_string(it.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}
