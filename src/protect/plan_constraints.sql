/* Each index of the table: whether the columns are in it, and what replaces it. */
CREATE FUNCTION phi.planned_indexes(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean,
  OUT index oid, OUT name name, OUT new_name text, OUT constraint_id oid, OUT kind "char", OUT is_told boolean,
  OUT touched boolean, OUT problem text, OUT statement text) RETURNS SETOF record
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH found AS (
    SELECT i.indexrelid, r.relname, k.oid AS constraint_id, k.contype, i.indisvalid, k.condeferrable, m.amname,
           replacements ? r.relname::text AND coalesce(jsonb_typeof(replacements -> r.relname::text) IN ('string', 'null'), false) AS is_told,
           replacements ->> r.relname::text AS told,
           (i.indkey::smallint[])[0:i.indnkeyatts - 1] && c.numbers AS in_keys,
           (i.indkey::smallint[])[i.indnkeyatts:i.indnatts - 1] && c.numbers AS in_rest,
           phi.columns_within(i.indexprs) && (0::smallint || c.numbers)
             OR phi.columns_within(i.indpred) && (0::smallint || c.numbers) AND NOT coalesce(pg_get_expr(i.indpred, i.indrelid) IN
                (SELECT format('(%I IS %sNULL)', x.name, n) FROM unnest(columns) x, unnest(ARRAY['', 'NOT ']) n), false) AS in_expression,
           phi.columns_within(i.indpred) && c.numbers AS in_predicate,
           EXISTS (SELECT FROM unnest(k.conexclop) WITH ORDINALITY o(op, n) JOIN pg_operator p ON p.oid = o.op
                   WHERE i.indkey[o.n - 1] = ANY (c.numbers) AND p.oprname <> '=') AS not_by_equality
    FROM (SELECT ARRAY(SELECT x.attnum FROM unnest(columns) x)) c(numbers), pg_index i
    JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_am m ON m.oid = r.relam
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = relation
  ), judged AS (
    SELECT f.*, in_keys OR in_expression OR in_predicate AS is_touched, phi.told_index(f.told) AS as_told,
      CASE
        WHEN NOT f.indisvalid THEN format('index %I is not valid: rebuild or drop it first', f.relname)
        WHEN NOT (in_keys OR in_rest OR in_expression OR in_predicate) THEN NULL
        WHEN f.contype = 'p' AND in_keys THEN format('the primary key %I holds the column: the table needs one of other columns', f.relname)
        WHEN f.is_told AND f.told IS NOT NULL AND phi.told_index(f.told) IS NULL THEN format('the replacement of %I is not one CREATE INDEX statement of a named index', f.relname)
        WHEN f.is_told THEN NULL
        WHEN NOT (in_keys OR in_expression OR in_predicate) THEN
          (SELECT format('index %I holds values of the column, and foreign keys refer to it: drop %s first', f.relname, string_agg(format('%I of %s', k.conname, k.conrelid::regclass), ', '))
           FROM pg_constraint k WHERE k.contype = 'f' AND k.conindid = f.indexrelid HAVING count(*) > 0)
        WHEN in_expression THEN format('index %I has an expression or condition on the column', f.relname)
        WHEN NOT sealing THEN NULL
        WHEN f.contype = 'x' AND (f.amname <> 'hash' OR not_by_equality) THEN format('exclusion constraint %I does not compare by equality alone: EXCLUDE USING hash (column WITH =) can be kept', f.relname)
        WHEN f.amname NOT IN ('btree', 'hash') THEN format('index %I is of access method %s, which encrypted columns cannot have', f.relname, f.amname)
        WHEN f.contype = 'u' AND f.condeferrable THEN format('unique constraint %I is deferrable, which the unique index that replaces it cannot be', f.relname)
      END AS problem
    FROM found f
  )
  SELECT j.indexrelid, j.relname, CASE WHEN j.is_told AND j.is_touched THEN j.as_told[1] ELSE quote_ident(j.relname) END,
         j.constraint_id, j.contype, j.is_told AND j.is_touched, j.is_touched, j.problem,
         CASE WHEN j.is_told AND j.is_touched THEN j.as_told[2] ELSE phi.index_statement(j.indexrelid, columns, sealing) END
  FROM judged j ORDER BY j.relname;
