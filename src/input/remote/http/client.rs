//! Requests: few at a time to a host, with limits on time and redirects, and what their failures mean.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{IF_MATCH, RANGE};
use reqwest::{Response, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::super::spec::{Http, OptOut};
use super::super::room::Room;
use crate::error::{Error, Result};
use crate::store::cloud::{Settings, USER_AGENT, jittered, redacted};

/// Redirects that are followed, at most.
const REDIRECTS: usize = 8;
/// Tries that come to nothing, in a row.
const TRIES: u32 = 5;
/// The first pause; each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why a try came to nothing.
pub(in super::super) enum Stop {
    /// For good.
    Final(Error),
    /// It may go better another time.
    Again(Why),
    /// The server does not like being asked for a part.
    NoRanges,
    /// It gives no parts, so all of it has to be on disk, so many bytes if that is said: there must be room first.
    Whole(Option<u64>),
}

/// What went wrong for now.
pub(in super::super) struct Why {
    text: String,
    /// When the server wants to be asked again.
    after: Option<Duration>,
}

impl Why {
    pub fn broken() -> Self {
        Why { text: "the connection broke".into(), after: None }
    }

    pub fn busy(status: u16, after: Option<Duration>) -> Self {
        Why { text: format!("the server answers HTTP {status}"), after }
    }

    fn transport(error: &reqwest::Error) -> Self {
        let what = match error {
            e if e.is_timeout() => "no answer in time",
            e if e.is_connect() => "no connection",
            _ => "the connection broke",
        };
        let mut inner: &dyn std::error::Error = error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        Why { text: format!("{what} ({})", redacted(&inner.to_string())), after: None }
    }
}

/// What all requests share.
pub(super) struct Inner {
    client: reqwest::Client,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    per_host: usize,
    patience: Duration,
    /// Most bytes of a body.
    pub max_bytes: u64,
    /// Whether opting out is heeded.
    pub honour: bool,
    /// Room for bodies that have to be whole on disk.
    pub room: Room,
}

struct Host {
    permits: Arc<Semaphore>,
    /// Not to be asked before.
    quiet: Mutex<Instant>,
}

impl Inner {
    pub fn new(settings: &Settings, http: &Http, room: Room) -> Result<Self> {
        let timeout = Duration::from_secs(settings.timeout_seconds);
        // Its first use makes TLS ready.
        crate::store::cloud::wait(async {});
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::custom(follow))
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .read_timeout(timeout)
            // A body that trickles is no body either.
            .timeout(timeout * 20)
            .pool_max_idle_per_host(http.per_host as usize)
            .build()
            .map_err(|e| Error::unavailable(format!("HTTP cannot be spoken here: {}", redacted(&e.to_string()))))?;
        Ok(Inner {
            client,
            hosts: Mutex::default(),
            per_host: http.per_host as usize,
            patience: Duration::from_secs(settings.retry_seconds),
            max_bytes: http.max_bytes.0,
            honour: http.opt_out == OptOut::Honour,
            room,
        })
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0));
        let host = hosts.entry(name).or_insert_with(|| {
            let permits = Arc::new(Semaphore::new(self.per_host));
            Arc::new(Host { permits, quiet: Mutex::new(Instant::now()) })
        });
        host.clone()
    }

    /// Asks for a part of `url`, or for all of it, when its turn comes.
    pub async fn ask(&self, url: &Url, range: Option<Range<u64>>, etag: Option<&str>) -> Result<Asked, Stop> {
        let host = self.host(url);
        let permit = host.permits.clone().acquire_owned().await.map_err(|_| Stop::Again(Why::broken()))?;
        let quiet = *host.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep_until(quiet.into()).await;
        let mut request = self.client.get(url.clone());
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, etag);
        }
        match request.send().await {
            Ok(response) => Ok(Asked { response, _permit: permit, held: None }),
            Err(error) if error.is_redirect() || error.is_builder() => {
                let mut inner: &dyn std::error::Error = &error;
                while let Some(source) = inner.source() {
                    inner = source;
                }
                let text = format!("{}: {}", redacted(url.as_str()), redacted(&inner.to_string()));
                Err(Stop::Final(Error::input(crate::error::RejectKind::Missing, text)))
            }
            Err(error) => Err(Stop::Again(Why::transport(&error))),
        }
    }
}

