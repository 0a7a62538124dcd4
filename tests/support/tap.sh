# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# TAP for test scripts: source it, call ok/is/like..., end with tap_done. A script that ends without
# tap_done prints no plan, which counts as failed.
tap_count=0
tap_failed=0

# The whole script is skipped: say what is missing.
tap_skip_all() {
    echo "1..0 # SKIP $*"
    exit 0
}

diag() {
    printf '%s\n' "$*" | sed 's/^/# /'
}

pass() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $*"
}

fail() {
    tap_count=$((tap_count + 1))
    tap_failed=$((tap_failed + 1))
    echo "not ok $tap_count - $*"
    diag "not ok $tap_count - $*" >&2 # prove shows stderr only
}

# One test that can't be made here: tap_skip WHAT WHY
tap_skip() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

# ok WHAT COMMAND...: passes if the command succeeds; its output is shown if not.
ok() {
    ok_what=$1
    shift
    if ok_output=$("$@" 2>&1); then
        pass "$ok_what"
    else
        fail "$ok_what"
        diag "failed: $*" >&2
        diag "$ok_output" >&2
    fi
}

# not_ok WHAT COMMAND...: passes if the command fails.
not_ok() {
    ok_what=$1
    shift
    if ok_output=$("$@" 2>&1); then
        fail "$ok_what"
        diag "succeeded: $*" >&2
        diag "$ok_output" >&2
    else
        pass "$ok_what"
    fi
}

# is WHAT GOT EXPECTED
is() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1"
        diag "got:      $2" >&2
        diag "expected: $3" >&2
    fi
}

# has WHAT TEXT PART: passes if PART is in TEXT.
has() {
    case $2 in
    *"$3"*) pass "$1" ;;
    *)
        fail "$1"
        diag "not there: $3" >&2
        diag "in:        $2" >&2
        ;;
    esac
}

tap_done() {
    echo "1..$tap_count"
    [ $tap_failed = 0 ] || exit 1
    exit 0
}
