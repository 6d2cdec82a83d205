# How much memory large values and many clinics take. Times are only told.
use strict;
use warnings;

use MIME::Base64 ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use PhiTest;

# Few shared buffers, for /proc counts those that a backend has touched.
my $node = new_server('scale', conf => "shared_buffers = 8MB\nlog_statement = none\nmax_wal_size = 4GB\nautovacuum = off\n");
set_up_clinics($node);
my $megabytes = 100;
my $size = $megabytes * 1024 * 1024;
my $file = $node->basedir . '/large';

# Base64 of random bytes: text that LZ4 cannot compress.
open my $random, '<:raw', '/dev/urandom' or die;
read $random, my $content, $size * 3 / 4;
append_to_file($file, MIME::Base64::encode_base64($content, '') . "\n");
undef $content;
$node->safe_psql('postgres', qq{
	CREATE TABLE plain (kind text, v text);
	CREATE TABLE protected (kind text, v enctext(clinical));
	ALTER TABLE plain ALTER v SET STORAGE EXTERNAL;
	COPY plain (v) FROM '$file';
	UPDATE plain SET kind = 'incompressible';
	INSERT INTO plain VALUES ('compressible', repeat('chest pain since Monday, ', $size / 25));
	INSERT INTO plain VALUES ('small', 'x');
	GRANT ALL ON plain, protected TO app_a;
});
unlink $file;

# Runs a statement in a fresh backend; the growth of its peak in megabytes.
sub peak_of
{
	my ($sql, $expected, $name) = @_;
	my $session = session($node, 'app_a');
	$session->query("SET phi.clinic = 'a'; INSERT INTO protected SELECT kind, v FROM plain WHERE kind = 'small' RETURNING v; SELECT max(length(v)) FROM protected WHERE kind = 'small'");
	my $pid = $session->pid;
	my ($before, $begin) = (memory_of($pid, 'VmHWM'), time);
	my ($out, $told) = $session->query($sql);
	my $seconds = time - $begin;
	my $growth = (memory_of($pid, 'VmHWM') - $before) / 1024;
	is($out . $told, $expected, $name);
	diag(sprintf '%s: peak %.0f MB above %.0f MB, %.1f s', $name, $growth, $before / 1024, $seconds);
	$session->quit;
	return $growth;
}

my $control = peak_of(q{SELECT md5(v) = md5('x') FROM plain WHERE kind = 'incompressible'}, 'f', 'plaintext, read');
cmp_ok($control, '>', $megabytes * 0.9, 'a peak is measured');
for my $kind ('incompressible', 'compressible')
{
	my $room = 3 * $megabytes + 16;
	my $peak = peak_of("INSERT INTO protected SELECT kind, v FROM plain WHERE kind = '$kind'", '', "$kind, encrypted");
	cmp_ok($peak, '<', $room, "$kind: encrypting takes at most 3 times the size");
	$peak = peak_of("SELECT abs(length(v) - $size) < 25 FROM protected WHERE kind = '$kind'", 't', "$kind, decrypted");
	cmp_ok($peak, '<', $room, "$kind: decrypting takes at most 3 times the size");
	$peak = peak_of("SELECT count(*) FROM protected e, plain p WHERE e.kind = '$kind' AND p.kind = e.kind AND md5(e.v) = md5(p.v)", '1', "$kind, compared");
	gives($node, undef, "SELECT pg_column_size(v) < $size / 100 FROM protected WHERE kind = '$kind'", $kind eq 'compressible' ? 't' : 'f', "$kind: stored size");
}
$node->safe_psql('postgres', 'DROP TABLE plain; TRUNCATE protected');


