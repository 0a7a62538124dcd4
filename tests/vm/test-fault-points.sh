#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# colod killed at every fault point (common/fault.c), on one guest with traffic all the time, and
# what the table says of each checked. A node carries the fault of the role it will have when its
# turn comes: one that has taken over dies by its own as soon as it is protected again. The counts
# are such that it happens in protection, after the checkpoints that prove it. One disk is a qcow2 image
# with a persistent bitmap, which QEMU writes as it gives the disk up: the image that the VM continues
# from is whole after each point.
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

tested=''

# protections HOST: how often it became the primary of a protected pair since the mark.
protections() {
    tail -n "+$(cat "$HOSTS_DIR/$1/marked")" "$HOSTS_DIR/$1/colod.log" | grep -c 'primary colo (proven)'
}

# the secondary dies: fault POINT COUNT WHETHER-IN-PROTECTION
secondary_dies() {
    tested="$tested $1"
    mark
    node_start "$secondary" secondary "COLO_FAULT=$1:$2"
    died "$secondary" 137 "$1"
    continues_unprotected "$1"
    is "$1: times protected" "$(protections "$primary")" "$3"
    if [ "$3" = 1 ]; then
        decided_for "$primary" "$1"
    else
        not_decided "$1"
    fi
    wait_ok "$1: its output is released" hosts_status_is "$primary" held.frames 0
}

# The primary, which carries the fault POINT, dies once it is protected by the next one; LEAST and
# MOST: from which epoch the secondary goes on, counted from the last that was known to be complete.
primary_dies() { # POINT LEAST MOST [NEXT'S ENVIRONMENT]
    tested="$tested $1"
    mark
    node_start "$secondary" secondary ${4:+"$4"}
    died "$primary" 137 "$1"
    taken_over "$1"
    decided_for "$primary" "$1"
    cow_is_sound "$1"
    more=$(($(takeover_epoch "$primary") - $(completed_epoch "$secondary")))
    ok "$1: taken over $2 to $3 checkpoints after the last that was complete ($more)" \
        test $more -ge "$2" -a $more -le "$3"
}

command -v socat >/dev/null || tap_skip_all "no socat"

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
bitmap_disks
for host in alpha beta; do
    bitmap_config $host checkpoint.checkpoint-period=100ms
done
pair_boot
client_start

secondary_dies secondary-sync 1 0
secondary_dies secondary-staging 4000 1
secondary_dies secondary-verified 30 1
secondary_dies secondary-received 30 1
secondary_dies secondary-applying 30 1
secondary_dies secondary-applied 30 1
secondary_dies secondary-disks-marked 30 1
if [ "${MODE:-colo}" = colo ]; then
    secondary_dies secondary-prepared 30 1
    secondary_dies secondary-loaded 30 1
fi

# Only a secondary whose VM runs has to be told to stand still.
if [ "${MODE:-colo}" = colo ]; then first=preparing; else first=paused; fi
# From here on each new secondary carries a fault for when it will be the primary.
node_start "$secondary" secondary COLO_FAULT=primary-$first:30
need "$secondary joins: protected" is_pair "$primary" "$secondary"
mark
hosts_kill "$primary"
taken_over "killed"
if [ "${MODE:-colo}" = colo ]; then
    primary_dies primary-preparing 0 0 COLO_FAULT=primary-paused:30
fi
primary_dies primary-paused 0 0 COLO_FAULT=primary-state-saved:30
primary_dies primary-state-saved 0 0 COLO_FAULT=primary-disks-marked:30
primary_dies primary-disks-marked 0 0 COLO_FAULT=primary-copied:30
primary_dies primary-copied 0 0 COLO_FAULT=primary-resumed:30
primary_dies primary-resumed 0 1 COLO_FAULT=primary-sending:30
primary_dies primary-sending 0 0 COLO_FAULT=primary-sent:30
primary_dies primary-sent 0 1 COLO_FAULT=primary-acknowledged:30
primary_dies primary-acknowledged 1 1 COLO_FAULT=primary-released:30
primary_dies primary-released 1 1 COLO_FAULT=handed-paused:1

# The primary dies while it hands over: the secondary has it all.
handing_dies() { # POINT ORDER [NEXT'S ENVIRONMENT]
    tested="$tested $1"
    mark
    node_start "$secondary" secondary ${3:+"$3"}
    need "$1: $secondary joins: protected" is_pair "$primary" "$secondary"
    bitmap_filled "$1"
    # shellcheck disable=SC2086 # a command and its option
    ok "$1: told to $2" hosts_colo "$primary" $2
    died "$primary" 137 "$1"
    taken_over "$1"
    decided_for "$primary" "$1"
    cow_is_sound "$1"
    more=$(($(takeover_epoch "$primary") - $(completed_epoch "$secondary")))
    ok "$1: taken over at the last complete checkpoint, or the one after it ($more)" \
        test $more -ge 0 -a $more -le 1
}

