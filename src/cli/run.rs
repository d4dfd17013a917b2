//! `run` and `retry`: plan or find the plan, supervise an engine, finish, report.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::ArgMatches;
use serde_json::Value;

use super::listeners::{Ended, Listeners};
use super::metrics::{Count, Tasks};
use super::pipe::{Pipe, READER_GONE};
use super::progress::Progress;
use super::signals::{Planning, go_on, requests};
use super::{flags, print, say, variable};
use crate::error::{Error, Result};
use crate::finish;
use crate::input::{self, InputSpec, Inputs};
use crate::job::values::TaskShare;
use crate::job::{Job, JobFile, Metadata};
use crate::pipeline::{self, Observer, Stop, Suspects, Target, UnitKey};
use crate::plan::{Changes, Draft, Plan};
use crate::report::{self, ThisRun};
use crate::sink::Format;
use crate::store::{self, Output};
use crate::supervise::{self, Finished, News, Requests};
use crate::task::{Ledger, Totals};
use crate::trace::Traces;

/// Lists the job's inputs; none at all is a usage error unless the job allows it.
pub fn list(job: &Job, out: Option<&Output>) -> Result<Inputs> {
    if job.file.input.uri.is_empty() && !job.file.allow_empty {
        return Err(Error::usage("no input: give --input FILE, FOLDER, GLOB or LIST, or [input] uri in the job file"));
    }
    let output = out.and(job.file.output.uri.as_deref());
    let spec = InputSpec { allow_empty: job.file.allow_empty, ..job.file.input.clone() };
    let inputs = input::list(&spec, job.file.seed, output)?;
    if inputs.is_empty() && !job.file.allow_empty {
        return Err(Error::usage(format!(
            "no input: nothing to decode was found in {} ({} other files were ignored); --allow-empty makes this a success",
            job.file.input.uri.join(", "),
            inputs.counts.ignored
        )));
    }
    if inputs.counts.ignored + inputs.counts.duplicates > 0 {
        let counts = inputs.counts;
        tracing::info!(
            ignored = counts.ignored,
            duplicates = counts.duplicates,
            "files that are no media, URIs listed twice"
        );
    }
    Ok(inputs)
}

/// `framemill run`.
pub fn run(m: &ArgMatches, engine: Vec<String>) -> Result<u8> {
    let begun = Instant::now();
    let file = match flags::job(m, &variable, &[]) {
        Ok(file) => file,
        Err(e) => return Listeners::open(&flags::telling(m, &variable))?.end(Err(e)),
    };
    let mut heard = Listeners::open(&file)?;
    let ended = run_job(file, m.get_flag("append"), engine, &mut heard, begun);
    heard.end(ended)
}

fn run_job(
    mut file: JobFile,
    append: bool,
    engine: Vec<String>,
    heard: &mut Listeners,
    begun: Instant,
) -> Result<Ended> {
    file.tasks = file.tasks.resolve(variable)?;
    let job = &Job::resolve(file)?;
    let how = &Telling::new(&job.file)?;
    let ended = match job.file.output.uri.as_deref() {
        None => Err(Error::usage("no output: give --output FOLDER, or - for a tar on standard output")),
        Some("-") if append => {
            Err(Error::usage("--append continues a plan, and a stream has none: give --output FOLDER"))
        }
        Some("-") => stream(job, how, heard, begun),
        Some(_) => {
            let out = job.output()?;
            let (requests, _listening) = requests(&job.file)?;
            let (planning, began) = (Planning::begin(&requests, &job.file), Instant::now());
            let plans = planned(job, &out, append, how, &requests)?;
            how.note("plan", began);
            execute(job, &out, plans, how, engine, (&requests, planning), heard, begun)
        }
    };
    how.traced(ended)
}

/// `framemill retry`.
pub fn retry(m: &ArgMatches, uri: &str, engine: Vec<String>) -> Result<u8> {
    let begun = Instant::now();
    let out = &super::output(uri)?;
    let plans = super::plans(out)?;
    let mut file: JobFile = plans[0].job()?;
    file.output.uri = Some(uri.into());
    file.input.store = plans[0].header.store.clone();
    file = flags::over(&file, m, &variable, flags::AGAIN)?;
    // An output without any input was allowed to be.
    file.allow_empty = true;
    let mut heard = Listeners::open(&file)?;
    let root = m.get_one::<String>("root").cloned();
    let ended = Telling::new(&file).and_then(|how| {
        let ended = retry_job(file, root, out, plans, &how, engine, &mut heard, begun);
        how.traced(ended)
    });
    heard.end(ended)
}

