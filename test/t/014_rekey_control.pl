# How a rekey is asked for, stopped and gone on with, and what it meets in
# tables that others use meanwhile.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use PhiTest;

my $began = time;
# What a snapshot keeps at the moment of a VACUUM would count as growth: the audit worker takes one at each pass.
my $node = new_server('control', allows_streaming => 'logical', conf => "log_statement = none\nautovacuum = off\nshared_buffers = 16MB\nphi.checkpoint_interval = '1h'\n");
set_up_clinics($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub told
{
	diag(sprintf '%5.1f s: %s', time - $began, $_[0]);
	return;
}

# Runs statements as the application of clinic a; these must succeed.
sub in_a
{
	my ($sql) = @_;
	my ($status, $out, $messages) = as($node, 'app_a', "SET phi.clinic = 'a'; $sql");
	die "$sql\n$messages" if $status != 0;
	return $out;
}

# A table with rows of clinic a under the keys of the moment.
sub make_table
{
	my ($name, $rows) = @_;
	sql("CREATE TABLE $name (id int PRIMARY KEY, name enctext(identity), note enctext(clinical)); GRANT ALL ON $name TO app_a, app_b");
	in_a("INSERT INTO $name SELECT n, 'name ' || n, 'note ' || n FROM generate_series(1, $rows) n");
	return;
}

sub rotate
{
	return sql("SELECT phi.rotate_key('a', '$_[0]')");
}

# Begins a job as a custodian does.
sub rekey
{
	my ($arguments) = @_;
	my ($status, $out, $messages) = as($node, 'custodian', "CALL phi.rekey($arguments)");
	like($out, qr/\A\d+\z/, "phi.rekey($arguments)") or diag($messages);
	return $out;
}

sub reaches
{
	my ($job, $condition, $name) = @_;
	my $ok = ok($node->poll_query_until('postgres', "SELECT $condition FROM phi.rekey_progress WHERE job = $job"), $name);
	diag(sql("SELECT p FROM phi.rekey_progress p WHERE job = $job")) unless $ok;
	return $ok;
}

sub ends
{
	my ($job, $name) = @_;
	$node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job");
	return is(sql("SELECT concat_ws(' ', state, error, failed) FROM phi.rekey_progress WHERE job = $job"), 'done 0', $name);
}

sub workers
{
	return "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_phi rekey')";
}

sub stopped
{
	my ($how, $job, $name) = @_;
	gives($node, 'custodian', "SELECT phi.${how}_rekey($job)", '', $name);
	return;
}

# A job that has stopped can be resumed when its leader is gone.
sub is_left
{
	my ($job) = @_;
	return $node->poll_query_until('postgres', "SELECT NOT phi.is_led($job)");
}

# Lets a slow job go on at full speed.
sub hasten
{
	my ($job) = @_;
	# Another job may have left it nothing to do, so that it is over already.
	as($node, 'custodian', "SELECT phi.pause_rekey($job)");
	is_left($job);
	as($node, 'custodian', "CALL phi.resume_rekey($job, rows_per_second => 1000000)");
	return;
}

# Values of a table that are under keys that are not active.
sub outdated
{
	my ($table) = @_;
	my $where = defined $table ? "AND relation = '$table'::regclass" : '';
	return sql("SELECT coalesce(sum(\"values\"), 0) FROM phi.count_values() u LEFT JOIN phi.keys k USING (key_id) WHERE k.state IS DISTINCT FROM 'active' $where");
}

# The plain rows of a table.
sub plain
{
	my ($table) = @_;
	return in_a("SELECT count(*), count(name), md5(string_agg(concat_ws('|', id, name::text, note::text), E'\\n' ORDER BY id)) FROM $table");
}

# What is refused.
make_table('patient', 20000);
my $active = sql("SELECT key_id FROM phi.keys WHERE clinic = 'a' AND class = 'identity' AND state = 'active'");
my $search = sql("SELECT key_id FROM phi.keys WHERE clinic = 'a' AND class = 'search'");
my $destroyed = sql("SELECT key_id FROM phi.keys WHERE clinic = 'a' AND class = 'sensitive'");
rotate('sensitive');
sql("SELECT phi.move_key($destroyed, 'destroyed', 'for a test')");
for my $case ([ "'nowhere'", '42704', qr/clinic "nowhere" does not exist/ ],
	[ "class => 'nothing'", '22023', qr/class "nothing"/ ],
	[ 'key_id => 99999', '42704', qr/key 99999 does not exist.*phi\.keys/s ],
	[ "key_id => $active", '55000', qr/is active.*rotate_key/s ],
	[ "key_id => $search", '42809', qr/is a key of class search/ ],
	[ "key_id => $destroyed", '55000', qr/is destroyed/ ],
	[ "'a', key_id => $active", '22023', qr/key_id stands alone/ ],
	[ "suite => 'rot13'", '22023', qr/suite "rot13" does not exist/ ],
	[ "suite => current_setting('phi.suite')", '22023', qr/the one in use.*phi\.suite/s ],
	[ "suite => 'xchacha20-poly1305', key_id => $active", '22023', qr/key_id stands alone/ ],
	[ 'workers => 0', '22023', qr/workers must be 1 to 16/ ],
	[ 'workers => 17', '22023', qr/workers must be 1 to 16/ ],
	[ 'workers => NULL', '22023', qr/workers must be 1 to 16/ ],
	[ 'method => NULL', '22023', qr/method must be "online" or "rewrite"/ ],
	[ "method => 'magic'", '22023', qr/method must be "online" or "rewrite"/ ],
	[ 'rows_per_second => 0', '22023', qr/rows_per_second must be above 0/ ],
	[ 'rows_per_second => -5', '22023', qr/rows_per_second must be above 0/ ])
{
	my ($arguments, $state, $pattern) = @$case;
	refused($node, 'custodian', "CALL phi.rekey($arguments)", $state, $pattern, "refused: phi.rekey($arguments)");
}
for my $call ('CALL phi.rekey()', 'SELECT phi.start_rekey(NULL, NULL, NULL, NULL, 1, NULL, \'online\')', 'SELECT phi.pause_rekey(1)', 'SELECT phi.cancel_rekey(1)', 'CALL phi.resume_rekey(1)',
	'SELECT phi.restart_rekey(1, NULL, NULL)', 'SELECT phi.await_job(1)', 'SELECT phi.launch_job(1)', 'SELECT phi.job_done(1)', 'SELECT phi.stop_job(1, \'paused\')', 'SELECT * FROM phi.count_values()',
	'SELECT * FROM phi.rekey_progress', 'SELECT * FROM phi.rekey_failures', 'SELECT * FROM phi.rekey_job', 'SELECT * FROM phi.rekey_lane', 'SELECT * FROM phi.rekey_failure', 'DELETE FROM phi.rekey_job')
{
	refused($node, $_, $call, '42501', qr/permission denied/, "$_: refused: $call") for 'app_a', 'stranger';
}
for my $call ('SELECT phi.pause_rekey(99999)', 'SELECT phi.cancel_rekey(99999)', 'CALL phi.resume_rekey(99999)', 'SELECT phi.pause_rekey(NULL)', 'CALL phi.resume_rekey(NULL)')
{
	refused($node, 'custodian', $call, '42704', qr/job \w+ does not exist.*phi\.rekey_progress/s, "refused: $call");
}
refused($node, 'custodian', 'BEGIN; CALL phi.rekey()', '25001', qr/HINT:  Call it outside/, 'refused: phi.rekey() in a transaction block');
gives($node, 'custodian', 'SELECT count(*) FROM phi.rekey_progress', '0', 'none of these has left a job');
gives($node, undef, 'SELECT ' . workers(), '0', 'nor a worker');
told('refusals');

# Nothing to do; then the waiting kind, with what it tells.
ends(rekey("'b'"), 'a rekey without an outdated key ends at once');
my $plain = plain('patient');
like($plain, qr/\A20000\|20000\|/, 'the rows');
my $old = $active;
my $new = rotate('identity');
is(outdated(), '20000', 'values under the old key');
my ($status, $out, $messages) = as($node, 'custodian', 'CALL phi.rekey(wait => true)');
is($status, 0, 'wait => true');
like($messages, qr/NOTICE:  00000: job \d+: /, 'tells its progress');
like($messages, qr/job \d+: done, .*20000 values done\n(?:LOCATION.*\n?)?\z/, 'to the end');
my ($job) = $out;
is(sql("SELECT state, kind, clinic, class, key_ids, suite, method, phase, values_done, failed, error IS NULL, started_by, finished_at >= started_at FROM phi.rekey_progress WHERE job = $job"),
	"done|rekey|||{$destroyed,$old}||online||20000|0|t|custodian|t" =~ s/\{\d+,/{/r, 'and leaves its figures');
is(outdated(), '0', 'nothing is left');
is(plain('patient'), $plain, 'the rows are what they were');
is(sql("SELECT DISTINCT (phi.describe(name)).key_id FROM patient"), $new, 'under the new key');
refused($node, 'custodian', "CALL phi.resume_rekey($job)", '55000', qr/job $job is done.*phi\.rekey\(\)/s, 'a job that is done is not resumed');
refused($node, 'custodian', "SELECT phi.pause_rekey($job)", '55000', qr/is done already/, 'nor paused');
refused($node, 'custodian', "SELECT phi.cancel_rekey($job)", '55000', qr/is done already/, 'nor cancelled');

# One to four workers, as many as there are lanes; in small batches, so that
# they are seen.
for my $n (1 .. 4)
{
	rotate('identity');
	$job = rekey("workers => $n, rows_per_second => 4000");
	reaches($job, workers() . " = $n", "$n at work");
	is(sql("SELECT count(*) FROM phi.rekey_lane WHERE job = $job AND relid = 'patient'::regclass AND pass = 1"), $n, 'each has a lane');
	gives($node, undef, 'SELECT ' . workers() . " <= $n", 't', 'and no more');
	hasten($job);
	ends($job, "$n workers end");
	is(outdated(), '0', "$n workers: nothing is left");
}
is(plain('patient'), $plain, 'the rows are what they were');
told('workers');

# Paused, resumed, cancelled.
rotate('identity');
$job = rekey('rows_per_second => 3000');
reaches($job, "values_done > 0 AND state = 'running'", 'a slow job begins');
refused($node, 'custodian', "CALL phi.resume_rekey($job)", '55006', qr/job $job is at work/, 'a job at work is not resumed');
stopped('pause', $job, 'pause');
ok($node->poll_query_until('postgres', 'SELECT ' . workers() . ' = 0'), 'the workers go');
is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'paused', 'the job is paused');
my $left = outdated();
cmp_ok($left, '>', 0, 'some values are left');
cmp_ok($left, '<', 20000, 'some are done');
is(sql("SELECT values_done FROM phi.rekey_progress WHERE job = $job"), 20000 - $left, 'as many as it says');
is(plain('patient'), $plain, 'all are readable');
gives($node, 'custodian', "SELECT phi.pause_rekey($job)", '', 'pausing twice does nothing');
gives($node, 'custodian', "CALL phi.resume_rekey($job, workers => 1, rows_per_second => 2000)", '', 'resume, with other figures');
is(sql("SELECT workers, rows_per_second FROM phi.rekey_job WHERE job = $job"), '1|2000', 'which it has');
reaches($job, 'values_done > ' . (20000 - $left), 'it goes on');
stopped('cancel', $job, 'cancel');
ok($node->poll_query_until('postgres', 'SELECT ' . workers() . ' = 0'), 'the workers go');
is(sql("SELECT state, finished_at IS NOT NULL FROM phi.rekey_progress WHERE job = $job"), 'cancelled|t', 'the job is cancelled');
refused($node, 'custodian', "CALL phi.resume_rekey($job)", '55000', qr/job $job is cancelled/, 'for good');
cmp_ok(outdated(), '>', 0, 'values are left');
($status, $out, $messages) = as($node, 'custodian', 'CALL phi.rekey(wait => true)');
is($status, 0, 'another job');
is(outdated(), '0', 'does the rest');
is(plain('patient'), $plain, 'the rows are what they were');

# The speed is a limit: never faster, whatever the machine.
rotate('clinical');
$job = rekey('rows_per_second => 20000, workers => 2');
ends($job, 'a job with a limit');
cmp_ok(sql("SELECT extract(epoch FROM finished_at - started_at) FROM phi.rekey_progress WHERE job = $job"), '>=', 0.8, '20000 rows at 20000 a second do not take less');

# A restart amidst, and two jobs on the same keys.
rotate('identity');
$job = rekey('rows_per_second => 3000');
reaches($job, 'values_done > 0', 'a job begins');
$node->restart;
reaches($job, "state = 'interrupted'", 'a restart interrupts it');
my $second = rekey('rows_per_second => 3000');
sql("CALL phi.resume_rekey($job)");
reaches($_, "state = 'running'", 'two jobs at once') for $job, $second;
hasten($_) for $job, $second;
ends($_, 'both end') for $job, $second;
is(outdated(), '0', 'nothing is left');
is(plain('patient'), $plain, 'the rows are what they were');
told('control');

# One key, one class, one clinic of several.
sql('CREATE TABLE other (id int, v enctext(identity)); GRANT ALL ON other TO app_b');
gives($node, 'app_b', "SET phi.clinic = 'b'; INSERT INTO other SELECT n, 'b ' || n FROM generate_series(1, 100) n", '', 'rows of b');
my @keys = map { sql("SELECT key_id FROM phi.keys WHERE clinic = '$_->[0]' AND class = '$_->[1]' AND state = 'active'") } [ 'a', 'identity' ], [ 'a', 'clinical' ], [ 'b', 'identity' ];
rotate($_) for 'identity', 'clinical';
sql("SELECT phi.rotate_key('b', 'identity')");
my $under = sub { sql("SELECT coalesce(string_agg(key_id || ':' || n, ' ' ORDER BY key_id), 'none') FROM (SELECT key_id, sum(\"values\") AS n FROM phi.count_values() WHERE key_id IN (" . join(', ', @keys) . ') GROUP BY 1) s') };
is($under->(), "$keys[0]:20000 $keys[1]:20000 $keys[2]:100" =~ s/^(\S+) (\S+) (\S+)$/join ' ', sort { ($a =~ s{:.*}{}r) <=> ($b =~ s{:.*}{}r) } $1, $2, $3/er, 'three old keys');
$job = rekey("key_id => $keys[0]");
ends($job, 'rekey of one key');
unlike($under->(), qr/\b$keys[0]:/, 'it is gone');
like($under->(), qr/\b$keys[1]:20000\b/, 'the others are not');
like($under->(), qr/\b$keys[2]:100\b/, 'nor that of another clinic');
ends(rekey("'a', 'clinical'"), 'rekey of a class');
is($under->(), "$keys[2]:100", 'one is left');
ends(rekey("'b'"), 'rekey of a clinic');
is($under->(), 'none', 'none is left');

# A suite that is to go: the keys stay, the algorithm does not.
my $suites = sub { sql("SELECT string_agg(DISTINCT (phi.describe(v)).suite, ' ') FROM (SELECT name AS v FROM patient UNION ALL SELECT note FROM patient UNION ALL SELECT v FROM other) s") };
is($suites->(), 'xaes-256-gcm', 'one suite');
sql("ALTER SYSTEM SET phi.suite = 'xchacha20-poly1305'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('phi.suite') = 'xchacha20-poly1305'"), 'another suite');
ends(rekey("'b', suite => 'xaes-256-gcm'"), 'rekey of a suite in one clinic');
is(sql('SELECT string_agg(DISTINCT (phi.describe(v)).suite, \' \') FROM other'), 'xchacha20-poly1305', 'changes it there');
is(sql('SELECT string_agg(DISTINCT (phi.describe(name)).suite, \' \') FROM patient'), 'xaes-256-gcm', 'and not elsewhere');
ends(rekey("suite => 'xaes-256-gcm'"), 'rekey of a suite');
is($suites->(), 'xchacha20-poly1305', 'the old suite is gone');
is(outdated(), '0', 'the keys are the active ones');
is(plain('patient'), $plain, 'the rows are what they were');
sql('ALTER SYSTEM RESET phi.suite');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('phi.suite') = 'xaes-256-gcm'"), 'back again');
ends(rekey("suite => 'xchacha20-poly1305', method => 'rewrite'"), 'rekey of a suite by rewriting');
is($suites->(), 'xaes-256-gcm', 'the other suite is gone');
is(plain('patient'), $plain, 'the rows are what they were');
sql('DROP TABLE other');
told('keys and suites');

# Altered values, and a row whose large value has lost a piece.
make_table('damaged', 300);
in_a(q{UPDATE damaged SET note = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n) WHERE id IN (7, 8); UPDATE damaged SET note = NULL WHERE id = 5});
sql(q{CREATE FUNCTION damage(value text) RETURNS text LANGUAGE sql AS $$
	SELECT 'phi1:' || replace(encode(set_byte(b, length(b) - 1, get_byte(b, length(b) - 1) # 1), 'base64'), E'\n', '') FROM decode(substr(value, 6), 'base64') b $$;
	UPDATE damaged SET name = damage(format('%s', name))::enctext(identity) WHERE id IN (5, 6, 9);
	UPDATE damaged SET note = damage(format('%s', note))::enctext(clinical) WHERE id = 6});
my $toast = sql(q{SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'damaged'});
my $piece = sql("SELECT ctid FROM $toast WHERE chunk_seq = 1 AND chunk_id = (SELECT min(chunk_id) FROM $toast)");
sql("CREATE EXTENSION pg_surgery; SELECT heap_force_kill('$toast', ARRAY['$piece'::tid])");
refused($node, 'app_a', "SET phi.clinic = 'a'; SELECT name FROM damaged WHERE id = 5", '22000', qr/not authentic/, 'an altered value');
refused($node, 'app_a', "SET phi.clinic = 'a'; SELECT note FROM damaged WHERE id = 7", 'XX001', qr/chunk/, 'a value with a piece missing');
my $bad = q{SELECT string_agg(concat_ws(' ', id, name, CASE WHEN id = 6 THEN note END), ',' ORDER BY id) FROM damaged WHERE id IN (5, 6, 9)};
my $where = q{SELECT string_agg(ctid::text, ' ' ORDER BY id) FROM damaged WHERE id IN (5, 6)};
my $sound = q{SELECT count(*), md5(string_agg(concat_ws('|', id, CASE WHEN id <> 9 THEN name::text END, note::text), ',' ORDER BY id)) FROM damaged WHERE id NOT IN (5, 6, 7)};
my ($bytes, $places, $sound_before) = (sql($bad), sql($where), in_a($sound));
my @old_keys = map { sql("SELECT (phi.describe($_)).key_id FROM damaged WHERE id = 6") } 'name', 'note';
for my $method ('online', 'rewrite')
{
	my @expected = ("5|name|$old_keys[0]|t", "6|name|$old_keys[0]|t", "6|note|$old_keys[1]|t", "9|name|$old_keys[0]|t");
	rotate($_) for 'identity', 'clinical';
	$job = rekey("method => '$method'");
	$node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job");
	if ($method eq 'online')
	{
		push @expected, '7|||t';
		is(sql($bad), $bytes, 'online: the values are unchanged');
		is(sql($where), $places, 'online: so are rows in which there was nothing else to do');
	}
	else
	{
		# A new file of the whole table cannot leave a row out.
		is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'failed', 'rewrite: a row that cannot be read fails the job');
		like(sql("SELECT error FROM phi.rekey_progress WHERE job = $job"), qr/chunk/, 'rewrite: which says so');
		is(sql("$bad; $where"), "$bytes\n$places", 'rewrite: the table is as it was');
		sql('DELETE FROM damaged WHERE id = 7');
		is_left($job);
		sql("CALL phi.resume_rekey($job)");
		$node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job");
		is(sql($bad), $bytes, 'rewrite: the values are unchanged');
	}
	is(sql("SELECT concat_ws(' ', state, error) FROM phi.rekey_progress WHERE job = $job"), 'done', "$method: altered values do not stop the job");
	my $failures = sql("SELECT d.id, \"column\", key_id, error ~ CASE WHEN \"column\" IS NULL THEN 'chunk' ELSE 'not authentic' END FROM phi.rekey_failures f JOIN damaged d ON f.tid = d.ctid WHERE job = $job AND relation::regclass = 'damaged'::regclass ORDER BY 1, 2");
	is($failures, join("\n", sort @expected), "$method: they are recorded, with the place of the row");
	is(sql("SELECT count(*) FROM phi.rekey_failures WHERE job = $job"), scalar @expected, "$method: once");
	is(sql("SELECT failed FROM phi.rekey_progress WHERE job = $job"), scalar @expected, "$method: and counted once");
	is(in_a($sound), $sound_before, "$method: the others are what they were");
	is(sql("SELECT count(*) FROM damaged WHERE id <> 7 AND (phi.describe(name)).key_id = $old_keys[0]"), 3, "$method: only these are left under the old key");
	is(outdated('patient'), '0', "$method: none in another table");
}
gives($node, 'custodian', "SELECT count(*) > 0 FROM phi.rekey_failures", 't', 'custodians see the failures');
sql('DROP TABLE damaged');
told('damage');

# Others at work. Values are changed where they lie, whoever has locked their rows.
my ($locker, $referrer) = map { session($node, 'app_a') } 1, 2;
$plain = plain('patient');
rotate('identity');
$locker->query("SET phi.clinic = 'a'; BEGIN; SELECT id FROM patient WHERE id = 11 FOR UPDATE; DELETE FROM patient WHERE id = 12");
$referrer->query("SET phi.clinic = 'a'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM patient");
my $places_of = q{SELECT md5(string_agg(ctid::text || xmin, ',' ORDER BY id)), pg_relation_size('patient'), pg_relation_size('patient_pkey') FROM patient};
my $places_before = sql($places_of);
ends(rekey(''), 'a rekey beside locked and deleted rows');
is(outdated(), '0', 'nothing is left');
is(sql($places_of), $places_before, 'and no row has moved');
is(scalar $locker->query("UPDATE patient SET note = 'note 11' WHERE id = 11; ROLLBACK; SELECT name FROM patient WHERE id = 12"), 'name 12', 'who has locked a row goes on');
is(outdated(), '0', 'a row whose deletion is rolled back is done as well');
is(join('', $referrer->query("UPDATE patient SET note = 'note 13' WHERE id = 13; COMMIT")), '', 'an older snapshot may still write');
is(plain('patient'), $plain, 'the rows are what they were');

# A cursor keeps its page: the rows on it are moved in the end.
rotate('identity');
$referrer->query('SET phi.result_as_base = off; BEGIN; DECLARE c CURSOR FOR SELECT id, name::text, note::text FROM patient WHERE name IS NOT NULL; FETCH 1 FROM c');
my $place = q{SELECT ctid::text || xmin FROM patient WHERE id = };
my @places = map { sql("$place $_") } 2, 15000;
$job = rekey('');
reaches($job, "state = 'done' OR pass > 6", 'a rekey beside an open cursor');
isnt(sql("$place 2"), $places[0], 'which keeps its page: its rows are moved');
is(sql("$place 15000"), $places[1], 'and no others');
my $cursor_passes = sql("SELECT state FROM phi.rekey_progress WHERE job = $job");
is(outdated(), '0', 'leaves nothing');
my $seen = $referrer->query('FETCH ALL FROM c');
my %seen = map { (split /\|/)[0] => $_ } split /\n/, $seen;
is(scalar keys %seen, 19999, 'the cursor sees every other row');
is(scalar(grep { $seen{$_} ne "$_|name $_|note $_" } keys %seen), 0, 'as it was');
$referrer->query('COMMIT; RESET phi.result_as_base');
is($cursor_passes, 'done', 'and ends, though the cursor stays');
ends($job, 'it ends when the cursor is closed');
cmp_ok(sql("SELECT values_done FROM phi.rekey_progress WHERE job = $job"), '<=', 20000 + 291, 'it counts each value once, and dead ones of the page');
is(plain('patient'), $plain, 'the rows are what they were');
told('in place');

# Where changes are decoded, rows are updated. Locked ones are done when they are free.
my $slot = 'SELECT count(*) FROM pg_create_logical_replication_slot(\'decoded\', \'test_decoding\')';
sql($slot);
$plain = plain('patient');
rotate('identity');
sql('CREATE TABLE visit (patient int REFERENCES patient); GRANT ALL ON visit TO app_a');
$_->query("SET phi.clinic = 'a'; BEGIN") for $locker, $referrer;
$locker->query('SELECT id FROM patient WHERE id BETWEEN 11 AND 13 FOR UPDATE');
$referrer->query('INSERT INTO visit VALUES (100)');
$job = rekey('');
reaches($job, 'pass >= 3 AND skipped = 3', 'rows that are locked are left to later passes');
is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'running', 'until they are free');
is(outdated(), '3', 'all others are done, also one that a foreign key holds');
$locker->query('COMMIT');
ends($job, 'the job ends when they are');
is(outdated(), '0', 'nothing is left');
is(scalar $referrer->query('COMMIT; SELECT count(*) FROM visit'), '1', 'the foreign key is served');
is(plain('patient'), $plain, 'the rows are what they were');

# A writer that has begun before, and one more row of his.
my $writer = $locker;
$writer->query("BEGIN; UPDATE patient SET note = 'changed' WHERE id = 21; INSERT INTO patient VALUES (-1, 'before', NULL)");
rotate($_) for 'identity', 'clinical';
$job = rekey('');
reaches($job, "state = 'running' AND phase = 'waiting for writers'", 'the job waits for a transaction that has encrypted');
$writer->query("INSERT INTO patient VALUES (-2, 'after', NULL)");
is(sql("SELECT phase FROM phi.rekey_progress WHERE job = $job"), 'waiting for writers', 'to its end');
is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'running', 'and does not give up');
$writer->query('COMMIT');
ends($job, 'then it ends');
is(outdated(), '0', 'and what was written meanwhile is done too');
is(in_a("SELECT id, name, note FROM patient WHERE id < 0 OR id = 21 ORDER BY id"), "-2|after|\n-1|before|\n21|name 21|changed", 'which is readable');
in_a('DELETE FROM patient WHERE id < 0');
$writer->query("BEGIN; INSERT INTO patient VALUES (-1, 'never', NULL)");
rotate('identity');
$job = rekey('');
reaches($job, "phase = 'waiting for writers'", 'a job that waits');
stopped('cancel', $job, 'is cancelled');
ok($node->poll_query_until('postgres', 'SELECT ' . workers() . ' = 0'), 'and goes');
$writer->query('ROLLBACK');

