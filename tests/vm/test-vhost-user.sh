#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest whose card is attached by vhost-user. Checkpoints lose none of the datagrams that come steadily, in
# both modes. Its host is killed, the VM is moved and moved back, the guest loads its driver again or
# reboots: clients lose nothing.
# Environment: STEADY_SECONDS in each mode, KILLS in each.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/steady.sh
. "$COLO_TESTS/support/steady.sh"

epochs() {
    hosts_status "$primary" epoch
}

# No datagram is lost though the VM is paused again and again.
steady_in() { # MODE PER-SECOND
    before=$(epochs)
    steady_runs "${STEADY_SECONDS:-10}" "$2"
    diag "$1: $(($(epochs) - before)) checkpoints, $2 datagrams in a second: $(tail -n 1 "$out")"
    is "$1: all datagrams came back, and once" "$(told)" "$GOOD"
}

kills_in() { # MODE
    kill=0
    while [ $kill -lt "${KILLS:-2}" ]; do
        kill=$((kill + 1))
        mark
        hosts_kill "$primary"
        taken_over "$1, kill $kill"
        pair_join
    done
}

moves_in() { # MODE
    for move in 1 2; do
        mark
        ok "$1, move $move" hosts_colo "$primary" switchover --wait
        pair_swap
        need "$1, move $move: a protected pair" is_pair "$primary" "$secondary"
        client_unharmed "$1, move $move"
    done
}

guest_answers() {
    hosts_guest status >/dev/null
}

is_attached() { # HOST
    hosts_status_is "$1" nics.0.attach vhost-user
}

no_complaint() {
    ! grep -h -e 'has broken a rule' -e "can't be served" "$HOSTS_DIR"/*/colod.log
}

# The guest's driver is unloaded and loaded again: its rings go, and others come.
reload_driver() {
    reload='busybox rmmod virtio_net; busybox insmod /modules/virtio_net.ko'
    address="busybox ip link set eth0 up; busybox ip addr add $HOSTS_GUEST_IP/24 dev eth0"
    hosts_guest "run (busybox sleep 1; $reload; $address) >/dev/null 2>&1 & echo begun" >/dev/null
}

has_reloaded() {
    [ "$(hosts_guest 'run busybox cat /sys/class/net/eth0/ifindex')" != "$ifindex" ] && guest_answers
}

reloads() {
    ifindex=$(hosts_guest 'run busybox cat /sys/class/net/eth0/ifindex')
    ok "the guest's driver is loaded again" reload_driver
    need "the guest's card is another" has_reloaded
    need "it is protected" is_pair "$primary" "$secondary"
    client_start
    mark
    hosts_kill "$primary"
    taken_over "with another driver"
    pair_join
    client_end
}

pair_setup "nic lan.attach=vhost-user" checkpoint.mode=buffered
pair_boot
ok "status tells how the card is attached" is_attached "$primary"
pair_join
for mode in buffered colo; do
    ok "mode $mode" hosts_colo "$primary" set "mode=$mode"
    steady_in $mode 200
    client_start
    kills_in $mode
    moves_in $mode
    client_end
done
reloads
mark
hosts_guest crash >/dev/null
need "the guest reboots" logged "$primary" 'the guest has rebooted'
need "it is there again" guest_answers
need "it is protected" is_pair "$primary" "$secondary"
hosts_kill "$primary"
pair_swap
need "after the reboot: $primary takes over" is_alone "$primary"
need "after the reboot: the guest answers" guest_answers
ok "the guest's memory is what it wrote" guest_verifies
ok "nobody complains of the guest's driver" no_complaint
nothing_left
tap_done
