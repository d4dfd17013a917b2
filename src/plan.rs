//! The frozen plan: which inputs there are, cut into units and grouped into tasks.
//!
//! Promises: a plan is written once (a table named by its digest, then a small `plan.json`, create-only, that names it)
//! and never changed; every worker reads the same one; resuming lists nothing. Further generations stand in files of
//! their own behind it. A task's units lie together, in order, so that a worker reads only the rows that it needs.

#[cfg(test)]
pub(crate) mod examples;
mod probe;
mod table;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::input::{self, Counts, Inputs, Item, Mount};
use crate::job::{self, Job, JobFile};
use crate::sample::{Rational, Rule};
use crate::sink::record::{Cell, Column};
use crate::store::cloud::Settings;
use crate::store::{Created, Fetched, Output};
pub use probe::uncut;

/// One asset, or a time range of one: what a decoder thread takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The task that it belongs to.
    pub task: u64,
    /// Ordinal of the input in the plan.
    pub input: u64,
    /// The input as listed.
    pub uri: String,
    /// Where it is opened: the URI, a relative path joined to the folder that the plan was made in, and what lies below
    /// a root there where that is mounted now.
    pub path: String,
    /// The asset's identity.
    pub identity: u64,
    /// Size when it was listed.
    pub bytes: Option<u64>,
    /// Version when it was listed.
    pub version: Option<String>,
    /// Start of the selected part.
    pub start: Option<Rational>,
    /// End of the selected part.
    pub end: Option<Rational>,
    /// Ordinal of the split.
    pub split: Option<usize>,
    /// First presentation time of the unit; open where `None`.
    pub from: Option<i64>,
    /// Presentation time behind the unit; open where `None`.
    pub to: Option<i64>,
    /// The list's own columns.
    pub cells: Vec<Cell>,
}

impl Unit {
    fn new(input: u64, item: Item) -> Unit {
        let Item { uri, identity, bytes, version, start, end, split, cells } = item;
        let path = uri.clone();
        Unit { task: 0, input, uri, path, identity, bytes, version, start, end, split, from: None, to: None, cells }
    }

    /// The identity as 16 hex digits.
    pub fn asset(&self) -> String {
        format!("{:016x}", self.identity)
    }

    /// The URI without its query, which may be signed.
    pub fn name(&self) -> &str {
        crate::input::without_query(&self.uri)
    }

    /// What the unit is, for messages: the URI, with the time range where it is only a part.
    pub fn place(&self) -> String {
        match (self.from, self.to) {
            (None, None) => self.name().to_string(),
            (from, to) => {
                let show = |t: Option<i64>| t.map_or(String::new(), |t| t.to_string());
                format!("{} (pts {}..{})", self.name(), show(from), show(to))
            }
        }
    }

    /// What tells this unit from all others, in every generation.
    pub fn id(&self) -> (u64, Option<i64>) {
        (self.identity, self.from)
    }
}

/// `plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this format.
    pub version: u32,
    /// 1 for the first plan, counting on with `--append` and `retry`.
    pub generation: u32,
    /// Digest of `identity`.
    pub fingerprint: String,
    /// The job and the versions of the libraries that decide bytes.
    pub identity: Value,
    /// The folder that relative inputs start from, where there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<String>,
    /// The absolute place of the root that identities are relative to, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<String>,
    /// How the stores of the inputs were reached, for `retry`; a run has its own.
    #[serde(skip_serializing_if = "is_default", default)]
    pub store: Settings,
    /// File name of the table of units.
    pub table: String,
    /// Number of inputs.
    pub inputs: u64,
    /// Number of units.
    pub units: u64,
    /// Number of the first task.
    pub first_task: u64,
    /// Number of tasks.
    pub tasks: u64,
    /// What listing met.
    pub counts: Counts,
    /// The list's own columns.
    pub columns: Vec<Column>,
    /// Names of the splits.
    pub splits: Vec<String>,
}

/// Bytes of the largest table whose digest everybody who loads the plan checks.
const CHECKED: u64 = 64 << 20;

/// A plan with where its tasks lie in the table.
#[derive(Debug)]
pub struct Plan {
    /// What `plan.json` says.
    pub header: Header,
    source: Source,
    mount: Option<Mount>,
    /// First row of each task, and the number of rows at the end.
    rows: Vec<usize>,
}

#[derive(Debug)]
enum Source {
    /// Not frozen: `plan` and streams to standard output.
    Memory(Vec<Unit>),
    Table(Fetched),
}

fn is_default(store: &Settings) -> bool {
    *store == Settings::default()
}

fn is_relative(uri: &str) -> bool {
    !uri.starts_with('/') && !uri.contains("://")
}

