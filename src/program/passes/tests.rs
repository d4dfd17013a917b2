//! What passes there are for which lists, and what several Programs share.

use super::*;
use crate::color::{Color, Matrix};
use crate::frame::Plane;
use crate::op::Op;
use crate::program::params::MOVE;
use crate::program::{DrawKey, Settings};

fn nv(width: u32, height: u32) -> Arc<Frame> {
    let (w, h) = (width as usize, height as usize);
    let plane = |w: usize, h: usize| Plane { data: vec![0; w * h].into(), stride: w };
    let chroma = || plane(w.div_ceil(2), h.div_ceil(2));
    Arc::new(Frame {
        width,
        height,
        format: PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 },
        planes: vec![plane(w, h), chroma(), chroma()],
        color: Color::srgb(),
        ..Frame::rgb(1, 1, vec![0; 3])
    })
}

fn program(ops: &[&str]) -> Program {
    let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
    Program::compile(&ops, Settings::default()).unwrap()
}

/// The passes of one picture, level by level, and the words between them.
fn passes(ops: &[&str], (w, h): (u32, u32)) -> (Vec<Pass>, usize, Vec<Action>) {
    let (program, weights, tones, frame) = (program(ops), Cache::default(), Tones::default(), nv(w, h));
    let mut batch = Batch::new(&weights, &tones);
    let steps = program.resolve((w, h), frame.orientation, (1, 1), &DrawKey::default()).unwrap();
    batch.push(&program, &frame, &steps).unwrap();
    let passes = batch.dispatches().into_iter().flat_map(|(_, passes)| passes).collect();
    (passes, batch.scratch, batch.actions)
}

#[test]
fn the_common_list_is_two_passes_and_leaves_little_between() {
    let common = ["resize:short=256", "center_crop:w=224,h=224", "flip:h", "grayscale", "normalize:imagenet"];
    let (passes, scratch, actions) = passes(&common, (1920, 1080));
    assert_eq!([passes[0].kind, passes[1].kind], [HORIZONTAL, VERTICAL]);
    assert_eq!(passes.len(), 2);
    assert_eq!((passes[1].width, passes[1].height), (224, 224));
    // The rows that the crop's 224 rows need of 1080, and no column that is cropped away.
    assert_eq!(scratch, 224 * passes[0].height as usize);
    assert!((940..960).contains(&passes[0].height), "{}", passes[0].height);
    // Crop and flip are one move.
    assert_eq!(actions.iter().map(|a| a.kind).collect::<Vec<_>>(), [MOVE, crate::program::params::GRAYSCALE]);
}

#[test]
fn a_mean_is_one_pass_more() {
    let ops = ["resize:w=20,h=20", "crop:x=0,y=0,w=10,h=10", "color_jitter:contrast=0.5", "crop:x=0,y=0,w=5,h=5"];
    let (passes, scratch, _) = passes(&ops, (40, 40));
    let told: Vec<_> = passes.iter().map(|p| (p.kind, p.width, p.sum != NONE)).collect();
    assert_eq!(told, [(HORIZONTAL, 10, false), (VERTICAL, 10, true), (VERTICAL, 5, false)]);
    // Both read what the first left, and the sum leaves nothing.
    assert_eq!((passes[1].input, passes[2].input), (passes[0].to, passes[0].to));
    assert_eq!(scratch, 12 * passes[0].height as usize);
}

#[test]
fn the_axis_that_shrinks_more_comes_first() {
    let (passes, ..) = passes(&["resize:w=60,h=10"], (64, 200));
    assert_eq!([passes[0].kind, passes[1].kind], [VERTICAL, HORIZONTAL]);
    let (passes, ..) = self::passes(&["resize:w=64,h=10"], (64, 200));
    assert_eq!(passes.iter().map(|p| p.kind).collect::<Vec<_>>(), [VERTICAL], "a side that stays has no pass");
}

/// Frames and Programs in this order.
fn mixed<'a>(weights: &'a Cache, tones: &'a Tones, items: &[(&'a Program, &Arc<Frame>)]) -> Batch<'a> {
    let mut batch = Batch::new(weights, tones);
    for (program, frame) in items {
        let size = (frame.width, frame.height);
        let steps = program.resolve(size, frame.orientation, (1, 1), &DrawKey::default()).unwrap();
        batch.push(program, frame, &steps).unwrap();
    }
    batch
}

