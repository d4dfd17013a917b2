//! The adapter that tests of wgpu run on.

/// Whether there is one; says that the test is skipped where there is none.
pub fn adapter() -> bool {
    match framemill::backend::wgpu::adapter::choose(None, true) {
        Ok(_) => true,
        Err(e) if std::env::var("FRAMEMILL_REQUIRE_GPU").is_ok_and(|v| v == "1") => panic!("{e}"),
        Err(e) => {
            println!("skipped: {e}");
            false
        }
    }
}
