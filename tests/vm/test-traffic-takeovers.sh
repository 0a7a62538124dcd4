#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything a client can do, through kills of the primary at random moments with rejoins in between:
# nothing is lost, doubled or changed, and no connection breaks. Prints how long the client waited.
# Environment: ROUNDS (in each mode), SEED (of the moments), MODES, BULK_MB, BULK_MBIT.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/mixed.sh
. "$COLO_TESTS/support/mixed.sh"

SEED=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
diag "SEED=$SEED"

# The seed's next moment: below 2000 ms, on both sides of many checkpoints. In moment_ms.
next_moment() {
    SEED=$(((SEED * 1103515245 + 12345) % 2147483648))
    moment_ms=$((SEED / 65536 % 2000))
}

one_round() {
    mark
    next_moment
    # Nothing is waited for: the moment is the test's input.
    sleep "$(awk -v ms="$moment_ms" 'BEGIN { print ms / 1000 }')"
    mixed_event
    hosts_kill "$primary"
    pair_swap
    need "$1: $primary takes over, $moment_ms ms after the rejoin" is_alone "$primary"
    decided_for "$primary" "$1"
    mixed_recovered "$1"
    pair_join
}

rounds_in() { # MODE ROUNDS
    : >"$HOSTS_DIR/gaps"
    round=0
    while [ $round -lt "$2" ]; do
        round=$((round + 1))
        one_round "$1, round $round"
    done
    diag "the longest waits of each takeover in mode $1:"
    diag "$(mixed_distribution)"
}

set_mode() { # MODE
    for host in alpha beta; do
        sed -i "s/^mode=.*/mode=$1/" "$HOSTS_DIR/$host/colod.conf"
        ok "$host: mode $1" hosts_colo $host set mode "$1"
    done
}

first_modes=${MODES:-colo buffered}
pair_setup vm.memory=192MiB "checkpoint.mode=${first_modes%% *}"
pair_boot
pair_join
mixed_start --kinds "$MIXED_COMPARABLE" --bulk-mb "${BULK_MB:-10}" --bulk-mbit "${BULK_MBIT:-20}"
for mode in $first_modes; do
    set_mode "$mode"
    case $mode in
    colo) rounds_in colo "${ROUNDS:-4}" ;;
    *) rounds_in "$mode" "${ROUNDS:-2}" ;;
    esac
done
ok "the guest's memory is what it wrote" guest_verifies
mixed_end
nothing_left
tap_done
