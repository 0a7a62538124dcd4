#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# scripts/install-deps: knows every package that configure names, and installs what is missing only.
# A dpkg-query and an apt-get of ours stand in PATH before the real ones.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$(dirname "$COLO_TESTS")
script=$source/scripts/install-deps
unset CI
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
export PATH="$work/bin:$PATH" FAKE="$work"
cat >"$work/bin/dpkg-query" <<'FAKE_DPKG'
#!/bin/sh
for package; do :; done
grep -qx "$package" "$FAKE/missing" && exit 1
echo "install ok installed"
FAKE_DPKG
cat >"$work/bin/apt-get" <<'FAKE_APT'
#!/bin/sh
echo "$*" >>"$FAKE/apt"
[ "$1" != install ] || exit "$(cat "$FAKE/apt-result")"
FAKE_APT
cat >"$work/bin/id" <<'FAKE_ID'
#!/bin/sh
cat "$FAKE/uid"
FAKE_ID
chmod +x "$work/bin"/*

# run ARGUMENT...: output, status and what apt-get was asked for.
run() {
    : >"$work/apt"
    output=$("$script" "$@" 2>&1)
    status=$?
    asked=$(cat "$work/apt")
}

echo 0 >"$work/uid"
echo 0 >"$work/apt-result"
: >"$work/missing"

# The table in configure: "module package" lines, and the packages in its messages.
listed=$("$script" --list)
wanted=$({
    sed -n 's/^[a-z0-9.-]* \(lib[a-z0-9.-]*-dev\)$/\1/p' "$source/configure"
    sed -n 's/.*install the Debian package \([a-z-]*\).*/\1/p' "$source/configure"
} | sort -u)
is "configure names packages" "$(echo "$wanted" | grep -c .)" \
    "$(($(grep -c '^[a-z0-9.-]* lib[a-z0-9.-]*-dev$' "$source/configure") + 1))"
for package in $wanted; do
    has "$package, which configure names, is installed" " $(echo "$listed" | tr '\n' ' ')" " $package "
done

run
is "with all there: succeeds" "$status" 0
is "with all there: says so" "$output" "all dependencies are installed"
is "with all there: apt-get isn't asked" "$asked" ""
run --if-missing
is "with all there and --if-missing: not a word" "$status:$output:$asked" "0::"

printf 'libpcap-dev\nsocat\n' >"$work/missing"
run --if-missing
is "what is missing is installed after an update, and nothing else" "$asked" "update -q
install -y -q --no-install-recommends libpcap-dev socat"
is "that succeeds" "$status" 0
has "what is installed is told" "$output" "libpcap-dev socat"

echo 100 >"$work/apt-result"
run
is "a failing apt-get is an error" "$status" 100
echo 0 >"$work/apt-result"

echo 1000 >"$work/uid"
run
is "without root nothing is tried" "$status:$asked" "1:"
has "without root it says what to do" "$output" "as root: apt-get install libpcap-dev socat"

run --nonsense
is "an unknown option is an error" "$status" 2
has "an unknown option is named" "$output" "--nonsense"

has "CI also gets the linters" "$("$script" --ci --list)" "clang-tidy"
not_ok "others don't" sh -c "'$script' --list | grep -q clang-tidy"
tap_done
