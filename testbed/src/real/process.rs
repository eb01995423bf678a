//! Child processes that cannot outlive the harness, whatever ends it: each is killed by the kernel when the
//! thread that spawned it ends, so all are spawned by one thread that lives as long as this process, and each
//! is killed when its `Process` is dropped. A terminal's Ctrl-C reaches only the harness: every child has a
//! process group of its own. Output goes to a file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process as sys;

use super::{usage::Usage, wait};

/// A signal that a test may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: asks for a clean end.
    Terminate,
    /// SIGKILL: ends it at once.
    Kill,
    /// SIGSTOP: freezes it.
    Stop,
    /// SIGCONT: lets it go on.
    Continue,
}

impl From<Signal> for sys::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Terminate => Self::TERM,
            Signal::Kill => Self::KILL,
            Signal::Stop => Self::STOP,
            Signal::Continue => Self::CONT,
        }
    }
}

/// A running child; dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `program`; standard output and error are appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started or the log not opened.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)], log: &Path) -> Result<Self> {
        let name = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("cannot open the log {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        let child = spawn(command).with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self {
            name,
            pid: child.id(),
            log: log.to_owned(),
            child: Mutex::new(child),
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that standard output and error go to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().ok().flatten()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended; a reused process id is never signalled.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock();
        if let Some(status) = child.try_wait()? {
            bail!("{} has already ended: {status}", self.name);
        }
        let pid = sys::Pid::from_child(&child);
        sys::kill_process(pid, signal.into()).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        wait::until(deadline, &format!("{} to end", self.name), async || self.exited()).await
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it has already ended, or still runs after `deadline`.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait_exit(deadline).await
    }

    /// SIGKILL, and waits for the end, which the kernel brings about at once.
    pub fn kill(&self) {
        let mut child = self.child.lock();
        // Both fail only for a child that has already been waited for.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Memory and processor time.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid).with_context(|| self.name.clone())
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a file, from its last 256 KiB.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(file)?;
        let start = fs::File::metadata(&file)?.len().saturating_sub(256 * 1024);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What the spawning thread is asked to do.
struct Request {
    command: Command,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

/// Spawns on the one thread that lives as long as this process: the parent-death signal is sent when the
/// spawning *thread* ends, and threads of a runtime may end early.
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, queue) = mpsc::channel::<Request>();
        let serve = move || {
            for Request { mut command, reply } in queue {
                // The asker waits below; it cannot be gone.
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(serve)
            .expect("a thread can be started");
        requests
    });
    die_with_parent(&mut command);
    let (reply, answer) = mpsc::sync_channel(1);
    spawner
        .send(Request { command, reply })
        .expect("the spawner thread never ends");
    answer.recv().expect("the spawner thread answers every request")
}

#[allow(
    unsafe_code,
    reason = "only code in the child, before exec, can ask for the parent-death signal"
)]
fn die_with_parent(command: &mut Command) {
    let parent = sys::getpid();
    let prepare = move || {
        sys::set_parent_process_death_signal(Some(sys::Signal::KILL))?;
        // The parent may have died before the line above took effect.
        if sys::getppid() != Some(parent) {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls; it does not allocate or lock.
    unsafe { command.pre_exec(prepare) };
}
