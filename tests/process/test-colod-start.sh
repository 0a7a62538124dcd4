#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A colod that can't start says what is wrong, on what, and the way out, and leaves nothing behind.
# No QEMU is needed: what stands for it can't do the work.
# shellcheck disable=SC2317 # functions are called by ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

missing=$(hosts_missing) || tap_skip_all "$missing"
hosts_setup || exit 1
dir=$HOSTS_DIR

# config OPTION=VALUE...
config() {
    hosts_config alpha vm.kernel= vm.initrd= vm.append= vm.memory=16MiB vm.qemu="$dir/no-qemu" "$@"
}

# fails STATUS WHAT PART...: colod with that configuration, in $colod_output, ends so and says the PARTs.
fails() {
    status=$1 what=$2
    shift 2
    # shellcheck disable=SC2086
    colod_output=$(hosts_exec alpha timeout -k 5 "$PATIENCE" ${rights:-} "$COLO_BUILD/colod" \
        --config "$dir/alpha/colod.conf" --role "${role:-primary}" ${flags:-} 2>&1 </dev/null)
    is "$what: exit status" $? "$status"
    for part; do
        has "$what: it says '$part'" "$colod_output" "$part"
    done
    is "$what: no tap is left" "$(hosts_exec alpha ls /sys/class/net | tr '\n' ' ')" \
        "br0 lan0 lo sync0 "
    ok "$what: no process is left" is_empty alpha
}

# ---- The configuration ----

flags='--check-config --offline'
# nonsense OPTION=VALUE PART...: line and file are told, too.
nonsense() {
    option=$1
    shift
    config "$option"
    fails 2 "$option" "$dir/alpha/colod.conf:" "$@"
}
nonsense 'node.listen=10.99.0.1:' 'listen' 'port'
nonsense 'node.listen=10.99.0.1:99999' 'listen' '65535'
nonsense 'node.lisen=10.99.0.1:9000' 'lisen' 'listen'
nonsense 'nodes.name=alpha' 'nodes' '[node]'
nonsense 'vm.memory=lots' 'memory' 'lots' 'MiB'
nonsense 'vm.memory=10' 'memory'
nonsense 'vm.uuid=nobody' 'uuid' 'nobody'
nonsense 'nic lan.mac=01:00:00:00:00:01' 'mac'
nonsense 'checkpoint.checkpoint-period=-1ms' 'checkpoint-period'
nonsense 'checkpoint.checkpoint-period=100 parsecs' 'checkpoint-period' 'ms'
nonsense 'checkpoint.min-gap=2s' 'min-gap' 'checkpoint-period'
nonsense 'checkpoint.mode=fast' 'mode' 'buffered'
nonsense 'link.heartbeat-timeout=100ms' 'heartbeat-timeout' 'heartbeat-interval'
nonsense 'arbiter.type=coin' 'coin' 'file'
config
fails 0 'a good configuration' 'is right'
printf 'no section\n' >"$dir/alpha/colod.conf"
fails 2 'no configuration at all' "$dir/alpha/colod.conf"
head -c 4096 /dev/urandom >"$dir/alpha/colod.conf"
fails 2 'a configuration of noise' "$dir/alpha/colod.conf"
rm "$dir/alpha/colod.conf"
fails 2 'no configuration file' "$dir/alpha/colod.conf" 'No such file'
config
role=tertiary
fails 2 'a role that there is not' 'tertiary' 'primary'
role=primary
rights='env COLO_FAULT=primary-tired'
fails 2 'a fault point that there is not' 'primary-tired' 'primary-paused'
rights='' flags=''

# ---- What the host lacks ----

config arbiter.path="$dir/nowhere"
fails 1 'no folder for the arbiter' "$dir/nowhere" 'both hosts'
mkdir "$dir/nameless"
config arbiter.path="$dir/nameless"
fails 1 "an arbiter's folder without its name" 'has no name' 'mounted on' 'colo arbiter init'
is "an arbiter's folder without its name: nothing is made there" "$(ls -A "$dir/nameless")" ''
config node.control-socket="$dir/fake-qemu/control"
: >"$dir/fake-qemu"
fails 1 'no folder for the control socket' "$dir/fake-qemu"

