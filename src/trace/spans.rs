//! Spans for OpenTelemetry, sent as OTLP over HTTP: one for the run, under it one for each task, under that one for each
//! stage that worked for it.
//!
//! Where they go is told by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like), and so is what they
//! belong to: `TRACEPARENT`, in the form of W3C's Trace Context, makes the run a part of its caller's trace. Promises: a
//! collector that is away never stops a run or holds it up by more than [`PATIENCE`] at its end; spans that did not reach
//! one are counted and told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};
use serde_json::Value;

use super::{Clock, Mutex, Slice, lock};
use crate::job::JobFile;
use crate::store;

/// How long the end of a run waits for the collector.
const PATIENCE: Duration = Duration::from_secs(5);
/// The stage that a task ends with.
const LAST: &str = "commit";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What of a task's spans is known so far.
#[derive(Debug)]
struct Task {
    start: u64,
    end: u64,
    stages: BTreeMap<String, Part>,
}

/// What a stage has done for a task. Times in nanoseconds since the Unix epoch, sums in nanoseconds.
#[derive(Debug)]
struct Part {
    start: u64,
    end: u64,
    busy: u64,
    waited: u64,
    pieces: i64,
}

/// How many spans reached the collector, and why others did not.
#[derive(Debug, Default)]
struct Sent {
    spans: u64,
    failure: Option<String>,
}

