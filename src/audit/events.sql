CREATE FUNCTION phi.audit_event() RETURNS trigger
  AS 'MODULE_PATHNAME', 'phi_audit_event' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION phi.audit_event() FROM PUBLIC;
COMMENT ON FUNCTION phi.audit_event() IS
  'Trigger of the extension''s own tables: records each row that is added, changed or removed, as JSON; its arguments are columns to leave out';

/*
 * Left out are wrapped keys, how far a job is, and texts that may quote a value:
 * errors, and what a plan read off the table; "worker:" is left out when the
 * audit worker changes it. Without its state the log is
 * closed: that is recorded before; while it is open there is no row to insert.
 */
DO $$
DECLARE
  told record;
BEGIN
  FOR told IN
    SELECT v.name, (SELECT string_agg(quote_literal(c), ', ') FROM unnest(string_to_array(v.left_out, ' ')) c) AS left_out
    FROM (VALUES
      ('clinic', ''),
      ('clinic_grant', ''),
      ('grant_event', ''),
      ('data_key', 'wrapped'),
      ('key_event', ''),
      ('master_key_event', ''),
      ('seal_event', ''),
      ('request', ''),
      ('destruction_certificate', ''),
      ('compromise_report', 'attempts rotated_to exposed problem report'),
      ('rekey_job', 'phase pass values_done error base_at base_rows base_blocks'),
      ('protect_job', 'columns replacements plan fingerprint trigger_row next_block blocks rows_copied changes_copied unknown snapshots tries waits_for error report worked_at base_at base_rows base_block phase shadow filenode key'),
      ('audit_retired', 'note'),
      ('audit_state', 'horizon size frontier first_id worker:exported worker:server_start worker:settings')
    ) v(name, left_out)
  LOOP
    EXECUTE format('CREATE TRIGGER audit_event %s ON phi.%I FOR EACH ROW EXECUTE FUNCTION phi.audit_event(%s)',
                   CASE told.name WHEN 'audit_state' THEN 'BEFORE UPDATE OR DELETE' ELSE 'AFTER INSERT OR UPDATE OR DELETE' END, told.name, told.left_out);
    EXECUTE format('CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON phi.%I FOR EACH STATEMENT EXECUTE FUNCTION phi.audit_event()', told.name);
    EXECUTE format('ALTER TABLE phi.%I ENABLE ALWAYS TRIGGER audit_event, ENABLE ALWAYS TRIGGER audit_truncate', told.name);
  END LOOP;
END $$;
