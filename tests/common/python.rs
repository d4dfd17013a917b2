//! Python with the outside references.

use std::path::PathBuf;

/// The Python to use; says that the test is skipped where there is none.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("FRAMEMILL_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: FRAMEMILL_PYTHON names no Python with the reference libraries (scripts/test.sh makes one)");
    }
    python
}
