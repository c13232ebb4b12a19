//! pgbouncer of one test, in transaction mode: each transaction may get another connection.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::postgres::{NOBODY, Postgres, is_root, port};

/// It stops when it drops.
pub struct Pooler {
    port: u16,
    child: Child,
}

impl Pooler {
    /// With so many connections to the server, shared by all that come.
    pub fn before(store: &Postgres, connections: usize) -> Pooler {
        let (port, folder) = (port::free(), store.folder());
        let (users, settings) = (folder.join("users.txt"), folder.join("pgbouncer.ini"));
        fs::write(&users, "\"soloist\" \"\"\n").expect("written");
        let text = format!(
            "[databases]\nsoloist = host=127.0.0.1 port={} dbname=soloist\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {connections}\nmax_client_conn = 100\n\
             server_round_robin = 1\nignore_startup_parameters = extra_float_digits\n",
            store.port(),
            users.display(),
        );
        fs::write(&settings, text).expect("written");
        let programs = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let program = programs.into_iter().find(|it| fs::exists(it).unwrap_or(false));
        let mut command = Command::new(program.unwrap_or("pgbouncer"));
        if is_root() {
            for file in [&users, &settings] {
                chown(file, Some(NOBODY), Some(NOBODY)).expect("given away");
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        command.arg("-q").arg(settings).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("pgbouncer: {error}: see tests/run"));
        let pooler = Pooler { port, child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "pgbouncer does not start");
            thread::sleep(Duration::from_millis(5)); // another process starts
        }
        pooler
    }

    pub fn url(&self) -> String {
        format!("postgres://soloist@127.0.0.1:{}/soloist", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
