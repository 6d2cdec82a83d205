-- A literal is encrypted while the server parses: no stored expression may hold
-- one, for it would be a value of one clinic for all.
\ir include/setup.psql
CREATE TABLE t.patient (clinic text, name enctext(identity), number encbigint);
SELECT t.run('t_app_a', 'a', statement) AS literal, t.run('t_app_a', 'a', hint) AS text, what INTO t.tried
FROM (VALUES
  ('default',  'CREATE TABLE t.default_1 (v enctext DEFAULT ''x'')', 'CREATE TABLE t.default_2 (v enctext DEFAULT ''x''::text)'),
  ('check',    'CREATE TABLE t.check_1 (v enctext CHECK (v <> ''x''))', 'CREATE TABLE t.check_2 (v enctext CHECK (v <> ''x''::text))'),
  ('view',     'CREATE VIEW t.view_1 AS SELECT * FROM t.patient WHERE name = ''x''', 'CREATE VIEW t.view_2 AS SELECT * FROM t.patient WHERE name = ''x''::text'),
  ('function', 'CREATE FUNCTION t.function_1() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t.patient WHERE name = ''x''; END', 'CREATE FUNCTION t.function_2() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t.patient WHERE name = ''x''::text; END'),
  ('policy',   'CREATE TABLE t.policy_1 (v enctext); CREATE POLICY p ON t.policy_1 USING (v = ''x'')', 'CREATE TABLE t.policy_2 (v enctext); CREATE POLICY p ON t.policy_2 USING (v = ''x''::text)'),
  ('rule',     'CREATE TABLE t.rule_1 (v enctext); CREATE RULE r AS ON INSERT TO t.rule_1 WHERE new.v = ''x'' DO INSTEAD NOTHING', 'CREATE TABLE t.rule_2 (v enctext); CREATE RULE r AS ON INSERT TO t.rule_2 WHERE new.v = ''x''::text DO INSTEAD NOTHING'),
  ('trigger',  'CREATE TABLE t.trigger_1 (v enctext); CREATE TRIGGER g BEFORE UPDATE ON t.trigger_1 FOR EACH ROW WHEN (new.v = ''x'') EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'CREATE TABLE t.trigger_2 (v enctext); CREATE TRIGGER g BEFORE UPDATE ON t.trigger_2 FOR EACH ROW WHEN (new.v = ''x''::text) EXECUTE FUNCTION suppress_redundant_updates_trigger()')
) v(what, statement, hint);
SELECT isnt(literal, NULL, 'a literal is refused in a ' || what) FROM t.tried;
SELECT is(text, NULL, 'a text is not, in a ' || what) FROM t.tried;
SELECT isnt(t.run('t_app_a', 'a', 'CREATE TABLE t.index_1 (v enctext, n int)', 'CREATE INDEX ON t.index_1 (n) WHERE v = ''x'''), NULL, 'a literal is refused in the predicate of an index');
CREATE TYPE t.name_pair AS (v enctext);
SELECT is(t.run('t_app_a', 'a', statement), 'ERROR 0A000', 'a literal that holds one is refused: ' || statement)
FROM unnest(ARRAY['CREATE VIEW t.v AS SELECT ''(x)''::t.name_pair AS p', 'CREATE VIEW t.v AS SELECT ''{(x)}''::t.name_pair[] AS p', 'CREATE VIEW t.v AS SELECT ''{x}''::enctext[] AS p']) statement;
SELECT isnt(t.run('t_app_a', 'a', 'CREATE TABLE t.generated_1 (v enctext, n bool GENERATED ALWAYS AS (v = ''x''::enctext) STORED)'), NULL, 'and in a generated column');

-- One prepared statement, or function, for each clinic in turn.
CREATE ROLE t_both LOGIN;
SELECT phi.grant_clinic('t_both', 'a'), phi.grant_clinic('t_both', 'b') \g /dev/null
SELECT t.run('t_both', clinic, format('INSERT INTO t.patient VALUES (%L, ''Sato'', 7)', clinic)) FROM unnest(ARRAY['a', 'b']) clinic \g /dev/null
CREATE FUNCTION t.find() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT string_agg(clinic, ',') FROM t.patient WHERE name = 'Sato' AND number = '7'); END $$;
SELECT is(t.run('t_both', clinic, 'SELECT t.find()'), clinic, format('%s: a literal in a function, clinic %s', n, clinic))
FROM unnest(ARRAY['a', 'b', 'b', 'a', 'a', 'a', 'a', 'a', 'a', 'b']) WITH ORDINALITY c(clinic, n) ORDER BY n;
SELECT is(t.run('t_both', '', 'SELECT t.find()'), 'ERROR 42501', 'sealed');
SELECT is(t.run('t_both', 'a', 'SELECT t.find()'), 'a', 'and open again');
SELECT is(t.run('t_both', 'a', 'SET LOCAL phi.clinic = ''b''', 'SELECT t.find()'), 'b', 'changed in the midst of a transaction');

SELECT * FROM finish();
ROLLBACK;
