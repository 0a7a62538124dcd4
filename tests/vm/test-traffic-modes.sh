#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The mode is changed while everything a client can do goes on, also right before the primary dies:
# nothing is lost.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/mixed.sh
. "$COLO_TESTS/support/mixed.sh"

set_mode() { # MODE
    ok "mode $1 is set" hosts_colo "$primary" set mode "$1"
}

# shellcheck disable=SC2317 # called by need()
epoch_is_after() {
    [ "$(hosts_status "$primary" epoch)" -gt "$1" ]
}

# A mode counts from the next checkpoint on: two later, output has gone both ways in it.
change_to() { # MODE WHAT
    mixed_event
    set_mode "$1"
    is "$2: the status says so" "$(hosts_status "$primary" mode)" "$1"
    need "$2: checkpoints go on" epoch_is_after $(($(hosts_status "$primary" epoch) + 2))
    mixed_recovered "$2"
}

pair_setup vm.memory=192MiB checkpoint.mode=buffered
pair_boot
pair_join
mixed_start --kinds "$MIXED_COMPARABLE" --bulk-mb 5 --bulk-mbit 20
change_to colo "from buffered to colo"
change_to buffered "from colo to buffered"
change_to auto "from buffered to auto"
change_to colo "from auto to colo"

# Back and forth, faster than checkpoints come.
mixed_event
for mode in buffered colo auto buffered colo buffered auto colo buffered colo; do
    set_mode $mode
done
mixed_recovered "back and forth"

for mode in buffered colo; do
    mark
    mixed_event
    set_mode $mode
    hosts_kill "$primary"
    pair_swap
    need "killed after a change to $mode: $primary takes over" is_alone "$primary"
    mixed_recovered "killed after a change to $mode"
    pair_join
    change_to colo "the survivor compares"
done
ok "the guest's memory is what it wrote" guest_verifies
mixed_end
nothing_left
tap_done
