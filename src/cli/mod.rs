//! The command line: the only floor that prints, installs signal handlers and decides exit codes.

mod bench;
mod dagster;
mod decoders;
mod devices;
mod flags;
mod heartbeat;
mod listeners;
mod logs;
mod metrics;
mod model;
mod pipe;
pub mod preview;
pub mod probe;
mod progress;
mod run;
mod signals;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::bench::child::DECODE;
use crate::error::{Error, Result};
use crate::job::{Job, JobFile};
use crate::plan::{Changes, Draft, Plan};
use crate::store::Output;
use crate::task::{Ledger, Totals};
use crate::{finish, input, report, sink};
use logs::Logs;

/// The hidden command that an engine process is started with.
const ENGINE: &str = "__engine";

const EXIT_CODES: &str = "Exit codes: 0 done; 2 wrong usage or job, or no input; 3 done, but more inputs were rejected than \
    allowed, or no sample came out; 69 a demanded device, decoder or library is missing; 70 a bug of ours; 74 the store \
    failed; 75 interrupted or not finished, resumable; 78 the output holds another job's plan";

fn command() -> Command {
    let out = || Arg::new("out").value_name("OUT").required(true).help("Folder or object-store prefix of a dataset");
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    Command::new("framemill")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::Count)
                .global(true)
                .help("More logs; repeat for more"),
        )
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .value_name("text|json")
                .value_parser(["text", "json"])
                .global(true)
                .help("Form of the logs on standard error"),
        )
        .subcommand(flags::add(
            Command::new("run")
                .about("Plan, run what has no receipt yet, finish, report; running it again resumes")
                .after_help(EXIT_CODES)
                .arg(
                    Arg::new("append")
                        .long("append")
                        .action(ArgAction::SetTrue)
                        .help("Plan inputs that are new since, as a further generation"),
                ),
            &[],
        ))
        .subcommand(flags::add(
            Command::new("plan").about("Show inputs, tasks, passes and the memory bound; write nothing").arg(
                Arg::new("freeze")
                    .long("freeze")
                    .action(ArgAction::SetTrue)
                    .help("Write the plan, so that many workers find it"),
            ),
            &[],
        ))
        .subcommand(
            Command::new("finish").about("Write dataset.json and the merged tables once every task is done").arg(out()),
        )
        .subcommand(Command::new("status").about("Tasks done, left, rejected; the last report").arg(out()).arg(json()))
        .subcommand(Command::new("rejects").about("Dead letters by kind, with their reasons").arg(out()).arg(json()))
        .subcommand(flags::add_only(
            Command::new("retry")
                .about("Plan the rejected inputs again as a further generation, and run it")
                .arg(out())
                .arg(Arg::new("root").long("root").value_name("URI").help("Where the job's --root is mounted now")),
            flags::AGAIN,
        ))
        .subcommand(
            Command::new("verify")
                .about("Read a dataset back: receipts, digests, counts, duplicates")
                .arg(out())
                .arg(json()),
        )
        .subcommand(
            Command::new("probe")
                .about("What is in a file, and what is assumed where it does not say")
                .arg(Arg::new("media").value_name("MEDIA").required(true).num_args(1..))
                .arg(Arg::new("stream").long("stream").value_name("N").value_parser(clap::value_parser!(usize)))
                .arg(json()),
        )
        .subcommand(
            Command::new("preview")
                .about("A contact sheet (.jpg, .png) or page (.html) of samples, boxes drawn")
                .arg(out())
                .arg(Arg::new("file").short('o').long("output").value_name("FILE").help("Where to write it"))
                .arg(
                    Arg::new("count")
                        .long("count")
                        .value_name("N")
                        .default_value("40")
                        .value_parser(clap::value_parser!(u64).range(1..=1000))
                        .help("How many samples"),
                ),
        )
        .subcommand(
            Command::new("devices")
                .about("Backends and GPUs found here; what is missing, why, and what to do")
                .arg(json()),
        )
        .subcommand(
            Command::new("selftest")
                .about("Is this device computing the right bytes? In seconds; 70 if not, 69 if it is not there")
                .arg(
                    Arg::new("device")
                        .long("device")
                        .value_name("auto|cpu|wgpu[:n]|cuda[:n]")
                        .default_value("auto")
                        .help("Which device"),
                )
                .arg(
                    Arg::new("speed")
                        .long("speed")
                        .action(ArgAction::SetTrue)
                        .help("Also how fast it runs the common list, beside what its memory allows"),
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("model").about("Look into a detector").subcommand_required(true).subcommand(
                Command::new("inspect")
                    .about("A model's input, outputs, recognised head, preprocessing, provider and time")
                    .arg(Arg::new("model").value_name("MODEL").required(true).help("An ONNX model"))
                    .arg(
                        Arg::new("detect-head")
                            .long("detect-head")
                            .value_name("NAME")
                            .help("How its outputs are laid out"),
                    )
                    .arg(Arg::new("labels").long("labels").value_name("FILE|coco").help("Names of its classes"))
                    .arg(
                        Arg::new("provider")
                            .long("provider")
                            .value_name("NAME,...")
                            .help("Where ONNX Runtime computes"),
                    )
                    .arg(Arg::new("ort").long("ort").value_name("PATH").help("ONNX Runtime's library"))
                    .arg(json()),
            ),
        )
        .subcommand(Command::new("schema").about("JSON Schema of the job file"))
        .subcommand(
            Command::new("completions")
                .about("Completions for a shell")
                .arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell))),
        )
        .subcommand(Command::new("man").about("The manual page, in roff"))
        .subcommand(bench::command())
        .subcommand(Command::new(ENGINE).hide(true))
        .subcommand(Command::new(DECODE).hide(true).arg(Arg::new("job").required(true)))
}

