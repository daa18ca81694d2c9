//! Specs written as they are understood: the same meaning, without anchors, defaults and `${…}`.

use std::path::Path;

use agent_run::id::{RunId, TaskId};
use agent_run::plan::Lines;
use agent_run::spec::{Context, SourceFile, resolved};
use insta::assert_snapshot;
use proptest::prelude::*;

use super::{RUN, environment, good, read_in, with_task};
use crate::plan::planned;

const FULL: &str = r##"
version: 1
name: ${SET:-x} nightly
repo: ../shop
base: ${BASE:-main}
history: { depth: 5 }
x-anchors:
  limits: &limits { cpus: 2, mem_limit: 4g }
secrets:
  key: { environment: TOKEN }
  file: { file: secrets/key }
  printed: { command: "gh 'a b' ${SET}" }
defaults:
  <<: *limits
  environment: { LEVEL: debug, DROP: "1", SEEN: "${TOKEN}" }
  secrets: [key]
  timeout: 30m
tasks:
  one:
    run: echo ${TOKEN} $$ ${NOT_SET}
    environment: { DROP: null, OWN: "1.10", ON: yes }
    branch: bot/${run.id}/${task.id}
    timeout: null
  two:
    image: ${SET}:1
    command: agent '--name=${TWO}' $$HOME $${HOME}
    env_file: [ .env, { path: other.env, required: false } ]
    prompt: { file: "prompts/${task.id}.md" }
    verify: test ${not}
    build: image
    cpus: 0.5
  three:
    env: [ TOKEN, A=b ]
    prompt: |
      Fix ${this}.

        And that.
    build: { context: image, args: { V: "${SET}" } }
    verify: { run: "test ${not}", image: "${SET}:2", timeout: 5m, secrets: [key] }
    feedback: 2
    command: [ agent, "two\nlines", "", "null", "1", "# no comment" ]
"##;

fn resolve(text: &str, select: &[&str]) -> String {
    let run: RunId = RUN.parse().unwrap();
    let context = Context {
        run: &run,
        directory: Path::new("/project"),
        environment: &environment,
    };
    let select: Vec<TaskId> = select.iter().map(|id| id.parse().unwrap()).collect();
    let source = SourceFile::new("agent-run.yaml", text.to_owned());
    resolved(&source, &context, &select).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// Resolves a spec, and holds that it means the same, wherever it is read.
fn same(text: &str) -> String {
    let once = resolve(text, &[]);
    let again = read_in(&once, Path::new("/elsewhere"));
    let again = again.unwrap_or_else(|problems| panic!("{problems}\n{once}"));
    let was = good(text);
    // A plan without its files: these are compared by what the specs say of them.
    let facts = |spec: &agent_run::spec::RunSpec| {
        let mut spec = spec.clone();
        let mut files = Vec::new();
        for task in &mut spec.tasks {
            let prompt = task
                .prompt
                .take_if(|p| matches!(p, agent_run::spec::Prompt::File(_)));
            files.push(match prompt {
                Some(agent_run::spec::Prompt::File(path)) => Some(path.value),
                _ => None,
            });
            files.extend(
                task.env_file
                    .iter()
                    .map(|file| Some(file.path.value.clone())),
            );
        }
        let mut plan = planned(&spec);
        for task in &mut plan.tasks {
            // Where it is written is what changes.
            task.lines = Lines {
                task: 0,
                mem_limit: None,
                disk_limit: None,
                timeout: None,
            };
        }
        let repo = spec.repo.as_ref().map(|repo| repo.value.clone());
        (plan, files, repo, spec.base.map(|b| b.value))
    };
    assert_eq!(facts(&was), facts(&again), "{once}");
    assert_eq!(resolve(&once, &[]), once, "it is resolved already");
    once
}

#[test]
fn anchors_defaults_and_variables_are_resolved() {
    let text = same(FULL);
    for hidden in ["hunter2", "x-anchors", "defaults", "&limits", "<<"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert_snapshot!(text, @r##"
    version: 1
    name: value nightly
    repo: /project/../shop
    base: main
    history:
      depth: 5
    secrets:
      key:
        environment: TOKEN
      file:
        file: /project/secrets/key
      printed:
        command:
        - gh
        - a b
        - value
    tasks:
      one:
        run: echo ${TOKEN} $$ ${NOT_SET}
        environment:
          OWN: "1.10"
          "ON": "yes"
          LEVEL: debug
          SEEN: ${TOKEN}
        branch: bot/${run.id}/one
        secrets:
        - key
        cpus: 2
        mem_limit: 4g
      two:
        image: value:1
        command:
        - agent
        - --name=two words
        - $HOME
        - $${HOME}
        env_file:
        - /project/.env
        - path: /project/other.env
          required: false
        prompt:
          file: /project/prompts/two.md
        verify: test ${not}
        build: /project/image
        cpus: 0.5
        environment:
          LEVEL: debug
          DROP: "1"
          SEEN: ${TOKEN}
        secrets:
        - key
        timeout: 30m
        mem_limit: 4g
      three:
        environment:
          TOKEN: ${TOKEN}
          A: b
          LEVEL: debug
          DROP: "1"
          SEEN: ${TOKEN}
        prompt: |
          Fix ${this}.
          
            And that.
        build:
          context: /project/image
          args:
            V: value
        verify:
          run: test ${not}
          image: value:2
          timeout: 5m
          secrets:
          - key
        feedback: 2
        command:
        - agent
        - |-
          two
          lines
        - ""
        - "null"
        - "1"
        - "# no comment"
        secrets:
        - key
        timeout: 30m
        cpus: 2
        mem_limit: 4g
    "##);
}

#[test]
fn only_the_tasks_that_are_named() {
    let text = resolve(FULL, &["two"]);
    assert!(
        text.contains("  two:\n") && !text.contains("  one:\n"),
        "{text}"
    );
    assert!(resolve(&text, &[]).contains("  two:\n"));
}

proptest! {
    #[test]
    fn any_number_stays_what_it_is(
        number in "[0-9]{1,25}|[0-9]{1,9}\\.[0-9]{1,12}|[0-9]e[0-9]{1,3}|inf|nan|-0|true",
    ) {
        same(&with_task(&format!("environment: {{ A: {number} }}")));
    }

    #[test]
    fn any_text_stays_what_it_is(
        word in "[ -~\n\t\u{e9}\u{2028}\u{1f600}]{0,40}",
        prompt in "([ -~\u{e9}]{0,12}\n){0,4}[ -~]{0,8}",
    ) {
        let quoted = serde_json::to_string(&word.replace('$', "$$")).unwrap();
        let raw = serde_json::to_string(&format!("{prompt}.")).unwrap();
        let lines = format!("command: [agent, {quoted}]\nprompt: {raw}\nenvironment: {{ A: {quoted} }}");
        same(&with_task(&lines));
    }
}
