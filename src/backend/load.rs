//! How a batch lies in the one upload that brings it to a device.

use std::ops::Range;

use crate::program::params::Pass;
use crate::program::passes::Batch;

/// The parts of an upload, each on a boundary that a device can read it from.
#[derive(Debug, Clone)]
pub struct Load {
    /// The passes of each dispatch.
    pub passes: Vec<Range<u64>>,
    /// Frames.
    pub sources: Range<u64>,
    /// Actions.
    pub actions: Range<u64>,
    /// Look-up tables.
    pub tables: Range<u64>,
    /// Planes.
    pub pixels: Range<u64>,
}

impl Load {
    /// Lays out `batch`, whose passes are `dispatches`, in parts on multiples of `align`. No part is empty.
    pub fn new<K>(batch: &Batch, dispatches: &[(K, Vec<Pass>)], align: u64) -> Load {
        let mut end = 0;
        let mut take = |bytes: usize| {
            let at = end;
            end = (at + bytes.max(1) as u64).next_multiple_of(align);
            at..end
        };
        Load {
            passes: dispatches.iter().map(|(_, own)| take(size_of_val(&own[..]))).collect(),
            sources: take(size_of_val(&batch.sources[..])),
            actions: take(size_of_val(&batch.actions[..])),
            tables: take(size_of_val(&batch.tables.words[..])),
            pixels: take(batch.pixels),
        }
    }

    /// Bytes of the whole.
    pub fn bytes(&self) -> u64 {
        self.pixels.end
    }

    /// Gives all parts but what lies between them, each with its place.
    pub fn write<K>(&self, batch: &Batch, dispatches: &[(K, Vec<Pass>)], mut write: impl FnMut(usize, &[u8])) {
        for (part, (_, own)) in self.passes.iter().zip(dispatches) {
            write(part.start as usize, bytemuck::cast_slice(own));
        }
        write(self.sources.start as usize, bytemuck::cast_slice(&batch.sources));
        write(self.actions.start as usize, bytemuck::cast_slice(&batch.actions));
        write(self.tables.start as usize, bytemuck::cast_slice(&batch.tables.words));
        for upload in &batch.uploads {
            upload.copy(batch.frame(upload), |at, row| write(self.pixels.start as usize + at, row));
        }
    }
}
