//! Reads a container's output until it ends: masks it, keeps it in the log, shows lines.
//!
//! Never waits for a reporter: measured, an attach reader that stalls blocks the container and even
//! its `stop`. Lines that nobody could take are counted where they are missing.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use memchr::memchr2;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::blocking;
use super::dispatcher::LogLine;
use crate::engine::{
    Engine, EngineError, ErrorKind, Operation, OutputFrame, OutputSource, OutputStream,
};
use crate::id::TaskId;
use crate::journal::log::{LogStream, LogWriter, Place, Search, Taken};
use crate::sanitize::{self, LOOKED_AT};
use crate::secrets::{Needles, Redactor};

/// How long the output of a container that has ended may stand still before it counts as whole; and how
/// long the engine may take to keep what it has sent, before it tells that the container has ended.
const STALL: Duration = Duration::from_secs(5);
/// How long before its end is known a container's output may end and count as whole: one that ended
/// sooner may have broken, and what the engine has kept decides.
const NATURAL: Duration = Duration::from_millis(250);
/// After this, the beginning of a line that does not go on is written to the log.
const QUIET: Duration = Duration::from_millis(100);
/// How long apart tries to read on are, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one may take, and how many follow the container's end.
const REREAD: Duration = Duration::from_secs(30);
const LAST_TRIES: u32 = 3;
/// How often it is looked for what has come last: what the engine keeps is behind what it sends.
const LOOKS: u32 = 3;
/// How long the last word on missing lines waits for a reporter.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How many of the last lines are kept for the report.
const LAST_LINES: usize = 20;
/// How much of each, in characters.
const LAST_LENGTH: usize = 400;

/// What a pump is told once its container need not be waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The container has ended: all that is still on its way is read.
    Ended,

    /// Nobody knows whether it ends: what comes soon is read.
    Unknown,
}

/// What is left of a container's output besides the log.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    /// The last lines, masked and sanitised.
    pub(super) last_lines: Vec<String>,
    /// What people are to know of the log and of the lines that were shown, each a sentence.
    pub(super) gaps: Vec<String>,
}

/// Reads what the engine has kept, and with `true` what comes after it.
pub(super) type Reopen =
    Box<dyn Fn(bool) -> BoxFuture<'static, Result<OutputStream, EngineError>> + Send + Sync>;

/// How the output of a container is read on, as long as the run lasts.
pub(super) fn read_on<E: Engine>(engine: Weak<E>, container: String) -> Reopen {
    Box::new(move |follow| {
        let (engine, container) = (engine.upgrade(), container.clone());
        let reading = async move {
            match engine {
                Some(engine) => engine.logs(&container, follow).await,
                None => Err(EngineError {
                    operation: Operation::Logs,
                    subject: container,
                    kind: ErrorKind::NotFound,
                    source: None,
                }),
            }
        };
        reading.boxed()
    })
}

pub(super) struct Pump {
    task: TaskId,
    log: LogWriter,
    reopen: Reopen,
    taken: [Taken; 2],
    /// How much of what comes has come before, in bytes.
    skipped: [u64; 2],
    gaps: Vec<String>,
    /// Where lines are shown; none where the log is all.
    lines: Option<mpsc::Sender<LogLine>>,
    stdout: Assembler,
    stderr: Assembler,
    shown: Shown,
}

/// What a pump was told, and until when it reads on since then.
struct Heard {
    told: oneshot::Receiver<Ending>,
    ending: Option<Ending>,
    until: Instant,
}

impl Heard {
    fn new(told: oneshot::Receiver<Ending>) -> Self {
        Self {
            told,
            ending: None,
            until: Instant::now(),
        }
    }

    /// Returns once it is told; not to be called again then.
    async fn hear(&mut self) {
        // Where nobody is left to tell, the container is being removed.
        let ending = (&mut self.told).await.unwrap_or(Ending::Ended);
        self.ending = Some(ending);
        self.until = Instant::now() + STALL;
    }

    /// Whether it was told, or is within so long.
    async fn within(&mut self, limit: Duration) -> bool {
        self.ending.is_some() || timeout(limit, self.hear()).await.is_ok()
    }
}

/// One stream on its way from frames to lines.
struct Assembler {
    redactor: Redactor,
    line: Vec<u8>,
    after_cr: bool,
}

/// What became of the lines.
#[derive(Default)]
struct Shown {
    last: VecDeque<Vec<u8>>,
    missing: u64,
}

