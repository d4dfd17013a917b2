//! What to list, as a job file's `[input]` says it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::job::values::ByteSize;
use crate::rng::philox4x32;
use crate::sink;
use crate::store::cloud::Settings;

/// What to list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InputSpec {
    /// Files, folders, globs, or lists (.txt, .csv, .tsv, .jsonl, .ndjson, .parquet).
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(schema_with = "one_or_many_schema")]
    pub uri: Vec<String>,
    /// The column of lists that holds the URI.
    pub uri_column: String,
    /// The column of lists whose text identifies the input, instead of its URI.
    pub id_column: Option<String>,
    /// Columns that are also written as KEY.EXT: "COL=EXT".
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(schema_with = "one_or_many_schema")]
    pub field: Vec<Field>,
    /// Identities are relative to this URI, so that they are the same wherever the data is mounted.
    pub root: Option<String>,
    /// Take only the first so many inputs.
    pub limit: Option<u64>,
    /// Order the inputs by a hash of the seed and their identity.
    pub shuffle: bool,
    /// Splits and their shares, which add up to 1: "train=0.9,val=0.1", a list of "NAME=SHARE", or a table.
    #[serde(deserialize_with = "splits")]
    #[schemars(schema_with = "splits_schema")]
    pub split: Vec<Split>,
    /// How object stores and servers that hold inputs are reached.
    #[serde(skip_serializing_if = "is_default")]
    pub store: Settings,
    /// What is taken over HTTP, and how politely.
    #[serde(skip_serializing_if = "is_default")]
    pub http: Http,
    /// A glob may match nothing, and a list have no bytes: the job's `allow_empty`.
    #[serde(skip)]
    pub allow_empty: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Inputs over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Requests to one host at a time.
    pub per_host: u32,
    /// Most bytes that an input may have.
    pub max_bytes: ByteSize,
    /// Whether X-Robots-Tag (noai, noimageai, noindex, noimageindex, none) and TDM-Reservation are heeded.
    pub opt_out: OptOut,
}

impl Default for Http {
    fn default() -> Self {
        Http { per_host: 8, max_bytes: ByteSize(8_000_000_000), opt_out: OptOut::Honour }
    }
}

/// What becomes of inputs whose owners say that they do not want them used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptOut {
    /// They are rejected, as `opt_out`.
    Honour,
    /// They are read.
    Ignore,
}

impl Default for InputSpec {
    fn default() -> Self {
        InputSpec {
            uri: Vec::new(),
            uri_column: "uri".into(),
            id_column: None,
            field: Vec::new(),
            root: None,
            limit: None,
            shuffle: false,
            split: Vec::new(),
            store: Settings::default(),
            http: Http::default(),
            allow_empty: false,
        }
    }
}

impl InputSpec {
    /// Whether the parts fit together; else a usage error. Asked before anything is listed.
    pub fn check(&self) -> Result<()> {
        let mut endings = HashSet::new();
        for field in &self.field {
            sink::check_field(&field.ext)?;
            if !endings.insert(&field.ext) {
                return Err(Error::usage(format!(
                    "two columns are to be written as .{}: choose another ending",
                    field.ext
                )));
            }
        }
        self.store.check().map_err(|e| e.context("input"))?;
        if self.http.per_host == 0 {
            return Err(Error::usage("input.http.per_host must be at least 1"));
        }
        check_splits(&self.split)
    }
}

/// A column that is also written as a file of each sample.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name of the column.
    pub column: String,
    /// Ending of the files.
    pub ext: String,
}

impl FromStr for Field {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        // An ending has no `=`, a column's name may.
        match text.rsplit_once('=') {
            Some((column, ext)) if !column.is_empty() => {
                sink::check_field(ext)?;
                Ok(Field { column: column.into(), ext: ext.into() })
            }
            _ => Err(Error::usage(format!("field `{text}`: expected COLUMN=EXT, as in label=cls"))),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.column, self.ext)
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A part of the dataset that gets a share of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Name of the split and of its folder.
    pub name: String,
    /// Its share of the inputs, above 0.
    pub share: f64,
}

impl FromStr for Split {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('=').and_then(|(name, share)| Some((name.trim(), share.trim().parse().ok()?)));
        let (name, share) = parsed
            .ok_or_else(|| Error::usage(format!("split `{text}`: expected NAME=SHARE, as in train=0.9,val=0.1")))?;
        Ok(Split { name: name.into(), share })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.share)
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Reads `train=0.9,val=0.1`, as on the command line.
pub fn parse_splits(text: &str) -> Result<Vec<Split>> {
    text.split(',').map(str::parse).collect()
}

