# A master key that custodians share: its whole life, and that neither it nor
# what makes it is written anywhere.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('shared', conf => <<'END');
phi.key_provider = custodian
phi.allow_core_dumps = on
autovacuum = off
log_statement = all
log_min_duration_statement = 0
log_duration = on
log_connections = on
log_disconnections = on
log_error_verbosity = verbose
log_min_messages = debug2
log_min_error_statement = debug5
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
END
my $keys = key_directory($node);
my %passphrase = (
	ann => 'correct horse battery staple',
	ben => 'パスフレーズは長いほうがよい',
	cid => 'four words are better than one',
	dee => 'nobody has asked me for this');
my $read = "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1";
my $is_sealed = qr/the server is sealed.*custodians have given.*HINT: .*phi-unseal/s;

# Runs phi-unseal as a custodian; its exit status and all that it prints.
sub phi_unseal
{
	my ($who, $passphrase, @options) = @_;
	my $out = '';
	IPC::Run::run([ 'phi-unseal', '--passphrase-stdin', '-d', $node->connstr('postgres') . " user=$who", @options ],
		'<', \"$passphrase\n", '>&', \$out);
	return ($? >> 8, $out);
}

sub unseals
{
	my ($who, $pattern, $name, @options) = @_;
	my ($status, $out) = phi_unseal($who, $passphrase{$who}, @options);
	ok($status == 0 && $out =~ $pattern, $name) or diag("status $status\n$out");
	return;
}

sub unseal_fails
{
	my ($who, $passphrase, $pattern, $name, @options) = @_;
	my ($status, $out) = phi_unseal($who, $passphrase, @options);
	ok($status == 1 && $out =~ $pattern, $name) or diag("status $status\n$out");
	return;
}

sub status_is
{
	my ($expected, $name) = @_;
	gives($node, 'ann', 'SELECT sealed, since IS NOT NULL, by, provider, given, threshold FROM phi.seal_status()', $expected, "status: $name");
	return;
}

# Boxes that custodians sent, as the log has them.
sub sent_by
{
	my ($who) = @_;
	return grep { length > 100 } slurp_raw($node->logfile) =~ /(?:parameters: \$1 = |phi\.unseal\()'([A-Za-z0-9+\/=]+)'/g;
}

# Enrolling.
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_phi;
	CREATE ROLE ann LOGIN IN ROLE phi_custodian;
	CREATE ROLE ben LOGIN IN ROLE phi_custodian;
	CREATE ROLE cid LOGIN IN ROLE phi_custodian;
	CREATE ROLE dee LOGIN;
});
my @enroll = ('--enroll', '--interactive');
my $create = "SELECT phi.create_clinic('early', 'Early')";
refused($node, 'ann', $create, '55000', qr/too few custodians.*0 have enrolled.*is 2.*HINT: .*--enroll/s, 'without custodians there is no key');
unseal_fails('ann', 'too short', qr/too short/, 'a short passphrase is refused', @enroll);
unseal_fails('dee', $passphrase{dee}, qr/permission denied/, 'who is no custodian cannot enroll', @enroll);
unseals('ann', qr/"ann" is enrolled.*public key/si, 'the first enrolls', @enroll);
unseal_fails('ann', $passphrase{ann}, qr/already enrolled.*HINT/s, 'once only', @enroll);
refused($node, 'ann', $create, '55000', qr/too few custodians.*1 have enrolled/s, 'one custodian is not enough');
unseals('ben', qr/is enrolled/, 'the second enrolls', @enroll);
unseals('cid', qr/is enrolled/, 'the third, with the strength that is the default', '--enroll');
gives($node, 'ann', q{SELECT string_agg(custodian, ' '), count(DISTINCT public_key) FROM phi.custodians()}, 'ann ben cid|3', 'the custodians');
gives($node, 'ann', q{SELECT string_agg(action || ' ' || custodian || ' ' || login, ', ' ORDER BY event_id) FROM phi.seal_events}, 'enroll ann ann, enroll ben ben, enroll cid cid', 'and the events');
is(sprintf('%04o', (stat "$keys/custodians")[2] & 07777), '0600', 'their file is closed to others');
like(slurp_raw("$keys/custodians"), qr{\Apg_phi custodians 1\n(custodian \S{24} 2 67108864 \S{44} (ann|ben)\n){2}custodian \S{24} 3 268435456 \S{44} cid\n\z}, 'and is as documented');
my $salt = 'A' x 22 . '==';
my $point = 'B' x 42 . 'A=';
for ([ "'x', 2, 67108864, '$point'", '22023' ], [ "'$salt', 2, 67108864, 'x'", '22023' ], [ "'$salt', 1, 67108864, '$point'", '22023' ],
	[ "'$salt', 2, 67108863, '$point'", '22023' ], [ "'$salt', 2, 1::bigint << 40, '$point'", '22023' ],
	[ "'$salt', 2, 67108864, '" . 'A' x 43 . "='", '22023' ], [ "NULL, 2, 67108864, '$point'", '22004' ])
{
	refused($node, undef, "SELECT phi.enroll_custodian($_->[0])", $_->[1], qr/HINT: .*phi-unseal --enroll/s, "no sound key: $_->[0]");
}

