//! FFmpeg's program, which makes media for tests.

use std::process::Command;

/// Runs it.
pub fn ffmpeg(args: &[&str]) {
    let made = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).status().unwrap();
    assert!(made.success(), "{args:?}");
}
