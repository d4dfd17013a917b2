//! What is logged on standard error, and in which form: by flags, else by variables, else by the job file.

use clap::ArgMatches;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};
use crate::job::{GROUPS, JobFile};

/// How much is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Logs {
    /// 0 warnings, 1 information, 2 what helps to find faults, 3 everything.
    verbose: u8,
    json: bool,
}

impl Logs {
    /// What a command line asks for.
    ///
    /// # Errors
    /// Usage, for a variable that says neither. A job file is read again by its command, which tells what is wrong with it.
    pub fn of(matches: &ArgMatches, variable: &dyn Fn(&str) -> Option<String>) -> Result<Logs> {
        let file = matches.subcommand().and_then(|(_, m)| m.try_get_one::<String>("job").ok().flatten());
        let file = file.and_then(|path| JobFile::tables(&std::fs::read_to_string(path).ok()?, path).ok());
        let stated = |key: &str| {
            let file = file.as_ref()?;
            file.get(key).or_else(|| GROUPS.iter().find_map(|group| file.get(group)?.get(key)))
        };
        let told = |name: &str, expected: &str| Error::usage(format!("{name}: expected {expected}"));
        let verbose = match (matches.get_count("verbose"), variable("FRAMEMILL_VERBOSE")) {
            (0, None) => stated("verbose").and_then(|v| v.as_u64().or(v.as_bool().map(u64::from))).unwrap_or(0),
            (0, Some(text)) => match text.trim() {
                "true" | "yes" | "on" => 1,
                "false" | "no" | "off" => 0,
                number => number.parse().map_err(|_| told("FRAMEMILL_VERBOSE", "0 to 3"))?,
            },
            (times, _) => u64::from(times),
        };
        let format = matches.get_one::<String>("log-format").cloned().or_else(|| variable("FRAMEMILL_LOG_FORMAT"));
        let json = match format.as_deref().or_else(|| stated("log_format").and_then(Value::as_str)) {
            Some("json") => true,
            None | Some("text") => false,
            // Of a file, the command says so.
            Some(_) if format.is_none() => false,
            Some(_) => return Err(told("FRAMEMILL_LOG_FORMAT", "text or json")),
        };
        Ok(Logs { verbose: verbose.min(3) as u8, json })
    }

    /// The same for another process of this program.
    pub fn arguments(self) -> Vec<String> {
        let verbose = (0..self.verbose).map(|_| "-v".to_string());
        verbose.chain([format!("--log-format={}", if self.json { "json" } else { "text" })]).collect()
    }

    /// Begins to log.
    pub fn begin(self) {
        let level = ["warn", "info", "debug", "trace"][usize::from(self.verbose.min(3))];
        let filter =
            EnvFilter::try_from_env("FRAMEMILL_LOG").unwrap_or_else(|_| EnvFilter::new(format!("framemill={level}")));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_target(false)
            // It would tell on standard error, and panic there.
            .log_internal_errors(false);
        // Set once for the process; a second time cannot happen here.
        let _ = match self.json {
            true => builder.json().try_init(),
            false => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str], variables: &[(&str, &str)]) -> Result<Logs> {
        let matches = crate::cli::command().try_get_matches_from([&["framemill"], args].concat()).unwrap();
        let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_string());
        Logs::of(&matches, &variable)
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("job.toml");
        std::fs::write(&job, "[telling]\nlog_format = \"json\"\nverbose = 2\n").unwrap();
        let job = job.to_str().unwrap();
        let json = ("FRAMEMILL_LOG_FORMAT", "json");
        assert_eq!(of(&["schema"], &[]).unwrap(), Logs::default());
        assert_eq!(of(&["run", job], &[]).unwrap(), Logs { verbose: 2, json: true });
        let given = [("FRAMEMILL_LOG_FORMAT", "text"), ("FRAMEMILL_VERBOSE", "true")];
        assert_eq!(of(&["run", job], &given).unwrap(), Logs { verbose: 1, json: false });
        assert_eq!(of(&["run", "-vvv", "--log-format", "text"], &[json]).unwrap(), Logs { verbose: 3, json: false });
        assert_eq!(Logs { verbose: 2, json: true }.arguments(), ["-v", "-v", "--log-format=json"]);
        let wrong = of(&["schema"], &[("FRAMEMILL_LOG_FORMAT", "xml")]).unwrap_err();
        assert!(wrong.exit_code() == 2 && wrong.message.contains("FRAMEMILL_LOG_FORMAT"), "{wrong}");
        assert!(of(&["schema"], &[("FRAMEMILL_VERBOSE", "much")]).is_err());
    }
}
