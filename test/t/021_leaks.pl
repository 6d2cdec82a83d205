# Where plain values get to beside the tables, by whose doing, and that the
# settings of docs/threat-model.md keep them from there. Each way has a name of
# its own, which is then looked for in the log and in all files.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# What the server says of its own accord: messages with their details, no statements.
my $node = new_server('leaks', conf => q{
shared_preload_libraries = 'pg_phi, pg_stat_statements'
log_statement = none
log_min_error_statement = panic
log_min_duration_statement = -1
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_temp_files = 0
autovacuum = off
});
set_up_clinics($node);
my $open = "SET phi.clinic = 'a'; ";
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_stat_statements;
	CREATE TABLE loose (id int PRIMARY KEY, clinic text DEFAULT 'a', name enctext(identity) NOT NULL, number encbigint(insurance), other int NOT NULL, photo encbytea, record encjsonb,
		EXCLUDE USING hash (number WITH =), EXCLUDE USING hash (name WITH =));
	ALTER TABLE loose ADD CONSTRAINT short CHECK (length(name) < 40) NOT VALID;
	CREATE TABLE isolated (LIKE loose INCLUDING ALL, EXCLUDE USING hash (number WITH =), EXCLUDE USING hash (name WITH =));
	CREATE TABLE loose_parent (clinic text DEFAULT 'a', name enctext(identity));
	CREATE UNIQUE INDEX ON loose_parent (name enctext_equality_ops);
	CREATE TABLE loose_child (clinic text DEFAULT 'a', name enctext(identity) REFERENCES loose_parent (name));
	CREATE TABLE isolated_parent (LIKE loose_parent INCLUDING ALL);
	CREATE TABLE isolated_child (clinic text DEFAULT 'a', name enctext(identity) REFERENCES isolated_parent (name));
	SELECT phi.isolate(t, 'clinic') FROM unnest(ARRAY['isolated', 'isolated_parent', 'isolated_child']::regclass[]) t;
	CREATE VIEW negative AS SELECT * FROM loose WHERE id < 0 WITH CHECK OPTION;
	CREATE DOMAIN initials AS enctext;
	ALTER DOMAIN initials ADD CONSTRAINT brief CHECK (length(VALUE) < 4) NOT VALID;
	CREATE FUNCTION number_of(wanted text) RETURNS bigint LANGUAGE plpgsql AS $$
		#print_strict_params on
		DECLARE found bigint; BEGIN SELECT l.number INTO STRICT found FROM loose l WHERE name = wanted; RETURN found; END $$;
	GRANT ALL ON loose, loose_parent, loose_child, isolated, isolated_parent, isolated_child, negative TO app_a;
	GRANT CREATE ON SCHEMA public TO app_a;
});
gives($node, 'app_a', $open . q{
	INSERT INTO loose (id, name, number, other) VALUES (1, 'LeakStored', 1, 1);
	INSERT INTO isolated (id, name, number, other) VALUES (1, 'LeakStored', 1, 1);
	INSERT INTO loose_parent (name) VALUES ('LeakParent'); INSERT INTO loose_child (name) VALUES ('LeakParent');
	INSERT INTO isolated_parent (name) VALUES ('LeakParent'); INSERT INTO isolated_child (name) VALUES ('LeakParent')}, '', 'a value in each table');

my $logged = 0;
sub logged
{
	my $log = slurp_raw($node->logfile);
	my $new = substr $log, $logged;
	$logged = length $log;
	return $new;
}

# The lines of the log that hold a name: "LeakX ERROR", "LeakX DETAIL".
sub leaks
{
	my %where;
	my $kind = 'none';
	for my $line (split /\n/, logged())
	{
		$kind = $1 if $line =~ /\] (?:\S+ )?(ERROR|DETAIL|CONTEXT|HINT|STATEMENT|LOG|QUERY|WARNING|FATAL):/;
		$where{"$1 $kind"} = 1 while $line =~ /(Leak[A-Z]\w+?)\d*\b/g;
	}
	return [ sort keys %where ];
}

