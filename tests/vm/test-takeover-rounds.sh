#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Kill, rejoin, kill the other, five times, on the same guest, with traffic all the time.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

pair_setup vm.memory=128MiB
pair_boot
client_start
for round in 1 2 3 4 5; do
    pair_join
    mark
    hosts_kill "$primary"
    taken_over "round $round"
    decided_for "$primary" "round $round"
done
pair_end
