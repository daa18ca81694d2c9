//! What a task can reach on this machine in each of its networks, and which kernel it is on: what was found,
//! or what holds whatever is found.

use std::fmt::Write as _;

use serde::Serialize;

use crate::engine::EngineInfo;
use crate::plan::runtime::is_gvisor;
use crate::report::Paint;
use crate::runner::{Internet, Reach};

/// Columns of the first cell of a line, and of each further one.
const FIRST: usize = 20;
const CELL: usize = 18;

/// The trust report: a line for each thing that a task might reach, and one for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Trust {
    reach: Vec<Line>,
    /// In whose kernel tasks run.
    kernel: String,
}

/// Whether a task reaches something, by its network: `yes`, `no`, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    what: &'static str,
    bridge: &'static str,
    egress: &'static str,
    none: &'static str,
}

impl Trust {
    /// `reach` is what was found of the bridge, nothing where it was not tried. Without an interface but
    /// loopback, a task reaches nothing; with a list, what the proxy lets pass.
    pub(super) fn new(info: &EngineInfo, reach: Option<Reach>) -> Self {
        let found = |answer: Option<bool>| match answer {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not tried",
        };
        let internet = match reach.map(|reach| reach.internet) {
            Some(Internet::Reached) => "yes",
            Some(Internet::NoConnections) => "its names only",
            Some(Internet::NoNames) => "no",
            None => "not tried",
        };
        let line = |what, bridge, egress| Line {
            what,
            bridge,
            egress,
            none: "no",
        };
        let runtimes: Vec<&str> = info.runtimes.iter().map(String::as_str).collect();
        let own = runtimes.iter().find(|name| is_gvisor(name));
        Self {
            reach: vec![
                line("other tasks", found(reach.map(|reach| reach.peer)), "no"),
                line(
                    "the engine's host",
                    found(reach.and_then(|reach| reach.host)),
                    "no",
                ),
                line(
                    "cloud metadata",
                    found(reach.map(|reach| reach.metadata)),
                    "no",
                ),
                // Nobody's machines but one's own are connected to.
                line("private networks", "not tried", "no"),
                line("the internet", internet, "hosts of its list"),
            ],
            kernel: match own {
                Some(name) => {
                    format!("the host's, shared with all; its own with `runtime: {name}`")
                }
                None => "the host's, shared with all; the engine has no gVisor (`runtime: runsc`)"
                    .to_owned(),
            },
        }
    }

    pub(super) fn text(&self, paint: Paint) -> String {
        let mut text = format!("\n{}\n", paint.strong("what a task reaches here"));
        let mut row = |cells: [&str; 4]| {
            let [what, cells @ ..] = cells;
            let mut line = format!("  {what:FIRST$}");
            for cell in cells {
                // Writing to a string cannot fail.
                let _ = write!(line, "{cell:CELL$}");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(["", "bridge", "egress", "none"]);
        for line in &self.reach {
            row([line.what, line.bridge, line.egress, line.none]);
        }
        let _ = writeln!(text, "  {:FIRST$}{}", "its kernel", self.kernel);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_found_and_nothing_more() {
        let mut info = crate::cli::doctor::tests::info();
        let text = |info: &EngineInfo, reach| Trust::new(info, reach).text(Paint { color: false });
        let open = Reach {
            internet: Internet::Reached,
            metadata: false,
            host: Some(true),
            peer: false,
        };
        let expected = "
what a task reaches here
                      bridge            egress            none
  other tasks         no                no                no
  the engine's host   yes               no                no
  cloud metadata      no                no                no
  private networks    not tried         no                no
  the internet        yes               hosts of its list no
  its kernel          the host's, shared with all; the engine has no gVisor (`runtime: runsc`)
";
        assert_eq!(text(&info, Some(open)), expected);
        info.runtimes = vec!["runc".into(), "runsc".into()];
        let unknown = text(&info, None);
        assert_eq!(unknown.matches("not tried").count(), 5, "{unknown}");
        assert!(
            unknown.contains("its own with `runtime: runsc`"),
            "{unknown}"
        );
    }
}
