//! What every engine does with images that are made of containers.

use std::time::Duration;

use agent_run::engine::config::{CommitConfig, ImageRequest, PullPolicy};
use agent_run::engine::{Engine, ErrorKind};
use agent_run::id::{ImageRef, label};

use super::{Does, Side, container, ended, launch, read_all, until_ready};
use crate::docker::BASE_IMAGE;

fn commit(side: &impl Side) -> CommitConfig {
    let key = side.scope().container().to_lowercase();
    CommitConfig {
        reference: ImageRef::prepared(&key),
        labels: vec![(label::IMAGE.into(), label::SCHEMA_VERSION.into())],
    }
}

fn request(reference: &ImageRef) -> ImageRequest {
    ImageRequest {
        reference: reference.clone(),
        pull_policy: PullPolicy::Never,
        build: None,
    }
}

/// A container that has written a mebibyte and ended.
async fn ended_container(side: &impl Side, variables: &[&str]) -> String {
    let engine = side.engine();
    let mut config = container(side, Does::WritesAMebibyte);
    config.user = "0:0".into();
    let variables = variables
        .iter()
        .map(|name| ((*name).to_owned(), "x".to_owned()));
    config.environment = variables.collect();
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    engine.stop(&config.name, Duration::ZERO).await.unwrap();
    engine.wait(&config.name).await.unwrap();
    config.name
}

pub(super) async fn an_image_is_made_of_a_container_and_removed(side: impl Side) {
    let engine = side.engine();
    let wanted = commit(&side);
    let with_variables = ended_container(&side, &["a"]).await;
    let refused = engine.commit(&with_variables, &wanted).await.unwrap_err();
    assert!(
        matches!(&refused.kind, ErrorKind::Refused(why) if why.contains("variables of its own"))
    );
    engine.remove_container(&with_variables).await.unwrap();
    assert!(
        engine
            .ensure_image(&request(&wanted.reference))
            .await
            .is_err()
    );
    let name = ended_container(&side, &[]).await;
    let image = engine.commit(&name, &wanted).await.unwrap();
    let found = engine
        .ensure_image(&request(&wanted.reference))
        .await
        .unwrap();
    assert_eq!(found, image);
    let base = request(&BASE_IMAGE.parse().unwrap());
    let base = ImageRequest {
        pull_policy: PullPolicy::Missing,
        ..base
    };
    let base = engine.ensure_image(&base).await.unwrap();
    assert_eq!(
        (&image.entrypoint, &image.command),
        (&base.entrypoint, &base.command)
    );
    assert_ne!(image.id, base.id);
    let listed = engine.list_images().await.unwrap();
    let listed = listed.iter().find(|own| own.id == image.id).unwrap();
    let references = listed
        .references
        .iter()
        .map(|name| name.trim_end_matches(":latest"));
    assert_eq!(references.collect::<Vec<_>>(), [wanted.reference.as_str()]);
    assert_eq!(listed.labels[label::IMAGE], label::SCHEMA_VERSION);
    assert!(listed.labels.get(label::RUN).is_none_or(String::is_empty));
    assert!(
        listed.size >= 1 << 20 && listed.created > 1_600_000_000,
        "{listed:?}"
    );
    engine.remove_container(&name).await.unwrap();

    // A container of it runs, and holds it.
    let mut of_it = container(&side, Does::Exits(0));
    of_it.image.clone_from(&image.id);
    let output = launch(engine, &of_it).await;
    assert_eq!(engine.wait(&of_it.name).await.unwrap(), ended(0));
    read_all(output).await;
    let refused = engine
        .remove_image(wanted.reference.as_str())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    engine.remove_container(&of_it.name).await.unwrap();
    for _ in 0..2 {
        engine
            .remove_image(wanted.reference.as_str())
            .await
            .unwrap();
    }
    let gone = engine
        .ensure_image(&request(&wanted.reference))
        .await
        .unwrap_err();
    assert!(
        matches!(gone.kind, ErrorKind::ImageUnavailable(_)),
        "{gone}"
    );
    let listed = engine.list_images().await.unwrap();
    assert!(listed.iter().all(|own| own.id != image.id));
}
