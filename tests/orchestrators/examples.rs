//! The examples for Airflow, Dagster, Luigi and Prefect, run with the real packages.
//!
//! A run that the cloud interrupts is tried again and gives the dataset of an undisturbed one; a matter of the data is not
//! tried again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::notices::{doomed_machine, many_films};
use crate::python::python;
use crate::support::*;

/// What a step is given, and how often it called the program.
struct Step {
    dir: tempfile::TempDir,
}

const ARGUMENTS: [&str; 4] = ["--op", "resize:w=48,h=32", "--shard-samples", "1"];

impl Step {
    fn new() -> Step {
        let dir = tempfile::tempdir().unwrap();
        many_films(&dir.path().join("films"));
        let bad = dir.path().join("bad");
        std::fs::create_dir(&bad).unwrap();
        for file in [fixtures().join("broken/text.mp4"), fixtures().join("clips/h264.mp4")] {
            std::fs::copy(&file, bad.join(file.file_name().unwrap())).unwrap();
        }
        // The first call is on a machine that is taken away.
        let script = format!(
            "#!/bin/sh\necho call >> '{0}/calls'\nif [ ! -e '{0}/moved' ]; then touch '{0}/moved'\n\
             export FRAMEMILL_NOTICE=aws FRAMEMILL_NOTICE_ENDPOINT={1}; fi\nexec '{2}' \"$@\"\n",
            dir.path().display(),
            doomed_machine(),
            env!("CARGO_BIN_EXE_framemill")
        );
        let program = dir.path().join("framemill");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Step { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn command(&self, python: &Path, example: &str) -> Command {
        let mut command = Command::new(python);
        command.env("FRAMEMILL", self.path("framemill")).env("FRAMEMILL_PROGRESS", "none").current_dir(self.dir.path());
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example));
        command
    }

    fn calls(&self) -> usize {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default().lines().count()
    }

