-- phi.isolate(): rows of the session's clinic only, whoever asks.
\ir include/setup.psql
CREATE ROLE t_owner LOGIN;
CREATE TABLE t.kind (type text, a text, b text);
SELECT phi.create_clinic('1', 'One'), phi.create_clinic('2', 'Two') \g /dev/null
SELECT phi.grant_clinic('t_app_a', '1'), phi.grant_clinic('t_app_b', '2'), phi.grant_clinic('t_owner', 'a', '{}') \g /dev/null
INSERT INTO t.kind VALUES ('text', 'a', 'b'), ('varchar(10)', 'a', 'b'), ('"char"', 'a', 'b'), ('name', 'a', 'b'), ('integer', '1', '2'), ('bigint', '1', '2'), ('numeric', '1', '2');
CREATE FUNCTION t.table_of(type text) RETURNS text LANGUAGE sql AS $$ SELECT 't.rows_' || regexp_replace(type, '\W', '', 'g') $$;
SELECT format('CREATE TABLE %s (clinic %s, n int, v enctext)', t.table_of(type), type) FROM t.kind \gexec
SELECT format('INSERT INTO %s (clinic, n) SELECT CASE WHEN i %% 50 = 0 THEN %L ELSE %L END::%s, i FROM generate_series(1, 5000) i', t.table_of(type), a, b, type) FROM t.kind \gexec
SELECT format('CREATE INDEX ON %s (clinic)', t.table_of(type)) FROM t.kind \gexec
SELECT format('ANALYZE %s', t.table_of(type)) FROM t.kind \gexec
SELECT phi.isolate(t.table_of(type)::regclass, 'clinic') FROM t.kind \g /dev/null
SELECT is(t.run('t_app_a', a, format('SELECT count(*) || min(clinic)::text || max(clinic)::text FROM %s', t.table_of(type))), '100' || a || a, 'rows of the clinic: ' || type) FROM t.kind;
SELECT is(t.run('t_app_a', '', format('SELECT count(*) FROM %s', t.table_of(type))), '0', 'no rows when sealed: ' || type) FROM t.kind;
SELECT alike(t.run('t_app_a', a, 'SET LOCAL enable_seqscan = off', format('EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM %s', t.table_of(type))), '%"Index Name"%', 'by the index: ' || type) FROM t.kind WHERE type NOT IN ('"char"');
SELECT is(t.run('t_app_a', a, format('INSERT INTO %s VALUES (%L, 0)', t.table_of(type), a)), NULL, 'writes its own: ' || type) FROM t.kind;
SELECT is(t.run('t_app_a', a, format('INSERT INTO %s VALUES (%L, 0)', t.table_of(type), b)), 'ERROR 42501', 'and no other''s: ' || type) FROM t.kind;
SELECT is(t.run('t_app_a', a, format('UPDATE %s SET clinic = %L', t.table_of(type), b)), 'ERROR 42501', 'nor gives a row away: ' || type) FROM t.kind;
SELECT is(t.run('t_app_a', a, format('WITH d AS (DELETE FROM %s WHERE clinic = %L RETURNING 1) SELECT count(*) FROM d', t.table_of(type), b)), '0', 'nor deletes one: ' || type) FROM t.kind;
SELECT is(t.run('t_app_a', a, format('INSERT INTO %s VALUES (NULL, 0)', t.table_of(type))), 'ERROR 42501', 'nor a row of no clinic: ' || type) FROM t.kind;
-- A clinic whose code is none of the column's type is no error, or the first query after login would fail.
SELECT matches(t.run('t_app_a', 'a', 'SELECT count(*) FROM t.rows_integer'), '^(0|ERROR 22P02)$', 'a code that is no number, for an integer column');

-- The owner as well; a superuser by his nature not, but he reads ciphertext.
ALTER TABLE t.rows_text OWNER TO t_owner;
SELECT is(t.run('t_owner', '', 'SELECT count(*) FROM t.rows_text'), '0', 'the owner, sealed');
SELECT is(t.run('t_owner', 'a', 'SELECT count(*) FROM t.rows_text'), '101', 'the owner with a clinic');
SELECT is(t.run(current_user, '', 'SELECT count(DISTINCT clinic) FROM t.rows_text'), '2', 'a superuser sees all rows');
-- Injected SQL.
SELECT is(t.run('t_app_a', 'a', 'SELECT count(DISTINCT clinic) FROM t.rows_text WHERE n = 1 OR 1 = 1'), '1', 'OR 1 = 1');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL row_security = off', 'SELECT count(*) FROM t.rows_text'), 'ERROR 42501', 'row_security = off is refused, not obeyed');
SET LOCAL row_security = on;
SELECT is(t.run('t_app_a', 'a', 'CREATE FUNCTION t.spy(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS ''BEGIN IF $1 = ''''b'''' THEN RAISE EXCEPTION USING ERRCODE = ''''P0099''''; END IF; RETURN true; END''', 'SELECT count(*) FROM t.rows_text WHERE t.spy(clinic)'), '101', 'a cheap function is not shown other rows');
SELECT is(t.run('t_app_a', 'a', 'ALTER TABLE t.rows_text DISABLE ROW LEVEL SECURITY'), 'ERROR 42501', 'an application cannot end it');
SELECT is(t.run('t_app_a', 'a', 'SELECT phi.unisolate(''t.rows_text'')'), 'ERROR 42501', 'nor by the function');

