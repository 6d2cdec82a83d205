/* Names are anybody's: none may look like a line of the report. */
CREATE FUNCTION phi.plain(text) RETURNS text
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN regexp_replace($1, '[\u0001-\u001F\u007F-\u009F\u200E\u200F\u2028-\u202E\u2066-\u2069]', '?', 'g');
REVOKE EXECUTE ON FUNCTION phi.plain(text) FROM PUBLIC;
COMMENT ON FUNCTION phi.plain(text) IS 'A text with a question mark for each character that ends a line or turns its direction; internal';

CREATE FUNCTION phi.report_events(r phi.compromise_report) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT string_agg(format('  %s  %s', phi.utc(line.at), phi.plain(line.what)), E'\n' ORDER BY line.at, line.what)
  FROM (
    SELECT r.opened_at AS at, format('report opened by %s (login %s)', r.opened_by, r.login) AS what
    UNION ALL
    /* Of thousands of keys, how many. */
    SELECT max(e.at), CASE WHEN count(*) = 1 THEN format('key %s: %s by %s', min(e.key_id), e.to_state, e.actor)
                           ELSE format('%s keys: %s by %s', count(*), e.to_state, e.actor) END
    FROM phi.key_event e WHERE e.key_id IN (SELECT unnest(r.keys)) AND e.at >= r.opened_at GROUP BY e.to_state, e.actor
    UNION ALL
    SELECT max(e.at), CASE WHEN count(*) = 1 THEN format('key %s: made in its place, by %s', min(e.key_id), e.actor)
                           ELSE format('%s keys: made in their place, by %s', count(*), e.actor) END
    FROM phi.key_event e
    WHERE e.from_state IS NULL AND e.at >= r.opened_at AND NOT e.key_id = ANY (r.keys)
      AND e.reason = CASE WHEN r.master THEN 'master key ' ELSE '' END || 'compromised: ' || r.reason GROUP BY e.actor
    UNION ALL
    SELECT m.at, format('master key %s wraps %s keys in place of %s, by %s', m.to_key, m.keys,
                        array_to_string(m.from_keys, ', '), m.actor)
    FROM phi.master_key_event m WHERE r.master AND m.at >= r.opened_at
    UNION ALL
    SELECT j.started_at, phi.job_line(j.job) FROM phi.rekey_job j WHERE j.job = ANY (r.jobs || r.job)
    UNION ALL
    SELECT q.requested_at, format('request %s (%s) by %s%s', q.request_id, q.argument ->> 'step', q.requested_by,
                                  ', approved by ' || q.approved_by)
    FROM phi.request q WHERE q.action = 'respond_to_compromise' AND (q.argument ->> 'report')::int = r.report_id
    UNION ALL
    SELECT max(c.destroyed_at), format('certificates of destruction %s to %s, last hash %s', min(c.certificate_id),
             max(c.certificate_id), (SELECT encode(l.hash, 'hex') FROM phi.destruction_certificate l
                                     WHERE l.certificate_id = max(c.certificate_id)))
    FROM phi.destruction_certificate c WHERE c.certificate_id IN (SELECT unnest(r.certificates)) HAVING count(*) > 0
  ) line;
