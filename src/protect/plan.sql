/*
 * Rows are read for this one count: with nothing of a user's that could run
 * meanwhile, and not while writers wait for a job to begin.
 */
CREATE FUNCTION phi.rows_of_no_clinic(relation regclass, clinic_column name) RETURNS bigint
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET constraint_exclusion = off SET row_security = off
AS $$
DECLARE
  result bigint;
BEGIN
  IF EXISTS (SELECT FROM pg_locks l WHERE l.relation = rows_of_no_clinic.relation::oid AND l.pid = pg_backend_pid() AND l.mode = 'ShareRowExclusiveLock') OR
     EXISTS (SELECT FROM pg_depend d
             WHERE (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = relation)
                    OR d.classid = 'pg_statistic_ext'::regclass AND d.objid IN (SELECT s.oid FROM pg_statistic_ext s WHERE s.stxrelid = relation))
               AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)) THEN
    RETURN NULL;
  END IF;
  EXECUTE format('SELECT count(*) FROM ONLY %s t WHERE NOT EXISTS (SELECT FROM phi.clinic c WHERE c.code = t.%I::text COLLATE "C")',
                 relation, clinic_column) INTO result;
  RETURN result;
END $$;
REVOKE EXECUTE ON FUNCTION phi.rows_of_no_clinic(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION phi.rows_of_no_clinic(regclass, name) IS
  'How many rows of a table name no clinic; NULL when planning the count could run functions of the table''s owner, or the session keeps writers from the table; reads the whole table; internal';

CREATE FUNCTION phi.plan_table(relation regclass, columns phi.planned_column[]) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 0, 'problem', relation::text, NULL, p.note
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam, LATERAL (VALUES
    (c.relkind NOT IN ('r', 'p'), format('%s is not a table', relation)),
    (c.relkind = 'p' OR c.relispartition, 'partitioned tables and partitions cannot be converted: convert a table that is no part of one, and attach it then'),
    (c.relkind = 'r' AND NOT c.relispartition AND EXISTS (SELECT FROM pg_inherits i WHERE relation IN (i.inhrelid, i.inhparent)),
     'tables that inherit or are inherited from cannot be converted'),
    (c.relkind = 'r' AND m.amname <> 'heap', format('tables of access method %s cannot be converted', m.amname)),
    (c.relpersistence = 't', 'temporary tables cannot be converted: only their session could'),
    (c.reloftype <> 0, 'the table is of a type, which its columns must have: ALTER TABLE ... NOT OF ends that'),
    (n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'phi')
     OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = relation AND d.deptype = 'e'),
     'the table belongs to the system or to an extension'),
    (EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid WHERE t.tgrelid = relation AND f.prosrc = 'phi_audit_change' AND t.tgnargs > 0),
     'a history of the table is kept, which would keep what is there now as it is: end it with phi.audit(), drop the history table, and begin another one afterwards'),
    (EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = relation), 'a subscription writes to the table, which has no clinic: drop it from the subscription'),
    (c.relkind = 'r' AND NOT EXISTS (
       SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
         AND NOT (i.indkey::smallint[])[0:i.indnkeyatts - 1] && ARRAY(SELECT x.attnum FROM unnest(columns) x WHERE x.problem IS NULL)
         AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND NOT a.attnotnull AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))),
     'the table needs a primary key, or a unique, immediate index, of other columns that are not null'),
    (coalesce(cardinality(columns), 0) = 0, 'no columns are told')) p(found, note)
  WHERE c.oid = relation AND p.found;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_table(regclass, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_table(regclass, phi.planned_column[]) IS
  'What keeps a table as a whole from being converted; internal';

CREATE FUNCTION phi.plan_clinic(relation regclass, clinic_column name, columns phi.planned_column[], isolate boolean) RETURNS SETOF phi.plan_step
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  type oid;
  n bigint;
BEGIN
  SELECT b.base INTO type FROM pg_attribute a, phi.base_type(a.atttypid, a.atttypmod) b
  WHERE a.attrelid = relation AND a.attname = clinic_column AND a.attnum > 0 AND NOT a.attisdropped;
  IF NOT FOUND THEN
    RETURN NEXT ROW(1, 'problem', clinic_column::text, NULL, 'the table has no such column to tell the clinic by')::phi.plan_step;
  ELSIF clinic_column IN (SELECT c.name FROM unnest(columns) c) THEN
    RETURN NEXT ROW(1, 'problem', clinic_column::text, NULL, 'the column that tells the clinic cannot be encrypted')::phi.plan_step;
  ELSIF type NOT IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'uuid'::regtype) THEN
    RETURN NEXT ROW(1, 'problem', clinic_column::text, NULL, 'the column that tells the clinic must be of a text, integer, numeric or uuid type')::phi.plan_step;
  ELSE
    BEGIN
      n := phi.rows_of_no_clinic(relation, clinic_column);
      IF n > 0 THEN
        RETURN NEXT ROW(2, 'problem', clinic_column::text, NULL, format('%s rows name no clinic that phi.create_clinic() has made', n))::phi.plan_step;
      ELSIF n IS NULL THEN
        RETURN NEXT ROW(2, 'note', clinic_column::text, NULL, 'rows that name no clinic were not counted: the job will find them')::phi.plan_step;
      END IF;
    EXCEPTION WHEN insufficient_privilege OR wrong_object_type THEN
      RETURN NEXT ROW(2, 'note', clinic_column::text, NULL, 'rows that name no clinic could not be counted: the job will find them')::phi.plan_step;
    END;
    IF isolate THEN
      RETURN NEXT ROW(400, 'late', relation::text, format('SELECT phi.isolate(%L, %L)', relation, clinic_column),
                      'only rows of the session''s clinic are shown and accepted')::phi.plan_step;
    END IF;
  END IF;
  RETURN NEXT ROW(3, 'note', relation::text, NULL, 'sessions need SET phi.clinic and a grant to read and write the columns: others see ciphertext')::phi.plan_step;
  RETURN NEXT ROW(3, 'note', relation::text, NULL, 'functions with bodies of text are not looked into: their parameters and variables of the columns'' types get decrypted values')::phi.plan_step;
