# phi-verify against a superuser who edits the log, against forged files, and
# against files that make no sense. It has no database: each attack is made in a
# transaction that exports what it did and rolls back.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# Sequencing is done by the test, when it wants it.
my $node = new_server('verify', conf => "phi.checkpoint_interval = '1h'\n");
my $dir = PostgreSQL::Test::Utils::tempdir();
set_up_clinics($node);
log_begun($node);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub spew
{
	my ($name, $content) = @_;
	open my $f, '>:raw', "$dir/$name" or die "$dir/$name: $!";
	print $f $content;
	close $f or die "$dir/$name: $!";
	return;
}

# Exports under a name, and what was done before it in the same transaction.
sub export
{
	my ($name, $change, $records) = @_;
	$records //= 'SELECT * FROM phi.audit_log ORDER BY xact, record_id';
	my $log = sql("SELECT tableoid::regclass FROM phi.audit_log WHERE operation = 'TEST' LIMIT 1");
	my $unprotect = join '', map { "ALTER TABLE $_ DISABLE TRIGGER ALL;\n" } $log, qw(phi.audit_log phi.audit_leaf phi.audit_node phi.audit_checkpoint);
	$unprotect = '' unless $change;
	$change //= '';
	$change =~ s/\bLOG\b/$log/g;
	$node->safe_psql('postgres', qq{
		SET client_min_messages = error;
		SET phi.result_as_base = off;
		BEGIN;
		$unprotect
		$change;
		\\copy ($records) TO '$dir/$name.records' (FORMAT binary)
		\\copy phi.audit_leaf TO '$dir/$name.leaves' (FORMAT binary)
		\\pset format unaligned
		\\pset tuples_only on
		\\o $dir/$name.checkpoints
		SELECT note FROM phi.audit_checkpoint ORDER BY size;
		\\o
		ROLLBACK});
	return;
}

# Runs phi-verify; what is a name of this test becomes the name of a file.
sub verify
{
	my ($out, $err);
	IPC::Run::run([ 'phi-verify', map { s{=\@}{=$dir/}r } @_ ], '<', \undef, '>', \$out, '2>', \$err);
	return ($?, $out, $err);
}

# The usual files of an export.
sub files
{
	my ($name, $checkpoints) = @_;
	$checkpoints //= $name;
	return ("--records=\@$name.records", "--leaves=\@$name.leaves", "--checkpoints=\@$checkpoints.checkpoints", '--key=@key');
}

# Its exit status is as expected; if 1, the faults are, line by line.
sub finds
{
	my ($status, $faults, $name, @arguments) = @_;
	my ($got, $out, $err) = verify(@arguments);
	my @found = grep { !/^(?:note|records|leaves|checkpoints|root|subtree root): [\w+\/=]+|^\d+ faults$|^verified$|^nothing was verified$/ || /^leaves: leaf/ } split /\n/, $out;
	my $ok = $got >> 8 == $status && ($got & 127) == 0 && @found == @$faults;
	$ok &&= $found[$_] =~ $faults->[$_] foreach 0 .. $#$faults;
	ok($ok, $name) or diag("status $got\n$out$err");
	return $out;
}

# A log of four checkpoints, of which the third was kept elsewhere, with
# records behind it that are not sequenced.
sql("SELECT phi.note_audit_event('TEST', 'public.chart', 'event ' || i) FROM generate_series(1, 100) i");
sql('SELECT phi.advance_audit()');
sql("SELECT phi.note_audit_event('TEST', NULL, 'event ' || i) FROM generate_series(101, 150) i");
sql('SELECT phi.advance_audit()');
export('kept');
sql("SELECT phi.note_audit_event('TEST', '病院.カルテ', 'event ' || i) FROM generate_series(151, 200) i");
sql('SELECT phi.advance_audit()');
my ($first) = sql('SELECT min(size) FROM phi.audit_checkpoint') =~ /(\d+)/;
my ($size) = sql('SELECT max(size) FROM phi.audit_checkpoint') =~ /(\d+)/;
sql("SELECT phi.note_audit_event('LATER', NULL, 'event ' || i) FROM generate_series(1, 3) i");
spew('key', sql('SELECT verifier FROM phi.audit_signer') . "\n");
my $origin = sql('SELECT origin FROM phi.audit_state');
export('whole');

# Record and leaf of an event.
sub event
{
	my ($number) = @_;
	return split /\|/, sql("SELECT record_id, k.first_leaf + array_position(k.ids, record_id) - 1 FROM phi.audit_log l, phi.audit_leaf k WHERE operation = 'TEST' AND detail = 'event $number' AND record_id = ANY (k.ids)");
}
my ($x, $x_leaf) = event(70);
my ($y, $y_leaf) = event(120);
my ($last, $last_leaf) = event(200);
is($last_leaf, $size - 1, 'the last event is the last leaf');

