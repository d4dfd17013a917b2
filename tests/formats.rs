//! What the sinks write is read back by the programs that people train with: webdataset, Pillow, NumPy, safetensors,
//! pyarrow, DuckDB, SQLite and Python's csv and tarfile. Each comparison is also given something wrong that it must
//! catch.

#[path = "common/python.rs"]
mod outside;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use framemill::sink::encode::{Encoding, encode, raw, shape};
use framemill::sink::record::{Cell, Column, ColumnType, Details, Detection, Record};
use framemill::sink::webdataset::TarStream;
use framemill::sink::{Format, Sample, ShardWriter, table};
use framemill::store::{Object, Output, View};
use framemill::tensor::{Dtype, Layout, Tensor};
use outside::python;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Runs `script` in `folder`; its last line of output, or what went wrong.
fn run(python: &Path, folder: &Path, script: &str) -> Result<String, String> {
    let output = Command::new(python).args(["-c", script]).current_dir(folder).output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    Ok(text(&output.stdout).lines().last().unwrap_or_default().to_string())
}

/// A picture without regularity that an encoder or a wrong axis order could hide behind.
fn picture(seed: u32, width: u32, height: u32, layout: Layout) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            data.extend([(x * 5 + state % 23) as u8, (y * 7 + state % 31) as u8, ((x + y) * 3 + seed) as u8]);
        }
    }
    Tensor { width, height, dtype: Dtype::U8, layout, data }
}

fn columns() -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    vec![
        column("city", ColumnType::Text),
        column("bytes", ColumnType::Integer),
        column("weight", ColumnType::Float),
        column("night", ColumnType::Boolean),
    ]
}

fn record(i: u32, key: &str) -> Record {
    let detection = |n: u32| Detection {
        model: "faces".into(),
        class: i64::from(n),
        label: n.is_multiple_of(2).then(|| "face, \"big\"".into()),
        score: 0.1 * f64::from(n + 1),
        box_: [0.5, 1.5, 20.25, 30.0],
        source_box: [1.0 / 3.0, 3.0, 40.5, 60.0],
        landmarks: (0..n).map(|p| [f64::from(p), 0.25]).collect(),
        ..Detection::default()
    };
    Record {
        key: key.into(),
        uri: format!("s3://bücket/ä, \"{i}\"\n.mp4"),
        asset: key[..16].into(),
        bytes: (!i.is_multiple_of(2)).then_some(5_000_000_000 + u64::from(i)),
        captured_at: i.is_multiple_of(3).then(|| "2021-05-06T07:08:09".into()),
        codec: "h264".into(),
        pixel_format: "yuv420p".into(),
        color_matrix: "bt709".into(),
        color_range: "limited".into(),
        color_primaries: "bt709".into(),
        color_transfer: "bt709".into(),
        chroma_location: Some("left".into()),
        color_assumed: ["color_range", "chroma_location"][..(i % 3) as usize].iter().map(|s| s.to_string()).collect(),
        rotation: 90,
        time_s: f64::from(i) / 30.0,
        pts: -3003 + 3003 * i64::from(i),
        time_base: "1/90000".into(),
        keyframe: i == 0,
        source_width: 1920,
        source_height: 1080,
        width: 12,
        height: 9,
        transform: [160.0, 0.0, 0.1, 0.0, 120.0, -1.0 / 7.0],
        augment: if i == 1 { Value::Null } else { json!({"flip": true, "angle": 0.1 + f64::from(i)}) },
        detections: (0..i % 4).map(detection).collect(),
        columns: vec![
            if i == 2 { Cell::Null } else { Cell::Text(format!("Köln, {i}")) },
            Cell::Integer(i64::MAX - i64::from(i)),
            Cell::Float(1e-7 / f64::from(i + 3)),
            if i == 0 { Cell::Null } else { Cell::Boolean(i.is_multiple_of(2)) },
        ],
        ..Default::default()
    }
}