#[allow(clippy::too_many_arguments)]
fn retry_job(
    file: JobFile,
    root: Option<String>,
    out: &Output,
    mut plans: Vec<Plan>,
    how: &Telling,
    engine: Vec<String>,
    heard: &mut Listeners,
    begun: Instant,
) -> Result<Ended> {
    let mut job = Job::resolve(file)?;
    plans[0].check(&job, out)?;
    job.file.input.root = root.or(job.file.input.root);
    let totals = Totals::read(&Ledger::new(out), &plans)?;
    if !totals.finished() {
        return Err(Error::interrupted(format!(
            "{out}: {} tasks are left; run the job to its end before retrying what it rejected",
            totals.tasks - totals.done
        )));
    }
    let (requests, _listening) = requests(&job.file)?;
    let planning = Planning::begin(&requests, &job.file);
    if !totals.rejects.is_empty() {
        let mut units = Vec::new();
        let like = plans[0].header.clone();
        plans = plans.into_iter().map(|plan| plan.mounted(like.root.as_deref())).collect::<Result<_>>()?;
        for of_task in totals.rejects.chunk_by(|a, b| a.0 == b.0) {
            let task = of_task[0].0;
            let plan = plans.iter().find(|p| p.tasks().contains(&task));
            let plan = plan.ok_or_else(|| Error::bug(format!("task {task} is in no plan")))?;
            let planned = plan.units(task)?;
            for (_, reject) in of_task {
                let unit = planned.iter().find(|u| reject.is_of(u)).cloned();
                let mut unit = unit.ok_or_else(|| Error::bug(format!("task {task} has no input {}", reject.uri)))?;
                // What is there now counts, also where the file was mended since.
                (unit.bytes, unit.version) = (None, None);
                // The further generation has the first one's base and root.
                if (&plan.header.base, &plan.header.root) != (&like.base, &like.root) {
                    unit.uri = unit.path.clone();
                }
                units.push(unit);
            }
        }
        let generation = plans.len() as u32 + 1;
        let draft = Draft::again(&job, units, &like, generation, totals.tasks)?;
        go_on(&requests)?;
        plans.push(draft.freeze(out)?);
    }
    execute(&job, out, plans, how, engine, (&requests, planning), heard, begun)
}

/// How things are told.
struct Telling {
    progress: String,
    json: bool,
    traces: RefCell<Traces>,
}

impl Telling {
    fn new(job: &JobFile) -> Result<Telling> {
        Progress::new(&job.progress, 0)?;
        let traces = RefCell::new(Traces::open(job)?);
        Ok(Telling { progress: job.progress.clone(), json: job.json, traces })
    }

    /// Notes work of this process itself that began at `begun` and ends now.
    fn note(&self, what: &str, begun: Instant) {
        self.traces.borrow_mut().own(what, begun);
    }

    /// Hands over what was traced.
    fn traced(&self, ended: Result<Ended>) -> Result<Ended> {
        let told = ended.as_ref().map(|e| (e.code, e.report.as_ref())).map_err(|e| e.to_string());
        self.traces.borrow_mut().end(told).and(ended)
    }
}

/// Finds the output's plans or makes the first; with `append` one more.
fn planned(job: &Job, out: &Output, append: bool, how: &Telling, requests: &Requests) -> Result<Vec<Plan>> {
    let mut plans = Plan::load_all(out)?;
    if let Some(first) = plans.first() {
        first.check(job, out)?;
        if !append {
            return Ok(plans);
        }
    }
    let inputs = list(job, Some(out))?;
    go_on(requests)?;
    if plans.is_empty() {
        out.probe()?;
    }
    let known = Plan::all_identities(&plans)?;
    let changes = Changes::of(&inputs, &known);
    let tick = |done: u64, all: u64| {
        if how.progress != "none" {
            tracing::info!("looked into {done} of {all} videos that may be long");
        }
    };
    let first_task = plans.last().map_or(0, |p| p.tasks().end);
    let again = !plans.is_empty();
    let draft = Draft::new(job, inputs, known, plans.len() as u32 + 1, first_task, &tick)?;
    if again {
        say(&format!("framemill: since {out} was planned {changes}"));
        if changes.new == 0 {
            return Ok(plans);
        }
    }
    go_on(requests)?;
    plans.push(draft.freeze(out)?);
    if !again {
        // Another worker may have been first, with another job.
        plans[0].check(job, out)?;
    }
    Ok(plans)
}

