//! The commands of the `korder` binary: arguments in, text out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::runtime::{config::Config, run::run};

pub mod crds;

/// Keeps room free on every eligible node of very large Kubernetes clusters.
#[derive(Parser, Debug)]
#[command(name = "korder", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the controller
    Run(Config),
    /// Print the CRDs as YAML
    Crds,
}

/// Parses the arguments and carries out the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Run(config) => block_on(run(config)),
        Command::Crds => {
            print!("{}", crds::crds_yaml());
            ExitCode::SUCCESS
        }
    }
}

/// `--help` and `--version` succeed; everything else is a configuration error.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done if the text cannot be printed.
    let _printed = error.print();
    ExitCode::from(u8::from(error.use_stderr()))
}

fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    runtime
        .expect("the operating system can start threads")
        .block_on(command)
}

/// Threads: enough for the watch decoding and the shards to run beside the writes.
const WORKERS: usize = 2;
