# SPDX-License-Identifier: MIT
#
# awk -f from-header.awk ipc.h PAGE.in
#
# Puts into a manual page what the comments of the public header say, so that nothing is
# written twice. In the page stand
#
#	.\" @names SECTION@ TEXT     the NAME line: all functions of a section, and TEXT
#	.\" @synopsis SECTION@       their prototypes, with the types they need
#	.\" @reference SECTION@      what each does, takes and returns
#	.\" @overview WORD@          the paragraph of the header's head that begins with it
#
# A section is what follows a line of dashes with its name in the header. A comment has
#
#	name - summary / @parameter: text / paragraphs / Returns: a; b; c / Blocking: ...
#
# where lines that begin with a tab go on with the parameter, or are a list.

function fail(text) {
	print "from-header.awk: " text >"/dev/stderr"
	failed = 1
	exit 1
}

# ---- text to roff: names bold, parameters italic ----

function roff(text,   out, word) {
	gsub(/\\/, "\\e", text)
	gsub(/…/, "\\\\\\&.\\|.\\|.", text)
	while (match(text, /@[a-z_]+|IPC_[A-Z_]+\*?|ipc_[a-z_]+(\(\))?|-E[A-Z0-9]+|[a-z][a-z_-]*\([1-8]\)/)) {
		word = substr(text, RSTART, RLENGTH)
		out = out dashes(substr(text, 1, RSTART - 1)) mark(word)
		text = substr(text, RSTART + RLENGTH)
	}
	text = out dashes(text)
	return text ~ /^[.']/ ? "\\&" text : text
}

function dashes(text) {
	gsub(/-/, "\\-", text)
	return text
}

function mark(word,   at) {
	if (word ~ /^@/)
		return "\\fI" substr(word, 2) "\\fP"
	at = index(word, "(")
	if (!at)
		return "\\fB" dashes(word) "\\fP"
	return "\\fB" dashes(substr(word, 1, at - 1)) "\\fP" substr(word, at)
}

function trim(text) {
	sub(/^[ \t]+/, "", text)
	sub(/[ \t]+$/, "", text)
	return text
}

# ---- the header ----

# A comment's lines without its frame; "" between paragraphs.
function begin_comment() {
	n_lines = 0
	in_comment = 1
}

function add_comment(line) {
	sub(/^ \*[ ]?/, "", line)
	line_of[++n_lines] = line
}

function keep_head(   i, word) {
	for (i = 1; i <= n_lines; i++) {
		if (line_of[i] == "") {
			word = ""
			continue
		}
		if (!word) {
			word = line_of[i]
			sub(/[ .].*/, "", word)
		}
		head[word] = head[word] line_of[i] "\n"
	}
}

# What is documented: a function, or the type of a callback.
function keep_entry(   i, name) {
	name = line_of[1]
	sub(/ - .*/, "", name)
	entries[section, ++n_entries[section]] = name
	for (i = 1; i <= n_lines; i++)
		comment[name] = comment[name] line_of[i] "\n"
	current = name
}

function keep_declaration(text) {
	gsub(/IPC_PUBLIC |IPC_MUST_CHECK /, "", text)
	declaration[current] = text
	is_type[current] = text ~ /^typedef/
	current = ""
}

FNR == NR && /^\/\* -+ .* --- \*\/$/ {
	section = $0
	gsub(/^\/\* -+ | --- \*\/$/, "", section)
	next
}
FNR == NR && /^\/\*\*?$/ {
	is_entry = /\*\*/
	begin_comment()
	next
}
FNR == NR && in_comment && /^ \*\/$/ {
	in_comment = 0
	if (is_entry)
		keep_entry()
	else if (!section)
		keep_head()
	text = ""
	next
}
FNR == NR && in_comment { add_comment($0); next }
# Types of constants: with their comment, as they stand.
FNR == NR && /^\/\* .* \*\/$/ && section { before = $0; next }
FNR == NR && /^enum / { in_enum = 1; constants[section] = constants[section] before "\n" }
FNR == NR && in_enum {
	constants[section] = constants[section] $0 "\n"
	if (/^};/) {
		in_enum = 0
		constants[section] = constants[section] "\n"
	}
	next
}
FNR == NR && current {
	line = $0
	sub(/^[ \t]*/, text ? " " : "", line)
	text = text line
	if (/;$/) {
		keep_declaration(text)
		text = ""
	}
	next
}
FNR == NR { next }

# ---- the page ----

function print_names(section, text,   i, line) {
	for (i = 1; i <= n_entries[section]; i++)
		if (!is_type[entries[section, i]])
			line = line (line ? ", " : "") entries[section, i]
	print line " \\- " text
}

function print_prototype(text) {
	print ".HP 4\n\\fB" dashes(text) "\\fP"
}

# A page's tabs are not eight columns wide.
function without_tabs(text,   n, i, line, at, out) {
	n = split(text, line, "\n")
	for (i = 1; i <= n; i++) {
		while (at = index(line[i], "\t"))
			line[i] = substr(line[i], 1, at - 1) \
				substr("        ", (at - 1) % 8 + 1) substr(line[i], at + 1)
		out = out line[i] (i < n ? "\n" : "")
	}
	return out
}

function print_constants(text) {
	text = without_tabs(text)
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	gsub(/…/, "...", text)
	sub(/\n+$/, "", text)
	printf ".PP\n.EX\n%s\n.EE\n", text
}

