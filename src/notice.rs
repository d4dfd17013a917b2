//! Notices that a machine will be taken away, as clouds give them to their spot machines.
//!
//! Promises: a machine that is no cloud's is asked nothing; a cloud is asked on a thread of its own, over plain HTTP on
//! its link-local address, with a limit on every wait, so that nothing else is delayed; one that gives no answer is left
//! alone after a while; an answer that is not understood is no notice.

mod clouds;
mod http;

use std::fmt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use clouds::{Cloud, Session};
use http::Host;

/// How long a cloud may give no answer at all before it is left alone. Azure's service takes up to two minutes to start
/// when it is first asked.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time between two tries to find the cloud.
const SEARCH: Duration = Duration::from_secs(5);

/// Whose notices are listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The cloud's that this machine's firmware names; nobody's where it names none.
    #[default]
    Auto,
    /// EC2: spot interruptions and rebalance recommendations.
    Aws,
    /// Compute Engine: preemption.
    Gcp,
    /// Azure: scheduled events.
    Azure,
    /// Nobody's.
    None,
}

/// What a cloud has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which cloud.
    pub cloud: &'static str,
    /// Its own words.
    pub words: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cloud, self.words)
    }
}

/// A cloud is listened to as long as this lives.
#[derive(Debug)]
pub struct Listening {
    _end: Sender<()>,
}

/// Listens to `source`, at `endpoint` where it is given (a URL as in `http://127.0.0.1:8080`) instead of the cloud's own
/// address; with [`Source::Auto`] an endpoint is asked in every cloud's language. `heard` is called once, on another
/// thread, with the first notice.
///
/// # Errors
/// Usage, where the endpoint can be none.
pub fn listen(
    source: Source,
    endpoint: Option<&str>,
    heard: impl FnOnce(Notice) + Send + 'static,
) -> Result<Listening> {
    let host = Host::parse(endpoint.unwrap_or(http::LINK_LOCAL))?;
    let clouds = match source {
        Source::None => Vec::new(),
        Source::Auto if endpoint.is_some() => Cloud::ALL.to_vec(),
        Source::Auto => Cloud::here().into_iter().collect(),
        Source::Aws => vec![Cloud::Aws],
        Source::Gcp => vec![Cloud::Gcp],
        Source::Azure => vec![Cloud::Azure],
    };
    let (end, ended) = mpsc::channel();
    if !clouds.is_empty() {
        let body = move || follow(&clouds, &host, &ended, source == Source::Auto, heard);
        let started = std::thread::Builder::new().name("notice".into()).spawn(body);
        started.map_err(|e| Error::bug(format!("could not start a thread: {e}")))?;
    }
    Ok(Listening { _end: end })
}

/// False where nobody wants to hear any more.
fn wait(ended: &Receiver<()>, time: Duration) -> bool {
    ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}

