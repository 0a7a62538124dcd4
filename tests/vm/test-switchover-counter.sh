#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Nothing that a guest does is redone by a planned switchover, and nothing is left out. The guest counts: each
# value goes to a sector of its own of a raw disk, without a flush, and to its serial port, which nothing
# holds back. Over ten moves each value has been printed once, on one host or the other, and is on
# the disk. After that the primary is killed, and what was done since the last checkpoint is redone: that is
# the difference. In `buffered` mode, for in `colo` mode the copy prints, too;
# tests/process/test-node-switchover.c counts steps in both.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

word=count

# The numbers that were printed on either host, in their order; a line that a move has parted is missing.
printed() {
    cat "$HOSTS_DIR/alpha/serial.log" "$HOSTS_DIR/beta/serial.log" 2>/dev/null | numbers | sort -n
}

numbers() {
    tr -d '\r' | sed -n "s/^$word \([0-9]*\)\$/\1/p"
}

# collect HOST: what it has printed since the last time. Of all hosts in turn this is what the guest printed.
collect() {
    collected=$(cat "$HOSTS_DIR/$1/collected" 2>/dev/null || echo 0)
    tail -c "+$((collected + 1))" "$HOSTS_DIR/$1/serial.log" >"$HOSTS_DIR/$1/more"
    echo $((collected + $(wc -c <"$HOSTS_DIR/$1/more"))) >"$HOSTS_DIR/$1/collected"
    cat "$HOSTS_DIR/$1/more" >>"$HOSTS_DIR/printed"
}

highest() {
    printed | tail -n 1
}

has_counted_to() { # VALUE
    [ "$(highest)" -ge "$1" ] 2>/dev/null
}

counts_on() { # WHAT
    need "$1: it counts on" has_counted_to $(($(highest) + 5))
}

# A line of control is 255 bytes at most.
guest_learns() {
    hosts_guest "run echo 'i=0; while [ ! -e /tmp/enough ]; do i=\$((i+1))' >/tmp/count" &&
        hosts_guest "run echo 'printf %-511d \$i >/tmp/n; echo >>/tmp/n' >>/tmp/count" &&
        hosts_guest "run echo 'dd if=/tmp/n of=/dev/vda bs=512 seek=\$i oflag=direct conv=notrunc' >>/tmp/count" &&
        hosts_guest "run echo 'echo \$1 \$i >/dev/console; done; echo enough >/dev/console' >>/tmp/count"
}

guest_counts() {
    [ "$(hosts_guest "run sh /tmp/count $word >/tmp/count.log 2>&1 &")" = "done" ]
}

has_ended_counting() {
    cat "$HOSTS_DIR/alpha/serial.log" "$HOSTS_DIR/beta/serial.log" | tr -d '\r' | grep -q '^enough$'
}

twice() {
    printed | uniq -d | wc -l
}

disk_has_all() { # HOST
    dd if="$(image_of "$1" counter)" bs=512 skip=1 count="$last" 2>/dev/null | tr -d ' ' |
        cmp -s "$HOSTS_DIR/wanted" -
}

pair_setup checkpoint.mode=buffered
for host in alpha beta; do
    truncate -s 16M "$(image_of $host counter)"
    hosts_config $host log.log-level=debug checkpoint.mode=buffered \
        "disk counter.path=$(image_of $host counter)" "disks.state-dir=$HOSTS_DIR/$host/disks"
done
pair_boot
pair_join
ok "the guest learns to count" guest_learns
ok "the guest counts" guest_counts
need "it has begun" has_counted_to 5
for round in 1 2 3 4 5 6 7 8 9 10; do
    ok "round $round: done" hosts_colo "$primary" switchover --wait
    collect "$primary"
    pair_swap
    need "round $round: protected again" is_pair "$primary" "$secondary"
    counts_on "round $round"
done
ok "enough" hosts_guest "run touch /tmp/enough"
need "it has ended" has_ended_counting
last=$(highest)
diag "it has counted to $last"
collect "$primary"
seq 1 "$last" >"$HOSTS_DIR/wanted"
numbers <"$HOSTS_DIR/printed" | diff "$HOSTS_DIR/wanted" - >"$HOSTS_DIR/differs"
is "no value was printed twice, and none is missing" "$(cat "$HOSTS_DIR/differs")" ""
for host in alpha beta; do
    need "$host: the disk has them all" disk_has_all $host
done

# What a switchover spares: the primary dies, some values after its last checkpoint.
checkpoints() {
    hosts_status "$primary" checkpoints.total
}
has_another_checkpoint() {
    [ "$(checkpoints)" -gt "$checkpoints" ]
}
word=again
ok "the guest may count again" hosts_guest "run rm /tmp/enough"
ok "it begins anew" guest_counts
ok "checkpoints are rare" hosts_colo "$primary" set checkpoint-period=5s
checkpoints=$(checkpoints)
need "a checkpoint" has_another_checkpoint
counts_on "then"
mark
hosts_kill "$primary"
pair_swap
need "$primary takes over" is_alone "$primary"
counts_on "$primary"
not_ok "values were printed twice ($(twice))" [ "$(twice)" = 0 ]
nothing_left
tap_done
