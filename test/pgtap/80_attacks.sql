-- What attackers and reviewers of the extension found, one part for each; what
-- takes several sessions, databases or commits is in test/t/008_attacks.pl.
\ir include/setup.psql

-- Planner methods: a value beside plain ones of each type that it compares
-- with, joined in all ways. No internal error, and the answers of plain values.
CREATE TABLE t.mixed (enc text, plain text);
INSERT INTO t.mixed SELECT enc, base FROM t.type
UNION ALL VALUES ('encbigint', 'integer'), ('encbigint', 'smallint'), ('encnumeric', 'bigint'), ('encnumeric', 'integer'), ('enctext', 'varchar');
CREATE FUNCTION t.mixed(enc text, plain text) RETURNS text LANGUAGE sql AS $$ SELECT format('t.mixed_%s_%s', enc, plain) $$;
SELECT format('CREATE TABLE %s (n int, p %s, v %s(clinical))', t.mixed(enc, plain), plain, enc) FROM t.mixed \gexec
SELECT t.run('t_app_a', 'a', format('INSERT INTO %s SELECT i, x::%s, x::%2$s FROM (SELECT i, CASE %L WHEN ''jsonb'' THEN format(''{"a": %%s}'', i %% 10) WHEN ''bytea'' THEN ''\x0'' || i %% 10
    WHEN ''date'' THEN ''2000-01-0'' || 1 + i %% 9 WHEN ''timestamptz'' THEN ''2000-01-01 00:00:0'' || i %% 10 || ''Z'' WHEN ''boolean'' THEN (i %% 2)::text ELSE (i %% 10)::text END AS x
  FROM generate_series(1, 30) i) s', t.mixed(enc, plain), plain, plain)) FROM t.mixed \g /dev/null
SELECT format('ANALYZE %s', t.mixed(enc, plain)) FROM t.mixed \gexec
CREATE TABLE t.join (query text);
INSERT INTO t.join VALUES
  ('SELECT count(*) FROM % x JOIN % y ON x.# = y.p'),
  ('SELECT count(*) FROM % x JOIN % y ON x.p = y.#'),
  ('SELECT count(*) FROM % x JOIN % y ON x.# = y.p JOIN % z ON x.# = z.p'),
  ('SELECT count(*) FROM % x JOIN % y ON x.# = y.p JOIN % z ON y.p = z.p'),
  ('SELECT count(*) FROM % x JOIN % y ON x.# = y.p AND x.# = y.#'),
  ('SELECT count(*) FROM % x LEFT JOIN % y ON x.# = y.p AND y.n < 5'),
  ('SELECT count(*) FROM % x LEFT JOIN % y ON x.p = y.# AND y.n < 5'),
  ('SELECT count(*) FROM % WHERE # IN (SELECT p FROM % WHERE n < 5)'),
  ('SELECT count(*) FROM % WHERE # NOT IN (SELECT p FROM % WHERE n < 5)'),
  ('SELECT count(*) FROM % WHERE p IN (SELECT # FROM % WHERE n < 5)'),
  ('SELECT count(*) FROM % x WHERE EXISTS (SELECT FROM % y WHERE x.# = y.p AND y.n < 5)'),
  ('SELECT count(*) FROM % WHERE # = ANY (ARRAY(SELECT p FROM % WHERE n < 5))'),
  ('SELECT count(*) FROM % WHERE # IN (SELECT p FROM % GROUP BY p HAVING count(*) > 3)'),
  ('SELECT count(*) FROM (SELECT DISTINCT p FROM %) x JOIN % y ON y.# = x.p'),
  ('SELECT count(*) FROM (SELECT p FROM % ORDER BY p) x JOIN (SELECT # FROM % ORDER BY #) y ON y.# = x.p');
CREATE TABLE t.method AS SELECT unnest(ARRAY['mergejoin', 'hashjoin', 'nestloop']) AS method;
SELECT is(string_agg(DISTINCT format('%s %s %s: %s, not %s', enc, plain, query, e, p), '; ') FILTER (WHERE e IS DISTINCT FROM p OR p LIKE 'ERROR%'), NULL, method || ' of encrypted and plain values')
FROM t.mixed, t.join, t.method,
     LATERAL (SELECT array_agg('SET LOCAL enable_' || m || ' = ' || (m = method)) || CASE method WHEN 'mergejoin' THEN '{SET LOCAL enable_hashagg = off}'::text[] ELSE '{SET LOCAL enable_sort = off}' END
              FROM unnest(ARRAY['mergejoin', 'hashjoin', 'nestloop']) m) s(settings),
     LATERAL (SELECT t.run('t_app_a', 'a', VARIADIC settings || replace(replace(query, '#', 'v'), '%', t.mixed(enc, plain))) e,
                     t.run('t_app_a', 'a', VARIADIC settings || replace(replace(query, '#', 'p'), '%', t.mixed(enc, plain))) p) r
GROUP BY method ORDER BY method;
-- From nine constants on, the server hashes the list.
SELECT is(t.run('t_app_a', 'a', format('SELECT count(*) FROM %s WHERE %s', t.mixed(enc, plain), replace(replace(condition, '#', 'v'), '@', list))),
          t.run('t_app_a', 'a', format('SELECT count(*) FROM %s WHERE %s', t.mixed(enc, plain), replace(replace(condition, '#', 'p'), '@', list))), format('%s: %s of 20 %s', enc, condition, kind))
FROM t.mixed, unnest(ARRAY['# IN (@)', '# NOT IN (@)']) condition,
     LATERAL (SELECT string_agg(quote_literal(x), ', ') AS literals, string_agg(quote_literal(x) || '::' || plain, ', ') AS typed
              FROM (SELECT CASE plain WHEN 'jsonb' THEN format('{"a": %s}', i) WHEN 'bytea' THEN '\x' || to_char(i, 'FM00') WHEN 'date' THEN '2000-01-' || to_char(i, 'FM00')
                      WHEN 'timestamptz' THEN '2000-01-01 00:00:' || to_char(i, 'FM00') || 'Z' WHEN 'boolean' THEN 't' ELSE i::text END AS x FROM generate_series(3, 22) i) s) l,
     LATERAL (VALUES ('literals', literals), ('constants', typed)) k(kind, list);

-- Guessing a class that is not held. "told": whether anything differs between
-- a guess that is right and one that is wrong.
CREATE TABLE t.secret (clinic text, n int, name enctext(identity), note enctext(clinical), number encbigint(clinical));
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.secret SELECT 'a', i, 'name ' || i, 'note ' || i, i FROM generate_series(1, 500) i$$) \g /dev/null
CREATE INDEX ON t.secret USING hash (note);
CREATE INDEX ON t.secret USING hash (number);
ANALYZE t.secret;
CREATE FUNCTION t.plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; lines text := '';
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
    lines := lines || E'\n' || regexp_replace(line, $x$'note \d+'|\m[45]77\M|phi1:[A-Za-z0-9+/=]+|Memory: \d+|Memory Usage: \d+$x$, '', 'g');
  END LOOP;
  RETURN lines;
