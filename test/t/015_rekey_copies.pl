# What leaves the server while it is rekeyed: a standby, subscribers, base
# backups and dumps. Each is whole, readable, and holds ciphertext.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use PhiTest;

my $began = time;
my $node = new_server('primary', allows_streaming => 'logical', conf => "log_statement = none\nautovacuum = off\nmax_worker_processes = 16\n");
set_up_clinics($node);
my $rows = 15000;
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity), note enctext(clinical), aliases enctext(identity)[]);
	CREATE INDEX patient_name ON patient USING hash (name);
	GRANT ALL ON patient TO app_a;
});
gives($node, 'app_a', qq{SET phi.clinic = 'a'; INSERT INTO patient SELECT n, 'Yamamoto-' || n, CASE WHEN n % 500 = 0 THEN repeat(md5(n::text), 500) ELSE 'fever-' || n END, ARRAY['Taro-' || n, 'Jiro'] FROM generate_series(1, $rows) n}, '', 'patients');
my $facts = q{SET phi.clinic = 'a'; SELECT count(*), md5(string_agg(concat_ws('|', id, name::text, note::text, aliases::text), E'\n' ORDER BY id)) FROM patient};
my (undef, $expected) = as($node, 'app_a', $facts);
like($expected, qr/\A$rows\|\w{32}\z/, 'and what they are');
my $secrets = qr/Yamamoto-\d|fever-\d|Taro-\d/;

