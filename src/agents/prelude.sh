# What the agent is told: the prompt, and what the check said of the result that it goes on from.
told() {
    cat /agent/prompt.md
    if [ -n "${AGENT_FEEDBACK:-}" ]; then
        printf '\n\n'
        cat "$AGENT_FEEDBACK"
    fi
}
