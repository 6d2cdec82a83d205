-- ANALYZE keeps no values, and needs no session.
\ir include/setup.psql
SELECT format('CREATE TABLE t.analyzed_%1$s (v %1$s(clinical))', enc) FROM t.type \gexec
SELECT t.run('t_app_a', 'a', format('INSERT INTO t.analyzed_%s SELECT CASE WHEN i %% 4 > 0 THEN %L::%s END FROM generate_series(1, 1000) i', enc, sample, base)) FROM t.type \g /dev/null
SELECT format('ANALYZE t.analyzed_%s', enc) FROM t.type \gexec
SELECT is(format('%s %s %s', stanullfrac, stadistinct, stawidth > 40), '0.25 1 t', 'null fraction, distinct count, width: ' || enc)
FROM t.type LEFT JOIN pg_statistic ON starelid = ('t.analyzed_' || enc)::regclass;
SELECT is(concat(stavalues1::text, stavalues2::text, stavalues3::text, stavalues4::text, stavalues5::text, stakind1 + stakind2 + stakind3 + stakind4 + stakind5), '0', 'no values: ' || enc)
FROM t.type LEFT JOIN pg_statistic ON starelid = ('t.analyzed_' || enc)::regclass;
CREATE TABLE t.many (v enctext, w encbigint, x encdate);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.many SELECT i::text, i % 10, date ''2000-01-01'' FROM generate_series(1, 5000) i') \g /dev/null
ANALYZE t.many;
SELECT is(string_agg(n_distinct::text, ' ' ORDER BY attname), '-1 10 1', 'distinct counts') FROM pg_stats WHERE schemaname = 't' AND tablename = 'many';
-- Statistics of several columns would keep values: they must be refused, or
-- keep none and not make ANALYZE, and so autovacuum, fail.
SELECT matches(t.run(session_role, clinic, VARIADIC ARRAY(SELECT format(replace(statement, 'tab', 't.' || kind || clinic), kind) FROM unnest(ARRAY[
    'CREATE TABLE tab (v enctext, w encbigint)', 'INSERT INTO tab SELECT v, w FROM t.many', 'CREATE STATISTICS tab_s (%s) ON v, w FROM tab', 'ANALYZE tab',
    'SELECT count(*) FROM tab WHERE false']) statement)),
  '^(0|ERROR 0A000)$', format('CREATE STATISTICS (%s) in a session of %s, clinic "%s"', kind, session_role, clinic))
FROM unnest(ARRAY['mcv', 'ndistinct', 'dependencies']) kind, (VALUES (current_user, ''), ('t_app_a', 'a')) s(session_role, clinic);
SELECT is((SELECT count(*) FROM pg_statistic_ext_data WHERE stxdmcv IS NOT NULL), 0::bigint, 'no list of most common values of several columns');
SELECT * FROM finish();
ROLLBACK;
