# Sealing the server: that no process keeps a key, and who brings keys back.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $conf = "phi.allow_core_dumps = on\nshared_buffers = 4MB\nautovacuum = off\n";
my $node = new_server('seal', conf => $conf);
my $marker = $node->data_dir . '/pg_phi.sealed';
my $read = "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1";
my $sealed = qr/the server is sealed.*HINT: .*phi\.unseal\(\)/s;

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_phi');
set_up_clinics($node, 'other');
$node->safe_psql('other', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	GRANT SELECT, INSERT ON patient TO app_a;
	CREATE ROLE auditor LOGIN IN ROLE phi_auditor;
});
my $key = pack 'H*', substr slurp_raw(key_file($node)), 0, 64;
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato') RETURNING name", 'Sato', 'a value is encrypted', database => 'other');
gives($node, 'custodian', 'SELECT * FROM phi.seal_status()', 'f|||file||', 'the server is not sealed');
gives($node, 'custodian', 'SELECT phi.unseal(), (SELECT count(*) FROM phi.seal_events)', 't|0', 'so there is nothing to unseal');

# Backends that hold keys, in another database than the one that seals.
my %backend = map { $_ => session($node, 'app_a', database => 'other') } qw(idle transaction cursor busy);
is($backend{$_}->query($read), 'Sato', "backend that will be $_ holds a key") for sort keys %backend;
$backend{transaction}->query("BEGIN; SELECT count(*) FROM patient");
$backend{cursor}->query('BEGIN; DECLARE c CURSOR FOR SELECT name FROM patient; FETCH c');
my $busy = $backend{busy}->pid;
$backend{busy}->{in} .= "SELECT name, pg_sleep(600) FROM patient;\n";
$backend{busy}->{run}->pump_nb;
$node->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $busy");

SKIP:
{
	my @keys = (defined memory_areas($backend{idle}->pid)) ? ($key, data_keys($backend{idle}->pid)) : ();
	skip 'memory of other processes cannot be read', 2 if !@keys;
	cmp_ok(scalar @keys, '>', 1, 'data keys are found in the memory of a backend');
	cmp_ok(scalar(processes_with($node, $key)), '>', 3, 'and the master key in that of all');
}
my @known = defined memory_areas($backend{idle}->pid) ? ($key, data_keys($backend{idle}->pid)) : ();
cmp_ok(scalar(processes_with($node, $known[1])), '>', 3, 'four backends hold the same data key') if @known > 1;

sub no_keys_left
{
	my ($name) = @_;
	SKIP:
	{
		skip 'memory of other processes cannot be read', 1 if !@known;
		is(join(' ', processes_with($node, @known)), '', "$name: no process has a key");
	}
	return;
}

for my $role ('app_a', 'auditor')
{
	refused($node, $role, $_, '42501', qr/permission denied/, "$role: $_", database => 'other')
	  for 'SELECT phi.seal()', 'SELECT phi.unseal()', 'SELECT phi.lift_seal()', 'SELECT phi.apply_seal()', "SELECT phi.stage_share('x')";
}
is($backend{idle}->query('SELECT name FROM patient'), 'Sato', 'they did nothing');
my $began = time;
gives($node, 'custodian', "SELECT phi.seal('drill')", '0', 'sealed: nobody holds keys');
cmp_ok(time - $began, '<', 10, 'soon');
no_keys_left('sealed');
gives($node, 'auditor', q{SELECT sealed, since > now() - interval '1 minute', by, provider FROM phi.seal_status()}, 't|t|custodian|file', 'the status tells it');
gives($node, 'auditor', 'SELECT action, actor, login, reason FROM phi.seal_events', 'seal|custodian|custodian|drill', 'and so do the events');
like(slurp_raw($node->logfile), qr/LOG:  server sealed by "custodian"/, 'and the log');
for my $name (qw(idle transaction))
{
	my ($out, $messages) = $backend{$name}->query('SELECT name FROM patient');
	like($messages, qr/ERROR:  55000: the server is sealed/, "backend that was $name reads nothing, and lives");
}
is(slurp_raw("/proc/$busy/stat") =~ /\) [^Z]/ ? 'runs' : 'gone', 'gone', 'the one that was busy was terminated');
$_->{run}->kill_kill for @backend{qw(busy cursor)};
$backend{transaction}->query('ROLLBACK');

