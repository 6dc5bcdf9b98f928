#!/bin/bash
# SPDX-License-Identifier: MIT
#
# setup.sh demo|check|fuzz|lint
#
# Looks for what the make target needs beyond git, bash and make, names the Debian
# packages that are missing, and installs them. Silent when nothing is missing.

missing=()
cc=${CC:-cc}
cc=${cc%% *}
[ "$1" != fuzz ] || cc=clang

# need PACKAGE TEST...: the package is needed if the test fails
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }
header() { echo "#include <$1>" | { "$cc" -E - || test -e "/usr/include/$1"; }; }
fuzzer() {
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
		clang -fsanitize=fuzzer,address -x c -o /dev/null -
}

case $cc in
*clang*) need clang has "$cc" ;;
*) need gcc has "$cc" ;;
esac
need libc6-dev header stdio.h
need pkg-config has "${PKG_CONFIG:-pkg-config}"
need libyajl-dev header yajl/yajl_parse.h
need libsqlite3-dev header sqlite3.h
need libxxhash-dev header xxhash.h
need libssl-dev header openssl/evp.h
need libarchive-dev header archive.h

case $1 in
check | lint)
	need libcmocka-dev header cmocka.h
	need g++ has c++
	need man-db has man
	need python3 has python3
	;;&
lint)
	need clang-format has clang-format
	need clang-tidy has clang-tidy
	;;
fuzz)
	need libclang-rt-14-dev fuzzer
	;;
esac

[ ${#missing[@]} = 0 ] && exit 0
echo "setup: missing packages: ${missing[*]}"

if ! has apt-get >/dev/null; then
	echo "setup: there is no apt-get here: install them, then try again" >&2
	exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
	sudo=(sudo)
	has sudo >/dev/null || {
		echo "setup: not root, and no sudo: install them as root" >&2
		exit 1
	}
fi
# Another apt may be at work, as it often is just after a machine has started.
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
	-o DPkg::Lock::Timeout=300)
echo "setup: installing them with apt-get"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null || {
	echo "setup: apt-get could not install ${missing[*]}" >&2
	exit 1
}