hosts_start alpha listener socat TCP-LISTEN:9000,bind=10.99.0.1,fork,reuseaddr EXEC:true
listener=$hosts_pid
port_is_taken() {
    hosts_exec alpha ss -Hltn 'sport = :9000' | grep -q .
}
hosts_wait "$PATIENCE" "the port to be taken" port_is_taken
config
is_empty() { [ "$(ip netns pids "$hosts_prefix-$1")" = "$listener" ]; }
fails 1 'the port is taken' '10.99.0.1:9000' 'in use'
kill -KILL "$listener"
wait "$listener" 2>/dev/null
is_empty() { [ -z "$(ip netns pids "$hosts_prefix-$1")" ]; }

config node.listen=10.99.0.77:9000
fails 1 'the address is not of this host' '10.99.0.77:9000'
config 'nic lan.bridge=br7'
fails 1 'no bridge' "'br7'" 'nic lan'
config 'nic lan.bridge=lan0'
fails 1 'a bridge that is none' "'lan0'" 'bridge'
config 'nic lan.ifname=lan0'
fails 1 'the name of the tap is taken' "'lan0'" 'taken'
if command -v setpriv >/dev/null; then
    config
    rights='setpriv --bounding-set=-net_admin --inh-caps=-net_admin'
    fails 1 'no right to make a tap' 'CAP_NET_ADMIN' 'root'
    rights=''
else
    tap_skip 'no right to make a tap' 'no setpriv'
fi

# ---- QEMU ----

config
fails 1 'no QEMU' "$dir/no-qemu" 'qemu-system-x86' "'qemu'"
printf 'not a program\n' >"$dir/fake-qemu"
config vm.qemu="$dir/fake-qemu"
fails 1 'a QEMU that may not be run' "$dir/fake-qemu" 'executable'

fake_qemu() {
    printf '#!%s\n' "$1" >"$dir/fake-qemu"
    cat >>"$dir/fake-qemu"
    chmod +x "$dir/fake-qemu"
}
fake_qemu /bin/sh <<'SCRIPT'
echo 'out of luck' >&2
exit 3
SCRIPT
fails 1 'QEMU dies at once' 'did not start' 'status 3' 'out of luck'
fake_qemu /no/such/shell </dev/null
fails 1 'QEMU without its interpreter' "$dir/fake-qemu" 'No such file'
if command -v bash >/dev/null; then
    fake_qemu "$(command -v bash)" <<'SCRIPT'
for argument; do
    case $argument in socket,id=colo-qmp,fd=*) fd=${argument##*fd=} ;; esac
done
echo '{"QMP":{"version":{"qemu":{"major":5,"minor":2,"micro":0},"package":""},"capabilities":[]}}' >&"$fd"
while read -r line <&"$fd"; do
    id=$(echo "$line" | sed 's/.*"id": *\([0-9]*\).*/\1/')
    case $line in
    *query-version*) echo "{\"return\":{\"qemu\":{\"major\":5,\"minor\":2,\"micro\":0},\"package\":\"\"},\"id\":$id}" ;;
    *) echo "{\"return\":{},\"id\":$id}" ;;
    esac >&"$fd"
done
SCRIPT
    fails 1 'QEMU is too old' 'QEMU 5.2.0 is too old' 'or newer'
    fake_qemu "$(command -v bash)" <<'SCRIPT'
for argument; do
    case $argument in socket,id=colo-qmp,fd=*) fd=${argument##*fd=} ;; esac
done
echo 'Segmentation fault, thank you' >&"$fd"
read -r line <&"$fd"
SCRIPT
    fails 1 'QEMU speaks something else' 'QEMU'
    fake_qemu "$(command -v bash)" <<'SCRIPT'
kill -STOP $$
SCRIPT
    config vm.qemu="$dir/fake-qemu" vm.qemu-timeout=300ms
    fails 1 'QEMU hangs at its start' '0.3 s'
else
    tap_skip 'QEMU is too old' 'no bash'
fi

is "no draft is left with the arbiter" "$(find "$dir/arbiter" -name '*.draft')" ""
tap_done
