//! The manifests in `deploy/`: their exit codes are the program's, and what they run makes the dataset.

use std::path::{Path, PathBuf};
use std::process::Command;

use framemill::report::OUTCOMES;
use serde_json::{Value, json};

use crate::notices::many_films;
use crate::support::*;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn manifest(name: &str) -> Value {
    serde_yaml_ng::from_str(&std::fs::read_to_string(deploy(name)).unwrap()).unwrap()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

fn code(word: &str) -> u8 {
    OUTCOMES.iter().find(|(_, w)| *w == word).unwrap().0
}

/// What becomes of a pod that ends with `code`, by the first rule that fits, as Kubernetes has it.
fn action(job: &Value, code: u8) -> String {
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array().unwrap();
    let fits = |rule: &&Value| {
        let codes = &rule["onExitCodes"];
        assert!(codes.is_null() || (codes["operator"] == "In" && codes["containerName"] == "framemill"), "{rule}");
        codes["values"].as_array().is_some_and(|values| values.contains(&json!(code)))
    };
    rules.iter().find(fits).map_or("Count", |rule| rule["action"].as_str().unwrap()).to_string()
}

#[test]
fn kubernetes_does_as_the_exit_codes_say() {
    let job = manifest("kubernetes/job.yaml");
    assert_eq!((&job["apiVersion"], &job["kind"]), (&json!("batch/v1"), &json!("Job")));
    let actions: Vec<(&str, String)> =
        OUTCOMES.iter().skip(1).map(|(code, word)| (*word, action(&job, *code))).collect();
    let expected = [
        ("usage", "FailJob"),
        ("rejects", "FailIndex"),
        ("unavailable", "FailJob"),
        ("bug", "Count"),
        ("store", "Count"),
        ("interrupted", "Ignore"),
        ("other_job", "FailJob"),
    ];
    assert_eq!(actions, expected.map(|(word, action)| (word, action.to_string())));
    // What Kubernetes demands of a Job with such rules.
    let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
    assert_eq!((&spec["completionMode"], &pod["restartPolicy"]), (&json!("Indexed"), &json!("Never")));
    assert!(spec["backoffLimitPerIndex"].is_u64(), "FailIndex needs it");
    let disrupted = json!([{ "type": "DisruptionTarget" }]);
    assert!(spec["podFailurePolicy"]["rules"].as_array().unwrap().iter().any(|r| r["onPodConditions"] == disrupted));
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "framemill");
    let number = container["env"].as_array().unwrap().iter().find(|v| v["name"] == "JOB_COMPLETIONS").unwrap();
    assert_eq!(number["value"].as_str().unwrap(), spec["completions"].to_string());
    assert_eq!(
        (&container["terminationMessagePath"], &container["resources"]["limits"]["nvidia.com/gpu"]),
        (&json!("/dev/termination-log"), &json!(1))
    );
    let grace = framemill::job::JobFile::default().grace.as_f64();
    assert!(pod["terminationGracePeriodSeconds"].as_f64() > Some(grace), "the pod is killed before --grace is over");
    let tolerated: Vec<&str> =
        pod["tolerations"].as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap()).collect();
    assert!(tolerated.contains(&"cloud.google.com/gke-spot") && tolerated.contains(&"nvidia.com/gpu"), "{tolerated:?}");

    let finish = manifest("kubernetes/finish.yaml");
    assert_eq!(finish["spec"]["template"]["spec"]["restartPolicy"], "Never");
    for (word, expected) in [("interrupted", "FailJob"), ("other_job", "FailJob"), ("store", "Count")] {
        assert_eq!(action(&finish, code(word)), expected, "{word}");
    }
}

/// Arguments of a manifest with the places of this machine.
fn at_home(args: &[String], dir: &Path) -> Vec<String> {
    let place = |arg: &String| match arg.as_str() {
        "/data" => dir.display().to_string(),
        "/data/videos" | "Ref::input" => dir.join("videos").display().to_string(),
        "/data/dataset" | "Ref::output" => dir.join("dataset").display().to_string(),
        ":9464" => "127.0.0.1:0".to_string(),
        other => other.to_string(),
    };
    args.iter().map(place).collect()
}

