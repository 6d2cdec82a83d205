# pg_dump, pg_restore and pg_upgrade in the ways that DBAs use them: what each
# shows of encrypted values, and that all come back. See docs/dba-tools.md.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('origin', conf => "log_statement = none\nautovacuum = off\n");
my $files = $node->basedir . '/files';
mkdir $files;
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE dumper LOGIN BYPASSRLS IN ROLE pg_read_all_data;
	CREATE DOMAIN phone AS enctext(identity);
	CREATE TABLE patient (
		id int PRIMARY KEY, clinic text NOT NULL DEFAULT phi.current_clinic(), name enctext(identity) NOT NULL, born encdate(identity),
		number encbigint(insurance), weight encnumeric(clinical), record encjsonb(clinical), seen enctimestamptz, smoker encboolean(sensitive), photo encbytea,
		phone phone, aliases enctext(identity)[], remark enctext DEFAULT 'none'::text,
		copied enctext(identity) GENERATED ALWAYS AS (name) STORED,
		CHECK (id > 0), CHECK (name IS NOT NULL), EXCLUDE USING hash (number WITH =));
	ALTER TABLE patient ADD CONSTRAINT known CHECK (length(name) > 0 AND born > '1900-01-01'::date) NOT VALID;
	CREATE INDEX patient_name ON patient USING hash (name);
	CREATE TABLE visit (id int, clinic text NOT NULL, patient int REFERENCES patient, reason enctext(clinical)) PARTITION BY LIST (clinic);
	CREATE TABLE visit_a PARTITION OF visit FOR VALUES IN ('a');
	CREATE TABLE visit_b PARTITION OF visit FOR VALUES IN ('b');
	CREATE INDEX visit_reason ON visit USING hash (reason);
	CREATE VIEW called AS SELECT id, name, lower(name) AS small FROM patient WHERE name <> 'nobody'::text;
	CREATE MATERIALIZED VIEW names AS SELECT clinic, name FROM patient WITH NO DATA;
	CREATE INDEX names_name ON names USING hash (name);
	CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired: %', NEW.name; END $$;
	CREATE TRIGGER touched BEFORE INSERT OR UPDATE ON patient FOR EACH ROW WHEN (NEW.id > 1000) EXECUTE FUNCTION touched();
	CREATE TABLE memo (text enctext);
	CREATE UNIQUE INDEX patient_one_name ON patient (name enctext_equality_ops);
	CREATE TABLE alias (clinic text NOT NULL DEFAULT phi.current_clinic(), of enctext(identity) REFERENCES patient (name), alias enctext(identity));
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient, visit, called, names, memo, alias TO app_a, app_b, nurse_a;
	SELECT phi.isolate('patient', 'clinic'), phi.isolate('visit', 'clinic');
});
my %name = (a => 'Kobayashi', b => 'Nishimura');
for my $clinic ('a', 'b')
{
	my $shift = $clinic eq 'a' ? 0 : 100;
	gives($node, "app_$clinic", qq{
		SET phi.clinic = '$clinic';
		INSERT INTO patient (id, name, born, number, weight, record, seen, smoker, photo, phone, aliases)
		SELECT n + $shift, '$name{$clinic}-' || n, date '1961-01-01' + n, n, n + 0.5, jsonb_build_object('doctor', '$name{$clinic}-doctor', 'n', n),
			timestamptz '2026-01-01Z' + n * interval '1 h', n % 2 = 0, convert_to('$name{$clinic}-photo', 'UTF8'), '03-$name{$clinic}-' || n, ARRAY['$name{$clinic}-alias', NULL]
		FROM generate_series(1, 40) n;
		INSERT INTO visit SELECT n, '$clinic', n + $shift, '$name{$clinic}-fever ' || n FROM generate_series(1, 40) n;
		SELECT count(*) FROM patient}, '40', "patients of clinic $clinic");
}
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW names');
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO memo VALUES ('Kobayashi-memo'); INSERT INTO alias (of, alias) VALUES ('Kobayashi-7', 'Kobako')}, '', 'and a memo, and an alias');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'a rotation: old keys are needed too');
gives($node, 'app_a', q{SET phi.clinic = 'a'; UPDATE patient SET name = name || '' WHERE id = 1}, '', 'and new ones');
my $marks = [ 'Kobayashi', 'Nishimura', '1961-01' ];

