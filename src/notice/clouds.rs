//! What each cloud tells, and how it is asked. Sources: Amazon EC2 User Guide, Spot Instance interruption notices,
//! rebalance recommendations, IMDSv2; Google Compute Engine, Preemptible and Spot VMs, metadata server; Azure Scheduled
//! Events for Linux, Instance Metadata Service.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Notice;
use super::http::{Host, Reply};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// The same of Azure's events, which start their service when they are first asked for.
const SLOW: Duration = Duration::from_secs(125);
/// What Azure writes into the firmware of its machines.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";
/// What the firmware says of this machine.
const FIRMWARE: &str = "/sys/class/dmi/id";

/// A cloud that gives notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// EC2.
    Aws,
    /// Compute Engine.
    Gcp,
    /// Azure.
    Azure,
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Cloud {
    /// All of them.
    pub const ALL: [Cloud; 3] = [Cloud::Aws, Cloud::Gcp, Cloud::Azure];

    /// As in the job file.
    pub fn name(self) -> &'static str {
        match self {
            Cloud::Aws => "aws",
            Cloud::Gcp => "gcp",
            Cloud::Azure => "azure",
        }
    }

    /// Whose this machine is, as its firmware says.
    pub fn here() -> Option<Cloud> {
        Cloud::of(&|name| std::fs::read_to_string(Path::new(FIRMWARE).join(name)).unwrap_or_default())
    }

    fn of(word: &dyn Fn(&str) -> String) -> Option<Cloud> {
        let amazon = |name| word(name).to_ascii_lowercase().contains("amazon");
        if ["sys_vendor", "bios_vendor", "bios_version"].into_iter().any(amazon) {
            Some(Cloud::Aws)
        } else if word("product_name").trim() == "Google Compute Engine" {
            Some(Cloud::Gcp)
        } else if word("chassis_asset_tag").trim() == AZURE_CHASSIS {
            Some(Cloud::Azure)
        } else {
            None
        }
    }
}

/// A cloud that has answered.
#[derive(Debug)]
pub enum Session {
    /// With the token of its second version, and whether it had recommended to leave before we began. Who starts a run
    /// on a machine after that has decided to: such a recommendation would end every run at once.
    Aws { token: String, recommended: bool },
    /// Needs nothing more.
    Gcp,
    /// With the name of this machine.
    Azure { name: String },
}

impl Session {
    /// Makes sure that `cloud` is there.
    pub fn begin(cloud: Cloud, host: &Host) -> io::Result<Session> {
        match cloud {
            Cloud::Aws => {
                let token = token(host)?;
                let recommended = found(aws(host, REBALANCE, &token)?)?.is_some();
                Ok(Session::Aws { token, recommended })
            }
            Cloud::Gcp => preempted(host).map(|_| Session::Gcp),
            Cloud::Azure => {
                let name = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
                let reply = host.ask(&format!("GET {name}"), &[("Metadata", "true")], ANSWER)?;
                let name = found(reply)?.map(|r| r.body.trim().to_string()).filter(|name| !name.is_empty());
                Ok(Session::Azure { name: name.ok_or_else(|| odd("it does not tell this machine's name"))? })
            }
        }
    }

    /// Which one.
    pub fn cloud(&self) -> Cloud {
        match self {
            Session::Aws { .. } => Cloud::Aws,
            Session::Gcp => Cloud::Gcp,
            Session::Azure { .. } => Cloud::Azure,
        }
    }

    /// How often it is to be asked: EC2 gives two minutes and asks for five seconds; the others give half a minute.
    pub fn every(&self) -> Duration {
        Duration::from_secs(if self.cloud() == Cloud::Aws { 5 } else { 1 })
    }

