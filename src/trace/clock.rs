//! The time of day of one run: the machine's clock as it was when the run began and, from there on, the monotonic one, which
//! nobody sets and all processes of a machine share. So a clock that jumps moves nothing in a timeline.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// By how many nanoseconds the time since the Unix epoch was ahead of the monotonic clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Clock(i64);

impl Default for Clock {
    /// By the machine's clock as it is now.
    fn default() -> Self {
        let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
        Clock(today - monotonic())
    }
}

impl Clock {
    /// Nanoseconds since the Unix epoch.
    pub fn now(self) -> u64 {
        (monotonic() + self.0).max(0) as u64
    }
}

fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time_of_day_and_never_runs_back() {
        let clock = Clock::default();
        let today = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (before, now, after) = (today(), clock.now(), today());
        let slack = 1_000_000_000;
        assert!(now + slack > before && now < after + slack, "{before} {now} {after}");
        // Another process that was told the same clock.
        let text = serde_json::to_string(&clock).unwrap();
        let told: Clock = serde_json::from_str(&text).unwrap();
        assert!(told.now() >= now && clock.now() >= told.now() - 1_000_000_000);
    }
}
