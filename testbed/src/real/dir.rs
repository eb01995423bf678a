//! The directory of one plane: made empty, locked while its plane lives, removed afterwards. Directories that
//! a killed harness left behind are removed by the next one, which can tell by the free lock.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

const PREFIX: &str = "korder-testbed-";
const LOCK: &str = "lock";
const KEEP: &str = "keep";

/// A plane's directory.
#[derive(Debug)]
pub(crate) struct PlaneDir {
    path: PathBuf,
    keep: bool,
    _lock: File,
}

impl PlaneDir {
    /// Makes `korder-testbed-NAME-PID-N` under `root`.
    pub(crate) fn create(root: &Path, name: &str, keep: bool) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{PREFIX}{name}-{}-{n}", process::id()));
        Self::create_at(&path, keep).with_context(|| format!("cannot make {}", path.display()))
    }

    fn create_at(path: &Path, keep: bool) -> io::Result<Self> {
        // Locked before it has its name, so that no sweep sees it unlocked.
        let new = path.with_extension("new");
        for old in [&new, path] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::create_dir_all(&new)?;
        let lock = File::create(new.join(LOCK))?;
        lock.lock()?;
        if keep {
            File::create(new.join(KEEP))?;
        }
        fs::rename(&new, path)?;
        Ok(Self {
            path: path.to_owned(),
            keep,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and gives its path. Who reads it meanwhile sees all of the old or all of the new.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let path = self.path.join(name);
        let new = self
            .path
            .join(format!("{name}.{}", WRITTEN.fetch_add(1, Ordering::Relaxed)));
        let written = fs::write(&new, content).and_then(|()| fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for PlaneDir {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("testbed: kept {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("testbed: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what killed harnesses left under `root`; never a kept directory.
pub(crate) fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if ours && !path.join(KEEP).exists() && abandoned(&path) {
            // Another harness may sweep at the same time; what is left is for the next.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn abandoned(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_removes_only_directories_whose_owner_is_gone() {
        let root = std::env::temp_dir().join(format!("korder-sweep-{}", process::id()));
        fs::create_dir_all(&root).unwrap();
        let alive = PlaneDir::create(&root, "alive", false).unwrap();
        let dead = root.join("korder-testbed-dead-1-0");
        let kept = root.join("korder-testbed-kept-1-0");
        for dir in [&dead, &kept] {
            fs::create_dir_all(dir).unwrap();
            File::create(dir.join(LOCK)).unwrap();
        }
        File::create(kept.join(KEEP)).unwrap();

        sweep(&root);

        assert!(alive.path().exists() && kept.exists() && !dead.exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
