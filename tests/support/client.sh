# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The client of the demo, the tests and the benchmarks: one tests/tools/traffic on the test host
# client. Source it after hosts.sh.
#
#     client_start --every-ms 5          # options of traffic; connected when it returns
#     client_mark; kill something        # figures so far: client_figure records
#     client_recover 30                  # answers again; the longest gap is in client_gap_ms
#     client_stop                        # its result: client_figure lost; fails if something was lost

client_start() {
    client_log=$HOSTS_DIR/client/traffic.log
    rm -f "$client_log"
    hosts_start client traffic "$COLO_BUILD/tests/tools/traffic" "$@" "$HOSTS_GUEST_IP"
    # shellcheck disable=SC2154 # hosts_start sets it
    client_pid=$hosts_pid client_line=''
    hosts_wait 20 "the client to connect" client_has_lines 1
}

client_has_lines() {
    [ -e "$client_log" ] && [ "$(wc -l <"$client_log")" -ge "$1" ]
}

# Takes the figures up to now, and begins a new gap.
client_mark() {
    client_lines=$(wc -l <"$client_log")
    kill -USR1 "$client_pid" 2>/dev/null || return 1
    hosts_wait 20 "the client's figures" client_has_lines $((client_lines + 1)) || return 1
    client_line=$(tail -n 1 "$client_log")
}

# One figure of the last mark, or of the result.
client_figure() {
    printf '%s\n' "$client_line" | "$COLO_BUILD/tests/tools/json-get" "$1"
}

# client_recover SECONDS: waits until the client has had several answers from now on. The longest gap
# since the last mark is in client_gap_ms then.
client_recover() {
    client_mark || return 1
    client_gap_ms=$(client_figure gap_ms) client_wanted=$(($(client_figure records) + 5))
    hosts_wait "$1" "the client to go on" client_has_recovered
}

client_has_recovered() {
    client_mark || return 1
    client_gap_ms=$(printf '%s\n' "$client_gap_ms" "$(client_figure gap_ms)" | sort -n | tail -n 1)
    [ "$(client_figure records)" -ge "$client_wanted" ]
}

client_stop() {
    kill -TERM "$client_pid" 2>/dev/null
    client_result=0
    wait "$client_pid" || client_result=$?
    client_line=$(tail -n 1 "$client_log")
    return $client_result
}