-- Policies of others: a permissive one adds no other clinic's rows, and is left alone.
CREATE POLICY everything ON t.rows_text USING (true);
SELECT is(t.run('t_app_a', 'a', 'SELECT count(DISTINCT clinic) FROM t.rows_text'), '1', 'another permissive policy opens nothing');
SELECT phi.isolate('t.rows_text', 'clinic') \g /dev/null
SELECT is(string_agg(polname, ' ' ORDER BY polname), 'everything phi_clinic phi_isolation', 'isolating twice is isolating once') FROM pg_policy WHERE polrelid = 't.rows_text'::regclass;
SELECT phi.unisolate('t.rows_text') \g /dev/null
SELECT is((SELECT string_agg(polname, ' ') FROM pg_policy WHERE polrelid = c.oid) || relrowsecurity || relforcerowsecurity, 'everythingtruetrue', 'unisolate leaves it, and row security on') FROM pg_class c WHERE oid = 't.rows_text'::regclass;
SELECT phi.unisolate('t.rows_integer') \g /dev/null
SELECT is(format('%s %s %s', relrowsecurity, relforcerowsecurity, (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid)), 'f f 0', 'unisolate leaves nothing behind') FROM pg_class c WHERE oid = 't.rows_integer'::regclass;
SELECT is(t.run('t_app_a', '', 'SELECT count(*) FROM t.rows_integer'), '5001', 'and all rows are seen again');

-- Partitions and children, also by their own name.
CREATE TABLE t.visit (clinic text, at date) PARTITION BY RANGE (at);
CREATE TABLE t.visit_1 PARTITION OF t.visit FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (clinic);
CREATE TABLE t.visit_1_a PARTITION OF t.visit_1 FOR VALUES IN ('a');
CREATE TABLE t.visit_1_b PARTITION OF t.visit_1 DEFAULT;
INSERT INTO t.visit VALUES ('a', '2020-02-02'), ('b', '2020-02-02'), ('b', '2020-03-02');
CREATE TABLE t.parent (clinic text); CREATE TABLE t.child () INHERITS (t.parent); CREATE TABLE t.grandchild () INHERITS (t.child);
INSERT INTO t.parent VALUES ('b'); INSERT INTO t.child VALUES ('b'); INSERT INTO t.grandchild VALUES ('b'), ('a');
SELECT phi.isolate('t.visit', 'clinic'), phi.isolate('t.parent', 'clinic') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM ' || name), wanted, 'rows seen in ' || name)
FROM (VALUES ('t.visit', '1'), ('t.visit_1', '1'), ('t.visit_1_a', '1'), ('t.visit_1_b', '0'), ('t.parent', '1'), ('t.child', '1'), ('t.grandchild', '1'), ('ONLY t.parent', '0')) v(name, wanted);
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.visit_1_b VALUES (''b'', ''2020-02-02'')'), 'ERROR 42501', 'writing to a partition by its name');
SELECT phi.unisolate('t.visit'), phi.unisolate('t.parent') \g /dev/null
SELECT is(count(*), 0::bigint, 'unisolate takes all of them back') FROM pg_policy WHERE polrelid::regclass::text ~ '^t\.(visit|parent|child|grandchild)';
-- Names that need quoting.
CREATE TABLE t."Odd ""table" ("the ""Clinic" text);
INSERT INTO t."Odd ""table" VALUES ('a'), ('b');
SELECT phi.isolate('t."Odd ""table"', 'the "Clinic') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM t."Odd ""table"'), '1', 'names that need quotes');
-- What is reported.
CREATE TABLE t.reported (clinic text, name enctext(identity), weight encnumeric, plain text);
SELECT phi.isolate('t.reported', 'clinic') \g /dev/null
SELECT is(string_agg(format('%s %s %s %s', "column", type, class, isolated), ', ' ORDER BY "column"), 'name enctext identity t, weight encnumeric general t', 'phi.protected_columns') FROM phi.protected_columns WHERE relation = 't.reported'::regclass;
SELECT is(isolated, false, 'and of a table that is not isolated') FROM phi.protected_columns WHERE relation = 't.rows_text'::regclass;
SELECT * FROM finish();
ROLLBACK;
