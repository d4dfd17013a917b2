//! Distributions against their formulas, over a few thousand draws.

use super::*;
use crate::geometry::Orientation;
use crate::op::Op;
use crate::program::{DrawKey, Program, Settings};
use crate::rng::Purpose;

const DRAWS: usize = 4000;

fn draw(i: usize) -> Draw {
    Draw::new(Purpose { seed: 1, epoch: 0, asset: i as u64, time_us: 0, variant: 0, op: 0 })
}

/// Steps and what was drawn, for one asset after the other.
fn drawn(op: &str, size: (u32, u32)) -> Vec<Steps> {
    let program = Program::compile(&[Op::parse(op).unwrap()], Settings::default()).unwrap();
    let steps = |asset| {
        let key = DrawKey { asset, time_us: 0, variant: 0 };
        program.resolve(size, Orientation::UPRIGHT, (1, 1), &key).unwrap()
    };
    (0..DRAWS as u64).map(steps).collect()
}

fn numbers(steps: &[Steps], path: &str) -> Vec<f64> {
    steps.iter().map(|s| s.augment[0].pointer(path).and_then(Value::as_f64).unwrap()).collect()
}

/// Whether `values` look uniform from `from` to `to`: range, mean and variance, each to 4.5 standard errors.
fn uniform(values: &[f64], [from, to]: [f64; 2]) -> bool {
    let (n, width) = (values.len() as f64, to - from);
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    let near = |value: f64, expected: f64, deviation: f64| (value - expected).abs() < 4.5 * deviation / n.sqrt();
    from <= least
        && most <= to
        && least - from < 10.0 * width / n
        && to - most < 10.0 * width / n
        && near(mean, (from + to) / 2.0, width / 12f64.sqrt())
        // The fourth central moment of a uniform distribution is w^4 / 80.
        && near(variance, width * width / 12.0, width * width * (1.0f64 / 80.0 - 1.0 / 144.0).sqrt())
}

fn share(values: impl Iterator<Item = bool>) -> f64 {
    values.filter(|v| *v).count() as f64 / DRAWS as f64
}

#[test]
fn another_range_is_not_taken_for_uniform() {
    let values: Vec<f64> = (0..DRAWS).map(|i| draw(i).between([1.0, 3.0])).collect();
    assert!(uniform(&values, [1.0, 3.0]));
    for wrong in [[1.0, 3.1], [0.9, 3.0], [1.1, 2.9]] {
        assert!(!uniform(&values, wrong), "{wrong:?}");
    }
    let bent: Vec<f64> = values.iter().map(|v| 1.0 + (v - 1.0).powi(2) / 2.0).collect();
    assert!(!uniform(&bent, [1.0, 3.0]));
    let counts = (0..DRAWS).fold([0; 5], |mut counts, i| {
        counts[draw(i).below(5) as usize] += 1;
        counts
    });
    assert!(counts.iter().all(|n| (700..900).contains(n)), "{counts:?}");
}

#[test]
fn parts_have_the_areas_and_shapes_asked_for() {
    // Small enough that every first try fits, large enough that rounding to pixels does not count.
    let size = (10_000, 10_000);
    let parts: Vec<[u32; 4]> = (0..DRAWS).map(|i| part(size, [0.08, 0.5], [0.75, 4.0 / 3.0], &mut draw(i))).collect();
    let each = |f: fn(&[f64; 4]) -> f64| parts.iter().map(|p| f(&p.map(f64::from))).collect::<Vec<_>>();
    assert!(uniform(&each(|[_, _, w, h]| w * h / 1e8), [0.0799, 0.5001]));
    let side = libm::log(0.7499);
    assert!(uniform(&each(|[_, _, w, h]| libm::log(w / h)), [side, -side]));
    assert!(uniform(&each(|[x, _, w, _]| x / (10_000.0 - w)), [0.0, 1.0]));
    assert!(uniform(&each(|[_, y, _, h]| y / (10_000.0 - h)), [0.0, 1.0]));
    // Where no try fits: the largest part in the middle.
    assert_eq!(part((1000, 10), [0.5, 1.0], [0.75, 4.0 / 3.0], &mut draw(0)), [493, 0, 13, 10]);
    assert_eq!(part((10, 1000), [0.5, 1.0], [0.75, 4.0 / 3.0], &mut draw(0)), [0, 493, 10, 13]);
    assert_eq!(part((10, 10), [0.0, 0.0], [0.75, 4.0 / 3.0], &mut draw(0)), [0, 0, 10, 10]);
    // Any size gives a part inside.
    for i in 0..2000 {
        let (w, h) = (1 + draw(i).below(40), 1 + draw(i + 5000).below(40));
        let [x, y, part_w, part_h] = part((w, h), [0.08, 1.0], [0.75, 4.0 / 3.0], &mut draw(i));
        assert!(part_w > 0 && part_h > 0 && x + part_w <= w && y + part_h <= h);
    }
}

