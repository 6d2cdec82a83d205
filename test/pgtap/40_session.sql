-- The session's clinic: who may open one, and how long it stays open.
\ir include/setup.psql
CREATE TABLE t.note (clinic text, v enctext(clinical), w enctext(identity));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.note VALUES ('a', 'of a', 'name of a')$$), t.run('t_app_b', 'b', $$INSERT INTO t.note VALUES ('b', 'of b', 'name of b')$$) \g /dev/null
CREATE ROLE t_group NOLOGIN;
CREATE ROLE t_member LOGIN IN ROLE t_group;
CREATE ROLE t_keeper LOGIN IN ROLE phi_custodian;
CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
CREATE ROLE t_super SUPERUSER LOGIN;

-- Who may open which.
SELECT is(t.run(role, clinic, 'SELECT phi.current_clinic()'), wanted, format('%s opens "%s"', role, clinic))
FROM (VALUES ('t_app_a', 'a', 'a'), ('t_app_a', 'b', 'ERROR 42501'), ('t_app_a', 'c', 'ERROR 42704'), ('t_app_a', '', NULL), ('t_app_a', 'A', 'ERROR 42704'), ('t_app_a', ' a', 'ERROR 42704'),
             ('t_nurse', 'a', 'a'), ('t_nobody', 'a', 'ERROR 42501'), ('t_super', 'a', 'ERROR 42501'), ('t_keeper', 'a', 'ERROR 42501'), ('t_auditor', 'a', 'ERROR 42501')) v(role, clinic, wanted);
SELECT is(t.error_of('t_nobody', 'a', ''), '42501: permission denied for clinic "a" | Session user "t_nobody" was not granted this clinic. | Grant it with phi.grant_clinic(). Being superuser is no grant.', 'a refusal says why and what to do');
SELECT alike(t.error_of('t_app_a', 'c', ''), '42704: clinic "c" does not exist%phi.create_clinic()%', 'so does an unknown clinic');
SELECT is(t.run('t_app_a', 'a', 'SELECT (clinic, classes, "session_user", person, opened_by, expires)::text FROM phi.session()'), '(a,"{general,identity,insurance,clinical,sensitive}",t_app_a,,set,)', 'phi.session()');
SELECT is(t.run('t_nurse', 'a', 'SELECT classes::text FROM phi.session()'), '{general,identity}', 'the nurse''s classes, general always among them');
SELECT is(t.run('t_app_a', '', 'SELECT (clinic, classes, "session_user", opened_by)::text FROM phi.session()'), '(,,t_app_a,)', 'phi.session() of a sealed session');

-- A custodian or an auditor stays out even if granted; a superuser who is granted comes in, and it is on record.
SELECT phi.grant_clinic('t_keeper', 'a'), phi.grant_clinic('t_auditor', 'a'), phi.grant_clinic('t_super', 'b') \g /dev/null
SELECT is(t.run('t_keeper', 'a', 'SELECT 1'), 'ERROR 42501', 'a custodian who is granted a clinic');
SELECT is(t.run('t_auditor', 'a', 'SELECT 1'), 'ERROR 42501', 'an auditor who is granted a clinic');
SELECT is(t.run('t_super', 'b', 'SELECT phi.current_clinic()'), 'b', 'a superuser who is granted a clinic');
GRANT phi_auditor TO t_super;
SELECT is(t.run('t_super', 'b', 'SELECT phi.current_clinic()'), 'ERROR 42501', 'no longer once auditor');
REVOKE phi_auditor FROM t_super;
SELECT is(t.run('t_super', '', 'SELECT phi.grant_clinic(''t_super'', ''a'')'), '', 'a superuser grants himself a clinic');
SELECT is((action, clinic, grantee, classes, actor, self)::text, '(grant,a,t_super,"{general,identity,insurance,clinical,sensitive}",t_super,t)', 'which is on record as such')
FROM phi.grant_events ORDER BY event_id DESC LIMIT 1;
SELECT is(t.run('t_super', '', 'SELECT phi.grant_clinic(''t_nurse'', ''a'', ''{identity,insurance}'')', 'SELECT (classes, actor, self)::text FROM phi.grant_events ORDER BY event_id DESC LIMIT 1'), '("{general,identity,insurance}",t_super,f)', 'as are grants to others');
SELECT is(t.run('t_super', '', 'SELECT phi.revoke_clinic(''t_super'', ''a'')', 'SELECT (action, clinic, grantee, classes, self)::text FROM phi.grant_events ORDER BY event_id DESC LIMIT 1'), '(revoke,a,t_super,,t)', 'and revocations');
SELECT is((SELECT count(*) FROM phi.grant_events), 9::bigint, 'one row for each');
SELECT is(t.run('t_app_a', 'a', statement), 'ERROR 42501', 'an application may not: ' || statement)
FROM unnest(ARRAY['SELECT phi.grant_clinic(''t_app_a'', ''b'')', 'INSERT INTO phi.clinic_grant VALUES (2, ''t_app_a'', 31)', 'SELECT * FROM phi.grants', 'SELECT * FROM phi.grant_event', 'DELETE FROM phi.grant_event',
                  'SELECT * FROM phi.clinic', 'SELECT phi.create_clinic(''x'', ''x'')', 'SELECT phi.rotate_key(''a'', ''identity'')', 'SELECT * FROM phi.data_key', 'SELECT * FROM phi.keys']) statement;