sub is_sealed
{
	my ($name) = @_;
	refused($node, 'app_a', $read, '55000', $sealed, "$name: nothing is read", database => 'other');
	refused($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (9, 'Ito')", '55000', $sealed, "$name: nothing is written", database => 'other');
	return;
}
is_sealed('sealed');
refused($node, 'custodian', $_, '55000', $sealed, "sealed: $_", database => 'other')
  for "SELECT phi.rotate_key('a', 'identity')", "SELECT phi.create_clinic('c', 'C')";
gives($node, undef, 'SELECT name FROM patient', qr/\Aphi1:/, 'sealed: ciphertext is read', database => 'other');
gives($node, undef, 'ANALYZE patient', '', 'sealed: ANALYZE works', database => 'other');
gives($node, 'custodian', "SELECT phi.seal('again')", '0', 'sealing twice is no error');
is(sprintf('%04o', (stat $marker)[2] & 07777), '0600', 'the file that keeps it sealed is closed to others');
$node->restart;
is_sealed('after a restart');
gives($node, 'custodian', q{SELECT sealed, since > now() - interval '5 minutes', by FROM phi.seal_status()}, 't|t|custodian', 'with the same status');
my $victim = session($node);
kill 'KILL', scalar $victim->pid;
$node->wait_for_log(qr/all server processes terminated; reinitializing/);
$victim->{run}->kill_kill;
$node->poll_query_until('postgres', 'SELECT true');
is_sealed('after a crash');
append_to_file($marker, "\0nonsense");
truncate $marker, 5;
$node->restart;
is_sealed('with a damaged file');
gives($node, 'custodian', 'SELECT sealed, since, by FROM phi.seal_status()', 't||', 'with a damaged file: the status tells what is known');

# Unseal.
refused($node, 'custodian', "SELECT phi.unseal('my long passphrase')", '22023', qr/HINT: .*phi-unseal.*change it/s, 'a passphrase is not what phi.unseal() takes');
is_sealed('then');
gives($node, 'custodian', 'SELECT phi.unseal()', 't', 'unsealed');
ok(!-e $marker, 'the file is gone');
gives($node, 'app_a', $read, 'Sato', 'and values are read', database => 'other');
gives($node, 'auditor', q{SELECT string_agg(action, ' ' ORDER BY event_id) FROM phi.seal_events}, 'seal seal unseal', 'the events tell it');
$node->restart;
gives($node, 'app_a', $read, 'Sato', 'also after a restart', database => 'other');
my $open = session($node, 'app_a', database => 'other');
is($open->query($read), 'Sato', 'a session');
$node->safe_psql('postgres', 'SELECT phi.seal()');
like(($open->query('SELECT name FROM patient'))[1], qr/55000/, 'that is sealed');
$node->safe_psql('postgres', 'SELECT phi.unseal()');
is($open->query('SELECT name FROM patient'), 'Sato', 'goes on once the server is unsealed');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT name FROM patient}, 'Sato', 'a superuser who seals in a clinic', database => 'other');
$open->quit;

# One who holds keys himself and seals in a transaction.
$node->safe_psql('other', "SELECT phi.grant_clinic('postgres', 'a')");
my $own = session($node, undef, database => 'other');
is($own->query($read), 'Sato', 'one who holds keys himself');
is(($own->query("BEGIN; SELECT phi.seal()"))[0], '0', 'seals in a transaction');
no_keys_left('in the middle of it');
like(($own->query('SELECT name FROM patient'))[1], qr/55000/, 'and reads nothing any more');
$own->query('ROLLBACK');
is_sealed('after a rollback');
$own->quit;
$node->safe_psql('postgres', 'SELECT phi.unseal()');

# The seal is lifted by a commit alone, and not past a later seal.
$node->safe_psql('postgres', 'SELECT phi.seal()');
for my $undone ('BEGIN; SELECT phi.unseal(); ROLLBACK', 'BEGIN; SAVEPOINT s; SELECT phi.unseal(); ROLLBACK TO s; COMMIT', 'BEGIN; SELECT phi.unseal(); SELECT 1 / 0; COMMIT',
	'BEGIN; SELECT phi.unseal(); SELECT phi.seal(); COMMIT')
{
	as($node, 'custodian', $undone, on_error_stop => 0);
	is_sealed("after $undone");
}
gives($node, 'custodian', 'BEGIN; SAVEPOINT s; SELECT phi.unseal(); RELEASE s; SELECT sealed FROM phi.seal_status(); COMMIT; SELECT sealed FROM phi.seal_status()', "t\nt\nf", 'unsealed by the commit');

# Backends that unwrap keys at the very moment.
my $script = $node->basedir . '/read.sql';
append_to_file($script, "SET phi.clinic = 'a';\nSELECT name FROM patient;\n");
for my $round (1 .. 4)
{
	my $load = IPC::Run::start([ 'pgbench', '-n', '-C', '-c', '6', '-j', '2', '-T', '20', '-f', $script, $node->connstr('other') . ' user=app_a' ],
		'>', '/dev/null', '2>', '/dev/null');
	select undef, undef, undef, 0.3 + 0.1 * $round;
	gives($node, undef, 'SELECT phi.seal()', '0', "round $round: sealed while others begin to read");
	no_keys_left("round $round");
	$load->finish;
	$node->safe_psql('postgres', 'SELECT phi.unseal()');
}
gives($node, 'app_a', $read, 'Sato', 'and all is well again', database => 'other');

# A standby is sealed by itself.
my $primary = new_server('primary', allows_streaming => 1);
set_up_clinics($primary);
$primary->safe_psql('postgres', q{CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity)); GRANT SELECT, INSERT ON patient TO app_a});
gives($primary, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato') RETURNING name", 'Sato', 'a primary');
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
gives($standby, 'app_a', $read, 'Sato', 'a standby reads');
gives($standby, 'custodian', "SELECT phi.seal('on the standby')", '0', 'it can be sealed');
refused($standby, 'app_a', $read, '55000', $sealed, 'and reads nothing then');
gives($primary, 'app_a', $read, 'Sato', 'while the primary does');
$standby->restart;
refused($standby, 'app_a', $read, '55000', $sealed, 'also after a restart');
gives($standby, 'custodian', 'SELECT phi.unseal()', 't', 'it can be unsealed');
gives($standby, 'app_a', $read, 'Sato', 'and reads again');
gives($primary, undef, 'SELECT count(*) FROM phi.seal_events', '0', 'the primary was told nothing');

done_testing();