END;
REVOKE EXECUTE ON FUNCTION phi.report_events(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.report_events(phi.compromise_report) IS 'Who did what when, for a report; internal';

CREATE FUNCTION phi.report_failures(r phi.compromise_report) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT string_agg(phi.plain(format('  %s column %I row %s key %s: %s', f.relation, f.column, f.tid, f.key_id, f.error)),
                    E'\n' ORDER BY f.relation, f.tid)
  FROM (SELECT * FROM phi.rekey_failure x WHERE x.job = r.jobs[cardinality(r.jobs)] LIMIT 1000) f;
END;
REVOKE EXECUTE ON FUNCTION phi.report_failures(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.report_failures(phi.compromise_report) IS
  'Values that could not be re-encrypted, at most 1000, for a report; internal';

CREATE FUNCTION phi.report_dead_rows(r phi.compromise_report) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  /* A dropped column keeps its values in every row until the table is rewritten. */
  SELECT string_agg(phi.plain(format(CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attisdropped)
                             THEN '    VACUUM FULL %s;' ELSE '    VACUUM %s;' END, c.oid::regclass)), E'\n' ORDER BY c.oid)
  FROM pg_class c
  WHERE c.oid = 'phi.data_key'::regclass AND c.relkind = 'r'
     OR c.oid IN (SELECT (p ->> 'oid')::oid FROM jsonb_array_elements(r.exposed -> 'places') p);
END;
REVOKE EXECUTE ON FUNCTION phi.report_dead_rows(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.report_dead_rows(phi.compromise_report) IS
  'Commands that remove the dead rows of the tables that were exposed, for a report; internal';

CREATE FUNCTION phi.report_copies() RETURNS text
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT concat_ws(E'\n',
    format('- Base backups and WAL from before %s (WAL location %s, file %s). Make a new base backup, then remove the older ones and their WAL:',
           phi.utc(clock_timestamp()), pg_current_wal_lsn(), pg_walfile_name(pg_current_wal_lsn())),
    '    pg_basebackup --pgdata=NEW_BACKUP --checkpoint=fast',
    format('    pg_archivecleanup ARCHIVE %s', pg_walfile_name(pg_current_wal_lsn())),
    phi.plain(format('  Archiving: archive_mode = %s, archive_command = %s', current_setting('archive_mode'),
           coalesce(nullif(current_setting('archive_command'), ''), '(none)'))),
    '- Dumps made with pg_dump before: delete them, make new ones.',
    (SELECT format('- Standbys that have not replayed it: %s.',
                   string_agg(phi.plain(format('%I (%s)', s.application_name, coalesce(s.replay_lsn::text, 'unknown'))), ', '))
     FROM pg_stat_replication s WHERE s.replay_lsn IS DISTINCT FROM pg_current_wal_lsn() HAVING count(*) > 0),
    (SELECT format('- Replication slots that keep old WAL: %s.',
                   string_agg(format('%s (%s)', s.slot_name, coalesce(s.restart_lsn::text, 'none')), ', '))
     FROM pg_replication_slots s HAVING count(*) > 0),
    (SELECT format('- Subscribers of %s have copies of their own: respond there too.', string_agg(phi.plain(quote_ident(p.pubname)), ', '))
     FROM pg_publication p HAVING count(*) > 0),
    (SELECT format('- Publishers of %s have the originals: respond there first.', string_agg(phi.plain(quote_ident(s.subname)), ', '))
     FROM pg_subscription s WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
     HAVING count(*) > 0));
END;
REVOKE EXECUTE ON FUNCTION phi.report_copies() FROM PUBLIC;
COMMENT ON FUNCTION phi.report_copies() IS
  'Where copies of old values and keys are that the database cannot reach, for a report; internal';

CREATE FUNCTION phi.report_master(r phi.compromise_report) RETURNS text
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN r.master THEN concat_ws(E'\n',
    format('- The old master key %s: remove it from the key provider of this server and of its standbys, and its copies, once phi.check_master_key() says in every database that it is not needed. Databases of this server: %s.',
           (SELECT phi.plain(array_to_string(m.from_keys, ', ')) FROM phi.master_key_event m WHERE m.at >= r.opened_at ORDER BY m.event_id LIMIT 1),
           (SELECT string_agg(phi.plain(quote_ident(d.datname)), ', ' ORDER BY d.datname) FROM pg_database d WHERE d.datallowconn)),
    '    SELECT * FROM phi.check_master_key();')
  ELSE concat_ws(E'\n',
    '- The key, wrapped, in those copies. A new master key makes it useless there, when the old one is removed everywhere:',
    '    SELECT phi.rotate_master_key();') END;
END;
REVOKE EXECUTE ON FUNCTION phi.report_master(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.report_master(phi.compromise_report) IS 'What becomes of the old master key, for a report; internal';

CREATE FUNCTION phi.report_exposed(r phi.compromise_report) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT concat_ws(E'\n',
    format('%s values, encrypted between %s and %s:', r.exposed ->> 'values',
           phi.utc((r.exposed ->> 'first_use')::timestamptz),
           coalesce(phi.utc((r.exposed ->> 'last_use')::timestamptz), 'now')),
    (SELECT string_agg(phi.plain(format('  %s column %I: %s', p ->> 'relation', p ->> 'column', p ->> 'values')), E'\n')
     FROM jsonb_array_elements(r.exposed -> 'places') p),
    (SELECT format('  equality of values in indexes, by 32 bits each: %s', string_agg(phi.plain(i), ', '))
     FROM jsonb_array_elements_text(r.exposed -> 'indexes') i HAVING count(*) > 0),
    (SELECT '  checkpoints of the audit log: those that were exported before the leak prove what was before, later ones of this key nothing'
     FROM phi.data_key k WHERE (r.master OR k.key_id = r.key_id) AND k.class = -3 AND k.state = 'compromised' LIMIT 1),
    (SELECT '  digests in the audit log: who guesses a whole row can see that he is right'
     FROM phi.data_key k WHERE (r.master OR k.key_id = r.key_id) AND k.class = -2 AND k.state = 'compromised' LIMIT 1));
END;
REVOKE EXECUTE ON FUNCTION phi.report_exposed(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.report_exposed(phi.compromise_report) IS 'What the compromised keys encrypted, for a report; internal';

CREATE FUNCTION phi.compromise_text(r phi.compromise_report) RETURNS text
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  failures text := phi.report_failures(r);
BEGIN
  RETURN concat_ws(E'\n',
    format('Report %s on a compromised %s', r.report_id,
           CASE WHEN r.master THEN format('master key, with %s keys that it wrapped', cardinality(r.keys))
                ELSE (SELECT format('key: %s, clinic %s, class %s, version %s', k.key_id, c.code,
                                    phi.class_name(k.class), k.version)
                      FROM phi.data_key k LEFT JOIN phi.clinic c USING (clinic_id) WHERE k.key_id = r.key_id) END),
    format('Database %s, %s', phi.plain(quote_ident(current_database())), phi.utc(clock_timestamp())),
    CASE WHEN r.closed_at IS NULL THEN 'open: ' || coalesce(phi.plain(r.problem), 'not all keys are destroyed') ELSE 'closed' END,
    'Reason: ' || phi.plain(r.reason), '',
    'What was exposed', phi.report_exposed(r), '',
    'What was done', phi.report_events(r), '',
    'Values that keep their key from being destroyed: restore or delete them' || E'\n' || failures || E'\n',
    'What remains, where the database cannot reach',
    '- Dead rows, until they are removed:', phi.report_dead_rows(r),
    phi.report_copies(), phi.report_master(r));
END $$;
REVOKE EXECUTE ON FUNCTION phi.compromise_text(phi.compromise_report) FROM PUBLIC;
COMMENT ON FUNCTION phi.compromise_text(phi.compromise_report) IS 'The text of a report; internal';
