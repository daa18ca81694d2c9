//! `logs`: what tasks have written, of a run that has ended or while it goes on.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use super::args::LogsArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::{Surroundings, is_github};
use super::target::Target;
use crate::event::{Event, EventKind};
use crate::id::{AttemptId, Role, ServiceName, TaskId};
use crate::journal::log::{LogReader, LogRecord, LogStream, logged_attempts};
use crate::journal::{FoundRun, JournalReader, RunState};
use crate::plan::TaskPlan;
use crate::report::{Paint, inert};
use crate::sanitize::{self, LONG_LOOKED_AT};
use crate::spec::did_you_mean;

/// How often a log that goes on is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Names are padded to the longest, but not further than this.
const NAME_WIDTH: usize = 24;

pub(super) fn logs(surroundings: &Surroundings, arguments: &LogsArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let mut places = places(&target, &arguments.tasks)?;
    if let Some(service) = &arguments.service {
        places = with_service(&target, places, service)?;
    }
    if arguments.raw && places.len() != 1 {
        let error = anyhow!("--raw shows one task, and these are {}", places.len());
        return Err(Failure::new(Exit::Usage, error).hint("name the task"));
    }
    let ids = || places.iter().map(|&place| &target.plan.tasks[place].id);
    let is_alone = places.len() == 1;
    let width = ids().map(|id| id.as_str().len()).max().unwrap_or(0);
    let mut screen = Screen {
        output: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
        paint: surroundings.result_paint,
        times: arguments.timestamps,
        raw: arguments.raw,
        for_github: is_github(),
        width: (!is_alone).then_some(width.min(NAME_WIDTH)),
        dangling: None,
    };
    let mut views: Vec<View<'_>> = ids()
        .zip(&places)
        .map(|(task, &place)| View::new(task, place, arguments.service.as_ref()))
        .collect();
    let shown = show_all(surroundings, arguments, &target, &mut views, &mut screen);
    match shown {
        Ok(()) => {}
        // Nobody reads on, as in `agent-run logs | head`.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Success),
        Err(e) => {
            let error = anyhow!(e).context("cannot show the log");
            return Err(Failure::new(Exit::Unexpected, error));
        }
    }
    let is_missing = |view: &&View<'_>| view.log.is_none();
    let all_are = views.iter().all(|view| is_missing(&view));
    match views.iter().find(is_missing) {
        Some(view) if all_are || !arguments.tasks.is_empty() => {
            Err(no_log(surroundings, arguments, &target, view.task))
        }
        _ => Ok(Exit::Success),
    }
}

/// Where the named tasks stand in the plan; all of them if none is named.
fn places(target: &Target, words: &[String]) -> Result<Vec<usize>, Failure> {
    let tasks = &target.plan.tasks;
    if words.is_empty() {
        return Ok((0..tasks.len()).collect());
    }
    let named = target.tasks(words)?.into_iter();
    let place = |id: &TaskId| tasks.iter().position(|task| task.id == *id);
    Ok(named.filter_map(place).collect())
}

/// Those of the tasks that have a service of this name.
fn with_service(
    target: &Target,
    places: Vec<usize>,
    name: &ServiceName,
) -> Result<Vec<usize>, Failure> {
    let tasks = || places.iter().map(|&place| &target.plan.tasks[place]);
    let has = |task: &TaskPlan| task.services.iter().any(|service| service.name == *name);
    if tasks().any(has) {
        let has_it = |place: &usize| has(&target.plan.tasks[*place]);
        return Ok(places.into_iter().filter(has_it).collect());
    }
    let known = tasks().flat_map(|task| &task.services);
    let mut hint = did_you_mean(name.as_str(), known.map(|service| service.name.as_str()));
    if hint.is_empty() {
        hint = "`services` in its spec names those that its tasks have".into();
    }
    let run = &target.found.run;
    let error = anyhow!("no such task of run {run} has a service `{name}`");
    Err(Failure::new(Exit::Usage, error).hint(hint))
}

fn no_log(
    surroundings: &Surroundings,
    arguments: &LogsArgs,
    target: &Target,
    task: &TaskId,
) -> Failure {
    let run = &target.found.run;
    let service = arguments.service.as_ref();
    let attempts = logged_attempts(&surroundings.state, run, (task, service)).unwrap_or_default();
    if let (Some(asked), false) = (arguments.attempt, attempts.is_empty()) {
        let there: Vec<String> = attempts.iter().map(u32::to_string).collect();
        let error = anyhow!("task {task} of run {run} has no log of an attempt {asked}");
        let hint = format!("its attempts: {}", there.join(", "));
        return Failure::new(Exit::Usage, error).hint(hint);
    }
    let may_come = target.found.state == RunState::Live && !arguments.follow;
    let (why, hint) = if may_come {
        ("has not started yet", "`--follow` waits for it")
    } else {
        ("has never started", "`agent-run show TASK` tells why")
    };
    let error = anyhow!("there is no log: task {task} of run {run} {why}");
    Failure::new(Exit::NothingSelected, error).hint(hint)
}

