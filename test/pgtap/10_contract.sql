-- The table of section 3 of the design: what each kind of session reads and
-- writes, for every type, through every way in and out.
\ir include/setup.psql
SELECT current_setting('data_directory') || '/t_' AS files, current_setting('data_directory') || '/t_copied' AS copied \gset

CREATE TABLE t.session (session text, role text, clinic text);
INSERT INTO t.session VALUES
  ('own', 't_app_a', 'a'), ('no class', 't_nurse', 'a'), ('other', 't_app_b', 'b'), ('sealed', 't_app_a', ''),
  ('superuser', current_user, '');

-- One value of clinic a and class clinical in a table for each type; a second
-- table to write to; files in COPY's binary form of the plaintext, of its
-- envelope, and of a text that only looks like an envelope.
SELECT format('CREATE TABLE t.%1$s (v %1$s(clinical)); CREATE TABLE t.%1$s_into (v %1$s(clinical)); CREATE TABLE t.%1$s_identity (v %1$s(identity))',
              enc) FROM t.type \gexec
SELECT t.run('t_app_a', 'a', format('INSERT INTO t.%I VALUES (%L)', enc, sample)) FROM t.type \g /dev/null
ALTER TABLE t.type ADD envelope text, ADD printed text;
SELECT format('UPDATE t.type SET envelope = (SELECT format(''%%s'', v) FROM t.%1$I), printed = format(''%%s'', %2$L::%3$s) WHERE enc = %1$L', enc, sample, base) FROM t.type \gexec
SELECT format('COPY (SELECT %L::%s) TO %L BINARY', sample, base, :'files' || enc || '.plain') FROM t.type \gexec
SELECT format('COPY (SELECT %L::text) TO %L BINARY', envelope, :'files' || enc || '.envelope') FROM t.type \gexec
SELECT format('COPY (SELECT %L::text) TO %L BINARY', 'phi1:AAAA', :'files' || enc || '.garbage') FROM t.type \gexec

SELECT is(count(*) FILTER (WHERE envelope ~ '^phi1:[A-Za-z0-9+/]{60,}=*$'), 8::bigint, 'eight envelopes to test with') FROM t.type;

