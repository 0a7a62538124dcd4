#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest with a raw and a qcow2 disk that an administrator has stopped, moved as planned: there, back and
# there, though QEMU runs it on neither host meanwhile; and held, and cancelled. Then it is continued, and
# writes; and in the end both hosts' images are equal.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

is_stopped() { # HOST
    hosts_status_is "$1" vm.state stopped && hosts_status_is "$1" vm.stopped-by admin
}

# The guest writes to so many blocks of 64 KiB, from its disk's beginning.
writes() { # DISK BLOCKS
    case $(hosts_guest "disk $1 write 65536 1 0 0 $2") in
    "ok ops=$2 "*) return 0 ;;
    *) return 1 ;;
    esac
}

quits() { # HOST
    hosts_colo "$1" quit >/dev/null
    died "$1" 0 "the end"
}

is_cancelled() {
    hosts_status_is "$primary" switchover.status cancelled && is_pair "$primary" "$secondary"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s 64M "$(image_of $host raw)"
    qemu-img create -q -f qcow2 "$(image_of $host cow)" 64M
    truncate -s 68M "$(image_of $host cow)" # the file doesn't grow
    hosts_config $host log.log-level=debug checkpoint.mode=colo \
        "disk raw.path=$(image_of $host raw)" \
        "disk cow.path=$(image_of $host cow)" "disk cow.format=qcow2" \
        "disks.state-dir=$HOSTS_DIR/$host/disks"
done
pair_boot
pair_join
for disk in vda vdb; do
    ok "the guest writes to $disk" writes $disk 40
done
ok "stop" hosts_colo "$primary" stop
need "it is stopped" is_stopped "$primary"
for round in 1 2 3; do
    mark
    ok "round $round: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "round $round: the pair is protected again" is_pair "$primary" "$secondary"
    ok "round $round: the guest is stopped" is_stopped "$primary"
done
ok "held" hosts_colo "$primary" switchover --pause
need "held: so it is" is_in "$primary" primary pre-switchover
ok "held: cancelled" hosts_colo "$secondary" cancel
need "held: it is protected as before" is_cancelled
ok "held: the guest is stopped" is_stopped "$primary"
ok "cont" hosts_colo "$primary" cont
need "the guest answers" guest_verifies
for disk in vda vdb; do
    ok "it writes to $disk" writes $disk 20
done
quits "$primary"
need "$secondary has seen it" is_in "$secondary" secondary none
quits "$secondary"
ok "the raw images are equal" cmp "$(image_of alpha raw)" "$(image_of beta raw)"
ok "the qcow2 images are" qemu-img compare -q "$(image_of alpha cow)" "$(image_of beta cow)"
tap_done