sub told
{
	diag(sprintf '%5.1f s: %s', time - $began, $_[0]);
	return;
}

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub outdated
{
	my ($server, $database) = @_;
	return $server->safe_psql($database // 'postgres', q{SELECT coalesce(sum("values"), 0) FROM phi.count_values() u LEFT JOIN phi.keys k USING (key_id) WHERE k.state IS DISTINCT FROM 'active'});
}

sub ends
{
	my ($server, $job, $name) = @_;
	$server->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job");
	return is($server->safe_psql('postgres', "SELECT concat_ws(' ', state, error, failed) FROM phi.rekey_progress WHERE job = $job"), 'done 0', $name);
}

# A standby, a subscriber and somebody who reads the changes.
$node->backup('before');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'before', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = off\nmax_standby_streaming_delay = -1\n");
$standby->start;
sql('CREATE DATABASE subscriber');
$node->safe_psql('subscriber', q{CREATE EXTENSION pg_phi; CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity), note enctext(clinical), aliases enctext(identity)[]); GRANT ALL ON patient TO app_a});
sql(q{CREATE PUBLICATION everything FOR TABLE patient, phi.clinic, phi.data_key; SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput'); SELECT pg_create_logical_replication_slot('reader', 'test_decoding')});
$node->safe_psql('subscriber', 'CREATE SUBSCRIPTION subscriber CONNECTION \'' . ($node->connstr('postgres') =~ s/'/''/gr) . "' PUBLICATION everything WITH (create_slot = false, slot_name = 'subscriber')");
$node->wait_for_subscription_sync($node, 'subscriber', 'subscriber');
$node->safe_psql('subscriber', q{SELECT phi.grant_clinic('app_a', 'a')});
gives($node, 'app_a', $facts, $expected, 'the subscriber has them', database => 'subscriber');
told('copies');

# A base backup and a dump while the job is at work.
sql("SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('a', 'clinical')");
my $to_do = outdated($node);
is($to_do, 4 * $rows, 'all is to do');
my $job = sql('CALL phi.rekey(rows_per_second => 2500)');
ok($node->poll_query_until('postgres', "SELECT values_done > 0 AND state = 'running' FROM phi.rekey_progress WHERE job = $job"), 'a slow job begins');
my $first_job = $job;
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '--format=custom', '--compress=0', '--file', $dump, 'postgres' ], 'pg_dump meanwhile');
$node->backup('running');
is(sql("SELECT state, phase FROM phi.rekey_progress WHERE job = $job"), 'running|rekeying', 'the job was at work all the time');
sql("SELECT phi.pause_rekey($job)");
ok($node->poll_query_until('postgres', "SELECT NOT phi.is_led($job)"), 'paused');
my $left = outdated($node);
ok($left > 0 && $left < $to_do, 'midway');
$node->backup('paused');
my $name_of = q{SELECT format('%s %s', key_id, sum("values")) FROM phi.count_values() GROUP BY key_id ORDER BY key_id};
my $midway = sql($name_of);
told('backups');

# The standby follows, and stays read-only.
$node->wait_for_catchup($standby);
gives($standby, 'app_a', $facts, $expected, 'standby, midway: every value is readable');
gives($standby, 'custodian', "SELECT state FROM phi.rekey_progress WHERE job = $job", 'paused', 'standby: progress is told');
for my $call ('CALL phi.rekey()', "CALL phi.resume_rekey($job)", "SELECT phi.pause_rekey($job)", "SELECT phi.cancel_rekey($job)")
{
	refused($standby, 'custodian', $call, '25006', qr/read-only|recovery/, "standby: refused: $call");
}
my $old_reader = session($standby, 'app_a');
$old_reader->query("SET phi.clinic = 'a'");
is($old_reader->query(q{SELECT name FROM patient WHERE id = 77}), 'Yamamoto-77', 'standby: a session that stays');
sql("CALL phi.resume_rekey($job, rows_per_second => 1000000)");
ends($node, $job, 'the job goes on and ends');
is(outdated($node), '0', 'nothing is left');
gives($node, 'app_a', $facts, $expected, 'the rows are what they were');
$node->wait_for_catchup($standby);
gives($standby, 'app_a', $facts, $expected, 'standby, afterwards: every value is readable');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM patient p, phi.keys k WHERE k.key_id IN ((phi.describe(name)).key_id, (phi.describe(note)).key_id) AND k.state <> 'active'}), '0', 'standby: under the new keys');
is($old_reader->query(q{SELECT name FROM patient WHERE name = 'Yamamoto-77'}), 'Yamamoto-77', 'standby: so it is for the session that stayed');
gives($standby, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Yamamoto-123'}, '123', 'standby: the index finds');
$old_reader->quit;
told('standby');

# Subscribers get ciphertext.
$node->wait_for_catchup('subscriber');
my $rows_of = q{SELECT md5(string_agg(p::text, E'\n' ORDER BY id)) FROM patient p};
is($node->safe_psql('subscriber', $rows_of), sql($rows_of), 'the subscriber has the same bytes');
gives($node, 'app_a', $facts, $expected, 'and reads them', database => 'subscriber');
is($node->safe_psql('subscriber', q{SELECT count(*) FROM phi.rekey_job}), '0', 'it has no job of its own');
my $changes = q{SELECT count(*), count(*) FILTER (WHERE data LIKE '%name[enctext]:''phi1:%'), count(*) FILTER (WHERE data ~ 'Yamamoto-|fever-|Taro-') FROM pg_logical_slot_get_changes('reader', NULL, NULL) WHERE data LIKE 'table public.patient:%'};
is(sql($changes), "$rows|$rows|0", 'who decodes the changes gets each row once, as ciphertext');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION subscriber');
told('subscriber');

# The dump restores: in it the job is there, the rows are under both keys.
sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
unlike(slurp_raw($dump), $secrets, 'the dump holds no plaintext');
gives($node, 'app_a', $facts, $expected, 'the dump made meanwhile: every value is readable', database => 'restored');
cmp_ok(outdated($node, 'restored'), '>', 0, 'some values of it are under old keys');
is($node->safe_psql('restored', "SELECT state FROM phi.rekey_progress WHERE job = $job"), 'interrupted', 'the job came along, interrupted');
$node->safe_psql('restored', "CALL phi.resume_rekey($job, rows_per_second => 1000000)");
ok($node->poll_query_until('restored', "SELECT state = 'done' FROM phi.rekey_progress WHERE job = $job"), 'resumed it ends');
is(outdated($node, 'restored'), '0', 'and has left nothing, though tables have other OIDs');
gives($node, 'app_a', $facts, $expected, 'the rows are what they were', database => 'restored');
told('dump');

# Without anybody who decodes changes, values are changed in place. A standby
# that reads all the time never meets half a value.
sql(q{SELECT pg_drop_replication_slot('reader')});
my $size = sql(q{SELECT pg_relation_size('patient', 'main')});
append_to_file($node->basedir . '/read.sql', "\\set id random(1, $rows)\nSELECT 1 / count(*) FROM patient WHERE id = :id AND name::text = 'Yamamoto-' || :id;\nSELECT 1 / (count(name::text) / $rows) FROM patient;\n");
my ($out, $err) = ('', '');
my $readers;
{
	local $ENV{PGOPTIONS} = '-c phi.clinic=a';
	$readers = IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '600', '-f', $node->basedir . '/read.sql', '-h', $standby->host, '-p', $standby->port, '-U', 'app_a', 'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
}
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE usename = 'app_a'}), 'standby: readers');
sql("SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('a', 'clinical')");
$job = sql('CALL phi.rekey(rows_per_second => 5000)');
ok($node->poll_query_until('postgres', "SELECT values_done > 0 AND state = 'running' FROM phi.rekey_progress WHERE job = $job"), 'a slow job begins');
$node->backup('in_place');
is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'running', 'a backup while values are changed in place');
my $job_in_place = $job;
ends($node, $job, 'the job ends');
is(outdated($node), '0', 'nothing is left');
cmp_ok(sql(q{SELECT pg_relation_size('patient', 'main')}), '<', $size * 1.05, 'in place: the table is as large as before');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'}), '2', 'standby: the readers read on');
$readers->signal('TERM');
eval { $readers->finish };
is($err =~ s/^pgbench \(.*\n//mr, '', 'standby: and had no error');
gives($standby, 'app_a', $facts, $expected, 'standby: every value is readable');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM patient p, phi.keys k WHERE k.key_id IN ((phi.describe(name)).key_id, (phi.describe(note)).key_id) AND k.state <> 'active'}), '0', 'standby: under the new keys');
gives($standby, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Yamamoto-123'}, '123', 'standby: the index finds');
told('in place');

# So do the base backups. They come with the keys of the day, no more.
$node->stop;
$standby->stop;
for my $name ('running', 'paused', 'in_place')
{
	my $job = $name eq 'in_place' ? $job_in_place : $first_job;
	my $restored = PostgreSQL::Test::Cluster->new("from_$name");
	$restored->init_from_backup($node, $name);
	$restored->start;
	is($restored->safe_psql('postgres', "SELECT state FROM phi.rekey_progress WHERE job = $job"), $name eq 'paused' ? 'paused' : 'interrupted', "backup, $name: the job is there");
	is($restored->safe_psql('postgres', $name_of), $midway, 'backup, paused: as many values under each key as then') if $name eq 'paused';
	gives($restored, 'app_a', $facts, $expected, "backup, $name: every value is readable");
	$restored->safe_psql('postgres', "CALL phi.resume_rekey($job, rows_per_second => 1000000)");
	ends($restored, $job, "backup, $name: the job is resumed and ends");
	is(outdated($restored), '0', "backup, $name: nothing is left");
	gives($restored, 'app_a', $facts, $expected, "backup, $name: the rows are what they were");
	gives($restored, 'app_a', q{SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Yamamoto-123'}, '123', "backup, $name: the index finds");
	$restored->stop;
}

# The standby takes over what is left.
$node->start;
$standby->start;
sql("SELECT phi.rotate_key('a', 'identity')");
$job = sql('CALL phi.rekey(rows_per_second => 2500)');
ok($node->poll_query_until('postgres', "SELECT values_done > 0 AND state = 'running' FROM phi.rekey_progress WHERE job = $job"), 'a job begins');
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
is($standby->safe_psql('postgres', "SELECT state FROM phi.rekey_progress WHERE job = $job"), 'interrupted', 'the standby takes over, the job is interrupted');
$standby->safe_psql('postgres', "CALL phi.resume_rekey($job, rows_per_second => 1000000)");
ends($standby, $job, 'resumed there it ends');
is(outdated($standby), '0', 'nothing is left');
gives($standby, 'app_a', $facts, $expected, 'the rows are what they were');
$standby->stop;
told('standby taking over');

done_testing();
