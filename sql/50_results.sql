-- The types of what a client is sent, before it runs anything (\gdesc), and
-- the values: base types for a client's own queries, encrypted ones elsewhere.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE TABLE visit (
  id int PRIMARY KEY, name enctext(identity), born encdate(identity), seen enctimestamptz, cost encbigint,
  weight encnumeric(clinical), smoker encboolean(clinical), record encjsonb(clinical), photo encbytea, aliases enctext(identity)[]);
GRANT ALL ON visit TO app_a, app_b;
GRANT CREATE ON SCHEMA public TO app_a;
CREATE VIEW name_of AS SELECT id, name AS called, born FROM visit;
CREATE VIEW joined AS SELECT n.*, v.name || '!' AS loud FROM name_of n JOIN visit v USING (id) ORDER BY n.called;
CREATE FUNCTION all_rows() RETURNS SETOF visit LANGUAGE sql AS 'SELECT * FROM visit';
CREATE FUNCTION some_columns() RETURNS TABLE (id int, name enctext) LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT visit.id, visit.name FROM visit; END';
CREATE FUNCTION one_value() RETURNS enctext LANGUAGE sql AS 'SELECT name FROM visit WHERE id = 1';
GRANT SELECT, INSERT, UPDATE ON name_of, joined TO app_a;
SET SESSION AUTHORIZATION app_a;
SET phi.clinic = 'a';
INSERT INTO visit VALUES
  (1, 'Sato', '1958-03-21', '2026-01-01 10:00Z', 100, 61.5, true, '{"a": 1}', '\x01', '{Hana,"S. H."}'),
  (2, 'Abe', '1971-12-01', '2026-01-02 10:00Z', 250, 70, false, '{}', '\x02', '{}'),
  (3, 'Sato', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- Top-level queries.
SELECT * FROM visit \gdesc
TABLE visit LIMIT 1 \gdesc
SELECT v.name AS who, upper(v.name), v.born + 1 AS day_after FROM visit v \gdesc
SELECT name FROM visit ORDER BY name \gdesc
SELECT name FROM visit ORDER BY born DESC, cost LIMIT 1 \gdesc
SELECT DISTINCT name, smoker FROM visit \gdesc
SELECT DISTINCT ON (name) name, born FROM visit ORDER BY name, born \gdesc
SELECT name, count(*) FROM visit GROUP BY name \gdesc
SELECT name, born, count(*) FROM visit GROUP BY ROLLUP (name, born) ORDER BY 1, 2 \gdesc
SELECT max(name), min(born), max(cost), min(weight), max(seen) FROM visit \gdesc
SELECT name, lag(name) OVER w AS before FROM visit WINDOW w AS (ORDER BY born) \gdesc
SELECT name FROM visit UNION SELECT 'x' ORDER BY 1 \gdesc
SELECT name FROM visit UNION ALL SELECT name FROM visit \gdesc
SELECT cost FROM visit INTERSECT SELECT cost FROM visit \gdesc
SELECT name FROM visit EXCEPT SELECT 'x' \gdesc
WITH w AS (SELECT name, born FROM visit) SELECT * FROM w ORDER BY born \gdesc
WITH RECURSIVE r AS (SELECT name, 1 AS n FROM visit UNION ALL SELECT name, n + 1 FROM r WHERE n < 2) SELECT * FROM r \gdesc
SELECT (SELECT name FROM visit LIMIT 1) AS one, s.* FROM (SELECT born FROM visit ORDER BY name) s \gdesc
SELECT l.* FROM visit v, LATERAL (SELECT v.name, v.born) l \gdesc
VALUES ((SELECT name FROM visit LIMIT 1), 1) \gdesc
SELECT * FROM joined \gdesc
SELECT name FROM visit ORDER BY name FOR UPDATE \gdesc
SELECT array_agg(name) AS names, ARRAY(SELECT born FROM visit) AS days, array_agg(cost) AS costs FROM visit \gdesc

-- What modifies.
INSERT INTO visit (id, name) VALUES (9, 'x') RETURNING id, name, born \gdesc
INSERT INTO visit (id, name) VALUES (9, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name \gdesc
UPDATE name_of SET called = 'y' WHERE id = 9 RETURNING * \gdesc
DELETE FROM visit WHERE id = 9 RETURNING cost, aliases \gdesc
WITH u AS (UPDATE visit SET cost = 0 WHERE id = 9 RETURNING name, born) SELECT DISTINCT name FROM u \gdesc
WITH i AS (INSERT INTO visit (id, name) VALUES (4, 'Kato') ON CONFLICT DO NOTHING RETURNING id, name)
  SELECT id, name FROM i UNION ALL SELECT id, name FROM visit WHERE id = 4 ORDER BY name;
WITH i AS (INSERT INTO visit (id, name) VALUES (4, 'Kato') ON CONFLICT DO NOTHING RETURNING id, name)
  SELECT id, name FROM i UNION ALL SELECT id, name FROM visit WHERE id = 4 ORDER BY name;
WITH d AS (DELETE FROM visit WHERE id = 4 RETURNING name), r AS (SELECT name FROM visit WHERE id < 4)
  SELECT name FROM (SELECT * FROM d UNION SELECT * FROM (WITH d AS (SELECT name FROM r) SELECT * FROM d) s) t
  WHERE EXISTS (SELECT FROM d) ORDER BY name;

-- Functions that give rows of a table.
SELECT * FROM all_rows() ORDER BY id \gdesc
SELECT * FROM some_columns() \gdesc
SELECT (all_rows()).name \gdesc
SELECT one_value() \gdesc
SELECT one_value(), (SELECT name FROM some_columns() ORDER BY name LIMIT 1);

-- The extended protocol, prepared statements, cursors.
PREPARE p (text) AS SELECT name, born, aliases FROM visit WHERE name = $1 ORDER BY born;
EXECUTE p ('Sato') \gdesc
EXECUTE p ('Sato');
PREPARE u (text) AS UPDATE visit SET cost = 1 WHERE name = $1 RETURNING name, cost;
EXECUTE u ('Abe') \gdesc
EXPLAIN (VERBOSE, COSTS OFF) SELECT name FROM visit ORDER BY name;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT name, born FROM visit ORDER BY name, born;
FETCH c \gdesc
FETCH ALL FROM c;
FETCH BACKWARD 1 FROM c;
DECLARE b BINARY CURSOR FOR SELECT name FROM visit WHERE id = 2;
FETCH b \gdesc
FETCH b;
DECLARE h CURSOR WITH HOLD FOR SELECT DISTINCT name FROM visit ORDER BY name;
COMMIT;
FETCH h \gdesc
FETCH h;
CLOSE h;

-- A domain, a domain over an array, an array of a domain.
CREATE DOMAIN person AS enctext(identity);
CREATE DOMAIN people AS enctext(identity)[];
CREATE TABLE domains (one person, many people, each person[]);
INSERT INTO domains VALUES ('Sato', '{Sato,Abe}', '{Abe}');
SELECT * FROM domains \gdesc
SELECT * FROM domains;

-- Not inside of functions, and not what is stored.
DO $$
DECLARE r record;
BEGIN
  SELECT name INTO r FROM visit LIMIT 1;
  RAISE NOTICE '%', pg_typeof(r.name);
  FOR r IN SELECT name FROM visit ORDER BY name LIMIT 1 LOOP RAISE NOTICE '%', pg_typeof(r.name); END LOOP;
  EXECUTE 'SELECT DISTINCT name FROM visit' INTO r;
  RAISE NOTICE '%', pg_typeof(r.name);
END $$;
CREATE TABLE as_table AS SELECT name, born FROM visit ORDER BY name;
CREATE TABLE as_with AS WITH u AS (UPDATE visit SET cost = cost RETURNING name, aliases) SELECT DISTINCT name, aliases FROM u ORDER BY name;
SELECT name, cost INTO as_into FROM visit ORDER BY name;
CREATE MATERIALIZED VIEW as_view AS SELECT name, array_agg(born) AS days FROM visit GROUP BY name ORDER BY name;
CREATE TABLE as_like (LIKE visit INCLUDING ALL);
INSERT INTO as_like SELECT * FROM visit ORDER BY name;
SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod) FROM pg_attribute
  WHERE attrelid IN ('as_table'::regclass, 'as_with'::regclass, 'as_into'::regclass, 'as_view'::regclass, 'as_like'::regclass) AND attnum > 0 ORDER BY 1, attnum;
PREPARE s AS SELECT one FROM domains;
CREATE TABLE stolen AS EXECUTE s;
PREPARE s2 AS SELECT aliases FROM visit;
CREATE TABLE stolen AS EXECUTE s2;
SELECT * FROM as_view ORDER BY name \gdesc
SELECT * FROM as_view ORDER BY name;
SELECT * FROM as_with ORDER BY name, aliases;

-- Stored is ciphertext, COPY shows what the session may read.
COPY visit (id, name, aliases) TO STDOUT;
RESET SESSION AUTHORIZATION;
RESET phi.clinic;
SELECT count(*) FILTER (WHERE t::text ~ 'Sato|Abe|1958'), count(*) FROM as_table t;
SELECT count(*) FILTER (WHERE t::text ~ 'Sato|Abe|S. H.'), count(*) FROM as_with t;
SELECT count(*) FILTER (WHERE t::text ~ 'Sato|Abe|S. H.|1958'), count(*) FROM as_like t;

-- Who holds no grant sees the types as they are, and ciphertext.
SELECT name, aliases FROM visit \gdesc
SELECT name FROM visit UNION SELECT name FROM visit \gdesc
SET SESSION AUTHORIZATION app_a;
SELECT aliases FROM visit WHERE id = 1;
RESET SESSION AUTHORIZATION;
DROP TABLE as_table, as_with, as_into, as_like, domains;
DROP MATERIALIZED VIEW as_view;
DROP DOMAIN person, people;
DROP FUNCTION all_rows, some_columns, one_value;
DROP TABLE visit CASCADE;
REVOKE CREATE ON SCHEMA public FROM app_a;
