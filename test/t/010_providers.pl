# Master keys that a command prints: what it gets, what may go wrong, and that
# its output is nowhere but in memory.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('command', start => 0, conf => "phi.key_provider = command\nphi.key_command = ''\n# The audit log's worker would ask for keys, too.\nmax_worker_processes = 0\n");
my $base = $node->basedir;
my $kms = "$base/kms";
my %key = map { $_ => join '', map { sprintf '%02x', int rand 256 } 1 .. 32 } qw(kek-1 kek.2 other);

sub write_file
{
	my ($file, $content) = @_;
	unlink $file;
	append_to_file($file, $content);
	return;
}

# Restarts, so that the server has no key.
sub use_command
{
	my ($command) = @_;
	$command =~ s/'/''/g;
	$node->adjust_conf('postgresql.conf', 'phi.key_command', "'$command'", 1);
	$node->restart;
	return;
}

mkdir $kms, 0700;
write_file("$kms/$_", "$key{$_}\n") for qw(kek-1 kek.2);
my $cat = "echo %k >>$base/calls; cat $kms/%k";
my $read = "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 1";

# Settings.
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_phi');
my $create = "SELECT phi.create_clinic('x', 'X')";
refused($node, undef, $create, '55000', qr/phi\.key_name is not set.*HINT/s, 'without a name there is no key');
$node->append_conf('postgresql.conf', "phi.key_name = 'kek-1'\n");
$node->reload;
refused($node, undef, $create, '55000', qr/phi\.key_command is not set.*HINT/s, 'nor without a command');
for my $name ('a b', 'a;b', '-x', '.x', '../x', 'a/b', '$x', '`x`', "a\nb", 'a%k', 'ü', 'x' x 63)
{
	refused($node, undef, "ALTER SYSTEM SET phi.key_name = '$name'", '22023', qr/DETAIL: .*letters/s,
		'no name of a key: ' . ($name =~ s/\n/\\n/r));
}
gives($node, undef, "ALTER SYSTEM SET phi.key_name = '" . 'x' x 62 . "'; ALTER SYSTEM RESET phi.key_name", '', 'a name may have 62 characters');
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
refused($node, 'nobody', 'SHOW phi.key_command', '42501', qr/phi\.key_command/, 'applications are not told the command');
gives($node, undef, q{SELECT string_agg(context, ' ' ORDER BY name) FROM pg_settings WHERE name IN ('phi.key_command', 'phi.key_command_timeout', 'phi.key_name')},
	'sighup sighup sighup', 'a reload changes command and name');

# It works.
use_command("test 100%% = '100%' && $cat");
set_up_clinics($node);
gives($node, undef, 'SELECT count(DISTINCT master_key) FROM phi.keys WHERE master_key ~ \'^kek-1-[0-9a-f]{16}$\'', '1', 'the label is the name and a fingerprint');
gives($node, undef, 'SELECT provider FROM phi.seal_status()', 'command', 'and the provider is told');
is(scalar(() = glob(key_directory($node) . '/*')), 0, 'no key is stored');
$node->safe_psql('postgres', q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity));
	GRANT SELECT, INSERT ON patient TO app_a;
});
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato') RETURNING name", 'Sato', 'a value is encrypted');
use_command($cat);
unlink "$base/calls";
gives($node, 'app_a', $read, 'Sato', "after a restart it is read, backend $_") for 1 .. 3;
is(slurp_raw("$base/calls"), "kek-1\n", 'for which the command ran once, with the name of the key');

# What the command gets.
use_command("readlink /proc/\$\$/fd/0 >$base/facts; ls /proc/\$\$/fd | tr '\\n' ' ' >>$base/facts; grep -E 'Sig(Blk|Ign)' /proc/self/status >>$base/facts; $cat");
gives($node, 'app_a', $read, 'Sato', 'a command that looks at itself');
like(slurp_raw("$base/facts"), qr{\A/dev/null\n}, 'reads from nothing');
like(slurp_raw("$base/facts"), qr{^0 1 2 SigBlk:\t0+\nSigIgn:\t0{7}[01][08]0{7}\n}m, 'inherits no file, and has no signal blocked or ignored');

