//! Frame selection against a brute-force reference, whole and in units; times against FFmpeg's grammar.

use super::*;
use proptest::prelude::*;

fn rational(text: &str) -> Rational {
    Rational::parse_time(text).unwrap()
}

/// Which frames the selector is not shown.
#[derive(Debug, Clone, Copy)]
enum Skip {
    Nothing,
    /// Those that lie before the next wanted time.
    Early,
    /// Of those that are not chosen, the ones whose bits are set.
    Unchosen(u64),
}

/// Runs the frames through a selector as a decoder does and returns the indices given away, in the order they are.
/// `skip`: leave out what may be left out.
fn select(
    sampling: &Sampling,
    stream: &Stream,
    unit: (Option<i64>, Option<i64>),
    lead_in: usize,
    skip: Skip,
) -> Vec<usize> {
    let duration = Some(stream.duration());
    let mut selector = Selector::new(sampling, stream.time_base, stream.t0, duration, unit).unwrap();
    let first = unit.0.map_or(0, |start| stream.pts.iter().take_while(|pts| **pts < start).count());
    let mut out = Vec::new();
    let (mut held, mut behind_last) = (None, None);
    let time =
        |index: usize| stream.pts.get(index).map(|pts| Rational::of_pts(*pts, stream.t0, stream.time_base).unwrap());
    for index in first.saturating_sub(1 + lead_in)..stream.pts.len() {
        if selector.done() {
            break;
        }
        // A first frame has to be seen before all that is judged by it.
        let begun = selector.last_pts().is_some();
        let needless = |wanted: Rational| {
            let early = time(index).is_some_and(|t| t < wanted);
            time(index + 1).is_some_and(|next| next < wanted || begun && early && next == wanted)
        };
        let neighbour = |at: Option<usize>| stream.pts.get(at?).copied();
        let (before, behind) = (neighbour(index.checked_sub(1)), neighbour(Some(index + 1)));
        let left_out = match skip {
            Skip::Nothing => false,
            Skip::Early => selector.next_wanted().is_some_and(needless),
            Skip::Unchosen(which) => {
                begun && which >> (index % 64) & 1 == 1 && !selector.chooses(before, stream.pts[index], behind)
            }
        };
        if left_out {
            // Whoever reads no further still says when the next frame would be shown.
            behind_last = behind_last.or(Some(stream.pts[index]));
            continue;
        }
        behind_last = None;
        let decision = selector.push(stream.pts[index], stream.keys[index]);
        if decision.take_previous {
            out.push(held.take().expect("the frame taken late was held"));
        }
        assert!(!(decision.take_this && decision.hold_this));
        if decision.take_this {
            out.push(index);
        }
        held = decision.hold_this.then_some(index);
    }
    let was_done = selector.done();
    if let (Skip::Unchosen(_), Some(pts)) = (skip, behind_last) {
        if selector.push(pts, false).take_previous {
            out.push(held.expect("the last frame taken was held"));
        }
        return out;
    }
    if selector.finish() {
        assert!(!was_done, "nothing is pending once the selector is done");
        out.push(held.expect("the last frame taken was held"));
    }
    assert!(!selector.finish(), "the end is answered once");
    out
}

#[derive(Debug, Clone)]
struct Stream {
    time_base: (i32, i32),
    t0: i64,
    pts: Vec<i64>,
    keys: Vec<bool>,
    /// Ticks that the last frame stays on screen.
    tail: i64,
}

impl Stream {
    fn duration(&self) -> Rational {
        let last = self.pts.iter().max().copied().unwrap_or(self.t0);
        Rational::of_pts(last + self.tail, self.t0, self.time_base).unwrap()
    }
    fn times(&self) -> Vec<Rational> {
        self.pts.iter().map(|pts| Rational::of_pts(*pts, self.t0, self.time_base).unwrap()).collect()
    }
}

fn floor(t: Rational, step: Rational) -> i128 {
    (i128::from(t.num()) * i128::from(step.den())).div_euclid(i128::from(t.den()) * i128::from(step.num()))
}

fn multiple(k: i128, step: Rational) -> Rational {
    Rational::new(k as i64 * step.num(), step.den()).unwrap()
}

fn minus(a: Rational, b: Rational) -> Rational {
    Rational::new(a.num() * b.den() - b.num() * a.den(), a.den() * b.den()).unwrap()
}

