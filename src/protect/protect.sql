/*
 * The swap and what comes after it, and the procedures.
 */

CREATE FUNCTION phi.run_steps(work phi.protect_job, phases text[]) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  todo record;
  owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = work.relid);
  role oid;
BEGIN
  FOR todo IN SELECT * FROM phi.steps_of(work.plan, phases) s WHERE s.statement IS NOT NULL LOOP
    /*
     * A change of types has the table's constraints prepared, which may be anybody's
     * code; so may constants be. phi.isolate() is ours.
     */
    role := CASE todo.phase WHEN 'alter' THEN owner WHEN 'late' THEN current_user::regrole ELSE phi.acting_role(work.relid) END;
    PERFORM phi.run_command(todo.statement, role, todo.phase = 'alter' OR todo.phase <> 'late' AND role <> phi.calling_role());
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.run_steps(phi.protect_job, text[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.run_steps(phi.protect_job, text[]) IS
  'Runs the statements of a plan that are of these phases, as the caller, or as the table''s owner where expressions of his may be run; internal to phi.protect';

/* PostgreSQL does all that it knows how to do, on an empty table; then the files change hands. */
CREATE FUNCTION phi.swap_table(work phi.protect_job) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  pairs record;
BEGIN
  PERFORM phi.drop_protect_triggers(work.relid);
  PERFORM phi.empty_table(work.relid);
  PERFORM phi.run_steps(work, '{before,alter,after}');
  SELECT coalesce(array_agg(c.oid ORDER BY p.number), '{}') AS indexes,
         coalesce(array_agg(phi.shadow_index(work, p.number) ORDER BY p.number), '{}') AS copies INTO pairs
  FROM (SELECT s.*, row_number() OVER () AS number FROM phi.steps_of(work.plan, '{index}') s) p
  JOIN (SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = work.relid) c ON c.relname = p.object;
  PERFORM phi.swap_files(work.relid, work.shadow, pairs.indexes, pairs.copies);
  PERFORM phi.drop_shadow(work);
  PERFORM phi.settle_table(work.relid);
  PERFORM phi.run_steps(work, '{late}');
END $$;
REVOKE EXECUTE ON FUNCTION phi.swap_table(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.swap_table(phi.protect_job) IS 'Converts a table that is locked, and to which its shadow is equal; internal to phi.protect';

/* Views are locked before what they stand on, as their readers do. */
CREATE FUNCTION phi.protect_swapping(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  done record;
  began timestamptz := clock_timestamp();
BEGIN
  PERFORM phi.lock_relations(phi.protect_locks(work.relid));
  PERFORM phi.require_unaltered(work);
  IF (SELECT count(*) FROM (SELECT FROM phi.protect_change c WHERE c.job = work.job LIMIT 2000) x) >= 2000 THEN
    UPDATE phi.protect_job j SET phase = 'syncing' WHERE j.job = work.job;
    RETURN 0;
  END IF;
  SELECT * INTO done FROM phi.sync_shadow(work);
  IF done.changes IS NULL THEN
    RETURN phi.protect_anew(work);
  END IF;
  PERFORM phi.swap_table(work);
  UPDATE phi.protect_job j SET phase = 'analyzing', snapshots = NULL, shadow = NULL, swapped_at = clock_timestamp(),
    lock_time = clock_timestamp() - began
  WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_swapping(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_swapping(phi.protect_job) IS 'Step of a conversion: locks the table, copies the last changes, and swaps the files; internal to phi.protect';

CREATE FUNCTION phi.protect_analyzing(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('ANALYZE %s', work.relid::regclass);
  UPDATE phi.protect_job j SET phase = 'cleaning' WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_analyzing(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_analyzing(phi.protect_job) IS 'Step of a conversion: statistics for the planner; internal to phi.protect';

/* As long as a snapshot may see the old statistics, these stay. */
CREATE FUNCTION phi.protect_cleaning(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  older text[] := phi.older_snapshots(work.snapshots);
BEGIN
  IF work.kind = 'protect' AND older <> '{}' THEN
    UPDATE phi.protect_job j SET snapshots = older, waits_for = 'older snapshots: transactions ' || array_to_string(older, ', ') WHERE j.job = work.job;
    RETURN 100;
  END IF;
  IF work.kind = 'protect' THEN
    PERFORM phi.rewrite_statistics();
    work.report := work.report || ARRAY[
      'the old files are deleted, and their names at the next CHECKPOINT; what the disk keeps of deleted files is not overwritten',
      'WAL holds plain values until its files are deleted: with wal_recycle = off, CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT; recycled files until they are overwritten, archived WAL and backups until they expire',
      'copies elsewhere are not touched: replicas by logical replication, other tables, materialized views, pg_stat_statements, logs, temporary files'];
  END IF;
  UPDATE phi.protect_job j SET state = 'done', report = work.report, finished_at = clock_timestamp(), snapshots = NULL, waits_for = NULL WHERE j.job = work.job;
  RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_cleaning(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_cleaning(phi.protect_job) IS 'Last step of a conversion: removes what the planner''s statistics hold of plain values; internal to phi.protect';

CREATE FUNCTION phi.protect_cancelling(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM phi.drop_protect_triggers(work.relid);
  PERFORM phi.drop_shadow(work);
  UPDATE phi.protect_job j SET state = 'cancelled', finished_at = clock_timestamp(), shadow = NULL, snapshots = NULL, waits_for = NULL WHERE j.job = work.job;
  RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_cancelling(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_cancelling(phi.protect_job) IS 'The one step of phi.cancel_protect(): removes trigger, shadow and log; internal';

CREATE FUNCTION phi.run_phase(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF work.state <> 'cancelling' AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = work.relid) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_table', MESSAGE = format('table %s does not exist any more', work.relation),
      HINT = format('CALL phi.cancel_protect(%s).', work.job);
  END IF;
  IF work.kind = 'unprotect' AND work.shadow IS NOT NULL AND work.state <> 'cancelling' THEN
    PERFORM phi.require_approved_columns(work);
  END IF;
  RETURN CASE WHEN work.state = 'cancelling' THEN phi.protect_cancelling(work) ELSE
    CASE work.phase
      WHEN 'starting' THEN phi.protect_starting(work)
      WHEN 'copying' THEN phi.protect_copying(work)
      WHEN 'ordering' THEN phi.protect_ordering(work)
      WHEN 'indexing' THEN phi.protect_indexing(work)
      WHEN 'verifying' THEN phi.protect_verifying(work)
      WHEN 'syncing' THEN phi.protect_syncing(work)
      WHEN 'swapping' THEN phi.protect_swapping(work)
      WHEN 'analyzing' THEN phi.protect_analyzing(work)
      WHEN 'cleaning' THEN phi.protect_cleaning(work)
    END END;
END $$;
REVOKE EXECUTE ON FUNCTION phi.run_phase(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.run_phase(phi.protect_job) IS 'The next step of a conversion; internal to phi.protect';

CREATE FUNCTION phi.protect_failed(work phi.protect_job, state text, message text, hint text) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  /* In the way for a moment: lock_not_available, deadlock_detected, serialization_failure. */
  IF state IN ('55P03', '40P01', '40001') THEN
    UPDATE phi.protect_job j SET tries = j.tries + 1, waits_for = message, snapshots = NULL,
      phase = CASE j.phase WHEN 'swapping' THEN 'syncing' ELSE j.phase END
    WHERE j.job = work.job;
    RETURN 200 + (random() * least(work.tries, 10) * 100)::int;
  END IF;
  UPDATE phi.protect_job j SET error = message || coalesce(' (' || nullif(hint, '') || ')', ''),
    state = 'failed', phase = CASE j.phase WHEN 'swapping' THEN 'syncing' ELSE j.phase END, snapshots = NULL
  WHERE j.job = work.job;
  RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_failed(phi.protect_job, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_failed(phi.protect_job, text, text, text) IS
  'Notes that a step failed: milliseconds after which to try again, or NULL when the job has failed; internal to phi.protect';

/* What a message of PostgreSQL's quotes is in its DETAIL: that is let go. */
CREATE FUNCTION phi.protect_step(job int, OUT nap int, OUT line text, OUT error_state text, OUT error text, OUT hint text) RETURNS record
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  work phi.protect_job;
  message text;
  help text;
  detail text;
BEGIN
  PERFORM phi.require_read_committed();
  work := phi.find_protect(job);
  IF work.state NOT IN ('running', 'cancelling') THEN
    PERFORM phi.release_protect(job);
    RETURN;
  END IF;
  IF NOT phi.hold_protect(job) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use', MESSAGE = format('job %s is at work in another session', job),
      HINT = 'The view phi.protect_progress shows how far it is; cancel the CALL there to stop it.';
  END IF;
  PERFORM set_config('phi.clinic', '', true);
  PERFORM set_config('default_tablespace', '', true);
  PERFORM set_config('timezone', work.time_zone, true);
  PERFORM set_config('lock_timeout', (extract(epoch FROM work.lock_timeout) * 1000)::int::text, true);
  BEGIN
    nap := phi.run_phase(work);
  EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS error_state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, help = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    nap := phi.protect_failed(work, error_state, message, help);
    IF nap IS NULL THEN
      error := message || CASE WHEN error_state = '55000' AND detail <> '' OR detail LIKE 'It is in the row with ctid %' THEN ': ' || detail ELSE '' END;
      hint := coalesce(nullif(help, ''), format('CALL phi.resume_protect(%s) goes on, CALL phi.cancel_protect(%1$s) removes it.', job));
    END IF;
  END;
  IF nap IS NULL THEN
    PERFORM phi.release_protect(job);
  END IF;
  SELECT format('job %s: %s%s%s', j.job, CASE WHEN j.state = 'running' THEN j.phase ELSE j.state END,
                CASE j.phase WHEN 'copying' THEN format(', %s of %s blocks, %s rows', j.next_block, j.blocks, j.rows_copied) ELSE '' END,
                CASE WHEN nap > 0 THEN '; waits for ' || j.waits_for ELSE '' END) INTO line
  FROM phi.protect_job j WHERE j.job = protect_step.job;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_step(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_step(int) IS
  'Does the next step of a conversion: milliseconds to wait before the one after it, NULL when there is none; a line that says how far it is; and the error if it has failed. For phi.follow_protect()';

CREATE PROCEDURE phi.follow_protect(job int)
  LANGUAGE plpgsql AS $$
DECLARE
  done record;
  told text;
  told_at timestamptz;
BEGIN
  LOOP
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    SELECT * INTO done FROM phi.protect_step(job);
    IF done.line IS DISTINCT FROM told AND (done.nap IS NULL OR told_at IS NULL OR clock_timestamp() > told_at + interval '1 second'
       OR split_part(done.line, ',', 1) <> split_part(told, ',', 1)) THEN
      RAISE NOTICE '%', done.line;
      told := done.line;
      told_at := clock_timestamp();
    END IF;
    COMMIT;
    EXIT WHEN done.nap IS NULL;
    IF done.nap > 0 THEN
      CALL phi.nap(done.nap);
    END IF;
  END LOOP;
  IF done.error IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = done.error_state, MESSAGE = done.error, HINT = done.hint;
  END IF;
END $$;
REVOKE EXECUTE ON PROCEDURE phi.follow_protect(int) FROM PUBLIC;
COMMENT ON PROCEDURE phi.follow_protect(int) IS
  'Does a job of phi.protect() to its end, and tells its progress as NOTICEs; commits';

CREATE FUNCTION phi.start_protect(kind text, relation regclass, clinic_column name, columns jsonb, replacements jsonb,
                                  isolate boolean, dry_run boolean, lock_timeout interval) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  fingerprint text := phi.protect_fingerprint(relation);
  plan jsonb;
  converted name[];
  key oid;
  todo record;
  new_job int;
BEGIN
  IF num_nulls(relation, columns, replacements, isolate, dry_run, lock_timeout) > 0 OR (kind = 'protect') <> (clinic_column IS NOT NULL) THEN
    RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'an argument must not be null';
  ELSIF lock_timeout NOT BETWEEN interval '1 millisecond' AND interval '1 hour' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'lock_timeout must be from a millisecond to an hour';
  END IF;
  PERFORM phi.require_owner(relation);
  plan := phi.compute_plan(kind, relation, clinic_column, columns, replacements, isolate);
  IF dry_run THEN
    FOR todo IN SELECT * FROM jsonb_to_recordset(plan) AS p(step int, phase text, object text, statement text, note text) ORDER BY p.step LOOP
      RAISE NOTICE '%', concat_ws(': ', todo.phase, todo.object, todo.statement, todo.note);
    END LOOP;
    RETURN NULL;
  END IF;
  PERFORM phi.require_no_problem(plan);
  converted := CASE kind WHEN 'protect' THEN ARRAY(SELECT jsonb_object_keys(columns)) ELSE ARRAY(SELECT jsonb_array_elements_text(columns)) END;
  key := phi.protect_key(relation, converted);
  IF key IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table %s has no primary key, or unique index without nulls, that stays as it is', relation);
  ELSIF EXISTS (SELECT FROM phi.protect_job j WHERE j.relid = start_protect.relation AND j.state IN ('running', 'failed', 'cancelling') AND j.swapped_at IS NULL) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use',
      MESSAGE = format('job %s converts table %s already', (SELECT j.job FROM phi.protect_job j
        WHERE j.relid = start_protect.relation AND j.state IN ('running', 'failed', 'cancelling') AND j.swapped_at IS NULL), relation),
      HINT = 'phi.resume_protect() goes on with it, phi.cancel_protect() removes it.';
  END IF;
  IF kind = 'unprotect' AND NOT phi.cleared('unprotect', jsonb_build_object('relation', relation::text, 'oid', relation::oid, 'columns', columns, 'replacements', replacements), true) THEN
    RETURN NULL;
  END IF;
  INSERT INTO phi.protect_job (kind, relid, relation, clinic_column, columns, replacements, isolate, lock_timeout, fingerprint, plan, key)
  VALUES (kind, relation, relation::text, clinic_column, columns, replacements, isolate, lock_timeout, fingerprint, plan, key) RETURNING job INTO new_job;
  RETURN new_job;
END $$;
REVOKE EXECUTE ON FUNCTION phi.start_protect(text, regclass, name, jsonb, jsonb, boolean, boolean, interval) FROM PUBLIC;
COMMENT ON FUNCTION phi.start_protect(text, regclass, name, jsonb, jsonb, boolean, boolean, interval) IS
  'Makes a job of phi.protect() or phi.unprotect() and returns its number; NULL after a dry run, or when it waits for phi.approve()';