END;
REVOKE EXECUTE ON FUNCTION phi.planned_indexes(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.planned_indexes(regclass, phi.planned_column[], jsonb, boolean) IS
  'The indexes of a table, which the columns touch, and the statement that makes each when they are converted; internal';

/* What CREATE INDEX does not say, for an index that is made again under its name. */
CREATE FUNCTION phi.plan_index_marks(relation regclass, index oid, method name) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement
  FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_namespace n ON n.oid = r.relnamespace
  LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid,
  LATERAL (
    SELECT coalesce(phi.plan_comment('pg_class', index, format('INDEX %I.%I', n.nspname, r.relname)),
                    CASE WHEN k.contype = 'u' THEN phi.plan_comment('pg_constraint', k.oid, format('INDEX %I.%I', n.nspname, r.relname)) END) AS statement
    UNION ALL
    SELECT phi.plan_comment('pg_constraint', k.oid, format('CONSTRAINT %I ON %s', k.conname, relation)) WHERE k.contype = 'x'
    UNION ALL
    SELECT format('ALTER INDEX %I.%I SET TABLESPACE %I', n.nspname, r.relname, t.spcname)
    FROM pg_tablespace t WHERE t.oid = r.reltablespace AND k.contype = 'x'
    UNION ALL
    SELECT format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname, r.relname, a.attnum, a.attstattarget)
    FROM pg_attribute a WHERE a.attrelid = index AND a.attstattarget >= 0
    UNION ALL
    SELECT phi.extension_steps('pg_class', index, format('INDEX %I.%I', n.nspname, r.relname))
    UNION ALL
    SELECT format('ALTER TABLE %s CLUSTER ON %I', relation, r.relname) WHERE i.indisclustered AND method <> 'hash'
    UNION ALL
    SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', relation, r.relname) WHERE i.indisreplident
  ) s
  WHERE i.indexrelid = index AND s.statement IS NOT NULL;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_index_marks(regclass, oid, name) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_index_marks(regclass, oid, name) IS
  'Statements for what else belongs to an index: comments, statistics targets, CLUSTER mark, replica identity; internal';

