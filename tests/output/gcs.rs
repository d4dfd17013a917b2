//! A server in memory that speaks Google Cloud Storage's XML API as its documents say: generations, their preconditions,
//! copies, uploads in parts, listings in pages.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::server::{Answer, Request, Server};

/// Names in one page of a listing.
const PAGE: usize = 5;

#[derive(Default)]
struct Bucket {
    /// Content with its generation.
    objects: BTreeMap<String, (u64, Vec<u8>)>,
    /// Parts of uploads by number.
    uploads: HashMap<String, BTreeMap<u32, Vec<u8>>>,
}

/// The server, with its one bucket `media`.
pub struct Google {
    pub server: Server,
    bucket: Arc<Mutex<Bucket>>,
    /// Whether it heeds preconditions, as a store must.
    pub careful: Arc<AtomicBool>,
    /// Copies that were made.
    pub copies: Arc<AtomicU64>,
}

impl Google {
    pub fn start() -> Google {
        let (bucket, careful) = (Arc::new(Mutex::new(Bucket::default())), Arc::new(AtomicBool::new(true)));
        let (copies, asked) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
        let (of, heeds, copied) = (bucket.clone(), careful.clone(), copies.clone());
        let server = Server::start(move |request| {
            // Busy now and then.
            if asked.fetch_add(1, Ordering::Relaxed) % 17 == 5 {
                return Answer::status(503);
            }
            of.lock().unwrap().answer(request, heeds.load(Ordering::Relaxed), &copied)
        });
        Google { server, bucket, careful, copies }
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        self.bucket.lock().unwrap().write(name, content.to_vec());
    }

    /// Digests of all objects below a prefix but reports, by their names below it.
    pub fn digests(&self, prefix: &str) -> BTreeMap<String, String> {
        let bucket = self.bucket.lock().unwrap();
        let below = bucket.objects.iter().filter_map(|(name, object)| Some((name.strip_prefix(prefix)?, object)));
        let kept = below.filter(|(name, _)| !name.starts_with("_framemill/reports/"));
        let digest = |content: &[u8]| Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
        kept.map(|(name, (_, content))| (name.to_string(), digest(content))).collect()
    }
}

impl Bucket {
    fn write(&mut self, name: &str, content: Vec<u8>) -> u64 {
        static GENERATION: AtomicU64 = AtomicU64::new(1_700_000_000_000_000);
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        self.objects.insert(name.to_string(), (generation, content));
        generation
    }

    fn answer(&mut self, request: &Request, careful: bool, copies: &AtomicU64) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let query: HashMap<String, String> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        let path = decoded(path);
        let (bucket, name) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        if bucket != "media" {
            return said(404, "<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist.</Message></Error>");
        }
        let upload = query.get("uploadId");
        match (request.method.as_str(), upload) {
            ("GET", _) if name.is_empty() => self.list(&query),
            ("GET" | "HEAD", _) => self.read(name, request),
            ("POST", None) => {
                let id = format!("upload{}/{name}", self.uploads.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                let text = format!(
                    "<InitiateMultipartUploadResult><Bucket>media</Bucket><Key>{name}</Key><UploadId>{id}</UploadId>\
                     </InitiateMultipartUploadResult>"
                );
                said(200, &text)
            }
            ("PUT", Some(id)) => {
                let number = query["partNumber"].parse().unwrap();
                let Some(parts) = self.uploads.get_mut(id) else { return Answer::status(404) };
                parts.insert(number, request.body.clone());
                Answer::status(200).with("ETag", &format!("\"part{number}\""))
            }
            ("POST", Some(id)) => {
                let Some(parts) = self.uploads.remove(id) else { return Answer::status(404) };
                let generation = self.write(name, parts.into_values().flatten().collect());
                let text = format!(
                    "<CompleteMultipartUploadResult><Bucket>media</Bucket><Key>{name}</Key><ETag>\"{generation}\"</ETag>\
                     </CompleteMultipartUploadResult>"
                );
                said(200, &text).with("x-goog-generation", &generation.to_string())
            }
            ("PUT", None) => self.put(name, request, careful, copies),
            ("DELETE", Some(id)) => Answer::status(if self.uploads.remove(id).is_some() { 204 } else { 404 }),
            ("DELETE", None) => Answer::status(if self.objects.remove(name).is_some() { 204 } else { 404 }),
            _ => Answer::status(405),
        }
    }

