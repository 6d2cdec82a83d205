-- Every value of a base type goes in and comes out as the base type prints it.
\ir include/setup.psql
SELECT current_setting('data_directory') || '/t_edge' AS file \gset

INSERT INTO t.sample
SELECT 'encjsonb', repeat('[', 1000) || repeat(']', 1000)
UNION ALL SELECT 'encjsonb', repeat('{"k": ', 1000) || '1' || repeat('}', 1000)
UNION ALL SELECT 'encjsonb', (SELECT jsonb_agg(md5(i::text))::text FROM generate_series(1, 5000) i)
UNION ALL SELECT 'encnumeric', repeat('9', 131072) || '.' || repeat('7', 16383)
UNION ALL SELECT 'encbytea', '\x' || repeat('00', 5000)
UNION ALL SELECT 'encbytea', '\x' || (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100000) i)
UNION ALL SELECT 'enctext', repeat('x', n) FROM unnest(ARRAY[1, 255, 256, 1023, 1024, 1025, 8000, 3000000]) n
UNION ALL SELECT 'enctext', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200000) i)
UNION ALL SELECT 'enctext', repeat('函館市', 700000);

-- Ways in: a literal, an expression, phi.encrypt, a binary COPY. Ways out:
-- output, send, cast. All must give what the base type gives.
CREATE FUNCTION t.round_trip(enc text, base text, value text, file text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN t.run('t_app_a', 'a',
    format('CREATE TABLE t.round (way int, v %s(clinical))', enc),
    format('INSERT INTO t.round VALUES (1, %L)', value),
    format('INSERT INTO t.round VALUES (2, %L::%s)', value, base),
    format('INSERT INTO t.round VALUES (3, phi.encrypt(%L::%s))', value, base),
    format('COPY (SELECT 4, %L::%s) TO %L BINARY', value, base, file),
    format('COPY t.round FROM %L BINARY', file),
    format('COPY (SELECT 5, %L::%s) TO %L', value, base, file),
    format('COPY t.round FROM %L', file),
    format('CREATE TEMP TABLE plain (p %s)', base),
    format('INSERT INTO plain VALUES (%L)', value),
    format('CREATE TEMP TABLE result AS SELECT count(*), count(*) FILTER (WHERE format(''%%s'', v) = format(''%%s'', p) AND v::%1$s = p AND format(''%%s'', v::%1$s) = format(''%%s'', p)
              AND %3$ssend(v) = %4$ssend(p) AND v = p AND p = v AND v = phi.encrypt(p)) AS right FROM t.round, plain', base, value, enc,
           CASE base WHEN 'bigint' THEN 'int8' WHEN 'boolean' THEN 'bool' WHEN 'text' THEN 'text' WHEN 'bytea' THEN 'bytea' ELSE base || '_' END),
    'SELECT format(''%s of %s'', "right", count) FROM result',
    'DROP TABLE t.round, plain, result');
END $$;
SELECT is(t.round_trip(enc, base, value, :'file'), '5 of 5', format('%s %s%s', enc, left(value, 40), CASE WHEN length(value) > 40 THEN '… of ' || length(value) END))
FROM t.sample JOIN t.type USING (enc);
SELECT cmp_ok(count(*), '>=', 95::bigint, 'values were tried') FROM t.sample;

-- The base type's rules of what is valid are kept.
SELECT is(t.run('t_app_a', 'a', format('SELECT %L::%s', value, enc)), 'ERROR ' || code, format('%s does not take %s', enc, value))
FROM (VALUES ('encjsonb', '{', '22P02'), ('encjsonb', '"\u0000"', '22P05'), ('encbigint', '9223372036854775808', '22003'),
             ('encdate', '2023-02-29', '22008'), ('enctimestamptz', '300000-01-01', '22008'), ('encboolean', 'perhaps', '22P02'),
             ('encnumeric', '1e200000', '22003'), ('encbytea', '\x0', '22023'), ('encbigint', '', '22P02')) v(enc, value, code);

-- NULL is NULL, and stays in the clear.
SELECT is(t.run('t_app_a', 'a', format('SELECT (NULL::%s IS NULL AND phi.encrypt(NULL::%s) IS NULL AND phi.decrypt(NULL::%1$s) IS NULL)::text', enc, base)), 'true', 'NULL of ' || enc) FROM t.type;

