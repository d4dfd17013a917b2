//! Signals and notices that ask a run to stop, and what they come to while it plans.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::say;
use crate::error::{Error, Result};
use crate::job::JobFile;
use crate::notice::{self, Listening};
use crate::supervise::Requests;

/// How often it is looked whether planning is to end.
const TICK: Duration = Duration::from_millis(50);

/// Takes SIGINT, SIGTERM and the cloud's notices from now on, as long as the second lives.
pub fn requests(job: &JobFile) -> Result<(Arc<Requests>, Listening)> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let requests = Arc::new(Requests::default());
    let told = requests.clone();
    let failed = |e| Error::bug(format!("could not listen to signals: {e}"));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            told.signal(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
        }
    });
    let told = requests.clone();
    let listening = notice::listen(job.notice, job.notice_endpoint.as_deref(), move |notice| {
        tracing::warn!("this machine will be taken away ({notice}): no new task is begun");
        told.notice(&notice);
    })?;
    Ok((requests, listening))
}

/// While it lives nothing is begun, and a store or a server may keep this process waiting for long: a second signal ends it
/// at once, and the first one after the grace period.
pub struct Planning(Arc<Mutex<bool>>);

impl Planning {
    /// Begins it.
    pub fn begin(requests: &Arc<Requests>, job: &JobFile) -> Planning {
        let planning = Arc::new(Mutex::new(true));
        let (goes_on, requests, grace) = (planning.clone(), requests.clone(), job.grace.as_f64().clamp(0.0, 1e9));
        std::thread::spawn(move || {
            let mut asked: Option<Instant> = None;
            loop {
                // Held while this process ends, so that nothing is begun meanwhile.
                let goes_on = goes_on.lock().unwrap_or_else(PoisonError::into_inner);
                if !*goes_on {
                    break;
                }
                if requests.by().is_some() {
                    asked.get_or_insert_with(Instant::now);
                }
                if requests.urgent() || asked.is_some_and(|asked| asked.elapsed().as_secs_f64() > grace) {
                    let error = interrupted(requests.by().unwrap_or_default());
                    say(&format!("framemill: {error}"));
                    std::process::exit(error.exit_code().into());
                }
                drop(goes_on);
                std::thread::sleep(TICK);
            }
        });
        Planning(planning)
    }
}

impl Drop for Planning {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Refuses to freeze a plan behind a request to stop.
pub fn go_on(requests: &Requests) -> Result<()> {
    requests.by().map_or(Ok(()), |by| Err(interrupted(by)))
}

fn interrupted(by: &str) -> Error {
    Error::interrupted(format!("interrupted by {by} while planning: no task was begun; run the same command again"))
}