/// Follows a redirect unless there were many, or it leads from outside into the machine's own network.
fn follow(attempt: redirect::Attempt) -> redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("more than {REDIRECTS} redirects"));
    }
    let from_inside = attempt.previous().first().is_some_and(is_inside);
    if is_inside(attempt.url()) && !from_inside {
        return attempt.error("it redirects into this machine's own network");
    }
    attempt.follow()
}

/// Whether `url` names a place that only this machine or its network can mean.
fn is_inside(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// An answer that is being read.
pub(in super::super) struct Asked {
    response: Response,
    _permit: OwnedSemaphorePermit,
    /// Bytes that came beyond what was wanted.
    held: Option<bytes::Bytes>,
}

impl Asked {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).next().map(Into::into)
    }

    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.response.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// Length of the body, if it is said.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Size of the whole, of which this is a part.
    pub fn total(&self) -> Option<u64> {
        self.header("content-range")?.rsplit_once('/')?.1.trim().parse().ok()
    }

    /// The pause that the server asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Stop> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        self.response.chunk().await.map_err(|e| Stop::Again(Why::transport(&e)))
    }

    /// Appends up to `limit` bytes of the body.
    pub async fn read(&mut self, out: &mut Vec<u8>, limit: u64) -> Result<(), Stop> {
        let end = out.len() + limit as usize;
        while out.len() < end
            && let Some(mut chunk) = self.chunk().await?
        {
            if chunk.len() > end - out.len() {
                self.held = Some(chunk.split_off(end - out.len()));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Whether nothing more comes.
    pub async fn ended(&mut self) -> Result<bool, Stop> {
        self.held = self.chunk().await?;
        Ok(self.held.is_none())
    }
}

/// How long something is tried.
pub(super) struct Patience {
    inner: Arc<Inner>,
    since: Instant,
    tries: u32,
}

impl Patience {
    pub fn new(inner: &Arc<Inner>) -> Self {
        Patience { inner: inner.clone(), since: Instant::now(), tries: 0 }
    }

    /// Waits before the next try. The error says why there is none.
    pub async fn pause(&mut self, url: &Url, why: Why) -> Result<(), String> {
        self.tries += 1;
        let left = self.inner.patience.saturating_sub(self.since.elapsed());
        let pause = match why.after {
            Some(after) => after,
            None if self.tries >= TRIES => return Err(format!("{}, {TRIES} times", why.text)),
            None => jittered(due(self.tries)),
        };
        if pause >= left {
            return Err(format!("{}, and it may not be asked again in time (retry_seconds)", why.text));
        }
        if why.after.is_some() {
            // It is the host that is busy, not this one file.
            let until = Instant::now() + pause;
            let host = self.inner.host(url);
            let mut quiet = host.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            *quiet = (*quiet).max(until);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// What is due after so many tries.
fn due(tries: u32) -> Duration {
    (PAUSE * 2u32.pow(tries.clamp(1, 10) - 1)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!([1, 2, 3].map(due), [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert_eq!(due(1000), LONGEST_PAUSE);
    }

    #[test]
    fn own_addresses_are_told_from_public_ones() {
        let inside = |url: &str| is_inside(&Url::parse(url).unwrap());
        for url in [
            "http://127.0.0.1/x",
            "http://localhost:80",
            "http://a.localhost",
            "http://10.1.2.3",
            "http://192.168.0.1",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://[fd00:ec2::254]/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(inside(url), "{url}");
        }
        for url in ["https://example.com", "http://8.8.8.8", "http://[2001:4860::8888]/"] {
            assert!(!inside(url), "{url}");
        }
    }
}
