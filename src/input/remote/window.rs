//! [`RemoteSource`]: bytes of a remote object, as a decoder asks for them.
//!
//! Decoders read mostly in order, in small pieces, from one place or a few (a head, an index at the end, two streams
//! that lie apart). So what is fetched is kept as stretches; whoever goes on where a stretch ends gets twice as much
//! each time, and the next stretch is fetched while this one is read. The stretches that were used least recently go.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{Fetch, Life, Opened, Rest, waiting};
use crate::bytes::ByteSource;
use crate::error::{Error, RejectKind, Result};
use crate::store::cloud;

/// What a jump fetches.
const FIRST: u64 = 256 << 10;
/// What reading in order fetches at a time, at most.
const LARGEST: u64 = 8 << 20;
/// Who has read so much in order will go on.
const STEADY: u64 = 1 << 20;
/// Stretches on their way at a time: a decoder may read two streams that lie apart.
const COMING: usize = 2;
/// After so many reads of others nobody waits for a stretch any more.
const STALE: u64 = 64;

/// Bytes that were fetched together.
struct Stretch {
    at: u64,
    data: Bytes,
    /// What was fetched, or would have been where the object was longer.
    window: u64,
    used: u64,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.at + self.data.len() as u64
    }
    fn holds(&self, offset: u64) -> bool {
        (self.at..self.end()).contains(&offset)
    }
}

/// The next stretch, on its way.
struct Coming {
    range: Range<u64>,
    window: u64,
    asked: u64,
    task: JoinHandle<Result<Bytes>>,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct State {
    stretches: Vec<Stretch>,
    coming: Vec<Coming>,
    clock: u64,
    failure: Option<Error>,
}

/// A remote object, open for reading.
pub(super) struct RemoteSource {
    uri: String,
    len: u64,
    etag: Option<String>,
    rest: Rest,
    /// Bytes that are held at most, beside the head.
    held: u64,
    head: Bytes,
    life: Life,
    state: Mutex<State>,
}

impl RemoteSource {
    pub fn new(opened: Opened, held: usize, life: Life) -> Self {
        let Opened { uri, len, etag, head, rest } = opened;
        let first = Stretch { at: 0, data: head.clone(), window: FIRST, used: 0 };
        let state = Mutex::new(State { stretches: vec![first], ..State::default() });
        RemoteSource { uri, len, etag, rest, held: held as u64, head, life, state }
    }

    /// At most this much is fetched at once, so that several fit beside each other.
    fn largest(&self) -> u64 {
        (self.held / 4).clamp(FIRST, LARGEST)
    }

    fn read(&self, fetch: &Arc<dyn Fetch>, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let read = self.read_locked(&mut state, fetch, offset, buf);
        if let Err(error) = &read {
            // A decoder may take what it cannot read for damage: whatever it makes of it does not count.
            state.failure = Some(error.clone());
        }
        read
    }

    fn read_locked(&self, state: &mut State, fetch: &Arc<dyn Fetch>, offset: u64, buf: &mut [u8]) -> Result<usize> {
        state.clock += 1;
        if !state.stretches.iter().any(|s| s.holds(offset)) {
            self.get(state, fetch, offset)?;
        }
        let clock = state.clock;
        let stretch = state.stretches.iter_mut().find(|s| s.holds(offset));
        let stretch = stretch.ok_or_else(|| Error::bug(format!("{}: byte {offset} is nowhere", self.uri)))?;
        stretch.used = clock;
        let from = (offset - stretch.at) as usize;
        let n = buf.len().min(stretch.data.len() - from);
        buf[..n].copy_from_slice(&stretch.data[from..from + n]);
        let (end, window, read) = (stretch.end(), stretch.window, from + n);
        if window >= STEADY && read * 2 > stretch.data.len() {
            self.expect(state, fetch, end, window);
        }
        Ok(n)
    }

