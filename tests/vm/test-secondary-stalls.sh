#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest powers off, or the machine is reset, on the secondary alone: a checkpoint makes its VM the
# primary's copy again, in the same QEMU, and then it can take over.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

# Of the QEMU that was started last: the secondary's.
# shellcheck disable=SC2317 # called by ok()
monitor() { # COMMAND
    echo "$1" | socat -t 2 - "UNIX-CONNECT:$HOSTS_DIR/monitor" >/dev/null
}

# shellcheck disable=SC2317 # called by need()
epoch_is_after() {
    [ "$(hosts_status "$primary" epoch)" -gt "$1" ]
}

# shellcheck disable=SC2317
runs_again() {
    hosts_status_is "$primary" compare.vm runs && hosts_status_is "$secondary" vm.state running
}

# Asked for again every two seconds: what a checkpoint's load overwrites has not happened.
# shellcheck disable=SC2317
happens() { # COMMAND TEXT
    ! logged "$secondary" "$2" || return 0
    [ $((looks % 40)) -ne 0 ] || monitor "$1"
    looks=$((looks + 1))
    return 1
}

qemu_of() { # HOST
    for pid in $(ip netns pids "$hosts_prefix-$1"); do
        ! grep -qs ^qemu "/proc/$pid/comm" || echo "$pid"
    done
}

pair_setup vm.memory=128MiB checkpoint.mode=colo "vm.extra=-monitor unix:$HOSTS_DIR/monitor,server=on,wait=off"
pair_boot
client_start
pair_join
need "the secondary's VM runs" runs_again
qemu=$(qemu_of "$secondary")
for what in 'powers off:o /h 0x604 0x2000:powered off' 'is reset:system_reset:rebooted' \
    'powers off again:o /h 0x604 0x2000:powered off'; do
    said=${what##*:} what=${what%:*}
    command=${what#*:} what=${what%%:*}
    mark
    # It may have been made to wait, after it had not agreed with the primary's twice in a row.
    need "it runs before it $what" runs_again
    looks=0
    need "it $what" happens "$command" "$said"
    need "it $what: the primary knows" logged "$primary" "$said"
    need "it $what: a checkpoint comes" epoch_is_after "$(hosts_status "$primary" epoch)"
    need "it $what: it runs again" runs_again
    client_unharmed "it $what"
done
is "all in the same QEMU" "$(qemu_of "$secondary")" "$qemu"
not_ok "that asked for checkpoints" hosts_status_is "$primary" checkpoints.by-reason.stalled 0
ok "the pair is still one" is_pair "$primary" "$secondary"
mark
hosts_kill "$primary"
taken_over "then it takes over"
pair_end
