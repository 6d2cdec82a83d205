-- phi.protect_plan(), phi.unprotect_plan(): statements that convert a table's
-- definition and leave all else as it was; what cannot be, is said beforehand.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE "t_Space" LOCATION '';
\ir include/setup.psql
SET LOCAL client_min_messages = error;
CREATE ROLE "t_Own er" LOGIN; CREATE ROLE t_reader; CREATE ROLE "t_re""ader"; CREATE ROLE t_third;
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
      (SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace), relowner::regrole, (SELECT string_agg(attstattarget::text, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = r.oid)) FROM r JOIN pg_index ON indexrelid = r.oid
  UNION ALL SELECT 'constraint', format('%s %I', r.named, conname), concat_ws(' ', pg_get_constraintdef(k.oid), convalidated, obj_description(k.oid, 'pg_constraint')) FROM r JOIN pg_constraint k ON conrelid = r.oid
  UNION ALL SELECT 'trigger', format('%s %I', r.named, tgname), concat_ws(' ', pg_get_triggerdef(g.oid), tgenabled, obj_description(g.oid, 'pg_trigger')) FROM r JOIN pg_trigger g ON tgrelid = r.oid WHERE NOT tgisinternal
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
CREATE TRIGGER tr4 AFTER UPDATE ON "診療 t"."Pat ient" REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION "診療 t"."f n"();
ALTER TABLE "診療 t"."Pat ient" ENABLE ALWAYS TRIGGER "tr 1", DISABLE TRIGGER tr2, ENABLE REPLICA TRIGGER tr3, DISABLE TRIGGER tr4;
COMMENT ON TRIGGER "tr 1" ON "診療 t"."Pat ient" IS 'tr';
CREATE POLICY "po l" ON "診療 t"."Pat ient" AS RESTRICTIVE FOR UPDATE TO t_reader, "t_re""ader" USING ("Na""me" <> 'x') WITH CHECK (no <> 'y');
CREATE POLICY elsewhere ON "診療 t".visit FOR SELECT USING (EXISTS (SELECT FROM "診療 t"."Pat ient" p WHERE p.id = patient AND p."Na""me" <> 'z'));
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
REVOKE DELETE ON "診療 t".v3 FROM "t_Own er"; REVOKE ALL ON "診療 t".v4 FROM "t_Own er";
SET ROLE t_reader;
GRANT SELECT ON "診療 t"."V 1" TO "t_re""ader"; GRANT SELECT (called) ON "診療 t"."A 2" TO "t_re""ader";
RESET ROLE;
ALTER VIEW "診療 t".v4 OWNER TO t_third;
-- These would come to every new view.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO t_nurse;
SET LOCAL client_min_messages = error;
CREATE PUBLICATION "t_pu b" FOR TABLE "診療 t"."Pat ient" (id, "Na""me") WHERE (id > 3);
CREATE PUBLICATION t_whole FOR TABLE "診療 t"."Pat ient";

INSERT INTO t.seen SELECT 1, * FROM t.facts();
\set columns '{"Na\\"me": "identity", "kana": "identity", "生年月日": {"class": "identity"}, "no": "insurance", "no2": "insurance", "no3": "insurance", "doc": "clinical", "old_doc": "clinical", "scan": "clinical", "weight": "sensitive", "visits": "general", "small": "general", "at": "clinical", "dead": "clinical", "code": "general"}'
INSERT INTO t.plan SELECT * FROM phi.protect_plan('"診療 t"."Pat ient"', 'clinic', :'columns');
SELECT is(string_agg(note, '; '), NULL, 'no problems') FROM t.plan WHERE phase = 'problem';
SELECT is(array_agg(step ORDER BY step), ARRAY(SELECT generate_series(1, count(*))::int FROM t.plan), 'steps are numbered') FROM t.plan;
SELECT is(t.carry_out(), 'done', 'the statements can be carried out');
INSERT INTO t.seen SELECT 2, * FROM t.facts();
SELECT diag(format('%s %s%s  %s%s  %s', kind, object, E'\n', was, E'\n', now)) FROM t.changed ORDER BY kind, object;
SELECT * FROM finish();
ROLLBACK;
DROP TABLESPACE "t_Space";
