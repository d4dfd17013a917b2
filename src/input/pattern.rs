//! Globs, part by part between slashes: the same for paths and for keys.

use glob::Pattern;

#[cfg(feature = "cloud")]
use super::walk::hidden;
use crate::error::{Error, Result};

/// One part of a pattern between slashes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Glob(Pattern),
    /// `**`: any number of folders.
    Recursive,
}

impl Part {
    /// Whether a name is what this part says. Wildcards match no hidden names, unless the pattern has the dot, too.
    #[cfg(feature = "cloud")]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Part::Literal(literal) => literal == name,
            Part::Glob(pattern) => {
                (pattern.as_str().starts_with('.') || !hidden(name.as_bytes())) && pattern.matches(name)
            }
            Part::Recursive => !hidden(name.as_bytes()),
        }
    }
}

pub(super) fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The parts of `pattern`; a `**` at its end stands for all files below.
pub(super) fn parts(pattern: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        parts.push(match part {
            "**" => Part::Recursive,
            part if has_wildcards(part) => Part::Glob(
                Pattern::new(part).map_err(|e| Error::usage(format!("glob {pattern}: {part} is no pattern: {e}")))?,
            ),
            part => Part::Literal(part.into()),
        });
    }
    if parts.last() == Some(&Part::Recursive) {
        parts.push(Part::Glob(Pattern::new("*").map_err(|e| Error::bug(e.to_string()))?));
    }
    Ok(parts)
}
