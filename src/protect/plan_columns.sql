/*
 * What a conversion would do is worked out from the catalogues alone: no row is
 * read, but for one count, and no statement of the plan holds a value.
 */
CREATE TYPE phi.plan_step AS (rank int, phase text, object text, statement text, note text);
COMMENT ON TYPE phi.plan_step IS 'A row of phi.protect_plan() before the rows are put in order; internal';

CREATE TYPE phi.planned_column AS (
  attnum smallint, name name, old_type text, new_type text, encrypted regtype, problem text, notes text[]);
COMMENT ON TYPE phi.planned_column IS
  'A column to be converted: encrypted is the one of both types that is encrypted, problem is what is in the way; internal';

CREATE FUNCTION phi.conversions(OUT base regtype, OUT encrypted regtype, OUT automatic boolean, OUT note text) RETURNS SETOF record
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  VALUES ('text'::regtype, 'enctext'::regtype, true, NULL),
         ('varchar', 'enctext', true, NULL),
         ('bpchar', 'enctext', true, 'trailing blanks are not kept'),
         ('name', 'enctext', true, NULL),
         ('bytea', 'encbytea', true, NULL),
         ('jsonb', 'encjsonb', true, NULL),
         ('json', 'encjsonb', true, 'white space, the order of keys and repeated keys of json are not kept'),
         ('smallint', 'encbigint', true, 'the range becomes that of bigint'),
         ('integer', 'encbigint', true, 'the range becomes that of bigint'),
         ('bigint', 'encbigint', true, NULL),
         ('numeric', 'encnumeric', true, NULL),
         ('date', 'encdate', true, NULL),
         ('timestamptz', 'enctimestamptz', true, NULL),
         ('boolean', 'encboolean', true, NULL),
         ('timestamp', 'enctimestamptz', false, 'values are taken to be in the time zone that is set when the conversion starts'),
         ('real', 'encnumeric', false, 'values are rounded to 6 decimal digits'),
         ('double precision', 'encnumeric', false, 'values are rounded to 15 decimal digits');
END;
REVOKE EXECUTE ON FUNCTION phi.conversions() FROM PUBLIC;
COMMENT ON FUNCTION phi.conversions() IS
  'Which plain type becomes which encrypted type and back; automatic: also when no type is told; internal';

CREATE FUNCTION phi.base_type(type oid, modifier int, OUT base oid, OUT base_modifier int, OUT not_null boolean, OUT default_value text, OUT checked boolean)
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE chain (n, oid, typmod) AS (
    SELECT 0, type, modifier
    UNION ALL
    SELECT n + 1, t.typbasetype, t.typtypmod FROM chain c JOIN pg_type t ON t.oid = c.oid AND t.typtype = 'd'
  )
  SELECT (array_agg(c.oid ORDER BY c.n DESC))[1], (array_agg(c.typmod ORDER BY c.n DESC))[1],
         bool_or(t.typnotnull),
         (array_agg(pg_get_expr(t.typdefaultbin, 0) ORDER BY c.n) FILTER (WHERE t.typdefaultbin IS NOT NULL))[1],
         bool_or(EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = c.oid AND k.contype = 'c'))
  FROM chain c JOIN pg_type t ON t.oid = c.oid;
END;
REVOKE EXECUTE ON FUNCTION phi.base_type(oid, int) FROM PUBLIC;
COMMENT ON FUNCTION phi.base_type(oid, int) IS
  'What is below a domain: its type and type modifier, and the NOT NULL, default and checks that the domain adds; internal';

CREATE FUNCTION phi.column_notes(type oid, modifier int, collation_id oid, of_conversion text) RETURNS text[]
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT array_remove(ARRAY[
    of_conversion,
    CASE WHEN b.base_modifier >= 0 THEN format('the limit of %s is not kept: a CHECK constraint can keep it', format_type(b.base, b.base_modifier)) END,
    CASE WHEN b.base <> type AND b.checked THEN format('the checks of domain %s are not kept', format_type(type, -1)) END,
    CASE WHEN b.base <> type AND NOT coalesce(b.checked, false) THEN format('domain %s becomes its base type', format_type(type, -1)) END,
    (SELECT 'values are equal only when their bytes are, whatever the collation says' FROM pg_collation c
     WHERE c.oid = collation_id AND NOT c.collisdeterministic)], NULL)
  FROM phi.base_type(type, modifier) b;