    fn put(&mut self, name: &str, request: &Request, careful: bool, copies: &AtomicU64) -> Answer {
        let there = self.objects.get(name).map_or(0, |(generation, _)| *generation);
        let wanted = request.headers.get("x-goog-if-generation-match").map(|text| text.parse::<u64>().unwrap());
        if careful && wanted.is_some_and(|wanted| wanted != there) {
            return said(412, "<Error><Code>PreconditionFailed</Code></Error>");
        }
        let Some(source) = request.headers.get("x-goog-copy-source") else {
            let generation = self.write(name, request.body.clone());
            return tagged(200, generation);
        };
        let source = decoded(source);
        let content = source.strip_prefix("media/").and_then(|source| self.objects.get(source)).cloned();
        let Some((_, content)) = content else { return Answer::status(404) };
        copies.fetch_add(1, Ordering::Relaxed);
        let generation = self.write(name, content);
        let mut answer = said(200, "<CopyObjectResult></CopyObjectResult>");
        answer.header("x-goog-generation", &generation.to_string());
        answer
    }

    fn read(&self, name: &str, request: &Request) -> Answer {
        let Some((generation, content)) = self.objects.get(name) else {
            return said(404, "<Error><Code>NoSuchKey</Code></Error>");
        };
        let etag = format!("\"{generation}\"");
        if request.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
            return Answer::status(412);
        }
        let mut answer = Answer::file(request, content);
        tagged(0, *generation).headers.iter().for_each(|(name, value)| answer.header(name, value));
        answer
    }

    fn list(&self, query: &HashMap<String, String>) -> Answer {
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let (prefix, delimiter) = (text("prefix"), text("delimiter"));
        let after = text("continuation-token").max(text("start-after"));
        let mut entries: BTreeMap<String, Option<(u64, usize)>> = BTreeMap::new();
        for (name, (generation, content)) in self.objects.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let rest = &name[prefix.len()..];
            match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
                Some(at) => entries.insert(format!("{prefix}{}", &rest[..at + delimiter.len()]), None),
                None => entries.insert(name.clone(), Some((*generation, content.len()))),
            };
        }
        let mut left = entries.into_iter().filter(|(name, _)| name.as_str() > after);
        let page: Vec<_> = left.by_ref().take(PAGE).collect();
        let mut body = String::from("<ListBucketResult>");
        for (name, object) in &page {
            body += &match object {
                Some((generation, size)) => format!(
                    "<Contents><Key>{}</Key><Generation>{generation}</Generation><LastModified>2026-11-28T00:00:00.000Z\
                     </LastModified><ETag>\"{generation}\"</ETag><Size>{size}</Size></Contents>",
                    escaped(name)
                ),
                None => format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(name)),
            };
        }
        if let (Some(_), Some((last, _))) = (left.next(), page.last()) {
            body += &format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                escaped(last)
            );
        }
        said(200, &(body + "</ListBucketResult>"))
    }
}

fn said(status: u16, xml: &str) -> Answer {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?>{xml}").into_bytes();
    Answer { body, ..Answer::status(status) }.with("Content-Type", "application/xml")
}

fn tagged(status: u16, generation: u64) -> Answer {
    Answer::status(status)
        .with("ETag", &format!("\"{generation}\""))
        .with("x-goog-generation", &generation.to_string())
        .with("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Without percent signs.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
                at += 3;
                continue;
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap()
}
