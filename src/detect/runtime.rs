//! ONNX Runtime: found when it is first needed, loaded once in a process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;

use super::provider::Provider;
use crate::error::{Error, Result};
use crate::ffi::onnx;

/// The oldest version that will do: its C interface is what this program was built for.
const OLDEST: u32 = 18;

/// A loaded runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its library.
    pub path: PathBuf,
    /// Its version, as `1.32.0`.
    pub version: String,
    /// What sessions are made in.
    pub environment: Environment,
}

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// The runtime at `path`, else at `ORT_DYLIB_PATH`, else the first found in the usual places. A process has one: what
    /// was loaded first stays.
    ///
    /// # Errors
    /// Unavailable, naming what was tried and what to install.
    pub fn load(path: Option<&Path>) -> Result<Runtime> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return match path {
                Some(other) if other != runtime.path => Err(Error::usage(format!(
                    "--ort {}: this process has loaded {} already, and it can have but one",
                    other.display(),
                    runtime.path.display()
                ))),
                _ => Ok(runtime.clone()),
            };
        }
        let path = find(path)?;
        let fail = |why: &str| {
            Error::unavailable(format!(
                "ONNX Runtime at {}: {why}; install another (pip install onnxruntime) or name one with --ort FILE",
                path.display()
            ))
        };
        let version = onnx::version(&path).map_err(|e| fail(&e))?;
        let minor = version.split('.').nth(1).and_then(|n| n.parse::<u32>().ok());
        if !version.starts_with("1.") || minor.is_none_or(|m| m < OLDEST) {
            return Err(fail(&format!("version {version} is too old: expected 1.{OLDEST} or newer")));
        }
        let builder = ort::init_from(&path).map_err(|e| fail(&e.to_string()))?;
        let environment =
            builder.with_name("framemill").with_telemetry(false).build().map_err(|e| fail(&e.to_string()))?;
        environment.set_log_level(LogLevel::Error);
        Ok(loaded.insert(Runtime { path, version, environment }).clone())
    }

    /// The providers that the library was built with. Whether one works is known when a session is made.
    pub fn providers(&self) -> Vec<Provider> {
        let built = |p: &Provider| match p {
            Provider::Cpu => Ok(true),
            Provider::Cuda => ep::CUDA::is_available(),
            Provider::Tensorrt => ep::TensorRT::is_available(),
            Provider::Openvino => ep::OpenVINO::is_available(),
            Provider::Coreml => ep::CoreML::is_available(),
            Provider::Directml => ep::DirectML::is_available(),
            Provider::Webgpu => ep::WebGPU::is_available(),
        };
        Provider::ALL.into_iter().filter(|p| built(p).unwrap_or(false)).collect()
    }
}

/// What makes a session use a provider, and fail where it cannot.
pub(super) fn dispatch(provider: Provider) -> ExecutionProviderDispatch {
    match provider {
        Provider::Cpu => ep::CPU::default().build(),
        Provider::Cuda => ep::CUDA::default().build(),
        Provider::Tensorrt => ep::TensorRT::default().build(),
        Provider::Openvino => ep::OpenVINO::default().build(),
        Provider::Coreml => ep::CoreML::default().build(),
        Provider::Directml => ep::DirectML::default().build(),
        Provider::Webgpu => ep::WebGPU::default().build(),
    }
    .error_on_failure()
}

/// Where the library lies.
fn find(named: Option<&Path>) -> Result<PathBuf> {
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some((what, path)) = named.map(|p| ("--ort", p.to_path_buf())).or(variable.map(|p| ("ORT_DYLIB_PATH", p))) {
        // A folder stands for the library in it.
        let inside = if path.is_dir() { library_in(&path).or_else(|| library_in(&path.join("capi"))) } else { None };
        return match inside {
            Some(library) => Ok(library),
            None if path.is_file() => Ok(path),
            None => Err(Error::unavailable(format!(
                "{what} {}: there is no ONNX Runtime; expected its shared library (libonnxruntime.so, as in the onnxruntime \
                 folder of a Python environment, under capi)",
                path.display()
            ))),
        };
    }
    let mut tried = Vec::new();
    let mut look = |folder: PathBuf| {
        let found = library_in(&folder);
        tried.push(folder);
        found
    };
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let packages = environments.flat_map(|root| site_packages(&root)).map(|p| p.join("onnxruntime").join("capi"));
    let system =
        ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/opt/homebrew/lib"];
    for folder in beside.into_iter().chain(packages).chain(system.map(PathBuf::from)) {
        if let Some(found) = look(folder) {
            return Ok(found);
        }
    }
    if let Some(found) = python().and_then(look) {
        return Ok(found);
    }
    let tried: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
    Err(Error::unavailable(format!(
        "ONNX Runtime was not found: pip install onnxruntime (onnxruntime-gpu for NVIDIA's GPUs), or name its library with \
         --ort FILE or ORT_DYLIB_PATH; looked in {} and asked python3",
        tried.join(", ")
    )))
}

/// The packages' folders of a Python environment.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|v| v.path().join("site-packages")).filter(|p| p.is_dir()).collect();
    found.push(root.join("Lib").join("site-packages"));
    found.sort();
    found
}

/// What the Python that is called python3 here knows of it; it is not imported.
fn python() -> Option<PathBuf> {
    let script = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s else '')";
    let output = std::process::Command::new("python3").args(["-c", script]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let folder = folder.trim();
    (output.status.success() && !folder.is_empty()).then(|| Path::new(folder).join("capi"))
}

/// The library in `folder`; of several the last by name, which is the one with the longest version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is = |name: &str| {
        name == "onnxruntime.dll"
            || name.starts_with("libonnxruntime.so")
            || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    entries.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(is)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_that_is_not_there_is_told() {
        let e = find(Some(Path::new("/none/libonnxruntime.so"))).unwrap_err();
        assert!(e.exit_code() == 69 && e.message.contains("/none/libonnxruntime.so"), "{e}");
    }

    #[test]
    fn the_library_is_found_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir.path().join("lib/python3.99/site-packages/onnxruntime/capi");
        std::fs::create_dir_all(&capi).unwrap();
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.1.32.0", "other.so"] {
            std::fs::write(capi.join(name), "").unwrap();
        }
        assert_eq!(library_in(&capi), Some(capi.join("libonnxruntime.so.1.32.0")));
        assert_eq!(find(Some(&capi)).unwrap(), capi.join("libonnxruntime.so.1.32.0"));
        assert!(site_packages(dir.path())[1].ends_with("python3.99/site-packages"));
        let no_library = onnx::version(&capi.join("other.so")).unwrap_err();
        assert!(!no_library.is_empty());
    }
}
