-- phi.audit(): what the log tells of changed rows, and what it does not.
\ir include/setup.psql
CREATE ROLE t_owner LOGIN; CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
GRANT EXECUTE ON FUNCTION phi.audit(regclass, boolean), phi.unaudit(regclass) TO t_owner;
CREATE VIEW t.log AS SELECT a.*, row_number() OVER (ORDER BY a.record_id) AS n FROM phi.audit_log a;
-- Since a mark was set.
CREATE FUNCTION t.mark() RETURNS bigint LANGUAGE sql AS $$ SELECT set_config('t.mark', coalesce(max(record_id), 0)::text, true)::bigint FROM phi.audit_log $$;
CREATE VIEW t.recent AS SELECT a.*, row_number() OVER (ORDER BY a.record_id) AS n FROM phi.audit_log a WHERE a.record_id > current_setting('t.mark')::bigint AND a.relation ~ '^t\.' AND a.operation !~ ' ';
CREATE FUNCTION t.said() RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', operation, relation, row_key::text, columns::text, CASE WHEN old_digest IS NOT NULL THEN 'old' END, CASE WHEN new_digest IS NOT NULL THEN 'new' END, detail), '; ' ORDER BY n) FROM t.recent $$;

CREATE TABLE t.patient (id int PRIMARY KEY, clinic text, family enctext(identity), born encdate(identity), weight encnumeric(clinical), seen enctimestamptz(clinical),
  note encjsonb(clinical), scan encbytea(sensitive), visits encbigint, smoker encboolean(sensitive), tags enctext(clinical)[], remark jsonb, kind text DEFAULT 'x');
SELECT is((SELECT count(*) FROM phi.data_key WHERE class = -2), 0::bigint, 'no digest keys where nothing is audited');
SELECT phi.audit('t.patient') \g /dev/null
SELECT is((SELECT string_agg(coalesce(c.code, '-'), ' ' ORDER BY c.code NULLS FIRST) FROM phi.data_key k LEFT JOIN phi.clinic c USING (clinic_id) WHERE k.class = -2 AND k.state = 'active'), '- a b', 'then one for each clinic, and for none');
SELECT phi.create_clinic('c', 'Clinic C') \g /dev/null
SELECT is((SELECT count(*) FROM phi.data_key k JOIN phi.clinic USING (clinic_id) WHERE code = 'c' AND class = -2), 1::bigint, 'a new clinic brings its own');
SELECT phi.audit('t.patient') \g /dev/null
SELECT is((SELECT count(*) FROM phi.data_key WHERE class = -2), 4::bigint, 'auditing again makes none');
SELECT is(string_agg(format('%s %s %s', tgname, tgtype, tgenabled), ', ' ORDER BY tgname), 'phi_audit 29 A, phi_audit_truncate 32 A', 'the triggers fire always') FROM pg_trigger WHERE tgrelid = 't.patient'::regclass AND NOT tgisinternal;
SELECT is(string_agg(format('%s %s %s %s', operation, relation, session_role, detail), ', ' ORDER BY n), format('AUDIT t.patient %s history off, AUDIT t.patient %1$s history off', session_user), 'which is recorded') FROM t.log WHERE operation LIKE '%AUDIT';

-- A change and its record.
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.patient VALUES (1, 'a', 'Sato', '1958-03-21', 36.60, '2024-02-29 23:59:59+00', '{"allergy": "penicillin"}', '\x00ff', 471104711047110, true, '{Diabetes,NULL,"Grippe"}', '{"colour": "茜色"}')$$,
  $$UPDATE t.patient SET family = 'Ito', kind = 'y', tags = '{Diabetes,NULL,Asthma}'$$, $$UPDATE t.patient SET family = 'Ito', born = born, weight = 36.60, tags = '{Diabetes,NULL,Asthma}'$$, $$UPDATE t.patient SET weight = 36.6, smoker = NULL$$,
  'UPDATE t.patient SET id = 2', 'DELETE FROM t.patient'), NULL, 'rows are changed');
