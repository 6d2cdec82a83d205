/*
 * Granted to everybody, for it does nothing that its caller could not do. By
 * GRANT alone, what others than the owner granted would become the owner's; a
 * superuser writes the catalogue, after GRANT has noted the roles elsewhere.
 */
CREATE FUNCTION phi.restore_grants(relation regclass, grants aclitem[], column_grants jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = relation);
  wanted aclitem[] := CASE WHEN grants IS NULL THEN acldefault('r', owner) WHEN cardinality(grants) > 0 THEN grants END;
  item record;
BEGIN
  /* GRANT only warns. */
  IF pg_has_role(owner, 'USAGE') IS NOT TRUE THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of %s', relation);
  END IF;
  FOR item IN
    SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
    FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', owner))) a WHERE c.oid = relation
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', relation, item.grantee);
  END LOOP;
  FOR item IN
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee, a.privilege_type, a.attname,
           bool_or(a.is_grantable) AND a.grantee <> owner AS is_grantable
    FROM (SELECT x.*, NULL AS attname FROM aclexplode(wanted) x
          UNION ALL SELECT x.*, c.key FROM jsonb_each_text(column_grants) c, aclexplode(c.value::aclitem[]) x) a
    GROUP BY a.grantee, a.privilege_type, a.attname
  LOOP
    EXECUTE format('GRANT %s%s ON %s TO %s%s', item.privilege_type, ' (' || quote_ident(item.attname) || ')', relation, item.grantee,
                   CASE WHEN item.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
  END LOOP;
  IF (SELECT u.rolsuper FROM pg_roles u WHERE u.rolname = current_user) THEN
    UPDATE pg_class c SET relacl = grants WHERE c.oid = relation AND (grants IS NULL OR cardinality(grants) > 0);
    UPDATE pg_attribute a SET attacl = g.value::aclitem[] FROM jsonb_each_text(column_grants) g WHERE a.attrelid = relation AND a.attname = g.key;
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.restore_grants(regclass, aclitem[], jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phi.restore_grants(regclass, aclitem[], jsonb) TO PUBLIC;
COMMENT ON FUNCTION phi.restore_grants(regclass, aclitem[], jsonb) IS
  'Gives a view that was made again the grants it had and no others; when a superuser runs it, with their grantors; NULL: what its owner has by default. ERROR 42501 for who does not own it; internal';

/* Views on the columns and on those views, the deepest last. */
CREATE FUNCTION phi.planned_views(relation regclass, columns phi.planned_column[], OUT view oid, OUT depth int, OUT kind "char") RETURNS SETOF record
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE tree (view, depth) AS (
    SELECT r.ev_class, 1 FROM pg_rewrite r
    WHERE r.oid IN (SELECT phi.dependants(relation, columns, 'pg_rewrite')) AND r.ev_type = '1'
    UNION
    SELECT r.ev_class, t.depth + 1
    FROM tree t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.view AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_type = '1' AND r.ev_class <> t.view
  )
  SELECT t.view, max(t.depth), c.relkind FROM tree t JOIN pg_class c ON c.oid = t.view GROUP BY t.view, c.relkind;
END;
REVOKE EXECUTE ON FUNCTION phi.planned_views(regclass, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.planned_views(regclass, phi.planned_column[]) IS
  'Views that must be made again when the columns are converted, with how many stand below each; internal';

CREATE FUNCTION phi.planned_rules(relation regclass, columns phi.planned_column[]) RETURNS SETOF oid
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT r.oid FROM pg_rewrite r
  WHERE r.ev_type <> '1'
    AND (r.oid IN (SELECT phi.dependants(relation, columns, 'pg_rewrite'))
         OR r.ev_class IN (SELECT v.view FROM phi.planned_views(relation, columns) v)
         OR EXISTS (SELECT FROM pg_depend d JOIN phi.planned_views(relation, columns) v ON v.view = d.refobjid
                    WHERE d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid));
END;
REVOKE EXECUTE ON FUNCTION phi.planned_rules(regclass, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.planned_rules(regclass, phi.planned_column[]) IS
  'Rules that must be made again when the columns are converted: on them, and on or with views of theirs; internal';

CREATE FUNCTION phi.view_steps(view oid, told text) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement
  FROM (SELECT c.*, c.oid::regclass::text AS named FROM pg_class c WHERE c.oid = view) c, LATERAL (
    SELECT 1 AS n, 0 AS m, coalesce(rtrim(told, E'; \n\t'), format('CREATE VIEW %s%s AS%s%s', c.named, phi.relation_options(c.reloptions), E'\n', rtrim(pg_get_viewdef(view), ';'))) AS statement
    UNION ALL
    SELECT 2, d.adnum, format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', c.named, a.attname, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = view
    UNION ALL
    SELECT 3, 0, format('ALTER VIEW %s OWNER TO %s', c.named, c.relowner::regrole)
    UNION ALL
    SELECT 4, 0, format('SELECT phi.restore_grants(%L, %L, %L)', c.named, c.relacl,
      coalesce((SELECT jsonb_object_agg(a.attname, a.attacl::text) FROM pg_attribute a WHERE a.attrelid = view AND a.attacl IS NOT NULL), '{}'))
    UNION ALL
    SELECT 5, 0, phi.plan_comment('pg_class', view, 'VIEW ' || c.named)
    UNION ALL
    SELECT 6, a.attnum, format('COMMENT ON COLUMN %s.%I IS %L', c.named, a.attname, col_description(view, a.attnum))
    FROM pg_attribute a WHERE a.attrelid = view AND a.attnum > 0 AND col_description(view, a.attnum) IS NOT NULL
    UNION ALL
    SELECT 7, l.objsubid, format('SECURITY LABEL FOR %I ON %s IS %L', l.provider, CASE l.objsubid WHEN 0 THEN 'VIEW ' || c.named ELSE format('COLUMN %s.%I', c.named, a.attname) END, l.label)
    FROM pg_seclabel l LEFT JOIN pg_attribute a ON a.attrelid = view AND a.attnum = l.objsubid AND l.objsubid > 0
    WHERE l.classoid = 'pg_class'::regclass AND l.objoid = view
  ) s WHERE s.statement IS NOT NULL ORDER BY s.n, s.m;
END;
REVOKE EXECUTE ON FUNCTION phi.view_steps(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.view_steps(oid, text) IS
  'Statements that make a view again, or the one that was told, with what belongs to it but rules and triggers; internal';

CREATE FUNCTION phi.plan_view_problems(relation regclass, columns phi.planned_column[], replacements jsonb) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH v AS (
    SELECT v.*, v.view::regclass::text AS named, c.reltype, c.relpersistence, t.typarray,
           replacements ? v.view::regclass::text AS is_told, replacements ->> v.view::regclass::text AS told
    FROM phi.planned_views(relation, columns) v JOIN pg_class c ON c.oid = v.view JOIN pg_type t ON t.oid = c.reltype
  )
  SELECT 50, 'problem', v.named, 'DROP MATERIALIZED VIEW ' || v.named,
         format('materialized view %s holds a copy of the column: drop it. Told as replacements: %s drops it in the change', v.named, jsonb_build_object(v.named, NULL))
  FROM v WHERE v.kind = 'm' AND NOT v.is_told
  UNION ALL
  SELECT 51, 'problem', v.named, 'DROP VIEW ' || v.named, 'temporary views on the column must be gone: end the sessions that have them'
  FROM v WHERE v.relpersistence = 't'
  UNION ALL
  SELECT 52, 'problem', v.named, NULL, format('the replacement of %s must be one statement CREATE VIEW, or CREATE MATERIALIZED VIEW with its name', v.named)
  FROM v WHERE v.told IS NOT NULL AND rtrim(v.told, E'; \n\t') !~* '^\s*create\s+(materialized\s+)?view\s[^;]+$'
  UNION ALL
  SELECT 53, 'problem', v.named, NULL, format('%s uses %s', pg_describe_object(d.classid, d.objid, d.objsubid), v.named)
  FROM v JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.view
                          OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (v.reltype, v.typarray)
  LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
  LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
  WHERE d.classid <> 'pg_rewrite'::regclass AND d.deptype <> 'i'
    AND g.tgrelid IS DISTINCT FROM v.view AND f.adrelid IS DISTINCT FROM v.view
    AND (v.kind <> 'm' OR c.relkind IS DISTINCT FROM 'i' AND d.classid <> 'pg_statistic_ext'::regclass)
    AND NOT (d.classid = 'pg_class'::regclass AND d.objid = v.view)
  UNION ALL
  SELECT DISTINCT 53, 'problem', v.named, NULL, format('%s is on %s, which is to be dropped: tell what becomes of it also', v.named, b.named)
  FROM v JOIN pg_rewrite r ON r.ev_class = v.view AND r.ev_type = '1' JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  JOIN v b ON b.view = d.refobjid AND b.view <> v.view AND b.is_told AND b.told IS NULL
  WHERE NOT v.is_told
  UNION ALL
  SELECT 54, 'problem', v.named, NULL, format('%s belongs to extension %I', v.named, x.extname)
  FROM v JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = v.view AND d.deptype = 'e' JOIN pg_extension x ON x.oid = d.refobjid;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_view_problems(regclass, phi.planned_column[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_view_problems(regclass, phi.planned_column[], jsonb) IS
  'Views on the columns that cannot simply be made again; internal';

CREATE FUNCTION phi.plan_views(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH v AS (
    SELECT v.*, v.view::regclass::text AS named, c.relowner, replacements ? v.view::regclass::text AS is_told,
           nullif(replacements -> v.view::regclass::text, 'null') #>> '{}' AS told
    FROM phi.planned_views(relation, columns) v JOIN pg_class c ON c.oid = v.view
  ), r AS (
    SELECT r.oid, r.rulename, r.ev_class FROM phi.planned_rules(relation, columns) p(oid) JOIN pg_rewrite r ON r.oid = p.oid
    /* A view that is dropped for good takes its own with it. */
    WHERE NOT EXISTS (SELECT FROM v WHERE v.view = r.ev_class AND v.is_told AND v.told IS NULL)
  )
  SELECT s.* FROM phi.plan_view_problems(relation, columns, replacements) s
  UNION ALL
  SELECT 55, 'note', v.named, NULL, CASE WHEN v.is_told THEN format('%s, as told', CASE WHEN v.told IS NULL THEN 'dropped' ELSE 'replaced' END)
                                         ELSE 'made again, with owner, grants and comments' END
  FROM v WHERE v.kind = 'v' OR v.is_told
  UNION ALL
  SELECT 56, 'note', v.named, NULL, 'its owner is a superuser, for whom row security does not count: set security_invoker, or give it another owner'
  FROM v JOIN pg_roles o ON o.oid = v.relowner JOIN pg_class c ON c.oid = v.view
  WHERE sealing AND v.kind = 'v' AND (o.rolsuper OR o.rolbypassrls) AND NOT v.is_told
    AND NOT coalesce(c.reloptions::text ~* 'security_invoker=(on|true|yes|1)', false)
  UNION ALL
  SELECT 101, 'before', r.rulename::text, format('DROP RULE %I ON %s', r.rulename, r.ev_class::regclass), NULL FROM r
  UNION ALL
  SELECT 149 - least(v.depth, 30), 'before', v.named, format('DROP %sVIEW %s', CASE v.kind WHEN 'm' THEN 'MATERIALIZED ' ELSE '' END, v.named), NULL FROM v
  UNION ALL
  SELECT 350 + least(v.depth, 30), 'after', v.named, s, CASE WHEN v.told IS NOT NULL THEN 'as told' END
  FROM v, phi.view_steps(v.view, v.told) s WHERE v.kind = 'v' AND NOT (v.is_told AND v.told IS NULL)
  UNION ALL
  SELECT 350 + least(v.depth, 30), 'after', v.named, rtrim(v.told, E'; \n\t'), 'as told' FROM v WHERE v.kind = 'm' AND v.told IS NOT NULL
  UNION ALL
  SELECT 385, 'after', r.rulename::text, s, NULL FROM r, phi.rule_steps(r.oid) s
  UNION ALL
  SELECT 386, 'after', t.tgname::text, s, NULL
  FROM v JOIN pg_trigger t ON t.tgrelid = v.view AND NOT t.tgisinternal, phi.trigger_steps(t.oid) s WHERE NOT (v.is_told AND v.told IS NULL);
END;
REVOKE EXECUTE ON FUNCTION phi.plan_views(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_views(regclass, phi.planned_column[], jsonb, boolean) IS
  'Steps for views and rules on the columns; internal';