CREATE FUNCTION phi.plan_index_notes(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 20, 'problem', i.name::text,
         CASE WHEN i.kind = 'p' THEN NULL
              WHEN i.constraint_id IS NOT NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I', relation, i.name)
              ELSE format('DROP INDEX %s', i.index::regclass) END,
         i.problem || CASE WHEN i.touched AND i.kind IS DISTINCT FROM 'p' AND NOT i.is_told THEN
           format('. Told as replacements: %s drops it', jsonb_build_object(i.name, NULL)) ||
           coalesce((SELECT format(', %s replaces it', jsonb_build_object(i.name, format('CREATE INDEX %I ON %s USING hash (%I)', i.name, relation, c.name)))
                     FROM unnest(columns) c WHERE c.attnum = ANY (phi.columns_within(x.indexprs) || phi.columns_within(x.indpred) || x.indkey::smallint[])
                     ORDER BY c.attnum LIMIT 1), '') ELSE '' END
  FROM phi.planned_indexes(relation, columns, replacements, sealing) i JOIN pg_index x ON x.indexrelid = i.index WHERE i.problem IS NOT NULL
  UNION ALL
  SELECT 21, 'note', i.name::text, NULL, n
  FROM phi.planned_indexes(relation, columns, replacements, sealing) i JOIN pg_index x ON x.indexrelid = i.index
  JOIN pg_class r ON r.oid = i.index JOIN pg_am m ON m.oid = r.relam,
  LATERAL (VALUES
    (CASE WHEN i.is_told AND i.statement IS NULL THEN format('dropped, as told: %s', pg_get_indexdef(i.index))
          WHEN i.is_told THEN format('replaced, as told: %s', pg_get_indexdef(i.index))
          WHEN i.kind = 'u' AND sealing THEN 'the unique constraint becomes a unique index: ON CONFLICT (columns) finds it, ON CONFLICT ON CONSTRAINT does not'
          WHEN i.touched AND i.kind IS DISTINCT FROM 'x' THEN format('was: %s', pg_get_indexdef(i.index)) END),
    (CASE WHEN i.touched AND NOT i.is_told AND NOT sealing AND i.constraint_id IS NULL AND m.amname = 'hash'
          THEN format('stays without order. Told as replacements: %s has one', jsonb_build_object(i.name, replace(pg_get_indexdef(i.index), ' USING hash ', ' USING btree '))) END),
    (CASE WHEN i.touched AND NOT i.is_told AND x.indisclustered AND phi.index_method(i.index, columns, sealing) = 'hash'
          THEN 'the mark of CLUSTER is gone: a hash index has no order' END),
    (CASE WHEN i.touched AND NOT i.is_told AND sealing AND m.amname = 'btree' THEN 'serves searches for equal values, not for ranges, prefixes or an order' END)) v(n)
  WHERE i.problem IS NULL AND n IS NOT NULL;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_index_notes(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_index_notes(regclass, phi.planned_column[], jsonb, boolean) IS
  'What is to be decided and known of a table''s indexes; internal';

CREATE FUNCTION phi.plan_indexes(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH i AS (
    SELECT * FROM phi.planned_indexes(relation, columns, replacements, sealing) p WHERE p.problem IS NULL
  )
  SELECT s.* FROM phi.plan_index_notes(relation, columns, replacements, sealing) s
  UNION ALL
  SELECT 90, 'index', (parse_ident(i.new_name))[1]::name::text, i.statement, NULL FROM i WHERE i.statement IS NOT NULL
  UNION ALL
  SELECT 170, 'before', i.name::text,
         CASE WHEN i.constraint_id IS NOT NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I', relation, i.name)
              ELSE format('DROP INDEX %s', i.index::regclass) END, NULL
  FROM i WHERE i.touched
  UNION ALL
  SELECT 310, 'after', (parse_ident(i.new_name))[1]::name::text,
         CASE WHEN i.kind = 'x' AND NOT i.is_told
                THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', relation, i.name, pg_get_constraintdef(i.constraint_id))
              ELSE format(i.statement, i.new_name, relation) END, NULL
  FROM i WHERE i.touched AND i.statement IS NOT NULL
  UNION ALL
  SELECT 311, 'after', i.name::text, m, NULL
  FROM i, phi.plan_index_marks(relation, i.index, phi.index_method(i.index, columns, sealing)) m
  WHERE i.touched AND NOT i.is_told;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_indexes(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_indexes(regclass, phi.planned_column[], jsonb, boolean) IS
  'Steps for a table''s indexes and the constraints that they carry; internal';

CREATE FUNCTION phi.plan_constraints(relation regclass, columns phi.planned_column[], replacements jsonb, sealing boolean) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH k AS (
    SELECT k.*, replacements ? k.conname::text AND k.contype = 'f' AS is_told, replacements ->> k.conname::text AS told,
           format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) AS dropping,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
             || CASE WHEN k.convalidated THEN ' NOT VALID' ELSE '' END AS adding
    FROM pg_constraint k, (SELECT ARRAY(SELECT x.attnum FROM unnest(columns) x)) c(numbers)
    WHERE k.conrelid = relation AND k.contype IN ('c', 'f') AND k.conkey && c.numbers
       OR k.confrelid = relation AND k.contype = 'f' AND k.confkey && c.numbers
  )
  SELECT 30, 'problem', k.conname::text, k.dropping,
         CASE WHEN k.is_told THEN format('the replacement of foreign key %I is not one ALTER TABLE statement', k.conname)
              ELSE format('foreign key %I: both of its ends must be encrypted. Told as replacements: %s drops it, %s adds it again',
                          k.conname, jsonb_build_object(k.conname, NULL), jsonb_build_object(k.conname, k.adding)) END
  FROM k WHERE k.contype = 'f' AND NOT coalesce(k.is_told AND (k.told IS NULL OR rtrim(k.told, E'; \n\t') ~* '^\s*alter\s+table\s[^;]+$'), false)
  UNION ALL
  SELECT 31, 'note', k.conname::text, NULL, n
  FROM k, LATERAL (VALUES
    (CASE WHEN k.is_told THEN format('dropped, as told: %s', pg_get_constraintdef(k.oid)) END),
    (CASE WHEN k.contype = 'c' AND sealing THEN 'evaluated where a clinic is open: writing a row without one fails' END),
    (CASE WHEN k.contype = 'c' AND NOT sealing THEN format('not checked for the rows that are there: ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname)
          WHEN k.contype = 'c' AND k.convalidated THEN 'becomes NOT VALID, as a restored dump cannot evaluate it; new rows are checked' END)) v(n)
  WHERE n IS NOT NULL
  UNION ALL
  SELECT CASE k.contype WHEN 'f' THEN 160 ELSE 165 END, 'before', k.conname::text, k.dropping, NULL FROM k
  UNION ALL
  SELECT 320, 'after', k.conname::text, k.adding, NULL FROM k WHERE k.contype = 'c'
  UNION ALL
  SELECT 321, 'after', k.conname::text, phi.plan_comment('pg_constraint', k.oid, format('CONSTRAINT %I ON %s', k.conname, relation)), NULL
  FROM k WHERE k.contype = 'c' AND phi.plan_comment('pg_constraint', k.oid, '') IS NOT NULL
  UNION ALL
  SELECT 325, 'after', k.conname::text, rtrim(k.told, E'; \n\t'), 'as told' FROM k WHERE k.is_told AND k.told IS NOT NULL;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_constraints(regclass, phi.planned_column[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_constraints(regclass, phi.planned_column[], jsonb, boolean) IS
  'Steps for CHECK constraints and foreign keys on the columns; internal';
