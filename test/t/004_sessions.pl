# How a clinic is opened, carried about and closed, in every kind of session.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('sessions', conf => "log_statement = none\nmax_prepared_transactions = 2\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE pool LOGIN;
	SELECT phi.grant_clinic('pool', 'a'), phi.grant_clinic('pool', 'b');
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL, name enctext(identity), amount encbigint(insurance));
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO PUBLIC;
	SELECT phi.isolate('patient', 'clinic');
});
for my $clinic ('a', 'b')
{
	my $shift = $clinic eq 'a' ? 0 : 10000;
	gives($node, "app_$clinic", qq{
		SET phi.clinic = '$clinic';
		INSERT INTO patient SELECT $shift + n, '$clinic', '$clinic-' || n, n FROM generate_series(1, 5000) n;
		SELECT count(*) FROM patient}, '5000', "patients of clinic $clinic");
}
my $one = 'SELECT name FROM patient WHERE name = \'a-17\'';

# At login. A custodian is refused whatever he was granted.
$node->safe_psql('postgres', "SELECT phi.grant_clinic('custodian', 'a')");
gives($node, 'app_a', "$one; SELECT opened_by FROM phi.session()", "a-17\nconnection", 'a connection option opens the clinic', options => '-c phi.clinic=a');
for my $case ([ 'app_a', 'b', 'permission denied for clinic "b"' ], [ 'app_a', 'x', 'clinic "x" does not exist' ],
	[ 'stranger', 'a', 'permission denied for clinic "a"' ], [ 'custodian', 'a', 'permission denied for clinic "a"' ])
{
	my ($role, $clinic, $message) = @$case;
	$node->connect_fails($node->connstr('postgres') . " user=$role options='-c phi.clinic=$clinic'",
		"FATAL: $role may not log in with clinic $clinic", expected_stderr => qr/FATAL:  \Q$message\E/);
}
$node->safe_psql('postgres', q{
	ALTER ROLE app_a SET phi.clinic = 'a';
	ALTER ROLE stranger SET phi.clinic = 'a';
	ALTER ROLE custodian SET phi.clinic = 'a';
});
gives($node, 'app_a', "$one; SELECT opened_by FROM phi.session()", "a-17\nrole setting", 'a role setting opens the clinic');
warned($node, 'stranger', 'SELECT phi.current_clinic() IS NULL, count(*) FROM patient', 't|0',
	qr/WARNING:  permission denied for clinic "a"/, 'without a grant it warns, and the session is sealed');
warned($node, 'custodian', 'SELECT phi.current_clinic() IS NULL', 't',
	qr/WARNING:  permission denied for clinic "a"/, 'a custodian is sealed, too');
gives($node, 'app_a', "SET phi.clinic = ''; SELECT phi.current_clinic() IS NULL; DISCARD ALL; SELECT phi.current_clinic()", "t\na", 'DISCARD ALL goes back to what the login gave');
$node->safe_psql('postgres', 'ALTER ROLE app_a RESET ALL; ALTER ROLE stranger RESET ALL; ALTER ROLE custodian RESET ALL');
$node->safe_psql('postgres', "ALTER DATABASE postgres SET phi.clinic = 'a'");
gives($node, 'app_a', $one, 'a-17', 'a database setting opens it to those who hold a grant');
warned($node, 'app_b', 'SELECT phi.current_clinic() IS NULL', 't', qr/WARNING:  permission denied/, 'and to nobody else');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET phi.clinic');
refused($node, 'custodian', "SET phi.clinic = 'a'", '42501', qr/custodians and auditors may not/, 'a custodian may not SET it either');
refused($node, undef, "SET phi.clinic = 'a'", '42501', qr/Being superuser is no grant/, 'being superuser is no grant');
refused($node, undef, "SET ROLE app_a; SET phi.clinic = 'a'", '42501', qr/superuser/, 'nor is SET ROLE');

# Two databases, the extension in one of them.
$node->safe_psql('postgres', 'CREATE DATABASE bare');
gives($node, 'app_a', 'SELECT 1', '1', 'a database without the extension works', database => 'bare');
refused($node, 'app_a', "SET phi.clinic = 'a'", '55000', qr/not installed in this database/, 'but has no clinics', database => 'bare');
$node->connect_fails($node->connstr('bare') . " user=app_a options='-c phi.clinic=a'", 'nor at login', expected_stderr => qr/FATAL:  extension "pg_phi" is not installed/);

# Pooling by transaction.
gives($node, 'pool', q{
	BEGIN; SET LOCAL phi.clinic = 'a'; SELECT count(*) FROM patient; COMMIT;
	SELECT phi.current_clinic() IS NULL, count(*) FROM patient;
	BEGIN; SET LOCAL phi.clinic = 'b'; SELECT count(*), max(amount) FROM patient WHERE name LIKE 'b-%'; ROLLBACK;
	SELECT phi.current_clinic() IS NULL, count(*) FROM patient;
	BEGIN; SET LOCAL phi.clinic = 'a'; SAVEPOINT s; SET LOCAL phi.clinic = 'b'; ROLLBACK TO s; SELECT phi.current_clinic(); COMMIT;
	SET phi.clinic = 'a'; DISCARD ALL; SELECT phi.current_clinic() IS NULL;
}, "5000\nt|0\n5000|5000\nt|0\na\nt", 'SET LOCAL ends with its transaction, SET with DISCARD ALL');
refused($node, 'pool', q{
	BEGIN; SET LOCAL phi.clinic = 'a'; COMMIT;
	INSERT INTO patient VALUES (-1, 'a', 'x', 1)}, '42501', qr/sealed/, 'the next transaction of a pooled connection is sealed');

