# What a conversion meets: old snapshots, rekeying, TRUNCATE, altered tables,
# hostile owners, replicas, logical decoding, and a server that logs little.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

my $node;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub until_true
{
	my ($query, $name) = @_;
	return ok($node->poll_query_until('postgres', $query), $name);
}

# A CALL in the background, that gets as far as it can with an old snapshot about.
sub call
{
	my ($sql) = @_;
	my $call = { out => '', err => '' };
	$call->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-c', $sql ], '<', \undef, '>', \$call->{out}, '2>', \$call->{err});
	return $call;
}

sub finish
{
	my ($call) = @_;
	$call->{run}->finish;
	return $call->{err};
}

my $waits = q{SELECT count(*) > 0 FROM phi.protect_progress WHERE state = 'running' AND waits_for LIKE 'older snapshots%'};

sub make_table
{
	my ($name) = @_;
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, clinic text NOT NULL, name text, note text);
		ALTER TABLE $name ALTER note SET STORAGE EXTERNAL;
		INSERT INTO $name SELECT n, CASE WHEN n % 2 = 1 THEN 'a' ELSE 'b' END, 'name ' || n, CASE WHEN n % 100 = 0 THEN repeat('note ', 1000) END FROM generate_series(1, 2000) n;
		CREATE INDEX ON $name (name);
		GRANT ALL ON $name TO app_a, app_b});
	return;
}

sub protect
{
	my ($name) = @_;
	return qq{CALL phi.protect('$name', 'clinic', '{"name": "identity", "note": "clinical"}')};
}

