//! The memory of this machine: how much a run can have, and turns for those that need much of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::Lab;
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// How often somebody who waits for memory is asked whether it still wants to.
const LISTEN: Duration = Duration::from_millis(200);

/// What the calls that are working need, by key.
pub(super) struct Ledger {
    /// What a run may have, where the project says so.
    limit: Option<u64>,
    taken: Mutex<Vec<(Digest, u64)>>,
    returned: Condvar,
}

impl Ledger {
    pub(super) fn new(gigabytes: Option<f64>) -> Self {
        let limit = gigabytes.map(|gigabytes| (gigabytes * 1e9) as u64);
        Ledger { limit, taken: Mutex::default(), returned: Condvar::new() }
    }

    /// Bytes that this process can have, with those that it has; nothing where nobody can tell.
    fn available(&self) -> Option<u64> {
        [self.limit, of_machine(Path::new("/"))].into_iter().flatten().min()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Digest, u64)>> {
        self.taken.lock().expect("no panic while holding the ledger")
    }
}

/// Memory that a call may use until this is dropped.
pub struct MemoryTurn<'l> {
    lab: &'l Lab,
    key: Digest,
}

impl Drop for MemoryTurn<'_> {
    fn drop(&mut self) {
        let ledger = &self.lab.inner.memory;
        ledger.lock().retain(|(key, _)| *key != self.key);
        ledger.returned.notify_all();
    }
}

impl Lab {
    /// Waits until a call that needs this much can work beside the others that do; `what` is what errors call it.
    ///
    /// # Errors
    /// It would not fit even alone, or somebody asked to stop.
    pub fn take_memory(&self, key: Digest, bytes: u64, what: &str) -> Result<MemoryTurn<'_>> {
        self.check_memory(bytes, what)?;
        let ledger = &self.inner.memory;
        let mut taken = ledger.lock();
        loop {
            let others: u64 = taken.iter().map(|(_, bytes)| bytes).sum();
            let fits = ledger.available().is_none_or(|available| others.saturating_add(bytes) <= available);
            if taken.is_empty() || fits {
                taken.push((key, bytes));
                return Ok(MemoryTurn { lab: self, key });
            }
            self.note_once(format!("{what} waits until there is memory for it"));
            taken = ledger.returned.wait_timeout(taken, LISTEN).expect("no panic while holding the ledger").0;
            self.check_call(key)?;
        }
    }

    /// Refuses what this process cannot have the memory for.
    ///
    /// # Errors
    /// More than the machine, or the limits of this process, have.
    pub fn check_memory(&self, bytes: u64, what: &str) -> Result<()> {
        match self.inner.memory.available() {
            Some(available) if bytes > available => Err(Error::environment(format!(
                "{what} needs at least {} of memory, and {} can be had",
                gigabytes(bytes),
                gigabytes(available)
            ))),
            _ => Ok(()),
        }
    }
}

/// Bytes as people say them.
pub fn gigabytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.0} MB", (bytes / 1e6).ceil()),
    }
}

/// Bytes that this process could have: its own, and what the machine, its control groups and its address space have
/// left. What could be freed counts as free: something that fits must never be refused.
fn of_machine(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let (status, meminfo) = (read("proc/self/status")?, read("proc/meminfo")?);
    let own = 1024 * (field(&status, "RssAnon:")? + field(&status, "VmSwap:").unwrap_or(0));
    let (free, swap) = (1024 * field(&meminfo, "MemAvailable:")?, 1024 * field(&meminfo, "SwapFree:").unwrap_or(0));
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let in_groups = groups.lines().filter_map(|line| left_in_group(root, line)).min();
    let left = [Some(free), in_groups].into_iter().flatten().min()?.saturating_add(swap);
    let limits = read("proc/self/limits").unwrap_or_default();
    let address_space = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let address_space = address_space.and_then(|limit| limit.split_whitespace().next()?.parse().ok());
    [Some(own.saturating_add(left)), address_space].into_iter().flatten().min()
}

/// What a line of `/proc/self/cgroup` and the groups above leave: version 2, or the memory controller of version 1.
fn left_in_group(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (mount, most, used) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    let own: PathBuf = mount.join(path.trim_start_matches('/'));
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        let (most, used) = (number(group.join(most))?, number(group.join(used))?);
        // The kernel gives back what it keeps of files before it kills anybody.
        let kept = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let names = ["inactive_file", "active_file", "slab_reclaimable"];
        let kept =
            names.iter().filter_map(|name| field(&kept, &format!("total_{name}")).or_else(|| field(&kept, name)));
        Some(most.saturating_sub(used).saturating_add(kept.sum()))
    };
    own.ancestors().take_while(|group| group.starts_with(&mount)).filter_map(left).min()
}

/// The number behind a name, in a file of names and numbers.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    words.find_map(|mut line| (line.next()? == name).then(|| line.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these files below its root.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let usual = [
            ("proc/self/status", "Name:\tdrylab\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\n"),
            ("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 5 kB\nMemAvailable:  1000 kB\nSwapFree: 50 kB\n"),
        ];
        for (name, text) in usual.iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn what_a_process_can_have_is_the_least_of_all_limits() {
        let kilobytes = |files: &[(&str, &str)]| of_machine(machine(files).path()).map(|bytes| bytes / 1024);
        assert_eq!(kilobytes(&[]), Some(1150));
        assert_eq!(kilobytes(&[("proc/meminfo", "MemTotal: 9000 kB\n")]), None);
        let group = ("proc/self/cgroup", "0::/slurm/job\n");
        let most = ("sys/fs/cgroup/slurm/memory.max", "524288\n");
        let used = ("sys/fs/cgroup/slurm/memory.current", "417792\n");
        let stat = ("sys/fs/cgroup/slurm/memory.stat", "anon 1\ninactive_file 10240\nactive_file 10240\n");
        let unlimited = ("sys/fs/cgroup/slurm/job/memory.max", "max\n");
        // 512 less 408, and 20 of files that can be dropped.
        assert_eq!(kilobytes(&[group, most, used, stat, unlimited]), Some(100 + 104 + 20 + 50));
        let old = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "307200\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "204800\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 1024\n"),
        ];
        assert_eq!(kilobytes(&old), Some(100 + 100 + 1 + 50));
        let space = "Limit   Soft Limit   Hard Limit  Units\nMax address space         204800      unlimited   bytes\n";
        assert_eq!(kilobytes(&[("proc/self/limits", space)]), Some(200));
        let unlimited = space.replace("204800", "unlimited");
        assert_eq!(kilobytes(&[("proc/self/limits", &unlimited)]), Some(1150));
    }

    #[test]
    fn this_machine_can_tell() {
        assert!(of_machine(Path::new("/")).is_some_and(|bytes| bytes > 50_000_000));
    }
}
