//! What the machine can do by itself: copy in memory, write to the scratch folder.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::result::Told;

/// Bytes of each thread's buffer: more than its share of any cache.
const BUFFER: usize = 32 << 20;
/// Bytes that are written at once.
const CHUNK: usize = 4 << 20;

/// Bytes a second that copies read and write, by `threads` threads at once, in about `time`.
pub fn memory(threads: usize, time: Duration) -> Told<f64> {
    let begun = Instant::now();
    let moved: u64 = std::thread::scope(|scope| {
        let copy = || {
            let from = vec![1u8; BUFFER];
            let mut to = vec![0u8; BUFFER];
            let (mut moved, begun) = (0u64, Instant::now());
            while begun.elapsed() < time {
                to.copy_from_slice(std::hint::black_box(&from));
                std::hint::black_box(&to);
                moved += 2 * BUFFER as u64;
            }
            (moved as f64 / begun.elapsed().as_secs_f64()) as u64
        };
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(copy)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or(0)).sum()
    });
    match moved {
        0 => Told::not(format!("nothing was copied in {:.1} s", begun.elapsed().as_secs_f64())),
        rate => Told::is(rate as f64),
    }
}

/// Bytes a second that `folder` takes until they are on the disk, for a file of `bytes`.
pub fn disk(folder: &Path, bytes: u64) -> Told<f64> {
    let path = folder.join(".framemill-bench-disk");
    let write = || {
        // Nothing that a file system could leave out or shrink.
        let mut noise = 0x9e37_79b9_7f4a_7c15u64;
        let chunk: Vec<u8> = (0..CHUNK / 8)
            .flat_map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()
            })
            .collect();
        let begun = Instant::now();
        let mut file = File::create(&path)?;
        for _ in 0..bytes.div_ceil(CHUNK as u64) {
            file.write_all(&chunk)?;
        }
        file.sync_all()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let result: std::io::Result<f64> = write();
    // What cannot be removed was never made.
    let _ = std::fs::remove_file(&path);
    match result {
        Ok(seconds) => Told::is(bytes.next_multiple_of(CHUNK as u64) as f64 / seconds.max(1e-9)),
        Err(e) => Told::not(format!("{}: {e}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_measured_and_nothing_stays() {
        assert!(memory(2, Duration::from_millis(50)).value > Some(1e6));
        let dir = tempfile::tempdir().unwrap();
        assert!(disk(dir.path(), 1 << 20).value > Some(1e3));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = disk(&dir.path().join("none"), 1 << 20);
        assert!(nowhere.value.is_none() && nowhere.why.is_some_and(|w| w.contains("none")));
    }
}
