//! The files that a spec names.

use std::fs;
use std::path::Path;

use agent_run::spec::{Diagnostics, Prompt, RunSpec, read_files};
use insta::assert_snapshot;

use super::{in_context, read_in};

fn spec(directory: &Path, text: &str) -> RunSpec {
    read_in(text, directory).unwrap_or_else(|problems| panic!("{problems}"))
}

fn read(spec: &mut RunSpec) -> Result<(), Diagnostics> {
    in_context(Path::new("/project"), |context| read_files(spec, context))
}

#[test]
fn contents_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("p.md"), "Fix it. ${UNSET}\n").unwrap();
    let first = "# comment\n\nA=first\nB = 'b b' \nexport C=\"c\"\r\nURL=http://x/?a=$b#c\n";
    fs::write(path.join("1.env"), first).unwrap();
    fs::write(path.join("2.env"), "A=second\nD=file\n").unwrap();
    let mut spec = spec(
        path,
        "\
version: 1
tasks:
  t:
    run: x
    prompt: { file: p.md }
    env_file: [1.env, 2.env, { path: absent.env, required: false }]
    environment: { D: spec }
",
    );
    read(&mut spec).unwrap();
    let task = &spec.tasks[0];
    assert_eq!(task.prompt, Some(Prompt::Text("Fix it. ${UNSET}\n".into())));
    let variables: Vec<String> = task
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={}", value.expose()))
        .collect();
    let expected = ["A=second", "B=b b", "C=c", "D=spec", "URL=http://x/?a=$b#c"];
    assert_eq!(variables, expected);
}

#[test]
fn problems_have_positions_and_no_contents() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("bad.env"), "A=1\nhunter2\n").unwrap();
    fs::create_dir(path.join("image")).unwrap();
    let mut spec = spec(
        path,
        "\
version: 1
tasks:
  a:
    run: x
    prompt: { file: . }
    env_file: [bad.env, absent.env]
  b: { build: nowhere }
  c: { build: image }
",
    );
    let message = read(&mut spec).unwrap_err().to_string();
    let message = message.replace(&path.display().to_string(), "DIR");
    assert!(!message.contains("hunter2"));
    assert_snapshot!(message, @r#"
    error: DIR/. is not a regular file
     --> agent-run.yaml:5:21
      |
    5 |     prompt: { file: . }
      |                     ^

    error: line 2 of DIR/bad.env is not `KEY=value`
     --> agent-run.yaml:6:16
      |
    6 |     env_file: [bad.env, absent.env]
      |                ^^^^^^^

    error: cannot read DIR/absent.env: No such file or directory (os error 2)
     --> agent-run.yaml:6:25
      |
    6 |     env_file: [bad.env, absent.env]
      |                         ^^^^^^^^^^ write `required: false` if it may be missing

    error: the build context DIR/nowhere is not a directory
     --> agent-run.yaml:7:15
      |
    7 |   b: { build: nowhere }
      |               ^^^^^^^

    error: there is no Dockerfile in DIR/image
     --> agent-run.yaml:8:15
      |
    8 |   c: { build: image }
      |               ^^^^^ `dockerfile` names it, relative to `context`

    agent-run: 5 errors in agent-run.yaml
    "#);
}
