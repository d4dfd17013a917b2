//! What `devices` says of decoders: codec by decoder, and what is missing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::decode::hardware;
use crate::decode::route::{EXACT, Kind};

/// The decoders that are there, and those that are not, with the reason.
pub fn found() -> (Vec<Value>, Vec<Value>) {
    let (mut there, mut missing) = (vec![json!({ "decoder": "software", "auto": true })], Vec::new());
    for kind in Kind::ALL {
        match hardware::find(kind) {
            Ok(h) => there.push(json!({
                "decoder": kind.name(),
                "device": h.name,
                "auto": h.not_by_itself.is_none(),
                "note": h.not_by_itself,
                "codecs": h.capabilities.as_ref().map(|all| all.iter().map(|c| json!({
                    "codec": c.codec,
                    "chroma": chroma(c.chroma),
                    "depth": c.depth,
                    "min": c.min,
                    "max": c.max,
                    "max_macroblocks": c.max_macroblocks,
                    "engines": c.engines,
                    "used": EXACT.contains(&c.codec),
                })).collect::<Vec<_>>()),
            })),
            Err(why) => missing.push(json!({ "what": format!("decoder {}", kind.name()), "why": why })),
        }
    }
    (there, missing)
}

/// How chroma subsampling is written.
fn chroma(sub: (u8, u8)) -> &'static str {
    match sub {
        (1, 1) => "4:2:0",
        (1, 0) => "4:2:2",
        _ => "4:4:4",
    }
}

/// The table for people: a line for each decoder, and below it one for each codec.
pub fn text(found: &Value) -> String {
    let mut out = String::new();
    for decoder in found.as_array().into_iter().flatten() {
        let word = |key: &str| decoder[key].as_str().unwrap_or_default();
        let note = [word("device"), word("note")].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join("; ");
        out += format!("decoder  {} {note}", word("decoder")).trim_end();
        out.push('\n');
        let mut codecs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for c in decoder["codecs"].as_array().into_iter().flatten() {
            let unused =
                if c["used"] == false { ", left to software: its standard does not bind every bit" } else { "" };
            let depth = format!(
                "{} {} bit up to {}x{} ({} engines{unused})",
                c["chroma"].as_str().unwrap_or_default(),
                c["depth"],
                c["max"][0],
                c["max"][1],
                c["engines"]
            );
            codecs.entry(c["codec"].as_str().unwrap_or_default()).or_default().push(depth);
        }
        for (codec, depths) in codecs {
            out += &format!("         {codec}: {}\n", depths.join(", "));
        }
    }
    out
}
