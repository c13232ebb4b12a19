//! Whether this process can have io_uring as the shards use it, found out before any executor is
//! built, and if not, what mends it.
//!
//! An unsafe room: resource limits, uname and one no-op on a ring.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use io_uring::{IoUring, Probe, opcode};

/// What the probe found where nothing is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub kernel: (u32, u32),
    /// RLIMIT_NOFILE, soft.
    pub nofile: u64,
    /// RLIMIT_MEMLOCK in bytes, soft, after it was raised where it had to be.
    pub memlock: u64,
    /// The kernel has zero-copy sends.
    pub send_zc: bool,
}

/// What is missing. The text says what it is and the command or profile that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    cause: Cause,
    around: Around,
}

/// Tries all that the shards will do: a ring with their flags, its opcodes, one no-op, memory to
/// lock. A soft memlock limit below the minimum is raised to the hard one.
pub(crate) fn probe() -> Result<Facts, Missing> {
    let around = Around::read(Path::new("/"), release(), |name| std::env::var_os(name).is_some());
    let missing = |cause| Missing { cause, around: around.clone() };
    let refused = |call, error| missing(classify(call, errno_of(&error), &around));

    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(64)
        .build(8)
        .map_err(|error| refused("io_uring_setup", error))?;
    let mut ops = Probe::new();
    ring.submitter()
        .register_probe(&mut ops)
        .map_err(|error| refused("io_uring_register", error))?;
    let lacking = lacking(|code| ops.is_supported(code));
    if !lacking.is_empty() {
        return Err(missing(Cause::Opcodes(lacking)));
    }
    round_trip(&mut ring).map_err(|error| refused("io_uring_enter", error))?;

    let memlock = raised(libc::RLIMIT_MEMLOCK, MEMLOCK_BYTES_MIN).1;
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(missing(Cause::Memlock { bytes: memlock }));
    }
    Ok(Facts {
        kernel: around.kernel,
        nofile: limit(libc::RLIMIT_NOFILE).map_or(0, |limit| limit.rlim_cur),
        memlock,
        send_zc: ops.is_supported(opcode::SendZc::CODE),
    })
}

/// [`probe`] on a thread of its own: the kernel ends a ring later, with work for the thread that
/// made it, and that interrupts (EINTR) whatever the thread waits for by then.
pub(crate) fn probe_apart() -> Result<Facts, Missing> {
    match thread::Builder::new().spawn(probe) {
        Ok(apart) => apart.join().expect("the probe does not panic"),
        Err(_) => probe(),
    }
}

