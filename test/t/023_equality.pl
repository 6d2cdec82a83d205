# Indexes for equality copy values: what becomes of these when keys go.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('equality');
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE EXTENSION amcheck;
	CREATE TABLE chart (id int, no enctext(insurance));
	CREATE UNIQUE INDEX chart_no ON chart (no enctext_equality_ops);
	CREATE INDEX chart_of ON chart (id, no enctext_equality_ops);
	GRANT ALL ON chart TO app_a, app_b;
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub in_clinic
{
	my ($clinic, $statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET phi.clinic = '$clinic'; SET enable_seqscan = off; $statement",
		connstr => $node->connstr('postgres') . " user=app_$clinic");
	return $err ? $err =~ s/^.*?ERROR:\s+//sr : $out;
}

sub works
{
	my ($clinic, $when) = @_;
	is(in_clinic($clinic, "SELECT id FROM chart WHERE no = 'x77'"), '77', "$when, clinic $clinic finds");
	like(in_clinic($clinic, "INSERT INTO chart VALUES (0, 'x5')"), qr/duplicate key/, "$when, is held to be unique");
	is(in_clinic($clinic, "INSERT INTO chart VALUES (0, '$when') RETURNING id"), '0', "$when, and writes");
	return;
}

sub sound
{
	my ($when) = @_;
	sql('SELECT bt_index_check(i, true) FROM unnest(ARRAY[\'chart_no\', \'chart_of\']::regclass[]) i');
	pass("$when, the indexes are sound");
	return;
}

in_clinic($_, "INSERT INTO chart SELECT i, 'x' || i FROM generate_series(1, 3000) i") for 'a', 'b';
sound('filled');
my $old = sql("SELECT key_id FROM phi.keys WHERE (clinic, class, state) = ('a', 'insurance', 'active')");
sql("SELECT phi.rotate_key('a', 'insurance')");
is(sql("SELECT phi.index_names_keys('chart_no'::regclass, ARRAY[$old])"), 't', 'the index holds the old key');
works($_, 'rotated') for 'a', 'b';

# Values of before go from the upper pages, too.
sql('CALL phi.rekey(wait => true)');
is(sql("SELECT phi.index_names_keys('chart_no'::regclass, ARRAY[$old])"), 'f', 'a rekey leaves none of it there');
is(sql("SELECT count(*) FROM pg_class WHERE relname LIKE '%ccnew%' OR relname LIKE '%ccold%'"), '0', 'nor half an index');
sound('rekeyed');
ok(sql("SELECT phi.destroy_key($old)") > 0, 'the key is destroyed');
works($_, 'destroyed') for 'a', 'b';
sound('destroyed');

# What a dead row has left in an index keeps its key, and the error says what to do.
$old = sql("SELECT key_id FROM phi.keys WHERE (clinic, class, state) = ('a', 'insurance', 'active')");
sql("SELECT phi.rotate_key('a', 'insurance')");
sql("ALTER TABLE chart SET (autovacuum_enabled = off)");
sql('DELETE FROM chart WHERE (phi.describe(no)).key_id = ' . $old);
my ($status, $out, $err) = $node->psql('postgres', "SELECT phi.destroy_key($old)");
like($err, qr/index public.chart_\w+ holds values of keys that are to be destroyed.*REINDEX INDEX CONCURRENTLY public.chart_/s, 'dead entries are found');
sql($_) for 'REINDEX INDEX CONCURRENTLY chart_no', 'REINDEX INDEX CONCURRENTLY chart_of';
ok(sql("SELECT phi.destroy_key($old)") > 0, 'after which the key is destroyed');
in_clinic('a', "INSERT INTO chart SELECT i, 'x' || i FROM generate_series(1, 3000) i");

# The end of one clinic is none of the other's.
sql("CALL phi.shred_clinic('a', 'a')");
works('b', 'shredded');
sound('shredded');
sql('REINDEX TABLE chart');
sound('built anew');
works('b', 'anew');
like(in_clinic('a', "SELECT id FROM chart WHERE no = 'x77'"), qr/key|clinic/, 'the other finds nothing');

$node->stop;
done_testing();
