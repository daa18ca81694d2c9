//! What only a real engine shows: that limits bite, that walls stand, that images are built.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_run::engine::config::{
    BuildConfig, ContainerConfig, ImageRequest, Mount, NetworkAttachment, PullPolicy, Ulimit,
    VolumeConfig, VolumeMount,
};
use agent_run::engine::docker::DockerEngine;
use agent_run::engine::{Engine, ErrorKind, Exit, ImageInfo};

use super::contract::{launch, network, plain_container, read_all};
use crate::docker::{self, BASE_IMAGE, Scope};

const MIB: i64 = 1 << 20;

fn shell(scope: &Scope, script: &str) -> ContainerConfig {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    plain_container(&scope.container(), command)
}

/// Runs a container to its end: standard output, standard error, exit.
async fn run(engine: &DockerEngine, config: &ContainerConfig) -> (String, String, Exit) {
    let output = launch(engine, config).await;
    let (out, err) = read_all(output).await;
    let exit = engine.wait(&config.name).await.unwrap();
    engine.remove_container(&config.name).await.unwrap();
    (out, err, exit)
}

#[tokio::test]
async fn the_engine_says_what_it_is() {
    let info = docker::engine().await.info().await.unwrap();
    assert!(info.endpoint.contains("://"), "{}", info.endpoint);
    assert!(info.cpus >= 1 && info.memory > 64 * MIB);
    assert!(info.version.split('.').count() >= 2, "{}", info.version);
    assert_eq!(info.missing_limits, [] as [&str; 0]);
    assert!(info.cgroup_version.is_some_and(|v| [1, 2].contains(&v)));
    assert!(info.data_directory.is_some_and(|path| path.is_absolute()));
    for program in ["runc", "containerd"] {
        let mut named = info.components.iter().filter(|c| c.name == program);
        let version = &named.next().unwrap().version;
        assert!(
            version.starts_with(|c: char| c.is_ascii_digit()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_container_has_no_privileges() {
    let (engine, scope) = (docker::engine().await, Scope::new("privileges"));
    let config = shell(&scope, "cat /proc/self/status; id -u; id -g; hostname; pwd");
    let (out, _, _) = run(&engine, &config).await;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(out.lines().any(|found| found == line), "no {line} in {out}");
    }
    assert!(out.ends_with("10001\n10001\ncontract\n/\n"), "{out}");
}

#[tokio::test]
async fn paths_stay_masked_and_init_reaps() {
    let (engine, scope) = (docker::engine().await, Scope::new("masked"));
    let mut config = shell(
        &scope,
        "cat /proc/1/comm; wc -c </proc/timer_list; echo x >/proc/sys/kernel/hostname; cat /proc/self/oom_score_adj",
    );
    config.user = "0:0".into();
    let (out, err, _) = run(&engine, &config).await;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "docker-init", "{out}");
    assert_eq!(lines[1], "0", "/proc/timer_list is masked: {out}");
    assert!(err.contains("Read-only file system"), "{err}");
    assert_eq!(lines.last(), Some(&"500"), "{out}");
}

#[tokio::test]
async fn the_memory_limit_kills() {
    let (engine, scope) = (docker::engine().await, Scope::new("memory"));
    let config = shell(&scope, "exec tail /dev/zero");
    let (_, _, exit) = run(&engine, &config).await;
    let expected = Exit {
        code: 137,
        oom_killed: true,
    };
    assert_eq!(exit, expected);
}

#[tokio::test]
async fn the_process_limit_holds() {
    let (engine, scope) = (docker::engine().await, Scope::new("pids"));
    let mut config = shell(&scope, "for i in $(seq 40); do sleep 60 & done; echo all");
    config.limits.pids = 20;
    let (out, err, exit) = run(&engine, &config).await;
    assert_eq!(out, "");
    assert!(err.to_lowercase().contains("fork"), "{err}");
    assert_ne!(exit.code, 0);
}

#[tokio::test]
async fn the_cpu_limit_is_in_the_cgroup() {
    let (engine, scope) = (docker::engine().await, Scope::new("cpus"));
    let read = "cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us";
    let mut config = shell(&scope, read);
    config.limits.nano_cpus = 500_000_000;
    let (out, _, _) = run(&engine, &config).await;
    let numbers: Vec<f64> = out.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!((numbers[0] / numbers[1] - 0.5).abs() < 0.001, "{out}");
}

#[tokio::test]
async fn sized_file_systems_and_ulimits_are_as_asked() {
    let (engine, scope) = (docker::engine().await, Scope::new("tmpfs"));
    let script = "cp /bin/true /tmp/t && /tmp/t && echo runs; df -k /tmp /dev/shm | awk 'NR>1{print $2}'; ulimit -n; \
        head -c 9m /dev/zero >/tmp/full || echo full";
    let mut config = shell(&scope, script);
    let options = "rw,exec,nosuid,nodev,size=8m,mode=1777";
    config.limits.tmpfs = BTreeMap::from([("/tmp".into(), options.into())]);
    let nofile = Ulimit {
        soft: 123,
        hard: 456,
    };
    config.limits.ulimits = BTreeMap::from([("nofile".into(), nofile)]);
    let (out, err, _) = run(&engine, &config).await;
    assert_eq!(out, "runs\n8192\n16384\n123\nfull\n", "{err}");
}

#[tokio::test]
async fn mounts_and_a_read_only_root_are_as_asked() {
    let (engine, scope) = (docker::engine().await, Scope::new("mounts"));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let made = dir.path().canonicalize().unwrap();
    for name in ["rw", "ro"] {
        fs::create_dir(made.join(name)).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(made.join(name), everybody).unwrap();
    }
    let mut config = shell(
        &scope,
        "echo kept >/rw/file; echo lost >/ro/file; echo lost >/file",
    );
    config.mounts = [("rw", false), ("ro", true)]
        .map(|(name, read_only)| Mount {
            source: made.join(name),
            target: format!("/{name}"),
            read_only,
        })
        .to_vec();
    config.read_only = true;
    config.user = "0:0".into();
    let (_, err, _) = run(&engine, &config).await;
    assert_eq!(err.matches("Read-only file system").count(), 2, "{err}");
    assert_eq!(fs::read_to_string(made.join("rw/file")).unwrap(), "kept\n");
    assert!(!made.join("ro/file").exists());
}

/// The engine opens the way between networks while it makes or removes one, so it does both all the
/// while.
#[tokio::test]
async fn containers_of_a_network_have_their_address_and_are_kept_apart() {
    let (engine, scope) = (docker::engine().await, Scope::new("apart"));
    let net = network(&engine, &scope).await;
    let on = |config: &mut ContainerConfig, host| {
        let address = Ipv4Addr::from_bits(net.subnet.to_bits() + host);
        let name = net.name.clone();
        config.network = NetworkAttachment::Network { name, address };
        address
    };
    let serve = "import socket\ns = socket.create_server(('', 7000))\n\
        print(socket.gethostbyname(socket.gethostname()), flush=True)\nwhile True: s.accept()";
    let mut server = shell(&scope, "");
    server.command = ["python3", "-c", serve].map(str::to_owned).to_vec();
    let server_at = on(&mut server, 9);
    let mut output = launch(&engine, &server).await;
    let said = futures::StreamExt::next(&mut output).await.unwrap();
    assert_eq!(said.unwrap().bytes, format!("{server_at}\n"));

    let ask = format!(
        "import socket\nreached = 0\nfor _ in range(60):\n s = socket.socket()\n s.settimeout(0.05)\n\
         reached += s.connect_ex(('{server_at}', 7000)) == 0\nprint(reached)"
    );
    let mut client = shell(&scope, "");
    client.command = ["python3", "-c", &ask].map(str::to_owned).to_vec();
    on(&mut client, 3);
    let done = AtomicBool::new(false);
    let asked = async {
        let asked = run(&engine, &client).await;
        done.store(true, Ordering::Relaxed);
        asked
    };
    let comings_and_goings = async {
        while !done.load(Ordering::Relaxed) {
            let other = network(&engine, &scope).await;
            engine.remove_network(&other.name).await.unwrap();
        }
    };
    let ((reached, err, exit), ()) = tokio::join!(asked, comings_and_goings);
    assert_eq!((reached.as_str(), exit.code), ("0\n", 0), "{err}");
    // That it can be reached at all: from where the network's gate is, the engine's host.
    let own = tokio::net::TcpStream::connect((server_at, 7000)).await;
    assert!(own.is_ok(), "{own:?}");
}

#[tokio::test]
async fn a_second_container_of_a_name_is_refused() {
    let (engine, scope) = (docker::engine().await, Scope::new("name"));
    let config = shell(&scope, "true");
    engine.create_container(&config).await.unwrap();
    let refused = engine.create_container(&config).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NameInUse);
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_can_be_removed() {
    let (engine, scope) = (docker::engine().await, Scope::new("start"));
    let mut userless = shell(&scope, "true");
    userless.user = "nobody-of-that-name".into();
    engine.create_container(&userless).await.unwrap();
    let failed = engine.start(&userless.name).await.unwrap_err();
    assert!(
        matches!(&failed.kind, ErrorKind::Refused(words) if words.contains("nobody-of-that-name")),
        "{failed}"
    );
    engine.remove_container(&userless.name).await.unwrap();

    let mut imageless = shell(&scope, "true");
    imageless.image = "localhost/agent-run-it-none:1".into();
    let failed = engine.create_container(&imageless).await.unwrap_err();
    assert!(
        matches!(&failed.kind, ErrorKind::Refused(words) if words.contains("agent-run-it-none")),
        "{failed}"
    );

    // With an init process the engine starts, and the init process says 127.
    let mut absent = shell(&scope, "true");
    absent.entrypoint = vec!["/agent/no-such-program".into()];
    let (_, err, exit) = run(&engine, &absent).await;
    assert_eq!(exit.code, 127, "{err}");
    assert!(err.contains("/agent/no-such-program"), "{err}");
}

#[tokio::test]
async fn an_environment_that_cannot_be_is_refused_without_its_value() {
    let (engine, scope) = (docker::engine().await, Scope::new("environment"));
    for (name, value) in [("", "hunter2"), ("A=B", "hunter2"), ("C", "hunter2\0")] {
        let mut config = shell(&scope, "true");
        config.environment = vec![(name.into(), value.into())];
        let refused = engine.create_container(&config).await.unwrap_err();
        assert!(matches!(refused.kind, ErrorKind::Refused(_)), "{refused}");
        assert!(!format!("{refused:?}").contains("hunter2"));
    }
}

fn request(reference: &str, pull_policy: PullPolicy, build: Option<BuildConfig>) -> ImageRequest {
    ImageRequest {
        reference: reference.parse().unwrap(),
        pull_policy,
        build,
    }
}

fn build_of(context: &Path) -> BuildConfig {
    BuildConfig::Directory {
        context: context.to_owned(),
        dockerfile: "docker/Dockerfile".into(),
        target: Some("wanted".into()),
        args: BTreeMap::from([("WORD".into(), "from-args".into())]),
    }
}

/// A context with one file of each kind, and secrets outside of it.
fn write_context(outside: &Path) -> std::path::PathBuf {
    let context = outside.join("context");
    fs::create_dir_all(context.join("docker")).unwrap();
    fs::write(outside.join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink("../secret", context.join("leaves")).unwrap();
    std::os::unix::fs::symlink("kept.txt", context.join("stays")).unwrap();
    for dir in ["node_modules/deep", "src/deep", "docs", "a"] {
        fs::create_dir_all(context.join(dir)).unwrap();
    }
    for file in [
        "kept.txt",
        "debug.log",
        "important.log",
        "node_modules/deep/x.js",
        "src/a.tmp",
        "src/deep/b.tmp",
        "src/deep/b.rs",
        "docs/README.md",
        "docs/other.md",
        "a/node_modules",
        "c1",
        "c9",
    ] {
        fs::write(context.join(file), file).unwrap();
    }
    let ignore = "# a comment\n*.log\n!important.log\n/node_modules/\n**/*.tmp\ndocs\n!docs/README.md\ndocker\n\nc[0-4]\n";
    fs::write(context.join(".dockerignore"), ignore).unwrap();
    let dockerfile = format!(
        "FROM {BASE_IMAGE} AS wanted\nARG WORD\nCOPY . /context\nENV WORD=$WORD\n\
         ENTRYPOINT [\"printenv\"]\nCMD [\"WORD\"]\nFROM wanted\nCMD [\"wrong\"]\n"
    );
    fs::write(context.join("docker/Dockerfile"), dockerfile).unwrap();
    context
}

#[tokio::test]
async fn a_directory_is_built_without_what_it_ignores() {
    let (engine, scope) = (docker::engine().await, Scope::new("build"));
    let outside = tempfile::tempdir().unwrap();
    let context = write_context(outside.path());
    let reference = scope.image();
    let request = request(&reference, PullPolicy::Build, Some(build_of(&context)));
    let (image, same) = tokio::join!(engine.ensure_image(&request), engine.ensure_image(&request));
    let image: ImageInfo = image.unwrap();
    assert_eq!(same.unwrap(), image);
    assert_eq!(image.entrypoint, ["printenv"]);
    assert_eq!(image.command, ["WORD"]);
    assert!(image.id.starts_with("sha256:"));

    let mut list = shell(
        &scope,
        "cd /context; find . ! -type d | sort; cat leaves; printenv WORD",
    );
    list.image = image.id;
    let (out, err, _) = run(&engine, &list).await;
    // The Dockerfile is sent although it is ignored, and the engine leaves it out of the copy.
    let expected = "./.dockerignore\n./a/node_modules\n./c9\n./docs/README.md\n\
        ./important.log\n./kept.txt\n./leaves\n./src/deep/b.rs\n./stays\nfrom-args\n";
    assert_eq!(out, expected);
    assert!(
        err.contains("leaves: No such file"),
        "a link's target was sent: {err}"
    );
}

#[tokio::test]
async fn a_build_that_fails_says_why() {
    let (engine, scope) = (docker::engine().await, Scope::new("build-fails"));
    let context = tempfile::tempdir().unwrap();
    let build = |dockerfile: &str| BuildConfig::Directory {
        context: context.path().to_owned(),
        dockerfile: dockerfile.into(),
        target: None,
        args: BTreeMap::new(),
    };
    let fail = async |build| {
        let reference = scope.image();
        let request = request(&reference, PullPolicy::Missing, Some(build));
        match engine.ensure_image(&request).await.unwrap_err().kind {
            ErrorKind::ImageUnavailable(words) => words,
            other => panic!("{other:?}"),
        }
    };
    let dockerfile = format!("FROM {BASE_IMAGE}\nRUN printf 'red \\033[31m words\\n'; exit 9\n");
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let words = fail(build("Dockerfile")).await;
    assert!(
        words.contains("red [31m words") && words.contains("non-zero code: 9"),
        "{words:?}"
    );
    fs::write(
        context.path().join("Dockerfile"),
        "FROM 127.0.0.1:1/none:1\n",
    )
    .unwrap();
    let words = fail(build("Dockerfile")).await;
    assert!(words.contains("127.0.0.1:1"), "{words}");
    assert!(
        fail(build("Absent"))
            .await
            .contains("no Dockerfile `Absent`")
    );
    assert!(
        fail(build("../Dockerfile"))
            .await
            .contains("not a path inside")
    );
    fs::remove_dir_all(context.path()).unwrap();
    assert!(fail(build("Dockerfile")).await.contains("cannot be read"));
}

#[tokio::test]
async fn an_image_of_the_engine_is_found_and_a_missing_one_named() {
    let engine = docker::engine().await;
    let found = request(
        BASE_IMAGE,
        PullPolicy::Missing,
        Some(BuildConfig::EmbeddedBase),
    );
    let found = engine.ensure_image(&found).await.unwrap();
    assert!(found.id.starts_with("sha256:"), "{}", found.id);
    let missing = request("127.0.0.1:1/none:1", PullPolicy::Missing, None);
    let missing = engine.ensure_image(&missing).await.unwrap_err();
    let words = missing.kind.describe();
    assert!(
        matches!(missing.kind, ErrorKind::ImageUnavailable(_)),
        "{words}"
    );
    assert!(words.contains("127.0.0.1:1"), "{words}");
    let unbuildable = request(BASE_IMAGE, PullPolicy::Build, None);
    let unbuildable = engine.ensure_image(&unbuildable).await.unwrap_err();
    assert!(
        unbuildable.to_string().contains("nothing says how"),
        "{unbuildable}"
    );
}

#[tokio::test]
async fn views_of_one_directory_are_separate_and_leave_it_alone() {
    let (engine, scope) = (docker::engine().await, Scope::new("views"));
    let directory = tempfile::TempDir::new().unwrap();
    let place = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let lower = place("lower");
    place("lower/folder");
    for file in ["lower/folder/file", "lower/gone", "lower/changed"] {
        fs::write(directory.path().join(file), "below").unwrap();
    }
    let mut scripts = Vec::new();
    for name in ["one", "two"] {
        let volume = VolumeConfig {
            name: scope.volume(),
            labels: agent_run::id::run_labels(
                &"260101-000000-aaaa".parse().unwrap(),
                agent_run::id::Role::View,
            ),
            lower: lower.clone(),
            upper: place(&format!("{name}-upper")),
            work: place(&format!("{name}-work")),
        };
        engine.create_volume(&volume).await.unwrap();
        let script = format!(
            "cd /view; grep ' /view ' /proc/mounts | cut -d ' ' -f 4; cat folder/file changed; \
             echo {name} >changed; rm gone; \
             perl -e 'rename \"folder\", \"{name}\" or die $!'; ls"
        );
        let mut config = shell(&scope, &script);
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        config.user = format!("{}:{}", uid.as_raw(), gid.as_raw());
        config.volumes = vec![VolumeMount {
            volume: volume.name,
            target: "/view".into(),
        }];
        scripts.push((name, config));
    }
    for (name, config) in &scripts {
        let (out, err, _) = run(&engine, config).await;
        let (options, rest) = out.split_once('\n').unwrap();
        assert!(options.starts_with("rw,nosuid,nodev,"), "{options}");
        assert_eq!(rest, format!("belowbelowchanged\n{name}\n"), "{err}");
    }
    for (file, bytes) in [
        ("folder/file", "below"),
        ("gone", "below"),
        ("changed", "below"),
    ] {
        assert_eq!(fs::read_to_string(lower.join(file)).unwrap(), bytes);
    }
}
