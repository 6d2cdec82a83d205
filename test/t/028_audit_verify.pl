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

my ($out, $err);
my $run = IPC::Run::run([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-f', 'test/t/028_audit_verify.sql' ], '<', \undef, '>', \$out, '2>', \$err);
ok($run, 'the script ran to its end') or diag($err);
foreach my $line (split /\n/, $out)
{
	diag($line) if $line =~ /^#/;
	ok($1 eq 'ok', $2) if $line =~ /^(ok|not ok) \d+ - (.*)/;
}

done_testing();