    /// What it says now.
    pub fn poll(&mut self, host: &Host) -> io::Result<Option<Notice>> {
        let words = match self {
            Session::Aws { token, recommended } => interruption(host, token, *recommended)?,
            Session::Gcp => preempted(host)?.then(|| "the instance is preempted".to_string()),
            Session::Azure { name } => {
                let events = "GET /metadata/scheduledevents?api-version=2020-07-01";
                let reply = found(host.ask(events, &[("Metadata", "true")], SLOW)?)?;
                reply.and_then(|reply| eviction(&json(&reply.body), name))
            }
        };
        let cloud = self.cloud().name();
        Ok(words.map(|words| Notice { cloud, words }))
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("unknown")
}

/// An answer with content; `None` where there is nothing under that name.
fn found(reply: Reply) -> io::Result<Option<Reply>> {
    match reply.status {
        200 => Ok(Some(reply)),
        404 => Ok(None),
        status => Err(odd(&format!("it answers with status {status}"))),
    }
}

const ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";

fn token(host: &Host) -> io::Result<String> {
    let life = [("X-aws-ec2-metadata-token-ttl-seconds", "21600")];
    let reply = found(host.ask("PUT /latest/api/token", &life, ANSWER)?)?;
    reply.map(|reply| reply.body.trim().to_string()).ok_or_else(|| odd("it gives no tokens"))
}

fn aws(host: &Host, path: &str, token: &str) -> io::Result<Reply> {
    host.ask(&format!("GET {path}"), &[("X-aws-ec2-metadata-token", token)], ANSWER)
}

fn interruption(host: &Host, token: &mut String, recommended: bool) -> io::Result<Option<String>> {
    let mut reply = aws(host, ACTION, token)?;
    if reply.status == 401 {
        // Tokens live for six hours.
        *token = self::token(host)?;
        reply = aws(host, ACTION, token)?;
    }
    if let Some(reply) = found(reply)? {
        let action = json(&reply.body);
        return Ok(Some(format!("spot instance-action {} at {}", word(&action, "action"), word(&action, "time"))));
    }
    if recommended {
        return Ok(None);
    }
    let advice = found(aws(host, REBALANCE, token)?)?;
    Ok(advice.map(|advice| format!("rebalance recommendation of {}", word(&json(&advice.body), "noticeTime"))))
}

fn preempted(host: &Host) -> io::Result<bool> {
    let path = "GET /computeMetadata/v1/instance/preempted";
    let reply = found(host.ask(path, &[("Metadata-Flavor", "Google")], ANSWER)?)?;
    let reply = reply.filter(|reply| reply.header("metadata-flavor") == Some("Google"));
    Ok(reply.ok_or_else(|| odd("it is not Google's"))?.body.trim() == "TRUE")
}

/// The event that takes the machine `name` away for good. Others pause or restart it; their end is a signal.
fn eviction(events: &Value, name: &str) -> Option<String> {
    let mut events = events["Events"].as_array().into_iter().flatten();
    let ours = |event: &&Value| {
        let mut of = event["Resources"].as_array().into_iter().flatten();
        of.any(|resource| resource == name) && ["Preempt", "Terminate"].contains(&word(event, "EventType"))
    };
    let event = events.find(ours)?;
    let when = event["NotBefore"].as_str().filter(|when| !when.is_empty());
    // One that has begun has no time any more.
    let when = when.map_or("begun".to_string(), |when| format!("not before {when}"));
    Some(format!("scheduled event {}, {when}", word(event, "EventType")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_names_the_cloud() {
        let of = |name: &str, value: &str| {
            let (name, value) = (name.to_string(), value.to_string());
            Cloud::of(&move |asked| if asked == name { value.clone() } else { "QEMU".into() })
        };
        assert_eq!(of("sys_vendor", "Amazon EC2\n"), Some(Cloud::Aws));
        assert_eq!(of("bios_version", "4.11.amazon\n"), Some(Cloud::Aws));
        assert_eq!(of("product_name", "Google Compute Engine\n"), Some(Cloud::Gcp));
        assert_eq!(of("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n"), Some(Cloud::Azure));
        assert_eq!(of("sys_vendor", "Microsoft Corporation\n"), None, "so are Hyper-V's");
    }
}
