CREATE FUNCTION phi.dependants(relation regclass, columns phi.planned_column[], catalogue regclass) RETURNS SETOF oid
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT d.objid FROM pg_depend d
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.classid = catalogue
    AND d.refobjsubid IN (SELECT c.attnum FROM unnest(columns) c);
END;
REVOKE EXECUTE ON FUNCTION phi.dependants(regclass, phi.planned_column[], regclass) FROM PUBLIC;
COMMENT ON FUNCTION phi.dependants(regclass, phi.planned_column[], regclass) IS
  'Objects of a catalogue that depend on one of the columns; internal';

CREATE FUNCTION phi.trigger_steps(trigger oid) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement
  FROM (SELECT t.*, format('TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) AS named FROM pg_trigger t WHERE t.oid = trigger) t, LATERAL (
    SELECT 1 AS n, pg_get_triggerdef(t.oid) AS statement
    UNION ALL
    SELECT 2, format('ALTER TABLE %s %s TRIGGER %I', t.tgrelid::regclass,
                     CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, t.tgname)
    WHERE t.tgenabled <> 'O'
    UNION ALL
    SELECT 3, phi.plan_comment('pg_trigger', t.oid, t.named)
    UNION ALL
    SELECT 4, phi.extension_steps('pg_trigger', t.oid, t.named)) s
  WHERE s.statement IS NOT NULL ORDER BY s.n;
END;
REVOKE EXECUTE ON FUNCTION phi.trigger_steps(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.trigger_steps(oid) IS 'Statements that make a trigger again; internal';

CREATE FUNCTION phi.rule_steps(rule oid) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement FROM pg_rewrite r, LATERAL (VALUES
    (1, rtrim(pg_get_ruledef(r.oid), ';')),
    (2, CASE WHEN r.ev_enabled <> 'O' THEN format('ALTER TABLE %s %s RULE %I', r.ev_class::regclass,
          CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, r.rulename) END),
    (3, phi.plan_comment('pg_rewrite', r.oid, format('RULE %I ON %s', r.rulename, r.ev_class::regclass)))) s(n, statement)
  WHERE r.oid = rule AND s.statement IS NOT NULL ORDER BY s.n;
END;
REVOKE EXECUTE ON FUNCTION phi.rule_steps(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.rule_steps(oid) IS 'Statements that make a rule again; internal';

CREATE FUNCTION phi.policy_steps(policy oid) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement FROM pg_policy p, LATERAL (VALUES
    (1, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, p.polrelid::regclass,
               CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
               CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               (SELECT string_agg(CASE u.role WHEN 0 THEN 'PUBLIC' ELSE u.role::regrole::text END, ', ') FROM unnest(p.polroles) u(role)))
        || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
        || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')),
    (2, phi.plan_comment('pg_policy', p.oid, format('POLICY %I ON %s', p.polname, p.polrelid::regclass)))) s(n, statement)
  WHERE p.oid = policy AND s.statement IS NOT NULL ORDER BY s.n;
END;
REVOKE EXECUTE ON FUNCTION phi.policy_steps(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.policy_steps(oid) IS 'Statements that make a policy again; internal';

/* Statistics keep no encrypted values, so the columns leave them; with expressions they are refused altogether. */
CREATE FUNCTION phi.statistics_steps(statistics oid, columns phi.planned_column[]) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH s AS (
    SELECT s.*, format('%I.%I', n.nspname, s.stxname) AS named,
           ARRAY(SELECT quote_ident(a.attname) FROM unnest(s.stxkeys::smallint[]) WITH ORDINALITY k(attnum, n)
                 JOIN pg_attribute a ON a.attrelid = s.stxrelid AND a.attnum = k.attnum
                 WHERE k.attnum NOT IN (SELECT c.attnum FROM unnest(columns) c) ORDER BY k.n) AS kept
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.oid = statistics AND s.stxexprs IS NULL
  )
  SELECT x.statement FROM s, LATERAL (VALUES
    (1, format('CREATE STATISTICS %s (%s) ON %s FROM %s', s.named,
               (SELECT string_agg(CASE k WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies' ELSE 'mcv' END, ', ') FROM unnest(s.stxkind) k),
               array_to_string(s.kept, ', '), s.stxrelid::regclass)),
    (2, format('ALTER STATISTICS %s OWNER TO %s', s.named, s.stxowner::regrole)),
    (3, CASE WHEN s.stxstattarget >= 0 THEN format('ALTER STATISTICS %s SET STATISTICS %s', s.named, s.stxstattarget) END),
    (4, phi.plan_comment('pg_statistic_ext', s.oid, 'STATISTICS ' || s.named))) x(n, statement)
  WHERE cardinality(s.kept) > 1 AND x.statement IS NOT NULL ORDER BY x.n;
END;
REVOKE EXECUTE ON FUNCTION phi.statistics_steps(oid, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.statistics_steps(oid, phi.planned_column[]) IS
  'Statements that make extended statistics again without the columns; none when fewer than two columns are left; internal';

CREATE FUNCTION phi.publication_step(member oid) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('ALTER PUBLICATION %I ADD TABLE %s', p.pubname, m.prrelid::regclass)
         || coalesce((SELECT format(' (%s)', string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum))
                      FROM pg_attribute a WHERE a.attrelid = m.prrelid AND a.attnum = ANY (m.prattrs::smallint[])), '')
         || coalesce(' WHERE (' || pg_get_expr(m.prqual, m.prrelid) || ')', '')
  FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid WHERE m.oid = member;
END;
REVOKE EXECUTE ON FUNCTION phi.publication_step(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.publication_step(oid) IS 'Statement that puts a table into its publication again; internal';

CREATE FUNCTION phi.plan_dependants(relation regclass, columns phi.planned_column[], sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 110, 'before', t.tgname::text, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass), NULL
  FROM pg_trigger t WHERE t.oid IN (SELECT phi.dependants(relation, columns, 'pg_trigger')) AND NOT t.tgisinternal
  UNION ALL
  SELECT 340, 'after', t.tgname::text, s, NULL
  FROM pg_trigger t, phi.trigger_steps(t.oid) s
  WHERE t.oid IN (SELECT phi.dependants(relation, columns, 'pg_trigger')) AND NOT t.tgisinternal
  UNION ALL
  SELECT 112, 'before', p.polname::text, format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass), NULL
  FROM pg_policy p WHERE p.oid IN (SELECT phi.dependants(relation, columns, 'pg_policy'))
  UNION ALL
  SELECT 390, 'after', p.polname::text, s, NULL
  FROM pg_policy p, phi.policy_steps(p.oid) s WHERE p.oid IN (SELECT phi.dependants(relation, columns, 'pg_policy'))
  UNION ALL
  SELECT 41, 'note', p.polname::text, NULL, 'the policy decrypts: it fails where no clinic is open'
  FROM pg_policy p WHERE p.oid IN (SELECT phi.dependants(relation, columns, 'pg_policy')) AND sealing
  UNION ALL
  SELECT 180, 'before', s.stxname::text, format('DROP STATISTICS %s.%I', s.stxnamespace::regnamespace, s.stxname), NULL
  FROM pg_statistic_ext s WHERE s.stxrelid = relation
    AND (s.stxkeys::smallint[] && ARRAY(SELECT c.attnum FROM unnest(columns) c) OR s.stxexprs IS NOT NULL AND sealing)
  UNION ALL
  SELECT 42, 'note', s.stxname::text, NULL,
         CASE WHEN s.stxexprs IS NULL THEN format('extended statistics lose the columns: %s', pg_get_statisticsobjdef(s.oid))
              ELSE format('extended statistics with expressions are dropped: %s', pg_get_statisticsobjdef(s.oid)) END
  FROM pg_statistic_ext s WHERE s.stxrelid = relation
    AND (s.stxkeys::smallint[] && ARRAY(SELECT c.attnum FROM unnest(columns) c) OR s.stxexprs IS NOT NULL AND sealing)
  UNION ALL
  SELECT 330, 'after', s.stxname::text, x, NULL
  FROM pg_statistic_ext s, phi.statistics_steps(s.oid, columns) x
  WHERE s.stxrelid = relation AND s.stxkeys::smallint[] && ARRAY(SELECT c.attnum FROM unnest(columns) c)
  UNION ALL
  SELECT 150, 'before', p.pubname::text, format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, relation), NULL
  FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
  WHERE m.oid IN (SELECT phi.dependants(relation, columns, 'pg_publication_rel')) AND NOT phi.columns_within(m.prqual) && ARRAY(SELECT c.attnum FROM unnest(columns) c)
  UNION ALL
  SELECT 395, 'after', p.pubname::text, phi.publication_step(m.oid), NULL
  FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
  WHERE m.oid IN (SELECT phi.dependants(relation, columns, 'pg_publication_rel')) AND NOT phi.columns_within(m.prqual) && ARRAY(SELECT c.attnum FROM unnest(columns) c);
END;
REVOKE EXECUTE ON FUNCTION phi.plan_dependants(regclass, phi.planned_column[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_dependants(regclass, phi.planned_column[], boolean) IS
  'Steps for triggers, policies, statistics and publications on the columns; internal';

CREATE FUNCTION phi.plan_obstacles(relation regclass, columns phi.planned_column[]) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 43, 'problem', p.pubname::text, format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, relation), format('publication %I filters rows by the column', p.pubname)
  FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
  WHERE m.prrelid = relation AND phi.columns_within(m.prqual) && ARRAY(SELECT c.attnum FROM unnest(columns) c)
  UNION ALL
  SELECT 44, 'note', p.pubname::text, NULL, 'subscribers keep what they have, and get later changes in the new type: convert their table also'
  FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON (c.relnamespace, c.relname) = (n.oid, p.tablename)
  WHERE c.oid = relation
  UNION ALL
  SELECT 45, 'problem', a.attname::text, format('ALTER TABLE %s DROP COLUMN %I', relation, a.attname),
         format('generated column %I is made of the column and would keep its plaintext', a.attname)
  FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  WHERE d.oid IN (SELECT phi.dependants(relation, columns, 'pg_attrdef')) AND a.attgenerated <> ''
  UNION ALL
  SELECT 46, 'problem', p.oid::regprocedure::text, format('DROP %s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure),
         'its body, parsed when it was made, uses the column: drop it, and make it again afterwards'
  FROM pg_proc p WHERE p.oid IN (SELECT phi.dependants(relation, columns, 'pg_proc'))
  UNION ALL
  SELECT 47, 'problem', o.identity, NULL, format('%s uses the column', pg_describe_object(d.classid, d.objid, d.objsubid))
  FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid IN (SELECT c.attnum FROM unnest(columns) c)
    AND d.classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_rewrite'::regclass, 'pg_trigger'::regclass,
                          'pg_policy'::regclass, 'pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass, 'pg_proc'::regclass)
  UNION ALL
  SELECT 48, 'problem', o.identity, NULL, format('%s is made of rows of the table', pg_describe_object(d.classid, d.objid, d.objsubid))
  FROM pg_class r JOIN pg_type t ON t.oid = r.reltype
  JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray), pg_identify_object(d.classid, d.objid, d.objsubid) o
  WHERE r.oid = relation AND (d.classid = 'pg_class'::regclass AND d.objsubid > 0 AND (SELECT c.relkind FROM pg_class c WHERE c.oid = d.objid) <> 'v'
                              OR d.classid = 'pg_type'::regclass AND d.objid <> t.typarray);
END;
REVOKE EXECUTE ON FUNCTION phi.plan_obstacles(regclass, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_obstacles(regclass, phi.planned_column[]) IS
  'What uses the columns and is not made again by the plan; internal';
