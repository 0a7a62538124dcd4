# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Disks of a pair (pair.sh), and the clients that have the guest write to them (tests/tools/records).
# Source it after pair.sh; the script is skipped if a tool for images or file systems is missing.
# shellcheck disable=SC2154 # hosts_prefix, hosts_pid, primary and secondary are those of hosts.sh and pair.sh

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

writer_ends() { # WHAT NAME PID
    kill -TERM "$3"
    need "$1: the writer of $2 ends" has_ended "$3"
    wait "$3"
    is "$1: it has lost nothing, and kept its connection" $? 0
}

rows_are_right() { # DATABASE COUNT
    sqlite3 "$1" 'SELECT number, hex(content) FROM entry ORDER BY rowid' |
        "$COLO_BUILD/tests/tools/records" check-sql "$2"
}

# files_of DISK FORMAT: what is on the primary's, once its file system has been found whole, goes to
# HOSTS_DIR/files/DISK.
files_of() {
    files=$HOSTS_DIR/files/$1 plain=$HOSTS_DIR/$1.plain
    qemu-img convert -f "$2" -O raw "$(image_of "$primary" "$1")" "$plain" &&
        e2fsck -f -n "$plain" && rm -rf "$files" && mkdir -p "$files" &&
        debugfs -R "rdump / $files" "$plain" >/dev/null 2>&1
}

# /data, and the root when that is not mounted any more. It is busy for as long as a writer that has just
# ended has its file open.
guest_unmounts() {
    test "$(hosts_guest umount)" = ok
}

# The guest itself writes to so many blocks of 64 KiB, from its disk's beginning, never the same.
guest_writes() { # DISK BLOCKS
    case $(hosts_guest "disk $1 write 65536 1 0 0 $2") in
    "ok ops=$2 "*) return 0 ;;
    *) return 1 ;;
    esac
}

# The QEMUs and disk servers of both hosts.
processes() {
    for host in alpha beta; do
        for pid in $(ip netns pids "$hosts_prefix-$host"); do
            name=$(cat "/proc/$pid/comm" 2>/dev/null)
            case $name in qemu* | nbdkit*) echo "$host $name $pid" ;; esac
        done
    done
}

# ---- Persistent bitmaps ----

# For vm.extra: a monitor of the test's own, by a name that each host has for itself.
# shellcheck disable=SC2034 # for who sources it
DISKS_MONITOR='-chardev socket,id=test,path=colo-monitor,abstract=on,server=on,wait=off -mon chardev=test,mode=control'

# monitor_answer HOST COMMAND: what QEMU returns. What socat ends with says nothing: QEMU may tell of a checkpoint's
# pause when the answer is there, which nobody reads then.
monitor_answer() {
    rm -f "$HOSTS_DIR/answer"
    cat >"$HOSTS_DIR/ask" <<EOF
#!/bin/sh
printf '%s\n' '{"execute": "qmp_capabilities"}' '$2'
returned=0
while [ \$returned -lt 2 ] && read -r line; do
    case \$line in '{"return": '* | '{"error": '*) returned=\$((returned + 1)) ;; esac
done
printf '%s\n' "\$line" >$HOSTS_DIR/answer.new
exec mv $HOSTS_DIR/answer.new $HOSTS_DIR/answer
EOF
    chmod +x "$HOSTS_DIR/ask"
    hosts_exec "$1" timeout "$PATIENCE" socat -t 0 ABSTRACT-CONNECT:colo-monitor "EXEC:$HOSTS_DIR/ask" 2>/dev/null
    cat "$HOSTS_DIR/answer"
}

# What QEMU knows of the bitmap `kept`: of one that was in use in the image it says that it is inconsistent.
bitmap_of() { # HOST
    monitor_answer "$1" '{"execute": "query-named-block-nodes", "arguments": {"flat": true}}' |
        grep -o '{[^{}]*"name": "kept"[^{}]*}' | grep '"recording"'
}

bitmap_is_lost() { # HOST
    bitmap_of "$1" | grep -q '"inconsistent": true'
}

