//! A reader of section markers as GitLab's log view is one, after gitlabhq:
//! `lib/gitlab/regex.rb` (`build_trace_section_regex`) and `lib/gitlab/ci/ansi2json/converter.rb`.

/// A marker: whether it opens, the time, the section's name, and its options in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub opens: bool,
    pub time: u64,
    pub name: String,
    pub options: String,
}

/// All markers of a log: `section_(start|end):<time>:<name>[<options>]` and `\r\e[0K`.
pub fn markers(log: &str) -> Vec<Marker> {
    let starts = log.match_indices("section_").map(|(at, _)| &log[at..]);
    starts.filter_map(marker).collect()
}

fn marker(text: &str) -> Option<Marker> {
    let (head, _) = text.split_once("\r\u{1b}[0K")?;
    let (opens, rest) = match head.strip_prefix("section_start:") {
        Some(rest) => (true, rest),
        None => (false, head.strip_prefix("section_end:")?),
    };
    let (time, rest) = rest.split_once(':')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let (name, options) = rest.split_at(end);
    let in_brackets = options.starts_with('[') && options.ends_with(']');
    (!name.is_empty() && (options.is_empty() || in_brackets)).then_some(Marker {
        opens,
        time: time.parse().ok()?,
        name: name.to_owned(),
        options: options.to_owned(),
    })
}

/// Markers that an agent could print.
pub fn hostile_lines() -> Vec<String> {
    let name = "agent_run_hostile";
    vec![
        format!("\u{1b}[0Ksection_end:1:{name}\r\u{1b}[0K"),
        format!("section_end:1:{name}\r\u{1b}[0Kend"),
        format!("words section_start:1:{name}[collapsed=true]\r\u{1b}[0Khidden"),
        format!("section_end:1:{name}\r\r\n\u{1b}[0K"),
        format!("section_end:1:{name}\u{9b}0K\r\u{9b}0K"),
    ]
}

#[test]
fn the_reader_takes_what_gitlab_takes() {
    let text = "\u{1b}[0Ksection_start:7:a.b_c[collapsed=true]\r\u{1b}[0Ktitle\nx section_end:9:a.b_c\r\u{1b}[0K\nsection_end:9:a\n";
    let found = markers(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (found[0].opens, found[0].time, found[0].name.as_str()),
        (true, 7, "a.b_c")
    );
    assert_eq!((found[1].opens, found[1].options.as_str()), (false, ""));
    let hostile = hostile_lines()
        .iter()
        .map(|line| markers(line).len())
        .sum::<usize>();
    assert_eq!(hostile, 3);
}
