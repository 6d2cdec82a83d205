# What attackers of the custody of keys found that takes several sessions,
# workers or commits. The rest is in test/pgtap/81_custody_attacks.sql. What is
# not repaired yet is marked with its number in the report on the attack.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('custody_attacks', allows_streaming => 1, conf => "autovacuum = off\nmax_worker_processes = 16\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE sato LOGIN IN ROLE phi_custodian;
	CREATE ROLE suzuki LOGIN IN ROLE phi_custodian;
	CREATE ROLE tenant LOGIN;
	GRANT CREATE ON SCHEMA public TO app_a, app_b;
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	CREATE INDEX ON patient USING hash (name);
	GRANT ALL ON patient TO app_a, app_b;
});
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient SELECT n, ('Sato ' || n)::text FROM generate_series(1, 200) n}, '', 'patients');

# Rows of which one value is out of line, so that they are moved, and too many
# for one page, so that their indexes get new entries.
my $rows = q{SELECT i, string_agg(md5(random()::text), '') FROM generate_series(1, 300) i, generate_series(1, 100) GROUP BY i};

sub psql_as
{
	my ($role, $sql, %options) = @_;
	my (undef, $out) = as($node, $role, $sql, on_error_stop => 0, %options);
	return $out;
}

# Statements that go on by themselves.
sub begin_sql
{
	my ($role, $sql, $waiting) = @_;
	my $self = { err => '', out => '' };
	$self->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " user=$role", '-c', $sql ],
		'>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(60));
	$node->poll_query_until('postgres', "SELECT count(*) >= $waiting FROM pg_stat_activity WHERE usename IN ('sato', 'suzuki') AND wait_event_type = 'Lock'");
	return $self;
}

