#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest that panics and boots again, while it is protected in mode colo: nearly all of its memory
# changes in both VMs. The pair stays one, and the survivor of the primary is the guest that has booted.
# shellcheck disable=SC2317 # functions are called by need()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

guest_answers() {
    hosts_guest status >/dev/null
}

pair_setup vm.memory=128MiB checkpoint.mode=colo
pair_boot
pair_join
for round in 1 2; do
    what="round $round"
    mark
    hosts_guest crash >/dev/null
    need "$what: the guest reboots" logged "$primary" 'the guest has rebooted'
    need "$what: it is there again" guest_answers
    need "$what: it is protected" is_pair "$primary" "$secondary"
    not_decided "$what"
    hosts_kill "$primary"
    pair_swap
    need "$what: $primary takes over" is_alone "$primary"
    need "$what: the guest answers" guest_answers
    ok "$what: the guest's memory is what it wrote" guest_verifies
    pair_join
done
nothing_left
tap_done
