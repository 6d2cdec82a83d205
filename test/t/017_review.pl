# What a review found.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node = new_server('review', conf => "max_worker_processes = 16\n");
set_up_clinics($node);
$node->safe_psql('postgres', q{
	CREATE TABLE here (id int, name enctext(identity));
	CREATE TABLE there (id int, name enctext(identity));
	CREATE TABLE aside (id int, name enctext(identity));
	GRANT ALL ON here, there, aside TO app_a;
	ALTER ROLE app_a SET phi.clinic = 'a';
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub app { return $node->safe_psql('postgres', $_[0], connstr => $node->connstr('postgres') . ' user=app_a'); }

sub key_of { return sql("SELECT key_id FROM phi.keys WHERE (clinic, class, state) = ('a', 'identity', 'active')"); }

# Sessions that do what custodians do while others are at work.
sub starts
{
	my ($statement) = @_;
	my $session = session($node, 'custodian');
	my $pid = $session->pid;
	$session->{out} = $session->{err} = '';
	$session->{in} .= "$statement;\n\\echo it is over\n\\warn it is over\n";
	$session->{run}->pump_nb;
	return ($session, $pid);
}

sub ends
{
	my ($session) = @_;
	$session->{run}->pump until $session->{out} =~ /it is over/ && $session->{err} =~ /it is over/;
	return $session->{out} . $session->{err};
}

sub waits
{
	my ($pid) = @_;
	ok($node->poll_query_until('postgres',
			"SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'"),
		'... waits');
	return;
}

# How many rows no session can read, ever.
sub unreadable
{
	my ($table) = @_;
	return sql("SELECT count(*) FROM $table t JOIN phi.keys k ON k.key_id = (phi.describe(t.name)).key_id WHERE k.state = 'destroyed'");
}

# A copy that nobody sees at the first count is handed on until the second is over.
{
	my $key = key_of();
	app("INSERT INTO here VALUES (1, 'Sato')");
	my $copy = sql('SELECT name FROM here');
	sql("SELECT phi.rotate_key('a', 'identity')");
	sql("CALL phi.rekey(wait => true)");

	my $first = session($node);
	my $bystander = session($node);
	my $second = session($node);
	$first->query("BEGIN; INSERT INTO there VALUES (2, '$copy')");
	$bystander->query('BEGIN; SELECT count(*) FROM aside');
	my ($destroyer, $pid) = starts("SELECT 'certificate ' || phi.destroy_key($key)");
	waits($pid);
	$first->query('COMMIT');
	$second->query('BEGIN; INSERT INTO aside SELECT id, name FROM there');
	sql('DELETE FROM there');
	$bystander->query('COMMIT');
	my $result = ends($destroyer);
	$second->query('COMMIT');
	like($result, qr/55006: key $key is still in use/, 'it waits for who stores a copy, and finds it');
	is(unreadable('aside'), 0, 'no copy that is handed on while a key is destroyed becomes unreadable');
	note($result);
	$_->quit for $first, $bystander, $second, $destroyer;
	sql('TRUNCATE here, there, aside');
}

# A rekey has found nothing once; then values come back.
{
	my $key = key_of();
	app("INSERT INTO here VALUES (1, 'Sato')");
	my $copy = sql('SELECT name FROM here');
	sql("SELECT phi.rotate_key('a', 'identity')");
	sql("CALL phi.rekey(wait => true)");
	sql("INSERT INTO there VALUES (3, '$copy')");	# a dump is restored

	my ($destroyer) = starts("SELECT 'certificate ' || phi.destroy_key($key)");
	like(ends($destroyer), qr/55006: key $key is still in use/, 'what is brought back after the rekey is found');
	$destroyer->quit;
	sql('TRUNCATE here, there, aside');
}

# A snapshot can be handed on, too, and with it old versions of rows.
{
	my $key = key_of();
	app(q{INSERT INTO here SELECT 1, string_agg(md5(random()::text), '') FROM generate_series(1, 300)});
	my $first = session($node);
	my $second = session($node);
	my $snapshot = $first->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()');
	sql("SELECT phi.rotate_key('a', 'identity')");
	sql('CALL phi.rekey(wait => true)');	# moves the row: it is out of line
	my ($destroyer, $pid) = starts("SELECT 'certificate ' || phi.destroy_key($key)");
	waits($pid);
	$second->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$snapshot'; SELECT count(*) FROM pg_am");
	$first->query('COMMIT');
	# Sound: it waits for the second, too.
	$node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' OR state = 'idle' FROM pg_stat_activity WHERE pid = $pid");
	$destroyer->{run}->pump_nb;
	$second->query('INSERT INTO aside SELECT * FROM here; COMMIT');
	note(ends($destroyer));
	is(unreadable('aside'), 0, 'no old version that an imported snapshot shows is copied from under the proof');
	$_->quit for $first, $second, $destroyer;
	sql('TRUNCATE here, there, aside');
}

# The worker is the extension's owner: a table's own code must not be run by it.
{
	$node->safe_psql('postgres', q{
		CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory;
		GRANT mallory TO app_a});
	$node->safe_psql('postgres', q{
		CREATE TABLE seen (who name);
		CREATE FUNCTION act() RETURNS void LANGUAGE plpgsql AS
		  $$ BEGIN INSERT INTO public.seen VALUES (current_user); END $$;
		CREATE FUNCTION innocent(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		  $$ BEGIN IF current_user = 'postgres' THEN PERFORM public.act(); END IF; RETURN $1; END $$;
		CREATE TABLE trap (id int, big enctext(identity));
		CREATE INDEX ON trap USING hash (big);
		CREATE INDEX ON trap (public.innocent(id));
		GRANT ALL ON trap TO app_a}, connstr => $node->connstr('postgres') . ' user=mallory');
	app(q{INSERT INTO trap SELECT 1, string_agg(md5(random()::text), '') FROM generate_series(1, 300)});
	sql("SELECT phi.rotate_key('a', 'identity')");
	sql("CALL phi.rekey(wait => true)");
	is(sql('SELECT count(*) FROM seen'), 0, 'index expressions do not run as the owner of the extension');
	sql('DROP TABLE trap');
}

# Who owns the database has no say in what a custodian's procedures call.
{
	sql(q{
		CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
		CREATE TABLE evil.log (who name); GRANT INSERT ON evil.log TO PUBLIC;
		CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
		  $$ BEGIN INSERT INTO evil.log VALUES (current_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
		CREATE OPERATOR evil.= (leftarg = text, rightarg = text, function = evil.eq);
		ALTER DATABASE postgres SET search_path = evil, pg_catalog, public});
	my $key = sql("SELECT key_id FROM phi.keys WHERE (clinic, class, state) OPERATOR(pg_catalog.=) ('b', 'general', 'active')");
	sql('TRUNCATE evil.log');
	as($node, 'custodian', "CALL phi.respond_to_compromise($key, 'lost')");
	is(sql('SELECT pg_catalog.count(*) FROM evil.log'), 0, 'an operator of the database owner is not called by a custodian');
	sql('ALTER DATABASE postgres RESET search_path; DROP SCHEMA evil CASCADE');
}

# Kept cursors outlive the proof: what they hold is renewed or refused when stored.
{
	sql('CREATE DOMAIN label AS enctext(identity); CREATE TABLE kept (id int, names enctext[], name label, plain enctext(identity)); GRANT ALL ON kept TO app_a');
	my $key = key_of();
	app("INSERT INTO here VALUES (1, 'Sato')");
	my $reader = session($node, 'app_a');
	$reader->query('SET phi.result_as_base = off');
	$reader->query("DECLARE c$_->[0] CURSOR WITH HOLD FOR SELECT $_->[1] FROM here")
	  for [ 'names', 'ARRAY[name]' ], [ 'name', 'name::label' ], [ 'plain', 'name' ];
	sql("SELECT phi.rotate_key('a', 'identity')");
	sql('CALL phi.rekey(wait => true)');
	gives($node, 'custodian', "SELECT phi.destroy_key($key) > 0", 't', 'nothing needs the key');
	my %type = (names => 'enctext[]', name => 'label', plain => 'enctext');
	for my $column ('plain', 'name', 'names')
	{
		$reader->query("DO \$\$ DECLARE c refcursor := 'c$column'; v $type{$column}; BEGIN FETCH c INTO v; INSERT INTO kept ($column) VALUES (v); END \$\$");
		my $value = $column eq 'names' ? 'names[1]' : "$column\:\:enctext";
		$value =~ s/\\//g;
		is(sql("SELECT count(*) FROM kept t JOIN phi.keys k ON k.key_id = (phi.describe($value)).key_id WHERE k.state = 'destroyed'"), 0,
			"no value of a destroyed key is stored: $type{$column}");
	}
	$reader->quit;
}

# Results of a held cursor are printed without a snapshot: news of the keys that
# come meanwhile must not pull the keyring from under the output function.
{
	app("INSERT INTO here VALUES (1, 'Sato')");
	my $reader = session($node, 'app_a');
	my $pid = $reader->pid;
	my $custodian = session($node);
	$reader->query('SET phi.result_as_base = off');
	$reader->query('DECLARE c CURSOR WITH HOLD FOR SELECT ARRAY[name] FROM here');
	$custodian->query('BEGIN; LOCK TABLE phi.data_key IN ACCESS EXCLUSIVE MODE; UPDATE phi.data_key SET changed_at = clock_timestamp()');
	$reader->{out} = $reader->{err} = '';
	$reader->{in} .= "FETCH c;\n";
	$reader->{run}->pump_nb;
	waits($pid);
	$custodian->query('COMMIT');
	eval { $reader->{run}->pump until $reader->{out} =~ /Sato/ || $reader->{err} =~ /closed the connection/ };
	like($reader->{out}, qr/Sato/, 'the value is read');
	$_->quit for $reader, $custodian;
	$node->poll_query_until('postgres', 'SELECT true');
}

done_testing();