# A prepared transaction is a writer as well.
sql('ALTER SYSTEM SET max_prepared_transactions = 2');
$node->restart;
($locker, $referrer, $writer) = map { session($node, 'app_a') } 1 .. 3;
$_->query("SET phi.clinic = 'a'") for $locker, $referrer, $writer;
$writer->query("BEGIN; INSERT INTO patient VALUES (-3, 'prepared', NULL); PREPARE TRANSACTION 'p'");
rotate('identity');
$job = rekey('');
reaches($job, "phase = 'waiting for writers'", 'a prepared transaction is waited for');
$writer->query("COMMIT PREPARED 'p'");
ends($job, 'to its end');
is(outdated(), '0', 'and its row is done');
in_a('DELETE FROM patient WHERE id < 0');
told('writers');

# An old snapshot sees what it saw, whatever the method.
for my $method ('online', 'rewrite')
{
	my $facts = q{SELECT count(*), md5(string_agg(concat_ws('|', id, name::text, note::text), ',' ORDER BY id)) FROM patient};
	my $expected = in_a($facts);
	rotate('identity');
	my $reader = $referrer;
	$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM visit');
	$job = rekey("method => '$method'");
	ends($job, "$method beside an old snapshot");
	is(outdated(), '0', "$method: nothing is left");
	my ($rows, $error) = $reader->query($facts);
	is($rows . $error, $expected, "$method: the old snapshot sees every row");
	if ($method eq 'online')
	{
		(undef, $error) = $reader->query("UPDATE patient SET note = 'x' WHERE id = 1");
		like($error, qr/ERROR:  40001: /, 'what it cannot change it is told as ever');
	}
	$reader->query('ROLLBACK');
	is(in_a($facts), $expected, "$method: a new one too");
}

