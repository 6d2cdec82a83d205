# What custodians do that commits on its way, takes two of them, or has to
# outlive a crash.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('custody', conf => "phi.require_approval = on\nmax_worker_processes = 16\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE ROLE sato LOGIN IN ROLE phi_custodian;
	CREATE ROLE suzuki LOGIN IN ROLE phi_custodian;
	CREATE ROLE chief SUPERUSER LOGIN;
	CREATE ROLE auditor LOGIN IN ROLE phi_auditor;
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity), note enctext(clinical));
	CREATE INDEX ON patient USING hash (name);
	GRANT ALL ON patient TO app_a, app_b;
	ALTER ROLE app_a SET phi.clinic = 'a';
	ALTER ROLE app_b SET phi.clinic = 'b';
});
$node->safe_psql('postgres', $_->[1], connstr => $node->connstr('postgres') . " user=$_->[0]")
  for [ 'app_a', q{INSERT INTO patient SELECT n, ('Sato ' || n)::text, 'note' FROM generate_series(1, 100) n} ],
	  [ 'app_b', q{INSERT INTO patient SELECT n, ('Ito ' || n)::text, 'note' FROM generate_series(101, 150) n} ];

sub key_of
{
	my ($clinic, $class, $state) = @_;
	$state //= 'active';
	return $node->safe_psql('postgres',
		"SELECT max(key_id) FROM phi.keys WHERE (clinic, class, state) = ('$clinic', '$class', '$state')");
}

# Everything that may be asked for is written down instead.
my $unused = key_of('a', 'insurance');
gives($node, 'sato', "SELECT phi.rotate_key('a', 'insurance') > 0", 't', 'rotating a key takes one custodian');
warned($node, 'sato', "SELECT phi.destroy_key($unused) IS NULL", 't', qr/NOTICE:.*request 1 waits for a second custodian.*HINT: .*SELECT phi\.approve\(1\)/s, 'destroying one takes two');
warned($node, 'sato', "SELECT phi.destroy_key($unused) IS NULL", 't', qr/request 1 waits/, 'asked for again it is the same request');
warned($node, 'suzuki', "SELECT phi.destroy_key($unused) IS NULL", 't', qr/request 2 waits/, 'another who asks for it has his own');
gives($node, 'auditor', 'SELECT request_id, action, argument, requested_by, state FROM phi.requests ORDER BY 1',
	"1|destroy_key|{\"shred\": false, \"key_id\": $unused}|sato|open\n2|destroy_key|{\"shred\": false, \"key_id\": $unused}|suzuki|open", 'auditors see requests');
gives($node, 'suzuki', 'SELECT phi.refuse_request(2); SELECT state FROM phi.requests WHERE request_id = 2', "\nwithdrawn", 'who asked may withdraw');
is(key_of('a', 'insurance', 'retired'), $unused, 'nothing was destroyed');

