#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What can go wrong with the disks of a protected VM: a disk server that dies on either side, a
# secondary that has no room for what the primary writes, pairs whose disks differ, images that can't
# be used. A guest commits records all the time and must not notice.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

GUEST_ARGS=disk=vda

disk_config() { # HOST [OPTION=VALUE]...
    disk_host=$1
    shift
    hosts_config "$disk_host" log.log-level=debug "disk root.path=$(image_of "$disk_host" root)" \
        "disks.state-dir=$HOSTS_DIR/$disk_host/disks" "$@"
}

# refused HOST TEXT WHAT: its colod ends with an error that says so.
refused() {
    mark
    node_start "$1" secondary
    died "$1" 1 "$3"
    ok "$3: says so" logged "$1" "$2"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s 64M "$HOSTS_DIR/$host/root.img"
    disk_config $host
done
mkfs.ext4 -q -F "$HOSTS_DIR/alpha/root.img"
pair_boot
writer_start records write "$HOSTS_GUEST_IP"
HOSTS_WATCH=$writer

# Images that can't be used: a secondary says so and ends, the primary does not notice.
disk_config beta "disk root.path=$HOSTS_DIR/beta/none.img"
refused beta "none.img" "a missing image"
disk_config beta "disk root.format=qcow2"
refused beta "qcow2" "an image that isn't what it should be"
disk_config beta "disk root.path=$HOSTS_DIR/alpha/root.img"
refused beta "locked" "an image in use"
truncate -s 32M "$HOSTS_DIR/beta/small.img"
disk_config beta "disk root.path=$HOSTS_DIR/beta/small.img" "disks.state-dir=$HOSTS_DIR/beta/small"
node_start beta secondary
need "a smaller image: refused" logged beta "disk root: bytes"
hosts_kill beta
continues "images that can't be used" records 5
disk_config beta

# The disk server dies.
pair_join
mark
kill -KILL "$(hosts_running beta nbdkit)"
died beta 1 "the secondary's disk server is killed"
need "the secondary's disk server is killed: alpha goes on unprotected" is_alone alpha
not_decided "the secondary's disk server is killed"
continues "the secondary's disk server is killed" records 5
pair_join
mark
kill -KILL "$(hosts_running alpha nbdkit)"
died alpha 1 "the primary's disk server is killed"
pair_swap
need "the primary's disk server is killed: beta takes over" is_alone beta
continues "the primary's disk server is killed" records 5

# Deaths at the moments that only a VM with disks has.
mark
node_start alpha secondary COLO_FAULT=secondary-disks-marked:20
need "death at secondary-disks-marked: protected before" logged beta "-> primary colo"
died alpha 137 "death at secondary-disks-marked"
need "death at secondary-disks-marked: beta goes on" is_alone beta
continues "death at secondary-disks-marked" records 5
node_start alpha secondary COLO_FAULT=primary-disks-marked:20
need "death at primary-disks-marked: alpha joins" is_pair beta alpha
mark
kill -KILL "$(pid_of beta)"
died beta 137 "death at primary-disks-marked: beta is killed"
pair_swap
need "death at primary-disks-marked: alpha takes over" is_alone alpha
node_start beta secondary
died alpha 137 "death at primary-disks-marked"
pair_swap
need "death at primary-disks-marked: beta takes over" is_alone beta
continues "death at primary-disks-marked" records 5

# The secondary runs out of room for what is staged: it ends, and says so before the link does.
mkdir "$HOSTS_DIR/alpha/full"
if mount -t tmpfs -o size=16M tmpfs "$HOSTS_DIR/alpha/full" 2>/dev/null; then
    disk_config alpha "disks.state-dir=$HOSTS_DIR/alpha/full"
    pair_join
    mark
    dd if=/dev/zero of="$HOSTS_DIR/alpha/full/fill" bs=4k 2>/dev/null || true
    died alpha 1 "no room on the secondary"
    ok "no room on the secondary: says so" logged alpha "No space left on device"
    need "no room on the secondary: beta goes on unprotected" is_alone beta
    not_decided "no room on the secondary"
    continues "no room on the secondary" records 5
else
    tap_skip "no room on the secondary" "no tmpfs"
fi
disk_config alpha
pair_join
HOSTS_WATCH=''
nothing_left
tap_done
