# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Part disk of the benchmarks (run): what a guest gets from its disk, which is one and the same image for
# QEMU's own file driver (_file), served by nbdkit's file plugin (_nbdkit), and replicated (_buffered,
# _colo); what a busy disk adds to a checkpoint's pause; how quick a synchronisation is, and what it sends.
# The guest's program does the I/O past the guest's cache; the host's is used by all. Times are the
# host's: a guest doesn't see that it stands still. Each host has one core of its own, protected or not: what
# the secondary does takes nothing from the primary then, as if it were another machine. _nbdkit has _file as its baseline, the others have
# _nbdkit, and _file in the figures that end in _to_file.
# shellcheck disable=SC2154 # of run

disk_mib=256
disk_run_ms=$((seconds * 75))

# NAME ORDER: of the guest's program, up to its fsyncs (tests/guest/diskio.h).
disk_loads='seq_read read 262144 4 0
seq_write write 262144 4 0
seq_write_fsync write 262144 4 16
random_read_4k randread 4096 8 0
random_write_4k randwrite 4096 8 0
random_write_4k_fsync randwrite 4096 8 1'

# The guest's answer: disk_order KIND BYTES THREADS SYNC MILLISECONDS OPERATIONS
disk_order() {
    disk_answer=$(echo "disk vda $*" |
        hosts_exec client timeout 120 socat -t 120 - "TCP:$HOSTS_GUEST_IP:7001") || return 1
    case $disk_answer in "ok "*) return 0 ;; *) return 1 ;; esac
}

disk_answered() { # NAME
    printf '%s\n' "$disk_answer" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# disk_best VARIANT LOAD ORDER...: the load's best rate of four, in disk_value and disk_unit: whatever else
# this machine has to do meanwhile only takes something away.
disk_best() {
    disk_value=0 disk_name="$2, $1"
    case $2 in
    seq_*) disk_unit=MiB/s disk_count=bytes disk_scale=1048576 ;;
    *) disk_unit=1/s disk_count=ops disk_scale=1 ;;
    esac
    shift 2
    for disk_try in 1 2 3 4; do
        disk_order sync 512 1 0 0 1 || die "the guest can't sync its disk: $disk_answer"
        disk_began_ms=$(hosts_uptime_ms)
        disk_order "$@" $disk_run_ms 0 || die "$disk_name, $disk_try: $disk_answer"
        disk_rate=$(calculate "$(disk_answered $disk_count) * 1000 / $disk_scale /" \
            "($(hosts_uptime_ms) - $disk_began_ms)")
        disk_value=$(printf '%s\n' "$disk_value" "$disk_rate" | sort -n | tail -n 1)
    done
}

# disk_figures_of VARIANT: what the guest that runs gets from its disk.
disk_figures_of() {
    disk_order write 1048576 1 0 0 $disk_mib || die "the guest can't write to its disk: $disk_answer"
    printf '%s\n' "$disk_loads" | while read -r load order; do
        # shellcheck disable=SC2086 # a list it is
        disk_best "$1" "$load" $order
        disk_baseline=nbdkit
        [ "$1" != nbdkit ] || disk_baseline=file
        figure "disk_vm_${load}_$1" "$disk_value" $disk_unit "$(known "disk_vm_${load}_$disk_baseline")"
        case $1 in
        file | nbdkit) ;;
        *) figure "disk_vm_${load}_${1}_to_file" "$disk_value" $disk_unit \
            "$(known "disk_vm_${load}_file")" ;;
        esac
    done
}

disk_image() { # HOST
    echo "$HOSTS_DIR/$1/disk.img"
}

# What the checkpoints' pauses are, with the disk idle and busy. The guest is otherwise the same.
disk_pauses() {
    for disk_load in idle busy; do
        pair_up buffered checkpoint.checkpoint-period=100ms
        hosts_guest "rate 1000" >/dev/null || die "the guest's control port does not answer"
        if [ $disk_load = busy ]; then
            disk_order randwrite 4096 4 0 $((seconds * 1000)) 0 || die "a busy disk: $disk_answer"
        else
            sleep "$seconds"
        fi
        for disk_percent in p50 p99; do
            disk_baseline=-
            [ $disk_load = idle ] || disk_baseline=$(known disk_pause_idle_$disk_percent)
            figure disk_pause_${disk_load}_$disk_percent \
                "$(hosts_status alpha pause-ms.$disk_percent)" ms "$disk_baseline"
        done
    done
}

