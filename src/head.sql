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