my $bytes_of = q{
	SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (
		SELECT p::text FROM patient p UNION ALL SELECT v::text FROM visit v) u (x)};
my $bytes = $node->safe_psql('postgres', $bytes_of);
my $facts_of = q{
	SELECT count(*), md5(string_agg(to_jsonb(p)::text, E'\n' ORDER BY id)) FROM patient p;
	SELECT count(*), md5(string_agg(to_jsonb(v)::text, E'\n' ORDER BY id)) FROM visit v;
	SELECT id, small FROM called WHERE name = 'Kobayashi-7' OR name = 'Nishimura-7';
	SELECT count(*) FROM names WHERE CASE WHEN clinic = phi.current_clinic() THEN name ~ '^(Kobayashi|Nishimura)-' END};
my %facts;
for my $clinic ('a', 'b')
{
	(undef, $facts{$clinic}, my $messages) = as($node, "app_$clinic", "SET phi.clinic = '$clinic'; $facts_of");
	like($messages . $facts{$clinic}, qr/\A40\|\w{32}\n40\|\w{32}\n\d+\|\w+-7\n40\z/, "what clinic $clinic has");
}

# Everything that a clinic has, and no more; indexes, constraints, row security.
sub whole
{
	my ($server, $database, $what) = @_;

	is($server->safe_psql($database, $bytes_of), $bytes, "$what: byte-equal");
	for my $clinic ('a', 'b')
	{
		gives($server, "app_$clinic", "SET phi.clinic = '$clinic'; $facts_of", $facts{$clinic}, "$what: clinic $clinic reads", database => $database);
	}
	gives($server, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Kobayashi-7'; SELECT id FROM visit WHERE reason = 'Kobayashi-fever 9'::text}, "7\n9", "$what: the indexes find", database => $database);
	gives($server, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT id FROM patient WHERE name = 'Kobayashi-7'}, qr/patient_name/, "$what: and serve", database => $database);
	refused($server, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient (id, name, number) VALUES (99, 'x', 7)}, '23P01', qr/patient_number_excl/, "$what: constraints hold", database => $database);
	refused($server, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient (id, name) VALUES (99, 'Kobayashi-7')}, '23505', qr/patient_one_name/, "$what: unique names", database => $database);
	refused($server, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO alias (of) VALUES ('nobody')}, '23503', qr/alias_of_fkey/, "$what: foreign keys", database => $database);
	gives($server, 'app_a', q{SET phi.clinic = 'a'; SELECT p.id, a.alias FROM alias a JOIN patient p ON p.name = a.of}, '7|Kobako', "$what: joins", database => $database);
	refused($server, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient (id, name, born) VALUES (99, 'x', '1899-01-01')}, '23514', qr/"known"/, "$what: checks too", database => $database);
	refused($server, 'nurse_a', q{SET phi.clinic = 'a'; SELECT record FROM patient}, '42501', qr/clinical/, "$what: classes hold", database => $database);
	gives($server, undef, q{SELECT count(*) FROM patient WHERE format('%s', name) ~ '^phi1:'}, '80', "$what: sealed it is ciphertext", database => $database);
	return;
}

sub new_database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
	return $node->connstr($name);
}

sub dumped
{
	my ($name, @options) = @_;
	$node->command_ok([ 'pg_dump', @options, '--file', "$files/$name", $node->connstr('postgres') ], "pg_dump @options");
	return "$files/$name";
}

sub fed
{
	my ($connection, $file, $name) = @_;
	return $node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $connection, '-f', $file ], $name);
}

