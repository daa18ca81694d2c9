//! The files that a run writes for others: looked at before it begins, written at its end.

use std::path::Path;

use super::args::OutputArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::for_log;
use crate::event::RunSummary;
use crate::report::{
    Hints, WriteError, egress, is_stdout, junit, markdown, prepare_whole, write_whole,
};

impl OutputArgs {
    /// Finds out whether the files can be written while nothing has been done yet.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        let whole = [&self.junit, &self.summary, &self.egress_report];
        let mut whole = whole.into_iter().flatten();
        whole
            .try_for_each(|path| prepare_whole(path))
            .map_err(not_there)
    }

    /// Writes what became of a run; gives the files that could not be written.
    pub(super) fn write(&self, run: &RunSummary, hints: &Hints) -> Vec<WriteError> {
        let junit = self.junit.as_deref().map(|path| (path, junit(run, hints)));
        let summary = self.summary.as_deref();
        let summary = summary.map(|path| (path, markdown(run, hints)));
        let hosts = self.egress_report.as_deref();
        let hosts = hosts.map(|path| (path, egress(run)));
        let files = [junit, summary, hosts].into_iter().flatten();
        let write = |(path, text): (&Path, String)| {
            let text = if is_stdout(path) {
                for_log(&text)
            } else {
                text.as_str().into()
            };
            write_whole(path, &text).err()
        };
        files.filter_map(write).collect()
    }

    /// Whether standard output is taken by one of the files.
    pub(super) fn take_stdout(&self) -> bool {
        let files = [
            &self.events,
            &self.junit,
            &self.summary,
            &self.egress_report,
        ];
        files.into_iter().flatten().any(|path| is_stdout(path))
    }
}

pub(super) fn not_there(error: WriteError) -> Failure {
    Failure::new(Exit::Usage, error).hint("name another file; nothing has been started")
}
