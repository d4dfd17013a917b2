//! An output that is full or cannot be written: a clear error, nothing torn, and going on where there is room again.

use crate::mount::Mount;
use crate::support::*;

#[test]
fn a_full_disk_is_an_error_that_resumes() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let photos = media.join("image/coco/val2017");
    let more = ["--op", "resize:w=160,h=120", "--encode", "png", "--limit", "60"];
    let whole = dir.path().join("whole");
    let output = framemill(&job(&[photos.to_str().unwrap()], whole.to_str().unwrap(), &more));
    assert!(output.status.success(), "{}", errors(&output));
    let bytes: u64 = tree(&whole).keys().map(|name| std::fs::metadata(whole.join(name)).unwrap().len()).sum();
    let place = dir.path().join("disk");
    let Some(disk) = Mount::new(&place, &format!("size={}", bytes / 2)) else { return };
    let out = place.join("out");
    let args = job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &more);
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(errors(&output).contains("no space left") && errors(&output).contains("/disk/out"), "{}", errors(&output));
    // What is visible is whole: every visible file is one of the undisturbed run's.
    let expected = tree(&whole);
    let visible = tree(&out).into_iter().filter(|(name, _)| !name.contains("/partial/"));
    let (same, other): (Vec<_>, Vec<_>) = visible.partition(|(name, digest)| expected.get(name) == Some(digest));
    assert!(other.is_empty(), "{other:?}");
    assert!(same.iter().any(|(name, _)| name.ends_with(".tar")), "it was full before anything was done: {same:?}");
    assert_eq!(framemill(&["status", out.to_str().unwrap()]).status.code(), Some(0));
    // Full still: the same again.
    assert_eq!(framemill(&args).status.code(), Some(74));
    disk.change(&format!("size={}", bytes * 3));
    let output = framemill(&args);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(tree(&out), expected);
}

#[test]
fn a_folder_that_must_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("disk");
    let Some(disk) = Mount::new(&place, "size=1m") else { return };
    disk.change("ro");
    let (photos, out) = (fixtures().join("photos"), place.join("out"));
    let args = job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &[]);
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(errors(&output).contains(out.to_str().unwrap()), "{}", errors(&output));
    disk.change("rw");
    assert!(framemill(&args).status.success());
    // Done and looked at without writing.
    disk.change("ro");
    assert!(framemill(&["verify", out.to_str().unwrap()]).status.success());
    let output = framemill(&[&args[..], &["--json"]].concat());
    assert!(output.status.success() && report(&output)["tasks"]["skipped_as_done"] == 1, "{}", errors(&output));
    assert!(errors(&output).contains("done before") && errors(&output).contains("report is not stored"));
    assert!(framemill(&["finish", out.to_str().unwrap()]).status.success());
}

/// Where no folder can ever be made, that is an error, not an endless try.
#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let photos = fixtures().join("photos");
    let output = framemill(&job(&[photos.to_str().unwrap()], "/proc/nowhere/out", &[]));
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(errors(&output).contains("/proc/nowhere"), "{}", errors(&output));
}
