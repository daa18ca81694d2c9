#!/bin/sh
# Prints how the repository grew: commits, the files that change most often, the longest lines.
set -eu

echo "reading the history" >&2
printf '# History\n\n%s commits, %s authors, %s files now.\n' \
    "$(git rev-list --count HEAD)" "$(git shortlog -sn HEAD </dev/null | wc -l)" "$(git ls-files | wc -l)"

echo "counting changes per file" >&2
printf '\n## Files that change most often\n\n| commits | file |\n|---|---|\n'
git log --format= --name-only HEAD | sort | uniq -c | sort -rn | head -n 15 |
    awk '{ printf "| %s | %s |\n", $1, $2 }'

echo "looking for long lines and open ends" >&2
printf '\n## Rust lines of more than 100 characters\n\n'
rg --sort path --line-number --type rust '^.{101,}$' src tests | cut -d : -f 1,2 | sed 's/^/- /' || echo "none"
printf '\n## Open ends\n\n'
rg --sort path --line-number --word-regexp 'TODO|FIXME|XXX' src tests | sed 's/^/- /' || echo "none"