# Who may approve.
refused($node, 'sato', 'SELECT phi.approve(1)', '42501', qr/another custodian.*HINT/s, 'not who asked');
refused($node, 'auditor', 'SELECT phi.approve(1)', '42501', qr/permission denied/, 'not an auditor');
refused($node, 'chief', 'SELECT phi.approve(1)', '42501', qr/"chief" may not approve.*phi_custodian/s, 'not a superuser who is no custodian');
refused($node, 'chief', 'SET ROLE suzuki; SELECT phi.approve(1)', '42501', qr/"chief" may not/, 'not by SET ROLE');
refused($node, 'chief', 'SET SESSION AUTHORIZATION suzuki; SELECT phi.approve(1)', '42501', qr/"chief" may not/, 'not by SET SESSION AUTHORIZATION');
$node->safe_psql('postgres', 'ALTER ROLE sato SUPERUSER');
refused($node, 'sato', 'SET SESSION AUTHORIZATION suzuki; SELECT phi.approve(1)', '42501', qr/another custodian/, 'who asked not by SET SESSION AUTHORIZATION');
$node->safe_psql('postgres', 'ALTER ROLE sato RENAME TO kato');
refused($node, 'kato', 'SELECT phi.approve(1)', '42501', qr/another custodian/, 'nor under another name');
$node->safe_psql('postgres', 'ALTER ROLE kato RENAME TO sato; ALTER ROLE sato NOSUPERUSER');
refused($node, 'chief', "SELECT phi.move_key($unused, 'destroyed', 'x')", '42501', qr/approval of a second custodian/, 'an internal function is no way around');
refused($node, 'chief', "SELECT phi.destroy_keys(ARRAY[$unused], true, 'x')", '42501', qr/approval/, 'nor is another');
warned($node, 'chief', "SELECT phi.cleared('destroy_key', '{\"shred\": false, \"key_id\": $unused}')", 'f', qr/request \d+ waits/, 'who did not ask uses no approval up');
refused($node, 'chief', 'SET phi.require_approval = off', '55P02', qr/cannot be changed now/, 'a session does not turn it off');
gives($node, 'suzuki', 'SELECT phi.approve(1)', '1', 'another custodian approves, and it is done');
is(key_of('a', 'insurance', 'destroyed'), $unused, 'at once');
gives($node, 'auditor', 'SELECT destroyed_by, login, approved_by FROM phi.destruction_certificates', 'sato|sato|suzuki', 'the certificate says who asked and who approved');
gives($node, 'auditor', 'SELECT state, requested_by, approved_by FROM phi.requests WHERE request_id = 1', 'done|sato|suzuki', 'the request who asked');
refused($node, 'suzuki', 'SELECT phi.approve(1)', '55000', qr/approved by suzuki already/, 'not twice');
refused($node, 'suzuki', 'SELECT phi.refuse_request(1)', '55000', qr/already/, 'nor refused afterwards');

# What fails stays open; what is refused or too old is over.
my $used = key_of('a', 'clinical');
gives($node, 'sato', "SELECT phi.rotate_key('a', 'clinical') > 0", 't', 'a key in use');
warned($node, 'sato', "SELECT phi.destroy_key($used)", '', qr/request \d+ waits/, 'is asked for');
my $request = $node->safe_psql('postgres', 'SELECT max(request_id) FROM phi.requests');
refused($node, 'suzuki', "SELECT phi.approve($request)", '55006', qr/still in use/, 'and cannot be destroyed');
gives($node, 'suzuki', "SELECT state FROM phi.requests WHERE request_id = $request", 'open', 'the request stays open');
gives($node, 'suzuki', "SELECT phi.refuse_request($request); SELECT state FROM phi.requests WHERE request_id = $request", "\nrefused", 'until it is refused');
refused($node, 'suzuki', "SELECT phi.approve($request)", '55000', qr/refused by suzuki already/, 'then it is over');
$node->safe_psql('postgres', "ALTER SYSTEM SET phi.approval_timeout = '1s'");
$node->reload;
warned($node, 'sato', 'SELECT phi.rotate_master_key()', '', qr/waits/, 'a request');
sleep 2;
$request = $node->safe_psql('postgres', 'SELECT max(request_id) FROM phi.requests');
refused($node, 'suzuki', "SELECT phi.approve($request)", '55000', qr/has expired.*HINT/s, 'that has expired');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET phi.approval_timeout');
$node->reload;

# The master key: by approval, and the old file may go.
my $old_file = key_file($node);
warned($node, 'sato', 'SELECT phi.rotate_master_key()', '', qr/waits/, 'a new master key is asked for');
gives($node, 'suzuki', 'SELECT phi.approve(max(request_id)) ~ \'^\d{8}T\' FROM phi.requests', 't', 'and approved');
gives($node, 'auditor', 'SELECT newest, available, keys = unwrapped, needed FROM phi.check_master_key()', "f|t|t|f\nt|t|t|t", 'the old one is not needed');
gives($node, 'auditor', 'SELECT approved_by FROM phi.master_key_events', 'suzuki', 'it is on record who approved');
unlink $old_file or die "could not remove $old_file: $!";
$node->restart;
gives($node, 'app_a', 'SELECT name FROM patient WHERE id = 7', 'Sato 7', 'without its file values are read');
gives($node, 'sato', "SELECT phi.create_clinic('new', 'New') > 0", 't', 'and keys are made');

