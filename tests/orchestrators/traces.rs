//! Spans for OpenTelemetry: sent to a collector of the test's own, read by OpenTelemetry's own definitions.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::python::python;
use crate::support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const SECRET: &str = "hunter2";

/// Runs `args` against a collector that answers with `status`; what it was sent lies in `folder`.
fn collected(folder: &Path, status: u16, args: &[&str], crash: Option<&str>) -> Output {
    let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
    let port = server.server_addr().to_ip().unwrap().port();
    std::fs::create_dir_all(folder).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let tick = std::time::Duration::from_millis(20);
                let Some(mut request) = server.recv_timeout(tick).unwrap() else { continue };
                let header = |name: &'static str| {
                    request.headers().iter().find(|h| h.field.equiv(name)).map(|h| h.value.to_string())
                };
                assert_eq!(request.url(), "/v1/traces");
                assert_eq!(header("content-type").as_deref(), Some("application/x-protobuf"));
                assert_eq!(header("authorization").as_deref(), Some(SECRET));
                let mut file = std::fs::File::create(folder.join(format!("{count:04}.pb"))).unwrap();
                std::io::copy(request.as_reader(), &mut file).unwrap();
                count += 1;
                request.respond(tiny_http::Response::empty(status)).unwrap();
            }
        });
        let mut command = program();
        command.args(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
        command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={SECRET}"));
        command.env("TRACEPARENT", format!("00-{TRACE}-{CALLER}-01"));
        if let Some(victim) = crash {
            command.env("FRAMEMILL_TEST_CRASH", victim);
        }
        let output = command.output().unwrap();
        over.store(true, Ordering::Relaxed);
        output
    })
}

/// All spans in `folder`, as OpenTelemetry's own code reads them, and the resource that they are of.
fn spans(python: &Path, folder: &Path) -> (Vec<Value>, Value) {
    let code = "import sys, pathlib, json\n\
        from google.protobuf.json_format import MessageToDict\n\
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest\n\
        spans, resource = [], None\n\
        for file in sorted(pathlib.Path(sys.argv[1]).glob('*.pb')):\n\
        \x20   request = ExportTraceServiceRequest.FromString(file.read_bytes())\n\
        \x20   for part in request.resource_spans:\n\
        \x20       resource = {a.key: MessageToDict(a.value) for a in part.resource.attributes}\n\
        \x20       for span in (s for scope in part.scope_spans for s in scope.spans):\n\
        \x20           spans.append(dict(name=span.name, trace=span.trace_id.hex(), id=span.span_id.hex(),\n\
        \x20               parent=span.parent_span_id.hex(), start=span.start_time_unix_nano,\n\
        \x20               end=span.end_time_unix_nano, status=span.status.code, why=span.status.message,\n\
        \x20               events=[e.name for e in span.events],\n\
        \x20               about={a.key: next(iter(MessageToDict(a.value).values())) for a in span.attributes}))\n\
        print(json.dumps([spans, resource]))\n";
    let output = Command::new(python).args(["-c", code]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Arguments with another value in one place.
fn changed<'a>(mut args: Vec<&'a str>, old: &str, new: &'a str) -> Vec<&'a str> {
    let place = args.iter_mut().find(|arg| **arg == old).unwrap();
    *place = new;
    args
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|s| s["name"] == name).collect()
}

#[test]
fn a_run_its_tasks_and_their_stages_are_spans_of_the_callers_trace() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap()];
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (plain, out, sent) = (at("plain"), at("out"), dir.path().join("sent"));
    assert!(framemill(&changed(job(&inputs, &plain, &[]), "12", "2")).status.success());
    let output = collected(&sent, 200, &changed(job(&inputs, &out, &[]), "12", "2"), None);
    assert!(output.status.success() && !errors(&output).contains("spans"), "{}", errors(&output));
    assert_eq!(tree(plain.as_ref()), tree(out.as_ref()), "it is no part of the job");

    let (spans, resource) = spans(&python, &sent);
    assert_eq!(resource["service.name"]["stringValue"], "framemill");
    assert!(spans.iter().all(|s| s["trace"] == TRACE));
    let [run] = named(&spans, "run")[..] else { panic!("{spans:#?}") };
    assert_eq!((&run["parent"], &run["status"]), (&CALLER.into(), &1.into()));
    let samples = records(out.as_ref()).len().to_string();
    assert_eq!(
        (&run["about"]["framemill.exit_code"], &run["about"]["framemill.samples"]),
        (&"0".into(), &samples.into())
    );
    for step in ["plan", "finish"] {
        assert!(matches!(named(&spans, step)[..], [span] if span["parent"] == run["id"]), "{step}");
    }
    let within = |inner: &Value, outer: &Value| {
        let times = [&outer["start"], &inner["start"], &inner["end"], &outer["end"]].map(|t| t.as_u64().unwrap());
        // Clocks of two processes are read one after the other.
        times.windows(2).all(|pair| pair[0] <= pair[1] + 1_000_000)
    };
    let tasks = named(&spans, "task");
    let receipts = std::fs::read_dir(Path::new(&out).join("_framemill/receipts")).unwrap().count();
    assert!(receipts > 1 && tasks.len() == receipts, "{} spans for {receipts} tasks", tasks.len());
    for task in tasks {
        assert!(task["parent"] == run["id"] && task["status"] == 1 && within(task, run), "{task}");
        let stages: Vec<&Value> = spans.iter().filter(|s| s["parent"] == task["id"]).collect();
        let mut names: Vec<&str> = stages.iter().map(|s| s["name"].as_str().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["commit", "compute", "decode", "encode", "sink"]);
        for stage in stages {
            assert!(within(stage, task), "{stage} of {task}");
            assert!(stage["about"]["framemill.busy_seconds"].as_f64() > Some(0.0), "{stage}");
            assert_eq!(stage["about"]["framemill.task"], task["about"]["framemill.task"]);
        }
    }
}