sql(q{SELECT pg_drop_replication_slot('decoded')});

# Changes of tables amidst.
make_table($_, 300) for 'dropped', 'truncated', 'altered', 'emptied';
rotate($_) for 'identity', 'clinical';
$job = rekey('rows_per_second => 4000');
reaches($job, 'values_done > 0', 'a job begins with the largest table');
sql('DROP TABLE dropped; TRUNCATE truncated; ALTER TABLE altered ADD more int DEFAULT 7, ADD late enctext(identity), DROP note; DELETE FROM emptied; VACUUM emptied; VACUUM FULL patient; ALTER TABLE patient ADD extra text DEFAULT \'x\'; ALTER TABLE patient ALTER extra TYPE varchar(3)');
in_a(q{UPDATE altered SET late = 'late ' || id; INSERT INTO truncated VALUES (1, 'new', 'new')});
is(sql("SELECT state FROM phi.rekey_progress WHERE job = $job"), 'running', 'tables are dropped, emptied and written anew meanwhile');
hasten($job);
ends($job, 'the job ends');
is(outdated(), '0', 'nothing is left');
is(in_a(q{SELECT count(*), count(*) FILTER (WHERE name = 'name ' || id AND late = 'late ' || id AND more = 7) FROM altered}), '300|300', 'a table with new columns');
is(plain('patient'), in_a(q{SELECT count(*), count(name), md5(string_agg(concat_ws('|', id, 'name ' || id, CASE id WHEN 21 THEN 'changed' ELSE 'note ' || id END), E'\\n' ORDER BY id)) FROM patient}), 'the rows are what they were');
sql('DROP TABLE truncated, altered, emptied; ALTER TABLE patient DROP extra');

