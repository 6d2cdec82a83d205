-- The btree class for equality: unique indexes and those of several columns;
-- its order serves nobody. Sorts decrypt once and sort as the base type does.
\ir include/setup.psql
SELECT format('CREATE TABLE t.unique_%1$s (n int, v %1$s(insurance)); CREATE UNIQUE INDEX key_%1$s ON t.unique_%1$s (v %1$s_equality_ops)', enc) FROM t.type \gexec
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (1, %L)', enc, sample)), NULL, 'a first value: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (2, %L)', enc, sample)), 'ERROR 23505', 'the same again: ' || enc) FROM t.type;
SELECT is(t.run('t_app_b', 'b', format('INSERT INTO t.unique_%s VALUES (3, %L)', enc, sample)), NULL, 'the same in another clinic: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', '', format('INSERT INTO t.unique_%s SELECT n, v FROM t.unique_%1$s', enc)), 'ERROR 23505', 'the same by a sealed session: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (4, NULL), (5, NULL)', enc)), NULL, 'NULLs: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (6, %L) ON CONFLICT (v) DO UPDATE SET n = -excluded.n RETURNING n', enc, sample)), '-6', 'ON CONFLICT finds it: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (7, %L::%s) ON CONFLICT DO NOTHING RETURNING n', enc, sample, base)), NULL, 'and DO NOTHING: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.unique_encnumeric VALUES (8, 36.6000)'), 'ERROR 23505', 'equal numerics of another scale');
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO t.unique_encjsonb VALUES (8, '{"allergy":"penicillin"}')$$), 'ERROR 23505', 'equal jsonb written otherwise');
SELECT is(t.run('t_app_a', 'a', format('SET LOCAL enable_seqscan = off', enc), format('SELECT string_agg(n::text, '','') FROM t.unique_%s WHERE v = %L', enc, sample)), '-6', 'a search finds the clinic''s own: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.unique_encdate SET v = ''2001-01-01'' WHERE n = -6 RETURNING v'), '2001-01-01', 'an update');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.unique_encdate VALUES (9, ''1958-03-21'') RETURNING n'), '9', 'after which the old value is free');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.unique_encdate VALUES (9, ''2001-01-01'')'), 'ERROR 23505', 'and the new one is not');

