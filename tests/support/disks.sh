# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Disks of a pair (pair.sh), and the clients that have the guest write to them (tests/tools/records).
# Source it after pair.sh; the script is skipped if a tool for images or file systems is missing.

PATH=$PATH:/sbin:/usr/sbin
for tool in nbdkit qemu-img mkfs.ext4 e2fsck debugfs; do
    command -v $tool >/dev/null || tap_skip_all "no $tool"
done

image_of() { # HOST DISK
    echo "$HOSTS_DIR/$1/$2.img"
}

# writer_start NAME ARGUMENT...: a client of tests/tools/records, which is $writer then. The numbers of
# what the guest has acknowledged are lines of NAME.log.
writer_start() {
    writer_name=$1
    shift
    rm -f "$HOSTS_DIR/client/$writer_name.log"
    hosts_start client "$writer_name" "$COLO_BUILD/tests/tools/records" "$@"
    # shellcheck disable=SC2034,SC2154 # hosts_start sets it, for who calls
    writer=$hosts_pid
}

acknowledged() { # NAME
    grep -c '^[0-9]*$' "$HOSTS_DIR/client/$1.log"
}

has_acknowledged() { # NAME COUNT
    [ "$(acknowledged "$1")" -ge "$2" ]
}

# continues WHAT NAME COUNT: so many more are acknowledged.
continues() {
    need "$1: $3 more of $2" has_acknowledged "$2" $(($(acknowledged "$2") + $3))
}