SELECT is(t.said(), 'INSERT t.patient {1} new; UPDATE t.patient {1} {family,tags,kind} old new; UPDATE t.patient {1} {} old new; UPDATE t.patient {1} {weight,smoker} old new; UPDATE t.patient {1} {id} old new new key {2}; DELETE t.patient {2} old', 'columns are compared by plaintext, arrays as well');
SELECT is(string_agg(n::text, ' '), NULL, 'what one change left the next one found') FROM (SELECT n, old_digest, lag(new_digest) OVER (ORDER BY n) AS before FROM t.recent) r WHERE n > 1 AND old_digest IS DISTINCT FROM before;
SELECT is((SELECT new_digest FROM t.recent WHERE n = 3), (SELECT new_digest FROM t.recent WHERE n = 2), 'the same content under other nonces has the same digest');
SELECT is(count(DISTINCT new_digest), 4::bigint, 'other content another one') FROM t.recent WHERE n <= 5;
SELECT is(string_agg(DISTINCT concat_ws(' ', login, session_role, acting_role, clinic, k.class::text, c.code, xact = pg_current_xact_id(), xact_at = now()), ', '), format('%s t_app_a t_app_a a -2 a t t', (SELECT DISTINCT login FROM t.log)), 'who, for which clinic, when, under whose key')
FROM t.recent r JOIN phi.data_key k ON k.key_id = r.digest_key JOIN phi.clinic c USING (clinic_id);

-- The digest does not depend on who writes, in what encoding, or under which key the values are.
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient VALUES (1, 'a', 'Sato', '1958-03-21', 36.60, '2024-02-29 23:59:59+00', '{"allergy": "penicillin"}', '\x00ff', 471104711047110, true, '{Diabetes,NULL,"Grippe"}', '{"colour": "茜色"}')$$) \g /dev/null
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_nurse', 'a', 'UPDATE t.patient SET kind = ''n'''), NULL, 'a nurse without most classes');
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.patient SET kind = ''m''', 'UPDATE t.patient SET kind = ''n'''), NULL, 'and one with all');
SET LOCAL client_encoding = 'SJIS';
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.patient SET kind = ''m'''), NULL, 'a client of another encoding');
SET LOCAL client_encoding = 'LATIN1';
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.patient SET kind = ''n'''), NULL, 'one that has not even the letters');
SELECT is(current_setting('client_encoding'), 'LATIN1', 'whose encoding stays');
SET LOCAL client_encoding = 'UTF8';
SELECT phi.rotate_key('a', 'identity'), phi.rotate_key('a', 'clinical') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.patient SET family = family, weight = weight, tags = tags, kind = ''m''', 'SELECT (phi.describe(family)).version FROM t.patient'), '2', 'values move to new keys');
SELECT is(string_agg(CASE new_digest WHEN (SELECT new_digest FROM t.recent WHERE n = 1) THEN 'n' WHEN (SELECT new_digest FROM t.recent WHERE n = 2) THEN 'm' ELSE '?' END, '' ORDER BY n), 'nmnmnm', 'have the same digests') FROM t.recent;
SELECT is(string_agg(columns::text, ''), '{kind}{kind}{kind}{kind}{kind}{kind}', 'and no column seems changed') FROM t.recent;

-- Sessions that cannot read: the row is recorded all the same, under the key of no clinic.
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', '', 'UPDATE t.patient SET kind = ''s'''), NULL, 'sealed');
SELECT is(t.run('t_app_b', 'b', 'UPDATE t.patient SET kind = ''b'''), NULL, 'of another clinic');
SELECT is(t.run('t_nobody', '', 'UPDATE t.patient SET kind = ''s'''), NULL, 'without any grant');
SELECT is(string_agg(concat_ws(' ', session_role, clinic, (SELECT coalesce(c.code, '-') FROM phi.data_key k LEFT JOIN phi.clinic c USING (clinic_id) WHERE k.key_id = digest_key)), ', ' ORDER BY n), 't_app_a -, t_app_b b b, t_nobody -', 'clinic and key') FROM t.recent;
SELECT is((SELECT new_digest FROM t.recent WHERE n = 1), (SELECT new_digest FROM t.recent WHERE n = 3), 'digests under it agree as well');
SELECT is(t.run('t_nobody', '', 'SELECT count(*) FROM phi.audit_log'), 'ERROR 42501', 'the log is not for everybody');
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM phi.audit_log'), 'ERROR 42501', 'nor for applications');
SELECT is(t.run('t_auditor', '', 'SELECT count(*) > 5 FROM phi.audit_log'), 'true', 'auditors read it');

