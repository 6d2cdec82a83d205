# Values are encrypted again under new keys while applications write, and the
# server or a worker is killed at ten moments. Nothing may be lost.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use PhiTest;

my $began = time;
my $node = new_server('rekey', allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--locale=C.UTF-8', '--data-checksums' ],
	conf => "log_statement = none\nshared_buffers = 16MB\nmax_wal_size = 4GB\nlog_autovacuum_min_duration = -1\n");
set_up_clinics($node);

sub told
{
	diag(sprintf '%5.1f s: %s', time - $began, join '', @_);
	return;
}

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# The tables. "ledger" is the plain truth about patients: whoever changes the
# one changes the other in the same transaction.
my $rows = 200000;
my $weird = q{"Weird; ""Schéma"""};
sql(qq{
	CREATE ROLE app_a2 LOGIN;
	SELECT phi.grant_clinic('app_a2', 'a');
	CREATE SCHEMA $weird;
	CREATE DOMAIN phone AS enctext(identity);
	CREATE TABLE ledger (id bigint PRIMARY KEY, clinic text NOT NULL, plain text NOT NULL, updates int NOT NULL);
	CREATE TABLE patient (
		id bigint, clinic text NOT NULL, gone enctext(identity), name enctext(identity) NOT NULL, number encbigint(insurance), phone phone,
		aliases enctext(identity)[], contact enctext, note enctext(clinical), photo encbytea(clinical),
		copied enctext(identity) GENERATED ALWAYS AS (name) STORED,
		updated_at timestamptz NOT NULL DEFAULT '2000-01-01Z');
	CREATE TABLE visit (id int, clinic text NOT NULL, reason enctext(clinical), doctors enctext[]) PARTITION BY RANGE (id);
	CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (2000);
	CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (2000) TO (4000);
	CREATE TABLE visit_rest PARTITION OF visit DEFAULT;
	CREATE TABLE staff (id int, clinic text, name enctext(identity));
	CREATE TABLE nurse (ward enctext) INHERITS (staff);
	CREATE TABLE $weird."Tab""le; --" ("Col""umn 名" enctext(clinical), "values" enctext, id int, clinic text);
	CREATE UNLOGGED TABLE scratch (id int, name enctext(identity));
	GRANT ALL ON patient, ledger, visit, staff, nurse, scratch TO app_a, app_a2, app_b;
	GRANT USAGE ON SCHEMA $weird TO app_a, app_b;
	GRANT ALL ON ALL TABLES IN SCHEMA $weird TO app_a, app_b;
	INSERT INTO ledger SELECT n, CASE WHEN n % 2 = 1 THEN 'a' ELSE 'b' END, 'name ' || n, 0 FROM generate_series(1, $rows) n;
});
for my $clinic ('a', 'b')
{
	gives($node, "app_$clinic", qq{
		SET phi.clinic = '$clinic';
		INSERT INTO patient (id, clinic, gone, name, number, phone, aliases, contact, note, photo)
		SELECT id, clinic, CASE WHEN id % 100 < 2 THEN 'gone ' || id END, plain, id,
			CASE WHEN id % 8 < 2 THEN '03-' || id END,
			CASE WHEN id % 10 < 2 THEN ARRAY['alias ' || id, NULL, 'other ' || id]::enctext(identity)[] END,
			CASE WHEN id % 10 BETWEEN 2 AND 3 THEN 'mother of ' || id END,
			CASE WHEN id % 4 > 1 THEN 'note of ' || plain END,
			CASE WHEN id % 2000 < 2 THEN decode(repeat(md5(id::text) || md5(clinic || id), 150), 'hex') END
		FROM ledger WHERE clinic = phi.current_clinic();
		INSERT INTO visit SELECT n, '$clinic', 'reason ' || n, ARRAY['doctor ' || n, 'nurse ' || n] FROM generate_series(1, 6000) n;
		INSERT INTO staff SELECT n, '$clinic', 'staff ' || n FROM generate_series(1, 500) n;
		INSERT INTO nurse SELECT n, '$clinic', 'nurse ' || n, 'ward ' || n FROM generate_series(501, 1000) n;
		INSERT INTO scratch SELECT n, 'scratch ' || n FROM generate_series(1, 500) n;
		INSERT INTO $weird."Tab""le; --" SELECT 'weird ' || n, CASE WHEN n % 2 = 0 THEN 'value ' || n END, n, '$clinic' FROM generate_series(1, 500) n;
		SELECT count(*) FROM patient WHERE clinic = phi.current_clinic()}, $rows / 2, "patients of clinic $clinic");
}
told('loaded');
sql(q{
	ALTER TABLE patient ADD PRIMARY KEY (id);
	CREATE INDEX patient_name ON patient USING hash (name);
	ALTER TABLE patient ADD CONSTRAINT one_number EXCLUDE USING hash (number WITH =);
	ALTER TABLE patient DROP COLUMN gone;
	SELECT phi.isolate('patient', 'clinic');
	CREATE TABLE appointment (patient bigint REFERENCES patient);
	INSERT INTO appointment SELECT n FROM generate_series(1, 1000) n;
	CREATE TABLE audit (id bigint);
	GRANT ALL ON appointment, audit TO app_a, app_a2, app_b;
	CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
	CREATE TRIGGER touch BEFORE UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION touch();
	CREATE FUNCTION keep_record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NULL; END $$;
	CREATE TRIGGER keep_record AFTER UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION keep_record();
	CREATE TRIGGER even_in_replicas AFTER UPDATE ON visit_1 FOR EACH ROW EXECUTE FUNCTION keep_record();
	ALTER TABLE visit_1 ENABLE ALWAYS TRIGGER even_in_replicas;
	CREATE MATERIALIZED VIEW summary AS SELECT id, clinic, name, note FROM patient WHERE id <= 2000;
	GRANT SELECT ON summary TO app_a, app_b;
	CREATE VIEW patients_of_a AS SELECT id, name FROM patient WHERE clinic = 'a';
	CREATE EXTENSION amcheck;
	ANALYZE;
});
told('indexed');


