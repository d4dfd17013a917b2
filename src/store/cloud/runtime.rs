//! Where the clients run: a few threads that only wait, shared by the whole process and made when they are first needed.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Enough to sign, decrypt and copy for what a machine's network gives; waiting needs none.
const THREADS: usize = 4;

/// Time between two signs of life of who waits.
const TICK: Duration = Duration::from_millis(500);

/// Makes ring what TLS rests on in this process.
pub fn prepare_tls() {
    // The first that is installed stays; whoever was before us has one, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        prepare_tls();
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("cloud")
            .enable_all()
            .build()
            .expect("a process that can start threads can start these")
    })
}

/// Waits for `future` on the calling thread, which is none of the runtime's own.
pub fn wait<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// The same; `tick` is called now and then meanwhile.
pub fn wait_ticking<F: Future>(future: F, tick: impl Fn()) -> F::Output {
    wait(async {
        let mut future = std::pin::pin!(future);
        loop {
            match tokio::time::timeout(TICK, &mut future).await {
                Ok(output) => return output,
                Err(_) => tick(),
            }
        }
    })
}

/// Lets `future` run on its own; the handle gives what it came to.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    runtime().spawn(future)
}

/// Between half of `pause` and all of it, so that many do not come back at the same moment.
pub fn jittered(pause: Duration) -> Duration {
    let share = RandomState::new().hash_one(()) >> 40;
    pause / 2 + pause / 2 * (share as u32) / (1 << 24)
}

/// Has TLS ready before a client is built.
pub(super) fn ready() {
    runtime();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_lie_within_bounds_and_differ() {
        let due = Duration::from_secs(8);
        let pauses: Vec<Duration> = (0..16).map(|_| jittered(due)).collect();
        assert!(pauses.iter().all(|p| *p >= due / 2 && *p <= due), "{pauses:?}");
        assert!(pauses.windows(2).any(|w| w[0] != w[1]));
    }
}