/// Tolerance on the sum of the shares: decimals such as 0.1 are not exact.
const SUM_TOLERANCE: f64 = 1e-6;

fn check_splits(splits: &[Split]) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut names = HashSet::new();
    for Split { name, share } in splits {
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || ["_framemill", "images"].contains(&&*lower)
        {
            return Err(Error::usage(format!(
                "split `{name}`: a split's name is a folder's: letters, digits, - and _, but neither _framemill nor images"
            )));
        }
        if !(share.is_finite() && *share > 0.0) {
            return Err(Error::usage(format!("split {name}: its share {share} must be a number above 0")));
        }
        if !names.insert(lower) {
            return Err(Error::usage(format!("split {name} is named twice")));
        }
    }
    let sum: f64 = splits.iter().map(|split| split.share).sum();
    if !splits.is_empty() && (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(Error::usage(format!(
            "the shares of the splits add up to {sum}, not to 1, as in train=0.9,val=0.1"
        )));
    }
    Ok(())
}

/// Gives inputs their split by a hash of their identity alone: an input stays where it is, whatever else is listed,
/// in whatever order and with whatever seed.
pub(super) struct Splitter {
    /// Upper bounds of all but the last split, in [0, 1].
    bounds: Vec<f64>,
    any: bool,
}

impl Splitter {
    pub fn new(splits: &[Split]) -> Self {
        let sum: f64 = splits.iter().map(|split| split.share).sum();
        let mut bound = 0.0;
        let mut bounds: Vec<f64> = splits
            .iter()
            .map(|split| {
                bound += split.share / sum;
                bound
            })
            .collect();
        bounds.pop();
        Splitter { bounds, any: !splits.is_empty() }
    }

    pub fn split(&self, identity: u64) -> Option<usize> {
        // 53 bits are exact in a float.
        let place = (keyed_hash(identity, SPLIT_KEY) >> 11) as f64 / (1u64 << 53) as f64;
        self.any.then(|| self.bounds.partition_point(|bound| *bound <= place))
    }
}

/// Tells the split's hash from that of any seed: order and split must not depend on one another.
const SPLIT_KEY: (u64, u32) = (0, u32::from_be_bytes(*b"splt"));
/// Tells the order's hash from the split's.
const ORDER_PURPOSE: u32 = u32::from_be_bytes(*b"ordr");

/// The shuffled order is ascending by this hash of seed and identity, then by identity.
pub(super) fn order_key(seed: u64, identity: u64) -> u64 {
    keyed_hash(identity, (seed, ORDER_PURPOSE))
}

/// The first 64 bits of the Philox block of counter (identity, purpose, 0) under the key.
fn keyed_hash(identity: u64, (key, purpose): (u64, u32)) -> u64 {
    let block = philox4x32([identity as u32, (identity >> 32) as u32, purpose, 0], [key as u32, (key >> 32) as u32]);
    u64::from(block[1]) << 32 | u64::from(block[0])
}

/// A list, or a single value in its place.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Many<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Many<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }
        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(value)).map(|value| vec![value])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut out = Vec::new();
            while let Some(value) = seq.next_element()? {
                out.push(value);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_any(Many(std::marker::PhantomData))
}

fn one_or_many_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
}