/// Runs the program.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => {
            // Help and version are no errors; a closed pipe while printing them is none either.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let logs = Logs::of(&matches, &variable);
    logs.as_ref().map_or(Logs::default(), |logs| *logs).begin();
    match logs.and_then(|_| dispatch(&matches)) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            say(&format!("framemill: {e}"));
            ExitCode::from(e.exit_code())
        }
    }
}

/// A line on standard error. That nobody reads there any more is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn dispatch(matches: &ArgMatches) -> Result<u8> {
    let Some((name, m)) = matches.subcommand() else { return Err(Error::usage("no command was given")) };
    let uri = || m.get_one::<String>("out").map(String::as_str).unwrap_or_default();
    let out = || output(uri());
    match name {
        "run" => run::run(m, engine_arguments(matches)?),
        "retry" => run::retry(m, uri(), engine_arguments(matches)?),
        "plan" => plan(m),
        "finish" => finish_command(&out()?),
        "status" => status(&out()?, m.get_flag("json")),
        "rejects" => rejects(&out()?, m.get_flag("json")),
        "verify" => verify(&out()?, m.get_flag("json")),
        "probe" => probe_command(m),
        "preview" => {
            let file = m.get_one::<String>("file").map(Path::new);
            let count = m.get_one::<u64>("count").copied().unwrap_or(40) as usize;
            let written = preview::preview(&out()?, file, count)?;
            print(&written)
        }
        "devices" => devices::devices(m.get_flag("json")),
        "selftest" => {
            let device = m.get_one::<String>("device").map(String::as_str).unwrap_or_default();
            devices::selftest(device, m.get_flag("speed"), m.get_flag("json"))
        }
        "model" => match m.subcommand() {
            Some(("inspect", m)) => model::inspect(m),
            _ => Err(Error::usage("model: expected model inspect MODEL")),
        },
        "schema" => print(&pretty(&JobFile::schema())),
        "completions" => {
            let Some(shell) = m.get_one::<clap_complete::Shell>("shell") else { return Err(Error::usage("no shell")) };
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "framemill", &mut text);
            print(String::from_utf8_lossy(&text).trim_end())
        }
        "man" => {
            let mut text = Vec::new();
            let man = clap_mangen::Man::new(command());
            man.render(&mut text).map_err(|e| Error::bug(format!("the manual page: {e}")))?;
            print(String::from_utf8_lossy(&text).trim_end())
        }
        ENGINE => run::engine(),
        "bench" => bench::bench(m),
        DECODE => bench::decode(m),
        other => Err(Error::usage(format!("there is no command {other}"))),
    }
}

/// Logs of the engine process are those of its supervisor.
fn engine_arguments(matches: &ArgMatches) -> Result<Vec<String>> {
    let mut arguments = vec![ENGINE.to_string()];
    arguments.extend(Logs::of(matches, &variable)?.arguments());
    Ok(arguments)
}

