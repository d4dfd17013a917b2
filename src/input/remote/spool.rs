//! Files without a name, in the folder for temporary ones: for videos of servers that give no parts, and for lists.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use super::http::{Asked, Stop, too_large};
use super::room::Taken;
use super::{Expected, Life, Opened, Remote, window};
use crate::bytes::{ByteSource, FileSource};
use crate::error::{Error, Result};

/// Bytes of a list that are fetched at a time.
const PIECE: usize = 1 << 20;

/// A new file that vanishes with its last handle.
fn nameless() -> Result<File> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = format!(".framemill-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let failed = |e| crate::store::failed("create", &path, &e);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

fn unwritten(uri: &str, error: &std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::store(format!("{uri} could not be written to {}: {error}; free some space or set TMPDIR", folder.display()))
}

/// Writes an answer to a file: its head, which was read already, and what follows. Up to `limit` bytes, and as many as `place`
/// has.
pub(super) async fn stream(
    uri: &str,
    head: &[u8],
    asked: &mut Asked,
    limit: u64,
    place: &Taken,
) -> Result<(FileSource, u64), Stop> {
    let mut file = nameless().map_err(Stop::Final)?;
    let mut len = head.len() as u64;
    let write = |file: &mut File, bytes: &[u8]| file.write_all(bytes).map_err(|e| Stop::Final(unwritten(uri, &e)));
    write(&mut file, head)?;
    while let Some(chunk) = asked.chunk().await? {
        len += chunk.len() as u64;
        too_large(uri, len, limit)?;
        place.holds(uri, len).map_err(Stop::Final)?;
        write(&mut file, &chunk)?;
    }
    let source = FileSource::new(file).map_err(|e| Stop::Final(unwritten(uri, &e)))?;
    Ok((source, len))
}

/// Writes what `uri` names to a file, for readers of lists.
pub(super) fn whole(remote: &Remote, uri: &str) -> Result<File> {
    let opened: Opened = remote.wait(remote.begin(uri, Expected::default())?, &Life::default())?;
    let shown = opened.uri.clone();
    let source = window::RemoteSource::new(opened, 32 << 20, Life::default());
    let mut file = nameless()?;
    let (mut at, mut buffer) = (0, vec![0; PIECE]);
    loop {
        let read = source.read_at(at, &mut buffer);
        let n = read.map_err(|e| source.failure().unwrap_or_else(|| Error::store(format!("{shown}: {e}"))))?;
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).map_err(|e| unwritten(&shown, &e))?;
        at += n as u64;
    }
    file.rewind().map_err(|e| unwritten(&shown, &e))?;
    Ok(file)
}
