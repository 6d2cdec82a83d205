# Records of the audit log beyond rows, where it takes several sessions, commits,
# a replica or a restore.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('events', allows_streaming => 1, conf => "max_prepared_transactions = 2\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE chief SUPERUSER LOGIN;
	CREATE ROLE ward;
	CREATE ROLE alice LOGIN IN ROLE ward;
	CREATE ROLE bob LOGIN IN ROLE ward;
	ALTER ROLE bob SET role = 'ward';
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity), note text);
	CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
	BEGIN
		ALTER TABLE patient ADD a int;
		COMMIT;
		ALTER TABLE patient ADD b int;
		ROLLBACK;
		ALTER TABLE patient ADD c int;
	END $$;
	CREATE FUNCTION pick(name) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		RETURN set_config('role', $1::text, false);
	END $$;
});

my $seen = '{}';

# The records that were made since the last call, in short, but for the worker's.
sub records
{
	my $rows = $node->safe_psql('postgres', qq{
		SELECT concat_ws(' | ', login, session_role, acting_role, operation, relation, nullif(detail, '')) FROM phi.audit_log
		WHERE record_id <> ALL ('$seen') AND application_name IS DISTINCT FROM 'pg_phi audit worker' ORDER BY xact, record_id});
	# Not the greatest: ids are handed out before they are committed.
	$seen = $node->safe_psql('postgres', 'SELECT array_agg(record_id) FROM phi.audit_log');
	return $rows;
}

# What a role runs is recorded as told: without "login | session user |" when they are the role.
sub recorded
{
	my ($role, $sql, $expected, $name, %options) = @_;
	my ($status, $out, $messages) = as($node, $role, $sql, %options);
	is(records(), join("\n", map { /\|.*\|.*\|/ && /^\S+ \| \S+ \| \S+ \| [A-Z]/ ? $_ : "$role | $role | $role | $_" } @$expected), $name)
	  or diag("status $status: $messages");
	return;
}

records();

