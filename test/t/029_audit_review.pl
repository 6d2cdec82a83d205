# What a review of the audit trail found.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# Sequencing is done by the test, when it wants it.
my $conf = "phi.checkpoint_interval = '1h'\nphi.allow_core_dumps = on\n";
my $node = new_server('review', conf => $conf);
my $leaves = 'SELECT count(*) = count(DISTINCT id), count(*) = (SELECT count(*) FROM phi.audit_log) FROM phi.audit_leaf k, unnest(k.ids) id';
my $transactions = 'DO $$ BEGIN FOR i IN 1 .. %d LOOP COMMIT; PERFORM pg_current_xact_id(); END LOOP; END $$';

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

set_up_clinics($node);
log_begun($node);
sql(q{CREATE TABLE chart (id int PRIMARY KEY, v text); SELECT phi.audit('chart')});

# A log that is resumed while transactions run: theirs and later ones' records get one leaf each.
{
	my $writer = PhiTest::session($node);
	$writer->query('BEGIN; INSERT INTO chart VALUES (1)');
	sql('INSERT INTO chart VALUES (2)');
	sql('SELECT phi.resume_audit()');
	$writer->query('COMMIT');
	sql('SELECT phi.advance_audit()');
	is(sql($leaves), 't|t', 'resumed beside a transaction that runs, each record has one leaf');
	is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'and the log verifies');
	$writer->quit;
}

# A log that comes from a server whose transactions have larger numbers.
{
	my $other = new_server('other', keys => key_directory($node), conf => $conf);
	my $dump = $node->basedir . '/dump.sql';

	sql(sprintf $transactions, 400);
	sql('INSERT INTO chart SELECT i FROM generate_series(10, 40) i; SELECT phi.advance_audit()');
	$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'a dump');
	$other->safe_psql('postgres', 'CREATE DATABASE copy');
	$other->safe_psql('postgres', 'CREATE ROLE app_a; CREATE ROLE app_b; CREATE ROLE nurse_a; CREATE ROLE stranger; CREATE ROLE custodian');
	$other->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $other->connstr('copy') ], 'restored elsewhere');
	$other->safe_psql('copy', 'SELECT phi.resume_audit()');
	log_begun($other, 'copy');
	is($other->safe_psql('copy', 'SELECT max(xact) > min(horizon) FROM phi.audit_log, phi.audit_state'), 't', 'where transactions have smaller numbers');
	$other->safe_psql('copy', sprintf $transactions, 1500);
	$other->safe_psql('copy', 'INSERT INTO chart VALUES (-1); SELECT phi.advance_audit()');
	is($other->safe_psql('copy', 'SELECT max(xact) < min(horizon) FROM phi.audit_log, phi.audit_state'), 't', 'until they have passed those of the dump');
	is($other->safe_psql('copy', $leaves), 't|t', 'each record has one leaf');
	is($other->safe_psql('copy', 'SELECT count(*) FROM phi.verify_audit()'), '0', 'and the log verifies');
	$other->safe_psql('copy', 'INSERT INTO chart VALUES (-2); SELECT phi.resume_audit(); SELECT phi.advance_audit()');
	is($other->safe_psql('copy', $leaves), 't|t', 'also when it is resumed again');
	$other->stop;
}

# Two leaves of one record.
my $doubled = sql(q{
	BEGIN;
	SET LOCAL client_min_messages = warning;
	ALTER TABLE phi.audit_leaf DISABLE TRIGGER refuse_change;
	INSERT INTO phi.audit_leaf SELECT s.size, k.ids[1], k.ids[1], k.first_xact, k.last_xact, k.ids[1:1], substr(k.hashes, 1, 32)
	FROM phi.audit_state s, phi.audit_leaf k WHERE k.first_leaf = 0;
	SELECT string_agg(detail, ', ') FROM phi.verify_audit(), phi.audit_state s WHERE fault = 'doubled' AND leaf IN (0, s.size);
	ROLLBACK});
is($doubled, join(', ', ('several leaves are said to be of this record') x 2), 'a record with two leaves is a fault');

