-- Comparing, sorting, grouping and joining give what they give for plaintext.
\ir include/setup.psql
-- A value, and beside it the same value in the clear.
SELECT format('CREATE TABLE t.pair_%1$s (n int, p %2$s, v %1$s(clinical), w %1$s(identity))', enc, base) FROM t.type \gexec
SELECT t.run('t_app_a', 'a', format('INSERT INTO t.pair_%1$s SELECT row_number() OVER (), value::%2$s, value::%2$s, value::%2$s FROM t.sample, generate_series(1, 2) WHERE enc = %1$L', enc, base)) FROM t.type \g /dev/null

-- All pairs of sample values; (enc, enc) also across data classes.
CREATE TABLE t.operator (name text);
INSERT INTO t.operator VALUES ('='), ('<>'), ('<'), ('<='), ('>'), ('>='), ('IS DISTINCT FROM');
SELECT is(t.run('t_app_a', 'a', format('SELECT format(''%%s pairs, %%s wrong'', count(*), count(*) FILTER (WHERE (%s) IS DISTINCT FROM (x.p %s y.p))) FROM t.pair_%s x, t.pair_%3$s y',
                replace(expression, '@', name), name, enc)),
          (SELECT format('%s pairs, 0 wrong', (2 * count(*)) ^ 2) FROM t.sample s WHERE s.enc = t.enc), format('%s: %s', enc, replace(expression, '@', name)))
FROM t.type t, t.operator, unnest(ARRAY['x.v @ y.v', 'x.v @ y.w', 'x.v @ y.p', 'x.p @ y.v']) expression;