    /// Fetches a stretch with the byte at `offset` in it.
    fn get(&self, state: &mut State, fetch: &Arc<dyn Fetch>, offset: u64) -> Result<()> {
        if let Some(i) = state.coming.iter().position(|coming| coming.range.contains(&offset)) {
            let coming = state.coming.swap_remove(i);
            return self.arrive(state, coming);
        }
        // Going on, perhaps over a little that nobody wants, is reading in order.
        let before = state.stretches.iter().filter(|s| s.end() <= offset && offset - s.end() <= s.window / 2);
        let window = before.map(|s| (s.window * 2).min(self.largest())).max().unwrap_or(FIRST);
        let range = self.range(state, offset, window);
        let data = waiting(&self.life, fetch.fetch(range.clone()))?;
        self.keep(state, range, window, data)
    }

    fn arrive(&self, state: &mut State, mut coming: Coming) -> Result<()> {
        let data = waiting(&self.life, &mut coming.task);
        let data = data.map_err(|e| Error::bug(format!("{}: reading ahead ended: {e}", self.uri)))??;
        self.keep(state, coming.range.clone(), coming.window, data)
    }

    /// Fetches what follows `end` in the background.
    fn expect(&self, state: &mut State, fetch: &Arc<dyn Fetch>, end: u64, window: u64) {
        let there = state.stretches.iter().any(|s| s.holds(end));
        if end >= self.len || there || state.coming.iter().any(|c| c.range.contains(&end)) {
            return;
        }
        let clock = state.clock;
        state.coming.retain(|c| clock - c.asked < STALE);
        if state.coming.len() >= COMING {
            return;
        }
        let window = (window * 2).min(self.largest());
        let range = self.range(state, end, window);
        state.coming.push(Coming { task: cloud::spawn(fetch.fetch(range.clone())), range, window, asked: clock });
    }

    /// From `offset` on, up to what is there already.
    fn range(&self, state: &State, offset: u64, window: u64) -> Range<u64> {
        let next = state.stretches.iter().map(|s| s.at).filter(|at| *at > offset).min().unwrap_or(self.len);
        offset..(offset + window).min(next).min(self.len)
    }

    fn keep(&self, state: &mut State, range: Range<u64>, window: u64, data: Bytes) -> Result<()> {
        if data.len() as u64 != range.end - range.start {
            let text = format!("{}: {} bytes came instead of {range:?}; retry it", self.uri, data.len());
            return Err(Error::input(RejectKind::Io, text));
        }
        let total = |stretches: &[Stretch]| stretches.iter().map(|s| s.data.len() as u64).sum::<u64>();
        while total(&state.stretches) + data.len() as u64 > self.held
            && let Some(oldest) = (0..state.stretches.len()).min_by_key(|i| state.stretches[*i].used)
        {
            state.stretches.swap_remove(oldest);
        }
        state.stretches.push(Stretch { at: range.start, data, window, used: state.clock });
        Ok(())
    }

    fn whole(&self, fetch: &Arc<dyn Fetch>) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.len as usize);
        out.extend_from_slice(&self.head);
        while (out.len() as u64) < self.len {
            let at = out.len() as u64;
            let range = at..(at + LARGEST).min(self.len);
            let data = waiting(&self.life, fetch.fetch(range))?;
            if data.is_empty() {
                return Err(Error::input(RejectKind::Io, format!("{}: it ends early; retry it", self.uri)));
            }
            out.extend_from_slice(&data);
        }
        Ok(out)
    }
}

