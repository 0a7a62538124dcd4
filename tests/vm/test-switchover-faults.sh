#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Storage that fails as a VM's disks are given up for a switchover: a raw and a qcow2 disk, each on its own
# image, at each thing that is still done to it then (COLO_BLOCK_FAULT). nbdkit's error and pause filters don't do:
# they see QEMU's requests, and not what the plugin itself writes and syncs. Twelve switchovers fail in turn. Each
# time the error names the disk, the disks are taken back, the guest goes on in the same QEMU and the same
# session, and its client has lost nothing. Two of them find QEMU's own release hanging, for longer than `disk-timeout`,
# and not for so long that QEMU counts as lost. The thirteenth is done. Then the secondary's storage hangs as it takes
# the VM, which it gives back; the fourteenth is done. Then the qcow2 image refuses writes until the VM has left: it is taken
# back, too, and leaves in its next pause, of which no checkpoint can be made. The image's persistent bitmap, which has
# been through all that, is lost by it: what it has is right where QEMU gives the image up, and nowhere else. What can't be mended, a raw image that could
# not be synced, refuses once at most: the VM leaves that host. From a qcow2 image like that it leaves by itself:
# no checkpoint can be made of it any more, so it goes on from the one before, elsewhere. Last, a host dies in the midst
# of QEMU's release.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

# shellcheck source=tests/support/faults.sh
. "$COLO_TESTS/support/faults.sh"

# What a server is told to do wrong while the file of that name is there: NAME WHAT FILE ERRNO. A persistent
# bitmap is what QEMU writes to the qcow2 image as it gives it up, and our own bitmap before that. To the raw one
# it writes nothing. Both are synced in the end.
FAULTS='broken write cow.img EIO-once
full write cow.img ENOSPC-once
stuck write cow.img hang
no-state write cow.dirty0 EIO-once
no-state write cow.dirty1 EIO-once
worn write cow.img EIO
slow-cow sync cow.img hang
slow-raw sync raw.img hang
unsynced-raw sync raw.img EIO
unsynced-cow sync cow.img EIO'

# The fault is there from the VM's pause until the switchover has failed. A write is refused once: a checkpoint follows
# at once, whose pause it must not be there for (fails_and_leaves).
fails_by() { # WHAT FAULT TEXT...
    fails_with "$((2 * hosts_patience))s" "$@"
    is_back
}

# The same, and QEMU itself hangs: as long as no QEMU may that has no disks.
release_hangs() { # WHAT FAULT TEXT...
    fails_with "$((4 * hosts_patience))s" "$@"
    is "$what: QEMU still gives up its disks" "$(hosts_status "$primary" vm.order)" "inactivate disks"
    is_back
}

fails_with() { # LIMIT WHAT FAULT TEXT...
    limit=$1 what=$2 fault=$3
    shift 3
    session=$(hosts_status "$primary" session)
    mark
    ok "$what: ordered" hosts_colo "$primary" switchover --pause
    need "$what: the VM is held" is_in "$primary" primary pre-switchover
    ok "$what: a limit for what hangs" hosts_colo "$primary" set "disk-timeout=$limit"
    begins "$fault"
    ok "$what: goes on" hosts_colo "$primary" continue
    need "$what: it ends" is_over
    is "$what: it has failed" "$(hosts_status "$primary" switchover.status)" failed
    why=$(hosts_status "$primary" switchover.error)
    for text; do
        has "$what: it is told: $text" "$why" "$text"
    done
}

is_back() {
    ok "$what: the old limit" hosts_colo "$primary" set disk-timeout=30s
    ends "$fault"
    need "$what: all is taken back, and the VM runs" is_whole
    need "$what: protected as before" is_pair "$primary" "$secondary"
    is "$what: the same QEMU, and the same servers" "$(processes)" "$kept"
    is "$what: the same session" "$(hosts_status "$primary" session)" "$session"
    is "$what: the first error stays" "$(hosts_status "$primary" switchover.error)" "$why"
    client_unharmed "$what"
}

# The fault is there until the VM has left. The switchover fails, and the VM is taken back, in a checkpoint that is whole.
# In the next pause QEMU can't write what it has of the image, so the VM goes on from that one, elsewhere.
fails_and_leaves() { # WHAT FAULT TEXT...
    what=$1 fault=$2
    shift 2
    mark
    ok "$what: ordered" hosts_colo "$primary" switchover --pause
    need "$what: the VM is held" is_in "$primary" primary pre-switchover
    begins "$fault"
    ok "$what: goes on" hosts_colo "$primary" continue
    need "$what: it has left" hosts_status_is "$secondary" role primary
    ends "$fault"
    is "$what: the switchover has failed" "$(hosts_status "$primary" switchover.status)" failed
    why=$(hosts_status "$primary" switchover.error)
    for text; do
        has "$what: it is told: $text" "$why" "$text"
    done
    ok "$what: so is why it left" grep -q "no checkpoint can be made of the disks" "$HOSTS_DIR/$primary/colod.log"
    pair_swap
    need "$what: protected again" is_pair "$primary" "$secondary"
    need "$what: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$what"
}

processes_of() { # HOST
    processes | grep "^$1 "
}

has_failed_by() { # HOST TEXT
    hosts_status_is "$1" switchover.status failed && hosts_status "$1" switchover.error | grep -q -F -e "$2"
}

