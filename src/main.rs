//! korder: see the library crate.

fn main() {
    if std::env::args().nth(1).as_deref() == Some("crds") {
        print!("{}", korder::cli::crds::crds_yaml());
    }
}