/// The rules read literally, over a list in ascending order: one answer sought for each wanted time.
fn reference(sampling: &Sampling, stream: &Stream) -> Vec<usize> {
    let times = stream.times();
    let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else { return Vec::new() };
    let end = stream.duration();
    let shown = |wanted: Rational| {
        if wanted >= end && wanted != last {
            return None;
        }
        Some(times.iter().rposition(|t| *t <= wanted).unwrap_or(0))
    };
    let part = |t: Rational| sampling.start.is_none_or(|s| s <= t) && sampling.end.is_none_or(|e| t < e);
    let mut chosen: Vec<usize> = match &sampling.rule {
        Rule::All | Rule::Scenes(_) => (0..times.len()).collect(),
        Rule::Keyframes => (0..times.len()).filter(|i| stream.keys[*i]).collect(),
        Rule::Every(step) => {
            let ks = floor(first, *step)..=floor(end, *step) + 1;
            let wanted = ks.map(|k| multiple(k, *step)).filter(|wanted| *wanted > first);
            let answers = wanted.filter_map(|wanted| match sampling.pick {
                Pick::Next | Pick::First | Pick::Middle => times.iter().position(|t| *t >= wanted),
                Pick::Shown => shown(wanted),
                Pick::Nearest => {
                    let left = times.iter().rposition(|t| *t < wanted).unwrap();
                    match times.iter().position(|t| *t >= wanted) {
                        None => (wanted < end).then_some(left),
                        Some(right) if minus(wanted, times[left]) <= minus(times[right], wanted) => Some(left),
                        Some(right) => Some(right),
                    }
                }
            });
            let on_grid = multiple(floor(first, *step), *step) == first;
            let late_first = (on_grid && sampling.pick == Pick::Shown).then(|| shown(first)).flatten();
            std::iter::once(0).chain(late_first).chain(answers).collect()
        }
        Rule::Count(count) => {
            let start = sampling.start.unwrap_or(Rational::ZERO);
            let end = sampling.end.map_or(end, |e| e.min(end));
            let span = minus(end, start).max(Rational::ZERO);
            let answers = (0..*count as i64).filter_map(|i| {
                let offset = Rational::new(span.num() * (2 * i + 1), span.den() * 2 * *count as i64).unwrap();
                shown(minus(start, Rational::new(-offset.num(), offset.den()).unwrap()))
            });
            answers.collect()
        }
        Rule::At(wanted) => wanted.iter().filter(|t| part(**t)).filter_map(|t| shown(*t)).collect(),
    };
    match sampling.rule {
        // Wanted times were filtered; the part still ends with the first frame at its end.
        Rule::Count(_) | Rule::At(_) => chosen.retain(|i| sampling.end.is_none_or(|e| times[*i] < e)),
        _ => chosen.retain(|i| part(times[*i])),
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

fn steps() -> impl Strategy<Value = Rational> {
    (1i64..200, 1i64..60).prop_map(|(num, den)| Rational::new(num, den).unwrap())
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let time = (-60i64..600, 1i64..20).prop_map(|(num, den)| Rational::new(num, den).unwrap());
    let rule = prop_oneof![
        1 => Just(Rule::All),
        1 => Just(Rule::Keyframes),
        8 => steps().prop_map(Rule::Every),
        3 => (1u64..12).prop_map(Rule::Count),
        3 => prop::collection::vec(time.clone(), 1..6).prop_map(Rule::At),
    ];
    let pick = prop_oneof![Just(Pick::Next), Just(Pick::Shown), Just(Pick::Nearest)];
    (rule, pick, prop::option::of(time.clone()), prop::option::of(time)).prop_map(|(rule, pick, start, end)| {
        let (start, end) = match (start, end) {
            (Some(a), Some(b)) if a == b => (Some(a), None),
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            other => other,
        };
        Sampling { rule, pick, start, end, clip: None }
    })
}

/// Streams of variable rate with repeats, gaps and times before the start; `backward` lets them run backwards too.
fn streams(backward: i64) -> impl Strategy<Value = Stream> {
    let bases = prop_oneof![Just((1, 30)), Just((1001, 30000)), Just((1, 1000)), Just((1, 5))];
    let step = prop_oneof![3 => 1i64..4, 2 => -backward..40, 1 => Just(0i64), 1 => 100i64..400];
    let frames = prop::collection::vec((step, any::<bool>()), 1..60);
    (bases, -50i64..50, -90i64..90, frames, 0i64..30).prop_map(|(time_base, t0, lead, frames, tail)| {
        let mut pts = t0 + lead;
        let (pts, keys) = frames
            .iter()
            .map(|(step, key)| {
                let shown = pts;
                pts += step;
                (shown, *key)
            })
            .unzip();
        Stream { time_base, t0, pts, keys, tail }
    })
}

/// Key frames are not chosen by their times.
fn by_time(sampling: &Sampling) -> bool {
    !matches!(sampling.rule, Rule::Keyframes)
}

fn skips() -> impl Strategy<Value = Skip> {
    prop_oneof![Just(Skip::Nothing), Just(Skip::Early), any::<u64>().prop_map(Skip::Unchosen)]
}

fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(if std::env::var("FRAMEMILL_TEST_FULL").is_ok() { 20_000 } else { 1_500 })
}

/// Start and end pts of consecutive units cut at `cuts`.
fn units(cuts: &[i64]) -> Vec<(Option<i64>, Option<i64>)> {
    let edges: Vec<Option<i64>> = std::iter::once(None).chain(cuts.iter().copied().map(Some)).chain([None]).collect();
    edges.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn equals_the_literal_rules(sampling in samplings(), stream in streams(0), which in any::<u64>()) {
        let whole = select(&sampling, &stream, (None, None), 0, Skip::Nothing);
        prop_assert_eq!(&whole, &reference(&sampling, &stream));
        prop_assert_eq!(&whole, &select(&sampling, &stream, (None, None), 0, Skip::Early), "with frames left out");
        if by_time(&sampling) {
            prop_assert_eq!(&whole, &select(&sampling, &stream, (None, None), 0, Skip::Unchosen(which)), "with any left out");
        }
    }

    #[test]
    fn units_give_what_the_whole_gives(
        sampling in samplings(),
        stream in streams(0),
        cuts in prop::collection::btree_set(0usize..60, 0..5),
        lead_in in 0usize..4,
        skip in skips(),
    ) {
        let mut cuts: Vec<i64> = cuts.iter().filter_map(|cut| stream.pts.get(*cut)).map(|pts| pts + (pts & 1)).collect();
        cuts.dedup();
        let skip = if by_time(&sampling) { skip } else { Skip::Nothing };
        let whole = select(&sampling, &stream, (None, None), 0, Skip::Nothing);
        let pieces = units(&cuts).into_iter().flat_map(|unit| select(&sampling, &stream, unit, lead_in, skip));
        prop_assert_eq!(whole, pieces.collect::<Vec<_>>());
    }

    #[test]
    fn damaged_clocks_neither_panic_nor_repeat(sampling in samplings(), stream in streams(30)) {
        let chosen = select(&sampling, &stream, (None, None), 0, Skip::Nothing);
        prop_assert!(chosen.is_sorted_by(|a, b| a < b), "each frame at most once, in order");
        if let (Rule::Every(step), Pick::Next, None, None) = (&sampling.rule, sampling.pick, sampling.start, sampling.end) {
            let floors: Vec<i128> = stream.times().iter().map(|t| floor(*t, *step)).collect();
            let literal = (0..floors.len()).filter(|i| *i == 0 || floors[*i] > floors[*i - 1]);
            prop_assert_eq!(chosen, literal.collect::<Vec<_>>());
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow(
        pts in prop::collection::vec(any::<i64>(), 1..6),
        t0 in any::<i64>(),
        base in (1i32..=i32::MAX, 1i32..=i32::MAX),
        step in (1i64..=1 << 62, 1i64..=1 << 31),
        part in (any::<i64>(), 1i64..=1 << 31),
        rule in 0..3,
        pick in prop_oneof![Just(Pick::Next), Just(Pick::Shown), Just(Pick::Nearest)],
    ) {
        let step = Rational::new(step.0, step.1).unwrap();
        let end = Rational::new(part.0 >> 2, part.1).unwrap();
        let rule = match rule {
            0 => Rule::Every(step),
            1 => Rule::Count(MAX_COUNT),
            _ => Rule::At(vec![step, end]),
        };
        let sampling = Sampling { rule, pick, start: None, end: None, clip: None };
        let mut selector = Selector::new(&sampling, base, t0, Some(end), (None, None)).unwrap();
        for pts in pts {
            selector.push(pts, false);
            selector.next_wanted();
        }
        selector.finish();
    }

    #[test]
    fn exact_comparison_is_cross_multiplication(a in any::<(i32, u16)>(), b in any::<(i32, u16)>()) {
        let exact = |(num, den): (i32, u16)| Exact { num: num.into(), den: i128::from(den) + 1 };
        let (a, b) = (exact(a), exact(b));
        prop_assert_eq!(a.cmp(&b), (a.num * b.den).cmp(&(b.num * a.den)));
    }
}

/// The comparisons above can fail: a grid moved by `start`, and a unit that forgets its lead-in, are caught.
#[test]
fn wrong_variants_are_caught() {
    let stream = Stream { time_base: (1, 10), t0: 0, pts: (0..50).collect(), keys: vec![false; 50], tail: 1 };
    let part = Sampling { start: Some(rational("0.5")), ..Sampling::default() };
    let right = select(&part, &stream, (None, None), 0, Skip::Nothing);
    assert_eq!(right, [10, 20, 30, 40], "the grid stays at the stream's start");
    let moved = Stream { t0: 5, ..stream.clone() };
    assert_ne!(select(&Sampling::default(), &moved, (None, None), 0, Skip::Nothing), right);
    let mut selector = Selector::new(&Sampling::default(), (1, 10), 0, None, (Some(15), Some(25))).unwrap();
    assert!(selector.push(15, false).take_this, "without its lead-in a unit takes its first frame for the stream's");
    assert_eq!(select(&Sampling::default(), &stream, (Some(15), Some(25)), 0, Skip::Nothing), [20]);
}

#[test]
fn picks_differ_as_described() {
    // 4 frames a second, 0.1 s late: 0.1, 0.35, 0.6, 0.85, 1.1, ...
    let stream = Stream {
        time_base: (1, 100),
        t0: 0,
        pts: (0..12).map(|i| 10 + 25 * i).collect(),
        keys: vec![true; 12],
        tail: 25,
    };
    let every = |pick| Sampling { pick, ..Sampling::default() };
    assert_eq!(select(&every(Pick::Next), &stream, (None, None), 0, Skip::Nothing), [0, 4, 8]);
    assert_eq!(select(&every(Pick::Shown), &stream, (None, None), 0, Skip::Nothing), [0, 3, 7, 11]);
    assert_eq!(select(&every(Pick::Nearest), &stream, (None, None), 0, Skip::Nothing), [0, 4, 8, 11]);
    let count = Sampling { rule: Rule::Count(3), ..Sampling::default() };
    // The end is 3.1: wanted are 0.5166, 1.55, 2.5833.
    assert_eq!(select(&count, &stream, (None, None), 0, Skip::Nothing), [1, 5, 9]);
    let at =
        Sampling { rule: Rule::At(["0", "1.1", "1.2", "2.99", "99"].map(rational).to_vec()), ..Sampling::default() };
    assert_eq!(select(&at, &stream, (None, None), 0, Skip::Nothing), [0, 4, 11]);
}

#[test]
fn skipping_is_possible_where_it_pays() {
    let sampling = Sampling { rule: Rule::Every(Rational::seconds(60)), ..Sampling::default() };
    let mut selector = Selector::new(&sampling, (1, 25), 100, None, (None, None)).unwrap();
    assert_eq!(selector.next_wanted(), None);
    assert!(selector.push(100, true).take_this);
    assert_eq!(selector.next_wanted(), Some(Rational::seconds(60)));
    let at = Sampling { rule: Rule::At(vec![Rational::seconds(7)]), ..Sampling::default() };
    let mut selector = Selector::new(&at, (1, 1), 0, None, (None, None)).unwrap();
    assert_eq!(selector.next_wanted(), Some(Rational::seconds(7)));
    assert!(selector.push(6, true).hold_this && !selector.done());
    assert!(selector.push(8, true).take_previous && selector.done());
}

#[test]
fn times_follow_ffmpeg() {
    let cases: [(&str, (i64, i64)); 15] = [
        ("90", (90, 1)),
        ("1:30", (90, 1)),
        ("00:01:30.5", (181, 2)),
        ("-0.25", (-1, 4)),
        (".5", (1, 2)),
        ("500ms", (1, 2)),
        ("20us", (1, 50_000)),
        ("2s", (2, 1)),
        ("10m", (600, 1)),
        ("1h", (3600, 1)),
        ("1.5h", (5400, 1)),
        ("1/3", (1, 3)),
        ("-1:00", (-60, 1)),
        ("100:00:00", (360_000, 1)),
        (" 1 ", (1, 1)),
    ];
    for (text, (num, den)) in cases {
        assert_eq!(Rational::parse_time(text).unwrap(), Rational::new(num, den).unwrap(), "{text}");
    }
    for text in
        ["", "-", "1:60", "1:2:3:4", "abc", "1e3", "1/0", "5d", "--1", "1:3m", "1.2.3", "+1", "99999999999999999999"]
    {
        let error = Rational::parse_time(text).unwrap_err();
        assert!(error.message.contains(&format!("`{text}`")) && error.exit_code() == 2, "{text}");
    }
    assert_eq!(Rational::parse_rate("30000/1001").unwrap(), Rational::new(30000, 1001).unwrap());
    assert_eq!(Rational::parse_rate("0.5").unwrap().recip().unwrap(), Rational::seconds(2));
    for text in ["0", "-1", "x", "1:30"] {
        assert!(Rational::parse_rate(text).is_err(), "{text}");
    }
}

#[test]
fn serde_reads_what_it_writes_and_plain_numbers() {
    for text in ["1/3", "90", "-5/2"] {
        let json = serde_json::to_string(&rational(text)).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Rational>(&json).unwrap(), rational(text));
    }
    let fps: Rational = serde_json::from_str("29.97").unwrap();
    assert_eq!(fps, Rational::new(2997, 100).unwrap());
    assert!(serde_json::from_str::<Rational>("1e300").is_err());
    let sampling = Sampling { rule: Rule::Every(rational("1/3")), ..Sampling::default() };
    let json = serde_json::to_string(&sampling).unwrap();
    assert_eq!(serde_json::from_str::<Sampling>(&json).unwrap(), sampling);
}

#[test]
fn impossible_samplings_are_refused() {
    let refuse = |sampling: Sampling| Selector::new(&sampling, (1, 25), 0, None, (None, None)).unwrap_err().message;
    let with = |rule| Sampling { rule, ..Sampling::default() };
    assert!(refuse(with(Rule::Every(Rational::ZERO))).contains("more than 0"));
    assert!(refuse(with(Rule::Count(0))).contains("count"));
    assert!(refuse(with(Rule::Count(5))).contains("length is not known"));
    assert!(refuse(with(Rule::At(vec![]))).contains("empty"));
    let part = Sampling { start: Some(rational("2")), end: Some(rational("1")), ..Sampling::default() };
    assert!(refuse(part).contains("starts at 2 s"));
    assert!(refuse(Sampling { clip: Some(Clip { frames: 0, stride: 1 }), ..Sampling::default() }).contains("clip"));
    assert!(Selector::new(&Sampling::default(), (0, 1), 0, None, (None, None)).is_err());
}

#[test]
fn micros_round_down() {
    assert_eq!(stream_micros(1, 0, (1, 30)), Some(33_333));
    assert_eq!(stream_micros(-1, 0, (1, 30)), Some(-33_334));
    assert_eq!(stream_micros(i64::MAX, i64::MIN, (1, 1)), None);
    assert_eq!(stream_micros(1, 0, (0, 1)), None);
}

#[test]
fn clips_overlap_and_end() {
    let this = Decision { take_this: true, ..Decision::default() };
    let late = Decision { take_previous: true, ..Decision::default() };
    let mut clips = Clips::new(Clip { frames: 3, stride: 2 });
    let at = |clip, position, previous| ClipFrame { clip, position, previous };
    assert_eq!(clips.push(this), [at(0, 0, false)]);
    assert_eq!(clips.push(Decision::default()), []);
    assert_eq!(clips.push(late), [at(1, 0, true), at(0, 1, false)]);
    assert_eq!(clips.push(Decision::default()), [at(1, 1, false)]);
    assert_eq!(clips.push(Decision::default()), [at(0, 2, false)]);
    assert_eq!(clips.waiting(), 1..2);
    assert_eq!(clips.push(Decision::default()), [at(1, 2, false)]);
    assert!(clips.is_idle());
    assert_eq!(clips.finish(true), Some(at(2, 0, true)));
    assert_eq!(clips.waiting(), 2..3);
    let mut single = Clips::new(Clip { frames: 1, stride: 1 });
    assert_eq!(single.push(this), [at(0, 0, false)]);
    assert!(single.is_idle());
}
