# What DBAs do to tables with encrypted columns on a running server, and to
# servers: backups to a point in time, replicas, foreign servers. Sealed and in
# a clinic's session. See docs/dba-tools.md.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('server', allows_streaming => 'logical', has_archiving => 1, conf => "log_statement = none\nautovacuum = off\n");
set_up_clinics($node);
my $open = "SET phi.clinic = 'a'; ";
my $envelope = qr/phi1:[A-Za-z0-9+\/=]+/;
my $sealed = qr/in a sealed session/;
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL DEFAULT phi.current_clinic(), name enctext(identity), born encdate(identity), note enctext(clinical) DEFAULT 'none'::text, amount encbigint);
	CREATE INDEX patient_name ON patient USING hash (name);
	GRANT ALL ON patient TO app_a, app_b, nurse_a;
	GRANT CREATE ON SCHEMA public TO app_a, nurse_a;
});
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name, born, note, amount) SELECT n, 'Okada-' || n, date '1970-01-01' + n, 'fever-' || n, n FROM generate_series(1, 200) n}, '', 'patients of a');
gives($node, 'app_b', q{SET phi.clinic = 'b'; INSERT INTO patient (id, name) VALUES (1001, 'Murata')}, '', 'and of b');

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

my $bytes_of = q{SELECT md5(string_agg(p::text, E'\n' ORDER BY id)) FROM patient p};
my $finds = $open . q{SET enable_seqscan = off; SELECT id, name FROM patient WHERE name = 'Okada-7'};

# Maintenance: the DBA needs no clinic for it, and it changes no value.
my $bytes = sql($bytes_of);
sql('ALTER TABLE patient OWNER TO app_a');
for my $command ('VACUUM patient', 'VACUUM FULL patient', 'CLUSTER patient USING patient_pkey', 'ANALYZE patient', 'VACUUM (FREEZE, ANALYZE) patient', 'REINDEX INDEX patient_name', 'REINDEX TABLE patient',
	'REINDEX TABLE CONCURRENTLY patient', 'REINDEX INDEX CONCURRENTLY patient_name', 'DROP INDEX CONCURRENTLY patient_name', 'CREATE INDEX CONCURRENTLY patient_name ON patient USING hash (name)', 'ALTER TABLE patient SET TABLESPACE pg_default',
	'ALTER TABLE patient SET UNLOGGED', 'ALTER TABLE patient SET LOGGED', 'CHECKPOINT')
{
	gives($node, undef, $command, '', "sealed: $command");
	gives($node, 'app_a', "$open $command", '', "in a clinic: $command") unless $command =~ /CHECKPOINT|^DROP|^CREATE/;
	gives($node, 'app_a', $finds, '7|Okada-7', 'and the index finds') if $command =~ /INDEX|CLUSTER|FULL|LOGGED/;
}
is(sql($bytes_of), $bytes, 'no value is another');
sql('VACUUM FULL patient; ALTER TABLE patient ADD added int DEFAULT 5; ALTER TABLE patient ALTER added TYPE bigint; ALTER TABLE patient DROP added');
is(sql($bytes_of), $bytes, 'nor after its rows were rewritten');
refused($node, undef, 'CLUSTER patient USING patient_name', '0A000', qr/does not support clustering/, 'a hash index has no order to cluster by');
is(sql(q{SELECT count(*) FROM pg_stats WHERE tablename = 'patient' AND attname IN ('name', 'born', 'note', 'amount') AND (most_common_vals IS NOT NULL OR histogram_bounds IS NOT NULL OR n_distinct = 0)}), '0', 'ANALYZE keeps how many values there are, and none');

# ALTER TABLE ... TYPE.
sub class_of
{
	my ($column, $table) = @_;
	return sql("SELECT string_agg(DISTINCT coalesce((phi.describe($column)).class, 'none'), ',') FROM $table");
}
sql(q{CREATE TABLE conversion (id int, plain text, short varchar(40), day date, general enctext, clinical enctext(clinical)); CREATE INDEX conversion_plain ON conversion (plain);
	INSERT INTO conversion VALUES (1, 'Okada', 'Oka', '1970-01-01'); ALTER TABLE conversion OWNER TO app_a});