-- Many values, from one column and with a plain one, all ways to search.
CREATE TABLE t.patient (clinic text, n int, name enctext(identity), born encdate(identity), weight encnumeric(clinical), note enctext(clinical));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient SELECT 'a', i, 'name ' || i % 1000, date '1950-01-01' + i, i / 10.0, 'note ' || i FROM generate_series(1, 2000) i$$) \g /dev/null
CREATE INDEX by_name ON t.patient (name enctext_equality_ops);
CREATE UNIQUE INDEX by_born ON t.patient (clinic, born encdate_equality_ops) INCLUDE (n);
CREATE INDEX by_weight ON t.patient (weight encnumeric_equality_ops DESC NULLS LAST);
CREATE INDEX by_note ON t.patient (note enctext_equality_ops);
SELECT t.run('t_app_b', 'b', $$INSERT INTO t.patient SELECT 'b', i, 'name ' || i % 1000, date '1950-01-01' + i, i / 10.0, 'note ' || i FROM generate_series(1, 2000) i$$) \g /dev/null
ANALYZE t.patient;
CREATE TABLE t.search (name text, condition text, index text, found text);
INSERT INTO t.search VALUES
  ('a literal',            $$name = 'name 77'$$, 'by_name', '77,1077'),
  ('a literal, reversed',  $$'name 77' = name$$, 'by_name', '77,1077'),
  ('text',                 $$name = 'name 77'::text$$, 'by_name', '77,1077'),
  ('text, reversed',       $$'name 77'::text = name$$, 'by_name', '77,1077'),
  ('varchar',              $$name = 'name 77'::varchar$$, 'by_name', '77,1077'),
  ('bpchar',               $$name = 'name 77'::char(7)$$, 'by_name', '77,1077'),
  ('IN',                   $$name IN ('name 77', 'name 78')$$, 'by_name', '77,78,1077,1078'),
  ('ANY (text[])',         $$name = ANY ('{name 77,name 78}'::text[])$$, 'by_name', '77,78,1077,1078'),
  ('ANY (varchar[])',      $$name = ANY ('{name 77,name 78}'::varchar[])$$, 'by_name', '77,78,1077,1078'),
  ('phi.encrypt()',        $$name = (SELECT phi.encrypt('name 77'))$$, 'by_name', '77,1077'),
  ('two columns',          $$clinic = 'a' AND born = '1950-03-19'$$, 'by_born', '77'),
  ('two columns, a date',  $$clinic = 'a' AND born = date '1950-03-19'$$, 'by_born', '77'),
  ('a numeric',            $$weight = 7.700$$, 'by_weight', '77'),
  ('an integer',           $$weight = 7$$, 'by_weight', '70'),
  ('a value that is not there', $$name = 'name'$$, 'by_name', NULL);
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(n::text, '','' ORDER BY n) FROM t.patient WHERE ' || condition), found, 'found by ' || name) FROM t.search;
SELECT alike(t.run('t_app_a', 'a', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM t.patient WHERE ' || condition), '%"Index Name": "' || index || '"%', 'an index scan for ' || name) FROM t.search;
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL search_path = t', 'SELECT count(*) FROM patient WHERE name = ''name 77''::text'), '2', 'with another search_path');
SELECT is(t.run('t_nurse', 'a', 'SELECT string_agg(n::text, '','' ORDER BY n) FROM t.patient WHERE ' || condition), CASE index WHEN 'by_weight' THEN 'ERROR 42501' ELSE found END, 'a nurse: ' || name) FROM t.search;
SELECT is(t.run('t_app_a', '', 'SELECT count(*) FROM t.patient WHERE ' || condition), 'ERROR 42501', 'sealed: ' || name) FROM t.search;
SELECT phi.isolate('t.patient', 'clinic') \g /dev/null
SELECT alike(t.run('t_app_a', 'a', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM t.patient WHERE ' || condition), '%"Index Name": "' || index || '"%', 'isolated, an index scan for ' || name) FROM t.search;
SELECT phi.unisolate('t.patient') \g /dev/null

-- A new search key, in the transaction that goes on to write.
SELECT phi.rotate_search_key('a') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(n::text, '','' ORDER BY n) FROM t.patient WHERE ' || condition), found, 'after a new search key, found by ' || name) FROM t.search;
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.patient VALUES (''a'', 0, NULL, ''1950-03-19'')'), 'ERROR 23505', 'and still unique');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.patient VALUES (''a'', 3000, ''name 77'') RETURNING n'), '3000', 'a value written');
SELECT is(t.run('t_app_a', 'a', $$SELECT string_agg(n::text, ',' ORDER BY n) FROM t.patient WHERE name = 'name 77'$$), '77,1077,3000', 'is found');

-- No order is to be had of it.
SELECT is((SELECT string_agg(amopopr::regoper::text, ',') FROM pg_amop WHERE amopfamily = (SELECT oid FROM pg_opfamily WHERE opfname = 'enctext_unique_ops') AND amopstrategy <> 3), NULL, 'its family knows no order');
SELECT is(count(*), 0::bigint, 'and is younger than that of the default class: a merge join sorts by the first')
FROM t.type JOIN pg_opfamily u ON u.opfname = enc || '_unique_ops' JOIN pg_opfamily d ON d.opfname = enc || '_ops' AND d.opfmethod = u.opfmethod WHERE u.oid < d.oid;
SELECT unalike(t.run('t_app_a', 'a', 'SET LOCAL enable_sort = off', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT name FROM t.patient ORDER BY name'), '%by_name%', 'the index serves no ORDER BY');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL enable_hashjoin = off', 'SET LOCAL enable_nestloop = off', 'SELECT count(*) FROM t.patient x JOIN t.patient y ON x.name = y.name'), '8005', 'a merge join beside such an index');

-- Without the class nobody searches; rows are carried along.
SET LOCAL enable_seqscan = on;
SELECT is(t.run(who, clinic, 'SELECT enctextequalitycmp(x.note, y.note) FROM t.patient x, t.patient y'), 'ERROR 42501', 'the support function is nobody''s: ' || who)
FROM (VALUES ('t_nurse', 'a'), ('t_app_a', 'a'), ('t_nobody', '')) v(who, clinic);
SELECT is(t.run('t_nurse', 'a', 'UPDATE t.patient SET n = n WHERE n = 77 RETURNING n'), '77', 'updating other columns carries the values along');
SELECT is(t.run('t_nurse', 'a', $$SELECT count(*) FROM t.patient WHERE note = 'note 77'$$), 'ERROR 42501', 'the index of another class is not searched');

-- Sorting: long values, equal ones, spilled runs, all as the base type sorts.
CREATE TABLE t.long (n int, p text, v enctext(identity));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.long SELECT i, x, x FROM (SELECT i, repeat('x', i % 7 * 60) || md5((i % 3000)::text) || repeat('y', i % 5 * 500) x FROM generate_series(1, 6000) i) s$$) \g /dev/null
CREATE TABLE t.collation (name text);
INSERT INTO t.collation VALUES ('C'), ('ja-x-icu'), ('und-x-icu');
SELECT is(t.run('t_app_a', 'a', format('SET LOCAL work_mem = %L', memory), format('SELECT count(*) FROM (SELECT array_agg(n ORDER BY v COLLATE %1$I %2$s, n) a, array_agg(n ORDER BY p COLLATE %1$I %2$s, n) b FROM t.long) s WHERE a = b', name, direction)), '1', format('sorted by %s %s with %s', name, direction, memory))
FROM t.collation, unnest('{ASC,DESC}'::text[]) direction, unnest('{64kB,32MB}'::text[]) memory;
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM (SELECT array(SELECT n FROM t.long ORDER BY v COLLATE "C", n LIMIT 50) a, array(SELECT n FROM t.long ORDER BY p COLLATE "C", n LIMIT 50) b) s WHERE a = b'), '1', 'the first of them');
-- Short values, more of them than a sort's memory holds.
CREATE TABLE t.short (n int, p bigint, v encbigint);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.short SELECT i, x, x FROM (SELECT i, (i * 7919::bigint) % 20011 - 10000 x FROM generate_series(1, 30000) i) s$$) \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL work_mem = ''64kB''', 'SET LOCAL maintenance_work_mem = ''1MB''', 'SELECT count(*) FROM (SELECT array_agg(n ORDER BY v, n) a, array_agg(n ORDER BY p, n) b FROM t.short) s WHERE a = b'), '1', 'a sort that spills gives the right order');
-- What the session may not read sorts last, and a sort tells nothing of it.
SELECT is(t.run('t_nurse', 'a', 'SELECT string_agg(k, '','') FROM (SELECT k FROM (SELECT ''hidden'' k, note v FROM t.patient WHERE n = 77 AND clinic = ''a'' UNION ALL SELECT ''lower'', phi.encrypt(''a'') UNION ALL SELECT ''equal'', phi.encrypt(''note 77'') UNION ALL SELECT ''higher'', phi.encrypt(''z'')) s ORDER BY v COLLATE "C") s'),
          'lower,equal,higher,hidden', 'what she may not read sorts last');
SELECT * FROM finish();
ROLLBACK;