#[test]
fn erased_rectangles_have_the_areas_and_shapes_asked_for() {
    let size = (10_000, 10_000);
    let all: Vec<[u32; 4]> = (0..DRAWS).map(|i| erased(size, [0.02, 0.3], [0.3, 3.3], &mut draw(i)).unwrap()).collect();
    let each = |f: fn(&[f64; 4]) -> f64| all.iter().map(|p| f(&p.map(f64::from))).collect::<Vec<_>>();
    assert!(uniform(&each(|[_, _, w, h]| w * h / 1e8), [0.0199, 0.3001]));
    // Height over width, as torchvision; the ends are not symmetric, so width over height fails.
    let ends = [libm::log(0.2999), libm::log(3.3003)];
    assert!(uniform(&each(|[_, _, w, h]| libm::log(h / w)), ends));
    assert!(!uniform(&each(|[_, _, w, h]| libm::log(w / h)), ends));
    assert_eq!(erased((10, 10), [1.0, 1.0], [1.0, 1.0], &mut draw(0)), None);
    let steps = drawn("random_erasing:p=0.3", (64, 64));
    let happened = share(steps.iter().map(|s| s.augment[0]["erased"] == true));
    assert!((0.27..0.33).contains(&happened), "{happened}");
    for steps in steps.iter().filter(|s| !s.steps.is_empty()) {
        let Step::Erase { x, y, w, h, .. } = steps.steps[0].0 else { panic!("another step") };
        assert!(w > 0 && h > 0 && x + w <= 64 && y + h <= 64);
    }
}

#[test]
fn jitter_follows_its_ranges_in_every_order() {
    let steps = drawn("color_jitter:brightness=0.4,contrast=0.5,2,saturation=3,hue=0.1", (8, 8));
    for (name, range) in
        [("brightness", [0.6, 1.4]), ("contrast", [0.5, 2.0]), ("saturation", [0.0, 4.0]), ("hue", [-0.1, 0.1])]
    {
        assert!(uniform(&numbers(&steps, &format!("/{name}")), range), "{name}");
    }
    let mut orders = std::collections::BTreeMap::<String, usize>::new();
    for steps in &steps {
        let names = &steps.augment[0]["order"];
        *orders.entry(names.to_string()).or_default() += 1;
        let step = |name: &Value| match name.as_str().unwrap() {
            "brightness" => matches!(steps.steps[place(names, name)].0, Step::Blend { base: Base::Black, .. }),
            "contrast" => matches!(steps.steps[place(names, name)].0, Step::Blend { base: Base::Mean, .. }),
            "saturation" => matches!(steps.steps[place(names, name)].0, Step::Blend { base: Base::Luma, .. }),
            _ => matches!(steps.steps[place(names, name)].0, Step::Hue { .. }),
        };
        assert!(names.as_array().unwrap().iter().all(step));
    }
    // 4000 / 24 is 167, with a standard deviation of 12.6.
    assert!(orders.len() == 24 && orders.values().all(|n| (110..224).contains(n)), "{orders:?}");
}

fn place(names: &Value, name: &Value) -> usize {
    names.as_array().unwrap().iter().position(|n| n == name).unwrap()
}

#[test]
fn what_is_not_asked_for_is_not_drawn() {
    let steps = &drawn("color_jitter:brightness=0.2", (8, 8))[0];
    assert_eq!((steps.steps.len(), &steps.augment[0]["order"]), (1, &json!(["brightness"])));
    assert!(steps.augment[0].get("hue").is_none());
    let fixed = &drawn("gaussian_blur:5,sigma=1.5", (8, 8))[0];
    assert!(fixed.augment.is_null() && fixed.steps.len() == 1);
}

#[test]
fn blurs_and_grays_follow_their_parameters() {
    assert!(uniform(&numbers(&drawn("gaussian_blur:5", (8, 8)), "/sigma"), [0.1, 2.0]));
    let gray = share(drawn("random_grayscale", (8, 8)).iter().map(|s| s.steps.len() == 1));
    assert!((0.08..0.12).contains(&gray), "{gray}");
}

#[test]
fn affine_maps_follow_their_ranges() {
    let steps = drawn("random_affine:10,translate=0.1,0.25,scale=0.5,1.5,shear=-5,5,1,2", (400, 200));
    for (path, range) in
        [("/angle", [-10.0, 10.0]), ("/scale", [0.5, 1.5]), ("/shear/0", [-5.0, 5.0]), ("/shear/1", [1.0, 2.0])]
    {
        assert!(uniform(&numbers(&steps, path), range), "{path}");
    }
    for (path, most) in [("/translate/0", 40.0), ("/translate/1", 50.0)] {
        let moved = numbers(&steps, path);
        assert!(moved.iter().all(|v| v.fract() == 0.0 && v.abs() <= most));
        assert!(moved.iter().any(|v| v.abs() > most - 3.0), "{path}");
    }
    // The transform is the map itself, and leads the middle, less the move, to the middle.
    for steps in &steps[..50] {
        let moved = |i: usize| steps.augment[0]["translate"][i].as_f64().unwrap();
        let (x, y) = steps.transform.apply(200.0 + moved(0), 100.0 + moved(1));
        assert!((x - 200.0).abs() < 1e-9 && (y - 100.0).abs() < 1e-9);
    }
}
