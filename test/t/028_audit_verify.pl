# phi.verify_audit() against a superuser who edits: 028_audit_verify.sql, in psql.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use PhiTest;

# What the worker does is done by the script, when it wants it.
my $node = new_server('verify', conf => "phi.checkpoint_interval = '1h'");
set_up_clinics($node);
log_begun($node);

my ($out, $err);
my $run = IPC::Run::run([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', 'test/t/028_audit_verify.sql' ], '<', \undef, '>', \$out, '2>', \$err);
ok($run, 'the script ran to its end') or diag($err);
foreach my $line (split /\n/, $out)
{
	diag($line) if $line =~ /^#/;
	ok($1 eq 'ok', $2) if $line =~ /^(ok|not ok) \d+ - (.*)/;
}

# A dump goes on elsewhere, where the numbers of transactions are lower, and pass those of its records.
$node->safe_psql('postgres', join ';', 'CREATE TABLE visit (id int PRIMARY KEY)', q{SELECT phi.audit('visit')}, 'INSERT INTO visit VALUES (1)');
$node->safe_psql('postgres', 'SELECT pg_current_xact_id();' x 300);
$node->safe_psql('postgres', 'INSERT INTO visit VALUES (2)');
$node->safe_psql('postgres', 'SELECT phi.advance_audit()');
$node->safe_psql('postgres', 'INSERT INTO visit VALUES (3)');
my $last = $node->safe_psql('postgres', 'SELECT max(xact) FROM phi.audit_log');
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
my $other = new_server('elsewhere', keys => key_directory($node), conf => "phi.checkpoint_interval = '1h'");
$other->safe_psql('postgres', join ';', map { "CREATE ROLE $_ LOGIN" } qw(app_a app_b nurse_a custodian nobody t_auditor t_writer));
$other->safe_psql('postgres', 'CREATE DATABASE moved');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('moved'), '-f', $dump ], 'and a restore');
cmp_ok($other->safe_psql('moved', 'SELECT pg_current_xact_id()'), '<', $last, 'into a server that is younger');
refused($other, undef, 'INSERT INTO visit VALUES (4)', '55000', qr/not open.*HINT.*phi.resume_audit/s, 'nothing is changed before the log goes on', database => 'moved');
$other->safe_psql('moved', 'SELECT phi.resume_audit()');
log_begun($other, 'moved');
$other->safe_psql('moved', 'INSERT INTO visit VALUES (4)');
$other->safe_psql('moved', 'SELECT pg_current_xact_id();' x 400);
$other->safe_psql('moved', 'INSERT INTO visit VALUES (5)');
$other->safe_psql('moved', 'SELECT phi.advance_audit()');
cmp_ok($other->safe_psql('moved', 'SELECT horizon FROM phi.audit_state'), '>', $last, 'which comes by the numbers of before');
is($other->safe_psql('moved', q{SELECT count(*) = count(DISTINCT id) AND count(*) = (SELECT count(*) FROM phi.audit_log) FROM phi.audit_leaf, unnest(ids) id}),
	't', 'every record has one leaf');
is($other->safe_psql('moved', 'SELECT * FROM phi.verify_audit()'), '', 'and the log verifies');
is($other->safe_psql('moved', q{SELECT string_agg(row_key::text, ' ' ORDER BY record_id) FROM phi.audit_log WHERE relation = 'public.visit' AND operation = 'INSERT'}),
	'{1} {2} {3} {4} {5}', 'with what came along and what is new');

done_testing();
