//! The values of a job file that are text to a user and numbers to the program.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::sample::scenes::Threshold;
use crate::sample::{Clip, Rational};

/// (De)serialises `$type` as the text that its `Display` writes and its `FromStr` reads; plain numbers are read, too.
macro_rules! as_text {
    ($type:ty, $name:literal, $about:literal) => {
        as_text!($type, $name, ["string", "number"], $about);
    };
    ($type:ty, $name:literal, $kinds:tt, $about:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = match serde_json::Value::deserialize(deserializer)? {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $kinds, "description": $about })
            }
        }
    };
}

/// A number of bytes: `1GB` (powers of 1000), `512MiB` (powers of 1024), or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "t" | "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => 0,
        };
        let bytes = number.parse::<f64>().ok().map(|n| n * scale as f64).filter(|b| *b >= 1.0 && *b < 9e18);
        bytes.map(|b| ByteSize(b as u64)).ok_or_else(|| {
            Error::usage(format!("`{text}` is not a size: expected a number of bytes with a unit (500MB, 1GiB)"))
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
        match units.iter().find(|(scale, _)| self.0.is_multiple_of(*scale)) {
            Some((scale, unit)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

as_text!(ByteSize, "ByteSize", "A number of bytes: 1GB, 512MiB, 1000000");

/// A positive rate a second: `2`, `0.5`, `30000/1001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Rational);

impl FromStr for Rate {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Rational::parse_rate(text).map(Rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Rate, "Rate", "A positive rate a second: 2, 0.5, 30000/1001");

/// A price, in any currency: 0 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price(pub f64);

impl FromStr for Price {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let price = text.trim().parse::<f64>().ok().filter(|p| p.is_finite() && *p >= 0.0);
        price.map(Price).ok_or_else(|| Error::usage(format!("`{text}` is not a price: expected a number of 0 or more")))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Price, "Price", "A price of 0 or more: 0.35");

/// How many inputs may be rejected before the exit code says so: a number, or a share in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxRejects {
    /// At most this many.
    Count(u64),
    /// At most this share of all inputs, in percent.
    Percent(f64),
}

impl MaxRejects {
    /// Whether `rejected` of `inputs` are more than allowed.
    pub fn exceeded(self, rejected: u64, inputs: u64) -> bool {
        match self {
            MaxRejects::Count(n) => rejected > n,
            MaxRejects::Percent(p) => rejected as f64 * 100.0 > p * inputs as f64,
        }
    }
}

impl FromStr for MaxRejects {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let read = match trimmed.strip_suffix('%') {
            Some(share) => share.trim().parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(MaxRejects::Percent),
            None => trimmed.parse().ok().map(MaxRejects::Count),
        };
        read.ok_or_else(|| Error::usage(format!("`{text}` is no number of rejects: expected 10 or 2.5%")))
    }
}

impl fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxRejects::Count(n) => n.fmt(f),
            MaxRejects::Percent(p) => write!(f, "{p}%"),
        }
    }
}

as_text!(MaxRejects, "MaxRejects", "How many inputs may be rejected: 10, or 2.5%");

/// Clips of frames: `frames=16,stride=2`, or a table with the two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSpec(pub Clip);

impl FromStr for ClipSpec {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let fail = || Error::usage(format!("`{text}` describes no clip: expected frames=16 or frames=16,stride=2"));
        let mut clip = Clip { frames: 0, stride: 1 };
        for part in text.split(',') {
            match part.split_once('=').map(|(k, v)| (k.trim(), v.trim().parse::<u32>())) {
                Some(("frames", Ok(n))) => clip.frames = n,
                Some(("stride", Ok(n))) => clip.stride = n,
                _ => return Err(fail()),
            }
        }
        if clip.frames == 0 || clip.stride == 0 { Err(fail()) } else { Ok(ClipSpec(clip)) }
    }
}

impl Serialize for ClipSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ClipSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Object(table) => {
                table.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ClipSpec {
    fn schema_name() -> Cow<'static, str> {
        "Clip".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Clips of frames: \"frames=16,stride=2\", or a table with these keys",
            "type": ["string", "object"],
            "properties": { "frames": { "type": "integer", "minimum": 1 }, "stride": { "type": "integer", "minimum": 1 } }
        })
    }
}

/// Which tasks this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskShare {
    /// All that are left.
    #[default]
    All,
    /// Every `n`-th from `i` on.
    Part {
        /// First task, below `n`.
        i: u64,
        /// Distance.
        n: u64,
    },
    /// Index and number from the orchestrator's variables.
    Env,
    /// Whatever is free, by leases.
    Any,
}

