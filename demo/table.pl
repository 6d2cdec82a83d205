#!/usr/bin/perl
# Draws the CSV that `psql --csv` prints as a table that fits a screen: long
# cells are cut, and Chinese characters count as the two columns they take.
#
#   table.pl [widest cell] [most rows]
use strict;
use warnings;
use utf8;

binmode STDIN, ':encoding(UTF-8)';
binmode STDOUT, ':encoding(UTF-8)';

my $widest = shift // 26;
my $most_rows = shift // 12;

sub width
{
	my ($text) = @_;
	my $wide = () = $text =~ /[\x{1100}-\x{115F}\x{2E80}-\x{A4CF}\x{AC00}-\x{D7A3}\x{F900}-\x{FAFF}\x{FF00}-\x{FF60}]/g;
	return length($text) + $wide;
}

sub cut
{
	my ($text) = @_;
	$text =~ s/\n/ /g;
	return $text if width($text) <= $widest;
	chop $text while width($text) >= $widest;
	return "$text…";
}

# Values may be quoted and may span lines.
my $input = do { local $/; <STDIN> } // '';
my (@rows, @row);
while ($input =~ /\G(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|\z)/g)
{
	my ($quoted, $plain, $end) = ($1, $2, $3);
	my $cell = defined $quoted ? $quoted =~ s/""/"/gr : $plain;
	last if $end eq '' && !@row && $cell eq '';
	push @row, cut($cell);
	next if $end eq ',';
	push @rows, [@row];
	@row = ();
	last if $end eq '';
}
exit unless @rows;

my $left_out = @rows - 1 - $most_rows;
splice @rows, 1 + $most_rows if $left_out > 0;
my @widths;
for my $row (@rows)
{
	for my $i (0 .. $#$row)
	{
		my $width = width($row->[$i]);
		$widths[$i] = $width if $width > ($widths[$i] // 0);
	}
}

sub line
{
	my ($row) = @_;
	my $text = join ' | ',
	  map { $row->[$_] . ' ' x ($widths[$_] - width($row->[$_])) } 0 .. $#$row;
	return '    ' . $text =~ s/\s+\z//r . "\n";
}

print line(shift @rows), '    ', join('-+-', map { '-' x $_ } @widths), "\n";
print line($_) for @rows;
print "    … and $left_out more\n" if $left_out > 0;