handing_dies handed-paused failover COLO_FAULT=handed-paused:1
handing_dies handed-paused switchover COLO_FAULT=handed-sent:1
handing_dies handed-sent failover COLO_FAULT=handed-sent:1
handing_dies handed-sent switchover COLO_FAULT=switchover-held:1
handing_dies switchover-held 'switchover --pause' COLO_FAULT=switchover-saved:1
handing_dies switchover-saved switchover COLO_FAULT=switchover-released:1
handing_dies switchover-released switchover COLO_FAULT=switchover-marked:1
handing_dies switchover-marked switchover COLO_FAULT=switchover-inactive:1
handing_dies switchover-inactive switchover

# The secondary dies when it is to take over: the primary has lost nothing.
point='handed-received'
tested="$tested $point"
for order in failover switchover; do
    mark
    node_start "$secondary" secondary "COLO_FAULT=$point:1"
    need "$point: $secondary joins: protected" is_pair "$primary" "$secondary"
    bitmap_filled "$point"
    ok "$point: told to $order" hosts_colo "$primary" $order
    died "$secondary" 137 "$point"
    continues_unprotected "$point"
    decided_for "$primary" "$point"
    cow_is_sound "$point" counts
done

ok "the guest's memory is what it wrote" guest_verifies
client_end

# The arbiter's yes belongs to a node that died right after it: nobody else may go on, not even the
# old primary, which was only out of reach. It keeps its VM, frozen.
takeover_dies() { # POINT
    point=$1
    tested="$tested $point"
    node_start "$secondary" secondary "COLO_FAULT=$point:1"
    need "$secondary joins: protected" is_pair "$primary" "$secondary"
    mark
    old=$(pid_of "$primary")
    kill -STOP "$old"
    died "$secondary" 137 "$point"
    kill -CONT "$old"
    need "$point: the old primary's VM is frozen" is_in "$primary" primary frozen
    decided_for "$secondary" "$point"
    wait_ok "$point: it doesn't run" hosts_status_is "$primary" vm.state paused
    hosts_kill "$primary"
    hosts_kill "$secondary"
    bitmap_disks
    rm -f "$HOSTS_DIR/arbiter/"*.owner # nobody runs it: no question whose it is
}

# So it does to one that has been handed the VM: the primary's stands still, and stays so.
taking_dies() { # POINT ORDER
    point=$1
    tested="$tested $point"
    node_start "$secondary" secondary "COLO_FAULT=$point:1"
    need "$point: $secondary joins: protected" is_pair "$primary" "$secondary"
    mark
    ok "$point: told to $2" hosts_colo "$primary" "$2"
    died "$secondary" 137 "$point"
    need "$point: the old primary's VM is frozen" is_in "$primary" primary frozen
    decided_for "$secondary" "$point"
    hosts_kill "$primary"
    bitmap_disks
    rm -f "$HOSTS_DIR/arbiter/"*.owner
    node_start "$primary" primary
    need "$primary runs" is_alone "$primary"
}

takeover_dies takeover-granted
node_start "$primary" primary
need "$primary runs" is_alone "$primary"
for point in handed-granted handed-activated handed-taken; do
    taking_dies "$point" failover
    taking_dies "$point" switchover
done
hosts_kill "$primary"
bitmap_disks
rm -f "$HOSTS_DIR/arbiter/"*.owner
node_start "$primary" primary
need "$primary runs" is_alone "$primary"
takeover_dies takeover-disks

point='primary-sync-start'
tested="$tested $point"
mark
rm -f "$HOSTS_DIR/arbiter/"*.owner # nobody runs it: no question whose it is
node_start "$primary" primary "COLO_FAULT=$point:1"
need "$point: $primary runs" is_alone "$primary"
node_start "$secondary" secondary
died "$primary" 137 "$point"
# It may have died while it wrote its name as the owner: that leaves a draft, which decides nothing.
rm -f "$HOSTS_DIR"/arbiter/.*.draft
need "$point: $secondary waits" is_in "$secondary" secondary none
ok "$point: its VM doesn't run" hosts_status_is "$secondary" vm.state paused
ok "$point: it has seen the primary" logged "$secondary" "secondary none -> secondary setup"
is "$point: takeovers" "$(hosts_status "$secondary" takeovers)" 0
not_decided "$point"

nothing_left

# A new fault point doesn't go untested.
[ "${MODE:-colo}" = colo ] || tested="$tested primary-preparing secondary-prepared secondary-loaded"
known=$(COLO_FAULT='?' "$COLO_BUILD/colod" --config "$HOSTS_DIR/alpha/colod.conf" --role primary \
    --check-config 2>&1 | sed 's/.*one of://')
is "every fault point was tested" "$(echo "$tested" | tr ' ' '\n' | sort -u)" \
    "$(echo "$known" | tr ' ' '\n' | sort -u)"
tap_done