#[allow(clippy::too_many_arguments)]
fn execute(
    job: &Job,
    out: &Output,
    plans: Vec<Plan>,
    how: &Telling,
    engine: Vec<String>,
    (requests, planning): (&Requests, Planning),
    heard: &mut Listeners,
    begun: Instant,
) -> Result<Ended> {
    let ledger = Ledger::new(out);
    // What was done before is known by name alone: to read it is dear where many workers begin.
    let before = ledger.done(plans.iter().flat_map(Plan::tasks))?;
    let mut this = ThisRun::default();
    let own = |done: &dyn Fn(u64) -> bool| {
        plans.iter().flat_map(Plan::tasks).filter(|t| job.file.tasks.has(*t) && !done(*t)).count() as u64
    };
    let planned = plans.iter().map(|plan| plan.header.tasks).sum();
    let done = before.len() as u64;
    let tasks = Tasks { planned, done, own: own(&|task| before.contains(&task)) };
    heard.begin(tasks, shared(job, &ledger, &plans));
    let done_before = done == planned;
    if done_before {
        drop(planning);
        if planned > 0 {
            say(&format!("framemill: {out}: all {planned} tasks were done before"));
        }
        this.finished.outcome.skipped = planned;
    } else if requests.by().is_some() {
        this.finished.interrupted = true;
    } else {
        drop(planning);
        let inputs = plans.iter().map(|plan| left(plan, &before)).sum();
        this.finished = supervised(job, how, &engine, requests, heard, inputs, &mut this.restarts)?;
    }
    this.finished.peak_memory = supervise::peak_with(this.finished.peak_memory);
    let totals = Totals::read(&ledger, &plans)?;
    if totals.finished() {
        let finishing = Instant::now();
        if let Some(raw) = job.raw()? {
            raw.tidy()?;
        }
        if !finish::finish(out, &plans, &totals)? {
            say(&format!(
                "framemill: {out} was planned further meanwhile: whoever does the last task of that finishes"
            ));
        }
        how.note("finish", finishing);
    }
    (this.tasks, this.samples) = match job.file.tasks {
        // Nobody else is at it; and what an engine that died had done is all there.
        TaskShare::All => {
            let new = || totals.receipts.iter().filter(|receipt| !before.contains(&receipt.task));
            (new().count() as u64, new().map(|receipt| receipt.samples).sum())
        }
        _ => this.finished.committed,
    };
    this.wall = begun.elapsed().as_secs_f64();
    this.interrupted_by = requests.by().map(str::to_string);
    let done = |task: u64| totals.receipts.binary_search_by_key(&task, |receipt| receipt.task).is_ok();
    let code = if own(&done) > 0 {
        let why = this.finished.outcome.left.first().cloned();
        let by = requests.by().map_or(String::new(), |by| format!(" by {by}"));
        let why = why.unwrap_or_else(|| format!("interrupted{by}: run the same command again to go on"));
        say(&format!("framemill: {} of {} tasks are done; {why}", totals.done, totals.tasks));
        75
    } else if totals.finished() {
        verdict(job, &totals)
    } else {
        // A worker that has done its share has done well.
        0
    };
    let mut report = report::report(job, &plans[0].header.fingerprint, &totals, &this);
    report["exit_code"] = code.into();
    tell(job, Some(out), how, &report, done_before)?;
    Ok(Ended { code, report: Some(report), digest: Some(totals.digest()) })
}

/// Inputs of the tasks of `plan` that are not `done`: by their part of its units, which are inputs or parts of long ones.
fn left(plan: &Plan, done: &HashSet<u64>) -> u64 {
    let units: u64 = plan.tasks().filter(|task| !done.contains(task)).map(|task| plan.len_of(task)).sum();
    let share = u128::from(units) * u128::from(plan.header.inputs);
    share.div_ceil(u128::from(plan.header.units.max(1))) as u64
}