gives($node, 'app_a', $open . q{UPDATE conversion SET general = 'gen', clinical = 'cli'}, '', 'a table to convert');
for my $who (undef, 'app_a')
{
	refused($node, $who, 'ALTER TABLE conversion ALTER short TYPE enctext(identity)', '42501', $sealed, 'sealed: text is not encrypted');
	refused($node, $who, 'ALTER TABLE conversion ALTER general TYPE enctext(identity)', '42501', $sealed, 'sealed: a value is not moved to another class');
	refused($node, $who, 'ALTER TABLE conversion ALTER general TYPE text', '42501', $sealed, 'sealed: a value is not decrypted');
}
gives($node, undef, 'ALTER TABLE conversion ALTER clinical TYPE enctext', '', 'sealed: a column loses its class');
is(class_of('clinical', 'conversion'), 'clinical', 'its values keep theirs');
gives($node, undef, 'ALTER TABLE conversion ALTER clinical TYPE enctext(clinical)', '', 'so it may get it back');
refused($node, 'app_a', $open . 'ALTER TABLE conversion ALTER plain TYPE enctext(identity)', '0A000', qr/ordered indexes.*HINT:  .*USING hash/s, 'in a clinic: text that has a btree index is refused, with what to do');
gives($node, 'app_a', $open . q{
	DROP INDEX conversion_plain;
	ALTER TABLE conversion ALTER plain TYPE enctext(identity), ALTER short TYPE enctext(insurance), ALTER day TYPE encdate(identity);
	CREATE INDEX conversion_plain ON conversion USING hash (plain);
	SELECT plain, short, day FROM conversion WHERE plain = 'Okada'}, 'Okada|Oka|1970-01-01', 'in a clinic: text is encrypted');
gives($node, 'app_a', $open . q{ALTER TABLE conversion ALTER general TYPE enctext(sensitive), ALTER plain TYPE enctext(clinical); SELECT general, plain FROM conversion WHERE plain = 'Okada'}, 'gen|Okada', 'and moved to other classes');
is(class_of($_->[0], 'conversion'), $_->[1], "$_->[0] has the class") for [ 'plain', 'clinical' ], [ 'short', 'insurance' ], [ 'day', 'identity' ], [ 'general', 'sensitive' ];
sql('ALTER TABLE conversion OWNER TO nurse_a');
refused($node, 'nurse_a', $open . "ALTER TABLE conversion ALTER $_", '42501', qr/clinical|sensitive/, "without the class: ALTER $_") for 'general TYPE enctext(identity)', 'plain TYPE text', 'day TYPE encdate(clinical)';
sql('ALTER TABLE conversion OWNER TO app_a');
gives($node, 'app_a', $open . q{ALTER TABLE conversion ALTER plain TYPE text; SELECT plain FROM conversion}, 'Okada', 'in a clinic: decrypted for good');
sql(q{CREATE TABLE mixed AS SELECT id, name FROM patient; ALTER TABLE mixed OWNER TO app_a});
refused($node, 'app_a', $open . 'ALTER TABLE mixed ALTER name TYPE enctext(clinical)', '42501', qr/another clinic/, 'a table of several clinics is not converted in the session of one');

# Partitions.
sql(q{
	CREATE TABLE visit (clinic text, id int, reason enctext(clinical)) PARTITION BY LIST (clinic);
	CREATE INDEX visit_reason ON visit USING hash (reason);
	CREATE TABLE visit_a PARTITION OF visit FOR VALUES IN ('a');
	SELECT phi.isolate('visit', 'clinic');
	GRANT ALL ON visit TO app_a, app_b;
	CREATE TABLE visit_b (LIKE visit INCLUDING ALL);
	CREATE TABLE wrong (clinic text, id int, reason enctext(identity));
	CREATE TABLE plain (clinic text, id int, reason text)});
