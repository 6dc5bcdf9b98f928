#!/bin/bash
# SPDX-License-Identifier: MIT
#
# expand.sh <TEMPLATE >PAGE
#
# Puts into a manual page what wire/limits.h, wire/limits.c and wire/fault.h say, so that
# no number is written twice. In the template stand
#
#	.\" @limits fixed@      all limits that are part of the protocol
#	.\" @limits settable@   all limits of `ipcd --limit`, with default and range
#	@limit:KEY@             the value of one, without unit
#	@errno:WORD@            what libipc returns for an error word
#	@backoff@               the delays of nack, by attempt, in seconds
#
# A key or word that does not exist is an error, and so is one error word left out by a
# page that has others. The tables are read by the C preprocessor ($CC).

tables() {
	# shellcheck disable=SC2086 # CC may be several words
	${CC:-cc} -Ilibipc -E -P - <<'END' | grep '^ *@[FSE] ' | sed 's/ *@\([FSE]\) /\n\1 /g'
#include "wire/fault.h"
#define X(name, key, value, unit, what) @F #key value 0 0 unit what
LIMITS_FIXED(X)
#undef X
#define X(key, value, min, max, unit, what) @S #key value min max unit what
LIMITS_SETTABLE(X)
#undef X
#define X(name, word, errnum) @E word #errnum
FAULT_WORDS(X)
END
	sed -n 's/.*limits_backoff_ms\[.*{ *\(.*\) *};/B \1/p' libipc/wire/limits.c
}

awk '
function fail(text) {
	print "expand.sh: " text >"/dev/stderr"
	failed = 1
	exit 1
}

# The texts of a table line are quoted and have no quotes in them.
function quoted(n,   part) {
	split($0, part, "\"")
	return part[2 * n]
}

function add_limit(   key) {
	key = quoted(1)
	value[key] = $3
	least[key] = $4
	most[key] = $5
	unit[key] = quoted(2)
	what[key] = quoted(3)
	order[$1, ++n[$1]] = key
}

# The number as an option takes it, and bytes also as people say them.
function with_unit(number, unit,   size, name, i) {
	if (unit == "bytes") {
		split("KiB MiB GiB TiB", name, " ")
		for (size = number; i < 4 && size >= 1024 && size % 1024 == 0; i++)
			size /= 1024
		return number " bytes" (i ? " (" size " " name[i] ")" : "")
	}
	return number (unit == "" ? "" : " " unit)
}

function roff(text) {
	gsub(/-/, "\\-", text)
	while (match(text, /`[^`]*`/))
		text = substr(text, 1, RSTART - 1) "\\fB" \
			substr(text, RSTART + 1, RLENGTH - 2) "\\fP" \
			substr(text, RSTART + RLENGTH)
	return text
}

function print_limits(kind,   i, key) {
	for (i = 1; i <= n[kind]; i++) {
		key = order[kind, i]
		print ".TP"
		print "\\fB" key "\\fP = " roff(with_unit(value[key], unit[key]))
		print roff(what[key]) (kind == "S" ? ";" : "")
		if (kind == "S")
			print least[key] " to " most[key]
	}
	if (!n[kind])
		fail("no limits found")
}

# The value of an inline mark.
function lookup(name, key) {
	if (name == "limit" && key in value)
		return value[key]
	if (name == "errno" && key in errnum) {
		used[key] = 1
		n_used++
		return errnum[key]
	}
	if (name == "backoff" && backoff != "")
		return backoff
	fail("there is no " name " " key)
}

function expand(line,   mark, part) {
	while (match(line, /@[a-z]+(:[a-z_-]+)?@/)) {
		mark = substr(line, RSTART + 1, RLENGTH - 2)
		split(mark ":", part, ":")
		line = substr(line, 1, RSTART - 1) lookup(part[1], part[2]) \
			substr(line, RSTART + RLENGTH)
	}
	return line
}

FNR == NR && $1 == "E" { errnum[quoted(1)] = quoted(2); next }
FNR == NR && $1 == "B" {
	gsub(/,/, "")
	for (i = 2; i <= NF; i++)
		backoff = backoff (i == 2 ? "" : i == NF ? " and " : ", ") $i / 1000
	next
}
FNR == NR { if ($1 == "F" || $1 == "S") add_limit(); next }
/@limits fixed@/ { print_limits("F"); next }
/@limits settable@/ { print_limits("S"); next }
{ print expand($0) }
END {
	if (failed)
		exit 1
	for (word in errnum)
		if (n_used && !(word in used))
			fail("the error word " word " is missing in the page")
}' <(tables) -