/// Name in the output of a file beside the plan.
fn named(file: &str) -> String {
    format!("_framemill/{file}")
}

fn file_name(generation: u32) -> String {
    if generation == 1 { "plan.json".into() } else { format!("plan-{generation:04}.json") }
}

impl Plan {
    /// The tasks of this plan.
    pub fn tasks(&self) -> std::ops::Range<u64> {
        self.header.first_task..self.header.first_task + self.header.tasks
    }

    /// How many units `task` has.
    pub fn len_of(&self, task: u64) -> u64 {
        let i = (task - self.header.first_task) as usize;
        (self.rows[i + 1] - self.rows[i]) as u64
    }

    /// The units of `task`, in order.
    pub fn units(&self, task: u64) -> Result<Vec<Unit>> {
        let i = (task - self.header.first_task) as usize;
        let (from, to) = (self.rows[i], self.rows[i + 1]);
        let mut units = match &self.source {
            Source::Memory(units) => units[from..to].to_vec(),
            Source::Table(file) => table::read(file.as_ref(), from, to - from, &self.header.columns)?,
        };
        if let Some(base) = &self.header.base {
            for unit in units.iter_mut().filter(|u| is_relative(&u.uri)) {
                unit.path = format!("{base}/{}", unit.uri);
            }
        }
        if let Some(mount) = &self.mount {
            for unit in &mut units {
                unit.path = mount.place(&unit.path)?;
            }
        }
        Ok(units)
    }

    /// Looks for the inputs below `root`, wherever the plan was made. A relative root, like relative inputs, starts from
    /// the folder that the plan was made in.
    pub fn mounted(mut self, root: Option<&str>) -> Result<Plan> {
        if let (Some(from), Some(to)) = (&self.header.root, root) {
            self.mount = match &self.header.base {
                Some(base) if is_relative(to) => Mount::new(from, &format!("{base}/{to}"))?,
                _ => Mount::new(from, to)?,
            };
        }
        Ok(self)
    }

    /// Name of the split that `unit` belongs to.
    pub fn split(&self, unit: &Unit) -> Option<&str> {
        unit.split.and_then(|i| self.header.splits.get(i)).map(String::as_str)
    }

    /// Identities of all its inputs.
    fn identities(&self) -> Result<HashSet<u64>> {
        let mut all = HashSet::new();
        for task in self.tasks() {
            all.extend(self.units(task)?.iter().map(|u| u.identity));
        }
        Ok(all)
    }

    /// Identities of the inputs of all `plans`.
    pub fn all_identities(plans: &[Plan]) -> Result<HashSet<u64>> {
        plans.iter().try_fold(HashSet::new(), |mut all, plan| {
            all.extend(plan.identities()?);
            Ok(all)
        })
    }

    /// The job as it was frozen: what decides bytes. How a worker runs is its own matter.
    pub fn job(&self) -> Result<JobFile> {
        JobFile::from_tables(self.header.identity["job"].clone())
    }

    /// The plan of one generation, if there is one.
    pub fn load(out: &Output, generation: u32) -> Result<Option<Plan>> {
        let name = named(&file_name(generation));
        let Some(text) = out.read(&name)? else { return Ok(None) };
        let place = out.place(&name);
        let broken = |e: String| Error::store(format!("{place}: {e}; restore it or choose another output"));
        let header: Header = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        if header.version != 1 {
            return Err(broken(format!("plan format {} is not known to this version", header.version)));
        }
        let table = out.file(&named(&header.table))?;
        if std::fs::metadata(&table).is_ok_and(|meta| meta.len() <= CHECKED) {
            table::check(table.as_ref(), &header.table, &out.place(&named(&header.table)))?;
        }
        let rows = table::task_rows(table.as_ref(), header.first_task, header.tasks)?;
        Ok(Some(Plan { header, source: Source::Table(table), mount: None, rows }))
    }

    /// Whether its table is the one that was frozen, read in full: what loading leaves to `verify` where the table is large.
    ///
    /// # Errors
    /// A store error that names the table.
    pub fn check_table(&self, out: &Output) -> Result<()> {
        match &self.source {
            Source::Table(table) => {
                table::check(table.as_ref(), &self.header.table, &out.place(&named(&self.header.table)))
            }
            Source::Memory(_) => Ok(()),
        }
    }

    /// All generations, in order; none where nothing was planned.
    pub fn load_all(out: &Output) -> Result<Vec<Plan>> {
        let mut plans = Vec::new();
        while let Some(plan) = Self::load(out, plans.len() as u32 + 1)? {
            plans.push(plan);
        }
        Ok(plans)
    }