gives($node, 'app_a', $open . q{INSERT INTO visit VALUES ('a', 1, 'cough')}, '', 'a visit');
gives($node, undef, q{ALTER TABLE visit ATTACH PARTITION visit_b FOR VALUES IN ('b'); SELECT count(*) FROM pg_inherits WHERE inhparent = 'visit_reason'::regclass}, '2', 'sealed: a partition is attached, with its index');
is(sql(q{SELECT string_agg(relation || ':' || isolated, ' ' ORDER BY relation::text) FROM phi.protected_columns WHERE relation::text LIKE 'visit%'}), 'visit:true visit_a:true visit_b:false', 'and is to be isolated');
refused($node, undef, "ALTER TABLE visit ATTACH PARTITION $_ FOR VALUES IN ('x')", '42804', qr/different type/, "a partition of another class or type is refused: $_") for 'wrong', 'plain';
sql(q{ALTER TABLE visit DETACH PARTITION visit_a});
is(sql(q{SELECT isolated FROM phi.protected_columns WHERE relation = 'visit_a'::regclass}), 't', 'a detached partition stays isolated');
gives($node, 'app_a', $open . 'SELECT * FROM visit', '', 'its rows are gone from the table');
gives($node, undef, q{ALTER TABLE visit ATTACH PARTITION visit_a FOR VALUES IN ('a')}, '', 'and come back');
gives($node, undef, q{ALTER TABLE visit DETACH PARTITION visit_b CONCURRENTLY}, '', 'sealed: DETACH CONCURRENTLY');
gives($node, 'app_a', $open . q{SELECT id FROM visit WHERE reason = 'cough'; UPDATE visit SET reason = 'cold' RETURNING reason}, "1\ncold", 'the clinic reads and writes');

# Copies of tables.
gives($node, undef, q{
	CREATE TABLE alike (LIKE patient INCLUDING ALL);
	INSERT INTO alike SELECT * FROM patient;
	CREATE TABLE made AS SELECT * FROM patient ORDER BY name;
	CREATE TEMP TABLE passing AS SELECT name FROM patient;
	SELECT (SELECT md5(string_agg(x::text, '' ORDER BY id)) = (SELECT md5(string_agg(x::text, '' ORDER BY id)) FROM made x) FROM alike x),
		(SELECT count(*) FROM passing WHERE format('%s', name) LIKE 'phi1:%'), (SELECT count(*) FROM alike JOIN made USING (name))}, 't|201|201', 'sealed: CREATE TABLE LIKE, AS, temporary: copies of ciphertext, which can be joined');
is(sql(q{SELECT string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'alike'::regclass AND attnum IN (3, 4, 5)}), 'name enctext(identity), born encdate(identity), note enctext(clinical)', 'the types stay');
is(sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 'alike'::regclass}), '2', 'with LIKE the indexes too');
gives($node, 'app_a', $open . q{CREATE TEMP TABLE passing (LIKE patient INCLUDING ALL); INSERT INTO passing SELECT * FROM patient WHERE clinic = 'a'; SELECT id FROM passing WHERE name = 'Okada-9'}, '9', 'in a clinic: a temporary table');
refused($node, undef, q{INSERT INTO alike (id, clinic, name) VALUES (5000, 'a', 'Plain')}, '42501', $sealed, 'sealed: nothing plain is put in');

# MERGE.
my $merge = q{MERGE INTO alike t USING (VALUES (1, 'Merged'), (3000, 'New')) s (id, name) ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, clinic, name) VALUES (s.id, 'a', s.name)};
sql('GRANT ALL ON alike TO app_a');
refused($node, undef, $merge, '42501', $sealed, 'sealed: MERGE of plain values');
gives($node, 'app_a', "$open $merge; SELECT id, name FROM alike WHERE name IN ('Merged', 'New') ORDER BY id", "1|Merged\n3000|New", 'in a clinic: MERGE');
gives($node, 'app_a', $open . q{MERGE INTO alike t USING (VALUES ('Merged', 'x'), ('New', 'y'), ('None', 'z')) s (name, note) ON t.name = s.name WHEN MATCHED AND s.note = 'y' THEN DELETE WHEN MATCHED THEN UPDATE SET note = s.note WHEN NOT MATCHED THEN DO NOTHING; SELECT id, note FROM alike WHERE name IN ('Merged', 'New')}, '1|x', 'in a clinic: MERGE that finds by an encrypted column');
gives($node, undef, q{MERGE INTO made t USING alike s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name; SELECT count(*) FROM made JOIN alike USING (id, name)}, '201', 'sealed: MERGE of ciphertext');

