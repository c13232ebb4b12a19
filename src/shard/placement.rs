//! Which cores get a shard: the affinity mask, the cpuset and the CPU quota, read before anything
//! is built.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::affinity;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// One shard on each allowed core, no more than the CPU quota has room for.
    Auto,
    /// The first n allowed cores.
    Count(usize),
    /// These cores, in this order.
    List(Vec<usize>),
    /// This many shards, wherever the scheduler puts them.
    Unpinned(usize),
}

/// Where the shards go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The CPU of each shard; `None` is unpinned. Never empty.
    pub shards: Vec<Option<usize>>,
    /// The CPUs this process may run on.
    pub allowed: Vec<usize>,
    /// The tightest CPU quota over this process, in cores.
    pub quota_cores: Option<f64>,
    /// What the user should know, one plain sentence each.
    pub notes: Vec<String>,
}

/// Why there is no plan. The text says what was asked, what is there, and what to do.
#[derive(Debug)]
pub(crate) enum PlanError {
    NoShards,
    TooMany { asked: usize, allowed: Vec<usize> },
    TooManyShards { asked: usize },
    NotAllowed { asked: Vec<usize>, allowed: Vec<usize> },
    Twice { cpu: usize },
    NoCores,
    Affinity(io::Error),
}

pub(crate) fn plan(cores: &Cores) -> Result<Plan, PlanError> {
    let mask = affinity::original_mask().map_err(PlanError::Affinity)?;
    plan_at(Path::new("/"), &mask.cpus(), cores)
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShards => {
                write!(f, "no shards were asked for: ask for at least one, or leave the choice out")
            }
            Self::TooMany { asked, allowed } => write!(
                f,
                "{asked} shards were asked for, but this process may run on {} only: ask for at \
                 most {}, widen the affinity mask (taskset, CPUAffinity=) or the cpuset, or run \
                 the shards unpinned",
                cpus_text(allowed),
                allowed.len(),
            ),
            Self::TooManyShards { asked } => write!(
                f,
                "{asked} shards were asked for, but a server has at most {SHARDS_MAX}: ask for \
                 about as many as there are cores",
            ),
            Self::NotAllowed { asked, allowed } => write!(
                f,
                "{} {} asked for, but this process may run on {} only: choose among these, or \
                 widen the affinity mask (taskset, CPUAffinity=) or the cpuset",
                cpus_text(asked),
                if asked.len() == 1 { "was" } else { "were" },
                cpus_text(allowed),
            ),
            Self::Twice { cpu } => {
                write!(f, "cpu {cpu} is in the core list twice: a core carries one shard")
            }
            Self::NoCores => write!(
                f,
                "none of the CPUs of this process's affinity mask is online: widen the mask \
                 (taskset, CPUAffinity=) or bring a CPU online",
            ),
            Self::Affinity(error) => write!(
                f,
                "the affinity mask cannot be read (sched_getaffinity: {error}): allow that system \
                 call",
            ),
        }
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Affinity(error) => Some(error),
            _ => None,
        }
    }
}

/// More would mean a million queues between shards.
const SHARDS_MAX: usize = 1024;

/// Above any kernel's NR_CPUS: a list that names more is not a list of CPUs.
const CPUS_MAX: usize = 65_536;