    /// Whether a further generation stands behind those in `plans`.
    pub fn outdated(out: &Output, plans: &[Plan]) -> Result<bool> {
        Ok(out.size(&named(&file_name(plans.len() as u32 + 1)))?.is_some())
    }

    /// Refuses a plan of another job, naming the differences.
    pub fn check(&self, job: &Job, out: &Output) -> Result<()> {
        let ours = job.identity();
        if job::fingerprint(&self.header.identity) == job::fingerprint(&ours) {
            return Ok(());
        }
        let differences = job::differences(&self.header.identity, &ours);
        Err(Error::other_job(format!(
            "{out} holds the plan of another job. It differs in {}. Run with the same settings, or choose another output",
            differences.join("; ")
        )))
    }
}

/// How what is listed now differs from what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Inputs that no generation knows.
    pub new: u64,
    /// Planned inputs that are not listed any more.
    pub gone: u64,
}

impl Changes {
    /// Compares a listing with the identities of all that was planned.
    pub fn of(inputs: &Inputs, known: &HashSet<u64>) -> Changes {
        let kept = (0..inputs.len()).filter(|i| known.contains(&inputs.identity(*i))).count();
        Changes { new: (inputs.len() - kept) as u64, gone: (known.len() - kept) as u64 }
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} inputs are new and {} are gone", self.new, self.gone)
    }
}

/// A plan that is not frozen yet. Units are made only as they are looked at: millions of inputs stay as compact as the
/// listing holds them.
pub struct Draft {
    job: Job,
    header: Header,
    origin: Origin,
}

enum Origin {
    /// Listed inputs, and the parts of those that were cut.
    Listed { inputs: Box<Inputs>, cuts: BTreeMap<usize, Vec<probe::Part>>, known: HashSet<u64> },
    /// Units of earlier generations.
    Given(Vec<Unit>),
}

impl Draft {
    /// Cuts and groups `inputs` without those whose identity is `known`; nothing is written. `tick` hears how many of how many files were looked into.
    pub fn new(
        job: &Job,
        inputs: Inputs,
        known: HashSet<u64>,
        generation: u32,
        first_task: u64,
        tick: &dyn Fn(u64, u64),
    ) -> Result<Draft> {
        let cuts = probe::cuts(job, &inputs, &known, tick)?;
        let splits = job.file.input.split.iter().map(|s| s.name.clone()).collect();
        let mut header = header(job, inputs.counts, inputs.columns().to_vec(), splits, generation, first_task);
        header.root = job.file.input.mounted().map(input::absolute_root).transpose()?;
        header.store = job.file.input.store.clone();
        Draft { job: job.clone(), header, origin: Origin::Listed { inputs: Box::new(inputs), cuts, known } }.counted()
    }

    /// A further generation that tries `units` of earlier ones again.
    pub fn again(job: &Job, units: Vec<Unit>, like: &Header, generation: u32, first_task: u64) -> Result<Draft> {
        let counts = Counts { listed: units.len() as u64, ..Counts::default() };
        let mut header = header(job, counts, like.columns.clone(), like.splits.clone(), generation, first_task);
        (header.base, header.root) = (like.base.clone(), like.root.clone());
        header.store = like.store.clone();
        Draft { job: job.clone(), header, origin: Origin::Given(units) }.counted()
    }