# Statements that fail, each with a name of its own: the SQLSTATE, and where the
# server's log tells the name with log_error_verbosity = default.
my @failing = (
	[ 'excluded name', '23P01', "INSERT INTO loose (id, name, number, other) VALUES (2, 'LeakStored', 2, 1)", 'LeakStored DETAIL' ],
	[ 'excluded number', '23P01', "INSERT INTO loose (id, name, number, other) VALUES (2, 'LeakExcluded', 1, 1)" ],
	[ 'primary key', '23505', "INSERT INTO loose (id, name, number, other) VALUES (1, 'LeakPrimary', 2, 1)" ],
	[ 'unique', '23505', "INSERT INTO loose_parent (name) VALUES ('LeakParent')", 'LeakParent DETAIL' ],
	[ 'foreign key', '23503', "INSERT INTO loose_child (name) VALUES ('LeakChild')", 'LeakChild DETAIL' ],
	[ 'foreign key, the other way', '23503', 'DELETE FROM loose_parent', 'LeakParent DETAIL' ],
	[ 'not null', '23502', "INSERT INTO loose (id, name, number, other) VALUES (2, 'LeakNotNull', 2, NULL)", 'LeakNotNull DETAIL' ],
	[ 'check', '23514', "INSERT INTO loose (id, name, number, other) VALUES (2, 'LeakCheck' || repeat('1', 40), 2, 1)", 'LeakCheck DETAIL' ],
	[ 'check option', '44000', "INSERT INTO negative (id, name, number, other) VALUES (2, 'LeakOption', 2, 1)", 'LeakOption DETAIL' ],
	[ 'domain', '23514', "SELECT 'LeakDomain'::text::initials" ],
	[ 'COPY, too many columns', '22P04', "COPY loose (id, name, number, other) FROM STDIN;\n2\tLeakColumns\t2\t1\t5\n\\.\n", 'LeakColumns CONTEXT' ],
	[ 'COPY, another column', '22P02', "COPY loose (id, name, number, other) FROM STDIN;\n2\tLeakOther\t2\tx\n\\.\n" ],
	[ 'COPY, a bad value', '22P02', "COPY loose (id, name, number, other) FROM STDIN;\n2\tok\tLeakBad\t1\n\\.\n" ],
	[ 'COPY, not null', '23502', "COPY loose (id, name, number, other) FROM STDIN;\n2\tLeakCopied\t2\t\\N\n\\.\n", 'LeakCopied CONTEXT', 'LeakCopied DETAIL' ],
	[ 'bad literal', '22P02', "INSERT INTO loose (id, name, number, other) VALUES (2, 'x', 'LeakLiteral', 1)" ],
	[ 'bad parameter', '22P02', "PREPARE p (encbigint) AS SELECT \$1; EXECUTE p ('LeakParameter')" ],
	[ 'bad assignment', '22P02', "UPDATE loose SET record = '{\"LeakJson\"}'::text::enctext::text::json::jsonb", 'LeakJson CONTEXT', ],
	[ 'cast to a number', '22P02', 'SELECT name::int FROM loose', 'LeakStored ERROR' ],
	[ 'cast to a date', '22007', 'SELECT name::date FROM loose', 'LeakStored ERROR' ],
	[ 'conversion', '22007', "SELECT to_date(name, 'YYYY') FROM loose", 'LeakStored ERROR' ],
	[ 'division', '22012', "SELECT 1 / (number - 1) FROM loose WHERE name = 'LeakDivision' OR id = 1" ],
	[ 'PL/pgSQL', 'P0002', "SELECT number_of('LeakStrict')", 'LeakStrict DETAIL' ]);

