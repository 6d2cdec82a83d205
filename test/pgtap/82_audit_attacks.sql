-- What attackers of the audit trail found, one part for each.
\ir include/setup.psql

GRANT EXECUTE ON FUNCTION phi.audit(regclass, boolean) TO t_nobody;
CREATE FUNCTION t.owned(VARIADIC statements text[]) RETURNS text LANGUAGE sql AS $$ SELECT t.run('t_nobody', '', VARIADIC statements) $$;

-- A history's own columns of other types: a time that was taken for a pointer.
SELECT is(t.owned('CREATE TABLE t.typed (id int PRIMARY KEY)', $$SELECT phi.audit('t.typed', true)$$,
                  'ALTER TABLE t.typed_history ALTER ' || changed, 'INSERT INTO t.typed VALUES (1)'), 'ERROR 55000', 'a history with ' || changed)
FROM unnest(ARRAY['phi_until TYPE text', 'phi_record TYPE text', 'phi_change TYPE bigint USING 0']) changed;

-- Indexes of a history that keep more than btrees do from one row to the next.
SELECT is(t.owned('CREATE TABLE t.listed (id int PRIMARY KEY, list int[])', $$SELECT phi.audit('t.listed', true)$$,
                  'CREATE INDEX one ON t.listed_history USING gin (list)', 'CREATE INDEX two ON t.listed_history USING brin (id)',
                  $$INSERT INTO t.listed VALUES (1, '{1}')$$, $$UPDATE t.listed SET list = '{2}'$$,
                  'ALTER INDEX t.one SET (fastupdate = off)', 'ALTER INDEX t.two SET (autosummarize = on)',
                  'CREATE TABLE t.other AS SELECT a.relname, a.relkind FROM pg_class a, pg_class b LIMIT 1000',
                  $$UPDATE t.listed SET list = '{3}'$$, 'REINDEX INDEX t.one', $$UPDATE t.listed SET list = '{4}'$$,
                  'SET LOCAL enable_seqscan = off', $$SELECT string_agg(phi_change, ' ') FROM t.listed_history WHERE list @> '{3}'$$),
          'UPDATE', 'a history with indexes of other methods');

-- How a session has names quoted does not show in the records.
CREATE TEMP TABLE before AS SELECT max(record_id) AS id FROM phi.audit_log;
CREATE FUNCTION t.told() RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(' ', operation, relation, row_key::text), ', ' ORDER BY record_id) FROM phi.audit_log, before WHERE record_id > id
$$;
SELECT is(t.owned('CREATE TABLE t.quoted (id int PRIMARY KEY)', 'SET LOCAL quote_all_identifiers = on', $$SELECT phi.audit('t.quoted', true)$$,
                  'RESET quote_all_identifiers', 'INSERT INTO t.quoted VALUES (1)', 'SELECT count(*) FROM t.quoted'), '1',
          'a history that was begun with all names quoted');
UPDATE before SET id = (SELECT max(record_id) FROM phi.audit_log);
SET LOCAL quote_all_identifiers = on;
ALTER TABLE t.quoted ADD COLUMN name text;
SELECT phi.audit('t.quoted') \g /dev/null
INSERT INTO t.quoted VALUES (2);
\getenv keys PHI_KEY_DIRECTORY
\set file :keys '/../grants'
COPY (SELECT * FROM phi.clinic_grant) TO :'file';
DELETE FROM phi.clinic_grant WHERE grantee = 't_nurse'::regrole;
DELETE FROM phi.clinic_grant;
COPY phi.clinic_grant FROM :'file';
SELECT unalike(t.told(), '%"phi"%', 'no name is quoted that need not be');
SELECT unalike(t.told(), '%"t"%', 'neither is that of a table');
SELECT alike(t.told(), '%INSERT t.quoted {2}, %DELETE phi.clinic_grant {%,t_nurse}, %COPY phi.clinic_grant', 'and grants are recorded, however names are quoted');
RESET quote_all_identifiers;

-- A parent through which rows come into our tables.
UPDATE before SET id = (SELECT max(record_id) FROM phi.audit_log);
DELETE FROM phi.clinic_grant;
CREATE TABLE t.parent (clinic_id int, grantee regrole, classes int, granted_at timestamptz) PARTITION BY LIST (clinic_id);
ALTER TABLE t.parent ALTER clinic_id SET NOT NULL, ALTER grantee SET NOT NULL, ALTER classes SET NOT NULL, ALTER granted_at SET NOT NULL;
ALTER TABLE t.parent ATTACH PARTITION phi.clinic_grant DEFAULT;
COPY t.parent FROM :'file';
SELECT alike(t.told(), '%INSERT phi.clinic_grant {%,t_app_a}%', 'rows that are copied through a parent are recorded');
ALTER TABLE t.parent DETACH PARTITION phi.clinic_grant;