-- Statements that change rows in other ways.
SELECT t.mark() \g /dev/null
CREATE TABLE t.part (id int PRIMARY KEY, patient int REFERENCES t.patient ON DELETE CASCADE ON UPDATE CASCADE);
SELECT phi.audit('t.part') \g /dev/null
COPY (SELECT 7, 70) TO '/tmp/t_audit_rows.txt';
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.patient (id, family) VALUES (1, 'x'), (70, 'Kato') ON CONFLICT (id) DO UPDATE SET kind = 'conflict'$$,
  'COPY t.part FROM ''/tmp/t_audit_rows.txt''', 'INSERT INTO t.part VALUES (1, 1) ON CONFLICT DO NOTHING', 'INSERT INTO t.part VALUES (1, 1) ON CONFLICT DO NOTHING',
  'MERGE INTO t.part p USING (VALUES (1, 70), (2, 70)) v(id, patient) ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.patient)',
  'UPDATE t.patient SET id = 71 WHERE id = 70', 'DELETE FROM t.patient WHERE id = 71', 'WITH i AS (INSERT INTO t.part VALUES (8, 1) RETURNING id) SELECT id FROM i', 'TRUNCATE t.patient CASCADE'), '8', 'other statements');
SELECT is(t.said(), 'UPDATE t.patient {1} {kind} old new; INSERT t.patient {70} new; INSERT t.part {7} new; INSERT t.part {1} new; DELETE t.part {1} old; INSERT t.part {2} new; UPDATE t.patient {70} {id} old new new key {71}; UPDATE t.part {7} {patient} old new; UPDATE t.part {2} {patient} old new; DELETE t.patient {71} old; DELETE t.part {7} old; DELETE t.part {2} old; INSERT t.part {8} new; TRUNCATE t.patient; TRUNCATE t.part',
  'ON CONFLICT, COPY, MERGE, cascades, WITH, TRUNCATE');
\! rm -f /tmp/t_audit_rows.txt
SELECT t.mark() \g /dev/null
SET LOCAL session_replication_role = replica;
INSERT INTO t.part VALUES (9, 9);
SET LOCAL session_replication_role = origin;
SELECT is(t.said(), 'INSERT t.part {9} new', 'replicated changes');

-- What is undone leaves nothing.
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.part VALUES (10)', 'SELECT 1 / 0'), 'ERROR 22012', 'a change that fails');
SAVEPOINT s; INSERT INTO t.part VALUES (11); SAVEPOINT s2; INSERT INTO t.part VALUES (12); ROLLBACK TO s2; INSERT INTO t.part VALUES (13); RELEASE s;
SELECT is(t.said(), 'INSERT t.part {11} new; INSERT t.part {13} new', 'leaves no record, nor what is rolled back to a savepoint');

