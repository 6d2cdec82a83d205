# Servers with pg_phi, and questions to them, for the TAP tests.
package PhiTest;

use strict;
use warnings;

use Exporter 'import';
use File::Find;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_server key_directory key_file set_up_clinics log_begun as gives
  refused warned session slurp_raw files_with memory_of memory_areas
  processes_with data_keys vault);

# Where the master keys of a server of new_server() are, unless told otherwise.
sub key_directory
{
	my ($node) = @_;
	return $node->basedir . '/keys';
}

# The one master key file of a server; undef unless there is exactly one.
sub key_file
{
	my ($node) = @_;
	my @files = glob(key_directory($node) . '/*.kek');
	return @files == 1 ? $files[0] : undef;
}

# new_server(name, [keys => directory], [conf => text], [start => 0], init options)
sub new_server
{
	my ($name, %options) = @_;
	my $start = delete $options{start} // 1;
	my $keys = delete $options{keys};
	my $conf = delete $options{conf} // '';
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ], %options);
	if (!defined $keys)
	{
		$keys = key_directory($node);
		mkdir $keys, 0700 or die "could not make $keys: $!";
	}
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'pg_phi'\nphi.key_directory = '$keys'\ntimezone = 'UTC'\nrestart_after_crash = on\n$conf");
	$node->start if $start;
	return $node;
}

# Clinics a and b, each with an application role; a nurse of a without the
# class clinical, a custodian, and a role without any grant.
sub set_up_clinics
{
	my ($node, $database) = @_;
	$node->safe_psql(
		$database // 'postgres', q{
		CREATE EXTENSION IF NOT EXISTS pg_phi;
		CREATE ROLE app_a LOGIN;
		CREATE ROLE app_b LOGIN;
		CREATE ROLE nurse_a LOGIN;
		CREATE ROLE stranger LOGIN;
		CREATE ROLE custodian LOGIN IN ROLE phi_custodian;
		SELECT phi.create_clinic('a', 'Clinic A'), phi.create_clinic('b', 'Clinic B');
		SELECT phi.grant_clinic('app_a', 'a');
		SELECT phi.grant_clinic('app_b', 'b');
		SELECT phi.grant_clinic('nurse_a', 'a', ARRAY['identity']);
	});
	return;
}

