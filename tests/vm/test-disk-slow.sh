#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest writes as fast as it can, and the secondary's storage takes 20 MB/s: the pair stays protected,
# the clients go on, and what a takeover would have to sync stays small, however much is written. Then
# the primary dies.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

rate=20000000
write_s=${SLOW_SECONDS:-20}
controller=/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device # cgroup version 1
[ -w "$controller" ] || tap_skip_all "no I/O controller: $controller"

# A loop device with a file system of beta's own.
slow_begin() {
    truncate -s 2G "$HOSTS_DIR/slow.img"
    loop=$(losetup --direct-io=on -f --show "$HOSTS_DIR/slow.img") || return 1
    numbers=$(lsblk -nd -o MAJ:MIN "$loop" | tr -d ' ')
    hosts_at_exit=slow_end
    mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$loop" && mkdir "$slow" &&
        mount "$loop" "$slow"
}

slow_end() {
    echo "$numbers 0" >"$controller"
    umount -l "$slow"
    losetup -d "$loop"
}

write_begin() {
    hosts_start client writer sh -c "echo disk vda write 1048576 4 0 ${write_s}000 0 |
        timeout 300 socat -t 300 - TCP:$HOSTS_GUEST_IP:7001"
    writer=$hosts_pid
}

# What a takeover would have to sync, so far as the secondary's disks tell it, and the limit.
look() {
    staged=$(hosts_status beta disks.images.0.staged-bytes)
    overlay=$(hosts_status beta disks.images.0.overlay-bytes)
    limit=$(hosts_status alpha disks.epoch-limit-bytes)
    most=$(printf '%s\n' "$most" "$((${staged:-0} + ${overlay:-0}))" | sort -n | tail -n 1)
    highest_limit=$(printf '%s\n' "$highest_limit" "${limit:-0}" | sort -n | tail -n 1)
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
slow=$HOSTS_DIR/beta/slow
slow_begin || tap_skip_all "no loop device"
for host in alpha beta; do
    folder=$HOSTS_DIR/$host
    [ $host = alpha ] || folder=$slow
    truncate -s 512M "$folder/root.img"
    hosts_config $host vm.memory=128MiB checkpoint.checkpoint-period=1s log.log-level=debug \
        "disk root.path=$folder/root.img" "disks.state-dir=$folder/disks"
done
pair_boot
client_start
pair_join
echo "$numbers $rate" >"$controller"
mark
most=0 highest_limit=0
write_begin
until has_ended "$writer"; do
    look
    sleep 0.2
done
diag "most that a takeover would have had to sync: $((most >> 20)) MiB; highest limit: $((highest_limit >> 20)) MiB"
diag "the guest: $(cat "$HOSTS_DIR/client/writer.log")"
ok "the guest has written" grep -q '^ok ' "$HOSTS_DIR/client/writer.log"
ok "it was limited" test "$(hosts_status alpha disks.epoch-limit-bytes)" -gt 0
not_ok "checkpoints came early for it" hosts_status_is alpha checkpoints.by-reason.disk-limit 0
# An epoch that is complete, one that is not, and the copy's own; and writes that were let through.
ok "little waits for the medium" test "$most" -le $((3 * highest_limit + 64 * 1048576))
ok "the pair has stayed one" is_pair alpha beta
for host in alpha beta; do
    not_ok "$host: no session was lost" logged $host "is lost"
done
client_unharmed "writing"
write_begin
sleep 3
mark
began_ms=$(hosts_uptime_ms)
hosts_kill alpha
taken_over "killed"
diag "the takeover: $(($(hosts_uptime_ms) - began_ms)) ms"
pair_end