-- Keys: none, several, such whose text depends on settings, encrypted ones.
CREATE TABLE t.nokey (v text); CREATE TABLE t.keys (d date, r float8, s text, PRIMARY KEY (s, d, r)); CREATE TABLE t.seen (at timestamptz PRIMARY KEY);
SET LOCAL phi.allow_ordered_index = on;
CREATE TABLE t.secret (no enctext(identity) PRIMARY KEY, v int);
SELECT phi.audit('t.nokey'), phi.audit('t.keys'), phi.audit('t.seen'), phi.audit('t.secret') \g /dev/null
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL DateStyle = ''German''', 'SET LOCAL TimeZone = ''Asia/Tokyo''', 'SET LOCAL extra_float_digits = -15', $$INSERT INTO t.nokey VALUES ('x')$$,
  $$INSERT INTO t.keys VALUES ('2024-02-01', 1.25, 'a,"b')$$, $$INSERT INTO t.seen VALUES ('2024-02-01 12:00+09')$$, 'SHOW DateStyle'), 'German, DMY', 'keys of many kinds');
RESET DateStyle; RESET TimeZone; RESET extra_float_digits;
SELECT is(t.said(), $$INSERT t.nokey new; INSERT t.keys {"a,\"b",2024-02-01,1.25} new; INSERT t.seen {"2024-02-01 03:00:00+00"} new$$, 'have one text whatever the settings');
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.secret VALUES ('P-4711')$$, $$UPDATE t.secret SET v = 1$$, $$UPDATE t.secret SET no = 'P-4712'$$, $$INSERT INTO t.secret VALUES ('P-4711')$$), NULL, 'an encrypted key');
SELECT is(string_agg(DISTINCT (row_key[1] ~ '^digest:[0-9a-f]{32}$')::text, ' '), 'true', 'is told as a digest') FROM t.recent;
SELECT is(string_agg((dense_rank)::text, ' ' ORDER BY n), '1 1 1 1', 'the same for the same key') FROM (SELECT n, dense_rank() OVER (ORDER BY row_key) FROM t.recent) r;
SELECT matches(detail, '^new key \{digest:[0-9a-f]{32}\}$', 'a new key too') FROM t.recent WHERE n = 3;
SET LOCAL phi.allow_ordered_index = off;

-- Partitions, whose columns may come in another order, and children.
CREATE TABLE t.visit (clinic text, id int, note enctext(clinical), PRIMARY KEY (clinic, id)) PARTITION BY LIST (clinic);
CREATE TABLE t.visit_a PARTITION OF t.visit FOR VALUES IN ('a');
CREATE TABLE t.visit_b (gone int, note enctext(clinical), id int NOT NULL, clinic text NOT NULL); ALTER TABLE t.visit_b DROP gone;
ALTER TABLE t.visit ATTACH PARTITION t.visit_b FOR VALUES IN ('b');
SELECT phi.audit('t.visit') \g /dev/null
CREATE TABLE t.visit_c PARTITION OF t.visit FOR VALUES IN ('c');
SELECT is(string_agg(DISTINCT tgenabled::text, ''), 'A', 'also where they are added later') FROM pg_trigger WHERE tgname = 'phi_audit';
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.visit VALUES ('a', 1, 'Grippe'), ('b', 1, 'Asthma'), ('c', 1, 'x')$$, $$UPDATE t.visit_b SET note = 'Grippe'$$, $$UPDATE t.visit SET clinic = 'b', id = 2 WHERE clinic = 'a'$$, $$UPDATE t.visit SET id = 1, clinic = 'a' WHERE id = 2$$, 'TRUNCATE t.visit_b', 'TRUNCATE t.visit'), NULL, 'partitions');
SELECT is(t.said(), 'INSERT t.visit {a,1} new; INSERT t.visit {b,1} new; INSERT t.visit {c,1} new; UPDATE t.visit {b,1} {note} old new; DELETE t.visit {a,1} old; INSERT t.visit {b,2} new; DELETE t.visit {b,2} old; INSERT t.visit {a,1} new; TRUNCATE t.visit partition t.visit_b; TRUNCATE t.visit; TRUNCATE t.visit partition t.visit_a; TRUNCATE t.visit partition t.visit_b', 'are told by their table');
SELECT is((SELECT new_digest FROM t.recent WHERE n = 1), (SELECT new_digest FROM t.recent WHERE n = 8), 'a row that came back has its digest again, in whatever partition');
SELECT is((SELECT problem FROM phi.audited_tables WHERE relation = 't.visit'::regclass), 'TRUNCATE t.visit_c is not recorded: call phi.audit() again.', 'auditors see what is missing of one that was added');
SELECT phi.audit('t.visit') \g /dev/null
SELECT is((SELECT problem FROM phi.audited_tables WHERE relation = 't.visit'::regclass), NULL, 'calling it again mends it');
CREATE TABLE t.base (id int); CREATE TABLE t.child (more enctext) INHERITS (t.base);
SELECT phi.audit('t.base') \g /dev/null
SELECT t.mark() \g /dev/null
INSERT INTO t.base VALUES (1); INSERT INTO t.child VALUES (2); UPDATE t.base SET id = 3; TRUNCATE t.child;
SELECT is(t.said(), 'INSERT t.base new; INSERT t.child new; UPDATE t.base {id} old new; UPDATE t.child {id} old new; TRUNCATE t.child', 'children by their own name');

