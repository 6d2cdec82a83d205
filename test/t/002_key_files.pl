# What can be wrong with the master keys' directory and files, and what becomes
# of the keys in memory.
use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('keys');
my $keys = key_directory($node);
my $base = $node->basedir;
my $data = $node->data_dir;
my $create = 0;

sub use_directory
{
	my ($directory) = @_;
	$node->adjust_conf('postgresql.conf', 'phi.key_directory', "'$directory'", 1);
	$node->restart;
	return;
}

sub directory_refused
{
	my ($directory, $state, $pattern, $name) = @_;
	$create++;
	use_directory($directory);
	refused($node, undef, "SELECT phi.create_clinic('refused$create', 'Refused')", $state, $pattern, "directory $name");
	return;
}

# Directories. CREATE EXTENSION itself needs no key.
$node->safe_psql('postgres', 'CREATE EXTENSION pg_phi');
is(key_file($node), undef, 'no key is made before one is needed');
mkdir "$base/plain", 0700;
mkdir "$base/open", 0700;
mkdir "$data/inside", 0700;
symlink "$data/inside", "$base/link";
symlink "$data/..", "$base/around";
append_to_file("$base/file", 'x');
directory_refused('', '55000', qr/phi\.key_directory is not set.*HINT: .*postgresql\.conf/s, 'unset');
directory_refused('keys', '22023', qr/absolute/, 'relative');
directory_refused("$base/missing", '58P01', qr/HINT: .*0700/s, 'missing');
directory_refused("$base/file", '42809', qr/is not a directory/, 'that is a file');
directory_refused("$data/inside", '22023', qr/inside the data directory.*HINT/s, 'inside PGDATA');
directory_refused($data, '22023', qr/inside the data directory/, 'PGDATA itself');
directory_refused("$base/link", '22023', qr/inside the data directory/, 'inside PGDATA by a symbolic link');
directory_refused("$base/plain/../pgdata/inside", '22023', qr/inside the data directory/, 'inside PGDATA by a detour');
for my $mode (0750, 0705, 0710, 0701, 0777)
{
	chmod $mode, "$base/open";
	directory_refused("$base/open", '42501', sprintf('(?s)open to group or others.*%04o.*HINT: .*chmod', $mode),
		sprintf('of mode %04o', $mode));
}
SKIP:
{
	my @foreign = grep { my @st = stat $_; @st && $st[4] != $> } '/root', '/etc';
	skip 'no directory of another user', 1 unless @foreign;
	directory_refused($foreign[0], '42501', qr/wrong owner.*HINT/s, 'of another user');
}
use_directory($keys);
is(scalar(() = glob("$keys/* $base/open/* $base/plain/* $data/inside/*")), 0, 'no refused directory got a key');
gives($node, undef, 'SELECT count(*) FROM phi.clinics', '0', 'nor the database a clinic');