-- Beside the base type: what the base type compares with.
SELECT is(t.run('t_app_a', 'a', format('SELECT format(''%%s wrong'', count(*) FILTER (WHERE (x.v %1$s y.p) IS DISTINCT FROM (x.p %1$s y.p) OR (y.p %1$s x.v) IS DISTINCT FROM (y.p %1$s x.p)))
  FROM t.pair_%2$s x, unnest(ARRAY[-1, 0, 1, 256, 32767]::%3$s[]) y(p)', name, enc, other)), '0 wrong', format('%s %s %s', enc, name, other))
FROM t.operator, (VALUES ('encbigint', 'integer'), ('encbigint', 'smallint'), ('encnumeric', 'bigint'), ('encnumeric', 'integer')) o(enc, other);
SELECT is(t.run('t_app_a', 'a', format('SELECT format(''%%s wrong'', count(*) FILTER (WHERE (x.v %1$s y.p) IS DISTINCT FROM (x.p %1$s y.p))) FROM t.pair_enctext x, unnest(ARRAY[''a'', ''Z'', ''佐藤'']::varchar[]) y(p)', name)), '0 wrong', format('enctext %s varchar', name))
FROM t.operator;
SELECT is(t.run('t_app_a', 'a', 'SELECT (phi.encrypt(''1.0''::numeric) = phi.encrypt(''1.00''::numeric) AND phi.encrypt(1.0) = 1.00 AND phi.encrypt(1.0)::text <> phi.encrypt(1.00)::text)::text'), 'true', '1.0 = 1.00, each printed as it was');
SELECT is(t.run('t_app_a', 'a', 'SELECT (phi.encrypt(''NaN''::numeric) = ''NaN''::numeric AND phi.encrypt(''NaN''::numeric) > ''Infinity''::numeric)::text'), 'true', 'NaN equals itself and is the greatest');

-- NULLs.
SELECT is(t.run('t_app_a', 'a', format('SELECT (NULL::%1$s = v) IS NULL AND (v = NULL::%1$s) IS NULL AND (v < NULL::%1$s) IS NULL FROM t.pair_%1$s LIMIT 1', enc)), 'true', 'NULL compares as NULL: ' || enc) FROM t.type;

-- Whole queries, once over the encrypted column and once over the plain one.
CREATE TABLE t.query (name text, query text);
INSERT INTO t.query VALUES
  ('ORDER BY',           'SELECT array_agg(p::text ORDER BY #, n) FROM t.pair_% '),
  ('ORDER BY DESC',      'SELECT array_agg(p::text ORDER BY # DESC NULLS LAST, n) FROM t.pair_% '),
  ('GROUP BY',           'SELECT array_agg(c::text ORDER BY m) FROM (SELECT min(n) m, count(*) c FROM t.pair_% GROUP BY #) s'),
  ('DISTINCT',           'SELECT count(*) FROM (SELECT DISTINCT # FROM t.pair_%) s'),
  ('DISTINCT ON',        'SELECT array_agg(n) FROM (SELECT DISTINCT ON (#) n FROM t.pair_% ORDER BY #, n) s'),
  ('count(DISTINCT)',    'SELECT count(DISTINCT #) FROM t.pair_%'),
  ('UNION',              'SELECT count(*) FROM (SELECT # FROM t.pair_% WHERE n % 2 = 0 UNION SELECT # FROM t.pair_% WHERE n % 3 = 0) s'),
  ('UNION ALL',          'SELECT count(*) FROM (SELECT # FROM t.pair_% WHERE n % 2 = 0 UNION ALL SELECT # FROM t.pair_% WHERE n % 3 = 0) s'),
  ('INTERSECT',          'SELECT count(*) FROM (SELECT # FROM t.pair_% WHERE n < 9 INTERSECT SELECT # FROM t.pair_% WHERE n > 5) s'),
  ('EXCEPT',             'SELECT count(*) FROM (SELECT # FROM t.pair_% WHERE n < 9 EXCEPT SELECT # FROM t.pair_% WHERE n > 5) s'),
  ('join',               'SELECT count(*) FROM t.pair_% x JOIN t.pair_% y ON x.# = y.#'),
  ('left join',          'SELECT count(*) FROM t.pair_% x LEFT JOIN t.pair_% y ON x.# = y.# AND y.n < 5'),
  ('anti-join',          'SELECT count(*) FROM t.pair_% x WHERE NOT EXISTS (SELECT FROM t.pair_% y WHERE x.# = y.# AND y.n < 5)'),
  ('join with plain',    'SELECT count(*) FROM t.pair_% x JOIN t.pair_% y ON x.# = y.p'),
  ('join of plain',      'SELECT count(*) FROM t.pair_% x JOIN t.pair_% y ON x.p = y.#'),
  ('IN',                 'SELECT count(*) FROM t.pair_% WHERE # IN (SELECT # FROM t.pair_% WHERE n < 4)'),
  ('NOT IN',             'SELECT count(*) FROM t.pair_% WHERE # NOT IN (SELECT # FROM t.pair_% WHERE n < 4)'),
  ('= ANY',              'SELECT count(*) FROM t.pair_% WHERE # = ANY (ARRAY(SELECT # FROM t.pair_% WHERE n < 4))'),
  ('BETWEEN',            'SELECT count(*) FROM t.pair_% WHERE # BETWEEN (SELECT # FROM t.pair_% WHERE n = 1) AND (SELECT # FROM t.pair_% WHERE n = 2)'),
  ('rank',               'SELECT array_agg(r ORDER BY n) FROM (SELECT n, rank() OVER (ORDER BY #) r FROM t.pair_%) s'),
  ('dense_rank by part', 'SELECT array_agg(r ORDER BY n) FROM (SELECT n, dense_rank() OVER (PARTITION BY n % 2 ORDER BY #) r FROM t.pair_%) s'),
  ('partition by',       'SELECT array_agg(r ORDER BY n) FROM (SELECT n, count(*) OVER (PARTITION BY #) r FROM t.pair_%) s'),
  ('lateral top',        'SELECT array_agg(y.n ORDER BY x.n) FROM t.pair_% x, LATERAL (SELECT n FROM t.pair_% z WHERE z.# >= x.# ORDER BY z.#, n LIMIT 1) y'),
  ('NULLIF and CASE',    'SELECT count(*) FILTER (WHERE CASE # WHEN (SELECT # FROM t.pair_% WHERE n = 1) THEN true END) || '' '' || count(NULLIF(#, (SELECT # FROM t.pair_% WHERE n = 1))) FROM t.pair_%'),
  ('recursive',          'WITH RECURSIVE r AS (SELECT #, 1 AS i FROM t.pair_% WHERE n = 1 UNION SELECT #, 1 FROM r) SELECT count(*) FROM r');
CREATE FUNCTION t.both(query text, enc text, settings text[]) RETURNS text LANGUAGE sql AS $$
  SELECT CASE WHEN e IS NOT DISTINCT FROM p AND p NOT LIKE 'ERROR%' AND p IS NOT NULL THEN 'same' ELSE format('%s, not %s', e, p) END
  FROM (SELECT t.run('t_app_a', 'a', VARIADIC settings || regexp_replace(replace(query, '#', 'v'), 'pair_%', 'pair_' || enc, 'g')) e,
               t.run('t_app_a', 'a', VARIADIC settings || regexp_replace(replace(query, '#', 'p'), 'pair_%', 'pair_' || enc, 'g')) p) s $$;
SELECT is(string_agg(format('%s: %s', enc, got), '; ') FILTER (WHERE got <> 'same'), NULL, format('%s%s', name, way))
FROM t.query, (VALUES (ARRAY['SET LOCAL enable_seqscan = on'], ''),
                      (ARRAY['SET LOCAL enable_hashagg = off', 'SET LOCAL enable_hashjoin = off', 'SET LOCAL enable_nestloop = off'], ', by sorting and merging'),
                      (ARRAY['SET LOCAL enable_sort = off', 'SET LOCAL enable_mergejoin = off', 'SET LOCAL enable_nestloop = off'], ', by hashing'),
                      (ARRAY['SET LOCAL enable_hashjoin = off', 'SET LOCAL enable_mergejoin = off'], ', by nested loops')) s(settings, way),
     t.type, t.both(query, enc, settings) got
GROUP BY name, way, settings ORDER BY name, way;

-- Aggregates are those of the base type, which the value is cast to.
SELECT is(t.run('t_app_a', 'a', format('SELECT format(''%%s %%s'', pg_typeof(%1$s(v)), %1$s(v)) FROM t.pair_%2$s', aggregate, enc)),
          t.run('t_app_a', 'a', format('SELECT format(''%%s %%s'', pg_typeof(%1$s(p)), %1$s(p)) FROM t.pair_%2$s', aggregate, enc)), format('%s(%s)', aggregate, enc))
FROM (VALUES ('max', 'enctext'), ('min', 'enctext'), ('max', 'encbigint'), ('sum', 'encbigint'), ('avg', 'encbigint'), ('max', 'encnumeric'), ('min', 'encnumeric'),
             ('max', 'enctimestamptz'), ('bool_and', 'encboolean'), ('count', 'encjsonb')) v(aggregate, enc);
-- A date's own, for it would fit a timestamptz too: an encdate, to be cast.
SELECT is(t.run('t_app_a', 'a', format('SELECT format(''%%s %%s'', pg_typeof(%1$s(v)), %1$s(v)) FROM t.pair_encdate', aggregate)),
          t.run('t_app_a', 'a', format('SELECT format(''encdate %%s'', %1$s(p)) FROM t.pair_encdate', aggregate)), format('%s(encdate)', aggregate))
FROM unnest(ARRAY['max', 'min']) aggregate;
SELECT is(t.both('SELECT array_agg(p::text ORDER BY # COLLATE "en-x-icu", n) FROM t.pair_%', 'enctext', '{}'), 'same', 'a collation orders as it orders text')
WHERE EXISTS (SELECT FROM pg_collation WHERE collname = 'en-x-icu');

SELECT * FROM finish();
ROLLBACK;
