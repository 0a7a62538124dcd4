#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# How a host is upgraded while its VM runs: the secondary's QEMU is a later one, and so is its colo. The machine is
# a versioned one that both QEMUs have. The VM has a raw and a qcow2 disk, and moves to the later QEMU by a
# switchover, under traffic. From there it may move back to the earlier one, which loads what the later one has
# saved of this machine, and forth again. Then the other host is upgraded too, and it moves back. In the end
# both hosts' images are equal, and whole. Without accept-other-qemu the two are no pair, and say why.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

later=$COLO_BUILD/qemu-10/qemu-system-x86_64
[ -x "$later" ] || tap_skip_all "no later QEMU (make qemu-10)"
earlier=${QEMU:-qemu-system-x86_64}
[ "$earlier" != "$later" ] || tap_skip_all "it needs two QEMUs, and runs with both anyway"
colod_later=$COLO_BUILD/colod-later
machine=pc-i440fx-7.2

# configure HOST QEMU YES-OR-NO
configure() {
    hosts_config "$1" "vm.qemu=$2" "vm.machine=$machine" "vm.accept-other-qemu=$3" "checkpoint.mode=$mode" \
        log.log-level=debug "disk raw.path=$(image_of "$1" raw)" \
        "disk cow.path=$(image_of "$1" cow)" "disk cow.format=qcow2" "disks.state-dir=$HOSTS_DIR/$1/disks"
}

fresh_images() {
    for host in alpha beta; do
        rm -rf "$HOSTS_DIR/$host/disks" "$(image_of $host raw)" "$(image_of $host cow)"
        truncate -s 32M "$(image_of $host raw)"
        qemu-img create -q -f qcow2 "$(image_of $host cow)" 32M
        truncate -s 36M "$(image_of $host cow)" # the file doesn't grow
    done
}

moves() { # WHAT
    mark
    ok "$1" hosts_colo "$primary" switchover --wait
    pair_swap
    need "$1: protected" is_protected
    client_unharmed "$1"
    ok "$1: the guest's memory is what it wrote" guest_verifies
    for disk in vda vdb; do
        ok "$1: it writes to $disk" guest_writes $disk 20
    done
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
    fresh_images
    configure alpha "$earlier" no
    configure beta "$later" no
    pair_boot
    client_start
    start_later beta secondary
    need "$mode: without the option they are no pair" says beta "accept-other-qemu = yes on both"
    hosts_kill beta
    client_end
    hosts_kill alpha
    fresh_images
    configure alpha "$earlier" yes
    configure beta "$later" yes
    pair_boot
    client_start
    start_later beta secondary
    need "$mode: another colo and another QEMU are a pair" is_protected
    for round in 1 2; do
        moves "$mode: to the later QEMU, round $round"
        [ $round = 2 ] || moves "$mode: back to the earlier one"
    done
    hosts_kill alpha
    need "$mode: alone" hosts_status_is beta state none
    configure alpha "$later" yes
    start_later alpha secondary
    need "$mode: the other host is upgraded, too" is_protected
    moves "$mode: back, to a later one, too"
    client_end
    ends_in_order
    ok "$mode: the raw images are equal" cmp "$(image_of alpha raw)" "$(image_of beta raw)"
    ok "$mode: the qcow2 images are" qemu-img compare -q "$(image_of alpha cow)" "$(image_of beta cow)"
    for host in alpha beta; do
        ok "$mode: $host's qcow2 image is whole" qemu-img check -q "$(image_of $host cow)"
    done
}

# shellcheck disable=SC2119 # the options are set for each case
pair_setup
upgraded colo
upgraded buffered
tap_done
