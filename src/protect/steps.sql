/*
 * The steps of a job: each is one transaction's work. It returns for how many
 * milliseconds to wait before the next one. Who comes after a crash finds in the
 * job's row where to go on; before the last step the table is as it ever was.
 */

CREATE FUNCTION phi.find_protect(job int) RETURNS phi.protect_job
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  work phi.protect_job;
BEGIN
  SELECT * INTO work FROM phi.protect_job j WHERE j.job = find_protect.job FOR UPDATE;
  IF work.job IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object', MESSAGE = format('job %s does not exist', coalesce(job::text, 'null')),
      HINT = 'The view phi.protect_progress lists the jobs.';
  END IF;
  PERFORM phi.require_owner(work.relid);
  RETURN work;
END $$;
REVOKE EXECUTE ON FUNCTION phi.find_protect(int) FROM PUBLIC;
COMMENT ON FUNCTION phi.find_protect(int) IS
  'A job''s row, locked; ERROR 42704 when there is none, 42501 for who does not own its table; internal';

CREATE FUNCTION phi.require_owner(relation oid) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  caller oid := phi.calling_role();
BEGIN
  IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = caller)
     AND NOT coalesce((SELECT pg_has_role(caller, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = relation), false) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('must be owner of table %s', coalesce(relation::regclass::text, 'null'));
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_owner(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_owner(oid) IS 'ERROR 42501 unless the caller is superuser or has the rights of the table''s owner; internal';

CREATE FUNCTION phi.compute_plan(kind text, relation oid, clinic_column name, columns jsonb, replacements jsonb, isolate boolean) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF kind = 'protect' THEN
    RETURN (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.step), '[]') FROM phi.protect_plan(relation, clinic_column, columns, replacements, isolate) p);
  END IF;
  RETURN (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.step), '[]')
          FROM phi.unprotect_plan(relation, ARRAY(SELECT jsonb_array_elements_text(columns)::name), replacements) p);