sub is_protected
{
	my ($table, $name, %options) = @_;
	gives($options{node} // $node, 'app_a', qq{SET phi.clinic = 'a'; SELECT count(*), count(DISTINCT id), bool_and(name = 'name ' || id), count(note) FROM $table}, '1000|1000|t|0', "$name: clinic a reads its rows");
	gives($options{node} // $node, 'app_b', qq{SET phi.clinic = 'b'; SELECT count(*), count(DISTINCT id), bool_and(name = 'name ' || id), sum(length(note)) FROM $table}, '1000|1000|t|100000', "$name: clinic b reads its rows");
	return;
}

# Under wal_level = minimal what is written to a new file is not logged but synced.
$node = new_server('minimal', conf => "wal_level = minimal\nmax_wal_senders = 0\nfsync = on\n");
set_up_clinics($node);
sql('CREATE EXTENSION amcheck');
make_table('patient');
like((as($node, undef, protect('patient')))[2], qr/: done\n/, 'wal_level minimal: it ends');
gives($node, 'app_a', q{SET phi.clinic = 'a'; UPDATE patient SET name = name WHERE id < 100}, '', 'wal_level minimal: rows are written');
$node->stop('immediate');
$node->start;
is_protected('patient', 'wal_level minimal, after a crash');
is(sql(q{SELECT count(bt_index_check(indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relam = 403 AND indrelid = 'patient'::regclass}), 1, 'and the index is sound');
$node->stop;

# The others have a replica, and a slot whose reader wants to know all changes.
$node = new_server('main', allows_streaming => 'logical', conf => "log_statement = none\n");
set_up_clinics($node);
sql('CREATE EXTENSION amcheck');
$node->backup('base');
my $replica = PostgreSQL::Test::Cluster->new('replica');
$replica->init_from_backup($node, 'base', has_streaming => 1);
$replica->start;
make_table('patient');
sql(q{SELECT pg_create_logical_replication_slot('reader', 'test_decoding')});

# Snapshots that are older than the copy, and younger.
my $old = session($node, 'app_a', options => '-c phi.clinic=a');
my $young = session($node, 'app_a', options => '-c phi.clinic=a');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $call = call(protect('patient'));
until_true($waits, 'the swap waits for an old snapshot');
$young->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
is($old->query('SELECT count(*) FROM patient'), '2000', 'which finds the table as it was');

# Keys are changed meanwhile, and an application goes on.
sql(q{SELECT phi.rotate_key('a', 'identity'); CALL phi.rekey(wait => true)});
is(sql(q{SELECT count(*), sum("values") FROM phi.count_values() v JOIN phi.keys k USING (key_id) WHERE relation::text LIKE 'phi_shadow%' AND k.clinic = 'a' AND k.class = 'identity' AND k.state = 'active'}), '1|1000', 'a rekey does the copy too');
sql(q{INSERT INTO patient VALUES (3001, 'a', 'name 3001', NULL); DELETE FROM patient WHERE id = 3001; UPDATE patient SET id = id + 10000 WHERE id = 8; UPDATE patient SET id = id - 10000 WHERE id = 10008});
$old->query('COMMIT');
until_true(q{SELECT phase = 'cleaning' AND waits_for LIKE 'older snapshots%' FROM phi.protect_progress}, 'the swap is made when the snapshot is gone; the old statistics stay while another may see them');
is($young->query('SELECT count(*), count(DISTINCT id), bool_and(name = \'name \' || id) FROM patient'), '1000|1000|t', 'a younger snapshot that comes to the table after the swap finds each row once');
$young->query('COMMIT');
my $messages = finish($call);
like($messages, qr/: done\n/, 'the job ends');
unlike($messages, qr/ERROR/, 'without an error');
is_protected('patient', 'with old snapshots');
is(sql(q{SELECT count(*) FROM phi.count_values() v JOIN phi.keys k USING (key_id) WHERE k.state <> 'active'}), 0, 'no value is under an old key');

# Replicas.
my $changes = sql(q{SELECT data FROM pg_logical_slot_get_changes('reader', NULL, NULL)});
like($changes, qr/table public.patient: INSERT: id\[integer\]:3001/, 'decoding shows what applications do');
unlike($changes, qr/table public\.(phi_shadow|pg_temp_)|table public.patient: INSERT: id\[integer\]:1 /, 'and not the copying');
sql(q{SELECT pg_drop_replication_slot('reader')});
$node->wait_for_catchup($replica);
is_protected('patient', 'on a replica', node => $replica);
is($replica->safe_psql('postgres', q{SELECT count(bt_index_check(indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relam = 403 AND indrelid = 'patient'::regclass}), 1, 'and the index is sound there');
$replica->stop;

# TRUNCATE leaves nothing behind in the copy.
sql('CREATE PUBLICATION everything FOR ALL TABLES');
make_table('emptied');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$call = call(protect('emptied'));
until_true($waits, 'the swap waits again');
sql(q{TRUNCATE emptied; INSERT INTO emptied VALUES (1, 'a', 'after', NULL)});
until_true(q{SELECT blocks_total = 1 FROM phi.protect_progress ORDER BY job DESC LIMIT 1}, 'copying begins anew after TRUNCATE');
$old->query('COMMIT');
like(finish($call), qr/copying begins anew.*: done\n/s, 'and ends');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT id, name FROM emptied}, '1|after', 'with what came after it');

sql('DROP PUBLICATION everything');

# A table that is altered is not what the plan was made for.
make_table('altered');
for my $case ([ 'ALTER TABLE altered ADD more text', 'another column' ], [ 'CREATE VIEW late AS SELECT name FROM altered', 'a view' ],
	[ 'CREATE INDEX late_index ON altered (clinic, id)', 'an index' ], [ 'ALTER TABLE altered ADD CHECK (id > 0)', 'a check' ],
	[ 'ALTER TRIGGER %1$s ON altered RENAME TO other_name', 'the name of the trigger' ],
	[ 'ALTER TABLE altered DISABLE TRIGGER %1$s; ALTER TABLE altered ENABLE ALWAYS TRIGGER %1$s', 'the trigger, for a moment' ])
{
	my ($change, $name) = @$case;
	$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$call = call(protect('altered'));
	until_true($waits, "$name: the swap waits");
	sql(sprintf $change, sql(q{SELECT tgname FROM pg_trigger WHERE tgname LIKE 'phi_protect%'}));
	$old->query('COMMIT');
	like(finish($call), qr/ERROR:  55000: (table public.altered, or what depends on it, was altered meanwhile|the columns of table "altered" have changed).*phi.cancel_protect/s, "$name: nothing is done");
	my $job = sql('SELECT max(job) FROM phi.protect_progress');
	like((as($node, undef, "CALL phi.cancel_protect($job)"))[2], qr/cancelled/, "$name: it is cancelled");
	is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgfoid = 'phi.log_change'::regproc}), 0, "$name: nothing is left");
}

# The shadow belongs to the table's owner, who may meddle with it.
sql('CREATE ROLE villain LOGIN; GRANT CREATE ON SCHEMA public TO villain; ALTER TABLE altered OWNER TO villain; DROP INDEX late_index; DROP VIEW late');
for my $case ([ 'ALTER TABLE %s ALTER id TYPE bigint', qr/55000: the columns of/ ], [ 'ALTER TABLE %s DROP COLUMN clinic', qr/55000: the columns of/ ],
	[ q{INSERT INTO %s VALUES (4711, 'a', NULL, NULL)}, qr/: done\n/ ], [ 'DROP TABLE %s', qr/copying begins anew/ ],
	[ q{DO $$ BEGIN EXECUTE format('DROP INDEX %%I', '%1$s_0'); EXECUTE format('CREATE INDEX %%I ON %1$s (clinic)', '%1$s_0'); END $$; UPDATE altered SET note = note}, qr/55000: index "phi_shadow_\d+_0" is not the one/ ],
	[ 'CREATE VIEW altered_view AS SELECT * FROM %1$s; ALTER TABLE %1$s RENAME TO hidden', qr/: done\n/ ])
{
	my ($change, $pattern) = @$case;
	$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$call = call(protect('altered'));
	until_true($waits, 'the swap waits');
	my $shadow = sql(q{SELECT relname FROM pg_class WHERE relname LIKE 'phi_shadow%' AND relkind = 'r'});
	sql('SET ROLE villain; ' . sprintf $change, $shadow);
	$old->query('COMMIT');
	like(finish($call), $pattern, "the owner does: $change");
	my ($job, $state) = split /\|/, sql('SELECT job, state FROM phi.protect_progress ORDER BY job DESC LIMIT 1');
	as($node, undef, "CALL phi.cancel_protect($job)") if $state ne 'done';
	sql('DROP TABLE altered') if $state eq 'done';
	make_table('altered') if $state eq 'done';
	sql('ALTER TABLE altered OWNER TO villain');
}

# He has columns decrypted that the job is to leave alone, under keys that he was never granted.
make_table('hers');
sql('GRANT SELECT ON hers TO villain');
like((as($node, undef, protect('hers') =~ s/\)$/, isolate => false)/r))[2], qr/: done\n/, 'another table is encrypted');
sql('DROP TABLE altered');
make_table('altered');
sql('ALTER TABLE altered ADD stolen enctext(identity), OWNER TO villain');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$call = call(protect('altered'));
until_true($waits, 'the swap waits');
my $copy = sql(q{SELECT relname FROM pg_class WHERE relname LIKE 'phi_shadow%' AND relkind = 'r'});
sql("SET ROLE villain; ALTER TABLE $copy ALTER stolen TYPE text USING NULL; UPDATE altered t SET stolen = h.name FROM hers h WHERE h.id = t.id");
like(finish($call), qr/55000: the columns of table "altered" have changed/, 'ciphertext of another table is not decrypted into the copy');
is(sql("SELECT count(*) FROM $copy WHERE stolen IS NOT NULL"), 0, 'which holds none of it');
$old->query('COMMIT');
my $stopped = sql('SELECT max(job) FROM phi.protect_progress');
as($node, undef, "CALL phi.cancel_protect($stopped)");
sql('DROP TABLE hers');

