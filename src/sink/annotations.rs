//! What detectors found in forms that trainers read, made of the record tables.
//!
//! Classes of all detectors share one numbering: those of the first detector in its own order, then those of the second,
//! and so on. A class without a label is called `class N`. What is told of pictures as a whole (classes, embeddings) is no
//! object and has no place in these forms.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rle::Rle;
use super::{is_records, table};
use crate::error::{Error, Result};
use crate::store::{self, Object, Output, View, Written};

/// The file of COCO's form.
pub const COCO: &str = "annotations.coco.json";
/// The file of YOLO's form that names the classes.
pub const YOLO: &str = "data.yaml";

/// How what was found is named.
#[derive(Debug, Clone)]
pub struct Annotations {
    /// Each detector's name, and its labels; none where they are not known.
    pub detectors: Vec<(String, Vec<String>)>,
    /// Names of the detectors that tell something of pictures as a whole.
    pub others: Vec<String>,
    /// Whether samples are files in folders.
    pub images: bool,
    /// Ending of a sample's file name.
    pub ext: &'static str,
}

/// A class: its detector, its index there, its name.
struct Category {
    detector: String,
    class: i64,
    name: String,
}

/// An object as it is annotated.
struct Annotated {
    /// Its category's place.
    category: usize,
    /// `[x1, y1, x2, y2]` in pixels of the sample.
    sides: [f64; 4],
    score: f64,
    mask: Option<Rle>,
}

/// One sample's row: the name of its file below the output's folder, and the record.
struct Row {
    file: String,
    record: Value,
}

impl Annotations {
    /// Calls `each` with every row, in order.
    fn rows(&self, out: &Output, objects: &[&Object], mut each: impl FnMut(Row) -> Result<()>) -> Result<()> {
        for object in objects.iter().filter(|o| is_records(&o.path)) {
            let (prefix, name) = object.path.rsplit_once('/').map_or(("", object.path.as_str()), |(p, n)| (p, n));
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            let task = name.trim_start_matches("shard-").trim_end_matches(".parquet");
            for record in table::read_rows(out.file(&object.path)?.as_ref())? {
                let key = record["key"].as_str().unwrap_or_default();
                let file = match self.images {
                    true => format!("{prefix}images/{task}/{key}.{}", self.ext),
                    false => format!("{key}.{}", self.ext),
                };
                each(Row { file, record })?;
            }
        }
        Ok(())
    }

    /// All classes: what labels name, and of detectors without labels those that were found.
    fn categories(&self, out: &Output, objects: &[&Object]) -> Result<Vec<Category>> {
        let mut found = std::collections::BTreeSet::new();
        if self.detectors.iter().any(|(_, labels)| labels.is_empty()) {
            self.rows(out, objects, |row| {
                for d in row.record["detections"].as_array().into_iter().flatten() {
                    found.insert((d["model"].as_str().unwrap_or_default().to_string(), d["class"].as_i64()));
                }
                Ok(())
            })?;
        }
        let mut all = Vec::new();
        for (detector, labels) in &self.detectors {
            let plain = |class: i64| Category { detector: detector.clone(), class, name: format!("class {class}") };
            if labels.is_empty() {
                let own = found.iter().filter(|(name, _)| name == detector);
                all.extend(own.filter_map(|(_, class)| *class).map(plain));
            }
            all.extend((0..).zip(labels).map(|(class, label)| match label.as_str() {
                "" => plain(class),
                label => Category { name: label.to_string(), ..plain(class) },
            }));
        }
        Ok(all)
    }

    /// Writes [`COCO`]: images and categories are numbered from 1; annotations have their score, too, and
    /// where the object has a mask that is its segmentation, run-length encoded, and its area.
    ///
    /// # Errors
    /// Store errors.
    pub fn coco(&self, view: &View, objects: &[&Object]) -> Result<Option<Written>> {
        let out = view.out();
        let categories = self.categories(out, objects)?;
        table::whole(view, |temp| {
            let failed = |e: std::io::Error| store::failed("write", temp, &e);
            let mut file = BufWriter::new(File::create_new(temp).map_err(failed)?);
            let mut put = |text: String| file.write_all(text.as_bytes()).map_err(failed);
            put("{\"images\": [".into())?;
            let mut n = 0u64;
            self.rows(out, objects, |row| {
                n += 1;
                let comma = if n > 1 { "," } else { "" };
                let (w, h) = (&row.record["width"], &row.record["height"]);
                put(format!("{comma}\n{}", json!({ "id": n, "file_name": row.file, "width": w, "height": h })))
            })?;
            put("],\n\"annotations\": [".into())?;
            let (mut image, mut id) = (0u64, 0u64);
            self.rows(out, objects, |row| {
                image += 1;
                for object in self.objects(&row.record, &categories)? {
                    id += 1;
                    let comma = if id > 1 { "," } else { "" };
                    let [x1, y1, x2, y2] = object.sides;
                    let (w, h) = (x2 - x1, y2 - y1);
                    let mut annotation = json!({
                        "id": id, "image_id": image, "category_id": object.category + 1, "bbox": [x1, y1, w, h],
                        "area": w * h, "iscrowd": 0, "score": object.score,
                    });
                    if let Some(mask) = object.mask {
                        annotation["area"] = mask.area().into();
                        annotation["segmentation"] = json!(mask);
                    }
                    put(format!("{comma}\n{annotation}"))?;
                }
                Ok(())
            })?;
            let category =
                |(i, c): (usize, &Category)| json!({ "id": i + 1, "name": c.name, "supercategory": c.detector });
            let categories: Vec<Value> = categories.iter().enumerate().map(category).collect();
            put(format!("],\n\"categories\": {}}}\n", Value::from(categories)))?;
            file.flush().map_err(failed)
        })
    }