my $stranger = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k';
my $out = finds(0, [], 'a log that nobody touched verifies', files('whole'));
like($out, qr/^note: 3 records of later transactions are not sequenced yet$/m, 'records are told that have no leaf yet');
my $root = sql('SELECT encode(root, \'base64\') FROM phi.audit_checkpoint ORDER BY size DESC LIMIT 1');
like($out, qr/^records: @{[ $size + 3 ]}\nleaves: $size\ncheckpoints: \d+\nroot: \Q$root\E\nsubtree root: \Q$root\E\nverified$/m, 'and what there is');
finds(0, [], 'with a checkpoint that was kept', files('whole', 'kept'));
$out = finds(0, [], 'without leaves', '--records=@whole.records', '--checkpoints=@whole.checkpoints', '--key=@key');
like($out, qr/^note: leaves $size to @{[ $size + 2 ]} are covered by no checkpoint$/m, 'of which some are not covered');
finds(0, [], 'a key as text', (files('whole'))[ 0 .. 2 ], '--key=' . sql('SELECT verifier FROM phi.audit_signer'));
spew('keys', "$stranger\n\n" . slurp_file("$dir/key"));
finds(0, [], 'with the keys of several logs', (files('whole'))[ 0 .. 2 ], '--key=@keys');
export('shuffled', undef, 'SELECT * FROM phi.audit_log ORDER BY md5(record_id::text)');
finds(0, [], 'in whatever order', files('shuffled'));
export('half', undef, "SELECT * FROM phi.audit_log WHERE record_id <= $x");
export('other_half', undef, "SELECT * FROM phi.audit_log WHERE record_id > $x");
finds(0, [], 'in several files', '--records=@other_half.records', files('half'));

# Each record is proved to be in the tree that the newest checkpoint signs.
gives($node, undef, q{
	SELECT count(*), count(*) FILTER (WHERE n.signed AND n.size = p.size AND phi.check_inclusion(p.leaf, p.size, phi.audit_leaf_hash(l), p.proof, n.root))
	FROM phi.audit_log l, phi.inclusion_proof(l.record_id) p, phi.check_audit_note(p.checkpoint, ARRAY(SELECT verifier FROM phi.audit_signer)) n
	WHERE l.operation = 'TEST'}, '200|200', 'inclusion of each record is proved');
gives($node, undef, q{
	SELECT bool_and(phi.check_consistency(a.size, b.size, phi.consistency_proof(a.size, b.size), a.root, b.root))
	FROM phi.audit_checkpoint a JOIN phi.audit_checkpoint b ON a.size <= b.size}, 't', 'and that checkpoints begin each other');