# A compromised key: the procedure stops at the second custodian and goes on.
my $key = key_of('a', 'identity');
warned($node, 'sato', "CALL phi.respond_to_compromise($key, 'laptop lost')", '', qr/is marked.*100 values are exposed.*re-encrypts.*100 values done.*request \d+ waits/s, 'a response goes as far as it can');
is(key_of('a', 'identity', 'compromised'), $key, 'the key is marked');
gives($node, 'auditor', "SELECT state, step, exposed -> 'values' FROM phi.compromise_reports", 'open|destroy|100', 'the report is open');
warned($node, 'suzuki', 'SELECT phi.approve(max(request_id)) FROM phi.requests', 'report 1 is closed', qr/keys destroyed: 1.*report 1 is closed/s, 'approval ends it');
gives($node, 'app_a', 'SELECT count(name::text) FROM patient WHERE id <= 100', '100', 'all values are readable');
gives($node, 'app_a', "SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Sato 9'::text", '9', 'and found');
gives($node, 'auditor', 'SELECT report FROM phi.compromise_reports',
	qr/key: $key, clinic a, class identity.*closed.*laptop lost.*100 values.*public\.patient column name: 100.*opened by sato.*compromised by sato.*approved by suzuki.*certificates.*VACUUM.*public\.patient;.*pg_archivecleanup/s, 'the report tells it all');
refused($node, 'sato', "CALL phi.respond_to_compromise($key, 'again')", '55000', qr/key $key is destroyed/, 'there is nothing more to do');

# End of contract.
refused($node, 'sato', "CALL phi.shred_clinic('b', 'a')", '22023', qr/confirmation/, 'shredding must be confirmed');
warned($node, 'sato', "CALL phi.shred_clinic('b', 'b')", '', qr/request \d+ waits/, 'and approved');
gives($node, 'suzuki', 'SELECT phi.approve(max(request_id)) > \'0\' FROM phi.requests', 't', 'which starts the job');
ok($node->poll_query_until('postgres', "SELECT state = 'done' FROM phi.rekey_job WHERE kind = 'shred'"), 'that ends');
gives($node, 'auditor', "SELECT what, values_unreadable, approved_by FROM phi.destruction_certificates WHERE clinic = 'b' ORDER BY certificate_id DESC LIMIT 1", 'clinic|100|suzuki', 'with a certificate for the clinic');
gives($node, 'auditor', "SELECT DISTINCT state FROM phi.keys WHERE clinic = 'b'", 'destroyed', 'all its keys are gone');
refused($node, 'app_b', 'SELECT name FROM patient WHERE id = 101', '55000', qr/destroyed/, 'its values are unreadable');
refused($node, 'app_b', q{INSERT INTO patient VALUES (1000, 'x')}, '55000', qr/no active key/, 'and it writes none');
gives($node, 'app_a', 'SELECT count(name::text) FROM patient WHERE id <= 100', '100', 'others read on');
refused($node, 'sato', "CALL phi.shred_clinic('b', 'b')", '55000', qr/no key left/, 'not twice');
gives($node, 'auditor', 'SELECT count(*) FROM phi.check_certificates()', '0', 'the chain of certificates is sound');
$node->stop;

# Without a second custodian: crashes, and others that are in the way.
$node = new_server('alone', conf => "max_worker_processes = 16\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	CREATE INDEX ON patient USING hash (name);
	GRANT ALL ON patient TO app_a;
	ALTER ROLE app_a SET phi.clinic = 'a';
});
$node->safe_psql('postgres', q{INSERT INTO patient SELECT n, ('Sato ' || n)::text FROM generate_series(1, 100) n},
	connstr => $node->connstr('postgres') . ' user=app_a');
