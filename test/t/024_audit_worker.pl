# The worker of the audit log comes when there is something to do, is in nobody's
# way, and makes up for what happened while it was away.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use PhiTest;

my $node = new_server('worker', conf => "phi.checkpoint_interval = '100ms'\nmax_prepared_transactions = 5\nmax_connections = 30");
set_up_clinics($node);

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub comes
{
	my ($sql, $name, %options) = @_;
	return ok($node->poll_query_until($options{database} // 'postgres', $sql, $options{expected} // 't'), $name);
}

my $all_sequenced = q{SELECT (SELECT count(*) FROM phi.audit_log) = (SELECT size FROM phi.audit_state)
	AND (SELECT size FROM phi.audit_state) = (SELECT max(size) FROM phi.audit_checkpoint)};
my $months = q{SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'phi.audit_log'::regclass};
my $wanted = q{SELECT count(*) = 3 FROM generate_series(0, 2) n WHERE to_regclass('phi.audit_log_' || to_char(now() AT TIME ZONE 'UTC' + n * interval '1 month', 'YYYY_MM')) IS NOT NULL};

# It does its work, and is gone.
sql(q{CREATE TABLE chart (id int PRIMARY KEY, n int); SELECT phi.audit('chart'); INSERT INTO chart SELECT i, 0 FROM generate_series(1, 200) i});
comes($all_sequenced, 'every record gets its leaf and a checkpoint');
comes($wanted, 'partitions of this month and the next two are made');
is(sql(q{SELECT count(*) FROM phi.audit_log_default}), '0', 'and hold what came before them');
is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'the log verifies');
comes(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type LIKE 'pg_phi%'}, 'no worker stays connected');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_phi audit launcher' AND datid IS NULL}), '1', 'the launcher is in no database');
is(sql(q{SELECT string_agg(DISTINCT tgname || tgenabled::text, ' ' ORDER BY tgname || tgenabled::text) FROM pg_trigger t JOIN pg_inherits i ON i.inhrelid = t.tgrelid WHERE i.inhparent = 'phi.audit_log'::regclass}),
	'only_ownerA refuse_changeA refuse_row_changeA', 'partitions are guarded');
