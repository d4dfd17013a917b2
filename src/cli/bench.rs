//! `bench`: measures, compares, ranks; and the hidden command that decodes alone.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{flags, pretty, print, say, variable};
use crate::backend::device::{self, Device};
use crate::bench::price::Prices;
use crate::bench::result::Bench;
use crate::bench::synthetic::Synthetic;
use crate::bench::{self, Spec, compare, page, rank, table};
use crate::decode::hardware;
use crate::decode::route::Kind;
use crate::error::{Error, Result};
use crate::input;
use crate::job::{Job, JobFile};
use crate::pipeline::decode_alone;
use crate::plan::Draft;
use crate::program::Quality;
use crate::sample::Rational;

/// The job's flags that mean another thing here.
const OWN: [&str; 2] = ["threads", "trace"];

const ABOUT: &str = "Measure a job on each device and decoder of this machine, and compare what they cost";

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help).allow_hyphen_values(true)
}

/// What `bench run` takes beside the job's flags; `bench` alone is `bench run`.
fn measured(command: Command) -> Command {
    let switch =
        |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    flags::add(command, &OWN)
        .arg(text("devices", "D,D,...", "Devices in turn [default: cpu, and the best GPU that there is]"))
        .arg(text("decoders", "D,D,...", "Decoders in turn [default: software, and nvdec where it is there]"))
        .arg(text("qualities", "Q,Q", "exact,fast; each is ranked by itself"))
        .arg(text("threads", "N,N,...", "Numbers of CPU threads in turn [default: as many as there are]"))
        .arg(text(
            "batches",
            "N,N,...",
            "Pictures that a device gets at a time, at most, in turn [default: as it likes]",
        ))
        .arg(text("rounds", "N", "So many rounds [default: until the medians are known well enough]"))
        .arg(text("time-limit", "DUR", "When measuring ends at the latest [default: 10m; 1m with --quick]"))
        .arg(switch("quick", "About a minute: wider intervals, no break-even"))
        .arg(text("synthetic", "SIZE:CODEC:DUR", "Make media where none are at hand: 1080p:h264:60s"))
        .arg(
            text(
                "peer",
                "NAME=COMMAND",
                "Another program that does the job, timed beside; repeat for more (see benches/peers)",
            )
            .action(ArgAction::Append),
        )
        .arg(price())
        .arg(prices())
        .arg(text("name", "NAME", "What this machine is called in tables [default: its processor and GPU]"))
        .arg(text("page", "FILE", "Write a page with charts here, which needs no network"))
}

fn price() -> Arg {
    let help = "What an hour of a machine, device or configuration costs; repeat for more";
    text("price", "NAME=DOLLARS", help).action(ArgAction::Append)
}

fn prices() -> Arg {
    text("prices", "FILE", "The same as lines of NAME,DOLLARS")
}

/// The command line of `bench`.
pub fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let report =
        |name: &'static str| Arg::new(name).value_name("REPORT").required(true).help("JSON of bench run --report");
    measured(Command::new("bench").about(ABOUT))
        .args_conflicts_with_subcommands(true)
        .subcommand(measured(Command::new("run").about(ABOUT)))
        .subcommand(
            Command::new("compare")
                .about("What changed between two reports; a verdict only where the intervals separate")
                .arg(report("before"))
                .arg(report("after"))
                .arg(json()),
        )
        .subcommand(
            Command::new("rank")
                .about("Which machine does the same work for the least money")
                .arg(report("reports").num_args(1..))
                .arg(price())
                .arg(prices())
                .arg(json()),
        )
        .subcommand(
            Command::new("page")
                .about("The page with charts of a report")
                .arg(report("report"))
                .arg(Arg::new("out").short('o').value_name("FILE").required(true).help("Where to write it")),
        )
        .subcommand(Command::new("schema").about("JSON Schema of the report"))
}

