-- Algorithms, and what the size of a stored value tells.
\ir include/setup.psql
SET LOCAL timezone = 'UTC';
CREATE TABLE t.suite (suite text, overhead int);
INSERT INTO t.suite VALUES ('xaes-256-gcm', 7 + 24 + 16), ('camellia-256-ctr-hmac-sha-256', 7 + 16 + 32), ('xchacha20-poly1305', 7 + 24 + 16);

-- Values of every type and suite in one table, with how each is described.
CREATE TABLE t.described (enc text, base text, suite text, reads text, wanted text, facts text);
CREATE FUNCTION t.describe(enc text, base text, value text, suite text, OUT reads text, OUT wanted text, OUT facts text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('phi.suite', suite, true);
  EXECUTE format('CREATE TABLE t.of_suite (v %s(clinical)); GRANT ALL ON t.of_suite TO PUBLIC', enc);
  PERFORM t.run('t_app_a', 'a', format('INSERT INTO t.of_suite VALUES (%L)', value));
  PERFORM set_config('phi.suite', 'xchacha20-poly1305', true);
  reads := t.run('t_app_a', 'a', 'SELECT format(''%s'', v) FROM t.of_suite');
  EXECUTE format('SELECT format(''%%s'', %L::%s)', value, base) INTO wanted;
  facts := t.run('t_nobody', '', 'SELECT ((d).key_id IS NOT NULL, (d).clinic, (d).class, (d).version, (d).suite, (d).type)::text FROM (SELECT phi.describe(v) d FROM t.of_suite) s');
  IF (SELECT (phi.describe(v)).key_id FROM t.of_suite) IS DISTINCT FROM (SELECT key_id FROM phi.keys WHERE (clinic, class) = ('a', 'clinical'))
  THEN facts := 'wrong key'; END IF;
  DROP TABLE t.of_suite;
END $$;
INSERT INTO t.described SELECT enc, base, suite, d.* FROM t.type, t.suite, t.describe(enc, base, sample, suite) d;
SELECT is(reads, wanted, format('%s under %s is readable whatever phi.suite is', enc, suite)) FROM t.described;
SELECT is(facts, format('(t,,,,%s,%s)', suite, CASE base WHEN 'timestamptz' THEN '"timestamp with time zone"' ELSE base END),
          format('phi.describe(%s) under %s, to one who may read nothing', enc, suite)) FROM t.described;
SELECT throws_ok('SET LOCAL phi.suite = ''rot13''', '22023', NULL, 'an unknown suite is refused');
SELECT is(t.run('t_app_a', 'a', 'SET phi.suite = ''xaes-256-gcm'''), 'ERROR 42501', 'the algorithm is not the application''s to choose');
SELECT is(t.run('t_app_a', 'a', 'SET ' || setting), 'ERROR 42501', 'nor is ' || setting)
FROM unnest(ARRAY['phi.compress_above = 1', 'phi.allow_ordered_index = on', 'phi.keyring_size = 16']) setting;

-- A key that a key of another class and version is told apart by.
SELECT phi.rotate_key('a', 'clinical') AS key_id \gset
SELECT is(t.run('t_app_a', 'a', 'SELECT ((d).key_id, (d).clinic, (d).class, (d).version)::text FROM (SELECT phi.describe(phi.encrypt(''x'', ''clinical'')) d) s'),
          format('(%s,a,clinical,2)', :key_id), 'phi.describe() tells the new version after a rotation');
SELECT is(string_agg(t.run('t_app_a', 'a', format('SELECT (phi.describe(phi.encrypt(''x'', %L))).class', class)), ','), 'general,identity,insurance,clinical,sensitive', 'classes')
FROM unnest(ARRAY['general', 'identity', 'insurance', 'clinical', 'sensitive']) class;
SELECT is(t.run('t_app_a', 'a', 'SELECT (phi.describe(phi.encrypt(''x''))).class'), 'general', 'phi.encrypt() uses class general unless told');

-- Lengths: flags and payload are padded to 16 bytes up to 256 and as PADMÉ above.
CREATE FUNCTION t.padded(body bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN body <= 256 THEN (body + 15) / 16 * 16 ELSE (
    SELECT (body + last - 1) / last * last
    FROM (SELECT (2 ^ (e - floor(log(2, e)) - 1))::bigint AS last FROM (SELECT floor(log(2, body::numeric)) AS e) s) t
  ) END $$;
SELECT is(t.padded(n), wanted, format('the test''s own PADMÉ: %s', n))
FROM (VALUES (1, 16::bigint), (16, 16), (17, 32), (256, 256), (257, 272), (1000, 1024), (1025, 1088), (100000, 100352)) v(n, wanted);
SET LOCAL phi.compress_above = -1;
CREATE TABLE t.size (suite text, n bigint, bytes int);
CREATE FUNCTION t.sizes(suite text, n bigint[]) RETURNS SETOF t.size LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('phi.suite', suite, true), set_config('session_authorization', 't_app_a', true), set_config('phi.clinic', 'a', true);
  RETURN QUERY SELECT suite, i, (phi.describe(phi.encrypt(repeat('x', i::int)))).bytes FROM unnest(n) i;
  PERFORM set_config('phi.clinic', '', true), set_config('session_authorization', 'postgres', true);
END $$;
INSERT INTO t.size SELECT z.* FROM t.suite, t.sizes(suite, ARRAY(SELECT generate_series(0, 1500)) || ARRAY[4095, 4096, 65535, 65536, 1000000, 1048575, 5000000]::bigint[]) z;
SELECT is(count(*), (3 * 1508)::bigint, 'sizes were tried') FROM t.size;
SELECT is(string_agg(format('%s: %s, not %s', n, bytes, overhead + t.padded(n + 1)), ', ')
            FILTER (WHERE bytes <> overhead + t.padded(n + 1)), NULL, 'sizes under ' || suite)
FROM t.suite JOIN t.size USING (suite) GROUP BY suite;
SELECT cmp_ok(count(DISTINCT bytes), '<', 60::bigint, 'few sizes stand for many lengths') FROM t.size WHERE suite = 'xaes-256-gcm' AND n <= 1500;
SELECT set_config('phi.suite', 'xaes-256-gcm', true) \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.twenty (v enctext(identity))', 'INSERT INTO t.twenty VALUES (''12345678901234567890'')',
                'SELECT (pg_column_size(v) <= 80)::text FROM t.twenty'), 'true', 'a value of 20 bytes takes at most 80');