# Records that are gone need a signed retirement, not just a row that tells of one.
sub retired
{
	my ($note) = @_;
	return sql(qq{
		BEGIN;
		SET LOCAL client_min_messages = warning;
		INSERT INTO phi.audit_retired SELECT '{[3,5)}', now(), now(), 2, root, $note, now(), 'me' FROM (SELECT phi.root_of_leaves('{[3,5)}') AS root) r;
		SELECT string_agg(concat_ws(' ', fault, leaf, detail), ', ') FROM phi.verify_audit();
		ROLLBACK});
}
my $signed = q{phi.sign_audit_note(format(E'%%s%s\n%%s\n%%s\n', (SELECT origin FROM phi.audit_state), '%s', encode(%s, 'base64')))};
is(retired(sprintf $signed, '/retired', '{[3,5)}', 'root'), '', 'a retirement that is signed is no fault');
is(retired(q{'forged'}), q{retirement 3 its signature is not one of this log's keys}, 'one that is not is one');
is(retired('(SELECT note FROM phi.audit_checkpoint ORDER BY size LIMIT 1)'), 'retirement 3 its note is of other leaves or of another root', 'nor does a checkpoint do');
is(retired(sprintf $signed, '/retired', '{[3,4)}', 'root'), 'retirement 3 its note is of other leaves or of another root', 'nor the retirement of others');

# A record of a month that is being retired, whose transaction has not ended.
{
	sql(q{SELECT phi.make_audit_partition('2025-07-01')});
	my $record = q{INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), '2025-07-05 00:00Z', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'OLD'};
	sql($record);
	sql('SELECT phi.advance_audit()');
	my $root = sql(q{SELECT encode(phi.root_of_leaves(leaves), 'hex') FROM phi.retire_audit('2025-08-01 00:00Z')});
	my $writer = PhiTest::session($node);
	$writer->query("BEGIN; $record");
	my $retire = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', "SELECT phi.retire_audit('2025-08-01 00:00Z', '$root')" ], '>', \my $out, '2>', \my $err);
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}), 'a month is retired while it is written to');
	$writer->query('COMMIT');
	$retire->finish;
	like($err, qr/2 records of these months have 1 leaves/, 'it waits, and sees what was written');
	is(sql(q{SELECT count(*) FROM phi.audit_log WHERE operation = 'OLD'}), '2', 'and nothing is gone');
	$writer->quit;
}

# Records that come late move from the default partition to that of their month: nobody misses one meanwhile.
{
	sql(q{INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), '2025-09-05 00:00Z', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'LATE' FROM generate_series(1, 3)});
	my $where = q{SELECT tableoid::regclass, count(*) FROM phi.audit_log WHERE operation = 'LATE' GROUP BY 1};
	my ($reader, $mover) = map { PhiTest::session($node) } 1 .. 2;
	my ($out) = $reader->query("BEGIN; $where");
	is($out, 'phi.audit_log_default|3', 'late records');
	is(sql('SELECT phi.make_audit_partitions(true)'), 'f', 'stay where they are while they are read');
	is(sql($where), 'phi.audit_log_default|3', 'all of them');
	$reader->query('COMMIT');
	$mover->query('BEGIN; SELECT phi.make_audit_partitions(true)');
	my $late = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $where ], '>', \$out, '2>', \my $err);
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}), 'who asks while they are moved');
	$mover->query('COMMIT');
	$late->finish;
	is("$out$err", "phi.audit_log_2025_09|3\n", 'waits, and sees them all');
	$_->quit for $reader, $mover;
}

# Who verifies while a month is being retired.
{
	sql('SELECT phi.advance_audit()');
	my $root = sql(q{SELECT encode(phi.root_of_leaves(leaves), 'hex') FROM phi.retire_audit('2025-08-01 00:00Z')});
	refused($node, undef, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT phi.retire_audit('2025-08-01 00:00Z', '$root')", '25001', qr/read committed/, 'what was committed meanwhile must be seen');
	my $custodian = PhiTest::session($node);
	$custodian->query("BEGIN; SELECT phi.retire_audit('2025-08-01 00:00Z', '$root')");
	my $verify = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT fault, leaf FROM phi.verify_audit()' ], '>', \my $out, '2>', \my $err);
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}), 'the log is verified while a month is retired');
	$custodian->query('COMMIT');
	$verify->finish;
	is("$out$err", '', 'no fault is found');
	is(sql(q{SELECT count(*) FROM phi.audit_log WHERE operation = 'OLD'}), '0', 'when the month is gone');
	$custodian->quit;
}

