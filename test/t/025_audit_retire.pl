# Old months leave the audit log once their export has proved itself, and what
# stays still verifies.
use strict;
use warnings;

use Digest::SHA qw(sha256);
use MIME::Base64;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('retire', conf => "phi.checkpoint_interval = '1h'");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE second LOGIN IN ROLE phi_custodian;
	CREATE ROLE auditor LOGIN IN ROLE phi_auditor;
	CREATE TABLE chart (id int PRIMARY KEY); SELECT phi.audit('chart'); INSERT INTO chart VALUES (1)});

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# RFC 6962, section 2.1, by other means: the root that a verifier finds.
sub root
{
	my @leaves = @_;
	return sha256('') unless @leaves;
	return $leaves[0] if @leaves == 1;
	my $half = 1;
	$half *= 2 while 2 * $half < @leaves;
	return sha256("\x01" . root(@leaves[ 0 .. $half - 1 ]) . root(@leaves[ $half .. $#leaves ]));
}

sub root_before
{
	my ($before) = @_;
	return root(map { pack 'H*', $_ } split /\n/, sql("SELECT encode(phi.audit_leaf_hash(l), 'hex') FROM phi.audit_log l WHERE at < '$before' AND at >= '2020-01-01' ORDER BY xact, record_id"));
}

# Two old months, and records of now between them, as if the clock had gone.
sub old
{
	my ($n, $at) = @_;
	sql("INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), timestamptz '$at' + i * interval '1 s', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'OLD', NULL, NULL, NULL, NULL, NULL FROM generate_series(1, $n) i");
}
sub make_partitions
{
	# It does not wait for the worker, who may be at it.
	return ok($node->poll_query_until('postgres', 'SELECT phi.make_audit_partitions(true)'), 'partitions are made');
}
# The pass of the first records; the next is an hour away.
log_begun($node);
old(70, '2025-07-05 00:00Z');
sql('INSERT INTO chart VALUES (2)');
old(40, '2025-08-05 00:00Z');
sql('INSERT INTO chart VALUES (3)');
old(30, '2025-07-06 00:00Z');
make_partitions();
my $ask = "SELECT partitions, records, leaves, retired FROM phi.retire_audit";
refused($node, 'custodian', "$ask('2025-09-01 00:00Z')", '55000', qr/140 records .* have 0 leaves.*checkpoint/s, 'records without a checkpoint are not retired');
sql('SELECT phi.advance_audit()');
my $july = root_before('2025-08-01 00:00Z');
my $both = root_before('2025-09-01 00:00Z');

refused($node, $_, "$ask('2025-09-01 00:00Z')", '42501', qr/permission denied/, "$_ retires nothing") for qw(auditor stranger);
refused($node, 'custodian', "$ask($_)", '22023', qr/in the past/, "before $_") for "'2100-01-01'", 'NULL', "'infinity'";
gives($node, 'custodian', "$ask('2025-08-31 23:59Z')", qr/^\{phi\.audit_log_2025_07\}\|100\|\{.*\}\|f$/, 'a dry run tells what would go: whole months only');
gives($node, 'custodian', "$ask('2025-07-31 23:59Z', 'x')", '{}|0|{}|f', 'nothing is nothing');
my $before = sql('SELECT count(*) FROM phi.audit_log');
refused($node, 'custodian', "$ask('2025-08-31 23:59Z', '$_')", '22023', qr/not the root of these records/, 'another root is refused')
	for unpack('H*', $both), '', 'x', unpack('H*', $july) . '00';
is(sql("SELECT count(*), (SELECT count(*) FROM phi.audit_retired) FROM phi.audit_log"), "$before|0", 'and nothing is gone');

# Somebody reads.
{
	my $reader = session($node, undef);
	$reader->query('BEGIN; SELECT count(*) FROM phi.audit_log');
	refused($node, 'custodian', "$ask('2025-08-31 23:59Z', '" . unpack('H*', $july) . "')", '55P03', qr/lock timeout/, 'who reads the log is waited for a moment only');
	$reader->query('COMMIT');
	$reader->quit;
}
gives($node, 'custodian', "$ask('2025-08-31 23:59Z', '" . uc(unpack('H*', $july)) . "')", qr/^\{phi\.audit_log_2025_07\}\|100\|.*\|t$/, 'the root of the export retires a month');
is(sql(q{SELECT to_regclass('phi.audit_log_2025_07') IS NULL, count(*) FROM phi.audit_log WHERE operation = 'OLD'}), 't|40', 'its records are gone, others are not');
is(sql(q{SELECT records, encode(root, 'hex'), from_at, to_at, retired_by FROM phi.audit_retired}), '100|' . unpack('H*', $july) . '|2025-07-01 00:00:00+00|2025-08-01 00:00:00+00|custodian', 'it is accounted for');
is(sql('SELECT sum(upper(r) - lower(r)) FROM phi.audit_retired, unnest(leaves) r'), '100', 'leaf by leaf');
my $root = encode_base64($july, '');
like(sql('SELECT note FROM phi.audit_retired'), qr/\A\S+\/retired\n\{\[\d+,\d+\),\[\d+,\d+\)\}\n\Q$root\E\n\n\S+ \S+ \S+\n?\z/, 'in a signed note');
is(sql('SELECT n.signed FROM phi.audit_retired, phi.check_audit_note(note, ARRAY(SELECT verifier FROM phi.audit_signer)) n'), 't', 'with a key of the log');
is(sql(q{SELECT relation, login, detail LIKE '100 records of 2025-07-01%' FROM phi.audit_log WHERE operation = 'RETIRE'}), 'phi.audit_log|custodian|t', 'and recorded');
is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'the log verifies');
refused($node, undef, 'DELETE FROM phi.audit_retired', '42501', qr/cannot be changed/, 'nobody takes a retirement back');

# With a second custodian.
$node->append_conf('postgresql.conf', 'phi.require_approval = on');
$node->reload;
ok($node->poll_query_until('postgres', 'SHOW phi.require_approval', 'on'), 'approval is required');
my $august = root_before('2025-09-01 00:00Z');
warned($node, 'custodian', "$ask('2025-09-01 00:00Z', '" . encode_base64($august, '') . "')", '{phi.audit_log_2025_08}|40|' . sql("SELECT leaves FROM phi.retire_audit('2025-09-01 00:00Z')") . '|f', qr/waits for a second custodian/, 'then it waits');
is(sql(q{SELECT count(*) FROM phi.audit_log WHERE operation = 'OLD'}), '40', 'and does nothing');
gives($node, 'second', q{SET timezone = 'Asia/Tokyo'; SELECT phi.approve(request_id) FROM phi.requests WHERE action = 'retire_audit'}, 'true', 'until another approves');
is(sql(q{SELECT count(*), (SELECT count(*) FROM phi.audit_retired) FROM phi.audit_log WHERE operation = 'OLD'}), '0|2', 'which does it');
sql('SELECT phi.advance_audit()');
is(sql('SELECT count(*) FROM phi.verify_audit()'), '0', 'the log verifies');

# Who wrote in that month may commit while its partition waits to go.
$node->append_conf('postgresql.conf', 'phi.require_approval = off');
$node->reload;
ok($node->poll_query_until('postgres', 'SHOW phi.require_approval', 'off'), 'approval is not required');
old(5, '2025-04-05 00:00Z');
make_partitions();
sql('SELECT phi.advance_audit()');
my $april = unpack 'H*', root_before('2025-05-01 00:00Z');
my $writer = fork // die;
if ($writer == 0)
{
	$node->psql('postgres', q{BEGIN; INSERT INTO phi.audit_log SELECT nextval('phi.audit_record_id'), '2025-04-30 23:59Z', now(), pg_current_xact_id(), 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'LATE', NULL, NULL, NULL, NULL, NULL; SELECT pg_sleep(2); COMMIT});
	POSIX::_exit(0);
}
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), 'a transaction has written there');
refused($node, 'custodian', "$ask('2025-05-01 00:00Z', '$april')", '55000', qr/6 records .* have 5 leaves/, 'a record that is committed meanwhile is seen');
waitpid $writer, 0;
is(sql(q{SELECT count(*) FROM phi.audit_log WHERE operation = 'LATE'}), '1', 'and stays');
refused($node, 'custodian', "BEGIN ISOLATION LEVEL REPEATABLE READ; $ask('2025-05-01 00:00Z', '$april')", '25001', qr/read committed/, 'an older snapshot is not believed');
sql('SELECT phi.advance_audit()');
gives($node, 'custodian', "$ask('2025-05-01 00:00Z', '" . unpack('H*', root_before('2025-05-01 00:00Z')) . "')", qr/\|6\|.*\|t$/, 'once it has its leaf it can go');