-- No plaintext anywhere in the log, nor in the errors of those who are kept from it.
SELECT is(string_agg(DISTINCT word, ' '), NULL, 'no plaintext in any record') FROM phi.audit_log a, unnest('{Sato,Ito,Kato,1958-03-21,36.60,471104711047110,P-47,2024-02-29,penicillin,Diabetes,Grippe,Asthma}'::text[]) word WHERE row_to_json(a)::text LIKE '%' || word || '%';

-- Auditors compare rows with records; nobody learns which rows have a value in common.
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient (id, clinic, family) VALUES (5, 'a', 'Sato'), (6, 'a', 'Sato')$$, $$INSERT INTO t.visit VALUES ('b', 1, 'Sato')$$) \g /dev/null
SELECT is(t.run('t_auditor', '', 'SELECT string_agg(DISTINCT (a.new_digest = phi.row_digest(p, a.digest_key))::text, '' '') FROM t.patient p JOIN phi.audit_log a ON a.row_key = ARRAY[p.id::text] AND a.relation = ''t.patient'' WHERE a.record_id > (SELECT max(record_id) - 10 FROM phi.audit_log) AND p.id > 4'), 'true', 'the row of a record');
SELECT is(t.run('t_auditor', '', 'SELECT a.new_digest = phi.row_digest(v, a.digest_key) FROM t.visit v, phi.audit_log a WHERE a.relation = ''t.visit'' ORDER BY a.record_id DESC LIMIT 1'), 'true', 'in a partition');
UPDATE t.patient SET kind = 'forged' WHERE id = 5;
SELECT is(t.run('t_auditor', '', 'SELECT a.new_digest = phi.row_digest(p, a.digest_key) FROM t.patient p JOIN phi.audit_log a ON a.row_key = ARRAY[''5''] WHERE p.id = 5 AND a.operation = ''INSERT'' ORDER BY record_id DESC LIMIT 1'), 'false', 'not of another content');
CREATE VIEW t.call AS SELECT * FROM (VALUES
  ('phi.row_digest(r, %s) FROM (SELECT family FROM t.patient) r', '42809', 'single columns'), ('phi.row_digest(ROW(1, ''x''::text), %s)', '42809', 'a row of his own'), ('phi.row_digest(1, %s)', '42809', 'no row'),
  ('phi.row_digest(p, 1) FROM t.patient p', '42704', 'another key'), ('phi.row_digest(p, 99999) FROM t.patient p', '42704', 'no key'), ('phi.row_digest(c, %s) FROM t.copy c', '42809', 'a table of his own')) v(call, wanted, what);