# Prepared statements hold literals of the clinic that was open.
gives($node, 'pool', q{
	SET phi.clinic = 'a';
	PREPARE one AS SELECT id FROM patient WHERE name IN ('a-17', 'b-17');
	EXECUTE one;
	SET phi.clinic = 'b';
	EXECUTE one;
	SET phi.clinic = 'a';
	EXECUTE one;
}, "17\n10017\n17", 'a prepared statement follows the clinic');
my $script = $node->basedir . '/pgbench.sql';
append_to_file($script, q{
\set n random(1, 5000)
BEGIN;
SET LOCAL phi.clinic = 'a';
SELECT 1 / count(*)::int FROM patient WHERE name = 'a-' || :n;
SELECT 1 / (count(*) = 1)::int FROM patient WHERE name = 'a-17';
COMMIT;
BEGIN;
SET LOCAL phi.clinic = 'b';
SELECT 1 / (sum(amount::bigint) = :n)::int FROM patient WHERE id = 10000 + :n;
SELECT 1 / (count(*) = 0)::int FROM patient WHERE name = 'a-17';
UPDATE patient SET amount = amount + 0 WHERE id = 10000 + :n;
COMMIT;
SELECT 1 / (count(*) = 0)::int FROM patient;
});
$node->safe_psql('postgres', 'CREATE INDEX patient_name ON patient USING hash (name); ANALYZE patient');
for my $mode ('simple', 'extended', 'prepared')
{
	$node->command_ok([ 'pgbench', '-n', '-M', $mode, '-c', '4', '-j', '2', '-t', '50', '-f', $script, '-U', 'pool', '-h', $node->host, '-p', $node->port, 'postgres' ],
		"pooled transactions of two clinics, protocol: $mode");
}

# Parallel query.
my $facts = 'SELECT sum(amount::bigint), count(*) FILTER (WHERE name LIKE \'%7\'), count(DISTINCT name), max(name) FROM patient';
my $parallel = "SET force_parallel_mode = on; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 3;";
for my $clinic ('a', 'b')
{
	my ($status, $serial) = as($node, 'pool', "SET phi.clinic = '$clinic'; SET max_parallel_workers_per_gather = 0; $facts");
	like($serial, qr/^12502500\|500\|5000\|$clinic-999$/, "clinic $clinic, serial");
	gives($node, 'pool', "SET phi.clinic = '$clinic'; $parallel $facts", $serial, "clinic $clinic, parallel: the same");
	gives($node, 'pool', "SET phi.clinic = '$clinic'; $parallel EXPLAIN (ANALYZE, COSTS OFF) SELECT sum(amount::bigint) FROM patient", qr/Workers Launched: [1-9]/, "clinic $clinic: workers do it");
	gives($node, 'pool', "BEGIN; SET LOCAL phi.clinic = '$clinic'; $parallel $facts; COMMIT", $serial, "clinic $clinic, parallel with SET LOCAL: the same");
	gives($node, 'pool', "$parallel PREPARE p AS $facts; SET phi.clinic = '$clinic'; EXECUTE p; EXECUTE p", "$serial\n$serial", "clinic $clinic, parallel and prepared: the same");
}
my (undef, $alone) = as($node, 'pool', "SET phi.clinic = 'a'; SET max_parallel_workers_per_gather = 0; $facts");
gives($node, undef, "SET SESSION AUTHORIZATION pool; SET phi.clinic = 'a'; $parallel $facts", $alone, 'parallel after SET SESSION AUTHORIZATION: the same');
gives($node, undef, "SET SESSION AUTHORIZATION pool; SET phi.clinic = 'a'; RESET SESSION AUTHORIZATION; SELECT phi.current_clinic() IS NULL", 't', 'a clinic does not go over to another session user');
$node->safe_psql('postgres', 'CREATE TABLE open_rows AS SELECT * FROM patient; GRANT SELECT ON open_rows TO PUBLIC');
refused($node, 'pool', "$parallel SELECT sum(amount::bigint) FROM open_rows", '42501', qr/sealed session/, 'parallel and sealed: refused');
refused($node, undef, "$parallel SELECT sum(amount::bigint) FROM open_rows", '42501', qr/sealed session/, 'parallel and sealed, superuser: refused');
refused($node, 'pool', "SET phi.clinic = 'a'; $parallel SELECT sum(amount::bigint) FROM open_rows", '42501', qr/another clinic/, 'parallel: values of another clinic are refused');
refused($node, 'nurse_a', "SET phi.clinic = 'a'; $parallel SELECT sum(amount::bigint) FROM open_rows WHERE clinic = 'a'", '42501', qr/insurance/, 'parallel: a class that is not held is refused');
gives($node, 'nurse_a', "SET phi.clinic = 'a'; SET phi.hidden_value = 'null'; $parallel SELECT count(amount::bigint), count(name::text) FROM open_rows WHERE clinic = 'a'", '0|5000', 'parallel: phi.hidden_value reaches the workers');

