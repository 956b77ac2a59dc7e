//! A disk that can be filled: a memory file system of its own under Kafka's data.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Its size. Three brokers with their logs preallocate nothing; this holds a few million records.
const SIZE: &str = "size=1g";
/// Bytes of each write that fills it.
const CHUNK: usize = 1024 * 1024;

/// A mounted disk; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts it on a directory that it makes.
    ///
    /// # Errors
    /// When this process may not mount: it needs root.
    pub(crate) fn mount(place: &Path) -> anyhow::Result<Self> {
        fs::create_dir(place)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(place)
            .output()
            .context("mount")?;
        anyhow::ensure!(
            mounted.status.success(),
            "a disk that can be filled needs root: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Ok(Self {
            place: place.to_owned(),
        })
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }

    /// Fills it to its last byte.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.filler())?;
        let mut chunk = vec![0x5a; CHUNK];
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.place).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.place.display());
        }
    }
}
