//! korder: see the library crate.

fn main() -> std::process::ExitCode {
    korder::cli::main()
}
