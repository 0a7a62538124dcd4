# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Test hosts in network namespaces, for the demo, the tests and the benchmarks. Source it with
# COLO_BUILD (build folder) set, then:
#
#     why=$(hosts_missing) || skip "$why"
#     hosts_setup                     # alpha, beta, client; removed at exit, also after Ctrl-C
#     hosts_config alpha; hosts_config beta
#     hosts_colod alpha primary; hosts_colod beta secondary
#     hosts_wait 60 "protection" hosts_status_is alpha state colo
#     hosts_kill alpha                # SIGKILL to all that runs there, at once
#
#                    switch: bridge sw
#           .--------------+----------------.
#      lan0 |              | lan0           | lan0, 10.77.0.1/24, fd77::1/64
#      br0 - tap       br0 - tap          client
#       alpha ------------ beta
#        sync0 10.99.0.1   sync0 10.99.0.2
#
# The guest is 10.77.0.10 and fd77::10. Namespaces are named colo-PID-HOST and files live in
# /tmp/colo-hosts-PID, PID being the script's, so that those left by a killed script are recognised
# (hosts_sweep) and several scripts run side by side. For a script's own clean-up: hosts_at_exit.

HOSTS_GUEST_IP=10.77.0.10
HOSTS_GUEST_IP6=fd77::10
HOSTS_SYNC_PORT=9000
HOSTS_DIR=/tmp/colo-hosts-$$
hosts_prefix=colo-$$
hosts_started=''
hosts_at_exit=:
# How many times slower than usual the machine is: what is waited for gets so much more time.
hosts_patience=${COLO_PATIENCE:-1}

# Says on stdout what is missing to make test hosts, and fails; succeeds if nothing is.
hosts_missing() {
    [ "$(id -u)" = 0 ] || { echo "not root"; return 1; }
    command -v ip >/dev/null || { echo "no ip command (package iproute2)"; return 1; }
    [ -c /dev/net/tun ] || { echo "no /dev/net/tun"; return 1; }
    hosts_refusal=$(ip netns add "$hosts_prefix-probe" 2>&1) ||
        { echo "no network namespaces: $hosts_refusal"; return 1; }
    hosts_probe=0
    hosts_refusal=$(ip -n "$hosts_prefix-probe" link add br0 type bridge 2>&1 &&
        ip -n "$hosts_prefix-probe" link add lan0 type veth peer name lan1 2>&1) || hosts_probe=1
    ip netns delete "$hosts_prefix-probe"
    [ $hosts_probe = 0 ] || { echo "no bridges or veth pairs: $hosts_refusal"; return 1; }
}

# hosts_lan HOST LINK: connects the host's link to the switch.
hosts_lan() {
    ip -n "$hosts_prefix-$1" link add "$2" type veth peer name "$1" netns "$hosts_prefix-switch"
    ip -n "$hosts_prefix-switch" link set "$1" master sw up
    ip -n "$hosts_prefix-$1" link set "$2" up
}

hosts_bridge() {
    ip -n "$hosts_prefix-$1" link add "$2" type bridge mcast_snooping 0
    ip -n "$hosts_prefix-$1" link set "$2" up
}

# hosts_service_host HOST SYNC-ADDRESS: one that runs a colod.
hosts_service_host() {
    hosts_bridge "$1" br0
    hosts_lan "$1" lan0
    ip -n "$hosts_prefix-$1" link set lan0 master br0
    ip -n "$hosts_prefix-$1" addr add "$2/24" dev sync0
    ip -n "$hosts_prefix-$1" link set sync0 up
}

