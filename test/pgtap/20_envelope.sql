-- An envelope that was altered, cut, extended, respelt or moved to a column of
-- another type is refused, whatever the type, the suite and the place.
\ir include/setup.psql
CREATE TABLE t.suite (suite text, overhead int);
INSERT INTO t.suite VALUES ('xaes-256-gcm', 7 + 24 + 16), ('camellia-256-ctr-hmac-sha-256', 7 + 16 + 32), ('xchacha20-poly1305', 7 + 24 + 16);

CREATE TABLE t.envelope (enc text, base text, sample text, suite text, bytes bytea);
CREATE FUNCTION t.seal(enc text, value text, suite text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('phi.suite', suite, true);
  RETURN t.run('t_app_a', 'a', format('CREATE TABLE t.one (v %s(identity))', enc), format('INSERT INTO t.one VALUES (%L)', value),
               'SET LOCAL phi.clinic = ''''', 'WITH d AS (SELECT format(''%s'', v) AS v FROM t.one) SELECT v FROM d', 'DROP TABLE t.one');
END $$;
-- t.run gives the result of the last query that it ran, DROP TABLE has none.
INSERT INTO t.envelope
SELECT enc, base, sample, suite, decode(substr(t.seal(enc, sample, suite), 6), 'base64') FROM t.type, t.suite;
SELECT is(count(bytes), 24::bigint, 'an envelope of each type and suite') FROM t.envelope;
SELECT set_config('phi.suite', 'xaes-256-gcm', true) \g /dev/null

CREATE FUNCTION t.text_of(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT 'phi1:' || translate(encode(bytes, 'base64'), E'\n', '') $$;

-- Tries to read an envelope in every way there is: SQLSTATEs and messages.
CREATE FUNCTION t.attempts(enc text, base text, envelope text, OUT code text, OUT message text) RETURNS SETOF record
LANGUAGE plpgsql AS $$
DECLARE
  detail text; hint text;
BEGIN
  PERFORM set_config('session_authorization', 't_app_a', true), set_config('phi.clinic', 'a', true);
  /* As input of a session that would encrypt. */
  BEGIN
    EXECUTE format('SELECT %L::%s', envelope, enc);
    code := 'accepted'; message := '';
  EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    code := SQLSTATE; message := concat_ws('|', SQLERRM, detail, hint);
  END;
  RETURN NEXT;
  /* As a stored value: what a sealed session accepts is no proof of anything. */
  PERFORM set_config('phi.clinic', '', true);
  BEGIN
    EXECUTE format('CREATE TEMP TABLE stored (v %s)', enc);
    EXECUTE 'INSERT INTO stored VALUES ($1::' || enc || ')' USING envelope;
    PERFORM set_config('phi.clinic', 'a', true);
    EXECUTE format('SELECT v::%s FROM stored', base);
    code := 'read'; message := '';
    RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZZZZ';
  EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE <> 'ZZZZZ' THEN
      GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
      code := SQLSTATE; message := concat_ws('|', SQLERRM, detail, hint);
    END IF;
  END;
  RETURN NEXT;
  PERFORM set_config('phi.clinic', '', true), set_config('session_authorization', 'postgres', true);
END $$;

SELECT is(string_agg(DISTINCT a.code, ','), 'accepted,read', 'unaltered envelopes are read')
FROM t.envelope e, t.attempts(enc, base, t.text_of(bytes)) a;

-- Every byte, altered in its lowest and in its highest bit, and in all bits.
CREATE TABLE t.flipped AS
SELECT e.enc, e.suite, i, mask, a.code, a.message
FROM t.envelope e, generate_series(0, length(bytes) - 1) i, unnest(ARRAY[1, 128, 255]) mask,
     t.attempts(enc, base, t.text_of(set_byte(bytes, i, get_byte(bytes, i) # mask))) a;
SELECT is(count(*), (SELECT sum(length(bytes)) * 3 * 2 FROM t.envelope)::bigint, 'every byte of every envelope was altered') FROM t.flipped;
SELECT cmp_ok(count(*), '>', 8000::bigint, 'and that is many') FROM t.flipped;
SELECT is(string_agg(DISTINCT code || ' at ' || i, ','), NULL, 'each alteration is refused') FROM t.flipped
WHERE code NOT IN ('22000', '42501');
SELECT is(string_agg(DISTINCT i::text, ','), NULL, 'with 22000, unless the key''s number became another clinic''s or the search key''s') FROM t.flipped
WHERE code <> '22000' AND i NOT BETWEEN 3 AND 6;
SELECT is(string_agg(DISTINCT message, E'\n'), NULL, 'no message tells more than that the value is not authentic or the key unknown') FROM t.flipped
WHERE message !~ '^(encrypted value is not authentic\|It was altered or cut, or encrypted under another key than it names.|encrypted value names key \d+, which does not exist|encrypted value belongs to another clinic|permission denied to store an encrypted value whose key is not active)';

-- The number of another key: of another clinic, of the search key, of another class.
CREATE FUNCTION t.with_key(bytes bytea, key_id int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT overlay(bytes PLACING int4send(key_id) FROM 4) $$;
SELECT is(string_agg(DISTINCT a.code, ','), wanted, format('with the number of a key of clinic %s, class %s', clinic, class))
FROM (VALUES ('a', 'clinical', '22000'), ('a', 'search', '22000,42501'), ('b', 'identity', '22000,42501'), ('b', 'search', '22000,42501')) w(clinic, class, wanted)
JOIN phi.keys k USING (clinic, class), t.envelope e, t.attempts(enc, base, t.text_of(t.with_key(bytes, key_id))) a
GROUP BY clinic, class, wanted;

-- Cut at every length, and made longer.
SELECT is(string_agg(DISTINCT format('%s %s: %s', enc, n, a.code), ', '), NULL, 'cut at every length')
FROM t.envelope e, generate_series(0, length(bytes) - 1) n, t.attempts(enc, base, t.text_of(substr(bytes, 1, n))) a
WHERE a.code <> '22000';
SELECT is(string_agg(DISTINCT a.code, ','), '22000', 'made longer by ' || length(more))
FROM t.envelope e, unnest(ARRAY['\x00', '\x80', '\x00000000000000000000000000000000']::bytea[]) more, t.attempts(enc, base, t.text_of(bytes || more)) a
GROUP BY more;
SELECT is(string_agg(DISTINCT a.code, ','), '22000', 'parts of two envelopes of one key put together')
FROM t.envelope e, t.attempts(enc, base, t.text_of(substr(bytes, 1, 31) || (SELECT substr(decode(substr(t.seal(e.enc, e.sample, e.suite), 6), 'base64'), 32)))) a
WHERE suite = 'xaes-256-gcm';
SELECT set_config('phi.suite', 'xaes-256-gcm', true) \g /dev/null

-- Other spellings of the same bytes: one value has one text.
SELECT is(string_agg(DISTINCT a.code, ','), '22000', 'spelt otherwise: ' || how)
FROM t.envelope e, LATERAL (SELECT t.text_of(bytes || '') AS v) v,
  LATERAL (VALUES ('blank at the end', v || ' '), ('newline inside', overlay(v PLACING E'\n' FROM 20 FOR 0)),
                  ('blank at the start', overlay(v PLACING ' ' FROM 6 FOR 0)), ('without its last character', substr(v, 1, length(v) - 1)),
                  ('padding in the middle', overlay(v PLACING '=' FROM 20)), ('another padding character', v || '='),
                  ('base64url', overlay(v PLACING '-' FROM 12))) w(how, respelt),
  t.attempts(enc, base, respelt) a
GROUP BY how;
-- 47 + 16 bytes leave no spare bits; 7 + 16 + 16 + 32 = 71 leave four.
SELECT is(string_agg(DISTINCT a.code, ','), '22000', 'spare bits that are not zero')
FROM t.envelope e, LATERAL (SELECT t.text_of(bytes) AS v) v, t.attempts(enc, base, regexp_replace(v, '.=$', '') ||
  substr('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', 1 + strpos('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', substr(v, length(v) - 1, 1)), 1) || '=') a
WHERE v ~ '[^=]=$';
SELECT cmp_ok(count(*), '>', 0::bigint, 'there were envelopes with spare bits') FROM t.envelope WHERE t.text_of(bytes) ~ '[^=]=$';

-- The envelope of one type is none of another, sealed or not.
SELECT is(string_agg(DISTINCT format('%s in %s: %s', e.enc, o.enc, a.code), ', '), NULL, 'an envelope of another type is refused')
FROM t.envelope e JOIN t.type o ON o.enc <> e.enc, t.attempts(o.enc, o.base, t.text_of(bytes)) a
WHERE a.code <> '22000';
SELECT is(t.run('t_app_a', '', format('SELECT %L::%s', t.text_of(e.bytes), o.enc)), 'ERROR 22000', 'also by a sealed session')
FROM t.envelope e, t.type o WHERE e.enc = 'enctext' AND e.suite = 'xaes-256-gcm' AND o.enc = 'encbytea';

-- Operators, hash index and ANALYZE meet altered values as well.
SELECT is(t.run('t_app_a', 'a', format('CREATE TABLE t.bad (v %s)', enc), 'SET LOCAL phi.clinic = ''''',
                format('INSERT INTO t.bad VALUES (%L)', t.text_of(set_byte(bytes, 40, get_byte(bytes, 40) # 1))), 'SET LOCAL phi.clinic = ''a''', how),
          'ERROR 22000', format('%s: %s', enc, how))
FROM t.envelope, unnest(ARRAY['SELECT v FROM t.bad WHERE v = v', 'SELECT v FROM t.bad WHERE v < v', 'CREATE INDEX ON t.bad USING hash (v)',
                              'SELECT format(''%s'', v) FROM t.bad']) how
WHERE suite = 'xaes-256-gcm';

SELECT * FROM finish();
ROLLBACK;
