# No patient's name in the log, in statistics, or in any file of the server.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# The server's own log of statements is off, as docs/threat-model.md asks for:
# what is left is what the extension says.
my $node = new_server('logs', conf => q{
log_statement = none
log_min_error_statement = panic
log_min_duration_statement = -1
log_min_messages = debug1
log_error_verbosity = verbose
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
logging_collector = on
autovacuum = off
});
set_up_clinics($node);

my @names = map { sprintf 'Kawaguchi%02dKeiko', $_ } 1 .. 50;
my $list = join ', ', map { "('$_')" } @names;
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name enctext(identity), record encjsonb(clinical),
		n encbigint, weight encnumeric, born encdate, seen enctimestamptz, smoker encboolean, photo encbytea,
		EXCLUDE USING hash (n WITH =));
	CREATE INDEX patient_name ON patient USING hash (name);
	GRANT ALL ON patient TO app_a, app_b, nurse_a;
});

# Errors. The value is a marker, in a form that each type refuses; what the user
# is told may not repeat it, whichever way it came.
my $marker = 'KawaguchiSecret';
my %bad = (
	encdate => "1980-02-31 $marker",
	enctimestamptz => "2026-13-01 $marker",
	encbigint => "12$marker",
	encnumeric => "1.5$marker",
	encboolean => $marker,
	encjsonb => qq({"name": "$marker",}),
	encbytea => "\\x$marker");
my %base = (encdate => 'date', enctimestamptz => 'timestamptz', encbigint => 'bigint', encnumeric => 'numeric',
	encboolean => 'boolean', encjsonb => 'jsonb', encbytea => 'bytea');
my %column = (encdate => 'born', enctimestamptz => 'seen', encbigint => 'n', encnumeric => 'weight',
	encboolean => 'smoker', encjsonb => 'record', encbytea => 'photo');

# The user's psql repeats the line that he typed (LINE 1: ...), and COPY the
# line that he sent: that is the server's doing, and in no line of ours.
sub ours
{
	my ($messages) = @_;
	return join "\n", grep { !/^LINE \d+: |^ *\^$/ } split /\n/, $messages;
}

sub tells_nothing
{
	my ($role, $sql, $state, $name) = @_;
	my ($status, undef, $messages) = as($node, $role, $sql);
	my $ok = ok($status != 0 && $messages =~ /ERROR:  $state: / && ours($messages) !~ /Kawaguchi|1980-02-31/, $name);
	diag($messages) unless $ok;
	return;
}

for my $type (sort keys %bad)
{
	my $open = "SET phi.clinic = 'a'; ";
	tells_nothing('app_a', "$open SELECT '$bad{$type}'::$type", '22...', "$type: a bad literal");
	tells_nothing('app_a', "$open PREPARE p ($type) AS INSERT INTO patient ($column{$type}) VALUES (\$1); EXECUTE p ('$bad{$type}')", '22...', "$type: a bad parameter");
	tells_nothing('app_a', "$open DO \$x\$ DECLARE v $type; BEGIN v := '$bad{$type}'::text; END \$x\$", '22...', "$type: a bad assignment");
	tells_nothing('app_a', "$open UPDATE patient SET $column{$type} = NULL WHERE $column{$type} = '$bad{$type}'", '22...', "$type: a bad comparison");
}
tells_nothing('app_a', "SET phi.clinic = 'a'; SELECT 'phi1:$marker'::enctext", '22...', 'a bad envelope');
tells_nothing('app_a', "SELECT '$marker'::enctext", '42501', 'a literal in a sealed session');
tells_nothing('stranger', "SET phi.clinic = 'a'; SELECT '$marker'::enctext", '42501', 'a literal without a grant');
tells_nothing('nurse_a', "SET phi.clinic = 'a'; INSERT INTO patient (record) VALUES ('{\"name\": \"$marker\"}')", '42501', 'a class that is not held');
tells_nothing('app_a', "SET phi.clinic = 'a'; INSERT INTO patient (name) SELECT '$marker' FROM generate_series(1, 2) UNION ALL SELECT 'phi1:' || '$marker'", '22...', 'a bad envelope among rows');


# What the server has logged since the last call.
my $logged = 0;
sub logged
{
	my $log = join '', map { slurp_raw($_) } sort glob($node->data_dir . '/log/*');
	my $new = substr $log, $logged;
	$logged = length $log;
	return $new;
}

sub log_tells_nothing
{
	my ($pattern, $name) = @_;
	my $log = logged();
	# The logging collector writes when it comes to it.
	for (my $patience = 100; $log !~ $pattern && $patience > 0; $patience--)
	{
		select undef, undef, undef, 0.1;
		$log .= logged();
	}
	my @leaks = grep { /Kawaguchi|4711|1980-02-31/ } split /\n/, $log;
	like($log, $pattern, "$name: the error is in the log");
	is(join("\n", splice @leaks, 0, 5), '', "$name: but no value");
	return;
}

log_tells_nothing(qr/ERROR:  42501: cannot encrypt a value in a sealed session/, 'refused input');