# A table that is locked is waited for, and nobody behind it.
rotate('identity');
my $dba = session($node, undef);
$dba->query('BEGIN; LOCK TABLE patient IN SHARE MODE');
$job = rekey('');
reaches($job, "state = 'running' AND phase = 'rekeying'", 'a table that is locked');
is(in_a('SELECT name FROM patient WHERE id = 2'), 'name 2', 'readers do not queue up behind the job');
is(outdated(), '20000', 'which has done nothing');
$dba->query('COMMIT');
ends($job, 'and goes on when it is free');
is(outdated(), '0', 'nothing is left');
told('tables');

# The table does not grow, nor the worker, when rows are updated: one of many rows, and one that is
# little else than TOAST.
sql($slot);
for my $table ('long', 'heavy')
{
	my $n = $table eq 'long' ? 100000 : 1200;
	my $large = $table eq 'long' ? 'n % 50 = 0' : 'true';
	my $chunks = $table eq 'long' ? 100 : 1000;
	sql("CREATE TABLE $table (id int PRIMARY KEY, name enctext(identity), photo encbytea(clinical)); GRANT ALL ON $table TO app_a");
	in_a("INSERT INTO $table SELECT n, 'name ' || n, CASE WHEN $large THEN decode((SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(1, $chunks) i), 'hex') END FROM generate_series(1, $n) n");
	in_a("UPDATE $table SET photo = decode((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200000) i), 'hex') WHERE id = 50") if $table eq 'heavy';
	sql("CREATE INDEX ON $table USING hash (name); VACUUM $table");
	my $content = "SELECT count(*), md5(string_agg(concat_ws('|', id, name::text, md5(photo::bytea)), ',' ORDER BY id)) FROM $table";
	my $expected = in_a($content);
	for my $method ('online', 'rewrite')
	{
		my @sizes = (sql("SELECT pg_total_relation_size('$table')"), sql("SELECT pg_relation_size('$table')"));
		rotate($_) for 'identity', 'clinical';
		$job = rekey("method => '$method', workers => 1");
		my ($state, $most, $pid) = ('running', 0);
		my $patience = time + $PostgreSQL::Test::Utils::timeout_default;
		while ($state =~ /^running|starting/ && time < $patience)
		{
			($state, $pid) = split /\|/, sql("SELECT state, (SELECT pid FROM phi.worker_pids($job) pid LIMIT 1) FROM phi.rekey_progress WHERE job = $job");
			my $now = $pid ? memory_of($pid, 'RssAnon') // 0 : 0;
			$most = $now if $now > $most;
			select undef, undef, undef, 0.02;	# a look has a snapshot, that dead rows outlive
		}
		ends($job, "$table, $method: a table of some megabytes");
		is(outdated($table), '0', "$table, $method: nothing is left");
		cmp_ok($most, '>', 0, "$table, $method: the worker's memory is seen") if "$table $method" eq 'long online';
		cmp_ok($most, '<', 64 * 1024, "$table, $method: and is small");
		push @sizes, sql("SELECT pg_total_relation_size('$table')"), sql("SELECT pg_relation_size('$table')");
		diag(sprintf '%s, %s: %.1f MB before (heap %.1f), %.1f after (heap %.1f); worker %.1f MB', $table, $method, map { $_ / 1048576 } @sizes, $most * 1024);
		cmp_ok($sizes[2], '<', $sizes[0] * 1.3, "$table, $method: the table has not grown");
		is(in_a($content), $expected, "$table, $method: the rows are what they were");
		is(in_a("SET enable_seqscan = off; SELECT id FROM $table WHERE name = 'name 77'"), '77', "$table, $method: the index finds");
	}
	sql("DROP TABLE $table");
}
told('size');

