//! What ran elsewhere than was demanded: counted, and named once for each reason.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::lock;

/// Everything of one reason.
struct Entry {
    /// The first input.
    uri: Option<String>,
    what: &'static str,
    from: String,
    to: &'static str,
    /// What is counted.
    unit: &'static str,
    count: u64,
}

/// Fallbacks by their reason.
pub(super) struct Fallbacks<'a> {
    /// How many there were in all.
    total: &'a AtomicU64,
    seen: Mutex<BTreeMap<String, Entry>>,
    /// Whether each reason is logged when it comes up.
    warn: bool,
}

impl<'a> Fallbacks<'a> {
    pub(super) fn new(warn: bool, total: &'a AtomicU64) -> Fallbacks<'a> {
        Fallbacks { total, seen: Mutex::default(), warn }
    }

    /// The device that was demanded is not there.
    pub(super) fn device(&self, from: &str, reason: &str) {
        self.add(reason, None, ("device", from, "cpu"), ("frames", 0));
    }

    /// A frame of `uri` that `from` could not do.
    pub(super) fn frame(&self, uri: &str, from: &str, reason: &str) {
        self.add(reason, Some(uri), ("program", from, "cpu"), ("frames", 1));
    }

    /// A unit of `uri`, or all where there is none, that the decoder `from` could not do.
    pub(super) fn decoder(&self, uri: Option<&str>, from: &str, reason: &str) {
        self.add(reason, uri, ("decoder", from, "software"), ("units", uri.is_some().into()));
    }

    /// A provider that a detector was to run on, and what it runs on.
    pub(super) fn provider(&self, from: &str, to: &'static str, reason: &str) {
        self.add(reason, None, ("provider", from, to), ("frames", 0));
    }

    fn add(
        &self,
        reason: &str,
        uri: Option<&str>,
        (what, from, to): (&'static str, &str, &'static str),
        (unit, count): (&'static str, u64),
    ) {
        // What is not there at all counts once, whatever it would have done.
        self.total.fetch_add(count.max(1), Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        let entry = seen.entry(reason.to_string()).or_insert_with(|| {
            if self.warn {
                tracing::warn!("{reason}; falling back to {}", if to == "cpu" { "the CPU" } else { to });
            }
            Entry { uri: uri.map(str::to_string), what, from: from.to_string(), to, unit, count: 0 }
        });
        entry.count += count;
    }

    /// As the report lists them.
    pub(super) fn report(&self) -> Vec<Value> {
        let entry = |(reason, e): (&String, &Entry)| {
            let mut entry = json!({ "uri": e.uri, "what": e.what, "from": e.from, "to": e.to, "reason": reason });
            entry[e.unit] = e.count.into();
            entry
        };
        lock(&self.seen).iter().map(entry).collect()
    }
}
