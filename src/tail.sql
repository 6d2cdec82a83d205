/*
 * Who has the right to write all tables of the database (pg_write_all_data, or a
 * careless GRANT) would write grants, approvals and keys. So the tables ask.
 */
DO $$
DECLARE
  found regclass;
BEGIN
  FOR found IN
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'phi' AND c.relkind IN ('r', 'p') ORDER BY c.oid
  LOOP
    EXECUTE pg_catalog.format('CREATE TRIGGER only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION phi.only_owner()', found);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER only_owner', found);
  END LOOP;
END $$;
