# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Part native of the benchmarks (run): what colod itself costs. Each "guest" is a network namespace, so its
# TCP and its services are as quick as this machine, where an emulated guest would be the slowest part.
#
#     _native_joined    the namespace and alpha's bridge, joined by a veth pair: the baseline of all others
#     _native_relayed   two taps, and a process between them that copies each frame as QEMU does
#     _native_buffered, _native   protected, in `buffered` and in `colo` mode (tests/tools/native-host)
#
# Such a guest can't be loaded. So a pair is measured between the checkpoint that it begins with and the next.
# shellcheck disable=SC2154 # of run

native_root() { # HOST: what its guest sees of the file system
    echo "$HOSTS_DIR/native-$1/root"
}

# native_guest_up HOST: the host's guest, with the test guest's program; its card eth0 has to be added.
native_guest_up() {
    native_name=native-$1
    ip netns add "$hosts_prefix-$native_name"
    ip -n "$hosts_prefix-$native_name" link set lo up
    mkdir -p "$(native_root "$1")"
    cp "$COLO_BUILD/guest/guestd" "$(native_root "$1")/guestd"
    # In its process namespace a guest that powers off ends itself, and not this machine.
    hosts_start "$native_name" guestd unshare --pid --fork chroot "$(native_root "$1")" /guestd 1 0 0
}

# Nothing that a kernel sends at times of its own, which two never do alike: the groups of IPv6, or ARP.
native_card_up() { # HOST
    hosts_exec "native-$1" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6'
    ip -n "$hosts_prefix-native-$1" link set eth0 address "$mac" up
    ip -n "$hosts_prefix-native-$1" addr add "$HOSTS_GUEST_IP/24" dev eth0
    ip -n "$hosts_prefix-native-$1" neigh add 10.77.0.1 dev eth0 nud permanent \
        lladdr "$(hosts_exec client cat /sys/class/net/lan0/address)"
}

native_tap() { # NAMESPACE NAME
    ip -n "$hosts_prefix-$1" tuntap add "$2" mode tap vnet_hdr
}

# All at once, so that nobody takes over.
native_down() {
    hosts_kill alpha beta native-alpha native-beta
    for host in alpha beta; do
        ip netns delete "$hosts_prefix-native-$host" 2>/dev/null || true
    done
    ip -n "$hosts_prefix-alpha" link delete plain0 2>/dev/null || true
    rm -f "$HOSTS_DIR/arbiter/"*.owner
}

native_is_up() {
    hosts_exec client socat -u /dev/null "TCP:$HOSTS_GUEST_IP:7,connect-timeout=1" 2>/dev/null
}

native_joined_up() {
    native_guest_up alpha
    ip -n "$hosts_prefix-alpha" link add plain0 type veth peer name eth0 netns "$hosts_prefix-native-alpha"
    ip -n "$hosts_prefix-alpha" link set plain0 master br0 up
    native_card_up alpha
}

native_relayed_up() {
    native_guest_up alpha
    native_tap native-alpha eth0
    native_tap alpha plain0
    hosts_start alpha relay "$tools/native-host" --relay plain0 "$hosts_prefix-native-alpha" eth0
    ip -n "$hosts_prefix-alpha" link set plain0 master br0 up
    native_card_up alpha
}

native_pair_up() { # MODE
    for host in alpha beta; do
        native_guest_up $host
        native_tap native-$host eth0
        # shellcheck disable=SC2086 # a list it is
        hosts_config $host vm.memory=8MiB checkpoint.checkpoint-period=60min checkpoint.compare-timeout=5s "checkpoint.mode=$1" ${BENCH_OPTIONS:-}
        [ $host = alpha ] && role=primary || role=secondary
        hosts_start $host colod "$tools/native-host" "$HOSTS_DIR/$host/colod.conf" $role \
            "$hosts_prefix-native-$host" eth0
        [ $host = alpha ] && pid_alpha=$hosts_pid || pid_beta=$hosts_pid
        native_card_up $host
    done
    hosts_wait 60 "protection" is_protected || die "the native guest did not become protected"
}

# Small datagrams, 50,000 a second if the client can: how many come back, and the share that doesn't.
native_datagrams() { # VARIANT
    native_line=$(hosts_exec client "$tools/steady" --seconds "$seconds" --per-second 50000 \
        --drain-s 2 "$HOSTS_GUEST_IP" | tail -n 1)
    [ -n "$native_line" ] || die "datagrams, $1: steady says nothing"
    native_sent=$(printf '%s\n' "$native_line" | get datagrams)
    native_lost=$(printf '%s\n' "$native_line" | get lost)
    figure "datagram_rate_$1" "$(calculate "($native_sent - $native_lost) / $seconds")" 1/s \
        "$([ "$1" = native_joined ] || known datagram_rate_native_joined)"
    figure "datagrams_lost_$1" "$(calculate "100 * $native_lost / $native_sent")" percent
}

native_figures() { # VARIANT
    hosts_wait 20 "the native guest" native_is_up || die "the native guest doesn't answer"
    figures_of "$1"
    native_datagrams "$1"
}

native_part() {
    native_bulk_bytes=$bulk_bytes bulk_bytes=${BENCH_BULK_BYTES:-2000000000}
    http_port=7006 # a page without the time of day, of which two such guests say different things
    for native_variant in ${BENCH_NATIVE:-joined relayed buffered colo}; do
        case $native_variant in
        joined | relayed) native_${native_variant}_up ;;
        *) native_pair_up "$native_variant" ;;
        esac
        [ "$native_variant" = colo ] && native_name=native || native_name=native_$native_variant
        native_figures "$native_name"
        native_down
    done
    bulk_bytes=$native_bulk_bytes http_port=80
}
