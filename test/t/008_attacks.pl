# What attackers and reviewers of the extension found that takes several
# sessions, databases, commits or a look at a process. The rest is in
# test/pgtap/80_attacks.sql.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('attacks', allows_streaming => 1,
	conf => "log_statement = none\nwork_mem = 16MB\nmaintenance_work_mem = 16MB\nshared_buffers = 16MB\nautovacuum = off\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE admin SUPERUSER LOGIN;
	CREATE ROLE tenant LOGIN;
	CREATE DATABASE foreign_shapes OWNER tenant;
	CREATE DATABASE taken OWNER tenant;
	CREATE TABLE patient (id int PRIMARY KEY, clinic text, name enctext(identity), note enctext(clinical), amount encbigint(insurance));
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO PUBLIC;
	GRANT CREATE ON SCHEMA public TO app_a;
});
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient SELECT n, 'a', 'name ' || n, 'note ' || n, n FROM generate_series(1, 5000) n}, '', 'patients of a');
gives($node, 'app_b', q{SET phi.clinic = 'b'; INSERT INTO patient SELECT -n, 'b', 'name ' || n, 'note ' || n, n FROM generate_series(1, 10) n}, '', 'patients of b');

# Tables called like the extension's, of odd shapes, in a database of the tenant's.
my @shapes = (
	[ 'no relations', '' ],
	[ 'columns of other types', 'CREATE TABLE phi.clinic (a int, code int); CREATE INDEX clinic_code_key ON phi.clinic (code); INSERT INTO phi.clinic SELECT n, n FROM generate_series(1, 9) n' ],
	[ 'a unique code', 'CREATE TABLE phi.clinic (clinic_id int, code text COLLATE "C" CONSTRAINT clinic_code_key UNIQUE); INSERT INTO phi.clinic VALUES (1, \'x\'); CREATE TABLE phi.clinic_grant (clinic_id int, grantee oid, classes int); CREATE INDEX clinic_grant_pkey ON phi.clinic_grant (clinic_id); CREATE INDEX clinic_grant_grantee ON phi.clinic_grant (grantee); INSERT INTO phi.clinic_grant SELECT 1, oid, 31 FROM pg_roles' ],
	[ 'views', 'CREATE VIEW phi.clinic AS SELECT 1 AS clinic_id, \'x\'::text AS code; CREATE VIEW phi.clinic_grant AS SELECT 1 AS clinic_id' ],
	[ 'an index that is a table', 'CREATE TABLE phi.clinic (clinic_id int, code text); CREATE TABLE phi.clinic_code_key (x int)' ],
	[ 'an index of another table', 'CREATE TABLE phi.clinic (clinic_id int, code text); CREATE TABLE phi.other (code text); CREATE INDEX clinic_code_key ON phi.other (code)' ],
	[ 'an index of another method', 'CREATE TABLE phi.clinic (clinic_id int, code text); CREATE INDEX clinic_code_key ON phi.clinic USING hash (code)' ],
	[ 'no columns', 'CREATE TABLE phi.clinic (); CREATE TABLE phi.data_key (); CREATE TABLE phi.clinic_grant ()' ],
	[ 'a partitioned table', 'CREATE TABLE phi.clinic (clinic_id int, code text) PARTITION BY LIST (code); CREATE INDEX clinic_code_key ON phi.clinic (code)' ],
	[ 'a sequence and a type', 'CREATE SEQUENCE phi.clinic; CREATE TYPE phi.clinic_grant AS (a int); CREATE MATERIALIZED VIEW phi.data_key AS SELECT 1 AS wrapped' ],
	[ 'keys of numbers', 'CREATE TABLE phi.data_key (key_id int CONSTRAINT data_key_pkey PRIMARY KEY, clinic_id text, class text, wrapped int); INSERT INTO phi.data_key VALUES (1, \'x\', \'y\', 7); CREATE INDEX data_key_active ON phi.data_key (class)' ]);
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $bystander = session($node, 'app_a');
$bystander->query("SET phi.clinic = 'a'");
for my $shape (@shapes)
{
	my ($name, $ddl) = @$shape;
	gives($node, 'tenant', "SET client_min_messages = warning; DROP SCHEMA IF EXISTS phi CASCADE; CREATE SCHEMA phi; $ddl", '', "a schema phi of another's: $name", database => 'foreign_shapes');
	refused($node, 'tenant', "SET phi.clinic = 'x'", '55000', qr/not installed in this database.*HINT: .*CREATE EXTENSION/s, "$name: a clear error", database => 'foreign_shapes');
	refused($node, undef, "SET phi.clinic = '1'", '55000', qr/not installed/, "$name: also to a superuser", database => 'foreign_shapes');
	gives($node, 'tenant', 'SELECT 1; SELECT count(*) > 0 FROM pg_class; PREPARE p AS SELECT 2; EXECUTE p', "1\nt\n2", "$name: other queries go on", database => 'foreign_shapes');
	my ($tenant, $messages) = (session($node, 'tenant', database => 'foreign_shapes'));
	(undef, $messages) = $tenant->query("SET phi.clinic = 'x'");
	like($messages, qr/ERROR:  55000: /, "$name: once more");
	is($tenant->query('SELECT 3'), '3', "$name: the session goes on");
	$tenant->quit;
}
is($bystander->query("SELECT name FROM patient WHERE name = 'name 7' AND clinic = 'a'"), 'name 7', 'a session elsewhere is not disturbed');
$bystander->quit;
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'nothing crashed');
unlike(slurp_raw($node->logfile), qr/terminated by signal|was terminated/, 'no process did');
refused($node, undef, 'CREATE EXTENSION pg_phi', '42P06', qr/schema "phi" already exists.*HINT/s, 'CREATE EXTENSION into a schema with tables in it', database => 'foreign_shapes');
gives($node, 'tenant', 'CREATE SCHEMA phi', '', 'an empty schema phi of a role that is no superuser', database => 'taken');
refused($node, undef, 'CREATE EXTENSION pg_phi', '42P06', qr/belongs to another role/, 'is refused as well', database => 'taken');
$node->safe_psql('taken', 'DROP SCHEMA phi; CREATE EXTENSION pg_phi');
refused($node, 'tenant', 'ALTER SCHEMA phi RENAME TO mine', '42501', qr/schema phi/, 'the extension\'s schema is not the database owner\'s', database => 'taken');

