//! What decoded how much in this process, and why there.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::lock;
use crate::decode::route::SOFTWARE;

/// What one decoder did.
#[derive(Default)]
struct Share {
    units: u64,
    frames: u64,
    /// Units by the reason for the decoder.
    why: BTreeMap<String, u64>,
}

/// Shares of the work by decoder.
#[derive(Default)]
pub(super) struct Decoders(Mutex<BTreeMap<&'static str, Share>>);

impl Decoders {
    /// A unit was decoded, as far as it counts.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "without FFmpeg there are no videos"))]
    pub(super) fn add(&self, decoder: &'static str, reason: &str, frames: u64) {
        let mut shares = lock(&self.0);
        let share = shares.entry(decoder).or_default();
        share.units += 1;
        share.frames += frames;
        *share.why.entry(reason.to_string()).or_default() += 1;
    }

    /// As the report lists them, with how many `sessions` hardware opened, and how often one was used again.
    pub(super) fn report(&self, (opened, reused): (u64, u64)) -> Value {
        let share = |(decoder, s): (&&'static str, &Share)| {
            let mut told = json!({ "decoder": decoder, "units": s.units, "frames": s.frames, "why": s.why });
            if *decoder != SOFTWARE {
                told["sessions"] = json!({ "opened": opened, "reused": reused });
            }
            told
        };
        lock(&self.0).iter().map(share).collect()
    }
}
