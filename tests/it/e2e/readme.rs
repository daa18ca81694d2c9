//! The README's example and the demo are run, and give what the README says.

use super::scene::Scene;

const README: &str = include_str!("../../../README.md");

fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once("## An example").expect("the heading");
    let (_, rest) = rest
        .split_once(&format!("```{language}\n"))
        .expect(language);
    rest.split_once("```").expect("an end").0
}

/// Takes out what differs from run to run: ids, times and directories.
fn normal(text: &str) -> String {
    let is_id = |word: &str| word.parse::<agent_run::id::RunId>().is_ok();
    // A short task may end before it is measured.
    let lines = text
        .lines()
        .filter(|line| !line.contains(" memory, measured after "));
    let lines = lines.map(|line| {
        let parts = line.split_inclusive(['/', ' ']).map(|part| {
            let word = part.trim_end_matches(['/', ' ']);
            part.replace(word, if is_id(word) { "RUN" } else { word })
        });
        let line: String = parts.collect();
        let line = match (line.find('['), line.find("s] ")) {
            (Some(from), Some(to)) => format!("{}[TIME{}", &line[..from], &line[to..]),
            _ => line,
        };
        match line.find("/runs/") {
            Some(at) => {
                let from = line[..at].rfind(' ').map_or(0, |blank| blank + 1);
                format!("{}STATE{}", &line[..from], &line[at..])
            }
            None => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[test]
fn the_example_gives_what_the_readme_says() {
    let scene = Scene::new();
    let spec = scene.repo().join("agent-run.yaml");
    std::fs::write(spec, block("yaml")).expect("a spec");
    scene.commit("add a spec");
    let mut command = scene.command(&["agent-run.yaml"]);
    let ended: super::scene::Ended = command
        .current_dir(scene.repo())
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(normal(&ended.stdout), normal(block("text")), "{ended}");
}

#[test]
fn the_demo_gives_five_branches() {
    let scene = Scene::empty();
    let own = env!("CARGO_MANIFEST_DIR");
    let cloned: super::scene::Ended = std::process::Command::new("git")
        .args(["clone", "-q", "--no-hardlinks", own])
        .arg(scene.repo())
        .output()
        .expect("git")
        .into();
    assert_eq!(cloned.code, Some(0), "{cloned}");
    let ended = scene.agent_run(&["repo/examples/demo/agent-run.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stdout.contains("5 tasks: 5 passed\n"), "{ended}");
    let branches = scene.git(&["branch", "--list", "agent/*"]);
    assert_eq!(branches.lines().count(), 5, "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
}