# Grants to oneself count once they are on record.
refused($node, 'admin', "BEGIN; SELECT phi.grant_clinic('admin', 'a'); SET LOCAL phi.clinic = 'a'", '42501', qr/permission denied for clinic "a"/, 'a superuser in the transaction of his grant to himself');
refused($node, 'admin', "BEGIN; SAVEPOINT s; SELECT phi.grant_clinic('admin', 'a'); RELEASE s; SET LOCAL phi.clinic = 'a'", '42501', qr/permission denied/, 'nor by a savepoint');
refused($node, 'admin', "BEGIN; CREATE ROLE mine; GRANT mine TO admin; SELECT phi.grant_clinic('mine', 'a'); SET LOCAL phi.clinic = 'a'", '42501', qr/permission denied/, 'nor by a grant to a role of his');
refused($node, 'admin', "BEGIN; INSERT INTO phi.clinic_grant SELECT clinic_id, 'admin', 31 FROM phi.clinic; SET LOCAL phi.clinic = 'a'", '42501', qr/permission denied/, 'nor by a row of the table');
TODO:
{
	# The files of test/pgtap, which do everything in one transaction, rely on it.
	local $PhiTest::TODO = 'a superuser reads by a grant to another, whose session he takes on and which he rolls back';
	refused($node, 'admin', "BEGIN; SELECT phi.grant_clinic('stranger', 'a'); SET LOCAL SESSION AUTHORIZATION stranger; SET LOCAL phi.clinic = 'a'; SELECT name::text FROM patient WHERE id = 1; ROLLBACK", '42501', qr/permission denied/, 'nor by a grant to another whose session he takes on');
}
gives($node, undef, "SELECT count(*) FROM phi.grant_events WHERE grantee IN ('admin', 'stranger')", '0', 'which leave no record');
gives($node, 'admin', "BEGIN; SELECT phi.grant_clinic('admin', 'a'); COMMIT; SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1; SELECT action, clinic, grantee, actor, self FROM phi.grant_events WHERE grantee = 'admin'",
	"\nname 1\ngrant|a|admin|admin|t", 'after COMMIT it counts, and is on record');
refused($node, 'admin', "SET phi.clinic = 'a'; BEGIN; DELETE FROM phi.grant_event; SELECT phi.revoke_clinic('admin', 'a'); SELECT phi.current_clinic(); INSERT INTO patient VALUES (0, 'a', 'x')", '42501', qr/sealed/, 'his own revocation counts at once');

# Parallel workers authorise by themselves.
my $parallel = "SET force_parallel_mode = on; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off; SET enable_indexscan = off; SET enable_bitmapscan = off;";
my $sum = "SELECT count(name::text), count(amount::bigint) FROM patient WHERE clinic = 'a'";
my $reader = session($node, 'app_a');
$reader->query("SET phi.clinic = 'a'; $parallel");
is($reader->query($sum), '5000|5000', 'workers read');
like(scalar $reader->query("EXPLAIN (ANALYZE, COSTS OFF) $sum"), qr/Workers Launched: [1-9]/, 'and it is workers');
$node->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a', ARRAY['identity'])");
my ($rows, $told) = $reader->query($sum);
like($told, qr/ERROR:  42501: .*insurance/, 'classes narrowed: workers refuse');
is($reader->query("SELECT count(name::text) FROM patient WHERE clinic = 'a'"), '5000', 'and read the class that is left');
$node->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a')");
is($reader->query($sum), '5000|5000', 'widened again');

