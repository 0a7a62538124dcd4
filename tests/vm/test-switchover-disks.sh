#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest with a raw and a qcow2 disk that an administrator has stopped, moved as planned: there, back and
# there, though QEMU runs it on neither host meanwhile; and held, and cancelled; and the other host dies and comes
# back. Then it is continued, writes, and is moved while it runs. In the end both hosts' images are equal. The qcow2 image has a persistent
# bitmap: QEMU writes it as it gives the disk up, so it moves, too, with all that is in it. By a failover it is lost.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v socat >/dev/null || tap_skip_all "no socat"

is_stopped() { # HOST
    hosts_status_is "$1" vm.state stopped && hosts_status_is "$1" vm.stopped-by admin
}

is_cancelled() {
    hosts_status_is "$primary" switchover.status cancelled && is_pair "$primary" "$secondary"
}

equal() { # DISK
    cmp "$(image_of alpha "$1")" "$(image_of beta "$1")"
}

# Nobody has them open, on either host.
images_rest() { # WHAT
    for disk in raw cow; do
        need "$1: the $disk images are equal" equal $disk
    done
    for host in alpha beta; do
        ok "$1: $host's qcow2 image is whole" qemu-img check -q -U "$(image_of $host cow)"
        is "$1: its bitmap is there, and was written" "$(bitmap_flags $host cow)" '["auto"]'
    done
}

both_written() { # WHAT BLOCKS
    for disk in vda vdb; do
        ok "$1: the guest writes to $disk" guest_writes $disk "$2"
    done
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s 64M "$(image_of $host raw)"
    qemu-img create -q -f qcow2 "$(image_of $host cow)" 64M
    truncate -s 68M "$(image_of $host cow)" # the file doesn't grow
    hosts_config $host log.log-level=debug checkpoint.mode=colo \
        "vm.extra=$DISKS_MONITOR" \
        "disk raw.path=$(image_of $host raw)" \
        "disk cow.path=$(image_of $host cow)" "disk cow.format=qcow2" \
        "disks.state-dir=$HOSTS_DIR/$host/disks"
done
qemu-img bitmap --add "$(image_of alpha cow)" kept
pair_boot
pair_join
both_written "it runs" 40
count=$(bitmap_count "$primary")
ok "the bitmap has what was written ($count)" test "$count" -ge $((40 * 65536))
has "it is in use in the image" "$(bitmap_flags "$primary" cow)" in-use
ok "stop" hosts_colo "$primary" stop
need "it is stopped" is_stopped "$primary"
for round in 1 2 3; do
    mark
    ok "round $round: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "round $round: the pair is protected again" is_pair "$primary" "$secondary"
    ok "round $round: the guest is stopped" is_stopped "$primary"
    images_rest "round $round"
done
# Its new QEMU finds the image at rest: the bitmap, too, which it must not keep.
hosts_kill "$secondary"
need "$secondary dies: $primary has the VM" is_in "$primary" primary none
pair_join
ok "$secondary died: moved there" hosts_colo "$primary" switchover --wait
pair_swap
need "$primary died: the pair is protected again" is_pair "$primary" "$secondary"
images_rest "$primary died"
ok "held" hosts_colo "$primary" switchover --pause
need "held: so it is" is_in "$primary" primary pre-switchover
ok "held: cancelled" hosts_colo "$secondary" cancel
need "held: it is protected as before" is_cancelled
ok "held: the guest is stopped" is_stopped "$primary"
images_rest "held"
ok "cont" hosts_colo "$primary" cont
need "the guest answers" guest_verifies
is "the bitmap has what it had" "$(bitmap_count "$primary")" "$count"

both_written "it runs again" 60
count=$(bitmap_count "$primary")
ok "the bitmap has more ($count)" test "$count" -ge $((60 * 65536))
ok "moved while it runs" hosts_colo "$primary" switchover --wait
pair_swap
need "moved while it runs: protected again" is_pair "$primary" "$secondary"
is "moved while it runs: the bitmap has what it had" "$(bitmap_count "$primary")" "$count"
not_ok "moved while it runs: it is lost" bitmap_is_lost "$primary"
both_written "it runs there" 20

ok "failed over" hosts_colo "$primary" failover
pair_swap
need "failed over: protected again" is_pair "$primary" "$secondary"
ok "failed over: the bitmap is lost" bitmap_is_lost "$primary"
both_written "it runs here again" 20
ends_in_order
ok "the raw images are equal" equal raw
ok "the qcow2 images are" qemu-img compare -q "$(image_of alpha cow)" "$(image_of beta cow)"
for host in alpha beta; do
    ok "$host's qcow2 image is whole" qemu-img check -q "$(image_of $host cow)"
done
tap_done
