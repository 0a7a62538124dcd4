#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# How a host is upgraded while its VM runs: the secondary's QEMU is a later one, and so is its colo. The machine is
# a versioned one that both QEMUs have. The VM moves to the later QEMU by a switchover, under traffic. Then
# the other host is upgraded too, and it moves back. Without accept-other-qemu the two are no pair, and say why.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

later=$COLO_BUILD/qemu-10/qemu-system-x86_64
[ -x "$later" ] || tap_skip_all "no later QEMU (make qemu-10)"
earlier=${QEMU:-qemu-system-x86_64}
[ "$earlier" != "$later" ] || tap_skip_all "it needs two QEMUs, and runs with both anyway"
colod_later=$COLO_BUILD/colod-later
machine=pc-i440fx-7.2

# configure HOST QEMU YES-OR-NO
configure() {
    hosts_config "$1" "vm.qemu=$2" "vm.machine=$machine" "vm.accept-other-qemu=$3" "checkpoint.mode=$mode" \
        log.log-level=debug
}

start_later() { # HOST ROLE
    hosts_start "$1" colod "$colod_later" --config "$HOSTS_DIR/$1/colod.conf" --role "$2"
    eval "pid_$1=\$hosts_pid"
}

says() { # HOST TEXT
    grep -q "$2" "$HOSTS_DIR/$1/colod.log"
}

is_protected() {
    hosts_status_is "$primary" protected true && hosts_status_is "$secondary" state colo
}

upgraded() { # MODE
    mode=$1
    primary=alpha secondary=beta
    configure alpha "$earlier" no
    configure beta "$later" no
    pair_boot
    client_start
    start_later beta secondary
    need "$mode: without the option they are no pair" says beta "accept-other-qemu = yes on both"
    hosts_kill beta
    client_end
    hosts_kill alpha
    configure alpha "$earlier" yes
    configure beta "$later" yes
    pair_boot
    client_start
    mark
    start_later beta secondary
    need "$mode: another colo and another QEMU are a pair" is_protected
    ok "$mode: the VM moves to the later QEMU" hosts_colo alpha switchover --wait
    pair_swap
    need "$mode: protected, with the earlier one as the secondary" is_protected
    client_unharmed "$mode"
    ok "$mode: the guest's memory is what it wrote" guest_verifies
    hosts_kill alpha
    need "$mode: alone" hosts_status_is beta state none
    configure alpha "$later" yes
    start_later alpha secondary
    need "$mode: the other host is upgraded, too" is_protected
    ok "$mode: the VM moves back" hosts_colo beta switchover --wait
    pair_swap
    need "$mode: protected again" is_protected
    client_unharmed "$mode, back"
    ok "$mode: the guest's memory is what it wrote there" guest_verifies
    client_end
    hosts_kill beta
    hosts_kill alpha
}

# shellcheck disable=SC2119 # the options are set for each case
pair_setup
upgraded colo
upgraded buffered
tap_done
