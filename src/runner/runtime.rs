//! Whether a runtime is what its name promises: asked of the kernel, from inside of a throw-away container.
//!
//! Only the name of gVisor promises a kernel. What another runtime does nobody can see from here: that the
//! engine says that it runs the container with it is all that is known.

use super::images::PreparedImage;
use super::probe::Prober;
use super::{RunError, StepError};
use crate::engine::Engine;
use crate::sanitize;

/// Says the kernel's own name.
const ASK: &str = "exec cat /proc/version";
/// What gVisor says of itself: `4.19.0-gvisor` of late, and this before (google/gvisor,
/// `pkg/sentry/kernel/version`, and `pkg/sentry/syscalls/linux/linux64.go`).
const NAME: &str = "gvisor";
const NAME_BEFORE: &str = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016";
/// How much of another kernel's name is told, in characters.
const SHOWN: usize = 60;

/// Asks a container of the prober's runtime.
///
/// The outer error is one of this image; the inner one means that no task can run at all.
pub(super) async fn is_gvisor<E: Engine>(
    prober: &Prober<'_, E>,
    image: &PreparedImage,
) -> Result<Result<(), RunError>, StepError> {
    let config = prober.config("kernel", &image.info.id, ASK);
    let answer = prober.ask(&config).await;
    let answer = answer.map_err(StepError::engine("runtime"))?;
    let kernel = answer.unwrap_or_default();
    if is_of_gvisor(&kernel) {
        return Ok(Ok(()));
    }
    Ok(Err(RunError::NotGvisor {
        runtime: prober.runtime.unwrap_or_default().to_owned(),
        endpoint: prober.endpoint.to_owned(),
        kernel: shown(&kernel),
    }))
}

fn is_of_gvisor(version: &str) -> bool {
    let release = version.strip_prefix("Linux version ");
    let release = release.and_then(|rest| rest.split_whitespace().next());
    release.is_some_and(|release| release.ends_with(NAME)) || version.trim_end() == NAME_BEFORE
}

fn shown(version: &str) -> String {
    let line = sanitize::line(version.trim().replace('\n', " ").as_bytes(), false);
    match line.chars().take(SHOWN).collect::<String>() {
        none if none.is_empty() => "one that does not say its name".to_owned(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_own_name() {
        for version in [
            "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n",
            "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n",
        ] {
            assert!(is_of_gvisor(version), "{version}");
        }
        for version in [
            "",
            "Linux version 4.4.0 (root@builder) #1 SMP Sun Jan 10 15:06:54 PST 2016\n",
            "Linux version 6.1.0-18-amd64 (gvisor@builder) (gcc-12) #1 SMP\n",
            "gvisor",
        ] {
            assert!(!is_of_gvisor(version), "{version}");
        }
        assert_eq!(
            shown("Linux\nversion\u{1b}[2J"),
            sanitize::line(b"Linux version\x1b[2J", false)
        );
        assert_eq!(shown(" \n"), "one that does not say its name");
    }
}