sql(q{SELECT pg_drop_replication_slot('decoded')});

# Rewriting keeps what hangs on a table.
sql(q{
	CREATE TABLE parent (id int PRIMARY KEY, name enctext(identity) NOT NULL, note enctext(clinical) CHECK (note IS NOT NULL), gone enctext(identity), twin enctext(identity) GENERATED ALWAYS AS (name) STORED,
		touched int NOT NULL DEFAULT 0, EXCLUDE USING hash (note WITH =));
	CREATE INDEX parent_name ON parent USING hash (name);
	CREATE TABLE child (parent int REFERENCES parent ON DELETE CASCADE);
	CREATE VIEW parents AS SELECT id, name FROM parent;
	CREATE RULE nothing AS ON DELETE TO parents DO INSTEAD NOTHING;
	CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
	CREATE TRIGGER touch BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION touch();
	CREATE UNLOGGED TABLE quick (id int, names enctext(identity)[]);
	GRANT ALL ON parent, child, parents, quick TO app_a;
	ALTER TABLE parent ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY all_rows ON parent TO app_a USING (true);
	COMMENT ON COLUMN parent.name IS 'a name';
	ALTER TABLE parent ALTER name SET STATISTICS 5, SET (autovacuum_enabled = off)});
in_a(q{INSERT INTO parent SELECT n, 'name ' || n, 'note ' || n, 'gone ' || n FROM generate_series(1, 3000) n; INSERT INTO child SELECT n FROM generate_series(1, 3000) n; INSERT INTO quick SELECT n, ARRAY['one ' || n, NULL, 'two'] FROM generate_series(1, 500) n});
sql('CREATE MATERIALIZED VIEW parent_summary AS SELECT id, name FROM parent; CREATE INDEX ON parent_summary USING hash (name); ALTER TABLE parent DROP gone; GRANT SELECT ON parent_summary TO app_a; ANALYZE parent');
my $definition = sub {
	my ($dump) = run_command([ 'pg_dump', '-s', '-t', 'parent*', '-t', 'child', '-t', 'quick', $node->connstr('postgres') ]);
	return $dump =~ s/^\\(?:un)?restrict .*\n//mgr;
};
my $oids = q{SELECT string_agg(concat_ws(' ', oid, relname, relpersistence, relkind, relreplident, relhasindex, reltoastrelid <> 0), ',' ORDER BY oid) FROM pg_class WHERE relname ~ '^(parent|child|quick)'};
my $figures = q{SELECT count(*), md5(string_agg(concat_ws('|', id, name::text, note::text, twin::text, touched), ',' ORDER BY id)) FROM parent; SELECT count(*), md5(string_agg(id || names::text, ',' ORDER BY id)) FROM quick; SELECT count(*), md5(string_agg(id || name, ',' ORDER BY id)) FROM parent_summary};
my ($defined, $oids_before, $figures_before) = ($definition->(), sql($oids), in_a($figures));
like($figures_before, qr/\A3000\|\w+\n500\|\w+\n3000\|\w+\z/, 'tables with all that');
for my $method ('online', 'rewrite')
{
	rotate($_) for 'identity', 'clinical';
	my $files = q{SELECT bool_or(pg_relation_filepath(oid) = path) FROM files JOIN pg_class USING (oid)};
	sql(q{CREATE TABLE files AS SELECT oid, pg_relation_filepath(oid) AS path FROM pg_class WHERE relname IN ('parent', 'quick', 'parent_summary', 'parent_name')});
	is(outdated('parent') . ' ' . outdated('quick') . ' ' . outdated('parent_summary'), '9000 1000 3000', "$method: values under old keys");
	ends(rekey("method => '$method', workers => 3"), "$method of these");
	is(outdated(), '0', "$method: nothing is left");
	is(sql($files), $method eq 'online' ? 't' : 'f', $method eq 'online' ? 'online: in the files that there were' : 'rewrite: in new files');
	is(in_a($figures), $figures_before, "$method: the rows are what they were, untouched by triggers");
	is(sql($oids), $oids_before, "$method: so are the tables");
	is($definition->(), $defined, "$method: and their definitions");
	is(in_a(q{SET enable_seqscan = off; SELECT id FROM parent WHERE name = 'name 5'; SELECT id FROM parents WHERE name = 'name 6'; SELECT id FROM parent_summary WHERE name = 'name 7'}), "5\n6\n7", "$method: indexes and views serve");
	refused($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO parent VALUES (9999, 'x', 'note 5')}, '23P01', qr/parent_note_excl/, "$method: the exclusion holds");
	refused($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO child VALUES (9999)}, '23503', qr/child_parent_fkey/, "$method: the foreign key holds");
	refused($node, 'app_a', q{SET phi.clinic = 'a'; INSERT INTO parent VALUES (9999, 'x', NULL)}, '23514', qr/parent_note_check/, "$method: the check holds");
	is(in_a('BEGIN; DELETE FROM parent WHERE id = 8; SELECT count(*) FROM child WHERE parent = 8; ROLLBACK'), '0', "$method: and cascades");
	refused($node, 'nurse_a', q{SELECT * FROM parent}, '42501', qr/permission denied/, "$method: grants are as before");
	gives($node, undef, q{SELECT relfrozenxid <> '0', age(relfrozenxid) >= 0 FROM pg_class WHERE relname = 'parent'; VACUUM (FREEZE) parent; SELECT count(*) FROM parent}, "t|t\n3000", "$method: VACUUM finds it in order");
	sql('DROP TABLE files');
}
sql('CREATE EXTENSION amcheck');
$node->command_ok([ 'pg_amcheck', '--heapallindexed', '-d', 'postgres' ], 'pg_amcheck finds nothing wrong');
sql('SET client_min_messages = warning; DROP TABLE parent, child, quick CASCADE');
told('rewrite');

