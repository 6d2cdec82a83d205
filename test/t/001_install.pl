# Installing, removing, starting, and coming back after a crash.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# Without the library preloaded.
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$bare->start;
for my $sql ('CREATE EXTENSION pg_phi', "LOAD 'pg_phi'")
{
	refused($bare, undef, $sql, '55000',
		qr/must be loaded via shared_preload_libraries.*HINT: .*postgresql\.conf.*shared_preload_libraries = 'pg_phi'/s,
		"without preload: $sql says which line to add");
}
gives($bare, undef, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_phi'", '0', 'and nothing is installed');
$bare->stop;

my $node = new_server('main');

# Encodings.
for my $encoding ('SQL_ASCII', 'EUC_JP', 'LATIN1')
{
	my $database = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	refused($node, undef, 'CREATE EXTENSION pg_phi', '0A000',
		qr/UTF8, not $encoding.*HINT: .*ENCODING 'UTF8' TEMPLATE template0/s,
		"$encoding is refused with the way out", database => $database);
	gives($node, undef, "SELECT count(*) FROM pg_type WHERE typname LIKE 'enc%'", '0',
		"$encoding: nothing is left behind", database => $database);
}

# Create, use, drop, create again.
set_up_clinics($node);
my $table = q{
	CREATE TABLE patient (id int PRIMARY KEY, name enctext(identity), born encdate(identity));
	CREATE INDEX patient_name ON patient USING hash (name);
	GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO app_a, app_b;
};
$node->safe_psql('postgres', $table);
gives($node, 'app_a',
	"SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato', '1980-02-03') RETURNING name, born",
	'Sato|1980-02-03', 'a value goes in and comes out');
refused($node, undef, 'DROP EXTENSION pg_phi', '2BP01', qr/patient/, 'DROP EXTENSION is refused while columns use it');
$node->safe_psql('postgres', 'DROP TABLE patient; DROP EXTENSION pg_phi');
gives($node, undef, q{SELECT count(*) FROM pg_proc WHERE probin = '$libdir/pg_phi'}, '0', 'DROP EXTENSION removes it');
refused($node, 'app_a', "SET phi.clinic = 'a'", '55000', qr/not installed in this database.*CREATE EXTENSION/s,
	'without the extension no clinic can be opened');
gives($node, 'app_a', 'SELECT 1', '1', 'but the session works');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_phi;
	SELECT phi.create_clinic('a', 'Clinic A');
	SELECT phi.grant_clinic('app_a', 'a');
} . $table);
gives($node, 'app_a',
	"SET phi.clinic = 'a'; INSERT INTO patient VALUES (1, 'Sato', '1980-02-03') RETURNING name",
	'Sato', 'installed again it works again');
my $open = session($node, 'app_a');
$open->query("SET phi.clinic = 'a'");
is($open->query('SELECT name FROM patient'), 'Sato', 'a session with an open clinic');
$node->safe_psql('postgres', 'DROP EXTENSION pg_phi CASCADE');
is($open->query('SELECT phi.current_clinic()'), '', 'the extension goes while a clinic is open');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_phi;
	SELECT phi.create_clinic('z', 'Clinic Z');
	SELECT phi.create_clinic('a', 'Clinic A');
	SELECT phi.grant_clinic('app_a', 'a');
	DROP TABLE patient;
} . $table);
$open->query("SET phi.clinic = 'a'");
$open->query("INSERT INTO patient VALUES (1, 'Sato', '1980-02-03')");
is($open->query('SELECT name FROM patient'), 'Sato', 'and the same backend serves the new installation');
$open->quit;

# phi.clinic belongs to sessions.
refused($node, undef, "ALTER SYSTEM SET phi.clinic = 'a'", '55P02', qr/phi\.clinic/, 'ALTER SYSTEM SET phi.clinic is refused');
$node->append_conf('postgresql.conf', "phi.clinic = 'a'\n");
my $position = -s $node->logfile;
$node->reload;
$node->poll_query_until('postgres', 'SELECT pg_conf_load_time() > now() - interval \'1 hour\'');
gives($node, 'app_a', 'SELECT phi.current_clinic() IS NULL', 't', 'phi.clinic in postgresql.conf opens nothing at reload');
$node->restart;
gives($node, 'app_a', 'SELECT phi.current_clinic() IS NULL', 't', 'nor at start');
like(slurp_file($node->logfile, $position), qr/phi\.clinic.*session/s, 'and the log says why');
$node->adjust_conf('postgresql.conf', 'phi.clinic', undef, 1);
refused($node, undef, "ALTER SYSTEM SET phi.no_such_setting = '1'", '42704', qr/phi\.no_such_setting/, 'a setting that does not exist is refused');

# Restart and crash.
$node->restart;
my $read = "SET phi.clinic = 'a'; SELECT name, born FROM patient WHERE name = 'Sato'";
gives($node, 'app_a', $read, 'Sato|1980-02-03', 'keys and values are there after a restart');
my $bystander = session($node, 'app_a');
$bystander->query("SET phi.clinic = 'a'");
$bystander->query("INSERT INTO patient VALUES (2, 'Suzuki', '1990-01-01')");
my $pid = $bystander->pid;
kill 'KILL', $pid;
$bystander->quit;
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no recovery';
like(slurp_file($node->logfile), qr/terminated by signal 9.*database system was not properly shut down/s, 'the server crashed');
gives($node, 'app_a', $read, 'Sato|1980-02-03', 'keys and values are there after a crash');
gives($node, 'app_a', "SET phi.clinic = 'a'; SELECT name FROM patient WHERE id = 2", 'Suzuki', 'so is what was committed just before');
gives($node, 'app_a', "SET phi.clinic = 'a'; INSERT INTO patient VALUES (3, 'Ito', '1990-01-01') RETURNING name", 'Ito', 'and new values can be written');
gives($node, 'custodian', "SELECT phi.rotate_key('a', 'identity') > 0", 't', 'and keys rotated');
gives($node, 'app_a', $read, 'Sato|1980-02-03', 'old values still read');
$node->stop('immediate');
$node->start;
gives($node, 'app_a', $read, 'Sato|1980-02-03', 'so they do after an immediate shutdown');

done_testing();