# The rows of tables, before those of the keys and after them.
my $custom = dumped('custom', '--format=custom', '--compress=0');
my ($list, $errors) = run_command([ 'pg_restore', '--list', $custom ]);
my @entries = grep { !/^;/ } split /\n/, $list;
my @data = grep { / TABLE DATA / } @entries;
my @of_phi = grep { / TABLE DATA phi / } @data;
my @of_tables = grep { !/ TABLE DATA phi / } @data;
cmp_ok(scalar @of_phi, '>', 5, 'the dump has the rows of the tables of phi');
is(scalar @of_tables, 5, 'and those of the tables with values');
for my $case ([ 'before', @of_tables, @of_phi ], [ 'after', @of_phi, @of_tables ])
{
	my ($when, @order) = @$case;
	my $connection = new_database("rows_$when");
	my $order = "$files/order_$when";
	append_to_file($order, join("\n", (grep { / SEQUENCE SET / } @entries), @order) . "\n");
	my @restore = ('pg_restore', '--exit-on-error', '-d', $connection);
	$node->command_ok([ @restore, '--section=pre-data', $custom ], "rows $when the keys: definitions");
	is($node->safe_psql("rows_$when", 'SELECT (SELECT count(*) FROM phi.clinic) + (SELECT count(*) FROM phi.data_key)'), '0', 'the tables of the extension are empty');
	$node->command_ok([ @restore, '--use-list', $order, $custom ], "rows $when the keys: rows");
	$node->command_ok([ @restore, '--section=post-data', $custom ], "rows $when the keys: indexes and constraints");
	# It was read by the superuser, sealed, who may.
	$node->safe_psql("rows_$when", 'REFRESH MATERIALIZED VIEW names');
	whole($node, "rows_$when", "rows $when the keys");
}

# Rows without any keys are stored, and told apart from damaged ones.
my $keyless = new_database('keyless');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--section=pre-data', '-d', $keyless, $custom ], 'definitions without keys');
append_to_file("$files/order_rows", join("\n", grep { / patient / } @of_tables) . "\n");
$node->command_ok([ 'pg_restore', '--exit-on-error', '--use-list', "$files/order_rows", '-d', $keyless, $custom ], 'rows without keys');
gives($node, undef, q{SELECT count(*), count(*) FILTER (WHERE format('%s', name) ~ '^phi1:') FROM patient}, '80|80', 'are ciphertext', database => 'keyless');
refused($node, 'app_a', q{SET phi.clinic = 'a'}, '42704', qr/clinic "a" does not exist/, 'nobody opens a clinic there', database => 'keyless');
refused($node, undef, 'CREATE INDEX ON patient USING hash (name)', '22000', qr/names key \d+, which does not exist.*HINT:  .*phi\.data_key/s, 'an index is not built without the keys', database => 'keyless');
$node->safe_psql('keyless', q{SELECT phi.create_clinic('a', 'A'), phi.grant_clinic('app_a', 'a')});
refused($node, 'app_a', q{SET phi.clinic = 'a'; SET row_security = on; SELECT name FROM patient}, '22000', qr/not authentic|names key/, 'keys of the same numbers, made there, do not open them', database => 'keyless');

# Other formats.
my %restored = (
	'columns' => [ '--column-inserts', '--rows-per-insert=7', '--on-conflict-do-nothing' ],
	'inserts' => ['--inserts'],
	'clean' => [ '--clean', '--if-exists' ]);
