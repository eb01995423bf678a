//! The running programs of one plane: starts, stops and signals them, waits until each answers, and knows
//! their logs. It speaks to no API beyond health checks.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use parking_lot::Mutex;

use super::{
    Component, Process, Signal, Usage,
    args::{self, Files, Ports},
    config::PlaneConfig,
    dir::PlaneDir,
    http,
    identity::{SigningKey, Tokens, User},
    kubeconfig, kwok,
    ports::Port,
    process::tail,
    wait,
};

/// How long a component may take to answer; 10 s is usual on a busy machine with two cores.
const READY: Duration = Duration::from_secs(90);
/// How long a component may take to end on SIGTERM before it is killed. kube-apiserver would wait a minute for
/// its clients to end their watches; the others end within a second.
const GRACE: Duration = Duration::from_secs(3);

/// The programs of one plane. Fields are dropped in this order: the programs end before their directory goes
/// and before their ports are given back.
#[derive(Debug)]
pub(crate) struct Stack {
    running: Mutex<BTreeMap<Component, Arc<Process>>>,
    config: PlaneConfig,
    programs: PathBuf,
    files: Files,
    ports: Ports,
    dir: PlaneDir,
    _reserved: Vec<Port>,
}

impl Stack {
    /// Makes the directory and all files; starts nothing.
    pub(crate) fn prepare(config: PlaneConfig, programs: PathBuf) -> Result<Self> {
        let root = config.root.clone().unwrap_or_else(std::env::temp_dir);
        super::dir::sweep(&root);
        let dir = PlaneDir::create(&root, &config.name, config.keep)?;
        let reserved = (0..6).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
        let port = |i: usize| reserved[i].number();
        let ports = Ports {
            etcd: port(0),
            etcd_peer: port(1),
            apiserver: port(2),
            scheduler: port(3),
            controller_manager: port(4),
            kwok: port(5),
        };
        let files = Files(dir.path().to_owned());
        write_files(&config, &dir, &files, &ports)?;
        Ok(Self {
            running: Mutex::default(),
            config,
            programs,
            files,
            ports,
            dir,
            _reserved: reserved,
        })
    }

    pub(crate) fn config(&self) -> &PlaneConfig {
        &self.config
    }

    pub(crate) fn dir(&self) -> &PlaneDir {
        &self.dir
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// Starts a component and waits until it answers.
    pub(crate) async fn start(&self, component: Component) -> Result<()> {
        ensure!(
            !self.running.lock().contains_key(&component),
            "{component} is already running"
        );
        let args = args::of(component, &self.config, &self.ports, &self.files);
        let program = self.programs.join(component.program());
        let env = args::env(component);
        let process = Arc::new(Process::start(&program, &args, &env, &self.files.log(component))?);
        self.running.lock().insert(component, process);
        self.ready(component).await
    }

    /// Waits until a running component answers.
    pub(crate) async fn ready(&self, component: Component) -> Result<()> {
        let process = self.process(component)?;
        let (scheme, path) = component.health();
        let server = http::client(scheme, self.ports.of(component))?;
        let what = format!("{component} to be ready");
        let ended = wait::until(READY, &what, async || match process.exited() {
            Some(status) => Ok(Some(status)),
            None => http::get_ok(&server, path).await.map(|_| None),
        });
        match ended.await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(anyhow!("{component} ended: {status}")),
            Err(error) => Err(error),
        }
        .with_context(|| {
            format!(
                "the last lines of its log:\n{}\n{component} did not start",
                process.log_tail(15)
            )
        })
    }

    /// Ends a component: SIGTERM, and SIGKILL if that takes too long.
    pub(crate) async fn stop(&self, component: Component) -> Result<()> {
        let process = self.process(component)?;
        self.running.lock().remove(&component);
        // A frozen process would not see SIGTERM. Errors mean that it has ended already or still runs.
        let _ = process.signal(Signal::Continue);
        let _ = process.terminate(GRACE).await;
        process.kill();
        Ok(())
    }

    /// Sends a signal; SIGKILL also forgets the component, so that it can be started again.
    pub(crate) fn signal(&self, component: Component, signal: Signal) -> Result<()> {
        let process = self.process(component)?;
        if signal == Signal::Kill {
            process.kill();
            self.running.lock().remove(&component);
            return Ok(());
        }
        process.signal(signal)
    }

    pub(crate) fn usage(&self, component: Component) -> Result<Usage> {
        self.process(component)?.usage()
    }

    pub(crate) fn pid(&self, component: Component) -> Result<u32> {
        Ok(self.process(component)?.pid())
    }

    /// The last `lines` lines of every log.
    pub(crate) fn logs_tail(&self, lines: usize) -> String {
        let mut all = String::new();
        for component in Component::ALL {
            let log = tail(&self.files.log(component), lines);
            if !log.is_empty() {
                writeln!(all, "--- {component}\n{log}").expect("a String takes all");
            }
        }
        all
    }

    fn process(&self, component: Component) -> Result<Arc<Process>> {
        match self.running.lock().get(&component) {
            Some(process) => Ok(Arc::clone(process)),
            None => bail!("{component} is not running"),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs_tail(20));
        }
        // Clients before servers, so that no log fills with refused connections.
        let mut running = self.running.lock();
        for component in Component::ALL.into_iter().rev() {
            if let Some(process) = running.remove(&component) {
                process.kill();
            }
        }
    }
}

fn write_files(config: &PlaneConfig, dir: &PlaneDir, files: &Files, ports: &Ports) -> Result<()> {
    let tokens = Tokens::generate()?;
    let key = SigningKey::generate()?;
    let kubeconfig = |user| kubeconfig::render(ports.apiserver, tokens.of(user));
    dir.write("tokens.csv", &tokens.csv())?;
    dir.write("sa.key", &key.private)?;
    dir.write("sa.pub", &key.public)?;
    dir.write("audit-policy.yaml", &args::audit_policy(config))?;
    if config.audit {
        dir.write("audit.jsonl", "")?;
    }
    dir.write("admin.kubeconfig", &kubeconfig(User::Admin))?;
    dir.write(
        "controller-manager.kubeconfig",
        &kubeconfig(User::ControllerManager),
    )?;
    dir.write("scheduler.kubeconfig", &kubeconfig(User::Scheduler))?;
    dir.write("kwok.kubeconfig", &kubeconfig(User::Kwok))?;
    dir.write(
        "scheduler.yaml",
        &args::scheduler_config(config, &files.kubeconfig("scheduler")),
    )?;
    dir.write("kwok.yaml", &kwok::config(config))?;
    Ok(())
}