END $$;
REVOKE EXECUTE ON FUNCTION phi.plan_clinic(regclass, name, phi.planned_column[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_clinic(regclass, name, phi.planned_column[], boolean) IS
  'What is to be decided and known about the clinics of a table''s rows; counts them; internal';

CREATE FUNCTION phi.plan_replacements(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  /* What is told in vain was probably meant for something: once the columns are known. */
  SELECT 5, 'problem', r.key, NULL, 'the replacement is of nothing that the columns touch: indexes and foreign keys are told by name, views by schema and name'
  FROM jsonb_object_keys(CASE jsonb_typeof(replacements) WHEN 'object' THEN replacements END) r(key)
  WHERE NOT EXISTS (SELECT FROM phi.planned_indexes(relation, columns, replacements, sealing) i WHERE i.name = r.key AND (i.touched OR i.problem IS NOT NULL))
    AND NOT EXISTS (SELECT FROM phi.planned_views(relation, columns) v WHERE v.view::regclass::text = r.key)
    AND NOT EXISTS (SELECT FROM pg_constraint k, (SELECT ARRAY(SELECT x.attnum FROM unnest(columns) x)) c(numbers)
                    WHERE k.contype = 'f' AND k.conname = r.key AND (k.conrelid = relation AND k.conkey && c.numbers OR k.confrelid = relation AND k.confkey && c.numbers))
    AND (sealing OR NOT EXISTS (SELECT FROM unnest(columns) c WHERE c.name = r.key AND jsonb_typeof(replacements -> r.key) = 'object'))
  UNION ALL
  SELECT 6, 'problem', r.key, NULL, 'a replacement must be a statement, or null to drop'
  FROM jsonb_each(CASE jsonb_typeof(replacements) WHEN 'object' THEN replacements END) r
  WHERE jsonb_typeof(r.value) NOT IN ('string', 'null') AND (sealing OR jsonb_typeof(r.value) <> 'object' OR NOT r.value ? 'type')
  UNION ALL
  SELECT 7, 'problem', 'replacements', NULL, 'replacements must be an object: {"index": "CREATE INDEX ...", "other index": null}'
  WHERE jsonb_typeof(replacements) <> 'object';
END;
REVOKE EXECUTE ON FUNCTION phi.plan_replacements(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_replacements(regclass, phi.planned_column[], jsonb, boolean) IS
  'What is wrong with the replacements as told; internal';

CREATE FUNCTION phi.calling_role() RETURNS oid
  AS 'MODULE_PATHNAME', 'phi_calling_role' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
REVOKE EXECUTE ON FUNCTION phi.calling_role() FROM PUBLIC;
COMMENT ON FUNCTION phi.calling_role() IS 'The role that called, SET ROLE counts, SECURITY DEFINER functions do not; internal';

/*
 * What an untrusted owner has put into definitions is run when these are parsed:
 * the checks of domains, of constants. So a superuser converts his table with no
 * more than the owner's rights.
 */
CREATE FUNCTION phi.acting_role(relation oid) RETURNS oid
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN o.rolsuper IS FALSE AND r.rolsuper THEN o.oid ELSE r.oid END
  FROM pg_roles r LEFT JOIN (pg_class c JOIN pg_roles o ON o.oid = c.relowner) ON c.oid = relation
  WHERE r.oid = phi.calling_role();
END;
REVOKE EXECUTE ON FUNCTION phi.acting_role(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.acting_role(oid) IS
  'With whose rights a table''s definition is changed: the caller''s, or the owner''s when a superuser calls who is not the owner''s equal; internal';

/*
 * A plan that its caller's rights do not suffice for would fail in its last
 * moments. Who is no superuser may replace nothing but indexes, so that it does
 * not matter with whose rights the rest is done.
 */
CREATE FUNCTION phi.plan_rights(relation regclass, columns phi.planned_column[], replacements jsonb) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH u AS (
    SELECT u.oid FROM pg_roles u
    WHERE u.oid = phi.acting_role(relation) AND NOT u.rolsuper
  ), o (owner, object) AS (
    SELECT c.relowner, c.oid::regclass::text FROM pg_class c
    WHERE c.oid = relation
       OR c.oid IN (SELECT v.view FROM phi.planned_views(relation, columns) v)
       OR c.oid IN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid IN (SELECT phi.planned_rules(relation, columns)))
       OR c.oid IN (SELECT p.polrelid FROM pg_policy p WHERE p.oid IN (SELECT phi.dependants(relation, columns, 'pg_policy')))
       OR c.oid IN (SELECT k.conrelid FROM pg_constraint k WHERE k.confrelid = relation AND k.confkey && ARRAY(SELECT x.attnum FROM unnest(columns) x))
    UNION ALL
    SELECT p.pubowner, quote_ident(p.pubname) FROM pg_publication p JOIN pg_publication_rel m ON m.prpubid = p.oid
    WHERE m.oid IN (SELECT phi.dependants(relation, columns, 'pg_publication_rel'))
    UNION ALL
    SELECT s.stxowner, s.stxname FROM pg_statistic_ext s WHERE s.stxrelid = relation
  )
  SELECT 8, 'problem', relation::text, format('GRANT CREATE ON SCHEMA %s TO %s', c.relnamespace::regnamespace, u.oid::regrole),
         format('its owner builds the indexes, and needs CREATE on schema %s for it', c.relnamespace::regnamespace)
  FROM u JOIN pg_class c ON c.oid = relation AND NOT has_schema_privilege(u.oid, c.relnamespace, 'CREATE')
  UNION ALL
  SELECT 8, 'problem', o.object, NULL, format('%s belongs to %s: the table must belong to a superuser to be converted with it', o.object, o.owner::regrole)
  FROM o JOIN u ON NOT pg_has_role(u.oid, o.owner, 'USAGE')
  UNION ALL
  SELECT DISTINCT 8, 'problem', c.oid::regclass::text, NULL, format('%s has grants that were not made by its owner: the table must belong to a superuser to be converted with it', c.oid::regclass)
  FROM u, phi.planned_views(relation, columns) v JOIN pg_class c ON c.oid = v.view,
       LATERAL (SELECT a.grantor FROM aclexplode(c.relacl) a
                UNION SELECT x.grantor FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = c.oid) g
  WHERE g.grantor <> c.relowner
  UNION ALL
  SELECT 9, 'problem', r.key, NULL, 'the table must belong to a superuser for this replacement: else indexes may be replaced, or things dropped'
  FROM jsonb_each(CASE jsonb_typeof(replacements) WHEN 'object' THEN replacements END) r, u
  WHERE jsonb_typeof(r.value) = 'string' AND phi.told_index(r.value #>> '{}') IS NULL;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_rights(regclass, phi.planned_column[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_rights(regclass, phi.planned_column[], jsonb) IS
  'What the caller, after SET ROLE, could not have done himself; internal';

CREATE FUNCTION phi.planned_steps(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH known AS (
    SELECT array_agg(c) AS columns FROM unnest(columns) c WHERE c.problem IS NULL
  )
  SELECT s.* FROM phi.plan_table(relation, columns) s
  UNION ALL SELECT s.* FROM phi.plan_columns(relation, columns) s
  UNION ALL SELECT s.* FROM phi.plan_replacements(relation, columns, replacements, sealing) s
  UNION ALL SELECT s.* FROM known k, phi.plan_rights(relation, k.columns, replacements) s
  UNION ALL SELECT s.* FROM known k, phi.plan_indexes(relation, k.columns, replacements, sealing) s
  UNION ALL SELECT s.* FROM known k, phi.plan_constraints(relation, k.columns, replacements, sealing) s
  UNION ALL SELECT s.* FROM known k, phi.plan_dependants(relation, k.columns, sealing) s
  UNION ALL SELECT s.* FROM known k, phi.plan_obstacles(relation, k.columns) s
  UNION ALL SELECT s.* FROM known k, phi.plan_views(relation, k.columns, replacements, sealing) s;
END;
REVOKE EXECUTE ON FUNCTION phi.planned_steps(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.planned_steps(regclass, phi.planned_column[], jsonb, boolean) IS
  'All steps of a conversion but those about clinics; internal';

CREATE FUNCTION phi.protect_plan(relation regclass, clinic_column name, columns jsonb, replacements jsonb DEFAULT '{}', isolate boolean DEFAULT true)
  RETURNS TABLE (step int, phase text, object text, statement text, note text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH c AS (
    SELECT array_agg(c ORDER BY c.attnum) AS columns FROM phi.columns_to_seal(relation, columns) c
  ), s AS (
    SELECT s.*, row_number() OVER () AS n
    FROM (SELECT p.* FROM c, phi.planned_steps(relation, c.columns, coalesce(replacements, '{}'), true) p
          UNION ALL SELECT p.* FROM c, phi.plan_clinic(relation, clinic_column, c.columns, isolate) p) s
  )
  SELECT row_number() OVER (ORDER BY o.place, s.rank, s.n)::int, s.phase, s.object, s.statement, s.note
  FROM s, array_position(ARRAY['problem', 'note', 'index', 'before', 'alter', 'after', 'late'], s.phase) o(place)
  ORDER BY 1;
END;
REVOKE EXECUTE ON FUNCTION phi.protect_plan(regclass, name, jsonb, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_plan(regclass, name, jsonb, jsonb, boolean) IS
  'What phi.protect() would do: problems to mend first, notes, and the statements that convert the table''s definition. Statements of phase index are for format(statement, index, table). Holds no values of rows, but reads the table to count those of no clinic';

CREATE FUNCTION phi.unprotect_plan(relation regclass, columns name[], replacements jsonb DEFAULT '{}')
  RETURNS TABLE (step int, phase text, object text, statement text, note text)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH c AS (
    SELECT array_agg(c ORDER BY c.attnum) AS columns FROM phi.columns_to_open(relation, columns, coalesce(replacements, '{}')) c
  ), s AS (
    SELECT p.*, row_number() OVER () AS n FROM c, phi.planned_steps(relation, c.columns, coalesce(replacements, '{}'), false) p
  )
  SELECT row_number() OVER (ORDER BY o.place, s.rank, s.n)::int, s.phase, s.object, s.statement, s.note
  FROM s, array_position(ARRAY['problem', 'note', 'index', 'before', 'alter', 'after', 'late'], s.phase) o(place)
  ORDER BY 1;
END;
REVOKE EXECUTE ON FUNCTION phi.unprotect_plan(regclass, name[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.unprotect_plan(regclass, name[], jsonb) IS
  'What phi.unprotect() would do, as phi.protect_plan() says it. A replacement {"column": {"type": "varchar(20)"}} tells the type that a column gets';
