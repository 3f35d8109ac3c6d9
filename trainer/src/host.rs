//! What is known of this machine: processor, threads, memory, and the memory that this process holds.
//!
//! Read from Linux' `/proc`; what another system does not tell in a file is absent.

use std::{fmt, fs};

use firebrand_kernels::InstructionSet;
use serde::{Deserialize, Serialize};

/// The machine of a run, as `run.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The processor's name.
    pub processor: Option<String>,
    /// The vector instructions that are used, by their name in `FIREBRAND_CPU`.
    pub instructions: Option<String>,
    /// Threads that compute.
    pub threads: usize,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Operating system and architecture, such as `linux x86_64`.
    pub system: String,
}

impl Host {
    /// This machine.
    pub fn here() -> Self {
        Self {
            processor: processor(),
            instructions: InstructionSet::chosen().ok().map(|set| set.name().to_string()),
            threads: rayon::current_num_threads(),
            memory: bytes_in("/proc/meminfo", "MemTotal:"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("an unnamed processor");
        write!(f, "{processor}, ")?;
        if let Some(instructions) = &self.instructions {
            write!(f, "{instructions}, ")?;
        }
        write!(f, "{} threads", self.threads)?;
        match self.memory {
            Some(bytes) => write!(f, ", {:.1} GiB of memory", bytes as f64 / f64::from(1 << 30)),
            None => Ok(()),
        }
    }
}

/// The most memory that this process has held so far, in bytes.
pub fn peak_memory() -> Option<u64> {
    bytes_in("/proc/self/status", "VmHWM:")
}

/// The memory that this process holds, in bytes.
pub fn held_memory() -> Option<u64> {
    bytes_in("/proc/self/status", "VmRSS:")
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    // x86 says `model name`; ARM has no line for it on many systems.
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("Hardware"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string()).filter(|name| !name.is_empty())
}

/// The number in KiB behind `name` in a file of `/proc`, in bytes.
fn bytes_in(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_large_it_is() {
        let host = Host::here();
        assert!(host.threads > 0);
        assert!(host.memory.unwrap() > peak_memory().unwrap());
        // In this order: other tests take memory meanwhile.
        let held = held_memory().unwrap();
        assert!(peak_memory().unwrap() >= held && held > 1 << 20, "{held}");
        assert!(host.system.starts_with("linux "), "{}", host.system);
    }
}