    /// `run` gets an input and an output, and is to say whether the orchestrator took it as a success.
    fn proves(&self, name: &str, run: impl Fn(&str, &str) -> (bool, Output)) {
        let (done, output) = run(&self.text("films"), &self.text("out"));
        let told = || format!("{name}: {}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
        assert!(done, "{}", told());
        assert_eq!(self.calls(), 2, "interrupted once, then done: {}", told());
        let (films, whole) = (self.text("films"), self.text("whole"));
        assert!(framemill(&[&["run", "-i", &films, "-o", &whole], &ARGUMENTS[..]].concat()).status.success());
        assert_eq!(tree(&self.path("out")), tree(&self.path("whole")), "{name}");
        let (done, output) = run(&self.text("bad"), &self.text("out-bad"));
        let told = format!("{name}: {}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
        assert!(!done, "{told}");
        assert_eq!(self.calls(), 3, "a matter of the data is not tried again: {told}");
        assert!(self.path("out-bad/dataset.json").exists(), "what is good is there: {told}");
    }
}

/// Whether this Python has a package; says so where not.
fn has(python: &Path, package: &str) -> bool {
    let there = Command::new(python).args(["-c", &format!("import {package}")]).output().unwrap().status.success();
    if !there {
        println!("skipped: {} has no {package} (scripts/test.sh installs it)", python.display());
    }
    there
}

/// The Python of an orchestrator too heavy for every run of the tests.
fn heavy(name: &str) -> Option<PathBuf> {
    if !full() {
        println!("skipped: {name} is run by scripts/test.sh --full");
        return None;
    }
    let folder = std::env::var_os("FRAMEMILL_ORCHESTRATORS").map(PathBuf::from);
    let python = folder.map(|folder| folder.join(name).join("bin/python")).filter(|python| python.exists());
    if python.is_none() {
        println!("skipped: FRAMEMILL_ORCHESTRATORS names no folder with {name} (scripts/test.sh --full makes one)");
    }
    python
}

#[test]
fn luigi_runs_its_task() {
    let Some(python) = python().filter(|python| has(python, "luigi")) else { return };
    let step = Step::new();
    let arguments = serde_json::to_string(&ARGUMENTS).unwrap();
    step.proves("luigi", |input, output| {
        let mut command = step.command(&python, "luigi");
        command.args(["-m", "luigi", "--module", "framemill_task", "Dataset", "--local-scheduler", "--pause", "0.1"]);
        command.args(["--input-uri", input, "--output-folder", output, "--arguments", &arguments]);
        command.args(["--retcode-task-failed", "9"]);
        let ended = command.output().unwrap();
        (ended.status.success(), ended)
    });
}

#[test]
fn dagster_materialises_its_asset() {
    let Some(python) = python().filter(|python| has(python, "dagster")) else { return };
    let step = Step::new();
    let code = "import sys, json, dagster as dg\n\
        from framemill_asset import dataset, defs, Job\n\
        job = Job(input=sys.argv[1], output=sys.argv[2], arguments=sys.argv[3:])\n\
        result = dg.materialize([dataset], resources=defs.resources, run_config=dg.RunConfig({'dataset': job}), raise_on_error=False)\n\
        made = [m.materialization for m in result.get_asset_materialization_events()]\n\
        print(json.dumps({'made': [[{k: v.value for k, v in m.metadata.items()}, m.tags] for m in made]}))\n\
        sys.exit(0 if result.success else 1)";
    step.proves("dagster", |input, output| {
        let mut command = step.command(&python, "dagster");
        command.args(["-c", code, input, output]).args(ARGUMENTS).env("DAGSTER_HOME", step.dir.path());
        let ended = command.output().unwrap();
        let done = ended.status.success();
        let made = report(&ended)["made"].clone();
        assert_eq!(made.as_array().map(Vec::len), Some(usize::from(done)), "{}", errors(&ended));
        if done {
            let (metadata, tags) = (&made[0][0], &made[0][1]);
            let status = report(&framemill(&["status", output, "--json"]));
            assert_eq!((&metadata["samples"], &metadata["tasks.left"]), (&status["samples"], &serde_json::json!(0)));
            assert_eq!(metadata["fingerprint"], status["last_report"]["fingerprint"]);
            assert_eq!(metadata["output"].as_str(), Some(output));
            assert_eq!(tags["dagster/data_version"].as_str().map(str::len), Some(64), "{tags}");
        } else {
            assert!(errors(&ended).contains("framemill ended with 3"), "{}", errors(&ended));
        }
        (done, ended)
    });
}

#[test]
fn prefect_runs_its_flow() {
    let Some(python) = heavy("prefect") else { return };
    let step = Step::new();
    step.proves("prefect", |input, output| {
        let mut command = step.command(&python, "prefect");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prefect/framemill_flow.py"));
        command.args([input, output]).args(ARGUMENTS).env("PREFECT_HOME", step.path("prefect"));
        command.env("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true");
        // A busy machine takes long to start its server.
        command.env("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300");
        let ended = command.output().unwrap();
        (ended.status.success(), ended)
    });
}

#[test]
fn airflow_runs_its_dag() {
    let Some(python) = heavy("airflow") else { return };
    let step = Step::new();
    let dags = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/airflow");
    let settled = |command: &mut Command| {
        command.env("AIRFLOW_HOME", step.path("airflow")).env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.env("AIRFLOW__CORE__DAGS_FOLDER", &dags);
    };
    let mut migrate = Command::new(python.with_file_name("airflow"));
    settled(migrate.args(["db", "migrate"]));
    let migrated = migrate.output().unwrap();
    assert!(migrated.status.success(), "{}", errors(&migrated));
    step.proves("airflow", |input, output| {
        let mut command = step.command(&python, "airflow");
        settled(command.arg(dags.join("framemill_dag.py")).args([input, output]).args(ARGUMENTS));
        let ended = command.output().unwrap();
        (ended.status.success(), ended)
    });
}
