#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Twenty planned switchovers to and fro under steady traffic, in both modes: each datagram comes back,
# and once; and what TCP has sent again was needless, so nothing of it was lost. How many datagrams the
# guest can echo in a second on this machine is tried first, without a switchover.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/steady.sh
. "$COLO_TESTS/support/steady.sh"

needed_again() {
    line=$(tail -n 1 "$out")
    echo $(($(figure "$line" sent_again) - $(figure "$line" needless)))
}

echoes() { # PER-SECOND
    steady_runs 4 "$1"
    diag "without a switchover, $1 in a second: $(tail -n 1 "$out")"
    [ "$(told)" = "$GOOD" ]
}

# A card of the guest has room for 256 datagrams. If it gets no cycles for so long that more come, QEMU keeps them, and
# drops them at the next pause, without any move (docs/ARCHITECTURE.md, "Input that is lost in a pause"): so on this
# machine it can't be a thousand in a second for sure, and in colo mode, with two guests, less.
find_rate() { # RATE...
    for rate; do
        if echoes "$rate" && echoes "$rate"; then return 0; fi
    done
    return 1
}

is_running() {
    grep -q connected "$out"
}

# The guest has had few cycles while it moved. On a slow machine it must not have ever fewer. (Asks for figures, and
# looks at those that were asked for before: a wait within a wait would never end.)
has_caught_up() {
    kill -USR1 "$steady_pid"
    away=$(figure "$(tail -n 1 "$out")" away 2>/dev/null) && [ "$(wc -l <"$out")" -gt "$lines" ] && [ "$away" -lt 100 ]
}

twenty_moves() { # MODE RATE...
    mode=$1
    shift
    find_rate "$@"
    is "$mode: there is a rate that the guest can echo" $? 0 || return 1
    : >"$out"
    hosts_start client steady "$steady" --per-second "$rate" --drain-s 20 "$HOSTS_GUEST_IP"
    steady_pid=$hosts_pid
    need "$mode: the client is there" is_running
    moved=0
    while [ $moved -lt 20 ] && hosts_colo "$primary" switchover --wait >/dev/null; do
        pair_swap
        hosts_wait "$PATIENCE" "a protected pair" is_pair "$primary" "$secondary" || break
        moved=$((moved + 1))
        lines=$(wc -l <"$out")
        hosts_wait "$PATIENCE" "the guest has caught up" has_caught_up || break
    done
    is "$mode: switchovers that were completed" $moved 20
    kill -TERM "$steady_pid"
    need "$mode: the client ends" has_ended "$steady_pid"
    diag "$mode: $(tail -n 1 "$out")"
    is "$mode: all came back, and once" "$(told)" "$GOOD"
    is "$mode: segments of TCP that were lost" "$(needed_again)" 0
}

pair_setup checkpoint.mode=buffered
pair_boot
pair_join
twenty_moves buffered 400 250
ok "colo mode from now on" hosts_colo "$primary" set mode=colo
twenty_moves colo 300 200
ok "the guest's memory is what it wrote" guest_verifies
nothing_left
tap_done