hosts_setup() {
    trap hosts_teardown EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    hosts_sweep
    mkdir -m 700 "$HOSTS_DIR" && mkdir "$HOSTS_DIR/arbiter" &&
        "$COLO_BUILD/colo" arbiter init "$HOSTS_DIR/arbiter" >/dev/null || return 1
    for hosts_name in switch alpha beta client; do
        ip netns add "$hosts_prefix-$hosts_name" || return 1
        mkdir "$HOSTS_DIR/$hosts_name"
        # Nothing here waits for duplicate address detection or sends on its own.
        hosts_exec "$hosts_name" sh -c "cd /proc/sys/net/ipv6/conf/default
            echo 0 >accept_dad; echo 0 >accept_ra"
        ip -n "$hosts_prefix-$hosts_name" link set lo up
    done
    hosts_bridge switch sw
    ip -n "$hosts_prefix-alpha" link add sync0 type veth peer name sync0 netns "$hosts_prefix-beta"
    hosts_service_host alpha 10.99.0.1
    hosts_service_host beta 10.99.0.2
    hosts_lan client lan0
    ip -n "$hosts_prefix-client" addr add 10.77.0.1/24 dev lan0
    ip -n "$hosts_prefix-client" addr add fd77::1/64 dev lan0
}

# Runs a command on a host, in the foreground.
hosts_exec() {
    hosts_name=$1
    shift
    ip netns exec "$hosts_prefix-$hosts_name" "$@"
}

# hosts_start HOST NAME COMMAND...: in the background, in a session of its own (Ctrl-C is ours), its
# output to HOSTS_DIR/HOST/NAME.log. The process id is in hosts_pid, and is the command's own. With
# HOSTS_CORES alpha has this machine's first core for itself, and all others have the second one.
hosts_start() {
    hosts_name=$1 hosts_log=$HOSTS_DIR/$1/$2.log
    shift 2
    hosts_core=1
    [ "$hosts_name" != alpha ] || hosts_core=0
    setsid ${HOSTS_CORES:+taskset -c $hosts_core} ip netns exec "$hosts_prefix-$hosts_name" "$@" \
        >>"$hosts_log" 2>&1 </dev/null &
    hosts_pid=$!
    hosts_started="$hosts_started $hosts_pid"
}

# hosts_kill HOST...: SIGKILLs all that runs there, as often as something is left; the kernel's part of
# the host lives on and resets connections. For a host that falls silent: hosts_power_off. A process
# leaves its namespace before its sockets are closed: when this returns they are.
hosts_kill() {
    hosts_killed=''
    while hosts_pids=$(hosts_pids_of "$@") && [ -n "$hosts_pids" ]; do
        hosts_killed="$hosts_killed $hosts_pids"
        # shellcheck disable=SC2086
        kill -KILL $hosts_pids 2>/dev/null || true
    done
    for hosts_dying in $hosts_killed; do
        while grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$hosts_dying/status"; do
            sleep 0.01
        done
    done
}

hosts_pids_of() { # HOST...
    for hosts_name; do
        ip netns pids "$hosts_prefix-$hosts_name" 2>/dev/null || true
    done
}

hosts_power_off() {
    hosts_cut "$1"
    hosts_kill "$1"
}

# hosts_cut HOST [LINK]: pulls the plug of the link (lan0 or sync0; both if none is named).
hosts_cut() {
    for hosts_link in ${2:-lan0 sync0}; do
        ip -n "$hosts_prefix-$1" link set "$hosts_link" down
    done
}

hosts_mend() {
    for hosts_link in ${2:-lan0 sync0}; do
        ip -n "$hosts_prefix-$1" link set "$hosts_link" up
    done
}

# ---- colod on the hosts ----

# The other one of the pair.
hosts_peer() {
    [ "$1" = alpha ] && echo beta || echo alpha
}

hosts_sync_address() {
    [ "$1" = alpha ] && echo 10.99.0.1 || echo 10.99.0.2
}

