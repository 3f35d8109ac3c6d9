//! The memory of this machine: [`Machine`].
//!
//! Read from Linux's `/proc/meminfo` and the limits of control groups, which containers set. A library for this would change
//! the features of half of all dependencies, for two files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device;
use crate::recipe::DeviceName;

/// The memory that a run on the CPU can use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Of the whole machine, or what the container may use.
    pub total: u64,
    /// What of it nobody uses at the moment; files that are only cached do not count as used.
    pub free: u64,
}

impl Machine {
    /// Measures the memory. `None` where the system does not tell, and for a GPU: its memory is another one.
    pub fn measure(device: DeviceName) -> Option<Self> {
        if !device::is_cpu(device) {
            return None;
        }
        let machine = of_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let folders = group_folders(Path::new("/sys/fs/cgroup"), &groups);
        Some(folders.iter().filter_map(|folder| limit(folder)).fold(machine, Self::within))
    }

    /// The same within the limit of a container.
    fn within(self, limit: Self) -> Self {
        if limit.total >= self.total { self } else { Self { total: limit.total, free: limit.free.min(self.free) } }
    }
}

/// `MemTotal` and `MemAvailable`.
fn of_meminfo(text: &str) -> Option<Machine> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
    };
    Some(Machine { total: value("MemTotal:")?, free: value("MemAvailable:")? })
}

/// The folders whose limits hold for a process with this `/proc/self/cgroup`: its control group and all above it, in
/// version 2 and in version 1. The root is among them: within a container it is the container.
fn group_folders(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut folders = vec![];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => root.to_path_buf(),
            names if names.split(',').any(|name| name == "memory") => root.join("memory"),
            _ => continue,
        };
        let inner = path.trim_start_matches('/');
        let inside = Path::new(inner).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let within = if inside { base.join(inner) } else { base.clone() };
        folders.extend(within.ancestors().take_while(|folder| folder.starts_with(&base)).map(Path::to_path_buf));
    }
    folders
}

/// The limit of a control group, and what its programs leave of it; `None` where it has none.
fn limit(folder: &Path) -> Option<Machine> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let total = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    // What a group uses includes its cached files, so programs are counted alone.
    let text = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let held = text.lines().find_map(|line| line.strip_prefix("anon ").or(line.strip_prefix("total_rss ")))?;
    Some(Machine { total, free: total.saturating_sub(held.trim().parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       64 kB\nMemFree:        1 kB\nMemAvailable:   40 kB\n";

    #[test]
    fn what_is_only_cached_is_free() {
        assert_eq!(of_meminfo(MEMINFO), Some(Machine { total: 65536, free: 40960 }));
        assert_eq!(of_meminfo("MemTotal: 64 kB\n"), None);
        assert_eq!(of_meminfo("MemTotal: x\nMemAvailable: 1 kB\n"), None);
    }

    #[test]
    fn a_container_has_what_its_limit_leaves() {
        let machine = Machine { total: 64, free: 40 };
        assert_eq!(machine.within(Machine { total: 8, free: 5 }), Machine { total: 8, free: 5 });
        assert_eq!(machine.within(Machine { total: 48, free: 45 }), Machine { total: 48, free: 40 });
        assert_eq!(machine.within(Machine { total: u64::MAX, free: 1 }), machine);
    }

    #[test]
    fn the_limits_of_both_versions_of_control_groups_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("slice/memory.max", "1000\n");
        write("slice/memory.stat", "anon 300\nfile 600\n");
        write("slice/unit/memory.max", "max\n");
        write("memory/box/memory.limit_in_bytes", "2000\n");
        write("memory/box/memory.stat", "rss 1\ntotal_rss 500\n");
        let limits = |groups: &str| -> Vec<Machine> {
            group_folders(root.path(), groups).iter().filter_map(|folder| limit(folder)).collect()
        };
        assert_eq!(limits("0::/slice/unit\n"), [Machine { total: 1000, free: 700 }]);
        assert_eq!(limits("4:cpu,memory:/box\n3:pids:/box\n"), [Machine { total: 2000, free: 1500 }]);
        assert!(limits("0::/\n").is_empty() && limits("0::/../slice\n").is_empty() && limits("nonsense").is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_processor_has_memory_and_a_gpu_has_another() {
        let machine = Machine::measure(DeviceName::Cpu).unwrap();
        assert!(machine.free > 0 && machine.free <= machine.total, "{machine:?}");
        assert_eq!(Machine::measure(DeviceName::Cuda { index: 0 }), None);
    }
}