sub run_failing
{
	my ($table, $name) = @_;
	for my $case (@failing)
	{
		my ($what, $state, $sql) = @$case;
		next if $table eq 'isolated' && $what =~ /COPY/;    # the server has none
		refused($node, 'app_a', $open . ($sql =~ s/\bloose(?=_|\b)/$table/gr), $state, qr/./, "$name: $what");
	}
	return leaks();
}

sub expected
{
	my %seen = map { $_ => 1 } grep { defined } map { @$_[ 3 .. $#$_ ] } @failing;
	return sort keys %seen;
}

leaks();
my $told = run_failing('loose', 'default');
is_deeply($told, [ expected() ], 'with its details the log has what the server prints of rows, lines and casts') or diag(join "\n", @$told);
is_deeply([ grep { / ERROR$/ } @$told ], ['LeakStored ERROR'], 'of messages themselves only those of casts to other types');
$told = run_failing('isolated', 'isolated');
is_deeply([ grep { / DETAIL$/ && !/^Leak(Option|Strict|Json) / } @$told ], [], 'of isolated tables no row is printed') or diag(join "\n", @$told);

# Sealed, the same messages hold ciphertext.
refused($node, undef, 'INSERT INTO loose (id, name, other) SELECT 5, name, NULL FROM loose', '23502', qr/DETAIL:  Failing row contains \(.*phi1:/, 'sealed: not null');
refused($node, undef, 'ALTER TABLE loose DROP CONSTRAINT short; INSERT INTO loose SELECT 5, clinic, name, NULL, 1 FROM loose', '23P01', qr/DETAIL:  Key \(name\)=\(phi1:/, 'sealed: excluded');
$node->safe_psql('postgres', 'ALTER TABLE loose ADD CONSTRAINT short CHECK (length(name) < 40) NOT VALID');
refused($node, undef, 'INSERT INTO loose_parent SELECT * FROM loose_parent', '23505', qr/DETAIL:  Key \(name\)=\(phi1:/, 'sealed: unique');
refused($node, undef, 'DELETE FROM loose_parent', '23503', qr/DETAIL:  Key \(name\)=\(phi1:/, 'sealed: foreign key');
refused($node, undef, "INSERT INTO loose (id, name, other) VALUES (5, 'LeakSealed', 1)", '42501', qr/sealed session/, 'sealed: a literal');
is_deeply(leaks(), [], 'sealed: no name in the log');

# The settings of the threat model.
sub set
{
	my (%settings) = @_;
	$node->safe_psql('postgres', join '', map { "ALTER SYSTEM SET $_ = '$settings{$_}';\n" } sort keys %settings);
	$node->reload;
	$node->poll_query_until('postgres', 'SELECT ' . join ' AND ', map { "current_setting('$_') = '$settings{$_}'" } sort keys %settings) or die;
	logged();
	return;
}
my %kept = (log_statement => 'none', log_min_duration_statement => '-1', log_min_duration_sample => '-1', log_transaction_sample_rate => '0', log_min_error_statement => 'panic',
	log_error_verbosity => 'terse', log_parameter_max_length => '0', log_parameter_max_length_on_error => '0', debug_print_plan => 'off');
set(%kept);
$told = run_failing('loose', 'terse');
is_deeply($told, ['LeakStored ERROR'], 'with the settings only casts to other types tell') or diag(join "\n", @$told);
set(log_min_messages => 'fatal');
is_deeply(run_failing('loose', 'fatal'), [], 'without messages of errors not even these');
set(log_min_messages => 'warning');

# Statements, as the server logs them when it is asked to.
my $work = $open . q{
	INSERT INTO loose (id, name, number, other) VALUES (10, 'LeakInserted', 10, 1);
	SELECT count(*) FROM loose WHERE name = 'LeakSearched' OR name IN ('LeakListed', 'LeakElse');
	PREPARE s (text) AS SELECT id FROM loose WHERE name = $1; EXECUTE s ('LeakExecuted');
	UPDATE loose SET name = 'LeakUpdated' WHERE id = 10;
	CREATE TEMP TABLE found AS SELECT id FROM loose WHERE name = 'LeakUtility'; DROP TABLE found;
	DELETE FROM loose WHERE id = 10;
	SELECT 'done'};
gives($node, 'app_a', $work, qr/done\z/, 'statements');
is_deeply(leaks(), [], 'with the settings no statement is logged');
set(log_statement => 'all');
gives($node, 'app_a', $work, qr/done\z/, 'the same');
cmp_ok(scalar @{ leaks() }, '>=', 6, 'log_statement = all logs them, literals and all: the check can fail');
set(log_statement => 'none', log_min_duration_statement => '0');
gives($node, 'app_a', $work, qr/done\z/, 'the same');
cmp_ok(scalar @{ leaks() }, '>=', 6, 'so does log_min_duration_statement');
set(log_min_duration_statement => '-1', log_min_error_statement => 'error');
refused($node, 'app_a', "$open SELECT 1 / 0 FROM loose WHERE name = 'LeakStatement' OR id = 1", '22012', qr/./, 'an error');
is_deeply(leaks(), ['LeakStatement STATEMENT'], 'and log_min_error_statement, by default');
set(log_min_error_statement => 'panic');

# Plans: the literal, or the parameter of a custom plan, is printed by our output
# function for a session that may read it.
gives($node, 'app_a', "$open EXPLAIN (VERBOSE, ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT name FROM loose WHERE name = 'LeakPlan'", qr/'LeakPlan'::enctext/, 'EXPLAIN shows a session its own literal');
gives($node, 'app_a', "$open PREPARE s (text) AS SELECT name FROM loose WHERE name = \$1; SET plan_cache_mode = force_generic_plan; EXPLAIN (VERBOSE, ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE s ('LeakGeneric')", qr/\(loose\.name = \$1\)(?!.*Leak)/s, 'not the parameter of a generic plan, nor any value that was read');
gives($node, 'app_a', "$open SET enable_seqscan = off; EXPLAIN (VERBOSE, ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT name, lower(name) FROM loose WHERE id = 1 ORDER BY name", qr/\A(?!.*LeakStored).*Sort Key: loose\.name/si, 'values that are read, sorted and computed do not show');
for my $case ([ '', 'off' ], [ ' nested', 'on' ])
{
	$node->safe_psql('postgres', "ALTER ROLE app_a SET session_preload_libraries = 'auto_explain'; ALTER ROLE app_a SET auto_explain.log_min_duration = 0; ALTER ROLE app_a SET auto_explain.log_analyze = on; ALTER ROLE app_a SET auto_explain.log_verbose = on; ALTER ROLE app_a SET auto_explain.log_nested_statements = $case->[1]");
	leaks();
	gives($node, 'app_a', "$open SET plan_cache_mode = force_generic_plan; PREPARE s (text) AS SELECT name, upper(name) FROM loose WHERE name = \$1 ORDER BY other; EXECUTE s ('Leak' || 'Stored'); SELECT name FROM loose ORDER BY name", qr/LeakStored\|LEAKSTORED\nLeakStored/, "auto_explain$case->[0]");
	is_deeply(leaks(), [], "auto_explain$case->[0] tells no value that was read");
	gives($node, 'app_a', "$open SELECT count(*) FROM loose WHERE name = 'LeakExplained'", '0', "auto_explain$case->[0], a literal");
	is_deeply(leaks(), ['LeakExplained LOG'], "auto_explain$case->[0] logs the statement's literals");
}
$node->safe_psql('postgres', 'ALTER ROLE app_a RESET ALL');

# pg_stat_statements and pg_stat_activity.
my $statements = q{SELECT string_agg(DISTINCT m[1], ' ' ORDER BY m[1]) FROM pg_stat_statements, regexp_matches(query, '(Leak[A-Z][a-z]+)', 'g') m};
$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
gives($node, 'app_a', $work, qr/done\z/, 'statements');
gives($node, undef, $statements, 'LeakUtility', 'pg_stat_statements replaces constants, but not in utility commands');
set('pg_stat_statements.track_utility' => 'off');
$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
gives($node, 'app_a', $work, qr/done\z/, 'the same');
gives($node, undef, $statements, '', 'with track_utility = off it has none');
my $session = session($node, 'app_a');
$session->query("$open SELECT count(*) FROM loose WHERE name = 'LeakActivity'");
my $activity = q{SELECT count(*) FROM pg_stat_activity WHERE query ~ ('Leak' || 'Activity')};
gives($node, undef, $activity, '1', 'pg_stat_activity shows a superuser the statement');
gives($node, 'stranger', $activity, '0', 'but no other role');
set(track_activities => 'off');
$session->query("$open SELECT count(*) FROM loose WHERE name = 'LeakHidden'");
gives($node, undef, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ ('Leak' || 'Hidden')}, '0', 'with track_activities = off nobody sees it');

# Statistics, prepared plans' constants, core dumps.
gives($node, undef, q{ANALYZE loose, isolated; SELECT count(*) FROM pg_statistic s WHERE s::text ~ 'Leak|phi1:' AND starelid IN ('loose'::regclass, 'isolated'::regclass)}, '0', 'pg_statistic holds neither values nor ciphertext');
my $pid = $session->pid;
is((stat "/proc/$pid/mem")[4], 0, 'a process that holds keys is not dumpable: its memory belongs to root');
my $before = session($node, 'stranger');
isnt((stat '/proc/' . $before->pid . '/mem')[4], 0, 'one without is: the check can fail');
$before->quit;

# Sorts and hashes that spill: the file is looked into while the cursor is open.
$session->query("$open INSERT INTO loose (id, name, number, other) SELECT n, 'LeakSpilled' || n, n, 1 FROM generate_series(100, 4000) n; SET work_mem = 64");
for my $case ([ 'ORDER BY', 'SELECT name, other FROM loose ORDER BY name' ], [ 'DISTINCT', 'SELECT DISTINCT name FROM loose ORDER BY name' ], [ 'window', 'SELECT name, rank() OVER (ORDER BY name) FROM loose' ],
	[ 'merge join', 'SELECT x.name FROM loose x JOIN loose y ON x.name = y.name ORDER BY y.name' ])
{
	my (undef, $messages) = $session->query("SET phi.result_as_base = off; BEGIN; DECLARE c CURSOR FOR $case->[1]; MOVE 10 FROM c");
	my @files = glob($node->data_dir . '/base/pgsql_tmp/*');
	ok(@files && $messages eq '', "$case->[0]: spills") or diag($messages);
	is_deeply(files_with(['LeakSpilled'], $node->data_dir . '/base/pgsql_tmp'), {}, "$case->[0]: ciphertext");
	$session->query('COMMIT');
}
$session->query('BEGIN; DECLARE c CURSOR FOR SELECT lower(name) FROM loose ORDER BY name::text; MOVE 10 FROM c');
isnt(scalar keys %{ files_with([ 'LeakSpilled', 'leakspilled' ], $node->data_dir . '/base/pgsql_tmp') }, 0, 'what the query casts to text itself spills plain');
$session->query('COMMIT');
$session->quit;

# All files of the server.
my @names = map { "Leak$_" } qw(Stored Parent Child Excluded Primary NotNull Check Option Domain Columns Other Bad Copied Literal Parameter Sealed Inserted Searched Listed Executed Updated Utility Statement Plan Generic Explained Activity Hidden Spilled);
$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset(); VACUUM; CHECKPOINT');
$node->stop;
my $found = files_with(\@names, map { $node->data_dir . "/$_" } qw(base global pg_wal pg_stat pg_stat_tmp pg_xact pg_logical pg_twophase pg_notify));
is_deeply($found, {}, 'no name in any table, index, WAL, statistics or temporary file');

done_testing();
