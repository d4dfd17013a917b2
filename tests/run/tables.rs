//! What `verify` and a re-run say of ledgers and tables that somebody changed.

use std::path::Path;

use crate::support::*;

fn verify(out: &Path, what: &str) {
    let output = framemill(&["verify", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(74), "{what}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &errors(&output);
    assert!(told.contains(what), "{what}: {told}");
}

#[test]
fn what_is_not_as_it_was_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let photos = fixtures().join("photos");
    let more = ["--metadata", "parquet,csv,sqlite", "--shard-samples=2"];
    let args = job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &more);
    let args: Vec<&str> = args.into_iter().filter(|a| *a != "--shard-samples" && *a != "12").collect();
    assert!(framemill(&args).status.success());
    assert!(framemill(&["verify", out.to_str().unwrap()]).status.success());
    let before = tree(&out);
    for name in ["records.csv", "records.sqlite", "README.md"] {
        let path = out.join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        verify(&out, name);
        std::fs::remove_file(&path).unwrap();
        verify(&out, &format!("{name} is not there"));
        assert!(framemill(&args).status.success(), "a re-run mends it");
        assert_eq!(tree(&out), before);
    }

    let table = before.keys().find(|name| name.contains("plan-") && name.ends_with(".parquet")).unwrap();
    let whole = std::fs::read(out.join(table)).unwrap();
    for place in [whole.len() / 3, whole.len() / 2] {
        let mut other = whole.clone();
        other[place] ^= 4;
        std::fs::write(out.join(table), other).unwrap();
        verify(&out, table);
        let output = framemill(&args);
        assert!(output.status.code() == Some(74) && errors(&output).contains(table), "{}", errors(&output));
    }
    std::fs::write(out.join(table), whole).unwrap();

    let receipt = |task: u64| out.join(format!("_framemill/receipts/{task:06}.json"));
    std::fs::copy(receipt(1), receipt(0)).unwrap();
    verify(&out, "000000.json: it is the receipt of task 1");
    for command in [&args[..], &["finish", out.to_str().unwrap()]] {
        let output = framemill(command);
        assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
        assert!(errors(&output).contains("remove it and run the job again"), "{}", errors(&output));
    }
    std::fs::remove_file(receipt(0)).unwrap();
    assert!(framemill(&args).status.success());
    assert_eq!(tree(&out), before);
}