bitmap_count() { # HOST
    bitmap_of "$1" | "$COLO_BUILD/tests/tools/json-get" count
}

# It has something, and what it has counts.
bitmap_counts() { # HOST
    bitmap=$(bitmap_of "$1")
    case $bitmap in *inconsistent*) return 1 ;; esac
    [ "$(echo "$bitmap" | "$COLO_BUILD/tests/tools/json-get" count)" -gt 0 ]
}

bitmap_ordered() { # HOST COMMAND ARGUMENT
    monitor_answer "$1" "{\"execute\": \"$2\", \"arguments\": {$3\"node\": \"colo-disk1\", \"name\": \"kept\"}}" |
        grep -F '"return": {}'
}

# As a backup does that finds it lost, or not there, and then copies all of the disk. QEMU writes the new one to the image
# as it gives that up, and not before.
bitmap_renewed() { # HOST
    [ -z "$(bitmap_of "$1")" ] || bitmap_ordered "$1" block-dirty-bitmap-remove '' || return 1
    bitmap_ordered "$1" block-dirty-bitmap-add '"persistent": true, '
}

# Small and new ones on both hosts, a raw one and a qcow2 one with the bitmap: disks root and
# cow (bitmap_config).
bitmap_disks() {
    for host in alpha beta; do
        rm -rf "$(image_of $host root)" "$(image_of $host cow)" "$HOSTS_DIR/$host/disks"
        truncate -s 8M "$(image_of $host root)"
        qemu-img create -q -f qcow2 "$(image_of $host cow)" 8M
        qemu-img bitmap --add "$(image_of $host cow)" kept
        truncate -s 12M "$(image_of $host cow)" # the file doesn't grow
    done
}

# bitmap_config HOST OPTION...: hosts_config() with these disks.
bitmap_config() {
    bitmap_host=$1
    shift
    hosts_config "$bitmap_host" log.log-level=debug checkpoint.mode="${MODE:-colo}" "vm.extra=$DISKS_MONITOR" \
        "disk root.path=$(image_of "$bitmap_host" root)" \
        "disk cow.path=$(image_of "$bitmap_host" cow)" "disk cow.format=qcow2" \
        "disks.state-dir=$HOSTS_DIR/$bitmap_host/disks" "$@"
}

# The primary's guest writes to the qcow2 disk, so the bitmap has something that QEMU writes as it gives the disk up.
bitmap_filled() { # WHAT
    if bitmap_is_lost "$primary" || [ -z "$(bitmap_of "$primary")" ]; then
        ok "$1: there is another bitmap" bitmap_renewed "$primary"
    fi
    ok "$1: the guest writes to the qcow2 disk" guest_writes vdb 20
    ok "$1: the bitmap has that" bitmap_counts "$primary"
}

# cow_is_sound WHAT [lost|counts]: the image that the VM continues from, to which the guest writes nothing now. The bitmap
# is as it should be. By default that is not looked at: in a checkpoint of a VM that ran it is in use, or not in the image yet.
cow_is_sound() {
    ok "$1: the qcow2 image is whole" qemu-img check -q -U "$(image_of "$primary" cow)"
    case ${2:-} in
    lost) ok "$1: the bitmap is lost" bitmap_is_lost "$primary" ;;
    counts) ok "$1: the bitmap has what it had" bitmap_counts "$primary" ;;
    esac
}

# The image's own word, whoever has it open.
bitmap_flags() { # HOST DISK
    qemu-img info -U --output=json "$(image_of "$1" "$2")" |
        "$COLO_BUILD/tests/tools/json-get" format-specific.data.bitmaps.0.flags
}

# The primary's colod ends as it was asked to, then the secondary's: both have all that was written.
ends_in_order() {
    hosts_colo "$primary" quit >/dev/null
    died "$primary" 0 "the end"
    need "the end: $secondary has seen it" is_in "$secondary" secondary none
    hosts_colo "$secondary" quit >/dev/null
    died "$secondary" 0 "the end"
}
