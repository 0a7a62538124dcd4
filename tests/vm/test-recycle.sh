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
is_known() {
    [ -n "$(hosts_status "$1" vm.grown-bytes)" ]
}

# Of what the first checkpoint of the last session brought, in MiB.
# shellcheck disable=SC2317 # called by ok()
had_most() {
    had=$(sed -n 's/.* of which the secondary had \([0-9]*\)$/\1/p' "$HOSTS_DIR/$1/colod.log" | tail -n 1)
    echo "# the secondary had $had MiB"
    [ "$had" -ge 40 ]
}

# Of the QEMU that was started last: the secondary's.
# shellcheck disable=SC2317 # called by ok()
monitor() { # COMMAND
    echo "$1" | socat -t 2 - "UNIX-CONNECT:$HOSTS_DIR/monitor" >/dev/null
}

pair_setup vm.memory=128MiB checkpoint.mode=colo checkpoint.checkpoint-period=20ms \
    vm.qemu-growth-limit=64MiB "vm.extra=-monitor unix:$HOSTS_DIR/monitor,server=on,wait=off"
pair_boot
client_start
pair_join
qemu=$(hosts_status "$secondary" vm.pid)
primary_qemu=$(hosts_status "$primary" vm.pid)
need "its memory is known" is_known "$secondary"
mark
# What it loses in loads is too little to wait for.
ok "it grows" monitor "object_add memory-backend-ram,id=growth,size=128M,prealloc=on"
need "a new QEMU is started" is_another "$secondary" "$qemu"
need "it is a pair again" is_pair "$primary" "$secondary"
ok "its RAM was kept: most was there" had_most "$primary"
ok "the primary was told why" logged "$primary" "restart its QEMU"
is "the primary's QEMU runs on" "$(hosts_status "$primary" vm.pid)" "$primary_qemu"
client_unharmed "a new QEMU"
mark
hosts_kill "$primary"
taken_over "then it takes over"
pair_end
