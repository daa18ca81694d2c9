//! Commands in containers that run.

use std::time::Duration;

use agent_run::engine::config::{ExecConfig, TerminalSize};
use agent_run::engine::{Engine, ErrorKind};
use tokio::io::AsyncWriteExt;

use super::{Does, Side, container, launch, read_all, until_ready};

fn command(side: &impl Side, does: Does) -> ExecConfig {
    ExecConfig {
        command: side.teach_command(does),
        environment: Vec::new(),
        working_dir: "/".into(),
        terminal: None,
    }
}

pub async fn a_command_has_output_and_an_exit_code(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    let speaks = command(&side, Does::Speaks);
    let spoken = engine.exec(&config.name, &speaks).await.unwrap();
    assert_eq!(
        read_all(spoken.output).await,
        ("out\ntail".into(), "err\n".into())
    );
    assert_eq!(engine.exec_exit(&spoken.id).await.unwrap(), 0);
    let exits = command(&side, Does::Exits(7));
    let exits = engine.exec(&config.name, &exits).await.unwrap();
    assert_eq!(read_all(exits.output).await, (String::new(), String::new()));
    assert_eq!(engine.exec_exit(&exits.id).await.unwrap(), 7);
    // The container itself has seen nothing of it.
    let grace = Duration::from_secs(60);
    engine.stop(&config.name, grace).await.unwrap();
    assert_eq!(read_all(output).await.0, "");
    engine.remove_container(&config.name).await.unwrap();
}

pub async fn a_command_reads_its_input_to_the_end(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    let echoes = command(&side, Does::Echoes);
    let mut echoes = engine.exec(&config.name, &echoes).await.unwrap();
    let text = "a line\n".repeat(40_000);
    let write = async {
        echoes.input.write_all(text.as_bytes()).await.unwrap();
        echoes.input.shutdown().await.unwrap();
    };
    let ((out, _), ()) = tokio::join!(read_all(echoes.output), write);
    assert!(out == text, "{} of {} bytes", out.len(), text.len());
    assert_eq!(engine.exec_exit(&echoes.id).await.unwrap(), 0);
    engine.remove_container(&config.name).await.unwrap();
}

pub async fn a_command_needs_a_container_that_runs(side: impl Side) {
    let engine = side.engine();
    let exits = command(&side, Does::Exits(0));
    let never = engine.exec(&side.scope().container(), &exits).await;
    assert_eq!(never.err().unwrap().kind, ErrorKind::NotFound);
    let config = container(&side, Does::Exits(0));
    let refused = async || match engine.exec(&config.name, &exits).await {
        Ok(_) => panic!("a command ran"),
        Err(error) => {
            assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error}");
            assert!(error.to_string().contains("not running"), "{error}");
        }
    };
    engine.create_container(&config).await.unwrap();
    refused().await;
    let output = engine.attach(&config.name, None).await.unwrap();
    engine.start(&config.name).await.unwrap();
    engine.wait(&config.name).await.unwrap();
    refused().await;
    drop(output);
    let nobody = engine.exec_exit("no-such-command").await.unwrap_err();
    assert_eq!(nobody.kind, ErrorKind::NotFound);
    let small = TerminalSize {
        rows: 1,
        columns: 1,
    };
    let nobody = engine.resize_exec("no-such-command", small).await;
    assert_eq!(nobody.unwrap_err().kind, ErrorKind::NotFound);
    engine.remove_container(&config.name).await.unwrap();
}