/// Prints a line; a reader that has gone is no error of ours.
fn print(text: &str) -> Result<u8> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::store(format!("could not write to standard output: {e}")))
        }
        _ => Ok(0),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The output that `uri` names, with the settings that the environment gives.
fn output(uri: &str) -> Result<Output> {
    crate::job::output(uri, &Default::default())
}

/// The plans of an output, which must have been planned.
fn plans(out: &Output) -> Result<Vec<Plan>> {
    let plans = if out.folder().is_some_and(Path::is_file) { Vec::new() } else { Plan::load_all(out)? };
    if plans.is_empty() {
        return Err(Error::usage(format!(
            "{out} holds no plan (_framemill/plan.json): expected the output of framemill run"
        )));
    }
    Ok(plans)
}

/// The variable of that name, if it is set: orchestrators set those that they have no value for to nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
}

fn plan(m: &ArgMatches) -> Result<u8> {
    let job = Job::resolve(flags::job(m, &variable, &[])?)?;
    let out = job.file.output.uri.as_deref().filter(|o| *o != "-").map(|_| job.output()).transpose()?;
    if let Some(out) = &out {
        let frozen = Plan::load_all(out)?;
        if let Some(first) = frozen.first() {
            first.check(&job, out)?;
            return planned(&job, out, &frozen);
        }
    }
    let inputs = run::list(&job, out.as_ref())?;
    let counts = inputs.counts;
    let draft = Draft::new(&job, inputs, Default::default(), 1, 0, &|_, _| {})?;
    let header = draft.header().clone();
    let uncut = crate::plan::uncut(&job);
    let shown = json!({
        "frozen": m.get_flag("freeze"),
        "inputs": header.inputs,
        "ignored": counts.ignored,
        "duplicates": counts.duplicates,
        "units": header.units,
        "uncut": uncut,
        "tasks": header.tasks,
        "fingerprint": header.fingerprint,
        "program": job.program.to_string().lines().collect::<Vec<_>>(),
        "memory": { "budget": job.file.memory.0, "frames": job.file.memory.0 / 2, "references": job.file.memory.0 / 4,
            "waiting": job.file.memory.0 / 4 },
        "threads": job.threads,
        "job": job.identity()["job"],
    });
    if m.get_flag("freeze") {
        let out = out.ok_or_else(|| Error::usage("plan --freeze writes into the output: give --output FOLDER"))?;
        out.probe()?;
        draft.freeze(&out)?;
    }
    if job.file.json {
        return print(&shown.to_string());
    }
    print(&format!(
        "inputs   {} ({} files ignored, {} listed twice)\nunits    {}{}\ntasks    {}\nmemory   {} for frames in flight, \
         decoders and waiting samples; {} threads\n\n{}\n\nfingerprint {}",
        header.inputs,
        counts.ignored,
        counts.duplicates,
        header.units,
        uncut.map(|why| format!(" (each video is one: {why})")).unwrap_or_default(),
        header.tasks,
        job.file.memory,
        job.threads,
        job.program,
        header.fingerprint
    ))
}

/// Shows what is planned already, and what has changed since.
fn planned(job: &Job, out: &Output, frozen: &[Plan]) -> Result<u8> {
    let known = Plan::all_identities(frozen)?;
    // The plan stands, also where its inputs cannot be listed just now.
    let output = job.file.output.uri.as_deref();
    let changes = input::list(&job.file.input, job.file.seed, output).map(|inputs| Changes::of(&inputs, &known));
    let headers: Vec<_> = frozen.iter().map(|p| &p.header).collect();
    let tasks = headers.iter().map(|h| h.tasks).sum::<u64>();
    if job.file.json {
        let changes = match changes {
            Ok(changes) => json!({ "new": changes.new, "gone": changes.gone }),
            Err(e) => json!({ "error": e.message }),
        };
        return print(&json!({ "frozen": true, "plans": headers, "tasks": tasks, "since": changes }).to_string());
    }
    let since = match changes {
        Ok(changes) => format!("{changes} since (run --append plans new ones)"),
        Err(e) => format!("what has changed since cannot be told: {e}"),
    };
    print(&format!("{out} is planned already: {tasks} tasks; {since}\n\n{}", job.program))
}