for my $name (sort keys %restored)
{
	my $file = dumped($name, @{ $restored{$name} });
	is_deeply(files_with($marks, $file), {}, "$name: ciphertext only");
	my $connection = new_database($name);
	fed($connection, $file, "$name: restored");
	whole($node, $name, $name);
}
fed($node->connstr('clean'), "$files/clean", 'clean: restored once more, over what is there');
whole($node, 'clean', 'clean, again');
my $directory = dumped('directory', '--format=directory', '--jobs=2', '--compress=0');
is_deeply(files_with($marks, $directory), {}, 'directory: ciphertext only');
my $parallel = new_database('parallel');
# With workers an index may come before the keys, so one section after the other.
for my $section ('pre-data', 'data', 'post-data')
{
	$node->command_ok([ 'pg_restore', '--exit-on-error', '--jobs=2', "--section=$section", '-d', $parallel, $directory ], "pg_restore --jobs=2 --section=$section");
}
whole($node, 'parallel', 'directory');

# One table, lost and brought back. A check that reads values stops who cannot
# read them: it is dropped, and added again.
my @one = ('pg_restore', '--exit-on-error', '--data-only', '-d', $parallel);
$node->safe_psql('parallel', 'CREATE TABLE kept AS TABLE alias; DELETE FROM alias; DELETE FROM visit; DELETE FROM patient');
$node->command_fails_like([ @one, '--table=patient', $custom ], qr/cannot decrypt a value in a sealed session/, 'a check on encrypted columns stops the restore of data alone');
$node->safe_psql('parallel', 'ALTER TABLE patient DROP CONSTRAINT known');
$node->command_ok([ @one, '--table=patient', $custom ], 'without it: pg_restore --data-only --table');
$node->safe_psql('parallel', 'INSERT INTO alias TABLE kept');
$node->command_ok([ @one, '--table=visit_a', '--table=visit_b', $directory ], 'of partitions, from a directory');
my $check = q{ALTER TABLE patient ADD CONSTRAINT known CHECK (length(name) > 0 AND born > '1900-01-01'::date)};
refused($node, undef, $check, '42501', qr/sealed session/, 'a check cannot be added to rows that cannot be read', database => 'parallel');
gives($node, undef, "$check NOT VALID", '', 'but for new rows, without a warning', database => 'parallel');
whole($node, 'parallel', 'one table');
for my $case ([ 'CREATE TABLE x (name enctext, CHECK (length(name) > 0))', 'x_name_check' ], [ 'CREATE DOMAIN d AS enctext CHECK (VALUE IN (\'x\'::text, \'y\'::text))', 'd_check' ],
	[ 'CREATE TABLE x (n encbigint CHECK (n > 0))', 'x_n_check' ])
{
	warned($node, undef, "BEGIN; $case->[0]; ROLLBACK", '', qr/WARNING:  01000: check constraint "$case->[1]" keeps dumps from being restored\n.*HINT:  .*NOT VALID/s, "who makes one is told: $case->[0]");
}
gives($node, undef, 'BEGIN; CREATE TABLE x (name enctext NOT NULL CHECK (name IS NOT NULL), id int CHECK (id > 0)); ROLLBACK', '', 'not of checks that read no value');

