#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A manager with work to do on the disks while the VM stands on one host, and before the other one has it.
# Its script is the same with and without a hold: it waits for pre-switchover, completed or failed. In
# pre-switchover it takes ten seconds, and writes to each disk where it is served. After the move that is on
# the other host's images. Without the hold it is never asked, and the move is done all the same.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v qemu-io >/dev/null || tap_skip_all "no qemu-io"
HOLD_S=10
CLIENT_HTTP=0 # one fails after as long
AT=48M # beyond what the guest writes

# Where a host's disk is served, to whoever may open the socket.
served() { # HOST DISK
    echo "nbd+unix:///$2?socket=$HOSTS_DIR/$1/disks/nbd"
}

manager_writes() { # DISK PATTERN
    qemu-io -f raw -c "write -P $2 $AT 1M" -c flush "$(served "$primary" "$1")" >"$HOSTS_DIR/manager" 2>&1 &&
        ! grep -q failed "$HOSTS_DIR/manager"
}

# Of the image itself, which its host's server has open.
image_has() { # HOST DISK PATTERN
    qemu-io -r -U -f raw -c "read -P $3 $AT 1M" "$(image_of "$1" "$2")" >"$HOSTS_DIR/manager" 2>&1 &&
        ! grep -q failed "$HOSTS_DIR/manager"
}

waits_for_manager() {
    case $(hosts_status "$primary" switchover.status) in pre-switchover | completed | failed) ;; *) return 1 ;; esac
}

# What the manager does, whatever it has been asked for. `asked`: whether it came to hold the VM.
manages() { # WHAT PATTERN [OPTION]
    mark
    asked=no
    # shellcheck disable=SC2086 # none, or one
    ok "$1: ordered" hosts_colo "$primary" switchover ${3:-}
    need "$1: the manager may act, or it is over" waits_for_manager
    if hosts_status_is "$primary" switchover.status pre-switchover; then
        asked=yes
        works "$1" "$2"
        ok "$1: goes on" hosts_colo "$primary" continue
    fi
    need "$1: completed" hosts_status_is "$primary" switchover.status completed
    pair_swap
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$1"
    ok "$1: the guest's memory is what it wrote" guest_verifies
}

works() { # WHAT PATTERN
    is "$1: the disks are still this host's" "$(hosts_status "$primary" disks.flag)" active
    sleep $HOLD_S
    ok "$1: it is still held" is_in "$primary" primary pre-switchover
    ok "$1: and protected" hosts_status_is "$primary" protected true
    for disk in raw cow; do
        ok "$1: the manager writes to $disk" manager_writes $disk "$2"
        not_ok "$1: not yet on the other host" image_has "$secondary" $disk "$2"
    done
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s 64M "$(image_of $host raw)"
    qemu-img create -q -f qcow2 "$(image_of $host cow)" 32M
    truncate -s 64M "$(image_of $host cow)" # the manager's place is behind what QEMU uses
    hosts_config $host log.log-level=debug checkpoint.mode="${MODE:-colo}" \
        "disk raw.path=$(image_of $host raw)" \
        "disk cow.path=$(image_of $host cow)" "disk cow.format=qcow2" \
        "disks.state-dir=$HOSTS_DIR/$host/disks"
done
pair_boot
client_start
pair_join
for disk in vda vdb; do
    ok "the guest writes to $disk" guest_writes $disk 40
done
pattern=1
for round in 1 2; do
    manages "held, round $round" $pattern --pause
    is "held, round $round: the manager was asked" $asked yes
    for disk in raw cow; do
        ok "held, round $round: what it wrote to $disk has moved" image_has "$primary" $disk $pattern
    done
    pattern=$((pattern + 1))
    manages "not held, round $round" $pattern
    is "not held, round $round: the manager was not asked" $asked no
done
client_end
ends_in_order
for disk in raw cow; do
    ok "$disk: both have what the manager wrote last" image_has alpha $disk $((pattern - 1))
    ok "$disk: the images are equal" cmp "$(image_of alpha $disk)" "$(image_of beta $disk)"
done
tap_done