# What may go wrong.
sub fails
{
	my ($command, $pattern, $name, $state) = @_;
	use_command($command);
	my $from = -s $node->logfile;
	refused($node, 'app_a', $read, $state // '38000', $pattern, "command $name: reading");
	my (undef, undef, $messages) = as($node, 'app_a', $read);
	unlike($messages, qr/whisper|[0-9a-f]{32}/, "command $name: users are not shown what it printed");
	gives($node, undef, 'SELECT name FROM patient', qr/\Aphi1:/, "command $name: sealed sessions read ciphertext");
	return substr slurp_raw($node->logfile), $from;
}

my $log = fails('echo whisper >&2; exit 3', qr/command for master key "kek-1" failed.*exit code 3.*HINT: .*log/s, 'that exits with 3');
like($log, qr/DETAIL: .*exit code 3.*It said: whisper/, 'command that exits with 3: the log has what it said');
$log = fails("cat $kms/%k >&2; exit 1", qr/exit code 1/, 'that prints the key as an error');
like($log, qr/It said: \*+/, 'command that prints the key as an error: the log has stars');
fails('kill -TERM $$', qr/failed.*signal 15/s, 'that dies of a signal');
fails("cat $kms/none", qr/exit code 1/, 'without a key');
fails('no-such-program', qr/failed.*command not found/s, 'that does not exist');
fails('true', qr/printed no key.*printed 0 bytes.*HINT/s, 'that prints nothing');
fails('echo whisper', qr/printed no key.*printed 8 bytes/s, 'that prints something else');
fails("head -c 63 $kms/%k", qr/printed no key.*printed 63 bytes/s, 'that prints a part');
fails("cat $kms/%k; echo", qr/printed no key.*printed 66 bytes/s, 'that prints two line feeds');
fails("cat $kms/%k $kms/%k", qr/printed no key.*printed 130 bytes/s, 'that prints two keys');
fails("tr a-f g-l <$kms/%k; echo", qr/printed no key/, 'that prints other letters');
fails('yes whisper | head -c 100000', qr/printed no key.*printed 100000 bytes/s, 'that prints much');
fails("echo $key{other}", qr/"kek-1" holds another key than its name says.*HINT/s, 'with another key behind the name', 'F0000');
use_command("head -c 64 $kms/%k");
gives($node, 'app_a', $read, 'Sato', 'a line feed may be missing');

# Time.
sub gone
{
	my ($file) = @_;
	my $pid = slurp_raw($file) =~ s/\s//gr;
	for (1 .. 100)
	{
		return 1 if $pid && slurp_raw("/proc/$pid/stat") !~ /\) [^Z]/;
		select undef, undef, undef, 0.05;
	}
	return 0;
}
my $sleep = "sleep 600 & echo \$! >$base/pid; wait";
$node->append_conf('postgresql.conf', "phi.key_command_timeout = 700ms\n");
$log = fails("echo whisper >&2; $sleep", qr/took too long.*700 ms.*HINT/s, 'that hangs');
like($log, qr/after 700 ms.*It said: whisper/, 'command that hangs: the log has what it said');
ok(gone("$base/pid"), 'command that hangs: what it started is gone');
fails("exec >&- 2>&-; $sleep", qr/took too long/, 'that hangs and closed its output');
ok(gone("$base/pid"), 'command that closed its output: what it started is gone');
$node->adjust_conf('postgresql.conf', 'phi.key_command_timeout', '60s', 1);
use_command($sleep);
my $began = time;
refused($node, 'app_a', "SET statement_timeout = '500ms'; $read", '57014', qr/statement timeout/, 'waiting for the command can be cancelled');
cmp_ok(time - $began, '<', 20, 'at once');
ok(gone("$base/pid"), 'and what it started is gone');

