//! A plan that is repeated: the same base and images, the values of now, and what keeps it from that.

use std::path::PathBuf;

use serde_json::Value;

use super::scene::{Ended, Scene, docker, task};

const SPEC: &str = r#"
version: 1
repo: repo
defaults: { mem_limit: 64m }
secrets:
  key: { environment: KEY }
tasks:
  one:
    environment: { LEVEL: "${LEVEL:-low}", FIXED: fixed }
    secrets: [key]
    run: |
      echo "$LEVEL $FIXED $(cat /run/secrets/key)" > values.txt
      git rev-parse refs/agent-run/base > base.txt
  two: { run: 'echo two > two.txt' }
"#;

fn agent_run(scene: &Scene, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = scene.command(arguments);
    let ended = command.envs(variables.iter().copied()).output();
    ended.expect("agent-run").into()
}

/// The plan of the newest run.
fn plan_of(scene: &Scene) -> PathBuf {
    let run = scene.runs().pop().expect("a run");
    scene.state().join("runs").join(run).join("plan.json")
}

fn read(path: &std::path::Path) -> Value {
    let text = std::fs::read(path).expect("a file");
    serde_json::from_slice(&text).expect("JSON")
}

/// What a task of the newest run left in a file.
fn left(scene: &Scene, id: &str, file: &str) -> String {
    let run = scene.runs().pop().expect("a run");
    scene.git(&["show", &format!("agent/{run}/{id}:{file}")])
}