#[test]
fn a_dead_engine_is_an_event_and_a_failed_run_an_error() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let names = std::fs::read_dir(&clips).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let (victim, out, sent) = (names.min().unwrap(), dir.path().join("out"), dir.path().join("sent"));
    let inputs = [clips.to_str().unwrap()];
    let args = changed(job(&inputs, out.to_str().unwrap(), &[]), "100%", "0");
    let output = collected(&sent, 200, &args, Some(&victim));
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let (spans, _) = spans(&python, &sent);
    let [run] = named(&spans, "run")[..] else { panic!("{spans:#?}") };
    assert!(run["events"][0].as_str().unwrap().contains("signal"), "{run}");
    assert_eq!((&run["status"], &run["why"]), (&2.into(), &"exit code 3".into()));
}

#[test]
fn a_collector_that_is_away_or_refuses_is_told_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap()];
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (refused, away, other) = (at("refused"), at("away"), at("other"));
    let output = collected(&dir.path().join("sent"), 400, &job(&inputs, &refused, &[]), None);
    let said = errors(&output);
    assert!(output.status.success() && said.contains("spans did not reach") && !said.contains(SECRET), "{said}");
    let with = |out: &str, more: [(&str, &str); 2]| {
        let mut command = program();
        command.args(job(&inputs, out, &[])).envs(more).output().unwrap()
    };
    // Port 9 is of a service that nobody runs.
    let output = with(&away, [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("X", "")]);
    assert!(output.status.success() && errors(&output).contains("spans did not reach"), "{}", errors(&output));
    assert_eq!(tree(refused.as_ref()), tree(away.as_ref()));
    let grpc = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let output = with(&other, grpc);
    assert!(
        output.status.success() && errors(&output).contains("framemill speaks http/protobuf"),
        "{}",
        errors(&output)
    );
}
