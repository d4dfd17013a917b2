use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field as ArrowField, Int32Type};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::*;
use crate::bytes::ByteSource;
use crate::error::RejectKind;
use crate::sink::record::{Column, ColumnType};

fn open(uri: &str) -> Result<Arc<dyn ByteSource>> {
    Sources::new(&InputSpec::default(), 1 << 20, 1).open(uri, Expected::default(), &Life::default())
}

/// A temporary folder with files in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = Files(tempfile::tempdir().unwrap());
        for (name, content) in files {
            let path = dir.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn spec(&self, names: &[&str]) -> InputSpec {
        InputSpec { uri: names.iter().map(|name| self.uri(name)).collect(), ..Default::default() }
    }

    fn list(&self, names: &[&str]) -> Result<Inputs> {
        list(&self.spec(names), 0, None)
    }

    /// The URIs below the folder.
    fn names(&self, inputs: &Inputs) -> Vec<String> {
        let prefix = self.uri("");
        (0..inputs.len()).map(|i| inputs.uri(i).strip_prefix(&prefix).unwrap_or(inputs.uri(i)).into()).collect()
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "`{part}` is not in: {error}");
    }
}

fn cells(inputs: &Inputs, column: usize) -> Vec<Cell> {
    (0..inputs.len()).map(|i| inputs.item(i).cells[column].clone()).collect()
}

fn text(value: &str) -> Cell {
    Cell::Text(value.into())
}

fn columns(inputs: &Inputs) -> Vec<(&str, ColumnType)> {
    inputs.columns().iter().map(|Column { name, kind }| (name.as_str(), *kind)).collect()
}

#[test]
fn folders_are_walked_in_the_order_of_their_paths() {
    let files = Files::new(&[
        ("d/b.mp4", "b"),
        ("d/a/z.JPG", ""),
        ("d/a.mov", "a"),
        ("d/a-b/c.h265", "c"),
        ("d/a0.png", "p"),
        ("d/notes.txt", "x.mp4"),
        ("d/a/labels.csv", "uri\nx.mp4"),
        ("d/unknown", "\0\0\0\x20ftypisom"),
        ("d/other.bin", "hello"),
        ("d/.hidden.mp4", ""),
        ("d/.cache/x.mp4", ""),
    ]);
    let inputs = files.list(&["d"]).unwrap();
    assert_eq!(files.names(&inputs), ["d/a-b/c.h265", "d/a.mov", "d/a/z.JPG", "d/a0.png", "d/b.mp4", "d/unknown"]);
    assert_eq!(inputs.counts, Counts { listed: 6, ignored: 3, duplicates: 0 });
    assert!(inputs.columns().is_empty());
    let empty = inputs.item(2);
    assert_eq!(empty.bytes, Some(0));
    let meta = fs::metadata(files.path("d/a/z.JPG")).unwrap();
    assert_eq!(empty.version, Some(file_version(&meta)));
    let since_1970 = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(empty.version, Some(format!("{:x}", since_1970.as_nanos())));
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let files = Files::new(&[("d/sub/a.mp4", ""), ("elsewhere/b.mp4", "b")]);
    symlink(files.path("d"), files.path("d/sub/loop")).unwrap();
    symlink("../sub", files.path("d/sub/self")).unwrap();
    symlink(files.path("elsewhere"), files.path("d/linked")).unwrap();
    symlink(files.path("elsewhere/b.mp4"), files.path("d/c.mp4")).unwrap();
    symlink("/nowhere/x", files.path("d/broken.mp4")).unwrap();
    symlink("/nowhere/x", files.path("d/broken")).unwrap();
    let expected = ["d/broken.mp4", "d/c.mp4", "d/linked/b.mp4", "d/sub/a.mp4"];
    let inputs = files.list(&["d"]).unwrap();
    assert_eq!(files.names(&inputs), expected);
    assert_eq!(inputs.counts.ignored, 1);
    assert_eq!((inputs.item(0).bytes, inputs.item(1).bytes), (None, Some(1)));
    assert_eq!(files.names(&files.list(&["d/**/*.mp4"]).unwrap()), expected);
}

