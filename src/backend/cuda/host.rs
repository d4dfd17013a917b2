//! The kernels compiled as a program of the host (`kernels/host.cpp`), with sanitizers: the same lines without a GPU.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::flight::Plan;
use crate::backend::Speed;
use crate::backend::flights::{Driver, Flights, Journey};
use crate::error::{Error, Result};
use crate::program::params::Source;
use crate::program::passes::Batch;
use crate::tensor::Tensor;

/// Shared memory of a block, as on most devices.
const SHARED: u32 = 96 << 10;

/// The kernels as a program, which takes a device's place.
pub type Host = Flights<Simulator>;

impl Host {
    /// Compiles the kernels of `folder`, with each of `changes` made; `None` where there is no compiler.
    pub fn compile(folder: &Path, changes: &[(&str, &str)], memory: u64) -> Option<Host> {
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut changed = vec![false; changes.len()];
        for entry in std::fs::read_dir(kernels).unwrap() {
            let path = entry.unwrap().path();
            if !path.extension().is_some_and(|e| e == "cu" || e == "cpp") {
                continue;
            }
            let mut text = std::fs::read_to_string(&path).unwrap();
            for ((right, wrong), changed) in changes.iter().zip(&mut changed) {
                *changed |= text.contains(right);
                text = text.replace(right, wrong);
            }
            std::fs::write(folder.join(path.file_name().unwrap()), text).unwrap();
        }
        assert!(changed.iter().all(|c| *c), "{changes:?} are in the kernels: {changed:?}");
        let program = folder.join("kernels");
        let mut compiler = Command::new("g++");
        compiler.args(["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]);
        compiler.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        let compiled = match compiler.arg(folder.join("host.cpp")).arg("-o").arg(&program).output() {
            Ok(compiled) => compiled,
            Err(e) => {
                println!("skipped: g++ compiles the kernels for the host: {e}");
                return None;
            }
        };
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Some(
            Flights::new("the kernels on the host".into(), Simulator { program, memory: Mutex::default() }, memory)
                .unwrap(),
        )
    }
}

/// The program.
pub struct Simulator {
    program: PathBuf,
    /// What lies on the device, by its address.
    memory: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Simulator {
    /// Keeps bytes at an address that no other has.
    pub fn place(&self, bytes: Vec<u8>) -> u64 {
        let mut memory = self.memory.lock().unwrap();
        let address =
            memory.last_key_value().map_or(256, |(last, bytes)| (last + bytes.len() as u64).next_multiple_of(256));
        memory.insert(address, bytes);
        address
    }
}

/// It as it runs.
pub struct Process {
    child: Child,
    pipes: Mutex<(ChildStdin, ChildStdout)>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait().map(drop)).unwrap();
    }
}

impl Driver for Simulator {
    type Gpu = Process;
    type Slot = ();
    type Flight = (Vec<Tensor>, Journey);

    fn open(&self) -> Result<Process> {
        let spawned = Command::new(&self.program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| Error::unavailable(e.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { unreachable!() };
        Ok(Process { child, pipes: Mutex::new((input, output)) })
    }

    fn surfaces(&self) -> bool {
        true
    }

    fn check(&self, _: &Process) -> Result<()> {
        Ok(())
    }

    fn fits(&self, _: &Process, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn begin(&self, gpu: &Arc<Process>, _: Option<()>, batch: &Batch) -> Result<Option<Self::Flight>> {
        let plan = Plan::new(batch, SHARED);
        let (load, sizes) = (&plan.load, &plan.sizes);
        let mut upload = vec![0; sizes.input];
        plan.write(batch, &mut upload);
        // The real end of the pixels, not of their part, so that a sanitizer sees what reads beyond.
        upload.truncate(load.pixels.start as usize + batch.pixels);
        // What lies on the device goes behind, and its sources say so.
        let sources = load.sources.start as usize..;
        for (n, source) in batch.sources.iter().enumerate().filter(|(_, source)| source.address != [0; 2]) {
            // Surfaces begin on whole words of any size.
            upload.resize(upload.len().next_multiple_of(256), 0);
            let at = (upload.len() - load.pixels.start as usize) as u32;
            let address = u64::from(source.address[1]) << 32 | u64::from(source.address[0]);
            let moved = Source { offset: source.offset.map(|offset| offset + at), address: [0; 2], ..*source };
            upload[sources.clone()][n * size_of::<Source>()..][..size_of::<Source>()]
                .copy_from_slice(bytemuck::bytes_of(&moved));
            upload.extend_from_slice(&self.memory.lock().unwrap()[&address]);
        }
        let starts = [load.sources.start, load.actions.start, load.tables.start, load.pixels.start].map(|at| at as u32);
        let counts = [batch.scratch, batch.sums, batch.out].map(|n| n as u32);
        let mut message: Vec<u32> = vec![plan.launches.len() as u32];
        message.extend(starts.into_iter().chain([upload.len() as u32]).chain(counts));
        for launch in &plan.launches {
            let passes = launch.parts[0] as u32;
            message.extend([launch.kernel as u32, passes].into_iter().chain(launch.grid).chain(launch.block));
            message.push(launch.shared);
        }
        let mut pipes = gpu.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut down = vec![0; sizes.tensors];
        let mut talk = || {
            pipes.0.write_all(bytemuck::cast_slice(&message))?;
            pipes.0.write_all(&upload)?;
            pipes.0.flush()?;
            pipes.1.read_exact(&mut down)
        };
        talk().map_err(|e| Error::unavailable(format!("the kernels ended: {e}")))?;
        let journey = Journey { up: sizes.input as u64, down: down.len() as u64, computed: None };
        Ok(Some((batch.tensors.iter().map(|placed| placed.tensor(&down)).collect(), journey)))
    }

    fn end(&self, _: &Arc<Process>, (tensors, journey): Self::Flight) -> Result<((), Vec<Tensor>, Journey)> {
        Ok(((), tensors, journey))
    }

    fn speed(&self, _: &Arc<Process>, _: &Batch, _: u32) -> Result<Speed> {
        Err(Error::unavailable("this is no device"))
    }

    fn held(&self, (): &()) -> u64 {
        0
    }

    fn lose(&self, _: &Process) {}
}