#[test]
fn several_programs_read_what_went_up_once() {
    let (weights, tones, frames) = (Cache::default(), Tones::default(), [nv(40, 30), nv(40, 30)]);
    let small = program(&["resize:w=20,h=20"]);
    let other = program(&["letterbox:w=16,h=16", "to:dtype=f32,layout=chw"]);
    let both: Vec<_> = frames.iter().flat_map(|frame| [(&small, frame), (&other, frame)]).collect();
    let (one, two) = (mixed(&weights, &tones, &both[..1]), mixed(&weights, &tones, &both));
    assert_eq!((one.uploads.len(), two.uploads.len()), (3, 6), "three planes of each frame");
    assert_eq!((two.frames().len(), two.sources.len(), two.tensors.len()), (2, 2, 4));
    assert_eq!(two.pixels, 2 * one.pixels);
    let told: Vec<_> = two.dispatches().iter().map(|(entry, passes)| (*entry, passes.len())).collect();
    assert_eq!(told, [(Entry::Leave, 2), (Entry::Leave, 2), (Entry::Finish, 2), (Entry::Finish, 2)]);
    // The last passes of each Program look up its own elements, and write behind one another.
    let last: Vec<(u32, u32)> = two.dispatches()[2..].iter().flat_map(|(_, p)| p).map(|p| (p.table, p.to)).collect();
    assert_eq!((last[0].0, last[1].0), (NONE, NONE));
    assert!(last[2].0 != NONE && last[2].0 == last[3].0);
    assert!(last[0].1 < last[2].1 && last[2].1 < last[1].1 && last[1].1 < last[3].1, "{last:?}");
}

#[test]
fn tensors_of_all_types_begin_where_a_group_can_be_written() {
    let (weights, tones, frame) = (Cache::default(), Tones::default(), nv(5, 3));
    let lists = ["to:layout=hwc", "to:layout=chw", "to:dtype=f16,layout=hwc", "to:dtype=f32,layout=chw"];
    let programs = lists.map(|to| program(&[to]));
    let batch = mixed(&weights, &tones, &programs.each_ref().map(|program| (program, &frame)));
    let starts: Vec<usize> = batch.tensors.iter().map(|placed| placed.at).collect();
    assert!(starts.iter().all(|at| at % 16 == 0), "{starts:?}");
    let ends = batch.tensors.iter().map(|p| p.at + p.row * 3 * if p.layout == Layout::Chw { 3 } else { 1 });
    let apart = ends.zip(starts[1..].iter().chain([&(4 * batch.out)])).all(|(end, next)| end <= *next);
    assert!(apart, "{starts:?}");
}

#[test]
fn a_frame_that_is_read_in_two_ways_goes_up_once() {
    let (weights, tones) = (Cache::default(), Tones::default());
    let color = Color { matrix: Matrix::Bt709, ..Color::srgb() };
    let frame = Arc::new(Frame { color, ..Frame::clone(&nv(40, 30)) });
    let exact = program(&["resize:w=20,h=20"]);
    let ops = [Op::parse("resize:w=20,h=20").unwrap()];
    let with = |settings: Settings| Program::compile(&ops, settings).unwrap();
    let fast = with(Settings { quality: Quality::Fast, ..Settings::default() });
    let nearest = with(Settings { chroma: yuv::Chroma::Nearest, ..Settings::default() });
    let items = [(&exact, &frame), (&fast, &frame), (&nearest, &frame), (&exact, &frame)];
    let batch = mixed(&weights, &tones, &items);
    assert_eq!((batch.uploads.len(), batch.sources.len(), batch.tensors.len()), (3, 3, 4));
    let places: Vec<_> = batch.sources.iter().map(|source| (source.offset, source.stride)).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    assert!(batch.sources[0] != batch.sources[1] && batch.sources[0] != batch.sources[2]);
}

#[test]
fn levels_are_counted_from_the_end() {
    let (program, weights, tones) = (program(&["resize:w=20,h=20"]), Cache::default(), Tones::default());
    let mut batch = Batch::new(&weights, &tones);
    for size in [(20, 20), (40, 40), (20, 30)] {
        let steps = program.resolve(size, Default::default(), (1, 1), &DrawKey::default()).unwrap();
        batch.push(&program, &nv(size.0, size.1), &steps).unwrap();
    }
    let kinds = |(entry, passes): (Entry, Vec<Pass>)| (entry, passes.iter().map(|p| p.kind).collect::<Vec<_>>());
    let kinds: Vec<_> = batch.dispatches().into_iter().map(kinds).collect();
    assert_eq!(kinds, [(Entry::Leave, vec![HORIZONTAL]), (Entry::Finish, vec![COPY, VERTICAL, VERTICAL])]);
}