fn sample(i: u32, encoding: &Encoding, raw_bytes: bool) -> Sample {
    let key = format!("{:016x}-{:012}", 0xfeed_0000_u64 + u64::from(i / 2), i * 33_333);
    let frames = [picture(i, 12, 9, Layout::Hwc)];
    Sample {
        record: record(i, &key),
        ext: encoding.ext(),
        data: if raw_bytes { raw(frames.to_vec()) } else { encode(&frames, false, encoding).unwrap() },
        shape: shape(&frames, false).unwrap(),
        dtype: Dtype::U8,
        fields: if raw_bytes { Vec::new() } else { vec![("cls".into(), i.to_string().into_bytes())] },
        key,
    }
}

/// Writes a shard of `n` samples; its objects, and what every reader must find: the records.
fn shard(
    out: &Path,
    task: u64,
    worker: &str,
    format: Format,
    encoding: &Encoding,
    n: u32,
) -> (Vec<Object>, Vec<Value>) {
    let mut writer =
        ShardWriter::begin(&Output::at(out), None, task, worker, format, &columns(), Details::default()).unwrap();
    let mut expected = Vec::new();
    for i in 0..n {
        let mut sample = sample(i + 100 * task as u32, encoding, format == Format::Tensors);
        writer.write(sample.clone()).unwrap();
        if format != Format::Tensors {
            sample.seal();
        }
        expected.push(sample.record.to_json(&columns()));
    }
    (writer.finish().unwrap().publish().unwrap(), expected)
}

/// Runs `script` with `expected.json` beside it, and once more with one value changed, which it must notice.
fn agrees(python: &Path, out: &Path, expected: &[Value], field: &str, wrong: Value, script: &str) {
    let path = out.join("expected.json");
    fs::write(&path, serde_json::to_vec(expected).unwrap()).unwrap();
    assert_eq!(run(python, out, script).unwrap(), format!("agrees on {}", expected.len()));
    let mut changed = expected.to_vec();
    let last = changed.last_mut().unwrap();
    assert_ne!(last[field], wrong);
    last[field] = wrong;
    fs::write(&path, serde_json::to_vec(&changed).unwrap()).unwrap();
    let error = run(python, out, script).unwrap_err();
    assert!(error.contains("AssertionError"), "the script failed for another reason: {error}");
}

#[test]
fn webdataset_reads_the_tar() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (objects, expected) = shard(dir.path(), 0, "w", Format::Webdataset, &Encoding::Png, 5);
    assert_eq!(objects[0].path, "shard-000000.tar");
    let pixels: Vec<u8> = (0..5).flat_map(|i| picture(i, 12, 9, Layout::Hwc).data).collect();
    fs::write(dir.path().join("pixels"), pixels).unwrap();
    let script = r#"
import hashlib, io, json, tarfile, numpy as np, webdataset as wds
from PIL import Image
expected = json.load(open("expected.json"))
pixels = np.fromfile("pixels", np.uint8).reshape(-1, 9, 12, 3)
n = 0
for i, s in enumerate(wds.WebDataset("shard-000000.tar", shardshuffle=False)):
    assert s["__key__"] == expected[i]["key"]
    assert json.loads(s["json"]) == expected[i], i
    assert list(json.loads(s["json"])) == list(expected[i])
    assert s["cls"] == str(i).encode()
    assert hashlib.sha256(s["png"]).hexdigest() == expected[i]["sha256"]
    assert (np.asarray(Image.open(io.BytesIO(s["png"]))) == pixels[i]).all()
    n += 1
assert n == len(expected)
members = tarfile.open("shard-000000.tar").getmembers()
assert [m.name for m in members] == [f"{r['key']}.{e}" for r in expected for e in ("png", "cls", "json")]
assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members)
print("agrees on", n)
"#;
    agrees(&python, dir.path(), &expected, "pts", json!(1), script);
}

#[test]
fn pyarrow_and_duckdb_read_the_table() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (objects, expected) = shard(dir.path(), 0, "w", Format::Images, &Encoding::Jpeg(90), 7);
    assert_eq!(objects[1].path, "shard-000000.parquet");
    let pyarrow = r#"
