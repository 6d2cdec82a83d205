-- Functions, operators and aggregates of the base types work on encrypted
-- columns and give what they give for plain ones.
\ir include/setup.psql
SET LOCAL timezone = 'Asia/Tokyo'; SET LOCAL datestyle = 'ISO, YMD';
CREATE TABLE t.plain (id int, clinic text DEFAULT 'a', name text, note text, photo bytea, record jsonb, amount bigint, weight numeric, born date, seen timestamptz, smoker boolean);
INSERT INTO t.plain (id, name, note, photo, record, amount, weight, born, seen, smoker) VALUES
  (1, '佐藤 花子', 'fever', '\x0053', '{"a": 1, "b": [1, {"c": "x"}]}', 9007199254740993, 36.60, '1958-03-21', '2024-02-29 23:59:59.999999+00', true),
  (2, 'Sato Hanako', '', '\x', '{}', -5, 0.10, '2000-02-29', '2026-01-01 00:00+09', false),
  (3, 'いとう 太郎', 'it''s "so"', '\xff', '[1, "two", null]', 0, 'NaN', '0044-03-15 BC', '-infinity', true),
  (4, 'アベ', E'two\nlines', '\x01', '"text"', 7, 1e20, 'infinity', '2024-06-01 00:00Z', NULL),
  (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE t.enc (id int, clinic text DEFAULT 'a', name enctext(identity), note enctext(clinical), photo encbytea, record encjsonb(clinical),
  amount encbigint(insurance), weight encnumeric(clinical), born encdate(identity), seen enctimestamptz, smoker encboolean(sensitive));
SELECT t.run('t_app_a', 'a', 'INSERT INTO t.enc SELECT * FROM t.plain') \g /dev/null

-- Each is put into a query over the whole table.
CREATE TABLE t.expression (n int GENERATED ALWAYS AS IDENTITY, kind text, expression text);
INSERT INTO t.expression (kind, expression) SELECT 'value', unnest(ARRAY[
  -- text
  'name LIKE ''%藤%''', 'name LIKE ''Sat_ %''', 'name NOT LIKE ''S%''', 'name ILIKE ''sato%''', 'name NOT ILIKE ''%A%''', 'name LIKE note', 'name LIKE ANY (ARRAY[''S%'', ''い%''])',
  'name ~ ''^S''', 'name ~* ''HANA''', 'name !~ ''o$''', 'name SIMILAR TO ''(佐|S)%''', 'regexp_replace(name, ''[ao]'', ''_'', ''g'')', 'regexp_match(name, ''(.)o'')', 'substring(name FROM ''S(..)'')',
  'lower(name)', 'upper(name)', 'initcap(name)', 'length(name)', 'char_length(name)', 'octet_length(name)', 'bit_length(name)', 'concat(name, ''-'', note, id)', 'concat_ws(''|'', name, note)', 'name || note',
  'name || '' san''', '''Dr. '' || name', 'name || id', 'format(''%s %L'', name, note)', 'left(name, 2)', 'right(name, 2)', 'substr(name, 2)', 'substring(name FROM 2 FOR 3)', 'trim(note)', 'ltrim(name, ''S'')',
  'position(''o'' IN name)', 'strpos(name, ''o'')', 'replace(name, ''a'', ''o'')', 'translate(name, ''ao'', ''oa'')', 'split_part(name, '' '', 1)', 'string_to_array(name, '' '')', 'reverse(name)', 'repeat(name, 2)',
  'lpad(name, 12)', 'rpad(name, 12, ''.'')', 'md5(name)', 'ascii(name)', 'quote_literal(note)', 'quote_ident(name)', 'starts_with(name, ''S'')', 'name ^@ ''S''', 'overlay(name PLACING ''x'' FROM 1 FOR 1)',
  'normalize(name)', 'to_tsvector(''simple'', name) @@ to_tsquery(''simple'', ''hanako'')', 'convert_to(name, ''UTF8'')', 'name::varchar(3)', 'name::char(4)', 'name::bytea', 'hashtext(name)',
  'name < ''T'' COLLATE "C"', 'name COLLATE "C" > note COLLATE "C"', 'name BETWEEN ''A'' AND ''T''', 'name IN (''アベ'', ''x'')', 'name = ANY (ARRAY[''アベ'', ''x''])', 'name = ANY (''{アベ,x}''::varchar[])',
  '(name, id) IN ((''アベ'', 4), (''x'', 1))', '(name, note) = (''アベ'', note)', 'name IS DISTINCT FROM note', 'name IS NULL', 'coalesce(name, ''none'')', 'coalesce(note, name)', 'nullif(name, ''アベ'')',
  'greatest(name, note)', 'least(name, ''M'')', 'CASE WHEN smoker THEN name ELSE ''no'' END', 'CASE name WHEN ''アベ'' THEN 1 ELSE 2 END', 'ARRAY[name, note]', 'array_to_string(ARRAY[name, note], '','')', 'name = ANY (ARRAY[name, note])',
  'xmlelement(NAME x, name)',
  -- bytea
  'photo || ''\x00''::bytea', 'encode(photo, ''base64'')', 'length(photo)', 'md5(photo)', 'sha256(photo)', 'substring(photo FROM 1 FOR 1)', 'position(''\x53''::bytea IN photo)', 'photo = ''\xff''',
  -- jsonb
  'record -> ''a''', 'record ->> ''a''', 'record -> 1', 'record #> ''{b,1}''', 'record #>> ''{b,1,c}''', 'record @> ''{"a": 1}''', 'record <@ ''{"a": 1}''::jsonb', 'record ? ''a''', 'record ?| ARRAY[''a'', ''z'']', 'record ?& ARRAY[''a'', ''b'']',
  'record @? ''$.a''', 'record @@ ''$.a == 1''', 'record || ''{"z": 1}''::jsonb', 'CASE WHEN id = 1 THEN record #- ''{a}'' END', 'jsonb_typeof(record)', 'jsonb_pretty(record)', 'jsonb_strip_nulls(record)',
  'jsonb_path_query_array(record, ''$.b[*]'')', 'jsonb_path_exists(record, ''$.b'')', 'record = ''{}''', '(record ->> ''a'')::int + 1', 'CASE WHEN jsonb_typeof(record) = ''object'' THEN record - ''a'' END', 'CASE WHEN id = 1 THEN jsonb_set(record, ''{a}'', ''2'') END',
  'record::text', 'record::json ->> ''a''',
  -- numbers
  'amount + 1', 'amount - amount', 'amount * 2', 'amount / 2', 'amount % 3', '-amount', 'abs(amount)', 'sign(weight)', 'amount & 1', 'mod(amount, 3)', 'amount::numeric * 1.5', 'amount BETWEEN -10 AND 10', 'amount IN (7, 0)', 'amount = ANY (''{7,0}'')',
  'to_char(amount, ''FM999,999,999,999,999,999'')', 'amount::text || ''!''', 'nullif(amount, 0)', 'amount > id', 'greatest(amount, 3::bigint)', 'weight + 1', 'weight * 2.5', 'weight / 3', 'weight * id', '-weight', 'round(weight)', 'round(weight, 1)',
  'trunc(weight)', 'floor(weight)', 'ceil(weight)', 'weight BETWEEN 0 AND 50', 'weight > 0.5', 'weight = 36.6', 'weight::float8', 'to_char(weight, ''999.99'')', 'CASE WHEN id < 3 THEN width_bucket(weight, 0, 100, 5) END', 'nullif(weight, 0)', 'coalesce(weight, 0.5)', 'least(weight, 50.0)',
  -- dates and times
  'age(''2024-01-01'', born)', 'age(timestamp ''2024-01-01'', born)', 'date_trunc(''month'', born)', 'extract(year FROM born)', 'extract(epoch FROM born)', 'date_part(''dow'', born)', 'to_char(born, ''YYYY-MM-DD Day'')', 'born + interval ''1 month''',
  'born - interval ''1 day''', 'interval ''1 day'' + born', 'born + time ''10:00''', 'born AT TIME ZONE ''UTC''', 'date_part(''epoch'', born)', 'date_trunc(''year'', born)', 'born + 1', 'born - 30', 'CASE WHEN isfinite(born) THEN born - date ''1950-01-01'' END', 'born BETWEEN ''1950-01-01'' AND ''2010-01-01''', 'born < current_date', 'born >= ''1990-01-01''', 'born = ''2000-02-29''', 'born IN (''2000-02-29'', ''1958-03-21'')',
  'born < now()', 'born::timestamp', 'born::timestamptz', '(born, interval ''1 day'') OVERLAPS (date ''2000-02-28'', date ''2000-03-01'')', 'isfinite(born)', 'coalesce(born, ''2000-01-01'')', 'greatest(born, ''1990-01-01'')', 'born::text || ''!''',
  'extract(month FROM born) = 2 AND extract(day FROM born) = 29', 'CASE WHEN id < 3 THEN make_date(extract(year FROM seen)::int, 1, 1) END', 'daterange(born, NULL)',
  'CASE WHEN id < 3 THEN age(''2026-02-01'', seen) END', 'CASE WHEN id < 3 THEN age(now(), seen) > ''1 day'' END', 'date_trunc(''hour'', seen)', 'date_trunc(''day'', seen, ''UTC'')', 'extract(hour FROM seen)', 'seen + interval ''1 day''', 'seen - interval ''90 min''', 'now() - interval ''1 day'' > seen', 'seen AT TIME ZONE ''UTC''',
  'CASE WHEN amount < 30000 THEN amount::smallint END', 'amount::real', 'amount::float8', 'CASE WHEN weight < 30000 THEN weight::smallint END', 'weight::real', 'smoker::int', 'name::name', 'name::bytea', 'born >= now()', 'born < localtimestamp', 'born = timestamp ''2000-02-29 00:00''',
  'to_char(seen, ''HH24:MI TZH'')', 'seen::date', 'seen::timestamp', 'CASE WHEN isfinite(seen) THEN seen::time END', 'seen >= date ''2026-01-01''', 'date ''2026-01-01'' = seen', 'seen < current_date', 'seen > localtimestamp', 'seen IN (date ''2026-01-01'', timestamp ''2026-01-01 01:00'')', 'seen::name', 'seen::date = ''2026-01-01''', 'seen BETWEEN ''2024-01-01'' AND ''2026-01-01''', 'coalesce(seen, ''2024-01-01'')', 'tstzrange(seen, NULL)', 'CASE WHEN isfinite(seen) THEN now() - seen > ''0'' END',
  -- boolean
  'NOT smoker', 'smoker AND id = 1', 'smoker OR id = 2', 'smoker IS TRUE', 'smoker IS NOT FALSE', 'smoker IS UNKNOWN', 'CASE WHEN smoker THEN 1 ELSE 0 END', 'smoker = true', 'coalesce(smoker, false)',
  -- JSON
  'to_json(name)', 'to_jsonb(name)', 'to_json(amount)', 'to_jsonb(weight)', 'to_json(born)', 'to_jsonb(seen)', 'to_jsonb(smoker)', 'to_json(record)', 'to_jsonb(record)', 'to_json(photo)', 'to_jsonb(x)', 'row_to_json(x)',
  'json_build_object(''name'', name, ''amount'', amount, ''weight'', weight, ''born'', born, ''seen'', seen, ''smoker'', smoker, ''record'', record, ''photo'', photo)', 'jsonb_build_object(''name'', name, ''amount'', amount, ''weight'', weight, ''born'', born, ''seen'', seen, ''smoker'', smoker, ''record'', record)',
  'json_build_array(name, amount, smoker, record)', 'to_jsonb(ARRAY[amount, amount])', 'array_to_json(ARRAY[smoker])', 'json_object(ARRAY[''k''], ARRAY[coalesce(name, '''')::text])']);
INSERT INTO t.expression (kind, expression) SELECT 'aggregate', unnest(ARRAY[
  'min(name)', 'max(name)', 'min(note)', 'min(amount)', 'max(amount)', 'min(weight)', 'max(weight)', 'min(born)', 'max(born)', 'min(seen)', 'max(seen)', 'sum(amount)', 'avg(amount)', 'sum(weight)', 'round(avg(amount), 2)', 'stddev(amount)', 'bool_and(smoker)', 'bool_or(smoker)', 'every(smoker)',
  'bit_or(amount)', 'count(name)', 'count(DISTINCT name)', 'count(*) FILTER (WHERE smoker)', 'array_agg(name ORDER BY id)', 'array_agg(born ORDER BY name)', 'array_agg(DISTINCT name)', 'array_to_string(array_agg(name ORDER BY born), '','')', 'string_agg(name, '','' ORDER BY id)',
  'string_agg(DISTINCT name, '','')', 'string_agg(photo, ''\x00'' ORDER BY id)', 'json_agg(name ORDER BY id)', 'jsonb_agg(amount ORDER BY id)', 'json_agg(x ORDER BY id)', 'jsonb_agg(x ORDER BY id)', 'jsonb_object_agg(coalesce(name, ''''), amount)', 'to_jsonb(array_agg(amount ORDER BY id))',
  'mode() WITHIN GROUP (ORDER BY name)', 'percentile_disc(0.5) WITHIN GROUP (ORDER BY amount)', 'percentile_disc(0.5) WITHIN GROUP (ORDER BY born)', 'rank(''M''::text) WITHIN GROUP (ORDER BY name::text)', 'range_agg(daterange(born, NULL))', 'xmlagg(xmlelement(NAME x, name) ORDER BY id)']);
INSERT INTO t.expression (kind, expression) SELECT 'window', unnest(ARRAY[
  'row_number() OVER (ORDER BY name)', 'rank() OVER (PARTITION BY smoker ORDER BY born)', 'ntile(2) OVER (ORDER BY name)', 'lag(name) OVER (ORDER BY born)', 'lag(name, 1, ''none'') OVER (ORDER BY id)', 'lead(born, 2) OVER (ORDER BY amount)', 'first_value(name) OVER (ORDER BY seen)', 'last_value(weight) OVER (ORDER BY id)',
  'nth_value(name, 2) OVER (ORDER BY id)', 'sum(amount) OVER (ORDER BY born)', 'max(name) OVER (PARTITION BY smoker)', 'count(*) OVER (PARTITION BY name)', 'string_agg(name, '','') OVER (ORDER BY id ROWS 1 PRECEDING)', 'cume_dist() OVER (ORDER BY weight)']);

CREATE FUNCTION t.of_column(kind text, expression text, source text) RETURNS text LANGUAGE sql SET timezone FROM CURRENT SET datestyle FROM CURRENT AS $$
  SELECT t.run('t_app_a', 'a', format(CASE kind WHEN 'aggregate' THEN 'SELECT (%s)::text FROM t.%s x'
    ELSE 'SELECT string_agg(coalesce(id || '': '' || v, ''NULL''), E''\n'' ORDER BY id) FROM (SELECT id, (%s)::text AS v FROM t.%s x) s' END, expression, source)) $$;
SELECT is(t.of_column(kind, expression, 'enc'), t.of_column(kind, expression, 'plain'), expression) FROM t.expression ORDER BY n;
SELECT is_empty($$SELECT expression FROM t.expression WHERE t.of_column(kind, expression, 'plain') LIKE 'ERROR%' OR kind = 'value' AND t.of_column(kind, expression, 'plain') IS NULL$$, 'each of them works on plain columns');

-- Sets of rows, and orders.
CREATE TABLE t.whole (query text);
INSERT INTO t.whole VALUES
  ('SELECT array_agg(DISTINCT k) FROM t.# x, jsonb_each_text(CASE WHEN jsonb_typeof(record) = ''object'' THEN record::jsonb END) e(k, v)'),
  ('SELECT string_agg(w, '','' ORDER BY id, w COLLATE "C") FROM (SELECT id, unnest(string_to_array(name, '' '')) w FROM t.# x) s'),
  ('SELECT string_agg(w, '','' ORDER BY id, w COLLATE "C") FROM (SELECT id, regexp_split_to_table(name, ''o'') w FROM t.# x) s'),
  ('SELECT count(*) FROM t.# x JOIN (VALUES (''アベ''), (''x'')) v (name) USING (name)'),
  ('SELECT count(*) FROM t.# x JOIN unnest(ARRAY[''アベ'', ''x'']) v (name) ON x.name = v.name'),
  ('SELECT count(*) FROM t.# x NATURAL JOIN (SELECT id, name FROM t.#) y'),
  ('SELECT array_agg(c ORDER BY n NULLS FIRST) FROM (SELECT lower(name) n, count(*) c FROM t.# x GROUP BY lower(name)) s'),
  ('SELECT array_agg(c ORDER BY y) FROM (SELECT extract(year FROM born) y, count(*) c FROM t.# x GROUP BY 1 HAVING max(name) > ''A'') s'),
  ('SELECT array_agg(concat(name, born) ORDER BY name, born) FROM (SELECT name, born FROM t.# x GROUP BY GROUPING SETS ((name, born), (name), ())) s'),
  ('SELECT array_agg(id) FROM (SELECT id FROM t.# x ORDER BY name COLLATE "ja-x-icu") s'),
  ('SELECT array_agg(id) FROM (SELECT id FROM t.# x ORDER BY name COLLATE "ja-x-icu" DESC NULLS LAST, id) s'),
  ('SELECT array_agg(id ORDER BY name COLLATE "ja-x-icu") FROM t.# x'),
  ('SELECT string_agg(n, '','') FROM (SELECT DISTINCT name COLLATE "ja-x-icu" AS n FROM t.# x ORDER BY 1) s'),
  ('SELECT count(*) FROM t.# x WHERE name < ''さ'' COLLATE "ja-x-icu"'),
  ('SELECT array_agg(id) FROM (SELECT id FROM t.# x ORDER BY lower(name) FETCH FIRST 2 ROWS WITH TIES) s'),
  ('SELECT array_agg(id) FROM (SELECT id FROM t.# x ORDER BY extract(month FROM born), amount, weight, seen, smoker LIMIT 3 OFFSET 1) s'),
  ('SELECT count(*) FROM t.# x WHERE EXISTS (SELECT FROM t.plain y WHERE y.name = x.name AND y.born = x.born AND y.amount = x.amount AND y.weight = x.weight AND y.seen = x.seen AND y.smoker = x.smoker AND y.record = x.record AND y.photo = x.photo)');
SELECT is(t.run('t_app_a', 'a', replace(query, '#', 'enc')), t.run('t_app_a', 'a', replace(query, '#', 'plain')), query) FROM t.whole;
SELECT is_empty($$SELECT query FROM t.whole WHERE coalesce(t.run('t_app_a', 'a', replace(query, '#', 'plain')), 'ERROR') LIKE 'ERROR%'$$, 'each of them works on plain columns');
SELECT isnt(t.run('t_app_a', 'a', 'SELECT array_agg(id ORDER BY name COLLATE "ja-x-icu") FROM t.enc'), t.run('t_app_a', 'a', 'SELECT array_agg(id ORDER BY name COLLATE "C") FROM t.enc'), 'the collation makes a difference');

-- What is written by expressions.
SELECT is(t.run('t_app_a', 'a', format('UPDATE t.%s SET name = upper(name) || ''!'', amount = amount + 1, weight = weight * 2, born = born + 1, seen = seen + interval ''1 day'', smoker = NOT smoker, record = record || ''{"z": 1}''::jsonb, photo = photo || photo', source),
  format('UPDATE t.%s SET (name, note) = (SELECT note, name FROM t.plain WHERE id = 1), born = ''2000-01-01''::timestamptz WHERE id = 3', source),
  format('UPDATE t.%s SET name = id, note = born, amount = 5::smallint, weight = amount::numeric / 2, born = now(), seen = current_date, record = to_json(name) WHERE id = 4', source),
  format('SELECT string_agg(to_jsonb(x)::text, E''\n'' ORDER BY id) FROM t.%s x WHERE id <> 4', source)), want, 'UPDATE by expressions')
FROM (VALUES ('enc')) v(source),
     t.run('t_app_a', 'a', $$UPDATE t.plain SET name = upper(name) || '!', amount = amount + 1, weight = weight * 2, born = born + 1, seen = seen + interval '1 day', smoker = NOT smoker, record = record || '{"z": 1}'::jsonb, photo = photo || photo$$,
       $$UPDATE t.plain x SET (name, note) = ('fever', '佐藤 花子!'), born = '2000-01-01' WHERE id = 3$$,
       $$SELECT string_agg(to_jsonb(x)::text, E'\n' ORDER BY id) FROM t.plain x WHERE id <> 4$$) want;

-- Where the session may not read, functions that take any type show the
-- envelope, JSON as a string; all else is an error.
SELECT matches(t.run('t_nobody', '', format('SELECT to_json(%s)::text FROM t.enc WHERE id = 1', col)), '^"phi1:[A-Za-z0-9+/=]+"$', 'to_json of ciphertext: ' || col)
FROM unnest(ARRAY['name', 'amount', 'weight', 'born', 'seen', 'smoker', 'photo']) col;
SELECT is(t.run('t_nobody', '', 'SELECT to_json(record)::text FROM t.enc WHERE id = 1'), 'ERROR 42501', 'to_json of encjsonb is a cast: refused');
SELECT matches(t.run('t_nurse', 'a', 'SELECT json_build_object(''name'', name, ''weight'', weight)::text FROM t.enc WHERE id = 2'), '^{"name" : "SATO HANAKO!", "weight" : "phi1:[A-Za-z0-9+/=]+"}$', 'JSON of a class that is not held');
SELECT is(t.run('t_nobody', '', format('SELECT (%s)::text FROM t.enc x', expression)), 'ERROR 42501', 'sealed: ' || expression)
FROM unnest(ARRAY['lower(name)', 'name LIKE ''S%''', 'amount + 1', 'age(born)', 'date_trunc(''hour'', seen)', 'NOT smoker', 'record -> ''a''', 'length(photo)', 'name || note', 'name COLLATE "ja-x-icu" < ''x''', 'string_agg(name, '','')', 'sum(weight)']) expression;

-- Known gaps: each is an error, never a wrong answer.
SELECT alike(t.run('t_app_a', 'a', format('SELECT (%s)::text FROM t.enc WHERE id = 1', expression)), 'ERROR 42%', 'needs a cast: ' || expression)
FROM unnest(ARRAY['coalesce(amount, 0)', 'CASE WHEN smoker THEN amount ELSE 0 END', 'greatest(weight, 1)', 'amount * 1.5', 'weight + amount', 'power(amount, 2)', 'record[''a'']', 'daterange(''1950-01-01'', NULL) @> born']) expression;

SELECT * FROM finish();
ROLLBACK;
