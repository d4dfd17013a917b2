//! `bench rank A B C`: which machine does the same work for the least money.

use serde_json::{Value, json};

use super::price::{self, Prices};
use super::result::{Bench, Configuration, Cost};
use super::table::{columns, interval};
use crate::error::{Error, Result};

/// One configuration of one machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The machine, as it is called here.
    pub machine: String,
    /// The configuration.
    pub configuration: String,
    /// What it costs.
    pub cost: Cost,
    /// Whether it is told apart from the next cheaper one: neither interval reaches into the other.
    pub apart: Option<bool>,
}

/// Ranks what may be ranked, cheapest first. Each benchmark has a name beside its machine's, such as that of its file.
///
/// # Errors
/// Usage: where the samples or outputs differ, or a machine has no price.
pub fn rank(benches: &[(String, Bench)], prices: &Prices) -> Result<Vec<Place>> {
    let [(first_name, first), rest @ ..] = benches else {
        return Err(Error::usage("bench rank: give the reports of at least one machine"));
    };
    for (name, bench) in rest {
        if bench.sample.digest != first.sample.digest {
            return Err(Error::usage(format!(
                "{name} did not do the same samples as {first_name} ({} files of {} bytes, there {} of {}): they cannot be \
                 ranked; run the same media and limits on both",
                bench.sample.inputs, bench.sample.bytes, first.sample.inputs, first.sample.bytes
            )));
        }
    }
    let all: Vec<(&str, &Bench, &Configuration)> =
        benches.iter().flat_map(|(name, b)| b.ranked().into_iter().map(move |c| (&**name, b, c))).collect();
    for (name, _, c) in &all {
        let like = all.iter().find(|(_, _, other)| other.quality == c.quality);
        if let Some((other_name, _, other)) = like
            && other.content != c.content
        {
            return Err(Error::usage(format!(
                "{name} ({}) and {other_name} ({}) wrote other samples from the same media: they cannot be ranked; run the \
                 same job with the same version on both",
                c.name, other.name
            )));
        }
    }
    if all.is_empty() {
        return Err(Error::usage("none of these reports has a configuration that may be ranked"));
    }
    let mut known: Vec<&str> = benches.iter().flat_map(|(name, b)| [&**name, &*b.machine.name]).collect();
    known.extend(all.iter().flat_map(|(_, _, c)| [&*c.name, &*c.device]));
    known.sort_unstable();
    known.dedup();
    prices.check(&known)?;
    let mut places = Vec::new();
    for (name, bench, c) in all {
        let price = prices
            .of(&[name, &bench.machine.name, &c.name, &c.device])
            .or_else(|| c.cost.value.as_ref().map(|cost| cost.price_per_hour));
        let price = price.ok_or_else(|| {
            Error::usage(format!(
                "no price for {name} ({}): give --price \"{name}\"=DOLLARS_PER_HOUR",
                bench.machine.name
            ))
        })?;
        let Some(rate) = &c.samples_per_second else { continue };
        places.push((
            c.quality.clone(),
            Place {
                machine: name.to_string(),
                configuration: c.name.clone(),
                cost: price::cost(price, rate, &c.video_hours_per_hour),
                apart: None,
            },
        ));
    }
    let each = |p: &Place| p.cost.per_million_samples.median;
    places.sort_by(|(qa, a), (qb, b)| qa.cmp(qb).then(each(a).total_cmp(&each(b))));
    for i in 1..places.len() {
        if places[i].0 == places[i - 1].0 {
            let apart = places[i].1.cost.per_million_samples.apart(&places[i - 1].1.cost.per_million_samples);
            places[i].1.apart = Some(apart);
        }
    }
    Ok(places.into_iter().map(|(_, place)| place).collect())
}

/// For people.
pub fn text(places: &[Place]) -> String {
    let head = ["", "machine", "configuration", "$/hour", "$ per 1,000 h of video", "$ per million samples", ""];
    let mut lines = vec![head.map(str::to_string).to_vec()];
    for (i, place) in places.iter().enumerate() {
        let cost = &place.cost;
        let video = cost.per_thousand_video_hours.as_ref().map_or_else(|| "-".into(), interval);
        lines.push(vec![
            (i + 1).to_string(),
            place.machine.clone(),
            place.configuration.clone(),
            format!("{:.2}", cost.price_per_hour),
            video,
            interval(&cost.per_million_samples),
            if place.apart == Some(false) { "(not told apart from the one above)".into() } else { String::new() },
        ]);
    }
    columns(&lines)
}

/// For programs.
pub fn json(places: &[Place]) -> Value {
    let place = |p: &Place| json!({ "machine": p.machine, "configuration": p.configuration, "cost": p.cost, "apart_from_the_one_before": p.apart });
    places.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{bench, configuration};
    use super::*;

    fn benches() -> Vec<(String, Bench)> {
        let rounds = |from: f64| [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|x| from + x);
        vec![
            ("slow".into(), bench("a small box", vec![configuration("cpu", &rounds(100.0))])),
            ("fast".into(), bench("a large box", vec![configuration("cuda", &rounds(1000.0))])),
        ]
    }

    fn prices(words: &[&str]) -> Prices {
        Prices::read(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>(), None).unwrap()
    }

    #[test]
    fn the_cheapest_is_first_not_the_fastest() {
        let places = rank(&benches(), &prices(&["slow=0.1", "a large box=2"])).unwrap();
        let names: Vec<&str> = places.iter().map(|p| &*p.machine).collect();
        assert_eq!((names, places[1].apart), (vec!["slow", "fast"], Some(true)));
        assert!((places[0].cost.per_million_samples.median - 0.1 * 1e6 / 102.5 / 3600.0).abs() < 1e-4);
        let places = rank(&benches(), &prices(&["slow=0.1", "fast=0.5"])).unwrap();
        assert_eq!(places[0].machine, "fast");
        assert!(text(&places).contains("0.50") && json(&places)[0]["machine"] == "fast");
        let places = rank(&benches(), &prices(&["slow=0.1", "cuda=0.5"])).unwrap();
        assert_eq!(places[0].machine, "fast", "a configuration's name has a price, too");
    }

    #[test]
    fn what_is_not_the_same_work_is_refused() {
        let both = prices(&["slow=1", "fast=1"]);
        let mut other = benches();
        other[1].1.sample.digest = "other".into();
        let refused = |benches: &[(String, Bench)], prices: &Prices| {
            let e = rank(benches, prices).unwrap_err();
            assert_eq!(e.exit_code(), 2);
            e.message
        };
        assert!(refused(&other, &both).contains("same samples"));
        let mut other = benches();
        other[1].1.configurations[0].content = "other".into();
        assert!(refused(&other, &both).contains("wrote other samples"));
        other[1].1.configurations[0].ranked = false;
        assert_eq!(rank(&other, &both).unwrap().len(), 1, "what is not ranked there is not ranked here");
        assert!(refused(&benches(), &prices(&["slow=1"])).contains("no price for fast"));
        assert!(refused(&benches(), &prices(&["slow=1", "fast=1", "fats=1"])).contains("fats"));
        assert!(refused(&[], &both).contains("at least one"));
    }
}