# A table that is published and has no replica identity: a clear error, and on.
sql('CREATE TABLE published (id int, name enctext(identity)); GRANT ALL ON published TO app_a; CREATE PUBLICATION changes FOR TABLE published');
in_a(q{INSERT INTO published SELECT n, 'name ' || n FROM generate_series(1, 100) n});
rotate('identity');
ends(rekey(''), 'a published table that nobody subscribes to');
is(outdated('published'), '0', 'is done in place');
sql($slot);
rotate('identity');
$job = rekey('');
$node->poll_query_until('postgres', "SELECT state NOT IN ('starting', 'running', 'interrupted') FROM phi.rekey_progress WHERE job = $job");
is(sql("SELECT state, failed FROM phi.rekey_progress WHERE job = $job"), 'done|1', 'a published table without replica identity does not stop the job');
like(sql("SELECT relation, error FROM phi.rekey_failures WHERE job = $job"), qr/published\|.*"published".*replica identity.*REPLICA IDENTITY/, 'it is recorded, with what to do');
is(outdated('published'), '100', 'its values are left');
sql('ALTER TABLE published REPLICA IDENTITY FULL');
ends(rekey(''), 'with it done, another');
is(outdated(), '0', 'nothing is left');

sql(q{SELECT pg_drop_replication_slot('decoded')});