#[test]
fn globs_match_files_and_folders() {
    let files = Files::new(&[
        ("d/a.mp4", ""),
        ("d/b.json", ""),
        ("d/s/c.mp4", ""),
        ("d/s/t/e.jpg", ""),
        ("d/.h/x.mp4", ""),
        ("d/s/.y.mp4", ""),
        ("d/[1].mp4", ""),
        ("d/1.mp4", ""),
        ("l/1.csv", "uri\na.mp4"),
        ("l/2.csv", "uri\nb.mp4"),
    ]);
    let names = |pattern: &str| files.names(&files.list(&[pattern]).unwrap());
    assert_eq!(names("d/*.mp4"), ["d/1.mp4", "d/[1].mp4", "d/a.mp4"]);
    assert_eq!(names("d/?.mp4"), ["d/1.mp4", "d/a.mp4"]);
    // A folder that matches stands for what is in it.
    assert_eq!(names("d/*"), ["d/1.mp4", "d/[1].mp4", "d/a.mp4", "d/s/c.mp4", "d/s/t/e.jpg"]);
    for pattern in ["d/**", "d/**/*", "d/**/**/*.*"] {
        assert_eq!(names(pattern), ["d/1.mp4", "d/[1].mp4", "d/a.mp4", "d/s/c.mp4", "d/s/t/e.jpg"], "{pattern}");
    }
    assert_eq!(files.list(&["d/**"]).unwrap().counts, Counts { listed: 5, ignored: 1, duplicates: 0 });
    assert_eq!(names("d/**/t/*.jpg"), ["d/s/t/e.jpg"]);
    assert_eq!(names("d/.h/*"), ["d/.h/x.mp4"]);
    assert_eq!(names("d/s/.*"), ["d/s/.y.mp4"]);
    // What exists by the letter is no pattern.
    assert_eq!(names("d/[1].mp4"), ["d/[1].mp4"]);
    assert_eq!(names("l/*.csv"), ["l/a.mp4", "l/b.mp4"]);
    assert_eq!(files.list(&["l/*"]).unwrap().counts.ignored, 2);
    refused(files.list(&["d/*.webm"]), &["d/*.webm"]);
    refused(files.list(&["none/*.mp4"]), &["none/*.mp4"]);
    refused(files.list(&["d/[.mp4"]), &["["]);
}

#[test]
fn what_is_named_is_taken_or_refused() {
    let files = Files::new(&[("odd.json", "{}"), ("none", ""), ("dir/x", "")]);
    let inputs = files.list(&["odd.json", "none"]).unwrap();
    assert_eq!(files.names(&inputs), ["odd.json", "none"]);
    assert_eq!(inputs.item(0).bytes, Some(2));
    refused(files.list(&["gone.mp4"]), &["gone.mp4"]);
    refused(files.list(&["gone.csv"]), &["gone.csv"]);
    refused(files.list(&["none/x.mp4"]), &["none/x.mp4"]);
    refused(list(&InputSpec { uri: vec!["ftp://b/x".into()], ..Default::default() }, 0, None), &["ftp://b/x", "local"]);
    refused(list(&InputSpec { uri: vec!["/dev/null".into()], ..Default::default() }, 0, None), &["/dev/null"]);
    assert!(files.list(&[]).unwrap().is_empty());
    assert!(files.list(&["dir"]).unwrap().is_empty());
}

#[test]
fn the_output_is_never_searched() {
    let files = Files::new(&[("d/a.mp4", ""), ("d/out/images/b.jpg", "")]);
    symlink("out", files.path("d/alias")).unwrap();
    let out = files.uri("d/out");
    for pattern in ["d", "d/**/*.*", "d/*"] {
        assert_eq!(files.names(&list(&files.spec(&[pattern]), 0, Some(&out)).unwrap()), ["d/a.mp4"], "{pattern}");
    }
    assert_eq!(files.list(&["d"]).unwrap().len(), 3);
    refused(list(&files.spec(&["d"]), 0, Some(&files.uri("d"))), &["output folder"]);
    // Named in so many words.
    assert_eq!(list(&files.spec(&["d/a.mp4", "d/*.mp4"]), 0, Some(&files.uri("d"))).unwrap().len(), 1);
    assert_eq!(list(&files.spec(&["d"]), 0, Some(&files.uri("none"))).unwrap().len(), 3);
}