my $session = PhiTest::session($node, 'custodian');
$session->query('BEGIN');
my $left = $session->query('SELECT phi.rotate_master_key()');
$node->stop('immediate');
$node->start;
gives($node, 'app_a', 'SELECT name FROM patient WHERE id = 7', 'Sato 7', 'a crash within a rotation leaves all as it was');
gives($node, 'custodian', "SELECT bool_and(keys = unwrapped), bool_or(master_key = '$left' AND NOT needed) FROM phi.check_master_key()", 't|t', 'with a master key too many');
gives($node, 'custodian', 'SELECT phi.rotate_master_key()', $left, 'which the next rotation takes');
gives($node, 'app_a', 'SELECT name FROM patient WHERE id = 7', 'Sato 7', 'values are read');
refused($node, 'custodian', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT phi.rotate_master_key()', '25001', qr/read committed/, 'it sees what others commit');

# Temporary tables of others.
$key = key_of('a', 'identity');
$session = PhiTest::session($node, 'app_a');
$session->query('CREATE TEMP TABLE mine AS SELECT * FROM patient');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'a key is rotated');
refused($node, 'custodian', "SELECT phi.destroy_key($key)", '55006', qr/temporary tables.*process \d+ has .*mine.*HINT: .*pg_terminate_backend/s, 'temporary tables of others are in the way');
warned($node, 'custodian', "CALL phi.respond_to_compromise($key, 'lost')", '', qr/WARNING.*temporary tables.*mine.*HINT/s, 'of a response too');
$session->query('CREATE INDEX ON mine USING hash (name)');
refused($node, 'custodian', "SELECT phi.rotate_search_key('a')", '55006', qr/temporary tables.*mine/s, 'and of a search key');
$session->quit;
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM phi.foreign_temp_tables()');
warned($node, 'custodian', "CALL phi.respond_to_compromise($key)", '', qr/going on with step destroy.*report 1 is closed/s, 'when they are gone it goes on');

# The master key is compromised: everything is new, and the old file may go.
my @old = glob(key_directory($node) . '/*.kek');
$node->safe_psql('postgres', 'SELECT phi.prepare_master_key()');
warned($node, 'custodian', "CALL phi.respond_to_compromise(master => true, reason => 'disk stolen')", '',
	qr/wraps all keys.*2 clinics have new search keys.*100 values are exposed.*keys destroyed: \d+.*closed/s, 'a response to a compromised master key');
gives($node, 'custodian', "SELECT count(*) FROM phi.keys WHERE state IN ('retired', 'compromised')", '0', 'leaves no old key');
gives($node, 'custodian', "SELECT count(*) FROM phi.keys WHERE state = 'active'", '12', 'and a new one for each');
gives($node, 'app_a', "SET enable_seqscan = off; SELECT id FROM patient WHERE name = 'Sato 9'::text", '9', 'values are found');
my $newest = $node->safe_psql('postgres', 'SELECT master_key FROM phi.check_master_key() WHERE needed');
unlink grep { !/\Q$newest\E/ } glob(key_directory($node) . '/*.kek');
$node->restart;
gives($node, 'app_a', 'SELECT count(name::text) FROM patient', '100', 'and read without the old master keys');
gives($node, 'custodian', 'SELECT report FROM phi.compromise_reports WHERE master', qr/compromised master key, with \d+ keys.*The old master key .* remove it/s, 'the report names them');

# A value that is damaged keeps its key, and the report open.
$key = key_of('a', 'identity');
my $value = $node->safe_psql('postgres', 'SELECT name FROM patient WHERE id = 1');
my $damaged = $node->safe_psql('postgres', "SELECT 'phi1:' || replace(encode(set_byte(decode(substr('$value', 6), 'base64'), 50, 255 - get_byte(decode(substr('$value', 6), 'base64'), 50)), 'base64'), E'\\n', '')");
$node->safe_psql('postgres', "DELETE FROM patient WHERE id = 1;\nDROP INDEX patient_name_idx;\nCOPY patient FROM STDIN;\n1\t$damaged\n\\.\n");
warned($node, 'custodian', "CALL phi.respond_to_compromise($key, 'lost')", '', qr/WARNING.*stays open.*1 values could not be re-encrypted/s, 'a damaged value keeps the report open');
gives($node, 'custodian', "SELECT report FROM phi.compromise_reports WHERE key_id = $key", qr/open: 1 values could not be re-encrypted.*Values that keep their key.*public\.patient column name row/s, 'which names it');
is(key_of('a', 'identity', 'compromised'), $key, 'and keeps the key');
$node->safe_psql('postgres', "DELETE FROM patient WHERE id = 1;\nCOPY patient FROM STDIN;\n1\t$value\n\\.\n");
warned($node, 'custodian', "CALL phi.respond_to_compromise($key)", '', qr/going on with step rekey.*report \d+ is closed/s, 'once it is restored the report is closed');
gives($node, 'app_a', 'SELECT count(name::text) FROM patient', '100', 'and all values are there');

done_testing();