# Revoked while workers start: new processes begin two seconds late.
for my $case ([ 'revoked', "SELECT phi.revoke_clinic('app_a', 'a')", qr/ERROR:  42501: / ], [ 'narrowed', "SELECT phi.grant_clinic('app_a', 'a', ARRAY['identity'])", qr/ERROR:  42501: .*insurance/ ])
{
	my ($what, $sql, $pattern) = @$case;
	my $changer = session($node, undef);
	$changer->query('SELECT 1');
	$changer->query('ALTER SYSTEM SET post_auth_delay = 2');
	$changer->query('SELECT pg_reload_conf()');
	$changer->query('SELECT pg_sleep(0.5)');
	$reader->{out} = $reader->{err} = '';
	$reader->{in} .= "$sum;\n\\echo over\n\\warn over\n";
	$reader->{run}->pump_nb;
	$changer->query('SELECT pg_sleep(0.7)');
	$changer->query($sql);
	$reader->{run}->pump until $reader->{out} =~ /^over$/m && $reader->{err} =~ /^over$/m;
	like($reader->{err}, $pattern, "$what while workers start: they refuse");
	$changer->query('ALTER SYSTEM RESET post_auth_delay');
	$changer->query('SELECT pg_reload_conf()');
	$changer->query("SELECT phi.grant_clinic('app_a', 'a')");
	$changer->quit;
	is($reader->query($sum), '5000|5000', "$what, and given back");
}
$reader->quit;

# A function that sets the clinic, called where workers start and inside them.
$node->safe_psql('postgres', q{
	CREATE ROLE pool LOGIN;
	SELECT phi.grant_clinic('pool', 'a'), phi.grant_clinic('pool', 'b');
	SET check_function_bodies = off;
	CREATE FUNCTION count_of_b() RETURNS text LANGUAGE sql PARALLEL RESTRICTED SET phi.clinic = 'b' AS
		$$ SELECT count(name::text) || phi.current_clinic() FROM patient WHERE clinic = 'b' $$;
});
gives($node, 'pool', "SET phi.clinic = 'a'; $parallel SELECT count_of_b(), count(name::text), min(phi.current_clinic()) FROM patient WHERE clinic = 'a'", '10b|5000|a', 'a function of another clinic that starts workers of its own, amid workers');
gives($node, 'pool', "$parallel SELECT count_of_b()", '10b', 'and in a sealed session');
refused($node, 'app_a', "SET phi.clinic = 'a'; $parallel SELECT count_of_b(), count(*) FROM patient", '42501', qr/permission denied for clinic "b"/, 'to one who may not it is refused');

# Collations: the code is found whatever the database's.
$node->safe_psql('postgres', "CREATE DATABASE icu TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C.UTF-8'");
for my $database ('icu', 'postgres')
{
	my @codes = ('Zeta', 'alpha', 'Beta', 'tokyo-1', 'Tokyo3', "\xe6\x9d\xb1\xe4\xba\xac", 'zeta', 'ALPHA', '_x', '-y');
	my $list = join ', ', map { "'$_'" } @codes;
	$node->safe_psql($database, "CREATE EXTENSION IF NOT EXISTS pg_phi; SELECT phi.create_clinic(c, c), phi.grant_clinic('pool', c) FROM unnest(ARRAY[$list]) c");
	$node->safe_psql($database, 'CREATE TABLE IF NOT EXISTS of_code (code text, v enctext); GRANT ALL ON of_code TO pool; SELECT phi.isolate(\'of_code\', \'code\')');
	for my $code (@codes)
	{
		gives($node, 'pool', "SET phi.clinic = '$code'; INSERT INTO of_code VALUES ('$code', 'of $code'); SELECT phi.current_clinic(), string_agg(v::text, ',') FROM of_code", "$code|of $code", "clinic $code in database $database", database => $database);
	}
	gives($node, 'pool', "SET phi.clinic = 'Zeta'; SELECT code FROM (VALUES ('b'), ('B'), ('a')) v(code) ORDER BY phi.encrypt(code)", $database eq 'icu' ? "a\nb\nB" : "B\na\nb", "the order of values is the database's: $database", database => $database);
}
gives($node, undef, "SELECT datcollate, datlocprovider FROM pg_database WHERE datname = 'icu'", 'C.UTF-8|i', 'the one is ordered by ICU');