END $$;
GRANT EXECUTE ON FUNCTION t.plan_of(text) TO PUBLIC;
CREATE FUNCTION t.told(VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE a text; b text;
BEGIN
  a := t.run('t_nurse', 'a', VARIADIC ARRAY(SELECT replace(s, '@', '477') FROM unnest(statements) s));
  DROP TABLE IF EXISTS pg_temp.c;
  b := t.run('t_nurse', 'a', VARIADIC ARRAY(SELECT replace(s, '@', '577') FROM unnest(statements) s));
  DROP TABLE IF EXISTS pg_temp.c;
  RETURN CASE WHEN a IS DISTINCT FROM b THEN format('tells: %s instead of %s', a, b) ELSE 'tells nothing' END;
END $$;
CREATE TABLE t.oracle (name text, condition text);
INSERT INTO t.oracle VALUES
  ('a literal', $$note = 'note @'$$), ('a text', $$note = 'note @'::text$$), ('a text, reversed', $$'note @'::text = note$$), ('a varchar', $$note = 'note @'::varchar$$),
  ('an enctext of one''s own', $$note = (SELECT phi.encrypt('note @', 'identity'))$$), ('a list', $$note IN ('note @'::text, 'x')$$), ('an integer', 'number = @'), ('a cast', $$note::enctext = 'note @'::text$$),
  ('a cast to another class', $$note::enctext(identity) = 'note @'::text$$), ('a cast to text', $$note::text = 'note @'$$);
SELECT is(t.told('SET LOCAL enable_seqscan = ' || seqscan, 'SELECT t.plan_of($q$SELECT n FROM t.secret WHERE ' || condition || '$q$)'), 'tells nothing', format('EXPLAIN ANALYZE, seqscan %s: %s', seqscan, name))
FROM t.oracle, unnest(ARRAY['on', 'off']) seqscan;
SELECT is(t.told('CREATE TEMP TABLE c AS SELECT * FROM t.secret', 'CREATE INDEX ON c USING hash (note)', 'CREATE INDEX ON c USING hash (number)', 'ANALYZE c', 'SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM c WHERE ' || condition || '$q$)'), 'tells nothing', 'in a copy: ' || name)
FROM t.oracle;
SELECT is(t.told('CREATE TEMP TABLE c (n int, note enctext, number encbigint)', 'INSERT INTO c SELECT n, note, number FROM t.secret', 'CREATE INDEX ON c USING hash (note)', 'CREATE INDEX ON c USING hash (number)', 'SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM c WHERE ' || condition || '$q$)'), 'tells nothing', 'in a copy without a class: ' || name)
FROM t.oracle;
CREATE DOMAIN t.any_note AS enctext;
SELECT is(t.told('CREATE TEMP TABLE c (n int, note t.any_note)', 'INSERT INTO c SELECT n, note FROM t.secret', 'CREATE INDEX ON c USING hash (note)', 'SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM c WHERE note = ''note @''::text$q$)'), 'tells nothing', 'in a copy whose column is a domain');
CREATE DOMAIN t.clinical_note AS enctext(clinical);
CREATE TABLE t.secret_domain (n int, note t.clinical_note);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.secret_domain SELECT n, note FROM t.secret') \g /dev/null
CREATE INDEX ON t.secret_domain USING hash (note);
SELECT is(t.told('SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM t.secret_domain WHERE note = ''note @''::text$q$)'), 'tells nothing', 'in a column that is a domain of the class');
SELECT is(t.told(format('SELECT bool_or(%s) FROM t.secret', expression)), 'tells nothing', expression)
FROM unnest(ARRAY[$$hash_array(ARRAY[note]) = hash_array(ARRAY['note @'::enctext])$$, $$hash_array_extended(ARRAY[note], 1) = hash_array_extended(ARRAY['note @'::enctext], 1)$$, $$hash_record(row(note)) = hash_record(row('note @'::enctext))$$,
  $$hashenctext(note) = hashenctext('note @'::text)$$, $$ARRAY[note] = ARRAY['note @'::enctext]$$, $$row(note) = row('note @'::enctext)$$, $$ARRAY[note] @> ARRAY['note @'::enctext]$$,
  $$array_position(ARRAY[note], 'note @'::enctext) IS NOT NULL$$, $$btarraycmp(ARRAY[note], ARRAY['note @'::enctext]) = 0$$]) expression;
SELECT is(t.told('CREATE TEMP TABLE c AS SELECT note FROM t.secret UNION ALL SELECT phi.encrypt(''note @'')', 'ANALYZE c', 'SELECT n_distinct FROM pg_stats WHERE tablename = ''c'''), 'tells nothing', 'ANALYZE of a copy with the guess in it');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', 'SELECT n FROM t.secret WHERE note = ''note 477'''), '477', 'one who holds the class finds it');
SELECT isnt(t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM t.secret WHERE note = ''note 477''::text$q$)'), t.run('t_app_a', 'a', 'SET LOCAL enable_seqscan = off', 'SELECT t.plan_of($q$SELECT n FROM t.secret WHERE note = ''note 577''::text$q$)'), 'and is told so: the plans above can differ');

-- Ordered indexes, however they are made: refused at once, or, made on an empty
-- table, when there is something to order.
CREATE TYPE t.pair AS (v enctext);
CREATE TYPE t.plain_pair AS (n int);
CREATE DOMAIN t.pair_domain AS t.pair;
CREATE TABLE t.of_plain (x t.plain_pair);
CREATE TABLE t.rows (v int);
CREATE TABLE t.of_rows (x t.rows[]);
CREATE TABLE t.way (way text, ddl text);
INSERT INTO t.way VALUES
  ('INCLUDE', 'CREATE INDEX ON tab (v) INCLUDE (n)'), ('second column', 'CREATE INDEX ON tab (k, v)'), ('first of two', 'CREATE INDEX ON tab (v, n)'), ('descending', 'CREATE INDEX ON tab (v DESC, n)'),
  ('array expression', 'CREATE INDEX ON tab ((ARRAY[v]))'), ('UNIQUE constraint', 'ALTER TABLE tab ADD UNIQUE (v)'), ('UNIQUE constraint of two', 'ALTER TABLE tab ADD UNIQUE (k, v)'),
  ('UNIQUE INCLUDE', 'ALTER TABLE tab ADD UNIQUE (v) INCLUDE (n)'), ('PRIMARY KEY', 'ALTER TABLE tab ADD PRIMARY KEY (k, v)'), ('array column', 'CREATE INDEX ON tab (w)'),
  ('composite expression', 'CREATE INDEX ON tab ((row(v)::t.pair))'), ('partial', 'CREATE INDEX ON tab (v) WHERE n > 0'), ('after a numeric', 'CREATE INDEX ON tab ((k::numeric), v)'), ('EXCLUDE', 'ALTER TABLE tab ADD EXCLUDE USING btree (v WITH =, n WITH =)');
-- What a rekey, ANALYZE and the casts of results would not see is refused when it is declared.
SELECT is(t.run(session_user, '', statement), wanted, statement)
FROM (VALUES ('CREATE TABLE t.x (x t.pair)', 'ERROR 0A000'), ('CREATE TABLE t.x (x t.pair[])', 'ERROR 0A000'), ('CREATE TABLE t.x (x t.pair_domain)', 'ERROR 0A000'), ('CREATE TEMP TABLE x (x t.pair)', 'ERROR 0A000'),
             ('ALTER TABLE t.rows ADD COLUMN x t.pair', 'ERROR 0A000'), ('ALTER TABLE t.of_plain ALTER x TYPE t.pair USING NULL', 'ERROR 0A000'),
             ('ALTER TABLE t.rows ADD COLUMN e enctext', 'ERROR 0A000'), ('ALTER TYPE t.plain_pair ADD ATTRIBUTE e encdate', 'ERROR 0A000'), ('ALTER TYPE t.plain_pair ADD ATTRIBUTE e date', NULL), ('ALTER TABLE t.rows ADD COLUMN e text', NULL),
             ('CREATE TABLE t.x AS SELECT s AS x FROM t.secret s', 'ERROR 0A000'), ('CREATE MATERIALIZED VIEW t.x AS SELECT s AS x FROM t.secret s', 'ERROR 0A000'),
             ('CREATE TYPE t.span AS RANGE (subtype = encdate)', 'ERROR 0A000'), ('CREATE TYPE t.span AS RANGE (subtype = t.pair)', 'ERROR 0A000'), ('CREATE TYPE t.span AS RANGE (subtype = date)', NULL), ('CREATE TABLE t.x OF t.pair', NULL)) v(statement, wanted);

CREATE FUNCTION t.ordered(filled bool, ddl text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  fill text := 'INSERT INTO t.tab SELECT i, 1, ''value '' || i, ARRAY[(''value '' || i)::enctext] FROM generate_series(1, 50) i';
  answer text;
BEGIN
  DROP TABLE IF EXISTS t.tab;
  CREATE TABLE t.tab (n int, k int, v enctext, w enctext[]);
  IF filled THEN
    answer := t.run('t_app_a', 'a', fill);
    IF answer IS NOT NULL THEN RETURN 'the table could not be filled: ' || answer || t.error_of('t_app_a', 'a', fill); END IF;
  END IF;
  answer := t.run(session_user, '', replace(ddl, 'tab', 't.tab'));
  answer := coalesce(answer, t.run('t_app_a', 'a', fill), 'allowed');
  DROP TABLE t.tab;
  RETURN answer;
END $$;
SELECT is(t.ordered(filled, ddl), 'ERROR 0A000', format('an ordered index is refused, %s: %s', CASE WHEN filled THEN 'filled' ELSE 'empty' END, way)) FROM t.way, unnest(ARRAY[true, false]) filled;
CREATE FUNCTION t.parted(method text, bound text) RETURNS text LANGUAGE sql AS $$
  SELECT coalesce(t.run('t_app_a', 'a', 'DROP TABLE IF EXISTS t.parted'), t.run('t_app_a', 'a', 'CREATE TABLE t.parted (v enctext, n int) PARTITION BY ' || method), t.run('t_app_a', 'a', 'CREATE TABLE t.parted_1 PARTITION OF t.parted FOR VALUES ' || bound),
    t.run('t_app_a', 'a', 'CREATE TABLE t.parted_2 PARTITION OF t.parted DEFAULT'), t.run('t_app_a', 'a', 'INSERT INTO t.parted VALUES (''x'', 1)'), 'allowed') $$;
SELECT matches(t.parted(method, bound), '^ERROR (0A000|42P17)$', format('a partition key: %s, %s', method, bound))
FROM (VALUES ('RANGE (v)', 'FROM (MINVALUE) TO (''m''::text)'), ('LIST (v)', 'IN (''m''::text)'), ('RANGE (n, v)', 'FROM (1, MINVALUE) TO (1, ''m''::text)'), ('RANGE ((ARRAY[v]))', 'FROM (MINVALUE) TO (ARRAY[''m''::text::enctext])'), ('HASH (v)', 'WITH (MODULUS 1, REMAINDER 0)')) p(method, bound);

-- Where allowed: right answers, and no more rights.
CREATE TABLE t.ordered (clinic text, n int, v encdate(clinical), w encdate);
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.ordered SELECT 'a', i, date '2000-01-01' + i, date '2000-01-01' + i FROM generate_series(1, 300) i ORDER BY md5(i::text)$$),
       t.run('t_app_b', 'b', $$INSERT INTO t.ordered SELECT 'b', i, date '2000-01-01' + i, date '2000-01-01' + i FROM generate_series(1, 300) i ORDER BY md5(i::text)$$) \g /dev/null
SET LOCAL phi.allow_ordered_index = on;
CREATE INDEX ordered_v ON t.ordered (v);
CREATE INDEX ordered_w ON t.ordered (w);
SET LOCAL enable_seqscan = off;
CREATE TABLE t.ordered_a AS SELECT * FROM t.ordered WHERE clinic = 'a';
CREATE INDEX ON t.ordered_a (v);
CREATE TABLE t.range AS SELECT * FROM (VALUES ('v = ''2000-02-01''', '1', true), ('v = date ''2000-02-01''', '1', true), ('v BETWEEN ''2000-02-01'' AND ''2000-02-09''', '9', false), ('v < ''2000-02-01''', '30', false), ('v >= date ''2000-02-01'' AND v < date ''2000-03-01''', '29', false),
             ('v < (SELECT v FROM t.ordered WHERE n = 300 AND clinic = ''a'')', '299', false)) c(condition, answer, equality);
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM t.ordered_a WHERE ' || condition), answer, 'by an ordered index: ' || condition) FROM t.range;
SELECT is(t.run('t_nurse', 'a', 'SELECT count(*) FROM t.ordered_a WHERE ' || condition), 'ERROR 42501', 'by an ordered index, without the class: ' || condition) FROM t.range;
SELECT matches(t.run('t_app_b', 'b', 'SELECT count(*) FROM t.ordered_a WHERE ' || condition), '^(0|ERROR 42501)$', 'by an ordered index, another clinic: ' || condition) FROM t.range WHERE answer IN ('1', '9');
SELECT matches(t.run('t_app_' || clinic, clinic, format('SELECT count(*) FROM t.ordered WHERE clinic = %L AND %s', clinic, condition)), '^(' || answer || '|ERROR 42501)$', format('by an ordered index of both clinics, %s: %s', clinic, condition)) FROM t.range, unnest(ARRAY['a', 'b']) clinic WHERE answer <> '299';
SELECT is(t.run('t_app_a', '', 'SELECT count(*) FROM t.ordered WHERE ' || condition), 'ERROR 42501', 'by an ordered index, sealed: ' || condition)
FROM unnest(ARRAY['v < ''2000-02-01''', 'v < date ''2000-02-01''', 'v BETWEEN date ''2000-01-01'' AND date ''2000-02-01''', 'v < (SELECT v FROM t.ordered WHERE n = 7 AND clinic = ''a'')']) condition;
SELECT is(t.run(current_user, '', 'SELECT count(*) FROM t.ordered WHERE v < (SELECT v FROM t.ordered WHERE n = 7 AND clinic = ''a'')'), 'ERROR 42501', 'by an ordered index, sealed superuser');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL enable_sort = off', 'SELECT array_agg(n) = array_agg(n ORDER BY n) FROM (SELECT n FROM t.ordered WHERE clinic = ''a'' ORDER BY v) s'), 'true', 'ORDER BY in the session of the clinic');
-- Their order is told while they are allowed, which is documented; not after.
SET LOCAL phi.allow_ordered_index = off;
SELECT matches(t.run(role, clinic, 'SET LOCAL enable_sort = ' || sort, 'SELECT array_agg(n) = array_agg(n ORDER BY n) FROM (SELECT n FROM t.ordered WHERE clinic = ''a'' ORDER BY v) s'), '^(false|ERROR (42501|0A000))$', format('no longer allowed, ORDER BY of %s, clinic "%s", enable_sort %s, is not the plaintext''s', role, clinic, sort))
FROM (VALUES ('t_app_a', ''), (current_user, ''), ('t_nurse', 'a'), ('t_app_b', 'b')) r(role, clinic), unnest(ARRAY['on', 'off']) sort;
RESET enable_seqscan;
RESET phi.allow_ordered_index;

