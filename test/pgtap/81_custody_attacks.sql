-- What attackers of the custody of keys found, one part for each; what takes
-- several sessions, workers or commits is in test/t/016_custody_attacks.pl. What
-- is not repaired yet is marked with its number in the report on the attack.
\ir include/setup.psql

-- Old values that a session has in hand since before a rotation.
CREATE FUNCTION t.rotate() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT phi.rotate_key('a', 'identity') $$;
GRANT EXECUTE ON FUNCTION t.rotate() TO PUBLIC;
CREATE DOMAIN t.name AS enctext(identity);
CREATE TABLE t.held (id int, v enctext(identity), d t.name, a enctext(identity)[]);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.held VALUES (1, 'one', 'two', '{three}')$$) \g /dev/null
CREATE FUNCTION t.stored_under(relation regclass) RETURNS text LANGUAGE sql AS $$
  SELECT coalesce(string_agg(DISTINCT k.state, ', '), 'nothing') FROM phi.count_values() v JOIN phi.data_key k USING (key_id) WHERE v.relation = $1
$$;
CREATE TABLE t.path (name text, ddl text, statement text, finding text);
INSERT INTO t.path VALUES
  ('INSERT', 'CREATE TABLE t.dest (v enctext(identity))', 'INSERT INTO t.dest VALUES (v)', NULL),
  ('INSERT of an array', 'CREATE TABLE t.dest (v enctext(identity)[])', 'INSERT INTO t.dest VALUES (a)', NULL),
  ('INSERT of a value into a domain', 'CREATE TABLE t.dest (v t.name)', 'INSERT INTO t.dest VALUES (v)', NULL),
  ('MERGE', 'CREATE TABLE t.dest (v enctext(identity))', 'MERGE INTO t.dest USING (VALUES (1)) s ON false WHEN NOT MATCHED THEN INSERT VALUES (v)', NULL),
  ('a parameter', 'CREATE TABLE t.dest (v enctext(identity))', 'EXECUTE ''INSERT INTO t.dest VALUES ($1)'' USING v', NULL),
  ('INSERT of a domain', 'CREATE TABLE t.dest (v t.name)', 'INSERT INTO t.dest VALUES (d)', NULL),
  ('a trigger', 'CREATE TABLE t.dest (v enctext(identity)); CREATE TRIGGER b BEFORE INSERT ON t.dest FOR EACH ROW EXECUTE FUNCTION t.from_cursor()', 'INSERT INTO t.dest VALUES (''x'')', '5'),
  ('CREATE TABLE AS', NULL, 'EXECUTE ''CREATE TABLE t.dest AS SELECT $1 AS v'' USING v', NULL);
CREATE FUNCTION t.from_cursor() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'kept'; BEGIN FETCH FIRST FROM c INTO NEW.v; RETURN NEW; END $$;
CREATE FUNCTION t.try(ddl text, statement text) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE result text;
BEGIN
  IF ddl IS NOT NULL THEN EXECUTE ddl; GRANT ALL ON t.dest TO PUBLIC; END IF;
  result := t.run('t_app_a', 'a', format($q$DO $do$ DECLARE v enctext; d t.name; a enctext[]; c SCROLL CURSOR FOR SELECT h.v FROM t.held h;
    BEGIN c := 'kept'; OPEN c; SELECT h.v, h.d, h.a INTO v, d, a FROM t.held h; PERFORM t.rotate(); %s; END $do$ $q$, statement));
  RETURN coalesce(result, t.stored_under('t.dest'));
EXCEPTION WHEN OTHERS THEN RETURN SQLERRM;
END $f$;
DO $$
DECLARE p t.path; line text;
BEGIN
  CREATE TABLE t.result (n serial, name text, finding text, got text);
  FOR p IN SELECT * FROM t.path LOOP
    BEGIN
      line := t.try(p.ddl, p.statement);
      RAISE EXCEPTION USING ERRCODE = 'ZZZZZ';
    EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN INSERT INTO t.result (name, finding, got) VALUES (p.name, p.finding, line);
    END;
  END LOOP;
END $$;
SELECT is(got, 'active', 'a held value is stored under the active key: ' || name) FROM t.result WHERE finding IS NULL ORDER BY n;
SELECT * FROM todo_start('what a trigger puts into a row passes no cast: see Limits in the README');
SELECT is(got, 'active', 'a held value is stored under the active key: ' || name) FROM t.result WHERE finding IS NOT NULL ORDER BY n;
SELECT * FROM todo_end();

-- The same as text, which the application can have kept for years.
CREATE TABLE t.plain (v enctext(identity));
SELECT v::text AS envelope FROM (SELECT array_to_string(ARRAY[v], '') AS v FROM t.held) s \gset
SELECT t.rotate() \g /dev/null
SELECT is(coalesce(t.run('t_app_a', 'a', format('INSERT INTO t.plain VALUES (%L)', :'envelope')), t.stored_under('t.plain')), 'active', 'an old envelope as text, in the clinic''s session');
DELETE FROM t.plain;
SELECT is(coalesce(t.run('t_app_a', '', format('INSERT INTO t.plain VALUES (%L)', :'envelope')), t.stored_under('t.plain')), 'ERROR 42501', 'an old envelope as text, in a sealed session of an application');
DELETE FROM t.plain;
SELECT 'phi1:' || translate(encode(overlay(decode(substr(:'envelope', 6), 'base64') placing '\x00ffffff' from 4 for 4), 'base64'), E'\n', '') AS unknown \gset
SELECT matches(coalesce(t.run('t_app_a', '', format('INSERT INTO t.plain VALUES (%L)', :'unknown')), 'stored'), '^ERROR', 'an envelope of no known key, in a sealed session of an application');
DELETE FROM t.plain;
SELECT key_id AS old FROM phi.data_key WHERE class = 1 AND state = 'retired' AND clinic_id = :clinic_a ORDER BY 1 LIMIT 1 \gset
UPDATE phi.data_key SET state = 'destroyed', wrapped = NULL WHERE key_id = :old;
SELECT matches(coalesce(t.run('t_app_a', '', format('INSERT INTO t.plain VALUES (%L)', :'envelope')), t.stored_under('t.plain')), '^ERROR', 'an envelope under a destroyed key, in a sealed session of an application');
SELECT matches(t.run('t_app_a', 'a', format('INSERT INTO t.plain VALUES (%L)', :'envelope')), '^ERROR 55000', 'an envelope under a destroyed key, in the clinic''s session');

