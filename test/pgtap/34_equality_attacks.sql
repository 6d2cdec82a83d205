-- What the PRF's order and the sorts must not do. The nurse of
-- clinic a holds identity and general; guesses are values that she made herself.
\ir include/setup.psql
CREATE TABLE t.patient (id int, clinic text, hiv encboolean(sensitive), blood enctext(clinical), name enctext(identity));
CREATE INDEX by_hiv ON t.patient (clinic, hiv encboolean_equality_ops);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient SELECT i, 'a', i % 7 = 3, (ARRAY['A','B','AB','O','Rh-'])[1 + (i * i) % 5], 'name' || i FROM generate_series(1, 40) i$$) \g /dev/null
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient SELECT 40 + i, 'a', false, (ARRAY['A','B','AB','O','Rh-'])[i] FROM generate_series(1, 5) i$$) \g /dev/null
CREATE TABLE t.guess (x text, v enctext, b encboolean);
SELECT t.run('t_nurse', 'a', $$INSERT INTO t.guess SELECT x, phi.encrypt(x) FROM unnest('{A,B,AB,O,Rh-}'::text[]) x$$) \g /dev/null
SELECT t.run('t_nurse', 'a', $$INSERT INTO t.guess SELECT x::text, NULL, phi.encrypt(x) FROM unnest('{t,f}'::boolean[]) x$$) \g /dev/null
SELECT t.run('t_app_a', 'a', 'SELECT string_agg(id || blood::text, '','' ORDER BY id) FROM t.patient') AS blood,
       t.run('t_app_a', 'a', 'SELECT string_agg(id::text, '','' ORDER BY id) FROM t.patient WHERE hiv = true') AS hiv \gset

-- Her guesses' ranks among themselves must not be those of what she guesses at.
SELECT isnt(t.run('t_nurse', '', $$SELECT string_agg(id || x, ',' ORDER BY id) FROM (SELECT id, dense_rank() OVER (ORDER BY blood COLLATE "C") r FROM t.patient) h
  JOIN (SELECT x, dense_rank() OVER (ORDER BY v COLLATE "C") r FROM t.guess WHERE v IS NOT NULL) g USING (r)$$), :'blood', 'ORDER BY of a sealed session ranks values of two classes alike');
SELECT isnt(t.run('t_nurse', 'a', $$SELECT string_agg(id || x, ',' ORDER BY id) FROM (SELECT id, dense_rank() OVER (ORDER BY blood COLLATE "C") r FROM t.patient) h
  JOIN (SELECT x, 1 + (SELECT count(*) FROM t.guess b WHERE enctextequalitycmp(b.v, a.v) < 0) r FROM t.guess a WHERE v IS NOT NULL) g USING (r)$$), :'blood', 'ORDER BY and the support function rank alike');
SELECT isnt(t.run('t_nurse', 'a', $$WITH own AS (SELECT encbooleanequalitycmp(phi.encrypt(true), phi.encrypt(false)) AS sign),
  ranks AS (SELECT x.id, min(encbooleanequalitycmp(x.hiv, y.hiv)) lo, max(encbooleanequalitycmp(x.hiv, y.hiv)) hi FROM t.patient x, t.patient y GROUP BY 1)
  SELECT string_agg(id::text, ',' ORDER BY id) FROM ranks, own WHERE CASE WHEN sign < 0 THEN lo < 0 ELSE hi > 0 END$$), :'hiv', 'the support function tells two values from which one they are');
SELECT isnt(t.run('t_nurse', 'a', 'SET LOCAL enable_bitmapscan = off', 'SET LOCAL enable_seqscan = off', $$WITH own AS (SELECT encbooleanequalitycmp(phi.encrypt(true), phi.encrypt(false)) AS sign),
  seen AS MATERIALIZED (SELECT id FROM t.patient WHERE clinic = 'a'), numbered AS (SELECT id, row_number() OVER () n FROM seen)
  SELECT string_agg(id::text, ',' ORDER BY id) FROM numbered, own WHERE CASE WHEN sign < 0 THEN n <= 6 ELSE n > 39 END$$), :'hiv', 'an index scan gives rows of a class not held in the order of guesses');