# COPY errors name the line, not the value; other errors point at the literal.
$node->safe_psql('postgres', 'CREATE TABLE typed (n int, b encbigint, d encdate, j encjsonb, m encnumeric, o encboolean, y encbytea, s enctimestamptz); GRANT ALL ON typed TO app_a');
for my $column ('b', 'd', 'j', 'm', 'o', 'y', 's')
{
	my $bad = $column eq 'y' ? '\\\\xSuzukiTaro' : 'SuzukiTaro';
	for my $table ([ "typed (n, $column)", "1\t$bad\n" ], [ "typed ($column)", "$bad\n" ])
	{
		my ($status, $out, $messages) = as($node, 'app_a', "SET phi.clinic = 'a';\nCOPY $table->[0] FROM STDIN;\n$table->[1]\\.\n");
		like($messages, qr/ERROR:  22\w{3}: /, "COPY of a bad value into $table->[0]");
		unlike($messages, qr/SuzukiTaro/, 'does not show it');
	}
}
my (undef, undef, $sealed) = as($node, 'stranger', "COPY patient (id, clinic, name) FROM STDIN;\n77777\tb\tSuzukiTaro\n\\.\n");
like($sealed, qr/ERROR:  42501: /, 'COPY in a sealed session is refused');
unlike($sealed, qr/SuzukiTaro/, 'and does not show the value');
unlike(slurp_raw($node->logfile), qr/CONTEXT:.*SuzukiTaro/, 'nor does the log');
(undef, undef, my $plain) = as($node, 'app_a', "SET phi.clinic = 'a';\nCOPY patient (id, clinic) FROM STDIN;\nnumber\ta\n\\.\n");
like($plain, qr/CONTEXT:  COPY patient, line 1, column id: "number"/, 'a bad value of a plain column keeps its context');
(undef, undef, $plain) = as($node, 'app_a', "SET phi.clinic = 'a';\nCOPY typed (b, n) FROM STDIN;\n1\tnumber\n\\.\n");
like($plain, qr/CONTEXT:  COPY typed, line 1, column n: "number"/, 'also after an encrypted one');
(undef, undef, $plain) = as($node, 'app_a', "SET phi.clinic = 'a'; SELECT 1 FROM typed WHERE d = 'SuzukiTaro'");
like($plain, qr/LINE 1: /, 'an error of a query points at its line');
(undef, undef, $plain) = as($node, 'app_a', "SELECT 1 FROM typed WHERE nosuch = 1");
like($plain, qr/LINE 1: .*nosuch/, 'so does one that is not ours');
(undef, undef, $plain) = as($node, 'app_a', "SET phi.clinic = 'a';\nCOPY typed (b) FROM STDIN;\n1\n\\.\n SELECT 1 FROM typed WHERE d = 'SuzukiTaro'");
like($plain, qr/LINE 1: /, 'also after a COPY');
(undef, undef, $plain) = as($node, 'app_a', "SET phi.clinic = 'a';\nCOPY typed (b) FROM STDIN;\nx\n\\.\n SELECT 1 FROM typed WHERE d = 'SuzukiTaro'", on_error_stop => 0);
like($plain, qr/ERROR:  22.*ERROR:  22.*LINE 1: /s, 'and after one that failed');

# CREATE TABLE AS from a prepared query whose results are cast for the client.
my $prepare = "SET phi.clinic = 'a'; SET client_min_messages = warning; PREPARE p AS SELECT id, name FROM patient WHERE id = 7; PREPARE q (int) AS SELECT name FROM patient WHERE id = \$1 ORDER BY name; PREPARE r AS INSERT INTO patient (id, clinic, name) VALUES (-7777, 'a', 'x') RETURNING name;";
for my $sql ('CREATE TABLE copied AS EXECUTE p', 'CREATE TEMP TABLE copied AS EXECUTE q (7)', 'CREATE TABLE copied AS EXECUTE p WITH NO DATA', 'CREATE TABLE IF NOT EXISTS copied AS EXECUTE p',
	'EXPLAIN ANALYZE CREATE TABLE copied AS EXECUTE p', 'EXPLAIN ANALYZE CREATE TEMP TABLE copied AS EXECUTE q (7)', 'PREPARE s AS SELECT 1; CREATE TABLE copied AS EXECUTE q (1)')
{
	refused($node, 'app_a', "$prepare $sql", '0A000', qr/prepared statement.*HINT/s, "refused: $sql");
}
$node->safe_psql('postgres', 'DROP TABLE IF EXISTS copied');
for my $sql ('CREATE TABLE copied AS EXECUTE p', 'EXPLAIN (ANALYZE, COSTS OFF) CREATE TABLE copied AS EXECUTE p', 'CREATE TABLE copied AS SELECT id, name FROM patient WHERE id = 7', 'SELECT id, name INTO copied FROM patient WHERE id = 7')
{
	my $off = $sql =~ /EXECUTE/ ? 'SET phi.result_as_base = off;' : '';
	gives($node, 'app_a', "$off $prepare $sql; SET phi.result_as_base = auto; SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'copied'::regclass AND attname = 'name'; SELECT name FROM copied; DROP TABLE copied", qr/(?:^|\n)enctext\(identity\)\nname 7\z/, "$off $sql: makes an encrypted column");
}