    /// What `plan.json` will say.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn counted(mut self) -> Result<Draft> {
        let (mut units, mut inputs, mut tasks) = (0, 0, 0);
        let (mut last, mut relative) = (None, false);
        self.for_each(&mut |unit| {
            units += 1;
            relative |= is_relative(&unit.uri);
            inputs += u64::from(last.replace(unit.identity) != Some(unit.identity));
            tasks = unit.task + 1 - self.header.first_task;
            Ok(())
        })?;
        (self.header.units, self.header.inputs, self.header.tasks) = (units, inputs, tasks);
        if relative && self.header.base.is_none() {
            let here = std::env::current_dir().map_err(|e| Error::usage(format!("the current folder: {e}")))?;
            self.header.base = Some(here.to_string_lossy().into_owned());
        }
        Ok(self)
    }

    /// Gives every unit, in order, with its task: a task ends where it holds about as much as a shard should, or the
    /// split changes (splits have shards of their own, so their units come together).
    fn for_each(&self, each: &mut dyn FnMut(Unit) -> Result<()>) -> Result<()> {
        let output = &self.job.file.output;
        let largest = (output.shard_bytes.0 / sample_bytes(&self.job).max(1)).clamp(1, output.shard_samples);
        let (mut task, mut held) = (self.header.first_task, 0u64);
        let splits: Vec<Option<usize>> =
            if self.header.splits.is_empty() { vec![None] } else { (0..self.header.splits.len()).map(Some).collect() };
        for split in splits {
            let mut place = |mut unit: Unit, samples: u64| {
                if held > 0 && held + samples > largest {
                    task += 1;
                    held = 0;
                }
                held += samples;
                unit.task = task;
                each(unit)
            };
            match &self.origin {
                Origin::Given(units) => {
                    for unit in units.iter().filter(|u| u.split == split) {
                        place(unit.clone(), samples(&self.job, unit, None))?;
                    }
                }
                Origin::Listed { inputs, cuts, known } => {
                    for i in 0..inputs.len() {
                        let item = inputs.item(i);
                        if item.split != split || known.contains(&item.identity) {
                            continue;
                        }
                        let unit = Unit::new(i as u64, item);
                        match cuts.get(&i) {
                            None => {
                                let samples = samples(&self.job, &unit, None);
                                place(unit, samples)?;
                            }
                            Some(parts) => {
                                for part in parts {
                                    let unit = Unit { from: part.from, to: part.to, ..unit.clone() };
                                    let samples = samples(&self.job, &unit, Some(part.seconds));
                                    place(unit, samples)?;
                                }
                            }
                        }
                    }
                }
            }
            if held > 0 {
                task += 1;
                held = 0;
            }
        }
        Ok(())
    }

    /// The plan in memory, for what has no ledger.
    pub fn unfrozen(self) -> Result<Plan> {
        let (mut units, mut rows) = (Vec::new(), Vec::new());
        self.for_each(&mut |unit| {
            if unit.task - self.header.first_task == rows.len() as u64 {
                rows.push(units.len());
            }
            units.push(unit);
            Ok(())
        })?;
        rows.push(units.len());
        Ok(Plan { header: self.header, source: Source::Memory(units), mount: None, rows })
    }

    /// Writes the plan, unless another worker was first: then that one's is given back.
    pub fn freeze(mut self, out: &Output) -> Result<Plan> {
        self.header.table = table::write(out, &self.header.columns, |each| self.for_each(each))?;
        let text = serde_json::to_vec_pretty(&self.header).map_err(|e| Error::bug(format!("plan.json: {e}")))?;
        let name = named(&file_name(self.header.generation));
        match out.create_only(&name, &text)? {
            Created::Written | Created::Same => {}
            Created::Other(_) => tracing::info!("another worker has planned this output"),
        }
        Plan::load(out, self.header.generation)?
            .ok_or_else(|| Error::store(format!("{} is not there although it was written", out.place(&name))))
    }
}

fn header(
    job: &Job,
    counts: Counts,
    columns: Vec<Column>,
    splits: Vec<String>,
    generation: u32,
    first_task: u64,
) -> Header {
    let identity = job.identity();
    Header {
        version: 1,
        generation,
        fingerprint: job::fingerprint(&identity),
        identity,
        base: None,
        root: None,
        store: Settings::default(),
        table: String::new(),
        inputs: 0,
        units: 0,
        first_task,
        tasks: 0,
        counts,
        columns,
        splits,
    }
}

/// Roughly how many samples a unit gives. `seconds` is its length where known.
fn samples(job: &Job, unit: &Unit, seconds: Option<f64>) -> u64 {
    if crate::input::named_like_photo(&unit.uri) {
        return u64::from(job.file.variants);
    }
    // Where nothing else is known: 4 Mbit/s.
    let seconds = seconds.unwrap_or_else(|| unit.bytes.unwrap_or(5_000_000) as f64 / 500_000.0);
    let frames = match &job.sampling.rule {
        Rule::All => seconds * 30.0,
        Rule::Every(step) => seconds / step.as_f64(),
        Rule::Keyframes => seconds / 4.0,
        Rule::Count(n) => *n as f64,
        Rule::At(times) => times.len() as f64,
        Rule::Scenes(_) => seconds / 5.0,
    };
    (frames.ceil() as u64).max(1) * u64::from(job.file.variants)
}

/// Bytes that a sample takes in a shard, roughly: half a byte a value for pictures, all of them for tensors.
fn sample_bytes(job: &Job) -> u64 {
    let (w, h) = job
        .program
        .resolve((1920, 1080), crate::geometry::Orientation::UPRIGHT, (1, 1), &Default::default())
        .map_or((640, 480), |s| s.size());
    let values = u64::from(w) * u64::from(h) * 3;
    match job.encoding.container() {
        Some(_) => {
            let frames = job.sampling.clip.map_or(1, |c| u64::from(c.frames));
            values * job.program.output().0.size() as u64 * frames
        }
        None => values / 6 + 2000,
    }
}
