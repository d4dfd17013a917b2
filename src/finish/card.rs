//! The dataset's card, whose header is read by Hugging Face's `load_dataset`.

use super::{is_data, split_of};
use crate::job::JobFile;
use crate::op::Op;
use crate::plan::Plan;
use crate::sink::record::output_names;
use crate::sink::{Format, record};
use crate::task::Totals;

/// Types of a WebDataset's members for `load_dataset`, which otherwise guesses them from the first samples and fails
/// where a field is null there.
fn features(plan: &Plan, job: &JobFile) -> String {
    let encoding = job.output.encode.unwrap_or_default();
    let mut out = String::from("dataset_info:\n  features:\n  - name: __key__\n    dtype: string\n");
    out += "  - name: __url__\n    dtype: string\n";
    match encoding.container() {
        None => out += &format!("  - name: {}\n    dtype: image\n", encoding.ext()),
        // Arrays come as the reader decodes them; their types are not told here.
        Some(_) => return String::new(),
    }
    for field in &job.input.field {
        // What becomes of a field depends on its ending: left to the reader.
        if !["txt", "text"].contains(&field.ext.as_str()) {
            return String::new();
        }
        out += &format!("  - name: {}\n    dtype: string\n", field.ext);
    }
    out += "  - name: json\n    struct:\n";
    let mut member = |name: &str, kind: &str| out += &format!("    - name: {name}\n      {kind}\n");
    let random = job.ops.iter().any(Op::is_random);
    for name in record::field_names() {
        let kind = match name.as_str() {
            "augment" if random => return String::new(),
            "augment" => "dtype: 'null'",
            "bytes" | "pts" | "rotation" | "source_width" | "source_height" | "width" | "height" => "dtype: int64",
            "time_s" => "dtype: float64",
            "keyframe" => "dtype: bool",
            "color_assumed" => "list: string",
            "transform" => "list: float64",
            // They are structures, and null in part: left to the reader.
            "detections" if !job.detect.is_empty() => return String::new(),
            "detections" => "list: 'null'",
            _ => "dtype: string",
        };
        member(&name, kind);
    }
    for (name, column) in output_names(&plan.header.columns).iter().zip(&plan.header.columns) {
        let kind = match column.kind {
            record::ColumnType::Text => "dtype: string",
            record::ColumnType::Integer => "dtype: int64",
            record::ColumnType::Float => "dtype: float64",
            record::ColumnType::Boolean => "dtype: bool",
        };
        member(name, kind);
    }
    out
}

/// A dataset card whose header lets Hugging Face's `load_dataset` find the shards.
pub(super) fn card(plan: &Plan, job: &JobFile, totals: &Totals) -> String {
    let pattern = match job.output.format {
        Format::Webdataset => "shard-*.tar",
        Format::Images => "images/**",
        Format::Tensors => "shard-*.parquet",
    };
    let mut out = String::from("---\n");
    if totals.samples > 0 {
        out += "configs:\n- config_name: default\n  data_files:\n";
        if plan.header.splits.is_empty() {
            out += &format!("  - split: train\n    path: {pattern}\n");
        }
        for split in &plan.header.splits {
            let any = totals.objects().any(|o| is_data(o) && split_of(o, &plan.header.splits) == split);
            if any {
                out += &format!("  - split: {split}\n    path: {split}/{pattern}\n");
            }
        }
    }
    if totals.samples > 0 && job.output.format == Format::Webdataset {
        out += &features(plan, job);
    }
    out += "tags:\n- framemill\n---\n\n# Dataset\n\n";
    out += &format!(
        "{} samples from {} inputs ({} rejected), written by framemill {}.\n\n",
        totals.samples,
        totals.inputs,
        totals.rejected,
        env!("CARGO_PKG_VERSION")
    );
    if totals.frames.deinterlaced > 0 {
        out += &format!("{} frames were interlaced, and were deinterlaced.\n\n", totals.frames.deinterlaced);
    }
    out += &format!(
        "Fingerprint of the job: `{}`. Counts, schema and digests of the shards are in `dataset.json`; what was left out, \
         and why, is in `_framemill/rejects`.\n",
        plan.header.fingerprint
    );
    out
}