# The first master key.
status_is('f|f||custodian||', 'no key yet');
set_up_clinics($node);
my ($file) = glob "$keys/*.shares";
my $label = $file =~ s/.*\/(.*)\.shares$/$1/r;
is(join(' ', map { s/.*\///r } glob "$keys/*"), "$label.shares custodians", 'the key directory has the shares, and no key');
is(sprintf('%04o', (stat $file)[2] & 07777), '0600', 'their file is closed to others');
like(slurp_raw($file), qr{\Apg_phi shares 1\nthreshold 2\n(share \S{24} \d+ \d+ \S{44} [0-9a-f]{16} \S{108} (ann|ben|cid)\n){3}\z}, 'and is as documented');
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	GRANT SELECT, INSERT ON patient TO app_a;
});
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato') RETURNING name", 'Sato', 'a value is encrypted');
status_is('f|f||custodian|0|2', 'in use');
my $vault = vault($node);
my $kek = defined $vault ? substr($vault, 0, 32) : undef;
unseal_fails('ann', $passphrase{ann}, qr/no share that the server lacks/, 'nothing is wanted of custodians');

# A restart: two of three.
$node->restart;
status_is('t|t||custodian|0|2', 'restarted');
refused($node, 'app_a', $read, '55000', $is_sealed, 'after a restart nothing is read');
refused($node, 'custodian', "SELECT phi.rotate_key('a', 'identity')", '55000', $is_sealed, 'and no key is made');
refused($node, 'ann', 'SELECT phi.unseal()', '55000', qr/0 of 2 custodians/, 'phi.unseal() alone does not help');
gives($node, undef, 'SELECT name FROM patient', qr/\Aphi1:/, 'ciphertext is read');
gives($node, undef, 'ANALYZE patient', '', 'ANALYZE works');
unseal_fails('ann', 'this is not my passphrase', qr/does not open the share.*passphrase is wrong/s, 'a wrong passphrase is noticed');
unseal_fails('dee', $passphrase{dee}, qr/permission denied/, 'who is no custodian has no share');
unseal_fails('custodian', $passphrase{dee}, qr/no share/, 'nor has one who did not enroll');
status_is('t|t||custodian|0|2', 'still nothing given');
unseals('ann', qr/\Q$label\E: share given; other custodians.*sealed: 1 of 2 shares/s, 'the first gives his share');
status_is('t|t||custodian|1|2', 'one of two');
my $share = defined $kek ? substr(vault($node), 33 * 32, 32) : undef;
refused($node, 'app_a', $read, '55000', qr/1 of 2 custodians/, 'one is not enough');
unseals('ann', qr/other custodians must/, 'the first gives his share again');
status_is('t|t||custodian|1|2', 'still one of two');
refused($node, 'app_a', $read, '55000', qr/1 of 2 custodians/, 'which is not enough');
my ($anns) = sent_by('ann');
ok(defined $anns, 'the log has what he sent') or BAIL_OUT('no box in the log');
refused($node, 'ben', "SELECT phi.unseal('$anns')", '42501', qr/belongs to another custodian/, 'nobody else can send it');
for my $what ('a passphrase of mine', '', 'QUJD', substr($anns, 4), ($anns =~ s/\A(.)/$1 eq 'A' ? 'B' : 'A'/er), $anns . 'QUJD')
{
	refused($node, 'ben', "SELECT phi.unseal('$what')", '22023', qr/HINT: .*phi-unseal.*change it/s, 'no share: ' . substr $what, 0, 20);
}
status_is('t|t||custodian|1|2', 'none of these counts');
unseals('ben', qr/share given, and there are enough.*unsealed/s, 'the second gives his');
status_is('f|f||custodian|0|2', 'unsealed');
gives($node, 'app_a', $read, 'Sato', 'and values are read');
gives($node, 'ann', q{SELECT action, actor, login FROM phi.seal_events ORDER BY event_id DESC LIMIT 1}, 'unseal|ben|ben', 'the events tell who was the last');

# What was sent is of no use any more.
my @sent = sent_by();
$node->restart;
for my $who ('ann', 'ben')
{
	refused($node, $who, "SELECT phi.unseal('$_')", '22023', qr/HINT/, "$who sends what is in the log") for @sent[0, -1];
}
unseals('cid', qr/1 of 2/, 'the third gives his share');
gives($node, 'ann', "SELECT phi.seal('lost')", '0', 'then the server is sealed');
status_is('t|t|ann|custodian|0|2', 'and his share is dropped');
refused($node, 'cid', "SELECT phi.unseal('$_')", '22023', qr/HINT/, 'what he sent is of no use') for (sent_by())[-1];
refused($node, 'ann', 'SELECT phi.unseal()', '55000', qr/0 of 2 custodians/, 'phi.unseal() does not lift such a seal');
unseals('cid', qr/1 of 2/, 'the third again');
refused($node, 'app_a', $read, '55000', qr/the server is sealed/, 'is not enough');
unseals('ann', qr/unsealed/, 'with the first he lifts the seal');
gives($node, 'app_a', $read, 'Sato', 'and values are read');
ok(!-e $node->data_dir . '/pg_phi.sealed', 'for good');
gives($node, undef, 'SELECT phi.seal()', '0', 'sealed while in use');
SKIP:
{
	skip 'memory of other processes cannot be read', 3 unless defined $kek;
	isnt($kek, "\0" x 32, 'the master key was seen in memory');
	isnt($share, "\0" x 32, 'and a share');
	is(join(' ', processes_with($node, $kek, $share)), '', 'sealed: no process has them');
}
unseals('ben', qr/1 of 2/, 'the second');
unseals('cid', qr/unsealed/, 'and the third unseal it');

# Files that are not as they were.
my $good = slurp_raw($file);
sub with_file
{
	my ($content, $code) = @_;
	unlink $file;
	if (defined $content)
	{
		append_to_file($file, $content);
		chmod 0600, $file;
	}
	$node->restart;
	$code->();
	unlink $file;
	append_to_file($file, $good);
	chmod 0600, $file;
	return;
}
with_file(undef, sub {
	refused($node, 'app_a', $read, '58P01', qr/could not open shares file.*HINT: .*copy/s, 'without the file: reading');
	refused($node, 'custodian', "SELECT phi.rotate_key('a', 'identity')", '58P01', qr/master key.*missing/, 'without the file: no new key');
	unseal_fails('ann', $passphrase{ann}, qr/no share/, 'without the file: phi-unseal');
});
with_file($_, sub { refused($node, 'app_a', $read, 'F0000', qr/shares file .* is damaged.*Line \d+.*HINT/s, 'with a damaged file') })
  for 'x', '', "pg_phi shares 2\n", $good =~ s/threshold 2/threshold 0/r, $good =~ s/threshold 2/threshold 4/r, $good =~ s/^share \S/share /mr,
  substr($good, 0, -5), $good =~ s/ ann\n/\n/r, $good . "more\n", $good =~ s/ann/a\0n/r, "pg_phi shares 1\nthreshold 1\n";
with_file($good =~ s/threshold 2/threshold 1/r, sub {
	unseal_fails('ann', $passphrase{ann}, qr/do not make that key.*HINT/s, 'with a lower threshold shares do not make the key');
	status_is('t|t||custodian|0|1', 'and are dropped');
});
my ($of_ann, $of_ben) = map { my $who = $_; $good =~ /^share (?:\S+ ){5}(\S+) $who$/m } qw(ann ben);
with_file($good =~ s/\Q$of_ann\E/$of_ben/r, sub {
	unseal_fails('ann', $passphrase{ann}, qr/does not open the share/, 'with the box of another');
});
chmod 0640, $file;
refused($node, 'app_a', $read, '42501', qr/shares file .* is open to group or others/, 'with a file open to others');
chmod 0600, $file;
my $roster = slurp_raw("$keys/custodians");
append_to_file("$keys/custodians", "nonsense\n");
refused($node, 'ann', 'SELECT * FROM phi.custodians()', 'F0000', qr/custodians file .* is damaged.*Line 5/s, 'with a damaged file of custodians');
unlink "$keys/custodians";
append_to_file("$keys/custodians", $roster);
chmod 0600, "$keys/custodians";

# One leaves. The next key, made without a passphrase, is not shared with him.
unseals('ann', qr/1 of 2/, 'all is well again');
unseals('ben', qr/unsealed/, 'and unsealed');
refused($node, 'ann', "SELECT phi.remove_custodian('eve')", '42704', qr/not enrolled.*HINT/s, 'only custodians can be removed');
gives($node, 'ann', "SELECT phi.remove_custodian('cid')", '', 'the third is removed');
gives($node, 'ann', q{SELECT string_agg(custodian, ' ') FROM phi.custodians()}, 'ann ben', 'two are left');
warned($node, 'ann', "SELECT phi.remove_custodian('ben')", '', qr/WARNING:  01000: there are fewer custodians than phi\.custodian_threshold.*HINT/s, 'one fewer is warned of');
$passphrase{old} = $passphrase{ben};
$passphrase{ben} = 'and now something else entirely';
unseals('ben', qr/is enrolled/, 'he enrolls again, with another passphrase', @enroll);
rename $file, "$file.away";
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', "CREATE EXTENSION pg_phi; SELECT phi.create_clinic('n', 'New')");
my ($other) = grep { $_ ne $file } glob "$keys/*.shares";
is(join(' ', slurp_raw($other) =~ /^share .* (\S+)$/mg), 'ann ben', 'a new key is shared by those who are left');
rename "$file.away", $file;
$node->restart;
unseals('cid', qr/\Q$label\E: share given(?!.*: share given)/s, 'he who left has a share of the old key alone');
my ($status, $out) = phi_unseal('ann', $passphrase{ann});
is(() = $out =~ /share given/g, 2, 'who stays gives one of each key');
gives($node, 'app_a', $read, 'Sato', 'which makes the old key');
status_is('f|f||custodian|0|2', 'all that this database needs');
gives($node, 'ann', 'SELECT sealed, given, threshold FROM phi.seal_status()', 't|1|2', 'the other needs another', database => 'second');
($status, $out) = phi_unseal('ben', $passphrase{ben});
ok($status == 0 && $out =~ /unsealed/, 'whose new passphrase opens his share of it') or diag($out);
gives($node, 'ann', 'SELECT sealed FROM phi.seal_status()', 'f', 'so that no database needs more', database => 'second');

status_is('f|f||custodian|0|2', 'both are there');

# The old key alone does not lift the seal for a database that needs the new one.
my $read_second = 'SELECT sealed, given, threshold FROM phi.seal_status()';
gives($node, 'ann', 'SELECT phi.seal()', '0', 'sealed again');
phi_unseal('ann', $passphrase{ann}, '-d', $node->connstr('second') . ' user=ann');
(undef, $out) = phi_unseal('ben', $passphrase{old}, '-d', $node->connstr('second') . ' user=ben');
like($out, qr/: share given; other/, 'his old passphrase opens a share of the old key');
gives($node, 'ann', $read_second, 't|1|2', 'with which a database that needs another key stays sealed', database => 'second');
rename $other, "$other.away";
($status, $out) = phi_unseal('ben', $passphrase{old}, '-d', $node->connstr('second') . ' user=ben');
ok($status != 0 && $out =~ /shares file of master key ".*" is missing.*HINT: .*Bring the file back/s, 'a shares file that is missing is named') or diag($out);
warned($node, 'ann', $read_second, 't||', qr/WARNING:  58P01: the shares file of master key/, 'by the status, too', database => 'second');
rename "$other.away", $other;
(undef, $out) = phi_unseal('ben', $passphrase{ben}, '-d', $node->connstr('second') . ' user=ben');
like($out, qr/The server is unsealed/, 'the right share makes the right key');
gives($node, 'app_a', $read, 'Sato', 'and the old one with it');

# At a terminal the passphrase is asked for, and not shown.
SKIP:
{
	skip 'there is no script(1)', 2 if system('script -qec true /dev/null >/dev/null 2>&1') != 0;
	$node->restart;
	my ($in, $shown) = ('', '');
	my $run = IPC::Run::start([ 'script', '-qec', "phi-unseal -d '" . $node->connstr('postgres') . " user=ann'", '/dev/null' ],
		'<', \$in, '>&', \$shown, IPC::Run::timeout(60));
	eval { $run->pump until $shown =~ /Passphrase: /; $in .= "$passphrase{ann}\n"; $run->pump until $shown =~ /shares\./; $run->finish };
	like($shown, qr/Passphrase: .*share given/s, 'at a terminal the passphrase is asked for');
	ok(index($shown, 'horse') < 0, 'and not shown');
}

# Nothing of it is written.
$node->stop;
my @secrets = values %passphrase;
push @secrets, map { ($_, unpack('H*', $_)) } grep { defined } $kek, $share;
my $log = slurp_raw($node->logfile);
like($log, qr/SELECT phi\.unseal\(\$1\)/, 'the log has the statements of phi-unseal, as pg_stat_activity had');
like($log, qr/parameters: \$1 = '[A-Za-z0-9+\/]{100}/, 'with their parameters');
my $found = files_with(\@secrets, $node->data_dir, $keys, $node->basedir . '/../log');
is(join(' ', map { @$_ } values %$found), '', 'but neither log, data directory nor key directory has passphrase, share or key');

done_testing();
