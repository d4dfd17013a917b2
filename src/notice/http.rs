//! As much of HTTP/1.1 as metadata services speak: one small request, one small answer, a limit on every wait.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Error, Result};

/// Where the three clouds have their metadata services.
pub const LINK_LOCAL: &str = "http://169.254.169.254";
/// How long connecting may take: what is there is on this very machine.
const CONNECT: Duration = Duration::from_secs(1);
/// More than any answer has.
const LARGEST: u64 = 1 << 18;

/// A server.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.name, self.port)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Its text.
    pub body: String,
}

impl Reply {
    /// The header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Host {
    /// The server of a URL as in `http://169.254.169.254` or `http://[fd00:ec2::254]:80`.
    pub fn parse(url: &str) -> Result<Host> {
        let wrong = || {
            // Neither a user before the host nor a query is for others to read.
            let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
            let rest = rest.split('?').next().unwrap_or_default();
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            Error::usage(format!("notice_endpoint: expected a URL as in http://127.0.0.1:8080, not `{scheme}{rest}`"))
        };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| wrong())?),
            _ => (rest, 80),
        };
        if name.is_empty() || name.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Host { name: name.into(), port })
    }

    /// Asks, and waits at most `patience` for each part of the answer.
    pub fn ask(&self, request: &str, headers: &[(&str, &str)], patience: Duration) -> io::Result<Reply> {
        let name = self.name.trim_start_matches('[').trim_end_matches(']');
        let address = (name, self.port).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::other("it has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(CONNECT))?;
        let mut text = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.name);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if request.starts_with("PUT ") {
            text += "Content-Length: 0\r\n";
        }
        stream.write_all((text + "\r\n").as_bytes())?;
        read(&mut BufReader::new(stream.take(LARGEST)))
    }
}

fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it answers no HTTP: {what}"));
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    };
    let first = line()?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| odd(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_string(), value.trim().to_string())),
            None if line.is_empty() => break,
            None => return Err(odd(&line)),
        }
    }
    let mut reply = Reply { status, headers, body: String::new() };
    let mut body = Vec::new();
    if reply.header("transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| odd("a chunk without a size"))?;
            if size == 0 {
                break;
            }
            from.by_ref().take(size).read_to_end(&mut body)?;
            from.read_line(&mut String::new())?;
        }
    } else {
        let length = reply.header("content-length").and_then(|l| l.parse().ok());
        from.by_ref().take(length.unwrap_or(LARGEST)).read_to_end(&mut body)?;
        if length.is_some_and(|l| l != body.len() as u64) {
            return Err(odd("the answer is cut off"));
        }
    }
    reply.body = String::from_utf8(body).map_err(|_| odd("the answer is no text"))?;
    Ok(reply)
}
