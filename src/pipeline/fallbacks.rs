//! What the CPU did in a device's place: counted, and named once for each reason.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::lock;

/// Everything of one reason.
struct Entry {
    /// The first input.
    uri: Option<String>,
    what: &'static str,
    from: String,
    frames: u64,
}

/// Fallbacks by their reason.
pub(super) struct Fallbacks {
    seen: Mutex<BTreeMap<String, Entry>>,
    /// Whether each reason is logged when it comes up.
    warn: bool,
}

impl Fallbacks {
    pub(super) fn new(warn: bool) -> Fallbacks {
        Fallbacks { seen: Mutex::default(), warn }
    }

    /// The device that was demanded is not there.
    pub(super) fn device(&self, from: &str, reason: &str) {
        self.warn(reason);
        let entry = Entry { uri: None, what: "device", from: from.to_string(), frames: 0 };
        lock(&self.seen).insert(reason.to_string(), entry);
    }

    /// A frame of `uri` that `from` could not do.
    pub(super) fn frame(&self, uri: &str, from: &str, reason: &str) {
        let mut seen = lock(&self.seen);
        let entry = seen.entry(reason.to_string()).or_insert_with(|| {
            self.warn(reason);
            Entry { uri: Some(uri.to_string()), what: "program", from: from.to_string(), frames: 0 }
        });
        entry.frames += 1;
    }

    fn warn(&self, reason: &str) {
        if self.warn {
            tracing::warn!("{reason}; falling back to the CPU");
        }
    }

    /// As the report lists them.
    pub(super) fn report(&self) -> Vec<Value> {
        let entry = |(reason, e): (&String, &Entry)| json!({ "uri": e.uri, "what": e.what, "from": e.from, "to": "cpu", "reason": reason, "frames": e.frames });
        lock(&self.seen).iter().map(entry).collect()
    }
}
