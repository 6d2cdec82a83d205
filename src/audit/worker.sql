CREATE FUNCTION phi.is_secret_setting(name text) RETURNS boolean
  AS 'MODULE_PATHNAME', 'phi_is_secret_setting' LANGUAGE C STABLE STRICT PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION phi.is_secret_setting(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.is_secret_setting(text) IS 'Whether only superusers may see a setting; internal';

CREATE FUNCTION phi.audit_settings(replication_role text) RETURNS jsonb
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  /* Those by which the protection stands, or plaintext reaches a log. */
  SELECT jsonb_object_agg(s.name, CASE
    WHEN s.name = 'session_replication_role' THEN to_jsonb(replication_role)
    WHEN phi.is_secret_setting(s.name) THEN jsonb_build_object('sha256', encode(sha256(convert_to(s.setting, 'UTF8')), 'hex'))
    ELSE to_jsonb(current_setting(s.name)) END)
  FROM pg_settings s
  WHERE s.name LIKE 'phi.%' AND s.name <> 'phi.clinic' OR s.name IN (
    'allow_system_table_mods', 'event_triggers', 'fsync', 'full_page_writes', 'hba_file', 'listen_addresses',
    'local_preload_libraries', 'log_duration', 'log_min_duration_sample', 'log_min_duration_statement', 'log_min_error_statement',
    'log_parameter_max_length', 'log_parameter_max_length_on_error', 'log_statement', 'log_statement_sample_rate',
    'log_transaction_sample_rate', 'password_encryption', 'row_security', 'session_preload_libraries',
    'session_replication_role', 'shared_preload_libraries', 'ssl');
END;
REVOKE EXECUTE ON FUNCTION phi.audit_settings(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.audit_settings(text) IS
  'Settings that are watched, as a new process has them; of those that only superusers may see a hash; internal to the worker';

CREATE FUNCTION phi.changed_settings(replication_role text) RETURNS SETOF text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH s AS (SELECT name, o.value AS before, n.value AS after
    FROM jsonb_each((SELECT settings FROM phi.audit_state)) o (name, value)
    FULL JOIN jsonb_each(phi.audit_settings(replication_role)) n (name, value) USING (name)
    /* The first look has nothing to compare with. */
    WHERE (SELECT settings IS NOT NULL FROM phi.audit_state))
  SELECT name || CASE WHEN 'object' IN (jsonb_typeof(before), jsonb_typeof(after)) THEN ': changed'
    ELSE format(': %s -> %s', coalesce(before #>> '{}', 'none'), coalesce(after #>> '{}', 'none')) END
  FROM s WHERE before IS DISTINCT FROM after ORDER BY name;
END;
REVOKE EXECUTE ON FUNCTION phi.changed_settings(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.changed_settings(text) IS
  'Watched settings that are not as recorded last, with both values unless only superusers may see them; internal to the worker';
