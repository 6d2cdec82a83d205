# Row triggers and histories, over what commits: dumps, subscriptions, rekeys,
# the destruction of keys, conversions, and writers at the same time.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('rows', allows_streaming => 'logical', conf => "log_statement = none\n");
set_up_clinics($node);
my $time = q{SELECT to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.US')};

sub sql
{
	return $node->safe_psql($_[1] // 'postgres', $_[0]);
}

sql(q{
	CREATE ROLE auditor LOGIN BYPASSRLS IN ROLE phi_auditor; -- who opens no clinic
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL, name enctext(identity), note enctext(clinical), tags enctext(clinical)[]);
	CREATE TABLE visit (clinic text, id int, note enctext(clinical), PRIMARY KEY (clinic, id)) PARTITION BY LIST (clinic);
	CREATE TABLE visit_a PARTITION OF visit FOR VALUES IN ('a');
	CREATE TABLE visit_b PARTITION OF visit FOR VALUES IN ('b');
	SELECT phi.isolate('patient', 'clinic');
	SELECT phi.audit('patient', history => true), phi.audit('visit', history => true);
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient, visit TO app_a, app_b;
	GRANT SELECT ON patient_history, visit_history TO app_a, app_b;
	GRANT SELECT ON patient TO auditor;
});
gives($node, 'app_a', q{
	SET phi.clinic = 'a';
	INSERT INTO patient SELECT n, 'a', 'Yamamoto-' || n, repeat('Wadsworth ', CASE n WHEN 7 THEN 5000 ELSE 1 END) || n, ARRAY['tag' || n] FROM generate_series(1, 200) n;
	INSERT INTO visit SELECT 'a', n, 'visit ' || n FROM generate_series(1, 50) n}, '', 'rows');
my $before = sql($time);
gives($node, 'app_a', q{
	SET phi.clinic = 'a';
	UPDATE patient SET note = 'healed ' || id WHERE id > 1;
	DELETE FROM patient WHERE id % 10 = 0;
	UPDATE visit SET note = 'gone', id = id + 100}, '', 'and changes');
my $chart = qq{
	SET phi.clinic = 'a';
	SELECT count(*), md5(string_agg(concat_ws('|', id, clinic, name, note, tags::text[]), E'\\n' ORDER BY id)) FROM phi.as_of(NULL::patient, '$before');
	SELECT count(*), md5(string_agg(concat_ws('|', id, clinic, note), E'\\n' ORDER BY id)) FROM phi.as_of(NULL::visit, '$before')};
my (undef, $facts) = as($node, 'app_a', $chart);
like($facts, qr/^200\|\w{32}\n50\|\w{32}$/, 'a chart as it was');
gives($node, 'app_b', "SET phi.clinic = 'b'; SELECT count(*) FROM phi.as_of(NULL::patient, '$before')", '0', 'which another clinic does not see');

# Each row's digest is that of its last record.
my $digests = q{
	SELECT count(*), count(*) FILTER (WHERE a.new_digest = phi.row_digest(p, a.digest_key)) FROM patient p,
		LATERAL (SELECT * FROM phi.audit_log a WHERE a.relation = 'public.patient' AND a.row_key = ARRAY[p.id::text] ORDER BY a.record_id DESC LIMIT 1) a};
gives($node, 'auditor', $digests, '180|180', 'auditors compare rows with their records');

# A rekey, in place and by update, changes neither digests nor what histories show.
sub rekey
{
	my ($name) = @_;
	gives($node, 'custodian', "SELECT phi.rotate_key('a', 'clinical') > 0, phi.rotate_key('a', 'identity') > 0", 't|t', "new keys $name");
	my ($status, undef, $messages) = as($node, 'custodian', "CALL phi.rekey('a', wait => true)");
	is($status, 0, "a rekey $name") or diag($messages);
	is(sql(q{SELECT count(*) FROM phi.count_values() c JOIN phi.data_key k USING (key_id) WHERE k.state <> 'active' AND c."values" > 0}), '0', "leaves no old value in tables and histories, $name");
	gives($node, 'app_a', $chart, $facts, "the chart is as it was, $name");
	gives($node, 'auditor', $digests, '180|180', "so are the digests, $name");
	is(sql('SELECT count(*) FROM phi.audit_log WHERE at > now()'), '0', 'no row of it counts as a change');
	return;
}
my $records = sql(q{SELECT count(*) FROM phi.audit_log WHERE relation LIKE 'public.%' AND operation IN ('INSERT', 'UPDATE', 'DELETE')});
rekey('in place');
sql("SELECT pg_create_logical_replication_slot('slot', 'test_decoding')");
rekey('by update');
sql("SELECT pg_drop_replication_slot('slot')");
is(sql(q{SELECT count(*) FROM phi.audit_log WHERE relation LIKE 'public.%' AND operation IN ('INSERT', 'UPDATE', 'DELETE')}), $records, 'a rekey is no change of rows');

# A key is destroyed only when no version of a row needs it.
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'clinical') > 0", 't', 'a new key');
my $old = sql(q{SELECT key_id FROM phi.keys WHERE clinic = 'a' AND class = 'clinical' AND state = 'retired' ORDER BY version DESC LIMIT 1});
gives($node, 'app_a', "SET phi.clinic = 'a'; UPDATE patient SET note = note, tags = tags", '', 'all rows move to it');
gives($node, 'app_a', "SET phi.clinic = 'a'; UPDATE visit SET note = note", '', 'of other tables also');
is(sql("SELECT count(*) FROM patient WHERE (phi.describe(note)).key_id = $old"), '0', 'the table needs the old one no more');
refused($node, 'custodian', "SELECT phi.destroy_key($old)", '55006', qr/patient_history/, 'but its history does');
my ($status, undef, $messages) = as($node, 'custodian', "CALL phi.rekey('a', wait => true)");
is($status, 0, 'after a rekey') or diag($messages);
like(sql("SELECT phi.destroy_key($old)"), qr/^\d+$/, 'it is destroyed');
gives($node, 'app_a', $chart, $facts, 'and the chart is as it was');

