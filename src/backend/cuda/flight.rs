//! What a batch is to the device: sizes, one upload, launches.

use crate::backend::load::Load;
use crate::ffi::cu::{Launch, Sizes};
use crate::program::params::{HORIZONTAL, NONE, PLANES_HORIZONTAL, PLANES_VERTICAL, Pass, VERTICAL, YCC};
use crate::program::passes::{Batch, Entry};

/// The kernels, in the order of their numbers.
pub const KERNELS: [&str; 7] = ["leave", "total", "finish", "rows4", "rows2", "planes", "columns"];

/// What runs passes: numbers in [`KERNELS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Pixels for the passes that follow, one by one.
    Leave = 0,
    /// Sums over pictures.
    Total = 1,
    /// Tensors.
    Finish = 2,
    /// Rows of a frame, four at a time, in shared memory.
    Rows4 = 3,
    /// The same, two at a time: of wide pictures.
    Rows2 = 4,
    /// Rows of a frame's planes.
    Planes = 5,
    /// Columns of what rows left, to tensors.
    Columns = 6,
}

/// Parts of an upload begin on multiples of this.
const ALIGN: u64 = 256;

/// Threads of a block along x and y, where each makes pixels by itself.
const BLOCK: [u32; 2] = [32, 4];
/// Threads of a block that works on rows in shared memory.
const ROW: u32 = 256;
/// Shared memory that leaves room for other blocks beside one.
const MODEST: u32 = 48 << 10;
/// Rows that a thread of [`Kernel::Planes`] makes.
const PLANE_ROWS: u32 = 4;

/// A batch as launches.
pub struct Plan {
    pub sizes: Sizes,
    pub launches: Vec<Launch>,
    pub load: Load,
    dispatches: Vec<(Kernel, Vec<Pass>)>,
}

impl Plan {
    /// Plans `batch` for a device whose blocks may have `shared` bytes.
    pub fn new(batch: &Batch, shared: u32) -> Plan {
        let mut dispatches: Vec<(Kernel, Vec<Pass>)> = Vec::new();
        for (entry, passes) in batch.dispatches() {
            let begun = dispatches.len();
            for pass in passes {
                let kernel = kernel(batch, entry, &pass, shared);
                match dispatches[begun..].iter_mut().find(|(own, _)| *own == kernel) {
                    Some((_, own)) => own.push(pass),
                    None => dispatches.push((kernel, vec![pass])),
                }
            }
        }
        let load = Load::new(batch, &dispatches, ALIGN);
        let sizes = Sizes {
            input: load.bytes() as usize,
            scratch: 4 * batch.scratch,
            sums: 4 * batch.sums,
            tensors: 4 * batch.out,
        };
        let launches = load.passes.iter().zip(&dispatches).map(|(part, (kernel, own))| {
            let rest = [&load.sources, &load.actions, &load.tables, &load.pixels].map(|part| part.start);
            let parts = [part.start, rest[0], rest[1], rest[2], rest[3]];
            launch(batch, *kernel, own, parts)
        });
        Plan { sizes, launches: launches.collect(), load, dispatches }
    }

    /// Writes the upload.
    pub fn write(&self, batch: &Batch, to: &mut [u8]) {
        self.load.write(batch, &self.dispatches, |at, data| to[at..at + data.len()].copy_from_slice(data));
    }
}

/// The fastest kernel that can run a pass.
fn kernel(batch: &Batch, entry: Entry, pass: &Pass, shared: u32) -> Kernel {
    let general = match entry {
        Entry::Leave => Kernel::Leave,
        Entry::Total => return Kernel::Total,
        Entry::Finish => match pass.kind {
            VERTICAL if pass.source == NONE => return Kernel::Columns,
            PLANES_VERTICAL => return Kernel::Columns,
            _ => return Kernel::Finish,
        },
    };
    // What is written is moved or coloured by the general kernel alone.
    if pass.source == NONE || pass.write_first != pass.write_end || pass.taps.groups == 0 {
        return general;
    }
    let source = &batch.sources[pass.source as usize];
    match pass.kind {
        HORIZONTAL if strip(batch, pass, 4) <= MODEST.min(shared) => Kernel::Rows4,
        HORIZONTAL if strip(batch, pass, 2) <= shared => Kernel::Rows2,
        PLANES_HORIZONTAL if source.kind == YCC && source.mask == 0xff && source.step == 1 => Kernel::Planes,
        _ => general,
    }
}

/// Bytes of shared memory that a strip of `rows` rows takes at most, as kernels/rows.cu lays it out.
fn strip(batch: &Batch, pass: &Pass, rows: u32) -> u32 {
    let range = |position: i32| {
        let at = pass.taps.table as usize + 2 * (position - pass.taps.first) as usize;
        let [start, length] = [batch.tables.words[at], batch.tables.words[at + 1]];
        (start, start + length)
    };
    let (first, end) = (range(pass.x).0, range(pass.x + pass.width as i32 - 1).1);
    let words = end.div_ceil(4) - first / 4;
    let source = &batch.sources[pass.source as usize];
    // Samples for every two pixels, a few more on each side, in whole words.
    let chroma = if source.kind == YCC && source.x.sub == 1 { 2 * words + 20 } else { 0 };
    4 * rows * (3 * (words + pass.taps.groups).next_multiple_of(4) + chroma)
}

fn launch(batch: &Batch, kernel: Kernel, passes: &[Pass], parts: [u64; 5]) -> Launch {
    let most = |side: fn(&Pass) -> u32| passes.iter().map(side).max().unwrap_or(1);
    let (width, height, layers) = (most(|p| p.width), most(|p| p.height), passes.len() as u32);
    let rows = |rows: u32| {
        let shared = passes.iter().map(|pass| strip(batch, pass, rows)).max().unwrap_or(0);
        ([height.div_ceil(rows), 1, layers], [ROW, 1], shared)
    };
    // Pixels of a row, and rows, that one thread makes.
    let pixels = |x: u32, y: u32| {
        ([width.div_ceil(x).div_ceil(BLOCK[0]), height.div_ceil(y).div_ceil(BLOCK[1]), layers], BLOCK, 0)
    };
    let (grid, block, shared) = match kernel {
        Kernel::Leave => pixels(1, 1),
        Kernel::Total => pixels(16, 1),
        Kernel::Finish | Kernel::Columns => pixels(4, 1),
        Kernel::Rows4 => rows(4),
        Kernel::Rows2 => rows(2),
        Kernel::Planes => pixels(1, PLANE_ROWS),
    };
    Launch { kernel: kernel as usize, grid, block, shared, parts }
}