# A record that was altered is not let go unseen.
old(5, '2025-05-05 00:00Z');
make_partitions();
sql('SELECT phi.advance_audit()');
sql(q{BEGIN; ALTER TABLE phi.audit_log_2025_05 DISABLE TRIGGER USER; UPDATE phi.audit_log_2025_05 SET login = 'y' WHERE record_id = (SELECT min(record_id) FROM phi.audit_log_2025_05); COMMIT});
refused($node, 'custodian', "$ask('2025-06-01 00:00Z', '" . unpack('H*', root_before('2025-06-01 00:00Z')) . "')", '22023', qr/what is stored was altered/, 'an altered record is not retired');

# Whoever removes records and claims that they were retired must show a note.
sub claim
{
	my ($leaves, $root, $note, $fault, $name) = @_;
	sql("ALTER TABLE phi.audit_retired DISABLE TRIGGER USER; DELETE FROM phi.audit_retired WHERE retired_by = 'thief'; ALTER TABLE phi.audit_retired ENABLE ALWAYS TRIGGER only_owner, ENABLE ALWAYS TRIGGER audit_event, ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_row_change, ENABLE ALWAYS TRIGGER audit_truncate");
	sql("INSERT INTO phi.audit_retired SELECT '$leaves', now(), now(), 1, $root, $note, now(), 'thief'");
	return is(sql(q{SELECT fault, leaf, detail FROM phi.verify_audit() WHERE fault = 'retirement'}), $fault, $name);
}
my $claimed = q{phi.root_of_leaves('{[0,2)}')};
my $text = qq{E'\\n{[0,2)}\\n' || encode($claimed, 'base64') || E'\\n'};
sql('SELECT phi.advance_audit()');
claim('{[0,2)}', $claimed, "'none'", "retirement|0|its signature is not one of this log's keys", 'a retirement without a note');
claim('{[0,2)}', $claimed, '(SELECT note FROM phi.audit_checkpoint LIMIT 1)', 'retirement|0|its note is of other leaves or of another root', 'the note of a checkpoint');
claim('{[0,2)}', $claimed, "(SELECT min(note) FROM phi.audit_retired)", 'retirement|0|its note is of other leaves or of another root', 'the note of another retirement');
claim('{[0,2)}', "sha256('')", "phi.sign_audit_note('x/retired' || $text)", 'retirement|0|its root is not that of these leaves', 'another root');
claim('{[0,2)}', $claimed, "phi.sign_audit_note('x/retired' || $text)", 'retirement|0|its note is of other leaves or of another root', 'the note of another log');
claim('{[0,2)}', $claimed, "phi.sign_audit_note(phi.audit_origin() || '/retired' || $text)", '', 'a note that the server signed for its superuser');
is(sql(q{SELECT count(*) FROM phi.audit_log WHERE relation = 'phi.audit_retired' AND operation = 'INSERT' AND detail LIKE '%"retired_by":"thief"%'}), '6', 'but each is recorded');
done_testing();