# Who copies a value of a retired key to the history holds up its destruction.
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'clinical') > 0", 't', 'once more');
$old = sql(q{SELECT key_id FROM phi.keys WHERE clinic = 'a' AND class = 'clinical' AND state = 'retired' ORDER BY version DESC LIMIT 1});
is(sql(qq{BEGIN; DELETE FROM patient WHERE id = 11; SELECT count(*) FROM pg_locks WHERE relation = 'phi.key_use'::regclass AND mode = 'RowShareLock' AND pid = pg_backend_pid(); ROLLBACK}), '1', 'a copy of such a value takes the lock that destruction waits for');
($status) = as($node, 'custodian', "CALL phi.rekey('a', wait => true)");
is($status, 0, 'a rekey');
is(sql(qq{BEGIN; DELETE FROM patient WHERE id = 11; SELECT count(*) FROM pg_locks WHERE relation = 'phi.key_use'::regclass AND pid = pg_backend_pid(); ROLLBACK}), '0', 'a copy of another does not');

# A dump brings triggers, histories and their beginnings along.
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
unlike(slurp_raw($dump), qr/Wadsworth|Yamamoto/, 'no plaintext in it');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'restored');
sql('SELECT phi.resume_audit()', 'copy');
my $tables = q{SELECT relation, history, since, problem FROM phi.audited_tables ORDER BY relation::text};
is(sql($tables, 'copy'), sql($tables), 'the same tables are audited there');
my $triggers = q{SELECT tgrelid::regclass, tgname, tgenabled, tgtype FROM pg_trigger WHERE tgname ~ '^(phi_audit|refuse_)' AND tgrelid::regclass::text !~ '^phi' ORDER BY tgrelid::regclass::text, 2};
is(sql($triggers, 'copy'), sql($triggers), 'by the same triggers');
gives($node, 'app_a', $chart, $facts, 'the chart as it was', database => 'copy');
gives($node, 'app_a', q{
	SET phi.clinic = 'a';
	UPDATE patient SET note = 'copied' WHERE id = 1;
	UPDATE visit SET note = 'copied' WHERE id = 101}, '', 'rows are changed there', database => 'copy');
gives($node, 'app_a', $chart, $facts, 'and the chart stays', database => 'copy');
gives($node, 'auditor', $digests, '180|180', 'digests also', database => 'copy');
refused($node, undef, 'DELETE FROM patient_history', '42501', qr/cannot be changed/, 'nobody changes histories', database => 'copy');
refused($node, undef, 'INSERT INTO visit_history TABLE visit_history', '42501', qr/cannot be added/, 'nor adds to them', database => 'copy');

# A sealed server: rows can be changed, and are recorded without digests, until it is unsealed.
gives($node, 'custodian', 'SELECT phi.seal()', qr//, 'a seal');
gives($node, 'app_a', "SET phi.clinic = 'a'; UPDATE patient SET clinic = clinic WHERE id = 2; DELETE FROM patient WHERE id = 3", '', 'changes meanwhile');
is(sql(q{SELECT string_agg(concat_ws(' ', operation, row_key, digest_key, old_digest, new_digest), ', ' ORDER BY record_id) FROM (SELECT * FROM phi.audit_log WHERE relation = 'public.patient' ORDER BY record_id DESC LIMIT 2) a}),
	'UPDATE {2}, DELETE {3}', 'are recorded');
gives($node, 'custodian', 'SELECT phi.unseal()', qr//, 'the end of it');
gives($node, 'app_a', $chart, $facts, 'the chart is as it was');

# What a subscription applies is recorded, under the key of no clinic.
sql('CREATE PUBLICATION all_patients FOR TABLE patient WITH (publish = \'insert, update, delete\')');
my $subscriber = new_server('subscriber', keys => key_directory($node));
set_up_clinics($subscriber);
$subscriber->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL, name enctext(identity), note enctext(clinical), tags enctext(clinical)[]);
	SELECT phi.audit('patient', history => true)});
