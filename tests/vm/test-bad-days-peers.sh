#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Pairs that must not be, or not yet: a peer that isn't there, speaks another protocol, has another
# VM, another description or our own name; and hosts on which QEMU or userfaultfd doesn't do. The VM
# has firmware only.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

setup() { # HOST [OPTION=VALUE...]
    setup_host=$1
    shift
    hosts_config "$setup_host" vm.kernel= vm.initrd= vm.append= vm.memory=32MiB "$@"
}

stop() { # HOST
    kill -TERM "$(pid_of "$1")"
    died "$1" 0 "$1 is asked to end"
}

last_error_has() { # HOST TEXT
    case $(hosts_status "$1" last-error.text) in *"$2"*) ;; *) return 1 ;; esac
}

# The secondary with these options and the primary don't become a pair, and each says why.
refused() { # WHAT ALPHA-SAYS BETA-SAYS OPTION=VALUE
    mark
    setup beta "$4"
    node_start beta secondary
    need "$1: the primary says why" last_error_has alpha "$2"
    need "$1: the secondary says why" last_error_has beta "$3"
    ok "$1: the primary goes on unprotected" is_alone alpha
    ok "$1: the secondary waits" is_in beta secondary none
    not_ok "$1: nothing was sent" logged alpha 'primary setup'
    stop beta
}

# A hello as in PROTOCOL.md of another version.
other_version() {
    printf 'COLOLINK\000\143\000\001\000\000\000\002{}'
}

# What is refused fails at once or in a moment; what is told must have all the PARTs.
ends_with() { # WHAT HOST ROLE ENVIRONMENT PART...
    what=$1 node=$2
    mark
    node_start "$node" "$3" "$4"
    shift 4
    died "$node" 1 "$what"
    for part; do
        ok "$what: it says '$part'" logged "$node" "$part"
    done
}

pair_setup vm.memory=32MiB
setup alpha
setup beta

# ---- Absent ----

node_start beta secondary
need "no primary yet: the secondary says so" logged beta 'nobody listens there'
ok "no primary yet: it waits" is_in beta secondary none
ok "no primary yet: its VM doesn't run" hosts_status_is beta vm.state paused
node_start alpha primary
need "the primary comes: protected" is_pair alpha beta
mark
stop beta
need "the secondary ends: the primary goes on" is_alone alpha
ok "the secondary ends: it gave the reason" logged alpha 'the peer ends: as it was asked to'
stop alpha
node_start alpha primary
need "no secondary yet: the primary runs" is_alone alpha
has "no secondary yet: it says that it isn't protected" "$(hosts_colo alpha status)" 'NOT PROTECTED'
ok "no secondary yet: and in JSON" hosts_status_is alpha protected false
node_start beta secondary
need "the secondary comes: protected" is_pair alpha beta
has "the secondary comes: it says so" "$(hosts_colo alpha status | grep -v NOT)" 'PROTECTED'
stop beta
need "the secondary has gone" is_alone alpha

# ---- Others ----

answer=$(other_version | hosts_exec beta socat -t 5 - TCP:10.99.0.1:9000 | tr -d '\000')
has "another protocol: the stranger is told" "$answer" 'version'
need "another protocol: the primary says so" logged alpha 'protocol versions 4 and 99'
ok "another protocol: it goes on" is_alone alpha
printf 'GET / HTTP/1.0\r\n\r\n' | hosts_exec beta socat -t 5 - TCP:10.99.0.1:9000 >/dev/null
need "no protocol of ours: the primary says so" logged alpha 'not the protocol of colo'
ok "no protocol of ours: it goes on" is_alone alpha

refused 'another VM' 'uuid' 'uuid' vm.uuid=c010c010-0000-4000-8000-00000000000f
refused 'another description' 'memory: 33554432 here, 67108864 there' 'memory: 67108864 here, 33554432 there' \
    vm.memory=64MiB
refused 'the same name' "'alpha'" "'alpha'" node.name=alpha

setup beta
node_start beta secondary
need "all is as it should be: protected" is_pair alpha beta
stop beta
stop alpha

# A primary of another version.
other_version >"$HOSTS_DIR/hello"
hosts_start alpha stranger socat TCP-LISTEN:9000,bind=10.99.0.1,fork,reuseaddr \
    "SYSTEM:cat $HOSTS_DIR/hello"
stranger=$hosts_pid
node_start beta secondary
need "a primary with another protocol: the secondary says so" logged beta 'protocol versions 4 and 99'
ok "a primary with another protocol: it waits" is_in beta secondary none
kill -KILL "$stranger"
wait "$stranger" 2>/dev/null
hosts_kill alpha
node_start alpha primary
need "a primary with another protocol is replaced: protected" is_pair alpha beta
stop beta
stop alpha

# ---- No userfaultfd ----

setup alpha checkpoint.dirty-method=uffd
ends_with 'no userfaultfd, but wanted' alpha primary COLO_UFFD_LIBRARY= \
    'userfaultfd' 'dirty-method'
setup alpha
node_start alpha primary COLO_UFFD_LIBRARY=
node_start beta secondary COLO_UFFD_LIBRARY=
need "no userfaultfd, not wanted: protected" is_pair alpha beta
has "no userfaultfd, not wanted: by another method" "soft-dirty compare" \
    "$(hosts_status alpha dirty.method)"
stop beta
stop alpha

# ---- QEMU ----

setup alpha 'vm.extra=-device no-such-device'
ends_with 'QEMU ends at its start' alpha primary UNUSED= 'QEMU did not start' \
    "'no-such-device' is not a valid device"
setup alpha vm.kernel=/no/such/kernel
ends_with 'no kernel' alpha primary UNUSED= "kernel: can't read '/no/such/kernel'"

nothing_left
tap_done
