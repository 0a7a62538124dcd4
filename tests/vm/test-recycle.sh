#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A secondary's QEMU that has grown is replaced by a new one, while the client talks on; then that one
# takes over.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

# shellcheck disable=SC2317 # called by need()
is_another() { # HOST PID
    now=$(hosts_status "$1" vm.pid) && [ -n "$now" ] && [ "$now" != "$2" ]
}

# shellcheck disable=SC2317
has_grown() {
    [ "$(hosts_status "$1" vm.grown-bytes)" -gt 65536 ]
}

pair_setup vm.memory=128MiB checkpoint.mode=colo checkpoint.checkpoint-period=20ms
pair_boot
client_start
pair_join
qemu=$(hosts_status "$secondary" vm.pid)
primary_qemu=$(hosts_status "$primary" vm.pid)
need "it grows as it loads" has_grown "$secondary"
diag "grown by $(hosts_status "$secondary" vm.grown-bytes) bytes in $(hosts_status "$secondary" checkpoints.total) checkpoints"
mark
ok "a limit that is passed" hosts_colo "$secondary" set qemu-growth-limit 64KiB
need "a new QEMU is started" is_another "$secondary" "$qemu"
ok "that is enough" hosts_colo "$secondary" set qemu-growth-limit 0B
need "it is a pair again" is_pair "$primary" "$secondary"
ok "the primary was told why" logged "$primary" "start its QEMU anew"
is "the primary's QEMU runs on" "$(hosts_status "$primary" vm.pid)" "$primary_qemu"
client_unharmed "a new QEMU"
mark
hosts_kill "$primary"
taken_over "then it takes over"
pair_end