# A deferred trigger's queries are no client's.
$node->safe_psql('postgres', q{
	CREATE TABLE audit (id int, name enctext, note text);
	GRANT ALL ON audit TO PUBLIC;
	CREATE FUNCTION copy_note() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		v enctext; w patient.name%TYPE; r record;
	BEGIN
		SELECT note INTO v FROM patient WHERE id = new.id;
		INSERT INTO audit (id, name) VALUES (new.id, v);
		v := (SELECT note FROM patient WHERE id = new.id);
		INSERT INTO audit (id, name) VALUES (new.id, v);
		SELECT * INTO r FROM patient WHERE id = new.id;
		INSERT INTO audit (id, name) VALUES (new.id, r.note);
		FOR r IN SELECT note FROM patient WHERE id = new.id LOOP
			INSERT INTO audit (id, name) VALUES (new.id, r.note);
		END LOOP;
		EXECUTE 'SELECT note FROM patient WHERE id = $1' INTO v USING new.id;
		INSERT INTO audit (id, name) VALUES (new.id, v);
		EXECUTE format('INSERT INTO audit (id, name) SELECT id, note FROM patient WHERE id = %s', new.id);
		INSERT INTO audit (id, name) VALUES (new.id, new.note);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER copied AFTER INSERT ON patient DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION copy_note();
});
my $classes = "SELECT string_agg((phi.describe(name)).class, ',') FROM audit WHERE id = ";
gives($node, 'app_a', "SET phi.clinic = 'a'; BEGIN; INSERT INTO patient VALUES (6001, 'a', 'name', 'note'); COMMIT; $classes 6001", join(',', ('clinical') x 7), 'a deferred trigger, at COMMIT: copies keep their class');
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (6002, 'a', 'name', 'note'); $classes 6002", join(',', ('clinical') x 7), 'and after a statement alone');
gives($node, 'app_a', "SET phi.clinic = 'a'; BEGIN; INSERT INTO patient VALUES (6003, 'a', 'name', 'note'); SET CONSTRAINTS ALL IMMEDIATE; COMMIT; $classes 6003", join(',', ('clinical') x 7), 'and by SET CONSTRAINTS');
$node->safe_psql('postgres', 'DROP TRIGGER copied ON patient');