# Others may use their keys meanwhile; the lock is not held.
use_command($cat);
gives($node, 'app_a', $read, 'Sato', 'the key is there');
$node->adjust_conf('postgresql.conf', 'phi.key_command', "'" . $sleep . "'", 1);
$node->adjust_conf('postgresql.conf', 'phi.key_name', "'kek.2'", 1);
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('phi.key_name') = 'kek.2'");
my $waiting = session($node);
$waiting->{in} .= "CREATE DATABASE second;\n\\c second\nCREATE EXTENSION pg_phi;\nSELECT 'pid ' || pg_backend_pid();\nSELECT phi.create_clinic('c', 'C');\n";
$waiting->{run}->pump until $waiting->{out} =~ /^pid (\d+)$/m;
my ($pid) = $waiting->{out} =~ /^pid (\d+)$/m;
$waiting->{run}->pump_nb;
for (1 .. 200)
{
	last if -s "$base/pid" && !gone_now("$base/pid");
	select undef, undef, undef, 0.05;
}
sub gone_now { my $p = slurp_raw($_[0]) =~ s/\s//gr; return slurp_raw("/proc/$p/stat") !~ /\) [^Z]/ }
ok(!gone_now("$base/pid"), 'while one backend waits for the command');
gives($node, 'app_a', "SET statement_timeout = '5s'; $read", 'Sato', 'another gets a key that the server has');
gives($node, undef, "SELECT pg_terminate_backend($pid, 10000)", 't', 'the one that waits can be terminated');
ok(gone("$base/pid"), 'and its command with it');
eval { $waiting->{run}->kill_kill };

# Another key.
$node->adjust_conf('postgresql.conf', 'phi.key_command', "'" . $cat . "'", 1);
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('phi.key_command') LIKE '%cat%'");
gives($node, undef, "SELECT phi.create_clinic('c', 'C') > 0", 't', 'with another phi.key_name', database => 'second');
gives($node, undef, q{SELECT DISTINCT master_key ~ '^kek\.2-[0-9a-f]{16}$' FROM phi.keys}, 't', 'the first key of a database is wrapped by it', database => 'second');
$node->restart;
gives($node, 'app_a', $read, 'Sato', 'and what the other wraps is read by the name in its label');
$node->safe_psql('postgres', q{UPDATE phi.data_key SET master_key = '$(touch pwned)-0123456789abcdef'});
refused($node, 'app_a', $read, '42602', qr/not the label of a master key that a command prints.*HINT/s, 'a label that was altered gets to no shell');

# More master keys than the server keeps: each is fetched again when needed.
my $script = "CREATE EXTENSION pg_phi;\nCREATE TABLE kept (LIKE phi.data_key);\n";
$node->safe_psql('postgres', 'CREATE DATABASE many');
for my $n (1 .. 34)
{
	$key{"k$n"} = join '', map { sprintf '%02x', int rand 256 } 1 .. 32;
	write_file("$kms/k$n", $key{"k$n"});
	# Only the first key of a database is wrapped by what phi.key_name says.
	$script .= <<"END";
ALTER SYSTEM SET phi.key_name = 'k$n'; SELECT pg_reload_conf(); SELECT pg_sleep(0.05);
INSERT INTO kept SELECT * FROM phi.data_key; DELETE FROM phi.data_key;
SELECT phi.create_clinic('n$n', 'N'); SELECT phi.grant_clinic('app_b', 'n$n');
END
}
$node->safe_psql('many', $script =~ s/; (?=SELECT|DELETE)/;\n/gr . q{
	INSERT INTO phi.data_key SELECT * FROM kept WHERE clinic_id > 0;
	CREATE TABLE patient (clinic text, name enctext(identity));
	GRANT SELECT, INSERT ON patient TO app_b;
});
gives($node, undef, 'SELECT count(DISTINCT master_key) FROM phi.keys', '34', 'data keys under 34 master keys', database => 'many');
my $each = join "\n", map { "SET phi.clinic = 'n$_'; INSERT INTO patient VALUES ('n$_', 'Sato $_');" } 1 .. 34;
gives($node, 'app_b', $each, '', 'are all of use', database => 'many');
unlink "$base/calls";
$each = join "\n", map { "SET phi.clinic = 'n$_'; SELECT name FROM patient WHERE clinic = 'n$_';" } 1 .. 34, 1;
gives($node, 'app_b', $each, join("\n", map { "Sato $_" } 1 .. 34, 1), 'again and again', database => 'many');
my @again = slurp_raw("$base/calls") =~ /^(k\d+)$/mg;
cmp_ok(scalar @again, '>', 2, 'those that had given way were fetched again');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET phi.key_name');

# Nothing of it is left.
$node->safe_psql('postgres', 'CHECKPOINT');
my @secrets = map { ($_, pack 'H*', $_) } values %key;
my $found = files_with(\@secrets, $node->data_dir, $node->basedir . '/../log');
delete $found->{ $key{other} };    # in a command above
is(join(' ', map { @$_ } values %$found), '', 'neither the log nor the data directory holds a key');
is(scalar(keys %{ files_with([ $key{'kek-1'} ], $kms) }), 1, 'while the search finds it where it is');

done_testing();