/// Raises the soft limit of open files to the hard one, which needs no privilege: (old, new).
pub(crate) fn raise_nofile() -> (u64, u64) {
    raised(libc::RLIMIT_NOFILE, u64::MAX)
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.around.kernel;
        match &self.cause {
            Cause::Sysctl(value) => {
                write!(f, "io_uring is switched off: kernel.io_uring_disabled is {value}; ")?;
                write!(f, "mend it with `sysctl -w kernel.io_uring_disabled=0`")?;
                if self.around.place.is_container() {
                    write!(f, " on the host")?;
                }
                if *value == 1 {
                    write!(
                        f,
                        ", or put the server's group into it: `sysctl -w \
                         kernel.io_uring_group=GID`"
                    )?;
                }
                if self.around.filtered {
                    write!(f, ". A seccomp filter is active too. If it refuses io_uring: ")?;
                    write_profile(f, self.around.place)?;
                }
                Ok(())
            }
            Cause::Seccomp { call, errno } => {
                write!(f, "io_uring is refused by a seccomp filter ({call}: {}): ", name(*errno))?;
                write_profile(f, self.around.place)
            }
            Cause::SecurityModule { call, errno } => write!(
                f,
                "io_uring is refused ({call}: {}) and no seccomp filter is active: a security \
                 module such as SELinux or AppArmor does it. Its log names the rule \
                 (`ausearch -m avc -c io_uring` or `dmesg`); allow io_uring for this program there",
                name(*errno),
            ),
            Cause::NotBuilt => write!(
                f,
                "this kernel ({major}.{minor}) has no io_uring: it was built without \
                 CONFIG_IO_URING, or it is a sandbox (gVisor) that offers none. Run on a kernel \
                 of 6.1 or newer with CONFIG_IO_URING=y, such as any distribution's",
            ),
            Cause::KernelTooOld => write!(
                f,
                "the kernel is {major}.{minor}, and Soloist needs 6.1 or newer \
                 (IORING_SETUP_DEFER_TASKRUN): mend it with a newer kernel: Debian 12, Ubuntu \
                 24.04 and RHEL 10 have one",
            ),
            Cause::Opcodes(names) => write!(
                f,
                "the kernel ({major}.{minor}) lacks io_uring operations that Soloist needs: {}: \
                 mend it with a kernel of 6.1 or newer",
                names.join(", "),
            ),
            Cause::Memlock { bytes } => {
                write!(
                    f,
                    "the memlock limit is {bytes} bytes, and the executors need at least \
                     {MEMLOCK_BYTES_MIN}: "
                )?;
                write_memlock(f, self.around.place)
            }
            Cause::NoMemory => {
                write!(f, "the kernel has no memory for a ring (io_uring_setup: ENOMEM): free ")?;
                write!(f, "some or raise the cgroup's limit. If the memlock limit is short, ")?;
                write_memlock(f, self.around.place)
            }
            Cause::Files { errno } => write!(
                f,
                "no file descriptor is left for a ring (io_uring_setup: {}): mend it with \
                 `ulimit -n 65536`, LimitNOFILE=65536 in the systemd unit, or `docker run \
                 --ulimit nofile=65536`",
                name(*errno),
            ),
            Cause::Other { call, errno } => write!(
                f,
                "io_uring does not work here ({call}: {}) on kernel {major}.{minor}; \
                 `linux-tuning/check` shows the state of this machine",
                name(*errno),
            ),
        }
    }
}

impl Error for Missing {}

/// glommio refuses to start below this.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

const CAP_SYS_ADMIN: u32 = 21;

/// What the shard's own ring uses, and what glommio exits the process for if it is not there.
const OPCODES: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Splice::CODE, "SPLICE"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Statx::CODE, "STATX"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// kernel.io_uring_disabled
    Sysctl(u8),
    Seccomp {
        call: &'static str,
        errno: i32,
    },
    SecurityModule {
        call: &'static str,
        errno: i32,
    },
    NotBuilt,
    KernelTooOld,
    Opcodes(Vec<&'static str>),
    Memlock {
        bytes: u64,
    },
    NoMemory,
    Files {
        errno: i32,
    },
    Other {
        call: &'static str,
        errno: i32,
    },
}

/// What a refused call is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Around {
    kernel: (u32, u32),
    /// kernel.io_uring_disabled, where the kernel has it (6.6).
    disabled: Option<u8>,
    /// A seccomp filter is active on this thread.
    filtered: bool,
    /// CAP_SYS_ADMIN, which `disabled` 1 lets through.
    admin: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host,
    Systemd,
    Docker,
    Podman,
    Kubernetes,
    Container,
}

impl Place {
    fn is_container(self) -> bool {
        !matches!(self, Self::Host | Self::Systemd)
    }
}