import json, pyarrow as pa, pyarrow.parquet as pq
expected = json.load(open("expected.json"))
table = pq.read_table("shard-000000.parquet")
assert table.column_names == list(expected[0])
assert str(table.schema.field("transform").type) == "fixed_size_list<element: double not null>[6]", table.schema
assert pa.types.is_struct(table.schema.field("detections").type.value_type)
own = ("city", "input_bytes", "weight", "night")
assert [str(table.schema.field(n).type) for n in own] == ["string", "int64", "double", "bool"]
rows = table.to_pylist()
for row in rows:
    row["augment"] = None if row["augment"] is None else json.loads(row["augment"])
assert rows == expected
meta = pq.ParquetFile("shard-000000.parquet").metadata
assert meta.created_by == "framemill version 1"
assert {meta.row_group(0).column(i).compression for i in range(meta.num_columns)} == {"SNAPPY"}
print("agrees on", len(rows))
"#;
    agrees(&python, dir.path(), &expected, "weight", json!(0.5), pyarrow);
    let duckdb = r#"
import json, duckdb
expected = json.load(open("expected.json"))
def rows(sql):
    cursor = duckdb.sql(sql)
    names = cursor.columns
    return [dict(zip(names, row)) for row in cursor.fetchall()]
found = rows("select * from 'shard-000000.parquet'")
for row in found:
    row["augment"] = None if row["augment"] is None else json.loads(row["augment"])
    row["transform"] = list(row["transform"])
    for d in row["detections"]:
        d["box"], d["source_box"] = list(d["box"]), list(d["source_box"])
        d["landmarks"] = [list(p) for p in d["landmarks"]]
assert found == expected, (found[-1], expected[-1])
boxes = rows("select key, d.score as score from (select key, unnest(detections) as d from 'shard-000000.parquet')")
assert boxes == [{"key": r["key"], "score": d["score"]} for r in expected for d in r["detections"]]
print("agrees on", len(found))
"#;
    agrees(&python, dir.path(), &expected, "uri", json!("x"), duckdb);
}

#[test]
fn merged_csv_and_sqlite_hold_all_shards() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for task in 0..3 {
        expected.extend(shard(dir.path(), task, "w", Format::Webdataset, &Encoding::Jpeg(80), 4).1);
    }
    let out = Output::at(dir.path());
    let tables: Vec<String> = (0..3).map(|t| format!("shard-{t:06}.parquet")).collect();
    let merge = || {
        table::merge_csv(&View::of(&out, "records.csv").unwrap(), &tables).unwrap();
        table::merge_sqlite(&View::of(&out, "records.sqlite").unwrap(), &tables, &[]).unwrap();
        (out.read("records.csv").unwrap().unwrap(), out.read("records.sqlite").unwrap().unwrap())
    };
    assert!(merge() == merge(), "merging twice gave other bytes");
    let rows = tables.iter().flat_map(|table| table::read_rows(&dir.path().join(table)).unwrap());
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    let read_csv = r#"
import csv, json
expected = json.load(open("expected.json"))
rows = list(csv.DictReader(open("records.csv", newline="", encoding="utf-8")))
assert list(rows[0]) == list(expected[0])
for row, want in zip(rows, expected, strict=True):
    for name, value in want.items():
        if value is None: found = row[name] or None
        elif isinstance(value, str): found = row[name]
        else: found = json.loads(row[name])
        assert found == value and type(found) == type(value), (name, found, value)
print("agrees on", len(rows))
"#;
    agrees(&python, dir.path(), &expected, "keyframe", json!(true), read_csv);
    let read_sqlite = r#"
import json, sqlite3
expected = json.load(open("expected.json"))
db = sqlite3.connect("records.sqlite")
db.row_factory = sqlite3.Row
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
rows = [dict(row) for row in db.execute("select * from records")]
assert list(rows[0]) == list(expected[0])
for row, want in zip(rows, expected, strict=True):
    for name, value in want.items():
        found = row[name]
        if isinstance(value, (list, dict)): found = json.loads(found)
        assert found == value, (name, found, value)