# Keys of work that is rolled back.
my $known = "EXISTS (SELECT FROM phi.data_key k WHERE k.state = 'active' AND k.key_id = (phi.describe(name)).key_id)";
my $next_id = 7000;
for my $case ([ 'a savepoint', "BEGIN; SAVEPOINT s; SELECT phi.rotate_key('a', 'identity') > 0; INSERT INTO patient VALUES (ID, 'a', 'lost'); ROLLBACK TO s; INSERT INTO patient VALUES (ID, 'a', 'kept'); COMMIT", "t\n" ],
	[ 'a transaction', "BEGIN; SELECT phi.rotate_key('a', 'identity') > 0; INSERT INTO patient VALUES (ID, 'a', 'lost'); ROLLBACK; INSERT INTO patient VALUES (ID, 'a', 'kept')", "t\n" ],
	[ 'an exception', q{DO $$ BEGIN BEGIN PERFORM phi.rotate_key('a', 'identity'); INSERT INTO patient VALUES (ID, 'a', 'lost'); RAISE 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; INSERT INTO patient VALUES (ID, 'a', 'kept'); END $$}, '' ],
	[ 'a row of the table', "BEGIN; UPDATE phi.data_key SET state = 'retired' WHERE class = 1; SELECT phi.rotate_key('a', 'identity') > 0; INSERT INTO patient VALUES (ID, 'a', 'lost'); ROLLBACK; INSERT INTO patient VALUES (ID, 'a', 'kept')", "t\n" ])
{
	my ($what, $sql, $before) = @$case;
	my $id = ++$next_id;
	$sql =~ s/ID/$id/g;
	gives($node, 'admin', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (-$id, 'a', 'before'); $sql; SELECT name, $known FROM patient WHERE id = $id", "${before}kept|t", "$what that is rolled back takes its keys along");
	gives($node, 'app_a', "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = $id", 'kept', 'and the value is read by others');
}

# A key that is only inserted tells nobody, so nobody but its maker knows it.
$node->safe_psql('postgres', "UPDATE phi.data_key SET state = 'retired' WHERE state = 'active' AND key_id IN (SELECT key_id FROM phi.keys WHERE (clinic, class) = ('a', 'identity'))");
for my $case ([ 'BEGIN; SAVEPOINT s', 'ROLLBACK TO s' ], [ 'BEGIN', 'ROLLBACK' ])
{
	my ($begin, $rollback) = @$case;
	refused($node, 'admin', "SET phi.clinic = 'a'; $begin; SELECT phi.rotate_key('a', 'identity'); INSERT INTO patient VALUES (7090, 'a', 'lost'); $rollback; INSERT INTO patient VALUES (7090, 'a', 'kept'); COMMIT", '55000', qr/no active key for data class "identity"/, "a clinic's only key, rolled back by $rollback, is not used");
}
gives($node, 'admin', "SET phi.clinic = 'a'; BEGIN; SAVEPOINT s; SELECT phi.rotate_key('a', 'identity') > 0; INSERT INTO patient VALUES (7091, 'a', 'lost'); ROLLBACK TO s; SELECT phi.rotate_key('a', 'identity') > 0; INSERT INTO patient VALUES (7091, 'a', 'kept'); COMMIT; SELECT name, $known FROM patient WHERE id = 7091", "t\nt\nkept|t", 'the next one is');

# Index lookups without indexes; triggers of a replica.
$node->safe_psql('postgres', "SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('a', 'general')");
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (7100, 'a', 'no index'); SELECT name, name = 'no index' FROM patient WHERE id = 7100", 'no index|t', 'with ignore_system_indexes', options => '-c ignore_system_indexes=on');
gives($node, undef, "SELECT $known FROM patient WHERE id = 7100", 't', 'the active key is used');
refused($node, 'app_b', "SET phi.clinic = 'a'", '42501', qr/permission denied/, 'with ignore_system_indexes grants hold', options => '-c ignore_system_indexes=on');
refused($node, 'stranger', "SET phi.clinic = 'a'", '42501', qr/permission denied/, 'for strangers', options => '-c ignore_system_indexes=on');
refused($node, 'app_a', "SET phi.clinic = 'nosuch'", '42704', qr/does not exist/, 'an unknown clinic is unknown', options => '-c ignore_system_indexes=on');
$reader = session($node, 'app_a');
$reader->query("SET phi.clinic = 'a'");
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'a reader');
$node->safe_psql('postgres', "SET session_replication_role = replica; SELECT phi.revoke_clinic('app_a', 'a')");
is($reader->query('SELECT phi.current_clinic() IS NULL'), 't', 'a revocation by a replica\'s session is noticed');
$node->safe_psql('postgres', "SET session_replication_role = replica; SELECT phi.grant_clinic('app_a', 'a')");
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'given back, the session opens again');
$node->safe_psql('postgres', "SET session_replication_role = replica; CREATE TABLE saved AS SELECT * FROM phi.data_key; UPDATE phi.data_key SET state = 'destroyed', wrapped = NULL WHERE state <> 'active' OR class = 1");
(undef, $told) = $reader->query('SELECT name FROM patient WHERE id = 1');
like($told, qr/ERROR:  55000: key \d+ is destroyed/, 'so is a key that such a session edits');
$node->safe_psql('postgres', "SET session_replication_role = replica; UPDATE phi.data_key k SET state = s.state, wrapped = s.wrapped FROM saved s WHERE s.key_id = k.key_id");
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'and one that it puts back');
$node->safe_psql('postgres', "SET session_replication_role = replica; UPDATE phi.clinic SET code = 'renamed' WHERE code = 'a'");
is($reader->query('SELECT phi.current_clinic() IS NULL'), 't', 'a clinic that it renames');
$node->safe_psql('postgres', "SET session_replication_role = replica; UPDATE phi.clinic SET code = 'a' WHERE code = 'renamed'");
$node->safe_psql('postgres', "SET session_replication_role = replica; CREATE TABLE grants AS SELECT * FROM phi.clinic_grant; TRUNCATE phi.clinic_grant");
is($reader->query('SELECT phi.current_clinic() IS NULL'), 't', 'grants that it truncates');
$node->safe_psql('postgres', "INSERT INTO phi.clinic_grant SELECT * FROM grants; DROP TABLE grants, saved");
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'grants given back');