/// Shows what there is by now, and goes on until the tasks have ended if that is asked.
fn show_all(
    surroundings: &Surroundings,
    arguments: &LogsArgs,
    target: &Target,
    views: &mut [View<'_>],
    screen: &mut Screen<'_>,
) -> io::Result<()> {
    let mut endings = Endings::new(target);
    loop {
        // Asked before the logs are read: what a task wrote before it ended is there then.
        let goes_on = arguments.follow && endings.is_live(surroundings)?;
        endings.read()?;
        for view in views.iter_mut().filter(|view| !view.is_done) {
            let is_last = !goes_on || endings.ended.contains(view.task);
            if view.log.is_none() {
                view.open(surroundings, arguments, target)?;
            }
            while view.next_log(surroundings, arguments, target, screen)? {}
            view.show(screen, is_last)?;
        }
        screen.output.flush()?;
        if views.iter().all(|view| view.is_done) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Which tasks of a run have ended, by its journal.
struct Endings {
    found: FoundRun,
    journal: JournalReader,
    ended: HashSet<TaskId>,
}

impl Endings {
    fn new(target: &Target) -> Self {
        Self {
            journal: target.found.journal(),
            found: target.found.clone(),
            ended: HashSet::new(),
        }
    }

    fn is_live(&mut self, surroundings: &Surroundings) -> io::Result<bool> {
        if self.found.state == RunState::Live {
            self.found =
                FoundRun::of(&surroundings.state, &self.found.run).map_err(io::Error::other)?;
        }
        Ok(self.found.state == RunState::Live)
    }

    /// Reads what is new.
    fn read(&mut self) -> io::Result<()> {
        let is_end = |event: &Event| matches!(event.kind, EventKind::TaskFinished { .. });
        let events = self.journal.read().map_err(io::Error::other)?;
        let ends = events.into_iter().filter(is_end);
        self.ended.extend(ends.filter_map(|event| event.task));
        Ok(())
    }
}

/// A task whose log is shown.
struct View<'a> {
    task: &'a TaskId,
    /// Its place in the spec, which decides its colour.
    place: usize,
    /// The service of it whose log that is; none where it is its own.
    service: Option<&'a ServiceName>,
    log: Option<LogReader>,
    /// The attempt that the log is of, and whether it is that of its check.
    attempt: u32,
    is_of_check: bool,
    /// By stream, the line that has not ended, and when the newest of it arrived.
    lines: [(Vec<u8>, String); 2],
    is_done: bool,
}

impl<'a> View<'a> {
    fn new(task: &'a TaskId, place: usize, service: Option<&'a ServiceName>) -> Self {
        Self {
            task,
            place,
            service,
            log: None,
            attempt: 0,
            is_of_check: false,
            lines: Default::default(),
            is_done: false,
        }
    }

    /// Opens the log, if there is one by now.
    fn open(
        &mut self,
        surroundings: &Surroundings,
        arguments: &LogsArgs,
        target: &Target,
    ) -> io::Result<()> {
        let of = (self.task, self.service);
        let attempts = logged_attempts(&surroundings.state, &target.found.run, of)?;
        let wanted = |number: &&u32| arguments.attempt.is_none_or(|asked| asked == **number);
        let Some(&number) = attempts.iter().rfind(wanted) else {
            return Ok(());
        };
        let path = self.path(surroundings, target, (number, false));
        self.log = Some(from_tail(LogReader::open(&path)?, arguments)?);
        self.attempt = number;
        Ok(())
    }

    fn path(
        &self,
        surroundings: &Surroundings,
        target: &Target,
        (number, is_of_check): (u32, bool),
    ) -> PathBuf {
        let attempt = AttemptId {
            run: target.found.run.clone(),
            task: self.task.clone(),
            number,
        };
        let state = &surroundings.state;
        match (self.service, is_of_check) {
            (None, false) => state.log(&attempt),
            (None, true) => state.verify_log(&attempt),
            (Some(service), false) => state.service_log(&attempt, Role::Service, service),
            (Some(service), true) => state.service_log(&attempt, Role::VerifyService, service),
        }
    }

    /// Goes on to the log of the attempt's check, and where that is asked to that of the next attempt,
    /// if there is one, after the last of this one's.
    fn next_log(
        &mut self,
        surroundings: &Surroundings,
        arguments: &LogsArgs,
        target: &Target,
        screen: &mut Screen<'_>,
    ) -> io::Result<bool> {
        if self.log.is_none() {
            return Ok(false);
        }
        let goes_on = arguments.follow && arguments.attempt.is_none();
        let of_check = (self.attempt, true);
        let of_next = (self.attempt + 1, false);
        let candidates = [
            (!self.is_of_check).then_some(of_check),
            goes_on.then_some(of_next),
        ];
        for next in candidates.into_iter().flatten() {
            let log = match LogReader::open(&self.path(surroundings, target, next)) {
                Ok(log) => log,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            self.show(screen, true)?;
            self.is_done = false;
            self.log = Some(if goes_on {
                log
            } else {
                from_tail(log, arguments)?
            });
            (self.attempt, self.is_of_check) = next;
            return Ok(true);
        }
        Ok(false)
    }

    /// Shows what is new, and with the last of it also a line that was never ended.
    fn show(&mut self, screen: &mut Screen<'_>, is_last: bool) -> io::Result<()> {
        let Self {
            task, place, lines, ..
        } = self;
        self.is_done = is_last;
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let mut each = |record: LogRecord<'_>| {
            if screen.raw {
                return screen.raw(record);
            }
            let (line, time) = &mut lines[record.stream as usize];
            let room = (LONG_LOOKED_AT + 1).saturating_sub(line.len());
            line.extend_from_slice(&record.text[..record.text.len().min(room)]);
            if record.ends_line {
                screen.line((task, *place), record.stream, record.time, line)?;
                line.clear();
            } else {
                record.time.clone_into(time);
            }
            Ok(())
        };
        log.read(&mut each)?;
        if is_last {
            log.finish(&mut each)?;
        }
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let (line, time) = &mut lines[stream as usize];
            if !line.is_empty() && (is_last || !screen.for_github) {
                screen.beginning((task, *place), stream, time, line)?;
                line.clear();
            }
        }
        if is_last {
            screen.end_dangling()?;
        }
        Ok(())
    }
}

/// A log from its beginning, or from the last lines that are asked for.
fn from_tail(mut log: LogReader, arguments: &LogsArgs) -> io::Result<LogReader> {
    if let Some(lines) = arguments.tail {
        log.seek_last(lines)?;
    }
    Ok(log)
}

/// Standard output.
struct Screen<'a> {
    output: BufWriter<StdoutLock<'a>>,
    paint: Paint,
    times: bool,
    raw: bool,
    /// Whether GitHub's runner reads it: then no line may hold a command for it, and lines are
    /// shown whole only, for two pieces without one may make a line with one.
    for_github: bool,
    /// How wide the names before the lines are; none where there are no names.
    width: Option<usize>,
    /// Whose line was shown without its end.
    dangling: Option<(usize, LogStream)>,
}