#[test]
fn names_that_are_no_text_are_kept() {
    let files = Files::new(&[("d/a b.mp4", "")]);
    let name = OsString::from_vec(b"\xFFx.mp4".to_vec());
    fs::write(files.path("d").join(&name), "xyz").unwrap();
    for pattern in ["d", "d/*.mp4"] {
        let inputs = files.list(&[pattern]).unwrap();
        assert_eq!(inputs.len(), 2);
        assert!(inputs.uri(1).starts_with("file:///") && inputs.uri(1).ends_with("/%FFx.mp4"));
        assert_eq!(open(inputs.uri(1)).unwrap().len(), 3);
    }
    let spec = InputSpec { uri: vec![format!("file://{}", files.uri("d"))], ..Default::default() };
    let inputs = list(&spec, 0, None).unwrap();
    assert!(inputs.uri(0).starts_with("file:///") && inputs.uri(0).ends_with("/a%20b.mp4"));
    assert_eq!(inputs.identity(0), files.list(&["d"]).unwrap().identity(0));
}

#[test]
fn text_lists_have_an_input_a_line() {
    let files = Files::new(&[(
        "l/list.TXT",
        "\u{feff}a.mp4\n\n# comment\n  /abs/b.mp4 \r\nfile:///abs/c%20d.mp4?x=1\n../up.mp4\n./what?.mp4",
    )]);
    let inputs = files.list(&["l/list.TXT"]).unwrap();
    assert_eq!(
        files.names(&inputs),
        ["l/a.mp4", "/abs/b.mp4", "file:///abs/c%20d.mp4?x=1", "l/../up.mp4", "l/./what?.mp4"]
    );
    let item = inputs.item(0);
    assert_eq!((item.bytes, item.version, item.cells.len(), item.split), (None, None, 0, None));
    let files = Files::new(&[("a.txt", "x.mp4\ns3://bucket/y.mp4\n"), ("b.txt", "x\n")]);
    assert_eq!(files.list(&["a.txt"]).unwrap().item(1).uri, "s3://bucket/y.mp4");
    fs::write(files.path("b.txt"), b"ok.mp4\n\xFF.mp4\n").unwrap();
    refused(files.list(&["b.txt"]), &["b.txt, line 2"]);
}

#[test]
fn csv_columns_are_typed_over_all_lists() {
    let files = Files::new(&[
        (
            "a.csv",
            "label,uri,n,f,flag,empty,zip,mixed\ncat,a.mp4,1,1,true,,01234,1\n\"dog, big\",b.mp4,,2.5,False,,99999,x\n",
        ),
        ("b.tsv", "uri\tn\tbytes\nc.mp4\t3\t12\n"),
        ("c.csv", "n,uri\nthree,d.mp4\n"),
        ("d/e.mp4", ""),
    ]);
    let inputs = files.list(&["a.csv", "d", "b.tsv"]).unwrap();
    use ColumnType::*;
    assert_eq!(
        columns(&inputs),
        [
            ("label", Text),
            ("n", Integer),
            ("f", Float),
            ("flag", Boolean),
            ("empty", Text),
            ("zip", Text),
            ("mixed", Text),
            ("bytes", Integer)
        ]
    );
    assert_eq!(files.names(&inputs), ["a.mp4", "b.mp4", "d/e.mp4", "c.mp4"]);
    assert_eq!(cells(&inputs, 0), [text("cat"), text("dog, big"), Cell::Null, Cell::Null]);
    assert_eq!(cells(&inputs, 1), [Cell::Integer(1), Cell::Null, Cell::Null, Cell::Integer(3)]);
    assert_eq!(cells(&inputs, 2), [Cell::Float(1.0), Cell::Float(2.5), Cell::Null, Cell::Null]);
    assert_eq!(cells(&inputs, 3), [Cell::Boolean(true), Cell::Boolean(false), Cell::Null, Cell::Null]);
    assert_eq!(cells(&inputs, 5), [text("01234"), text("99999"), Cell::Null, Cell::Null]);
    assert_eq!(cells(&inputs, 7)[3], Cell::Integer(12));
    assert_eq!(inputs.item(3).bytes, None);
    // Another list makes the column text, all values as they were written.
    let inputs = files.list(&["a.csv", "c.csv"]).unwrap();
    assert_eq!(columns(&inputs)[1], ("n", Text));
    assert_eq!(cells(&inputs, 1), [text("1"), Cell::Null, text("three")]);
}