# A revocation that is rolled back, by another and within.
my $revoker = session($node, undef);
$revoker->query("BEGIN; SELECT phi.revoke_clinic('app_a', 'a')");
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'a revocation that is not committed takes nothing');
$revoker->query('ROLLBACK');
is($reader->query('SELECT name FROM patient WHERE id = 1'), 'name 1', 'nor one that is rolled back');
gives($node, 'admin', "SET phi.clinic = 'a'; BEGIN; SAVEPOINT s; SELECT phi.revoke_clinic('admin', 'a'); SELECT phi.current_clinic() IS NULL; ROLLBACK TO s; SELECT name FROM patient WHERE id = 1; ROLLBACK; SELECT name FROM patient WHERE id = 1", "\nt\nname 1\nname 1", 'a rollback of the session\'s own revocation opens it again');
gives($node, 'admin', "SET phi.clinic = 'a'; BEGIN; SELECT phi.revoke_clinic('admin', 'a'); SELECT phi.current_clinic() IS NULL; ROLLBACK; SELECT name FROM patient WHERE id = 1", "\nt\nname 1", 'also at the end of the transaction');

# A cursor over a revocation: as a statement, in a transaction, held, in the protocol.
for my $case ([ 'a cursor', 'DECLARE c CURSOR FOR SELECT name FROM patient WHERE id BETWEEN 1 AND 3000 ORDER BY id' ], [ 'a cursor of casts', 'DECLARE c CURSOR FOR SELECT name::text FROM patient WHERE id BETWEEN 1 AND 3000' ],
	[ 'a scrolling cursor', 'DECLARE c SCROLL CURSOR FOR SELECT name::text FROM patient WHERE id BETWEEN 1 AND 3000' ], [ 'a binary cursor', 'DECLARE c BINARY CURSOR FOR SELECT name FROM patient WHERE id BETWEEN 1 AND 3000' ])
{
	my ($what, $declare) = @$case;
	$reader->query("BEGIN; $declare");
	like(scalar $reader->query('FETCH 5 FROM c'), qr/name 5\z/, "$what is read");
	$node->safe_psql('postgres', "SELECT phi.revoke_clinic('app_a', 'a')");
	($rows, $told) = $reader->query('FETCH 5 FROM c');
	like($told, qr/ERROR:  42501: /, "$what stops at the next FETCH after a revocation");
	unlike($rows, qr/name \d/, 'and gives nothing');
	$reader->query('ROLLBACK');
	(undef, $told) = $reader->query('SELECT name::text FROM patient WHERE id = 1');
	like($told, qr/ERROR:  42501: /, 'nor does the session');
	$node->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a')");
	is($reader->query('SELECT phi.current_clinic(), name FROM patient WHERE id = 1'), 'a|name 1', 'a grant given back opens the session again');
}
$reader->quit;
$revoker->quit;

# Binary input of what begins like an envelope.
my $copies = $node->basedir . '/copies';
mkdir $copies;
for my $text ('phi1:zz', 'phi1:', 'phi1:AAAA', 'phi1:AQEBAAAA')
{
	$node->safe_psql('postgres', "COPY (SELECT 8000, 'a'::text, '$text'::text) TO '$copies/short' (FORMAT binary)");
	for my $role ([ 'app_a', "SET phi.clinic = 'a';" ], [ 'app_a', '' ])
	{
		my ($status, $out, $messages) = as($node, $role->[0], "$role->[1]\\copy patient (id, clinic, name) FROM '$copies/short' (FORMAT binary)" =~ s/;\\/;\n\\/r);
		like($messages, qr/ERROR:  (?:22000|42501): /, "binary input of $text, $role->[1]: refused");
	}
}
$node->safe_psql('postgres', "COPY (SELECT 8001, 'a'::text, 'phi2'::text, 8101131::int8) TO '$copies/fine' (FORMAT binary)");
gives($node, 'app_a', "SET phi.clinic = 'a';\n\\copy patient (id, clinic, name, amount) FROM '$copies/fine' (FORMAT binary)\nSELECT name, amount FROM patient WHERE id = 8001", 'phi2|8101131', 'binary input of plain values');

# Physical replication has no database, and so no clinic.
for my $clinic ('a', 'nosuch')
{
	my ($out, $err) = ('', '');
	ok(IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " replication=true options='-c phi.clinic=$clinic'", '-c', 'IDENTIFY_SYSTEM' ], '>', \$out, '2>', \$err) && $out =~ /^\d+\|/,
		"a physical replication connection with -c phi.clinic=$clinic") or diag($err);
}
{
	local $ENV{PGOPTIONS} = '-c phi.clinic=a';
	$node->command_ok([ 'pg_basebackup', '-D', "$copies/backup", '-X', 'stream', '-c', 'fast', '-h', $node->host, '-p', $node->port, '--no-sync' ], 'pg_basebackup with PGOPTIONS');
}

