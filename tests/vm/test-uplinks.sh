#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Hosts whose clients can't reach them: plugs are pulled from the LAN, from the link between the hosts,
# and from both. The VM goes on where the clients are, and stays where it is if that is as good.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"


# The host is cut off from its clients, and the pair is well.
lan_is_cut() {
    what="the LAN of the primary's host is cut"
    mark
    hosts_cut "$primary" lan0
    need "$what: status says so" logged "$primary" 'its uplink has no carrier'
    pair_swap
    need "$what: handed over, protected" is_pair "$primary" "$secondary"
    client_unharmed "$what"
    hosts_mend "$secondary" lan0
    need "$what: mended" logged "$secondary" 'its uplink has a carrier'
    client_unharmed "$what, and mended"
}

# All but the way to the arbiter.
host_is_isolated() { # ROUND
    what="the primary's host is isolated ($1)"
    mark
    hosts_cut "$primary"
    cut_off=$primary
    taken_over "$what"
    decided_for "$primary" "$what"
    hosts_mend "$cut_off"
    need "$what, and mended: protected" is_pair "$primary" "$secondary"
    client_unharmed "$what, and mended"
}

# Nobody moves without need.
link_is_cut() { # ROUND
    what="the link between the hosts is cut ($1)"
    mark
    hosts_cut alpha sync0
    continues_unprotected "$what"
    decided_for "$primary" "$what"
    hosts_mend alpha sync0
    need "$what, and mended: protected" is_pair "$primary" "$secondary"
    client_unharmed "$what, and mended"
}

pair_setup link.heartbeat-timeout=1s
pair_boot
client_start
pair_join

lan_is_cut
round=1
while [ $round -le 4 ]; do
    link_is_cut $round
    host_is_isolated $round
    round=$((round + 1))
done

pair_end