fn plan_at(root: &Path, affinity: &[usize], cores: &Cores) -> Result<Plan, PlanError> {
    let mut notes = Vec::new();
    let groups = Groups::read(root);
    let allowed = allowed(root, affinity, &groups, &mut notes);
    let quota_cores = groups.quota_cores();
    let shards: Vec<Option<usize>> = match cores {
        _ if allowed.is_empty() => return Err(PlanError::NoCores),
        Cores::Count(0) | Cores::Unpinned(0) => return Err(PlanError::NoShards),
        Cores::Auto => {
            let room = quota_cores.map_or(SHARDS_MAX, |quota| quota.ceil() as usize);
            let count = allowed.len().min(room.clamp(1, SHARDS_MAX));
            if count < allowed.len() && quota_cores.is_none() {
                notes.push(format!(
                    "{} cores are allowed, {SHARDS_MAX} of them get a shard: the most a server has",
                    allowed.len(),
                ));
            }
            allowed[..count].iter().copied().map(Some).collect()
        }
        Cores::Count(asked) | Cores::Unpinned(asked) if *asked > SHARDS_MAX => {
            return Err(PlanError::TooManyShards { asked: *asked });
        }
        Cores::Count(asked) => match allowed.get(..*asked) {
            Some(first) => first.iter().copied().map(Some).collect(),
            None => return Err(PlanError::TooMany { asked: *asked, allowed }),
        },
        Cores::List(list) => checked(list, &allowed)?,
        Cores::Unpinned(count) => {
            if *count > allowed.len() {
                notes.push(format!(
                    "{count} shards share {}: more shards than cores only take turns",
                    cpus_text(&allowed),
                ));
            }
            vec![None; *count]
        }
    };
    let short = quota_cores.filter(|quota| *quota < shards.len() as f64);
    if let Some(quota) = short {
        notes.push(format!(
            "the CPU quota is {} for {}: the kernel will stop the whole process now and then, \
             for tens of milliseconds; raise the quota (cpu.max, --cpus, limits.cpu) to a core a \
             shard, or run fewer shards",
            counted(quota, "core"),
            counted(shards.len() as f64, "shard"),
        ));
    }
    Ok(Plan { shards, allowed, quota_cores, notes })
}

fn checked(list: &[usize], allowed: &[usize]) -> Result<Vec<Option<usize>>, PlanError> {
    if list.is_empty() {
        return Err(PlanError::NoShards);
    }
    if list.len() > SHARDS_MAX {
        return Err(PlanError::TooManyShards { asked: list.len() });
    }
    for (i, cpu) in list.iter().enumerate() {
        if list[..i].contains(cpu) {
            return Err(PlanError::Twice { cpu: *cpu });
        }
    }
    let outside: Vec<usize> = list.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if !outside.is_empty() {
        return Err(PlanError::NotAllowed { asked: outside, allowed: allowed.to_vec() });
    }
    Ok(list.iter().copied().map(Some).collect())
}

/// The affinity mask, less the CPUs that are offline or outside the cpuset. The kernel keeps the
/// mask inside the cpuset, so a cpuset that shares no CPU with it is another group's view: such a
/// one is left out.
fn allowed(
    root: &Path,
    affinity: &[usize],
    groups: &Groups,
    notes: &mut Vec<String>,
) -> Vec<usize> {
    let mut allowed: Vec<usize> = affinity.to_vec();
    allowed.sort_unstable();
    allowed.dedup();
    if let Some(online) = read_at(root, "sys/devices/system/cpu/online").and_then(|t| cpu_list(&t))
    {
        allowed.retain(|cpu| online.contains(cpu));
    }
    if let Some(set) = groups.cpuset() {
        if allowed.iter().any(|cpu| set.contains(cpu)) {
            allowed.retain(|cpu| set.contains(cpu));
        } else if !allowed.is_empty() {
            notes.push(format!(
                "the cgroup's cpuset names {}, none of which is in the affinity mask: the cpuset \
                 is left out of the choice",
                cpus_text(&set),
            ));
        }
    }
    allowed
}

/// The directories of this process's control groups, own group first, then its ancestors as far
/// as they can be seen. `cpu` and `cpuset` are controllers of version 1.
#[derive(Default)]
struct Groups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
}

impl Groups {
    fn read(root: &Path) -> Self {
        let (Some(mounts), Some(member)) =
            (read_at(root, "proc/self/mountinfo"), read_at(root, "proc/self/cgroup"))
        else {
            return Self::default();
        };
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let mut groups = Self::default();
        for line in member.lines() {
            // id:controllers:path; version 2 names no controllers.
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            if controllers.is_empty() {
                groups.unified = lineage(root, path, &mounts, |m| m.unified);
                continue;
            }
            let has = |name| controllers.split(',').any(|c| c == name);
            if has("cpu") {
                groups.cpu = lineage(root, path, &mounts, |m| m.has("cpu"));
            }
            if has("cpuset") {
                groups.cpuset = lineage(root, path, &mounts, |m| m.has("cpuset"));
            }
        }
        groups
    }