# Brought back by its owner, who is no superuser: only what authenticates.
$node->safe_psql('parallel', q{DELETE FROM memo; ALTER TABLE memo OWNER TO stranger});
my $rows = dumped('rows', '--data-only', '--table=memo');
fed("$parallel user=stranger", $rows, 'by the owner of the table, sealed');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT text FROM memo}, 'Kobayashi-memo', 'and is readable', database => 'parallel');
append_to_file("$files/forged", slurp_raw($rows) =~ s/(phi1:[^\n]{50})([^\n])/$1 . ($2 eq 'A' ? 'B' : 'A')/er);
$node->command_fails_like([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', "$parallel user=stranger", '-f', "$files/forged" ], qr/not authentic/, 'an altered value is refused');

# Who dumps. A role without grants gets ciphertext, in whatever form; it must
# bypass row security, as elsewhere.
sub dump_as
{
	my ($role, $options, @arguments) = @_;
	local $ENV{PGOPTIONS} = $options;
	return run_command([ 'pg_dump', @arguments, $node->connstr('postgres') . " user=$role" ]);
}
my ($out, $err) = dump_as('dumper', '', '--table=patient', '--data-only', '--inserts');
is($err, '', 'a role that may read all dumps');
is(scalar(() = $out =~ /^INSERT INTO public\.patient .*'phi1:/mg), 80, 'ciphertext');
unlike($out, qr/Kobayashi|Nishimura|1961-01/, 'and no value');
(undef, $err) = dump_as('app_a', '', '--table=patient', '--data-only');
like($err, qr/row-level security/, 'an application is stopped by row security');
# An application's role has a grant: its SELECT is cast, its COPY is not.
(undef, $err) = dump_as('app_a', '', '--table=patient', '--data-only', '--inserts', '--enable-row-security');
is($err, '', 'sealed it sees no rows');
$node->safe_psql('postgres', q{CREATE ROLE careless LOGIN BYPASSRLS IN ROLE pg_read_all_data; SELECT phi.grant_clinic('careless', 'a')});
(undef, $err) = dump_as('careless', '', '--table=patient', '--data-only', '--inserts');
like($err, qr/cannot decrypt a value in a sealed session/, 'sealed, a role with a grant cannot dump with --inserts');
($out, $err) = dump_as('careless', '', '--table=patient', '--data-only');
like($err . $out, qr/\A[^\n]*.*\tphi1:/s, 'but with COPY');
unlike($out, qr/Kobayashi|Nishimura|1961-01/, 'as ciphertext');
# With a clinic open a dump is plain: that is what it is asked for.
for my $form ('--inserts', '--compress=0')
{
	($out, $err) = dump_as('app_a', '-c phi.clinic=a', '--table=patient', '--data-only', '--enable-row-security', $form);
	like($out, qr/Kobayashi-7\b/, "a dump in a clinic's session holds plain values, $form");
	unlike($out, qr/Nishimura|phi1:/, 'of that clinic only');
	append_to_file("$files/plain$form", $out);
}
# They are encrypted anew by a session that may, and refused to any other.
my $anew = new_database('anew');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $anew, $custom ], 'a copy');
$node->safe_psql('anew', 'TRUNCATE patient, visit, alias');
$node->command_fails_like([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $anew, '-f', "$files/plain--inserts" ], qr/cannot encrypt a value in a sealed session/, 'a dump of plain values is not stored in a sealed session');
{
	local $ENV{PGOPTIONS} = '-c phi.clinic=a';
	fed("$anew user=app_a", "$files/plain--inserts", 'but in one of the clinic');
}
gives($node, 'app_a', "SET phi.clinic = 'a'; $facts_of", qr/\A\Q@{[ (split \/\n\/, $facts{a})[0] ]}\E\n/, 'it has the rows again', database => 'anew');
isnt($node->safe_psql('anew', q{SELECT md5(string_agg(format('%s', name), '' ORDER BY id)) FROM patient}), $node->safe_psql('postgres', q{SELECT md5(string_agg(format('%s', name), '' ORDER BY id)) FROM patient WHERE clinic = 'a'}), 'as other ciphertext');

# The audit log of a copy is closed until somebody says that all of it is there.
$node->safe_psql('postgres', q{CREATE TABLE watched (id int PRIMARY KEY); SELECT phi.audit('watched', history => true); INSERT INTO watched VALUES (1)});
sub resumes
{
	my ($server, $database, $name) = @_;
	my $changes = q{SELECT count(*) FROM phi.audit_log WHERE relation = 'public.watched' AND operation = 'INSERT'};
	refused($server, undef, 'INSERT INTO watched VALUES (2)', '55000', qr/audit log of this database is not open.*phi\.resume_audit/s, "$name: changes of audited tables fail", database => $database);
	is($server->safe_psql($database, 'SELECT phi.resume_audit(); INSERT INTO watched VALUES (3)'), '', "$name: until the log is resumed");
	is($server->safe_psql($database, $changes), '2', "$name: it has what was recorded before, and goes on");
	ok($server->poll_query_until($database, q{SELECT phi.advance_audit() IS NOT NULL AND NOT EXISTS (SELECT FROM phi.audit_log, phi.audit_state WHERE xact >= horizon)}), "$name: all records get leaves");
	is($server->safe_psql($database, 'SELECT count(*) FROM phi.verify_audit()'), '0', "$name: it verifies");
	return;
}
$node->safe_psql('template1', 'CREATE DATABASE twin TEMPLATE postgres');
resumes($node, 'twin', 'a database made from a template');
$node->safe_psql('postgres', 'DROP DATABASE twin');

# pg_upgrade, from 15 to 15: it makes the extension's objects one by one, and
# keeps files and OIDs.
my $array_statistics = q{
	ANALYZE patient;
	SELECT count(*), count(*) FILTER (WHERE s::text ~ 'phi1:') FROM pg_stats s WHERE tablename = 'patient' AND attname IN ('name', 'aliases')};
my $objects_of = q{
	SELECT string_agg(pg_describe_object(classid, objid, objsubid), E'\n' ORDER BY pg_describe_object(classid, objid, objsubid) COLLATE "C")
	FROM pg_depend WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_phi');
	SELECT p.oid::regprocedure::text COLLATE "C", md5(regexp_replace(pg_get_functiondef(p.oid), ' AS (text|int4)\M', '', 'g')), p.proleakproof, p.proparallel, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a)
	FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND extname = 'pg_phi' WHERE prokind <> 'a' ORDER BY 1;
	SELECT relation, "column", type, class, isolated FROM phi.protected_columns ORDER BY 1, 2;
	SELECT typname, typanalyze, typstorage, typcategory, typcollation <> 0 FROM pg_type WHERE typname ~ '^_?enc(text|bytea|jsonb|bigint|numeric|date|timestamptz|boolean)$' ORDER BY 1;
	SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2};
my $statistics = $node->safe_psql('postgres', $array_statistics);
my $objects = $node->safe_psql('postgres', $objects_of);
like($objects, qr/type enctext/, 'what the extension consists of');
for my $database ('columns', 'inserts', 'clean', 'parallel', 'anew', 'keyless', 'rows_before', 'rows_after')
{
	$node->safe_psql('postgres', "DROP DATABASE $database");
}
$node->stop;
my $upgraded = new_server('upgraded', keys => key_directory($node), start => 0, conf => "log_statement = none\nautovacuum = off\n");
my $bindir = $node->config_data('--bindir');
my @upgrade = ('pg_upgrade', '--no-sync', '-d', $node->data_dir, '-D', $upgraded->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $upgraded->host, '-p', $node->port, '-P', $upgraded->port, '-U', (getpwuid $<)[0]);
chdir $files or die;
for my $mode ([ '--check' ], [])
{
	my ($told, $complaints) = run_command([ @upgrade, @$mode ]);
	like($told . $complaints, qr/Clusters are compatible|Upgrade Complete/, "pg_upgrade @$mode");
}
chdir '/';
$upgraded->start;
is($upgraded->safe_psql('postgres', $objects_of), $objects, 'upgraded: the extension consists of the same');
resumes($upgraded, 'postgres', 'upgraded');
whole($upgraded, 'postgres', 'upgraded');
is($upgraded->safe_psql('postgres', $array_statistics), $statistics, 'upgraded: ANALYZE keeps no values');
warned($upgraded, 'custodian', q{SELECT phi.rotate_key('a', 'identity') > 0; CALL phi.rekey(wait => true)}, "t\n1", qr/done, pass/, 'upgraded: keys are rotated, values rekeyed');
gives($upgraded, 'custodian', q{SELECT state, failed FROM phi.rekey_progress ORDER BY job DESC LIMIT 1}, 'done|0', 'upgraded: all of them');
for my $clinic ('a', 'b')
{
	gives($upgraded, "app_$clinic", "SET phi.clinic = '$clinic'; $facts_of", $facts{$clinic}, "upgraded and rekeyed: clinic $clinic reads");
}

done_testing();
