-- phi.protect_plan(): what is in the way of a conversion, and how it is decided.
\ir include/setup.psql
SET LOCAL client_min_messages = error;
CREATE TABLE t.patient (id int PRIMARY KEY, clinic text, name text, birth timestamp, tags text[], chart jsonb, mail varchar(9), code "char", gender boolean, weight float8, k int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION t.plan_of(columns jsonb, replacements jsonb DEFAULT '{}', clinic_column name DEFAULT 'clinic', of_phase text DEFAULT 'problem', relation regclass DEFAULT 't.patient') RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws(': ', object, note, statement), E'\n' ORDER BY step) FROM phi.protect_plan(relation, clinic_column, columns, replacements) WHERE phase = of_phase $$;

-- The column that tells the clinic, and rows.
SELECT is(t.plan_of('{"name": "identity"}'), NULL, 'a simple table: nothing');
SELECT is(t.plan_of('{"name": "identity"}', clinic_column => 'nowhere'), 'nowhere: the table has no such column to tell the clinic by', 'no clinic column');
SELECT is(t.plan_of('{"clinic": "identity"}'), 'clinic: the column that tells the clinic cannot be encrypted', 'which must stay plain');
SELECT is(t.plan_of('{"name": "identity"}', clinic_column => 'chart'), 'chart: the column that tells the clinic must be of a text, integer, numeric or uuid type', 'and of a type that codes have');
INSERT INTO t.patient (id, clinic) VALUES (1, 'a'), (2, 'zzz'), (3, NULL);
SELECT is(t.plan_of('{"name": "identity"}'), 'clinic: 2 rows name no clinic that phi.create_clinic() has made', 'rows of no clinic are counted, not shown');
CREATE FUNCTION t.mild(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE INDEX mild ON t.patient (id) WHERE id > t.mild(1);
SELECT is(t.plan_of('{"name": "identity"}'), NULL, 'rows are not counted where planning that could run a function of the owner''s');
SELECT alike(t.plan_of('{"name": "identity"}', of_phase => 'note'), '%rows that name no clinic were not counted%', 'which is said');
DROP INDEX t.mild;
SELECT is(t.plan_of('{"name": "identity"}'), 'clinic: 2 rows name no clinic that phi.create_clinic() has made', 'without it they are');
LOCK TABLE t.patient IN SHARE ROW EXCLUSIVE MODE;
SELECT alike(t.plan_of('{"name": "identity"}', of_phase => 'note'), '%rows that name no clinic were not counted%', 'nor are they while writers wait');
DELETE FROM t.patient;

-- Columns.
SELECT is(t.plan_of(columns::jsonb), wanted, 'columns: ' || columns) FROM (VALUES
  ('{}', 't.patient: no columns are told'), ('["name"]', 't.patient: no columns are told'),
  ('{"nme": "identity"}', 'nme: the table has no such column'), ('{"ctid": "identity"}', 'ctid: the table has no such column'),
  ('{"name": "secret"}', 'name: the data class must be general, identity, insurance, clinical or sensitive'),
  ('{"name": {"type": "enctext"}}', 'name: the data class must be general, identity, insurance, clinical or sensitive'),
  ('{"name": "identity) USING (''x''"}', 'name: the data class must be general, identity, insurance, clinical or sensitive'),
  ('{"tags": "identity"}', 'tags: values of type text[] cannot be encrypted as any type: convert the column to another type first'),
  ('{"code": "identity"}', 'code: values of type "char" cannot be encrypted as any type: convert the column to another type first'),
  ('{"name": {"class": "identity", "type": "encdate"}}', 'name: values of type text cannot be encrypted as encdate: convert the column to another type first'),
  ('{"birth": "identity"}', 'birth: values of type timestamp without time zone are encrypted only as a type that is told: {"birth": {"type": "enctimestamptz", "class": "identity"}}'),
  ('{"birth": {"class": "identity", "type": "enctimestamptz"}}', NULL),
  ('{"k": "identity"}', 'k: an identity column cannot be encrypted'),
  ('{"id": "identity"}', E't.patient: the table needs a primary key, or a unique, immediate index, of other columns that are not null\npatient_pkey: the primary key patient_pkey holds the column: the table needs one of other columns')) v(columns, wanted);
CREATE COLLATION t.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE t.patient ADD town text COLLATE t.nocase;
SELECT alike(t.plan_of('{"town": "identity"}', of_phase => 'note'), '%town: values are equal only when their bytes are, whatever the collation says%', 'a collation that makes more equal');
SELECT is(t.plan_of('{"town": "identity"}', of_phase => 'alter'), 't.patient: ALTER TABLE t.patient ALTER COLUMN town TYPE pg_catalog.enctext(identity) COLLATE t.nocase USING NULL', 'is kept');
SELECT alike(t.plan_of('{"mail": "identity"}', of_phase => 'note'), '%mail: the limit of character varying(9) is not kept: a CHECK constraint can keep it%', 'a limit');

-- Tables.
CREATE TABLE t.parted (id int, clinic text, name text) PARTITION BY LIST (clinic); CREATE TABLE t.part PARTITION OF t.parted DEFAULT;
CREATE TABLE t.above (id int PRIMARY KEY, clinic text, name text); CREATE TABLE t.below () INHERITS (t.above);
CREATE TEMP TABLE t_temp (id int PRIMARY KEY, clinic text, name text);
CREATE TYPE t.kind AS (id int, clinic text, name text); CREATE TABLE t.typed OF t.kind (PRIMARY KEY (id));
CREATE TABLE t.keyless (id int UNIQUE, clinic text, name text); CREATE TABLE t.keyed (id int NOT NULL UNIQUE DEFERRABLE, n int NOT NULL, clinic text, name text); CREATE UNIQUE INDEX ON t.keyed (n) WHERE n > 5;
SELECT alike(t.plan_of('{"name": "identity"}', relation => r::regclass), wanted, 'refused: ' || r) FROM (VALUES
  ('t.parted', '%partitioned tables and partitions cannot be converted%'), ('t.part', '%partitioned tables and partitions cannot be converted%'),
  ('t.above', '%tables that inherit or are inherited from%'), ('t.below', '%tables that inherit or are inherited from%'), ('t.typed', '%the table is of a type%'),
  ('t_temp', '%temporary tables cannot be converted%'), ('t.keyless', '%needs a primary key%'), ('t.keyed', '%needs a primary key%'),
  ('phi.clinic', '%belongs to the system or to an extension%'), ('phi.clinics', '%phi.clinics is not a table%')) v(r, wanted);
CREATE UNIQUE INDEX ON t.keyed (n);
SELECT is(t.plan_of('{"name": "identity"}', relation => 't.keyed'), NULL, 'a unique index will do');

-- Indexes that need a decision, and decisions.
CREATE INDEX by_lower ON t.patient (lower(name)); CREATE INDEX by_chart ON t.patient USING gin (chart); CREATE INDEX of_men ON t.patient (id) WHERE gender;
SELECT is(t.plan_of('{"name": "identity", "chart": "clinical", "gender": "identity"}'), $$by_chart: index by_chart is of access method gin, which encrypted columns cannot have. Told as replacements: {"by_chart": null} drops it, {"by_chart": "CREATE INDEX by_chart ON t.patient USING hash (chart)"} replaces it: DROP INDEX t.by_chart
by_lower: index by_lower has an expression or condition on the column. Told as replacements: {"by_lower": null} drops it, {"by_lower": "CREATE INDEX by_lower ON t.patient USING hash (name)"} replaces it: DROP INDEX t.by_lower
of_men: index of_men has an expression or condition on the column. Told as replacements: {"of_men": null} drops it, {"of_men": "CREATE INDEX of_men ON t.patient USING hash (gender)"} replaces it: DROP INDEX t.of_men$$, 'with the statements that decide');
SELECT is(t.plan_of('{"name": "identity", "chart": "clinical", "gender": "identity"}', '{"by_chart": null, "by_lower": "create index \"by % na\"\"me\" on patient using hash (name) WHERE id % 2 = 0;", "of_men": "CREATE INDEX of_men ON t.patient (id)"}', of_phase => p), wanted, 'told, ' || p) FROM (VALUES
  ('problem', NULL),
  ('before', E'by_chart: DROP INDEX t.by_chart\nby_lower: DROP INDEX t.by_lower\nof_men: DROP INDEX t.of_men'),
  ('index', E'by % na"me: CREATE INDEX %s ON %s using hash (name) WHERE id %% 2 = 0\nof_men: CREATE INDEX %s ON %s (id)\npatient_pkey: CREATE UNIQUE INDEX %s ON %s USING btree (id pg_catalog.int4_ops)'),
  ('after', E'by % na"me: CREATE INDEX "by % na""me" ON t.patient using hash (name) WHERE id % 2 = 0\nof_men: CREATE INDEX of_men ON t.patient (id)')) v(p, wanted);
SELECT alike(t.plan_of('{"name": "identity"}', jsonb_build_object('by_lower', told)), '%the replacement of by_lower is not one CREATE INDEX statement of a named index%', 'not taken: ' || told)
FROM unnest(ARRAY['DROP TABLE t.patient', 'CREATE INDEX ON t.patient (id)', 'CREATE INDEX by_lower ON t.patient (id); DROP TABLE t.patient', 'CREATE TABLE x (CREATE INDEX i ON t (id))', '', 'CREATE INDEX CONCURRENTLY x ON t.patient (id)']) told;
SELECT alike(t.plan_of('{"name": "identity"}', told), wanted, 'not taken: ' || told::text) FROM (VALUES
  ('{"by_lower": null, "of_men": null}'::jsonb, '%of_men: the replacement is of nothing that the columns touch%'), ('{"by_lower": 5}', '%by_lower: a replacement must be a statement, or null to drop%'),
  ('["by_lower"]', '%replacements must be an object%')) v(told, wanted);
DROP INDEX t.by_lower, t.by_chart, t.of_men;
ALTER TABLE t.patient ADD CONSTRAINT later UNIQUE (name) DEFERRABLE, ADD CONSTRAINT beside EXCLUDE (name WITH =, id WITH =);
SELECT alike(t.plan_of('{"name": "identity"}'), wanted, 'a constraint that cannot be kept') FROM (VALUES
  ('%beside: exclusion constraint beside does not compare by equality alone: %: ALTER TABLE t.patient DROP CONSTRAINT beside%'),
  ('%later: unique constraint later is deferrable, which the unique index that replaces it cannot be%: ALTER TABLE t.patient DROP CONSTRAINT later')) v(wanted);
SELECT is(t.plan_of('{"name": "identity"}', '{"beside": null, "later": "CREATE UNIQUE INDEX later ON t.patient (name enctext_equality_ops)"}', of_phase => p), wanted, 'but replaced: ' || p) FROM (VALUES ('problem', NULL),
  ('before', E'beside: ALTER TABLE t.patient DROP CONSTRAINT beside\nlater: ALTER TABLE t.patient DROP CONSTRAINT later'), ('after', 'later: CREATE UNIQUE INDEX later ON t.patient (name enctext_equality_ops)')) v(p, wanted);
ALTER TABLE t.patient DROP CONSTRAINT later, DROP CONSTRAINT beside;
CREATE UNIQUE INDEX broken ON t.patient (name); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't.broken'::regclass;
SELECT alike(t.plan_of('{"name": "identity"}'), 'broken: index broken is not valid: rebuild or drop it first%', 'an invalid index');
DROP INDEX t.broken;

-- Foreign keys on the columns, and an index of a key that holds them.
CREATE TABLE t.town (name text PRIMARY KEY);
ALTER TABLE t.patient ADD CONSTRAINT live FOREIGN KEY (name) REFERENCES t.town;
SELECT is(t.plan_of('{"name": "identity"}'), $$live: foreign key live: both of its ends must be encrypted. Told as replacements: {"live": null} drops it, {"live": "ALTER TABLE t.patient ADD CONSTRAINT live FOREIGN KEY (name) REFERENCES t.town(name) NOT VALID"} adds it again: ALTER TABLE t.patient DROP CONSTRAINT live$$, 'a foreign key');
SELECT is(t.plan_of('{"name": "identity"}', '{"live": null}', of_phase => p), wanted, 'dropped: ' || p) FROM (VALUES ('problem', NULL), ('before', 'live: ALTER TABLE t.patient DROP CONSTRAINT live'), ('after', NULL)) v(p, wanted);
SELECT is(t.plan_of('{"name": "identity"}', '{"live": "ALTER TABLE t.patient ADD CONSTRAINT live FOREIGN KEY (name) REFERENCES t.town(name) NOT VALID;"}', of_phase => p), wanted, 'added again: ' || p) FROM (VALUES ('problem', NULL), ('before', 'live: ALTER TABLE t.patient DROP CONSTRAINT live'),
  ('after', 'live: as told: ALTER TABLE t.patient ADD CONSTRAINT live FOREIGN KEY (name) REFERENCES t.town(name) NOT VALID')) v(p, wanted);
SELECT alike(t.plan_of('{"name": "identity"}', jsonb_build_object('live', told)), '%the replacement of foreign key live is not one ALTER TABLE statement%', 'not taken: ' || told) FROM unnest(ARRAY['DROP TABLE t.town', 'ALTER TABLE a RENAME TO b; DROP TABLE t.town']) told;
ALTER TABLE t.patient DROP CONSTRAINT live;
CREATE UNIQUE INDEX wide ON t.patient (id) INCLUDE (mail); CREATE TABLE t.stay (id int);
ALTER TABLE t.patient DROP CONSTRAINT patient_pkey; ALTER TABLE t.patient ADD PRIMARY KEY USING INDEX wide; ALTER TABLE t.stay ADD CONSTRAINT stays FOREIGN KEY (id) REFERENCES t.patient;
SELECT alike(t.plan_of('{"mail": "identity"}'), '%index wide holds values of the column, and foreign keys refer to it: drop stays of t.stay first%', 'a key''s index that holds the column');
ALTER TABLE t.stay DROP CONSTRAINT stays;
SELECT is(t.plan_of('{"mail": "identity"}', of_phase => p), wanted, 'without foreign key it stays what it is: ' || p) FROM (VALUES ('problem', NULL), ('before', NULL), ('index', 'wide: CREATE UNIQUE INDEX %s ON %s USING btree (id pg_catalog.int4_ops) INCLUDE (mail)')) v(p, wanted);

-- What the plan does not make again.
CREATE VIEW t.names AS SELECT name FROM t.patient; CREATE MATERIALIZED VIEW t.copy AS SELECT name FROM t.names; CREATE INDEX ON t.copy (name);
CREATE VIEW t.of_copy AS SELECT * FROM t.copy; CREATE TEMP VIEW t_names AS SELECT name FROM t.patient; CREATE VIEW t.whole AS SELECT p, to_jsonb(p) AS j FROM t.patient p;
CREATE FUNCTION t.rows_of() RETURNS SETOF t.of_copy LANGUAGE sql AS 'SELECT * FROM t.of_copy';
CREATE FUNCTION t.parsed() RETURNS text BEGIN ATOMIC SELECT name FROM t.patient; END;
CREATE PUBLICATION t_filter FOR TABLE t.patient WHERE (name > 'a');
ALTER TABLE t.patient ADD upper text GENERATED ALWAYS AS (upper(name)) STORED;
CREATE DOMAIN t."row" AS t.patient; CREATE TYPE t.holder AS (one t.patient);
SELECT is(t.plan_of('{"name": "identity"}'), $$t_filter: publication t_filter filters rows by the column: ALTER PUBLICATION t_filter DROP TABLE t.patient
upper: generated column upper is made of the column and would keep its plaintext: ALTER TABLE t.patient DROP COLUMN upper
t.parsed(): its body, parsed when it was made, uses the column: drop it, and make it again afterwards: DROP FUNCTION t.parsed()
t."row": type t."row" is made of rows of the table
t.holder.one: column one of composite type t.holder is made of rows of the table
t.copy: materialized view t.copy holds a copy of the column: drop it. Told as replacements: {"t.copy": null} drops it in the change: DROP MATERIALIZED VIEW t.copy
t_names: temporary views on the column must be gone: end the sessions that have them: DROP VIEW t_names
t.of_copy: function t.rows_of() uses t.of_copy$$, 'what uses the columns otherwise');
SELECT alike(t.plan_of('{"upper": "identity"}'), '%upper: a generated column cannot be encrypted%', 'a generated column');
DROP FUNCTION t.parsed(), t.rows_of(); DROP VIEW t_names; DROP PUBLICATION t_filter; ALTER TABLE t.patient DROP upper; DROP DOMAIN t."row"; DROP TYPE t.holder;
SELECT is(t.plan_of('{"name": "identity"}', '{"t.copy": null}'), 't.of_copy: t.of_copy is on t.copy, which is to be dropped: tell what becomes of it also', 'a view on what is to be dropped');
SELECT alike(t.plan_of('{"name": "identity"}', '{"t.copy": "DROP TABLE t.patient", "t.of_copy": "CREATE VIEW x AS SELECT 1; SELECT 2"}'), '%the replacement of ' || told || ' must be one statement%', 'views are replaced by views: ' || told)
FROM unnest('{t.copy,t.of_copy}'::text[]) told;
DO $do$
DECLARE
  s text;
BEGIN
  PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR s IN SELECT statement FROM phi.protect_plan('t.patient', 'clinic', '{"name": "identity", "birth": {"class": "identity", "type": "enctimestamptz"}, "weight": {"class": "clinical", "type": "encnumeric"}}', '{"t.copy": "CREATE MATERIALIZED VIEW t.copy AS SELECT id FROM t.patient WITH NO DATA;", "t.of_copy": "CREATE VIEW t.of_copy AS SELECT 1 AS one"}')
    WHERE phase IN ('problem', 'before', 'alter', 'after', 'late') ORDER BY step LOOP
    EXECUTE s;
  END LOOP;
  PERFORM set_config('search_path', 'public', true);
END $do$;
SELECT is(string_agg(format('%s %s %s', c.oid::regclass, a.attname, a.atttypid::regtype), ', ' ORDER BY c.relname COLLATE "C", attnum), 't.copy id integer, t.names name enctext, t.of_copy one integer, t.whole p t.patient, t.whole j jsonb', 'replaced as told, views of whole rows untouched') FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 WHERE c.oid IN ('t.copy'::regclass, 't.of_copy'::regclass, 't.names'::regclass, 't.whole'::regclass);
SELECT is(isolated, true, 'and isolated') FROM phi.protected_columns WHERE relation = 't.patient'::regclass AND "column" = 'name';
SELECT is(t.plan_of('{"name": "identity"}'), 'name: the column is encrypted already', 'not twice');
SELECT is((SELECT string_agg(note, ' ') FROM phi.unprotect_plan('t.patient', '{id}') WHERE phase = 'problem'), 'the column is not encrypted', 'nor back before');
SELECT is((SELECT string_agg(note, ' ') FROM phi.unprotect_plan('t.patient', '{name}', jsonb_build_object('name', jsonb_build_object('type', told))) WHERE phase = 'problem' AND object = 'name'), wanted, 'back to ' || told)
FROM (VALUES ('varchar(7)', NULL), ('date', 'type date cannot hold decrypted values of enctext'), ('text USING NULL', 'type text USING NULL cannot hold decrypted values of enctext'), ('text -- ', 'type text --  cannot hold decrypted values of enctext'),
  ('setof text', 'type setof text cannot hold decrypted values of enctext'), ('text, DROP COLUMN id', 'type text, DROP COLUMN id cannot hold decrypted values of enctext'), ('nosuch', 'type nosuch cannot hold decrypted values of enctext')) v(told, wanted);

-- Who is no superuser gets a plan of what he could do himself.
CREATE ROLE t_owner LOGIN; CREATE ROLE t_third;
CREATE TABLE t.own (id int PRIMARY KEY, clinic text, name text); ALTER TABLE t.own OWNER TO t_owner; CREATE VIEW t.theirs AS SELECT name FROM t.own;
CREATE INDEX own_name ON t.own (name); ALTER VIEW t.theirs OWNER TO t_third;
SELECT alike(t.plan_of('{"name": "identity"}', relation => 't.own'), '%t.theirs belongs to t_third%', 'a superuser has no more rights than its owner');
ALTER ROLE t_owner SUPERUSER;
SELECT is(t.plan_of('{"name": "identity"}', relation => 't.own'), NULL, 'but a superuser''s table may be converted with all');
ALTER ROLE t_owner NOSUPERUSER;
CREATE FUNCTION t.plan_of_owner(replacements jsonb) RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT t.plan_of('{"name": "identity"}', replacements, relation => 't.own') $$;
SELECT is(t.run('t_owner', '', 'SELECT t.plan_of_owner(''{}'')'), 't.theirs: t.theirs belongs to t_third: the table must belong to a superuser to be converted with it', 'another''s view');
ALTER VIEW t.theirs OWNER TO t_owner;
GRANT SELECT ON t.theirs TO t_third WITH GRANT OPTION; SET LOCAL ROLE t_third; GRANT SELECT ON t.theirs TO t_nobody; RESET ROLE;
SELECT is(t.run('t_owner', '', 'SELECT t.plan_of_owner(''{}'')'), 't.theirs: t.theirs has grants that were not made by its owner: the table must belong to a superuser to be converted with it', 'another''s grants');
REVOKE SELECT ON t.theirs FROM t_third CASCADE; GRANT SELECT ON t.theirs TO t_third WITH GRANT OPTION; GRANT UPDATE (name) ON t.theirs TO t_nobody; REVOKE DELETE ON t.theirs FROM t_owner;
SELECT is(t.run('t_owner', '', 'SELECT t.plan_of_owner(''{}'')'), NULL, 'his own');
SELECT is(t.run('t_owner', '', $$SELECT t.plan_of_owner('{"own_name": "CREATE INDEX i ON own (id)"}')$$), NULL, 'he may replace an index');
SELECT is(t.run('t_owner', '', $$SELECT t.plan_of_owner('{"t.theirs": "CREATE VIEW x AS SELECT 1"}')$$), 't.theirs: the table must belong to a superuser for this replacement: else indexes may be replaced, or things dropped', 'but nothing else');
CREATE TABLE t.acl AS SELECT c.oid::regclass::text AS view, x.*, '' AS col FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = 't.theirs'::regclass
  UNION ALL SELECT 't.theirs', x.*, a.attname FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = 't.theirs'::regclass;
SELECT is(t.run('t_owner', '', VARIADIC ARRAY(SELECT statement FROM phi.protect_plan('t.own', 'clinic', '{"name": "identity"}') WHERE phase IN ('before', 'alter', 'after') ORDER BY step)), '', 'he can carry it out');
SELECT is(format_type(atttypid, atttypmod), 'enctext(identity)', 'to the end') FROM pg_attribute WHERE attrelid = 't.theirs'::regclass AND attname = 'name';
SELECT bag_eq('TABLE t.acl', $$SELECT c.oid::regclass::text, x.*, '' FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = 't.theirs'::regclass
  UNION ALL SELECT 't.theirs', x.*, a.attname FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = 't.theirs'::regclass$$, 'and with the same grants');
SELECT is(t.run('t_owner', '', 'SELECT phi.restore_grants(''t.patient'', ''{t_owner=r/t_owner}'', ''{}'')'), 'ERROR 42501', 'grants on what is another''s cannot be restored');
SELECT is(t.run('t_owner', '', $$SELECT phi.protect_plan('t.own', 'clinic', '{"name": "identity"}')$$), 'ERROR 42501', 'a plan is for whom it is granted');
SELECT * FROM finish();
ROLLBACK;