    /// Writes a text for each image under `labels/`, beside `images/`, and [`YOLO`], which names the classes. Gives the
    /// folders of texts, too.
    ///
    /// # Errors
    /// Store errors.
    pub fn yolo(&self, view: &View, objects: &[&Object], splits: &[String]) -> Result<Option<(Vec<Object>, Written)>> {
        let (out, mut folders) = (view.out(), BTreeMap::<String, Vec<(String, u64, String)>>::new());
        let categories = self.categories(out, objects)?;
        self.rows(out, objects, |row| {
            let (w, h) = (row.record["width"].as_f64().unwrap_or(1.0), row.record["height"].as_f64().unwrap_or(1.0));
            let mut text = String::new();
            for object in self.objects(&row.record, &categories)? {
                let (category, [x1, y1, x2, y2]) = (object.category, object.sides);
                let (cx, cy) = ((x1 + x2) / 2.0 / w, (y1 + y2) / 2.0 / h);
                text += &format!("{category} {cx:.6} {cy:.6} {:.6} {:.6}\n", (x2 - x1) / w, (y2 - y1) / h);
            }
            let labels = row.file.replacen("images/", "labels/", 1);
            let stem = labels.rsplit_once('.').map_or(labels.as_str(), |(stem, _)| stem);
            let (name, bytes) = (format!("{stem}.txt"), text.len() as u64);
            if let Some((folder, file)) = name.rsplit_once('/') {
                let entry = (file.to_string(), bytes, store::hex(&Sha256::digest(&text)));
                folders.entry(format!("{folder}/")).or_default().push(entry);
            }
            out.replace(&name, text.as_bytes())
        })?;
        // Without `path`, readers look beside this file, wherever it lies; `.` would be the folder that they run in.
        let mut text = String::new();
        let has = |name: &str| splits.iter().any(|s| s == name);
        for part in ["train", "val", "test"] {
            match (splits.is_empty(), has(part)) {
                (true, _) if part != "test" => text += &format!("{part}: images\n"),
                (false, true) => text += &format!("{part}: {part}/images\n"),
                _ => {}
            }
        }
        text += "names:\n";
        for (i, category) in categories.iter().enumerate() {
            // JSON's strings are YAML's.
            text += &format!("  {i}: {}\n", Value::from(category.name.as_str()));
        }
        let folder = |(path, mut files): (String, Vec<(String, u64, String)>)| {
            files.sort();
            let (bytes, sha256) = store::listing_digest(&files);
            Object { path, bytes, sha256 }
        };
        let folders = folders.into_iter().map(folder).collect();
        Ok(view.write(text.as_bytes())?.map(|written| (folders, written)))
    }

    /// A record's objects.
    fn objects(&self, record: &Value, categories: &[Category]) -> Result<Vec<Annotated>> {
        let one = |d: &Value| {
            let model = d["model"].as_str().unwrap_or_default();
            let category = categories.iter().position(|c| c.detector == model && Some(c.class) == d["class"].as_i64());
            let sides: Vec<f64> = d["box"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            let mask =
                d.get("mask").filter(|mask| !mask.is_null()).map(|mask| serde_json::from_value::<Rle>(mask.clone()));
            match (category, sides.try_into(), d["score"].as_f64(), mask.transpose()) {
                (Some(category), Ok(sides), Some(score), Ok(mask)) => Ok(Annotated { category, sides, score, mask }),
                _ => Err(Error::store(format!(
                    "the record of {} holds a detection that none of the job's detectors gives: {d}; its table was changed",
                    record["key"]
                ))),
            }
        };
        let whole = |d: &&Value| self.others.iter().any(|name| d["model"] == name.as_str());
        record["detections"].as_array().into_iter().flatten().filter(|d| !whole(d)).map(one).collect()
    }
}