# Temporary tables are their sessions' own.
my $temporary = session($node, 'app_a');
$temporary->query("SET phi.clinic = 'a'; CREATE TEMP TABLE mine AS SELECT id, name FROM patient WHERE id <= 5");
rotate('identity');
ends(rekey(''), 'a rekey beside a temporary table');
is($temporary->query('SELECT count(name) FROM mine'), '5', 'which stays readable');
like(sql('SELECT relation FROM phi.foreign_temp_tables()'), qr/mine/, 'and is told of');
$temporary->query('INSERT INTO patient SELECT id + 100000, name FROM mine');
is(outdated(), '0', 'what is copied from it comes under the active key');

# What else can be stored of it: domains, arrays, by triggers, as new tables.
sql(q{
	CREATE DOMAIN nickname AS enctext(identity);
	CREATE TABLE pasted (nick nickname, names enctext(identity)[], name enctext(identity), how text);
	CREATE FUNCTION paste() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := (SELECT name FROM mine LIMIT 1); RETURN NEW; END $$;
	CREATE TRIGGER paste BEFORE INSERT ON pasted FOR EACH ROW WHEN (NEW.how = 'by trigger') EXECUTE FUNCTION paste();
	GRANT ALL ON pasted TO app_a; GRANT CREATE ON SCHEMA public TO app_a});
