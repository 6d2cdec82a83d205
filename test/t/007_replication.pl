# What leaves the server by replication is ciphertext; a standby reads it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('primary', allows_streaming => 'logical', conf => "log_statement = none\n");
set_up_clinics($node);
my $table = q{
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL, name enctext(identity), born encdate(identity), note enctext(clinical));
	ALTER TABLE patient REPLICA IDENTITY FULL;
};
$node->safe_psql('postgres', $table . q{
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO app_a, app_b;
	SELECT phi.isolate('patient', 'clinic');
	CREATE INDEX patient_name ON patient USING hash (name);
});
my $names = qr/Sato|Suzuki|fever|1980-02-03/;
my $envelope = 'phi1:[A-Za-z0-9+\/=]+';

# Logical decoding, read by SQL and by the tool.
$node->safe_psql('postgres', q{
	SELECT pg_create_logical_replication_slot('by_sql', 'test_decoding');
	SELECT pg_create_logical_replication_slot('by_tool', 'test_decoding');
	ALTER ROLE app_a REPLICATION;
});
my $changes = q{
	SET phi.clinic = 'a';
	INSERT INTO patient VALUES (1, 'a', 'Sato', '1980-02-03', repeat('fever ', 2000));
	INSERT INTO patient VALUES (2, 'a', 'Suzuki', '1980-02-03', NULL);
	UPDATE patient SET name = 'Sato-Suzuki' WHERE id = 1;
	DELETE FROM patient WHERE id = 2;
};
gives($node, 'app_a', $changes . 'SELECT name FROM patient', 'Sato-Suzuki', 'changes to decode');
my ($status, $decoded, $messages) = as($node, 'app_a', q{
	SET phi.clinic = 'a';
	SELECT data FROM pg_logical_slot_get_changes('by_sql', NULL, NULL);
	SELECT name FROM patient});
is($messages, '', 'logical decoding in a session with a clinic');
like($decoded, qr/INSERT: id\[integer\]:1 clinic\[text\]:'a' name\[enctext\]:'$envelope'/, 'gives ciphertext');
unlike($decoded =~ s/\n[^\n]*\z//r, $names, 'and no plaintext');
like($decoded, qr/\nSato-Suzuki\z/, 'while the session itself reads on');
my $streamed = $node->pg_recvlogical_upto('postgres', 'by_tool', $node->lsn('insert'), $PostgreSQL::Test::Utils::timeout_default);
like($streamed, qr/INSERT: .*name\[enctext\]:'$envelope'.*UPDATE: .*DELETE: /s, 'pg_recvlogical gets ciphertext');
unlike($streamed, $names, 'and no plaintext');

# A walsender that asks for a clinic when it connects, as a physical or logical
# client can, is no way around it.
my ($out, $err) = ('', '');
$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('by_clinic', 'test_decoding')");
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (3, 'a', 'Suzuki', '1980-02-03', NULL)", '', 'one more change');
IPC::Run::run([ 'pg_recvlogical', '-S', 'by_clinic', '--start', '--endpos', $node->lsn('insert'), '--no-loop', '-f', '-',
	'-d', $node->connstr('postgres') . " user=app_a options='-c phi.clinic=a'" ], '>', \$out, '2>', \$err);
like($out . $err, qr/INSERT: .*name\[enctext\]:'$envelope'|FATAL/, 'a replication connection with a clinic gets ciphertext');
unlike($out . $err, $names, 'and no plaintext');
IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " user=app_a replication=database options='-c phi.clinic=a'",
	'-c', 'SELECT name FROM patient' ], '>', \$out, '2>', \$err);
unlike($out, $names, 'SQL on a replication connection reads no plaintext');