# Where phi.checkpoint_interval is long: no worker comes between any more, until the next reload.
sub log_begun
{
	my ($node, $database) = @_;
	$node->poll_query_until($database // 'postgres', 'SELECT exported = size AND size > 0 FROM phi.audit_state') or die 'the log has not begun';
	return;
}

sub connection
{
	my ($node, $role, $options) = @_;
	my $connection = $node->connstr($options->{database} // 'postgres');
	$connection .= " user=$role" if defined $role;
	$connection .= " options='$options->{options}'" if defined $options->{options};
	return $connection;
}

# as(node, role, sql, [database =>], [options =>]): status, output and messages.
sub as
{
	my ($node, $role, $sql, %options) = @_;
	my ($status, $out, $messages) = $node->psql(
		'postgres', $sql,
		connstr => connection($node, $role, \%options),
		extra_params => [ '-v', 'VERBOSITY=verbose' ],
		on_error_stop => $options{on_error_stop} // 1);
	return ($status, $out, $messages);
}

# The statements succeed without a message, and their output is as expected: a
# string, or a pattern.
sub gives
{
	my ($node, $role, $sql, $expected, $name, %options) = @_;
	my ($status, $out, $messages) = as($node, $role, $sql, %options);
	my $fits = ref $expected ? $out =~ $expected : $out eq $expected;
	my $ok = ok($status == 0 && $messages eq '' && $fits, $name);

	diag("output: " . substr($out, 0, 1000) . "\nexpected: $expected\nmessages: $messages") unless $ok;
	return $ok;
}

# The statements fail with this SQLSTATE, and what the user is told, hint and
# all, fits the pattern. Never an internal error: nobody can act on one.
sub refused
{
	my ($node, $role, $sql, $state, $pattern, $name, %options) = @_;
	my ($status, $out, $messages) = as($node, $role, $sql, %options);
	my $ok = ok($status != 0 && $messages =~ /(?:ERROR|FATAL):  \Q$state\E: / && $messages =~ $pattern, $name);

	diag("status $status, output: " . substr($out, 0, 300)
		  . "\nexpected: $state $pattern\nmessages: " . substr($messages, 0, 1500))
	  unless $ok;
	return $ok;
}

sub warned
{
	my ($node, $role, $sql, $expected, $pattern, $name, %options) = @_;
	my ($status, $out, $messages) = as($node, $role, $sql, %options);
	my $ok = ok($status == 0 && $out eq $expected && $messages =~ $pattern, $name);

	diag("status $status, output: $out\nmessages: $messages") unless $ok;
	return $ok;
}

sub slurp_raw
{
	my ($file) = @_;
	open my $handle, '<:raw', $file or return '';
	local $/ = undef;
	my $content = <$handle>;
	close $handle;
	return $content // '';
}

# Files below these directories that hold one of the strings: { string => [file] }.
sub files_with
{
	my ($strings, @directories) = @_;
	my $any = join '|', map { quotemeta } sort { length $b <=> length $a } @$strings;
	my %found;

	find({ no_chdir => 1, wanted => sub {
		my $file = $File::Find::name;
		return unless -f $file;
		my $content = slurp_raw($file);
		while ($content =~ /($any)/g)
		{
			push @{ $found{$1} }, $file unless grep { $_ eq $file } @{ $found{$1} };
		}
	} }, @directories);
	return \%found;
}

# A figure of /proc/PID/status in kilobytes.
sub memory_of
{
	my ($pid, $what) = @_;
	my ($kilobytes) = slurp_raw("/proc/$pid/status") =~ /^\Q$what\E:\s+(\d+) kB/m;
	return $kilobytes;
}

# The writable memory of a process, area by area: [ flags of smaps, shared,
# content ]. An empty list, or undef, when it cannot be read.
sub memory_areas
{
	my ($pid, $flag) = @_;
	my @areas;

	open my $memory, '<:raw', "/proc/$pid/mem" or return;
	for my $area (split /(?=^[0-9a-f]+-[0-9a-f]+ )/m, slurp_raw("/proc/$pid/smaps"))
	{
		my ($from, $to, $share) = $area =~ /\A([0-9a-f]+)-([0-9a-f]+) rw.([ps])/ or next;
		next if defined $flag && $area !~ /^VmFlags:.*\b$flag\b/m;
		my ($size, $content, $have) = (hex($to) - hex $from, '', 0);
		sysseek $memory, hex $from, 0;
		while ($have < $size)
		{
			my $n = sysread $memory, $content, $size - $have, $have;
			last unless $n;
			$have += $n;
		}
		push @areas, [ $share, $content ];
	}
	return @areas ? \@areas : undef;
}

# The data keys that a backend holds: where src/crypto/secret.c keeps them, 64
# structures of 288 bytes, each with its key from the twelfth byte on.
sub data_keys
{
	my ($pid) = @_;
	my %keys;

	for my $area (@{ memory_areas($pid, 'dd') // [] })
	{
		# libsodium puts what it gives at the end of its pages.
		my $begin = length($area->[1]) - 64 * 288;
		next unless $area->[0] eq 'p' && $begin == 2048;
		for my $i (0 .. 63)
		{
			my $key = substr $area->[1], $begin + 288 * $i + 12, 32;
			$keys{$key} = 1 if $key ne "\0" x 32;
		}
	}
	return sort keys %keys;
}

# The memory of src/keys/vault.c: 32 master keys, a box key, shares.
sub vault
{
	my ($node) = @_;
	my ($postmaster) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	my @areas = grep { $_->[0] eq 's' } @{ memory_areas($postmaster, 'dd') // [] };

	return @areas == 1 ? $areas[0][1] : undef;
}

# Processes of the server whose memory holds one of the strings.
sub processes_with
{
	my ($node, @strings) = @_;
	my ($postmaster) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	my @children = grep { slurp_raw("/proc/$_/stat") =~ /\) \S $postmaster / } map { m{(\d+)} } glob '/proc/[0-9]*';
	my @found;

	for my $pid ($postmaster, @children)
	{
		my $areas = memory_areas($pid) // next;
		push @found, $pid if grep { my $area = $_->[1]; grep { index($area, $_) >= 0 } @strings } @$areas;
	}
	return @found;
}

# A psql that stays connected: PhiTest::session(node, role, options).
sub session
{
	my ($node, $role, %options) = @_;
	return PhiTest::Session->new(connection($node, $role, \%options));
}

package PhiTest::Session;

use IPC::Run;

sub new
{
	my ($class, $connection) = @_;
	my $self = bless { in => '', out => '', err => '', n => 0 }, $class;

	$self->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $connection ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $self;
}

# Runs statements; returns the output, and in list context the messages too.
sub query
{
	my ($self, $sql) = @_;
	my $mark = 'end of query ' . ++$self->{n};

	$self->{out} = $self->{err} = '';
	$self->{in} .= "$sql\n;\n\\echo $mark\n\\warn $mark\n";
	$self->{run}->pump until $self->{out} =~ /^$mark\n/m && $self->{err} =~ /^$mark\n/m;
	my ($out, $err) = map { s/\n?\Q$mark\E\n\z//r } @{$self}{qw(out err)};
	return wantarray ? ($out, $err) : $out;
}

sub pid
{
	my ($self) = @_;
	return $self->query('SELECT pg_backend_pid()');
}

sub quit
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish };
	return;
}

1;