/// Variables of index and number that orchestrators set for the workers of one job.
const ORCHESTRATORS: [(&str, &str); 6] = [
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
    ("BATCH_TASK_INDEX", "BATCH_TASK_COUNT"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("RANK", "WORLD_SIZE"),
];

impl TaskShare {
    /// `Env` looked up with `get`; the others as they are.
    ///
    /// # Errors
    /// Usage where no orchestrator's pair of variables is set.
    pub fn resolve(self, get: impl Fn(&str) -> Option<String>) -> Result<TaskShare> {
        if self != TaskShare::Env {
            return Ok(self);
        }
        for (index, number) in ORCHESTRATORS {
            if let (Some(i), Some(n)) = (get(index), get(number)) {
                // An array of Slurm may begin at another index than 0.
                let first = if index == "SLURM_ARRAY_TASK_ID" { get("SLURM_ARRAY_TASK_MIN") } else { None };
                let i = match (i.parse::<u64>(), first.and_then(|first| first.parse::<u64>().ok())) {
                    (Ok(i), Some(first)) if first <= i => (i - first).to_string(),
                    _ => i,
                };
                let share = format!("{i}/{n}").parse::<TaskShare>();
                return share.map_err(|e| e.context(format!("{index} and {number}")));
            }
        }
        let names: Vec<String> = ORCHESTRATORS.iter().map(|(i, n)| format!("{i} and {n}")).collect();
        Err(Error::usage(format!("--tasks env: none of these pairs of variables is set: {}", names.join(", "))))
    }

    /// Whether this process runs `task`.
    pub fn has(self, task: u64) -> bool {
        match self {
            TaskShare::Part { i, n } => task % n == i,
            TaskShare::All | TaskShare::Env | TaskShare::Any => true,
        }
    }
}

impl FromStr for TaskShare {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "all" => Ok(TaskShare::All),
            "env" => Ok(TaskShare::Env),
            "any" => Ok(TaskShare::Any),
            part => {
                let read = part.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
                match read {
                    Some((i, n)) if i < n => Ok(TaskShare::Part { i, n }),
                    _ => Err(Error::usage(format!("--tasks {part}: expected i/n with i from 0 to n-1, as in 0/4"))),
                }
            }
        }
    }
}

impl fmt::Display for TaskShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskShare::All => f.write_str("all"),
            TaskShare::Env => f.write_str("env"),
            TaskShare::Any => f.write_str("any"),
            TaskShare::Part { i, n } => write!(f, "{i}/{n}"),
        }
    }
}

as_text!(TaskShare, "TaskShare", "Which tasks this process runs: all, i/n, env, or any");

/// One frame a scene, or not: `true` with the usual threshold, or a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scenes(pub Option<Threshold>);

impl Scenes {
    /// It was not asked for.
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }
}

impl FromStr for Scenes {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Ok(Scenes(match text.trim() {
            "true" => Some(Threshold::default()),
            "false" => None,
            threshold => Some(threshold.parse()?),
        }))
    }
}

impl fmt::Display for Scenes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(threshold) => threshold.fmt(f),
            None => f.write_str("false"),
        }
    }
}

as_text!(
    Scenes,
    "Scenes",
    ["boolean", "string", "number"],
    "One frame a scene: true, or the least change of a cut (6.5 by default)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_have_a_threshold_or_the_usual_one() {
        let read = |text: &str| serde_json::from_str::<Scenes>(text).unwrap();
        assert_eq!(read("true"), read("6.5"));
        assert_eq!(read("\"12\""), read("12"));
        assert!(read("false").is_off() && read("true").to_string() == "6.5");
        for bad in ["0", "-1", "766", "job.toml", "nan"] {
            assert!(bad.parse::<Scenes>().unwrap_err().message.contains(bad), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_systems() {
        for (text, bytes) in [("1GB", 1_000_000_000), ("1.5 MiB", 1_572_864), ("12", 12), ("3kB", 3000)] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "GB", "1XB", "-1", "0"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize(2_000_000).to_string(), "2MB");
    }

    #[test]
    fn shares_of_tasks() {
        let part: TaskShare = "1/3".parse().unwrap();
        assert_eq!((0..7).filter(|t| part.has(*t)).collect::<Vec<_>>(), [1, 4]);
        assert!("3/3".parse::<TaskShare>().is_err() && "some".parse::<TaskShare>().is_err());
        let env = |name: &str| match name {
            "CLOUD_RUN_TASK_INDEX" => Some("2".into()),
            "CLOUD_RUN_TASK_COUNT" => Some("5".into()),
            _ => None,
        };
        assert_eq!(TaskShare::Env.resolve(env).unwrap(), TaskShare::Part { i: 2, n: 5 });
        let pod = |name: &str| match name {
            "JOB_COMPLETION_INDEX" => Some("0".into()),
            "JOB_COMPLETIONS" => Some("8".into()),
            _ => None,
        };
        assert_eq!(TaskShare::Env.resolve(pod).unwrap(), TaskShare::Part { i: 0, n: 8 });
        let slurm = |id: &'static str| {
            move |name: &str| match name {
                "SLURM_ARRAY_TASK_ID" => Some(id.into()),
                "SLURM_ARRAY_TASK_COUNT" => Some("8".into()),
                "SLURM_ARRAY_TASK_MIN" => Some("1".into()),
                _ => None,
            }
        };
        assert_eq!(TaskShare::Env.resolve(slurm("8")).unwrap(), TaskShare::Part { i: 7, n: 8 });
        // Some tasks of an array, sent again, are another division of the job.
        assert!(TaskShare::Env.resolve(slurm("9")).unwrap_err().message.contains("SLURM_ARRAY_TASK_ID"));
        assert_eq!(TaskShare::Env.resolve(|_| None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn rejects_are_counted_or_shared() {
        assert!(MaxRejects::Count(0).exceeded(1, 10) && !MaxRejects::Count(1).exceeded(1, 10));
        let share: MaxRejects = "10%".parse().unwrap();
        assert!(!share.exceeded(1, 10) && share.exceeded(2, 10));
        assert!("11x".parse::<MaxRejects>().is_err());
    }

    #[test]
    fn clips_are_text_or_table() {
        let text: ClipSpec = serde_json::from_str("\"frames=8,stride=2\"").unwrap();
        let table: ClipSpec = serde_json::from_str("{\"frames\":8,\"stride\":2}").unwrap();
        assert_eq!(text, table);
        assert!("frames=0".parse::<ClipSpec>().is_err());
    }
}