# Foreign servers: another database with keys of its own.
sql('CREATE DATABASE front');
my ($host, $port) = ($node->host, $node->port);
$node->safe_psql('front', qq{
	CREATE EXTENSION pg_phi; CREATE EXTENSION postgres_fdw;
	SELECT phi.create_clinic('a', 'A, by other keys'), phi.grant_clinic('app_a', 'a');
	CREATE SERVER sealed FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
	CREATE SERVER clinic FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', options '-c phi.clinic=a');
	CREATE SERVER shipping FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', options '-c phi.clinic=a', extensions 'pg_phi');
	CREATE USER MAPPING FOR CURRENT_USER SERVER sealed;
	CREATE USER MAPPING FOR app_a SERVER sealed OPTIONS (user 'app_a', password_required 'false');
	CREATE USER MAPPING FOR app_a SERVER clinic OPTIONS (user 'app_a', password_required 'false');
	CREATE USER MAPPING FOR app_a SERVER shipping OPTIONS (user 'app_a', password_required 'false');
	CREATE USER MAPPING FOR CURRENT_USER SERVER clinic OPTIONS (user 'app_a');
	CREATE FOREIGN TABLE as_text (id int, clinic text, name text, born date, amount bigint) SERVER clinic OPTIONS (table_name 'patient');
	CREATE FOREIGN TABLE as_enc (id int, clinic text, name enctext(identity), born encdate(identity), amount encbigint) SERVER clinic OPTIONS (table_name 'patient');
	CREATE FOREIGN TABLE shipped (id int, clinic text, name enctext(identity)) SERVER shipping OPTIONS (table_name 'patient');
	CREATE FOREIGN TABLE sealed_text (id int, clinic text, name text) SERVER sealed OPTIONS (table_name 'patient');
	CREATE FOREIGN TABLE sealed_enc (id int, clinic text, name enctext(identity)) SERVER sealed OPTIONS (table_name 'patient');
	CREATE TABLE local (id int, name enctext(identity));
	GRANT ALL ON as_text, as_enc, shipped, sealed_text, sealed_enc, local TO app_a;
});
my @front = (database => 'front');
sql(q{SELECT phi.isolate('patient', 'clinic')});
gives($node, undef, "SELECT name FROM $_ WHERE id = 1", $envelope, "sealed on both sides: ciphertext, as $_", @front) for 'sealed_text', 'sealed_enc';
gives($node, undef, q{INSERT INTO local SELECT id, name FROM sealed_enc WHERE id = 1; SELECT count(*) FROM local WHERE format('%s', name) = (SELECT name FROM sealed_text WHERE id = 1); TRUNCATE local}, '1', 'which is stored as it is', @front);
refused($node, undef, q{SELECT name FROM as_enc WHERE id = 1}, '42501', $sealed, 'a clinic there, sealed here: nothing plain becomes an encrypted value', @front);
gives($node, undef, q{SELECT name FROM as_text WHERE id = 1}, 'Okada-1', 'as text it is plain: the server, not the user, has the clinic open', @front);
gives($node, 'app_a', "$open SELECT id, name, born, amount FROM $_ WHERE name = 'Okada-7'", '7|Okada-7|1970-01-08|7', "a clinic on both sides: WHERE name = 'x', as $_", @front) for 'as_text', 'as_enc';
gives($node, 'app_a', "$open SELECT id, name FROM shipped WHERE name = 'Okada-7'", '7|Okada-7', "and with extensions 'pg_phi'", @front);
gives($node, 'app_a', "$open EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM as_text WHERE name = 'Okada-7'", qr/Remote SQL: .*WHERE .*\(name = 'Okada-7'\)/, 'as text the condition is shipped', @front);
gives($node, 'app_a', "$open EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM as_enc WHERE name = 'Okada-7'", qr/Filter: .*Remote SQL: SELECT id, name FROM public.patient\z/s, 'as an encrypted type it is not: all rows come', @front);
gives($node, 'app_a', "$open EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM shipped WHERE name = 'Okada-7'", qr/Remote SQL: .*WHERE .*\(name = 'Okada-7'\)/, "with extensions 'pg_phi' it is, in plain", @front);
gives($node, 'app_a', "$open SELECT name FROM as_enc ORDER BY name LIMIT 2; SELECT count(*) FROM as_text WHERE name LIKE 'Okada-1%'", "Okada-1\nOkada-10\n111", 'order and patterns', @front);
gives($node, 'app_a', $open . q{
	INSERT INTO as_text VALUES (2001, 'a', 'Foreign', '1999-09-09', 5) RETURNING name;
	UPDATE as_enc SET name = 'Changed', amount = 6 WHERE name = 'Foreign' RETURNING name, amount;
	INSERT INTO local SELECT id, name FROM as_enc WHERE name = 'Changed';
	DELETE FROM as_enc WHERE name = 'Changed' RETURNING id;
	SELECT id FROM local WHERE name = 'Changed'}, "Foreign\nChanged|6\n2001\n2001", 'rows are written there, and copied here under the keys of here', @front);