key = expected[5]["key"]
assert db.execute("select input_bytes from records where key = ?", [key]).fetchone()[0] == expected[5]["input_bytes"]
print("agrees on", len(rows))
"#;
    agrees(&python, dir.path(), &expected, "time_s", json!(0.25), read_sqlite);
    table::merge_csv(&View::of(&out, "empty.csv").unwrap(), &[]).unwrap();
    assert!(fs::read_to_string(dir.path().join("empty.csv")).unwrap().starts_with("key,uri,asset,"));
}

#[test]
fn numpy_and_safetensors_read_the_arrays() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (npy, _) = shard(dir.path(), 0, "w", Format::Tensors, &Encoding::Npy, 6);
    let (safe, _) = shard(dir.path(), 1, "w", Format::Tensors, &Encoding::Safetensors, 6);
    assert_eq!((npy[0].path.as_str(), safe[0].path.as_str()), ("shard-000000.npy", "shard-000001.safetensors"));
    let script = r#"
import numpy as np, pyarrow.parquet as pq
from safetensors.numpy import load_file
a, b = np.load("shard-000000.npy", mmap_mode="r"), load_file("shard-000001.safetensors")["data"]
for array, name in ((a, "pixels-0"), (b, "pixels-1")):
    assert array.shape == (6, 9, 12, 3) and array.dtype == np.uint8
    assert (array == np.fromfile(name, np.uint8).reshape(array.shape)).all()
np.save("numpy.npy", a)
assert open("numpy.npy", "rb").read() == open("shard-000000.npy", "rb").read()
table = pq.read_table("shard-000000.parquet")
assert table.num_rows == len(a) and table["sha256"].null_count == len(a)
print("agrees")
"#;
    for task in 0..2 {
        let pixels: Vec<u8> = (0..6).flat_map(|i| picture(i + 100 * task, 12, 9, Layout::Hwc).data).collect();
        fs::write(dir.path().join(format!("pixels-{task}")), pixels).unwrap();
    }
    assert_eq!(run(&python, dir.path(), script).unwrap(), "agrees");
    let mut wrong = fs::read(dir.path().join("pixels-1")).unwrap();
    wrong[700] ^= 1;
    fs::write(dir.path().join("pixels-1"), wrong).unwrap();
    assert!(run(&python, dir.path(), script).unwrap_err().contains("AssertionError"));
}

/// A tensor that counts 0, 1, ... 250, 0, ... on from frame to frame.
fn counting(width: u32, height: u32, dtype: Dtype, layout: Layout, frame: u32) -> Tensor {
    let count = width * height * 3;
    let values = (0..count).map(|i| (frame * count + i) % 251);
    let data = match dtype {
        Dtype::U8 => values.map(|v| v as u8).collect(),
        Dtype::F16 => values.flat_map(|v| half::f16::from_f32(v as f32).to_le_bytes()).collect(),
        Dtype::Bf16 => values.flat_map(|v| half::bf16::from_f32(v as f32).to_le_bytes()).collect(),
        Dtype::F32 => values.flat_map(|v| (v as f32).to_le_bytes()).collect(),
    };
    Tensor { width, height, dtype, layout, data }
}

#[test]
fn numpy_reads_every_shape_and_type() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for dtype in [Dtype::U8, Dtype::F16, Dtype::F32, Dtype::Bf16] {
        for (layout, clip) in [(Layout::Hwc, false), (Layout::Chw, false), (Layout::Hwc, true), (Layout::Chw, true)] {
            let n = cases.len() as u32;
            let frames: Vec<Tensor> =
                (0..if clip { 4 } else { 1 }).map(|t| counting(5 + n, 2 + n / 3, dtype, layout, t)).collect();
            let write = |ext: &str, bytes: Vec<u8>| fs::write(dir.path().join(format!("{n}.{ext}")), bytes).unwrap();
            write("safetensors", encode(&frames, clip, &Encoding::Safetensors).unwrap());
            match encode(&frames, clip, &Encoding::Npy) {
                Ok(bytes) => write("npy", bytes),
                Err(e) => assert_eq!((dtype, e.exit_code()), (Dtype::Bf16, 2)),
            }
            let shape = shape(&frames, clip).unwrap();
            cases.push(json!({"name": n.to_string(), "shape": shape, "dtype": format!("{dtype:?}")}));
        }
    }
    let path = dir.path().join("cases.json");
    fs::write(&path, serde_json::to_vec(&cases).unwrap()).unwrap();
    let script = r#"