impl ByteSource for RemoteSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset >= self.len || buf.is_empty() {
            return Ok(0);
        }
        match &self.rest {
            Rest::File { source, .. } => source.read_at(offset, buf),
            Rest::Ranges(fetch) => self.read(fetch, offset, buf).map_err(io::Error::other),
        }
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        match &self.rest {
            Rest::File { source, .. } => source.read_all(),
            Rest::Ranges(fetch) => self.whole(fetch).map_err(|error| {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(error.clone());
                io::Error::other(error)
            }),
        }
    }

    fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    fn failure(&self) -> Option<Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Later;
    use super::*;

    /// Counts what is asked, and fails beyond a place.
    struct Fake {
        data: Vec<u8>,
        asked: Mutex<Vec<Range<u64>>>,
        broken_from: u64,
    }

    impl Fetch for Arc<Fake> {
        fn fetch(&self, range: Range<u64>) -> Later<Result<Bytes>> {
            self.asked.lock().unwrap().push(range.clone());
            let bytes = Bytes::copy_from_slice(&self.data[range.start as usize..range.end as usize]);
            let result = if range.end > self.broken_from {
                Err(Error::input(RejectKind::Changed, "it changed"))
            } else {
                Ok(bytes)
            };
            Box::pin(async move { result })
        }
    }

    fn source(len: usize, head: usize, held: usize, broken_from: u64) -> (RemoteSource, Arc<Fake>) {
        let data: Vec<u8> = (0..len).map(|i| (i / 7 % 251) as u8).collect();
        let fake = Arc::new(Fake { data, asked: Mutex::default(), broken_from });
        let head = Bytes::copy_from_slice(&fake.data[..head]);
        let rest = Rest::Ranges(Arc::new(fake.clone()));
        let opened = Opened { uri: "s3://b/k".into(), len: len as u64, etag: None, head, rest };
        (RemoteSource::new(opened, held, Life::default()), fake)
    }

    fn total(source: &RemoteSource) -> usize {
        source.state.lock().unwrap().stretches.iter().map(|s| s.data.len()).sum()
    }

    #[test]
    fn reading_in_order_takes_few_requests_and_bounded_memory() {
        let (source, fake) = source(64 << 20, 1 << 20, 16 << 20, u64::MAX);
        let (mut at, mut buf) = (0, vec![0; 50_000]);
        loop {
            let n = source.read_at(at as u64, &mut buf).unwrap();
            if n == 0 {
                break;
            }
            assert_eq!(&buf[..n], &fake.data[at..at + n]);
            at += n;
            assert!(total(&source) <= 16 << 20);
        }
        assert_eq!(at, 64 << 20);
        let asked = fake.asked.lock().unwrap();
        assert!(asked.len() < 30, "{} requests", asked.len());
        let bytes: u64 = asked.iter().map(|r| r.end - r.start).sum();
        assert_eq!(bytes, 63 << 20, "nothing is fetched twice");
    }

    #[test]
    fn jumps_fetch_little_and_what_was_read_stays() {
        let (source, fake) = source(64 << 20, 1 << 20, 16 << 20, u64::MAX);
        let mut buf = [0; 1000];
        let end = (64 << 20) - 1000;
        for offset in [0, end, 100, 500_000, end, 30 << 20, 0] {
            assert_eq!(source.read_at(offset, &mut buf).unwrap(), 1000);
            assert_eq!(buf[..], fake.data[offset as usize..offset as usize + 1000]);
        }
        let asked = fake.asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked.iter().all(|r| r.end - r.start <= FIRST));
    }

    #[test]
    fn two_streams_that_lie_apart_are_both_read_in_order() {
        let (source, fake) = source(64 << 20, 1 << 20, 16 << 20, u64::MAX);
        let mut buf = vec![0; 64 << 10];
        for i in 0..64u64 {
            for base in [0, 40 << 20] {
                let offset = base + i * (64 << 10);
                assert_eq!(source.read_at(offset, &mut buf).unwrap(), buf.len());
                assert_eq!(buf[..], fake.data[offset as usize..offset as usize + buf.len()]);
            }
        }
        assert!(fake.asked.lock().unwrap().len() < 16);
    }

    #[test]
    fn a_failure_stays_and_is_known() {
        let (source, _) = source(8 << 20, 1 << 20, 4 << 20, 2 << 20);
        let mut buf = [0; 10];
        assert!(source.read_at(0, &mut buf).is_ok() && source.failure().is_none());
        assert!(source.read_at(5 << 20, &mut buf).is_err());
        assert!(source.read_at(0, &mut buf).is_err(), "whoever tries again hears the same");
        assert_eq!(source.failure().unwrap().reject, Some(RejectKind::Changed));
    }

    #[test]
    fn the_whole_is_the_head_and_the_rest() {
        for (len, head) in [(100, 100), (20 << 20, 1 << 20), (0, 0)] {
            let (source, fake) = source(len, head, 4 << 20, u64::MAX);
            assert_eq!(source.read_all().unwrap(), fake.data);
            assert_eq!(fake.asked.lock().unwrap().is_empty(), len == head);
        }
    }
}
