//! The commands of the `korder` binary: arguments in, text out.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{
    Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::runtime::{config::Config, run::run};

mod cluster;
pub mod crds;
pub(crate) mod explain;
pub(crate) mod shards;

/// Keeps room free on every eligible node of a large Kubernetes cluster.
#[derive(Parser, Debug)]
#[command(name = "korder", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run one replica of the controller
    Run(Config),
    /// Print the CRDs as YAML
    Crds,
    /// Say why nodes have room for an Order, or why not
    Explain(explain::Request),
    /// List the shards: the replica that owns each, its range of hashes, its Nodes and Tickets
    Shards(shards::Request),
}

/// Format of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// The structure documented in docs/cli.md.
    Json,
    /// Text for people.
    Text,
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
            say(&crds::crds_yaml());
            ExitCode::SUCCESS
        }
        Command::Explain(request) => block_on(explain::explain(request)),
        Command::Shards(request) => block_on(shards::shards(request)),
    }
}

/// Prints to standard output; that nobody reads it any more (`| head`) is no error.
fn say(text: &str) {
    let _heard = io::stdout().write_all(text.as_bytes());
}

/// `--help` and `--version` succeed; everything else is a configuration error, in one line.
fn usage(error: &clap::Error) -> ExitCode {
    let help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if help || !error.use_stderr() {
        // Nothing can be done if the text cannot be printed.
        let _printed = error.print();
    } else {
        let (told, source) = (refusal(&error.to_string()), variable(error));
        let source = source.map_or(String::new(), |name| format!("{name}: "));
        eprintln!("korder: {source}{told}");
    }
    ExitCode::from(u8::from(error.use_stderr()))
}

/// The environment variable that gave the value which clap refuses as that of a flag.
fn variable(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.split_whitespace().next()?;
    let typed = |word: String| word.split('=').next() == Some(flag);
    let name = format!(
        "KORDER_{}",
        flag.strip_prefix("--")?.to_uppercase().replace('-', "_")
    );
    (std::env::var_os(&name).is_some() && !std::env::args().any(typed)).then_some(name)
}

/// Clap's first paragraph and its tips in one line, without the usage.
fn refusal(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let told = |paragraph: &&str| !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more");
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs = text.split("\n\n").filter(told).map(one_line);
    format!("{}; see --help", paragraphs.collect::<Vec<_>>().join("; "))
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