refused($node, undef, 'DELETE FROM phi.audit_log_' . sql(q{SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')}), '42501', qr/cannot be changed/, 'a partition refuses DELETE of a superuser');

# Rights that new tables get by default are not for the log.
sql(q{ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC, stranger;
	DO $$ DECLARE last text := (SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'phi.audit_log'::regclass AND inhrelid <> 'phi.audit_log_default'::regclass);
	BEGIN EXECUTE 'DROP TABLE ' || last; END $$;
	INSERT INTO chart VALUES (1000, 0)});
comes($wanted, 'a partition that was dropped is made again');
sql('ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC, stranger');
is(sql(q{SELECT count(*) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = 'phi.audit_log'::regclass AND has_table_privilege('stranger', c.oid, 'SELECT')}), '0', 'default privileges open none');

# What older transactions hold back comes when they have ended, without another write.
{
	my $old = session($node, undef);
	$old->query('BEGIN; INSERT INTO chart VALUES (2000, 0)');
	my $size = sql('SELECT size FROM phi.audit_state');
	sql('UPDATE chart SET n = 1 WHERE id = 1');
	usleep(500_000);
	is(sql("SELECT count(*) FROM phi.audit_leaf k, unnest(k.ids) id JOIN phi.audit_log l ON l.record_id = id WHERE l.operation = 'UPDATE'"), '0', 'a record waits for an older transaction');
	$old->query('COMMIT');
	comes($all_sequenced, 'and gets its leaf when that has ended');
	$old->quit;
	sql("BEGIN; UPDATE chart SET n = 2 WHERE id = 2; PREPARE TRANSACTION 'p'");
	usleep(500_000);
	sql("COMMIT PREPARED 'p'");
	comes(q{SELECT count(*) = 2 FROM phi.audit_leaf k, unnest(k.ids) id JOIN phi.audit_log l ON l.record_id = id WHERE l.operation = 'UPDATE'}, 'so does one that was prepared');
	sql('CREATE DATABASE prepared');
	sql('CREATE EXTENSION pg_phi', 'prepared');
	sql("BEGIN; SELECT phi.create_clinic('a', 'A'); PREPARE TRANSACTION 'p'", 'prepared');
	usleep(500_000);
	sql("COMMIT PREPARED 'p'", 'prepared');
	comes('SELECT size > 0 FROM phi.audit_state', 'also the one that opens a log', database => 'prepared');
	sql('DROP DATABASE prepared');
}

# Months without a partition: nothing fails, and what waits is put right.
{
	sql(q{INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), timestamptz '2025-01-15 00:00Z' + i * interval '1 day', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'OLD', NULL, NULL, NULL, NULL, NULL FROM generate_series(0, 40) i});
	is(sql(q{SELECT count(*) FROM phi.audit_log_default}), '41', 'records of months without a partition are taken');
	$node->restart;
	comes(q{SELECT to_regclass('phi.audit_log_2025_01') IS NOT NULL AND to_regclass('phi.audit_log_2025_02') IS NOT NULL}, 'they get partitions after a start');
	is(sql(q{SELECT string_agg(p || ' ' || n, ', ' ORDER BY p) FROM (SELECT tableoid::regclass::text p, count(*) n FROM phi.audit_log WHERE operation = 'OLD' GROUP BY 1) s}),
		'phi.audit_log_2025_01 17, phi.audit_log_2025_02 24', 'and lie in them');
	comes($all_sequenced, 'all have leaves');
	is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'the log verifies');
}

# Writers do not wait for the worker, nor the worker for readers.
{
	my $reader = session($node, undef);
	$reader->query('BEGIN; LOCK TABLE phi.audit_log_default IN ACCESS SHARE MODE');
	sql(q{DO $$ DECLARE last text := (SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'phi.audit_log'::regclass AND inhrelid <> 'phi.audit_log_default'::regclass);
		BEGIN EXECUTE format('ALTER TABLE %s RENAME TO set_aside', last); END $$; INSERT INTO chart VALUES (3000, 0)});
	comes($all_sequenced, 'while somebody reads the default partition, leaves are made');
	is(sql($wanted), 'f', 'but no partition');
	is(sql(q{SET lock_timeout = '1s'; INSERT INTO chart VALUES (3001, 0); SELECT 1}), '1', 'writers go on');
	$reader->query('ROLLBACK');
	$reader->quit;
	sql(q{DO $$ BEGIN EXECUTE format('ALTER TABLE phi.set_aside RENAME TO %I', 'audit_log_' || to_char(now() AT TIME ZONE 'UTC' + interval '2 month', 'YYYY_MM')); END $$});
}

# Starts and stops.
sub events
{
	my ($since) = @_;
	return sql("SELECT string_agg(operation || ': ' || regexp_replace(detail, '(at|PostgreSQL) [0-9].*', '\\1'), ', ' ORDER BY record_id) FROM phi.audit_log WHERE operation LIKE 'SERVER%' AND record_id > $since");
}
my $mark = q{SELECT max(record_id) FROM phi.audit_log};
my $starts = q{SELECT count(*) = %d FROM phi.audit_log WHERE operation = 'SERVER START' AND record_id > %s};
{
	my $since = sql($mark);
	$node->stop('smart');
	$node->start;
	comes(sprintf($starts, 1, $since), 'a start is recorded');
	is(events($since), 'SERVER STOP: shut down at, SERVER START: PostgreSQL', 'after a clean stop');
	$since = sql($mark);
	$node->stop('immediate');
	$node->start;
	comes(sprintf($starts, 1, $since), 'so is the start after a crash');
	is(events($since), 'SERVER STOP: not shut down cleanly; last sign of life at, SERVER START: PostgreSQL', 'which is told from a stop');
	$since = sql($mark);
	my $victim = session($node, undef);
	kill 'KILL', scalar $victim->pid;
	$victim->quit;
	$node->poll_query_until('postgres', 'SELECT 1', '1');
	comes(sprintf($starts, 1, $since), 'and the restart after a killed process');
	is(events($since), 'SERVER STOP: not shut down cleanly; last sign of life at, SERVER START: PostgreSQL', 'told as such');
	comes($all_sequenced, 'all of it is sequenced');
}

# Settings.
{
	my $since = sql($mark);
	$node->append_conf('postgresql.conf', "phi.compress_above = 2000\nphi.key_command = 'secret-command'\nsession_replication_role = replica\nlog_min_duration_statement = 1h");
	$node->reload;
	comes("SELECT count(*) = 4 FROM phi.audit_log WHERE operation = 'SETTING' AND record_id > $since", 'changes of settings are recorded');
	is(sql("SELECT string_agg(detail, ', ' ORDER BY detail) FROM phi.audit_log WHERE operation = 'SETTING' AND record_id > $since"),
		'log_min_duration_statement: -1 -> 1h, phi.compress_above: 1kB -> 2000B, phi.key_command: changed, session_replication_role: origin -> replica', 'with their values, unless only superusers may see them');
	is(sql(q{SELECT count(*) FROM phi.audit_log l, phi.audit_state s WHERE l::text LIKE '%secret%' OR s::text LIKE '%secret%'}), '0', 'and no secret is kept');
	$since = sql($mark);
	$node->append_conf('postgresql.conf', "phi.compress_above = 1kB\nphi.key_command = ''\nsession_replication_role = origin\nlog_min_duration_statement = -1");
	$node->restart;
	comes("SELECT count(*) = 4 FROM phi.audit_log WHERE operation = 'SETTING' AND record_id > $since", 'so are changes that came with a restart');
}

# The command that takes checkpoints elsewhere.
{
	my $directory = $node->basedir;
	my $database = q{we"ird'; $(touch x) %s};
	$node->append_conf('postgresql.conf', qq{phi.checkpoint_command = 'test -e $directory/open && { cat; echo "-- \$PHI_CHECKPOINT_SIZE \$PHI_DATABASE"; } >>$directory/notes'});
	my $log = -s $node->logfile;
	$node->reload;
	sql('UPDATE chart SET n = 5 WHERE id = 5');
	$node->wait_for_log(qr/WARNING:  phi\.checkpoint_command failed for checkpoint \d+ of database "postgres"/, $log);
	sql('UPDATE chart SET n = 6 WHERE id = 6');
	comes($all_sequenced, 'a command that fails holds nothing up');
	my $size = sql('SELECT exported FROM phi.audit_state');
	cmp_ok($size, '<', sql('SELECT size FROM phi.audit_state'), 'what it refused is not taken for exported');
	append_to_file("$directory/open", '');
	comes('SELECT exported = (SELECT max(size) FROM phi.audit_checkpoint) FROM phi.audit_state', 'it is tried again');
	my $stored = sql("SELECT string_agg(note || '-- ' || size || ' postgres', E'\\n' ORDER BY size) FROM phi.audit_checkpoint WHERE size > $size");
	is(slurp_file("$directory/notes"), "$stored\n", 'and is given each note, in their order');
	(my $quoted = $database) =~ s/"/""/g;
	sql(qq{CREATE DATABASE "$quoted"});
	my $inside = $node->connstr('postgres') =~ s/dbname=\S+//r;
	local $ENV{PGDATABASE} = $database;
	command_ok([ 'psql', '-XqAt', '-h', $node->host, '-p', $node->port, '-c', "CREATE EXTENSION pg_phi", '-c', "SELECT phi.create_clinic('w', 'W')", '-c', 'CREATE TABLE t (i int PRIMARY KEY)', '-c', "SELECT phi.audit('t')", '-c', 'INSERT INTO t VALUES (1)' ], 'a database with a strange name');
	my $named = 0;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$named = slurp_file("$directory/notes") =~ /^-- \d+ \Q$database\E$/m and last;
		usleep(100_000);
	}
	ok($named, 'its name reaches the command as it is');
	ok(!-e $node->data_dir . '/x', 'and no shell reads it');
	delete $ENV{PGDATABASE};
	sql(qq{DROP DATABASE "$quoted"});
	$node->append_conf('postgresql.conf', "phi.checkpoint_command = ''");
	$node->reload;
}

# How much room is left.
{
	my $listener = session($node, undef);
	$listener->query('LISTEN phi_alert');
	sql(q{INSERT INTO chart SELECT i, 0 FROM generate_series(10000, 13000) i});
	comes($all_sequenced, 'a megabyte of records');
	is(sql('SELECT bytes > 1000000, records = (SELECT count(*) FROM phi.audit_log), volume_limit, percent_used FROM phi.audit_capacity'), 't|t||', 'without a limit the capacity tells the size');
	my $log = -s $node->logfile;
	$node->append_conf('postgresql.conf', "phi.audit_volume_limit = '1MB'");
	$node->reload;
	$node->wait_for_log(qr/WARNING:  the audit trail of database "postgres" nears phi\.audit_volume_limit/, $log);
	my $output = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$output = $listener->query('SELECT 1');
		last if $output =~ /phi_alert/;
		usleep(100_000);
	}
	like($output, qr/"phi_alert" with payload "\{.*"alert": "audit_volume".*"limit": 1048576/, 'who listens is told');
	sql('UPDATE chart SET n = 7 WHERE id = 7');
	comes($all_sequenced, 'there is another pass');
	$node->reload;
	usleep(500_000);
	my $warnings = () = slurp_file($node->logfile, $log) =~ /nears phi\.audit_volume_limit/g;
	is($warnings, 1, 'which does not warn again');
	is(sql('SELECT percent_used > 100, days_left FROM phi.audit_capacity'), 't|', 'and the view shows it');
	$log = -s $node->logfile;
	$node->append_conf('postgresql.conf', "phi.audit_volume_limit = '100MB'");
	$node->reload;
	sql('UPDATE chart SET n = 8 WHERE id = 8');
	comes($all_sequenced, 'and another');
	unlike(slurp_file($node->logfile, $log), qr/nears phi\.audit_volume_limit/, 'nor when there is room');
	is(sql('SELECT phi.check_audit_capacity(true)'), 'f', 'it is not near then');
	$listener->quit;
}

# Databases come and go, whatever the worker does there.
{
	my $log = -s $node->logfile;
	sql('CREATE DATABASE pattern');
	sql(q{CREATE EXTENSION pg_phi; SELECT phi.create_clinic('w', 'W'); CREATE TABLE t (i int PRIMARY KEY); SELECT phi.audit('t')}, 'pattern');
	for my $i (1 .. 8)
	{
		sql("INSERT INTO t SELECT i FROM generate_series($i * 1000, $i * 1000 + 999) i", 'pattern');
		sql('CREATE DATABASE copy TEMPLATE pattern');
		sql('SELECT phi.resume_audit(); INSERT INTO t SELECT i FROM generate_series(1, 500) i', 'copy');
		sql('ALTER DATABASE copy RENAME TO renamed');
		sql('INSERT INTO t VALUES (0)', 'renamed') if $i % 2;
		sql('DROP DATABASE renamed');
	}
	pass('databases are copied, renamed and dropped while they are written to');
	for my $i (1 .. 5)
	{
		sql(q{DROP EXTENSION pg_phi CASCADE; DROP TABLE IF EXISTS t; CREATE EXTENSION pg_phi; SELECT phi.create_clinic('w', 'W'); CREATE TABLE t (i int PRIMARY KEY); SELECT phi.audit('t'); INSERT INTO t SELECT i FROM generate_series(1, 500) i}, 'pattern');
		usleep(100_000);
	}
	comes($all_sequenced, 'the extension is dropped and made again', database => 'pattern');
	is(sql('SELECT count(*) FROM phi.verify_audit()', 'pattern'), '0', 'and the new log verifies');
	sql('DROP DATABASE pattern');
	# One that is dropped while its worker is on the way.
	my $text = slurp_file($node->logfile, $log) =~ s/FATAL:  database \d+ does not exist//gr;
	ok($text !~ /(FATAL|PANIC):|terminated by signal/, 'no process ends by it');
}

# Without room for a worker nothing is lost.
{
	my $log = -s $node->logfile;
	$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
	$node->restart;
	sql('UPDATE chart SET n = 9 WHERE id = 9');
	$node->wait_for_log(qr/could not start an audit worker/, $log);
	is(sql($all_sequenced), 'f', 'without room for a worker there is no leaf');
	$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
	$node->restart;
	comes($all_sequenced, 'and with it there is');
	my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_phi audit launcher'};
	my $pid = sql($launcher);
	sql("SELECT pg_terminate_backend($pid)");
	comes("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_phi audit launcher' AND pid <> $pid", 'a launcher that was terminated comes back');
	sql('UPDATE chart SET n = 10 WHERE id = 10');
	comes($all_sequenced, 'and goes on');
}

# Records of a month without a partition move there once nobody reads them.
{
	sql(q{INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), '2025-09-05 00:00Z', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'LATE'});
	my $reader = PhiTest::session($node);
	$reader->query('BEGIN; SELECT count(*) FROM phi.audit_log');
	$node->append_conf('postgresql.conf', "phi.audit_volume_limit = '90MB'");
	$node->reload;
	usleep(1_000_000);
	is(sql('SELECT count(*) FROM ONLY phi.audit_log_default'), '1', 'a late record stays while it is read');
	$reader->query('COMMIT');
	comes("SELECT tableoid::regclass = 'phi.audit_log_2025_09'::regclass FROM phi.audit_log WHERE operation = 'LATE'", 'then the worker tries again');
	$reader->quit;
}

