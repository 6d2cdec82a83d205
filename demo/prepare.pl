#!/usr/bin/perl
# prepare.pl directory
#
# Reads the patients (../shared/data beside the checkout if it is there, else
# demo/patients.csv) and writes into the directory
#
#   CLINIC.sql    INSERTs of the clinic's patients into the table :table
#   patients.csv  id, clinic and the four names of every patient, to look for
#   source        where the patients came from
#
# INSERT, not COPY: PostgreSQL has no COPY into a table with row security.
use strict;
use warnings;
use utf8;

my $directory = shift or die "usage: prepare.pl directory\n";
my $shared = '../shared/data';
my @columns = qw(id clinic family given family_kana given_kana gender birth_date
  insurance_no phone address diagnosis note allergies);
my @diagnoses = ('本態性高血圧症', '2型糖尿病', '気管支喘息', '脂質異常症',
	'変形性膝関節症', '鉄欠乏性貧血', '胃食道逆流症', 'うつ病エピソード');

# Calls $take with a hash of each row; no value in these files spans lines.
sub each_row
{
	my ($path, $take) = @_;
	open my $file, '<:encoding(UTF-8)', $path or die "could not open $path: $!\n";
	my @header;
	while (my $line = <$file>)
	{
		$line =~ s/\r?\n\z//;
		my @cells;
		push @cells, defined $1 ? $1 =~ s/""/"/gr : $2
		  while $line =~ /\G(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g;
		if (!@header) { @header = @cells; next; }
		my %row;
		@row{@header} = @cells;
		$take->(\%row);
	}
	close $file;
}

sub shared_patients
{
	my %diagnosis;
	each_row("$shared/conditions.csv",
		sub { $diagnosis{ $_[0]{patient_id} } = $_[0]{description} });

	# Eighty-two clinics are many for a demonstration: they become four.
	my @patients;
	each_row("$shared/patients_ja.csv", sub {
		my ($row) = @_;
		push @patients, {
			%$row,
			clinic => $row->{clinic} le 'j10' ? 'hakodate' : 'sapporo',
			insurance_no => "$row->{insurer_no}-$row->{insurance_symbol}-$row->{insurance_no}",
			address => "$row->{prefecture}$row->{city}$row->{town}",
			diagnosis => $diagnoses[ $row->{patient_id} % @diagnoses ] };
	});
	each_row("$shared/patients.csv", sub {
		my ($row) = @_;
		push @patients, {
			%$row,
			clinic => $row->{clinic} le 'c20' ? 'boston' : 'worcester',
			insurance_no => $row->{ssn},
			address => "$row->{address}, $row->{city}, $row->{state}",
			diagnosis => $diagnosis{ $row->{patient_id} } };
	});
	return @patients;
}

sub sample_patients
{
	my @patients;
	each_row('demo/patients.csv', sub { push @patients, $_[0] });
	return @patients;
}

sub literal
{
	my ($value) = @_;
	return 'NULL' if !defined $value || $value eq '';
	return "'" . $value =~ s/'/''/gr . "'";
}

my $is_shared = -r "$shared/patients.csv" && -r "$shared/patients_ja.csv"
  && -r "$shared/conditions.csv";
my @patients = $is_shared ? shared_patients() : sample_patients();

my (%rows_of, $id);
open my $list, '>:encoding(UTF-8)', "$directory/patients.csv" or die "$directory: $!\n";
for my $patient (@patients)
{
	$patient->{id} = ++$id;
	my $row = '(' . join(', ', map { literal($patient->{$_}) } @columns) . ')';
	push @{ $rows_of{ $patient->{clinic} } }, $row;
	print $list join("\t", map { $patient->{$_} // '' }
		  qw(id clinic family given family_kana given_kana)), "\n";
}
close $list or die "$directory: $!\n";

for my $clinic (sort keys %rows_of)
{
	open my $sql, '>:encoding(UTF-8)', "$directory/$clinic.sql" or die "$directory: $!\n";
	while (my @some = splice @{ $rows_of{$clinic} }, 0, 100)
	{
		print $sql 'INSERT INTO :table (', join(', ', @columns), ") VALUES\n",
		  join(",\n", @some), ";\n";
	}
	close $sql or die "$directory: $!\n";
}

open my $source, '>', "$directory/source" or die "$directory: $!\n";
print $source $is_shared ? $shared : 'demo/patients.csv', "\n";
close $source or die "$directory: $!\n";