impl Assembler {
    fn new(needles: &Needles) -> Self {
        Self {
            redactor: Redactor::new(needles),
            line: Vec::new(),
            after_cr: false,
        }
    }

    /// Takes masked bytes and hands on the lines that are complete now; a lone CR ends one too.
    fn lines(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let second_half =
                self.after_cr && end == 0 && bytes[0] == b'\n' && self.line.is_empty();
            if self.line.is_empty() && !second_half {
                each(&bytes[..end]);
            } else if !second_half {
                self.keep(&bytes[..end]);
                each(&self.line);
                self.line.clear();
            }
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// No more is kept of a line than can be shown of it; the log has it whole.
    fn keep(&mut self, bytes: &[u8]) {
        let room = (LOOKED_AT + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Pump {
    pub(super) fn new(
        task: TaskId,
        log: LogWriter,
        needles: &Needles,
        lines: Option<mpsc::Sender<LogLine>>,
        reopen: Reopen,
    ) -> Self {
        Self {
            task,
            log,
            lines,
            reopen,
            taken: <[Taken; 2]>::default(),
            skipped: [0; 2],
            gaps: Vec::new(),
            stdout: Assembler::new(needles),
            stderr: Assembler::new(needles),
            shown: Shown::default(),
        }
    }

    /// Reads until the container's output ends, or stands still after `told` has come. A stream that
    /// breaks before is read on from what the engine has kept.
    pub(super) async fn run(
        mut self,
        mut output: OutputStream,
        told: oneshot::Receiver<Ending>,
    ) -> Pumped {
        let mut heard = Heard::new(told);
        while let Err(why) = self.read(&mut output, &mut heard).await {
            match self.rejoin(&mut heard, why).await {
                Some(rest) => output = rest,
                None => break,
            }
        }
        self.finish().await
    }

    /// Reads a stream to its end. An error is why it broke before that of the container's output.
    async fn read(&mut self, output: &mut OutputStream, heard: &mut Heard) -> Result<(), String> {
        loop {
            let (ending, until) = (heard.ending, heard.until);
            tokio::select! {
                biased;
                () = heard.hear(), if ending.is_none() => {}
                () = sleep_until(until), if ending == Some(Ending::Unknown) => {
                    self.may_lack_its_end("its container may still run");
                    return Ok(());
                }
                frame = output.next() => match frame {
                    Some(Ok(frame)) => {
                        self.take_frame(frame);
                        if ending == Some(Ending::Ended) {
                            heard.until = Instant::now() + STALL;
                        }
                    }
                    Some(Err(error)) => return Err(error.to_string()),
                    None if heard.within(NATURAL).await => return Ok(()),
                    None => {
                        heard.within(STALL).await;
                        return Err("the engine ended the output".into());
                    }
                },
                () = sleep_until(until), if ending == Some(Ending::Ended) => {
                    self.may_lack_its_end("the engine did not end the output");
                    return Ok(());
                }
                () = sleep(QUIET), if self.log.has_open_line() => self.log.write_open_lines(),
            }
        }
    }

    /// What comes after that which has come; nothing where the engine cannot give it.
    async fn rejoin(&mut self, heard: &mut Heard, mut why: String) -> Option<OutputStream> {
        let mut pause = PAUSE;
        let mut last_tries = LAST_TRIES;
        let mut looks = LOOKS;
        loop {
            let read_on = timeout(REREAD, self.read_on(&mut looks)).await;
            match read_on {
                Ok(Ok(Some(rest))) => {
                    heard.until = Instant::now() + STALL;
                    return Some(rest);
                }
                Ok(Err(error)) => why = error.to_string(),
                Ok(Ok(None)) | Err(_) => {}
            }
            last_tries -= u32::from(heard.ending.is_some());
            if last_tries == 0 || heard.ending == Some(Ending::Unknown) {
                self.may_lack_its_end(&why);
                return None;
            }
            let ending = heard.ending;
            tokio::select! {
                () = heard.hear(), if ending.is_none() => {}
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Nothing where it is worth another look.
    async fn read_on(&mut self, looks: &mut u32) -> Result<Option<OutputStream>, EngineError> {
        let places = self.places((self.reopen)(false).await?).await?;
        *looks = looks.saturating_sub(1);
        if *looks > 0
            && places
                .iter()
                .any(|place| matches!(place, Place::Lost { .. }))
        {
            return Ok(None);
        }
        let rest = (self.reopen)(true).await?;
        self.skipped = places.map(Place::known);
        let streams = self.taken.iter_mut().zip(["output", "error"]);
        for (place, (taken, name)) in places.into_iter().zip(streams) {
            if let Some(lost) = place.lost(name) {
                // What came before the gap is followed by nothing any more.
                *taken = Taken::default();
                self.log.note(&lost);
                self.gaps.push(format!("the log is not whole: {lost}"));
            }
        }
        Ok(Some(rest))
    }

    /// Where in all that the engine has kept each stream goes on.
    async fn places(&self, mut kept: OutputStream) -> Result<[Place; 2], EngineError> {
        let mut searches = self.taken.each_ref().map(Search::new);
        while let Some(frame) = kept.next().await {
            let OutputFrame { source, bytes } = frame?;
            searches[source as usize].push(&bytes);
        }
        Ok(searches.map(Search::place))
    }

    fn take_frame(&mut self, OutputFrame { source, mut bytes }: OutputFrame) {
        let skipped = &mut self.skipped[source as usize];
        let known = usize::try_from(*skipped).map_or(bytes.len(), |known| known.min(bytes.len()));
        *skipped -= known as u64;
        let bytes = bytes.split_off(known);
        self.taken[source as usize].push(&bytes);
        let masked = self.stream(source).redactor.push(&bytes);
        self.take(source, &masked);
    }

    fn may_lack_its_end(&mut self, why: &str) {
        self.gaps.push(format!("the log may lack its end: {why}"));
    }

    async fn finish(mut self) -> Pumped {
        let mut gaps = std::mem::take(&mut self.gaps);
        for source in [OutputSource::Stdout, OutputSource::Stderr] {
            let masked = self.stream(source).redactor.finish();
            self.take(source, &masked);
            let rest = std::mem::take(&mut self.stream(source).line);
            if !rest.is_empty() {
                self.shown.show(&self.task, self.lines.as_ref(), &rest);
            }
        }
        if let Some(lines) = &self.lines {
            gaps.extend(self.shown.tell_the_rest(&self.task, lines).await);
        }
        let log = self.log;
        if let Some(gap) = blocking(move || log.finish()).await {
            gaps.push(format!("the log is not whole: {gap}"));
        }
        Pumped {
            last_lines: self.shown.last_lines(),
            gaps,
        }
    }

    fn stream(&mut self, source: OutputSource) -> &mut Assembler {
        match source {
            OutputSource::Stdout => &mut self.stdout,
            OutputSource::Stderr => &mut self.stderr,
        }
    }

    fn take(&mut self, source: OutputSource, masked: &[u8]) {
        let (stream, assembler) = match source {
            OutputSource::Stdout => (LogStream::Stdout, &mut self.stdout),
            OutputSource::Stderr => (LogStream::Stderr, &mut self.stderr),
        };
        self.log.write(stream, masked);
        assembler.lines(masked, |line| {
            self.shown.show(&self.task, self.lines.as_ref(), line);
        });
    }
}

impl Shown {
    fn show(&mut self, task: &TaskId, lines: Option<&mpsc::Sender<LogLine>>, line: &[u8]) {
        self.remember(line);
        let Some(lines) = lines else { return };
        // Once lines are missing, it goes on when half of the room is free: lines that belong
        // together are of more use than single ones with counts between them.
        let needed = match self.missing {
            0 => 1,
            _ => lines.max_capacity() / 2,
        };
        if lines.capacity() < needed.max(1) {
            self.missing += 1;
            return;
        }
        if self.missing > 0 && lines.try_send(self.gap(task)).is_ok() {
            self.missing = 0;
        }
        let text = sanitize::line(line, true);
        let task = task.clone();
        if self.missing > 0 || lines.try_send(LogLine { task, text }).is_err() {
            self.missing += 1;
        }
    }

    /// Keeps the last lines as they are; most are never looked at.
    fn remember(&mut self, line: &[u8]) {
        let mut kept = match self.last.len() {
            LAST_LINES => self.last.pop_front().unwrap_or_default(),
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(&line[..line.len().min(LOOKED_AT)]);
        self.last.push_back(kept);
    }

    fn last_lines(&self) -> Vec<String> {
        let short = |bytes: &Vec<u8>| {
            let line = sanitize::line(bytes, true);
            if line.chars().count() <= LAST_LENGTH {
                return line;
            }
            // A colour must not be cut in two.
            let line = sanitize::line(bytes, false);
            line.chars().take(LAST_LENGTH).collect()
        };
        self.last.iter().map(short).collect()
    }

    /// Says how many lines are missing at the end: now nothing is blocked by waiting a little. What
    /// a reporter does not take in that time is to be told as an event, which waits for it.
    async fn tell_the_rest(&self, task: &TaskId, lines: &mpsc::Sender<LogLine>) -> Option<String> {
        if self.missing == 0 {
            return None;
        }
        let told = timeout(LAST_WORD, lines.send(self.gap(task))).await;
        told.is_err().then(|| self.not_shown())
    }

    fn gap(&self, task: &TaskId) -> LogLine {
        LogLine {
            task: task.clone(),
            text: format!("… {}", self.not_shown()),
        }
    }

    fn not_shown(&self) -> String {
        format!("{} lines not shown, see the log", self.missing)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use futures::future::join;
    use futures::stream;

    use super::*;

    fn output(text: &str) -> OutputStream {
        let bytes = text.to_owned().into();
        let source = OutputSource::Stdout;
        stream::iter([Ok(OutputFrame { source, bytes })]).boxed()
    }

    fn pump(directory: &Path, lines: mpsc::Sender<LogLine>, reopen: Reopen) -> Pump {
        let log = LogWriter::create(directory.join("a.1.log"), 1 << 20).unwrap();
        let task = "a".parse().unwrap();
        Pump::new(task, log, &Needles::default(), Some(lines), reopen)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reporter_never_takes_is_counted_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (lines, taken) = mpsc::channel(2);
        let reopen = Box::new(|_| panic!("nothing broke"));
        let pump = pump(directory.path(), lines, reopen);
        let output = output(&"x\n".repeat(10));
        let (tell, told) = oneshot::channel();
        tell.send(Ending::Ended).unwrap();
        let pumped = pump.run(output, told).await;
        assert_eq!(taken.len(), 2);
        assert_eq!(pumped.gaps, ["8 lines not shown, see the log"]);
    }

    /// An output of three lines ends, so long before its container; what the engine has kept each time
    /// that it is asked.
    async fn read_on_from<const N: usize>(
        kept: [&'static str; N],
        early: Duration,
    ) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let (lines, _taken) = mpsc::channel(100);
        let kept = Mutex::new(VecDeque::from(kept));
        let reopen: Reopen = Box::new(move |_| {
            let now = kept.lock().unwrap().pop_front().expect("another look");
            async move { Ok(output(now)) }.boxed()
        });
        let pump = pump(directory.path(), lines, reopen);
        let (tell, told) = oneshot::channel();
        let told_late = async move {
            sleep(early).await;
            tell.send(Ending::Ended).unwrap();
        };
        let (pumped, ()) = join(pump.run(output("1\n2\n3\n"), told), told_late).await;
        (pumped.last_lines, pumped.gaps)
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_keeps_later_than_it_sends_is_waited_for() {
        let all = "1\n2\n3\n4\n";
        let late = ["1\n2\n", "1\n2\n", "1\n2\n3\n", all, all, all];
        let (lines, gaps) = read_on_from(late, STALL * 2).await;
        assert_eq!(lines, ["1", "2", "3", "4"]);
        assert_eq!(gaps, <[&str; 0]>::default());
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_engine_never_kept_is_told() {
        let rest = "5\n6\n";
        let kept = ["5\n", "5\n", "5\n", rest, rest, rest];
        let (lines, gaps) = read_on_from(kept, STALL * 2).await;
        assert_eq!(lines, ["1", "2", "3", "5", "6"]);
        assert_eq!(gaps.len(), 1);
        let told = "the log is not whole: what was written to standard output after its first 6";
        assert!(gaps[0].starts_with(told), "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_that_ends_just_before_its_container_is_whole() {
        let (lines, gaps) = read_on_from([], NATURAL / 2).await;
        assert_eq!(lines, ["1", "2", "3"]);
        assert_eq!(gaps, <[&str; 0]>::default());
    }

    /// It broke, or the engine was slow to tell: what it has kept by then has all of it.
    #[tokio::test(start_paused = true)]
    async fn what_the_engine_has_kept_decides_where_an_output_ends_early() {
        for rest in ["", "4\n5\n"] {
            let all: &'static str = format!("1\n2\n3\n{rest}").leak();
            let (lines, gaps) = read_on_from([all, all], STALL / 2).await;
            assert_eq!(lines, all.lines().collect::<Vec<_>>());
            assert_eq!(gaps, <[&str; 0]>::default());
        }
    }
}