fn follow(clouds: &[Cloud], host: &Host, ended: &Receiver<()>, guessed: bool, heard: impl FnOnce(Notice)) {
    let begun = Instant::now();
    let mut session = loop {
        let mut first = None;
        for cloud in clouds {
            match Session::begin(*cloud, host) {
                Ok(session) => {
                    first = Some(session);
                    break;
                }
                Err(why) => tracing::debug!("{cloud} gives no notices at {host}: {why}"),
            }
        }
        if let Some(session) = first {
            break session;
        }
        if begun.elapsed() > PATIENCE {
            let names = clouds.iter().map(Cloud::to_string).collect::<Vec<_>>().join(", ");
            let text = format!("no answer from {host}: notices of {names} are not listened to any more");
            if guessed {
                tracing::debug!("{text}")
            } else {
                tracing::warn!("{text}; --notice none asks for none")
            }
            return;
        }
        if !wait(ended, SEARCH) {
            return;
        }
    };
    tracing::debug!("listening to notices of {} at {host}", session.cloud());
    loop {
        match session.poll(host) {
            Ok(Some(notice)) => return heard(notice),
            Ok(None) => {}
            Err(why) => tracing::debug!("{} at {host}: {why}", session.cloud()),
        }
        if !wait(ended, session.every()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Pages = Arc<Mutex<Vec<(String, String)>>>;

    /// A server of `METHOD PATH` to what is answered, headers included; 404 for the rest.
    fn server(pages: &Pages) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, pages) = (listener.local_addr().unwrap(), pages.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                let headers: Vec<String> = lines.map_while(|l| l.ok().filter(|l| !l.is_empty())).collect();
                let asked = first.trim_end_matches(" HTTP/1.1");
                let pages = pages.lock().unwrap();
                let found = pages.iter().find(|(page, _)| page.split('|').next() == Some(asked));
                // What follows a bar is a header that must be there.
                let found = found.filter(|(page, _)| page.split('|').skip(1).all(|h| headers.iter().any(|g| g == h)));
                let (status, rest) =
                    found.map_or(("404 Not Found", "Content-Length: 0\r\n\r\n"), |(_, a)| ("200 OK", a));
                write!(stream, "HTTP/1.1 {status}\r\n{rest}").unwrap();
            }
        });
        format!("http://{address}")
    }

    fn plain(body: &str) -> String {
        format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }

    /// The notice that comes within some seconds.
    fn hear(source: Source, endpoint: &str, then: impl FnOnce()) -> Option<Notice> {
        let (send, receive) = mpsc::channel();
        let listening = listen(source, Some(endpoint), move |n| send.send(n).unwrap()).unwrap();
        then();
        let heard = receive.recv_timeout(Duration::from_secs(12)).ok();
        drop(listening);
        heard
    }

    const TOKEN: &str = "PUT /latest/api/token|X-aws-ec2-metadata-token-ttl-seconds: 21600";
    const ACTION: &str = "GET /latest/meta-data/spot/instance-action|X-aws-ec2-metadata-token: t0k";
    const REBALANCE: &str = "GET /latest/meta-data/events/recommendations/rebalance|X-aws-ec2-metadata-token: t0k";

    #[test]
    fn ec2_tells_interruptions_and_new_recommendations() {
        let action = plain(r#"{"action": "terminate", "time": "2026-11-27T18:00:00Z"}"#);
        let advice = plain(r#"{"noticeTime": "2026-11-27T17:58:00Z"}"#);
        let pages: Pages = Arc::new(Mutex::new(vec![(TOKEN.into(), plain("t0k")), (ACTION.into(), action.clone())]));
        let url = server(&pages);
        let notice = hear(Source::Auto, &url, || {}).unwrap();
        assert_eq!(notice.to_string(), "aws: spot instance-action terminate at 2026-11-27T18:00:00Z");

        // A recommendation that comes while we run counts; one that was there before does not, but an interruption does.
        pages.lock().unwrap().truncate(1);
        let later = pages.clone();
        let notice = hear(Source::Aws, &url, move || {
            std::thread::sleep(Duration::from_secs(1));
            later.lock().unwrap().push((REBALANCE.into(), advice));
        });
        assert_eq!(notice.unwrap().words, "rebalance recommendation of 2026-11-27T17:58:00Z");
        let later = pages.clone();
        let notice = hear(Source::Aws, &url, move || {
            std::thread::sleep(Duration::from_secs(1));
            later.lock().unwrap().push((ACTION.into(), action));
        });
        assert!(notice.unwrap().words.contains("instance-action"));
    }

    #[test]
    fn compute_engine_tells_preemption() {
        let page = "GET /computeMetadata/v1/instance/preempted|Metadata-Flavor: Google";
        let says = |word: &str| (page.to_string(), format!("Metadata-Flavor: Google\r\n{}", plain(word)));
        let pages: Pages = Arc::new(Mutex::new(vec![says("FALSE")]));
        let url = server(&pages);
        let later = pages.clone();
        let notice = hear(Source::Auto, &url, move || {
            std::thread::sleep(Duration::from_secs(1));
            later.lock().unwrap()[0] = says("TRUE\n");
        });
        assert_eq!(notice.unwrap().to_string(), "gcp: the instance is preempted");
        // Something else that answers there is not Google.
        pages.lock().unwrap()[0].1 = plain("TRUE");
        assert!(Session::begin(Cloud::Gcp, &Host::parse(&url).unwrap()).is_err());
    }

    #[test]
    fn azure_tells_events_of_this_machine_alone() {
        let event = |kind: &str, of: &str| {
            let event = serde_json::json!({ "EventId": "1", "EventType": kind, "Resources": [of], "EventStatus": "Scheduled",
                "NotBefore": "Fri, 27 Nov 2026 18:00:00 GMT" });
            let text = serde_json::json!({ "DocumentIncarnation": 1, "Events": [event] }).to_string();
            // As some of its servers answer.
            let (a, b) = text.split_at(10);
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len())
        };
        let name = "GET /metadata/instance/compute/name?api-version=2021-02-01&format=text|Metadata: true";
        let events = "GET /metadata/scheduledevents?api-version=2020-07-01|Metadata: true";
        let pages: Pages =
            Arc::new(Mutex::new(vec![(name.into(), plain("me_1")), (events.into(), event("Preempt", "me_2"))]));
        let url = server(&pages);
        let host = Host::parse(&url).unwrap();
        let mut session = Session::begin(Cloud::Azure, &host).unwrap();
        assert_eq!(session.poll(&host).unwrap(), None, "it is another machine's");
        pages.lock().unwrap()[1].1 = event("Freeze", "me_1");
        assert_eq!(session.poll(&host).unwrap(), None, "it will be there again");
        pages.lock().unwrap()[1].1 = event("Preempt", "me_1");
        let notice = hear(Source::Auto, &url, || {}).unwrap();
        assert_eq!(notice.to_string(), "azure: scheduled event Preempt, not before Fri, 27 Nov 2026 18:00:00 GMT");
    }

    #[test]
    fn nobody_is_asked_where_nobody_is_named() {
        let answer = listen(Source::Auto, None, |n| panic!("{n}")).unwrap();
        drop(answer);
        for bad in ["https://127.0.0.1", "127.0.0.1:80", "http://", "http://a/b", "http://a:b"] {
            let error = listen(Source::Aws, Some(bad), |_| {}).unwrap_err();
            assert!(error.exit_code() == 2 && error.message.contains("notice_endpoint"), "{bad}: {error}");
        }
        for bad in ["http://u:SECRET@host", "http://host/?sig=SECRET", "u:SECRET@host", "http://u?:SECRET@host"] {
            let error = listen(Source::Aws, Some(bad), |_| {}).unwrap_err();
            assert!(error.exit_code() == 2 && !error.message.contains("SECRET"), "{error}");
        }
        // Nobody listens at tcpmux.
        assert!(Session::begin(Cloud::Aws, &Host::parse("http://127.0.0.1:1").unwrap()).is_err());
    }
}
