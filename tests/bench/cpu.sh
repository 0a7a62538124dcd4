# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Which thread the CPU time of a bulk transfer goes to (tests/bench/run): cpu_per_gb_LOAD_HOST_THREAD_MODE, in
# seconds for each 10^9 bytes. THREAD is colod, qemu_main (its main loop), qemu_cpus (the guest's work, and what
# QEMU does in threads of its own), or guest (the threads of tests/tools/native-host that are the guest's card).

# Of each thread on the hosts: "HOST_THREAD TICKS".
cpu_by_thread() {
    for cpu_host in alpha beta; do
        for cpu_pid in $(ip netns pids "$hosts_prefix-$cpu_host"); do
            for cpu_task in /proc/"$cpu_pid"/task/*; do
                cpu_name=$(cat "/proc/$cpu_pid/comm" 2>/dev/null):$(cat "$cpu_task/comm" 2>/dev/null)
                case $cpu_name in
                native-host:guest-* | native-host:native-host-g*) cpu_who=guest ;;
                colod:* | native-host:*) cpu_who=colod ;;
                qemu*) [ "${cpu_task##*/}" = "$cpu_pid" ] && cpu_who=qemu_main || cpu_who=qemu_cpus ;;
                *) continue ;;
                esac
                echo "${cpu_host}_$cpu_who $(cpu_ticks "$cpu_task")"
            done
        done
    done
}

# cpu_figures LOAD MODE BYTES FILE: since cpu_by_thread was written to FILE.
cpu_figures() {
    cpu_by_thread >"$4.now"
    awk -v tick="$(getconf CLK_TCK)" -v bytes="$3" '
        NR == FNR { ticks[$1] -= $2; next }
        { ticks[$1] += $2 }
        END { for (who in ticks) if (ticks[who] > 0) print who, ticks[who] / tick / (bytes / 1e9) }' \
        "$4" "$4.now" | sort >"$4.rates"
    while read -r cpu_who cpu_rate; do
        figure "cpu_per_gb_$1_${cpu_who}_$2" "$cpu_rate" s/GB
    done <"$4.rates"
}