# Roles: whatever makes one another.
recorded('alice', 'SELECT 1', [], 'a login is no event, nor a query');
recorded('alice', 'SET ROLE ward; SELECT 1; RESET ROLE', [ 'alice | alice | ward | SET ROLE | from alice to ward', 'SET ROLE | from ward to alice' ], 'SET ROLE');
recorded('alice', q{SELECT set_config('role', 'ward', false)}, [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'set_config()');
recorded('alice', q{SELECT pick('ward')}, [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'set_config() while a query is planned');
recorded('alice', q{DO $$ DECLARE x text; BEGIN x := set_config('role', 'ward', false); END $$}, [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'set_config() without a query');
recorded('alice', 'SELECT 1', [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'a connection option', options => '-c role=ward');
recorded('bob', 'SELECT 1; SELECT 2', [ 'bob | bob | ward | SET ROLE | from bob to ward' ], 'ALTER ROLE ... SET role');
recorded('chief', 'SET SESSION AUTHORIZATION bob; SET ROLE ward; RESET SESSION AUTHORIZATION',
	[ 'chief | bob | bob | SET SESSION AUTHORIZATION | from chief to bob', 'chief | bob | ward | SET ROLE | from bob to ward', 'SET SESSION AUTHORIZATION | from bob to chief' ],
	'SET SESSION AUTHORIZATION: login, session user and role');
recorded('alice', 'BEGIN; SET LOCAL ROLE ward; COMMIT; SELECT 1; SELECT 2', [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'SET LOCAL ROLE, whose end is no event');
recorded('alice', 'BEGIN; SET LOCAL ROLE ward; COMMIT; SET ROLE ward; SELECT 2', [ ('alice | alice | ward | SET ROLE | from alice to ward') x 2 ], 'nor what hides the next');
recorded('alice', q{CREATE PROCEDURE pg_temp.hide() LANGUAGE plpgsql AS $$ DECLARE x text; BEGIN SET LOCAL ROLE ward; COMMIT; x := set_config('role', 'ward', false); END $$; CALL pg_temp.hide()},
	[ ('alice | alice | ward | SET ROLE | from alice to ward') x 2 ], 'not even without a command between them');
recorded('alice', 'BEGIN; SET ROLE ward; ROLLBACK; SELECT 1', [], 'a rollback takes role and record back');
recorded('alice', 'BEGIN; SET ROLE ward; ROLLBACK; SET ROLE ward', [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'and does not hide the next');
recorded('alice', 'BEGIN; SAVEPOINT s; SET ROLE ward; ROLLBACK TO s; SELECT 1; SET ROLE ward; RELEASE s; COMMIT; SELECT 1', [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'nor does a savepoint');
recorded('alice', 'BEGIN READ ONLY; SET ROLE ward; SELECT 1; COMMIT', [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'in a transaction that is read only');
gives($node, 'alice', 'BEGIN READ ONLY; SET ROLE ward; SHOW transaction_read_only', 'on', 'which stays so');
records();
recorded('alice', q{BEGIN; SET ROLE ward; PREPARE TRANSACTION 'p'; SELECT 1}, [], 'a prepared transaction is not yet done');
recorded('chief', q{COMMIT PREPARED 'p'}, [ 'alice | alice | ward | SET ROLE | from alice to ward' ], 'then it is');
gives($node, 'alice', 'BEGIN; SELECT 1; SELECT pg_current_xact_id_if_assigned() IS NULL', "1\nt", 'no transaction id for statements without an event');

# Settings.
recorded('chief', 'SELECT 1', [ 'SETTING | session_replication_role: replica at login' ], 'a setting by connection option', options => '-c session_replication_role=replica');
recorded('chief', 'SET phi.rotation_interval = 60; RESET phi.rotation_interval', [ 'SETTING | phi.rotation_interval: 525600 -> 60', 'SETTING | phi.rotation_interval: 60 -> 525600' ], 'SET and RESET');
recorded('chief', q{ALTER SYSTEM SET phi.approval_timeout = 60; ALTER SYSTEM SET phi.key_command = 'cat /hidden/%k'; ALTER SYSTEM RESET phi.key_command; ALTER SYSTEM SET phi.suite = 'nonsense'},
	[ 'ALTER SYSTEM | set phi.approval_timeout from "3600" to "60"', 'ALTER SYSTEM | set phi.key_command', 'ALTER SYSTEM | reset phi.key_command' ], 'ALTER SYSTEM, without commands for keys, nor what fails');
recorded('chief', q{ALTER SYSTEM SET phi.rotation_interval = 120; SELECT pg_reload_conf(); SELECT pg_sleep(0.3); SELECT 1}, [ 'ALTER SYSTEM | set phi.rotation_interval from "525600" to "120"' ], 'a reload is no event of sessions');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()');
records();

# Commands that commit on their way, or fail.
recorded('chief', 'CALL work()', [ 'ALTER TABLE | public.patient | add column a', 'ALTER TABLE | public.patient | add column c' ], 'a procedure that commits and rolls back');
recorded('chief', 'CREATE INDEX CONCURRENTLY found ON patient (id)', [ 'CREATE INDEX | public.patient | index found' ], 'CREATE INDEX CONCURRENTLY');
recorded('chief', 'REINDEX INDEX CONCURRENTLY found', [], 'REINDEX CONCURRENTLY defines nothing');
recorded('chief', 'VACUUM FULL patient', [], 'nor does VACUUM');
recorded('chief', 'DROP INDEX CONCURRENTLY found', [ 'DROP INDEX | public.patient | drop found' ], 'DROP INDEX CONCURRENTLY');
recorded('chief', 'BEGIN; ALTER TABLE patient ADD z int; ROLLBACK; ALTER TABLE patient ADD a int', [], 'rolled back, failed: no record');
recorded('chief', 'BEGIN; SAVEPOINT s; DROP TABLE patient; ROLLBACK TO s; ALTER TABLE patient DROP a; COMMIT', [ 'ALTER TABLE | public.patient | drop column a' ], 'nor of what a savepoint takes back');
recorded('chief', "COPY phi.clinic (code, name) FROM PROGRAM 'printf \"x\\\\tX\\\\ny\\\\tY\\\\n\"'", [ 'COPY | phi.clinic | 2 rows' ], 'COPY into a table of ours is one record');
recorded('chief', q{CREATE TEMP TABLE t (n enctext); DROP TABLE t; CREATE TEMP TABLE u (n enctext) ON COMMIT DROP}, [], 'temporary tables');
recorded('chief', 'SELECT phi.protect_plan(NULL)', [], 'a function that fails');

# Sealing and what custodians do leave rows of our own tables.
$node->safe_psql('postgres', q{SELECT phi.seal('audit'), phi.unseal()}, connstr => $node->connstr('postgres') . ' user=custodian');
like(records(), qr/\Acustodian \| custodian \| postgres \| INSERT \| phi\.seal_event \| \{[^\n]*"action":"seal"[^\n]*\ncustodian \| custodian \| postgres \| INSERT \| phi\.seal_event \| [^\n]*"action":"unseal"[^\n]*\z/, 'seal and unseal, by whom');

# A standby records nothing, and lets roles be set.
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', 'SET ROLE ward; SELECT current_user; RESET ROLE'), 'ward', 'a standby has no log to write to');
$standby->stop;

# A restored dump. The worker may record settings meanwhile.
my $last = q{SELECT max(record_id) FROM phi.audit_log WHERE application_name IS DISTINCT FROM 'pg_phi audit worker'};
command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'pg_restore');
is($node->safe_psql('restored', $last), $node->safe_psql('postgres', $last), 'a restore records nothing: the log is not this database\'s');
$node->safe_psql('restored', 'SELECT phi.resume_audit()');
$node->safe_psql('restored', 'SET ROLE ward; RESET ROLE');
is($node->safe_psql('restored', q{SELECT string_agg(operation, ',' ORDER BY record_id) FROM phi.audit_log
	WHERE operation = 'SET ROLE' AND xact_at > (SELECT xact_at FROM phi.audit_log WHERE operation = 'RESUME')}), 'SET ROLE,SET ROLE', 'until it is made so');

# Single-user mode is no way around it.
$node->stop;
my ($said, $input) = ('', "CREATE ROLE alone;\n");
IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \$input, '>', \$said, '2>', \$said);
$node->start;
is($node->safe_psql('postgres', q{SELECT login FROM phi.audit_log WHERE operation = 'CREATE ROLE' AND detail ~ '^alone'}), $node->safe_psql('postgres', 'SELECT current_user'), 'a command in single-user mode');

# The way to be rid of the log.
refused($node, 'chief', 'ALTER TABLE phi.audit_log RENAME TO mine', '55000', qr/cannot be renamed.*HINT: .*DROP EXTENSION/s, 'not by another name');
# The worker that looks after the log may be in the way.
for (1 .. 10)
{
	my ($status) = as($node, 'chief', 'DROP EXTENSION pg_phi CASCADE', database => 'restored');
	last if $status == 0;
}
ok($node->log_contains('LOG:  extension "pg_phi" is dropped with its audit log by "chief", logged in as "chief"'), 'with the log gone, that of the server tells who dropped it');

$node->stop;
done_testing();
