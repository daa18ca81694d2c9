#!/bin/sh
# Adds a script that counts the lines of code per module, then a test of it, each as a commit.
set -eu

mkdir -p tools
cat >tools/count-lines <<'SCRIPT'
#!/bin/sh
# Lines of Rust per folder of src, without blank lines and comments.
set -eu
cd "${1:-src}"
find . -name '*.rs' | sort | while read -r file; do
    printf '%s %s\n' "$(grep -cvE '^[[:space:]]*(//|$)' "$file" || true)" "$(dirname "$file")"
done | awk '{ lines[$2] += $1 } END { for (folder in lines) print lines[folder], folder }' | sort -rn
SCRIPT
chmod +x tools/count-lines
tools/count-lines
git add tools
git commit -m "tools: count the lines of code per folder"

cat >tools/count-lines-test <<'SCRIPT'
#!/bin/sh
# Two lines of code, one comment, one blank line: 2.
set -eu
folder=$(mktemp -d)
printf '// a comment\nfn a() {}\n\nfn b() {}\n' >"$folder/a.rs"
counted=$("$(dirname "$0")/count-lines" "$folder")
rm -r "$folder"
test "$counted" = "2 ." || { echo "counted '$counted', not '2 .'" >&2; exit 1; }
echo "count-lines-test: passed"
SCRIPT
chmod +x tools/count-lines-test
tools/count-lines-test
git add tools
git commit -m "tools: test count-lines"
