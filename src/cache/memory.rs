//! How much memory this process may still take: by the machine, and by the control groups it is in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limits::{MEMORY_SHARE_BYTES_MIN, MEMORY_UNKNOWN_BYTES};
use crate::shard::Shard;

impl Shard {
    /// This shard's part of so many percent of the memory that is available: for the size of a
    /// cache, when the application is built.
    ///
    /// Available is what the machine has left, or what the control groups of the process leave it
    /// (version 2, or 1; their own limit and those above), if that is less; files that the kernel
    /// keeps and can drop count as available. At least 1 MiB. Where the system says nothing, 1 GiB
    /// is taken for granted; more than 100 percent is 100.
    ///
    /// ```
    /// use soloist::{CacheOptions, prelude::*};
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let bytes = shard.memory_share(25); // of 4 GiB and 4 shards: 256 MiB each
    ///     let options = CacheOptions::new().bytes_max(bytes, |_, page: &String| page.len());
    ///     shard.cache_with::<u64, String>("pages", options);
    ///     Ok(App::new(()))
    /// }
    /// # soloist::testing::TestClient::run(app, async |client| {
    /// # assert!(client.shard().memory_share(25) >= 1 << 20);
    /// # });
    /// ```
    pub fn memory_share(&self, percent: u8) -> u64 {
        let available = available(Path::new("/")).unwrap_or(MEMORY_UNKNOWN_BYTES);
        share(available, percent, self.count())
    }
}

fn share(available: u64, percent: u8, shards: usize) -> u64 {
    let all = u128::from(available) * u128::from(percent.min(100)) / 100;
    ((all / shards.max(1) as u128) as u64).max(MEMORY_SHARE_BYTES_MIN)
}

/// Bytes that are available, as told by the files below `root`; none if nothing is.
fn available(root: &Path) -> Option<u64> {
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| group(root, line));
    let left = groups.flat_map(|group| group.left());
    machine(root).into_iter().chain(left).min()
}

/// What the machine has left.
fn machine(root: &Path) -> Option<u64> {
    let text = read(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group that counts memory, and the names of its files.
struct Group {
    /// Where the tree of groups begins, and the way to this one.
    tops: Vec<PathBuf>,
    path: Vec<String>,
    limits: &'static [&'static str],
    used: &'static str,
    /// The line of `memory.stat` that says what can be dropped.
    droppable: &'static str,
}

/// `number:controllers:path` of `/proc/self/cgroup`.
fn group(root: &Path, line: &str) -> Option<Group> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    // Of a group outside of what the process sees only the top is there.
    let path = match path.split('/').any(|name| name == "..") {
        true => Vec::new(),
        false => path.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
    };
    let sys = root.join("sys/fs/cgroup");
    if number == "0" && controllers.is_empty() {
        return Some(Group {
            tops: vec![sys.clone(), sys.join("unified")],
            path,
            limits: &["memory.max", "memory.high"],
            used: "memory.current",
            droppable: "inactive_file",
        });
    }
    controllers.split(',').any(|it| it == "memory").then(|| Group {
        tops: vec![sys.join("memory")],
        path,
        limits: &["memory.limit_in_bytes"],
        used: "memory.usage_in_bytes",
        droppable: "total_inactive_file",
    })
}

impl Group {
    /// What it and each one above it leave.
    fn left(self) -> Vec<u64> {
        let mut all = Vec::new();
        for top in &self.tops {
            for depth in 0..=self.path.len() {
                let folder = top.join(self.path[..depth].join("/"));
                all.extend(self.left_in(&folder));
            }
        }
        all
    }

    fn left_in(&self, folder: &Path) -> Option<u64> {
        // `max` is no number, and no limit.
        let limits = self.limits.iter().filter_map(|name| number(&folder.join(name)));
        let limit = limits.min()?;
        let used = number(&folder.join(self.used)).unwrap_or(0);
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let droppable = stat.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == self.droppable).then(|| value.trim().parse::<u64>().ok())?
        });
        Some(limit.saturating_sub(used.saturating_sub(droppable.unwrap_or(0))))
    }
}

fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_tightest_bound_counts() {
        let meminfo = ("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:    4194304 kB\n");
        let v2 = ("proc/self/cgroup", "0::/a/b\n");
        let v1 = ("proc/self/cgroup", "12:cpu,cpuacct:/x\n5:memory:/d/c\n1:name=systemd:/\n");
        let hybrid = ("proc/self/cgroup", "5:memory:/d\n0::/a/b\n");
        let (a, b) = ("sys/fs/cgroup/a", "sys/fs/cgroup/a/b");
        let max = |at: &str| format!("{at}/memory.max");
        let high = |at: &str| format!("{at}/memory.high");
        let current = |at: &str| format!("{at}/memory.current");
        let stat = |at: &str| format!("{at}/memory.stat");
        let bytes = |mib: u64| format!("{}\n", mib * MIB);
        let d = "sys/fs/cgroup/memory/d";
        let limit = |at: &str| format!("{at}/memory.limit_in_bytes");
        let usage = |at: &str| format!("{at}/memory.usage_in_bytes");
        let none = || "max\n".to_owned();
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<(String, String)>, Option<u64>);
        let cases: &[Row<'_>] = &[
            ("nothing is told", &[], vec![], None),
            ("no groups", &[meminfo], vec![], Some(4096)),
            ("not a number", &[("proc/meminfo", "MemAvailable: x kB\n")], vec![], None),
            ("another unit", &[("proc/meminfo", "MemAvailable: 7 MB\n")], vec![], None),
            ("no files of the group", &[meminfo, v2], vec![], Some(4096)),
            (
                "no limit",
                &[meminfo, v2],
                vec![(max(b), none()), (current(b), bytes(9))],
                Some(4096),
            ),
            ("its own", &[meminfo, v2], vec![(max(b), bytes(512))], Some(512)),
            (
                "the one above",
                &[meminfo, v2],
                { vec![(max(b), none()), (max(a), bytes(300)), (current(a), bytes(100))] },
                Some(200),
            ),
            (
                "the top, as a container sees it",
                &[meminfo, ("proc/self/cgroup", "0::/\n")],
                {
                    let top = "sys/fs/cgroup";
                    vec![(max(top), bytes(512)), (current(top), bytes(12))]
                },
                Some(500),
            ),
            (
                "a group that is not seen",
                &[meminfo, ("proc/self/cgroup", "0::/../x\n")],
                { vec![(max("sys/fs/cgroup"), bytes(64)), (max("sys/fs/x"), bytes(1))] },
                Some(64),
            ),
            (
                "high below max",
                &[meminfo, v2],
                { vec![(max(b), bytes(512)), (high(b), bytes(256)), (current(b), bytes(56))] },
                Some(200),
            ),
            (
                "files can be dropped",
                &[meminfo, v2],
                {
                    let stats = format!("anon 5\nactive_file 7\ninactive_file {}\n", 90 * MIB);
                    vec![(max(b), bytes(512)), (current(b), bytes(500)), (stat(b), stats)]
                },
                Some(102),
            ),
            (
                "nothing is left",
                &[meminfo, v2],
                { vec![(max(b), bytes(512)), (current(b), bytes(600))] },
                Some(0),
            ),
            ("the machine has less", &[meminfo, v2], vec![(max(b), bytes(9000))], Some(4096)),
            ("the group alone", &[v2], vec![(max(b), bytes(9000))], Some(9000)),
            (
                "version 1",
                &[meminfo, v1],
                {
                    let stats = format!("inactive_file 0\ntotal_inactive_file {}\n", 10 * MIB);
                    vec![(limit(d), bytes(300)), (usage(d), bytes(110)), (stat(d), stats)]
                },
                Some(200),
            ),
            (
                "version 1 without a limit",
                &[meminfo, v1],
                { vec![(limit(d), "9223372036854771712\n".to_owned())] },
                Some(4096),
            ),
            (
                "both",
                &[meminfo, hybrid],
                {
                    let unified = "sys/fs/cgroup/unified/a";
                    vec![(limit(d), bytes(300)), (high(unified), bytes(100))]
                },
                Some(100),
            ),
            (
                "what no kernel writes",
                &[meminfo, ("proc/self/cgroup", "\n0\n0:\nx:y:z\n:::\n")],
                { vec![(max("sys/fs/cgroup"), bytes(1))] },
                Some(4096),
            ),
        ];
        let root = std::env::temp_dir().join(format!("soloist-memory-{}", std::process::id()));
        for (at, (name, fixed, more, want)) in cases.iter().enumerate() {
            let root = root.join(at.to_string());
            let more = more.iter().map(|(path, text)| (&**path, &**text));
            for (path, text) in fixed.iter().copied().chain(more) {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, text).expect("written");
            }
            assert_eq!(available(&root).map(|it| it / MIB), *want, "{name}");
        }
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn shares() {
        for (available, percent, shards, want) in [
            (4096 * MIB, 25, 4, 256 * MIB),
            (4096 * MIB, 100, 1, 4096 * MIB),
            (4096 * MIB, 200, 1, 4096 * MIB),
            (4096 * MIB, 0, 1, MIB),
            (0, 25, 4, MIB),
            (u64::MAX, 100, 1, u64::MAX),
            (u64::MAX, 50, 2, u64::MAX / 4),
            (4096 * MIB, 25, 0, 1024 * MIB),
        ] {
            assert_eq!(share(available, percent, shards), want, "{available} {percent} {shards}");
        }
    }
}