/// Runs `bench`.
pub fn bench(m: &ArgMatches) -> Result<u8> {
    let file =
        |m: &ArgMatches, name: &str| PathBuf::from(m.get_one::<String>(name).map(String::as_str).unwrap_or_default());
    match m.subcommand() {
        None => run(m),
        Some(("run", m)) => run(m),
        Some(("compare", m)) => {
            let told = compare::compare(&Bench::read(&file(m, "before"))?, &Bench::read(&file(m, "after"))?);
            print(&if m.get_flag("json") { pretty(&told.json()) } else { told.text() })
        }
        Some(("rank", m)) => {
            let files: Vec<&Path> = m.get_many::<String>("reports").into_iter().flatten().map(Path::new).collect();
            let read = |(name, file)| Ok((name, Bench::read(file)?));
            let benches = names(&files).into_iter().zip(files).map(read).collect::<Result<Vec<_>>>()?;
            let places = rank::rank(&benches, &priced(m)?)?;
            print(&if m.get_flag("json") { pretty(&rank::json(&places)) } else { rank::text(&places) })
        }
        Some(("page", m)) => {
            let bench = Bench::read(&file(m, "report"))?;
            crate::store::replace(&file(m, "out"), page::html(&bench).as_bytes())?;
            Ok(0)
        }
        Some(("schema", _)) => print(&pretty(&Bench::json_schema())),
        Some((other, _)) => Err(Error::usage(format!("bench: there is no command {other}"))),
    }
}

/// What reports are called: their files, without folder and ending where that still tells them apart.
fn names(files: &[&Path]) -> Vec<String> {
    let stem = |file: &Path| file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let alone = |name: &String| files.iter().filter(|file| stem(file) == *name).count() == 1;
    let name = |file: &&Path| Some(stem(file)).filter(alone).unwrap_or_else(|| file.display().to_string());
    files.iter().map(name).collect()
}

fn priced(m: &ArgMatches) -> Result<Prices> {
    let words: Vec<String> = m.get_many("price").into_iter().flatten().cloned().collect();
    Prices::read(&words, m.get_one::<String>("prices").map(Path::new))
}

/// The parts of a list between commas; none where the flag is not given.
fn list(m: &ArgMatches, name: &str) -> Vec<String> {
    let text = m.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_string).collect()
}

fn number(name: &str, text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::usage(format!("--{name}: `{text}` is not a whole number of 0 or more")))
}