import json, os, numpy as np
from safetensors import deserialize
cases = json.load(open("cases.json"))
for case in cases:
    values = np.arange(np.prod(case["shape"])) % 251
    (name, entry), = deserialize(open(case["name"] + ".safetensors", "rb").read())
    assert name == "data" and list(entry["shape"]) == case["shape"] and entry["dtype"] == case["dtype"].upper(), entry
    if case["dtype"] == "Bf16":
        bits = np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << 16
        found = bits.view(np.float32)
        assert not os.path.exists(case["name"] + ".npy")
    else:
        kind = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}[case["dtype"]]
        found = np.frombuffer(entry["data"], kind)
        array = np.load(case["name"] + ".npy")
        assert list(array.shape) == case["shape"] and array.dtype == kind and (array.ravel() == found).all()
        np.save("numpy.npy", array)
        assert open("numpy.npy", "rb").read() == open(case["name"] + ".npy", "rb").read()
    assert (found == values).all()
print("agrees on", len(cases))
"#;
    assert_eq!(run(&python, dir.path(), script).unwrap(), "agrees on 16");
    cases[9]["shape"] = json!([1, 2, 3]);
    fs::write(&path, serde_json::to_vec(&cases).unwrap()).unwrap();
    assert!(run(&python, dir.path(), script).unwrap_err().contains("AssertionError"));
}

#[test]
fn pillow_opens_the_pictures_and_writes_the_same_jpeg() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (width, height) in [(64, 48), (37, 23), (1, 1), (16, 9)] {
        let tensor = picture(width, width, height, Layout::Hwc);
        let name = format!("{width}x{height}");
        let write = |ext: &str, bytes: &[u8]| fs::write(dir.path().join(format!("{name}.{ext}")), bytes).unwrap();
        write("raw", &tensor.data);
        let encode = |encoding| encode(std::slice::from_ref(&tensor), false, &encoding).unwrap();
        for quality in [1, 25, 50, 75, 90, 95, 100] {
            write(&format!("{quality}.jpg"), &encode(Encoding::Jpeg(quality)));
        }
        write("png", &encode(Encoding::Png));
        write("lossless", &encode(Encoding::Webp(None)));
        write("lossy", &encode(Encoding::Webp(Some(80))));
    }
    let script = r#"
import glob, io, numpy as np
from PIL import Image
n = 0
for path in sorted(glob.glob("*.jpg")):
    size, quality, _ = path.split(".")
    w, h = map(int, size.split("x"))
    pixels = np.fromfile(size + ".raw", np.uint8).reshape(h, w, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=max(1, int(quality) - SHIFT), subsampling=0)
    ours, theirs = Image.open(path), Image.open(buffer)
    assert ours.format == "JPEG" and ours.size == (w, h) and ours.mode == "RGB"
    assert "progressive" not in ours.info
    assert [c[1:3] for c in ours.layer] == [(1, 1)] * 3, ours.layer
    assert ours.quantization == theirs.quantization, path
    assert (np.asarray(ours) == np.asarray(theirs)).all(), path
    n += 1
for path in glob.glob("*.raw"):
    size = path[:-4]
    w, h = map(int, size.split("x"))
    pixels = np.fromfile(path, np.uint8).reshape(h, w, 3)
    for ext, kind in (("png", "PNG"), ("lossless", "WEBP"), ("lossy", "WEBP")):
        image = Image.open(f"{size}.{ext}")
        assert image.format == kind and image.size == (w, h) and image.mode == "RGB"
        found = np.asarray(image)
        if ext != "lossy": assert (found == pixels).all(), (size, ext)
        elif w > 1: assert 0 < np.abs(found.astype(int) - pixels).mean() < 20
        n += 1
