"""Aligns the columns of every Markdown table of the repository, in place."""

import pathlib
import re
import subprocess

CELL = re.compile(r"(?<!\\)\|")


def aligned(rows):
    cells = [[cell.strip() for cell in CELL.split(row.strip().strip("|"))] for row in rows]
    width = max(map(len, cells))
    cells = [row + [""] * (width - len(row)) for row in cells]
    sizes = [max(len(row[i]) for row in cells if not set(row[i]) <= set("-:")) for i in range(width)]
    for row in cells:
        rule = all(set(cell) <= set("-:") for cell in row)
        filled = (c.ljust(n, "-" if rule else " ") for c, n in zip(row, sizes))
        yield "| " + " | ".join(filled) + " |"


def rewrite(text):
    rows, fenced = [], False
    for line in text.splitlines() + [""]:
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            rows.append(line)
            continue
        if len(rows) > 1:
            yield from aligned(rows)
        else:
            yield from rows
        rows = []
        yield line


for name in subprocess.check_output(["git", "ls-files", "*.md"], text=True).splitlines():
    file = pathlib.Path(name)
    before = file.read_text()
    after = "\n".join(rewrite(before))
    if after != before:
        print(f"aligned the tables of {name}", flush=True)
        file.write_text(after)