# The superuser who edits.
my $copy = sub { "INSERT INTO LOG SELECT (jsonb_populate_record(l, '$_[0]')).* FROM phi.audit_log l WHERE record_id = $x" };
my @attacks = (
	[ 'one byte of one record', "UPDATE LOG SET detail = 'Event 70' WHERE record_id = $x", [qr/^altered: record $x, leaf $x_leaf$/] ],
	[ 'a time, by a microsecond', "UPDATE LOG SET xact_at = xact_at + interval '1 us' WHERE record_id = $x", [qr/^altered: record $x, leaf $x_leaf$/] ],
	[ 'one deleted', "DELETE FROM LOG WHERE record_id = $x", [qr/^missing: record $x, leaf $x_leaf$/] ],
	[ 'two swapped', "UPDATE LOG SET record_id = CASE record_id WHEN $x THEN $y ELSE $x END WHERE record_id IN ($x, $y)",
		[ qr/^reordered: record $x, leaf $x_leaf has the content of record $y, leaf $y_leaf$/, qr/^reordered: record $y, leaf $y_leaf has the content of record $x, leaf $x_leaf$/ ] ],
	[ 'one given another id', "UPDATE LOG SET record_id = 9000000000 WHERE record_id = $x", [qr/^reordered: record 9000000000 has the content of record $x, leaf $x_leaf$/] ],
	[ 'one inserted', $copy->('{"record_id": 9000000000}'), [qr/^inserted: record 9000000000$/] ],
	[ 'one doubled', "INSERT INTO LOG SELECT l.* FROM phi.audit_log l WHERE record_id = $x", [qr/^doubled: record $x is there more than once$/] ],
	[ 'one doubled, with another content', $copy->('{"detail": "x"}'), [qr/^doubled: record $x is there more than once$/] ],
	[ 'the tail cut off', "DELETE FROM LOG WHERE xact >= (SELECT xact FROM phi.audit_log WHERE record_id = $last)", [ map { qr/^cut off: record \d+, leaf $_$/ } $size - 50 .. $size - 1 ] ],
	[ 'ids beside leaves exchanged', "UPDATE phi.audit_leaf SET ids = array_replace(array_replace(array_replace(ids, $x, 0), $y, $x), 0, $y) WHERE ids && ARRAY[$x, $y]::bigint[]",
		[ qr/^leaves: leaf \d+ is of record (?:$x|$y), and is said to be of (?:$x|$y)$/, qr/^leaves: leaf \d+ is of record (?:$x|$y), and is said to be of (?:$x|$y)$/ ] ],
	[ 'a record with its leaf', "UPDATE LOG SET detail = 'x' WHERE record_id = $x;
		UPDATE phi.audit_leaf k SET hashes = (SELECT string_agg(phi.audit_leaf_hash(l), '' ORDER BY o) FROM unnest(k.ids) WITH ORDINALITY u(id, o) JOIN phi.audit_log l ON record_id = id) WHERE $x = ANY (ids)",
		[ map { qr/^checkpoint: that of \d+ leaves has not their root; the fault is in leaves $first to \d+, records \d+ to \d+$/ } 1 .. 3 ] ],
	[ 'the last row of leaves', 'DELETE FROM phi.audit_leaf WHERE first_leaf = (SELECT max(first_leaf) FROM phi.audit_leaf)', [ qr/^cut off: a checkpoint has $size leaves, the log only \d+$/m ], 'and records of it' ],
	[ 'a row of leaves', 'DELETE FROM phi.audit_leaf WHERE first_leaf = 64', [ qr/^leaves: leaves 64 to \d+ are missing; those behind them are not verified$/m ], 'and records of it' ],
	[ 'a checkpoint for another size', 'UPDATE phi.audit_checkpoint SET note = replace(note, size::text, (size - 1)::text) WHERE size = ' . $size, [qr/^checkpoint: note \d+ of ".*" is not signed by the key$/] ],
	[ 'a signature', "UPDATE phi.audit_checkpoint SET note = replace(note, '=', '') WHERE size = $size", [qr/^checkpoint: note \d+ of ".*" is no signed note$/] ],
	[ 'another text, signed', "UPDATE phi.audit_checkpoint SET note = phi.sign_audit_note(E'$origin\\n1\\n') WHERE size = $size", [qr/^checkpoint: note \d+ of ".*" is no checkpoint of "\Q$origin\E"$/] ],
	[ 'a false root, signed', "UPDATE phi.audit_checkpoint SET note = phi.sign_audit_note(format(E'%s\\n%s\\n%s\\n', '$origin', size, encode(sha256(root), 'base64'))) WHERE size = $size",
		[qr/^checkpoint: that of $size leaves has not their root; the fault is in leaves \d+ to @{[ $size - 1 ]}, records \d+ to $last$/] ],
);
foreach my $attack (@attacks)
{
	my ($what, $change, $faults, $more) = @$attack;
	export('attacked', $change);
	if ($more)
	{
		my (undef, $told) = verify(files('attacked'));
		like($told, qr/$faults->[0]/m, "found: $what");
		next;
	}
	finds(1, $faults, "found: $what", files('attacked'));
}

# What needs no leaves to be found.
export('attacked', "UPDATE LOG SET detail = 'Event 70' WHERE record_id = $x");
finds(1, [ map { qr/^checkpoint: that of \d+ leaves has not their root; the fault is in leaves $first to \d+/ } 1 .. 3 ], 'without leaves: altered before the second checkpoint',
	'--records=@attacked.records', '--checkpoints=@attacked.checkpoints', '--key=@key');
export('attacked', "DELETE FROM LOG l USING phi.audit_log t WHERE t.record_id = $last AND (l.record_id = $last OR l.xact > t.xact)");
finds(1, [ qr/^cut off: a checkpoint has $size leaves, the log only @{[ $size - 1 ]}$/ ], 'without leaves: the tail', '--records=@attacked.records', '--checkpoints=@attacked.checkpoints', '--key=@key');
export('attacked', "INSERT INTO LOG SELECT l.* FROM phi.audit_log l WHERE record_id = $last");
finds(1, [ qr/^doubled: record $last/ ], 'without leaves: doubled', '--records=@attacked.records', '--checkpoints=@attacked.checkpoints', '--key=@key');