# hosts_config HOST [SECTION.KEY=VALUE...]: writes HOSTS_DIR/HOST/colod.conf for the test guest in
# COLO_GUEST (default: COLO_BUILD/guest); further arguments set or replace single options, an empty
# value removes one. QEMU, COLO_ACCEL and GUEST_ARGS (kernel command line) from the environment.
hosts_config() {
    hosts_name=$1
    shift
    {
        cat <<CONFIG
node.name=$hosts_name
node.listen=$(hosts_sync_address "$hosts_name"):$HOSTS_SYNC_PORT
node.peer=$(hosts_sync_address "$(hosts_peer "$hosts_name")"):$HOSTS_SYNC_PORT
node.control-socket=$HOSTS_DIR/$hosts_name/control
vm.name=guest
vm.uuid=c010c010-0000-4000-8000-000000000001
vm.machine=${COLO_MACHINE:-pc}
vm.accel=${COLO_ACCEL:-tcg}
vm.cpus=1
vm.memory=128MiB
vm.kernel=${COLO_GUEST:-$COLO_BUILD/guest}/vmlinuz
vm.initrd=${COLO_GUEST:-$COLO_BUILD/guest}/initrd.gz
vm.append=$(hosts_append)
vm.serial=file:$HOSTS_DIR/$hosts_name/serial.log
${QEMU:+vm.qemu=$QEMU}
$([ "$hosts_patience" = 1 ] || printf 'vm.qemu-timeout=30s\nlink.heartbeat-timeout=10s\n')
nic lan.model=virtio-net-pci
nic lan.mac=52:54:00:c0:10:01
nic lan.bridge=br0
disks.state-dir=$HOSTS_DIR/$hosts_name/state
arbiter.type=file
arbiter.path=$HOSTS_DIR/arbiter
CONFIG
        for hosts_option; do
            printf '%s\n' "$hosts_option"
        done
    } | awk '
        # The last one of a name counts; sections in the order in which they came up.
        /=/ {
            name = substr($0, 1, index($0, "=") - 1)
            if (!(name in value)) names[++count] = name
            value[name] = substr($0, index($0, "=") + 1)
        }
        END {
            for (i = 1; i <= count; i++) {
                section = substr(names[i], 1, index(names[i], ".") - 1)
                if (section in done) continue
                done[section] = 1
                printf "%s[%s]\n", (i > 1 ? "\n" : ""), section
                for (j = i; j <= count; j++)
                    if (index(names[j], section ".") == 1 && value[names[j]] != "")
                        printf "%s=%s\n", substr(names[j], length(section) + 2), value[names[j]]
            }
        }' >"$HOSTS_DIR/$hosts_name/colod.conf"
}

# The test guest's kernel command line.
hosts_append() {
    echo "console=ttyS0 quiet panic=1 ip=$HOSTS_GUEST_IP/24 ip6=$HOSTS_GUEST_IP6/64 ${GUEST_ARGS:-}"
}

# hosts_colod HOST ROLE [ARGUMENT...]: starts colod there with the host's configuration.
hosts_colod() {
    hosts_name=$1 hosts_role=$2
    shift 2
    hosts_start "$hosts_name" colod "$COLO_BUILD/colod" \
        --config "$HOSTS_DIR/$hosts_name/colod.conf" --role "$hosts_role" "$@"
}

# hosts_colo HOST COMMAND...: the colo tool on a host's control socket.
hosts_colo() {
    hosts_name=$1
    shift
    "$COLO_BUILD/colo" --socket "$HOSTS_DIR/$hosts_name/control" "$@"
}

# hosts_status HOST PATH: one value of the host's status ("state", "checkpoints.total"); fails if there
# is no answer or no such value.
hosts_status() {
    hosts_colo "$1" status --json 2>/dev/null | "$COLO_BUILD/tests/tools/json-get" "$2" 2>/dev/null
}

hosts_status_is() {
    [ "$(hosts_status "$1" "$2")" = "$3" ]
}

# The numbers of processes of one name on a host.
hosts_running() {
    for hosts_pid in $(ip netns pids "$hosts_prefix-$1"); do
        [ "$(cat "/proc/$hosts_pid/comm" 2>/dev/null)" != "$2" ] || echo "$hosts_pid"
    done
}