#[test]
fn bad_lists_are_refused_with_their_line() {
    let files = Files::new(&[
        ("no.csv", "path,label\na.mp4,x\n"),
        ("empty.csv", "uri,label\na.mp4,x\n,y\n"),
        ("start.csv", "uri,start\na.mp4,1\n\"b\n.mp4\",0\nc.mp4,soon\n"),
        ("order.csv", "uri,start,end\na.mp4,2,1\n"),
        ("ragged.csv", "uri,label\na.mp4,x\nb.mp4\n"),
        ("twice.csv", "uri,x,x\na.mp4,1,2\n"),
        ("index.csv", ",uri,unnamed\n0,a.mp4,1\n"),
        ("bytes.csv", ""),
        ("no.jsonl", "{\"uri\": \"a\"}\n{\"file\": \"b\", \"x\": 1}\n"),
        ("bad.jsonl", "{\"uri\": \"a\"}\n\n[1]\n"),
        ("null.jsonl", "{\"uri\": null}\n"),
        ("bad.parquet", "PAR1"),
        ("id.csv", "uri,id\na.mp4,1\nb.mp4,\n"),
    ]);
    refused(files.list(&["no.csv"]), &["no.csv", "path, label", "--uri-column"]);
    refused(files.list(&["empty.csv"]), &["empty.csv, line 3"]);
    refused(files.list(&["start.csv"]), &["start.csv, line 5", "soon"]);
    refused(files.list(&["order.csv"]), &["order.csv, line 2", "[2, 1)"]);
    refused(files.list(&["ragged.csv"]), &["ragged.csv", "line: 3"]);
    refused(files.list(&["twice.csv"]), &["twice.csv", "\"x\""]);
    refused(files.list(&["index.csv"]), &["index.csv", "unnamed"]);
    refused(files.list(&["bytes.csv"]), &["bytes.csv", "uri"]);
    refused(files.list(&["no.jsonl"]), &["no.jsonl, line 2", "file, x", "--uri-column"]);
    refused(files.list(&["bad.jsonl"]), &["bad.jsonl, line 3"]);
    refused(files.list(&["null.jsonl"]), &["null.jsonl, line 1", "empty"]);
    refused(files.list(&["bad.parquet"]), &["bad.parquet"]);
    let spec = InputSpec { id_column: Some("id".into()), ..files.spec(&["id.csv"]) };
    refused(list(&spec, 0, None), &["id.csv, line 3"]);
    let spec = InputSpec { uri_column: "path".into(), ..files.spec(&["no.csv"]) };
    let inputs = list(&spec, 0, None).unwrap();
    assert_eq!((files.names(&inputs), columns(&inputs)), (vec!["a.mp4".into()], vec![("label", ColumnType::Text)]));
}

