#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A hundred switchovers that are cancelled at random moments, by either host, of a guest with traffic that
# writes to a file system on a raw disk and to a database on a qcow2 one with a persistent bitmap, which QEMU writes as
# it gives the disk up. However each ends, the pair is protected again. In the end the client has lost nothing, the
# guest's memory is what it wrote, the bitmap has what it had and more, all that was acknowledged is on the disks once, and
# both hosts' images are equal.
# ROUNDS: how many (100). SEED: of the moments, as it was printed.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v socat >/dev/null || tap_skip_all "no socat"
command -v sqlite3 >/dev/null || tap_skip_all "no sqlite3"
root=$COLO_BUILD/guest/root.ext4
[ -e "$root" ] || tap_skip_all "no root file system for the test guest (make guest)"
rounds=${ROUNDS:-100}

# The stories: whether it is held, who orders it, who cancels it, and after how many seconds.
draw() { # SEED
    awk -v seed="$1" -v rounds="$rounds" -v slow="$hosts_patience" 'BEGIN {
        srand(seed)
        for (i = 1; i <= rounds; i++)
            print (rand() < 0.25 ? "held" : "through"), (rand() < 0.5 ? "primary" : "secondary"),
                (rand() < 0.5 ? "primary" : "secondary"), sprintf("%.3f", rand() * 0.08 * slow)
    }'
}

is_ordered() { # HOST [OPTION]
    hosts_colo "$@" >"$HOSTS_DIR/ordered" 2>&1
}

# Both have seen the next one end.
is_over() {
    for host in alpha beta; do
        [ "$(hosts_status "$host" switchover.id)" = $((number + 1)) ] || return 1
        case $(hosts_status "$host" switchover.status) in completed | cancelled | failed) ;; *) return 1 ;; esac
    done
    is_pair_either_way
}

# cancelled_after HOLD WHO-ORDERS WHO-CANCELS SECONDS
cancelled_after() {
    eval "orders=\$$2 cancels=\$$3"
    option=''
    [ "$1" = through ] || option=--pause
    # Refused as long as the last one's secondary is not ready.
    # shellcheck disable=SC2086,SC2154 # none, or one; by eval
    hosts_wait "$PATIENCE" "an order" is_ordered "$orders" switchover $option || return 1
    sleep "$4"
    # shellcheck disable=SC2154 # by eval
    hosts_colo "$cancels" cancel || return 1
    hosts_wait "$PATIENCE" "an end, and a protected pair" is_over || return 1
    number=$((number + 1))
    is_pair "$primary" "$secondary" || pair_swap
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    qemu-img create -q -f qcow2 "$(image_of $host root)" 64M
    truncate -s 32M "$(image_of $host data)"
done
mkfs.ext4 -q -F "$(image_of alpha data)"
qemu-img convert -n -O qcow2 "$root" "$(image_of alpha root)"
qemu-img bitmap --add "$(image_of alpha root)" kept
truncate -s 68M "$(image_of alpha root)" "$(image_of beta root)"
GUEST_ARGS="dirty_rate=500 root=vda disk=vdb"
for host in alpha beta; do
    hosts_config $host log.log-level=debug checkpoint.mode="${MODE:-colo}" "vm.extra=$DISKS_MONITOR" \
        "disk root.path=$(image_of $host root)" "disk root.format=qcow2" \
        "disk data.path=$(image_of $host data)" "disks.state-dir=$HOSTS_DIR/$host/disks"
done
database=$HOSTS_DIR/files/root/srv/database
seed=${SEED:-$(hosts_uptime_ms)}
diag "SEED=$seed"
pair_boot
client_start
writer_start transactions sql "$HOSTS_GUEST_IP" wal
transactions=$writer
writer_start records write "$HOSTS_GUEST_IP"
records_pid=$writer
HOSTS_WATCH="$transactions $records_pid"
pair_join
continues "protected" transactions 2
continues "protected" records 2
mark
counted=$(bitmap_count "$primary")
ok "the bitmap has what was written ($counted)" bitmap_counts "$primary"

draw "$seed" >"$HOSTS_DIR/stories"
ended=0 number=0 cancelled=0 completed=0 failed=0
while read -r story; do
    # shellcheck disable=SC2086 # four words
    cancelled_after $story </dev/null || break
    ended=$((ended + 1))
    status=$(hosts_status "$primary" switchover.status)
    eval "$status=\$(($status + 1))"
    diag "$ended: $story: $status"
    [ "$status" != failed ] || diag "$(hosts_status "$primary" switchover.error)"
    [ $((ended % 25)) != 0 ] || client_unharmed "after $ended"
done <"$HOSTS_DIR/stories"
is "all have ended in a protected pair" "$ended" "$rounds"
[ "$ended" = "$rounds" ] || diag "$(cat "$HOSTS_DIR/ordered"; hosts_tails)"
diag "$cancelled were cancelled, $completed completed, $failed failed"
ok "some were cancelled" test $cancelled -gt 0
is "none failed" "$failed" 0
need "the pair is protected" is_pair_either_way
client_unharmed "cancelled again and again"
ok "the guest's memory is what it wrote" guest_verifies
not_ok "the bitmap is lost" bitmap_is_lost "$primary"
count=$(bitmap_count "$primary")
ok "it has no less than before ($count)" test "$count" -ge "$counted"
continues "in the end" transactions 1
continues "in the end" records 1

HOSTS_WATCH=''
client_end
writer_ends "the end" transactions "$transactions"
writer_ends "the end" records "$records_pid"
for disk in data root; do
    wait_ok "the guest writes no more to $disk" guest_unmounts
done
ends_in_order
ok "the raw images are equal" cmp "$(image_of alpha data)" "$(image_of beta data)"
ok "the qcow2 images are" qemu-img compare -q "$(image_of alpha root)" "$(image_of beta root)"
for host in alpha beta; do
    ok "$host: the qcow2 image is whole" qemu-img check -q "$(image_of $host root)"
done
ok "the file system of the root is whole" files_of root qcow2
ok "that of the raw disk is" files_of data raw
is "PRAGMA integrity_check" "$(sqlite3 "$database" 'PRAGMA integrity_check' 2>&1)" ok
ok "every transaction is there" rows_are_right "$database" "$(acknowledged transactions)"
ok "every record is there" \
    "$COLO_BUILD/tests/tools/records" check "$HOSTS_DIR/files/data" "$(acknowledged records)"
tap_done