# hosts_guest COMMAND: a line to the guest's control port, its answer on stdout; fails without one.
hosts_guest() {
    hosts_answer=$(echo "$1" |
        hosts_exec client timeout $((10 * hosts_patience)) socat -t $((10 * hosts_patience)) - "TCP:$HOSTS_GUEST_IP:7001" 2>/dev/null)
    [ -n "$hosts_answer" ] && echo "$hosts_answer"
}

# hosts_wait SECONDS WHAT COMMAND...: until the command succeeds. After the given time it says that it
# waited for WHAT, shows the ends of all logs (not with HOSTS_QUIET) and fails; at once if a process of
# HOSTS_WATCH (process numbers) has ended.
hosts_wait() {
    hosts_wait_until $(($(hosts_uptime_ms) + $1 * 1000 * hosts_patience)) "$@"
}

# hosts_wait_until MILLISECONDS SECONDS WHAT COMMAND...: the command may wait, too, so all is in the arguments.
hosts_wait_until() {
    until hosts_fourth "$@"; do
        hosts_gone=''
        for hosts_pid in ${HOSTS_WATCH:-}; do
            kill -0 "$hosts_pid" 2>/dev/null || hosts_gone="process $hosts_pid has ended"
        done
        if [ -n "$hosts_gone" ] || [ "$(hosts_uptime_ms)" -ge "$1" ]; then
            echo "waited in vain for $3${hosts_gone:+: $hosts_gone}" >&2
            [ -n "${HOSTS_QUIET:-}" ] || hosts_tails >&2
            return 1
        fi
        sleep 0.05
    done
}

hosts_fourth() {
    shift 3
    "$@"
}

# Milliseconds of the monotonic clock.
hosts_uptime_ms() {
    awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime
}

# The ends of all logs.
hosts_tails() {
    for hosts_log in "$HOSTS_DIR"/*/*.log; do
        [ -s "$hosts_log" ] || continue
        echo "---- ${hosts_log#"$HOSTS_DIR"/}"
        tail -n "${HOSTS_TAIL:-20}" "$hosts_log"
    done
}

# ---- Clean-up ----

# Removes all that a script with this number made.
hosts_remove() {
    for hosts_name in native-alpha native-beta client alpha beta switch probe; do
        [ -e "/run/netns/colo-$1-$hosts_name" ] || continue
        while hosts_pids=$(ip netns pids "colo-$1-$hosts_name") && [ -n "$hosts_pids" ]; do
            # shellcheck disable=SC2086
            kill -KILL $hosts_pids 2>/dev/null || true
        done
        ip netns delete "colo-$1-$hosts_name"
    done
    # What a script has mounted there stays mounted if it is killed. Of mounts on mounts the last goes first.
    awk -v dir="/tmp/colo-hosts-$1/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | tac |
        while read -r hosts_mount; do
            umount -l "$hosts_mount"
        done
    rm -rf "/tmp/colo-hosts-$1"
}

# Removes what scripts that were killed left behind.
hosts_sweep() {
    for hosts_left in /run/netns/colo-*-switch /tmp/colo-hosts-*; do
        hosts_left=$(expr "$hosts_left" : '.*/colo-[a-z-]*\([0-9][0-9]*\)' 2>/dev/null) || continue
        kill -0 "$hosts_left" 2>/dev/null || hosts_remove "$hosts_left"
    done
}

hosts_teardown() {
    hosts_result=$?
    trap '' HUP INT TERM
    trap - EXIT
    $hosts_at_exit
    hosts_remove $$
    # shellcheck disable=SC2086 # a list it is; they are dead, and no zombie of theirs stays
    [ -z "$hosts_started" ] || wait $hosts_started 2>/dev/null || true
    exit $hosts_result
}