# The first key.
set_up_clinics($node);
my $file = key_file($node);
ok(defined $file, 'an empty directory gets its first key') or BAIL_OUT('no key file');
is(sprintf('%04o', (stat $file)[2] & 07777), '0600', 'of mode 0600');
like(slurp_raw($file), qr/\A[0-9a-f]{64}\n\z/, 'which is 64 hexadecimal digits');
is(join(' ', map { s/.*\///r } glob("$keys/* $keys/.new*")), $file =~ s/.*\///r, 'and nothing else is left there');
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	GRANT SELECT, INSERT ON patient TO app_a;
});
my $read = "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1";
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato') RETURNING name", 'Sato', 'a value is encrypted');

# Key files. The server keeps a key once it was had, so each case needs a server
# that has not; putting the file right needs no restart.
my $kept = "$base/kept";
my $good = slurp_raw($file);
rename $file, $kept or die;

sub key_refused
{
	my ($state, $pattern, $name) = @_;
	$node->restart;
	refused($node, 'app_a', $read, $state, $pattern, "key file $name: reading");
	refused($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (9, 'Ito')", $state, $pattern, "key file $name: writing");
	gives($node, undef, 'SELECT name FROM patient', qr/\Aphi1:[A-Za-z0-9+\/=]+\z/, "key file $name: sealed sessions read ciphertext");
	unlink $file;
	rmdir $file;
	append_to_file($file, $good);
	chmod 0600, $file;
	gives($node, 'app_a', $read, 'Sato', "key file $name: put right, it works without a restart");
	unlink $file;
	return;
}

sub write_key
{
	my ($content, $mode) = @_;
	append_to_file($file, $content);
	chmod $mode // 0600, $file;
	return;
}

key_refused('58P01', qr/could not open master key file.*HINT: .*custodians/s, 'missing');
write_key(substr($good, 0, 63));
key_refused('F0000', qr/does not hold a key.*64 hexadecimal.*HINT/s, 'short');
write_key('');
key_refused('F0000', qr/does not hold a key/, 'empty');
write_key(substr($good, 0, 64) . "00\n");
key_refused('F0000', qr/does not hold a key/, 'long');
write_key('g' . substr($good, 1));
key_refused('F0000', qr/does not hold a key/, 'not hexadecimal');
write_key(scalar reverse(substr $good, 0, 64));
key_refused('F0000', qr/another key than its name says.*fingerprint.*HINT/s, 'with another key');
for my $mode (0644, 0640, 0604, 0602)
{
	write_key($good, $mode);
	key_refused('42501', sprintf('(?s)open to group or others.*%04o.*HINT', $mode), sprintf('of mode %04o', $mode));
}
write_key($good, 0000);
key_refused('42501', qr/master key file/, 'unreadable');
symlink $kept, $file;
key_refused('42809', qr/master key file/, 'that is a symbolic link');
mkdir $file, 0700;
key_refused('42809', qr/master key file/, 'that is a directory');

# Opening a pipe would wait for a writer, with the lock of all keys held.
POSIX::mkfifo($file, 0600) or die;
$node->restart;
my $waiting = session($node, 'app_a');
my $pid = $waiting->pid;
$waiting->{in} .= "SET phi.clinic = 'a'; SELECT name FROM patient;\n\\warn over\n";
my $told = eval {
	local $SIG{ALRM} = sub { die "waits\n" };
	alarm 5;
	$waiting->{run}->pump until $waiting->{err} =~ /^over$/m;
	alarm 0;
	$waiting->{err};
};
alarm 0;
like($told // 'it waits for ever', qr/ERROR:  42809: /, 'key file that is a pipe: refused, not waited for');
if (!defined $told)
{
	# A writer lets it go on.
	open my $writer, '+<', $file;
	close $writer if $writer;
	$waiting->{run}->kill_kill;
}
else
{
	$waiting->quit;
}
unlink $file;
write_key($good);
gives($node, 'app_a', $read, 'Sato', 'key file that is a pipe: put right, it works without a restart');

# A file that is not a key's is no key.
append_to_file("$keys/99991231T235959Z-notakey.kek.bak", 'x');
append_to_file("$keys/README", 'x');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'other files in the directory do no harm');

# A server that has its keys goes on without the file.
unlink $file;
gives($node, 'app_a', $read, 'Sato', 'a key that the server has is not read again');
write_key($good);

# A directory that was not mounted is an empty one. A new master key in it would
# be hidden by the mount, and what was encrypted meanwhile lost.
unlink $file;
mkdir "$base/empty", 0700;
use_directory("$base/empty");
refused($node, 'app_a', $read, '58P01', qr/could not open master key file/, 'with an empty directory values are not readable');
for my $sql ("SELECT phi.rotate_key('a', 'identity')", "SELECT phi.create_clinic('c', 'Clinic C')")
{
	refused($node, 'custodian', $sql, '58P01', qr/master key.*HINT/s, "and there is no new master key beside the missing one: $sql");
}
is(scalar(() = glob("$base/empty/*")), 0, 'the empty directory stays empty');
use_directory($keys);
write_key($good);

# The log and the data directory hold no key.
my $hex = substr $good, 0, 64;
my $binary = pack 'H*', $hex;
my $log = slurp_raw($node->logfile);
like($log, qr/created master key "\d{8}T\d{6}Z-[0-9a-f]{16}"/, 'the log says that a key was made');
ok(index(lc $log, $hex) < 0, 'but holds no key');
ok(index($log, $binary) < 0, 'nor its bytes');
$node->safe_psql('postgres', 'CHECKPOINT');
my $found = files_with([ $hex, uc $hex, $binary ], $data, $node->basedir . '/../log');
is(join(' ', map { @$_ } values %$found), '', 'no file of the server holds the key');
is(scalar(keys %{ files_with([$hex], $keys) }), 1, 'while the search finds it where it is');

# Memory. What belongs to root cannot be read by the server's own user.
SKIP:
{
	skip 'root may read every process', 9 if $> == 0;
	skip 'no /proc', 9 unless -r '/proc/self/smaps';

	my $session = session($node, 'app_a');
	my $backend = $session->pid;
	ok(open(my $before, '<', "/proc/$backend/mem"), 'memory of a backend without keys can be opened: the check can fail');
	is($session->query("SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1"), 'Sato', 'a backend that holds keys');
	ok(!open(my $memory, '<', "/proc/$backend/mem"), 'its memory cannot be opened by the same user');
	ok(!open(my $maps, '<', "/proc/$backend/smaps"), 'nor its map');
	is((stat "/proc/$backend/smaps")[4], 0, 'for it may not dump core');
	$session->quit;

	$node->append_conf('postgresql.conf', "phi.allow_core_dumps = on\n");
	$node->restart;
	$session = session($node, 'app_a');
	$backend = $session->pid;
	is($session->query("SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1"), 'Sato', 'with phi.allow_core_dumps');
	ok(open($memory, '<:raw', "/proc/$backend/mem"), 'its memory can be opened');

	# Where the master key is found, the region must be left out of core dumps.
	my (@with_key, @without_dd, $region, $holds);
	my $smaps = slurp_raw("/proc/$backend/smaps");
	for my $area (split /(?=^[0-9a-f]+-[0-9a-f]+ )/m, $smaps)
	{
		my ($from, $to, $mode) = $area =~ /\A([0-9a-f]+)-([0-9a-f]+) (\S+)/ or next;
		my ($first, $size) = (hex $from, hex($to) - hex $from);
		my $content;
		next unless $mode =~ /^rw/;
		sysseek $memory, $first, 0;
		my $read_bytes = 0;
		while ($read_bytes < $size)
		{
			my $n = sysread $memory, $content, $size - $read_bytes, $read_bytes;
			last unless $n;
			$read_bytes += $n;
		}
		next unless defined $content && index($content, $binary) >= 0;
		push @with_key, $area;
		push @without_dd, $area unless $area =~ /^VmFlags:.*\bdd\b/m;
	}
	cmp_ok(scalar @with_key, '>', 0, 'the master key is found in the memory of the backend');
	is(join("\n", @without_dd), '', 'only where core dumps leave memory out');
	$session->quit;
}
gives($node, undef, "SELECT context, setting FROM pg_settings WHERE name = 'phi.allow_core_dumps'", qr/^postmaster\|/, 'only a restart allows core dumps');
refused($node, 'app_a', 'SHOW phi.key_directory', '42501', qr/phi\.key_directory/, 'applications are not told where the keys are');

# Many sessions that need the first key at once.
my $race = new_server('race', conf => "max_connections = 20\n");
my $script = $race->basedir . '/create.sql';
append_to_file($script, "SELECT phi.create_clinic('clinic-' || :client_id, 'Clinic');\n");
$race->safe_psql('postgres', 'CREATE EXTENSION pg_phi');
$race->command_ok([ 'pgbench', '-n', '-c', '12', '-j', '2', '-t', '1', '-f', $script, '-h', $race->host, '-p', $race->port, 'postgres' ],
	'twelve clinics at once in an empty directory');
gives($race, undef, 'SELECT count(DISTINCT clinic), count(DISTINCT master_key) FROM phi.keys', '12|1', 'share one master key');
is(scalar(() = glob(key_directory($race) . '/* ' . key_directory($race) . '/.new*')), 1, 'in one file');

done_testing();
