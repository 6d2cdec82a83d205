-- phi.protect_plan(), phi.unprotect_plan(): statements that convert a table's
-- definition and leave all else as it was; what cannot be, is said beforehand.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE "t_Space" LOCATION '';
\ir include/setup.psql
SET LOCAL client_min_messages = error;
-- Trusted, since things of others depend on its tables.
CREATE ROLE "t_Own er" LOGIN SUPERUSER; CREATE ROLE t_reader; CREATE ROLE "t_re""ader"; CREATE ROLE t_third;
GRANT CREATE ON TABLESPACE "t_Space" TO "t_Own er";
CREATE SCHEMA "診療 t"; GRANT ALL ON SCHEMA "診療 t" TO PUBLIC;

-- All that is told about relations of that schema, a row a fact.
CREATE FUNCTION t.facts() RETURNS TABLE (kind text, object text, fact text) LANGUAGE sql SET search_path = pg_catalog AS $$
  WITH r AS (SELECT c.*, c.oid::regclass::text AS named FROM pg_class c WHERE c.relnamespace = '"診療 t"'::regnamespace)
  SELECT 'relation', named, concat_ws(' ', relkind, relowner::regrole, relacl, reloptions, relrowsecurity, relforcerowsecurity, relreplident, relpersistence, obj_description(oid, 'pg_class')) FROM r WHERE relkind IN ('r', 'v', 'm')
  UNION ALL SELECT 'view', named, pg_get_viewdef(oid) FROM r WHERE relkind = 'v'
  UNION ALL SELECT 'column', format('%s.%I', named, attname), concat_ws(' ', attnum, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation, attstorage, attcompression, attstattarget, attacl, col_description(attrelid, attnum), attidentity,
      (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
    FROM r JOIN pg_attribute ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped WHERE relkind IN ('r', 'v')
  UNION ALL SELECT 'index', named, concat_ws(' ', pg_get_indexdef(r.oid), indisclustered, indisreplident, indnullsnotdistinct, obj_description(r.oid, 'pg_class'),
      (SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace), relowner::regrole, (SELECT 'of extension' FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = r.oid AND deptype = 'x'), (SELECT string_agg(attstattarget::text, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = r.oid)) FROM r JOIN pg_index ON indexrelid = r.oid
  UNION ALL SELECT 'constraint', format('%s %I', r.named, conname), concat_ws(' ', pg_get_constraintdef(k.oid), convalidated, obj_description(k.oid, 'pg_constraint')) FROM r JOIN pg_constraint k ON conrelid = r.oid
  UNION ALL SELECT 'trigger', format('%s %I', r.named, tgname), concat_ws(' ', pg_get_triggerdef(g.oid), tgenabled, obj_description(g.oid, 'pg_trigger'), (SELECT count(*) FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = g.oid AND deptype = 'x')) FROM r JOIN pg_trigger g ON tgrelid = r.oid WHERE NOT tgisinternal
  UNION ALL SELECT 'rule', format('%s %I', r.named, rulename), concat_ws(' ', pg_get_ruledef(w.oid), ev_enabled, obj_description(w.oid, 'pg_rewrite')) FROM r JOIN pg_rewrite w ON ev_class = r.oid WHERE ev_type <> '1'
  UNION ALL SELECT 'policy', format('%I.%I %I', schemaname, tablename, policyname), concat_ws(' ', permissive, roles, cmd, qual, with_check, (SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polname = policyname)) FROM pg_policies WHERE schemaname = '診療 t'
  UNION ALL SELECT 'statistics', stxname, concat_ws(' ', pg_get_statisticsobjdef(oid), stxowner::regrole, stxstattarget, obj_description(oid, 'pg_statistic_ext')) FROM pg_statistic_ext WHERE stxnamespace = '"診療 t"'::regnamespace
  UNION ALL SELECT 'publication', pubname, concat_ws(' ', prrelid::regclass, prattrs, pg_get_expr(prqual, prrelid)) FROM pg_publication_rel m JOIN pg_publication p ON p.oid = prpubid
  UNION ALL SELECT 'role named in grants', named, string_agg(format('%s %s', refobjid::regrole, deptype), ' ' ORDER BY refobjid::regrole::text COLLATE "C", deptype) FROM r JOIN pg_shdepend d ON classid = 'pg_class'::regclass AND objid = r.oid AND refclassid = 'pg_authid'::regclass WHERE relkind IN ('r', 'v') GROUP BY named
$$;
CREATE TABLE t.seen (moment int, kind text, object text, fact text);
CREATE VIEW t.changed AS SELECT kind, object, a.fact AS was, b.fact AS now FROM (SELECT * FROM t.seen WHERE moment = 1) a FULL JOIN (SELECT * FROM t.seen WHERE moment = 2) b USING (kind, object) WHERE a.fact IS DISTINCT FROM b.fact;
CREATE TABLE t.plan (step int, phase text, object text, statement text, note text);

-- As the engine does it: in order, nothing but pg_catalog to be found without a schema.
CREATE FUNCTION t.carry_out(VARIADIC phases text[] DEFAULT '{before,alter,after}') RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET default_tablespace = '' AS $$
DECLARE
  p record;
BEGIN
  FOR p IN SELECT * FROM t.plan WHERE phase = ANY (phases) ORDER BY step LOOP
    EXECUTE p.statement;
  END LOOP;
  RETURN 'done';
EXCEPTION WHEN OTHERS THEN
  RETURN format('%s: %s', SQLERRM, p.statement);
END $$;

SET ROLE "t_Own er";
CREATE DOMAIN "診療 t".kana AS text NOT NULL DEFAULT 'ア' CHECK (value <> '');
CREATE TABLE "診療 t".clinic (code text PRIMARY KEY);
CREATE TABLE "診療 t"."Pat ient" (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  clinic text NOT NULL REFERENCES "診療 t".clinic,
  "Na""me" varchar(40) COLLATE "C" DEFAULT 'x''y' NOT NULL,
  kana "診療 t".kana,
  "生年月日" date DEFAULT CURRENT_DATE,
  no text NOT NULL, no2 text, no3 text,
  doc jsonb DEFAULT '{}', old_doc json, scan bytea, weight numeric(5,2) DEFAULT -1.5, visits int DEFAULT 0, small smallint DEFAULT 1, at timestamptz(0) DEFAULT now(), dead boolean DEFAULT false, code char(3) DEFAULT 'a',
  plain text, other text,
  CONSTRAINT "no key" UNIQUE (clinic, no),
  CONSTRAINT "ex cl" EXCLUDE USING hash (no2 WITH =) WITH (fillfactor = 55) WHERE (plain <> 'x'),
  CONSTRAINT "chec k" CHECK (length("Na""me") > 0 AND "生年月日" > '1900-01-01'),
  CONSTRAINT unchecked CHECK (weight < 500) NO INHERIT NOT VALID,
  CONSTRAINT whole CHECK ("Pat ient" IS DISTINCT FROM NULL),
  CONSTRAINT of_plain CHECK (plain <> 'x'));
ALTER TABLE "診療 t"."Pat ient" DROP COLUMN other;
ALTER TABLE "診療 t"."Pat ient" ALTER no2 SET STORAGE MAIN, ALTER no2 SET COMPRESSION pglz, ALTER no SET STATISTICS 77, ALTER no3 SET STATISTICS 0;
COMMENT ON COLUMN "診療 t"."Pat ient"."Na""me" IS 'a 100% name'; COMMENT ON TABLE "診療 t"."Pat ient" IS 'patients';
COMMENT ON CONSTRAINT "chec k" ON "診療 t"."Pat ient" IS 'ch''k'; COMMENT ON CONSTRAINT "ex cl" ON "診療 t"."Pat ient" IS 'excl'; COMMENT ON CONSTRAINT "no key" ON "診療 t"."Pat ient" IS 'unique';
GRANT SELECT (id, "Na""me"), UPDATE (no) ON "診療 t"."Pat ient" TO t_reader;
CREATE TABLE "診療 t".visit (id int PRIMARY KEY, patient bigint REFERENCES "診療 t"."Pat ient", note text);
CREATE INDEX "I 1" ON "診療 t"."Pat ient" ("Na""me") WITH (fillfactor = 61, deduplicate_items = off);
CREATE INDEX i2 ON "診療 t"."Pat ient" (plain COLLATE "C" text_pattern_ops DESC, no3 DESC NULLS LAST, id NULLS FIRST) INCLUDE (doc, plain) WITH (fillfactor = 62) TABLESPACE "t_Space" WHERE plain LIKE '100%x';
CREATE INDEX i3 ON "診療 t"."Pat ient" USING hash (code bpchar_ops) WITH (fillfactor = 63);
CREATE INDEX i4 ON "診療 t"."Pat ient" (lower(plain), "生年月日");
CREATE UNIQUE INDEX i5 ON "診療 t"."Pat ient" (no3) NULLS NOT DISTINCT WHERE no3 IS NOT NULL;
CREATE UNIQUE INDEX i6 ON "診療 t"."Pat ient" (id, no);
CREATE INDEX i7 ON "診療 t"."Pat ient" (plain) INCLUDE (kana);
CREATE INDEX i8 ON "診療 t"."Pat ient" (plain, lower(plain)) WHERE id > 5;
ALTER INDEX "診療 t".i4 ALTER COLUMN 1 SET STATISTICS 55;
COMMENT ON INDEX "診療 t".i2 IS 'i''2'; COMMENT ON INDEX "診療 t".i7 IS 'i7';
ALTER TABLE "診療 t"."Pat ient" REPLICA IDENTITY USING INDEX i6, CLUSTER ON i4;
CREATE STATISTICS "診療 t"."st 1" (ndistinct, mcv) ON plain, clinic, "Na""me" FROM "診療 t"."Pat ient";
CREATE STATISTICS "診療 t".st2 ON "Na""me", no FROM "診療 t"."Pat ient";
CREATE STATISTICS "診療 t".st3 ON plain, clinic FROM "診療 t"."Pat ient";
CREATE STATISTICS "診療 t".st4 ON lower(plain) FROM "診療 t"."Pat ient";
ALTER STATISTICS "診療 t"."st 1" SET STATISTICS 33; COMMENT ON STATISTICS "診療 t"."st 1" IS 'st';
CREATE FUNCTION "診療 t"."f n"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER "tr 1" BEFORE UPDATE OF "Na""me", plain ON "診療 t"."Pat ient" FOR EACH ROW WHEN (new."Na""me" IS DISTINCT FROM old."Na""me") EXECUTE FUNCTION "診療 t"."f n"('a''b', '%s');
CREATE TRIGGER tr2 AFTER INSERT ON "診療 t"."Pat ient" FOR EACH ROW WHEN (new.no = 'x') EXECUTE FUNCTION "診療 t"."f n"();
CREATE CONSTRAINT TRIGGER tr3 AFTER UPDATE OF no ON "診療 t"."Pat ient" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "診療 t"."f n"();
CREATE TRIGGER whole BEFORE UPDATE ON "診療 t"."Pat ient" FOR EACH ROW WHEN (old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION "診療 t"."f n"();
CREATE TRIGGER tr4 AFTER UPDATE ON "診療 t"."Pat ient" REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION "診療 t"."f n"();
ALTER TABLE "診療 t"."Pat ient" ENABLE ALWAYS TRIGGER "tr 1", DISABLE TRIGGER tr2, ENABLE REPLICA TRIGGER tr3, DISABLE TRIGGER tr4;
ALTER TRIGGER "tr 1" ON "診療 t"."Pat ient" DEPENDS ON EXTENSION plpgsql; ALTER INDEX "診療 t".i4 DEPENDS ON EXTENSION plpgsql;
COMMENT ON TRIGGER "tr 1" ON "診療 t"."Pat ient" IS 'tr';
CREATE POLICY "po l" ON "診療 t"."Pat ient" AS RESTRICTIVE FOR UPDATE TO t_reader, "t_re""ader" USING ("Na""me" <> 'x') WITH CHECK (no <> 'y');
CREATE POLICY elsewhere ON "診療 t".visit FOR SELECT USING (EXISTS (SELECT FROM "診療 t"."Pat ient" p WHERE p.id = patient AND p."Na""me" <> 'z'));
CREATE POLICY t_all ON "診療 t"."Pat ient" TO t_app_a USING (true);
ALTER TABLE "診療 t"."Pat ient" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT ALL ON "診療 t"."Pat ient" TO t_app_a;
CREATE POLICY untouched ON "診療 t"."Pat ient" USING (plain <> 'x');
COMMENT ON POLICY "po l" ON "診療 t"."Pat ient" IS 'pol';
CREATE RULE "ru le" AS ON UPDATE TO "診療 t"."Pat ient" WHERE old.no <> new.no DO ALSO INSERT INTO "診療 t".visit (note) VALUES (new.no);
ALTER TABLE "診療 t"."Pat ient" DISABLE RULE "ru le"; COMMENT ON RULE "ru le" ON "診療 t"."Pat ient" IS 'rule';

-- Views: on it, on a view, on both, beside it; with all that a view can have.
CREATE VIEW "診療 t"."V 1" WITH (security_barrier, check_option = cascaded, security_invoker = true) AS SELECT id, clinic, "Na""me" AS "N a", "生年月日", no FROM "診療 t"."Pat ient" WHERE "Na""me" <> 'q';
CREATE VIEW "診療 t"."A 2" AS SELECT v."N a" || 'さん' AS called, p.doc ->> 'a' AS a, age(p."生年月日") AS age, p.weight * 2 AS twice FROM "診療 t"."Pat ient" p JOIN "診療 t"."V 1" v USING (id);
CREATE VIEW "診療 t".v3 (n, "Called") AS SELECT count(*), called FROM "診療 t"."A 2" GROUP BY called ORDER BY 2;
CREATE VIEW "診療 t".v4 AS WITH RECURSIVE x(id) AS (SELECT id FROM "診療 t"."V 1" UNION SELECT x.id + 1 FROM x WHERE x.id < 0) SELECT p.no, p.plain FROM "診療 t"."Pat ient" p, x, "診療 t".v3 GROUP BY p.id;
CREATE VIEW "診療 t".beside AS SELECT id, plain FROM "診療 t"."Pat ient";
CREATE RULE "de l" AS ON DELETE TO "診療 t"."V 1" DO INSTEAD DELETE FROM "診療 t"."Pat ient" WHERE id = old.id;
CREATE RULE other_view AS ON INSERT TO "診療 t".beside DO INSTEAD INSERT INTO "診療 t"."V 1" (no) VALUES (new.plain);
CREATE TRIGGER "vi ew" INSTEAD OF INSERT OR UPDATE ON "診療 t".v3 FOR EACH ROW EXECUTE FUNCTION "診療 t"."f n"('x');
COMMENT ON TRIGGER "vi ew" ON "診療 t".v3 IS 'vt'; COMMENT ON RULE "de l" ON "診療 t"."V 1" IS 'vr';
ALTER VIEW "診療 t"."V 1" ALTER "N a" SET DEFAULT 'd''d', ALTER "生年月日" SET DEFAULT '2000-01-01';
COMMENT ON VIEW "診療 t"."V 1" IS 'v''1'; COMMENT ON COLUMN "診療 t"."V 1"."N a" IS 'n a';
GRANT SELECT, UPDATE ON "診療 t"."V 1" TO t_reader WITH GRANT OPTION; GRANT SELECT ON "診療 t"."V 1" TO PUBLIC;
GRANT SELECT (called) ON "診療 t"."A 2" TO t_reader WITH GRANT OPTION; GRANT INSERT (a), UPDATE (a) ON "診療 t"."A 2" TO PUBLIC;
GRANT ALL ON "診療 t"."A 2" TO t_app_a;
REVOKE DELETE ON "診療 t".v3 FROM "t_Own er"; REVOKE ALL ON "診療 t".v4 FROM "t_Own er";
SET ROLE t_reader;
GRANT SELECT ON "診療 t"."V 1" TO "t_re""ader"; GRANT SELECT (called) ON "診療 t"."A 2" TO "t_re""ader";
RESET ROLE;
ALTER VIEW "診療 t".v4 OWNER TO t_third;
-- These would come to every new view.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO t_nurse;
SET LOCAL client_min_messages = error;
CREATE PUBLICATION "t_pu b" FOR TABLE "診療 t"."Pat ient" (id, no, "Na""me") WHERE (id > 3);
CREATE PUBLICATION t_whole FOR TABLE "診療 t"."Pat ient";

INSERT INTO t.seen SELECT 1, * FROM t.facts();
\set columns '{"Na\\"me": "identity", "kana": "identity", "生年月日": {"class": "identity"}, "no": "insurance", "no2": "insurance", "no3": "insurance", "doc": "clinical", "old_doc": "clinical", "scan": "clinical", "weight": "sensitive", "visits": "general", "small": "general", "at": "clinical", "dead": "clinical", "code": "general"}'
INSERT INTO t.plan SELECT * FROM phi.protect_plan('"診療 t"."Pat ient"', 'clinic', :'columns');
SELECT is(string_agg(note, '; '), NULL, 'no problems') FROM t.plan WHERE phase = 'problem';
SELECT is(array_agg(step ORDER BY step), ARRAY(SELECT generate_series(1, count(*))::int FROM t.plan), 'steps are numbered') FROM t.plan;
SELECT is(string_agg(DISTINCT phase, ' '), 'after alter before index late note', 'of all phases') FROM t.plan;
SELECT is(count(*), 1::bigint, 'the table is altered once') FROM t.plan WHERE phase = 'alter';
SELECT is(count(*), 0::bigint, 'notes are no statements, and what is none is a note') FROM t.plan WHERE (statement IS NULL) <> (phase = 'note');
SELECT is(string_agg(statement, '; '), $$SELECT phi.isolate('"診療 t"."Pat ient"', 'clinic')$$, 'isolated in the end') FROM t.plan WHERE phase = 'late';
SELECT is(count(*), 0::bigint, 'or not') FROM phi.protect_plan('"診療 t"."Pat ient"', 'clinic', :'columns', isolate => false) WHERE phase = 'late';
SELECT is(t.carry_out(), 'done', 'the statements can be carried out');
INSERT INTO t.seen SELECT 2, * FROM t.facts();

-- What is not listed here is as it was, to the letter.
CREATE FUNCTION t.differences(kinds text[]) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(replace(format('%s %s: %s -> %s', kind, object, was, now), '"診療 t"."Pat ient"', 'p'), E'\n' ORDER BY kind, object COLLATE "C")
  FROM t.changed WHERE kind = ANY (kinds)
$$;
SELECT is(string_agg(DISTINCT kind, ' '), 'column constraint index statistics view', 'grants, owners, triggers, rules, policies and publications are what they were') FROM t.changed;
SELECT is(t.differences('{constraint}'), $$constraint p "chec k": CHECK (((length(("Na""me")::text) > 0) AND ("生年月日" > '1900-01-01'::date))) t ch'k -> CHECK (((length(("Na""me")::text) > 0) AND ("生年月日" > '1900-01-01'::date))) NOT VALID f ch'k
constraint p "no key": UNIQUE (clinic, no) t unique -> 
constraint p unchecked: CHECK ((weight < (500)::numeric)) NO INHERIT t -> CHECK ((weight < (500)::numeric)) NO INHERIT NOT VALID f$$, 'constraints');
SELECT is(t.differences('{index}'), $$index "診療 t"."I 1": CREATE INDEX "I 1" ON p USING btree ("Na""me") WITH (fillfactor='61', deduplicate_items=off) f f f "t_Own er" -1 -> CREATE INDEX "I 1" ON p USING hash ("Na""me") WITH (fillfactor='61') f f f "t_Own er" -1
index "診療 t"."no key": CREATE UNIQUE INDEX "no key" ON p USING btree (clinic, no) f f f "t_Own er" -1 -1 -> CREATE UNIQUE INDEX "no key" ON p USING btree (clinic, no enctext_equality_ops) f f f unique "t_Own er" -1 -1
index "診療 t".i2: CREATE INDEX i2 ON p USING btree (plain COLLATE "C" text_pattern_ops DESC, no3 DESC NULLS LAST, id NULLS FIRST) INCLUDE (doc, plain) WITH (fillfactor='62') WHERE (plain ~~ '100%x'::text) f f f i'2 t_Space "t_Own er" -1 -1 -1 -1 -1 -> CREATE INDEX i2 ON p USING btree (plain COLLATE "C" text_pattern_ops DESC, no3 enctext_equality_ops DESC NULLS LAST, id NULLS FIRST) INCLUDE (doc, plain) WITH (fillfactor='62') WHERE (plain ~~ '100%x'::text) f f f i'2 t_Space "t_Own er" -1 -1 -1 -1 -1
index "診療 t".i4: CREATE INDEX i4 ON p USING btree (lower(plain), "生年月日") t f f "t_Own er" of extension 55 -1 -> CREATE INDEX i4 ON p USING btree (lower(plain), "生年月日" encdate_equality_ops) t f f "t_Own er" of extension 55 -1
index "診療 t".i5: CREATE UNIQUE INDEX i5 ON p USING btree (no3) NULLS NOT DISTINCT WHERE (no3 IS NOT NULL) f f t "t_Own er" -1 -> CREATE UNIQUE INDEX i5 ON p USING btree (no3 enctext_equality_ops) NULLS NOT DISTINCT WHERE (no3 IS NOT NULL) f f t "t_Own er" -1
index "診療 t".i6: CREATE UNIQUE INDEX i6 ON p USING btree (id, no) f t f "t_Own er" -1 -1 -> CREATE UNIQUE INDEX i6 ON p USING btree (id, no enctext_equality_ops) f t f "t_Own er" -1 -1$$, 'indexes, with CLUSTER mark, replica identity, comments, tablespace');
SELECT is(t.differences('{statistics}'), $$statistics st 1: CREATE STATISTICS "診療 t"."st 1" (ndistinct, mcv) ON clinic, "Na""me", plain FROM p "t_Own er" 33 st -> CREATE STATISTICS "診療 t"."st 1" (ndistinct, mcv) ON clinic, plain FROM p "t_Own er" 33 st
statistics st2: CREATE STATISTICS "診療 t".st2 ON "Na""me", no FROM p "t_Own er" -1 -> 
statistics st4: CREATE STATISTICS "診療 t".st4 ON lower(plain) FROM p "t_Own er" -1 -> $$, 'extended statistics');
-- The type changes, with its storage unless that was set, and a collation of one's own stays.
SELECT is(string_agg(object, ' '), NULL, 'of columns no more than type, storage and compression, but for the domain''s') FROM t.changed
WHERE kind = 'column' AND object !~ 'kana' AND regexp_replace(was, '^(\d+) .* ([tf] \S+) [pmex]( +[pl])? ', '\1 \2') <> regexp_replace(now, '^(\d+) enc\w+\(\w+\) ([tf] \S+) [pmex]( +[pl])? ', '\1 \2');
SELECT is(string_agg(substring(object, '[^.]+$') || ' ' || substring(now, '^\d+ (\S+ [tf] \S+ \w)'), ', ' ORDER BY substring(now, '^\d+')::int), '"Na""me" enctext(identity) t "C" e, kana enctext(identity) t "default" e, "生年月日" encdate(identity) f - e, no enctext(insurance) t "default" e, no2 enctext(insurance) f "default" m, no3 enctext(insurance) f "default" e, doc encjsonb(clinical) f - e, old_doc encjsonb(clinical) f - e, scan encbytea(clinical) f - e, weight encnumeric(sensitive) f - e, visits encbigint(general) f - e, small encbigint(general) f - e, at enctimestamptz(clinical) f - e, dead encboolean(clinical) f - e, code enctext(general) f "default" e', 'types, NOT NULL, collations, storage')
FROM t.changed WHERE kind = 'column' AND object ~ 'Pat ient';
SELECT is(now, '4 enctext(identity) t "default" e  -1  ''ア''::text', 'the domain''s NOT NULL and default are the column''s') FROM t.changed WHERE object ~ 'kana';
SELECT is(string_agg(substring(object, '[^.]+\.[^.]+$') || ' ' || now, ', ' ORDER BY object COLLATE "C"), '"V 1"."N a" 3 enctext(identity) f "C" e  -1 n a  ''d''''d''::character varying, "V 1"."生年月日" 4 encdate(identity) f - e  -1  ''2000-01-01''::date, "V 1".no 5 enctext(insurance) f "default" e  -1 , v4.no 1 enctext(insurance) f "default" e  -1 ', 'columns of views, with defaults and comments')
FROM t.changed WHERE kind = 'column' AND object !~ 'Pat ient';
SELECT is(string_agg(object, ' '), '"診療 t"."A 2"', 'of views only casts') FROM t.changed WHERE kind = 'view';

-- The indexes of a shadow can be built beforehand, and are the table's then.
CREATE TABLE "診療 t"."100% shadow" (LIKE "診療 t"."Pat ient");
SELECT is((SELECT string_agg(object, ' ' ORDER BY object COLLATE "C") FROM t.plan WHERE phase = 'index'), string_agg(relname::text, ' ' ORDER BY relname COLLATE "C"), 'all indexes of the table are listed')
FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = '"診療 t"."Pat ient"'::regclass;
SELECT format(statement, quote_ident('s%' || object), '"診療 t"."100% shadow"') FROM t.plan WHERE phase = 'index' \gexec
SELECT is(replace(replace(pg_get_indexdef(s.oid), quote_ident(s.relname), quote_ident(object)), '100% shadow', 'Pat ient'), pg_get_indexdef(format('"診療 t".%I', object)::regclass), 'on the shadow as on the table: ' || object)
FROM t.plan JOIN pg_class s ON s.relname = 's%' || object WHERE phase = 'index';
DROP TABLE "診療 t"."100% shadow";

-- It works: a row is written, found by the indexes, seen in the views.
INSERT INTO "診療 t".clinic VALUES ('a');
SELECT phi.isolate('"診療 t"."Pat ient"', 'clinic') \g /dev/null
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO "診療 t"."Pat ient" (clinic, "Na""me", no, no3) VALUES ('a', '佐藤', '17', '3') RETURNING format('%s %s %s %s %s', "Na""me", kana, weight, small, code)$$), '佐藤 ア -1.5 1 a', 'a row with its defaults');
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO "診療 t"."Pat ient" (clinic, "Na""me", no) VALUES ('a', '鈴木', '17') RETURNING no$$), 'ERROR 23505', 'unique');
SELECT is(t.run('t_app_a', 'a', $$INSERT INTO "診療 t"."Pat ient" (clinic, "Na""me", no) VALUES ('a', '', '18') RETURNING no$$), 'ERROR 23514', 'checked');
DELETE FROM "診療 t"."Pat ient";
SELECT phi.unisolate('"診療 t"."Pat ient"') \g /dev/null

-- And back.
DELETE FROM t.plan;
INSERT INTO t.plan SELECT * FROM phi.unprotect_plan('"診療 t"."Pat ient"', ARRAY(SELECT jsonb_object_keys(:'columns')), '{"Na\"me": {"type": "varchar(40)"}, "kana": {"type": "\"診療 t\".kana"}, "old_doc": {"type": "json"}, "weight": {"type": "numeric(5,2)"}, "visits": {"type": "int"}, "small": {"type": "smallint"}, "at": {"type": "timestamptz(0)"}, "code": {"type": "character(3)"},
  "I 1": "CREATE INDEX \"I 1\" ON \"Pat ient\" (\"Na\"\"me\") WITH (fillfactor = 61, deduplicate_items = off);"}');
SELECT is(string_agg(note, '; '), NULL, 'no problems on the way back') FROM t.plan WHERE phase = 'problem';
SELECT is(string_agg(note, ' | '), 'stays without order. Told as replacements: {"i3": "CREATE INDEX i3 ON \"診療 t\".\"Pat ient\" USING btree (code) WITH (fillfactor=''63'')"} has one', 'what a hash index was is not known, and said') FROM t.plan WHERE note ~ 'order';
SELECT is(t.carry_out(), 'done', 'which can be gone');
DELETE FROM t.seen WHERE moment = 2;
INSERT INTO t.seen SELECT 2, * FROM t.facts();
SELECT is(string_agg(format('%s %s', kind, replace(object, '"診療 t".', '')), ', ' ORDER BY kind, object COLLATE "C"), 'column "Pat ient".kana, constraint "Pat ient" "chec k", constraint "Pat ient" "no key", constraint "Pat ient" unchecked, index "no key", statistics st 1, statistics st2, statistics st4, view "A 2"', 'all but these is as it began') FROM t.changed;
SELECT is(string_agg(now, ' | '), 'CREATE UNIQUE INDEX "no key" ON "診療 t"."Pat ient" USING btree (clinic, no) f f f unique "t_Own er" -1 -1', 'the unique constraint is a unique index') FROM t.changed WHERE kind = 'index';
SELECT is(string_agg(note, ' | ' ORDER BY note), 'not checked for the rows that are there: ALTER TABLE "診療 t"."Pat ient" VALIDATE CONSTRAINT "chec k" | not checked for the rows that are there: ALTER TABLE "診療 t"."Pat ient" VALIDATE CONSTRAINT unchecked', 'checks are to be validated') FROM t.plan WHERE phase = 'note' AND note ~ 'VALIDATE';
SELECT * FROM finish();
ROLLBACK;
DROP TABLESPACE "t_Space";