#[test]
fn json_columns_have_the_types_of_their_values() {
    let files = Files::new(&[(
        "l.ndjson",
        "{\"uri\": \"a.mp4\", \"i\": 1, \"f\": 1, \"b\": true, \"m\": 1, \"t\": \"5\", \"n\": {\"y\": [1, null], \"x\": 2.0}}\n\
         {\"f\": 0.1, \"uri\": \"b.mp4\", \"m\": \"x\", \"i\": null, \"big\": 18446744073709551615, \"t\": \"\"}\n",
    )]);
    let inputs = files.list(&["l.ndjson"]).unwrap();
    use ColumnType::*;
    let expected = [("i", Integer), ("f", Float), ("b", Boolean), ("m", Text), ("t", Text), ("n", Text), ("big", Text)];
    assert_eq!(columns(&inputs), expected);
    let a = [
        Cell::Integer(1),
        Cell::Float(1.0),
        Cell::Boolean(true),
        text("1"),
        text("5"),
        text("{\"y\":[1,null],\"x\":2.0}"),
    ];
    assert_eq!(inputs.item(0).cells[..6], a);
    assert_eq!(inputs.item(0).cells[6], Cell::Null);
    let b = [Cell::Null, Cell::Float(0.1), Cell::Null, text("x"), text(""), Cell::Null, text("18446744073709551615")];
    assert_eq!(inputs.item(1).cells, b);
}