# What nobody touches: the first 100,000 patients, and all other tables.
my $facts = qq{
	SELECT count(*), count(note), md5(string_agg(concat_ws('|', id, name, number, phone, aliases::text, contact,
		note, md5(photo::bytea), copied, updated_at), E'\\n' ORDER BY id)) FROM patient WHERE clinic = phi.current_clinic() AND id <= 100000;
	SELECT count(*), count(reason), md5(string_agg(concat_ws('|', tableoid::regclass, id, reason::text, doctors::text), E'\\n' ORDER BY id)) FROM visit WHERE clinic = phi.current_clinic();
	SELECT count(*), count(name), md5(string_agg(concat_ws('|', tableoid::regclass, id, name::text), E'\\n' ORDER BY id)) FROM staff WHERE clinic = phi.current_clinic();
	SELECT count(*), count(ward), md5(string_agg(concat_ws('|', id, ward::text), E'\\n' ORDER BY id)) FROM nurse WHERE clinic = phi.current_clinic();
	SELECT count(*), count("values"), md5(string_agg(concat_ws('|', id, "Col""umn 名"::text, "values"::text), E'\\n' ORDER BY id)) FROM $weird."Tab""le; --" WHERE clinic = phi.current_clinic();
	SELECT count(*), count(note), md5(string_agg(concat_ws('|', id, name::text, note::text), E'\\n' ORDER BY id)) FROM summary WHERE clinic = phi.current_clinic()};
my %before;
for my $clinic ('a', 'b')
{
	my ($status, $out, $messages) = as($node, "app_$clinic", "SET phi.clinic = '$clinic'; $facts");
	$before{$clinic} = $out;
	like($messages . $out, qr/\A50000\|25000\|\w+\n6000\|6000\|\w+\n1000\|1000\|\w+\n500\|500\|\w+\n500\|250\|\w+\n1000\|500\|\w+\z/, "what clinic $clinic has");
}
isnt($before{a}, $before{b}, 'and the clinics differ');
sub counts
{
	return sql('SELECT relation, "column", sum("values") FROM phi.count_values() WHERE relation::text NOT IN (\'patient\', \'scratch\') GROUP BY 1, 2 ORDER BY 1, 2');
}
my $counts = counts();