# All of it rewritten, and signed by the server: only what was kept elsewhere tells.
my $rewrite = "UPDATE LOG SET detail = 'x' WHERE record_id = $x; DELETE FROM phi.audit_leaf; DELETE FROM phi.audit_node; DELETE FROM phi.audit_checkpoint;
	SELECT phi.rebuild_audit(); SELECT phi.advance_audit()";
export('attacked', $rewrite);
finds(0, [], 'who rewrites the log and its checkpoints leaves no trace in what he exports', files('attacked'));
finds(1, [ map { qr/^checkpoint: that of \d+ leaves has not their root; the fault is in leaves $first to \d+, records \d+ to \d+$/ } 1 .. 2 ], 'but the checkpoints that were kept tell', files('attacked', 'kept'));
export('attacked', 'DELETE FROM LOG; DELETE FROM phi.audit_leaf; DELETE FROM phi.audit_node; DELETE FROM phi.audit_checkpoint');
finds(1, [ map { qr/^cut off: a checkpoint has \d+ leaves, the log only 0$/ } 1 .. 3 ], 'also where nothing is left', files('attacked', 'kept'));
finds(1, [ map { qr/^checkpoint: note \d of ".*" is not signed by the key$/ } 1 .. 4 ], 'the key of another log', (files('whole'))[ 0 .. 2 ], "--key=$stranger");

