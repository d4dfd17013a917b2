//! The machine that a benchmark ran on, as far as it tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::result::Told;
use crate::job;

/// What the numbers depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// What it is called in tables: as given, or by its parts.
    pub name: String,
    /// The processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// How the kernel chooses the processor's clock.
    pub governor: Told<String>,
    /// Bytes of memory.
    pub memory: Told<u64>,
    /// The operating system's kernel.
    pub kernel: String,
    /// What there is to compute on beside the processor.
    pub gpus: Vec<Gpu>,
    /// Versions of what decides bytes and speed.
    pub versions: Value,
    /// Built with optimisation; numbers of a debug build tell nothing about framemill.
    pub optimized: bool,
    /// Mean number of tasks that wanted to run in the last 1, 5 and 15 minutes before the start.
    pub load: Told<[f64; 3]>,
    /// Whether the processor's energy can be read.
    pub energy: Told<String>,
}

/// A GPU, or a program in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// As in `--device`.
    pub device: String,
    /// The name that its driver gives.
    pub name: String,
    /// The driver's version.
    pub driver: String,
    /// Bytes of its memory, where that is told.
    pub memory: Option<u64>,
    /// A program that runs on the CPU.
    pub software: bool,
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_string()).map_err(|e| format!("{path}: {e}"))
}

/// The value behind `key` in the text of `/proc/cpuinfo` or `/proc/meminfo`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn load() -> Told<[f64; 3]> {
    let parse = |text: String| {
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        let mut next = || numbers.next().ok_or_else(|| format!("/proc/loadavg: `{text}` is not understood"));
        Ok([next()?, next()?, next()?])
    };
    read("/proc/loadavg").and_then(parse).into()
}

fn memory() -> Told<u64> {
    let parse = |text: String| {
        let kib = field(&text, "MemTotal").and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| "/proc/meminfo does not tell".to_string())
    };
    read("/proc/meminfo").and_then(parse).into()
}

fn gpus() -> Vec<Gpu> {
    #[allow(unused_mut, reason = "without any GPU feature there is none")]
    let mut all = Vec::new();
    #[cfg(feature = "cuda")]
    if let Ok(found) = crate::ffi::cu::list() {
        all.extend(found.into_iter().map(|d| Gpu {
            device: format!("cuda:{}", d.index),
            name: d.name,
            driver: format!("CUDA {}.{}", d.driver / 1000, d.driver % 1000 / 10),
            memory: Some(d.memory),
            software: false,
        }));
    }
    #[cfg(feature = "wgpu")]
    all.extend(crate::backend::wgpu::adapter::list().into_iter().map(|a| Gpu {
        device: format!("wgpu:{}", a.index),
        name: a.name,
        driver: a.driver,
        memory: None,
        software: a.software,
    }));
    all
}

impl Machine {
    /// This machine, now; `name` takes the place of a name made of its parts.
    pub fn here(name: Option<&str>) -> Machine {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let cpu = field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_string();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let gpus = gpus();
        let uname = rustix::system::uname();
        let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Machine {
            name: name.map_or_else(|| called(&cpu, cores, &gpus), str::to_string),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").into(),
            memory: memory(),
            kernel: format!("{} {}", word(uname.sysname()), word(uname.release())),
            versions: job::versions(),
            optimized: !cfg!(debug_assertions),
            load: load(),
            energy: super::usage::energy().map(|_| "RAPL".to_string()).into(),
            cpu,
            cores,
            gpus,
        }
    }
}

fn called(cpu: &str, cores: usize, gpus: &[Gpu]) -> String {
    let real: Vec<&str> =
        gpus.iter().filter(|g| !g.software && g.device.starts_with("cuda")).map(|g| &*g.name).collect();
    let plain = cpu.replace("(R)", "").replace("(TM)", "");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let gpu = match real[..] {
        [] => String::new(),
        [one] => format!(", {one}"),
        [first, ..] => format!(", {} x {first}", real.len()),
    };
    format!("{plain}, {cores} cores{gpu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_there_or_says_why_not() {
        let machine = Machine::here(None);
        assert!(!machine.cpu.is_empty() && machine.cores > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(machine.governor.value.is_some() != machine.governor.why.is_some());
        assert!(machine.memory.value > Some(1 << 20), "{:?}", machine.memory);
        assert!(machine.load.value.is_some_and(|l| l.iter().all(|x| *x >= 0.0)), "{:?}", machine.load);
        assert_eq!(Machine::here(Some("box")).name, "box");
    }

    #[test]
    fn a_name_is_made_of_the_parts() {
        let gpu = |device: &str, software| Gpu {
            device: device.into(),
            name: "NVIDIA L4".into(),
            driver: String::new(),
            memory: None,
            software,
        };
        let cpu = "Intel(R) Xeon(R)  Processor";
        assert_eq!(called(cpu, 4, &[]), "Intel Xeon Processor, 4 cores");
        assert_eq!(
            called(cpu, 4, &[gpu("cuda:0", false), gpu("wgpu:0", false)]),
            "Intel Xeon Processor, 4 cores, NVIDIA L4"
        );
        assert_eq!(called(cpu, 4, &[gpu("wgpu:0", true)]), "Intel Xeon Processor, 4 cores");
        assert!(called(cpu, 4, &[gpu("cuda:0", false), gpu("cuda:1", false)]).ends_with(", 2 x NVIDIA L4"));
    }
}
