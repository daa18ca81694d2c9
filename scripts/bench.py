#!/usr/bin/env python3
"""Compares agent-run with a plain shell loop on this machine, in one run, on a tmpfs.

1. N tasks that write one file and commit it, J at once: agent-run, and `git worktree add` +
   `docker run --rm` in a loop (which gives its containers the repository's writable .git).
2. One, three and five tasks that sleep: what running side by side costs.
3. One task that writes 1 GiB: agent-run, the same with 50 secrets to mask, and `docker run > file`;
   and the most memory that agent-run took.
4. Events written to a file, against 200 000 a second.
5. A terminal with 200 running tasks that write ten lines a second each: CPU time, against 10 % of a core.

Prints medians and their ratios. The first round of each is shown apart: it fills caches.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = "date > note-$TASK.txt && git add . && git commit -qm note-$TASK"
# Parallel `git worktree add` in one repository fails now and then, so the loop takes a lock for it.
SHELL_TASK = """
set -eu
name=shell-$ROUND-$1 tree=$TREES/$1
flock "$TREES.lock" git -C "$REPO" worktree add -q -b "$name" "$tree"
docker run --rm --init --network none --memory 256m --cpus 1 --user "$(id -u):$(id -g)" \\
    -e GIT_AUTHOR_NAME=bench -e GIT_AUTHOR_EMAIL=bench@localhost \\
    -e GIT_COMMITTER_NAME=bench -e GIT_COMMITTER_EMAIL=bench@localhost -e TASK="$1" \\
    -v "$REPO:$REPO" -v "$tree:$tree" -w "$tree" "$IMAGE" sh -c "$WORK"