impl Around {
    fn read(root: &Path, release: String, has_env: impl Fn(&str) -> bool) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let status = read("proc/thread-self/status");
        let field = |name: &str| {
            status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let capabilities = field("CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let groups = read("proc/self/cgroup");
        let in_group = |names: &[&str]| names.iter().any(|name| groups.contains(name));
        let place = if has_env("KUBERNETES_SERVICE_HOST") || in_group(&["kubepods"]) {
            Place::Kubernetes
        } else if root.join("run/.containerenv").exists() || in_group(&["libpod"]) {
            Place::Podman
        } else if root.join(".dockerenv").exists() || in_group(&["docker"]) {
            Place::Docker
        } else if has_env("container") || in_group(&["containerd", "/lxc"]) {
            Place::Container
        } else if has_env("INVOCATION_ID") {
            Place::Systemd
        } else {
            Place::Host
        };
        Self {
            kernel: kernel(&release),
            disabled: read("proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            filtered: field("Seccomp") == Some("2"),
            admin: capabilities.is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1),
            place,
        }
    }
}

/// Names the cause of a refused `call`.
fn classify(call: &'static str, errno: i32, around: &Around) -> Cause {
    let filter_likely = around.filtered || around.place.is_container();
    match errno {
        libc::EPERM | libc::EACCES => match around.disabled {
            Some(value @ 2..) => Cause::Sysctl(value),
            Some(1) if !around.admin => Cause::Sysctl(1),
            _ if filter_likely => Cause::Seccomp { call, errno },
            _ => Cause::SecurityModule { call, errno },
        },
        libc::ENOSYS if around.kernel < (5, 1) => Cause::KernelTooOld,
        libc::ENOSYS if filter_likely => Cause::Seccomp { call, errno },
        libc::ENOSYS => Cause::NotBuilt,
        // An unknown flag, or before 5.6 an unknown IORING_REGISTER_PROBE.
        libc::EINVAL if around.kernel < (6, 1) => Cause::KernelTooOld,
        libc::ENOMEM => Cause::NoMemory,
        libc::EMFILE | libc::ENFILE => Cause::Files { errno },
        _ => Cause::Other { call, errno },
    }
}

fn lacking(has: impl Fn(u8) -> bool) -> Vec<&'static str> {
    OPCODES.iter().filter(|(code, _)| !has(*code)).map(|(_, name)| *name).collect()
}

