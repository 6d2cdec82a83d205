-- Histories: old versions of rows, and phi.as_of().
\ir include/setup.psql
CREATE ROLE t_owner LOGIN; CREATE ROLE t_auditor LOGIN IN ROLE phi_auditor;
GRANT EXECUTE ON FUNCTION phi.audit(regclass, boolean), phi.unaudit(regclass) TO t_owner;
SELECT phi.grant_clinic('t_owner', 'a') \g /dev/null
CREATE TABLE t.patient (id int PRIMARY KEY, clinic text, family enctext(identity), illness enctext(clinical) DEFAULT 'none'::text, tags enctext(clinical)[], kind varchar(10) COLLATE "C" DEFAULT 'x');
ALTER TABLE t.patient OWNER TO t_owner;
INSERT INTO t.patient (id, clinic, illness) VALUES (100, 'a', NULL);
SELECT phi.isolate('t.patient', 'clinic') \g /dev/null
SELECT is(t.run('t_owner', '', 'SELECT phi.audit(''t.patient'', history => true)'), '', 'the owner begins a history');

-- What it looks like.
SELECT is((SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation = '"C"'::regcollation THEN ' C' ELSE '' END), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = 't.patient_history'::regclass AND a.attnum BETWEEN 1 AND 6),
  (SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation = '"C"'::regcollation THEN ' C' ELSE '' END), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = 't.patient'::regclass AND a.attnum > 0), 'the columns of the table');
SELECT is(string_agg(attname, ' ' ORDER BY attnum), 'phi_until phi_record phi_change', 'and three more') FROM pg_attribute WHERE attrelid = 't.patient_history'::regclass AND attnum > 6;
SELECT is(string_agg(DISTINCT grantee, ' '), 't_owner', 'nobody else has a right on it, whatever the default') FROM information_schema.role_table_grants WHERE table_name = 'patient_history';
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = 't.patient_history'::regclass), 't_owner', 'it is the owner''s');
SELECT is((SELECT string_agg(polname, ' ' ORDER BY polname) FROM pg_policy WHERE polrelid = 't.patient_history'::regclass), 'phi_clinic phi_isolation', 'it is isolated as the table is');
SELECT is(pg_get_indexdef(indexrelid), 'CREATE INDEX patient_history_id_phi_until_idx ON t.patient_history USING btree (id, phi_until)', 'found by key and time') FROM pg_index WHERE indrelid = 't.patient_history'::regclass;
SELECT is((SELECT format('%s %s %s', history, since <= clock_timestamp(), problem) FROM phi.audited_tables), 't.patient_history t ', 'auditors see it');
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM t.patient_history'), 'ERROR 42501', 'an application reads it when it was granted it');
GRANT SELECT ON t.patient_history TO t_app_a, t_app_b, t_nurse, t_nobody;

-- A chart over time.
CREATE TABLE t.time (n int PRIMARY KEY, at timestamptz);
CREATE FUNCTION t.tick(n int) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.time SELECT n, clock_timestamp() $$;
SELECT t.tick(0) \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.patient VALUES (1, 'a', 'Sato', 'Grippe', '{x,NULL}'), (2, 'a', 'Ito', 'Asthma', NULL)$$, 'SELECT t.tick(1)', $$UPDATE t.patient SET illness = 'Angina' WHERE id = 1$$, 'SELECT t.tick(2)',
  'UPDATE t.patient SET id = 3 WHERE id = 2', 'SELECT t.tick(3)', 'DELETE FROM t.patient WHERE id = 1', 'SELECT t.tick(4)', $$INSERT INTO t.patient VALUES (1, 'a', 'Abe')$$, 'SELECT t.tick(5)'), NULL, 'changes');
