//! The `framemill` program. Everything is in the library; this file only starts it.

fn main() -> std::process::ExitCode {
    framemill::cli::main()
}