# Memory of sorts and index builds: nothing may be left behind by a comparison.
$node->safe_psql('postgres', q{
	CREATE TABLE sorted (v enctext, w encnumeric, x encjsonb);
	CREATE TABLE wide (v enctext);
	GRANT ALL ON sorted, wide TO app_a;
	ALTER TABLE wide OWNER TO app_a; ALTER TABLE sorted OWNER TO app_a;
});
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO sorted SELECT md5(n::text), n * 1.5, jsonb_build_object('n', n) FROM generate_series(1, 100000) n}, '', 'values to sort');
$node->safe_psql('postgres', 'ALTER TABLE wide ALTER v SET STORAGE EXTERNAL');
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO wide SELECT (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 160) i) FROM generate_series(1, 20000) n}, '', 'wide values');
gives($node, undef, "SELECT pg_relation_size(reltoastrelid) > 100000000 FROM pg_class WHERE relname = 'wide'", 't', 'which are toasted');
my %growth;
for my $case (
	[ 'ORDER BY text', 'SELECT count(*) FROM (SELECT v FROM sorted ORDER BY v OFFSET 1) s', '99999' ],
	[ 'ORDER BY numeric', 'SELECT count(*) FROM (SELECT w FROM sorted ORDER BY w OFFSET 1) s', '99999' ],
	[ 'ORDER BY jsonb', 'SELECT count(*) FROM (SELECT x FROM sorted ORDER BY x OFFSET 1) s', '99999' ],
	[ 'GROUP BY', 'SELECT count(*) FROM (SELECT v FROM sorted GROUP BY v) s', '100000' ],
	[ 'a search without an index', "SELECT count(*) FROM sorted WHERE v = 'x'::text OR w = 7.5::numeric", '1' ],
	[ 'ORDER BY sealed', "SET phi.clinic = ''; SET phi.result_as_base = off; SELECT count(*) FROM (SELECT w FROM sorted ORDER BY w OFFSET 1) s", '99999' ],
	[ 'a hash index of wide values', 'CREATE INDEX ON wide USING hash (v)', '' ],
	[ 'a hash index of numerics', 'CREATE INDEX ON sorted USING hash (w)', '' ],
	[ 'a hash index of jsonb', 'CREATE INDEX ON sorted USING hash (x)', '' ],
	[ 'insertion into a hash index', "INSERT INTO sorted (w) SELECT n FROM generate_series(1, 50000) n", '' ],
	[ 'ANALYZE of wide values', 'ANALYZE wide', '' ])
{
	my ($what, $sql, $expected) = @$case;
	my $session = session($node, 'app_a');
	my $pid = $session->pid;
	$session->query("SET phi.clinic = 'a'; SET max_parallel_workers_per_gather = 0; SET max_parallel_maintenance_workers = 0; SET jit = off; SELECT name FROM patient WHERE name = 'name 1'");
	my $before = memory_of($pid, 'VmHWM');
	my ($out, $messages) = $session->query($sql);
	my $kilobytes = memory_of($pid, 'VmHWM') - $before;
	is("$out$messages", $expected, $what);
	cmp_ok($kilobytes, '<', 80 * 1024, sprintf '%s: its peak grows by less than 80 MB', $what);
	diag(sprintf '%s: peak grew by %d MB', $what, $kilobytes / 1024);
	$session->quit;
}

# Key files, last: what is in the directory. No new master key beside a lost one.
my $keys = key_directory($node);
append_to_file("$keys/zzz.kek", 'x');
append_to_file("$keys/README.kek", 'x');
append_to_file("$keys/99999999T999999Z-0123456789abcdef.kek.tmp", 'x');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0, phi.create_clinic('stray', 'Stray') > 0", 't|t', 'stray files are no keys');
gives($node, undef, 'SELECT count(DISTINCT master_key) FROM phi.keys', '1', 'and there is still one master key');
unlink "$keys/zzz.kek", "$keys/README.kek", "$keys/99999999T999999Z-0123456789abcdef.kek.tmp";
my $file = key_file($node);
my $kept = slurp_raw($file);
unlink $file;
for my $restart (0, 1)
{
	$node->restart if $restart;
	my $when = $restart ? 'after a restart' : 'while the server runs';
	refused($node, 'custodian', "SELECT phi.rotate_key('a', 'identity')", '58P01', qr/HINT/, "an emptied key directory, $when: no rotation");
	refused($node, 'custodian', "SELECT phi.create_clinic('lost$restart', 'Lost')", '58P01', qr/HINT/, "nor a clinic, $when");
	is(join(' ', glob("$keys/* $keys/.new*")), '', "and no file, $when");
}
append_to_file($file, $kept);
chmod 0600, $file;
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'brought back, all is well');
gives($node, 'app_a', "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1", 'name 1', 'and read');

done_testing();
