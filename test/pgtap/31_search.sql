-- Search by value: the index serves, constraints hold, and one who may not
-- read a value cannot guess it.
\ir include/setup.psql
CREATE TABLE t.patient (clinic text, n int, name enctext(identity), born encdate(identity), number encbigint(insurance), note enctext(clinical), weight encnumeric(clinical));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.patient SELECT 'a', i, 'name ' || i, date '1950-01-01' + i, i, 'note ' || i, i / 10.0 FROM generate_series(1, 2000) i$$) \g /dev/null
SELECT t.run('t_app_b', 'b', $$INSERT INTO t.patient SELECT 'b', i, 'name ' || i, date '1950-01-01' + i, i, 'note ' || i, i / 10.0 FROM generate_series(1, 2000) i$$) \g /dev/null
CREATE INDEX by_name ON t.patient USING hash (name);
CREATE INDEX by_born ON t.patient USING hash (born);
CREATE INDEX by_number ON t.patient USING hash (number);
CREATE INDEX by_weight ON t.patient USING hash (weight);
CREATE INDEX by_note ON t.patient USING hash (note);
ANALYZE t.patient;

CREATE TABLE t.search (name text, condition text, index text);
INSERT INTO t.search VALUES
  ('a literal',            $$name = 'name 77'$$, 'by_name'),
  ('a literal, reversed',  $$'name 77' = name$$, 'by_name'),
  ('text',                 $$name = 'name 77'::text$$, 'by_name'),
  ('text, reversed',       $$'name 77'::text = name$$, 'by_name'),
  ('varchar',              $$name = 'name 77'::varchar$$, 'by_name'),
  ('varchar(20)',          $$name = 'name 77'::varchar(20)$$, 'by_name'),
  ('phi.encrypt()',        $$name = (SELECT phi.encrypt('name 77'))$$, 'by_name'),
  ('a date literal',       $$born = '1950-03-19'$$, 'by_born'),
  ('a date',               $$born = date '1950-03-19'$$, 'by_born'),
  ('an integer',           $$number = 77$$, 'by_number'),
  ('a smallint',           $$number = 77::smallint$$, 'by_number'),
  ('a bigint',             $$number = 77::bigint$$, 'by_number'),
  ('a numeric',            $$weight = 7.7$$, 'by_weight'),
  ('a numeric of another scale', $$weight = 7.700$$, 'by_weight'),
  ('IN of texts',          $$name IN ('name 77'::text, 'none')$$, 'by_name'),
  ('= ANY of an array',    $$name = ANY (ARRAY['name 77', 'none']::text[])$$, 'by_name');
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(clinic || n, '','') FROM t.patient WHERE ' || condition), 'a77', 'found by ' || name) FROM t.search;
SELECT is(t.run('t_app_b', 'b', 'SELECT string_agg(clinic || n, '','') FROM t.patient WHERE ' || condition), 'b77', 'in the other clinic by ' || name) FROM t.search;
SELECT alike(t.run('t_app_a', 'a', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM t.patient WHERE ' || condition), '%"Index Name": "' || index || '"%', 'an index scan for ' || name) FROM t.search;
SELECT is(t.run('t_app_a', '', 'SELECT count(*) FROM t.patient WHERE ' || condition), 'ERROR 42501', 'refused in a sealed session: ' || name) FROM t.search;
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL search_path = t', 'SELECT string_agg(clinic || n, '','') FROM patient WHERE name = ''name 77''::text'), 'a77', 'with another search_path');
SELECT alike(t.run('t_app_a', 'a', 'SET LOCAL search_path = t', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM patient WHERE name = ''name 77''::text'), '%"Index Name": "by_name"%', 'which loses no index');
-- A plan shows the condition, never a decrypted value.
SELECT unalike(t.run('t_app_a', 'a', 'SELECT phi.current_clinic()', 'EXPLAIN (VERBOSE, FORMAT JSON) SELECT n FROM t.patient WHERE name = (SELECT name FROM t.patient WHERE n = 77 AND clinic = ''a'') AND phi.encrypt(''Tanaka'')::text <> ''x'''),
               '%name 77%', 'a plan holds no decrypted value');

-- The same as above under row security.
SELECT phi.isolate('t.patient', 'clinic') \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(clinic || n, '','') FROM t.patient WHERE ' || condition), 'a77', 'isolated, found by ' || name) FROM t.search;
SELECT alike(t.run('t_app_a', 'a', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT n FROM t.patient WHERE ' || condition), '%"Index Name": "' || index || '"%', 'isolated, an index scan for ' || name) FROM t.search;
SELECT is(t.run('t_nurse', 'a', 'SELECT string_agg(clinic || n, '','') FROM t.patient WHERE ' || condition), CASE WHEN index IN ('by_number', 'by_weight') THEN 'ERROR 42501' ELSE 'a77' END, 'a nurse searches indexes of what she may read: ' || name) FROM t.search;
SELECT is(t.run('t_nurse', 'a', 'SET LOCAL enable_indexscan = off', 'SET LOCAL enable_bitmapscan = off', 'SELECT string_agg(clinic || n, '','') FROM t.patient WHERE ' || condition), NULL, 'and finds nothing without one: ' || name) FROM t.search WHERE index IN ('by_number', 'by_weight');
SET LOCAL enable_indexscan = on; SET LOCAL enable_bitmapscan = on;
SELECT phi.unisolate('t.patient') \g /dev/null

-- Guessing: the nurse holds identity; note (clinical) must equal nothing of hers.
CREATE TABLE t.guess (name enctext(identity), plain text, note enctext(clinical), other enctext);
SELECT t.run('t_nurse', 'a', $$INSERT INTO t.guess (name, plain, other) VALUES ('note 77', 'note 77', 'note 77')$$) \g /dev/null
CREATE TABLE t.attempt (attempt text, wanted text);
INSERT INTO t.attempt VALUES
  ($$SELECT count(*) FROM t.patient WHERE note = 'note 77'$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note = 'note 77'::text$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE 'note 77'::text = note$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE NOT note <> 'note 77'$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note = phi.encrypt('note 77', 'identity')$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note IN ('note 77', 'note 78')$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note IN (SELECT name FROM t.guess)$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note IN (SELECT plain FROM t.guess)$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note = ANY (ARRAY['note 77'])$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient JOIN t.guess ON patient.note = guess.name$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient JOIN t.guess ON patient.note = guess.plain$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient JOIN t.guess ON patient.note = guess.other$$, '0 or refused'),
  ($$SELECT count(*) FROM (SELECT note FROM t.patient INTERSECT SELECT other FROM t.guess) s$$, '0 or refused'),
  ($$SELECT count(*) FROM (SELECT note FROM t.patient UNION SELECT other FROM t.guess) s$$, '4001 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE NULLIF(note, 'note 77') IS NULL$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE CASE note WHEN 'note 77' THEN true END$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note IS NOT DISTINCT FROM 'note 77'$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE row(note) = row('note 77'::enctext)$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE ARRAY[note] = ARRAY['note 77'::enctext]$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE ARRAY[note] @> ARRAY['note 77'::enctext]$$, '0 or refused'),
  ($$SELECT coalesce(array_position(array_agg(note), 'note 77'::enctext)::text, 'none') FROM t.patient$$, 'none or refused'),
  ($$SELECT count(*) FROM t.patient WHERE number = 77$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE weight = 7.7$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note < 'note 77'$$, 'ERROR 42501'),
  ($$SELECT count(*) FROM t.patient WHERE note BETWEEN 'note 77' AND 'note 77'$$, 'ERROR 42501'),
  ($$SELECT array_agg(n ORDER BY note) = array_agg(n ORDER BY n) OR array_agg(n ORDER BY note) = array_agg(n ORDER BY n::text) FROM t.patient WHERE clinic = 'a'$$, 'false or refused'),
  ($$SELECT count(*) FROM t.patient WHERE note LIKE 'note%'$$, 'ERROR 42501'),
  ($$SELECT count(*) FROM t.patient WHERE note::text = 'note 77'$$, 'ERROR 42501'),
  ($$SELECT count(*) FROM t.patient WHERE enctextcmp(note, 'note 77') = 0$$, '0 or refused'),
  ($$SELECT count(*) FROM t.patient WHERE hashenctext(note) = hashenctext(note::text::enctext)$$, 'ERROR 42501'),
  ($$SELECT count(*) FROM t.patient WHERE hashenctext(note) = hashenctext('note 77'::text)$$, '0'),
  ($$SELECT hash_record(row(note)) = hash_record(row('note 77'::enctext)) FROM t.patient WHERE n = 77 AND clinic = 'a'$$, 'false or refused'),
  ($$SELECT hash_array(ARRAY[note]) = hash_array(ARRAY['note 77'::enctext]) FROM t.patient WHERE n = 77 AND clinic = 'a'$$, 'false or refused'),
  ($$SELECT hash_record(row(patient.note)) = hash_record(row(guess.name)) FROM t.patient, t.guess WHERE n = 77 AND clinic = 'a'$$, 'false or refused');
-- The last three call the hash function by way of the operator class.
-- Sorting takes the right to read, hashing does not: some plans are refused.
SELECT is(CASE WHEN wanted LIKE '% or refused' AND got = 'ERROR 42501' THEN wanted ELSE got END,
          CASE WHEN got IS DISTINCT FROM 'ERROR 42501' THEN replace(wanted, ' or refused', '') ELSE wanted END, way || attempt)
FROM t.attempt, (VALUES (ARRAY['SET LOCAL enable_seqscan = on'], ''), (ARRAY['SET LOCAL enable_seqscan = off', 'SET LOCAL enable_hashjoin = off', 'SET LOCAL enable_hashagg = off'], 'by index: ')) s(settings, way),
     t.run('t_nurse', 'a', VARIADIC settings || attempt) got;
-- Counting distinct values is comparing them.
CREATE FUNCTION t.counted(guess text) RETURNS text LANGUAGE sql AS $$
  SELECT t.run('t_nurse', 'a', 'DROP TABLE IF EXISTS t.copied', 'CREATE TABLE t.copied AS SELECT note FROM t.patient WHERE n = 77 AND clinic = ''a'' UNION ALL SELECT phi.encrypt(' || quote_literal(guess) || ')',
               'ANALYZE t.copied', 'SELECT n_distinct FROM pg_stats WHERE tablename = ''copied''') $$;
SELECT is(t.counted('note 77'), t.counted('note 78'), 'ANALYZE of a copy beside a guess does not tell');
SELECT is(t.run('t_nurse', 'a', 'INSERT INTO t.guess (note) VALUES (''note 77'')'), 'ERROR 42501', 'she cannot make a value of the class');
SELECT is(t.run('t_app_b', 'b', $$SELECT count(*) FROM t.patient WHERE note = 'note 77' AND clinic = 'a'$$), '0', 'another clinic''s values equal nothing');
SELECT is(t.run('t_app_b', 'b', $$SELECT count(*) FROM t.patient x JOIN t.patient y ON x.note = y.note AND x.clinic <> y.clinic$$), '0', 'nor do they join');
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM t.patient WHERE name IN (SELECT plain FROM t.guess)'), '0', 'IN a query of plain values');
SELECT is(t.run('t_app_a', 'a', $$SELECT count(*) FROM t.patient WHERE note = 'note 77'$$), '1', 'while one who holds the class finds it');
SELECT is(t.run('t_app_a', '', $$SELECT count(*) FROM t.patient x JOIN t.patient y ON x.name = y.note$$), '0', 'across classes a sealed session learns nothing');
-- An EXCLUDE constraint is an oracle over a column that one may write.
CREATE TABLE t.known (v enctext, EXCLUDE USING hash (v WITH =));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.known VALUES (phi.encrypt('HIV', 'sensitive'))$$) \g /dev/null
SELECT is(t.run('t_nurse', 'a', $$INSERT INTO t.known VALUES ('HIV')$$), NULL, 'a constraint does not tell of values of a class not held');

-- Unique, as EXCLUDE: per clinic, whatever the class, sealed too.
SELECT format('CREATE TABLE t.unique_%1$s (v %1$s(insurance), EXCLUDE USING hash (v WITH =))', enc) FROM t.type \gexec
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (%L)', enc, sample)), NULL, 'a first value: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.unique_%s VALUES (%L)', enc, sample)), 'ERROR 23P01', 'the same again: ' || enc) FROM t.type;
SELECT is(t.run('t_app_b', 'b', format('INSERT INTO t.unique_%s VALUES (%L)', enc, sample)), NULL, 'the same in another clinic: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', '', format('INSERT INTO t.unique_%s SELECT v FROM t.unique_%1$s LIMIT 1', enc)), 'ERROR 23P01', 'the same by a sealed session: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.unique_encnumeric VALUES (36.6000)'), 'ERROR 23P01', 'equal numerics of another scale');
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.unique_enctext VALUES (''another'')'), NULL, 'another value');
SELECT unalike(t.error_of('t_app_a', 'a', 'INSERT INTO t.unique_enctext VALUES (''another'')'), '%佐藤%', 'the error does not show other rows'' values');

-- Ordered indexes.
SELECT is(t.run(current_user, '', format('CREATE INDEX ON t.unique_%s (v)', enc)), 'ERROR 0A000', 'an ordered index is refused: ' || enc) FROM t.type;
SELECT is(t.run(current_user, '', format('ALTER TABLE t.unique_%s ADD %s', enc, what)), 'ERROR 0A000', format('so is %s: %s', what, enc)) FROM t.type, unnest(ARRAY['PRIMARY KEY (v)', 'UNIQUE (v)']) what;
SELECT alike(t.error_of(current_user, '', 'CREATE INDEX ON t.unique_enctext (v)'), '0A000: %USING hash%phi.allow_ordered_index%', 'with a hint');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL phi.allow_ordered_index = on'), 'ERROR 42501', 'only a superuser allows it');
CREATE TABLE t.ordered (v encdate);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.ordered SELECT date ''2020-01-01'' + i % 97 FROM generate_series(1, 3000) i') \g /dev/null
SET LOCAL phi.allow_ordered_index = on;
CREATE INDEX ordered_index ON t.ordered (v);
SET LOCAL phi.allow_ordered_index = off;
SELECT alike(t.run('t_app_a', 'a', 'SET LOCAL enable_sort = off', 'EXPLAIN (COSTS OFF, FORMAT JSON) SELECT v FROM t.ordered WHERE v BETWEEN ''2020-02-01'' AND ''2020-02-03'' ORDER BY v'), '%"Index Name": "ordered_index"%', 'an allowed one serves ranges');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', 'SELECT count(*) FROM t.ordered WHERE v BETWEEN ''2020-02-01'' AND ''2020-02-03'''), '93', 'with the right answer');

SELECT * FROM finish();
ROLLBACK;
