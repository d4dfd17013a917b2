//! Media from outside the project, and how much of it is tried.

use std::path::PathBuf;

/// The folder of test media; says that the test is skipped where there is none.
pub fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("FRAMEMILL_TEST_MEDIA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: FRAMEMILL_TEST_MEDIA names no folder with test media");
    }
    folder
}

/// Whether the long tests were asked for.
pub fn full() -> bool {
    std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1")
}