print("agrees on", n)
"#;
    assert_eq!(run(&python, dir.path(), &script.replace("SHIFT", "0")).unwrap(), "agrees on 40");
    let error = run(&python, dir.path(), &script.replace("SHIFT", "1")).unwrap_err();
    assert!(error.contains("AssertionError"), "{error}");
}

/// Every file under `out` with its content.
fn tree(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![out.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(out).unwrap().to_path_buf(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_same_samples_give_the_same_bytes() {
    for (format, encoding) in [
        (Format::Webdataset, Encoding::Jpeg(95)),
        (Format::Webdataset, Encoding::Webp(Some(70))),
        (Format::Images, Encoding::Png),
        (Format::Tensors, Encoding::Npy),
        (Format::Tensors, Encoding::Safetensors),
    ] {
        let (a, b, c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = shard(a.path(), 3, "host-1", format, &encoding, 9);
        let second = shard(b.path(), 3, "host-2", format, &encoding, 9);
        assert_eq!(first, second);
        assert!(tree(a.path()) == tree(b.path()), "{format} {encoding}");
        shard(c.path(), 3, "host-1", format, &encoding, 8);
        assert!(tree(a.path()) != tree(c.path()), "{format} {encoding}");
    }
}

#[test]
fn a_folders_digest_is_that_of_sha256sum() {
    let dir = tempfile::tempdir().unwrap();
    let (objects, _) = shard(dir.path(), 2, "w", Format::Images, &Encoding::Png, 4);
    let folder = dir.path().join("images/000002");
    let listing =
        Command::new("sh").args(["-c", "LC_ALL=C sha256sum * | sha256sum"]).current_dir(&folder).output().unwrap();
    if !listing.status.success() {
        println!("skipped: there is no sha256sum here");
        return;
    }
    assert!(String::from_utf8_lossy(&listing.stdout).starts_with(&objects[0].sha256));
    let victim = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    fs::write(victim, "damaged").unwrap();
    assert_ne!(Output::at(dir.path()).measure(&objects[0].path).unwrap(), objects[0]);
}

fn cases() -> ProptestConfig {
    let full = std::env::var_os("FRAMEMILL_TEST_FULL").is_some_and(|v| v == "1");
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if full { 2_000 } else { 64 }) }
}

proptest! {
    #![proptest_config(cases())]

    /// Whatever the sizes (block borders included), the tar holds the files in order and nothing of the machine.
    #[test]
    fn tars_hold_what_was_written(samples in prop::collection::vec((
        "[0-9a-f]{16}-[0-9]{12}(-[0-9]{1,3})?",
        prop::collection::vec(any::<u8>(), 0..1600),
        prop::collection::btree_map("[a-i]{1,8}", prop::collection::vec(any::<u8>(), 0..600), 0..3),
    ), 0..6)) {
        let mut tar = TarStream::new(Vec::new(), "memory", &[]);
        let mut expected = Vec::new();
        for (key, data, fields) in &samples {
            let mut sample = Sample {
                key: key.clone(), ext: "npy", data: data.clone(), shape: vec![data.len()], dtype: Dtype::U8,
                record: Record { key: key.clone(), ..Default::default() },
                fields: fields.iter().map(|(ext, bytes)| (ext.clone(), bytes.clone())).collect(),
            };
            tar.write(&mut sample).unwrap();
            expected.push((format!("{key}.npy"), data.clone()));
            expected.extend(fields.iter().map(|(ext, bytes)| (format!("{key}.{ext}"), bytes.clone())));
            let json = format!("{}\n", sample.record.to_json(&[]));
            expected.push((format!("{key}.json"), json.into_bytes()));
        }
        let bytes = tar.finish().unwrap();
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            prop_assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            prop_assert_eq!(header.mode().unwrap(), 0o644);
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((name, content));
        }
        prop_assert_eq!(found, expected);
    }
}