fn run(m: &ArgMatches) -> Result<u8> {
    let mut job = flags::job(m, &variable, &OWN)?;
    let quick = m.get_flag("quick");
    let scratch = job.output.uri.take().filter(|o| o != "-");
    if let Some(uri) = scratch.iter().find(|uri| input::is_remote(uri)) {
        return Err(Error::usage(format!(
            "{}: bench writes to a folder of this machine; expected --output FOLDER on the disk that is to be measured",
            input::without_query(uri)
        )));
    }
    let scratch = scratch.map(|uri| input::local_path(&uri)).transpose()?.unwrap_or_else(std::env::temp_dir);
    let (report, json) = (job.report.take(), job.json);
    let page = m.get_one::<String>("page").map(PathBuf::from);
    let synthetic = m.get_one::<String>("synthetic").map(|text| text.parse::<Synthetic>()).transpose()?;
    // Better now than after minutes that they cannot be written.
    for file in report.iter().chain(&page) {
        file.parent().map_or(Ok(()), crate::store::create_folders)?;
        if file.is_dir() {
            return Err(Error::usage(format!("{} is a folder; expected the name of a file", file.display())));
        }
    }
    let (requests, _listening) = super::signals::requests(&job)?;
    if let Some(clip) = &synthetic {
        say(&format!("framemill: making {}", clip.text));
        job.input.uri.push(clip.make(&scratch, &requests)?.to_string_lossy().into_owned());
    }
    if job.input.uri.is_empty() {
        return Err(Error::usage("no input: give --input FILE or FOLDER, or --synthetic 1080p:h264:60s"));
    }
    let limit = m.get_one::<String>("time-limit").map(|text| Rational::parse_time(text)).transpose()?;
    let limit = limit.map_or(if quick { 60.0 } else { 600.0 }, Rational::as_f64);
    if limit <= 0.0 {
        return Err(Error::usage("--time-limit: expected more than 0"));
    }
    let rounds = m.get_one::<String>("rounds").map(|text| number("rounds", text)).transpose()?;
    if rounds == Some(0) {
        return Err(Error::usage("--rounds: expected 1 or more"));
    }
    let batches = list(m, "batches").iter().map(|n| number("batches", n)).collect::<Result<Vec<_>>>()?;
    if batches.contains(&0) {
        return Err(Error::usage("--batches: expected numbers of 1 or more"));
    }
    let (devices, decoders) = chosen(m, &job);
    let spec = Spec {
        devices,
        decoders,
        qualities: list(m, "qualities").iter().map(|q| quality(q)).collect::<Result<_>>()?,
        threads: list(m, "threads").iter().map(|n| number("threads", n)).collect::<Result<_>>()?,
        batches,
        rounds,
        time_limit: Duration::from_secs_f64(limit.clamp(0.0, 1e7)),
        quick,
        peers: m.get_many::<String>("peer").into_iter().flatten().map(|p| p.parse()).collect::<Result<_>>()?,
        prices: priced(m)?,
        name: m.get_one::<String>("name").cloned(),
        synthetic: synthetic.map(|s| s.text),
        scratch,
        job,
    };
    let program = std::env::current_exe().map_err(|e| Error::bug(format!("this program cannot be found: {e}")))?;
    let start = || {
        let mut process = Process::new(&program);
        // The job that it is given is whole.
        flags::variables().for_each(|name| {
            process.env_remove(name);
        });
        process
    };
    let bench = bench::run(spec, &start, &requests, &mut |text| say(&format!("framemill: {text}")))?;
    // Numbers of minutes are not lost for want of a disk, nor for a reader that is gone.
    let printed = print(&if json { bench.json() } else { table::text(&bench) });
    if let Some(file) = &report {
        bench.write(file)?;
    }
    if let Some(file) = &page {
        crate::store::replace(file, page::html(&bench).as_bytes())?;
    }
    printed?;
    Ok(bench.exit_code())
}

fn quality(word: &str) -> Result<Quality> {
    match word {
        "exact" => Ok(Quality::Exact),
        "fast" => Ok(Quality::Fast),
        other => Err(Error::usage(format!("--qualities: `{other}` is neither exact nor fast"))),
    }
}

/// Devices and decoders to measure: as asked, else the CPU and the best that there is beside it.
fn chosen(m: &ArgMatches, job: &JobFile) -> (Vec<String>, Vec<String>) {
    let (mut devices, mut decoders) = (list(m, "devices"), list(m, "decoders"));
    if devices.is_empty() && job.device == "auto" {
        devices.push("cpu".into());
        if device::may_have_gpu() {
            let there = |d: &&&str| d.parse::<Device>().is_ok_and(|d| device::check(d).is_ok());
            devices.extend(["cuda", "wgpu"].iter().find(there).map(|d| d.to_string()));
        }
    }
    if decoders.is_empty() && job.decoder == "auto" {
        decoders.push("software".into());
        if hardware::find(Kind::Nvdec).is_ok() {
            decoders.push("nvdec".into());
        }
    }
    (devices, decoders)
}

/// `__decode JOB`: decodes what a job wants and prints what that took.
pub fn decode(m: &ArgMatches) -> Result<u8> {
    let path = m.get_one::<String>("job").map(String::as_str).unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|e| Error::usage(format!("{path}: {e}")))?;
    let job = Job::resolve(JobFile::from_tables(JobFile::tables(&text, path)?)?)?;
    let inputs = super::run::list(&job, None)?;
    let plan = Draft::new(&job, inputs, Default::default(), 1, 0, &|_, _| {})?.unfrozen()?;
    let alone = decode_alone(&job, &[Arc::new(plan)])?;
    print(&serde_json::to_value(&alone).unwrap_or_default().to_string())
}
