//! What machines cost, and what work costs on them.

use std::path::Path;

use super::result::{Cost, Told};
use super::stats::Estimate;
use crate::error::{Error, Result};

/// Prices an hour, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    all: Vec<(String, f64)>,
    /// How many of them were given by themselves; those behind them are a table's.
    given: usize,
}

impl Prices {
    /// Reads `NAME=DOLLARS_PER_HOUR` words, and a table in CSV (a name and a price a line, `#` begins a comment; the first
    /// line may name the columns).
    ///
    /// # Errors
    /// Usage.
    pub fn read(words: &[String], table: Option<&Path>) -> Result<Prices> {
        let mut all = Vec::new();
        for word in words {
            let (name, price) = word.rsplit_once('=').ok_or_else(|| wrong("--price", word))?;
            all.push((name.trim().to_string(), dollars(price).ok_or_else(|| wrong("--price", word))?));
        }
        let given = all.len();
        if let Some(file) = table {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::usage(format!("{name}: {e}; expected lines of NAME,DOLLARS_PER_HOUR")))?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
            for (i, line) in lines.enumerate() {
                let (machine, price) = line.rsplit_once(',').ok_or_else(|| wrong(&name, line))?;
                if i == 0 && !price.contains(|c: char| c.is_ascii_digit()) {
                    continue;
                }
                all.push((machine.trim().to_string(), dollars(price).ok_or_else(|| wrong(&name, line))?));
            }
        }
        Ok(Prices { all, given })
    }

    /// The price of the first of `names` that has one.
    pub fn of(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.all.iter().find(|(known, _)| known == name)).map(|(_, price)| *price)
    }

    /// Names that were given a price and are none of `known`. A table may hold what is not here.
    pub fn unknown<'a>(&'a self, known: &[&str]) -> Vec<&'a str> {
        self.all[..self.given].iter().map(|(name, _)| &**name).filter(|name| !known.contains(name)).collect()
    }

    /// Refuses a price that was given for none of `known`.
    ///
    /// # Errors
    /// Usage, with what it may be given for.
    pub fn check(&self, known: &[&str]) -> Result<()> {
        match self.unknown(known)[..] {
            [] => Ok(()),
            [unknown, ..] => {
                Err(Error::usage(format!("a price is given for {unknown}; expected one of: {}", known.join("; "))))
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn dollars(text: &str) -> Option<f64> {
    text.trim().trim_start_matches('$').parse::<f64>().ok().filter(|p| p.is_finite() && *p >= 0.0)
}

fn wrong(place: &str, text: &str) -> Error {
    Error::usage(format!("{place}: `{text}` is no price: expected NAME and dollars an hour, such as l4-box=0.71"))
}

/// What work costs at `price` an hour, done at these rates.
pub fn cost(price: f64, samples_per_second: &Estimate, video_hours_per_hour: &Told<Estimate>) -> Cost {
    Cost {
        price_per_hour: price,
        per_million_samples: samples_per_second.map(|rate| price * 1e6 / rate / 3600.0),
        per_thousand_video_hours: video_hours_per_hour.value.as_ref().map(|e| e.map(|rate| price * 1e3 / rate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_found_by_name_and_wrong_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("prices.csv");
        std::fs::write(&table, "# what our provider asks\nbig box, 4 GPUs,$3.50\n\ncpu,9\n").unwrap();
        let prices = Prices::read(&["cpu=0.4".into(), "a=b=1".into()], Some(&table)).unwrap();
        assert_eq!(prices.of(&["none", "cpu"]), Some(0.4), "the command line comes first");
        assert_eq!(prices.of(&["big box, 4 GPUs"]), Some(3.5));
        assert_eq!(prices.of(&["a=b"]), Some(1.0));
        assert_eq!(prices.unknown(&["cpu", "none"]), ["a=b"], "the table may hold other machines");
        std::fs::write(&table, "\u{feff}machine,$ an hour\r\ncpu,2\r\n").unwrap();
        assert_eq!(Prices::read(&[], Some(&table)).unwrap().of(&["cpu"]), Some(2.0), "a spreadsheet has a head");
        std::fs::write(&table, "cpu,2\nl4,x\n").unwrap();
        assert!(Prices::read(&[], Some(&table)).is_err_and(|e| e.message.contains("l4,x")));
        for word in ["cpu", "cpu=x", "cpu=-1", "cpu=inf"] {
            assert_eq!(Prices::read(&[word.into()], None).unwrap_err().exit_code(), 2, "{word}");
        }
        assert!(Prices::read(&[], Some(&dir.path().join("none"))).is_err_and(|e| e.message.contains("none")));
    }

    #[test]
    fn work_costs_its_time() {
        let rate = Estimate::of(vec![100.0, 200.0, 400.0]).unwrap();
        let cost = cost(3.6, &rate, &Told::is(rate.clone()));
        assert!((cost.per_million_samples.median - 5.0).abs() < 1e-9);
        assert!(
            (cost.per_million_samples.low - 2.5).abs() < 1e-9 && (cost.per_million_samples.high - 10.0).abs() < 1e-9
        );
        assert!((cost.per_thousand_video_hours.unwrap().median - 18.0).abs() < 1e-9);
    }
}