is(sql(q{SELECT count(*) FROM pg_class WHERE relname ~ 'phi_shadow' OR relname IN ('hidden', 'altered_view')}), 0, 'nothing is left of all that');
sql('REVOKE CREATE ON SCHEMA public FROM villain');

# Whatever code the owner has put into his table is run with his rights.
sql(q{
	CREATE TABLE snare (id int PRIMARY KEY, clinic text NOT NULL, name text, kind text);
	INSERT INTO snare VALUES (1, 'a', 'Sato', 'x');
	GRANT CREATE ON SCHEMA public TO villain;
	ALTER TABLE snare OWNER TO villain;
	SET ROLE villain;
	CREATE FUNCTION snap(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN EXECUTE 'ALTER ROLE villain SUPERUSER'; END IF;
		RETURN true;
	END $$;
	CREATE DOMAIN snap AS text CHECK (public.snap(value));
	CREATE VIEW snare_view AS SELECT id, name, '{x}'::public.snap[] AS tags FROM snare;
	CREATE INDEX ON snare (kind) WHERE ARRAY[kind]::public.snap[] <> '{y}'::public.snap[];
	CREATE INDEX ON snare (name);
	CREATE POLICY snare_policy ON snare USING ('{x}'::public.snap[] IS NOT NULL AND name IS NOT NULL);
	ALTER TABLE snare ADD CHECK ('{x}'::public.snap[] IS NOT NULL AND name <> 'y'::text);
});
like((as($node, undef, q{CALL phi.protect('snare', 'clinic', '{"name": "identity"}')}))[2], qr/: done\n/, 'a table full of traps is converted');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'villain'}), 'f', 'constants of its definitions are read with the rights of its owner');
sql('DROP TABLE snare CASCADE; DROP DOMAIN snap; DROP FUNCTION snap');
sql(q{
	CREATE FUNCTION spring(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE EXCEPTION 'the trap has sprung'; END IF;
		RETURN $1; END $$;
	CREATE TABLE trap (id int PRIMARY KEY, clinic text NOT NULL, name text, kind text, twice text GENERATED ALWAYS AS (spring(kind)) STORED);
	ALTER TABLE trap OWNER TO villain;
	SET ROLE villain;
	INSERT INTO trap SELECT n, 'a', 'name ' || n, 'kind ' || n FROM generate_series(1, 100) n;
	RESET ROLE;
	CREATE INDEX trap_index ON trap (spring(kind)) WHERE spring(kind) <> '';
	CREATE STATISTICS trap_statistics ON spring(kind), id FROM trap;
	ALTER STATISTICS trap_statistics OWNER TO villain;
	SET ROLE villain;
	ALTER TABLE trap ADD CHECK (spring(kind) <> '' AND spring('x') <> ''), ALTER kind SET DEFAULT spring('default'), ALTER name SET DEFAULT spring('default');
	UPDATE trap SET kind = kind || '!' WHERE id < 10;
});
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$call = call(q{CALL phi.protect('trap', 'clinic', '{"name": "identity"}')});
until_true($waits, 'the swap waits');
sql(q{SET ROLE villain; UPDATE trap SET kind = kind || '!' WHERE id < 20; INSERT INTO trap (id, clinic, name) VALUES (101, 'a', 'name 101')});
$old->query('COMMIT');
unlike($messages = finish($call), qr/sprung|ERROR/, 'no trap springs');
like($messages, qr/: done\n/, 'and the table is converted');
sql('GRANT SELECT ON trap TO app_a');
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT count(*), bool_and(name = 'name ' || id), bool_and(kind = twice) FROM trap}, '101|t|t', 'with all its rows');

