/* The extension encrypts UTF-8 text: portable bytes need one encoding. */
DO $$
BEGIN
  IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = pg_catalog.format('extension "pg_phi" needs a database in encoding UTF8, not %s',
                                  pg_catalog.getdatabaseencoding()),
      HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END $$;

/* Who owns the schema can rename it and put another in its place. */
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'phi'
             AND (n.nspowner <> current_user::regrole
                  OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid))) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_schema',
      MESSAGE = 'schema "phi" already exists',
      DETAIL = 'It belongs to another role, or is not empty.',
      HINT = 'Drop or rename it: the extension makes its own.';
  END IF;
END $$;

/* Group roles outlive the extension: other databases may use them. */
DO $$
DECLARE
  needed text;
BEGIN
  FOREACH needed IN ARRAY ARRAY['phi_custodian', 'phi_auditor'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = needed) THEN
      EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', needed);
    END IF;
  END LOOP;
END $$;

GRANT USAGE ON SCHEMA phi TO PUBLIC;
COMMENT ON SCHEMA phi IS 'Keys, clinics, grants and functions of the extension pg_phi; its types are in pg_catalog';