# A function that opens another clinic while workers start must not take them
# along: they serve the clinic of their query. The leader reads the first row,
# and is in the function until the workers have started.
$node->safe_psql('postgres', q{
	SET check_function_bodies = off;
	CREATE FUNCTION in_b(int) RETURNS text LANGUAGE plpgsql PARALLEL RESTRICTED SET phi.clinic = 'b'
		AS $$ BEGIN IF $1 = 1 THEN PERFORM pg_sleep(2); END IF; RETURN phi.current_clinic(); END $$;
	CREATE TABLE of_a AS SELECT * FROM open_rows WHERE clinic = 'a' ORDER BY id;
	GRANT SELECT ON of_a TO PUBLIC;
});
my $leader = session($node, 'pool');
$leader->query("SET phi.clinic = 'a'; $parallel");
# New processes, which workers are, begin a second late.
$node->safe_psql('postgres', 'ALTER SYSTEM SET post_auth_delay = 1');
$node->reload;
is(join(' ', $leader->query("SELECT min(in_b(id)), count(*), min(phi.current_clinic()) FROM of_a WHERE name::text LIKE 'a-%'")), 'b|5000|a ',
	'a function in another clinic while parallel workers start');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET post_auth_delay');
$node->reload;
$leader->quit;

# Grants and keys changed by others.
my $reader = session($node, 'app_a');
$reader->query("SET phi.clinic = 'a'");
is($reader->query($one), 'a-17', 'a reader');
$node->safe_psql('postgres', "SELECT phi.revoke_clinic('app_a', 'a')");
my ($rows, $told) = $reader->query('SELECT phi.current_clinic() IS NULL, count(*) FROM patient');
is($rows, 't|0', 'is sealed at the statement after its grant was revoked');
(undef, $told) = $reader->query($one);
like($told, qr/ERROR:  42501: /, 'searching is refused');
(undef, $told) = $reader->query("INSERT INTO patient VALUES (-2, 'a', 'x', 1)");
like($told, qr/ERROR:  42501: /, 'so is writing');
(undef, $told) = $reader->query("SET phi.clinic = 'a'");
like($told, qr/ERROR:  42501: /, 'and opening it again');
$node->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a', ARRAY['identity'])");
$reader->query("SET phi.clinic = 'a'");
is($reader->query($one), 'a-17', 'a new grant opens it');
(undef, $told) = $reader->query('SELECT amount FROM patient WHERE id = 1');
like($told, qr/ERROR:  42501: .*insurance/, 'with the classes granted');
$node->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a')");
is($reader->query('SELECT amount FROM patient WHERE id = 1'), '1', 'a class granted later is there at the next statement');

my $key_of = q{SELECT (phi.describe(name)).key_id FROM patient WHERE id = };
$reader->query("INSERT INTO patient VALUES (-3, 'a', 'before', 1)");
my $before = $reader->query("$key_of -3");
my $new = $node->safe_psql('postgres', "SELECT phi.rotate_key('a', 'identity')", extra_params => [ '-U', 'custodian' ]);
cmp_ok($new, '>', $before, 'a rotation by another session');
$reader->query("INSERT INTO patient VALUES (-4, 'a', 'after', 1)");
is($reader->query("$key_of -4"), $new, 'the next insert has the new key');
is($reader->query("SELECT string_agg(name, ',' ORDER BY id DESC) FROM patient WHERE id IN (-3, -4)"), 'before,after', 'both are read');
$reader->query("UPDATE patient SET name = name || '!' WHERE id = -3");
is($reader->query("$key_of -3"), $new, 'an update has it too');
$reader->quit;

# Two-phase commit: the row waits under the key that was active.
gives($node, 'app_a', "SET phi.clinic = 'a'; BEGIN; INSERT INTO patient VALUES (-5, 'a', 'prepared', 1); PREPARE TRANSACTION 'waits'", '', 'a prepared transaction');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'a rotation meanwhile');
gives($node, 'app_a', "COMMIT PREPARED 'waits'; SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = -5", 'prepared', 'the row is committed and read');

# Membership gives a grant, and takes it.
$node->safe_psql('postgres', 'CREATE ROLE member LOGIN IN ROLE app_a');
my $member = session($node, 'member');
$member->query("SET phi.clinic = 'a'");
is($member->query($one), 'a-17', 'a member of a role with a grant');
$node->safe_psql('postgres', 'REVOKE app_a FROM member');
is($member->query('SELECT phi.current_clinic() IS NULL'), 't', 'is sealed when membership ends');
$node->safe_psql('postgres', 'GRANT app_a, phi_auditor TO member');
is($member->query('SELECT phi.current_clinic() IS NULL'), 't', 'and stays so as an auditor');
$member->quit;

done_testing();
