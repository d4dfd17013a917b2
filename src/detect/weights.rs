//! [`Model`]: a model's file, and the files beside it in which exporters keep large weights (ONNX's external data).
//!
//! All of them are read once: what runs is what the digest names, whatever becomes of the files during a run. Names come from
//! the model, so they may not lead out of its folder.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Files;
use crate::error::{Error, Result};

/// A model and its weights, in memory.
#[derive(Debug)]
pub struct Model {
    /// The ONNX file.
    pub graph: Vec<u8>,
    /// Weights outside of it: the names by which it refers to them, and their contents.
    pub weights: Vec<(String, Arc<[u8]>)>,
}

impl Model {
    /// Reads a model and what it refers to.
    ///
    /// # Errors
    /// Usage, naming the file that is missing, or that lies outside of the model's folder.
    pub fn read(uri: &str, files: Files) -> Result<Model> {
        let graph =
            (files.read)(uri).map_err(|e| Error { message: format!("{}; expected an ONNX model", e.message), ..e })?;
        let folder = (files.shown)(uri).rfind('/').map_or("", |slash| &uri[..=slash]);
        let mut weights = Vec::new();
        for name in locations(&graph) {
            let inside = Path::new(&name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
            if !inside || name.is_empty() {
                return Err(Error::usage(format!(
                    "its weights are in {name:?}; expected a file in the model's folder or below: save the model anew"
                )));
            }
            let file = format!("{folder}{name}");
            let bytes = (files.read)(&file).map_err(|e| {
                let message = format!("its weights are in {file}: {}; put that file beside the model", e.message);
                Error { message, ..e }
            })?;
            weights.push((name, bytes.into()));
        }
        Ok(Model { graph, weights })
    }

    /// SHA-256 in hexadecimal: of the file, or where there are others, of its digest and theirs with their names.
    pub fn digest(&self) -> String {
        let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        if self.weights.is_empty() {
            return hex(&self.graph);
        }
        let line = |name: &str, bytes: &[u8]| format!("{} {name}\n", hex(bytes));
        let others = self.weights.iter().map(|(name, bytes)| line(name, bytes));
        hex(std::iter::once(line("", &self.graph)).chain(others).collect::<String>().as_bytes())
    }
}

/// Names of the files in which tensors lie, as `onnx.proto` has them. What is no model names none: the runtime says so.
fn locations(model: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(Message::Model, model, 0, &mut found);
    found
}

/// The messages of `onnx.proto` in which tensors are.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// A tensor's entry of its external data.
    Entry,
}

/// Graphs lie in nodes of graphs; models that nest deeper than this are refused by the runtime or never made.
const DEEPEST: usize = 100;

impl Message {
    /// What a field of it holds, where that matters.
    fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) => Message::Graph,
            (Message::Model, 25) => Message::Function,
            (Message::Function, 7) | (Message::Graph, 1) => Message::Node,
            (Message::Graph, 5) => Message::Tensor,
            (Message::Graph, 15) => Message::SparseTensor,
            (Message::Node, 5) => Message::Attribute,
            (Message::Attribute, 5 | 10) => Message::Tensor,
            (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::SparseTensor, 1 | 2) => Message::Tensor,
            (Message::Tensor, 13) => Message::Entry,
            _ => return None,
        })
    }
}

fn walk(message: Message, bytes: &[u8], depth: usize, found: &mut BTreeSet<String>) {
    if let Message::Entry = message {
        let text = |wanted| fields(bytes).find_map(|(number, value)| (number == wanted).then_some(value));
        if let (Some(b"location"), Some(name)) = (text(1), text(2)) {
            found.insert(String::from_utf8_lossy(name).into_owned());
        }
        return;
    }
    for (number, value) in fields(bytes) {
        if let Some(inner) = message.field(number).filter(|_| depth < DEEPEST) {
            walk(inner, value, depth + 1, found);
        }
    }
}

/// Number and content of the fields of a message that have a length, until the bytes make no sense.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut rest)?;
            let length = match tag & 7 {
                0 => {
                    varint(&mut rest)?;
                    0
                }
                1 => 8,
                2 => usize::try_from(varint(&mut rest)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (value, behind) = rest.split_at_checked(length)?;
            rest = behind;
            if tag & 7 == 2 {
                return Some((tag >> 3, value));
            }
        }
    })
}

/// Protobuf's integers: seven bits a byte, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128 && number < 16);
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    fn tensor(file: &str) -> Vec<u8> {
        field(13, &[field(1, b"location"), field(2, file.as_bytes())].concat())
    }

    #[test]
    fn weights_are_found_wherever_tensors_are() {
        let entry = field(13, &[field(1, b"offset"), field(2, b"4096")].concat());
        let inner = field(6, &field(5, &tensor("inner")));
        let attributes = [field(5, &field(5, &tensor("constant"))), field(5, &inner)].concat();
        // A version and a number of eight bytes come before.
        let graph = [field(5, &[tensor("first"), entry].concat()), field(1, &attributes)].concat();
        let model = [&[8, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8][..], &field(7, &graph)].concat();
        let named = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(locations(&model), named(&["constant", "first", "inner"]));
        assert_eq!(locations(b"no model"), named(&[]));
    }

    #[test]
    fn names_may_not_lead_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        let read = |name: &str| {
            std::fs::write(&path, field(7, &field(5, &tensor(name)))).unwrap();
            let local = |path: &str| std::fs::read(path).map_err(|e| Error::usage(e.to_string()));
            Model::read(path.to_str().unwrap(), Files { read: &local, shown: str::trim })
        };
        for name in ["../w", "/etc/passwd", "a/../../w", ""] {
            assert!(read(name).unwrap_err().message.contains("the model's folder"), "{name}");
        }
        assert!(read("w.data").unwrap_err().message.contains("w.data: No such file"));
        std::fs::write(dir.path().join("w.data"), "12").unwrap();
        let (one, digest) = (read("w.data").unwrap(), read("w.data").unwrap().digest());
        assert_eq!(one.weights, [("w.data".to_string(), Arc::from(&b"12"[..]))]);
        std::fs::write(dir.path().join("w.data"), "13").unwrap();
        assert_ne!(read("w.data").unwrap().digest(), digest);
    }

    proptest! {
        #[test]
        fn whatever_bytes_there_are_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            locations(&bytes);
        }
    }
}