fn splits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Split>, D::Error> {
    struct Splits;
    impl<'de> Visitor<'de> for Splits {
        type Value = Vec<Split>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("\"train=0.9,val=0.1\", a list of \"NAME=SHARE\", or a table of shares")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Split>, E> {
            parse_splits(text).map_err(E::custom)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Split>, A::Error> {
            let mut out = Vec::new();
            while let Some(text) = seq.next_element::<Cow<str>>()? {
                out.extend(parse_splits(&text).map_err(A::Error::custom)?);
            }
            Ok(out)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Split>, A::Error> {
            let mut out = Vec::new();
            while let Some((name, share)) = map.next_entry()? {
                out.push(Split { name, share });
            }
            Ok(out)
        }
    }
    deserializer.deserialize_any(Splits)
}

fn splits_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "array", "object"],
        "items": { "type": "string" },
        "additionalProperties": { "type": "number" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn toml(text: &str) -> InputSpec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn specs_are_read_from_job_files() {
        assert_eq!(toml(""), InputSpec::default());
        let spec = toml(
            "uri = ['a', 'b']\nid_column = 'id'\nfield = ['a=b=cls']\nroot = '/r'\nlimit = 3\nshuffle = true\n\
             split = ['train=0.9', 'val=0.1']",
        );
        assert_eq!(spec.field, [Field { column: "a=b".into(), ext: "cls".into() }]);
        assert_eq!(spec.split, parse_splits("train=0.9,val=0.1").unwrap());
        assert_eq!(toml("uri = 'a'").uri, ["a"]);
        assert_eq!(toml("split = 'train=0.9,val=0.1'").split, spec.split);
        assert_eq!(toml("[split]\ntrain = 0.9\nval = 0.1").split, spec.split);
        assert_eq!(toml("[split]\nall = 1").split, parse_splits("all=1").unwrap());
        let yaml: InputSpec = serde_yaml_ng::from_str("uri: a\nsplit: {train: 0.9, val: 0.1}\nfield: x=txt").unwrap();
        assert_eq!((yaml.split, yaml.field.len()), (spec.split.clone(), 1));
        for bad in
            ["colour = 1", "field = ['x=json']", "field = ['x']", "split = 'train'", "uri = 3", "split = ['a=b']"]
        {
            assert!(toml::from_str::<InputSpec>(bad).is_err(), "{bad}");
        }
        let json = serde_json::to_string(&spec).unwrap();
        assert!(
            json.contains(r#""split":["train=0.9","val=0.1"]"#) && json.contains(r#""field":["a=b=cls"]"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<InputSpec>(&json).unwrap(), spec);
        assert_eq!(serde_json::from_str::<Vec<Split>>(r#"["train=0.9","val=0.1"]"#).unwrap(), spec.split);
        let schema = serde_json::to_value(schemars::schema_for!(InputSpec)).unwrap();
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn splits_must_be_folders_whose_shares_add_up() {
        let check = |text: &str| InputSpec { split: parse_splits(text).unwrap(), ..Default::default() }.check();
        for good in
            ["a=1", "train=0.9,val=0.1", "a=0.333333,b=0.333333,c=0.333334", "a=0.1,b=0.2,c=0.7", "x-1=0.5,Y_2=.5"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "a=0.9",
            "a=0.6,b=0.5",
            "a=0.5,A=0.5",
            "images=1",
            "_framemill=1",
            "a/b=1",
            "=1",
            "a.b=1",
            "a=-1,b=2",
            "a=nan",
            "a=1,b=0",
        ] {
            assert_eq!(check(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn two_fields_of_one_ending_are_refused() {
        let field = vec!["a=cls".parse().unwrap(), "b=cls".parse().unwrap()];
        assert_eq!(InputSpec { field, ..Default::default() }.check().unwrap_err().exit_code(), 2);
    }

    #[test]
    fn shares_are_met() {
        let splitter = Splitter::new(&parse_splits("a=0.7,b=0.2,c=0.1").unwrap());
        let mut counts = [0; 3];
        for i in 0..100_000u64 {
            counts[splitter.split(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap()] += 1;
        }
        for (count, share) in counts.iter().zip([0.7, 0.2, 0.1]) {
            // Six standard deviations of a fair draw.
            assert!((f64::from(*count) - share * 1e5).abs() < 6.0 * (1e5 * share * (1.0 - share)).sqrt(), "{counts:?}");
        }
        assert_eq!(Splitter::new(&[]).split(1), None);
    }

    #[test]
    fn hashes_do_not_change_between_versions() {
        // From a Philox4x32-10 in Python that gives Random123's known answers.
        assert_eq!(keyed_hash(0, SPLIT_KEY), 0x6bdd_0ff7_db0c_e22d);
        assert_eq!(order_key(1, 0x0123_4567_89AB_CDEF), 0x667c_1a57_55ba_0a4d);
    }

    proptest! {
        #[test]
        fn a_larger_first_share_only_takes(identity: u64, a in 0.01f64..0.98, more in 0.0f64..0.01) {
            let split = |share: f64| {
                let text = format!("train={share},val={}", 1.0 - share);
                Splitter::new(&parse_splits(&text).unwrap()).split(identity).unwrap()
            };
            prop_assert!(split(a + more) <= split(a));
        }

        #[test]
        fn every_identity_has_a_split(identity: u64, shares in proptest::collection::vec(0.01f64..1.0, 1..6)) {
            let splits: Vec<Split> = shares.iter().enumerate().map(|(i, s)| Split { name: i.to_string(), share: *s }).collect();
            prop_assert!(Splitter::new(&splits).split(identity).unwrap() < splits.len());
        }
    }
}
