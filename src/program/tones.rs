//! Tone mapping tables that were made before: all frames of a video need the same one.

use std::sync::{Arc, Mutex, PoisonError};

use crate::color::Color;
use crate::error::Result;
use crate::program::lut::Cube;
use crate::program::tonemap::Tonemap;

/// A few tables, by what they were made for.
#[derive(Debug, Default)]
pub struct Tones(Mutex<Vec<(Key, Option<Arc<Cube>>)>>);

#[derive(Debug, Clone, PartialEq)]
struct Key {
    tonemap: Tonemap,
    transfer: String,
    primaries: String,
}

impl Tones {
    /// The table for pictures of `color`; `None` for those that are not mapped.
    pub fn get(&self, tonemap: Tonemap, color: &Color) -> Result<Option<Arc<Cube>>> {
        let key = Key { tonemap, transfer: color.transfer.clone(), primaries: color.primaries.clone() };
        // Held while a table is made: whoever waits needs the same one. A poisoned lock guards nothing but finished entries.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cube)) = made.iter().find(|(other, _)| *other == key) {
            return Ok(cube.clone());
        }
        let cube = tonemap.cube(color)?;
        made.push((key, cube.clone()));
        Ok(cube)
    }
}
