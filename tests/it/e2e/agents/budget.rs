//! Budgets, by the agent that needs no model: its script says what it has used.

use serde_json::{Value, json};

use super::super::scene::{Scene, task};

/// Functions of a script: what it has used is so much, and it goes on for long.
const USED: &str = r#"
      used() { mkdir -p ~/.agent-run && echo "$1" >~/.agent-run/new && mv ~/.agent-run/new ~/.agent-run/usage.json; }
      forever() { sleep 600 & wait $!; }
"#;

fn usage(report: &Value) -> Value {
    report["outcome"]["used"].clone()
}

#[test]
fn a_task_is_stopped_when_its_budget_is_used_up_and_its_work_is_collected() {
    let scene = Scene::new();
    let (ended, result) = scene.run(&format!(
        "
version: 1
defaults:
  agent: shell
  budget: {{ tokens: 1000, usd: 0.50 }}
  retry: {{ max: 3, when: any }}
tasks:
  tokens:
    prompt: |{USED}
      echo work >work.txt
      trap 'sleep 1; echo last words >words.txt; exit 0' TERM
      used '{{\"tokens\":999,\"usd\":0.49}}'
      until [ -e ~/go ]; do sleep 2; touch ~/go; done
      used '{{\"turns\":4,\"tokens\":1200}}'
      forever
  money:
    prompt: |{USED}
      used '{{\"usd\":0.5}}'
      forever
  by-itself:
    prompt: |{USED}
      used '{{\"usd\":0.75}}'
      exit 1
  enough:
    prompt: |{USED}
      used '{{\"tokens\":5000}}'
"
    ));
    assert_eq!(ended.code, Some(100), "{ended}");
    let report = |id: &str| task(&result, id);
    let outcome = |id: &str| report(id)["outcome"]["outcome"].clone();
    for id in ["tokens", "money", "by-itself"] {
        assert_eq!(outcome(id), "out_of_budget", "{id}: {ended}");
        assert_eq!(report(id)["attempt"], 1, "{id}");
        let budget = json!({ "tokens": 1000, "micro_usd": 500_000 });
        assert_eq!(report(id)["outcome"]["budget"], budget);
    }
    // It has done what it was to do.
    assert_eq!(outcome("enough"), "succeeded", "{ended}");
    let used = json!({ "turns": 4, "tokens": 1200, "micro_usd": null });
    assert_eq!(usage(report("tokens")), used);
    assert_eq!(usage(report("by-itself"))["micro_usd"], 750_000);
    let branch = report("tokens")["branch"]["branch"].as_str();
    let branch = branch.expect("a branch");
    assert_eq!(
        scene.git(&["show", &format!("{branch}:work.txt")]),
        "work\n"
    );
    let words = scene.git(&["show", &format!("{branch}:words.txt")]);
    assert_eq!(words, "last words\n");
    let told = "used up its budget: 1200 of 1000 tokens, $0.0000 of $0.5000";
    assert!(ended.stdout.contains(told), "{ended}");
    let events = scene.events();
    let is_told = |event: &&Value| event["kind"]["type"] == "out_of_budget";
    assert_eq!(events.iter().filter(is_told).count(), 2);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_client_has_its_grace_and_what_it_says_in_it_is_heard() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
agents:
  slow:
    extends: shell
    run: |
      told | client 'def event: .;' sh /agent/prompt.md
tasks:
  a:
    agent: slow
    budget: { tokens: 1000 }
    prompt: |
      trap 'sleep 1; echo last words >words.txt; echo "{\"tokens\":1300,\"line\":\"the last\"}"; exit 0' TERM
      echo '{"tokens":1200}'
      sleep 600 & wait $!
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    let report = task(&result, "a");
    assert_eq!(report["outcome"]["outcome"], "out_of_budget", "{ended}");
    assert_eq!(usage(report)["tokens"], 1200);
    assert_eq!(report["agent"]["tokens"], 1300, "{ended}");
    let branch = report["branch"]["branch"].as_str().expect("a branch");
    let words = scene.git(&["show", &format!("{branch}:words.txt")]);
    assert_eq!(words, "last words\n");
    let log = scene.agent_run(&["-C", "repo", "logs", "a"]).stdout;
    assert!(log.contains("the last"), "{log}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_budget_is_that_of_all_attempts() {
    let scene = Scene::new();
    let (ended, result) = scene.run(&format!(
        "
version: 1
defaults: {{ agent: shell }}
tasks:
  feedback:
    budget: {{ tokens: 1000 }}
    verify: 'false'
    feedback: 5
    prompt: |{USED}
      echo \"$AGENT_ATTEMPT\" >work.txt
      used '{{\"tokens\":400}}'
      [ \"$AGENT_ATTEMPT\" = 1 ] || {{ used '{{\"tokens\":700}}'; forever; }}
  told:
    budget: {{ usd: 1 }}
    retry: 5
    prompt: |{USED}
      echo \"$AGENT_BUDGET_USD\" >>left.txt
      used '{{\"usd\":0.3}}'
      exit 3
"
    ));
    assert_eq!(ended.code, Some(100), "{ended}");
    let report = task(&result, "feedback");
    assert_eq!(report["outcome"]["outcome"], "out_of_budget", "{ended}");
    assert_eq!(usage(report)["tokens"], 1100);
    assert_eq!(report["attempt"], 2);
    let report = task(&result, "told");
    // The fourth had 0.1 left, and used 0.3.
    assert_eq!(report["outcome"]["outcome"], "out_of_budget", "{ended}");
    assert_eq!(report["attempt"], 4, "{ended}");
    let branch = report["branch"]["branch"].as_str().expect("a branch");
    let left = scene.git(&["show", &format!("{branch}:left.txt")]);
    assert_eq!(left, "0.100000\n");
    assert_eq!(result["agents"]["tokens"], 1100);
}

#[test]
fn nothing_more_is_tried_where_a_failed_check_leaves_no_budget() {
    let scene = Scene::new();
    let (ended, result) = scene.run(&format!(
        "
version: 1
tasks:
  a:
    agent: shell
    budget: {{ tokens: 10 }}
    verify: 'false'
    feedback: 5
    prompt: |{USED}
      echo work >work.txt
      used '{{\"tokens\":10}}'
"
    ));
    assert_eq!(ended.code, Some(100), "{ended}");
    let report = task(&result, "a");
    assert_eq!(report["outcome"]["outcome"], "verify_failed", "{ended}");
    assert_eq!(report["attempt"], 1);
    let told = "its budget is used up: no further attempt is made";
    let all = format!("{ended}");
    assert!(all.contains(told), "{ended}");
}

#[test]
fn what_looks_like_a_use_and_is_none_stops_nobody() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
defaults: { agent: shell, budget: { tokens: 1 }, timeout: 5s, stop_grace_period: 1s }
tasks:
  pipe: { prompt: "mkdir ~/.agent-run; mkfifo ~/.agent-run/usage.json; sleep 600" }
  link: { prompt: "echo '{\"tokens\":9}' >~/x; mkdir ~/.agent-run; ln -s ~/x ~/.agent-run/usage.json; sleep 600" }
  around: { prompt: "mkdir ~/x; echo '{\"tokens\":9}' >~/x/usage.json; ln -s x ~/.agent-run; sleep 600" }
  odd: { prompt: "mkdir ~/.agent-run; echo '{\"tokens\":1e300}' >~/.agent-run/usage.json; sleep 600" }
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    for id in ["pipe", "link", "around", "odd"] {
        let outcome = &task(&result, id)["outcome"]["outcome"];
        assert_eq!(outcome, "timed_out", "{id}: {ended}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}
