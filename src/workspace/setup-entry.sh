#!/bin/sh
# The main process of a container that an image is made of, until its own takes over: reads the variables
# of that from standard input, one `NAME BASE64` in a line, up to an empty line. In the container's own
# configuration they would become part of the image. POSIX sh.
set -u
while IFS=' ' read -r name value && [ -n "$name" ]; do
    # The point keeps line ends at the end of a value.
    value=$(printf '%s' "$value" | base64 -d && echo .) || exit 125
    export "$name=${value%.}"
done
unset name value
exec "$@"
