//! What is measured, as rows of the table: medians, ratios of pairs, and what was aimed at.

use std::fmt;

/// A quantity that was measured, and its goal.
pub struct Row {
    pub what: String,
    pub against: String,
    pub goal: Goal,
    pub measured: f64,
    /// What `measured` is counted in, with the space before it; empty for a ratio.
    pub unit: &'static str,
    /// Where it comes from.
    pub detail: String,
}

/// What a measured quantity should be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// The times of one round, in seconds.
#[derive(Clone, Copy)]
pub struct Pair {
    pub ours: f64,
    pub theirs: f64,
}

impl Row {
    /// The median of the rounds' ratios. The first round fills caches: it is told of, and not counted.
    pub fn ratio(what: &str, against: &str, goal: Goal, rounds: &[Pair]) -> Self {
        let (first, rest) = rounds.split_first().expect("a first round");
        let middle = |of: fn(&Pair) -> f64| median(rest.iter().map(of));
        let detail = format!(
            "{:.2} s to {:.2} s (first round {:.2} to {:.2})",
            middle(|pair| pair.ours),
            middle(|pair| pair.theirs),
            first.ours,
            first.theirs
        );
        Self {
            what: what.into(),
            against: against.into(),
            goal,
            measured: middle(|pair| pair.ours / pair.theirs),
            unit: "",
            detail,
        }
    }

    /// The row in words: what, against what, the goal, the measure, the detail.
    pub fn words(&self) -> [String; 5] {
        [
            self.what.clone(),
            self.against.clone(),
            self.goal(),
            self.measured(),
            self.detail.clone(),
        ]
    }

    /// The goal in words.
    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("≤ {most}{}", self.unit),
            Goal::AtLeast(least) => format!("≥ {least}{}", self.unit),
            Goal::None => "–".into(),
        }
    }

    /// The quantity in words; one that misses its goal is marked.
    fn measured(&self) -> String {
        let met = match self.goal {
            Goal::AtMost(most) => self.measured <= most,
            Goal::AtLeast(least) => self.measured >= least,
            Goal::None => true,
        };
        let digits = if self.measured < 10.0 { 2 } else { 0 };
        let text = format!("{:.digits$}{}", self.measured, self.unit);
        if met { text } else { format!("**{text}**") }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measured, goal) = (self.measured(), self.goal());
        write!(
            f,
            "{} / {}: {measured} (goal {goal}); {}",
            self.what, self.against, self.detail
        )
    }
}

/// The middle of some numbers, or the mean of the two in the middle.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.len() / 2;
    let lower = numbers.len().saturating_sub(1) / 2;
    f64::midpoint(numbers[lower], numbers[upper])
}