# Records that were retired: a signed note of their leaves stands for them.
export('old', undef, "SELECT * FROM phi.audit_log l WHERE record_id IN (SELECT unnest(ids) FROM phi.audit_leaf WHERE first_leaf < 64)");
export('rest', undef, "SELECT * FROM phi.audit_log l WHERE record_id NOT IN (SELECT unnest(ids) FROM phi.audit_leaf WHERE first_leaf < 64)");
$out = finds(0, [], 'records of some leaves', '--part', files('old'));
like($out, qr/^note: @{[ $size - 64 ]} leaves have no record in what was given$/m, 'of which it tells how many there are');
my ($subtree) = $out =~ /^subtree root: (\S+)$/m;
isnt($subtree, $root, 'they have a root of their own');
export('attacked', 'UPDATE LOG SET detail = NULL, clinic = login WHERE record_id = (SELECT ids[1] FROM phi.audit_leaf WHERE first_leaf = 0)', 'SELECT * FROM phi.audit_log l WHERE record_id IN (SELECT unnest(ids) FROM phi.audit_leaf WHERE first_leaf < 64)');
finds(1, [qr/^altered: record \d+, leaf 0$/], 'one of them altered', '--part', files('attacked'));
$out = finds(0, [], 'roots only', '--roots', (files('old'))[ 0, 1 ], '--part');
like($out, qr/^subtree root: \Q$subtree\E\nnothing was verified$/m, 'are not called verified');
sub retirement
{
	my ($leaves, $its_root, $suffix) = @_;
	spew('retired', sql("SELECT phi.sign_audit_note(E'$origin" . ($suffix // '/retired') . "\\n{[0,$leaves)}\\n$its_root\\n')") . "\n");
	return;
}
finds(1, [ map { qr/^missing: record \d+, leaf $_$/ } 0 .. 63 ], 'records that are not there', files('rest'));
retirement(64, $subtree);
finds(0, [], 'unless they were retired', files('rest'), '--retired=@retired');
finds(0, [], 'when they are there all the same', files('whole'), '--retired=@retired');
finds(0, [], 'only a retirement of all has no records', '--records=@rest.records', '--records=@old.records', (files('whole'))[ 1 .. 3 ], '--retired=@retired');
retirement(64, $root);
finds(1, [ qr/^retirement: that of leaves \{\[0,64\)\} does not fit these leaves$/, map { qr/^missing: record \d+, leaf $_$/ } 0 .. 63 ], 'a retirement of other leaves', files('rest'), '--retired=@retired');
retirement(63, $subtree);
finds(1, [ qr/^retirement: that of leaves \{\[0,63\)\} does not fit/, (qr/^missing: /) x 64 ], 'or of fewer', files('rest'), '--retired=@retired');
retirement(999999999, $subtree);
finds(1, [ qr/^retirement: that of leaves \{\[0,999999999\)\} does not fit/, (qr/^missing: /) x 64 ], 'or of leaves that there are not', files('rest'), '--retired=@retired');
retirement(64, $subtree, '');
finds(1, [ qr/^retirement: note 1 of ".*" is no retirement of "\Q$origin\E"$/, (qr/^missing: /) x 64 ], 'or another text', files('rest'), '--retired=@retired');

# The example of docs/audit-format.md: its bytes are its record's, its hash is theirs.
my $format = slurp_file('docs/audit-format.md');
my ($call) = $format =~ /^```sql\n(.*?)^```/ms;
my ($bytes) = $format =~ /^```hex\n(.*?)^```/ms;
my ($hash) = $format =~ /^```hash\n(\w+)\n/m;
$bytes =~ s/\s+//g;
is(sql($call), $hash, 'the leaf hash of the example');
is(sql("SELECT encode(sha256('\\x00$bytes'), 'hex')"), $hash, 'is the hash of its bytes');
my ($row) = $call =~ /(ROW\(.*::phi\.audit_log)/s;
$row =~ s/\s+/ /g;
$node->safe_psql('postgres', "\\copy (SELECT (r).* FROM (SELECT $row) x (r)) TO '$dir/example' (FORMAT binary)");
is(unpack('H*', slurp_file("$dir/example")), unpack('H*', "PGCOPY\n\xff\r\n\0") . '0' x 16 . '0013' . substr($bytes, 4) . 'ffff', 'which are those of COPY');

# What cannot be verified is not called verified.
foreach my $wrong ([], ['--records=@whole.records'], [ '--records=@whole.records', '--checkpoints=@whole.checkpoints' ], [ '--roots', '--key=@key', '--records=@whole.records' ],
	[ '--roots', files('whole') ], [ files('whole'), 'more' ], [ files('whole'), '--unknown' ], [ '--part', (files('whole'))[ 0, 2, 3 ] ], [ '--retired=@whole.checkpoints', '--records=@whole.records', '--checkpoints=@whole.checkpoints', '--key=@key' ])
{
	my ($status, $told, $messages) = verify(@$wrong);
	ok($status >> 8 == 2 && $told eq '' && $messages =~ /^Usage: /m, "usage: @$wrong");
}
spew('empty', '');
foreach my $wrong ([ '@none', '@whole.leaves', '@whole.checkpoints', '@key' ], [ '@whole.records', '@none', '@whole.checkpoints', '@key' ], [ '@whole.records', '@whole.leaves', '@none', '@key' ], [ '@whole.records', '@whole.leaves', '@whole.checkpoints', '@none' ],
	[ '@empty', '@whole.leaves', '@whole.checkpoints', '@key' ], [ '@whole.records', '@empty', '@whole.checkpoints', '@key' ], [ '@whole.records', '@whole.leaves', '@empty', '@key' ],
	[ '@whole.leaves', '@whole.records', '@whole.checkpoints', '@key' ], [ '@whole.records', '@whole.leaves', '@whole.leaves', '@key' ], [ '@whole.records', '@whole.leaves', '@whole.checkpoints', '@whole.leaves' ])
{
	my ($status, undef, $messages) = verify("--records=$wrong->[0]", "--leaves=$wrong->[1]", "--checkpoints=$wrong->[2]", "--key=$wrong->[3]");
	ok($status >> 8 == 2 && $messages =~ /^phi-verify: /, "not to be read: @$wrong") or diag($messages);
}
my ($status, $help) = verify('--help');
ok($status == 0 && $help =~ /^Usage: phi-verify/m, 'help');

# Files that were damaged, at random: never verified, never a crash.
srand(5);
my %whole = map { $_ => slurp_file("$dir/whole.$_") } qw(records leaves checkpoints);
my ($crashes, $verified) = (0, 0);
foreach my $round (1 .. 300)
{
	my $which = (qw(records records leaves checkpoints))[ $round % 4 ];
	my $bytes = $whole{$which};
	my $at = 19 + int rand(length($bytes) - 19);
	my $kind = int rand 4;
	if ($kind == 0) { substr($bytes, $at) = ''; }
	elsif ($kind == 1) { substr($bytes, $at, 1) = chr(ord(substr $bytes, $at, 1) ^ 1 << rand 8); }
	elsif ($kind == 2) { substr($bytes, $at, 1 + int rand 40) = ''; }
	else { substr($bytes, $at, 0) = join '', map { chr rand 256 } 1 .. 1 + rand 8; }
	foreach my $name (keys %whole) { spew("damaged.$name", $name eq $which ? $bytes : $whole{$name}); }
	my ($code) = verify(files('damaged'));
	$crashes++ if ($code & 127) != 0 || $code >> 8 > 2;
	# Of leaves not all is signed; of records, those without a leaf are not; a
	# file of checkpoints may end with any of them.
	$verified++ if $code == 0 && $which eq 'records' && $at < length($bytes) - 600;
}
is($crashes, 0, 'damaged files crash nothing');
is($verified, 0, 'and damaged records are not verified');

done_testing();