-- The ways, and what each kind of session must get: "plain" is the base type's
-- text, "envelope" the stored envelope, "called" the function's result; for
-- input "clinic/class=value": whose key the stored value has, and how it reads.
CREATE TABLE t.way (way text, statements text[], own text, no_class text, other text, sealed text, superuser text);
INSERT INTO t.way VALUES
  ('output',             ARRAY['SELECT format(''%%s'', v) FROM t.%1$I'],
                         'plain', 'envelope', 'envelope', 'envelope', 'envelope'),
  ('output in an array', ARRAY['SELECT array_agg(v)::text = ARRAY[%4$L]::text FROM t.%1$I'],
                         'true', 'false', 'false', 'false', 'false'),
  ('send',               ARRAY['SELECT CASE %1$ssend(v) WHEN %6$ssend(%5$L::%3$s) THEN ''plain'' WHEN textsend(%2$L) THEN ''envelope'' END FROM t.%1$I'],
                         'as plain', 'as envelope', 'as envelope', 'as envelope', 'as envelope'),
  ('COPY BINARY TO and back in', ARRAY['COPY t.%1$I TO ''%7$s%1$s.out'' BINARY', 'COPY t.%8$I FROM ''%7$s%1$s.out'' BINARY', 'SELECT format(''%%s'', v) FROM t.%8$I'],
                         'plain', 'ERROR 42501', 'ERROR 42501', 'envelope', 'envelope'),
  ('COPY TO and back in', ARRAY['COPY t.%1$I TO ''%7$s%1$s.out''', 'COPY t.%8$I FROM ''%7$s%1$s.out''', 'SELECT format(''%%s'', v) FROM t.%8$I'],
                         'plain', 'ERROR 42501', 'ERROR 42501', 'envelope', 'envelope'),
  ('cast',               ARRAY['SELECT format(''%%s'', v::%3$s) FROM t.%1$I'],
                         'plain', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501'),
  ('assignment to the base type', ARRAY['CREATE TEMP TABLE base_%1$s_%11$s (v %3$s) ON COMMIT DROP', 'INSERT INTO base_%1$s_%11$s SELECT v FROM t.%1$I', 'SELECT format(''%%s'', v) FROM base_%1$s_%11$s'],
                         'plain', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501'),
  ('phi.decrypt',        ARRAY['SELECT format(''%%s'', phi.decrypt(v)) FROM t.%1$I'],
                         'plain', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501'),
  ('function',           ARRAY['SELECT %9$s FROM t.%1$I'],
                         'called', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501'),
  ('comparison',                ARRAY['SELECT count(*) FROM t.%1$I WHERE v >= v'],
                         '1', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501'),
  ('plaintext literal',  ARRAY['INSERT INTO t.%8$I VALUES (%5$L)'],
                         'a/clinical', 'ERROR 42501', 'b/clinical', 'ERROR 42501', 'ERROR 42501'),
  ('plaintext literal, class held', ARRAY['INSERT INTO t.%10$I VALUES (%5$L)'],
                         'a/identity', 'a/identity', 'b/identity', 'ERROR 42501', 'ERROR 42501'),
  ('plaintext expression', ARRAY['INSERT INTO t.%8$I VALUES (%5$L::%3$s)'],
                         'a/clinical', 'ERROR 42501', 'b/clinical', 'ERROR 42501', 'ERROR 42501'),
  ('phi.encrypt',        ARRAY['INSERT INTO t.%8$I VALUES (phi.encrypt(%5$L::%3$s, ''clinical''))'],
                         'a/clinical', 'ERROR 42501', 'b/clinical', 'ERROR 42501', 'ERROR 42501'),
  ('plaintext, COPY BINARY', ARRAY['COPY t.%8$I FROM ''%7$s%1$s.plain'' BINARY'],
                         'a/clinical', 'ERROR 42501', 'b/clinical', 'ERROR 42501', 'ERROR 42501'),
  ('envelope literal',   ARRAY['INSERT INTO t.%8$I VALUES (%2$L)'],
                         'stored as it is', 'ERROR 42501', 'ERROR 42501', 'stored as it is', 'stored as it is'),
  ('envelope, COPY BINARY', ARRAY['COPY t.%8$I FROM ''%7$s%1$s.envelope'' BINARY'],
                         'stored as it is', 'ERROR 42501', 'ERROR 42501', 'stored as it is', 'stored as it is'),
  ('garbage literal',    ARRAY['INSERT INTO t.%8$I VALUES (''phi1:AAAA'')'],
                         'ERROR 22000', 'ERROR 22000', 'ERROR 22000', 'ERROR 22000', 'ERROR 22000'),
  ('garbage, COPY BINARY', ARRAY['COPY t.%8$I FROM ''%7$s%1$s.garbage'' BINARY'],
                         'ERROR 22000', 'ERROR 22000', 'ERROR 22000', 'ERROR 22000', 'ERROR 22000'),
  ('value of a column',  ARRAY['INSERT INTO t.%8$I SELECT v FROM t.%1$I'],
                         'stored as it is', 'stored as it is', 'stored as it is', 'stored as it is', 'stored as it is'),
  ('value of a column, to another class', ARRAY['INSERT INTO t.%10$I SELECT v FROM t.%1$I'],
                         'a/identity', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501', 'ERROR 42501');

CREATE FUNCTION t.cell(way t.way, type t.type, session t.session, files text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  into_table text := type.enc || '_into';
  identity_table text := type.enc || '_identity';
  result text;
  stored text;
  clinic text;
  class text;
  rows int;
BEGIN
  /* Each cell leaves no trace. */
  result := t.run(session.role, session.clinic, VARIADIC (
    SELECT array_agg(format(s, type.enc, type.envelope, type.base, type.printed, type.sample,
      CASE type.base WHEN 'bigint' THEN 'int8' WHEN 'boolean' THEN 'bool' WHEN 'timestamptz' THEN 'timestamptz_'
        WHEN 'text' THEN 'text' WHEN 'jsonb' THEN 'jsonb_' WHEN 'numeric' THEN 'numeric_' WHEN 'date' THEN 'date_' ELSE type.base END,
      files, into_table, type.call, identity_table, replace(session.session, ' ', '_')) ORDER BY n)
    FROM unnest(way.statements) WITH ORDINALITY s(s, n)));
  EXECUTE format('SELECT count(*), max(format(''%%s'', v)), max((phi.describe(v)).clinic), max((phi.describe(v)).class)
                  FROM (SELECT v FROM t.%I UNION ALL SELECT v FROM t.%I) s', into_table, identity_table)
    INTO rows, stored, clinic, class;
  IF rows > 0 AND (stored IS NULL OR stored !~ '^phi1:') THEN
    result := 'PLAINTEXT STORED';
  ELSIF result LIKE 'ERROR%' THEN
    IF rows > 0 THEN result := result || ' but stored'; END IF;
  ELSIF rows = 1 AND result IS NULL THEN
    result := CASE WHEN stored = type.envelope THEN 'stored as it is' ELSE clinic || '/' || class END;
    IF t.run(format('t_app_%s', clinic), clinic, format('SELECT format(''%%s'', v) FROM (SELECT v FROM t.%I UNION ALL SELECT v FROM t.%I) s', into_table, identity_table))
       IS DISTINCT FROM type.printed THEN
      result := result || ' but reads otherwise';
    END IF;
  ELSIF rows <> 0 AND result IS NULL THEN
    result := format('%s rows stored', rows);
  ELSE
    result := CASE WHEN result = type.envelope THEN 'envelope'
                   WHEN way.way = 'send' THEN 'as ' || result
                   WHEN way.way IN ('output in an array', 'comparison') THEN CASE result WHEN 't' THEN 'true' WHEN 'f' THEN 'false' ELSE result END
                   WHEN result = type.printed AND way.way <> 'function' THEN 'plain'
                   WHEN result = type.called AND way.way = 'function' THEN 'called'
                   ELSE 'unexpected: ' || coalesce(result, 'NULL') END;
  END IF;
  EXECUTE format('TRUNCATE t.%I, t.%I', into_table, identity_table);
  RETURN result;
END $$;

CREATE TABLE t.outcome AS
  SELECT w.way, t.enc, s.session, t.cell(w, t, s, :'files') AS got,
         CASE s.session WHEN 'own' THEN w.own WHEN 'no class' THEN w.no_class WHEN 'other' THEN w.other
           WHEN 'sealed' THEN w.sealed ELSE w.superuser END AS wanted
  FROM t.way w, t.type t, t.session s;

-- A test a row of the table: all its types and sessions at once.
SELECT is(string_agg(format('%s %s: %s, not %s', enc, session, got, wanted), '; ' ORDER BY enc, session)
            FILTER (WHERE got IS DISTINCT FROM wanted), NULL, way)
FROM t.outcome GROUP BY way ORDER BY way;
SELECT is(count(*), (21 * 8 * 5)::bigint, 'every cell was tried') FROM t.outcome;

-- Messages name what to do, and never the value.
SELECT is(t.error_of('t_app_a', '', 'SELECT ''Sato''::enctext'),
  '42501: cannot encrypt a value in a sealed session | No clinic is open. | Open one that you were granted: SET phi.clinic = ''code''.',
  'a refused plaintext says how to open a clinic');
SELECT is(t.error_of('t_app_a', '', 'SELECT v::text FROM t.enctext'),
  '42501: cannot decrypt a value in a sealed session | No clinic is open. | Open one that you were granted: SET phi.clinic = ''code''.',
  'a refused cast says how to open a clinic');
SELECT alike(t.error_of('t_app_a', 'a', 'SELECT ''phi1: not an envelope''::enctext'), '22000: %phi.encrypt()%',
  'a plaintext that looks like an envelope is refused with the hint to use phi.encrypt()');
SELECT unalike(t.error_of('t_app_a', 'a', format('SELECT %L::%s', 'Sato Hanako', enc)), '%Hanako%',
  'an error of the base type''s input does not quote the value: ' || enc)
FROM t.type WHERE enc <> 'enctext' AND enc <> 'encbytea';
SELECT is(t.run('t_app_a', 'a', format('SELECT %L::%s', 'Sato Hanako', enc)), 'ERROR ' || code, 'and has the code of the base type: ' || enc)
FROM (VALUES ('encjsonb', '22P02'), ('encbigint', '22P02'), ('encnumeric', '22P02'), ('encdate', '22007'),
             ('enctimestamptz', '22007'), ('encboolean', '22P02')) v(enc, code);

-- COPY names the line it is at, and would quote the value, to the log as well.
CREATE FUNCTION t.copy_context(session_role text, clinic text, into_table text, file text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE context text; message text;
BEGIN
  PERFORM set_config('session_authorization', session_role, true);
  PERFORM set_config('phi.clinic', clinic, true);
  EXECUTE format('COPY %s FROM %L', into_table, file);
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT;
  RETURN concat_ws(' ', message, context);
END $$;
COPY (SELECT 'Sato Hanako') TO :'copied';
SELECT unalike(t.copy_context('t_app_a', '', 't.enctext_into', :'copied'), '%Hanako%', 'the error of a sealed COPY does not quote the value');
SELECT unalike(t.copy_context('t_app_a', 'a', 't.encdate_into', :'copied'), '%Hanako%', 'nor does that of a COPY of what is no date');
SELECT isnt(t.copy_context('t_app_a', 'a', 't.encdate_into', :'copied'), 'no error', 'which is an error');

-- phi.hidden_value = 'null': a value whose class is not held reads as NULL in
-- base-typed results; other refusals stay errors.
SELECT is(string_agg(t.run(s.role, s.clinic, 'SET LOCAL phi.hidden_value = ''null''',
    format('SELECT coalesce((v::%s)::text, ''hidden'') = ''hidden'' FROM t.%I', base, enc)), ',' ORDER BY enc),
  s.wanted, 'phi.hidden_value = null, ' || s.role || ' ' || s.clinic)
FROM t.type, (VALUES ('t_nurse', 'a', 'true,true,true,true,true,true,true,true'),
                     ('t_app_a', 'a', 'false,false,false,false,false,false,false,false'),
                     ('t_app_a', '', 'ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501'),
                     ('t_app_b', 'b', 'ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501,ERROR 42501')) s(role, clinic, wanted)
GROUP BY s.role, s.clinic, s.wanted;

SELECT * FROM finish();
ROLLBACK;