function print_synopsis(section,   i) {
	print ".nh\n.ad l"
	print ".B #include <ipc/ipc.h>"
	if (constants[section])
		print_constants(constants[section])
	for (i = 1; i <= n_entries[section]; i++)
		print_prototype(declaration[entries[section, i]])
	print ".PP\n.ad b\n.hy"
}

# Paragraphs with lists: "\t-ENOMEM  no memory" has a tag, other lines just stand alone.
function print_text(text,   n, i, line, list, tag) {
	n = split(text, line, "\n")
	for (i = 1; i <= n; i++) {
		if (line[i] !~ /^\t/) {
			if (list)
				print list == "tags" ? ".PP" : ".RE\n.PP"
			list = ""
			if (line[i] != "")
				print roff(line[i])
			else if (i < n)
				print ".PP"
			continue
		}
		if (line[i] ~ /^\t-E[A-Z]+ /) {
			tag = trim(line[i])
			sub(/ .*/, "", tag)
			sub(/^\t-E[A-Z]+ +/, "", line[i])
			print ".TP\n" roff(tag) "\n" roff(line[i])
			list = "tags"
		} else if (list == "tags") {
			print roff(trim(line[i]))
		} else {
			print list ? ".br" : ".RS 4"
			print roff(trim(line[i]))
			list = "lines"
		}
	}
	if (list == "lines")
		print ".RE"
}

# "0; -EINVAL out of range; -ENOMEM": what has an explanation is a list.
function print_returns(text,   n, i, part, first, bare, plain, tags) {
	n = split(text, part, /; */)
	if (text !~ /-E[A-Z]|as at the top/) {
		print ".PP\nReturns " roff(text)
		return
	}
	for (i = 1; i <= n; i++) {
		part[i] = trim(part[i])
		first = part[i]
		sub(/ .*/, "", first)
		if (part[i] == "0")
			part[i] = "0 on success"
		if (part[i] ~ /as at the top/)
			bare = bare (bare ? ", and " : "") "what every call may return, see libipc(3)"
		else if (first ~ /^(-E[A-Z0-9]+|[01])$/ && part[i] != first)
			tags = tags ".TP\n" roff(first) "\n" roff(substr(part[i], length(first) + 2)) "\n"
		else if (first ~ /^-E/)
			bare = bare (bare ? ", " : "") part[i]
		else
			plain = plain (plain ? "; " : "") part[i]
	}
	print ".PP\nReturns" (plain != "" ? " " roff(plain) : "") (tags ? ":" : bare ? "" : ".")
	printf "%s", tags
	if (bare)
		print (tags ? ".PP\nAlso " : "or ") roff(bare) "."
}

function print_summary(line) {
	sub(/^[^ ]* - /, "", line)
	return toupper(substr(line, 1, 1)) substr(line, 2)
}

function print_entry(name,   n, i, line, text, returns, rest, mode) {
	n = split(comment[name], line, "\n")
	print ".SS " name
	print roff(print_summary(line[1]))
	mode = "summary"
	for (i = 2; i < n; i++) {
		if (line[i] ~ /^@/) {
			text = line[i]
			sub(/^@[a-z_]+: */, "", text)
			print ".TP\n" mark(substr(line[i], 1, index(line[i], ":") - 1))
			print roff(text)
			mode = "parameter"
		} else if (mode == "parameter" && line[i] ~ /^\t/) {
			print roff(trim(line[i]))
		} else if (mode == "summary" && line[i] ~ /^\t/) {
			print roff(trim(line[i]))
		} else if (line[i] ~ /^Returns: /) {
			returns = substr(line[i], 10)
			mode = "returns"
		} else if (line[i] ~ /^Blocking: /) {
			rest = line[i]
			mode = "rest"
		} else if (mode == "returns") {
			returns = returns " " line[i]
		} else if (mode == "rest") {
			rest = rest " " line[i]
		} else {
			if (mode != "text")
				text = ""
			mode = "text"
			text = text line[i] "\n"
			if (line[i + 1] ~ /^Returns: / || i + 1 == n)
				print_paragraphs(text)
		}
	}
	if (returns)
		print_returns(returns)
	if (rest)
		print ".PP\n" roff(rest)
}

function print_paragraphs(text) {
	gsub(/^\n+|\n+$/, "", text)
	if (text == "")
		return
	print ".PP"
	print_text(text)
}

function print_reference(section,   i) {
	for (i = 1; i <= n_entries[section]; i++)
		print_entry(entries[section, i])
}

/^\.\\" @(names|synopsis|reference|overview) .*@/ {
	what = $2
	arg = $0
	sub(/^[^@]*@[a-z]+ /, "", arg)
	rest = arg
	sub(/@.*/, "", arg)
	sub(/^[^@]*@ */, "", rest)
	if (what == "@overview") {
		if (!(arg in head))
			fail("the header's head has no paragraph " arg)
		text = head[arg]
		sub(/^[A-Za-z]+\. /, "", text)
		print_text(substr(text, 1, length(text) - 1))
		next
	}
	if (!(arg in n_entries))
		fail("the header has no section " arg)
	if (what == "@names")
		print_names(arg, rest)
	else if (what == "@synopsis")
		print_synopsis(arg)
	else if (what == "@reference")
		print_reference(arg)
	else
		fail("what is " what "?")
	next
}
{ print }
END {
	if (failed)
		exit 1
}