-- One class in one index: it is declared.
SELECT is(t.run(current_user, '', 'CREATE INDEX ON t.guess (v enctext_equality_ops)'), 'ERROR 0A000', 'no index for equality on a column without a class');
SELECT alike(t.error_of(current_user, '', 'CREATE INDEX ON t.guess (v enctext_equality_ops)'), '%declares its data class%enctext(general)%', 'with a hint');
SELECT is(t.run(current_user, '', 'ALTER TABLE t.patient ALTER hiv TYPE encboolean'), 'ERROR 0A000', 'nor does a column with one lose it');

-- Sorts of arrays and rows: each by its own collation.
CREATE TABLE t.cased (p text, v enctext);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.cased SELECT x, x FROM unnest('{a,B,c,D}'::text[]) x$$) \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(p, '','' ORDER BY array[v] COLLATE "C") FROM t.cased'), 'B,D,a,c', 'arrays by one collation');
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(p, '','' ORDER BY array[v] COLLATE "und-x-icu") FROM t.cased'), 'a,B,c,D', 'and then by another');
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(p, '','' ORDER BY row(v COLLATE "und-x-icu")) FROM t.cased'), 'a,B,c,D', 'rows too');

-- ANY finds all of the array, whatever the collation calls equal.
CREATE COLLATION t.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE t.folded (v enctext(general) COLLATE t.ci);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.folded SELECT x FROM unnest('{sato,SATO}'::text[]) x$$) \g /dev/null
CREATE INDEX ON t.folded (v enctext_equality_ops);
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', $$SELECT count(*) FROM t.folded WHERE v = ANY ('{sato,SATO}'::text[])$$), '2', 'ANY with a collation that is not deterministic');

-- The planner looks for the end of a plain column.
CREATE TABLE t.planned (id int, v enctext(general));
INSERT INTO t.planned SELECT i FROM generate_series(1, 1000) i;
CREATE INDEX ON t.planned (id, v enctext_equality_ops);
ANALYZE t.planned;
SELECT is((SELECT count(*) FROM t.planned WHERE id > 999), 1::bigint, 'an index of a plain column and one of the equality class');
-- An index of two clinics outlives the keys of one: what nobody can decrypt keeps nobody from finding the rest.
CREATE TABLE t.shared (n int, v enctext(identity));
CREATE UNIQUE INDEX shared_key ON t.shared (v enctext_equality_ops);
CREATE INDEX shared_hash ON t.shared USING hash (v);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.shared SELECT i, ''name '' || i FROM generate_series(1, 2000) i'), t.run('t_app_b', 'b', 'INSERT INTO t.shared SELECT i, ''name '' || i FROM generate_series(1, 2000) i') \g /dev/null
UPDATE phi.data_key SET state = 'destroyed', wrapped = NULL WHERE clinic_id = (SELECT clinic_id FROM phi.clinic WHERE code = 'a');
SELECT is(t.run('t_app_b', 'b', 'INSERT INTO t.shared VALUES (0, ''another'') RETURNING n'), '0', 'another clinic writes');
SELECT is(t.run('t_app_b', 'b', 'INSERT INTO t.shared VALUES (0, ''name 77'')'), 'ERROR 23505', 'uniquely');
SELECT is(t.run('t_app_b', 'b', 'SET LOCAL enable_seqscan = off', 'SELECT n FROM t.shared WHERE v = ''name 77'''), '77', 'and finds');
SELECT is(t.run(current_user, '', 'REINDEX INDEX t.shared_key'), NULL, 'it can be built anew');
SELECT is(t.run(current_user, '', 'REINDEX INDEX t.shared_hash'), NULL, 'and so can one by hash');
SELECT is(t.run('t_app_b', 'b', 'SET LOCAL enable_seqscan = off', 'SELECT n FROM t.shared WHERE v = ''name 78'''), '78', 'where values are found');
SELECT is(t.run('t_app_b', 'b', 'INSERT INTO t.shared VALUES (0, ''name 77'')'), 'ERROR 23505', 'and unique');

SELECT * FROM finish();
ROLLBACK;
