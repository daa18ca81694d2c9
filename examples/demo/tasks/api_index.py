"""Lists the public items of a Rust source folder, with the first sentence of what is said of each."""

import pathlib
import re
import sys

ITEM = re.compile(r"^\s*pub (?:async )?(?:const |unsafe )?(fn|struct|enum|trait|type|mod) (\w+)")


def items(file):
    said = []
    for line in file.read_text().splitlines():
        text = line.strip()
        if text.startswith("///"):
            said.append(text[3:].strip())
        elif found := ITEM.match(line):
            yield found[1], found[2], " ".join(said).split(". ")[0].rstrip(".")
            said = []
        elif not text.startswith("#["):
            said = []


source, target = map(pathlib.Path, sys.argv[1:])
lines = ["# Public items", ""]
for file in sorted(source.rglob("*.rs")):
    found = list(items(file))
    if found:
        print(f"{file}: {len(found)} items", flush=True)
        lines += [f"## {file}", "", "| kind | name | what |", "|---|---|---|"]
        lines += [f"| {kind} | `{name}` | {what.replace('|', chr(92) + '|')} |" for kind, name, what in found]
        lines.append("")
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text("\n".join(lines))
