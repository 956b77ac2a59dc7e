//! Child processes: started, measured, asked to end, killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};

use crate::load::wall_us;

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts `program`; its standard error goes to `logs/<name>.log`.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let log: PathBuf = logs.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let pid = child.id().context("the process has no id")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            pid,
        })
    }

    /// Its process id.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGSTOP: frozen until [`Process::go_on`].
    pub(crate) fn freeze(&self) -> anyhow::Result<()> {
        signal(self.pid, libc::SIGSTOP)
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        signal(self.pid, libc::SIGCONT)
    }

    /// User and system time so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        cpu_us(self.pid).unwrap_or(0)
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM, and the time until it has ended.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<Duration> {
        let begun = std::time::Instant::now();
        signal(self.pid, libc::SIGTERM)?;
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let status = ended.with_context(|| format!("{} does not end", self.name))??;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(begun.elapsed())
    }

    /// SIGKILL. Gives the wall clock in microseconds when the signal had been sent: it does nothing
    /// any more.
    pub(crate) async fn kill(mut self) -> anyhow::Result<u64> {
        signal(self.pid, libc::SIGKILL)?;
        let at_us = wall_us();
        self.child.wait().await?;
        Ok(at_us)
    }
}

#[expect(unsafe_code, reason = "sending a signal to our own child")]
fn signal(pid: u32, number: i32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid)?;
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let sent = unsafe { libc::kill(pid, number) };
    anyhow::ensure!(
        sent == 0,
        "signal {number} to {pid}: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// Copies the logs and settings in a folder to where they outlive it; gives the place.
pub(crate) fn keep_logs(folder: &Path, scenario: &str) -> anyhow::Result<PathBuf> {
    let kept = std::env::temp_dir()
        .join("bongsu-broken")
        .join(format!("{scenario}-{}", wall_us()));
    std::fs::create_dir_all(&kept)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "log" || e == "toml")
            && let Some(name) = path.file_name()
        {
            std::fs::copy(&path, kept.join(name))?;
        }
    }
    Ok(kept)
}

/// Memory of a process, KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `VmRSS`: now.
    pub(crate) rss_kib: u64,
    /// `VmHWM`: the most it ever was.
    pub(crate) peak_kib: u64,
}

/// The memory of a process; `None` when it is gone.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Memory {
        rss_kib: field("VmRSS:")?,
        peak_kib: field("VmHWM:")?,
    })
}

/// User and system time of this process so far, in microseconds.
pub(crate) fn own_cpu_us() -> u64 {
    ticks("self", 11).unwrap_or(0)
}

/// The same of all children that have ended.
pub(crate) fn children_cpu_us() -> u64 {
    ticks("self", 13).unwrap_or(0)
}

/// User and system time of a process so far, in microseconds.
pub(crate) fn cpu_us(pid: u32) -> Option<u64> {
    ticks(&pid.to_string(), 11)
}

/// Two neighbouring times of a process in microseconds: 11 after the name are user and system time,
/// 13 those of children that have ended.
fn ticks(process: &str, skip: usize) -> Option<u64> {
    const MICROS_PER_TICK: u64 = 10_000;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name is in parentheses and may hold spaces; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(skip);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * MICROS_PER_TICK)
}