-- Reports are read by people who run what they say.
CREATE TABLE t.trap (id int, U&"c: 0\000A\000A- To finish, run:\000A    DROP TABLE patient; --" enctext(identity));
INSERT INTO phi.compromise_report (key_id, master, reason, workers, step, exposed)
SELECT :old, false, 'x', 1, 'report', jsonb_build_object('values', 1, 'places', jsonb_build_array(jsonb_build_object('relation', 't.trap', 'oid', 't.trap'::regclass::oid::bigint, 'column', a.attname, 'values', 1)))
FROM pg_attribute a WHERE a.attrelid = 't.trap'::regclass AND attnum = 2;
SELECT doesnt_match(phi.compromise_text(r), E'\n *DROP TABLE', 'no column writes lines of a report') FROM phi.compromise_report r WHERE r.key_id = :old;
SELECT matches(phi.compromise_text(r), 't.trap column "c: 0\?\?- To finish', 'its name is quoted, and shows that there is something') FROM phi.compromise_report r WHERE r.key_id = :old;
SELECT is(phi.plain(E'a\nb\r\tc\u0085d\u2028e\u202Ef\u000Bg h'), 'a?b??c?d?e?f?g h', 'what ends or turns a line is replaced');

-- What decides who reads is written by the extension's functions alone.
CREATE ROLE t_writer LOGIN;
GRANT pg_write_all_data TO t_writer;
SELECT is(t.run('t_writer', '', statement), 'ERROR 42501', 'pg_write_all_data is no way to ' || what)
FROM (VALUES ('a grant', format('INSERT INTO phi.clinic_grant (clinic_id, grantee, classes) VALUES (%s, ''t_writer'', 31)', :clinic_a)),
             ('an approval', 'INSERT INTO phi.request (action, argument, requested_by, requester, expires_at, approved_by) VALUES (''unseal'', ''{}'', ''x'', 0, ''infinity'', ''y'')'),
             ('a key''s state', 'DELETE FROM phi.data_key WHERE false'),
             ('a certificate', 'DELETE FROM phi.destruction_certificate WHERE false'),
             ('a merge', 'MERGE INTO phi.clinic_grant g USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE'),
             ('a copy', 'COPY phi.clinic FROM PROGRAM ''true''')) v(what, statement);
GRANT ALL ON ALL TABLES IN SCHEMA phi TO t_writer;
SELECT is(t.run('t_writer', '', format('TRUNCATE %s', c.oid::regclass)), 'ERROR 42501', 'nor is a grant to truncate ' || c.relname) FROM pg_class c WHERE relnamespace = 'phi'::regnamespace AND relkind = 'r';

-- Held: what applications and custodians cannot do.
SELECT is(t.run('t_app_a', 'a', statement), 'ERROR 42501', 'not for applications: ' || statement)
FROM unnest(ARRAY['SELECT phi.worker_pids(1)', 'SELECT phi.launch_job(1)', 'SELECT phi.stop_job(1, ''paused'')', 'SELECT phi.pause_rekey(1)', 'SELECT phi.await_job(1)', 'SELECT phi.is_led(1)',
                  'SELECT phi.count_values()', 'SELECT phi.stored_constants()', 'SELECT phi.wait_for_writers()', 'SELECT phi.rewrap_key(1, 1, 1::smallint, 1, 1::smallint, '''', '''', '''')',
                  'SELECT phi.custodian_shares()', 'SELECT phi.stage_share('''')', 'SELECT phi.lift_seal()', 'SELECT phi.approve(1)', 'SELECT * FROM phi.rekey_progress',
                  'SELECT * FROM phi.requests', 'SELECT * FROM phi.compromise_reports', 'SELECT * FROM phi.destruction_certificates', 'INSERT INTO phi.rekey_job DEFAULT VALUES']) statement;
SELECT has_function_privilege('phi_custodian', p.oid, 'EXECUTE') AS leak, p.oid::regprocedure AS internal INTO t.internal
FROM pg_proc p WHERE p.pronamespace = 'phi'::regnamespace
  AND p.proname IN ('move_keys', 'move_key', 'destroy_keys', 'certify', 'cleared', 'carry_out', 'lift_seal', 'apply_seal', 'rewrap_key', 'shred_finish', 'job_done', 'record_seal', 'stop_job', 'approver', 'stage_share', 'add_key');
SELECT is(count(*), 0::bigint, 'custodians have no internal function') FROM t.internal WHERE leak;
SELECT cmp_ok(count(*), '>=', 16::bigint, 'all were looked at') FROM t.internal;

SELECT * FROM finish();
ROLLBACK;
