//! The `framemill` program. Everything is in the library; this file only starts it.

fn main() {
    eprintln!("framemill: the commands are not built yet; see CHANGELOG.md");
    std::process::exit(70);
}