# The state of a job that begins now, once it is over, and after so many seconds at most.
sub rekeyed
{
	my ($seconds, $parameters) = @_;
	my (undef, $job) = as($node, 'sato', 'CALL phi.rekey(' . ($parameters // '') . ')');
	my $state;

	for (1 .. 10 * $seconds)
	{
		(undef, $state) = as($node, undef, "SELECT state FROM phi.rekey_job WHERE job = $job");
		last if ($state // '') =~ /done|failed/;
		select undef, undef, undef, 0.1;
	}
	psql_as('sato', "SELECT phi.cancel_rekey($job)") if ($state // '') !~ /done/;
	return $state;
}

sub with_table
{
	my ($index, $do) = @_;
	$node->safe_psql('postgres', q{ALTER ROLE app_a NOSUPERUSER});
	psql_as('app_a', "SET phi.clinic = 'a'; CREATE TABLE mine (id int, v enctext(identity)); $index; INSERT INTO mine $rows");
	$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
	$do->();
	psql_as(undef, 'DROP TABLE IF EXISTS mine CASCADE');
	$node->safe_psql('postgres', q{ALTER ROLE app_a NOSUPERUSER});
	return;
}

# 1: functions of the table's owner, run by a worker that is a superuser.
my $grab = q{
	CREATE FUNCTION take() RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE app_a SUPERUSER; END IF; END $$;
	CREATE FUNCTION grab(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.take(); RETURN $1; END $$};
gives($node, 'app_a', $grab, '', 'a trap');
my %trap = ('an expression' => 'CREATE INDEX ON mine (grab(id))', 'a predicate' => 'CREATE INDEX ON mine (id) WHERE grab(id) > 0');
for my $name (sort keys %trap)
{
	for my $method ('online', 'rewrite')
	{
		with_table($trap{$name}, sub {
			is(rekeyed(20, "method => '$method'"), 'done', "an index with $name of the owner's: $method");
			is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'app_a'}), 'f', "nobody became superuser: $name, $method");
		});
	}
}

# 4: one table must not keep a key of all others.
psql_as('app_a', q{
	CREATE FUNCTION divides(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF session_user <> 'app_a' THEN RETURN 1 / ($1 - $1); END IF; RETURN $1; END $$;
	CREATE FUNCTION again(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF session_user <> 'app_a' THEN RAISE serialization_failure; END IF; RETURN $1; END $$;
	CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
	CREATE FUNCTION honest(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN helper($1); END $$});
my %broken = (
	'fails in a worker' => 'CREATE INDEX ON mine (divides(id))',
	'always asks to be tried again' => 'CREATE INDEX ON mine (again(id))',
	'names a function without its schema' => 'CREATE INDEX ON mine (honest(id))',
	'has no replica identity' => 'SELECT 1');
for my $name (sort keys %broken)
{
	with_table($broken{$name}, sub {
		psql_as(undef, 'CREATE PUBLICATION news FOR TABLE mine') if $name =~ /replica/;
		my $state = rekeyed(40);
		my $left = $node->safe_psql('postgres', q{SELECT coalesce(sum("values"), 0) FROM phi.count_values() v JOIN phi.data_key k USING (key_id) WHERE k.state = 'retired' AND v.relation = 'patient'::regclass});
		{
			is($state, 'done', "a table whose index, or that itself, $name: the job ends, with failures");
		}
		is($left, '0', 'other tables are done') if $name =~ /replica/;
		psql_as(undef, 'DROP PUBLICATION IF EXISTS news');
	});
}
is(rekeyed(20), 'done', 'without it all is well');

# 9: the same for search keys.
psql_as('app_a', q{SET phi.clinic = 'a';
	CREATE FUNCTION mean(enctext) RETURNS enctext LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF session_user <> 'app_a' THEN RAISE 'no'; END IF; RETURN $1; END $$;
	CREATE TABLE mean (v enctext(identity)); INSERT INTO mean VALUES ('x'); CREATE INDEX ON mean USING hash (mean(v))});
{
	my ($status, undef, $messages) = as($node, 'sato', q{SELECT phi.rotate_search_key('b')});
	ok($status == 0 || $messages =~ /HINT: .*mean/, "an index of an application's does not keep the search keys of others, or is named with what to do");
	like($messages, qr/WARNING: .*index public.mean_mean_idx on table public.mean .*HINT: .*REINDEX INDEX public.mean_mean_idx/s, 'a warning says which');
	is($node->safe_psql('postgres', q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'mean_mean_idx'::regclass}), 'f', 'no query uses it');
	is($node->safe_psql('postgres', q{SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'patient'::regclass}), 't', 'but those that could be built');
}
psql_as(undef, 'DROP TABLE mean');

# 22: an application locks the same tables in another order.
psql_as('app_a', "SET phi.clinic = 'a'; CREATE TABLE visit (id int, name enctext(identity)); CREATE INDEX ON visit USING hash (name)");
{
	my $application = session($node, 'app_a');
	$application->query('BEGIN; LOCK TABLE visit IN SHARE MODE');
	my $rotation = begin_sql('sato', q{SELECT phi.rotate_search_key('b')}, 0);
	sleep 1;
	$application->query('SELECT count(*) FROM patient; INSERT INTO visit VALUES (1)');
	sleep 2;
	my ($at_last, $answer) = $application->query('SELECT count(*) FROM patient; COMMIT');
	$application->quit;
	$rotation->{run}->finish;
	is($at_last, '200', 'the application goes on');
	unlike($rotation->{err} . $answer, qr/ERROR/, 'there is no deadlock, and the rotation comes when the application is done');

	my $reader = session($node, 'app_a');
	$reader->query('BEGIN; SELECT count(*) FROM patient');
	my ($status, undef, $messages) = as($node, 'sato', q{SET lock_timeout = '1s'; SELECT phi.rotate_search_key('b')});
	like($messages, qr/ERROR:  55P03.*patient.*HINT/s, 'after as long as lock_timeout says it gives up, and says what was in the way');
	$reader->quit;
}
psql_as(undef, 'DROP TABLE visit');

# 10: a cursor that stays open.
psql_as('app_a', "SET phi.clinic = 'a'; CREATE TABLE pinned (id int, v enctext(identity)); INSERT INTO pinned SELECT i, 'x' || i FROM generate_series(1, 30) i");
$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
my $reader = session($node, 'app_a');
$reader->query("SET phi.clinic = 'a'; BEGIN; DECLARE c CURSOR FOR SELECT * FROM pinned; FETCH 1 FROM c");
{
	is(rekeyed(12), 'done', 'a page that is pinned for long does not keep a job from its end');
}
$reader->quit;
psql_as(undef, 'DROP TABLE pinned');
is(rekeyed(20), 'done', 'after that it ends');

# 11: rewriting and older snapshots.
$reader = session($node, 'app_a');
$reader->query('CREATE TABLE other (i int)');
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM other');
$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
is(rekeyed(20, "method => 'rewrite'"), 'done', 'rewritten');
my ($seen, $said) = $reader->query('SELECT count(*) FROM patient');
{
	ok($seen eq '200' || $said =~ /ERROR/, 'an older snapshot sees the rows of a rewritten table, or an error');
}
$reader->quit;

# 7: a job that was restored without its lanes.
my $old = psql_as('app_a', "SET phi.result_as_base = off; SELECT name FROM patient WHERE id = 1");
my $retired = $node->safe_psql('postgres', q{SELECT key_id FROM phi.data_key WHERE class = 1 AND clinic_id = 1 AND state = 'active'});
$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
$node->safe_psql('postgres', "INSERT INTO phi.rekey_job (clinic_id, class, key_ids, state, phase, pass) VALUES (1, 1, '{$retired}', 'paused', 'rekeying', 2)");
my $restored = $node->safe_psql('postgres', 'SELECT max(job) FROM phi.rekey_job');
as($node, 'sato', "CALL phi.resume_rekey($restored, wait => true)");
{
	is($node->safe_psql('postgres', qq{SELECT j.state, coalesce(sum(v."values"), 0) FROM phi.rekey_job j LEFT JOIN phi.count_values() v ON v.key_id = $retired WHERE job = $restored GROUP BY 1}), 'done|0', 'a restored job in its second pass does not end before it has begun');
}
is(rekeyed(20), 'done', 'a new job does it');

# 13: what is told when a job that runs is resumed.
$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
my (undef, $slow) = as($node, 'sato', 'CALL phi.rekey(rows_per_second => 20)');
$node->poll_query_until('postgres', "SELECT phi.is_led($slow)");
my (undef, undef, $messages) = as($node, 'sato', "CALL phi.resume_rekey($slow)");
{
	like($messages, qr/ERROR:  55006: .*is at work/, 'a job at work is not resumed');
}
psql_as('sato', "SELECT phi.cancel_rekey($slow)");

# 3: forged while the server is sealed.
psql_as('app_a', 'CREATE TABLE heap (v enctext(identity))');
is(psql_as('sato', 'SELECT phi.seal()'), '0', 'sealed');
my ($forged) = as($node, 'app_a', "INSERT INTO heap SELECT ('phi1:' || translate(encode(set_byte(decode(substr('$old', 6), 'base64'), 60, 7), 'base64'), E'\\n', ''))::enctext");
is(psql_as('sato', 'SELECT phi.unseal()'), 't', 'unsealed');
{
	isnt($forged, 0, 'no application stores what cannot be authenticated');
}
psql_as('app_a', 'DROP TABLE heap');

# 14: a master key that was rotated away does not come back.
my $first = $node->safe_psql('postgres', 'SELECT DISTINCT master_key FROM phi.data_key');
my $second = psql_as('sato', 'SELECT phi.rotate_master_key()');
rename key_directory($node) . "/$second.kek", $node->basedir . '/lost' or die;
my $third = psql_as('sato', 'SELECT phi.rotate_master_key()');
isnt($third, $first, 'a master key that was replaced before wraps nothing again');
rename $node->basedir . '/lost', key_directory($node) . "/$second.kek" or die;

# 21: what cannot be begun changes nothing.
my $spared = $node->safe_psql('postgres', q{SELECT key_id FROM phi.data_key WHERE class = 4 AND clinic_id = 1 AND state = 'active'});
as($node, 'sato', "CALL phi.respond_to_compromise($spared, 'x', workers => 99)");
is($node->safe_psql('postgres', "SELECT state FROM phi.data_key WHERE key_id = $spared"), 'active', 'too many workers are refused before a key is marked');
as($node, 'sato', "CALL phi.respond_to_compromise($spared, 'x')");

# What commits is refused where it cannot, before anything is done.
my $requests = $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM phi.compromise_report), (SELECT count(*) FROM phi.rekey_job)');
refused($node, 'sato', "BEGIN; CALL $_", '25001', qr/HINT: +Call it outside of a transaction block/, "in a transaction block: $_")
  for "phi.shred_clinic('b', 'b')", "phi.respond_to_compromise(1, 'x')";
refused($node, 'sato', "DO \$\$ BEGIN CALL phi.shred_clinic('b', 'b'); EXCEPTION WHEN division_by_zero THEN NULL; END \$\$", '25001', qr/HINT: +Call it outside/, 'in a block that catches errors, too');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM phi.compromise_report), (SELECT count(*) FROM phi.rekey_job)'), $requests, 'and nothing was begun');
refused($node, undef, "BEGIN; UPDATE phi.data_key SET master_key = repeat('x', 100) WHERE key_id = 1; SELECT phi.rotate_master_key()", '22000', qr/not the label of a master key.*HINT/s, 'a label that is too long is no endless loop');

# 20: a destruction that waits for a reader, and a rotation that waits for it.
my $unused = $node->safe_psql('postgres', q{SELECT key_id FROM phi.data_key WHERE class = 2 AND clinic_id = 1 AND state = 'active'});
$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'insurance')});
is(rekeyed(20), 'done', 'no value needs the key');
$reader = session($node, 'app_a');
$reader->query('BEGIN; SELECT count(*) FROM patient');
my @both = map { begin_sql(@$_) } [ 'sato', "SELECT phi.destroy_key($unused)", 1 ], [ 'suzuki', 'SELECT phi.rotate_master_key()', 1 ];
sleep 2;                         # the server looks for deadlocks after one
$reader->quit;
$_->{run}->finish for @both;
{
	unlike($both[0]{err} . $both[1]{err}, qr/deadlock/, 'a destruction and a rotation of the master key wait for each other in one order');
}

