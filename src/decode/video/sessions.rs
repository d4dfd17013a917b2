//! [`Sessions`]: hardware decoders that are kept between files, since opening one takes as long as decoding a short clip.
//!
//! Promises: a session is used again only for a stream whose parameters are those that it was opened for, bit for bit, and
//! only after a file in which nothing was wrong; it then decodes as a fresh one would. No more are kept than were allowed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Decoder, DecoderOptions, Hardware, Input, Result, VideoOptions};
use crate::decode::route::Kind;

/// What a session was opened with besides the stream's parameters.
type Settings = (Kind, u64, bool);

fn settings(hardware: &Hardware, options: &VideoOptions) -> Settings {
    (hardware.kind, options.max_pixels, options.concealment_fixed)
}

/// Idle sessions of a run.
pub struct Sessions {
    idle: Mutex<Vec<(Settings, Decoder)>>,
    most: usize,
    opened: AtomicU64,
    reused: AtomicU64,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} sessions", self.idle().len(), self.most)
    }
}

impl Sessions {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Sessions {
        Sessions { idle: Mutex::default(), most, opened: AtomicU64::new(0), reused: AtomicU64::new(0) }
    }

    /// How many were opened, and how often one was used again.
    pub fn told(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Settings, Decoder)>> {
        // A poisoned lock guards nothing but whole decoders.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decoder of `stream`: one that is idle, or a new one.
    pub(super) fn open(
        &self,
        input: &Input,
        stream: usize,
        options: &VideoOptions,
        (hardware, how): (&Hardware, &DecoderOptions),
    ) -> Result<Decoder> {
        let wanted = settings(hardware, options);
        while let Some(mut decoder) = self.take(|of, decoder| *of == wanted && decoder.fits(input, stream)) {
            if decoder.renew(input, stream) {
                self.reused.fetch_add(1, Ordering::Relaxed);
                return Ok(decoder);
            }
        }
        let opened = Decoder::open(input, stream, how).or_else(|error| {
            // Those that are idle hold memory of the device, which may be what is missing.
            let idle = std::mem::take(&mut *self.idle());
            if idle.is_empty() { Err(error) } else { Decoder::open(input, stream, how) }
        })?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(opened)
    }

    fn take(&self, fit: impl Fn(&Settings, &Decoder) -> bool) -> Option<Decoder> {
        let mut idle = self.idle();
        let at = idle.iter().position(|(of, decoder)| fit(of, decoder))?;
        Some(idle.remove(at).1)
    }

    /// Keeps a decoder that is done with its file; the one that was idle longest makes room.
    pub(super) fn keep(&self, hardware: &Hardware, options: &VideoOptions, decoder: Decoder) {
        let mut idle = self.idle();
        idle.push((settings(hardware, options), decoder));
        if idle.len() > self.most {
            idle.remove(0);
        }
    }
}
