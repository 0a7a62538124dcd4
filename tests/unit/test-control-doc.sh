#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# docs/CONTROL.md has every command and every event that there is in the code, and no other.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$COLO_TESTS/..

documented() {
    awk -v part="## $1" '
        /^## / { inside = $0 == part }
        inside && /^### `/ { gsub(/[`# ]/, ""); print }' "$source/docs/CONTROL.md" | sort
}

# The rows of the tables of ControlCommand: {"name", do_function, "arguments", ...
commands=$(cat "$source"/colo/control/control.c "$source"/colo/node/*.c |
    sed -n 's/^    {"\([a-z_-]*\)", *do_[a-z_]*,.*/\1/p' | sort)
events=$(cat "$source"/colo/node/*.c |
    sed -n 's/.*node_emit([a-z_]*, "\([A-Z_]*\)".*/\1/p' | sort -u)

has "the code's tables are found" "$commands" query-events
has "the code's events are found" "$events" STATE_CHANGED
is "commands" "$(documented Commands)" "$commands"
is "events" "$(documented Events)" "$events"
# Arguments: the first words of a command's text are those of the table.
for command in $commands; do
    arguments=$(cat "$source"/colo/control/control.c "$source"/colo/node/*.c |
        sed -n "s/^    {\"$command\", *do_[a-z_]*, *\"\\([^\"]*\\)\".*/\\1/p")
    text=$(sed -n "/^### \`$command\`/{n;p;}" "$source/docs/CONTROL.md")
    case $text in
    "\`"*:*"\` - "*) text=${text#\`} && text=${text%%\`*} ;;
    *) text='' ;;
    esac
    is "arguments of $command" "$text" "$arguments"
done
tap_done
