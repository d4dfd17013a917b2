//! Room on disk for inputs that have to be whole there, since their servers give no parts (`--scratch-limit`).
//!
//! Invariant: who takes room takes at once all that it will need, or all that there is where that is not known, and only for an
//! input that somebody waits for; so of those who have room, each can be read to its end, and nobody waits for ever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, RejectKind, Result};
use crate::job::values::ByteSize;

/// Room is counted in blocks of so many bytes.
const BLOCK: u64 = 64 << 10;

/// All that there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Option<Limit>);

#[derive(Debug, Clone)]
struct Limit {
    bytes: u64,
    blocks: u32,
    free: Arc<Semaphore>,
}

/// What one input has of it, until the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// Bytes that it may have, at most; `None` for as many as it likes.
    limit: Option<u64>,
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl Taken {
    /// Refuses an input that turns out to be larger than all the room.
    pub fn holds(&self, uri: &str, bytes: u64) -> Result<()> {
        self.limit.map_or(Ok(()), |limit| fits(uri, bytes, limit))
    }
}

/// Refuses what can never have room.
fn fits(uri: &str, bytes: u64, limit: u64) -> Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    let text = format!(
        "{uri}: its server gives no parts of it, so all of it would have to be on disk, {} or more, and --scratch-limit is {}: \
         raise that, or bring the file to a disk or a bucket first, then retry",
        ByteSize(bytes),
        ByteSize(limit)
    );
    Err(Error::input(RejectKind::TooLarge, text))
}

impl Room {
    /// Room for `limit` bytes; without one, for all that come.
    pub fn new(limit: Option<u64>) -> Room {
        Room(limit.map(|bytes| {
            let blocks = u32::try_from(bytes / BLOCK).unwrap_or(u32::MAX).max(1);
            Limit { bytes, blocks, free: Arc::new(Semaphore::new(blocks as usize)) }
        }))
    }

    /// Room for anything, where there is no limit.
    pub fn free(&self) -> Option<Taken> {
        self.0.is_none().then(Taken::default)
    }

    /// Waits for room for `uri`, which has so many bytes, if that is known.
    ///
    /// # Errors
    /// Input, too large, where it never fits.
    pub async fn take(&self, uri: &str, bytes: Option<u64>) -> Result<Taken> {
        let Some(Limit { bytes: limit, blocks, free }) = &self.0 else { return Ok(Taken::default()) };
        fits(uri, bytes.unwrap_or(0), *limit)?;
        let need = bytes.map_or(*blocks, |bytes| u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(*blocks).min(*blocks));
        let permit = free.clone().acquire_many_owned(need).await;
        let permit = permit.map_err(|e| Error::bug(format!("room on disk for {uri}: {e}")))?;
        Ok(Taken { limit: Some(*limit), _permit: Some(Arc::new(permit)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cloud;
    use std::time::Duration;

    #[test]
    fn who_takes_room_has_it_until_it_is_dropped_and_others_wait() {
        let room = Room::new(Some(4 * BLOCK));
        let take = |bytes| cloud::wait(room.take("http://h/v", bytes)).unwrap();
        let soon =
            |bytes| cloud::wait(async { tokio::time::timeout(Duration::from_millis(50), room.take("x", bytes)).await });
        let first = take(Some(2 * BLOCK + 1));
        let other = first.clone();
        drop(first);
        assert!(soon(Some(2 * BLOCK)).is_err(), "the first has three of four blocks");
        assert!(soon(None).is_err(), "of unknown size: all or nothing");
        drop(take(Some(BLOCK)));
        drop(other);
        let all = take(None);
        assert!(soon(Some(1)).is_err());
        assert!(all.holds("x", 4 * BLOCK).is_ok());
        let error = all.holds("http://h/v", 4 * BLOCK + 1).unwrap_err();
        assert_eq!(error.reject, Some(RejectKind::TooLarge));
        drop(all);
        let error = soon(Some(5 * BLOCK)).unwrap().unwrap_err();
        assert!(error.message.contains("--scratch-limit"), "{error}");
        assert!(room.free().is_none() && Room::default().free().is_some_and(|free| free.holds("x", u64::MAX).is_ok()));
    }
}