-- Text that begins as an envelope: never taken for plaintext unless asked.
SELECT is(t.run('t_app_a', 'a', $$SELECT phi.encrypt('phi1:AAAA', 'clinical')::text$$), 'phi1:AAAA', 'phi.encrypt() takes its argument literally');
SELECT is(t.run('t_app_a', 'a', $$SELECT phi.decrypt(phi.encrypt('phi1:'::bytea))::text$$), '\x706869313a', 'and for bytea');
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.literal (v enctext(identity))', $$INSERT INTO t.literal VALUES ('phi1:AAAA'::text)$$), 'ERROR 22000', 'an assigned text is not');
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.literal (v enctext(identity))', $$INSERT INTO t.literal VALUES ('phi1:AAAA'::varchar)$$), 'ERROR 22000', 'nor a varchar');
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.literal (v encbytea(identity))', $$INSERT INTO t.literal VALUES ('phi1:AAAA'::bytea)$$), 'ERROR 22000', 'nor a bytea');
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.literal (v enctext(identity))', $$INSERT INTO t.literal VALUES (phi.encrypt('phi1:AAAA', 'identity'))$$, 'SELECT format(''%s'', v) FROM t.literal'),
          'phi1:AAAA', 'stored and read');
SELECT is(t.run('t_app_a', 'a', $$SELECT (phi.encrypt('phi1:x') = 'phi1:x'::text)::text$$), 'true', 'and found by an equal text');
SELECT is(t.run('t_app_a', 'a', $$SELECT 'Phi1:x'::enctext::text || 'phi1'::enctext || ' phi1:'::enctext$$), 'Phi1:xphi1 phi1:', 'other spellings are plain text');
-- An 8-byte number whose bytes spell the prefix is a number.
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.number (v encbigint)', format('COPY (SELECT %s::bigint) TO %L BINARY', x'7068693100000000'::bigint + x'3a000000'::bigint, :'file'),
                format('COPY t.number FROM %L BINARY', :'file'), 'SELECT v::text FROM t.number'), (x'7068693100000000'::bigint + x'3a000000'::bigint)::text, 'a number that looks like the prefix');

-- Casts beside the base type's own.
SELECT is(t.run('t_app_a', 'a', format('SELECT (%s)::text', expression)), wanted, expression)
FROM (VALUES
  ('phi.encrypt(''ab'')::varchar(1)', 'a'), ('phi.encrypt(''ab'')::char(3)', 'ab'), ('phi.encrypt(7)::int', '7'), ('phi.encrypt(7)::numeric', '7'),
  ('phi.encrypt(7.5)::int', '8'), ('phi.encrypt(7.25)::float8', '7.25'), ('phi.encrypt(date ''2020-02-29'') + 1', '2020-03-01'),
  ('phi.encrypt(date ''2020-02-29'')::timestamp', '2020-02-29 00:00:00'), ('age(timestamptz ''2024-01-01'', phi.encrypt(date ''2020-01-01''))', '4 years'),
  ('to_char(phi.encrypt(date ''2020-01-02''), ''YYYY/MM/DD'')', '2020/01/02'), ('date_trunc(''year'', phi.encrypt(date ''2020-05-02''))', '2020-01-01 00:00:00+00'),
  ('phi.encrypt(timestamptz ''2020-05-02 10:00+00'')::date', '2020-05-02'), ('phi.encrypt(''Sa'') || ''to''', 'Sato'), ('length(phi.encrypt(''佐藤''))', '2'),
  ('phi.encrypt(''佐藤'') LIKE ''佐%''', 'true'), ('phi.encrypt(true) AND true', 'true'), ('phi.encrypt(''{"a": 1}''::jsonb) @> ''{"a": 1}''', 'true'),
  ('phi.encrypt(''{"a": 1}''::jsonb)::json ->> ''a''', '1'), ('phi.encrypt(6) * 7', '42'), ('pg_typeof(phi.encrypt(6))', 'encbigint'), ('phi.encrypt(1.5) + 1', '2.5')
) v(expression, wanted);
SELECT is(t.run('t_app_a', 'a', 'SELECT phi.encrypt(2147483648)::int::text'), 'ERROR 22003', 'a cast that does not fit');
SELECT is(t.run('t_app_a', 'a', format('CREATE TABLE t.assigned (v %s(clinical))', enc), format('INSERT INTO t.assigned VALUES (%s)', expression), 'SELECT format(''%s'', v) FROM t.assigned', 'DROP TABLE t.assigned'), wanted, expression || ' into ' || enc)
FROM (VALUES ('enctext', '''ab''::char(4)', 'ab'), ('enctext', '''ab''::varchar', 'ab'), ('encjsonb', '''{"b":1,"b":2}''::json', '{"b": 2}'), ('encbigint', '7::int', '7'), ('encbigint', '7::smallint', '7'),
             ('encnumeric', '7::bigint', '7'), ('encnumeric', '7::int', '7'), ('encnumeric', '7::smallint', '7'), ('encnumeric', '7.5::float8', '7.5'),
             ('encdate', 'timestamp ''2020-01-02 03:04''', '2020-01-02'), ('encdate', 'timestamptz ''2020-01-02 03:04+00''', '2020-01-02'),
             ('enctimestamptz', 'timestamp ''2020-01-02 03:04''', '2020-01-02 03:04:00+00'), ('enctimestamptz', 'date ''2020-01-02''', '2020-01-02 00:00:00+00')) v(enc, expression, wanted);

SELECT * FROM finish();
ROLLBACK;