# Dumps bring their partitions along; the worker is not in their way.
{
	my $other = new_server('other', keys => key_directory($node), conf => "phi.checkpoint_interval = '100ms'");
	$other->safe_psql('postgres', 'CREATE ROLE app_a; CREATE ROLE app_b; CREATE ROLE nurse_a; CREATE ROLE stranger; CREATE ROLE custodian');
	my $dump = $node->basedir . '/dump';
	$node->command_ok([ 'pg_dump', '-f', "$dump.sql", $node->connstr('postgres') ], 'a plain dump');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", $node->connstr('postgres') ], 'one in format custom');
	my $records = sql('SELECT count(*) FROM phi.audit_log');
	for my $i (1 .. 3)
	{
		for my $restore ([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql" ], [ 'pg_restore', '--exit-on-error', '--jobs=2', "$dump.custom" ])
		{
			my ($tool) = @$restore;
			my $database = "from_${tool}_$i";
			$other->safe_psql('postgres', "CREATE DATABASE $database");
			$other->command_ok([ @$restore, '-d', $other->connstr($database) ], "$tool, time $i");
			is($other->safe_psql($database, 'SELECT count(*) FROM phi.audit_log'), $records, 'all records are there');
			$other->safe_psql($database, 'SELECT phi.resume_audit(); INSERT INTO chart VALUES (-1, 0)');
			ok($other->poll_query_until($database, $all_sequenced), 'the log goes on');
			is($other->safe_psql($database, 'SELECT count(*) FROM phi.verify_audit()'), '0', 'and verifies');
			is($other->safe_psql($database, $months), sql($months), 'with the same partitions');
		}
	}
	unlike(slurp_file($other->logfile), qr/ERROR:/, 'without an error of the worker');
	$other->stop;
}

comes($all_sequenced, 'in the end every record has its leaf');
is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'and the log verifies');
done_testing();