/// The exporter, and what became of what it was given.
#[derive(Debug)]
struct Watched(SpanExporter, Arc<Mutex<Sent>>);

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.0.export(batch).await;
        let mut sent = lock(&self.1);
        match &result {
            Ok(()) => sent.spans += spans,
            Err(e) => sent.failure = Some(e.to_string()),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// A run's spans.
#[derive(Debug)]
pub struct Spans {
    clock: Clock,
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    run: Context,
    made: u64,
    sent: Arc<Mutex<Sent>>,
    open: BTreeMap<u64, Task>,
    /// Committed as far as the last slices tell; other threads' slices of the same moment may still come.
    committed: BTreeSet<u64>,
}

fn time(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Spans {
    /// Begins the span of a run, where the surroundings name a collector.
    pub fn open(job: &JobFile, clock: Clock) -> Option<Spans> {
        let told = |name: &str| variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        let told = |name: &str| told(name).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")));
        told("ENDPOINT")?;
        let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if off || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none") {
            return None;
        }
        if let Some(protocol) = told("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
            tracing::warn!(
                "no traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; framemill speaks http/protobuf, mostly at port 4318"
            );
            return None;
        }
        store::cloud::prepare_tls();
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
        match exporter {
            Ok(exporter) => Some(Spans::begin(exporter, job, clock)),
            Err(e) => {
                tracing::warn!(
                    "no traces are sent: {e}; OTEL_EXPORTER_OTLP_ENDPOINT is to be an URL, say http://localhost:4318"
                );
                None
            }
        }
    }

    fn begin(exporter: SpanExporter, job: &JobFile, clock: Clock) -> Spans {
        let mut resource = Resource::builder();
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("framemill");
        }
        let resource = resource
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", store::worker()))
            .build();
        let sent = Arc::new(Mutex::default());
        let watched = Watched(exporter, sent.clone());
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(watched).build();
        let tracer = provider.tracer("framemill");
        let above = variable("TRACEPARENT").and_then(|text| parent(&text));
        let above = above.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let mut about = vec![KeyValue::new("framemill.tasks", job.tasks.to_string())];
        about.extend(job.output.uri.clone().map(|uri| KeyValue::new("framemill.output", uri)));
        let builder = SpanBuilder::from_name("run").with_start_time(time(clock.now())).with_attributes(about);
        let span = builder.start_with_context(&tracer, &above);
        let run = above.with_span(span);
        Spans { clock, provider, tracer, run, made: 1, sent, open: BTreeMap::new(), committed: BTreeSet::new() }
    }

    /// Takes in what an engine's threads did.
    pub fn add(&mut self, slices: &[Slice]) {
        for task in std::mem::take(&mut self.committed) {
            if let Some(done) = self.open.remove(&task) {
                self.finish(task, done, Status::Ok);
            }
        }
        for slice in slices {
            let share = slice.tasks.len() as u64;
            let end = slice.start + slice.length;
            for task in &slice.tasks {
                let known = self.open.entry(*task);
                let known = known.or_insert_with(|| Task { start: slice.start, end, stages: BTreeMap::new() });
                (known.start, known.end) = (known.start.min(slice.start), known.end.max(end));
                let part = known.stages.entry(slice.stage().to_string());
                let part = part.or_insert_with(|| Part { start: slice.start, end, busy: 0, waited: 0, pieces: 0 });
                (part.start, part.end) = (part.start.min(slice.start), part.end.max(end));
                // Work for several tasks counts for each in equal parts.
                part.busy += slice.length.saturating_sub(slice.waited) / share;
                part.waited += slice.waited / share;
                part.pieces += 1;
                if slice.stage() == LAST {
                    self.committed.insert(*task);
                }
            }
        }
    }

    fn finish(&mut self, task: u64, done: Task, status: Status) {
        let about = [KeyValue::new("framemill.task", task as i64)];
        let builder = SpanBuilder::from_name("task").with_start_time(time(done.start)).with_attributes(about);
        let mut span = builder.start_with_context(&self.tracer, &self.run);
        span.set_status(status);
        let inside = self.run.with_remote_span_context(span.span_context().clone());
        for (stage, part) in done.stages {
            let about = [
                KeyValue::new("framemill.task", task as i64),
                KeyValue::new("framemill.busy_seconds", seconds(part.busy)),
                KeyValue::new("framemill.waited_seconds", seconds(part.waited)),
                KeyValue::new("framemill.pieces", part.pieces),
            ];
            let builder = SpanBuilder::from_name(stage).with_start_time(time(part.start)).with_attributes(about);
            builder.start_with_context(&self.tracer, &inside).end_with_timestamp(time(part.end));
            self.made += 1;
        }
        span.end_with_timestamp(time(done.end));
        self.made += 1;
    }

    /// Work of the supervising process.
    pub fn own(&mut self, slice: &Slice) {
        let builder = SpanBuilder::from_name(slice.name.clone()).with_start_time(time(slice.start));
        builder.start_with_context(&self.tracer, &self.run).end_with_timestamp(time(slice.start + slice.length));
        self.made += 1;
    }

    /// Something that happened to the run just now.
    pub fn mark(&mut self, name: &str) {
        let now = time(self.clock.now());
        self.run.span().add_event_with_timestamp(name.to_string(), now, Vec::new());
    }

    /// The run has ended: with an exit code and a report, or with an error.
    pub fn end(mut self, ended: Result<(u8, Option<&Value>), String>) {
        self.add(&[]);
        for (task, left) in std::mem::take(&mut self.open) {
            self.finish(task, left, Status::error("not committed"));
        }
        let span = self.run.span();
        match ended {
            Ok((code, report)) => {
                span.set_attribute(KeyValue::new("framemill.exit_code", i64::from(code)));
                let told = ["samples", "inputs", "rejected"];
                let numbers = told.into_iter().filter_map(|name| Some((name, report?[name].as_i64()?)));
                for (name, number) in numbers {
                    span.set_attribute(KeyValue::new(format!("framemill.{name}"), number));
                }
                span.set_status(match code {
                    0 => Status::Ok,
                    code => Status::error(format!("exit code {code}")),
                });
            }
            Err(why) => span.set_status(Status::error(why)),
        }
        span.end_with_timestamp(time(self.clock.now()));
        // What it says is less than what was counted.
        let _ = self.provider.shutdown_with_timeout(PATIENCE);
        let sent = lock(&self.sent);
        if sent.spans < self.made {
            let why = sent.failure.as_deref().unwrap_or("the collector was too slow");
            tracing::warn!(
                "{} of {} spans did not reach OTEL_EXPORTER_OTLP_ENDPOINT: {why}",
                self.made - sent.spans,
                self.made
            );
        }
    }
}

/// The span that `TRACEPARENT` names: `00-TRACE-SPAN-FLAGS` in hexadecimal (W3C Trace Context, level 1).
fn parent(text: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags, ..] = parts[..] else { return None };
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.len() == 4);
    if !(known && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_taken_as_w3c_writes_it_and_nothing_else() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parent(text).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(parent(wrong).is_none(), "{wrong}");
        }
        assert!(parent(&text.replacen("00", "01", 1)).is_some(), "later versions may add to it");
    }
}