#[test]
fn parquet_columns_keep_their_types() {
    let nested = StructArray::from(vec![(
        Arc::new(ArrowField::new("x", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
    )]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let dictionary: DictionaryArray<Int32Type> = ["red", "blue"].into_iter().collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("uri", Arc::new(StringArray::from(vec!["a.mp4", "/b.mp4"])) as ArrayRef, true),
        ("i", Arc::new(Int32Array::from(vec![Some(1), None])), true),
        ("u", Arc::new(UInt64Array::from(vec![7, u64::MAX])), true),
        ("f", Arc::new(Float64Array::from(vec![0.1, f64::INFINITY])), true),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None])), true),
        ("none", Arc::new(Int32Array::from(vec![None, None])), true),
        ("colour", Arc::new(dictionary), true),
        ("day", Arc::new(Date32Array::from(vec![0, 19_000])), true),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0]).with_timezone("Europe/Paris")), true),
        ("raw", Arc::new(BinaryArray::from(vec![b"text".as_slice(), b"\xFF\x00"])), true),
        ("nested", Arc::new(nested), true),
        ("list", Arc::new(lists), true),
        ("start", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None])), true),
    ])
    .unwrap();
    let files = Files::new(&[("more.csv", "uri,f\nc.mp4,2\n")]);
    let mut writer =
        ArrowWriter::try_new(File::create(files.path("l.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let inputs = files.list(&["l.parquet", "more.csv"]).unwrap();
    use ColumnType::*;
    let kinds = [
        ("i", Integer),
        ("u", Text),
        ("f", Float),
        ("b", Boolean),
        ("none", Integer),
        ("colour", Text),
        ("day", Text),
        ("at", Text),
        ("raw", Text),
        ("nested", Text),
        ("list", Text),
    ];
    assert_eq!(columns(&inputs), kinds);
    assert_eq!(files.names(&inputs), ["a.mp4", "/b.mp4", "c.mp4"]);
    let first = [
        Cell::Integer(1),
        text("7"),
        Cell::Float(0.1),
        Cell::Boolean(true),
        Cell::Null,
        text("red"),
        text("1970-01-01"),
        text("1970-01-01T00:00:01.500Z"),
        text("text"),
        text("{\"x\":1}"),
        text("[1,null]"),
    ];
    assert_eq!(inputs.item(0).cells, first);
    let second = inputs.item(1).cells;
    assert_eq!((&second[1], &second[2]), (&text("18446744073709551615"), &Cell::Float(f64::INFINITY)));
    assert_eq!((&second[8], &second[9], &second[10]), (&text("ff00"), &text("{\"x\":null}"), &Cell::Null));
    assert_eq!(inputs.item(2).cells[2], Cell::Float(2.0));
    // Sums of floats are rounded to nanoseconds.
    assert_eq!(inputs.item(0).start, Rational::new(3, 10));
}

#[test]
fn parts_belong_to_the_identity() {
    let files = Files::new(&[(
        "l.csv",
        "uri,start,end,x\na.mp4,,,1\na.mp4,0,10,2\na.mp4,10,,3\na.mp4,0:10,,4\na.mp4,10.0,20s,5\n",
    )]);
    let inputs = files.list(&["l.csv"]).unwrap();
    assert_eq!(inputs.counts, Counts { listed: 5, ignored: 0, duplicates: 1 });
    assert_eq!(columns(&inputs), [("x", ColumnType::Integer)]);
    assert_eq!(cells(&inputs, 0), [1, 2, 3, 5].map(Cell::Integer));
    let part = |i: usize| (inputs.item(i).start, inputs.item(i).end);
    let s = |n| Rational::new(n, 1);
    assert_eq!([part(0), part(1), part(2), part(3)], [(None, None), (s(0), s(10)), (s(10), None), (s(10), s(20))]);
}

#[test]
fn ids_identify_and_stay_columns() {
    let files = Files::new(&[
        ("l.csv", "uri,id\na.mp4,x\nb.mp4,7\n"),
        ("j.jsonl", "{\"uri\": \"c.mp4\", \"id\": 8}\n{\"uri\": \"d.mp4\"}\n"),
        ("clash.csv", "uri,id\na.mp4,x\nother.mp4,x\n"),
        ("e.mp4", ""),
    ]);
    let spec = |names: &[&str]| InputSpec { id_column: Some("id".into()), ..files.spec(names) };
    let inputs = list(&spec(&["l.csv", "j.jsonl", "e.mp4"]), 0, None).unwrap();
    assert_eq!(columns(&inputs), [("id", ColumnType::Text)]);
    assert_eq!(cells(&inputs, 0), [text("x"), text("7"), text("8"), Cell::Null, Cell::Null]);
    // printf x | sha256sum
    assert_eq!(inputs.identity(0), 0x2d71_1642_b726_b044);
    let plain = files.list(&["j.jsonl", "e.mp4"]).unwrap();
    assert_ne!(inputs.identity(2), plain.identity(0));
    assert_eq!((inputs.identity(3), inputs.identity(4)), (plain.identity(1), plain.identity(2)));
    refused(list(&spec(&["clash.csv"]), 0, None), &["a.mp4", "other.mp4", "2d711642b726b044"]);
    refused(list(&spec(&["e.mp4"]), 0, None), &["--id-column id"]);
    // An id needs no root above its URI.
    let rooted = InputSpec { root: Some("/elsewhere".into()), ..spec(&["l.csv"]) };
    assert_eq!(list(&rooted, 0, None).unwrap().identity(0), inputs.identity(0));
}

#[test]
fn the_same_input_twice_is_taken_once() {
    let files =
        Files::new(&[("d/a.mp4", ""), ("d/b.mp4", ""), ("l.txt", "d/b.mp4\nd/./a.mp4\nd/c.mp4\nd/x/../a.mp4\n")]);
    let mut spec = files.spec(&["d", "l.txt", "d/a.mp4"]);
    spec.uri.push(format!("file://{}?v=2", files.uri("d/b.mp4")));
    let inputs = list(&spec, 0, None).unwrap();
    assert_eq!(files.names(&inputs), ["d/a.mp4", "d/b.mp4", "d/c.mp4"]);
    assert_eq!(inputs.counts, Counts { listed: 8, ignored: 0, duplicates: 5 });
}

#[test]
fn roots_make_datasets_movable() {
    let identities = |files: &Files, root: Option<String>| {
        let inputs = list(&InputSpec { root, ..files.spec(&["d"]) }, 0, None)?;
        Ok((0..inputs.len()).map(|i| inputs.identity(i)).collect::<Vec<_>>())
    };
    let make = || Files::new(&[("d/a.mp4", ""), ("d/s/b.mp4", "")]);
    let (here, there) = (make(), make());
    assert_ne!(identities(&here, None).unwrap(), identities(&there, None).unwrap());
    assert_eq!(
        identities(&here, Some(here.uri(""))).unwrap(),
        identities(&there, Some(format!("file://{}", there.uri("")))).unwrap()
    );
    refused(identities(&here, Some(here.uri("d/s"))), &["a.mp4", "--root"]);
}

#[test]
fn fields_need_their_column() {
    let files = Files::new(&[("l.csv", "uri,label,start\na.mp4,x,1\n"), ("none.csv", "uri\n")]);
    let spec = |field: &str, list: &str| InputSpec { field: vec![field.parse().unwrap()], ..files.spec(&[list]) };
    assert_eq!(list(&spec("label=cls", "l.csv"), 0, None).unwrap().len(), 1);
    refused(list(&spec("lable=cls", "l.csv"), 0, None), &["lable=cls", "label"]);
    refused(list(&spec("start=txt", "l.csv"), 0, None), &["start"]);
    assert!(list(&spec("label=cls", "none.csv"), 0, None).unwrap().is_empty());
}

#[test]
fn order_depends_on_seed_and_identity_alone() {
    let files = Files::new(&[("l.txt", &(0..100).map(|i| format!("{i}.mp4\n")).collect::<String>())]);
    let reversed: String = (0..120).rev().map(|i| format!("{i}.mp4\n")).collect();
    fs::write(files.path("r.txt"), reversed).unwrap();
    let names = |list_name: &str, seed: u64, shuffle: bool, limit: Option<u64>| {
        let spec = InputSpec { shuffle, limit, ..files.spec(&[list_name]) };
        files.names(&list(&spec, seed, None).unwrap())
    };
    let given: Vec<String> = (0..100).map(|i| format!("{i}.mp4")).collect();
    assert_eq!(names("l.txt", 1, false, None), given);
    assert_eq!(names("l.txt", 1, false, Some(3)), given[..3]);
    let shuffled = names("l.txt", 1, true, None);
    assert_ne!(shuffled, given);
    assert_ne!(shuffled, names("l.txt", 2, true, None));
    assert_eq!(shuffled[..7], names("l.txt", 1, true, Some(7)));
    assert_eq!(shuffled.len(), names("l.txt", 1, true, Some(1000)).len());
    let mut more = names("r.txt", 1, true, None);
    assert_eq!(more.len(), 120);
    more.retain(|name| given.contains(name));
    assert_eq!(more, shuffled);
}

#[test]
fn opening_tells_why_not() {
    let files = Files::new(&[("a.mp4", "abc"), ("d/x", "")]);
    assert_eq!(open(&files.uri("a.mp4")).unwrap().read_all().unwrap(), b"abc");
    assert_eq!(open(&format!("file://{}?v=1", files.uri("a.mp4"))).unwrap().len(), 3);
    let long = "x".repeat(300);
    for (name, kind) in [
        ("none.mp4", RejectKind::Missing),
        ("a.mp4/x", RejectKind::Missing),
        (long.as_str(), RejectKind::Missing),
        ("nul\0", RejectKind::Missing),
        ("d", RejectKind::NotMedia),
    ] {
        let error = open(&files.uri(name)).err().unwrap();
        assert_eq!(error.reject, Some(kind), "{error}");
        assert!(error.message.contains(name));
    }
    assert_eq!(open("/dev/null").err().unwrap().reject, Some(RejectKind::NotMedia));
    let error = open("ftp://b/x").err().unwrap();
    assert_eq!(error.reject, Some(RejectKind::Unsupported));
    assert!(error.message.contains("ftp://b/x") && error.message.contains("s3://"), "{error}");
}

#[test]
fn parts_of_one_file_share_its_split() {
    let rows: String = (0..40).map(|i| format!("{}.mp4,{},{}\n", i / 4, i % 4, i % 4 + 1)).collect();
    let files = Files::new(&[("l.csv", &format!("uri,start,end\n{rows}")), ("whole.txt", "0.mp4\n1.mp4\n2.mp4\n")]);
    let split = parse_splits("a=0.5,b=0.5").unwrap();
    let splits = |name: &str| -> Vec<(String, u64, Option<usize>)> {
        let inputs = list(&InputSpec { split: split.clone(), ..files.spec(&[name]) }, 0, None).unwrap();
        (0..inputs.len()).map(|i| inputs.item(i)).map(|item| (item.uri, item.identity, item.split)).collect()
    };
    let parts = splits("l.csv");
    assert!(parts.chunks(4).all(|of_one| of_one.iter().all(|p| p.2 == of_one[0].2 && p.0 == of_one[0].0)));
    // Both splits are there, and the identities alone would have torn the parts apart.
    assert!(parts.iter().any(|p| p.2 != parts[0].2));
    let splitter = spec::Splitter::new(&split);
    assert!(parts.iter().any(|p| splitter.split(p.1) != p.2));
    for (uri, _, split) in splits("whole.txt") {
        assert!(parts.iter().filter(|p| p.0 == uri).all(|p| p.2 == split), "the whole file goes with its parts");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// An input keeps its split whatever stands beside it, in whatever order and with whatever seed.
    #[test]
    fn splits_are_stable(
        names in proptest::collection::btree_set("[a-z]{1,6}", 1..40),
        keep in proptest::collection::vec(any::<bool>(), 40),
        seed: u64,
    ) {
        let files = Files::new(&[]);
        let write = |name: &str, names: &[&String]| {
            fs::write(files.path(name), names.iter().map(|n| format!("{n}.mp4\n")).collect::<String>()).unwrap();
        };
        let all: Vec<&String> = names.iter().collect();
        let some: Vec<&String> = names.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(n, _)| n).rev().collect();
        write("all.txt", &all);
        write("some.txt", &some);
        let splits = |name: &str, seed: u64, shuffle: bool| -> HashMap<String, Option<usize>> {
            let split = parse_splits("train=0.6,val=0.3,test=0.1").unwrap();
            let inputs = list(&InputSpec { shuffle, split, ..files.spec(&[name]) }, seed, None).unwrap();
            (0..inputs.len()).map(|i| inputs.item(i)).map(|item| (item.uri, item.split)).collect()
        };
        let (of_all, of_some) = (splits("all.txt", 0, false), splits("some.txt", seed, true));
        prop_assert_eq!(of_some.len(), some.len());
        prop_assert!(of_all.values().all(|split| split.is_some_and(|i| i < 3)));
        prop_assert!(of_some.iter().all(|(uri, split)| of_all[uri] == *split));
    }

    /// No list content panics, whatever it is called.
    #[test]
    fn any_content_is_listed_or_refused(content: Vec<u8>, form in 0usize..5) {
        let files = Files::new(&[]);
        let name = ["l.txt", "l.csv", "l.tsv", "l.jsonl", "l.parquet"][form];
        fs::write(files.path(name), content).unwrap();
        if let Err(error) = files.list(&[name]) {
            prop_assert_eq!(error.exit_code(), 2);
        }
    }
}

/// 10 million rows with `FRAMEMILL_TEST_FULL=1`, fewer without, for the usual run to stay quick.
#[test]
fn ten_million_rows() {
    let full = std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|value| value == "1");
    let rows: usize = if full { 10_000_000 } else { 200_000 };
    let files = Files::new(&[]);
    let mut out = BufWriter::new(File::create(files.path("l.csv")).unwrap());
    writeln!(out, "uri,label,width,score,keep").unwrap();
    for i in 0..rows {
        let (a, b) = (i % 1000, i / 1000);
        writeln!(out, "/data/videos/part-{a:04}/clip-{b:08}.mp4,class-{},{i},0.{i},true", i % 97).unwrap();
    }
    out.flush().unwrap();
    let split = parse_splits("train=0.9,val=0.1").unwrap();
    let spec = InputSpec { shuffle: true, split, ..files.spec(&["l.csv"]) };
    let start = std::time::Instant::now();
    let inputs = list(&spec, 7, None).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let per_row = inputs.heap_bytes() / rows;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{rows} rows: {seconds:.1} s, {per_row} bytes a row held, this process {peak}");
    assert_eq!((inputs.len(), inputs.counts.listed), (rows, rows as u64));
    assert_eq!(inputs.item(rows - 1).cells.len(), 4);
    assert!(per_row < 160, "{per_row} bytes a row");
}