# Writers and readers, each clinic's in ids of its own. A search that misses a
# patient fails.
my @scripts;
sub script
{
	my ($name, $text) = @_;
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $text);
	push @scripts, $file;
	return;
}
script('insert', q{
	\set id 200001 + 2 * random(0, 100000000) + :shift
	BEGIN;
	INSERT INTO ledger VALUES (:id, phi.current_clinic(), 'new ' || :id, 0);
	INSERT INTO patient (id, clinic, name, number, phone, aliases, contact, note)
	VALUES (:id, phi.current_clinic(), 'new ' || :id, :id, '03-' || :id, ARRAY['alias ' || :id]::enctext(identity)[], 'father of ' || :id, 'note of new ' || :id);
	INSERT INTO appointment VALUES (:id);
	END;
});
script('update', q{
	\set id 140001 + 2 * random(0, 29999) + :shift
	\set r random(1, 1000000)
	BEGIN;
	UPDATE ledger SET plain = 'changed ' || :r || ' ' || :id, updates = updates + 1 WHERE id = :id;
	UPDATE patient SET name = 'changed ' || :r || ' ' || :id, note = 'note of changed ' || :r || ' ' || :id WHERE id = :id;
	END;
});
script('delete', q{
	\set id 180001 + 2 * random(0, 9999) + :shift
	BEGIN;
	DELETE FROM ledger WHERE id = :id;
	DELETE FROM patient WHERE id = :id;
	END;
});
script('refer', q{
	\set id 100001 + 2 * random(0, 19999) + :shift
	BEGIN;
	INSERT INTO appointment VALUES (:id);
	SELECT id FROM patient WHERE id = :id FOR SHARE;
	END;
});
script('search', q{
	\set id 1 + 2 * random(0, 69999) + :shift
	SELECT 1 / count(*) FROM patient WHERE name = 'name ' || :id;
	SELECT 1 / count(*) FROM patient WHERE number = :id AND copied = 'name ' || :id;
});
my @mix = map { ('-f', $_) } @scripts;
my @writers;

sub start_writers
{
	@writers = ();
	for my $case ([ 'app_a', 'a', 0, 'simple' ], [ 'app_a2', 'a', 0, 'prepared' ], [ 'app_b', 'b', 1, 'extended' ])
	{
		my ($role, $clinic, $shift, $protocol) = @$case;
		my $writer = { out => '', err => '' };
		local $ENV{PGOPTIONS} = "-c phi.clinic=$clinic";
		$writer->{run} = IPC::Run::start([ 'pgbench', '-n', '-M', $protocol, '-c', '1', '-R', '60', '-T', '600', '-D', "shift=$shift", @mix,
			'-h', $node->host, '-p', $node->port, '-U', $role, 'postgres' ], '<', \undef, '>', \$writer->{out}, '2>', \$writer->{err});
		push @writers, $writer;
	}
	return;
}

