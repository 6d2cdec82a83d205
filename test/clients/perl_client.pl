# DBD::Pg: statements that the server prepares, as the driver does of itself.
use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));
use DBI;
use DBD::Pg qw(:pg_types);
use Test::More;

# What a failing check says goes where the rest goes; what passes says nothing.
Test::More->builder->output(\my $passed);

my @columns = qw(chart_no insurance_no name birth_date seen_at weight visits smoker record photo);
my @hanako = ('H-1', '0612', '佐藤 花子', '1950-02-28', '2026-03-01 09:30:00+00', '52.40', '3000000000',
	0, '{"n": 1.5, "薬": ["アスピリン", null]}', "\x89P\0\xff");
my @taro = ('H-2', '0613', '佐藤 太郎', '2024-02-29', '1999-12-31 23:59:59.999999+00', '-0.001', '-1', 1, '[]', '');
my @nobody = ('H-3', undef, '高橋 一郎', (undef) x 7);
my $list = join ', ', @columns;
my $insert = "INSERT INTO patient ($list) VALUES (" . join(', ', ('?') x @columns) . ')';
my $short = 'INSERT INTO patient (chart_no, name, birth_date) VALUES (?, ?, ?)';

sub connect_as
{
	my ($user, $options) = @_;
	return DBI->connect("dbi:Pg:" . ($options // ''), $user, '',
		{ RaiseError => 1, PrintError => 0, pg_enable_utf8 => 1 });
}

sub refused
{
	my ($sqlstate, $dbh, @call) = @_;
	eval { $dbh->do(@call) };
	return is $dbh->state, $sqlstate, "refused: $call[0]";
}

my $dbh = connect_as('ehr', q{options='-c phi.clinic=hakodate'});
sub names { return $dbh->selectcol_arrayref("SELECT name FROM patient WHERE $_[0]", undef, @_[1 .. $#_]) }

my $statement = $dbh->prepare($insert);
for my $patient (\@hanako, \@taro, \@nobody)
{
	# bytea is told as for plain columns.
	$statement->bind_param($_ + 1, $patient->[$_], $_ == 9 ? { pg_type => PG_BYTEA } : ()) for 0 .. 9;
	$statement->execute;
}
is_deeply $dbh->selectall_arrayref("SELECT $list FROM patient ORDER BY id"), [ \@hanako, \@taro, \@nobody ], 'types';
my $select = $dbh->prepare("SELECT $list FROM patient WHERE name = ?");
for (1 .. 7)
{
	$select->execute($hanako[2]);
	is_deeply $select->fetchrow_arrayref, \@hanako, 'prepared';
	$select->finish;
}
is_deeply [ @{ $select->{pg_type} }[ 2 .. 4, 9 ] ], [qw(text date timestamptz bytea)], 'the base types';

is_deeply names('name IN (?, ?) ORDER BY name', $hanako[2], $taro[2]), [ $taro[2], $hanako[2] ], 'IN';
is_deeply names('name = ANY(?) ORDER BY name', [ $hanako[2], $taro[2] ]), [ $taro[2], $hanako[2] ], 'ANY';
is_deeply names('name LIKE ? ORDER BY name DESC', '佐藤%'), [ $hanako[2], $taro[2] ], 'LIKE';
is_deeply names('birth_date = ? AND weight = ? AND visits = ? AND NOT smoker', @hanako[3, 5, 6]), [ $hanako[2] ],
  'types compared';
is_deeply names(q{record->>'n' = ?}, '1.5'), [ $hanako[2] ], 'jsonb';
is_deeply names('birth_date IS NULL'), [ $nobody[2] ], 'NULL';
for my $search ([ 'name = ?', $hanako[2] ], [ 'birth_date = ?', $hanako[3] ])
{
	$dbh->do('SET enable_seqscan = off');
	my $plan = $dbh->selectcol_arrayref("EXPLAIN SELECT id FROM patient WHERE $search->[0]", undef, $search->[1]);
	like "@$plan", qr/Index Cond/, "by index: $search->[0]";
	$dbh->do('RESET enable_seqscan');
}

is $dbh->do('UPDATE patient SET name = ?, birth_date = ? WHERE name = ?', undef, '鈴木', $taro[3], $hanako[2]), 1,
  'UPDATE';
my $upsert = "$short ON CONFLICT (chart_no) DO UPDATE SET name = excluded.name RETURNING name, birth_date";
is_deeply $dbh->selectrow_arrayref($upsert, undef, @hanako[ 0, 2, 3 ]), [ $hanako[2], $taro[3] ], 'upsert';
refused('23505', $dbh, $short, undef, 'H-1', 'twice', undef);
refused('23P01', $dbh, 'UPDATE patient SET insurance_no = ? WHERE name = ?', undef, '0612', $nobody[2]);
is $dbh->prepare($short)->execute_array({}, [ map "B-$_", 1 .. 300 ], [ ('患者') x 300 ], [ ($taro[3]) x 300 ]), 300,
  'many rows';
is $dbh->do('DELETE FROM patient WHERE name = ?', undef, '患者'), 300, 'DELETE';
$dbh->begin_work;
$dbh->do('DELETE FROM patient');
$dbh->rollback;
is_deeply names('true ORDER BY name'), [ $taro[2], $hanako[2], $nobody[2] ], 'rolled back';

$dbh->do('COPY patient_load FROM STDIN');
$dbh->pg_putcopydata("C-1\t患者\t1950-02-28\n");
$dbh->pg_putcopyend;
$dbh->do('COPY patient_load TO STDOUT');
$dbh->pg_getcopydata(my $row);
is $row, "C-1\t患者\t1950-02-28\n", 'COPY';
1 while $dbh->pg_getcopydata($row) >= 0;
is $dbh->column_info(undef, 'public', 'patient', 'birth_date')->fetchrow_hashref->{pg_type}, 'encdate(identity)',
  'the catalogue';
$dbh->disconnect;

$dbh = connect_as('ehr');
is_deeply names('true'), [], 'no clinic, no rows';
refused('42501', $dbh, $short, undef, 'X', 'no clinic', undef);
$dbh->do(q{SET phi.clinic = 'hakodate'});
is_deeply names('name = ?', $hanako[2]), [ $hanako[2] ], 'SET';
$dbh->disconnect;
$dbh = connect_as('ehr_hakodate');
is_deeply names('name = ?', $hanako[2]), [ $hanako[2] ], q{the role's clinic};
refused('42501', $dbh, q{SET phi.clinic = 'boston'});
$dbh->disconnect;
$dbh = connect_as('dba');
like $_, qr/^phi1:/, 'sealed' for @{ names('true') };
$dbh->disconnect;

done_testing;
print "DBD::Pg $DBD::Pg::VERSION\n";