# 2: what an aborted transaction left, of a column that does not exist, is not a value.
my %remains = (
	'a name that looks like a pointer' => [ 'c name', q{(2, 'y', convert_from('\x0101', 'LATIN1') || 'AAAAAAAA')}, 'ADD COLUMN c enctext(identity)' ],
	'uuids' => [ 'u uuid, ADD COLUMN n text', q{(2, 'y', '01020304-0506-0708-090a-0b0c0d0e0f10', 'note')}, 'ADD COLUMN c enctext(identity), ADD COLUMN d enctext(clinical)' ]);
for my $name (sort keys %remains)
{
	my ($columns, $values, $again) = @{ $remains{$name} };
	my $mark = -s $node->logfile;
	psql_as('app_a', "SET phi.clinic = 'a'; CREATE TABLE migrated (id int, v enctext(identity)); INSERT INTO migrated VALUES (1, 'x');
		BEGIN; ALTER TABLE migrated ADD COLUMN $columns; INSERT INTO migrated VALUES $values; ROLLBACK; ALTER TABLE migrated $again");
	$node->safe_psql('postgres', q{SELECT phi.rotate_key('a', 'identity')});
	as($node, 'sato', 'CALL phi.rekey(wait => true)');
	$node->poll_query_until('postgres', 'SELECT true');
	{
		ok(slurp_file($node->logfile, $mark) !~ /background worker .* was terminated by signal/, "no worker crashes over the remains of a migration: $name");
	}
	psql_as(undef, 'DROP TABLE migrated');
}
is(rekeyed(20), 'done', 'a job after that');

# 6: the database's owner.
$node->safe_psql('postgres', 'CREATE DATABASE hosp OWNER tenant');
$node->safe_psql('hosp', q{CREATE EXTENSION pg_phi; SELECT phi.create_clinic('a', 'A'), phi.rotate_key('a', 'identity')});
$node->safe_psql('hosp', q{
	CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
	CREATE TABLE evil.log (who name); GRANT INSERT ON evil.log TO PUBLIC;
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.log VALUES (current_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
	ALTER DATABASE hosp SET search_path = evil, pg_catalog}, connstr => $node->connstr('hosp') . ' user=tenant');
my $key = $node->safe_psql('hosp', q{SELECT min(key_id) FROM phi.data_key WHERE state OPERATOR(pg_catalog.=) 'retired'});
is((as($node, 'sato', "CALL phi.respond_to_compromise($key, 'x')", database => 'hosp'))[0], 0, 'a response in the database of a tenant');
is($node->safe_psql('hosp', 'SELECT count(*) FROM evil.log'), '0', "no operator of the database's owner runs as the custodian");
$node->safe_psql('hosp', 'ALTER DATABASE hosp RESET search_path; ALTER DATABASE hosp SET role = tenant', connstr => $node->connstr('hosp') . ' user=tenant');
as($node, 'sato', "RESET role; SELECT phi.start_rekey(NULL, NULL, NULL, NULL, 2, NULL, 'online')", database => 'hosp', options => '-c role=none');
{
	my $state = '';
	for (1 .. 30)
	{
		(undef, $state) = as($node, undef, 'SET role = none; SELECT state FROM phi.rekey_job ORDER BY job DESC LIMIT 1', database => 'hosp');
		last if $state =~ /done/;
		select undef, undef, undef, 0.1;
	}
	is($state, 'done', 'a setting of the database does not take the workers their rights');
}

# 17, 18: two custodians.
$node->append_conf('postgresql.conf', 'phi.require_approval = on');
$node->reload;
$node->poll_query_until('postgres', 'SHOW phi.require_approval', 'on');
$key = $node->safe_psql('postgres', q{SELECT phi.rotate_key('b', 'clinical') - 1}) && $node->safe_psql('postgres', q{SELECT k.key_id FROM phi.data_key k JOIN phi.clinic c USING (clinic_id) WHERE c.code = 'b' AND k.class = 3 AND k.state = 'retired'});
psql_as('sato', "SELECT phi.destroy_key($key)");
my $certificate = psql_as('suzuki', q{SELECT phi.approve(max(request_id)) FROM phi.requests WHERE state = 'open'});
is($node->safe_psql('postgres', "SELECT login, approved_by FROM phi.destruction_certificate WHERE certificate_id = $certificate"), 'sato|suzuki', 'a certificate names both who wanted it and who approved');
psql_as('sato', 'SELECT phi.seal()');
psql_as('sato', 'SELECT phi.unseal()');
psql_as('suzuki', q{BEGIN; SELECT phi.approve(max(request_id)) FROM phi.requests WHERE state = 'open'; ROLLBACK});
is($node->safe_psql('postgres', q{SELECT s.sealed OR EXISTS (SELECT FROM phi.requests r WHERE r.action = 'unseal' AND r.approved_by = 'suzuki') FROM phi.seal_status() s}), 't', 'a rollback does not take back who approved the unsealing that stays');
psql_as('suzuki', q{SELECT phi.approve(max(request_id)) FROM phi.requests WHERE state = 'open' AND action = 'unseal'});

# 16: a shredding that failed long ago.
psql_as('sato', q{CALL phi.shred_clinic('b', 'b')});
my $blocker = session($node, undef);
$blocker->query('BEGIN; LOCK TABLE phi.data_key IN ROW SHARE MODE');
psql_as('suzuki', q{SELECT phi.approve(max(request_id)) FROM phi.requests WHERE state = 'open'});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM phi.rekey_job WHERE kind = 'shred' AND phase = 'waiting for writers'});
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_phi rekey'});
$node->poll_query_until('postgres', q{SELECT state = 'failed' FROM phi.rekey_job WHERE kind = 'shred'});
$blocker->quit;
$node->safe_psql('postgres', q{UPDATE phi.request SET requested_at = now() - interval '1 year', approved_at = now() - interval '1 year', expires_at = now() - interval '1 year'});
my $shred = $node->safe_psql('postgres', q{SELECT job FROM phi.rekey_job WHERE kind = 'shred'});
{
	is((as($node, 'sato', "SELECT phi.cancel_rekey($shred)"))[0], 0, 'a shredding that failed can be called off');
}
psql_as('sato', "CALL phi.resume_rekey($shred, wait => true)");
is($node->safe_psql('postgres', q{SELECT count(*) FROM phi.data_key k JOIN phi.clinic c USING (clinic_id) WHERE c.code = 'b' AND k.state = 'destroyed' AND k.class <> 3}), '0', 'an approval that has expired shreds nothing');
psql_as(undef, "UPDATE phi.rekey_job SET state = 'running', error = NULL WHERE job = $shred");
is(psql_as('sato', q{SELECT phi.start_shred('b', 'b') IS NULL}), 't', 'one that was interrupted waits for another approval');
is(psql_as('suzuki', q{SELECT phi.approve(max(request_id)) FROM phi.requests WHERE state = 'open' AND action = 'shred_clinic'}), $shred, 'with it the same job goes on');
$node->poll_query_until('postgres', "SELECT state = 'done' FROM phi.rekey_job WHERE job = $shred");
is($node->safe_psql('postgres', q{SELECT d.destroyed_by, d.login, d.approved_by FROM phi.destruction_certificate d WHERE d.what = 'clinic'}), 'sato|sato|suzuki', 'to its end, for who asked');

# 19: a standby that was sealed, with approvals.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('custody_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is((as($standby, 'sato', 'SELECT phi.seal()'))[1], '0', 'a standby is sealed');
my ($status, undef, $why) = as($standby, 'sato', 'SELECT phi.unseal()');
ok($status == 0 || $why =~ /ERROR:  55000.*HINT:  Set phi.require_approval = off/s, 'and unsealed, or an error tells how');
$standby->restart;
is((as($standby, 'sato', 'SELECT sealed FROM phi.seal_status()'))[1], 't', 'a restart leaves it sealed');
$standby->promote;
is((as($standby, 'sato', 'SELECT sealed FROM phi.seal_status()'))[1], 't', 'so does its promotion');
$standby->stop;

done_testing();