# What the server itself says of a row, for a constraint or in COPY, it prints
# with our output functions for the one who may read it. In the log it is left
# out on isolated tables, and everywhere with the setting that the threat model
# asks for.
$node->safe_psql('postgres', q{
	CREATE TABLE strict (clinic text DEFAULT 'a', n encbigint, name enctext(identity) NOT NULL CHECK (name::text <> 'Kawaguchi'), EXCLUDE USING hash (n WITH =));
	CREATE TABLE isolated (LIKE strict INCLUDING ALL, EXCLUDE USING hash (n WITH =));
	CREATE VIEW short AS SELECT * FROM strict WHERE length(name) < 5 WITH CHECK OPTION;
	GRANT ALL ON strict, isolated, short TO app_a;
	SELECT phi.isolate('isolated', 'clinic');
});
my @broken = (
	[ '23P01', "VALUES (4711, 'x'), (4711, 'y')", 'exclusion constraint' ],
	[ '23514', "VALUES (4711, 'Kawaguchi')", 'check constraint' ],
	[ '23502', "VALUES (4711, NULL)", 'not null' ]);

sub broken
{
	my ($state, $sql, $name) = @_;
	my (undef, undef, $messages) = as($node, 'app_a', "SET phi.clinic = 'a';\n$sql");
	like($messages, qr/ERROR:  $state: /, "$name: refused");
	return;
}

for my $case (@broken)
{
	my ($state, $values, $name) = @$case;
	broken($state, "INSERT INTO isolated (n, name) $values", "$name, isolated");
	log_tells_nothing(qr/ERROR:  $state: /, "$name, isolated");
}
broken('23P01', "INSERT INTO strict (n, name) $broken[0][1]", 'exclusion constraint, not isolated');
like(logged(), qr/DETAIL:  Key \(n\)=\(4711\)/, 'without isolation and the setting the log does tell: the check can fail');
$node->safe_psql('postgres', 'ALTER SYSTEM SET log_error_verbosity = terse');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('log_error_verbosity') = 'terse'") or die;
logged();
for my $case (@broken, [ '44000', "VALUES (4712, 'Kawaguchi Ichiro')", 'check option' ])
{
	my ($state, $values, $name) = @$case;
	my $table = $state eq '44000' ? 'short' : 'strict';
	broken($state, "INSERT INTO $table (n, name) $values", $name);
	log_tells_nothing(qr/ERROR:  /, $name);
}
for my $type ('encdate', 'encjsonb')
{
	broken('22...', "COPY patient ($column{$type}) FROM STDIN;\n$bad{$type}\n\\.\n", "COPY, $type");
	log_tells_nothing(qr/ERROR:  /, "COPY, $type");
}

# Statistics.
$node->safe_psql('postgres', q{
	CREATE TABLE control (name text);
	GRANT ALL ON control TO app_a;
});
gives($node, 'app_a', qq{
	SET phi.clinic = 'a';
	INSERT INTO patient (name, record) SELECT name, jsonb_build_object('name', name) FROM (VALUES $list) v (name), generate_series(1, 20);
	UPDATE patient SET name = name || '-' WHERE id % 7 = 0;
	SELECT count(*) FROM patient WHERE name = '$names[3]';
	SELECT count(DISTINCT name), count(DISTINCT record) FROM patient;
	SET work_mem = 64; SET enable_hashagg = off;
	SELECT count(*) FROM (SELECT name FROM patient ORDER BY name OFFSET 0) s;
}, qr/\A\d+\n\d+\|50\n1000\z/, 'patients are written, searched and sorted');
$node->safe_psql('postgres', 'ALTER TABLE patient OWNER TO app_a');
for my $role (undef, 'app_a')
{
	my $who = $role // 'the superuser';
	my (undef, $stats, $told) = as($node, $role, ($role ? "SET phi.clinic = 'a'; " : '') . 'ANALYZE patient; SELECT * FROM pg_stats WHERE tablename = \'patient\'');
	like($stats, qr/^public\|patient\|name\|f\|0/m, "ANALYZE by $who works");
	unlike($stats . $told, qr/Kawaguchi|phi1:|ERROR|WARNING/, "and leaves no value in pg_stats");
}
gives($node, undef, q{SELECT bool_and(most_common_vals IS NULL AND histogram_bounds IS NULL), bool_and(n_distinct <> 0) FROM pg_stats WHERE tablename = 'patient' AND attname IN ('name', 'record')}, 't|t', 'but how many there are');

# Files.
my $find = sub { files_with([ @names, 'Keiko' ], $node->data_dir) };
$node->safe_psql('postgres', 'VACUUM patient; CHECKPOINT');
is_deeply($find->(), {}, 'no name in any file of the server');
my $session = session($node, 'app_a');
$session->query("SET phi.clinic = 'a'; INSERT INTO patient (name) VALUES ('$names[9]')");
is_deeply($find->(), {}, 'nor while a session is at work');
$session->query(q{
	SET work_mem = 64;
	SET phi.result_as_base = off;
	BEGIN;
	DECLARE sorted CURSOR FOR SELECT a.name FROM patient a, generate_series(1, 30) ORDER BY a.name;
	FETCH 1 FROM sorted});
ok(scalar(() = glob($node->data_dir . '/base/pgsql_tmp/*')), 'a sort has spilled');
is_deeply($find->(), {}, 'of encrypted values it writes ciphertext');
$session->quit;
$node->stop;
is_deeply($find->(), {}, 'nor after a shutdown, which writes the statistics');
$node->start;

# The search finds a name in a plain table, in the heap and in WAL.
gives($node, undef, "INSERT INTO control VALUES ('$names[41]'); CHECKPOINT", '', 'a name in a plain table');
my $found = $find->();
is(join(' ', keys %$found), $names[41], 'is found');
is(join(' ', sort map { m{/(base|pg_wal)/} } @{ $found->{ $names[41] } // [] }), 'base pg_wal', 'in its table and in WAL');

done_testing();