    /// The lowest quota of the process's groups and their ancestors: each of them throttles.
    fn quota_cores(&self) -> Option<f64> {
        let unified = self.unified.iter().filter_map(|dir| {
            let text = read(&dir.join("cpu.max"))?;
            let mut fields = text.split_whitespace();
            ratio(fields.next()?, fields.next().unwrap_or("100000"))
        });
        let version_1 = self.cpu.iter().filter_map(|dir| {
            let quota = read(&dir.join("cpu.cfs_quota_us"))?;
            ratio(quota.trim(), read(&dir.join("cpu.cfs_period_us"))?.trim())
        });
        unified.chain(version_1).min_by(f64::total_cmp)
    }

    /// The CPUs of the process's own group. "Effective" files have the ancestors in them.
    fn cpuset(&self) -> Option<Vec<usize>> {
        let files = [
            (&self.unified, "cpuset.cpus.effective"),
            (&self.cpuset, "cpuset.effective_cpus"),
            (&self.cpuset, "cpuset.cpus"),
        ];
        // A group without the controller has no such file: its parent's counts then.
        files.iter().find_map(|(dirs, file)| {
            let list = dirs.iter().find_map(|dir| read(&dir.join(file)))?;
            cpu_list(&list).filter(|cpus| !cpus.is_empty())
        })
    }
}

/// One control group mount out of /proc/self/mountinfo.
struct Mount {
    /// The group that is seen at `point`.
    base: String,
    point: String,
    unified: bool,
    controllers: String,
}

impl Mount {
    /// `id parent device base point options optional... - type source controllers`
    fn parse(line: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (base, point) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut kind = kind.split(' ');
        let unified = match kind.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let controllers = kind.nth(1)?.to_owned();
        Some(Self { base, point, unified, controllers })
    }

    fn has(&self, controller: &str) -> bool {
        !self.unified && self.controllers.split(',').any(|c| c == controller)
    }

    /// The names of the groups from `base` down to `path`, if `path` is at or below it.
    fn below<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let mut rest = names(path);
        for name in names(&self.base) {
            if rest.next() != Some(name) {
                return None;
            }
        }
        // "/.." leads out of the namespace: not below.
        rest.map(|name| (name != "..").then_some(name)).collect()
    }
}

/// Own group first, then the ancestors up to what is mounted. In a container the path can lie
/// outside what is mounted: then the mount itself is all there is to see, and is the container.
fn lineage(
    root: &Path,
    path: &str,
    mounts: &[Mount],
    wanted: impl Fn(&Mount) -> bool,
) -> Vec<PathBuf> {
    let mounts: Vec<&Mount> = mounts.iter().filter(|m| wanted(m)).collect();
    let mut seen: Vec<(&Mount, Vec<&str>)> =
        mounts.iter().filter_map(|m| Some((*m, m.below(path)?))).collect();
    if seen.is_empty() {
        seen = mounts.iter().map(|m| (*m, Vec::new())).collect();
    }
    let mut dirs = Vec::new();
    for (mount, below) in seen {
        let top = at(root, &mount.point);
        for depth in (0..=below.len()).rev() {
            let dir = below[..depth].iter().fold(top.clone(), |dir, name| dir.join(name));
            if dir.is_dir() && !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
    }
    dirs
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    ["\\040", "\\011", "\\012"]
        .iter()
        .zip([" ", "\t", "\n"])
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
        .replace("\\134", "\\")
}

/// `quota / period`; "max" and negative numbers are no quota.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && quota.is_finite() && period > 0.0 && period.is_finite())
        .then_some(quota / period)
}

/// "0-3,8" as numbers; `None` if it is no such list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if from > to || to >= CPUS_MAX {
            return None;
        }
        cpus.extend(from..=to);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// "cpu 3" or "cpus 0-3,8".