/// How the tasks are counted that others do meanwhile.
fn shared(job: &Job, ledger: &Ledger, plans: &[Plan]) -> Option<Count> {
    let (ledger, tasks) = (ledger.clone(), plans.iter().map(Plan::tasks).collect::<Vec<_>>());
    let count = move || Ok(ledger.done(tasks.iter().cloned().flatten())?.len() as u64);
    (job.file.tasks != TaskShare::All).then(|| Box::new(count) as Count)
}

/// The exit code of a finished job.
fn verdict(job: &Job, totals: &Totals) -> u8 {
    if totals.inputs == 0 && job.file.allow_empty {
        return 0;
    }
    if job.file.max_rejects.exceeded(totals.rejected, totals.inputs) {
        say(&format!(
            "framemill: {} of {} inputs were rejected, more than --max-rejects {}; see framemill rejects",
            totals.rejected, totals.inputs, job.file.max_rejects
        ));
        return 3;
    }
    if totals.samples == 0 {
        say(&format!("framemill: no sample came out of {} inputs", totals.inputs));
        return 3;
    }
    0
}

#[allow(clippy::too_many_arguments)]
fn supervised(
    job: &Job,
    how: &Telling,
    arguments: &[String],
    requests: &Requests,
    heard: &mut Listeners,
    inputs: u64,
    restarts: &mut Vec<String>,
) -> Result<Finished> {
    let program = std::env::current_exe().map_err(|e| Error::bug(format!("this program cannot be found: {e}")))?;
    let start = || {
        let mut command = Command::new(&program);
        command.args(arguments);
        command
    };
    let mut progress = Progress::new(&how.progress, inputs)?;
    let traces = &mut how.traces.borrow_mut();
    let result = supervise::run(job, &start, requests, traces, &mut |news| match news {
        News::Progress(now) => {
            progress.show(now);
            heard.look(now, requests);
        }
        News::Restart(why) => {
            heard.restart(why);
            progress.note(&format!("framemill: {why}"));
            restarts.push(why.to_string());
        }
    });
    progress.end();
    result
}

/// Prints and stores the report. That of a run which had `nothing` to do may fail to be stored: its output may be read-only.
fn tell(job: &Job, out: Option<&Output>, how: &Telling, report: &Value, nothing: bool) -> Result<()> {
    let pretty = super::pretty(report) + "\n";
    if let Some(out) = out {
        match report_name(out).and_then(|name| out.replace(&name, pretty.as_bytes())) {
            Err(e) if nothing => tracing::warn!("this run's report is not stored: {e}"),
            stored => stored?,
        }
    }
    if let Some(file) = &job.file.report {
        store::replace(file, pretty.as_bytes())?;
    }
    if how.json {
        print(&report.to_string())?;
    } else if out.is_some() {
        print(&report::text(report))?;
    } else {
        // Standard output is the tar's.
        say(&report::text(report));
    }
    Ok(())
}

/// A name behind those of all reports that are there, so that the last one is the newest although a clock was set back.
fn report_name(out: &Output) -> Result<String> {
    let number = |name: &String| name.split('-').next()?.parse::<u64>().ok();
    let last = out.list("_framemill/reports")?.iter().filter_map(number).max();
    let number = (store::moment() / 1_000_000).max(last.map_or(0, |last| last.saturating_add(1)));
    Ok(format!("_framemill/reports/{number:014}-{}.json", std::process::id()))
}

/// The engine process: speaks with its supervisor over standard input, which is a socket.
pub fn engine() -> Result<u8> {
    let link = std::io::stdin().as_fd().try_clone_to_owned();
    let link = link.map_err(|e| Error::bug(format!("the engine's connection: {e}")))?;
    supervise::engine(UnixStream::from(link), || {
        // Nobody is there to tell; what is unfinished stays invisible.
        std::process::exit(75)
    })?;
    Ok(0)
}

struct Silent;

impl Observer for Silent {
    fn began(&self, _: UnitKey) {}
    fn ended(&self, _: UnitKey) {}
}

