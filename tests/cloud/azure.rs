//! The same from and in Azure's emulator, where there is one.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::python::python;
use crate::server::{Child, program};
use crate::support::*;

/// The emulator's own key, which is public.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running emulator; ends with its handle.
struct Azurite {
    _child: Child,
    python: PathBuf,
    port: u16,
}

impl Azurite {
    /// Starts one in `dir`, with the clips of the fixtures in it; says that the test is skipped where there is none.
    fn start(dir: &Path) -> Option<Azurite> {
        let Some(azurite) = std::env::var_os("FRAMEMILL_AZURITE").map(PathBuf::from) else {
            println!("skipped: FRAMEMILL_AZURITE names no azurite-blob (npm i azurite)");
            return None;
        };
        let python = python()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(azurite)
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", &port.to_string()])
            .arg("--location")
            .arg(dir.join("azurite"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let azurite = Azurite { _child: Child(child), python, port };
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        azurite.blobs("put", clips().to_str().unwrap());
        Some(azurite)
    }

    fn blobs(&self, command: &str, what: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/blobs.py");
        let mut python = Command::new(&self.python);
        let done = python.args([script, &self.port.to_string(), command, what]).output().unwrap();
        assert!(done.status.success(), "{}", errors(&done));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Digests of all blobs of an output but reports.
    fn digests(&self, name: &str) -> BTreeMap<String, String> {
        let text = self.blobs("digests", name);
        let all = text.lines().map(|line| line.split_once(' ').unwrap());
        let kept = all.filter(|(_, name)| !name.starts_with("_framemill/reports/"));
        kept.map(|(digest, name)| (name.to_string(), digest.to_string())).collect()
    }

    fn program(&self) -> Command {
        let port = self.port;
        let connection = format!(
            "AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        );
        let mut command = program(1);
        command.env("AZURE_STORAGE_CONNECTION_STRING", connection);
        command
    }

    fn done(&self, args: &[&str]) {
        let output = self.program().args(args).output().unwrap();
        assert!(output.status.success() && !errors(&output).contains(KEY), "{}", errors(&output));
    }
}

fn clips() -> PathBuf {
    fixtures().join("clips")
}

#[test]
fn a_container_gives_what_the_disk_gives() {
    let dir = tempfile::tempdir().unwrap();
    let Some(azurite) = Azurite::start(dir.path()) else { return };
    let go = |input: &str, name: &str| {
        let out = dir.path().join(name);
        azurite.done(&job(&[input], out.to_str().unwrap(), &["--root", input]));
        samples(&out)
    };
    let expected = go(clips().to_str().unwrap(), "disk");
    assert!(expected.len() > 5);
    assert_eq!(go("az://media/raw", "container"), expected);
}

#[test]
fn a_container_holds_what_a_folder_holds_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(azurite) = Azurite::start(dir.path()) else { return };
    let clips = clips();
    let inputs = [clips.to_str().unwrap()];
    // Shards that go up in one request, and some that go up in parts and are copied.
    let large = ["--op", "resize:w=1400,h=1000", "--op", "to:dtype=f32", "--format", "tensors"];
    for (name, more) in [("small", ["--metadata", "parquet,csv,sqlite"].as_slice()), ("large", large.as_slice())] {
        let folder = dir.path().join(name);
        let more = [more, &["--tasks", "any", "--lease", "1s"]].concat();
        azurite.done(&job(&inputs, folder.to_str().unwrap(), &more));
        let (expected, uri) = (tree(&folder), format!("az://media/{name}"));
        let args = job(&inputs, &uri, &more);
        let (mut random, mut hit) = (Random(5), 0);
        for _ in 0..3 {
            let mut child = azurite.program().args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.below(1500)));
            let _ = child.kill();
            hit += usize::from(!child.wait().unwrap().success());
        }
        println!("{name}: {hit} kills hit");
        azurite.done(&args);
        azurite.done(&["verify", &uri]);
        assert_eq!(azurite.digests(name), expected, "{name}");
        assert!(hit > 0 || name == "small", "no kill hit");
        // Done already: nothing changes.
        azurite.done(&args);
        assert_eq!(azurite.digests(name), expected, "{name}");
    }
}
