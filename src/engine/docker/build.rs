//! Building an image, by the engine's own builder, from a directory or from a Dockerfile of agent-run's own.

use std::collections::HashMap;
use std::path::Path;

use bollard::errors::Error as BollardError;
use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptions;
use bollard::{body_full, body_try_stream};
use futures::{Stream, StreamExt};

use super::DockerEngine;
use super::call::{Call, printable};
use super::context;
use crate::engine::config::BuildConfig;
use crate::engine::{ErrorKind, Operation};
use crate::id::label;

/// The Dockerfiles of the images that are part of agent-run. They need nothing beside them.
const BASE_DOCKERFILE: &str = include_str!("../../../images/base/Dockerfile");
const EGRESS_PROXY_DOCKERFILE: &str = include_str!("../../../images/egress-proxy/Dockerfile");
const MAIL_DOCKERFILE: &str = include_str!("../../../images/services/mail/Dockerfile");

/// How many of a failed build's last lines are kept.
const LAST_LINES: usize = 20;

/// How much of a build's output is looked at for them, in bytes.
const OUTPUT_KEPT: usize = 3000;

impl DockerEngine {
    /// Builds an image and tags it `reference`.
    pub(super) async fn build(
        &self,
        reference: &str,
        config: &BuildConfig,
    ) -> Result<(), ErrorKind> {
        let options = BuildImageOptions {
            t: Some(reference.to_owned()),
            rm: true,
            forcerm: true,
            labels: Some(HashMap::from([(
                label::IMAGE.to_owned(),
                label::SCHEMA_VERSION.to_owned(),
            )])),
            ..BuildImageOptions::default()
        };
        let call = Call::new(Operation::EnsureImage, reference);
        match config {
            BuildConfig::EmbeddedBase => self.build_text(&call, options, BASE_DOCKERFILE).await,
            BuildConfig::EmbeddedEgressProxy => {
                let text = EGRESS_PROXY_DOCKERFILE;
                self.build_text(&call, options, text).await
            }
            BuildConfig::EmbeddedMail => self.build_text(&call, options, MAIL_DOCKERFILE).await,
            BuildConfig::Dockerfile { text, args, below } => {
                if let Some(below) = below {
                    // Boxed, since it may stand on another one again.
                    let obtained = Box::pin(self.obtain_image(below)).await;
                    obtained.map_err(|error| error.kind)?;
                }
                let options = BuildImageOptions {
                    buildargs: Some(args.clone().into_iter().collect()),
                    ..options
                };
                self.build_text(&call, options, text).await
            }
            BuildConfig::Directory {
                context: directory,
                dockerfile,
                target,
                args,
            } => {
                let sent = context::send(directory, dockerfile);
                let sent = sent.map_err(|error| unreadable(directory, &error))?;
                let options = BuildImageOptions {
                    dockerfile: dockerfile.clone(),
                    target: target.clone().unwrap_or_default(),
                    buildargs: Some(args.clone().into_iter().collect()),
                    ..options
                };
                let logins = Some(self.logins.all().await);
                let body = body_try_stream(sent.chunks);
                let steps = self.docker.build_image(options, logins, Some(body));
                let built = follow(&call, steps).await;
                // A context that could not be read ends the request, so its error is the cause.
                match sent.reader.await {
                    Ok(Err(error)) if built.is_err() => Err(unreadable(directory, &error)),
                    _ => built,
                }
            }
        }
    }

    /// Builds from a Dockerfile alone.
    async fn build_text(
        &self,
        call: &Call,
        options: BuildImageOptions,
        dockerfile: &str,
    ) -> Result<(), ErrorKind> {
        let archive = context::single_file("Dockerfile", dockerfile.as_bytes());
        let archive = archive.map_err(|error| unreadable(Path::new("-"), &error))?;
        let body = body_full(archive.into());
        let logins = Some(self.logins.all().await);
        follow(call, self.docker.build_image(options, logins, Some(body))).await
    }
}

/// Reads a build's output to its end.
async fn follow(
    call: &Call,
    mut steps: impl Stream<Item = Result<BuildInfo, BollardError>> + Unpin,
) -> Result<(), ErrorKind> {
    let mut output = String::new();
    while let Some(step) = steps.next().await {
        let error = match step {
            Ok(step) => {
                output.push_str(&step.stream.unwrap_or_default());
                if output.len() > OUTPUT_KEPT * 8 {
                    output = tail(&output).to_owned();
                }
                continue;
            }
            Err(error) => error,
        };
        return Err(match call.failed(&error).kind {
            ErrorKind::Refused(words) => ErrorKind::ImageUnavailable(last_lines(&output, &words)),
            ErrorKind::NotFound => {
                ErrorKind::ImageUnavailable(last_lines(&output, &error.to_string()))
            }
            other => other,
        });
    }
    Ok(())
}

/// The end of a build's output and the error that ended it.
fn last_lines(output: &str, error: &str) -> String {
    let output = printable(tail(output));
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let mut kept = lines[lines.len().saturating_sub(LAST_LINES)..].to_vec();
    let error = printable(error);
    kept.extend(error.lines());
    kept.join("\n")
}

/// The last part of a text.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(OUTPUT_KEPT);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(0)..]
}

fn unreadable(context: &Path, error: &std::io::Error) -> ErrorKind {
    let why = format!(
        "its build context {} cannot be read: {error}",
        context.display()
    );
    ErrorKind::ImageUnavailable(printable(&why))
}