-- Triggers of statements are those of the table that is named: parents have none.
SELECT t.owned('CREATE TABLE t.kept (id int PRIMARY KEY)', $$SELECT phi.audit('t.kept', true)$$, 'INSERT INTO t.kept VALUES (1)', 'DELETE FROM t.kept',
               'CREATE TABLE t.above (id int)', 'ALTER TABLE t.kept_history INHERIT t.above') \g /dev/null
SELECT is(t.owned(statement), 'ERROR 42501', 'a history, through a parent: ' || statement)
FROM unnest(ARRAY['DELETE FROM t.above', 'UPDATE t.above SET id = 2', 'DELETE FROM ONLY t.kept_history']) statement;
CREATE TABLE t.log (LIKE phi.audit_log) PARTITION BY RANGE (at);
ALTER TABLE t.log ATTACH PARTITION phi.audit_log DEFAULT;
CREATE TABLE t.leaves (first_leaf bigint NOT NULL);
CREATE TABLE t.retired (records bigint NOT NULL);
INSERT INTO phi.audit_leaf SELECT 0, 1, 1, '1', '1', '{1}', sha256('') WHERE NOT EXISTS (SELECT FROM phi.audit_leaf);
INSERT INTO phi.audit_retired VALUES ('{}', now(), now(), 0, sha256(''), '', now(), '');
ALTER TABLE phi.audit_leaf INHERIT t.leaves;
ALTER TABLE phi.audit_retired INHERIT t.retired;
SELECT throws_ok(statement, '42501', NULL, 'the log, through a parent: ' || statement)
FROM unnest(ARRAY['DELETE FROM t.log', $$UPDATE t.log SET login = 'saint'$$, 'DELETE FROM t.leaves', 'UPDATE t.retired SET records = 1']) statement;

ALTER TABLE t.log DETACH PARTITION phi.audit_log;

-- What only the worker changes.
UPDATE before SET id = (SELECT max(record_id) FROM phi.audit_log);
UPDATE phi.audit_state SET exported = 1000000, settings = '{}';
SELECT is(t.told(), 'UPDATE phi.audit_state {t}', 'who stops the export of checkpoints is recorded');
SELECT is(columns, '{exported,settings}', 'with what was changed') FROM phi.audit_log, before WHERE record_id > id;

-- Other columns in the log.
SELECT throws_ok('ALTER TABLE phi.audit_log ' || change, '55000', NULL, 'the log: ' || change)
FROM unnest(ARRAY['ADD COLUMN more text', 'DROP COLUMN person', 'ALTER row_key TYPE text', 'RENAME login TO session', 'ALTER digest_key TYPE bigint']) change;

-- Months are those of UTC, however the session, or the database, writes times.
SET LOCAL timezone = 'Asia/Kolkata';
SET LOCAL DateStyle = 'SQL, DMY';
SELECT phi.make_audit_partition('2031-02-01') \g /dev/null
SET LOCAL timezone = 'UTC';
SELECT is((SELECT (from_at, to_at)::text FROM phi.audit_partitions('2031-03-01 00:00Z') WHERE partition::text = 'phi.audit_log_2031_02'),
          ('2031-02-01 00:00Z'::timestamptz, '2031-03-01 00:00Z'::timestamptz)::text, 'a month of UTC');
RESET DateStyle;

-- Another table in a history's place, which its owner may write.
SELECT is(t.owned('CREATE TABLE t.replaced (id int PRIMARY KEY)', $$SELECT phi.audit('t.replaced', true)$$, 'DROP TABLE t.replaced_history',
                  'CREATE TABLE t.replaced_history (id int, phi_until timestamptz, phi_record bigint, phi_change text)',
                  'INSERT INTO t.replaced VALUES (1)'), 'ERROR 55000', 'a table in the place of a history');

-- An audited table's trigger that goes with something else.
CREATE TABLE t.bound (id int PRIMARY KEY);
SELECT phi.audit('t.bound') \g /dev/null
CREATE EXTENSION hstore;
ALTER TRIGGER phi_audit ON t.bound DEPENDS ON EXTENSION hstore;
DROP EXTENSION hstore;
SELECT is(detail, 'drop hstore; without trigger phi_audit on table t.bound', 'a trigger that goes with an extension')
FROM phi.audit_log WHERE operation = 'DROP EXTENSION' AND relation = 't.bound';
CREATE TABLE t.heirs (id int);
SELECT phi.audit('t.heirs') \g /dev/null
CREATE TABLE t.heir () INHERITS (t.heirs);
SELECT is(problem, 'What changes t.heir is not recorded: call phi.audit() again.', 'a child that was added since') FROM phi.audited_tables WHERE relation = 't.heirs'::regclass;

SELECT throws_ok($$SELECT phi.record_audit('x', 0, 'x')$$, 'XX000', NULL, 'a record of no table');

SELECT * FROM finish();
ROLLBACK;