# A migration that does all in one transaction, begun where the extension was not.
sql('CREATE DATABASE fresh');
is(sql(q{
	BEGIN;
	CREATE EXTENSION pg_phi;
	DO $$ BEGIN PERFORM phi.create_clinic('a', 'A'), phi.grant_clinic('app_a', 'a'); END $$;
	CREATE TABLE chart (id int PRIMARY KEY);
	DO $$ BEGIN PERFORM phi.audit('chart'); END $$;
	INSERT INTO chart VALUES (1);
	COMMIT;
	SELECT string_agg(relation || ' ' || operation, ', ' ORDER BY record_id) FROM phi.audit_log WHERE relation IN ('phi.clinic', 'phi.clinic_grant', 'public.chart') AND operation IN ('INSERT', 'AUDIT')}, 'fresh'),
	'phi.clinic INSERT, phi.clinic_grant INSERT, public.chart AUDIT, public.chart INSERT', 'what follows CREATE EXTENSION in its transaction is recorded');

# Data restored without triggers: they fire always again when the log goes on.
{
	my $file = $node->basedir . '/fresh.dump';
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, $node->connstr('fresh') ], 'a dump of it');
	sql('CREATE DATABASE again');
	$node->command_ok([ 'pg_restore', '--exit-on-error', @$_, '-d', $node->connstr('again'), $file ], "pg_restore @$_") foreach ['--schema-only'], [ '--data-only', '--disable-triggers' ];
	my $modes = q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.pronamespace = 'phi'::regnamespace};
	like(sql($modes, 'again'), qr/O/, 'triggers are in another mode');
	sql('SELECT phi.resume_audit()', 'again');
	is(sql($modes, 'again'), 'A', 'until the log is resumed');
	is(sql('TABLE chart; SELECT count(*) FROM phi.verify_audit()', 'again'), "1\n0", 'with what was restored');
}

# A superuser who damages what the log stands on meets errors, no crash.
{
	sql('SELECT phi.advance_audit()', 'fresh');
	refused($node, undef, q{BEGIN; ALTER TABLE phi.audit_leaf ALTER hashes DROP NOT NULL, DISABLE TRIGGER ALL; UPDATE phi.audit_leaf SET hashes = NULL; SELECT * FROM phi.verify_audit()},
		'XX001', qr/holds no leaf hashes/, 'leaves that are gone', database => 'fresh');
	my $session = PhiTest::session($node, undef, database => 'fresh');
	$session->query('BEGIN; LOCK TABLE phi.audit_state IN SHARE UPDATE EXCLUSIVE MODE');
	my $pass = IPC::Run::start([ 'psql', '-Xq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('fresh'), '-c', 'SELECT phi.advance_audit()' ], '>', \my $out, '2>', \my $err);
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}), 'a pass waits');
	$session->query('DELETE FROM phi.audit_state; COMMIT');
	$pass->finish;
	like($err, qr/XX001: the state of the audit log was altered/, 'a state that is gone');
	$session->quit;
	sql('DECLARE phi_leaves CURSOR WITH HOLD FOR SELECT 1; SELECT phi.resume_audit()', 'fresh');
	is(sql('SELECT count(*) FROM phi.verify_audit()', 'fresh'), '0', 'the log goes on when it is resumed');
}

# An error while the log's state is read must not close the log for the session.
{
	my $locker = PhiTest::session($node);
	my $session = PhiTest::session($node);
	$locker->query('BEGIN; LOCK TABLE phi.audit_state');
	my (undef, $error) = $session->query("SET statement_timeout = '100ms'; CREATE ROLE nobody; RESET statement_timeout");
	like($error, qr/57014/, 'who cannot read it fails');
	$locker->query('ROLLBACK');
	$session->query('RESET statement_timeout; CREATE ROLE somebody; INSERT INTO chart VALUES (3)');
	is(sql(q{SELECT string_agg(concat_ws(' ', operation, detail, row_key), ', ' ORDER BY record_id) FROM phi.audit_log WHERE detail = 'somebody' OR (relation, row_key) = ('public.chart', '{3}')}),
		'CREATE ROLE somebody, INSERT {3}', 'what comes after it is recorded');
	$_->quit for $locker, $session;
}