END;
REVOKE EXECUTE ON FUNCTION phi.column_notes(oid, int, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.column_notes(oid, int, oid, text) IS 'What a column''s values lose when they are encrypted; internal';

CREATE FUNCTION phi.columns_to_seal(relation regclass, columns jsonb) RETURNS SETOF phi.planned_column
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT a.attnum, w.key::name, format_type(a.atttypid, a.atttypmod),
         format('pg_catalog.%s(%s)', c.encrypted, w.class), c.encrypted,
         CASE
           WHEN a.attnum IS NULL THEN 'the table has no such column'
           WHEN w.class IS NULL OR w.class NOT IN (SELECT phi.class_name(n::smallint) FROM generate_series(0, 4) n)
             THEN 'the data class must be general, identity, insurance, clinical or sensitive'
           WHEN phi.holds_encrypted(a.atttypid) THEN 'the column is encrypted already'
           WHEN a.attidentity <> '' THEN 'an identity column cannot be encrypted'
           WHEN a.attgenerated <> '' THEN 'a generated column cannot be encrypted'
           WHEN c.encrypted IS NOT NULL THEN NULL
           WHEN w.told IS NULL AND EXISTS (SELECT FROM phi.conversions() o WHERE o.base = b.base)
             THEN format('values of type %s are encrypted only as a type that is told: %s', format_type(a.atttypid, a.atttypmod),
                         (SELECT string_agg(jsonb_build_object(w.key, jsonb_build_object('class', w.class, 'type', o.encrypted))::text, ' or ')
                          FROM phi.conversions() o WHERE o.base = b.base))
           ELSE format('values of type %s cannot be encrypted as %s: convert the column to another type first',
                       format_type(a.atttypid, a.atttypmod), coalesce(w.told, 'any type'))
         END,
         phi.column_notes(a.atttypid, a.atttypmod, a.attcollation, c.note)
  FROM (SELECT e.key, e.value ->> 'type' AS told,
               CASE jsonb_typeof(e.value) WHEN 'string' THEN e.value #>> '{}' ELSE e.value ->> 'class' END AS class
        FROM jsonb_each(CASE jsonb_typeof(columns) WHEN 'object' THEN columns END) e) w
  LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = w.key AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN LATERAL phi.base_type(a.atttypid, a.atttypmod) b ON true
  LEFT JOIN phi.conversions() c ON c.base = b.base AND CASE WHEN w.told IS NULL THEN c.automatic ELSE c.encrypted::text = w.told END
  ORDER BY a.attnum, w.key;
END;
REVOKE EXECUTE ON FUNCTION phi.columns_to_seal(regclass, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.columns_to_seal(regclass, jsonb) IS
  'Columns that are to be encrypted, {"column": "class"} or {"column": {"class": "...", "type": "..."}}, and what becomes of each; internal';

/* Nothing of a type's name but a type's name can be in it. */
CREATE FUNCTION phi.told_type(told text) RETURNS regtype
  LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE WHEN told !~ '--|/\*' THEN to_regtype(told) END;
EXCEPTION WHEN syntax_error OR invalid_parameter_value OR feature_not_supported THEN
  RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION phi.told_type(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.told_type(text) IS
  'The type that a text names, with or without type modifier; NULL when it names none; internal';

CREATE FUNCTION phi.columns_to_open(relation regclass, columns name[], replacements jsonb) RETURNS SETOF phi.planned_column
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT a.attnum, w.name, format_type(a.atttypid, a.atttypmod), coalesce(w.told, c.base::text), c.encrypted,
         CASE
           WHEN a.attnum IS NULL THEN 'the table has no such column'
           WHEN c.encrypted IS NULL THEN 'the column is not encrypted'
           WHEN w.told IS NULL OR EXISTS (SELECT FROM phi.conversions() o
                                          WHERE o.encrypted = c.encrypted AND o.base = (SELECT t.base FROM phi.base_type(w.told_type, -1) t)) THEN NULL
           ELSE format('type %s cannot hold decrypted values of %s', w.told, c.encrypted)
         END,
         array_remove(ARRAY[CASE WHEN b.base <> a.atttypid THEN format('domain %s becomes its base type', format_type(a.atttypid, -1)) END], NULL)
  FROM (SELECT u.name, replacements -> u.name::text ->> 'type' AS told, phi.told_type(replacements -> u.name::text ->> 'type') AS told_type
        FROM unnest(columns) u(name)) w
  LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN LATERAL phi.base_type(a.atttypid, a.atttypmod) b ON true
  /* Each encrypted type's own base type comes first among those that become it. */
  LEFT JOIN (VALUES ('enctext'::regtype, 'text'::regtype), ('encbytea', 'bytea'), ('encjsonb', 'jsonb'), ('encbigint', 'bigint'),
                    ('encnumeric', 'numeric'), ('encdate', 'date'), ('enctimestamptz', 'timestamptz'), ('encboolean', 'boolean')) c(encrypted, base)
    ON c.encrypted = b.base
  ORDER BY a.attnum, w.name;
END;
REVOKE EXECUTE ON FUNCTION phi.columns_to_open(regclass, name[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.columns_to_open(regclass, name[], jsonb) IS
  'Columns that are to be plain again; a replacement {"column": {"type": "varchar(20)"}} tells the type; internal';

CREATE FUNCTION phi.plan_columns(relation regclass, columns phi.planned_column[]) RETURNS SETOF phi.plan_step
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH c AS (
    SELECT c.*, a.atthasdef, a.attcollation, a.attstorage, a.attcompression, b.not_null, d.adbin, t.typstorage, t.typcollation,
           coalesce(pg_get_expr(d.adbin, relation), b.default_value) AS default_value,
           format('ALTER TABLE %s ALTER COLUMN %I ', relation, c.name) AS prefix
    FROM unnest(columns) c JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = c.attnum JOIN pg_type t ON t.oid = a.atttypid
         CROSS JOIN LATERAL phi.base_type(a.atttypid, a.atttypmod) b
         LEFT JOIN pg_attrdef d ON d.adrelid = relation AND d.adnum = c.attnum
    WHERE c.problem IS NULL
  )
  SELECT 10, 'problem', x.name::text, NULL, x.problem FROM unnest(columns) x WHERE x.problem IS NOT NULL
  UNION ALL
  SELECT 11, 'note', x.name::text, NULL, format('%s becomes %s', x.old_type, x.new_type) FROM c x
  UNION ALL
  SELECT 12, 'note', x.name::text, NULL, n FROM c x, unnest(x.notes) n
  UNION ALL
  SELECT 200, 'alter', relation::text,
         format('ALTER TABLE %s ', relation) ||
         string_agg(CASE WHEN x.atthasdef THEN format('ALTER COLUMN %I DROP DEFAULT, ', x.name) ELSE '' END ||
                    format('ALTER COLUMN %I TYPE %s%s USING NULL', x.name, x.new_type,
                           CASE WHEN x.attcollation <> x.typcollation AND x.encrypted = 'enctext'::regtype
                             THEN ' COLLATE ' || x.attcollation::regcollation ELSE '' END), ', ' ORDER BY x.attnum)
         /* Here, for what it looks at may be code of the owner's, with whose rights this statement is run. */
         || coalesce(string_agg(format(', ALTER COLUMN %I SET NOT NULL', x.name), '' ORDER BY x.attnum) FILTER (WHERE x.not_null), ''), NULL
  FROM c x HAVING count(*) > 0
  UNION ALL
  SELECT 300, 'after', x.name::text, x.prefix || s.part, s.note
  FROM c x, LATERAL (VALUES
    (x.default_value IS NOT NULL, 'SET DEFAULT ' || x.default_value,
     CASE WHEN x.adbin IS NULL THEN 'the default was the domain''s' END),
    (x.attstorage <> x.typstorage, 'SET STORAGE ' ||
     CASE x.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END, NULL),
    (x.attcompression <> '', 'SET COMPRESSION ' || CASE x.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END, NULL)) s(needed, part, note)
  WHERE s.needed;
END;
REVOKE EXECUTE ON FUNCTION phi.plan_columns(regclass, phi.planned_column[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.plan_columns(regclass, phi.planned_column[]) IS
  'Steps for the columns themselves, with what ALTER COLUMN TYPE does not keep: default, storage, compression; internal';