fn finish_command(out: &Output) -> Result<u8> {
    let plans = plans(out)?;
    let totals = Totals::read(&Ledger::new(out), &plans)?;
    if !finish::finish(out, &plans, &totals)? {
        return Err(Error::interrupted(format!(
            "{out} was planned further meanwhile, and is not done yet: run the job again to go on"
        )));
    }
    print(&format!("{out}: {} samples in {} tasks", totals.samples, totals.tasks))
}

fn status(out: &Output, json: bool) -> Result<u8> {
    let plans = plans(out)?;
    let totals = Totals::read(&Ledger::new(out), &plans)?;
    let last = out.list("_framemill/reports")?.pop();
    let last: Option<Value> = match last {
        Some(name) => out.read(&format!("_framemill/reports/{name}"))?.and_then(|b| serde_json::from_slice(&b).ok()),
        None => None,
    };
    if json {
        let value = json!({
            "tasks": { "planned": totals.tasks, "done": totals.done, "left": totals.tasks - totals.done },
            "inputs": { "found": totals.inputs, "done": totals.inputs_done, "rejected": totals.rejected },
            "samples": totals.samples,
            "frames": totals.frames,
            "finished": totals.finished(),
            "generations": plans.len(),
            "last_report": last,
        });
        return print(&value.to_string());
    }
    let mut text = format!(
        "{out}: {} of {} tasks done, {} left; {} samples; {} of {} inputs done, {} rejected",
        totals.done,
        totals.tasks,
        totals.tasks - totals.done,
        totals.samples,
        totals.inputs_done,
        totals.inputs,
        totals.rejected
    );
    if let Some(last) = last {
        text += &format!("\n\nlast report:\n{}", report::text(&last));
    }
    print(&text)
}

fn rejects(out: &Output, json: bool) -> Result<u8> {
    let plans = plans(out)?;
    let totals = Totals::read(&Ledger::new(out), &plans)?;
    let mut kinds: std::collections::BTreeMap<String, Vec<Value>> = Default::default();
    for (task, reject) in &totals.rejects {
        let mut value = serde_json::to_value(reject).unwrap_or_default();
        value["task"] = json!(task);
        kinds.entry(reject.kind.to_string()).or_default().push(value);
    }
    if json {
        return print(&json!({ "rejected": totals.rejected, "kinds": kinds }).to_string());
    }
    let mut text = format!("{} inputs rejected", totals.rejected);
    for (kind, list) in kinds {
        text += &format!("\n\n{kind} ({})", list.len());
        for reject in list {
            text += &format!("\n  {}", reject["message"].as_str().unwrap_or_default());
        }
    }
    print(&text)
}

fn verify(out: &Output, json: bool) -> Result<u8> {
    let plans = plans(out)?;
    let (faults, totals) = finish::verify(out, &plans)?;
    if json {
        print(&json!({ "ok": faults.is_empty(), "faults": faults, "samples": totals.samples }).to_string())?;
    } else if faults.is_empty() {
        print(&format!(
            "{out}: {} samples in {} shards are as their receipts say",
            totals.samples,
            totals.objects().filter(|o| sink::is_records(&o.path)).count()
        ))?;
    } else {
        print(&faults.join("\n"))?;
    }
    Ok(if faults.is_empty() { 0 } else { 74 })
}

/// Bytes that the buffers of a probed file may take where it lies elsewhere.
const PROBE_MEMORY: u64 = 32 << 20;

fn probe_command(m: &ArgMatches) -> Result<u8> {
    let options = probe::Options { stream: m.get_one::<usize>("stream").copied(), ..Default::default() };
    let sources = input::Sources::new(&input::InputSpec::default(), PROBE_MEMORY, 1);
    let mut code = 0;
    let mut reports = Vec::new();
    for media in m.get_many::<String>("media").into_iter().flatten() {
        let opened = sources.open(media, input::Expected::default(), &input::Life::default());
        let probed = opened.and_then(|source| probe::probe(source, input::without_query(media), &options));
        match probed {
            Ok(value) if m.get_flag("json") => reports.push(value),
            Ok(value) => {
                print(&probe::text(&value))?;
            }
            Err(e) => {
                say(&format!("framemill: {e}"));
                code = code.max(e.exit_code());
            }
        }
    }
    // One file gives one object, several one object a line.
    for value in reports {
        print(&value.to_string())?;
    }
    Ok(code)
}