impl Screen<'_> {
    /// What the task wrote, as it is but for masked secrets.
    fn raw(&mut self, record: LogRecord<'_>) -> io::Result<()> {
        self.output.write_all(record.text)?;
        if record.ends_line {
            self.output.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Shows a line, or what is left of it where its beginning is there already.
    fn line(
        &mut self,
        task: (&TaskId, usize),
        stream: LogStream,
        time: &str,
        line: &[u8],
    ) -> io::Result<()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let begun = self.dangling == Some((task.1, stream));
        let mut pieces = line.split(|b| *b == b'\r').peekable();
        let mut is_first = true;
        while let Some(piece) = pieces.next() {
            if piece.is_empty() && (!is_first || pieces.peek().is_some()) {
                continue;
            }
            if !(begun && is_first) {
                self.end_dangling()?;
                self.prefix(task, time)?;
            }
            is_first = false;
            let text = sanitize::long_line(piece, self.paint.color);
            let text = self.harmless(&text);
            self.output.write_all(text.as_bytes())?;
            self.output.write_all(b"\n")?;
            self.dangling = None;
        }
        Ok(())
    }

    /// Shows what there is of a line that may go on.
    fn beginning(
        &mut self,
        task: (&TaskId, usize),
        stream: LogStream,
        time: &str,
        line: &[u8],
    ) -> io::Result<()> {
        if self.dangling != Some((task.1, stream)) {
            self.end_dangling()?;
            self.prefix(task, time)?;
        }
        let piece = line.rsplit(|b| *b == b'\r').find(|piece| !piece.is_empty());
        let text = sanitize::long_line(piece.unwrap_or_default(), self.paint.color);
        let text = self.harmless(&text);
        self.output.write_all(text.as_bytes())?;
        self.dangling = Some((task.1, stream));
        Ok(())
    }

    fn harmless<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.for_github {
            inert(text)
        } else {
            Cow::Borrowed(text)
        }
    }

    fn end_dangling(&mut self) -> io::Result<()> {
        if self.dangling.take().is_some() {
            self.output.write_all(b"\n")?;
        }
        Ok(())
    }

    fn prefix(&mut self, (task, place): (&TaskId, usize), time: &str) -> io::Result<()> {
        if let Some(width) = self.width {
            let name = self
                .paint
                .task(place, &format!("{:<width$}", task.as_str()));
            write!(self.output, "{name} | ")?;
        }
        if self.times && !time.is_empty() {
            write!(self.output, "{} ", self.paint.faint(time))?;
        }
        Ok(())
    }
}