# Collations that are not the default's, and names that try to be more than names.
sql(q{
	CREATE SCHEMA "O'dd %s";
	CREATE TABLE "O'dd %s"."t; --" (id int PRIMARY KEY, "cl'in %I" char(5) NOT NULL, "na""me" text COLLATE "C", kind text COLLATE "C");
	INSERT INTO "O'dd %s"."t; --" SELECT n, 'a', 'name ' || n, '%s' FROM generate_series(1, 9) n;
	CREATE INDEX "i %s" ON "O'dd %s"."t; --" ("na""me", id) WHERE id % 3 = 1 AND kind LIKE '%s';
	CREATE UNIQUE INDEX u ON "O'dd %s"."t; --" ("na""me", kind DESC NULLS LAST) INCLUDE (id)});
like((as($node, undef, q{CALL phi.protect('"O''dd %s"."t; --"', 'cl''in %I', '{"na\"me": "identity"}')}))[2], qr/: done\n/, 'odd names and collations are no hindrance');
sql(q{GRANT USAGE ON SCHEMA "O'dd %s" TO app_a; GRANT ALL ON "O'dd %s"."t; --" TO app_a});
gives($node, 'app_a', q{SET phi.clinic = 'a'; SELECT count(*), bool_and("na""me" = 'name ' || id) FROM "O'dd %s"."t; --"}, '9|t', 'all rows are there');
is(sql(q{SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation WHERE attrelid = '"O''dd %s"."t; --"'::regclass AND attname = 'na"me'}), 'C', 'and the collation is kept');

# Its owner may do it himself, when he is let.
sql(q{DROP TABLE altered});
make_table('altered');
sql(q{ALTER TABLE altered OWNER TO villain; GRANT CREATE ON SCHEMA public TO villain;
	GRANT EXECUTE ON PROCEDURE phi.protect, phi.resume_protect, phi.cancel_protect, phi.follow_protect, phi.require_top_level, phi.nap TO villain;
	GRANT EXECUTE ON FUNCTION phi.start_protect, phi.protect_step, phi.restart_protect TO villain});
like((as($node, 'villain', protect('altered')))[2], qr/: done\n/, 'an owner who was granted it protects his table');
is_protected('altered', 'by its owner');
refused($node, 'villain', protect('patient'), '42501', qr/must be owner of table public.patient/, 'and no other');

$node->stop;
done_testing();
