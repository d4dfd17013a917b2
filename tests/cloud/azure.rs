//! The same from Azure's emulator, where there is one.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::python::python;
use crate::server::{Child, program};
use crate::support::*;

/// The emulator's own key, which is public.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[test]
fn a_container_gives_what_the_disk_gives() {
    let Some(azurite) = std::env::var_os("FRAMEMILL_AZURITE").map(PathBuf::from) else {
        println!("skipped: FRAMEMILL_AZURITE names no azurite-blob (npm i azurite)");
        return;
    };
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _azurite = Child(
        Command::new(azurite)
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", &port.to_string()])
            .arg("--location")
            .arg(dir.path().join("azurite"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let clips = fixtures().join("clips");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/put_blobs.py");
    let put = Command::new(python).args([script, &port.to_string()]).arg(&clips).output().unwrap();
    assert!(put.status.success(), "{}", errors(&put));
    let connection =
        format!("AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;");
    let go = |input: &str, name: &str| {
        let out = dir.path().join(name);
        let args = job(&[input], out.to_str().unwrap(), &["--root", input]);
        let output = program(1).args(args).env("AZURE_STORAGE_CONNECTION_STRING", &connection).output().unwrap();
        assert!(output.status.success() && !errors(&output).contains(KEY), "{}", errors(&output));
        samples(&out)
    };
    let expected = go(clips.to_str().unwrap(), "disk");
    assert!(expected.len() > 5);
    assert_eq!(go("az://media/raw", "container"), expected);
}
