#!/usr/bin/perl
# find_names.pl patients.csv raw|text file...
#
# Looks for the names of all patients in files and says how many it looked for
# and found; the last line is only the number found.
#
# Random bytes contain any short string now and then, so:
#   raw   (heap, index, WAL) names of six bytes and more are looked for anywhere;
#         shorter ones as a row holds them, family and given name one after the
#         other, each behind its length
#   text  (a dump) every name that does not stand amid base64
use strict;
use warnings;

my ($list, $kind, @files) = @ARGV;
die "usage: find_names.pl patients.csv raw|text file...\n"
  unless @files && $kind =~ /\A(?:raw|text)\z/;

# A short value in a row: twice its length with the header, plus one.
sub short_value
{
	my ($name) = @_;
	return chr(2 * (length($name) + 1) + 1) . $name;
}

my (%needle, %names, $pairs);
open my $patients, '<:raw', $list or die "could not open $list: $!\n";
while (<$patients>)
{
	chomp;
	my (undef, undef, $family, $given, @kana) = split /\t/;
	$names{$_} = 1 for grep { length } $family, $given, @kana;
	next if $kind eq 'text' || (length $family >= 6 && length $given >= 6);
	my $pair = short_value($family) . short_value($given);
	$needle{$pair} = "$family $given";
}
$pairs = keys %needle;
for my $name (keys %names)
{
	$needle{$name} = $name if length $name >= ($kind eq 'raw' ? 6 : 3);
}

# Perl makes a trie of such an alternation: one pass over the bytes finds all,
# and looking ahead finds those that overlap as well.
my $any = join '|', map { quotemeta } sort { length $b <=> length $a } keys %needle;
my $pattern = $kind eq 'raw' ? qr/(?=($any))/ : qr{(?<![A-Za-z0-9+/=])(?=($any)(?![A-Za-z0-9+/=]))};

my ($bytes, %found, $example) = (0);
for my $path (@files)
{
	open my $file, '<:raw', $path or die "could not open $path: $!\n";
	my $content = do { local $/; <$file> } // '';
	close $file;
	$bytes += length $content;
	while ($content =~ /$pattern/g)
	{
		my ($hit, $offset) = ($1, $-[0]);
		$example //= sprintf '"%s" at byte %d of %s', $needle{$hit}, $offset,
		  $path =~ s{.*/}{}r;
		$found{$hit} = 1;
	}
}

my $looked_for = keys %needle;
printf "    looked for %d names%s in %d files of %d bytes: %d found%s\n",
  $looked_for, $pairs ? " ($pairs short ones as family and given name)" : '',
  scalar @files, $bytes, scalar keys %found,
  defined $example ? ", for instance $example" : '';
print scalar keys %found, "\n";
