#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A service whose answers the two VMs never give alike, in mode colo and auto: nothing is lost and nothing
# goes backwards, also when the primary dies; auto stops to compare, and says so.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/mixed.sh
. "$COLO_TESTS/support/mixed.sh"

# shellcheck disable=SC2317 # called by need()
has_moved() {
    hosts_colo "$primary" events --json | grep -q '"MODE_CHANGED".*"buffered"'
}

pair_setup vm.memory=192MiB checkpoint.mode=colo
pair_boot
pair_join
mixed_start --kinds time,time6,echo,http --every-ms 0
for round in 1 2; do
    mark
    mixed_event
    hosts_kill "$primary"
    pair_swap
    need "round $round: $primary takes over" is_alone "$primary"
    mixed_recovered "round $round"
    pair_join
done
ok "mode auto is set" hosts_colo "$primary" set mode auto
need "auto moves to buffered mode, and says so" has_moved
mark
mixed_event
hosts_kill "$primary"
pair_swap
need "mode auto: $primary takes over" is_alone "$primary"
mixed_recovered "mode auto"
pair_join
ok "the guest's memory is what it wrote" guest_verifies
mixed_end
nothing_left
tap_done