CREATE TABLE t.copy AS SELECT family FROM t.patient;
SELECT is(t.run('t_auditor', '', format('SELECT ' || call, (SELECT min(key_id) FROM phi.data_key WHERE class = -2))), 'ERROR ' || wanted, 'not for ' || what) FROM t.call;
SELECT is(t.run('t_app_a', 'a', 'SELECT phi.row_digest(p, 1) FROM t.patient p'), 'ERROR 42501', 'nor for anybody else');

-- Who may audit what.
CREATE TABLE t.mine (id int); ALTER TABLE t.mine OWNER TO t_owner; CREATE VIEW t.view AS SELECT 1; CREATE TEMP TABLE t_temp (id int);
SELECT is(t.run('t_owner', '', 'SELECT phi.audit(''t.mine'')'), '', 'the owner');
SELECT is(t.run('t_owner', '', 'SELECT count(*) FROM pg_trigger WHERE tgrelid = ''t.mine''::regclass'), '2', 'has it done');
SELECT is(t.run('t_owner', '', 'SELECT phi.audit(''t.patient'')'), 'ERROR 42501', 'not for the table of another');
SELECT is(t.run('t_app_a', 'a', 'SELECT phi.audit(''t.patient'')'), 'ERROR 42501', 'who was granted nothing');
SELECT is(t.run('t_app_a', 'a', 'SELECT phi.unaudit(''t.patient'')'), 'ERROR 42501', 'nor ends it');
SELECT is(t.run('t_owner', '', 'SELECT phi.unaudit(''t.patient'')'), 'ERROR 42501', 'nor does another owner');
SELECT is(t.run('t_owner', '', 'CREATE TRIGGER mine AFTER INSERT ON t.mine FOR EACH ROW EXECUTE FUNCTION phi.audit_change()'), 'ERROR 42501', 'an owner makes no such trigger himself');
SELECT throws_ok(format('SELECT phi.audit(%L)', name), '42809', NULL, 'refused: ' || name) FROM unnest('{t.view,pg_class,phi.clinic,phi.audit_log,t.visit_a,pg_temp.t_temp}'::text[]) name;
SELECT throws_ok('SELECT phi.audit(NULL)', '22004', NULL, 'refused: null'); SELECT throws_ok('SELECT phi.audit(''t.mine'', NULL)', '22004', NULL, 'refused: history null');
SELECT throws_ok('SELECT phi.unaudit(NULL)', '22004', NULL, 'refused: unaudit null'); SELECT throws_ok('SELECT phi.unaudit(''t.call'')', '42809', NULL, 'refused: unaudit a view');
SELECT throws_ok('SELECT phi.audit_change()', NULL, NULL, 'the trigger function by itself');
SELECT results_eq('SELECT relation::text FROM phi.audited_tables WHERE history IS NULL AND since IS NULL ORDER BY 1', ARRAY['t.base', 't.child', 't.keys', 't.mine', 't.nokey', 't.part', 't.patient', 't.secret', 't.seen', 't.visit'], 'auditors see what is audited');
SELECT t.mark() \g /dev/null
SELECT is(t.run('t_owner', '', 'SELECT phi.unaudit(''t.mine'')', 'INSERT INTO t.mine VALUES (1)', 'SELECT count(*) FROM pg_trigger WHERE tgrelid = ''t.mine''::regclass'), '0', 'and its end');
SELECT is(string_agg(format('%s %s %s', operation, relation, session_role), ', '), 'UNAUDIT t.mine t_owner', 'which is recorded, and nothing after it') FROM t.recent;
SELECT throws_ok('SELECT phi.unaudit(''t.mine'')', '42704', NULL, 'only once');
SELECT phi.unaudit('t.visit'), phi.unaudit('t.base') \g /dev/null
SELECT is(count(*), 0::bigint, 'also of partitions and children') FROM pg_trigger WHERE tgname LIKE 'phi_audit%' AND tgrelid::regclass::text ~ 'visit|base|child';
SELECT * FROM finish();
ROLLBACK;
