# The server is killed ten times at work: every change that is there has its
# record, every record its leaf, none twice, and the log verifies.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use PhiTest;

my $node = new_server('crash', conf => "phi.checkpoint_interval = '100ms'\nwal_level = minimal\nmax_wal_senders = 0");
set_up_clinics($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sql(q{
	CREATE TABLE chart (id int PRIMARY KEY, n int NOT NULL, note enctext(clinical));
	CREATE TABLE visit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note enctext(clinical));
	GRANT ALL ON chart, visit TO app_a;
	SELECT phi.audit('chart', history => true), phi.audit('visit')});
gives($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO chart SELECT i, 0, 'note ' || i FROM generate_series(1, 50) i}, '', 'charts are there');

# Changes that stand, with a subtransaction that does not, and a transaction that is undone.
my $script = $node->basedir . '/load.pgbench';
append_to_file($script, <<'END');
\set id random(1, 50)
\set undo random(1, 5)
BEGIN;
UPDATE chart SET n = n + 1, note = 'seen' || :undo WHERE id = :id;
SAVEPOINT s;
INSERT INTO visit (note) VALUES ('not to be kept');
ROLLBACK TO s;
INSERT INTO visit (note) VALUES ('visit');
\if :undo = 1
ROLLBACK;
\else
COMMIT;
\endif
END

my $load_output;
sub load
{
	local $ENV{PGOPTIONS} = '-c phi.clinic=a';
	return IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-j', '2', '-T', '60', '-U', 'app_a', '-f', $script, '-d', $node->connstr('postgres') ],
		'<', \undef, '>', \$load_output, '2>', \$load_output);
}

sub processes
{
	my ($postmaster) = slurp_raw($node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
	return grep { (slurp_raw("$_/stat") // '') =~ /\) \S $postmaster / } glob '/proc/[0-9]*';
}

my $unsequenced = q{SELECT count(*) FROM phi.audit_log l WHERE NOT EXISTS (SELECT FROM phi.audit_leaf k, unnest(k.ids) id WHERE id = l.record_id)};

sub holds_all
{
	my ($moment) = @_;
	is(sql(q{
		SELECT count(*) FROM chart c
		WHERE c.n <> (SELECT count(*) FROM phi.audit_log l WHERE l.relation = 'public.chart' AND l.operation = 'UPDATE' AND l.row_key = ARRAY[c.id::text])
		   OR c.n <> (SELECT count(*) FROM chart_history h WHERE h.id = c.id AND h.phi_change = 'UPDATE')}),
		'0', "$moment: as many records and old versions as changes, row by row");
	is(sql(q{
		SELECT (SELECT count(*) FROM visit) = count(*) AND (SELECT count(*) FROM visit v WHERE NOT EXISTS (
		  SELECT FROM phi.audit_log l WHERE l.relation = 'public.visit' AND l.row_key = ARRAY[v.id::text])) = 0
		FROM phi.audit_log l WHERE l.relation = 'public.visit' AND l.operation = 'INSERT'}), 't', "$moment: a record for each row, none for what was undone");
	ok($node->poll_query_until('postgres', "$unsequenced", '0'), "$moment: the worker goes on, every record gets its leaf");
	is(sql('SELECT count(*), count(DISTINCT id), max(k.first_leaf + o) FROM phi.audit_leaf k, unnest(k.ids) WITH ORDINALITY u(id, o)') =~ /^(\d+)\|\1\|\1$/ ? 1 : 0,
		1, "$moment: no leaf twice, and none left out");
	is(sql('SELECT * FROM phi.verify_audit()'), '', "$moment: the log verifies");
	return;
}

my $trusted;
for my $moment (1 .. 10)
{
	my $load = load();
	usleep(200_000 + 120_000 * $moment);
	my @processes = processes();
	$node->kill9;
	$load->finish;
	# The children of a killed postmaster take their time.
	my $tries = 20 * $PostgreSQL::Test::Utils::timeout_default;
	usleep(50_000) while $tries-- && grep { -e } @processes;
	$node->start;
	# Of a start that ends before the worker comes there is no record.
	ok($node->poll_query_until('postgres', q{SELECT count(*) FROM phi.audit_log WHERE operation = 'SERVER START'}, $moment), "moment $moment: the start is on record");
	holds_all("moment $moment");
	is(sql("SELECT * FROM phi.verify_audit(trusted_checkpoint => \$\$$trusted\$\$)"), '', "moment $moment: it goes on from the checkpoint before")
		if defined $trusted;
	$trusted = sql('SELECT note FROM phi.audit_checkpoint ORDER BY size DESC LIMIT 1');
}
cmp_ok(sql(q{SELECT sum(n) FROM chart}), '>', 100, 'and there was a load');

done_testing();
