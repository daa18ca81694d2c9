# Whoever is asked to end has a grace for it: this shell ends after what it waits for.
trap 'exit 143' TERM

# What the agent is told: the prompt, and what the check said of the result that it goes on from. In the same
# conversation it knows the prompt.
told() {
    if [ -z "${AGENT_FEEDBACK:-}" ] || [ -z "${AGENT_SESSION:-}" ]; then
        cat /agent/prompt.md
    fi
    if [ -n "${AGENT_FEEDBACK:-}" ]; then
        printf '\n\n'
        cat "$AGENT_FEEDBACK"
    fi
}

# What the client has used so far where its events do not tell: one object of JSON with `turns`, `tokens` or `usd`.
# A preset may have one of its own.
spent() {
    echo '{}'
}

# Writes down what has been used so far, by the events and by `spent`; not half of it.
note() {
    { cat "$state/numbers" && spent; } | jq -sc add >"$state/$1" && mv "$state/$1" "$state/usage.json"
}

# Makes lines for people of a client's events, one JSON object in a line; what is none stays as it is.
# The program of jq in $1 defines `event`, which makes of one any number of objects with `line`, `turn`
# (its id), `part` (an id, with the `tokens` and `usd` of that), or `tokens` and `usd` (both in all), or
# `retry_after` (seconds that the model asks to wait); of an event that it fails at, nothing. The numbers
# go to standard error whenever they change, as JSON.
events() {
    jq -nRr --unbuffered --argjson most "${AGENT_MAX_TURNS:-0}" '
        def short: tostring | split("\n")[0] | .[0:300];
        def call($name; $input): "\($name): \([$input | .command?, .cmd?, .file_path?, .filePath?,
            .path?, .pattern?, .query?, .url?, .description? | values] | first // "" | short)";
        def numbers: { turns: (.seen | length), tokens, usd, retry_after };
        def told: "agent-run: turns: \(.turns)" + if .tokens then ", tokens: \(.tokens)" else "" end
            + if (.usd // 0) > 0 then ", $\(.usd * 10000 | round / 10000)" else "" end;
        '"$1"'
        foreach (inputs, null) as $raw ({ seen: {}, parts: {}, say: [] };
            .say = []
            | .before = numbers
            | if $raw then
                reduce ($raw | (fromjson? | objects) // null
                    | if . then event? else { line: $raw } end) as $e (.;
                    if $e.line then .say += [$e.line] else . end
                    | if $e.retry_after then .retry_after = $e.retry_after else . end
                    | if $e.turn then .seen[$e.turn | tostring] = true else . end
                    | if $e.part then
                        .parts[$e.part | tostring] = $e
                        | .tokens = ([.parts[].tokens | values] | add)
                        | .usd = ([.parts[].usd | values] | add)
                      else
                        if $e.tokens then .tokens = $e.tokens else . end
                        | if $e.usd then .usd = $e.usd else . end
                      end)
              else . end
            | .is_over = ($raw == null or $most > 0 and (.seen | length) > $most)
            | if .is_over then .say += [numbers | told] else . end;
            (if numbers == .before then empty else numbers | stderr | empty end),
            .say[], if .is_over and $raw != null then "" | halt_error(79) else empty end)'
}

# Runs the client of the agent, passes on what it writes, and ends with its code: or with 69 where the model
# could not be reached or failed, 75 where it limits the rate, 77 where it refuses the key, 78 where the
# client does not know an option of the preset, 79 at the limit of turns. $1 is for `events`, or empty.
client() {
    program=$1
    shift
    state=$HOME/.agent-run
    mkdir -p "$state"
    : >"$state/numbers"
    pipes=$(mktemp -d)
    mkfifo "$pipes/said" "$pipes/errors"
    { while sleep 2; do note so-far || true; done; } >/dev/null 2>&1 &
    noting=$!
    # Where all are asked to end, the client alone does so: what it writes until then is heard.
    (trap '' TERM && show <"$pipes/said") &
    showing=$!
    (trap '' TERM && tee "$state/errors" <"$pipes/errors" >&2) &
    telling=$!
    trap : TERM
    code=0
    # shellcheck disable=SC2016 # for the inner shell
    sh -c 'echo $$ >"$0/pid"; exec "$@"' "$state" "$@" >"$pipes/said" 2>"$pipes/errors" || code=$?
    trap '' TERM
    # What it has left running may hold them open for ever.
    { sleep 5 && kill -s KILL "$showing" "$telling"; } >/dev/null 2>&1 &
    wait "$showing" "$telling" 2>/dev/null || true
    kill "$noting" 2>/dev/null || true
    note at-last 2>/dev/null || true
    ending "$code"
}