fn cpus_text(cpus: &[usize]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in sorted {
        match ranges.last_mut() {
            Some((_, to)) if cpu <= *to + 1 => *to = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text: Vec<String> = ranges
        .iter()
        .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") })
        .collect();
    format!("{} {}", if cpus.len() == 1 { "cpu" } else { "cpus" }, text.join(","))
}

fn counted(count: f64, noun: &str) -> String {
    let number = (count * 100.0).round() / 100.0;
    format!("{number} {noun}{}", if number == 1.0 { "" } else { "s" })
}

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn read_at(root: &Path, path: &str) -> Option<String> {
    read(&at(root, path))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A file tree of one test, gone when it is.
    struct Tree(PathBuf);

    impl Tree {
        fn of(files: &[(&str, &str)]) -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let unique = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("soloist-placement-{}-{unique}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (path, text) in files {
                let path = at(&root, path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const EIGHT: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "33 31 0:30 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
                      34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
    const INFO: &str = "/proc/self/mountinfo";
    const MEMBER: &str = "/proc/self/cgroup";

    fn planned(files: &[(&str, &str)], affinity: &[usize], cores: Cores) -> Result<Plan, String> {
        let tree = Tree::of(files);
        plan_at(&tree.0, affinity, &cores).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_asked() {
        // asked, cpus of the shards or the error's words
        type Row<'a> = (Cores, Result<&'a [Option<usize>], &'a str>);
        let table: &[Row] = &[
            (Cores::Auto, Ok(&[Some(1), Some(2), Some(5)])),
            (Cores::Count(2), Ok(&[Some(1), Some(2)])),
            (Cores::Count(3), Ok(&[Some(1), Some(2), Some(5)])),
            (Cores::Count(0), Err("no shards were asked for")),
            (
                Cores::Count(4),
                Err("4 shards were asked for, but this process may run on cpus 1-2,5"),
            ),
            (Cores::List(vec![5, 1]), Ok(&[Some(5), Some(1)])),
            (Cores::List(vec![]), Err("no shards were asked for")),
            (
                Cores::List(vec![1, 0, 9]),
                Err("cpus 0,9 were asked for, but this process may run on cpus 1-2,5 only"),
            ),
            (Cores::List(vec![3]), Err("cpu 3 was asked for")),
            (Cores::List(vec![2, 5, 2]), Err("cpu 2 is in the core list twice")),
            (Cores::Unpinned(2), Ok(&[None, None])),
            (Cores::Unpinned(0), Err("no shards were asked for")),
            (Cores::Unpinned(1_000_000), Err("1000000 shards were asked for")),
        ];
        for (cores, expected) in table {
            let got = planned(&[], &[5, 1, 2], cores.clone());
            match (got, expected) {
                (Ok(plan), Ok(shards)) => {
                    assert_eq!(plan.shards, *shards, "{cores:?}");
                    assert_eq!(plan.allowed, [1, 2, 5]);
                    assert_eq!(plan.notes, [""; 0]);
                }
                (Err(text), Err(words)) => assert!(text.starts_with(words), "{cores:?}: {text}"),
                (got, _) => panic!("{cores:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn allowed_cores() {
        let online = ("/sys/devices/system/cpu/online", "0-1,4\n");
        let own = (MEMBER, "0::/app\n");
        let set = |cpus: &'static str| ("/sys/fs/cgroup/app/cpuset.cpus.effective", cpus);
        let v1 = (MEMBER, "3:cpuset:/a/b\n1:cpu,cpuacct:/\n");
        // files, affinity, allowed or the error's words, notes
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [usize], Result<&'a [usize], &'a str>, usize);
        let table: &[Row] = &[
            (&[], &[0], Ok(&[0]), 0),
            (&[online], EIGHT, Ok(&[0, 1, 4]), 0),
            (&[online], &[6, 7], Err("none of the CPUs"), 0),
            (&[], &[], Err("none of the CPUs"), 0),
            (&[(INFO, V2), own, set("2-3\n")], EIGHT, Ok(&[2, 3]), 0),
            (&[(INFO, V2), own, set("2-3\n"), online], &[0, 1], Ok(&[0, 1]), 1),
            (&[(INFO, V2), own, set("\n")], &[4, 5], Ok(&[4, 5]), 0),
            (&[(INFO, V2), own, set("nonsense\n")], &[4, 5], Ok(&[4, 5]), 0),
            (&[(INFO, V2), own, set("0-99999999999\n")], &[4, 5], Ok(&[4, 5]), 0),
            // the controller is not handed down to /app: the parent's file counts
            (
                &[
                    (INFO, V2),
                    own,
                    ("/sys/fs/cgroup/app/cgroup.procs", ""),
                    ("/sys/fs/cgroup/cpuset.cpus.effective", "1,3"),
                ],
                EIGHT,
                Ok(&[1, 3]),
                0,
            ),
            (
                &[
                    (INFO, V1),
                    v1,
                    ("/sys/fs/cgroup/cpuset/a/b/cpuset.cpus", "0-7"),
                    ("/sys/fs/cgroup/cpuset/a/b/cpuset.effective_cpus", "6"),
                ],
                EIGHT,
                Ok(&[6]),
                0,
            ),
            (&[(INFO, V1), v1, ("/sys/fs/cgroup/cpuset/a/b/cpuset.cpus", "7")], EIGHT, Ok(&[7]), 0),
        ];
        for (files, affinity, allowed, notes) in table {
            match (planned(files, affinity, Cores::Auto), allowed) {
                (Ok(plan), Ok(allowed)) => {
                    assert_eq!(plan.allowed, *allowed, "{files:?}");
                    assert_eq!(plan.notes.len(), *notes, "{files:?}: {:?}", plan.notes);
                }
                (Err(text), Err(words)) => assert!(text.starts_with(words), "{files:?}: {text}"),
                (got, _) => panic!("{files:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn quotas() {
        const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        const INSIDE: &str =
            "29 23 0:26 /kubepods/pod7/c9 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        const ODD: &str = "29 23 0:26 / /mnt/my\\040groups rw - cgroup2 none rw\n";
        let v1 = (MEMBER, "1:cpu,cpuacct:/a/b\n");
        let v1_at = |dir: &str, quota: &'static str| {
            [
                (format!("/sys/fs/cgroup/cpu{dir}/cpu.cfs_quota_us"), quota),
                (format!("/sys/fs/cgroup/cpu{dir}/cpu.cfs_period_us"), "100000\n"),
            ]
        };
        let v2_at = |dir: &str, max: &'static str| [(format!("/sys/fs/cgroup{dir}/cpu.max"), max)];
        fn tree<'a>(
            files: &[(&'a str, &'a str)],
            more: &'a [(String, &'static str)],
        ) -> Vec<(&'a str, &'a str)> {
            let more = more.iter().map(|(path, text)| (path.as_str(), *text));
            files.iter().copied().chain(more).collect()
        }
        let many = |parts: &[&[(String, &'static str)]]| parts.concat();
        // mountinfo and membership, quota files, quota in cores
        type Row<'a> = (&'a [(&'a str, &'a str)], Vec<(String, &'static str)>, Option<f64>);
        let table: &[Row] = &[
            (&[], vec![], None),
            (&[(INFO, V2), (MEMBER, "0::/\n")], many(&[&v2_at("", "max 100000\n")]), None),
            (&[(INFO, V2), (MEMBER, "0::/\n")], many(&[&v2_at("", "150000 100000\n")]), Some(1.5)),
            (&[(INFO, V2), (MEMBER, "0::/\n")], many(&[&v2_at("", "50000\n")]), Some(0.5)),
            (&[(INFO, V2), (MEMBER, "0::/\n")], many(&[&v2_at("", "0 0\n")]), None),
            (&[(INFO, V2), (MEMBER, "0::/\n")], many(&[&v2_at("", "")]), None),
            // an ancestor is tighter than the own group, and the other way round
            (
                &[(INFO, V2), (MEMBER, "0::/a/b/c\n")],
                many(&[
                    &v2_at("/a/b/c", "400000 100000\n"),
                    &v2_at("/a/b", "max 100000\n"),
                    &v2_at("/a", "200000 100000\n"),
                ]),
                Some(2.0),
            ),
            (
                &[(INFO, V2), (MEMBER, "0::/a/b\n")],
                many(&[&v2_at("/a/b", "10000 20000"), &v2_at("/a", "200000 100000\n")]),
                Some(0.5),
            ),
            // a sibling with a like name is no ancestor
            (
                &[(INFO, V2), (MEMBER, "0::/ab\n")],
                many(&[&v2_at("/ab", "max"), &v2_at("/a", "100000 100000\n")]),
                None,
            ),
            // outside the namespace, and a group that is not there: the mount is all there is
            (
                &[(INFO, V2), (MEMBER, "0::/../other\n")],
                many(&[&v2_at("", "300000 100000\n"), &v2_at("/other", "100000 100000\n")]),
                Some(3.0),
            ),
            (
                &[(INFO, V2), (MEMBER, "0::/gone\n")],
                many(&[&v2_at("", "300000 100000\n")]),
                Some(3.0),
            ),
            (&[(INFO, V1), v1], many(&[&v1_at("/a/b", "-1\n")]), None),
            (&[(INFO, V1), v1], many(&[&v1_at("/a/b", "250000\n")]), Some(2.5)),
            (
                &[(INFO, V1), v1],
                many(&[&v1_at("/a/b", "-1\n"), &v1_at("/a", "120000\n"), &v1_at("", "-1")]),
                Some(1.2),
            ),
            // a container on a version 1 host: the mount shows the container's own group
            (
                &[(INFO, INSIDE), (MEMBER, "4:cpu:/kubepods/pod7/c9\n")],
                many(&[&v1_at("", "50000\n")]),
                Some(0.5),
            ),
            (
                &[(INFO, INSIDE), (MEMBER, "4:cpu:/kubepods/pod7/c9/sub\n")],
                many(&[&v1_at("", "50000\n"), &v1_at("/sub", "25000\n")]),
                Some(0.25),
            ),
            (&[(INFO, INSIDE), (MEMBER, "4:cpu:/\n")], many(&[&v1_at("", "50000\n")]), Some(0.5)),
            // hybrid: the controller is version 1, the unified mount has none
            (
                &[
                    (INFO, HYBRID),
                    (MEMBER, "1:cpu:/x\n0::/\n"),
                    ("/sys/fs/cgroup/unified/cgroup.procs", ""),
                ],
                many(&[&v1_at("/x", "150000\n")]),
                Some(1.5),
            ),
            (
                &[(INFO, ODD), (MEMBER, "0::/\n"), ("/mnt/my groups/cpu.max", "700000 100000")],
                vec![],
                Some(7.0),
            ),
            (&[(INFO, "garbage\n1 2 3 - cgroup2\n"), (MEMBER, "0::/\nx\n\n")], vec![], None),
        ];
        for (files, quotas, cores) in table {
            let files = tree(files, quotas);
            let plan = planned(&files, EIGHT, Cores::Auto).unwrap();
            assert_eq!(plan.quota_cores, *cores, "{files:?}");
        }
    }

    #[test]
    fn shards_under_a_quota() {
        // quota, asked, shards, notes
        let table = [
            ("max 100000", Cores::Auto, 8, 0),
            ("150000 100000", Cores::Auto, 2, 1),
            ("200000 100000", Cores::Auto, 2, 0),
            ("50000 100000", Cores::Auto, 1, 1),
            ("1000 100000", Cores::Auto, 1, 1),
            ("9900000 100000", Cores::Auto, 8, 0),
            ("300000 100000", Cores::Count(4), 4, 1),
            ("300000 100000", Cores::Count(3), 3, 0),
            ("100000 100000", Cores::List(vec![6, 7]), 2, 1),
            ("max 100000", Cores::Unpinned(8), 8, 0),
            ("max 100000", Cores::Unpinned(9), 9, 1),
            ("200000 100000", Cores::Unpinned(9), 9, 2),
        ];
        for (quota, cores, shards, notes) in table {
            let files = [(INFO, V2), (MEMBER, "0::/\n"), ("/sys/fs/cgroup/cpu.max", quota)];
            let plan = planned(&files, EIGHT, cores.clone()).unwrap();
            assert_eq!(plan.shards.len(), shards, "{quota} {cores:?}");
            assert_eq!(plan.notes.len(), notes, "{quota} {cores:?}: {:?}", plan.notes);
        }
    }

    #[test]
    fn this_machine() {
        let plan = plan(&Cores::Auto).unwrap();
        assert!(!plan.shards.is_empty());
        assert!(plan.shards.iter().all(|cpu| cpu.is_some_and(|cpu| plan.allowed.contains(&cpu))));
    }

    #[test]
    fn texts() {
        for (cpus, text) in [
            (&[3][..], "cpu 3"),
            (&[0, 1, 2, 3, 8], "cpus 0-3,8"),
            (&[7, 5, 6], "cpus 5-7"),
            (&[0, 2], "cpus 0,2"),
        ] {
            assert_eq!(cpus_text(cpus), text);
        }
        for (text, cpus) in [
            ("0-3,8\n", Some(&[0, 1, 2, 3, 8][..])),
            ("", Some(&[])),
            ("3-1", None),
            ("a", None),
            ("0-65536", None),
        ] {
            assert_eq!(cpu_list(text).as_deref(), cpus);
        }
    }
}
