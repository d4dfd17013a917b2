//! A small HTTP server that does what it is told, and a real S3 server behind it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::python::python;

/// What came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub head: String,
    pub body: Vec<u8>,
    /// How many requests for the same target came before it.
    pub before: usize,
}

impl Request {
    /// First and last byte asked for.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (from, to) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }
}

/// What goes back.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection breaks behind so many bytes of the body.
    pub cut: Option<usize>,
    pub delay: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new(), cut: None, delay: Duration::ZERO }
    }

    /// A file, or the part of it that was asked for.
    pub fn file(request: &Request, data: &[u8]) -> Answer {
        match request.range() {
            Some((from, _)) if from >= data.len() => Answer::status(416),
            Some((from, to)) => {
                let to = to.min(data.len() - 1);
                let mut answer = Answer { body: data[from..=to].to_vec(), ..Answer::status(206) };
                answer.header("Content-Range", &format!("bytes {from}-{to}/{}", data.len()));
                answer
            }
            None => Answer { body: data.to_vec(), ..Answer::status(200) },
        }
    }

    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }

    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.header(name, value);
        self
    }

    fn write(&self, mut stream: &TcpStream, head_only: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", self.status);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if !head_only {
            stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())])?;
        }
        stream.flush()?;
        stream.shutdown(Shutdown::Both)
    }
}

/// What a server has seen.
#[derive(Default)]
pub struct Seen {
    requests: Mutex<Vec<Request>>,
    now: AtomicUsize,
    /// The most requests that were answered at the same time.
    pub most: AtomicUsize,
    /// Bytes of bodies that went back.
    pub sent: AtomicUsize,
}

impl Seen {
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
    /// Requests of a method for targets with `part` in them.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method && r.target.contains(part)).count()
    }
    pub fn clear(&self) {
        self.requests.lock().unwrap().clear();
        self.sent.store(0, Ordering::Relaxed);
    }
}

/// A server on loopback, until the process ends.
pub struct Server {
    pub port: u16,
    pub seen: Arc<Seen>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, answer) = (Arc::new(Seen::default()), Arc::new(answer));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream, &seen, &*answer));
            }
        });
        Server { port, seen }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(stream: &TcpStream, seen: &Seen, answer: &dyn Fn(&Request) -> Answer) {
    let Some(mut request) = read(stream) else { return };
    let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(now, Ordering::SeqCst);
    {
        let mut requests = seen.requests.lock().unwrap();
        request.before = requests.iter().filter(|r| r.target == request.target && r.method == request.method).count();
        requests.push(request.clone());
    }
    let answer = answer(&request);
    seen.sent.fetch_add(answer.body.len(), Ordering::Relaxed);
    std::thread::sleep(answer.delay);
    // Once the answer is out, the next request may come before this thread goes on.
    seen.now.fetch_sub(1, Ordering::SeqCst);
    // Whoever asked may have gone.
    let _ = answer.write(stream, request.method == "HEAD");
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut headers) = (String::new(), HashMap::new());
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
        head += &line;
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let length = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, head: format!("{first}{head}"), body, before: 0 })
}

/// Hands a request on to another server.
pub fn forward(port: u16, request: &Request) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let keep = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let head: String = request.head.lines().filter(keep).map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut answer = Answer::status(first.split_whitespace().nth(1).unwrap().parse().unwrap());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if !["connection", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
            answer.header(name, value.trim());
        }
    }
    if request.method != "HEAD" {
        reader.read_to_end(&mut answer.body).unwrap();
    }
    answer
}

/// A real S3 server (moto) with one bucket, `media`; ends with its handle.
pub struct S3 {
    _child: Child,
    pub port: u16,
}

/// A process that ends with its handle.
pub struct Child(pub std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl S3 {
    /// Starts one; says that the test is skipped where there is none.
    pub fn start() -> Option<S3> {
        let python = python()?;
        let found = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: this Python has no moto[server], the S3 server (scripts/test.sh installs it)");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let s3 = S3 { _child: Child(child), port };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                s3.put("", b"");
                return Some(s3);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("moto did not start");
    }

    /// Writes an object of the bucket; without a key, makes the bucket.
    pub fn put(&self, key: &str, body: &[u8]) {
        let target = if key.is_empty() { "/media".into() } else { format!("/media/{}", key.replace(' ', "%20")) };
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{SIGNED}Content-Length: {}\r\n",
            self.port,
            body.len()
        );
        let request =
            Request { method: "PUT".into(), target, headers: HashMap::new(), head, body: body.to_vec(), before: 0 };
        let answer = forward(self.port, &request);
        assert_eq!(answer.status, 200, "{key}: {}", String::from_utf8_lossy(&answer.body));
    }

    /// Writes every file of a folder below `prefix`.
    pub fn put_folder(&self, folder: &Path, prefix: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let key = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.put_folder(&path, &key);
            } else {
                self.put(&key, &std::fs::read(&path).unwrap());
            }
        }
    }
}

/// What moto wants to see before it lets anyone change an object; it does not look at the signature.
pub const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x\r\n";

/// The secret of the tests, which nothing may print.
pub const SECRET: &str = "t0psecret/never+shown";

/// The program with credentials for an S3 server at `port`, and no others.
pub fn program(port: u16) -> Command {
    let mut command = crate::support::program();
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.to_lowercase().ends_with("_proxy"))
    {
        command.env_remove(name);
    }
    command
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{port}"))
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
    command
}