-- Grants to a group, and several together.
SELECT phi.grant_clinic('t_group', 'a', '{identity}') \g /dev/null
SELECT is(t.run('t_member', 'a', 'SELECT classes::text FROM phi.session()'), '{general,identity}', 'a member of a group that was granted');
SELECT phi.grant_clinic('t_member', 'a', '{clinical}') \g /dev/null
SELECT is(t.run('t_member', 'a', 'SELECT classes::text FROM phi.session()'), '{general,identity,clinical}', 'adds up with his own grant');
SELECT phi.grant_clinic('t_member', 'a', '{insurance}') \g /dev/null
SELECT is(t.run('t_member', 'a', 'SELECT classes::text FROM phi.session()'), '{general,identity,insurance}', 'a new grant takes the place of the one before');

-- A change takes effect in an open session.
SELECT is(t.run('t_member', 'a', 'SELECT w::text FROM t.note WHERE clinic = ''a''', 'SET SESSION AUTHORIZATION DEFAULT', 'SELECT phi.revoke_clinic(''t_group'', ''a'')', 'SET SESSION AUTHORIZATION t_member', 'SELECT classes::text FROM phi.session()'), '{general,insurance}', 'the group''s grant revoked');
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.note WHERE clinic = ''a''', 'SET SESSION AUTHORIZATION DEFAULT', 'SELECT phi.revoke_clinic(''t_app_a'', ''a'')', 'SET SESSION AUTHORIZATION t_app_a', 'SELECT v::text FROM t.note WHERE clinic = ''a'''), 'ERROR 42501', 'revoked: sealed at the next statement');
SELECT is(t.run('t_app_a', 'a', 'SET SESSION AUTHORIZATION DEFAULT', 'SELECT phi.revoke_clinic(''t_app_a'', ''a'')', 'SET SESSION AUTHORIZATION t_app_a', 'SELECT coalesce(phi.current_clinic(), ''none'')'), 'none', 'phi.current_clinic() says so');
SELECT phi.grant_clinic('t_app_a', 'a') \g /dev/null
SELECT phi.grant_clinic('t_group', 'a') \g /dev/null
SELECT is(t.run('t_member', 'a', 'SET SESSION AUTHORIZATION DEFAULT', 'REVOKE t_group FROM t_member', 'SELECT phi.revoke_clinic(''t_member'', ''a'')', 'SET SESSION AUTHORIZATION t_member', 'SELECT coalesce(phi.current_clinic(), ''none'')'), 'none', 'membership taken away');

-- How long it stays.
SET SESSION AUTHORIZATION t_app_a;
SAVEPOINT s;
SET LOCAL phi.clinic = 'a';
SELECT phi.current_clinic() AS inside \gset
ROLLBACK TO s;
SELECT coalesce(phi.current_clinic(), 'none') AS after \gset
SET phi.clinic = 'a';
SAVEPOINT s;
SET phi.clinic = '';
SELECT phi.current_clinic() IS NULL AS emptied \gset
ROLLBACK TO s;
SELECT phi.current_clinic() AS back \gset
RESET phi.clinic;
SELECT phi.current_clinic() IS NULL AS reset \gset
SET phi.clinic = 'a';
SET ROLE NONE;
RESET ALL;
SELECT phi.current_clinic() IS NULL AS reset_all \gset
SET phi.clinic = 'a';
SET SESSION AUTHORIZATION t_app_b;
SELECT coalesce(phi.current_clinic(), 'none') AS other_user, (SELECT count(*) FROM t.note WHERE format('%s', v) NOT LIKE 'phi1:%') AS read \gset
RESET SESSION AUTHORIZATION;
SELECT coalesce(phi.current_clinic(), 'none') AS superuser, (SELECT count(*) FROM t.note WHERE format('%s', v) NOT LIKE 'phi1:%') AS super_read \gset
RESET phi.clinic;
SET LOCAL client_min_messages = warning; SET LOCAL jit = off; SET LOCAL phi.result_as_base = off;
SELECT is(:'inside' || ':' || :'after', 'a:none', 'a savepoint that is rolled back takes the clinic with it');
SELECT is(:'emptied' || ' ' || :'back', 't a', 'and gives it back');
SELECT is(:'reset' || :'reset_all', 'tt', 'RESET and RESET ALL seal');
SELECT is(:'other_user' || ' ' || :'read', 'none 0', 'SET SESSION AUTHORIZATION carries no clinic over to another user');
SELECT is(:'superuser' || ' ' || :'super_read', 'none 0', 'nor back to a superuser');