# Many clinics.
my ($clinics, $visited) = (12000, 10000);
my $begin = time;
$node->safe_psql('postgres', "SELECT count(phi.create_clinic('clinic-' || n, 'Clinic ' || n)) FROM generate_series(1, $clinics) n");
diag(sprintf '%d clinics made: %.1f s', $clinics, time - $begin);
gives($node, undef, "SELECT count(*), sum(keys) FROM phi.clinics WHERE clinic LIKE 'clinic-%'", $clinics . '|' . $clinics * 6, 'clinics and their keys');
$begin = time;
$node->safe_psql('postgres', qq{
	CREATE ROLE visitor LOGIN IN ROLE pg_read_all_stats;
	SELECT count(*) FROM (SELECT phi.grant_clinic('visitor', 'clinic-' || n) FROM generate_series(1, $clinics) n) g;
	CREATE TABLE visit (n int PRIMARY KEY, name enctext(identity));
	GRANT ALL ON visit TO visitor;
	ANALYZE;
});
diag(sprintf '%d clinics granted: %.1f s', $clinics, time - $begin);

sub visit
{
	my ($from, $to, $action) = @_;
	return qq{
		DO \$\$
		DECLARE
			value text;
		BEGIN
			FOR i IN $from .. $to LOOP
				PERFORM set_config('phi.clinic', 'clinic-' || i, true);
				$action
			END LOOP;
		END \$\$};
}

my $write = q{INSERT INTO visit VALUES (i, 'patient-' || i);};
my $read = q{
	SELECT name INTO value FROM visit WHERE n = i;
	IF value IS DISTINCT FROM 'patient-' || i THEN
		RAISE EXCEPTION 'clinic % reads %', i, value;
	END IF;};
my $keyring = q{SELECT coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts WHERE name LIKE 'pg_phi%' OR parent LIKE 'pg_phi%'};
for my $case ([ 'writing', $write ], [ 'reading', $read ])
{
	my ($what, $action) = @$case;
	my $visitor = session($node, 'visitor');
	my $pid = $visitor->pid;
	my ($out, $told);

	# The first visits fill what every backend has: catalogue caches, plans.
	(undef, $told) = $visitor->query(visit(1, 50, $action));
	is($told, '', "$what, the first clinics");
	my $before = memory_of($pid, 'RssAnon');
	$begin = time;
	(undef, $told) = $visitor->query(visit(51, $visited, $action));
	my $seconds = time - $begin;
	is($told, '', "$what in $visited clinics by one backend");
	my $growth = memory_of($pid, 'RssAnon') - $before;
	my $contexts = $visitor->query($keyring) / 1024;
	diag(sprintf '%s in %d clinics: %.0f us each, keyring %d kB, process grew by %d kB', $what, $visited, $seconds / $visited * 1e6, $contexts, $growth);
	cmp_ok($contexts, '>', 0, "$what: the keyring is seen");
	cmp_ok($contexts, '<', 4096, "$what: the keyring stays below 4 MB");
	cmp_ok($growth, '<', 4096, "$what: so does the growth of the process");
	if ($what eq 'reading')
	{
		$before = memory_of($pid, 'RssAnon');
		$visitor->query(visit(1, $visited, $action));
		cmp_ok(memory_of($pid, 'RssAnon') - $before, '<', 512, 'visiting them all once more takes no more');
		$visitor->query("SET phi.clinic = 'clinic-77'");
		is($visitor->query('SELECT name FROM visit WHERE n = 77'), 'patient-77', 'a key that was thrown out is fetched again');
	}
	$visitor->quit;
}

# The setting says how many.
$node->safe_psql('postgres', "ALTER ROLE visitor SET phi.keyring_size = 16");
my $frugal = session($node, 'visitor');
my (undef, $told) = $frugal->query(visit(1, 500, $read));
is($told, '', 'with room for 16 keys only, 500 clinics are read');
cmp_ok($frugal->query($keyring) / 1024, '<', 64, 'in 64 kB');
(undef, $told) = $frugal->query('SET phi.keyring_size = 1000000');
like($told, qr/ERROR:  42501: /, 'an application may not change it');
$frugal->quit;

done_testing();