# What went wrong for them, but for the end of the server.
sub end_writers
{
	my @told;
	for my $writer (@writers)
	{
		$writer->{run}->signal('TERM');
		eval { $writer->{run}->finish };
		push @told, grep { !/terminating connection|server closed|closed the connection|connection to server|before or while processing|another server process exited|possibly corrupted shared memory|reconnect|Run was aborted|aborted in command|recovery mode|shutting down|^\s*$|^pgbench \(|PQgetResult|aborted: |starting up/ || /: ERROR: / } split /\n/, $writer->{err};
	}
	return join "\n", @told;
}

# The end of the postmaster, and of all that notice.
sub kill_server
{
	my ($pid) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	my @children = split ' ', slurp_raw("/proc/$pid/task/$pid/children");
	kill 'KILL', $pid;
	for my $gone ($pid, @children)
	{
		my $patience = time + $PostgreSQL::Test::Utils::timeout_default;
		usleep(10000) while -e "/proc/$gone" && slurp_raw("/proc/$gone/status") !~ /^State:\s+Z/m && time < $patience;
	}
	# Nobody may have buried it yet, and then its files would keep us out.
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->{_pid} = undef;
	$node->start;
	return;
}

start_writers();
ok($node->poll_query_until('postgres', 'SELECT count(*) > 10 FROM audit'), 'applications write');
my $old_keys = sql(q{SELECT string_agg(key_id::text, ',' ORDER BY key_id) FROM phi.keys WHERE class <> 'search' AND (clinic, class) IN
	(('a', 'identity'), ('b', 'identity'), ('a', 'clinical'), ('a', 'general'), ('b', 'insurance'))});
like($old_keys, qr/\A\d+(,\d+){4}\z/, 'five keys to leave');
sql(q{SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('b', 'identity'), phi.rotate_key('a', 'clinical'), phi.rotate_key('a', 'general'), phi.rotate_key('b', 'insurance')});
my $to_do = sql("SELECT sum(\"values\") FROM phi.count_values() WHERE key_id IN ($old_keys)");
cmp_ok($to_do, '>', 400000, 'and many values under them');
my $job = sql(q{CALL phi.rekey(workers => 2, rows_per_second => 20000)});
told("rekey of $to_do values begins");

# Ten moments. The fifth is the end of a worker only; at the tenth the job waits
# for a transaction that has encrypted something.
my $progress = "SELECT values_done FROM phi.rekey_progress WHERE job = $job";
my $holder;
for my $moment (1 .. 10)
{
	my $goal = $to_do * $moment * 0.085;
	my $phase = $moment < 10 ? 'rekeying' : 'waiting for writers';
	ok($node->poll_query_until('postgres', "SELECT values_done >= $goal AND phase = '$phase' OR state IN ('done', 'failed') FROM phi.rekey_progress WHERE job = $job"), "moment $moment");
	is(sql("SELECT state, phase FROM phi.rekey_progress WHERE job = $job"), "running|$phase", "moment $moment: the job is at work");
	if ($moment == 5)
	{
		my $bystander = session($node, undef)->pid;
		my ($worker) = split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_phi rekey'");
		my ($postmaster) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
		kill 'KILL', $worker;
		$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($worker, $bystander)");
		is((slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/)[0], $postmaster, "moment $moment: a worker is killed, the postmaster goes on");
	}
	else
	{
		kill_server();
	}
	is(end_writers(), '', "moment $moment: applications had no error before");
	is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'interrupted', "moment $moment: the job was interrupted");
	is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_phi rekey'}), '0', "moment $moment: nobody works on it");
	# Where changes are decoded, rows are updated instead of being changed in place.
	sql(q{SELECT count(*) FROM pg_create_logical_replication_slot('decoded', 'test_decoding')}) if $moment == 3;
	sql(q{SELECT pg_drop_replication_slot('decoded')}) if $moment == 7;
	start_writers();
	if ($moment == 9)
	{
		$holder = session($node, 'app_a');
		$holder->query(q{SET phi.clinic = 'a'; BEGIN; INSERT INTO staff VALUES (0, 'a', 'never committed')});
	}
	sql("CALL phi.resume_rekey($job)");
	told("moment $moment, ", sql($progress), ' values done');
}
ok($node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job"), 'the job ends');
is(sql("SELECT state, failed, error, phase FROM phi.rekey_progress WHERE job = $job"), 'done|0||', 'and is done');
told('done, ', sql("SELECT pass || ' passes' FROM phi.rekey_progress WHERE job = $job"));
is(sql("SELECT key_id, relation, \"column\", \"values\" FROM phi.count_values() WHERE key_id IN (0, $old_keys)"), '', 'no value is left under the old keys, while applications write on');
cmp_ok(sql('SELECT count(*) FROM audit'), '>', 100, 'they did write');
is(end_writers(), '', 'and had no error');

# Nothing is lost, nothing else changed.
is(counts(), $counts, 'as many values as before in each column');
for my $clinic ('a', 'b')
{
	gives($node, "app_$clinic", "SET phi.clinic = '$clinic'; $facts", $before{$clinic}, "clinic $clinic: all that nobody touched is as before");
	gives($node, "app_$clinic", qq{SET phi.clinic = '$clinic';
		SELECT count(*) FROM (SELECT * FROM ledger WHERE clinic = '$clinic') l FULL JOIN (SELECT id, name::text, copied::text, note::text, number::bigint FROM patient WHERE clinic = '$clinic') p USING (id)
		WHERE (l.plain, l.plain, l.id) IS DISTINCT FROM (p.name, p.copied, p.number) OR p.note <> 'note of ' || l.plain}, '0', "clinic $clinic: every row is what the ledger says");
}
is(sql('SELECT (SELECT count(*) FROM ledger) = (SELECT count(*) FROM patient), (SELECT sum(updates) > 0 FROM ledger)'), 't|t', 'no patient more or less');
is(sql(q{SELECT count(*) FROM patient p JOIN ledger l USING (id) WHERE (l.updates > 0) <> (updated_at > '2000-01-01Z')}), '0', 'the trigger fired for applications only');
is(sql('SELECT count(*) FROM (SELECT id, count(*) AS n FROM audit GROUP BY id) a RIGHT JOIN ledger l USING (id) WHERE coalesce(n, 0) <> updates'), '0', 'so did the other');
is(sql(q{SELECT count(*) FROM patients_of_a}), sql(q{SELECT count(*) FROM ledger WHERE clinic = 'a'}), 'a view on the table works');

# Indexes find all, before and after a REINDEX.
for my $when ('as the rekey left them', 'after REINDEX')
{
	for my $clinic ('a', 'b')
	{
		gives($node, "app_$clinic", qq{SET phi.clinic = '$clinic'; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off; SET max_parallel_workers_per_gather = 0;
			SELECT count(*), count(p.id) FROM (SELECT plain FROM ledger WHERE clinic = '$clinic' AND (id <= 10000 OR updates > 0 OR id > 200000)) l LEFT JOIN LATERAL (SELECT id FROM patient WHERE name = l.plain) p ON true;
			SELECT count(*), count(p.id) FROM (SELECT id AS n FROM ledger WHERE clinic = '$clinic' AND id BETWEEN 10001 AND 20000) l LEFT JOIN LATERAL (SELECT id FROM patient WHERE number = l.n) p ON true},
			qr/\A(\d{4,})\|\1\n5000\|5000\z/, "clinic $clinic: indexes $when find every row once");
	}
	sql('REINDEX TABLE patient') if $when =~ /^as/;
}
gives($node, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT id FROM patient WHERE name = 'name 1'}, qr/Index .*patient_name/, 'by the index');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT count(*) FROM patient WHERE name = 'nobody'}, '0', 'which finds nobody else');
refused($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient (id, clinic, name, number) VALUES (0, 'a', 'x', 1)}, '23P01', qr/one_number/, 'the exclusion constraint holds');
refused($node, 'app_a', q{SET phi.clinic = 'a'; DELETE FROM patient WHERE id = 1}, '23503', qr/appointment/, 'so does the foreign key');
$node->command_ok([ 'pg_amcheck', '--heapallindexed', '-d', 'postgres' ], 'pg_amcheck finds nothing wrong');
told('checked');