/// One no-op there and back: a filter may allow set-up and refuse the rest.
fn round_trip(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: a no-op refers to no memory.
    let queued = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    queued.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(done) if done.result() >= 0 => Ok(()),
        Some(done) => Err(io::Error::from_raw_os_error(-done.result())),
        None => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// Raises a soft limit that is below `wanted` to the hard one: (old, new).
fn raised(resource: Resource, wanted: u64) -> (u64, u64) {
    let Some(mut limits) = limit(resource) else { return (0, 0) };
    let old = limits.rlim_cur;
    if old >= wanted || old >= limits.rlim_max {
        return (old, old);
    }
    limits.rlim_cur = limits.rlim_max;
    // SAFETY: `limits` is a whole rlimit, read only.
    let done = unsafe { libc::setrlimit(resource, &limits) };
    (old, if done == 0 { limits.rlim_cur } else { old })
}

fn limit(resource: Resource) -> Option<libc::rlimit> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` is a whole rlimit, writable.
    let done = unsafe { libc::getrlimit(resource, &mut limits) };
    (done == 0).then_some(limits)
}

/// The kernel's release as uname says it.
fn release() -> String {
    // SAFETY: utsname is plain bytes, for which zero is a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is a whole utsname, writable.
    let done = unsafe { libc::uname(&mut names) };
    let bytes = names.release.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8);
    if done == 0 {
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    } else {
        String::new()
    }
}

/// "6.1.0-18-amd64" as (6, 1).
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENOSYS => "ENOSYS",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        _ => return io::Error::from_raw_os_error(errno).to_string(),
    };
    format!("{name}, errno {errno}")
}

fn write_profile(f: &mut fmt::Formatter<'_>, place: Place) -> fmt::Result {
    const OPTION: &str = "--security-opt seccomp=linux-tuning/seccomp.json";
    match place {
        Place::Docker => write!(f, "mend it with `docker run {OPTION} ...`"),
        Place::Podman => write!(f, "mend it with `podman run {OPTION} ...`"),
        Place::Kubernetes => write!(
            f,
            "mend it with a seccompProfile of type Localhost that names \
             linux-tuning/seccomp.json on the node: linux-tuning/kubernetes.yaml shows it",
        ),
        Place::Systemd => write!(
            f,
            "mend it with `SystemCallFilter=io_uring_setup io_uring_enter io_uring_register` \
             after the filter in the unit: linux-tuning/soloist.service shows it",
        ),
        Place::Host | Place::Container => write!(
            f,
            "mend it where the filter is set: `{OPTION}` for docker and podman, \
             linux-tuning/kubernetes.yaml for Kubernetes, `SystemCallFilter=io_uring_setup \
             io_uring_enter io_uring_register` for systemd",
        ),
    }
}

fn write_memlock(f: &mut fmt::Formatter<'_>, place: Place) -> fmt::Result {
    match place {
        Place::Docker => write!(f, "mend it with `docker run --ulimit memlock=8388608 ...`"),
        Place::Podman => write!(f, "mend it with `podman run --ulimit memlock=8388608 ...`"),
        Place::Kubernetes => write!(
            f,
            "mend it on the node: LimitMEMLOCK=8M in the unit of the container runtime \
             (`systemctl edit containerd`)",
        ),
        Place::Systemd => write!(f, "mend it with LimitMEMLOCK=8M in the systemd unit"),
        Place::Host | Place::Container => write!(
            f,
            "mend it with `ulimit -l 8192` as root, `* - memlock 8192` in \
             /etc/security/limits.conf, LimitMEMLOCK=8M in the systemd unit, or `docker run \
             --ulimit memlock=8388608`",
        ),
    }
}

/// The type of RLIMIT_NOFILE: it differs between the C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    const PLAIN: Around = Around {
        kernel: (6, 8),
        disabled: Some(0),
        filtered: false,
        admin: false,
        place: Place::Host,
    };

    /// Against `probe` this fails in some of the rounds: the first read is interrupted.
    #[test]
    fn the_caller_is_not_interrupted_by_the_end_of_the_ring() {
        let (mut silent, _other) = UnixStream::pair().expect("a pair");
        silent.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        for _ in 0..20 {
            probe_apart().expect("io_uring");
            let read = silent.read(&mut [0]).expect_err("nothing to read");
            assert_eq!(read.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn causes_and_their_words() {
        use Place::*;
        let in_docker = Around { filtered: true, place: Docker, ..PLAIN };
        let at = |place| Around { filtered: true, place, ..PLAIN };
        let off = |value| Around { disabled: Some(value), ..PLAIN };
        let old = |kernel| Around { kernel, disabled: None, ..PLAIN };
        let seccomp = Cause::Seccomp { call: "setup", errno: libc::EPERM };
        // errno, surroundings, cause, words of the text
        let table: &[(i32, Around, Cause, &[&str])] = &[
            (libc::EPERM, off(2), Cause::Sysctl(2), &["`sysctl -w kernel.io_uring_disabled=0`"]),
            (
                libc::EPERM,
                off(1),
                Cause::Sysctl(1),
                &["disabled is 1", "kernel.io_uring_group=GID"],
            ),
            (
                libc::EPERM,
                Around { admin: true, filtered: true, ..off(1) },
                seccomp.clone(),
                &["refused by a seccomp filter (setup: EPERM, errno 1)"],
            ),
            (
                libc::EPERM,
                Around { disabled: Some(2), ..in_docker.clone() },
                Cause::Sysctl(2),
                &["=0` on the host", "seccomp filter is active too", "docker run"],
            ),
            (
                libc::EPERM,
                in_docker.clone(),
                seccomp.clone(),
                &["`docker run --security-opt seccomp=linux-tuning/seccomp.json ...`"],
            ),
            (libc::EPERM, at(Podman), seccomp.clone(), &["`podman run --security-opt seccomp="]),
            (libc::EPERM, at(Kubernetes), seccomp.clone(), &["linux-tuning/kubernetes.yaml"]),
            (libc::EPERM, at(Systemd), seccomp.clone(), &["`SystemCallFilter=io_uring_setup"]),
            (libc::EPERM, at(Host), seccomp.clone(), &["docker and podman", "systemd"]),
            (
                libc::EPERM,
                Around { filtered: false, disabled: None, ..in_docker.clone() },
                seccomp,
                &["docker run"],
            ),
            (
                libc::EACCES,
                PLAIN,
                Cause::SecurityModule { call: "setup", errno: libc::EACCES },
                &["SELinux", "EACCES"],
            ),
            (
                libc::ENOSYS,
                in_docker,
                Cause::Seccomp { call: "setup", errno: libc::ENOSYS },
                &["ENOSYS, errno 38", "--security-opt"],
            ),
            (libc::ENOSYS, PLAIN, Cause::NotBuilt, &["CONFIG_IO_URING", "6.8"]),
            (libc::ENOSYS, old((4, 19)), Cause::KernelTooOld, &["the kernel is 4.19", "6.1"]),
            (libc::EINVAL, old((5, 15)), Cause::KernelTooOld, &["the kernel is 5.15"]),
            (
                libc::EINVAL,
                PLAIN,
                Cause::Other { call: "setup", errno: libc::EINVAL },
                &["setup: EINVAL", "linux-tuning/check"],
            ),
            (libc::ENOMEM, PLAIN, Cause::NoMemory, &["ulimit -l"]),
            (libc::EMFILE, PLAIN, Cause::Files { errno: libc::EMFILE }, &["ulimit -n", "EMFILE"]),
        ];
        for (errno, around, cause, words) in table {
            let got = classify("setup", *errno, around);
            assert_eq!(got, *cause, "{errno} {around:?}");
            assert_says(got, around, words);
        }
        let memlock = Cause::Memlock { bytes: 65_536 };
        for (place, words) in [
            (Host, "`ulimit -l 8192`"),
            (Docker, "`docker run --ulimit memlock=8388608"),
            (Podman, "`podman run --ulimit memlock=8388608"),
            (Kubernetes, "systemctl edit containerd"),
            (Systemd, "LimitMEMLOCK=8M"),
        ] {
            let words = ["is 65536 bytes", "at least 524288", words];
            assert_says(memlock.clone(), &Around { place, ..PLAIN }, &words);
        }
        assert_says(Cause::Opcodes(lacking(|_| false)), &PLAIN, &["ACCEPT, RECV", "6.1"]);
    }

    fn assert_says(cause: Cause, around: &Around, words: &[&str]) {
        let text = Missing { cause, around: around.clone() }.to_string();
        for word in words {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }

    #[test]
    fn surroundings() {
        let root = std::env::temp_dir().join(format!("soloist-probe-{}", std::process::id()));
        let status = |seccomp, caps| format!("Name:\tx\nCapEff:\t{caps}\nSeccomp:\t{seccomp}\n");
        let filtered = ("proc/thread-self/status", status(2, "0000000000000000"));
        let admin = ("proc/thread-self/status", status(0, "000001ffffffffff"));
        let empty = |path| (path, String::new());
        let in_docker = ("proc/self/cgroup", "0::/system.slice/docker-1f.scope\n".to_owned());
        // files, environment, place, filtered, admin
        type Row<'a> = (&'a [(&'a str, String)], &'a [&'a str], Place, bool, bool);
        let table: &[Row] = &[
            (&[], &[], Place::Host, false, false),
            (&[admin], &[], Place::Host, false, true),
            (&[filtered], &["INVOCATION_ID"], Place::Systemd, true, false),
            (&[empty(".dockerenv")], &["INVOCATION_ID"], Place::Docker, false, false),
            (&[empty("run/.containerenv")], &["container"], Place::Podman, false, false),
            (&[empty(".dockerenv")], &["KUBERNETES_SERVICE_HOST"], Place::Kubernetes, false, false),
            (&[in_docker], &[], Place::Docker, false, false),
            (&[], &["container"], Place::Container, false, false),
        ];
        for (files, env, place, filtered, admin) in table {
            for (path, text) in *files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let around = Around::read(&root, "6.8.1".into(), |name| env.contains(&name));
            let _ = fs::remove_dir_all(&root);
            assert_eq!(around.place, *place, "{files:?} {env:?}");
            assert_eq!((around.filtered, around.admin), (*filtered, *admin), "{files:?}");
            assert_eq!((around.kernel, around.disabled), ((6, 8), None));
        }
    }

    #[test]
    fn kernel_releases() {
        for (release, number) in [
            ("6.1.0-18-amd64\n", (6, 1)),
            ("5.14.0-427.el9.x86_64", (5, 14)),
            ("6.18", (6, 18)),
            ("", (0, 0)),
            ("next", (0, 0)),
            ("99999999999.1", (0, 0)),
        ] {
            assert_eq!(kernel(release), number, "{release}");
        }
    }

    #[test]
    fn here() {
        match probe() {
            Ok(facts) => {
                assert!(facts.kernel >= (5, 1) && facts.memlock >= MEMLOCK_BYTES_MIN, "{facts:?}");
                let (old, new) = raise_nofile();
                assert!(new >= old && old == facts.nofile);
                assert_eq!(raise_nofile(), (new, new));
            }
            Err(missing) => panic!("{missing}"),
        }
    }
}