-- SET ROLE and SECURITY DEFINER change nothing: the session user counts.
GRANT t_app_b TO t_app_a; GRANT t_app_a TO t_nobody;
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL ROLE t_app_b', 'SELECT phi.current_clinic() || current_user || v::text FROM t.note WHERE clinic = ''a'''), 'at_app_bof a', 'SET ROLE changes nothing') ;
RESET ROLE;
REVOKE t_app_b FROM t_app_a; REVOKE t_app_a FROM t_nobody;
CREATE FUNCTION t.of_a() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT v::text FROM t.note WHERE clinic = 'a' $$;
ALTER FUNCTION t.of_a() OWNER TO t_app_a;
SELECT is(t.run('t_app_a', 'a', 'SELECT t.of_a()'), 'of a', 'a SECURITY DEFINER function for its owner');
SELECT is(t.run('t_nobody', '', 'SELECT t.of_a()'), 'ERROR 42501', 'lends nobody its owner''s clinic');
SELECT is(t.run('t_app_b', 'b', 'SELECT t.of_a()'), 'ERROR 42501', 'nor another clinic');
CREATE FUNCTION t.opens_a() RETURNS text LANGUAGE sql AS $$ SELECT v::text FROM t.note WHERE clinic = 'a' $$;
ALTER FUNCTION t.opens_a() OWNER TO t_app_a;
SET check_function_bodies = off;
ALTER FUNCTION t.opens_a() SET phi.clinic = 'a';
SELECT is(t.run('t_app_a', '', 'SELECT t.opens_a()'), 'of a', 'a function with SET phi.clinic opens it for one who may');
SELECT is(t.run('t_app_a', '', 'SELECT t.opens_a()', 'SELECT coalesce(phi.current_clinic(), ''none'')'), 'none', 'only as long as it runs');
SELECT is(t.run('t_nobody', '', 'SELECT t.opens_a()'), 'ERROR 42501', 'and for nobody else');
SELECT is(t.run('t_app_b', 'b', 'SELECT t.opens_a()'), 'ERROR 42501', 'whoever has another clinic open');

ALTER FUNCTION t.opens_a() SECURITY DEFINER;
SELECT is(t.run('t_app_a', '', 'SELECT t.opens_a()'), 'of a', 'also as SECURITY DEFINER: the session user counts');
SELECT is(t.run('t_nobody', '', 'SELECT t.opens_a()'), 'ERROR 42501', 'and lends nobody the clinic');

-- ALTER ROLE ... SET takes any value, as the login decides; files take none.
SELECT lives_ok('ALTER ROLE t_app_a SET phi.clinic = ''a''', 'ALTER ROLE ... SET phi.clinic');
SELECT lives_ok('ALTER ROLE t_nobody SET phi.clinic = ''a''', 'the login will refuse it');
SELECT throws_ok('ALTER SYSTEM SET phi.clinic = ''a''', NULL, NULL, 'not in a file');
SELECT throws_ok('SET phi.no_such_setting = 1', '42602', NULL, 'a setting that does not exist');

-- What is open is told to nobody else, and not to functions of other rooms.
SELECT is(t.run('t_app_a', 'a', 'SHOW phi.clinic'), 'a', 'SHOW phi.clinic');
SELECT is(t.run('t_app_a', 'a', 'SELECT set_config(''phi.clinic'', ''b'', true)'), 'ERROR 42501', 'set_config() authorises too');
SELECT is(t.run('t_app_a', 'a', 'UPDATE pg_settings SET setting = ''b'' WHERE name = ''phi.clinic'''), 'ERROR 42501', 'as does pg_settings');

SELECT * FROM finish();
ROLLBACK;
