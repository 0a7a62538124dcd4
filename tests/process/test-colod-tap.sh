#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A colod that is started with a tap (LISTEN_FDNAMES) has it as its card's, and leaves it to whoever put it
# into a bridge. What is no tap, or isn't there, is named at the start, and not by --check-config.
# shellcheck disable=SC2317 # functions are called by wait_ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

missing=$(hosts_missing) || tap_skip_all "$missing"
hosts_setup || exit 1
dir=$HOSTS_DIR
GIVE=$COLO_BUILD/tests/tools/give-tap
printf '#!/bin/sh\necho "QEMU emulator version 7.2.22 (Debian)"\n' >"$dir/qemu"
chmod +x "$dir/qemu"

config() {
    hosts_config beta vm.kernel= vm.initrd= vm.append= vm.memory=16MiB vm.qemu="$dir/qemu" \
        'nic lan.bridge=' 'nic lan.tap=fd:lan' "$@"
}

# colod ARGUMENT...: to its end, with the descriptor that $give says; its words in $out
colod() {
    # shellcheck disable=SC2086
    out=$(hosts_exec beta timeout -k 5 "$PATIENCE" ${give:-} "$COLO_BUILD/colod" \
        --config "$dir/beta/colod.conf" --role secondary "$@" 2>&1 </dev/null)
}

# ---- What is wrong ----

config
give=''
colod
is "no descriptor: exit status" $? 1
has "no descriptor: card, key and name" "$out" "nic lan: tap: this process was started with no descriptor 'lan'"
has "no descriptor: which there are" "$out" "(LISTEN_FDNAMES: none)"
give="$GIVE given0 other"
colod
is "another name: exit status" $? 1
has "another name: which there are" "$out" "(LISTEN_FDNAMES: other)"
give="$GIVE - lan"
colod
is "no tap: exit status" $? 1
has "no tap: it says so" "$out" "nic lan: tap: the descriptor 'lan' is no tap"
give=''
colod --check-config
is "--check-config without the descriptor: exit status ($out)" $? 0
config 'nic lan.bridge=br0'
colod --check-config --offline
is "with a bridge: exit status" $? 2
has "with a bridge: section and key" "$out" "[nic lan] tap: 'fd:lan': bridge is the work of whoever made it"

# ---- A service ----

if ! command -v "${QEMU:-qemu-system-x86_64}" >/dev/null; then
    tap_skip "a service" "no QEMU"
    tap_done
fi
config vm.qemu="${QEMU:-qemu-system-x86_64}"
hosts_start beta colod "$GIVE" given0 lan "$COLO_BUILD/colod" --config "$dir/beta/colod.conf" --role secondary
not_known() { hosts_colo beta status --json | tr -d ' \n' | grep -q '"tap":"given0","carrier":null'; }
serves() { hosts_status_is beta nics.0.tap given0; }
need "it has the tap that it was given" serves
wait_ok "in no bridge: nothing is known of its carrier" not_known
is "it has put it into no bridge" "$(hosts_exec beta ip -o link show given0 | grep -c master)" 0
hosts_exec beta ip link set given0 master br0
wait_ok "in a bridge: that one's ports count" hosts_status_is beta nics.0.carrier true
hosts_exec beta ip link set lan0 down
wait_ok "the bridge has lost the network" hosts_status_is beta nics.0.carrier false
hosts_exec beta ip link set lan0 up
wait_ok "and has it back" hosts_status_is beta nics.0.carrier true
hosts_exec beta ip link set given0 down
wait_ok "the tap is down" hosts_status_is beta nics.0.carrier false
kill -TERM "$hosts_pid"
wait "$hosts_pid"
is "it ends" $? 0
is "the tap is gone with it" "$(hosts_exec beta ls /sys/class/net | tr '\n' ' ')" "br0 lan0 lo sync0 "
tap_done
