//! Items as the plain data of one flight, and how they are cut where they are too much for one.
//!
//! Promises: a frame is in a batch once, however many items read it; items are cut between frames, as long as there are two.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::backend::Item;
use crate::error::Result;
use crate::frame::Frame;
use crate::program::Steps;
use crate::program::passes::Batch;

/// An item, and which one of its batch.
pub type Numbered<'a> = (usize, Item<'a>);

/// Two halves of some items. All that is made of one frame stays together, so that no frame goes up twice, unless there is
/// only one.
pub fn halves(items: Vec<Numbered>) -> (Vec<Numbered>, Vec<Numbered>) {
    let mut frames: HashMap<*const Frame, usize> = HashMap::new();
    let mut place = |item: &Item| {
        let next = frames.len();
        *frames.entry(Arc::as_ptr(&item.frame)).or_insert(next)
    };
    let places: Vec<usize> = items.iter().map(|(_, item)| place(item)).collect();
    let (half, middle) = (frames.len() / 2, items.len() / 2);
    let mut halves = (Vec::new(), Vec::new());
    for (i, (item, place)) in items.into_iter().zip(places).enumerate() {
        let early = if half > 0 { place < half } else { i < middle };
        if early { halves.0.push(item) } else { halves.1.push(item) }
    }
    halves
}

/// Frames as a device can reach them.
pub struct Reach {
    /// Kernels read surfaces where they lie.
    surfaces: bool,
    /// What was brought to the host, once for all items, by the frame that holds the surface.
    brought: HashMap<*const Frame, Arc<Frame>>,
}

impl Reach {
    /// `surfaces` says whether kernels read what a decoder left on the device.
    pub fn new(surfaces: bool) -> Reach {
        Reach { surfaces, brought: HashMap::new() }
    }

    fn frame(&mut self, frame: &Arc<Frame>) -> Result<Arc<Frame>> {
        if frame.surface.is_none() || self.surfaces {
            return Ok(frame.clone());
        }
        match self.brought.entry(Arc::as_ptr(frame)) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(new) => Ok(new.insert(Arc::new(frame.on_host()?.into_owned())).clone()),
        }
    }
}

/// Appends an item's picture to a batch.
pub fn push<'a>(batch: &mut Batch<'a>, item: &Item<'a>, reach: &mut Reach) -> Result<Steps> {
    let frame = reach.frame(&item.frame)?;
    let size = (frame.width, frame.height);
    let steps = item.program.resolve(size, frame.orientation, frame.sample_aspect, &item.key)?;
    batch.push(item.program, &frame, &steps)?;
    Ok(steps)
}

/// Bytes of the slot that a batch needs, about.
pub fn bytes(batch: &Batch) -> u64 {
    let words = batch.tables.words.len() + batch.scratch + 2 * batch.out;
    2 * batch.pixels as u64 + 4 * words as u64
}