disk_sync_figure() { # HOST NAME
    hosts_status "$1" "disks.sync.$2"
}

# disk_synchronised NAME HOST: what the synchronisation of this primary's secondary compared and sent.
disk_synchronised() {
    hosts_wait 10 "the count" hosts_status_is "$2" disks.in-sync true || die "not synchronised"
    figure "disk_$1_compared" "$(calculate "$(disk_sync_figure "$2" total-bytes) / 1048576")" MiB
    figure "disk_$1_sent" "$(calculate "$(disk_sync_figure "$2" sent-bytes) / 1048576")" MiB
}

# Changes one percent of the disk, in pieces of 64 KiB.
disk_change() {
    disk_order randwrite 65536 1 0 0 $((disk_mib * 16 / 100)) || die "one percent: $disk_answer"
}

disk_rate() { # NAME PRIMARY
    disk_ms=$(disk_sync_figure "$2" elapsed-ms)
    figure "disk_$1_rate" "$(calculate "$(disk_sync_figure "$2" total-bytes) / 1048.576 / $disk_ms")" MiB/s
}

# All differs; nothing differs but nothing is known of it; one percent differs after a secondary's end and
# after a takeover.
disk_rejoins() {
    rm -rf "$HOSTS_DIR"/*/disks
    dd if=/dev/urandom of="$(disk_image beta)" bs=1M count=$disk_mib 2>/dev/null
    pair_up buffered
    disk_synchronised full_sync alpha
    disk_rate full_sync alpha
    hosts_kill beta
    rm -rf "$HOSTS_DIR/beta/disks"
    disk_rejoin equal_sync alpha beta
    disk_rate equal_sync alpha
    hosts_kill beta
    hosts_wait 20 "the primary to go on" hosts_status_is alpha state none || die "no end of protection"
    disk_change
    disk_rejoin restart_rejoin alpha beta
    hosts_kill alpha
    hosts_wait 20 "the takeover" hosts_status_is beta role primary || die "no takeover"
    disk_change
    disk_rejoin takeover_rejoin beta alpha
}

disk_rejoin() { # NAME PRIMARY SECONDARY
    hosts_wait 20 "the primary to go on" hosts_status_is "$2" state none || die "no end of protection"
    join_as_secondary "$3"
    disk_synchronised "$1" "$2"
    figure "disk_$1_share" \
        "$(calculate "100 * $(disk_sync_figure "$2" sent-bytes) / ($disk_mib * 1048576)")" percent
}

disk_part() {
    pair_disk=1 HOSTS_CORES=1
    for disk_host in alpha beta; do
        dd if=/dev/urandom of="$(disk_image $disk_host)" bs=1M count=$disk_mib 2>/dev/null
    done
    plain_up alpha -blockdev "driver=raw,node-name=disk,file.driver=file,file.filename=$(disk_image alpha)" \
        -device virtio-blk-pci,drive=disk
    disk_figures_of file
    plain_down alpha
    hosts_start switch nbdkit taskset -c 0 nbdkit --foreground --unix "$HOSTS_DIR/alpha/plain" file "$(disk_image alpha)"
    hosts_wait 10 "nbdkit" test -S "$HOSTS_DIR/alpha/plain" || die "nbdkit doesn't start"
    plain_up alpha -blockdev "driver=raw,node-name=disk,file.driver=nbd,file.server.type=unix,file.server.path=$HOSTS_DIR/alpha/plain" \
        -device virtio-blk-pci,drive=disk
    disk_figures_of nbdkit
    plain_down alpha
    hosts_kill switch
    for disk_mode in buffered colo; do
        pair_up $disk_mode
        disk_figures_of $disk_mode
    done
    disk_pauses
    disk_rejoins
    pair_disk='' HOSTS_CORES=''
}