#[test]
fn what_kubernetes_runs_makes_the_dataset() {
    let dir = tempfile::tempdir().unwrap();
    many_films(&dir.path().join("videos"));
    let (job, finish) = (manifest("kubernetes/job.yaml"), manifest("kubernetes/finish.yaml"));
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let args = at_home(&strings(&container["args"]), dir.path());
    let run = |index: u64| {
        let mut command = program();
        for variable in container["env"].as_array().unwrap() {
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        }
        // Small tasks, so that every pod has some; no GPU here, and for once that is allowed.
        command.env("FRAMEMILL_DEVICE", "cpu").env("FRAMEMILL_SHARD_SAMPLES", "2");
        command.args(&args).env("JOB_COMPLETION_INDEX", index.to_string()).output().unwrap()
    };
    let finish_args = at_home(&strings(&finish["spec"]["template"]["spec"]["containers"][0]["args"]), dir.path());
    let pods = job["spec"]["completions"].as_u64().unwrap();
    for index in 0..pods {
        if index == pods - 1 {
            let output = program().args(&finish_args).output().unwrap();
            assert_eq!(output.status.code(), Some(75), "tasks are left: {}", errors(&output));
        }
        let output = run(index);
        assert!(output.status.success(), "{}", errors(&output));
        let told = report(&output);
        assert!(told["this_run"]["tasks"].as_u64() > Some(0), "pod {index} had nothing to do: {}", told["tasks"]);
    }
    assert_eq!(run(pods).status.code(), Some(2), "there is no such index");
    let output = program().args(&finish_args).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let output = framemill(&["verify", dir.path().join("dataset").to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn aws_batch_does_as_the_exit_codes_say() {
    let job: Value = serde_json::from_slice(&std::fs::read(deploy("aws-batch/job.json")).unwrap()).unwrap();
    let rules = job["retryStrategy"]["evaluateOnExit"].as_array().unwrap();
    assert!(rules.len() <= 5, "AWS Batch takes no more");
    let action = |code: u8| {
        let fits = |r: &&Value| r["onExitCode"].as_str() == Some(&*code.to_string()) || r["onReason"] == "*";
        rules.iter().find(fits).unwrap()["action"].as_str().unwrap()
    };
    for (exit, word) in OUTCOMES.iter().skip(1) {
        let again = ["interrupted", "store"].contains(word);
        assert_eq!(action(*exit), if again { "RETRY" } else { "EXIT" }, "{word}");
    }
    let dir = tempfile::tempdir().unwrap();
    many_films(&dir.path().join("videos"));
    let args = at_home(&strings(&job["containerProperties"]["command"]), dir.path());
    let variables = [("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "1")];
    let output = program().args(args).envs(variables).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn slurm_queues_an_interrupted_task_again() {
    let dir = tempfile::tempdir().unwrap();
    many_films(&dir.path().join("videos"));
    // Stands for Slurm's own: what it was told is what counts.
    let scontrol = dir.path().join("scontrol");
    std::fs::write(&scontrol, format!("#!/bin/sh\necho \"$@\" > '{}/requeued'\n", dir.path().display())).unwrap();
    std::fs::set_permissions(&scontrol, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let run = |more: &[(&str, &str)]| {
        let mut command = Command::new("bash");
        command.arg(deploy("slurm/array.sbatch")).current_dir(dir.path()).env("PATH", &path);
        command.env("FRAMEMILL", env!("CARGO_BIN_EXE_framemill")).env("FRAMEMILL_PROGRESS", "none");
        command.env("INPUT", dir.path().join("videos")).env("OUTPUT", dir.path().join("out"));
        command.envs([("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_MIN", "1")]);
        command.envs([("SLURM_ARRAY_TASK_COUNT", "1"), ("FRAMEMILL_SHARD_SAMPLES", "1")]);
        command.envs(more.iter().copied()).output().unwrap()
    };
    let doomed = crate::notices::doomed_machine();
    let output = run(&[("FRAMEMILL_NOTICE", "aws"), ("FRAMEMILL_NOTICE_ENDPOINT", &doomed)]);
    assert_eq!(output.status.code(), Some(75), "{}", errors(&output));
    assert_eq!(std::fs::read_to_string(dir.path().join("requeued")).unwrap(), "requeue 7_1\n");
    std::fs::remove_file(dir.path().join("requeued")).unwrap();
    let output = run(&[]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(!dir.path().join("requeued").exists() && dir.path().join("out/dataset.json").exists());
}

#[test]
fn the_image_runs_the_program_as_nobody_special() {
    let text = std::fs::read_to_string(deploy("Dockerfile")).unwrap();
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(text.matches("\nFROM ").count() == 2, "one stage builds, the other runs");
    assert!(last.contains("\nUSER 10001") && last.contains("\nSTOPSIGNAL SIGTERM"), "{last}");
    // With a shell around it, the signal would not reach it.
    assert!(last.contains("\nENTRYPOINT [\"/usr/local/bin/framemill\"]"), "{last}");
    let uid = manifest("kubernetes/job.yaml")["spec"]["template"]["spec"]["securityContext"]["runAsUser"].clone();
    assert_eq!(uid, 10001);
}