# Nothing needs the old keys any more.
for my $key (split /,/, $old_keys)
{
	gives($node, 'custodian', "SELECT phi.destroy_key($key) > 0; SELECT state FROM phi.keys WHERE key_id = $key", "t\ndestroyed", "key $key can be destroyed");
}
for my $clinic ('a', 'b')
{
	gives($node, "app_$clinic", "SET phi.clinic = '$clinic'; $facts", $before{$clinic}, "clinic $clinic: all is readable without them");
}

# A few pages that are changed, pruned and read all the time, and key after key.
# The worker is stopped again and again, for its page to change under its hands.
sub stop_and_go
{
	my ($most) = @_;
	my ($postmaster) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	my ($stops, $patience, $worker) = (0, time + 30);
	while (time < $patience && $stops < $most)
	{
		if (!defined $worker)
		{
			($worker) = grep { slurp_raw("/proc/$_/cmdline") =~ /pg_phi leader/ } split ' ', slurp_raw("/proc/$postmaster/task/$postmaster/children");
			next;
		}
		last unless kill 'STOP', $worker;
		usleep(40000);
		kill 'CONT', $worker;
		usleep(1000);
		$stops++;
	}
	return $stops;
}

sql('SET client_min_messages = warning; TRUNCATE patient, visit, staff, nurse CASCADE; REFRESH MATERIALIZED VIEW summary');
sql('CREATE TABLE busy (id int PRIMARY KEY, n int NOT NULL, name enctext(identity), note enctext(clinical), more enctext(clinical), still encbigint(clinical)); GRANT ALL ON busy TO app_a');
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO busy SELECT n, 0, 'v0', 'note of ' || n, 'more', n FROM generate_series(1, 6000) n}, '', 'a busy table');
append_to_file($node->basedir . '/change.sql', q{
	\set id random(1, 6000)
	UPDATE busy SET n = n + 1, name = 'v' || repeat('x', (n + 1) % 40) || (n + 1) WHERE id = :id;
	SELECT 1 / count(*) FROM busy WHERE id = :id AND name::text LIKE 'v%' AND note::text = 'note of ' || :id;
});
append_to_file($node->basedir . '/behold.sql', q{
	SELECT 1 / (count(*) FILTER (WHERE name::text = 'v' || CASE WHEN n > 0 THEN repeat('x', n % 40) ELSE '' END || n AND note::text = 'note of ' || id AND more::text = 'more' AND still::bigint = id) / 6000) FROM busy;
});
my $crowd = { out => '', err => '' };
{
	local $ENV{PGOPTIONS} = '-c phi.clinic=a';
	$crowd->{run} = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', '600', '-f', $node->basedir . '/change.sql@200', '-f', $node->basedir . '/behold.sql@1',
		'-h', $node->host, '-p', $node->port, '-U', 'app_a', 'postgres' ], '<', \undef, '>', \$crowd->{out}, '2>', \$crowd->{err});
}
@writers = ($crowd);
for my $round (1 .. 3)
{
	my $changes = sql('SELECT sum(n) FROM busy');
	ok($node->poll_query_until('postgres', "SELECT sum(n) > $changes + 3000 FROM busy"), "round $round: changes");
	sql("SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('a', 'clinical')");
	$job = sql('CALL phi.rekey(\'a\', workers => 1, rows_per_second => 10000)');
	my $stops = stop_and_go(120);
	cmp_ok($stops, '>', 0, "round $round: the worker is stopped amidst");
	told("$stops stops");
	$node->poll_query_until('postgres', "SELECT state IN ('done', 'failed') FROM phi.rekey_progress WHERE job = $job");
	is(sql("SELECT state, failed, error FROM phi.rekey_progress WHERE job = $job"), 'done|0|', "round $round: and ends, with no failure");
	is(sql("SELECT count(*) FROM phi.count_values() JOIN phi.keys USING (key_id) WHERE state <> 'active' AND clinic = 'a'"), '0', "round $round: nothing is left");
}
is(end_writers(), '', 'nobody met a value that was not whole');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT count(*), count(*) FILTER (WHERE name::text = 'v' || CASE WHEN n > 0 THEN repeat('x', n % 40) ELSE '' END || n AND note::text = 'note of ' || id AND more::text = 'more' AND still::bigint = id) FROM busy}, '6000|6000', 'every row is as it was left');
told('busy');
$node->stop;
command_ok([ 'pg_checksums', '--check', '-D', $node->data_dir ], 'checksums of all pages are right');

done_testing();