#[test]
fn a_plan_repeats_the_base_and_takes_the_values_of_now() {
    let scene = Scene::new();
    let spec = scene.spec(SPEC);
    let spec = spec.to_str().expect("a path");
    let first = agent_run(&scene, &[spec], &[("KEY", "sesame"), ("LEVEL", "high")]);
    assert_eq!(first.code, Some(0), "{first}");
    assert_eq!(left(&scene, "one", "values.txt"), "high fixed sesame\n");
    let base = scene.git(&["rev-parse", "main"]);
    let plan = plan_of(&scene);
    let text = std::fs::read_to_string(&plan).expect("a plan");
    for value in ["sesame", "high", "fixed"] {
        assert!(!text.contains(value), "{value} in {text}");
    }
    let plan = plan.to_str().expect("a path");
    scene.write("readme.md", "three\n");
    scene.commit("third");
    // From anywhere, with other values, and only what is asked for.
    let again = agent_run(&scene, &["run", "--plan", plan], &[("KEY", "other")]);
    assert_eq!(again.code, Some(0), "{again}");
    assert_eq!(scene.runs().len(), 2);
    assert_eq!(left(&scene, "one", "values.txt"), "low fixed other\n");
    assert_eq!(left(&scene, "one", "base.txt"), base);
    assert_eq!(left(&scene, "two", "two.txt"), "two\n");
    let (was, is) = (read(std::path::Path::new(plan)), read(&plan_of(&scene)));
    assert_eq!(was["repository"]["base"], is["repository"]["base"]);
    assert!(was["tasks"][0]["pinned_image"].is_string(), "{was:#}");
    assert_eq!(
        was["tasks"][0]["pinned_image"],
        is["tasks"][0]["pinned_image"]
    );
    assert_eq!(
        was["tasks"][0]["pinned_image"],
        is["tasks"][0]["image"]["reference"]
    );
    let one = agent_run(&scene, &["--plan", plan, "two", "-q"], &[]);
    assert_eq!(one.code, Some(0), "{one}");
    assert_eq!(scene.result()["tasks"].as_array().map(Vec::len), Some(1));
    // What only looks does nothing, by whichever name.
    let runs = scene.runs();
    for look in [
        &["run", "-n", "--plan", plan] as &[&str],
        &["run", "--dry-run", spec],
        &["plan", spec],
    ] {
        let shown = agent_run(&scene, look, &[("KEY", "x")]);
        assert_eq!(shown.code, Some(0), "{look:?}: {shown}");
        assert!(
            shown.stdout.contains("sets      FIXED, LEVEL\n"),
            "{look:?}: {shown}"
        );
    }
    assert_eq!(scene.runs(), runs);
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Images of a test's own, removed when it ends in any way.
struct Images(Vec<String>);

impl Drop for Images {
    fn drop(&mut self) {
        for image in &self.0 {
            docker(&["rmi", "-f", image]);
        }
    }
}

#[test]
fn a_plan_repeats_the_image_whatever_its_name_means_now() {
    let scene = Scene::new();
    let name = scene
        .path()
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name");
    let reference = format!(
        "localhost/agent-run-it-{}:1",
        name.trim_start_matches('.').to_lowercase()
    );
    let mut images = Images(vec![reference.clone()]);
    let context = scene.path().join("image");
    std::fs::create_dir(&context).expect("a directory");
    let dockerfile = |mark: &str| {
        let text = format!(
            "FROM agent-run-base:{}\nUSER root\nRUN echo {mark} > /mark\n",
            env!("CARGO_PKG_VERSION")
        );
        std::fs::write(context.join("Dockerfile"), text).expect("a file");
    };
    dockerfile("first");
    let yaml = format!(
        "version: 1\ntasks:\n  a: {{ build: image, image: {reference}, mem_limit: 64m, run: cp /mark mark.txt }}\n"
    );
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let plan = plan_of(&scene);
    let plan = plan.to_str().expect("a path");
    let first = task(&result, "a")["image"]
        .as_str()
        .expect("an id")
        .to_owned();
    images.0.push(first.clone());
    dockerfile("second");
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(left(&scene, "a", "mark.txt"), "second\n");
    assert_ne!(task(&result, "a")["image"], first.as_str());
    let again = agent_run(&scene, &["run", "--plan", plan], &[]);
    assert_eq!(again.code, Some(0), "{again}");
    assert_eq!(left(&scene, "a", "mark.txt"), "first\n");
    assert_eq!(task(&scene.result(), "a")["image"], first.as_str());
    let removed = docker(&["rmi", "-f", &first]);
    assert_eq!(removed.code, Some(0), "{removed}");
    let runs = scene.runs();
    let gone = agent_run(&scene, &["run", "--plan", plan], &[]);
    assert_eq!(gone.code, Some(96), "{gone}");
    for words in [&first, "of task a is not on the engine any more", "hint:"] {
        assert!(gone.stderr.contains(words), "no {words} in {gone}");
    }
    assert_eq!(scene.runs(), runs, "nothing was begun");
}

#[test]
fn a_plan_that_cannot_be_repeated_says_why() {
    let scene = Scene::new();
    let spec = scene.spec(&SPEC.replace("two.txt' }", "two.txt', branch: bot/two }"));
    let spec = spec.to_str().expect("a path").to_owned();
    let written = agent_run(&scene, &["plan", "--format", "json", &spec], &[]);
    assert_eq!(written.code, Some(0), "{written}");
    let good: Value = serde_json::from_str(&written.stdout).expect("JSON");
    let file = scene.path().join("plan.json");
    let with = |pointer: &str, value: Value| {
        let mut plan = good.clone();
        *plan.pointer_mut(pointer).expect(pointer) = value;
        plan.to_string()
    };
    let text = good.to_string();
    let twice = with("/tasks/1/id", Value::from("one"));
    let cases: [(&str, i32, &str); 9] = [
        ("", 94, "plan.json is not whole"),
        (&text[..text.len() / 2], 94, "plan.json is not whole"),
        ("{\"tasks\": []}", 94, "missing field"),
        (&with("/version", Value::from(2)), 94, "of version 2"),
        (&twice, 94, "task `one` is there twice"),
        (
            &with("/tasks/0/limits/memory", Value::from(0)),
            94,
            "limits nothing",
        ),
        (
            &with("/repository/base", Value::from("a".repeat(40))),
            96,
            "git fetch ORIGIN aaaa",
        ),
        (
            &with("/repository/path", Value::from("/nonexistent")),
            96,
            "/nonexistent",
        ),
        (
            &with("/spec_path", Value::Null),
            94,
            "name a spec that has them",
        ),
    ];
    let repeat = |more: &[&str]| {
        let arguments = [&["run", "--plan", "plan.json"], more].concat();
        agent_run(&scene, &arguments, &[("KEY", "sesame")])
    };
    for (text, code, words) in cases {
        std::fs::write(&file, text).expect("a plan");
        let refused = repeat(&[]);
        assert_eq!(refused.code, Some(code), "{words}: {refused}");
        assert!(refused.stderr.contains(words), "no {words} in {refused}");
        assert!(refused.stderr.contains("hint:"), "{refused}");
    }
    std::fs::write(&file, &text).expect("a plan");
    let unknown = repeat(&["tow"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(unknown.stderr.contains("did you mean `two`?"), "{unknown}");
    let no_file = agent_run(&scene, &["run", "--plan", "no/such.json"], &[]);
    assert_eq!(no_file.code, Some(94), "{no_file}");
    scene.git(&["branch", "bot/two"]);
    let taken = repeat(&[]);
    assert_eq!(taken.code, Some(94), "{taken}");
    assert!(
        taken
            .stderr
            .contains("the branch `bot/two` of task `two` cannot be made"),
        "{taken}"
    );
    // The spec may have changed since: what it no longer says is named.
    std::fs::write(&spec, SPEC.replace("FIXED: fixed", "OTHER: x")).expect("a spec");
    let changed = repeat(&["one"]);
    assert_eq!(changed.code, Some(94), "{changed}");
    assert!(
        changed
            .stderr
            .contains("no value is known of: FIXED of task `one`"),
        "{changed}"
    );
    std::fs::write(scene.path().join("old.yaml"), SPEC).expect("a spec");
    let helped = repeat(&["-n", "old.yaml", "one"]);
    assert_eq!(helped.code, Some(0), "{helped}");
    std::fs::remove_file(&spec).expect("a file");
    let gone = repeat(&["one"]);
    assert_eq!(gone.code, Some(94), "{gone}");
    assert!(
        gone.stderr.contains("takes the values of variables from"),
        "{gone}"
    );
    let secret = agent_run(
        &scene,
        &["run", "--plan", "plan.json", "old.yaml", "one"],
        &[],
    );
    assert_eq!(secret.code, Some(96), "{secret}");
    assert!(
        secret.stderr.contains("the variable KEY is not set"),
        "{secret}"
    );
    assert!(scene.runs().is_empty());
}
