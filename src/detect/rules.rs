//! What a job wants done with what is found, by indices instead of names.

use super::spec::{ClassName, Crop, Then};
use crate::error::{Error, Result};
use crate::op;

/// Which objects a rule is about, by indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Their classes; all where there is none.
    pub classes: Option<Vec<usize>>,
    /// Their least score.
    pub score: f64,
}

impl Selection {
    /// Whether an object is among them.
    pub fn has(&self, class: i64, score: f64) -> bool {
        score >= self.score
            && self.classes.as_ref().is_none_or(|all| usize::try_from(class).is_ok_and(|class| all.contains(&class)))
    }
}

/// What is done with what was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Only samples that show one of these.
    Keep(Selection),
    /// No sample that shows one of these.
    Drop(Selection),
    /// Their boxes, so much larger, become unrecognisable, or one colour.
    Hide {
        /// Which objects.
        of: Selection,
        /// How much further than the box, as a share of its sides.
        margin: f64,
        /// The colour; none to blur.
        color: Option<[u8; 3]>,
    },
    /// Of each input only the so many samples whose strongest such object is the strongest.
    Best {
        /// Which objects.
        of: Selection,
        /// How many samples.
        count: usize,
    },
    /// A sample for each.
    Crop {
        /// Which objects.
        of: Selection,
        /// How it is cut.
        how: Crop,
    },
}

/// Indices of named classes; none where there are no names, which stands for all. `count` is how many classes the model
/// has, where that is known.
pub fn selection(classes: &[ClassName], labels: &[String], count: Option<usize>) -> Result<Option<Vec<usize>>> {
    let index = |class: &ClassName| match class {
        ClassName::Index(index) => match count.filter(|count| index >= count) {
            None => Ok(*index),
            Some(count) => {
                Err(Error::usage(format!("class {index} (they begin with 0): the model has {count} classes")))
            }
        },
        ClassName::Name(name) => labels.iter().position(|l| l == name).ok_or_else(|| match labels {
            [] => Error::usage(format!("class {name:?}: no labels are known; give labels, or the class's number")),
            _ => Error::usage(format!("class {name:?} is none of its labels: {}", labels.join(", "))),
        }),
    };
    match classes {
        [] => Ok(None),
        some => some.iter().map(index).collect::<Result<_>>().map(Some),
    }
}

/// What `then` says, with classes by their indices.
pub fn rules(then: &[Then], labels: &[String], count: Option<usize>) -> Result<Vec<Act>> {
    let of = |classes: &[ClassName], score: Option<f64>| {
        Ok::<_, Error>(Selection { classes: selection(classes, labels, count)?, score: score.unwrap_or(0.0) })
    };
    let margin = |m: f64| {
        if m.is_finite() && m >= 0.0 { Ok(m) } else { Err(Error::usage(format!("margin {m}: expected 0 or more"))) }
    };
    let rule = |then: &Then| match then {
        Then::Keep(which) => Ok(Act::Keep(of(&which.classes, which.score)?)),
        Then::Drop(which) => Ok(Act::Drop(of(&which.classes, which.score)?)),
        Then::Blur(hide) if hide.color.is_some() => Err(Error::usage("blur has no color; fill has")),
        Then::Blur(hide) => Ok(Act::Hide { of: of(&hide.classes, None)?, margin: margin(hide.margin)?, color: None }),
        Then::Fill(hide) => {
            let color = op::rgb(hide.color.as_deref().unwrap_or("000000")).map_err(|e| e.context("color"))?;
            Ok(Act::Hide { of: of(&hide.classes, None)?, margin: margin(hide.margin)?, color: Some(color) })
        }
        Then::Best(best) if best.count == 0 => Err(Error::usage("best: count: expected more than 0")),
        Then::Best(best) => Ok(Act::Best { of: of(&best.classes, best.score)?, count: best.count }),
        Then::Crop(crop) => {
            margin(crop.margin)?;
            Ok(Act::Crop { of: of(&crop.classes, crop.score)?, how: crop.clone() })
        }
    };
    let rules = then.iter().map(rule).collect::<Result<Vec<_>>>().map_err(|e| e.context("then"))?;
    let crops = rules.iter().position(|r| matches!(r, Act::Crop { .. }));
    if crops.is_some_and(|at| at + 1 < rules.len()) {
        return Err(Error::usage("then: crop comes last; what is behind it would see crops, not the picture"));
    }
    Ok(rules)
}
