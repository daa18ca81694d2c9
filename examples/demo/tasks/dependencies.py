"""Writes a table of the packages that a Cargo.lock pins, with those that are there more than once."""

import collections
import os
import pathlib
import sys
import tomllib

lock, target = map(pathlib.Path, sys.argv[1:])
versions = collections.defaultdict(list)
needed_by = collections.Counter()
for package in tomllib.loads(lock.read_text())["package"]:
    versions[package["name"]].append(package["version"])
    needed_by.update(name.split()[0] for name in package.get("dependencies", []))

twice = {name: found for name, found in versions.items() if len(found) > 1}
print(f"{len(versions)} packages, {len(twice)} in more than one version")
lines = [f"# {os.environ['TITLE']}", "", "| package | versions | needed by |", "|---|---|---|"]
for name, found in sorted(versions.items()):
    mark = " (!)" if name in twice else ""
    lines.append(f"| {name}{mark} | {', '.join(found)} | {needed_by[name]} |")
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text("\n".join(lines) + "\n")