END $$;
REVOKE EXECUTE ON FUNCTION phi.compute_plan(text, oid, name, jsonb, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.compute_plan(text, oid, name, jsonb, jsonb, boolean) IS
  'What phi.protect_plan() or phi.unprotect_plan() says now, as an array of its rows; internal to phi.protect';

CREATE FUNCTION phi.steps_of(plan jsonb, phases text[])
  RETURNS TABLE (step int, phase text, object text, statement text, note text)
  LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT p.step, p.phase, p.object, p.statement, p.note
  FROM jsonb_to_recordset(plan) AS p(step int, phase text, object text, statement text, note text)
  WHERE p.phase = ANY (phases) ORDER BY array_position(phases, p.phase), p.step;
END;
REVOKE EXECUTE ON FUNCTION phi.steps_of(jsonb, text[]) FROM PUBLIC;
COMMENT ON FUNCTION phi.steps_of(jsonb, text[]) IS 'The rows of a plan that are of these phases, phase after phase; internal to phi.protect';

/* Its owner may alter the shadow between two steps, not during one. */
CREATE FUNCTION phi.require_approved_columns(work phi.protect_job) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  other name;
BEGIN
  EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', work.shadow::regclass);
  SELECT a.attname INTO other FROM pg_attribute a JOIN pg_attribute s ON s.attrelid = work.shadow AND s.attnum = a.attnum
  WHERE a.attrelid = work.relid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> s.atttypid
    AND NOT work.columns ? a.attname::text LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('column "%s" was not approved to be made plain', other),
      DETAIL = format('Somebody has changed its type in %s.', work.shadow::regclass),
      HINT = format('CALL phi.cancel_protect(%s).', work.job);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_approved_columns(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_approved_columns(phi.protect_job) IS
  'Locks the shadow against changes; ERROR 55000 when it would open a column that was not approved; internal to phi.unprotect';

CREATE FUNCTION phi.require_no_problem(plan jsonb) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  problems text[] := ARRAY(SELECT concat_ws(': ', p.object, p.note) FROM phi.steps_of(plan, '{problem}') p);
BEGIN
  IF problems <> '{}' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s to be decided before', CASE cardinality(problems) WHEN 1 THEN 'there is a problem' ELSE format('there are %s problems', cardinality(problems)) END),
      DETAIL = array_to_string(problems[1:5], E'\n'),
      HINT = 'Call it with dry_run => true to see all, with the statements that help.';
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_no_problem(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_no_problem(jsonb) IS 'ERROR 55000 when a plan has problems; internal to phi.protect';

CREATE FUNCTION phi.drop_shadow(work phi.protect_job) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  /* Its owner may have dropped it, and its number be another table's by now; or put something on it. */
  IF EXISTS (SELECT FROM pg_class c WHERE c.oid = work.shadow AND c.relrewrite = work.relid) THEN
    EXECUTE format('DROP TABLE %s CASCADE', work.shadow::regclass);
  END IF;
  DELETE FROM phi.protect_change c WHERE c.job = work.job;
END $$;
REVOKE EXECUTE ON FUNCTION phi.drop_shadow(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.drop_shadow(phi.protect_job) IS 'Drops a job''s shadow and its log; internal to phi.protect';

/* By what they do: the table's owner may have renamed his, and a restored dump has one of a job that is not here. */
CREATE FUNCTION phi.drop_protect_triggers(relation oid) RETURNS void
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name name;
BEGIN
  FOR name IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgfoid = 'phi.log_change'::regproc LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, relation::regclass);
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION phi.drop_protect_triggers(oid) FROM PUBLIC;
COMMENT ON FUNCTION phi.drop_protect_triggers(oid) IS 'Ends the logging of a table''s changes; internal to phi.protect';

/* One that was disabled for a while has missed changes. */
CREATE FUNCTION phi.protect_trigger(work phi.protect_job) RETURNS text
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('%s %s %s', t.oid, t.xmin, t.tgenabled) FROM pg_trigger t
  WHERE t.tgrelid = work.relid AND t.tgname = 'phi_protect_' || work.job AND t.tgfoid = 'phi.log_change'::regproc;
END;
REVOKE EXECUTE ON FUNCTION phi.protect_trigger(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_trigger(phi.protect_job) IS 'What tells whether a job''s trigger was altered; NULL without a trigger; internal to phi.protect';

CREATE FUNCTION phi.require_unaltered(work phi.protect_job) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF work.fingerprint <> phi.protect_fingerprint(work.relid) OR work.trigger_row IS DISTINCT FROM phi.protect_trigger(work) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table %s, or what depends on it, was altered meanwhile', work.relation),
      HINT = format('CALL phi.cancel_protect(%s), and begin again.', work.job);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_unaltered(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_unaltered(phi.protect_job) IS 'ERROR 55000 when the plan does not fit the table any more; internal to phi.protect';

CREATE FUNCTION phi.protect_starting(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  trigger_name name := 'phi_protect_' || work.job;
BEGIN
  /* Waits for those who write: whatever they do afterwards is logged. */
  EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', work.relid::regclass);
  PERFORM phi.require_unaltered(work);
  PERFORM phi.drop_shadow(work);
  work.shadow := phi.make_shadow(work.relid, 'phi_shadow_' || work.job);
  EXECUTE (SELECT format('ALTER TABLE %s %s', work.shadow::regclass, phi.type_changes(p.statement)) FROM phi.steps_of(work.plan, '{alter}') p);
  IF work.trigger_row IS NULL THEN
    PERFORM phi.drop_protect_triggers(work.relid);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION phi.log_change(%L, %L, %L)',
                   trigger_name, work.relid::regclass, work.job,
                   (SELECT string_agg(k.attnum::text, ' ' ORDER BY k.n)
                    FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
                    WHERE i.indexrelid = work.key AND k.n <= i.indnkeyatts), work.relid);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', work.relid::regclass, trigger_name);
  END IF;
  UPDATE phi.protect_job j SET phase = 'copying', shadow = work.shadow, trigger_row = phi.protect_trigger(work),
    filenode = (SELECT c.relfilenode FROM pg_class c WHERE c.oid = work.relid), next_block = 0,
    blocks = pg_relation_size(work.relid::regclass) / current_setting('block_size')::int,
    rows_copied = 0, changes_copied = 0, unknown = 0, snapshots = NULL, base_at = NULL
  WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_starting(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_starting(phi.protect_job) IS 'Step of a conversion: makes the shadow and the trigger; internal to phi.protect';

/* VACUUM FULL and TRUNCATE log nothing, but give the table another file. */
CREATE FUNCTION phi.protect_anew(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE NOTICE 'job %: the table was rewritten or truncated, or the copy dropped: copying begins anew', work.job;
  UPDATE phi.protect_job j SET phase = 'starting' WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_anew(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_anew(phi.protect_job) IS 'Sends a conversion back to its first step; internal to phi.protect';

CREATE FUNCTION phi.require_clinics(work phi.protect_job, unknown bigint) RETURNS void
  LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF unknown > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s of table %s %s no known clinic', CASE unknown WHEN 1 THEN 'a row' ELSE unknown || ' rows' END,
                       work.relation, CASE unknown WHEN 1 THEN 'has' ELSE 'have' END),
      DETAIL = format('Column "%s" is null there, or holds no clinic''s code.', work.clinic_column),
      HINT = format('Mend or delete the rows, then CALL phi.resume_protect(%s).', work.job);
  END IF;
END $$;
REVOKE EXECUTE ON FUNCTION phi.require_clinics(phi.protect_job, bigint) FROM PUBLIC;
COMMENT ON FUNCTION phi.require_clinics(phi.protect_job, bigint) IS 'ERROR 55000 when rows were left out as their clinic is unknown; internal to phi.protect';

CREATE FUNCTION phi.protect_copying(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  done record;
BEGIN
  IF work.base_at IS NULL THEN
    UPDATE phi.protect_job j SET base_at = clock_timestamp(), base_rows = j.rows_copied, base_block = j.next_block WHERE j.job = work.job;
  END IF;
  SELECT * INTO done FROM phi.copy_blocks(work.relid, work.shadow, work.filenode, work.clinic_column, work.next_block, work.blocks);
  IF done.next IS NULL THEN
    RETURN phi.protect_anew(work);
  END IF;
  UPDATE phi.protect_job j SET next_block = done.next, rows_copied = j.rows_copied + done."rows", unknown = j.unknown + done.unknown,
    worked_at = clock_timestamp(), phase = CASE WHEN done.next >= j.blocks THEN 'ordering' ELSE j.phase END
  WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_copying(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_copying(phi.protect_job) IS 'Step of a conversion: copies some blocks; internal to phi.protect';

CREATE FUNCTION phi.shadow_index(work phi.protect_job, number bigint) RETURNS oid
  LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = work.shadow AND c.relname = format('phi_shadow_%s_%s', work.job, number) AND i.indisvalid;
END;
REVOKE EXECUTE ON FUNCTION phi.shadow_index(phi.protect_job, bigint) FROM PUBLIC;
COMMENT ON FUNCTION phi.shadow_index(phi.protect_job, bigint) IS
  'The shadow''s n-th index, in the order of the plan; number 0 is the one that finds rows by key; NULL: not built; internal to phi.protect';

CREATE FUNCTION phi.build_index(work phi.protect_job, number bigint, statement text) RETURNS void
  LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phi.run_command(format(statement, format('phi_shadow_%s_%s', work.job, number), work.shadow::regclass),
                         phi.acting_role(work.relid), phi.acting_role(work.relid) <> phi.calling_role());
END;
REVOKE EXECUTE ON FUNCTION phi.build_index(phi.protect_job, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION phi.build_index(phi.protect_job, bigint, text) IS 'Builds an index of the shadow; internal to phi.protect';

/* The log as of now; NULL when copying has to begin anew. */
CREATE FUNCTION phi.sync_shadow(work phi.protect_job, verify boolean DEFAULT false, OUT changes bigint, OUT "rows" bigint) RETURNS record
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  done record;
BEGIN
  SELECT * INTO done FROM phi.copy_changes(work.job, work.relid, work.shadow, work.filenode, work.clinic_column, work.key,
                                           phi.shadow_index(work, 0), verify);
  PERFORM phi.require_clinics(work, done.unknown);
  UPDATE phi.protect_job j SET changes_copied = j.changes_copied + coalesce(done.changes, 0), worked_at = clock_timestamp() WHERE j.job = work.job;
  changes := done.changes;
  "rows" := done."rows";
END $$;
REVOKE EXECUTE ON FUNCTION phi.sync_shadow(phi.protect_job, boolean) FROM PUBLIC;
COMMENT ON FUNCTION phi.sync_shadow(phi.protect_job, boolean) IS
  'Brings the shadow up to date: how many changes there were, and rows copied or, with verify, compared; NULL: copying has to begin anew. ERROR 55000 when a row''s clinic is unknown; internal to phi.protect';

/* Rows that were copied twice have their key in the log: unique indexes come after. */
CREATE FUNCTION phi.protect_ordering(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM phi.require_clinics(work, work.unknown);
  IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = work.shadow) THEN
    RETURN phi.protect_anew(work);
  ELSIF phi.shadow_index(work, 0) IS NULL THEN
    PERFORM phi.build_index(work, 0, regexp_replace(p.statement, '^\s*CREATE\s+UNIQUE\s+INDEX', 'CREATE INDEX', 'i'))
    FROM phi.steps_of(work.plan, '{index}') p JOIN pg_class c ON c.relname = p.object WHERE c.oid = work.key;
    IF NOT FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'internal_error', MESSAGE = 'the plan does not have the index that tells rows apart';
    END IF;
    RETURN 0;
  END IF;
  IF (phi.sync_shadow(work)).changes IS NULL THEN
    RETURN phi.protect_anew(work);
  END IF;
  UPDATE phi.protect_job j SET phase = 'indexing' WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_ordering(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_ordering(phi.protect_job) IS 'Step of a conversion: makes the shadow searchable by key, and each row single; internal to phi.protect';

CREATE FUNCTION phi.protect_indexing(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  missing record;
BEGIN
  SELECT p.number, p.statement INTO missing
  FROM (SELECT s.*, row_number() OVER () AS number FROM phi.steps_of(work.plan, '{index}') s) p
  WHERE phi.shadow_index(work, p.number) IS NULL ORDER BY p.number LIMIT 1;
  IF missing.number IS NULL THEN
    UPDATE phi.protect_job j SET phase = 'verifying' WHERE j.job = work.job;
  ELSE
    PERFORM phi.build_index(work, missing.number, missing.statement);
  END IF;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_indexing(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_indexing(phi.protect_job) IS 'Step of a conversion: builds an index of the shadow; internal to phi.protect';

CREATE FUNCTION phi.protect_verifying(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  done record;
BEGIN
  SELECT * INTO done FROM phi.sync_shadow(work, true);
  IF done.changes IS NULL THEN
    RETURN phi.protect_anew(work);
  END IF;
  UPDATE phi.protect_job j SET phase = 'syncing', snapshots = NULL,
    report = ARRAY[format('%s rows were compared before and after: the plain content is the same', done."rows")]
  WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_verifying(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_verifying(phi.protect_job) IS 'Step of a conversion: compares table and shadow; internal to phi.protect';

/*
 * Until little is left, and nobody has a snapshot from before the last rounds. A
 * transaction with an older one that first comes to the table after the swap
 * would find only what was copied until then; so it sees at most rows as they
 * were a round ago, and no row that it should not.
 */
CREATE FUNCTION phi.protect_syncing(work phi.protect_job) RETURNS int
  LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  done record;
  older text[] := phi.older_snapshots(coalesce(work.snapshots, '{}'));
BEGIN
  SELECT * INTO done FROM phi.sync_shadow(work);
  IF done.changes IS NULL THEN
    RETURN phi.protect_anew(work);
  END IF;
  PERFORM phi.require_unaltered(work);
  IF work.snapshots IS NULL OR older <> '{}' THEN
    UPDATE phi.protect_job j SET snapshots = CASE WHEN work.snapshots IS NULL THEN phi.older_snapshots(NULL) ELSE older END,
      waits_for = CASE WHEN older <> '{}' THEN 'older snapshots: transactions ' || array_to_string(older, ', ') END
    WHERE j.job = work.job;
    RETURN CASE WHEN older <> '{}' THEN 200 ELSE 20 END;
  END IF;
  UPDATE phi.protect_job j SET snapshots = NULL, waits_for = NULL,
    phase = CASE WHEN done.changes < 1000 THEN 'swapping' ELSE j.phase END
  WHERE j.job = work.job;
  RETURN 0;
END $$;
REVOKE EXECUTE ON FUNCTION phi.protect_syncing(phi.protect_job) FROM PUBLIC;
COMMENT ON FUNCTION phi.protect_syncing(phi.protect_job) IS 'Step of a conversion: brings the shadow up to date; internal to phi.protect';
