//! What the machine spent while a child ran: its CPU time, that of others, energy, and the GPU's use.

use std::io::BufRead;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use super::result::{GpuUse, Told};

/// What was spent between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// Seconds by the clock.
    pub wall: f64,
    /// CPU seconds of the children that ended, and of theirs.
    pub cpu: f64,
    /// The share of all cores' time that others had, and what a hypervisor took; none where the kernel does not tell.
    pub others: Option<f64>,
    /// Joules of the processor's packages.
    pub joules: Option<f64>,
}

/// A look at the counters.
pub struct Look {
    at: Instant,
    cpu: f64,
    machine: Option<(f64, f64)>,
    joules: Option<Energy>,
}

/// Microjoules of each package, and where its counter begins again.
type Energy = Vec<(f64, f64)>;

fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second().max(1) as f64
}

/// CPU seconds of this process's ended children, from the text of `/proc/self/stat`.
fn children(stat: &str) -> f64 {
    // Fields are counted behind the name, which may hold blanks: cutime and cstime.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (field(13) + field(14)) / ticks()
}

/// Seconds of all cores, busy and in all, from the text of `/proc/stat`. What a hypervisor took counts as busy.
fn cores(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find(|l| l.starts_with("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are within user.
    let n: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
    let idle = n.get(3)? + n.get(4)?;
    let all: f64 = n.iter().sum();
    Some(((all - idle) / ticks(), all / ticks()))
}

/// The counters of the processor's packages.
///
/// # Errors
/// Why they cannot be read.
pub fn energy() -> Result<Vec<(f64, f64)>, String> {
    let zones = std::fs::read_dir("/sys/class/powercap")
        .map_err(|_| "no RAPL: the kernel shows no /sys/class/powercap".to_string())?;
    let mut all = Vec::new();
    for zone in zones.flatten() {
        // `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it.
        let name = zone.file_name().to_string_lossy().into_owned();
        if !name.starts_with("intel-rapl:") || name.matches(':').count() != 1 {
            continue;
        }
        let number = |file: &str| {
            let path = zone.path().join(file);
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            text.trim().parse::<f64>().map_err(|e| format!("{}: {e}", path.display()))
        };
        all.push((number("energy_uj")?, number("max_energy_range_uj")?));
    }
    if all.is_empty() { Err("no RAPL: the processor, or the hypervisor, shows no package".into()) } else { Ok(all) }
}

impl Look {
    /// The counters now.
    pub fn now() -> Look {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Look {
            at: Instant::now(),
            cpu: children(&text("/proc/self/stat")),
            machine: cores(&text("/proc/stat")),
            joules: energy().ok(),
        }
    }

    /// What was spent since.
    pub fn spent(&self) -> Spent {
        let now = Look::now();
        let (wall, cpu) = (now.at.duration_since(self.at).as_secs_f64(), now.cpu - self.cpu);
        let others = self.machine.zip(now.machine).and_then(|((busy, all), (busy_now, all_now))| {
            let (busy, all) = (busy_now - busy, all_now - all);
            (all > 0.0).then(|| ((busy - cpu) / all).clamp(0.0, 1.0))
        });
        let joules = self.joules.as_ref().zip(now.joules.as_ref()).map(|(a, b)| {
            let grown = |((a, wrap), (b, _)): (&(f64, f64), &(f64, f64))| if b >= a { b - a } else { b + wrap - a };
            a.iter().zip(b).map(grown).sum::<f64>() / 1e6
        });
        Spent { wall, cpu, others, joules }
    }
}

/// Asks NVIDIA's own program for the GPU's use, five times a second, until it is dropped.
pub struct GpuWatch {
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
}

const QUERY: [&str; 4] =
    ["--query-gpu=utilization.gpu,memory.used,power.draw", "--format=csv,noheader,nounits", "-lms", "200"];

impl GpuWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// Why nothing can be seen.
    pub fn start() -> Result<GpuWatch, String> {
        let mut command = Command::new("nvidia-smi");
        command.args(QUERY).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("nvidia-smi: {e}"))?;
        let out = child.stdout.take().ok_or("nvidia-smi: it says nothing")?;
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(GpuWatch { child, lines })
    }

    /// What was seen since it was last asked.
    pub fn seen(&self) -> Vec<GpuUse> {
        self.lines.try_iter().filter_map(|line| sample(&line)).collect()
    }
}

impl Drop for GpuWatch {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of nvidia-smi's: percent, MiB, watts.
fn sample(line: &str) -> Option<GpuUse> {
    let mut fields = line.split(',').map(str::trim);
    let busy = fields.next()?.parse::<f64>().ok()? / 100.0;
    let memory = fields.next()?.parse::<u64>().ok()? << 20;
    Some(GpuUse { busy, memory, watts: fields.next().and_then(|w| w.parse().ok()) })
}

/// Means of what was seen, and the largest memory.
pub fn mean(seen: &[GpuUse]) -> Told<GpuUse> {
    if seen.is_empty() {
        return Told::not("the driver told nothing while it ran");
    }
    let n = seen.len() as f64;
    let watts: Vec<f64> = seen.iter().filter_map(|s| s.watts).collect();
    Told::is(GpuUse {
        busy: seen.iter().map(|s| s.busy).sum::<f64>() / n,
        memory: seen.iter().map(|s| s.memory).max().unwrap_or(0),
        watts: (!watts.is_empty()).then(|| watts.iter().sum::<f64>() / watts.len() as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_where_they_stand() {
        let tick = ticks();
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 200 0 0 11 12 1300 1400 20 0 1 0 5 6 7";
        assert_eq!(children(stat), 2700.0 / tick);
        let (busy, all) = cores("cpu  100 10 50 800 40 1 2 7 99 0\ncpu0 1 1 1 1").unwrap();
        assert_eq!((busy, all), (170.0 / tick, 1010.0 / tick));
        assert_eq!(cores("nothing"), None);
    }

    #[test]
    fn a_childs_time_is_its_own_and_not_the_others() {
        let look = Look::now();
        let status = Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]).status();
        assert!(status.unwrap().success());
        let spent = look.spent();
        assert!(spent.cpu > 0.0 && spent.wall > 0.0, "{spent:?}");
        assert!(spent.others.is_some_and(|o| (0.0..=1.0).contains(&o)), "{spent:?}");
    }

    #[test]
    fn the_drivers_lines_are_understood() {
        let one = sample("37, 1024, 71.50").unwrap();
        assert_eq!(one, GpuUse { busy: 0.37, memory: 1 << 30, watts: Some(71.5) });
        assert_eq!(sample("5, 10, [N/A]").unwrap().watts, None);
        assert_eq!(sample("No devices were found"), None);
        let told = mean(&[one.clone(), GpuUse { busy: 0.57, memory: 7, watts: None }]).value.unwrap();
        assert!((told.busy - 0.47).abs() < 1e-12 && told.memory == 1 << 30 && told.watts == Some(71.5));
        assert!(mean(&[]).why.is_some());
    }
}