-- Isolation by columns whose types change a code.
SELECT count(phi.create_clinic(code, code)) FROM unnest(ARRAY['1', '01', '+1', 'ab', 'abcdefgh', 'abcdefghi', 'a b', 'A']) code \g /dev/null
CREATE TABLE t.column (type text, codes text[]);
INSERT INTO t.column VALUES ('char(8)', '{a,b,ab,abcdefgh,1,01,A}'), ('"char"', '{a,b,A}'), ('integer', '{1}'), ('varchar(9)', '{a,b,ab,abcdefgh,abcdefghi,1,01,A,a b}'), ('varchar', '{a,ab,1,01,+1}'), ('bpchar', '{a,ab,1,01}'), ('name', '{a,ab,1,01}'), ('smallint', '{1}'), ('numeric(5,2)', '{1}');
CREATE ROLE t_all LOGIN;
SELECT count(*) FROM (SELECT phi.grant_clinic('t_all', clinic) FROM phi.clinics) g \g /dev/null
SELECT format('CREATE TABLE t.column_%s (clinic %s, n text)', row_number() OVER (ORDER BY type), type) FROM t.column ORDER BY type \gexec
SELECT format('INSERT INTO t.column_%s SELECT c::%s, c FROM unnest(%L::text[]) c', row_number() OVER (ORDER BY type), type, codes) FROM t.column ORDER BY type \gexec
SELECT count(*) FROM (SELECT phi.isolate(format('t.column_%s', i)::regclass, 'clinic') FROM generate_series(1, (SELECT count(*) FROM t.column)) i) s \g /dev/null
SELECT is(coalesce(t.run('t_all', c.clinic, format('SELECT string_agg(n, '','') FROM t.column_%s', i)), 'none'), CASE WHEN c.clinic = ANY (codes) THEN c.clinic ELSE 'none' END, format('a session of "%s" on a column of type %s', c.clinic, type))
FROM (SELECT row_number() OVER (ORDER BY type) i, * FROM t.column) k, phi.clinics c
WHERE NOT (type IN ('integer', 'smallint', 'numeric(5,2)') AND c.clinic !~ '^[+0-9]');