like($node->safe_psql('front', q{SELECT name FROM local}), $envelope, 'as ciphertext');
gives($node, 'app_a', "$open SELECT count(*) FROM sealed_enc", '0', 'a clinic here, sealed there: no rows, by row security', @front);
refused($node, 'app_a', "$open INSERT INTO sealed_text VALUES (2002, 'a', 'x')", '42501', $sealed, 'and nothing is stored', @front);
$node->safe_psql('front', q{CREATE SCHEMA imported; IMPORT FOREIGN SCHEMA public LIMIT TO (patient) FROM SERVER sealed INTO imported});
is($node->safe_psql('front', q{SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'imported.patient'::regclass AND attname = 'note'}), 'enctext(clinical)', 'IMPORT FOREIGN SCHEMA takes the types over');
refused($node, undef, 'ANALYZE as_enc', '42501', $sealed, 'ANALYZE of a foreign table, sealed, meets no plain values', @front);
$node->safe_psql('front', 'ANALYZE as_text');
is($node->safe_psql('front', q{SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'as_text' AND histogram_bounds::text LIKE '%Okada%'}), 't', 'declared as text it keeps plain values in the statistics: declare encrypted types');
sql('DROP DATABASE front WITH (FORCE)');

# A base backup, and the way back to a point in time.
$node->backup('base');
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (300, 'Before')}, '', 'written before the target');
my $new = sql("SELECT phi.rotate_key('a', 'identity')");
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (301, 'Before, new key'); UPDATE patient SET name = 'Renamed' WHERE id = 2}, '', 'under a new key too');
sql(q{SELECT pg_create_restore_point('target')});
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (302, 'After'); UPDATE patient SET name = 'Renamed again' WHERE id = 2}, '', 'and after it');
sql("SELECT phi.rotate_key('a', 'identity'); SELECT pg_switch_wal()");
$node->poll_query_until('postgres', q{SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) OR last_archived_count > 0 FROM (SELECT last_archived_wal, archived_count AS last_archived_count FROM pg_stat_archiver) s}) or die;
is_deeply(files_with([ 'fever-7', 'Murata', 'Before, new key', 'Renamed' ], $node->backup_dir, $node->archive_dir), {}, 'backup and archive hold no value');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', "recovery_target_name = 'target'\nrecovery_target_action = 'promote'\n");
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
gives($restored, 'app_a', $open . q{SELECT id, name FROM patient WHERE id IN (1, 2, 300, 301, 302) ORDER BY id}, "1|Okada-1\n2|Renamed\n300|Before\n301|Before, new key", 'at the target: what was written before is readable, what came after is not there');
gives($restored, 'app_a', $open . q{SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Before, new key'; SELECT count(*) FROM patient WHERE name = 'After'}, "301\n0", 'the index finds it');
gives($restored, undef, 'SELECT name FROM patient WHERE id = 300', qr/\A$envelope\z/, 'sealed: ciphertext');
is($restored->safe_psql('postgres', q{SELECT max(key_id) FROM phi.keys}), $new, 'keys that were made after the target are not there either');
gives($restored, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (303, 'Goes on'); SELECT name FROM patient WHERE name = 'Goes on'}, 'Goes on', 'and the server goes on');
$restored->stop;

# A hot standby: reads only.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
gives($standby, undef, 'SELECT name FROM patient WHERE id = 1', qr/\A$envelope\z/, 'standby, sealed: ciphertext');
refused($standby, 'app_a', 'SELECT name FROM patient WHERE id = 1; SELECT lower(name) FROM mixed', '42501', $sealed, 'standby, sealed, with a grant: refused');
gives($standby, 'app_a', $open . q{SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Okada-9'; SELECT id, name FROM patient WHERE name LIKE 'After%' OR born = '1970-01-03' ORDER BY born}, "9\n2|Renamed again\n302|After", 'standby, in a clinic: searches, patterns, order');
gives($standby, 'app_a', $open . q{DECLARE c CURSOR WITH HOLD FOR SELECT name FROM patient ORDER BY name LIMIT 1; FETCH c}, 'After', 'standby: a cursor');
$node->wait_for_catchup($standby);
my $dump = $node->basedir . '/standby.dump';
$standby->command_ok([ 'pg_dump', '--file', $dump, '--table=patient', $standby->connstr('postgres') ], 'standby: pg_dump');
like(slurp_raw($dump), $envelope, 'of ciphertext');
unlike(slurp_raw($dump), qr/Okada|Murata|fever/, 'and nothing else');
$standby->stop;

# A subscriber without the keys stores ciphertext; with them it reads.
my $subscriber = new_server('subscriber', keys => key_directory($node));
$subscriber->safe_psql('postgres', q{CREATE EXTENSION pg_phi; CREATE ROLE app_a LOGIN;
	CREATE TABLE patient (id int PRIMARY KEY, clinic text NOT NULL, name enctext(identity), born encdate(identity), note enctext(clinical), amount encbigint); GRANT SELECT ON patient TO app_a});
sql(q{CREATE PUBLICATION patients FOR TABLE patient; CREATE PUBLICATION keys FOR TABLE phi.clinic, phi.data_key});
my $connection = $node->connstr('postgres') =~ s/'/''/gr;
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION patients CONNECTION '$connection' PUBLICATION patients");
$subscriber->wait_for_subscription_sync($node, 'patients');
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (400, 'Replicated'); UPDATE patient SET note = 'changed' WHERE id = 3}, '', 'changes to replicate');
$node->wait_for_catchup('patients');
is($subscriber->safe_psql('postgres', $bytes_of), sql($bytes_of), 'subscriber: the same ciphertext, copied and streamed');
refused($subscriber, 'app_a', "SET phi.clinic = 'a'", '42704', qr/does not exist/, 'subscriber: without the keys nobody reads it');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION keys CONNECTION '$connection' PUBLICATION keys");
$subscriber->wait_for_subscription_sync($node, 'keys');
$subscriber->safe_psql('postgres', q{SELECT phi.grant_clinic('app_a', 'a'); CREATE INDEX patient_name ON patient USING hash (name)});
gives($subscriber, 'app_a', $open . q{SET enable_seqscan = off; SELECT id, name FROM patient WHERE name = 'Replicated'; SELECT note FROM patient WHERE id = 3}, "400|Replicated\nchanged", 'subscriber: with the keys it reads and searches');
$subscriber->safe_psql('postgres', q{DROP SUBSCRIPTION keys; ALTER TABLE patient ADD CHECK (length(name) > 0) NOT VALID});
gives($node, 'app_a', $open . q{INSERT INTO patient (id, name) VALUES (401, 'Stopped')}, '', 'one more change');
my $log_offset = -s $subscriber->logfile;
ok($subscriber->wait_for_log(qr/ERROR:  cannot decrypt a value in a sealed session/, $log_offset), 'subscriber: a check that reads values stops it, for it is sealed');
$subscriber->safe_psql('postgres', 'ALTER TABLE patient DROP CONSTRAINT patient_name_check');
$node->wait_for_catchup('patients');
gives($subscriber, 'app_a', $open . q{SELECT name FROM patient WHERE id = 401}, 'Stopped', 'without the check it goes on');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION patients');

done_testing();
