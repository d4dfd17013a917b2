//! One model in ONNX Runtime, run by one thread.

use ort::session::Session as Inner;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};

use super::heads::{Declared, Output};
use super::provider::Provider;
use super::runtime::{Runtime, dispatch};
use super::weights::Model;
use super::{Element, Elements, Input};
use crate::error::{Error, RejectKind, Result};

/// A loaded model.
pub struct Session {
    inner: Inner,
    /// Its one input.
    pub input: Input,
    outputs: Vec<Declared>,
    /// What computes.
    pub provider: Provider,
}

impl Session {
    /// Loads a model with `threads` threads of its own for each run.
    ///
    /// # Errors
    /// Usage where it is no model that can be run; unavailable where the provider is not there.
    pub fn open(runtime: &Runtime, model: &Model, provider: Provider, threads: usize) -> Result<Session> {
        let missing = |e: &dyn std::fmt::Display| {
            Error::unavailable(format!("provider {provider}: {}; what it needs: {}", first_line(e), provider.remedy()))
        };
        let setting = |e: &dyn std::fmt::Display| Error::bug(format!("ONNX Runtime refused a setting: {e}"));
        let builder = Inner::builder(&runtime.environment).map_err(|e| setting(&e))?;
        let builder = builder.with_intra_threads(threads).map_err(|e| setting(&e))?;
        let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|e| setting(&e))?;
        let builder = builder.with_log_level(ort::logging::LogLevel::Fatal).map_err(|e| setting(&e))?;
        let mut builder = match provider {
            Provider::Cpu => builder,
            _ => builder.with_execution_providers([dispatch(provider)]).map_err(|e| missing(&e))?,
        };
        for (name, weights) in &model.weights {
            let given = builder.with_external_initializer_file_in_memory(name, weights.clone());
            builder = given.map_err(|e| setting(&e))?;
        }
        let inner = builder.commit_from_memory(&model.graph).map_err(|e| match provider {
            Provider::Cpu => Error::usage(format!(
                "ONNX Runtime {} cannot load it: {}; expected an ONNX model with operators that this version knows",
                runtime.version,
                first_line(&e)
            )),
            _ => missing(&e),
        })?;
        let [input] = inner.inputs() else {
            let names: Vec<&str> = inner.inputs().iter().map(|i| i.name()).collect();
            return Err(Error::usage(format!(
                "it has {} inputs ({}); expected one, the picture",
                names.len(),
                names.join(", ")
            )));
        };
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(Error::usage(format!("its input {} is no tensor", input.name())));
        };
        let element = match ty {
            TensorElementType::Float32 => Element::F32,
            TensorElementType::Float16 => Element::F16,
            TensorElementType::Uint8 => Element::U8,
            other => {
                return Err(Error::usage(format!(
                    "its input {} holds {other:?}; expected Float32, Float16 or Uint8: export the model so",
                    input.name()
                )));
            }
        };
        let input = Input { name: input.name().into(), shape: shape.to_vec(), element };
        let declared = |o: &ort::value::Outlet| Declared {
            name: o.name().into(),
            shape: match o.dtype() {
                ValueType::Tensor { shape, .. } => shape.to_vec(),
                _ => Vec::new(),
            },
        };
        let outputs = inner.outputs().iter().map(declared).collect();
        Ok(Session { inner, input, outputs, provider })
    }

    /// An entry of the model's metadata.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.inner.metadata().ok()?.custom(key)
    }

    /// Runs the model on `batch` pictures; `shape` is the whole input's. For each picture its outputs.
    ///
    /// # Errors
    /// Detect where the model fails, or gives no part for each picture.
    pub fn run(&mut self, elements: Elements, shape: [usize; 4]) -> Result<Vec<Vec<Output>>> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::input(RejectKind::Detect, format!("the model failed: {}", first_line(e)))
        };
        let value: DynValue = match elements {
            Elements::F32(data) => Tensor::from_array((shape.to_vec(), data)).map_err(|e| failed(&e))?.into_dyn(),
            Elements::F16(data) => Tensor::from_array((shape.to_vec(), data)).map_err(|e| failed(&e))?.into_dyn(),
            Elements::U8(data) => Tensor::from_array((shape.to_vec(), data)).map_err(|e| failed(&e))?.into_dyn(),
        };
        let values = self.inner.run(vec![(self.input.name.as_str(), value)]).map_err(|e| failed(&e))?;
        let batch = shape[0];
        let mut pictures = vec![Vec::new(); batch];
        for declared in &self.outputs {
            let name = &declared.name;
            let value = values.get(name).ok_or_else(|| failed(&format!("output {name} is missing")))?;
            let (shape, data) = floats(value).map_err(|e| failed(&format!("output {name}: {e}")))?;
            let (shape, parts) = match shape.split_first() {
                Some((n, rest)) if *n == batch => (rest.to_vec(), data.len() / batch.max(1)),
                // One value for all.
                None => (Vec::new(), 0),
                Some((n, _)) => {
                    return Err(failed(&format!("output {name} holds {n} pictures for a batch of {batch}")));
                }
            };
            for (i, picture) in pictures.iter_mut().enumerate() {
                let part = if parts == 0 { data.clone() } else { data[i * parts..(i + 1) * parts].to_vec() };
                picture.push(Output { name: name.clone(), shape: shape.clone(), data: part });
            }
        }
        Ok(pictures)
    }
}

/// Messages of the runtime go on for lines.
fn first_line(e: &dyn std::fmt::Display) -> String {
    let text = e.to_string();
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// Shape and elements of a tensor of numbers.
fn floats(value: &DynValue) -> Result<(Vec<usize>, Vec<f32>), String> {
    let ValueType::Tensor { ty, .. } = value.dtype() else { return Err("it is no tensor".into()) };
    macro_rules! extract {
        ($t:ty, $float:expr) => {{
            let (shape, data) = value.try_extract_tensor::<$t>().map_err(|e| first_line(&e))?;
            (shape.iter().map(|n| *n as usize).collect(), data.iter().map($float).collect())
        }};
        ($t:ty) => {
            extract!($t, |v| *v as f32)
        };
    }
    Ok(match ty {
        TensorElementType::Float32 => extract!(f32),
        TensorElementType::Float64 => extract!(f64),
        TensorElementType::Float16 => extract!(half::f16, |v| v.to_f32()),
        TensorElementType::Bfloat16 => extract!(half::bf16, |v| v.to_f32()),
        TensorElementType::Int64 => extract!(i64),
        TensorElementType::Int32 => extract!(i32),
        other => return Err(format!("it holds {other:?}; expected floats or integers")),
    })
}
