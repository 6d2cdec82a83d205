-- What the audit log records beyond rows: commands, rights, roles, settings,
-- and rows of the extension's own tables. What takes several sessions or
-- commits is in test/t/026_audit_events.pl.
\ir include/setup.psql

-- Runs statements and gives the records of them.
CREATE FUNCTION t.recorded(statements text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  mark bigint := (SELECT coalesce(max(record_id), 0) FROM phi.audit_log);
BEGIN
  EXECUTE statements;
  RETURN (SELECT string_agg(concat_ws(' | ', operation, coalesce(relation, '-'), nullif(detail, '')), E'\n' ORDER BY record_id)
          FROM phi.audit_log WHERE record_id > mark);
END $$;

CREATE ROLE t_owner; CREATE ROLE t_group; CREATE ROLE "t Role";
CREATE TABLE t.step (n int GENERATED ALWAYS AS IDENTITY, statements text, records text, description text);

-- Definitions. 'Hanako Xyzzy' stands for what must not get into the log.
INSERT INTO t.step (statements, records, description) VALUES
  ('CREATE TABLE t.plain (id int PRIMARY KEY, name text DEFAULT ''Hanako Xyzzy'')', NULL, 'a plain table is nobody''s business'),
  ('ALTER TABLE t.plain ADD extra text; CREATE INDEX ON t.plain (name); ALTER TABLE t.plain ENABLE ROW LEVEL SECURITY; DROP TABLE t.plain', NULL, 'nor what is done to it'),
  ('CREATE TEMP TABLE temporary (name enctext)', NULL, 'nor is a temporary one'),
  ('CREATE TABLE t.patient (id serial PRIMARY KEY, name enctext(identity), note text DEFAULT ''Hanako Xyzzy'' CHECK (note <> ''Hanako Xyzzy''))',
   'CREATE TABLE | t.patient | columns id, name, note', 'a table with an encrypted column'),
  ('CREATE TABLE t.late (id int)', NULL, 'a table without'),
  ('ALTER TABLE t.late ADD name enctext(identity)', 'ALTER TABLE | t.late | add column name', 'counts from its first encrypted column on'),
  ('ALTER TABLE t.late DROP name', 'ALTER TABLE | t.late | drop column name', 'up to the last'),
  ('ALTER TABLE t.late ADD x int', NULL, 'but no longer'),
  ('CREATE TABLE t.taken AS SELECT * FROM t.patient WHERE note = ''Hanako Xyzzy''', 'CREATE TABLE AS | t.taken | from a query', 'CREATE TABLE AS'),
  ('CREATE MATERIALIZED VIEW t.kept AS SELECT name FROM t.patient', 'CREATE MATERIALIZED VIEW | t.kept | from a query', 'a materialized view'),
  ('REFRESH MATERIALIZED VIEW t.kept', NULL, 'whose refreshment is none'),
  ('DROP MATERIALIZED VIEW t.kept; DROP TABLE t.taken', E'DROP MATERIALIZED VIEW | t.kept | drop t.kept\nDROP TABLE | t.taken | drop t.taken', 'DROP'),
  ('CREATE INDEX found ON t.patient USING hash (name)', 'CREATE INDEX | t.patient | index found', 'CREATE INDEX'),
  ('ALTER INDEX t.found RENAME TO other', 'ALTER INDEX | t.patient | rename to other', 'ALTER INDEX'),
  ('DROP INDEX t.other', 'DROP INDEX | t.patient | drop t.other', 'DROP INDEX'),
  ('REINDEX TABLE t.patient; ANALYZE t.patient', NULL, 'upkeep defines nothing'),
  ('ALTER TABLE t.patient ALTER note SET DEFAULT ''Hanako Xyzzy'', ADD CONSTRAINT fits CHECK (note <> ''Hanako Xyzzy'') NOT VALID, ALTER id SET STATISTICS 10',
   'ALTER TABLE | t.patient | default of column note, add constraint fits, set statistics of column id', 'several actions, no expression'),
  ('ALTER TABLE t.patient ALTER note TYPE varchar(90) USING ''Hanako Xyzzy''', 'ALTER TABLE | t.patient | alter type of column note', 'a column''s type'),
  ('ALTER TABLE t.patient RENAME note TO "the note"', 'ALTER TABLE | t.patient | rename note to "the note"', 'a column''s name, quoted'),
  ('ALTER TABLE t.patient ENABLE ROW LEVEL SECURITY', 'ALTER TABLE | t.patient | enable row level security', 'row security on'),
  ('ALTER TABLE t.patient DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE | t.patient | disable row level security, no force row level security', 'and off'),
  ('CREATE POLICY mine ON t.patient USING ("the note" <> ''Hanako Xyzzy'')', 'CREATE POLICY | t.patient | policy mine', 'a policy without its condition'),
  ('ALTER POLICY mine ON t.patient USING (true)', 'ALTER POLICY | t.patient | policy mine', 'ALTER POLICY'),
  ('DROP POLICY mine ON t.patient', 'DROP POLICY | t.patient | drop mine on t.patient', 'DROP POLICY'),
  ('CREATE RULE silent AS ON DELETE TO t.patient DO INSTEAD NOTHING; DROP RULE silent ON t.patient', E'CREATE RULE | t.patient | rule silent\nDROP RULE | t.patient | drop silent on t.patient', 'rules'),
  ('CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END''', NULL, 'a function of others'),
  ('CREATE TRIGGER mine AFTER INSERT ON t.patient EXECUTE FUNCTION t.nothing(''Hanako Xyzzy'')', 'CREATE TRIGGER | t.patient | trigger mine calling t.nothing', 'a trigger without its arguments'),
  ('ALTER TABLE t.patient DISABLE TRIGGER mine', 'ALTER TABLE | t.patient | disable trigger mine', 'is disabled'),
  ('DROP FUNCTION t.nothing() CASCADE', 'DROP FUNCTION | t.patient | drop t.nothing cascade', 'is dropped by a cascade'),
  ('ALTER TABLE t.patient OWNER TO t_owner', 'ALTER TABLE | t.patient | owner to t_owner', 'a new owner'),
  ('REASSIGN OWNED BY t_owner TO "t Role"', E'REASSIGN OWNED | t.patient | owner to "t Role"\nREASSIGN OWNED | - | t_owner to "t Role"', 'REASSIGN OWNED: the table, and the command'),
  ('CREATE TABLE t.parts (id int, name enctext) PARTITION BY RANGE (id); CREATE TABLE t.part PARTITION OF t.parts FOR VALUES FROM (1234554321) TO (1234554322)',
   E'CREATE TABLE | t.parts | columns id, name\nCREATE TABLE | t.part | partition of t.parts\nCREATE TABLE | t.parts | partition of t.parts', 'partitions without their bounds'),
  ('ALTER TABLE t.parts DETACH PARTITION t.part', E'ALTER TABLE | t.part | detach partition t.part\nALTER TABLE | t.parts | detach partition t.part', 'DETACH is told of both'),
  ('DROP OWNED BY "t Role"', E'DROP OWNED | t.patient | owned by "t Role"\nDROP OWNED | - | "t Role"', 'DROP OWNED'),
  ('CREATE SCHEMA s; CREATE TABLE s.a (v enctext); CREATE TABLE s.b (v int); DROP SCHEMA s CASCADE', E'CREATE TABLE | s.a | columns v\nDROP SCHEMA | s.a | drop s cascade', 'a cascade over a schema'),
  ('DO $x$ BEGIN CREATE TABLE t.within (v enctext); DROP TABLE t.within; END $x$', E'CREATE TABLE | t.within | columns v\nDROP TABLE | t.within | drop t.within', 'within DO'),
  ('CREATE TABLE t.isolated (id int, clinic text)', NULL, 'a plain table'),
  ('SELECT phi.isolate(''t.isolated'', ''clinic'')', 'CREATE POLICY | t.isolated | policy phi_isolation', 'counts when it is isolated'),
  ('ALTER TABLE t.isolated NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE | t.isolated | no force row level security', 'and as long as it is'),
  ('DO $x$ BEGIN ALTER TABLE t.isolated ADD z int; RAISE EXCEPTION USING ERRCODE = ''P0001''; EXCEPTION WHEN raise_exception THEN END $x$', NULL, 'what is rolled back leaves nothing'),
  ('DO $x$ BEGIN BEGIN ALTER TABLE t.isolated ADD z int; END; BEGIN RAISE EXCEPTION USING ERRCODE = ''P0001''; EXCEPTION WHEN raise_exception THEN END; END $x$', 'ALTER TABLE | t.isolated | add column z', 'what is not stays');

-- The extension and what belongs to it.
INSERT INTO t.step (statements, records, description) VALUES
  ('ALTER TABLE phi.audit_log DISABLE TRIGGER refuse_change', 'ALTER TABLE | phi.audit_log | disable trigger refuse_change', 'the audit''s own trigger is disabled'),
  ('ALTER TABLE phi.audit_log ENABLE ALWAYS TRIGGER refuse_change', 'ALTER TABLE | phi.audit_log | enable always trigger refuse_change', 'and enabled'),
  ('DROP TRIGGER audit_event ON phi.clinic_grant', 'DROP TRIGGER | phi.clinic_grant | drop audit_event on phi.clinic_grant', 'and dropped'),
  ('CREATE TRIGGER audit_event AFTER INSERT OR UPDATE OR DELETE ON phi.clinic_grant FOR EACH ROW EXECUTE FUNCTION phi.audit_event()', 'CREATE TRIGGER | phi.clinic_grant | trigger audit_event calling phi.audit_event', 'and made'),
  ('CREATE TABLE phi.audit_log_2001_01 PARTITION OF phi.audit_log FOR VALUES FROM (''2001-01-01'') TO (''2001-02-01'')', E'CREATE TABLE | phi.audit_log_2001_01 | partition of phi.audit_log\nCREATE TABLE | phi.audit_log | partition of phi.audit_log', 'a month of the log'),
  ('ALTER TABLE phi.audit_log DETACH PARTITION phi.audit_log_2001_01', E'ALTER TABLE | phi.audit_log_2001_01 | detach partition phi.audit_log_2001_01\nALTER TABLE | phi.audit_log | detach partition phi.audit_log_2001_01', 'is detached'),
  ('DROP TABLE phi.audit_log_2001_01', 'DROP TABLE | phi.audit_log_2001_01 | drop phi.audit_log_2001_01', 'and dropped'),
  ('ALTER FUNCTION phi.login_name() COST 5', 'ALTER FUNCTION | - | function phi.login_name(): cost', 'ALTER FUNCTION'),
  ('CREATE FUNCTION phi.mine(text) RETURNS int LANGUAGE sql AS $x$ SELECT length(''Hanako Xyzzy'') $x$', 'CREATE FUNCTION | - | function phi.mine(pg_catalog.text)', 'a function in schema phi, without its body'),
  ('CREATE OR REPLACE FUNCTION phi.mine(text) RETURNS int LANGUAGE sql AS $x$ SELECT 1 $x$', 'CREATE FUNCTION | - | function phi.mine(pg_catalog.text): created or replaced', 'is replaced'),
  ('DROP FUNCTION phi.mine(text)', 'DROP FUNCTION | - | function phi.mine(pg_catalog.text): drop phi.mine', 'and dropped'),
  ('CREATE TYPE phi.mine AS ENUM (''Hanako Xyzzy''); DROP TYPE phi.mine', E'CREATE TYPE | - | type phi.mine\nDROP TYPE | - | type phi.mine: drop phi.mine', 'a type'),
  ('ALTER EXTENSION pg_phi DROP TABLE phi.key_use', 'ALTER EXTENSION | - | extension pg_phi: drop phi.key_use', 'a table is taken from the extension'),
  ('ALTER EXTENSION pg_phi ADD TABLE phi.key_use', 'ALTER EXTENSION | - | extension pg_phi: add phi.key_use', 'and given to it'),
  ('UPDATE pg_catalog.pg_proc SET procost = procost WHERE oid = ''phi.login_name''::regproc', 'UPDATE | pg_catalog.pg_proc | system catalogue', 'who writes catalogues himself'),
  ('EXPLAIN UPDATE pg_catalog.pg_proc SET procost = procost', NULL, 'but not who only wonders');

-- Rights and roles.
INSERT INTO t.step (statements, records, description) VALUES
  ('CREATE ROLE t_new LOGIN SUPERUSER NOINHERIT CONNECTION LIMIT 3 VALID UNTIL ''2030-01-01'' PASSWORD ''open sesame'' IN ROLE t_group', 'CREATE ROLE | - | t_new: LOGIN, SUPERUSER, NOINHERIT, CONNECTION LIMIT 3, VALID UNTIL 2030-01-01, PASSWORD, IN ROLE t_group', 'CREATE ROLE without the password'),
  ('ALTER ROLE t_new NOSUPERUSER PASSWORD ''open sesame''', 'ALTER ROLE | - | t_new: NOSUPERUSER, PASSWORD', 'ALTER ROLE'),
  ('ALTER ROLE t_new PASSWORD NULL', 'ALTER ROLE | - | t_new: PASSWORD', 'nor whether there is one'),
  ('ALTER ROLE t_new SET phi.clinic = ''a''', 'ALTER ROLE | - | t_new: set phi.clinic to "a"', 'a setting of ours'),
  ('ALTER ROLE t_new SET application_name = ''Hanako Xyzzy''', 'ALTER ROLE | - | t_new: set application_name', 'one of others'),
  ('ALTER ROLE t_new IN DATABASE pgtap RESET ALL', 'ALTER ROLE | - | t_new in database pgtap: reset all', 'RESET'),
  ('ALTER DATABASE pgtap SET phi.hidden_value = ''null''', 'ALTER DATABASE | - | pgtap: set phi.hidden_value to "null"', 'ALTER DATABASE ... SET'),
  ('ALTER GROUP t_group DROP USER t_new', 'ALTER ROLE | - | t_group: without ROLE t_new', 'a group loses a member'),
  ('GRANT t_group TO t_new, t_owner WITH ADMIN OPTION', 'GRANT ROLE | - | t_group TO t_new, t_owner WITH ADMIN OPTION', 'GRANT of a role'),
  ('REVOKE ADMIN OPTION FOR t_group FROM t_new', 'REVOKE ROLE | - | ADMIN OPTION FOR t_group FROM t_new', 'REVOKE of its option'),
  ('REVOKE t_group FROM t_new, t_owner', 'REVOKE ROLE | - | t_group FROM t_new, t_owner', 'REVOKE of it'),
  ('ALTER ROLE t_new RENAME TO t_newer', 'ALTER ROLE | - | t_new to t_newer', 'a new name'),
  ('GRANT SELECT, UPDATE (id, clinic) ON t.isolated TO t_newer WITH GRANT OPTION', 'GRANT | t.isolated | SELECT, UPDATE (id, clinic) ON TABLE t.isolated TO t_newer WITH GRANT OPTION', 'GRANT on a table'),
  ('REVOKE GRANT OPTION FOR SELECT ON t.isolated FROM t_newer CASCADE', 'REVOKE | t.isolated | GRANT OPTION FOR SELECT ON TABLE t.isolated FROM t_newer CASCADE', 'REVOKE'),
  ('GRANT ALL ON t.isolated, t.late TO PUBLIC, "t Role"', 'GRANT | - | ALL ON TABLE t.isolated, t.late TO PUBLIC, "t Role"', 'of several, to everybody'),
  ('GRANT EXECUTE ON FUNCTION t.run(text, text, text[]) TO t_newer', 'GRANT | - | EXECUTE ON FUNCTION t.run(pg_catalog.text,pg_catalog.text,pg_catalog.text[]) TO t_newer', 'on a function'),
  ('GRANT USAGE ON SCHEMA t TO t_newer; GRANT CONNECT ON DATABASE pgtap TO t_newer', E'GRANT | - | USAGE ON SCHEMA t TO t_newer\nGRANT | - | CONNECT ON DATABASE pgtap TO t_newer', 'on a schema and a database'),
  ('GRANT SET ON PARAMETER phi.suite TO t_newer', 'GRANT | - | SET ON PARAMETER "phi.suite" TO t_newer', 'on a setting'),
  ('GRANT SELECT ON ALL TABLES IN SCHEMA t TO t_newer', 'GRANT | - | SELECT ON ALL TABLES IN SCHEMA t TO t_newer', 'on all tables'),
  ('ALTER DEFAULT PRIVILEGES FOR ROLE t_owner IN SCHEMA t GRANT SELECT ON TABLES TO t_newer', 'ALTER DEFAULT PRIVILEGES | - | FOR ROLE t_owner: IN SCHEMA t: SELECT ON TABLES TO t_newer', 'on those to come'),
  ('DROP OWNED BY t_newer; DROP ROLE t_newer', E'DROP OWNED | - | t_newer\nDROP ROLE | - | t_newer', 'DROP ROLE');

-- Who acts as whom, and settings of superusers.
INSERT INTO t.step (statements, records, description) VALUES
  ('SET ROLE t_group; RESET ROLE', format(E'SET ROLE | - | from %I to t_group\nSET ROLE | - | from t_group to %1$I', session_user), 'SET ROLE'),
  ('SELECT set_config(''role'', ''t_group'', false); SET ROLE NONE', format(E'SET ROLE | - | from %I to t_group\nSET ROLE | - | from t_group to %1$I', session_user), 'by set_config()'),
  ('SET SESSION AUTHORIZATION t_owner; RESET SESSION AUTHORIZATION', format(E'SET SESSION AUTHORIZATION | - | from %I to t_owner\nSET SESSION AUTHORIZATION | - | from t_owner to %1$I', session_user), 'SET SESSION AUTHORIZATION'),
  ('SET SESSION AUTHORIZATION t_owner; SET ROLE t_owner; RESET SESSION AUTHORIZATION', format(E'SET SESSION AUTHORIZATION | - | from %I to t_owner\nSET SESSION AUTHORIZATION | - | from t_owner to %1$I', session_user), 'no role but one''s own'),
  ('DO $x$ BEGIN SET ROLE t_group; RAISE EXCEPTION USING ERRCODE = ''P0001''; EXCEPTION WHEN raise_exception THEN END $x$', NULL, 'an error gives the role back, and takes the record'),
  ('SELECT 1', NULL, 'which the next command does not mistake for another'),
  ('DO $x$ BEGIN BEGIN SET ROLE t_group; EXCEPTION WHEN raise_exception THEN END; BEGIN RAISE EXCEPTION USING ERRCODE = ''P0001''; EXCEPTION WHEN raise_exception THEN END; RESET ROLE; END $x$',
   format(E'SET ROLE | - | from %I to t_group\nSET ROLE | - | from t_group to %1$I', session_user), 'unless it was that of another subtransaction'),
  ('SET phi.suite = ''xchacha20-poly1305''; SELECT set_config(''phi.suite'', ''xaes-256-gcm'', false)', E'SETTING | - | phi.suite: xaes-256-gcm -> xchacha20-poly1305\nSETTING | - | phi.suite: xchacha20-poly1305 -> xaes-256-gcm', 'a setting of superusers'),
  ('SET phi.hidden_value = ''null''; RESET phi.hidden_value; SET work_mem = ''5MB''', NULL, 'those of applications are not recorded'),
  ('SET LOCAL session_replication_role = replica; SET LOCAL allow_system_table_mods = on; SET LOCAL session_replication_role = origin; SET LOCAL allow_system_table_mods = off',
   E'SETTING | - | session_replication_role: origin -> replica\nSETTING | - | allow_system_table_mods: off -> on\nSETTING | - | session_replication_role: replica -> origin\nSETTING | - | allow_system_table_mods: on -> off', 'what turns triggers and guards off');

SELECT is(t.recorded(statements), records, description) FROM t.step ORDER BY n;

SELECT is(t.recorded(format('CREATE TABLE t.wide (v enctext, %s)', string_agg('c' || n || ' int', ', '))) ~ '^CREATE TABLE \| t.wide \| columns v, c1, c2,.* and \d\d+ more$', true, 'a long list is cut') FROM generate_series(1, 500) n;

-- Who: login, session user and current user are three.
CREATE FUNCTION t.last() RETURNS SETOF phi.audit_log LANGUAGE sql STABLE AS 'SELECT * FROM phi.audit_log ORDER BY record_id DESC LIMIT 1';
SET LOCAL SESSION AUTHORIZATION t_owner;
RESET SESSION AUTHORIZATION;
SELECT is(format('%s %s %s', login = session_user, session_role, acting_role), format('t %s %1$s', session_user), 'back as oneself') FROM t.last();
GRANT t_group TO t_owner;
CREATE TABLE t.who (login text, session_role text, acting_role text);
GRANT ALL ON t.who TO PUBLIC;
SET LOCAL SESSION AUTHORIZATION t_owner;
SET LOCAL ROLE t_group;
RESET SESSION AUTHORIZATION;
RESET ROLE;
SELECT is(format('%s|%s|%s|%s', login, session_role, acting_role, detail), format('%s|t_owner|t_group|from t_owner to t_group', session_user), 'a group is told with who logged in') FROM phi.audit_log
WHERE operation = 'SET ROLE' AND acting_role = 't_group' ORDER BY record_id DESC LIMIT 1;

-- The extension's own tables.
SELECT max(record_id) AS mark FROM phi.audit_log \gset
SELECT phi.grant_clinic('t_nobody', 'a', '{identity}') \g /dev/null
SELECT is(string_agg(format('%s %s %s', operation, relation, detail::jsonb - '{granted_at,at,event_id,actor}'::text[]), E'\n' ORDER BY record_id),
  E'INSERT phi.clinic_grant {"classes": 3, "grantee": "t_nobody", "clinic_id": ' || :clinic_a || E'}\nINSERT phi.grant_event {"self": false, "action": "grant", "clinic": "a", "classes": ["general", "identity"], "grantee": "t_nobody"}', 'a grant, and its event')
FROM phi.audit_log WHERE record_id > :mark;
SELECT is((SELECT row_key FROM phi.audit_log WHERE record_id > :mark AND relation = 'phi.clinic_grant'), ARRAY[:'clinic_a', 't_nobody'], 'with its key');
SELECT is(t.recorded($$UPDATE phi.clinic_grant SET classes = 31 WHERE grantee = 't_nobody'::regrole$$) ~ '^UPDATE \| phi.clinic_grant \| \{.*"classes":31', true, 'who writes a grant past the functions');
SELECT is(columns, '{classes}', 'and which columns') FROM t.last();
SELECT is(t.recorded($$UPDATE phi.clinic_grant SET classes = classes WHERE grantee = 't_nobody'::regrole$$), NULL, 'no change is none');
SELECT is(t.recorded($$SELECT phi.revoke_clinic('t_nobody', 'a')$$) ~ '^DELETE \| phi.clinic_grant .*\nINSERT \| phi.grant_event .*"action":"revoke"', true, 'a revocation');
SELECT is(t.recorded($$SELECT phi.rotate_key('a', 'clinical')$$) ~ 'UPDATE \| phi.data_key \| .*"state":"retired".*INSERT \| phi.key_event ', true, 'a key that is rotated');
SELECT is(count(*), 0::bigint, 'no wrapped key is in the log') FROM phi.audit_log, phi.data_key k WHERE strpos(detail, encode(k.wrapped, 'hex')) > 0 OR detail ~ 'wrapped';
SELECT is(t.recorded($$SELECT phi.create_clinic('c', 'Clinic C')$$) ~ 'INSERT \| phi.clinic \| .*"name":"Clinic C"', true, 'a clinic');
SELECT is(t.recorded($$INSERT INTO phi.rekey_job (clinic_id) VALUES (1)$$) ~ '^INSERT \| phi.rekey_job ', true, 'a job');
SELECT is(t.recorded($$UPDATE phi.rekey_job SET values_done = 5, pass = 1, error = 'Hanako Xyzzy'$$), NULL, 'its progress is not recorded');
SELECT is(t.recorded($$UPDATE phi.rekey_job SET state = 'paused', error = 'Hanako Xyzzy'$$) ~ '^UPDATE \| phi.rekey_job \| .*"state":"paused"', true, 'its state is');
SELECT is(t.recorded($$UPDATE phi.audit_state SET horizon = horizon, size = size$$), NULL, 'the worker''s notes are not recorded');
SAVEPOINT closed;
SELECT is(t.recorded($$UPDATE phi.audit_state SET system = 'none'; SET ROLE t_group; RESET ROLE$$) ~ '^UPDATE \| phi.audit_state \| [^\n]*"system":"none"[^\n]*$', true, 'who closes the log, as the last record');
ROLLBACK TO closed;
SELECT is(t.recorded($$DELETE FROM phi.audit_state$$) ~ '^DELETE \| phi.audit_state \|', true, 'who removes its state');
ROLLBACK TO closed;
SELECT is(t.recorded($$TRUNCATE phi.audit_state$$), 'TRUNCATE | phi.audit_state', 'in whatever way');
ROLLBACK TO closed;
SELECT is(t.recorded('TRUNCATE phi.key_event'), 'TRUNCATE | phi.key_event', 'TRUNCATE');
SELECT is(string_agg(c.relname, ' ' ORDER BY c.relname), 'audit_retired audit_state clinic clinic_grant compromise_report data_key destruction_certificate grant_event key_event master_key_event protect_job rekey_job request seal_event', 'tables whose rows are recorded, in whatever role of replication')
FROM pg_class c WHERE c.relnamespace = 'phi'::regnamespace AND c.relname <> 'clinic_grant' AND (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgfoid = 'phi.audit_event'::regproc AND g.tgenabled = 'A') = 2
OR c.oid = 'phi.clinic_grant'::regclass;

-- Ways to be rid of it.
SELECT throws_ok(statement, '55000', 'the audit log cannot be renamed, moved, given other columns or taken from its extension', statement) FROM unnest(ARRAY[
  'ALTER TABLE phi.audit_log RENAME TO mine', 'ALTER SEQUENCE phi.audit_record_id RENAME TO mine', 'ALTER EXTENSION pg_phi DROP TABLE phi.audit_log',
  'ALTER EXTENSION pg_phi DROP SEQUENCE phi.audit_record_id', 'ALTER TABLE phi.audit_log SET SCHEMA t', 'ALTER TABLE phi.audit_state RENAME TO mine', 'ALTER SCHEMA phi RENAME TO mine']) statement;
SELECT is(t.run(role, '', statement), 'ERROR ' || state, format('%s: %s', role, statement)) FROM unnest(ARRAY['t_nobody', 't_app_a']) role, (VALUES
  ('SET session_replication_role = replica', '42501'), ('SET allow_system_table_mods = on', '42501'), ('SET phi.suite = 1', '42501'),
  ('ALTER TABLE phi.clinic_grant DISABLE TRIGGER audit_event', '42501'), ('DROP TRIGGER audit_event ON phi.clinic_grant', '42501'), ('ALTER TABLE phi.audit_log DISABLE TRIGGER ALL', '42501'),
  ('DROP EXTENSION pg_phi CASCADE', '42501'), ('ALTER EXTENSION pg_phi DROP TABLE phi.key_use', '42501'), ('DROP FUNCTION phi.audit_event() CASCADE', '42501'), ('INSERT INTO phi.audit_log DEFAULT VALUES', '42501'),
  ('UPDATE pg_catalog.pg_trigger SET tgenabled = ''D''', '42501')) v(statement, state);
SELECT is(count(*), 0::bigint, 'no literal, default, password or body is in any record') FROM phi.audit_log a WHERE a::text ~ 'Hanako|Xyzzy|1234554321|sesame';
SELECT throws_ok('SELECT phi.audit_event()', '39P01', NULL, 'phi.audit_event() is for triggers');

SELECT * FROM finish();
ROLLBACK;