# The secondary has the arbiter's yes, and can't make the images its own in time: it gives the VM back.
gives_back() { # WHAT FAULT
    mark
    own=$(processes_of "$primary") taken=$(hosts_status "$secondary" takeovers)
    ok "$1: ordered" hosts_colo "$primary" switchover --pause
    need "$1: the VM is held" is_in "$primary" primary pre-switchover
    ok "$1: a limit for what hangs" hosts_colo "$secondary" set "disk-timeout=$((2 * hosts_patience))s"
    begins "$2" "$secondary"
    ok "$1: goes on" hosts_colo "$primary" continue
    need "$1: it ends" is_over
    need "$1: the VM runs where it was" is_whole
    ends "$2" "$secondary"
    for host in $primary $secondary; do
        need "$1: $host says why it has failed" has_failed_by "$host" "not taken over in"
    done
    is "$1: nobody has taken over" "$(hosts_status "$secondary" takeovers)" "$taken"
    client_unharmed "$1, given back"
    ok "$1: the old limit" hosts_colo "$secondary" set disk-timeout=30s
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
    is "$1: the same QEMU and server" "$(processes_of "$primary")" "$own"
    client_unharmed "$1"
}

# An image that can't be synced is found out at a flush of QEMU's, or as it is given up. Then it refuses that,
# once; from then on it is known to have lost writes. The VM moves, and that host gets a new server.
leaves() { # WHAT FAULT DISK
    mark
    ok "$1: ordered" hosts_colo "$primary" switchover --pause
    need "$1: the VM is held" is_in "$primary" primary pre-switchover
    begins "$2"
    ok "$1: goes on" hosts_colo "$primary" continue
    need "$1: it ends" is_over
    status=$(hosts_status "$primary" switchover.status)
    ends "$2"
    if [ "$status" = failed ]; then
        why=$(hosts_status "$primary" switchover.error)
        has "$1: the disk is told" "$why" "$3"
        has "$1: and why" "$why" "Input/output error"
        need "$1: all is taken back, and the VM runs" is_whole
        need "$1: protected as before" is_pair "$primary" "$secondary"
        client_unharmed "$1"
        moves "$1, the second time"
    else
        pair_swap
        need "$1: protected again" is_pair "$primary" "$secondary"
        need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
        client_unharmed "$1"
    fi
    diag "$1: the first one $status"
}

# The next checkpoint finds it out.
leaves_by_itself() { # WHAT FAULT
    mark
    begins "$2"
    need "$1: it has left" hosts_status_is "$secondary" role primary
    ends "$2"
    pair_swap
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$1"
}

# A write to the image hangs that QEMU makes as it gives it up, and the host dies: the VM goes on from the other
# image, which is whole.
dies() { # WHAT FAULT
    mark
    ok "$1: ordered" hosts_colo "$primary" switchover --pause
    need "$1: the VM is held" is_in "$primary" primary pre-switchover
    begins "$2"
    ok "$1: goes on" hosts_colo "$primary" continue
    need "$1: QEMU gives up its disks" hosts_status_is "$primary" vm.order "inactivate disks"
    hosts_kill "$primary"
    ends "$2"
    taken_over "$1"
    decided_for "$primary" "$1"
    cow_is_sound "$1" lost
    start "$secondary" secondary
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$1"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
# shellcheck disable=SC2119 # they need no other ones
faults_disks
start alpha primary
need "the guest boots" grep -q 'colo-guest: ready' "$HOSTS_DIR/alpha/serial.log"
client_start
start beta secondary
need "protected" is_pair alpha beta
kept=$(processes)
for round in 1 2; do
    guest_writes_both "round $round"
    fails_by "round $round, the qcow2 image is broken" broken cow
    fails_by "round $round, the raw image hangs" slow-raw raw
    release_hangs "round $round, QEMU's last writes to the qcow2 image hang" stuck cow
    fails_by "round $round, the qcow2 image's host is full" full cow
    fails_by "round $round, the qcow2 image can't be flushed" slow-cow cow
    fails_by "round $round, the state folder is broken" no-state cow
done
guest_writes_both "the thirteenth"
moves "the thirteenth"
is "the thirteenth: the same QEMU, and the same servers" "$(processes)" "$kept"
ok "the thirteenth: the bitmap is there" bitmap_counts "$primary"
ok "the guest's memory is what it wrote" guest_verifies

gives_back "the secondary's qcow2 image hangs" slow-cow
guest_writes_both "the fourteenth"
moves "the fourteenth"
ok "the fourteenth: the bitmap is there" bitmap_counts "$primary"
ok "the guest's memory is what it wrote after that" guest_verifies

guest_writes_both "before it leaves"
fails_and_leaves "the qcow2 image is worn out" worn cow
ok "the qcow2 image is worn out: the bitmap is lost" bitmap_is_lost "$primary"
ok "the qcow2 image is worn out: there is another one" bitmap_renewed "$primary"
guest_writes_both "with another bitmap"
leaves "the raw image can't be synced" unsynced-raw raw
ok "the raw image can't be synced: the bitmap is there" bitmap_counts "$primary"
guest_writes_both "after that"
leaves_by_itself "the qcow2 image can't be synced" unsynced-cow
ok "the qcow2 image can't be synced: the bitmap is lost" bitmap_is_lost "$primary"
ok "the qcow2 image can't be synced: there is another one" bitmap_renewed "$primary"
guest_writes_both "with yet another bitmap"
moves "with yet another bitmap, which is in the image then"
dies "the host dies as QEMU gives up its disks" stuck

ok "the guest's memory is what it wrote in the end" guest_verifies
guest_writes_both "the end"
client_end
ends_in_order
ok "the raw images are equal" cmp "$(image_of alpha raw)" "$(image_of beta raw)"
ok "the qcow2 images are" qemu-img compare -q "$(image_of alpha cow)" "$(image_of beta cow)"
for host in alpha beta; do
    ok "$host's qcow2 image is whole" qemu-img check -q "$(image_of $host cow)"
done
tap_done
