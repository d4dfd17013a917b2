//! What stands for ONNX Runtime in a program that was built without it: it is never there.

use std::path::{Path, PathBuf};

use super::heads::Output;
use super::provider::Provider;
use super::weights::Model;
use super::{Elements, Input};
use crate::error::{Error, Result};

fn absent() -> Error {
    Error::unavailable("this framemill was built without ONNX Runtime: build it with the feature ort")
}

/// A runtime that cannot be loaded.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its library.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

impl Runtime {
    /// There is none.
    ///
    /// # Errors
    /// Unavailable.
    pub fn load(_path: Option<&Path>) -> Result<Runtime> {
        Err(absent())
    }

    /// None.
    pub fn providers(&self) -> Vec<Provider> {
        Vec::new()
    }
}

/// A model that cannot be loaded.
pub struct Session {
    /// Its input.
    pub input: Input,
    /// What computes.
    pub provider: Provider,
}

impl Session {
    /// There is no runtime to load it.
    ///
    /// # Errors
    /// Unavailable.
    pub fn open(_: &Runtime, _: &Model, _: Provider, _: usize) -> Result<Session> {
        Err(absent())
    }

    /// Nothing.
    pub fn metadata(&self, _: &str) -> Option<String> {
        None
    }

    /// There is no runtime to run it.
    ///
    /// # Errors
    /// Unavailable.
    pub fn run(&mut self, _: Elements, _: [usize; 4]) -> Result<Vec<Vec<Output>>> {
        Err(absent())
    }
}
