use super::*;

/// Two pictures that have nothing in common but their brightness; `shift` moves them sideways.
fn picture(number: i32, shift: i32) -> Vec<f64> {
    let wave = |at: f64, length: f64| (at / length).sin() * 38.0;
    let value = |x: f64, y: f64| match number {
        0 => wave(x, 2.3) + wave(y + x * 0.4, 3.1) + wave(x - 2.0 * y, 5.7),
        _ => wave(y, 1.9) + wave(x * 0.3 - y, 2.7) + wave(x + 3.0 * y, 7.3),
    };
    let place = |i: i32| (f64::from(i % 64 + shift), f64::from(i / 64));
    (0..64 * 36).map(place).map(|(x, y)| 120.0 + value(x, y)).collect()
}

fn mixed(a: &[f64], b: &[f64], share: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * (1.0 - share) + b * share).collect()
}

/// Where scenes begin in a film of such pictures, and how.
fn begin(film: &[Vec<f64>], threshold: &str) -> Vec<(usize, Kind)> {
    let mut detector = Detector::new(threshold.parse().unwrap());
    let mut answers = Vec::new();
    for picture in film {
        let frame = Frame::rgb(64, 36, picture.iter().flat_map(|v| [v.clamp(0.0, 255.0) as u8; 3]).collect());
        answers.extend(detector.push(&frame).unwrap());
    }
    answers.extend(std::iter::from_fn(|| detector.finish()));
    assert_eq!(answers.len(), film.len(), "an answer for each frame");
    let begins = answers.into_iter().enumerate().filter_map(|(i, change)| Some((i, change?.kind)));
    begins.collect()
}

/// `first` frames of one picture, then those between, then 40 of the other.
fn film(first: usize, between: &[f64]) -> Vec<Vec<f64>> {
    let (a, b) = (picture(0, 0), picture(1, 0));
    let mut film = vec![a.clone(); first];
    film.extend(between.iter().map(|share| mixed(&a, &b, *share)));
    film.extend(vec![b; 40]);
    film
}

fn ramp(frames: usize) -> Vec<f64> {
    (1..=frames).map(|i| i as f64 / (frames + 1) as f64).collect()
}

#[test]
fn cuts_are_found_where_they_are() {
    for at in [1, 2, 7, 8, 9, 40, 100] {
        assert_eq!(begin(&film(at, &[]), "6.5"), [(at, Kind::Cut)]);
    }
    let end = &film(40, &[])[..41];
    assert_eq!(begin(end, "6.5"), [(40, Kind::Cut)], "a scene of one frame");
    assert_eq!(begin(&film(40, &[]), "200"), [], "less than the threshold");
}

#[test]
fn what_moves_is_no_cut() {
    for speed in [1, 3, 5] {
        let pan: Vec<_> = (0..80).map(|i| picture(0, i * speed)).collect();
        assert_eq!(begin(&pan, "6.5"), [], "{speed}");
        // A cut in the middle of it is one.
        let cut: Vec<_> = (0..80).map(|i| picture(i / 40, i * speed)).collect();
        assert_eq!(begin(&cut, "6.5"), [(40, Kind::Cut)], "{speed}");
    }
}

#[test]
fn flashes_and_lights_are_no_cuts() {
    for length in 1..=5 {
        let mut flash = vec![picture(0, 0); 80];
        flash[40..40 + length].iter_mut().flatten().for_each(|v| *v = *v * 0.3 + 180.0);
        assert_eq!(begin(&flash, "6.5"), [], "{length}");
        let mut white = flash.clone();
        white[40..40 + length].fill(vec![255.0; 64 * 36]);
        assert_eq!(begin(&white, "6.5"), [], "{length}");
    }
    let mut lights = vec![picture(0, 0); 80];
    lights[40..].iter_mut().flatten().for_each(|v| *v *= 0.5);
    assert_eq!(begin(&lights, "6.5"), []);
}

#[test]
fn dissolves_are_found_once_and_late_in_them() {
    for frames in [8, 12, 20, 30, 48] {
        let found = begin(&film(60, &ramp(frames)), "6.5");
        let [(at, Kind::Gradual)] = found[..] else { panic!("{frames} frames: {found:?}") };
        assert!((60 + frames / 2..=60 + frames).contains(&at), "{frames} frames: {at}");
    }
}

#[test]
fn fades_begin_a_scene_once() {
    let dimmed = |number, share: f64| -> Vec<f64> { picture(number, 0).iter().map(|v| v * share).collect() };
    let dark = |frames| vec![vec![0.0; 64 * 36]; frames];
    for (frames, black) in [(8, 1), (12, 10), (25, 60)] {
        let out = ramp(frames).into_iter().map(|share| dimmed(0, 1.0 - share));
        let into = ramp(frames).into_iter().map(|share| dimmed(1, share));
        let mut film = vec![picture(0, 0); 50];
        film.extend(out.clone());
        film.extend(dark(black));
        assert_eq!(begin(&film, "6.5"), [], "a fade to black alone");
        film.extend(into.clone());
        film.extend(vec![picture(1, 0); 50]);
        let found = begin(&film, "6.5");
        let [(at, Kind::Gradual)] = found[..] else { panic!("{frames} frames: {found:?}") };
        let ends = 50 + 2 * frames + black;
        assert!((ends - frames..=ends).contains(&at), "{frames} frames: {at}, the fade ends at {ends}");
        // At the start of a film it is that of the first scene.
        let start: Vec<_> = dark(10).into_iter().chain(into).chain(vec![picture(1, 0); 50]).collect();
        assert_eq!(begin(&start, "6.5"), []);
    }
}
