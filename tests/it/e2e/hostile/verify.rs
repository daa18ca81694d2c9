//! Results that are checked out on the host to be verified, and checks that an agent has in its hands.

use serde_json::json;

use super::super::scene::task;
use super::{Attack, Expected, Hostile};

/// What git of the host would run at a checkout, did it heed the user's configuration.
const AT_CHECKOUT: [&str; 2] = ["filter.user.smudge", "filter.user.process"];

#[test]
fn a_result_that_is_verified_runs_and_reaches_nothing_on_the_host() {
    let hostile = Hostile::new();
    for key in AT_CHECKOUT {
        let program = hostile.canary.program(key);
        let program = program.to_str().expect("a path");
        hostile.scene.git(&["config", key, program]);
    }
    let trap = hostile.canary.command("verify");
    let secret = hostile.canary.secret_file();
    let (secret, outside) = (secret.display(), hostile.scene.path().display());
    let work = format!(
        "mkdir hooks\n\
         for hook in post-checkout post-index-change reference-transaction; do\n\
           printf '#!/bin/sh\\n{trap}\\n' > hooks/$hook; chmod +x hooks/$hook\n\
         done\n\
         git config core.hooksPath /workspace/hooks\n\
         git config core.fsmonitor '{trap}'\n\
         echo '* filter=user ident' > .gitattributes\n\
         rm -r src; ln -s {outside} src; ln -s {secret} secret; ln -s . loop\n\
         git -c core.hooksPath=/dev/null -c core.fsmonitor=false add -A\n\
         git -c core.hooksPath=/dev/null -c core.fsmonitor=false commit -qm work\n"
    );
    let check = format!(
        "test \"$(readlink secret)\" = {secret}\n\
         if cat secret src/canary/secret; then exit 9; fi\n\
         echo changed > secret || true\n\
         git config core.fsmonitor '{trap}'\n\
         printf '#!/bin/sh\\n{trap}\\n' > /agent/git/hooks/post-checkout\n\
         rm -rf /workspace/* /agent/out/*; mkfifo /workspace/pipe /agent/out/status\n\
         ln -s {secret} /agent/out/result.bundle; ln -s {outside} /workspace/src\n\
         chmod 000 /agent/out /agent/git\n"
    );
    let done = hostile.run(&[
        Attack::new("passes", Expected::Imported, &work).with("verify", json!(check)),
        Attack::new("fails", Expected::Imported, &work)
            .with("verify", json!(format!("{check}exit 7\n")))
            .ends("verify_failed"),
    ]);
    for name in ["passes", "fails"] {
        let report = task(&done.result, name);
        assert_eq!(report["verify"]["commit"], report["branch"]["commit"]);
    }
}
