//! The page: one HTML file with its pictures in it, no script, and nothing that is fetched from elsewhere.

use std::fmt::Write;

use serde_json::Value;

use super::{QUALITY, Shown, Thumb, caption, marks};
use crate::error::Result;
use crate::sink::encode::{Encoding, encode};

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;background:#181818;color:#e0e0e0;margin:16px}\
h1{font-size:18px}main{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:20px;align-items:start}\
figure{margin:0}.p{position:relative;display:inline-block;max-width:100%}.p img{display:block;max-width:100%;height:auto}\
.p svg{position:absolute;inset:0;width:100%;height:100%}.p text{paint-order:stroke;stroke:#000}\
.f{background:#481818;padding:24px;overflow-wrap:anywhere}b,i{display:block;overflow-wrap:anywhere}i{font-style:normal;color:#909090}\
table{border-collapse:collapse;font-size:12px}td{vertical-align:top;padding:1px 8px 1px 0;overflow-wrap:anywhere}\
td:first-child{color:#909090;overflow-wrap:normal}summary{cursor:pointer;color:#909090}";

/// The whole file.
pub fn render(title: &str, shown: &[Shown]) -> Result<Vec<u8>> {
    let title = escaped(title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <main>\n"
    );
    for sample in shown {
        figure(&mut out, sample)?;
    }
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out.into_bytes())
}

fn figure(out: &mut String, sample: &Shown) -> Result<()> {
    let [source, key, facts] = caption(sample).map(|line| escaped(&line));
    out.push_str("<figure>\n");
    match &sample.picture {
        Ok(thumb) => picture(out, thumb, sample)?,
        Err(why) => out.push_str(&format!("<div class=\"f\">{}</div>\n", escaped(why))),
    }
    out.push_str(&format!(
        "<figcaption><b>{source}</b><i>{key}</i>{facts}\n<details><summary>record</summary><table>\n"
    ));
    for (name, value) in sample.record.as_object().into_iter().flatten() {
        out.push_str(&format!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(name), escaped(&plain(value))));
    }
    out.push_str("</table></details></figcaption>\n</figure>\n");
    Ok(())
}

fn picture(out: &mut String, thumb: &Thumb, sample: &Shown) -> Result<()> {
    let jpeg = encode(std::slice::from_ref(&thumb.pixels), false, &Encoding::Jpeg(QUALITY))?;
    let (w, h) = (thumb.pixels.width, thumb.pixels.height);
    let hover: Vec<String> = ["uri", "key", "time_s", "width", "height"]
        .into_iter()
        .filter_map(|name| sample.record.get(name).map(|value| format!("{name}: {}", plain(value))))
        .collect();
    let hover = escaped(&hover.join("\n"));
    out.push_str(&format!(
        "<div class=\"p\" title=\"{hover}\"><img width=\"{w}\" height=\"{h}\" alt=\"\" src=\"data:image/jpeg;base64,{}\">",
        base64(&jpeg)
    ));
    let marks = marks(&sample.record);
    if !marks.is_empty() {
        let (sample_w, sample_h) = thumb.sample;
        out.push_str(&format!("<svg viewBox=\"0 0 {sample_w} {sample_h}\" preserveAspectRatio=\"none\">"));
        // In pixels of the sample, as the boxes are.
        let letters = 12.0 * f64::from(sample_w) / f64::from(w);
        for mark in marks {
            let [x1, y1, x2, y2] = mark.corners;
            let [r, g, b] = mark.color;
            let label = escaped(&mark.label);
            // Writing to a string does not fail.
            if !mark.columns.is_empty() {
                let runs = mark.columns.iter().map(|[x, y, rows]| format!("M{x} {y}h1v{rows}h-1z"));
                let path: String = runs.collect();
                let _ = write!(out, "<path d=\"{path}\" fill=\"rgb({r},{g},{b})\" fill-opacity=\"0.5\"/>");
            }
            let base = if y1 > 1.5 * letters { y1 - 0.3 * letters } else { y1 + 1.1 * letters };
            let _ = write!(
                out,
                "<g><title>{label}</title><rect x=\"{x1}\" y=\"{y1}\" width=\"{}\" height=\"{}\" fill=\"none\" \
                 stroke=\"rgb({r},{g},{b})\" stroke-width=\"2\" vector-effect=\"non-scaling-stroke\" \
                 pointer-events=\"all\"/><text x=\"{x1}\" y=\"{base:.2}\" font-size=\"{letters:.2}\" \
                 stroke-width=\"{:.2}\" fill=\"rgb({r},{g},{b})\">{label}</text></g>",
                (x2 - x1).max(0.0),
                (y2 - y1).max(0.0),
                letters / 5.0
            );
        }
        out.push_str("</svg>");
    }
    out.push_str("</div>\n");
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Text as HTML, also within quotes. Control characters, which HTML forbids, become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain(&[0, 0]).take(3).fold(0u32, |bits, b| bits << 8 | u32::from(*b));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (n, expected) in vectors.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..n]), *expected);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "+//+");
    }

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(escaped("<a b=\"c\" d='e'>&\0"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\u{fffd}");
    }
}
