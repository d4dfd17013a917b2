//! The execution providers of ONNX Runtime that a job may name.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Where ONNX Runtime computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// NVIDIA's GPUs through CUDA and cuDNN.
    Cuda,
    /// NVIDIA's GPUs through TensorRT.
    Tensorrt,
    /// Intel's devices.
    Openvino,
    /// Apple's devices.
    Coreml,
    /// Direct3D 12 devices.
    Directml,
    /// GPUs of any vendor through WebGPU.
    Webgpu,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 7] = [
        Provider::Cpu,
        Provider::Cuda,
        Provider::Tensorrt,
        Provider::Openvino,
        Provider::Coreml,
        Provider::Directml,
        Provider::Webgpu,
    ];

    /// The name in jobs.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
            Provider::Tensorrt => "tensorrt",
            Provider::Openvino => "openvino",
            Provider::Coreml => "coreml",
            Provider::Directml => "directml",
            Provider::Webgpu => "webgpu",
        }
    }

    /// What has to be installed to have it.
    pub fn remedy(self) -> &'static str {
        match self {
            Provider::Cpu => "pip install onnxruntime",
            Provider::Cuda => "pip install onnxruntime-gpu, with CUDA and cuDNN of the versions that it names",
            Provider::Tensorrt => "pip install onnxruntime-gpu, with CUDA and TensorRT of the versions that it names",
            Provider::Openvino => "pip install onnxruntime-openvino",
            Provider::Coreml => "it is in macOS's own builds of ONNX Runtime only",
            Provider::Directml => "pip install onnxruntime-directml, on Windows",
            Provider::Webgpu => "pip install onnxruntime-webgpu",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;
    fn from_str(text: &str) -> Result<Provider> {
        let names = Provider::ALL.map(Provider::name).join(", ");
        let found = Provider::ALL.into_iter().find(|p| p.name() == text.trim().to_ascii_lowercase());
        found.ok_or_else(|| Error::usage(format!("unknown provider {text:?}: expected one of {names}")))
    }
}
