-- What attackers of the audit trail found, one part for each; what takes several
-- sessions, databases or commits is in test/t/029_audit_attacks.pl.
\ir include/setup.psql

GRANT EXECUTE ON FUNCTION phi.audit(regclass, boolean) TO t_nobody;
CREATE FUNCTION t.owned(VARIADIC statements text[]) RETURNS text LANGUAGE sql AS $$ SELECT t.run('t_nobody', '', VARIADIC statements) $$;

-- A history's own columns of other types: a time that was taken for a pointer.
SELECT is(t.owned('CREATE TABLE t.typed (id int PRIMARY KEY)', $$SELECT phi.audit('t.typed', true)$$,
                  'ALTER TABLE t.typed_history ALTER ' || changed, 'INSERT INTO t.typed VALUES (1)'), 'ERROR 55000', 'a history with ' || changed)
FROM unnest(ARRAY['phi_until TYPE text', 'phi_record TYPE text', 'phi_change TYPE bigint USING 0']) changed;

-- Indexes of a history that keep more than btrees do from one row to the next.
SELECT is(t.owned('CREATE TABLE t.listed (id int PRIMARY KEY, list int[])', $$SELECT phi.audit('t.listed', true)$$,
                  'CREATE INDEX one ON t.listed_history USING gin (list)', 'CREATE INDEX two ON t.listed_history USING brin (id)',
                  $$INSERT INTO t.listed VALUES (1, '{1}')$$, $$UPDATE t.listed SET list = '{2}'$$,
                  'ALTER INDEX t.one SET (fastupdate = off)', 'ALTER INDEX t.two SET (autosummarize = on)',
                  'CREATE TABLE t.other AS SELECT a.relname, a.relkind FROM pg_class a, pg_class b LIMIT 1000',
                  $$UPDATE t.listed SET list = '{3}'$$, 'REINDEX INDEX t.one', $$UPDATE t.listed SET list = '{4}'$$,
                  'SET LOCAL enable_seqscan = off', $$SELECT string_agg(phi_change, ' ') FROM t.listed_history WHERE list @> '{3}'$$),
          'UPDATE', 'a history with indexes of other methods');

SELECT * FROM finish();
ROLLBACK;