SELECT is(t.run('t_app_b', 'b', $$INSERT INTO t.patient VALUES (50, 'b', 'Baba', 'Grippe')$$, 'SELECT t.tick(6)', $$UPDATE t.patient SET family = 'Babasaki'$$), NULL, 'and those of another clinic');
CREATE FUNCTION t.chart(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(concat_ws(' ', id, phi.decrypt(family), phi.decrypt(illness), array_to_string(tags::text[], ',', '-')), ', ' ORDER BY id) FROM phi.as_of(NULL::t.patient, at) $$;
SELECT is(t.run('t_app_a', 'a', format('SELECT t.chart(%L)', at)), wanted, 'as of ' || n) FROM t.time JOIN (VALUES
  (0, '100'), (1, '1 Sato Grippe x,-, 2 Ito Asthma, 100'), (2, '1 Sato Angina x,-, 2 Ito Asthma, 100'), (3, '1 Sato Angina x,-, 3 Ito Asthma, 100'), (4, '3 Ito Asthma, 100'), (5, '1 Abe none, 3 Ito Asthma, 100'), (6, '1 Abe none, 3 Ito Asthma, 100')) w(n, wanted) USING (n);
SELECT is(t.run('t_app_a', 'a', 'SELECT t.chart(''infinity'')'), '1 Abe none, 3 Ito Asthma, 100', 'and now');
SELECT is(string_agg(concat_ws(' ', id, phi_change, family IS NOT NULL, EXISTS (SELECT FROM phi.audit_log a WHERE a.record_id = h.phi_record AND a.relation = 't.patient' AND h.id::text = ANY (a.row_key || coalesce(substring(a.detail FROM '\d+'), '')))), ', ' ORDER BY phi_until, id),
  '1 INSERT f t, 2 INSERT f t, 1 UPDATE t t, 2 DELETE t t, 3 INSERT f t, 1 DELETE t t, 1 INSERT f t, 50 INSERT f t, 50 UPDATE t t', 'each row of the history names its record') FROM t.patient_history h;
SELECT is(t.run('t_app_a', 'a', 'SELECT pg_typeof(p)::text || pg_typeof(p.family) FROM phi.as_of(NULL::t.patient, clock_timestamp()) p LIMIT 1'), 't.patientenctext', 'rows are of the table''s type');

-- Who may read no more than before.
SELECT is(t.run('t_app_b', 'b', format('SELECT t.chart(%L)', at)), wanted, 'another clinic sees its own: ' || n) FROM t.time JOIN (VALUES (5, NULL), (6, '50 Baba Grippe')) w(n, wanted) USING (n);
SELECT is(t.run('t_app_a', '', format('SELECT count(*) FROM phi.as_of(NULL::t.patient, %L)', at)), '0', 'a sealed session no row') FROM t.time WHERE n = 1;
SELECT is(t.run('t_owner', '', format('SELECT count(*) FROM phi.as_of(NULL::t.patient, %L)', at)), '0', 'nor the owner') FROM t.time WHERE n = 1;
SELECT is(t.run('t_nurse', 'a', format('SELECT phi.decrypt(family) FROM phi.as_of(NULL::t.patient, %L) WHERE id = 1', at)), 'Sato', 'a nurse reads the classes she has') FROM t.time WHERE n = 1;
SELECT is(t.run('t_nurse', 'a', format('SELECT phi.decrypt(illness) FROM phi.as_of(NULL::t.patient, %L) WHERE id = 1', at)), 'ERROR 42501', 'and no others') FROM t.time WHERE n = 1;
SELECT is(t.run('t_nurse', 'a', 'SELECT phi.decrypt(illness) FROM t.patient_history WHERE illness IS NOT NULL LIMIT 1'), 'ERROR 42501', 'nor from the history itself');
SELECT unalike(t.error_of('t_nurse', 'a', format('SELECT phi.decrypt(illness) FROM phi.as_of(NULL::t.patient, %L) WHERE id = 1', at)), '%Grippe%', 'the error tells nothing') FROM t.time WHERE n = 1;
SET SESSION AUTHORIZATION DEFAULT;
SELECT is(t.run(session_user, '', format('SELECT (phi.describe(family)).class FROM phi.as_of(NULL::t.patient, %L) WHERE id = 1', at)), 'identity', 'a superuser sees ciphertext') FROM t.time WHERE n = 1;
REVOKE SELECT ON t.patient_history FROM t_app_b;
SELECT is(t.run('t_app_b', 'b', 'SELECT count(*) FROM phi.as_of(NULL::t.patient, clock_timestamp())'), 'ERROR 42501', 'as_of needs the right to read the history');
GRANT SELECT ON t.patient_history TO t_app_b; REVOKE ALL ON t.patient FROM PUBLIC; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t.patient TO t_app_a;
SELECT is(t.run('t_app_b', 'b', 'SELECT count(*) FROM phi.as_of(NULL::t.patient, clock_timestamp())'), 'ERROR 42501', 'and the table');

-- Nobody writes the history.
SELECT is(t.run(role, 'a', statement), 'ERROR 42501', role || ' does not: ' || statement)
FROM unnest(ARRAY['t_owner', current_user::text]) role, unnest(ARRAY['INSERT INTO t.patient_history (id, phi_until, phi_record, phi_change) VALUES (9, now(), 1, ''UPDATE'')', 'UPDATE t.patient_history SET kind = ''z''', 'DELETE FROM t.patient_history', 'TRUNCATE t.patient_history', 'COPY t.patient_history FROM PROGRAM ''true''']) statement
WHERE role <> 't_owner' OR statement !~ 'COPY';
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM t.patient_history', '42501', NULL, 'nor as a replica does');
SET LOCAL session_replication_role = origin;
SELECT throws_ok('SELECT phi.refuse_insert()', NULL, NULL, 'the trigger function by itself');

-- What is undone, and what is truncated.
CREATE FUNCTION t.kept() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t.patient_history';
SELECT t.kept() AS kept \gset
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.patient SET kind = ''q''', 'SELECT 1 / 0'), 'ERROR 22012', 'a change that fails');
SELECT is(t.kept(), :kept::bigint, 'leaves no version');
SELECT t.tick(7) \g /dev/null
TRUNCATE t.patient;
SELECT is(t.run('t_app_a', 'a', 'SELECT t.chart(''infinity'')'), NULL, 'a truncated table');
SELECT is(t.run('t_app_a', 'a', format('SELECT t.chart(%L)', at)), '1 Abe none, 3 Ito Asthma, 100', 'as it was') FROM t.time WHERE n = 7;
SELECT is(string_agg(DISTINCT format('%s %s', h.phi_change, a.operation), ','), 'TRUNCATE TRUNCATE', 'told by its record') FROM t.patient_history h JOIN phi.audit_log a ON a.record_id = h.phi_record WHERE h.phi_change = 'TRUNCATE';

-- Triggers that change the row again before the first change is recorded; many changes of a key in a statement.
CREATE TABLE t.nest (id int PRIMARY KEY DEFERRABLE, n int);
CREATE FUNCTION t.bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.n < 3 THEN UPDATE t.nest SET n = n + 1 WHERE id = new.id; END IF; RETURN NULL; END $$;
CREATE TRIGGER a_bump AFTER INSERT OR UPDATE ON t.nest FOR EACH ROW EXECUTE FUNCTION t.bump();
SELECT phi.audit('t.nest', true), t.tick(10) \g /dev/null
INSERT INTO t.nest VALUES (1, 0), (2, 3);
SELECT t.tick(11) \g /dev/null
UPDATE t.nest SET n = n - 2; UPDATE t.nest SET id = 3 - id;
SELECT is(string_agg(concat_ws(':', id, phi_change, n), ' ' ORDER BY phi_until, phi_change = 'INSERT'), versions, 'versions of ' || w.id || ' in their order')
FROM t.nest_history h JOIN (VALUES (1, '1:INSERT:0 1:UPDATE:0 1:UPDATE:1 1:UPDATE:2 1:UPDATE:3 1:UPDATE:1 1:UPDATE:2')) w(id, versions) USING (id) WHERE phi_change IN ('INSERT', 'UPDATE') AND phi_until <= (SELECT max(phi_until) FROM t.nest_history WHERE phi_change = 'UPDATE') GROUP BY w.id, versions;
SELECT is((SELECT string_agg(p::text, ' ' ORDER BY id) FROM phi.as_of(NULL::t.nest, at) p), wanted, 'nested changes, as of ' || n) FROM t.time JOIN (VALUES (10, NULL), (11, '(1,3) (2,3)')) w(n, wanted) USING (n);
SELECT is((SELECT count(*) FROM t.nest_history h1 JOIN t.nest_history h2 ON h1.id = h2.id AND h1.phi_until = h2.phi_until AND h1.ctid < h2.ctid WHERE h1.phi_change <> 'INSERT' AND h2.phi_change <> 'INSERT'), 0::bigint, 'no two versions of a key end at once');

-- Partitions: one history.
CREATE TABLE t.visit (clinic text, id int, note enctext(clinical), PRIMARY KEY (clinic, id)) PARTITION BY LIST (clinic);
CREATE TABLE t.visit_a PARTITION OF t.visit FOR VALUES IN ('a');
CREATE TABLE t.visit_b (gone int, note enctext(clinical), id int NOT NULL, clinic text NOT NULL); ALTER TABLE t.visit_b DROP gone;
ALTER TABLE t.visit ATTACH PARTITION t.visit_b FOR VALUES IN ('b');
SELECT phi.audit('t.visit', true) \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.visit VALUES ('a', 1, 'Grippe'), ('b', 1, 'Asthma')$$, 'SELECT t.tick(20)', $$UPDATE t.visit SET clinic = 'b', id = 2 WHERE clinic = 'a'$$, $$UPDATE t.visit_b SET note = 'none'$$, 'SELECT t.tick(21)', 'TRUNCATE t.visit_b', 'SELECT t.tick(22)', 'TRUNCATE t.visit'), NULL, 'partitions');
GRANT SELECT ON t.visit_history TO t_app_a;
SELECT is(t.run('t_app_a', 'a', format('SELECT string_agg(concat_ws('' '', clinic, id, phi.decrypt(note)), '', '' ORDER BY clinic, id) FROM phi.as_of(NULL::t.visit, %L)', at)), wanted, 'partitions, as of ' || n)
FROM t.time JOIN (VALUES (20, 'a 1 Grippe, b 1 Asthma'), (21, 'b 1 none, b 2 none'), (22, NULL)) w(n, wanted) USING (n);

-- Columns that change: the next change says what is to be done.
CREATE FUNCTION t.change() RETURNS text LANGUAGE sql AS $$ SELECT t.run('t_app_a', 'a', 'INSERT INTO t.patient (id, clinic, family) SELECT coalesce(max(id), 0) + 1, ''a'', ''Sato'' FROM t.patient', 'UPDATE t.patient SET clinic = clinic') $$;
SELECT is(t.change(), NULL, 'a table that fits its history');
SELECT t.tick(30), since AS begun FROM phi.audited_tables WHERE relation = 't.patient'::regclass \gset
ALTER TABLE t.patient ADD COLUMN phone enctext(identity);
SELECT is(t.change(), 'ERROR 55000', 'a column was added');
SELECT matches(t.error_of('t_app_a', 'a', 'DELETE FROM t.patient'), '55000: the history of table t.patient does not fit it any more \| Column "phone" is not in the history. \| Call phi.audit\(''t.patient'', history => true\) again.', 'what to do');
SET SESSION AUTHORIZATION DEFAULT;
SELECT is(t.run('t_app_a', 'a', 'SELECT t.chart(clock_timestamp())'), 'ERROR 55000', 'reading says it too');
SELECT is((SELECT problem FROM phi.audited_tables WHERE relation = 't.patient'::regclass), 'Column "phone" is not in the history.', 'and auditors see it');
SELECT is(t.run('t_owner', '', 'SELECT phi.audit(''t.patient'', true)'), '', 'the owner calls phi.audit() again');
SELECT is(t.change(), NULL, 'and it goes on');
SELECT is((SELECT since FROM phi.audited_tables WHERE relation = 't.patient'::regclass), :'begun', 'with the same history');
ALTER TABLE t.patient DROP COLUMN tags;
SELECT is(t.change(), 'ERROR 55000', 'a column was dropped');
SELECT phi.audit('t.patient', true) \g /dev/null
SELECT is(t.change(), NULL, 'and it goes on');
SELECT is((SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 't.patient_history'::regclass AND attname LIKE 'phi\_dropped%'), 'phi_dropped_1', 'what was dropped is kept');
SELECT is(t.run('t_app_a', 'a', format('SELECT count(*) FROM phi.as_of(NULL::t.patient, %L)', at)), '1', 'older states are still shown') FROM t.time WHERE n = 30;
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM phi.as_of(NULL::t.patient, ''-infinity'')'), 'ERROR 22023', 'but none from before the history');
ALTER TABLE t.patient RENAME COLUMN illness TO diagnosis;
SELECT is(t.change(), 'ERROR 55000', 'a column was renamed');
SELECT phi.audit('t.patient', true) \g /dev/null
GRANT SELECT ON t.patient_history TO t_app_a;
SELECT is(t.change(), NULL, 'then a new history begins');
SELECT is((SELECT count(illness) > 0 FROM t.patient_history_1), true, 'the old one is kept aside');
SELECT is(t.run('t_app_a', 'a', format('SELECT count(*) FROM phi.as_of(NULL::t.patient, %L)', at)), 'ERROR 22023', 'for older states there is an error, no wrong answer') FROM t.time WHERE n = 30;
ALTER TABLE t.patient ALTER kind TYPE varchar(20);
SELECT is(t.change(), 'ERROR 55000', 'a column of another type');
SELECT phi.audit('t.patient', true) \g /dev/null
SELECT is(t.change(), NULL, 'likewise');
ALTER TABLE t.patient DROP CONSTRAINT patient_pkey, ADD PRIMARY KEY (clinic, id);
SELECT is(t.change(), 'ERROR 55000', 'another primary key');
SELECT phi.audit('t.patient', true) \g /dev/null
SELECT is(t.change(), NULL, 'likewise');
ALTER TABLE t.patient_history RENAME TO elsewhere;
SELECT is(t.change(), 'ERROR 55000', 'a history that is gone');
ALTER TABLE t.elsewhere RENAME TO patient_history;
ALTER TABLE t.patient RENAME TO person;
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.person SET clinic = clinic'), NULL, 'a table of another name finds its history');
ALTER TABLE t.person RENAME TO patient;
ALTER TABLE t.patient_history OWNER TO t_nobody;
SELECT is(t.change(), 'ERROR 55000', 'one of another owner is not taken for it');
SELECT throws_ok('SELECT phi.audit(''t.patient'', true)', '42P07', NULL, 'nor by phi.audit()');
ALTER TABLE t.patient_history OWNER TO t_owner;

-- Isolation that comes later, or ends.
SELECT phi.unisolate('t.patient') \g /dev/null
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 't.patient_history'::regclass), 0::bigint, 'phi.unisolate() is for the history, too');
SELECT phi.isolate('t.patient', 'clinic') \g /dev/null
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 't.patient_history'::regclass), 2::bigint, 'so is phi.isolate()');

-- On and off.
SELECT since AS begun FROM phi.audited_tables WHERE relation = 't.patient'::regclass \gset
SELECT phi.audit('t.patient') \g /dev/null
SELECT t.kept() AS kept \gset
SELECT is(t.change(), NULL, 'without history'); SELECT is(t.kept(), :kept::bigint, 'nothing is kept');
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM phi.as_of(NULL::t.patient, clock_timestamp())'), 'ERROR 55000', 'nothing is shown');
SELECT is((SELECT count(*) FROM phi.protect_plan('t.patient', 'clinic', '{"kind": "general"}') WHERE phase = 'problem'), 0::bigint, 'and it could be converted');
SELECT phi.audit('t.patient', true) \g /dev/null
SELECT is((SELECT since > :'begun' FROM phi.audited_tables WHERE relation = 't.patient'::regclass), true, 'it begins again');
SELECT is(t.change(), NULL, 'with history'); SELECT cmp_ok(t.kept(), '>', :kept::bigint, 'versions are kept');
SELECT alike((SELECT string_agg(note, ' ') FROM phi.protect_plan('t.patient', 'clinic', '{"kind": "general"}') WHERE phase = 'problem'), '%history%', 'and it cannot be converted: plain values would stay there');
SELECT phi.unaudit('t.patient') \g /dev/null
SELECT is(t.change(), NULL, 'no audit'); SELECT cmp_ok(t.kept(), '>', 0::bigint, 'the history stays');
SELECT throws_ok('DELETE FROM t.patient_history', '42501', NULL, 'as it is');

-- What can have none.
CREATE TABLE t.nokey (v int); CREATE TABLE t.taken (id int PRIMARY KEY); CREATE TABLE t.taken_history (id int); CREATE TABLE t.named (id int PRIMARY KEY, phi_until int);
CREATE DOMAIN t.filled AS text NOT NULL; CREATE TABLE t.domain (id int PRIMARY KEY, v t.filled);
CREATE TABLE t.base (id int PRIMARY KEY); CREATE TABLE t.child () INHERITS (t.base);
SELECT format('CREATE TABLE t.%I (id int PRIMARY KEY)', repeat('n', 56)) \gexec
SELECT throws_ok(format('SELECT phi.audit(%L, true)', name), CASE name WHEN 't.taken' THEN '42P07' ELSE '55000' END, NULL, 'no history of ' || name) FROM unnest(ARRAY['t.nokey', 't.taken', 't.named', 't.domain', 't.base', 't.child', 't.' || repeat('n', 56)]) name;
SELECT throws_ok('SELECT phi.audit(''t.nest_history'')', '42809', NULL, 'nor is a history audited');
SELECT throws_ok(format('SELECT * FROM phi.as_of(%s) x', call), wanted, NULL, 'as_of: ' || call) FROM (VALUES ('NULL::t.nokey, now()', '55000'), ('1, now()', '55000'), ('NULL::t.nest, NULL', '22004'), ('NULL::t.visit_a, now()', '55000')) v(call, wanted);

-- Code of the owner's is run with the owner's rights, whoever calls.
CREATE TABLE t.who (name text);
CREATE FUNCTION t.spy(v text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.who VALUES (current_user); RETURN true; END $$;
CREATE DOMAIN t.spied AS text CHECK (t.spy(VALUE)); CREATE TABLE t.trap (id int PRIMARY KEY); ALTER TABLE t.trap OWNER TO t_owner;
SELECT phi.audit('t.trap', true) \g /dev/null
INSERT INTO t.trap VALUES (1); SET ROLE t_owner; ALTER TABLE t.trap ADD v t.spied; RESET ROLE; TRUNCATE t.who;
SELECT phi.audit('t.trap', true) \g /dev/null
SELECT is((SELECT string_agg(DISTINCT name, ' ') FROM t.who), 't_owner', 'the check of a domain, when a column is added to a history');
-- An index of the owner's may change rows while a change is recorded.
CREATE FUNCTION t.write(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.trap VALUES (1000 + n) ON CONFLICT DO NOTHING; GRANT SELECT ON t.bird, t.bird_history TO t_nobody; UPDATE t.bird SET n = bird.n + 1 WHERE id = 1 - write.n; RETURN n; END $$;
CREATE FUNCTION t.lie(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN t.write(n); END $$;
CREATE TABLE t.bird (id int PRIMARY KEY, n int); INSERT INTO t.bird VALUES (0, 0), (1, 0);
SELECT phi.audit('t.bird', true) \g /dev/null
CREATE INDEX ON t.bird_history (t.lie(id));
UPDATE t.bird SET id = id + 10, n = 5 WHERE id = 1;
SELECT is(string_agg(concat_ws(' ', id, n, phi_change), ', ' ORDER BY phi_record, phi_change), '1 0 DELETE, 11 5 INSERT, 0 0 UPDATE', 'in the middle') FROM t.bird_history;
-- Types and operators of others.
CREATE TYPE t.ward AS ENUM ('icu', 'er'); CREATE TABLE t.bed (ward t.ward, n int, by text, PRIMARY KEY (ward, n));
SELECT phi.audit('t.bed', true) \g /dev/null
INSERT INTO t.bed VALUES ('icu', 1, 'x'); SELECT t.tick(40) \g /dev/null
UPDATE t.bed SET ward = 'er';
SELECT is((SELECT string_agg(b::text, ' ') FROM phi.as_of(NULL::t.bed, at) b), '(icu,1,x)', 'a key of an enum type') FROM t.time WHERE n = 40;

-- A rekey renews what is in the history, and proves its keys unused.
SELECT is((SELECT string_agg(DISTINCT relation::text, ' ') FROM phi.protected_columns WHERE relation::text LIKE 't.visit_history'), 't.visit_history', 'histories are rekeyed as other tables');
SELECT * FROM finish();
ROLLBACK;