# A change that fails half way leaves no plaintext in the process. The type cannot be sent.
{
	sql(q{
		CREATE TYPE mute;
		CREATE FUNCTION mute_in(cstring) RETURNS mute LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
		CREATE FUNCTION mute_out(mute) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
		CREATE TYPE mute (INPUT = mute_in, OUTPUT = mute_out, LIKE = int4);
		CREATE FUNCTION mute_send(mute) RETURNS bytea LANGUAGE plpgsql STRICT AS $$ BEGIN RAISE 'not sent'; END $$;
		ALTER TYPE mute SET (SEND = mute_send);
		CREATE TABLE muted (id int PRIMARY KEY, name enctext(identity), m mute);
		ALTER TABLE muted OWNER TO app_a;
	});
	gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO muted VALUES (1, 'Wads' || 'worth of the muted', '1')}, '', 'a row');
	sql(q{SELECT phi.audit('muted')});
	my $session = PhiTest::session($node, 'app_a');
	my (undef, $error) = $session->query(q{SET phi.clinic = 'a'; UPDATE muted SET id = id + 10});
	like($error, qr/not sent/, 'a change fails while it is digested');
	my $areas = memory_areas($session->pid);
	cmp_ok(scalar @$areas, '>', 0, 'whose process can be looked into');
	is(scalar(grep { index($_->[1], 'Wads' . 'worth of the muted') >= 0 } @$areas), 0, 'and leaves no plaintext');
	$session->quit;
}

# However a session wants names to be quoted, records name what is changed in one way.
sql(q{
	CREATE TABLE kept (id int PRIMARY KEY);
	SET quote_all_identifiers = on;
	SELECT phi.audit('kept', history => true);
	INSERT INTO kept VALUES (1);
	ALTER TABLE kept ADD v text;
	RESET quote_all_identifiers;
	SELECT phi.audit('kept', history => true)});
sql('INSERT INTO kept VALUES (2); SET quote_all_identifiers = on; INSERT INTO kept VALUES (3)');
sql('SET quote_all_identifiers = on; INSERT INTO kept VALUES (4)');
is(sql(q{SELECT string_agg(relation || ' ' || operation, ', ' ORDER BY record_id) FROM phi.audit_log WHERE operation IN ('INSERT', 'AUDIT', 'ALTER TABLE') AND relation ~ 'public.*kept"?$' AND coalesce(detail, '') !~ 'trigger'}),
	'public.kept AUDIT, public.kept INSERT, public.kept ALTER TABLE, public.kept AUDIT' . ', public.kept INSERT' x 3, 'quote_all_identifiers changes no name in the log');

# Settings of a session are neither changed nor followed.
is(sql('SELECT phi.advance_audit(); SHOW enable_seqscan'), "t\non", 'a pass leaves the settings as they were');
is(sql(q{
	SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata';
	SELECT phi.make_audit_partition('2031-01-01');
	RESET ALL;
	SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_log_2031_01'}),
	"\nFOR VALUES FROM ('2031-01-01 00:00:00+00') TO ('2031-02-01 00:00:00+00')", 'a month begins at midnight UTC whatever the style of dates');
is(sql(q{
	SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata';
	CREATE TEMP TABLE found AS SELECT from_at FROM phi.audit_partitions('2031-03-01') WHERE partition = 'phi.audit_log_2031_01'::regclass;
	RESET ALL;
	SELECT * FROM found}), '2031-01-01 00:00:00+00', 'and is retired by that beginning');

# The server as a single process, where nobody logs in.
{
	$node->stop;
	my ($out, $err);
	my $run = IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \"CREATE ROLE single\nINSERT INTO chart VALUES (100)\n", '>', \$out, '2>', \$err);
	ok($run, 'single-user mode') or diag($err);
	$node->start;
	is(sql(q{SELECT string_agg(concat_ws(' ', operation, detail, row_key), ', ' ORDER BY record_id) FROM phi.audit_log WHERE detail = 'single' OR (relation, row_key) = ('public.chart', '{100}')}),
		'CREATE ROLE single, INSERT {100}', 'is recorded like any other');
	sql('SELECT phi.advance_audit()');
	is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'and the log verifies');
}

done_testing();