# Publication and subscription.
$node->safe_psql('postgres', 'CREATE DATABASE subscriber');
$node->safe_psql('subscriber', "CREATE EXTENSION pg_phi; $table");
$node->safe_psql('postgres', q{
	CREATE PUBLICATION everything FOR TABLE patient, phi.clinic, phi.data_key;
	SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput');
});
$node->safe_psql('subscriber', 'CREATE SUBSCRIPTION subscriber CONNECTION \'' . ($node->connstr('postgres') =~ s/'/''/gr)
	. "' PUBLICATION everything WITH (create_slot = false, slot_name = 'subscriber')");
$node->wait_for_subscription_sync($node, 'subscriber', 'subscriber');
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient VALUES (4, 'a', 'Sato', '1980-02-03', 'fever'); UPDATE patient SET note = 'no fever' WHERE id = 3; DELETE FROM patient WHERE id = 1}, '', 'changes to replicate');
my $new = $node->safe_psql('postgres', "SELECT phi.rotate_key('a', 'identity')");
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient VALUES (5, 'a', 'Suzuki', '1980-02-03', 'fever')}, '', 'and one under a new key');
$node->wait_for_catchup('subscriber');
my $all = q{SELECT string_agg(p::text, E'\n' ORDER BY id) FROM patient p};
my $copied = $node->safe_psql('subscriber', $all);
is($copied, $node->safe_psql('postgres', $all), 'the subscriber has the same bytes');
unlike($copied, $names, 'which are ciphertext');
$node->safe_psql('subscriber', "GRANT SELECT ON patient TO app_a; SELECT phi.grant_clinic('app_a', 'a')");
gives($node, 'app_a', "SET phi.clinic = 'a'; SELECT id, name, note FROM patient ORDER BY id", "3|Suzuki|no fever\n4|Sato|fever\n5|Suzuki|fever", 'with the keys replicated the application reads them there', database => 'subscriber');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION subscriber');

# A standby.
$node->backup('base');
my $key = substr slurp_raw(key_file($node)), 0, 64;
is_deeply(files_with([ $key, pack('H*', $key), 'Suzuki' ], $node->backup_dir), {}, 'a base backup holds neither the key nor a name');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
gives($standby, undef, 'SELECT name FROM patient WHERE id = 4', qr/\A$envelope\z/, 'standby: a sealed session reads ciphertext');
gives($standby, 'app_a', "SET phi.clinic = 'a'; SELECT name, note FROM patient WHERE id = 4", 'Sato|fever', 'standby: a session with a clinic reads');
gives($standby, 'app_a', "SELECT name FROM patient WHERE id = 4", 'Sato', 'standby: a clinic by connection option', options => '-c phi.clinic=a');
gives($standby, 'app_a', "SET phi.clinic = 'a'; SELECT id FROM patient WHERE name = 'Sato'", '4', 'standby: a search with a literal');
gives($standby, 'app_a', "SET phi.clinic = 'a'; SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Sato'::text", '4', 'standby: a search by the index');
gives($standby, 'app_a', "SET phi.clinic = 'a'; PREPARE p (text) AS SELECT id FROM patient WHERE name = \$1; EXECUTE p ('Sato')", '4', 'standby: a search with a parameter');
gives($standby, 'app_a', "SET phi.clinic = 'a'; SELECT id FROM patient WHERE born = '1980-02-03' ORDER BY born, name, id", "4\n3\n5", 'standby: ordering and dates');
refused($standby, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (6, 'a', 'Ito', NULL, NULL)", '25006', qr/read-only/, 'standby: writing is refused');
refused($standby, undef, "SELECT phi.rotate_key('a', 'identity')", '25006', qr/read-only|recovery/, 'standby: so is rotating');
refused($standby, 'app_b', "SET phi.clinic = 'a'", '42501', qr/permission denied for clinic/, 'standby: grants hold');

# What happens on the primary reaches sessions of the standby.
my $reader = session($standby, 'app_a');
$reader->query("SET phi.clinic = 'a'");
is($reader->query('SELECT name FROM patient WHERE id = 4'), 'Sato', 'standby: a reader');
$node->safe_psql('postgres', "SELECT phi.rotate_key('a', 'identity')");
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO patient VALUES (7, 'a', 'Kato', NULL, NULL)}, '', 'a row under a newer key');
$node->wait_for_catchup($standby);
is($reader->query('SELECT name FROM patient WHERE id IN (4, 7) ORDER BY id'), "Sato\nKato", 'standby: reads it');
$node->safe_psql('postgres', "SELECT phi.revoke_clinic('app_a', 'a')");
$node->wait_for_catchup($standby);
is($reader->query('SELECT phi.current_clinic() IS NULL, count(*) FROM patient'), 't|0', 'standby: a revoked grant seals it');
$reader->quit;
$standby->promote;
$node->stop;
$standby->safe_psql('postgres', "SELECT phi.grant_clinic('app_a', 'a')");
gives($standby, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (8, 'a', 'Ito', NULL, NULL); SELECT name FROM patient WHERE name = 'Ito'", 'Ito', 'the standby takes over');
gives($standby, 'custodian', "SELECT phi.rotate_key('a', 'identity') > $new", 't', 'and makes keys');

done_testing();