$subscriber->safe_psql('postgres', sprintf q{CREATE SUBSCRIPTION s CONNECTION '%s' PUBLICATION all_patients WITH (copy_data = false)}, $node->connstr('postgres') =~ s/'/''/gr);
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1000, 'a', 'Yamamoto'); UPDATE patient SET clinic = 'a' WHERE id = 1000; DELETE FROM patient WHERE id = 1000", '', 'changes to apply');
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', operation, row_key::text, clinic, (SELECT clinic_id FROM phi.data_key k WHERE k.key_id = digest_key)), ', ' ORDER BY record_id) FROM phi.audit_log WHERE relation = 'public.patient' AND operation IN ('INSERT', 'UPDATE', 'DELETE')}),
	'INSERT {1000} 0, UPDATE {1000} 0, DELETE {1000} 0', 'are recorded');
is($subscriber->safe_psql('postgres', q{SELECT string_agg(phi_change, ' ' ORDER BY phi_until) FROM patient_history}), 'INSERT UPDATE DELETE', 'and kept');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;

# A table that is audited is converted, and recorded from then on as before.
sql(q{
	CREATE TABLE chart (id int PRIMARY KEY, clinic text NOT NULL, name text);
	INSERT INTO chart SELECT n, 'a', 'Yamamoto-' || n FROM generate_series(1, 100) n;
	SELECT phi.audit('chart', history => true);
	GRANT SELECT, UPDATE ON chart TO app_a});
($status, undef, $messages) = as($node, undef, q{CALL phi.protect('chart', 'clinic', '{"name": "identity"}')});
like($messages, qr/history/, 'a table with a history is not converted');
sql(q{SELECT phi.audit('chart'); UPDATE chart SET name = name WHERE id = 1});
($status, undef, $messages) = as($node, undef, q{CALL phi.protect('chart', 'clinic', '{"name": "identity"}')});
is($status, 0, 'without one it is') or diag($messages);
gives($node, 'app_a', "SET phi.clinic = 'a'; UPDATE chart SET name = 'Wadsworth' WHERE id = 1; SELECT name FROM chart WHERE id = 2", 'Yamamoto-2', 'and changed');
is(sql(q{SELECT string_agg(concat_ws(' ', operation, row_key, columns), ', ' ORDER BY record_id) FROM phi.audit_log WHERE relation = 'public.chart' AND operation IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')}),
	'UPDATE {1} {}, UPDATE {1} {name}', 'the records are those of changes');
is(sql(q{SELECT string_agg(tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'chart'::regclass AND NOT tgisinternal}), 'AA', 'by the same triggers');
sql(q{SELECT phi.audit('chart', history => true)});
is(sql(q{SELECT history FROM phi.audited_tables WHERE relation = 'chart'::regclass}), 'chart_history', 'then it has a history again');

# Writers at the same time: each commit has its records, each version its end.
sql(q{CREATE TABLE counter (id int PRIMARY KEY, n int); INSERT INTO counter SELECT n, 0 FROM generate_series(1, 20) n; SELECT phi.audit('counter', true); GRANT ALL ON counter TO app_a, app_b});
my $script = $node->basedir . '/script';
append_to_file($script, q{\set id random(1, 20)
\set end random(1, 4)
BEGIN;
UPDATE counter SET n = n + 1 WHERE id = :id;
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
});
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '250', '-U', 'app_a', '-f', $script, 'postgres' ], 'writers');
is(sql(q{SELECT (SELECT sum(n) FROM counter) - (SELECT count(*) FROM phi.audit_log WHERE relation = 'public.counter' AND operation = 'UPDATE'),
	(SELECT sum(n) FROM counter) - (SELECT count(*) FROM counter_history), (SELECT count(*) FROM counter_history h LEFT JOIN phi.audit_log a ON a.record_id = h.phi_record WHERE a.record_id IS NULL)}), '0|0|0', 'as many records and versions as changes');
is(sql(q{SELECT count(*) FROM (SELECT n, row_number() OVER (PARTITION BY id ORDER BY phi_until) AS place FROM counter_history) h WHERE n <> place - 1}), '0', 'in their order');

unlike(slurp_raw($node->logfile), qr/Wadsworth|Yamamoto/, 'no plaintext in the server\'s log');
done_testing();
