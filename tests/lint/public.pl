#!/usr/bin/perl
# SPDX-License-Identifier: MIT
#
# public.pl HEADER: lists the functions a header declares, one a line: its name, a tab,
# and the comment directly before it on one line (nothing if there is none).

use strict;
use warnings;

local $/;
my $text = <>;
my $comment = '';

# A header is comments, preprocessor lines, the braces of extern "C", and declarations: up
# to a semicolon, with nested braces, or to the body's end of an inline function.
while ($text =~ m{\G\s*(?:
		(?<comment> /\*.*?\*/ )
	|	(?<other> \#(?:\\\n|[^\n])* | //[^\n]* | extern\s*"C"\s*\{ | \} )
	|	(?<decl> (?:/\*.*?\*/|//[^\n]*|[^;\{\}])+
			(?: (?<body>\{(?:[^\{\}]++|(?&body))*\}) [^;\{\}\#/]*? )?
			(?: ; | (?<=\}) ) )
	)}gcsx) {
	if (defined $+{decl}) {
		my $decl = $+{decl};
		$decl =~ s{/\*.*?\*/|//[^\n]*}{}gs;
		my $other = $decl =~ /^\s*(typedef|static|(struct|enum)\s+\w*\s*[;\{])/;
		if (!$other && $decl =~ /\b(ipc_\w+)\s*\(/) {
			my $name = $1;
			$comment =~ s/\s*\n\s*\*?\s*/ /g;
			print "$name\t$comment\n";
		}
	}
	$comment = $+{comment} // '';
}
exit 0 if substr($text, pos($text) // 0) =~ /^\s*$/;
die "$ARGV: cannot read on from: ", substr($text, pos($text) // 0, 80), "\n";