/// Refuses what one tar on standard output cannot hold.
fn streams(job: &JobFile) -> Result<()> {
    let cannot = [
        ("--format", job.output.format != Format::Webdataset, "it is one tar of samples"),
        ("--metadata", job.output.metadata != [Metadata::Parquet], "records are in the tar alone"),
        ("--split", !job.input.split.is_empty(), "it is one tar, not one for each split"),
        ("--tasks", job.tasks != TaskShare::All, "it is one task; list the inputs of each stream apart"),
    ];
    match cannot.into_iter().find(|(_, wrong, _)| *wrong) {
        Some((flag, _, why)) => Err(Error::usage(format!("{flag} does not go with --output -: {why}"))),
        None => Ok(()),
    }
}

/// Hands on what threads did.
fn collect(progress: &pipeline::Progress, traces: &mut Traces) {
    let (slices, dropped) = progress.slices();
    traces.add(&slices, dropped);
}

/// One tar on standard output, in order, with no ledger.
fn stream(job: &Job, how: &Telling, heard: &mut Listeners, begun: Instant) -> Result<Ended> {
    if how.json && job.file.report.is_none() {
        return Err(Error::usage("--json prints to standard output, which is the tar's here: write --report FILE"));
    }
    streams(&job.file)?;
    let mut whole = job.clone();
    // One stream is one task.
    whole.file.output.shard_samples = u64::MAX;
    whole.file.output.shard_bytes.0 = u64::MAX;
    let inputs = list(job, None)?;
    let plan = Arc::new(Draft::new(&whole, inputs, HashSet::new(), 1, 0, &|_, _| {})?.unfrozen()?);
    let (requests, _listening) = requests(&job.file)?;
    heard.begin(Tasks { planned: 1, done: 0, own: 1 }, None);
    let (stop, progress) = (Stop::default(), pipeline::Progress::traced(how.traces.borrow().wanted()));
    let traces: &mut Traces = &mut how.traces.borrow_mut();
    traces.engine();
    let over = AtomicBool::new(false);
    let (bytes, gone) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut shown = Progress::new(&how.progress, plan.header.inputs)?;
    let outcome = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if requests.by().is_some() {
                    stop.abort();
                }
                let now = progress.look();
                shown.show(&now);
                heard.look(&now, &requests);
                collect(&progress, traces);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            collect(&progress, traces);
            shown.end();
        });
        let pipe = Pipe { bytes: &bytes, gone: &gone };
        let target = Target::Stream(Box::new(std::io::BufWriter::with_capacity(1 << 20, pipe)));
        let plans = [plan.clone()];
        let result = pipeline::run(job, &plans, &|_| true, target, &stop, &progress, &Silent, &Suspects::default());
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = watch.join() {
            std::panic::resume_unwind(panic);
        }
        result
    });
    if gone.load(Ordering::Relaxed) {
        tracing::info!("whoever read standard output has gone");
        return Ok(Ended { code: READER_GONE, report: None, digest: None });
    }
    let outcome = outcome?;
    let mut totals = Totals { tasks: plan.header.tasks, inputs: plan.header.inputs, ..Totals::default() };
    totals.bytes_written = bytes.load(Ordering::Relaxed);
    for (receipt, rejects) in &outcome.streamed {
        totals.add(receipt);
        let assets: HashSet<&String> = rejects.iter().map(|r| &r.asset).collect();
        totals.rejected += assets.len() as u64;
        totals.inputs_done = totals.inputs - totals.rejected;
    }
    let interrupted = stop.draining();
    let peak_memory = supervise::peak_memory();
    let finished = Finished { outcome, interrupted, peak_memory, ..Finished::default() };
    let this = ThisRun {
        samples: totals.samples,
        tasks: totals.done,
        wall: begun.elapsed().as_secs_f64(),
        finished,
        restarts: Vec::new(),
        interrupted_by: requests.by().map(str::to_string),
    };
    let code = if interrupted { 75 } else { verdict(job, &totals) };
    let mut report = report::report(job, &plan.header.fingerprint, &totals, &this);
    report["exit_code"] = code.into();
    tell(job, None, how, &report, false)?;
    Ok(Ended { code, report: Some(report), digest: None })
}