# Keeps and shows what the client says, and ends it when it has used all of its turns.
show() {
    if [ -z "$program" ]; then
        cat
    else
        tee "$state/transcript.jsonl" | {
            shown=0
            events "$program" 2>"$state/numbers" || shown=$?
            if [ "$shown" -eq 79 ]; then
                touch "$state/over"
                kill "$(cat "$state/pid")" 2>/dev/null || true
                { sleep 10 && kill -s KILL "$(cat "$state/pid")"; } >/dev/null 2>&1 &
                cat >/dev/null
            fi
            # What is left where that has failed; else nothing.
            cat
        }
    fi | tee "$state/said"
}

# Ends with the code that says why the client ended with that one.
ending() {
    if [ -f "$state/over" ]; then
        because 79 "it has used all of its turns"
    fi
    [ "$1" -ne 0 ] || exit 0
    # What an allow-list refuses is no answer of the model.
    last=$({ tail -n 100 "$state/said"; tail -n 100 "$state/errors"; } | tail -c 100000 | tr -d '\000' | sed '/Tunnel connection failed/d')
    if says 'unknown (option|argument|flag)|unexpected argument|unrecognized argument|no such option|-h, +--help'; then
        because 78 "its client does not know an option of the preset, which is for version ${AGENT_VERSION:-?}"
    elif says 'max(imum)?[ _](session )?turns|LimitsExceeded'; then
        because 79 "it has used all of its turns"
    elif says 'rate.?limit|too many requests|(^|[^0-9])429([^0-9]|$)|RESOURCE_EXHAUSTED|exceeded.*quota|hit your .*limit'; then
        asks >>"$state/numbers" 2>/dev/null || true
        note at-last 2>/dev/null || true
        after=$(jq -r '.retry_after // empty | ceil' "$state/usage.json" 2>/dev/null || true)
        because 75 "the model limits the rate${after:+, and asks to wait for $after s}"
    elif says '(^|[^0-9])40[13]([^0-9]|$)|unauthori[sz]ed|authentication|invalid.*api.?key|not logged in'; then
        because 77 "the model refuses the key"
    elif says '(^|[^0-9])5[0-9][0-9]([^0-9]|$)|overloaded|internal server|api error|connect|stream|fetch failed|high demand'; then
        because 69 "the model could not be reached, or failed"
    fi
    exit "$1"
}

# How long the model has asked to wait, as `{ "retry_after": seconds }`, where the client has passed its words on.
asks() {
    printf '%s\n' "$last" | jq -Rsc '
        [gsub("\\s+"; " ")
            | scan("(?i)(?:try again|retry)[ _-](?:in|after)\\W+(?:([0-9]+) ?d(?:ays?)?[, ]*)?(?:([0-9]+) ?h(?:ours?)?[, ]*)?"
                + "(?:([0-9]+) ?m(?!s)(?:in(?:ute)?s?)?[, ]*)?(?:([0-9]+(?:\\.[0-9]+)?) ?(ms)?)?")
            | (.[:4] | map(. // "0" | tonumber)) as [$days, $hours, $minutes, $seconds]
            | ($days * 24 + $hours) * 3600 + $minutes * 60 + if .[4] then $seconds / 1000 else $seconds end
            | select(. > 0)]
        | last // empty | { retry_after: . }'
}

says() {
    printf '%s\n' "$last" | grep -Eqi -e "$1"
}

because() {
    echo "agent-run: ${AGENT_NAME:-agent}: $2" >&2
    exit "$1"
}
