//! Plans for tests.

use super::{Draft, Unit};
use crate::input::{self, InputSpec};
use crate::job::{Job, JobFile};

/// A generation of `count` photos behind the `first` ones, each of which is a task.
pub(crate) fn photos(mut file: JobFile, generation: u32, first: u64, count: u64) -> Draft {
    file.output.shard_samples = 1;
    let job = Job::resolve(file).unwrap();
    let nothing = input::list(&InputSpec::default(), 0, None).unwrap();
    let like = Draft::new(&job, nothing, Default::default(), 1, 0, &|_, _| {}).unwrap().header().clone();
    let unit = |n: u64| Unit {
        task: 0,
        input: n,
        uri: format!("/{n}.jpg"),
        path: format!("/{n}.jpg"),
        identity: n,
        bytes: None,
        version: None,
        start: None,
        end: None,
        split: None,
        from: None,
        to: None,
        cells: Vec::new(),
    };
    Draft::again(&job, (first..first + count).map(unit).collect(), &like, generation, first).unwrap()
}
