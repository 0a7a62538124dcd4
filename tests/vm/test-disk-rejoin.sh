#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What a resynchronisation sends, by colod's own count: only what differs, whoever was away and however it
# ended, if the hosts' files say what differs; all that differs after comparing everything, if they can't.
# A host's reboot is another boot id for its colod.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

for tool in nbdkit mount; do
    command -v $tool >/dev/null || tap_skip_all "no $tool"
done
disk_mib=64
chunk=65536 # of the dirty bitmap
boot=0

# reboot: whatever is started from here on runs under a kernel that has been started again.
reboot() {
    boot=$((boot + 1))
    cat /proc/sys/kernel/random/uuid >"$HOSTS_DIR/boot-id.$boot"
}

# start HOST ROLE: its colod, on this boot. A host's namespace of mounts is each command's own.
start() {
    # shellcheck disable=SC2016 # the inner shell's
    hosts_start "$1" colod sh -c 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"' \
        sh "$HOSTS_DIR/boot-id.$boot" "$COLO_BUILD/colod" --config "$HOSTS_DIR/$1/colod.conf" --role "$2"
    eval "pid_$1=\$hosts_pid"
}

boot_guest() {
    rm -f "$HOSTS_DIR/$primary/serial.log" "$HOSTS_DIR/arbiter/"*.owner
    start "$primary" primary
    HOSTS_WATCH=$(pid_of "$primary")
    need "$1: the guest boots on $primary" \
        grep -q 'colo-guest: ready' "$HOSTS_DIR/$primary/serial.log"
    HOSTS_WATCH=''
}

# The guest writes to so many chunks of its disk, from its beginning, to each once and never the same.
guest_writes() { # CHUNKS
    case $(hosts_guest "disk vda write $chunk 1 0 0 $1") in
    "ok ops=$1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

sync_figure() { # NAME
    hosts_status "$primary" "disks.sync.$1"
}

# rejoin WHAT FULL MOST-CHUNKS: the secondary comes back; what is compared and sent for it.
rejoin() {
    start "$secondary" secondary
    need "$1: $secondary joins" is_pair "$primary" "$secondary"
    need "$1: the count is there" hosts_status_is "$primary" disks.in-sync true
    is "$1: everything is compared: $2" "$(sync_figure full)" "$2"
    sent=$(sync_figure sent-bytes) total=$(sync_figure total-bytes)
    diag "$1: $total bytes compared, $sent sent"
    ok "$1: at most $3 chunks are sent" test "$sent" -le $(($3 * chunk))
    if [ "$2" = true ]; then
        is "$1: all bytes are compared" "$total" $((disk_mib << 20))
    else
        ok "$1: no more is compared than may differ" test "$total" -le $(($3 * chunk))
    fi
}

# quits HOST WHAT: its colod ends as it was asked to, and all that it started.
quits() {
    hosts_colo "$1" quit >/dev/null
    died "$1" 0 "$2"
}

both_quit() { # WHAT
    quits "$primary" "$1"
    need "$1: $secondary has seen it" is_in "$secondary" secondary none
    quits "$secondary" "$1"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
reboot
for host in alpha beta; do
    dd if=/dev/urandom of="$HOSTS_DIR/$host/root.img" bs=1M count=$disk_mib 2>/dev/null
    hosts_config $host log.log-level=debug checkpoint.mode=buffered \
        "disk root.path=$HOSTS_DIR/$host/root.img" "disks.state-dir=$HOSTS_DIR/$host/disks"
done

boot_guest first
rejoin "first, images that differ" true $((disk_mib << 4))
is "first, images that differ: all is sent" "$sent" $((disk_mib << 20))

# A primary that dies: what it wrote since the last checkpoint, and what the survivor writes.
ok "takeover: the guest writes" guest_writes 40
mark
hosts_kill "$primary"
pair_swap
need "takeover: $primary takes over" is_alone "$primary"
ok "takeover: the survivor's guest writes" guest_writes 10
rejoin "after a takeover" false 60
ok "after a takeover: what was written is sent" test "$sent" -ge $((10 * chunk))

hosts_kill "$secondary"
need "a secondary that dies: $primary goes on alone" is_alone "$primary"
ok "a secondary that dies: the guest writes" guest_writes 7
rejoin "a secondary that died" false 27
ok "a secondary that died: what was written is sent" test "$sent" -ge $((7 * chunk))

# Both end in order; their files count on another boot, too.
both_quit "an ordered end"
reboot
boot_guest "after an ordered end"
rejoin "after an ordered end of both and a reboot" false 20

ok "the images are equal: the guest writes" guest_writes 30
both_quit "an ordered end after writes"
reboot
boot_guest "after an ordered end after writes"
ok "after an ordered end after writes: the guest writes" guest_writes 5
rejoin "after an ordered end after writes" false 50
ok "after an ordered end after writes: what was written is sent" test "$sent" -ge $((5 * chunk))
both_quit "equal"
need "the end: equal images" cmp "$HOSTS_DIR/alpha/root.img" "$HOSTS_DIR/beta/root.img"

# A power failure: nothing is known of either image.
reboot
boot_guest "before a power failure"
rejoin "before a power failure" false 20
ok "before a power failure: the guest writes" guest_writes 30
hosts_kill alpha
hosts_kill beta
reboot
boot_guest "after a power failure"
rejoin "after a power failure" true 60
both_quit "after a power failure"
ok "after a power failure: equal images" cmp "$HOSTS_DIR/alpha/root.img" "$HOSTS_DIR/beta/root.img"

# Somebody uses an image that nobody has told the bitmaps about.
dd if=/dev/urandom of="$HOSTS_DIR/$secondary/root.img" bs=$chunk seek=100 count=3 conv=notrunc 2>/dev/null
reboot
boot_guest "a touched image"
rejoin "a touched image" true 23
ok "a touched image: what was changed is sent" test "$sent" -ge $((3 * chunk))
both_quit "a touched image"
ok "a touched image: equal images" cmp "$HOSTS_DIR/alpha/root.img" "$HOSTS_DIR/beta/root.img"
tap_done
