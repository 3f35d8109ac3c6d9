//! The memory of this machine: [`Machine`].
//!
//! Read from Linux's `/proc/meminfo` and the limits of control groups, which containers set. A library for this would change
//! the features of half of all dependencies, for two files. `FIREBRAND_MEMORY` names less, for a machine that is shared.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device;
use crate::error::Error;
use crate::host::held_memory;
use crate::recipe::DeviceName;

/// Names the most memory that a run plans with.
const VARIABLE: &str = "FIREBRAND_MEMORY";

/// The memory that a run on the CPU can use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Of the whole machine, or what the container may use.
    pub total: u64,
    /// What of it nobody uses at the moment, or this process does; files that are only cached do not count as used.
    pub free: u64,
}

impl Machine {
    /// Measures the memory. `None` where neither the system nor `FIREBRAND_MEMORY` tells, and for a GPU: its memory is
    /// another one.
    ///
    /// # Errors
    /// `FIREBRAND_MEMORY` is no amount of memory.
    pub fn measure(device: &DeviceName) -> Result<Option<Self>, Error> {
        let named = std::env::var_os(VARIABLE).filter(|text| !text.is_empty());
        let named = named.map(|text| named_limit(&text.to_string_lossy())).transpose()?;
        if !device::is_cpu(device) {
            return Ok(None);
        }
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_meminfo(&text));
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let folders = group_folders(Path::new("/sys/fs/cgroup"), &groups);
        let held = held_memory().unwrap_or(0);
        let with_own = |machine: Self| Self { free: (machine.free + held).min(machine.total), ..machine };
        let machine =
            machine.map(|machine| folders.iter().filter_map(|folder| limit(folder)).fold(machine, Self::within));
        let limits = machine.map(with_own).into_iter().chain(named);
        Ok(limits.reduce(Self::within))
    }

    /// What an estimate may fill: the rest of what is free is for the 15 % by which it can be wrong.
    pub fn room(self) -> u64 {
        self.free / 20 * 17
    }

    /// The same within the limit of a container.
    fn within(self, limit: Self) -> Self {
        if limit.total >= self.total { self } else { Self { total: limit.total, free: limit.free.min(self.free) } }
    }
}

/// The limit that `FIREBRAND_MEMORY` names: a number and its unit.
fn named_limit(text: &str) -> Result<Machine, Error> {
    let parts = text.trim().find(|letter: char| letter.is_ascii_alphabetic()).map(|at| text.trim().split_at(at));
    let bytes = parts.and_then(|(number, unit)| {
        let factor = match unit {
            "KiB" => 1_u64 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0)?;
        Some((number * factor as f64) as u64)
    });
    bytes.map(|bytes| Machine { total: bytes, free: bytes }).ok_or_else(|| Error::Request {
        problem: format!(
            "{VARIABLE} is {text:?}, and an amount of memory is a number above 0 with KiB, MiB, GiB or TiB"
        ),
        help: format!("write for example {VARIABLE}=6GiB, or unset it, and what is free is taken"),
    })
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
        let machine = Machine::measure(&DeviceName::Cpu).unwrap().unwrap();
        assert!(machine.room() > 0 && machine.room() < machine.free && machine.free <= machine.total, "{machine:?}");
        assert_eq!(Machine::measure(&DeviceName::Cuda { index: 0 }).unwrap(), None);
    }

    #[test]
    fn less_memory_can_be_named() {
        let limit = |text: &str| named_limit(text).map(|machine| machine.total).ok();
        assert_eq!(limit("6GiB"), Some(6 << 30));
        assert_eq!(limit(" 1.5 MiB "), Some(3 << 19));
        for wrong in ["6", "6GB", "GiB", "-1GiB", "0MiB", "infGiB", "1e999GiB", "six GiB"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