-- Statistics objects keep no values; ANALYZE of arrays neither.
CREATE TABLE t.stat (n int, v enctext, w encbigint, a enctext[]);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.stat SELECT i % 3, ''value '' || i % 3, i % 3, ARRAY[(''value '' || i % 3)::enctext] FROM generate_series(1, 300) i') \g /dev/null
ALTER TABLE t.stat OWNER TO t_app_a;
SELECT is(t.run('t_app_a', 'a', 'CREATE STATISTICS t.s ON ' || what || ' FROM t.stat', 'ANALYZE t.stat', 'SELECT ''made, with '' || count(*) FROM pg_stats_ext WHERE statistics_name = ''s'' AND most_common_vals::text LIKE ''%value%''', 'DROP STATISTICS t.s'), 'ERROR 0A000', 'statistics refused: ' || what)
FROM unnest(ARRAY['v, n', 'n, v', 'w, v', '(v::text), n', '(upper(v))', '(w + 1), n', '(v = ''x''::text), n', '(stat.v::text), n', '((stat).v::text), n', '(upper((stat).v)), n', '(text(v(stat))), n', '(stat::text), n', '(coalesce(NULL, v)::text)', '(a[1]::text), n', '(CASE WHEN n = 1 THEN v END::text), n']) what;
DROP STATISTICS IF EXISTS t.s;
SELECT is(t.run('t_app_a', 'a', 'ANALYZE t.stat', 'SELECT count(*) FROM pg_stats_ext'), '0', 'ANALYZE of a column of arrays, in a session');
SELECT is(t.run(role, clinic, 'ANALYZE t.stat', 'SELECT count(*) FROM pg_stats WHERE tablename = ''stat'' AND attname = ''v'''), '1', format('ANALYZE beside a column of arrays, by %s, clinic "%s"', role, clinic)) FROM (VALUES ('t_app_a', ''), (current_user, ''), ('t_app_a', 'a')) r(role, clinic);
SELECT is((SELECT string_agg(concat_ws(' ', stavalues1, stavalues2, stavalues3, stavalues4, stavalues5), '') FROM pg_statistic WHERE starelid = 't.stat'::regclass AND staattnum > 1), '', 'keeps no values');
-- NULLs count as the server counts them.
CREATE TABLE t.nulls (p text, v enctext, p2 int, v2 encbigint, p3 int, v3 encbigint, p4 int, v4 encbigint);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.nulls SELECT x, x, y, y, z, z, u, u FROM (SELECT CASE WHEN i % 2 = 0 THEN i::text END AS x, CASE WHEN i % 4 > 0 THEN i / 2 END AS y, CASE WHEN i % 10 = 0 THEN i % 100 END AS z, CASE WHEN i % 3 = 0 THEN i - i % 2 END AS u FROM generate_series(1, 3000) i) s') \g /dev/null
ANALYZE t.nulls;
SELECT is(e.n_distinct, p.n_distinct, format('n_distinct with NULLs: %s', p.n_distinct)) FROM pg_stats e JOIN pg_stats p ON e.tablename = p.tablename AND p.attname = replace(e.attname, 'v', 'p') WHERE e.tablename = 'nulls' AND e.attname LIKE 'v%';