-- Values of one type with small payloads cannot be told apart by their size.
SELECT is(t.run('t_app_a', 'a', format('SELECT count(DISTINCT (phi.describe(phi.encrypt(value::%s))).bytes) FROM t.sample WHERE enc = %L', base, enc)), '1', 'all values have one size: ' || enc)
FROM t.type WHERE base IN ('bigint', 'date', 'timestamptz', 'boolean');

-- Compression: above the threshold, and only where it helps.
CREATE FUNCTION t.size_of(value text, above text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('phi.compress_above', above, true);
  RETURN t.run('t_app_a', 'a', format('SELECT (phi.describe(phi.encrypt(%L))).bytes', value));
END $$;
SELECT is(t.size_of(repeat('x', 1024), '1024'), (47 + t.padded(1025))::int, 'as long as the threshold: not compressed');
SELECT cmp_ok(t.size_of(repeat('x', 1025), '1024'), '<', 200, 'one byte longer: compressed');
SELECT cmp_ok(t.size_of(repeat('x', 100), '0'), '<', 100, 'threshold 0');
SELECT is(t.size_of(repeat('x', 100000), '-1'), (47 + t.padded(100001))::int, 'threshold -1: never');
SELECT string_agg(chr(33 + (get_byte(decode(md5(i::text), 'hex'), 0) * 256 + get_byte(decode(md5(i::text), 'hex'), 1)) % 900), '') AS noise FROM generate_series(1, 3000) i \gset
SELECT is(t.size_of(:'noise', '1024'), (47 + t.padded(1 + octet_length(:'noise')))::int, 'what does not get shorter is stored as it is');
SELECT is(t.run('t_app_a', 'a', 'SET LOCAL phi.clinic = ''a''', format('SELECT (phi.encrypt(repeat(''x'', 100000))::text = repeat(''x'', 100000))::text')), 'true', 'and read');
SELECT set_config('phi.compress_above', '1024', true) \g /dev/null
SELECT is(t.run('t_app_a', 'a', 'CREATE TABLE t.mixed (n int, v enctext)', 'INSERT INTO t.mixed VALUES (1, repeat(''ab'', 50000)), (2, ''ab'')', 'SELECT (count(*) FILTER (WHERE v::text ~ ''^(ab)+$'') = 2)::text FROM t.mixed'), 'true', 'compressed and not, in one column');
SELECT is(t.run('t_app_a', 'a', 'SELECT (m.v = repeat(''ab'', 50000))::text FROM t.mixed m WHERE n = 1'), 'true', 'a compressed value equals the plain one');
RESET phi.compress_above;

-- Nonces: the same value never looks the same.
SELECT is(t.run('t_app_a', 'a', format('CREATE TABLE t.twice_%s AS SELECT phi.encrypt(%L::%s, ''identity'') AS v FROM generate_series(1, 500)', enc, sample, base),
                'SET LOCAL phi.clinic = ''''', format('SELECT count(DISTINCT format(''%%s'', v)) FROM t.twice_%s', enc)), '500', 'equal values look different: ' || enc) FROM t.type;
SELECT is(t.run('t_app_a', 'a', format('SELECT count(DISTINCT v) FROM t.twice_%s', enc)), '1', 'and are equal: ' || enc) FROM t.type;
SELECT is(count(DISTINCT substr(decode(substr(format('%s', v), 6), 'base64'), 8, 24)), 500::bigint, 'no nonce is used twice') FROM t.twice_enctext;

SELECT * FROM finish();
ROLLBACK;
