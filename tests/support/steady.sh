# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The client that sends datagrams steadily (tests/tools/steady), for scripts that have sourced pair.sh.
# shellcheck disable=SC2034 # for who sources it

steady=$COLO_BUILD/tests/tools/steady
out=$HOSTS_DIR/client/steady.log

# What the last line of $out tells.
told() {
    for name in lost duplicated strange connection; do
        printf '%s=%s ' $name "$(figure "$(tail -n 1 "$out")" $name)"
    done
}
GOOD='lost=0 duplicated=0 strange=0 connection=kept '

# steady_runs SECONDS PER-SECOND: to its end.
steady_runs() {
    : >"$out"
    hosts_exec client "$steady" --seconds "$1" --per-second "$2" "$HOSTS_GUEST_IP" >>"$out" 2>&1
}