-- Casts: to and from json; to all kinds of text, sealed and not.
CREATE TABLE t.json (v encjsonb(clinical), j json);
SELECT is(t.run('t_app_a', 'a', 'INSERT INTO t.json VALUES (''{"b": 1,  "a": 2}''::json, NULL)', 'INSERT INTO t.json (j) VALUES (NULL)', 'UPDATE t.json SET j = v', 'SELECT format(''%s %s %s'', v::json, pg_typeof(v::json), j) FROM t.json WHERE v IS NOT NULL'), '{"a": 2, "b": 1} json {"a": 2, "b": 1}', 'json, both ways');
SELECT is(t.run('t_app_a', '', 'SELECT ' || expression || ' FROM t.json WHERE v IS NOT NULL'), 'ERROR 42501', 'sealed: ' || expression) FROM unnest(ARRAY['v::json', '''{}''::json::encjsonb', 'json(v)', '''{}''::jsonb::encjsonb', 'to_json(v::jsonb)']) expression;
SELECT format('CREATE TABLE t.cast_%1$s (v %1$s(clinical), p %2$s)', enc, base) FROM t.type \gexec
SELECT t.run('t_app_a', 'a', format('INSERT INTO t.cast_%s VALUES (%L::%s, %2$L)', enc, sample, base)) FROM t.type \g /dev/null
CREATE TABLE t.textual AS SELECT unnest(ARRAY['text', 'varchar', 'varchar(7)', 'bpchar', 'char(7)']) AS textual;
SELECT is(t.run('t_app_a', 'a', format('SELECT v::%s::text FROM t.cast_%s', textual, enc)), t.run('t_app_a', 'a', format('SELECT p::text::%s::text FROM t.cast_%s', textual, enc)), format('%s::%s in a session', enc, textual)) FROM t.type, t.textual;
SELECT is(t.run('t_app_a', '', format('SELECT v::%s::text FROM t.cast_%s', textual, enc)), 'ERROR 42501', format('%s::%s, sealed', enc, textual)) FROM t.type, t.textual;
SELECT is(t.run('t_app_a', '', format('SELECT CAST(v AS %s)::text FROM t.cast_%s', textual, enc)), 'ERROR 42501', format('CAST(%s AS %s), sealed', enc, textual)) FROM t.type, t.textual;
SELECT is(t.run('t_nurse', 'a', format('SELECT v::%s::text FROM t.cast_%s', textual, enc)), 'ERROR 42501', format('%s::%s without the class', enc, textual)) FROM t.type, t.textual;
SELECT is(t.run('t_app_a', 'a', format('SELECT (%1$L::%2$s::%3$s = %1$L::%4$s)::text', sample, textual, enc, base)), 'true', format('%s to %s and back', textual, enc)) FROM t.type, t.textual WHERE textual IN ('text', 'varchar', 'bpchar');
SELECT is(t.run('t_app_a', '', format('SELECT %L::%s::%s', sample, textual, enc)), 'ERROR 42501', format('%s to %s, sealed', textual, enc)) FROM t.type, t.textual WHERE textual IN ('text', 'varchar', 'bpchar');
-- What assigns: an insert of the value into a column of text.
CREATE TABLE t.plain (a text, b varchar, c bpchar);
SELECT is(t.run('t_app_a', '', format('INSERT INTO t.plain (%s) SELECT v FROM t.cast_%s', col, enc)), 'ERROR 42501', format('%s into column %s, sealed', enc, col)) FROM t.type, unnest(ARRAY['a', 'b', 'c']) col;
SELECT is(count(*), 0::bigint, 'and nothing is there') FROM t.plain;

-- Literals in what is stored, beyond 70_constants.sql.
CREATE TABLE t.definition (what text, ddl text);
INSERT INTO t.definition VALUES
  ('materialized view', 'CREATE MATERIALIZED VIEW t.matview AS SELECT n FROM t.secret WHERE note = @'), ('materialized view''s column', 'CREATE MATERIALIZED VIEW t.matview AS SELECT n, note, @::enctext AS x FROM t.secret'),
  ('materialized view in WITH', 'CREATE MATERIALIZED VIEW t.matview AS WITH w AS (SELECT n FROM t.secret WHERE note = @) SELECT n FROM w'),
  ('SET DEFAULT', 'ALTER TABLE t.own ALTER v SET DEFAULT @'), ('ADD COLUMN', 'ALTER TABLE t.own ADD x enctext DEFAULT @'), ('ADD CHECK', 'ALTER TABLE t.own ADD CHECK (v <> @)'),
  ('policy', 'CREATE POLICY p ON t.own USING (v = @)'), ('ALTER POLICY', 'ALTER POLICY q ON t.own WITH CHECK (v = @)'), ('rule', 'CREATE RULE r AS ON UPDATE TO t.own WHERE new.v = @ DO INSTEAD NOTHING'),
  ('rule''s action', 'CREATE RULE r AS ON UPDATE TO t.own DO ALSO INSERT INTO t.own (v) VALUES (@)'), ('index predicate', 'CREATE INDEX ON t.own (n) WHERE v = @'), ('view', 'CREATE VIEW t.view AS SELECT n FROM t.own WHERE v IN (@, @)'),
  ('recursive view', 'CREATE RECURSIVE VIEW t.view (n) AS SELECT n FROM t.own WHERE v = @'), ('function', 'CREATE FUNCTION t.f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t.own WHERE v = @; END'),
  ('procedure', 'CREATE PROCEDURE t.f() BEGIN ATOMIC INSERT INTO t.own (v) VALUES (@); END'), ('argument''s default', 'CREATE FUNCTION t.f(v enctext DEFAULT @) RETURNS int LANGUAGE sql AS ''SELECT 1'''),
  ('domain', 'CREATE DOMAIN t.dom AS enctext DEFAULT @'), ('domain''s check', 'CREATE DOMAIN t.dom AS enctext CHECK (value <> @)'), ('trigger', 'CREATE TRIGGER g BEFORE UPDATE ON t.own FOR EACH ROW WHEN (new.v = @) EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
  ('foreign table', 'CREATE FOREIGN TABLE t.foreign (v enctext DEFAULT @) SERVER t_server'), ('schema', 'CREATE SCHEMA t2 CREATE TABLE own (v enctext DEFAULT @)'), ('EXCLUDE', 'ALTER TABLE t.own ADD EXCLUDE USING hash (n WITH =) WHERE (v = @)');
CREATE TABLE t.own (n int, v enctext);
ALTER TABLE t.own OWNER TO t_app_a;
CREATE POLICY q ON t.own;
GRANT CREATE ON DATABASE pgtap TO t_app_a;
CREATE FOREIGN DATA WRAPPER t_wrapper;
CREATE SERVER t_server FOREIGN DATA WRAPPER t_wrapper;
GRANT USAGE ON FOREIGN SERVER t_server TO t_app_a;
CREATE FUNCTION t.tried(ddl text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = coalesce(t.run('t_app_a', 'a', ddl), 'allowed');
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN RETURN SQLERRM;
END $$;
SELECT is(t.tried(replace(ddl, '@', '''x''')), 'ERROR 0A000', 'a literal is refused: ' || what) FROM t.definition;
SELECT is(t.tried(replace(ddl, '@', '''x''::text')), CASE WHEN what = 'index predicate' OR what = 'EXCLUDE' THEN 'ERROR 42P17' ELSE 'allowed' END, 'a text is not: ' || what) FROM t.definition WHERE what NOT IN ('argument''s default');

-- Writing a column of a class that is not held.
CREATE TABLE t.chart (n int PRIMARY KEY, name enctext(identity), note enctext(clinical), remark enctext, other enctext(clinical));
CREATE VIEW t.chart_view AS SELECT * FROM t.chart;
GRANT ALL ON t.chart_view TO PUBLIC;
CREATE TABLE t.parted_chart (n int, name enctext(identity), note enctext(clinical)) PARTITION BY LIST (n);
CREATE TABLE t.parted_chart_1 (note enctext(clinical), gone int, name enctext(identity), n int);
ALTER TABLE t.parted_chart_1 DROP gone;
ALTER TABLE t.parted_chart ATTACH PARTITION t.parted_chart_1 DEFAULT;
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.chart SELECT i, ''name '' || i, ''note '' || i, ''remark '' || i, ''other '' || i FROM generate_series(1, 9) i', 'INSERT INTO t.parted_chart SELECT n, name, note FROM t.chart') \g /dev/null
SELECT is(t.run('t_nurse', 'a', statement), 'ERROR 42501', 'refused: ' || statement)
FROM unnest(ARRAY['UPDATE t.chart SET note = other', 'UPDATE t.chart SET note = NULL', 'UPDATE t.chart SET note = note', 'UPDATE t.chart SET note = DEFAULT', 'UPDATE t.chart SET name = name, note = (SELECT c.note FROM t.chart c WHERE c.n = 1)', 'UPDATE t.chart SET note = ''x''', 'UPDATE t.chart c SET note = d.note FROM t.chart d WHERE d.n = 1',
  'UPDATE t.chart_view SET note = NULL', 'UPDATE t.parted_chart SET note = NULL', 'UPDATE t.parted_chart_1 SET note = NULL', 'WITH u AS (UPDATE t.chart SET note = NULL RETURNING n) SELECT count(*) FROM u',
  'INSERT INTO t.chart (n) VALUES (1) ON CONFLICT (n) DO UPDATE SET note = NULL', 'INSERT INTO t.chart (n) VALUES (1) ON CONFLICT (n) DO UPDATE SET note = chart.other',
  'MERGE INTO t.chart c USING (VALUES (1)) s(n) ON c.n = s.n WHEN MATCHED THEN UPDATE SET note = NULL', 'INSERT INTO t.chart (n, note) VALUES (77, ''x'')']) statement;
SELECT is(t.run('t_nurse', 'a', 'UPDATE t.chart SET note = NULL WHERE false', 'SELECT 1'), 'ERROR 42501', 'also of no row');
SELECT is(t.run('t_nurse', 'a', statement), NULL, 'allowed: ' || statement)
FROM unnest(ARRAY['UPDATE t.chart SET name = ''new '' || n', 'UPDATE t.chart SET remark = name', 'UPDATE t.chart_view SET name = NULL WHERE n = 9', 'UPDATE t.parted_chart SET name = ''x''', 'INSERT INTO t.chart (n, name) VALUES (10, ''Sato'')', 'INSERT INTO t.parted_chart (n, name) VALUES (10, ''Sato'')',
  'INSERT INTO t.chart (n) VALUES (1) ON CONFLICT (n) DO UPDATE SET name = ''merged''', 'MERGE INTO t.chart c USING (VALUES (2)) s(n) ON c.n = s.n WHEN MATCHED THEN UPDATE SET name = ''merged''', 'DELETE FROM t.chart WHERE n = 10']) statement;
SELECT is(t.run('t_app_a', 'a', 'SELECT string_agg(note::text, '','' ORDER BY n) FROM t.chart'), 'note 1,note 2,note 3,note 4,note 5,note 6,note 7,note 8,note 9', 'the notes are as they were');
SELECT is(t.run('t_app_a', 'a', 'SELECT concat_ws('','', max(name::text) FILTER (WHERE n = 1), max(name::text) FILTER (WHERE n = 2), max(name::text) FILTER (WHERE n = 3), max(remark::text) FILTER (WHERE n = 3)) FROM t.chart'), 'merged,merged,new 3,new 3', 'and what she may write is written');
SELECT is(t.run('t_app_a', 'a', 'UPDATE t.chart SET note = other', 'SELECT count(*) FROM t.chart WHERE note = other'), '9', 'one who holds the class may');
CREATE DOMAIN t.note AS enctext(clinical);
CREATE TABLE t.domain_chart (n int, note t.note, notes enctext(clinical)[]);
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.domain_chart SELECT n, note, ARRAY[note] FROM t.chart') \g /dev/null
SELECT is(t.run('t_nurse', 'a', statement), 'ERROR 42501', 'refused: ' || statement) FROM unnest(ARRAY['UPDATE t.domain_chart SET note = NULL', 'UPDATE t.domain_chart SET notes = NULL']) statement;

-- phi.describe().
CREATE ROLE t_keeper LOGIN IN ROLE phi_custodian;
SELECT is(t.run(role, clinic, 'SELECT concat_ws('' '', (d).clinic, (d).class, (d).version, (d).suite, (d).type) FROM (SELECT phi.describe(note) d FROM t.secret WHERE n = 1) s'), wanted || 'xaes-256-gcm text', format('phi.describe() of %s, clinic "%s"', role, clinic))
FROM (VALUES ('t_app_a', 'a', 'a clinical 1 '), ('t_nurse', 'a', 'a clinical 1 '), ('t_app_a', '', ''), ('t_app_b', 'b', ''), ('t_nobody', '', ''), ('t_keeper', '', 'a clinical 1 '), (current_user, '', 'a clinical 1 ')) v(role, clinic, wanted);
SAVEPOINT s;
DELETE FROM phi.clinic WHERE code = 'a';
SELECT is((d).clinic IS NULL AND (d).key_id IS NOT NULL AND (d).suite = 'xaes-256-gcm', true, 'phi.describe() with the clinic''s row gone') FROM (SELECT phi.describe(note) d FROM t.secret WHERE n = 1) s;
SELECT alike(t.run('t_keeper', '', 'SELECT phi.describe(note)::text FROM t.secret WHERE n = 1'), '(%,,clinical,1,xaes-256-gcm,text,%)', 'and to a custodian');
DELETE FROM phi.data_key;
SELECT alike(phi.describe(note)::text, '(%,,,,xaes-256-gcm,text,%)', 'phi.describe() with the key''s row gone') FROM t.secret WHERE n = 1;
ROLLBACK TO s;

-- Forged envelopes: well formed, but of no key's making.
CREATE TABLE t.forged AS SELECT 'phi1:' || encode(set_byte(b, length(b) - 1, get_byte(b, length(b) - 1) # 1), 'base64') AS text
FROM (SELECT decode(substr(format('%s', note), 6), 'base64') b FROM t.secret WHERE n = 1) s;
UPDATE t.forged SET text = replace(text, E'\n', '');
CREATE TABLE t.victim (n int, v enctext(clinical));
SELECT is(t.run(role, '', format('INSERT INTO t.victim VALUES (1, %L)', text)), 'ERROR 22000', 'a forged envelope from a sealed session of ' || role) FROM t.forged, unnest(ARRAY['t_app_a', 't_nobody', 't_keeper']) role;
SELECT is(t.run('t_nobody', '', format('INSERT INTO t.victim VALUES (1, %L::text)', text)), 'ERROR 22000', 'nor by a cast') FROM t.forged;
SELECT is(t.run('t_app_a', 'a', format('INSERT INTO t.victim VALUES (1, %L)', text)), 'ERROR 22000', 'nor from a session') FROM t.forged;
SELECT is(t.run('t_nobody', '', 'INSERT INTO t.victim SELECT 2, note FROM t.secret WHERE n = 1'), NULL, 'a genuine one is copied');
SELECT is(t.run(current_user, '', format('INSERT INTO t.victim VALUES (3, %L)', text)), NULL, 'a superuser''s restore takes what comes') FROM t.forged;
SELECT lives_ok('ANALYZE t.victim', 'ANALYZE survives a bad value');
SELECT is(t.run('t_app_a', 'a', 'SELECT count(*) FROM pg_stats WHERE tablename = ''victim'' AND attname = ''v'''), '1', 'with statistics');
SELECT throws_ok('CREATE INDEX ON t.victim USING hash (v)', '22000', NULL, 'CREATE INDEX says what is wrong');
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.victim WHERE n = 2'), 'note 1', 'other rows are read');
SELECT is(t.run('t_app_a', 'a', 'SELECT v::text FROM t.victim WHERE n = 3'), 'ERROR 22000', 'the bad one is not');

-- What a clerk writes beside columns that are not hers, indexed as they are;
-- and copies of them into an index of her own.
CREATE TABLE t.clerk (id int PRIMARY KEY, name enctext(identity), dx enctext(clinical), g enctext);
CREATE INDEX ON t.clerk USING hash (dx);
CREATE INDEX ON t.clerk USING hash (name);
CREATE INDEX ON t.clerk USING hash (g);
GRANT ALL ON t.clerk TO t_app_a, t_nurse;
SELECT t.run('t_app_a', 'a', $$INSERT INTO t.clerk SELECT i, 'n' || i, 'flu', 'note' || i FROM generate_series(1, 5) i$$) \g /dev/null
SELECT is(t.run('t_nurse', 'a', statement, 'SELECT string_agg(format(''%s %s'', name, g), '', '' ORDER BY id) FROM t.clerk WHERE id IN (1, 9)'), wanted, 'a nurse: ' || statement)
FROM (VALUES
  ($$INSERT INTO t.clerk (id, name) VALUES (1, 'up') ON CONFLICT (id) DO UPDATE SET name = excluded.name$$, 'up note1'),
  ($$INSERT INTO t.clerk (id, name, g) VALUES (9, 'new', 'gen')$$, 'up note1, new gen'),
  ($$MERGE INTO t.clerk USING (VALUES (1, 'merged')) v (id, n) ON clerk.id = v.id WHEN MATCHED THEN UPDATE SET name = v.n::text$$, 'merged note1, new gen'),
  ($$UPDATE t.clerk SET name = 'both', g = 'set' WHERE id = 1$$, 'both set, new gen'),
  ($$WITH u AS (UPDATE t.clerk SET name = 'with' WHERE id = 1 RETURNING id) SELECT count(*) FROM t.clerk LIMIT 0$$, 'with set, new gen'),
  ($$UPDATE t.clerk SET dx = NULL WHERE id = 1$$, 'ERROR 42501')) v(statement, wanted);
SELECT is(t.run('t_app_a', 'a', $$SELECT count(*) FROM t.clerk WHERE dx = 'flu'$$), '5', 'and what is not hers is as it was');
CREATE TABLE t.hers (id int PRIMARY KEY, n enctext);
CREATE INDEX ON t.hers USING hash (n);
ALTER TABLE t.hers OWNER TO t_nurse;
SELECT is(t.run('t_nurse', 'a', statement), 'ERROR 42501', 'no copies into an index of her own: ' || statement)
FROM unnest(ARRAY['INSERT INTO t.hers SELECT id, dx FROM t.clerk', 'INSERT INTO t.hers SELECT id, dx FROM t.clerk ON CONFLICT (id) DO UPDATE SET n = excluded.n',
                  'MERGE INTO t.hers USING t.clerk ON clerk.id = hers.id WHEN NOT MATCHED THEN INSERT VALUES (clerk.id, clerk.dx)']) statement;

-- ... nor by an UPDATE of another column, in a session that she sealed or that
-- is another clinic's, or by whatever else writes to an index of hers.
CREATE TABLE t.flagged (id int, v enctext, flag bool) PARTITION BY LIST (id);
CREATE TABLE t.flagged_1 PARTITION OF t.flagged DEFAULT;
CREATE INDEX ON t.flagged USING hash (v) WHERE flag;
CREATE TABLE t.flags (id int, flag bool);
CREATE TABLE t.flags_1 (v enctext[], w t.any_note) INHERITS (t.flags);
CREATE INDEX ON t.flags_1 USING hash (w) WHERE flag;
CREATE TABLE t.triggered (id int, v enctext, flag bool);
CREATE INDEX ON t.triggered USING hash (v);
CREATE FUNCTION t.put() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SELECT dx INTO new.v FROM t.clerk WHERE id = 1; RETURN new; END $$;
CREATE TRIGGER put BEFORE INSERT OR UPDATE ON t.triggered FOR EACH ROW WHEN (new.flag) EXECUTE FUNCTION t.put();
CREATE TABLE t.by_row (id int, v enctext(clinical), flag bool);
CREATE FUNCTION t.of_row(t.by_row) RETURNS enctext IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1.v; END';
CREATE INDEX ON t.by_row USING hash (t.of_row(by_row)) WHERE flag;
CREATE TABLE t.by_number (id int, flag bool);
CREATE FUNCTION t.of_number(int) RETURNS enctext IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT dx FROM t.clerk WHERE id = $1); END';
CREATE INDEX ON t.by_number USING hash (t.of_number(id)) WHERE flag;
CREATE TABLE t.classed (id int, v enctext(clinical), flag bool);
CREATE INDEX ON t.classed USING hash (v);
INSERT INTO t.by_number SELECT id, false FROM t.clerk;
INSERT INTO t.classed SELECT id, dx, false FROM t.clerk;
CREATE ROLE t_team;
CREATE ROLE t_aide LOGIN NOINHERIT IN ROLE t_team;
CREATE ROLE t_both LOGIN;
SELECT phi.grant_clinic('t_aide', 'a', '{identity}'), phi.grant_clinic('t_both', 'a', '{identity}'), phi.grant_clinic('t_both', 'b') \g /dev/null
CREATE TABLE t.team (id int, v enctext, flag bool);
CREATE INDEX ON t.team USING hash (v) WHERE flag;
CREATE TABLE t.made (id int, v enctext, flag bool);
CREATE INDEX made_index ON t.made USING hash (v);
CREATE TABLE t.full (LIKE t.made INCLUDING ALL);
CREATE TABLE t.free (LIKE t.made INCLUDING ALL);
CREATE TABLE t.two (LIKE t.made INCLUDING ALL);
CREATE TABLE t.others (id int, v enctext);
CREATE INDEX ON t.others USING hash (v);
SELECT format('ALTER TABLE t.%I OWNER TO %I', name, owner) FROM (VALUES ('flagged', 't_nurse'), ('flagged_1', 't_nurse'), ('flags', 't_nurse'), ('flags_1', 't_nurse'), ('triggered', 't_nurse'), ('by_row', 't_nurse'), ('by_number', 't_nurse'), ('classed', 't_nurse'), ('team', 't_team'), ('made', 't_nurse'), ('full', 't_app_a'), ('free', 't_nobody'), ('two', 't_both')) v(name, owner) \gexec
SELECT t.run('t_nurse', 'a', 'INSERT INTO t.triggered VALUES (1, ''hers'', false)') \g /dev/null
INSERT INTO t.made SELECT id, dx, false FROM t.clerk;
SELECT current_setting('data_directory') || '/t_attacks' AS file \gset
COPY (SELECT id, dx FROM t.clerk) TO :'file';
SELECT is(t.run(role, clinic, VARIADIC statements), 'ERROR 42501', format('%s, clinic "%s": %s', role, clinic, array_to_string(statements, '; ')))
FROM (VALUES
  ('t_nurse', 'a', ARRAY['INSERT INTO t.flagged SELECT id, dx, false FROM t.clerk', 'UPDATE t.flagged SET flag = true']),
  ('t_nurse', 'a', ARRAY['INSERT INTO t.flagged SELECT id, dx, false FROM t.clerk', 'UPDATE t.flagged_1 SET flag = true']),
  ('t_nurse', 'a', ARRAY['INSERT INTO t.flagged SELECT id, dx, false FROM t.clerk', 'WITH u AS (UPDATE t.flagged SET flag = true RETURNING id) SELECT count(*) FROM u']),
  ('t_nurse', 'a', ARRAY['INSERT INTO t.flags_1 (id, w, flag) SELECT id, dx, false FROM t.clerk', 'UPDATE t.flags SET flag = true']),
  ('t_nurse', 'a', ARRAY['INSERT INTO t.by_row SELECT id, dx, false FROM t.clerk', 'UPDATE t.by_row SET flag = true']),
  ('t_nurse', 'a', ARRAY['UPDATE t.by_number SET flag = true']),
  ('t_nurse', '', ARRAY['UPDATE t.by_number SET flag = true']),
  ('t_nurse', 'a', ARRAY['UPDATE t.triggered SET flag = true']),
  ('t_nurse', '', ARRAY['UPDATE t.triggered SET flag = true']),
  ('t_nurse', '', ARRAY['INSERT INTO t.triggered (flag) VALUES (true)']),
  ('t_aide', 'a', ARRAY['INSERT INTO t.team SELECT id, dx, false FROM t.clerk', 'UPDATE t.team SET flag = true']),
  ('t_aide', '', ARRAY['INSERT INTO t.team SELECT id, dx, true FROM t.clerk']),
  ('t_nurse', '', ARRAY['INSERT INTO t.flagged SELECT id, dx, true FROM t.clerk']),
  ('t_nurse', '', ARRAY['INSERT INTO t.flagged SELECT id, dx, false FROM t.clerk', 'UPDATE t.flagged SET flag = true']),
  ('t_nurse', '', ARRAY['INSERT INTO t.hers SELECT id, dx FROM t.clerk']),
  ('t_nurse', '', ARRAY['INSERT INTO t.hers SELECT id, dx FROM t.clerk ON CONFLICT (id) DO UPDATE SET n = excluded.n']),
  ('t_nurse', '', ARRAY['MERGE INTO t.hers USING t.clerk ON clerk.id = hers.id WHEN NOT MATCHED THEN INSERT VALUES (clerk.id, clerk.dx)']),
  ('t_nurse', '', ARRAY['INSERT INTO t.flagged SELECT id, dx, false FROM t.clerk', 'CREATE INDEX ON t.flagged USING hash (v)']),
  ('t_nurse', '', ARRAY['CREATE TEMP TABLE c AS SELECT id, dx::enctext FROM t.clerk', 'ALTER TABLE c ADD EXCLUDE USING hash (dx WITH =)']),
  ('t_nurse', '', ARRAY['REINDEX TABLE t.made']),
  ('t_nurse', 'a', ARRAY['REINDEX INDEX t.made_index']),
  ('t_nurse', '', ARRAY[format('COPY t.hers FROM %L', :'file')]),
  ('t_nurse', 'a', ARRAY[format('COPY t.hers FROM %L', :'file')]),
  ('t_nurse', 'a', ARRAY['CREATE MATERIALIZED VIEW t.mat AS SELECT dx::enctext FROM t.clerk', 'CREATE INDEX ON t.mat USING hash (dx)']),
  ('t_nurse', '', ARRAY['CREATE MATERIALIZED VIEW t.mat AS SELECT dx::enctext FROM t.clerk WITH NO DATA', 'CREATE INDEX ON t.mat USING hash (dx)', 'REFRESH MATERIALIZED VIEW t.mat']),
  ('t_both', 'b', ARRAY['INSERT INTO t.two SELECT id, dx, true FROM t.clerk']),
  ('t_both', 'b', ARRAY['DROP INDEX t.two_v_idx', 'INSERT INTO t.two SELECT id, dx, true FROM t.clerk', 'CREATE INDEX ON t.two USING hash (v)'])) v(role, clinic, statements);
SELECT is(t.run(role, clinic, VARIADIC statements), wanted, format('allowed: %s, clinic "%s": %s', role, clinic, array_to_string(statements, '; ')))
FROM (VALUES
  ('t_nurse', '', ARRAY['INSERT INTO t.clerk (id, g) SELECT id + 100, dx FROM t.clerk WHERE id < 3', 'SELECT count(*) FROM t.clerk WHERE id > 100'], '2'),
  ('t_nurse', '', ARRAY[format('COPY t.others FROM %L', :'file'), 'SELECT count(*) > 4 FROM t.others'], 'true'),
  ('t_nurse', '', ARRAY['UPDATE t.clerk SET name = name WHERE id = 1 RETURNING id'], '1'),
  ('t_nurse', '', ARRAY['INSERT INTO t.hers SELECT id, name FROM t.clerk WHERE id = 1 RETURNING id'], '1'),
  ('t_nurse', 'a', ARRAY['INSERT INTO t.flagged VALUES (1, ''hers'', false)', 'UPDATE t.flagged SET flag = true', 'SELECT count(*) FROM t.flagged WHERE v = ''hers'' AND flag'], '1'),
  ('t_nurse', 'a', ARRAY['UPDATE t.classed SET flag = true WHERE id = 1 RETURNING id'], '1'),
  ('t_nurse', 'a', ARRAY['UPDATE t.triggered SET v = ''still hers'' RETURNING v'], 'still hers'),
  ('t_app_a', '', ARRAY['INSERT INTO t.full SELECT id, dx, true FROM t.clerk', 'CREATE INDEX ON t.full USING hash (v)', 'UPDATE t.full SET flag = false', 'REINDEX TABLE t.full', 'SELECT count(*) > 4 FROM t.full'], 'true'),
  ('t_nobody', '', ARRAY['INSERT INTO t.free SELECT id, dx, true FROM t.clerk', 'CREATE INDEX ON t.free USING hash (v)', 'UPDATE t.free SET flag = false', 'REINDEX TABLE t.free', 'SELECT count(*) > 4 FROM t.free'], 'true'),
  ('t_both', 'b', ARRAY['INSERT INTO t.two VALUES (1, ''own'', true) RETURNING v'], 'own')) v(role, clinic, statements, wanted);

-- Searching an index of one's guesses for a value that one may not read.
CREATE TABLE t.guesses (v enctext);
CREATE INDEX ON t.guesses USING hash (v);
ALTER TABLE t.guesses OWNER TO t_nurse;
SELECT t.run('t_nurse', 'a', 'INSERT INTO t.guesses SELECT ''guess '' || i FROM generate_series(1, 50) i', 'INSERT INTO t.guesses VALUES (''flu'')') \g /dev/null
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SELECT is(t.run('t_nurse', clinic, statement), 'ERROR 42501', format('clinic "%s": %s', clinic, statement))
FROM unnest(ARRAY['SELECT count(*) FROM t.guesses WHERE v = (SELECT dx FROM t.clerk WHERE id = 1)', 'SELECT count(*) FROM t.guesses g, t.clerk c WHERE c.id = 1 AND g.v = c.dx', 'SELECT count(*) FROM t.guesses WHERE v = ANY (ARRAY(SELECT dx FROM t.clerk))',
                  'UPDATE t.clerk SET name = name FROM t.guesses g WHERE clerk.id = 1 AND g.v = clerk.dx', 'UPDATE t.clerk SET name = name FROM (SELECT id, dx::enctext AS x FROM t.clerk OFFSET 0) s, LATERAL (SELECT FROM t.guesses WHERE v = s.x OFFSET 0) g WHERE clerk.id = 1 AND s.id = 1',
                  'WITH d AS (DELETE FROM t.guesses WHERE v = (SELECT dx FROM t.clerk WHERE id = 1) RETURNING 1) SELECT count(*) FROM d', 'DELETE FROM t.guesses WHERE v = (SELECT dx FROM t.clerk WHERE id = 1)']) statement, unnest(ARRAY['a', '']) clinic;
SELECT is(t.run(role, clinic, statement), '0', format('allowed: %s, clinic "%s": %s', role, clinic, statement))
FROM (VALUES ('t_app_a', 'a', 'SELECT count(*) - 1 FROM t.guesses WHERE v = (SELECT dx FROM t.clerk WHERE id = 1)'), ('t_app_a', '', 'SELECT count(*) FROM t.guesses WHERE v = (SELECT dx FROM t.clerk WHERE id = 1)'),
             ('t_nurse', 'a', 'SELECT count(*) FROM t.guesses WHERE v = (SELECT name FROM t.clerk WHERE id = 2)'), ('t_nurse', 'a', 'UPDATE t.clerk SET name = ''again'' WHERE name = ''n4'' RETURNING id - 4')) v(role, clinic, statement);
RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin;

SELECT * FROM finish();
ROLLBACK;