$temporary->query(q{DROP TABLE mine; CREATE TEMP TABLE mine AS SELECT 1 AS id, 'x'::enctext(identity) AS name, 'y'::nickname AS nick, ARRAY['z']::enctext(identity)[] AS names});
rotate('identity');
ends(rekey(''), 'one more');
for my $case ([ 'a value', 'INSERT INTO pasted (name) SELECT name FROM mine' ],
	[ 'a value in a subquery', 'INSERT INTO pasted (name) VALUES ((SELECT name FROM mine)), (NULL)' ],
	[ 'a parameter', 'DO $$ DECLARE v enctext := (SELECT name FROM mine); BEGIN EXECUTE \'INSERT INTO pasted (name) VALUES ($1)\' USING v; END $$' ],
	[ 'a domain', 'INSERT INTO pasted (nick) SELECT nick FROM mine' ],
	[ 'a value, to a domain', 'INSERT INTO pasted (nick) SELECT name FROM mine' ],
	[ 'a domain in a variable', 'DO $$ DECLARE v nickname := (SELECT nick FROM mine); BEGIN INSERT INTO pasted (nick) VALUES (v); END $$' ],
	[ 'an array', 'INSERT INTO pasted (names) SELECT names FROM mine' ],
	[ 'an array made of values', 'INSERT INTO pasted (names) SELECT ARRAY[name] FROM mine' ],
	[ 'an element of an array', "INSERT INTO pasted (names) VALUES ('{a,b}'); UPDATE pasted SET names[1] = (SELECT name FROM mine)" ],
	[ 'a new table', 'CREATE TABLE taken AS SELECT name FROM mine' ],
	[ 'SELECT INTO', 'SELECT name INTO taken FROM mine' ])
{
	my ($what, $statement) = @$case;
	my ($rows, $error) = $temporary->query($statement);
	is($error, '', "stored after a rekey: $what");
	cmp_ok(sql(q{SELECT sum("values") FROM phi.count_values() WHERE relation::text IN ('pasted', 'taken')}), '>', 0, "which is there: $what");
	is(outdated(), '0', "under the active key: $what");
	$temporary->query('TRUNCATE pasted; SET client_min_messages = error; DROP TABLE IF EXISTS taken');
}
sql('DROP TABLE pasted');
$temporary->quit;

# No free worker slot beside the audit launcher's: the job starts when there is one.
sql(q{CREATE DATABASE elsewhere});
$node->safe_psql('elsewhere', 'CREATE EXTENSION pg_phi; SELECT phi.create_clinic(\'a\', \'A\'), phi.grant_clinic(\'app_a\', \'a\'); CREATE TABLE t (v enctext); GRANT ALL ON t TO app_a');
sql('ALTER SYSTEM SET max_logical_replication_workers = 0');
sql('ALTER SYSTEM SET max_worker_processes = 2');
sql('ALTER SYSTEM SET max_parallel_workers = 0');
$node->restart;
my $holder = session($node, 'app_a', database => 'elsewhere');
$holder->query("SET phi.clinic = 'a'; BEGIN; INSERT INTO t VALUES ('holds')");
my $occupant = $node->safe_psql('elsewhere', "SELECT phi.rotate_key('a', 'general') > 0; CALL phi.rekey()") =~ s/.*\n//r;
ok($node->poll_query_until('elsewhere', "SELECT phase = 'waiting for writers' FROM phi.rekey_progress WHERE job = $occupant"), 'the one slot is taken');
in_a(q{DELETE FROM patient WHERE id > 100000});
rotate('identity');
my $waiting = session($node, 'custodian');
$waiting->{out} = $waiting->{err} = '';
$waiting->{in} .= "CALL phi.rekey(wait => true, workers => 4);\n\\echo over\n\\warn over\n";
$waiting->{run}->pump until $waiting->{err} =~ /NOTICE: .*\n/;
like($waiting->{err}, qr/NOTICE:  00000: job \d+: starting/, 'a job without a slot says that it is starting');
is(sql("SELECT state FROM phi.rekey_progress ORDER BY job DESC LIMIT 1"), 'starting', 'and is so in phi.rekey_progress');
is(outdated('patient'), '20000', 'nothing is done');
$holder->query('COMMIT');
$waiting->{run}->pump until $waiting->{err} =~ /^over$/m;
like($waiting->{err}, qr/job \d+: done, .*201\d\d values done/, 'it goes on when there is one, alone for want of more');
is(outdated(), '0', 'nothing is left');
ok($node->poll_query_until('elsewhere', "SELECT state = 'done' FROM phi.rekey_progress WHERE job = $occupant"), 'the other has ended too');
$_->quit for $holder, $waiting;
is(plain('patient') =~ s/\|.*//sr, '20000', 'every row is there');
unlike(slurp_raw($node->logfile), qr/terminated by signal|TRAP|PANIC/, 'no process crashed');
$node->stop;
told('slots');

done_testing();
