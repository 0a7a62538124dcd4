# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The client that does everything at once: one tests/tools/mixed-traffic on the test host client. Source
# it after pair.sh, which has need(), has_ended() and $PATIENCE.
#
#     mixed_start --bulk-mb 20           # options of mixed-traffic; all kinds are going when it returns
#     mixed_event; kill something; wait until the survivor runs
#     mixed_recovered "round 1"          # all kinds go on, with nothing lost; gaps of this round noted
#     mixed_end                          # its verdict
#
# Datagrams may be lost at a takeover; 1 in 50 besides, for a guest on a busy machine has no room for what
# comes at times, and QEMU drops what the guest has no room for whenever it stops.

# All kinds but time, which makes comparing useless: a pair in mode colo hardly compares any more then.
MIXED_COMPARABLE=echo,echo-nagle,http,get,put,dial,dial-long,udp,ping
MIXED_COMPARABLE=$MIXED_COMPARABLE,echo6,echo-nagle6,http6,get6,put6,dial6,dial-long6,udp6,ping6

mixed_start() {
    mixed_log=$HOSTS_DIR/client/mixed.log
    hosts_start client mixed "$COLO_BUILD/tests/tools/mixed-traffic" --guest "$HOSTS_GUEST_IP" \
        --guest6 "$HOSTS_GUEST_IP6" --patience-s "$PATIENCE" --may-lose 2 "$@"
    # shellcheck disable=SC2154 # hosts_start sets it
    mixed_pid=$hosts_pid
    : >"$HOSTS_DIR/gaps"
    need "the client begins" grep -q '"begun":true' "$mixed_log"
    need "all kinds of traffic are going" mixed_continues
}

mixed_has_lines() {
    [ "$(wc -l <"$mixed_log")" -gt "$mixed_lines" ]
}

# Takes the figures up to now.
mixed_mark() {
    mixed_lines=$(wc -l <"$mixed_log")
    kill -USR1 "$mixed_pid" 2>/dev/null && hosts_wait 20 "the client's figures" mixed_has_lines || return 1
    mixed_line=$(tail -n 1 "$mixed_log")
}

# mixed_figure PATH: of the last mark, or of the end.
mixed_figure() {
    printf '%s\n' "$mixed_line" | "$COLO_BUILD/tests/tools/json-get" "$1"
}

# All kinds, since mixed_recovered asked. Or something is lost: that ends the waiting, too.
mixed_continues() {
    mixed_mark && { [ -z "$(mixed_figure silent)" ] || [ "$(mixed_figure good)" = false ]; }
}

# A takeover, or whatever else, comes now.
mixed_event() {
    kill -USR2 "$mixed_pid"
}

mixed_verdict() {
    for mixed_name in good lost duplicated corrupted failed; do
        printf '%s=%s ' $mixed_name "$(mixed_figure $mixed_name)"
    done
    echo
}

MIXED_GOOD='good=true lost=0 duplicated=0 corrupted=0 failed=0 '

# Says what went wrong, a line for each kind that something went wrong with.
mixed_errors() {
    for mixed_kind in $(mixed_kinds); do
        mixed_error=$(mixed_figure "kinds.$mixed_kind.error")
        for mixed_name in lost duplicated corrupted failed; do
            mixed_count=$(mixed_figure "kinds.$mixed_kind.$mixed_name")
            [ "$mixed_count" = 0 ] ||
                diag "$mixed_kind: $mixed_name $mixed_count ${mixed_error:+($mixed_error)}"
        done
    done
}

mixed_kinds() {
    printf '%s\n' "$mixed_line" | grep -o '"[a-z6-]*":{"done"' | cut -d '"' -f 2
}

# mixed_recovered WHAT: everything goes on since the event. The gaps are added to HOSTS_DIR/gaps, a line
# "KIND MILLISECONDS" for each kind.
mixed_recovered() {
    kill -HUP "$mixed_pid"
    need "$1: all kinds of traffic go on" mixed_continues
    is "$1: nothing is lost" "$(mixed_verdict)" "$MIXED_GOOD"
    mixed_errors
    for mixed_kind in $(mixed_kinds); do
        echo "$mixed_kind $(mixed_figure "kinds.$mixed_kind.gap_since_ms")" >>"$HOSTS_DIR/gaps"
    done
    diag "$1: longest waits in ms: $(tail -n "$(mixed_kinds | wc -l)" "$HOSTS_DIR/gaps" | tr '\n' ' ')"
}

# The distribution of the gaps of all rounds: a line for each kind.
mixed_distribution() {
    sort -k 1,1 -k 2,2n "$HOSTS_DIR/gaps" | awk '
        function at(share) { return value[int((n - 1) * share + 0.5) + 1] }
        function flush() {
            if (n) printf "%-12s p50 %8.1f  p90 %8.1f  max %8.1f ms of %d\n", kind, at(.5), at(.9), at(1), n
            n = 0
        }
        $1 != kind { flush(); kind = $1 }
        { value[++n] = $2 }
        END { flush() }'
}

mixed_end() {
    kill -TERM "$mixed_pid"
    need "the client ends" has_ended "$mixed_pid"
    wait "$mixed_pid"
    mixed_status=$?
    mixed_line=$(tail -n 1 "$mixed_log")
    is "the client's last word" "$(mixed_verdict)" "$MIXED_GOOD"
    is "the client's exit status" $mixed_status 0
    is "all kinds have done something" "$(mixed_figure silent)" ""
    mixed_errors
    for mixed_kind in $(mixed_kinds); do
        mixed_told=''
        for mixed_name in "done" bytes excused_lost excused_duplicated; do
            ! mixed_count=$(mixed_figure "kinds.$mixed_kind.$mixed_name" 2>/dev/null) ||
                mixed_told="$mixed_told $mixed_name $mixed_count "
        done
        diag "$mixed_kind:$mixed_told"
    done
}