flock "$TREES.lock" git -C "$REPO" worktree remove --force "$tree"
"""


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"bench: {command[0]} failed ({result.returncode}):\n{result.stdout}{result.stderr}")
    return result.stdout


def make_repository(path):
    for index in range(1000):
        file = path / f"folder-{index % 50}" / f"file-{index}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"line of file {index}\n" * 40)
    run("git", "init", "-q", "-b", "main", cwd=path)
    for key in ("user.name", "user.email"):
        run("git", "config", key, "bench@localhost", cwd=path)
    run("git", "add", ".", cwd=path)
    run("git", "commit", "-qm", "base", cwd=path)


def branches(repository, pattern):
    listed = run("git", "for-each-ref", "--format=%(refname)", pattern, cwd=repository)
    return len(listed.splitlines())


def timed(action):
    started = time.monotonic()
    action()
    return time.monotonic() - started


def shell_round(scratch, repository, options, image, number):
    trees = scratch / f"trees-{number}"
    trees.mkdir()
    environment = os.environ | {
        "ROUND": str(number), "TREES": str(trees), "REPO": str(repository), "IMAGE": image, "WORK": WORK,
    }
    tasks = "\n".join(str(index) for index in range(options.tasks))
    took = timed(lambda: run(
        "xargs", "-P", str(options.jobs), "-n", "1", "sh", "-c", SHELL_TASK, "task",
        input=tasks, env=environment,
    ))
    expect(branches(repository, f"refs/heads/shell-{number}-*"), options.tasks)
    return took


def agent_run(scratch, repository, tasks, jobs, state):
    spec = scratch / "spec.yaml"
    limits = {"cpus": 1, "mem_limit": "256m", "network_mode": "none"}
    tasks = {
        f"t{index}": limits | {"environment": {"TASK": str(index)}, "run": script}
        for index, script in enumerate(tasks)
    }
    # JSON is YAML.
    spec.write_text(json.dumps({"version": 1, "repo": str(repository), "tasks": tasks}))
    program = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "agent-run"
    return timed(lambda: run(program, "run", spec, "-j", str(jobs), "--state-dir", state))


def expect(found, wanted, what="branches"):
    if found != wanted:
        sys.exit(f"bench: {what}: {found}, not {wanted}")


def show(name, times):
    later = times[1:] or times
    middle = statistics.median(later)
    print(f"  {name:<22} first {times[0]:6.2f} s   median {middle:6.2f} s   "
          f"({min(later):.2f} to {max(later):.2f})", flush=True)
    return middle


def compare_loop(scratch, options, image):
    print(f"{options.tasks} tasks with one commit each, {options.jobs} at once, {options.rounds} rounds:")
    ours, theirs = scratch / "ours", scratch / "theirs"
    for repository in (ours, theirs):
        make_repository(repository)
    shell, agent = [], []
    for number in range(options.rounds + 1):
        shell.append(shell_round(scratch, theirs, options, image, number))
        agent.append(agent_run(scratch, ours, [WORK] * options.tasks, options.jobs, scratch / "state"))
        expect(branches(ours, "refs/heads/agent/"), options.tasks * (number + 1))
    ratio = show("agent-run", agent) / show("shell loop", shell)
    print(f"  agent-run / shell loop: {ratio:.2f}")


def compare_sleepers(scratch, options, _image):
    print(f"tasks that sleep {options.sleep} s, all at once, {options.rounds} rounds:")
    repository = scratch / "sleepers"
    make_repository(repository)
    times = {count: [] for count in (1, 3, 5)}
    for _ in range(options.rounds + 1):
        for count, taken in times.items():
            tasks = [f"sleep {options.sleep}"] * count
            taken.append(agent_run(scratch, repository, tasks, count, scratch / "state"))
    medians = {count: show(f"{count} at once", taken) for count, taken in times.items()}
    for count in (3, 5):
        print(f"  {count} / 1: {medians[count] / medians[1]:.3f}")


# Lines of 100 bytes, as fast as they come.
FLOOD = "yes " + "0123456789" * 9 + "012345678 | head -c {size}"


def measured(command, **options):
    """Runs a command; how long it took, and the most memory that it had, in MiB."""
    started = time.monotonic()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"bench: {command[0]} failed ({process.returncode})")
    return took, usage.ru_maxrss / 1024


def flood_to_agent_run(scratch, repository, size, secrets):
    task = {"cpus": 2, "mem_limit": "256m", "network_mode": "none", "log_limit": "4g",
            "run": FLOOD.format(size=size), "secrets": sorted(secrets)}
    spec = scratch / "flood.yaml"
    spec.write_text(json.dumps({
        "version": 1, "repo": str(repository), "tasks": {"flood": task},
        "secrets": {name: {"environment": name.upper()} for name in secrets},
    }))
    state = scratch / "flood-state"
    program = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "agent-run"
    environment = os.environ | {name.upper(): value for name, value in secrets.items()}
    with open(scratch / "shown", "wb") as shown:
        result = measured([program, "run", spec, "--state-dir", state], env=environment,
                          stdout=shown, stderr=shown)
    written = sum(log.stat().st_size for log in state.glob("runs/*/logs/*.log"))
    # Each line has a time, a stream and a tag before it; one that stood still has them twice.
    lines = size // 100
    expect(lines * 134 <= written < lines * 135, True, "log that is whole")
    shutil.rmtree(state / "runs")
    return result


def flood_to_docker(scratch, size, image):
    log = scratch / "docker.log"
    command = ["docker", "run", "--rm", "--init", "--network", "none", "--memory", "256m", "--cpus", "2",
               image, "sh", "-c", FLOOD.format(size=size)]
    with open(log, "wb") as file:
        took, _ = measured(command, stdout=file)
    expect(log.stat().st_size, size, "bytes of log")
    log.unlink()
    return took


def compare_logs(scratch, options, image):
    size = options.log // 100 * 100
    print(f"one task that writes {size >> 20} MiB, {options.rounds} rounds:")
    repository = scratch / "floods"
    make_repository(repository)
    secrets = {f"secret_{n:02}": f"sk-{n:02}-{n * 7919:08x}/Tr0ub4dor&{n * 104729:x}" for n in range(50)}
    ours, masked, theirs, memory = [], [], [], 0
    for _ in range(options.rounds + 1):
        theirs.append(flood_to_docker(scratch, size, image))
        for times, values in ((ours, {}), (masked, secrets)):
            took, peak = flood_to_agent_run(scratch, repository, size, values)
            times.append(took)
            memory = max(memory, peak)
    base = show("docker run > file", theirs)
    plain = show("agent-run", ours)
    with_secrets = show("agent-run, 50 secrets", masked)
    print(f"  agent-run / docker run: {plain / base:.2f}")
    print(f"  50 secrets / none: {with_secrets / plain:.2f}")
    print(f"  agent-run's peak memory: {memory:.0f} MiB")


def count_events(scratch, _options, _image):
    bench = ("cargo", "bench", "-q", "--locked", "--bench", "events", "--", scratch / "events.ndjson")
    rates = sorted(int(run(*bench, cwd=ROOT).splitlines()[-1]) for _ in range(3))
    print(f"events to a file: {rates[1]} a second ({rates[0]} to {rates[2]}), wanted: 200000")


def measure_terminal(scratch, _options, _image):
    told = scratch / "terminal.txt"
    bench = f"stty rows 50 cols 200; cargo bench -q --locked --bench terminal > {told}"
    run("script", "-qec", bench, "/dev/null", cwd=ROOT, stdin=subprocess.DEVNULL)
    table, lines = told.read_text().split()
    print(f"terminal with 200 tasks at 10 lines/s: {table} % of a core, {lines} % with all lines, wanted: 10")


COMPARISONS = {
    "loop": compare_loop,
    "sleepers": compare_sleepers,
    "logs": compare_logs,
    "events": count_events,
    "terminal": measure_terminal,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sleep", type=int, default=10)
    parser.add_argument("--log", type=int, default=1 << 30, help="bytes that one task writes")
    parser.add_argument("--only", choices=COMPARISONS, help="one comparison instead of all")
    options = parser.parse_args()

    print("bench: this builds agent-run and takes about ten minutes", flush=True)
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    version = next(line for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version"))
    image = "agent-run-base:" + version.split('"')[1]

    memory = pathlib.Path("/dev/shm")
    if not memory.is_dir():
        print("bench: no /dev/shm here: on disk, so compare ratios only within this run")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="agent-run-bench.", dir=memory if memory.is_dir() else None))
    try:
        for name, compare in COMPARISONS.items():
            if options.only in (None, name):
                compare(scratch, options, image)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
