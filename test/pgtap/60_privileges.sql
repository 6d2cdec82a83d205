-- What the extension's functions are, and who may call them: a change of this
-- page is a change of what an attacker can reach.
\ir include/setup.psql
CREATE VIEW t.function AS
SELECT p.oid, p.pronamespace::regnamespace::text AS schema, p.proname::text AS name, p.oid::regprocedure::text AS signature, p.provolatile AS volatility,
       p.proisstrict AS strict, p.proparallel AS parallel, p.proleakproof AS leakproof, p.prokind AS form, p.prosecdef AS definer, p.proconfig, l.lanname::text AS language, p.prosrc, p.prosqlbody IS NOT NULL AS parsed,
       has_function_privilege('t_nobody', p.oid, 'EXECUTE') AS public,
       has_function_privilege('phi_custodian', p.oid, 'EXECUTE') AS custodian, has_function_privilege('phi_auditor', p.oid, 'EXECUTE') AS auditor
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'pg_phi';

SELECT is((SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'phi'::regnamespace AND NOT EXISTS (SELECT FROM t.function f WHERE f.oid = p.oid)), 0::bigint, 'all functions of schema phi belong to the extension');

-- Schema phi: by name, who may call it.
CREATE VIEW t.in_phi AS SELECT name, bool_or(public) AS public, bool_or(custodian) AS custodian, bool_or(auditor) AS auditor, bool_and(public) AS all_public FROM t.function WHERE schema = 'phi' GROUP BY name;
SELECT is(string_agg(name, ' ' ORDER BY name), 'as_of current_clinic decrypt describe encrypt history_of key_columns renew restore_grants session', 'of phi, everybody may call') FROM t.in_phi WHERE public;
SELECT is(string_agg(name, ' ' ORDER BY name), 'approve await_job cancel_rekey check_certificates check_master_key class_list class_name compromise_step count_key_values create_clinic custodian_shares custodians destroy_key enroll_custodian follow_job holds_encrypted is_led job_line job_state nap open_compromise pause_rekey prepare_master_key protect_is_led refuse_request rekey remove_custodian require_top_level respond_to_compromise restart_rekey resume_rekey retire_audit rotate_digest_key rotate_key rotate_master_key rotate_search_key rotate_signing_key seal seal_status shred_clinic shred_result start_rekey start_shred suite_name unseal', 'custodians also') FROM t.in_phi WHERE custodian AND NOT public;
SELECT is(string_agg(name, ' ' ORDER BY name), 'audit_leaf_hash audit_system audit_tree check_audit_note check_certificates check_consistency check_inclusion check_master_key class_list class_name compare_audit_records compare_audit_retired compare_audit_tree consistency_proof custodians holds_encrypted inclusion_proof is_led job_line job_state protect_is_led root_of_leaves row_digest seal_status suite_name table_tree verify_audit', 'auditors also') FROM t.in_phi WHERE auditor AND NOT public;
SELECT is(string_agg(name, ' ' ORDER BY name), 'acting_role add_audit_keys add_custodian add_key add_signing_key advance_audit align_history apply_seal approved_step approver ask_approval audit audit_change audit_event audit_leaf_hash audit_origin audit_partitions audit_settings audit_system audit_tree base_type build_index calling_role cancel_protect carry_out certificate_hash certify changed_settings check_audit_capacity check_audit_note check_auditable check_compromise check_consistency check_exported_root check_history check_inclusion check_rekey_key class_mask class_number cleared clinic_id column_notes columns_to_open columns_to_seal columns_within compare_audit_records compare_audit_retired compare_audit_tree compromise_destroy compromise_expose compromise_finish compromise_mark compromise_master compromise_rekey compromise_rotate compromise_search compromise_text compute_plan consistency_proof conversions copy_blocks copy_changes count_values dependants destroy_keys drop_audit_triggers drop_custodian drop_protect_triggers drop_shadow empty_table encrypted_relations extension_steps find_job find_protect follow_protect foreign_temp_tables grant_clinic guard_audit_rows guard_audit_table guard_history has_master history_column hold_protect inclusion_proof index_column index_method index_names_keys index_statement indexes_of_keys invalidate_index is_custodian is_secret_setting isolate isolate_history job_done key_values known_masters launch_job leaves_of_partitions lift_seal lock_for_partition lock_relations lock_search lock_search_tables log_change login_name make_audit_partition make_audit_partitions make_audit_triggers make_history make_master make_shadow missing_audit_months move_key move_keys move_records newest_master note_audit_event notice_change older_snapshots only_owner open_audit open_request outdated_keys own_history plain plan_clinic plan_columns plan_comment plan_constraints plan_dependants plan_index_marks plan_index_notes plan_indexes plan_obstacles plan_replacements plan_rights plan_table plan_view_problems plan_views planned_indexes planned_rules planned_steps planned_views policy_steps prepare_history protect protect_analyzing protect_anew protect_cancelling protect_cleaning protect_copying protect_failed protect_fingerprint protect_indexing protect_key protect_locks protect_ordering protect_plan protect_starting protect_step protect_swapping protect_syncing protect_trigger protect_verifying prove_unused publication_step rebuild_audit rebuild_search_index record_audit record_grant record_seal refuse_change refuse_insert relation_options release_protect remove_moved_records replace_audit_key replace_compromised replace_search_keys report_copies report_dead_rows report_events report_exposed report_failures report_master require_approved_columns require_clinics require_destroyable require_no_copies require_no_foreign_temp_tables require_no_problem require_owner require_read_committed require_unaltered require_unused restart_protect resume_audit resume_protect revoke_clinic rewrap_key rewrap_keys rewrite_statistics root_of_leaves row_digest rows_of_no_clinic rule_steps run_command run_phase run_steps search_indexes set_aside settle_table shadow_index shred_close shred_finish shred_request sign_audit_note stage_share start_protect statistics_steps steps_of stop_job stored_constants swap_files swap_table sync_shadow table_tree temp_owner told_index told_type trigger_steps type_changes unaudit unisolate unprotect unprotect_plan unused_master_key unwraps utc verify_audit view_steps wait_for_readers wait_for_writers worker_pids wrap_new_key', 'nobody but the owner') FROM t.in_phi WHERE NOT custodian AND NOT public;
SELECT is(string_agg(name, ' '), NULL, 'all functions of one name are open or none') FROM t.in_phi WHERE public AND NOT all_public;

-- What is built like what, by name with the type left out.
CREATE VIEW t.kind AS
SELECT regexp_replace(CASE WHEN schema = 'pg_catalog' THEN regexp_replace(name, 'enc(text|bytea|jsonb|bigint|numeric|date|timestamptz|boolean)', 'enc') ELSE 'phi.' || name END,
         '^(text|bytea|jsonb|int8|numeric|date|timestamptz|bool|bpchar|varchar|json|int4|int2|float8|float4|name|time|timestamp)$', 'base') AS kind, *
FROM t.function;
CREATE TABLE t.wanted (kind text, facts text);
INSERT INTO t.wanted VALUES
  ('base',         's strict safe public'),
  ('enc',          'v strict restricted public'),
  ('encin',        's strict restricted public'), ('encout', 's strict safe public'), ('encrecv', 's strict restricted public'), ('encsend', 's strict safe public'),
  ('enctypmodin',  'i strict safe public'), ('enctypmodout', 'i strict safe public'), ('enctypanalyze', 's strict restricted public'),
  ('enceq enc enc', 'i strict safe public leakproof'), ('enceq enc base', 's strict safe public leakproof'), ('enceq base enc', 's strict safe public leakproof'),
  ('encequalimage', 's strict safe public'), ('encsortsupport', 'i strict safe public'), ('encequalitysortsupport', 'i strict safe public'), ('hashenc enc', 'i strict safe public'), ('hashenc base', 's strict safe public'),
  ('encsmaller', 's strict safe public'), ('enclarger', 's strict safe public'), ('min', 'i null safe public'), ('max', 'i null safe public'),
  ('enc_pl_interval', 's strict safe public'), ('enc_mi_interval', 's strict safe public'), ('interval_pl_enc', 's strict safe public'), ('enc_pl_time', 's strict safe public'), ('time_pl_enc', 's strict safe public'),
  ('extract', 's strict safe public'), ('date_part', 's strict safe public'),
  ('phi.encrypt',  'v strict restricted public'), ('phi.renew', 'v strict restricted public'), ('phi.decrypt', 's strict safe public'), ('phi.describe', 's strict safe public'),
  ('phi.current_clinic', 's strict safe public'), ('phi.restore_grants', 'v null unsafe public'), ('phi.session', 's strict restricted public'), ('phi.as_of', 's null restricted public'), ('phi.history_of', 's strict restricted public'), ('phi.key_columns', 's null safe public');
INSERT INTO t.wanted SELECT 'phi.' || name, facts FROM (VALUES
  ('i strict safe', 'audit_leaf_hash check_audit_note check_consistency check_inclusion class_list class_mask class_name class_number plain suite_name'),
  ('i null safe', 'columns_within relation_options told_index'),
  ('s strict safe', 'audit_origin audit_system audit_tree consistency_proof holds_encrypted is_secret_setting root_of_leaves row_digest steps_of told_type type_changes utc'),
  ('s strict restricted', 'calling_role is_led login_name protect_fingerprint protect_is_led protect_key protect_locks worker_pids'),
  ('s strict restricted definer', 'job_line'),
  ('s null safe', 'audit_partitions audit_settings base_type certificate_hash changed_settings check_compromise check_exported_root check_rekey_key clinic_id column_notes columns_to_open columns_to_seal compare_audit_retired compare_audit_tree conversions dependants encrypted_relations extension_steps history_column inclusion_proof index_column index_method index_statement is_custodian leaves_of_partitions missing_audit_months outdated_keys plan_columns plan_comment plan_constraints plan_dependants plan_index_marks plan_index_notes plan_indexes plan_obstacles plan_replacements plan_table plan_view_problems plan_views planned_indexes planned_rules planned_views policy_steps protect_trigger publication_step report_dead_rows report_exposed report_failures require_clinics require_no_problem rule_steps search_indexes shadow_index shred_request statistics_steps table_tree trigger_steps view_steps'),
  ('s null safe definer', 'check_certificates shred_result'),
  ('s null restricted', 'acting_role check_auditable check_history compare_audit_records own_history plan_clinic plan_rights planned_steps protect_plan report_events require_owner require_unaltered rows_of_no_clinic unprotect_plan'),
  ('v strict restricted', 'custodian_shares custodians seal_status temp_owner'),
  ('v null restricted', 'report_copies verify_audit'),
  ('v strict unsafe', 'add_custodian add_signing_key advance_audit apply_seal audit_event count_values drop_custodian empty_table has_master hold_protect index_names_keys invalidate_index job_done known_masters launch_job lift_seal lock_for_partition lock_relations make_master make_shadow newest_master notice_change only_owner open_audit rebuild_audit record_audit refuse_change refuse_insert release_protect remove_moved_records resume_audit rewrap_key rewrite_statistics run_command settle_table sign_audit_note stage_share stored_constants swap_files unwraps wait_for_readers wait_for_writers wrap_new_key'),
  ('v strict unsafe definer', 'await_job job_state rotate_signing_key'),
  ('v null unsafe', 'add_audit_keys add_key align_history approved_step approver ask_approval audit_change build_index cancel_protect carry_out certify check_audit_capacity cleared compromise_destroy compromise_expose compromise_finish compromise_mark compromise_master compromise_rekey compromise_rotate compromise_search compromise_text compute_plan copy_blocks copy_changes destroy_keys drop_audit_triggers drop_protect_triggers drop_shadow find_job find_protect follow_job follow_protect foreign_temp_tables guard_audit_rows guard_audit_table guard_history indexes_of_keys isolate isolate_history key_values lock_search lock_search_tables log_change make_audit_partition make_audit_partitions make_audit_triggers make_history move_key move_keys move_records nap note_audit_event older_snapshots open_request prepare_history protect protect_analyzing protect_anew protect_cancelling protect_cleaning protect_copying protect_failed protect_indexing protect_ordering protect_starting protect_swapping protect_syncing protect_verifying prove_unused rebuild_search_index record_grant record_seal rekey replace_audit_key replace_compromised replace_search_keys report_master require_approved_columns require_destroyable require_no_copies require_no_foreign_temp_tables require_read_committed require_top_level require_unused respond_to_compromise resume_protect resume_rekey rewrap_keys run_phase run_steps set_aside shred_clinic shred_close shred_finish stop_job swap_table sync_shadow unisolate unprotect unused_master_key'),
  ('v null unsafe definer', 'approve audit cancel_rekey check_master_key compromise_step count_key_values create_clinic destroy_key enroll_custodian grant_clinic open_compromise pause_rekey prepare_master_key protect_step refuse_request remove_custodian restart_protect restart_rekey retire_audit revoke_clinic rotate_digest_key rotate_key rotate_master_key rotate_search_key seal start_protect start_rekey start_shred unaudit unseal')
) v(facts, names), unnest(string_to_array(names, ' ')) name;
-- != and the order are as =, without being leakproof: only equality earns it.
INSERT INTO t.wanted SELECT format('enc%s %s', op, args), CASE args WHEN 'enc enc' THEN 'i' ELSE 's' END || ' strict safe' || CASE op WHEN 'equalitycmp' THEN '' ELSE ' public' END
FROM unnest(ARRAY['ne', 'lt', 'le', 'gt', 'ge', 'cmp', 'equalitycmp']) op, unnest(ARRAY['enc enc', 'enc base', 'base enc', 'base base']) args
WHERE args <> 'base base' OR op IN ('cmp', 'equalitycmp');
CREATE VIEW t.built AS
SELECT kind || CASE WHEN kind ~ '^(enc(eq|ne|lt|le|gt|ge|cmp|equalitycmp)|hashenc)$' THEN (SELECT string_agg(CASE WHEN a::regtype::text LIKE 'enc%' THEN ' enc' ELSE ' base' END, '' ORDER BY n) FROM unnest((SELECT proargtypes FROM pg_proc p WHERE p.oid = k.oid)::oid[]) WITH ORDINALITY u(a, n)) ELSE '' END AS kind,
       concat_ws(' ', volatility, CASE WHEN strict THEN 'strict' ELSE 'null' END, CASE parallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
         CASE WHEN public THEN 'public' END, CASE WHEN definer THEN 'definer' END, CASE WHEN leakproof THEN 'leakproof' END) AS facts, signature
FROM t.kind k;
SELECT is(string_agg(DISTINCT b.facts, ', '), w.facts, 'built as it should be: ' || coalesce(w.kind, b.kind)) FROM t.wanted w FULL JOIN t.built b USING (kind) GROUP BY w.kind, b.kind, w.facts ORDER BY coalesce(w.kind, b.kind);

-- A function that decrypts is never IMMUTABLE: a folded constant is plaintext in a plan.
SELECT is(string_agg(signature, ', '), NULL, 'no function that gives plaintext is immutable') FROM t.function
WHERE volatility = 'i' AND (prosrc IN ('phi_enc_to_base', 'phi_enc_to_json', 'phi_enc_out', 'phi_enc_send') OR parsed AND schema = 'pg_catalog' OR signature ~ 'decrypt');
SELECT is(string_agg(signature, ', '), NULL, 'no function that makes a nonce is less than volatile, but for input') FROM t.function
WHERE volatility <> 'v' AND prosrc IN ('phi_base_to_enc', 'phi_enc_to_enc', 'phi_encrypt');
-- A search_path of the caller's would run the caller's functions with the owner's rights.
-- What was parsed when it was made looks nothing up.
SELECT is(string_agg(signature, ', '), NULL, 'all functions not in C have their own search_path') FROM t.function
WHERE language NOT IN ('c', 'internal') AND form <> 'p' AND NOT (parsed AND NOT definer) AND (proconfig[1] = 'search_path=pg_catalog, pg_temp') IS NOT TRUE;
-- A procedure that commits can have none, so it sets one in each transaction.
SELECT is(string_agg(signature, ', '), NULL, 'but for procedures, which set one and run with their caller''s rights') FROM t.function
WHERE form = 'p' AND (definer OR language <> 'c' AND prosrc !~ 'BEGIN\s+(LOOP\s+)?PERFORM pg_catalog.set_config\(''search_path'', ''pg_catalog, pg_temp'', true\)');

-- Relations.
SELECT is(string_agg(relname::text, ' ' ORDER BY relname), NULL, 'no relation of phi is open to everybody') FROM pg_class
WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') AND has_table_privilege('t_nobody', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT is(string_agg(relname::text, ' ' ORDER BY relname), NULL, 'nor one of its sequences') FROM pg_class
WHERE relnamespace = 'phi'::regnamespace AND CASE relkind WHEN 'S' THEN has_sequence_privilege('t_nobody', oid, 'USAGE, SELECT, UPDATE') END;
SELECT is(string_agg(relname::text, ' ' ORDER BY relname), 'audit_capacity audit_keys clinics compromise_reports destruction_certificates grant_events grants key_events keys master_key_events protect_progress protected_columns rekey_failures rekey_progress requests rotation_due seal_events', role || ' may read') FROM pg_class, unnest(ARRAY['phi_custodian', 'phi_auditor']) role
WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege(role, oid, 'SELECT') AND has_table_privilege('phi_custodian', oid, 'SELECT') GROUP BY role;
SELECT is(string_agg(relname::text, ' ' ORDER BY relname), 'audit_checkpoint audit_leaf audit_log audit_node audit_retired audit_signer audit_state audited_tables', 'the audit trail: auditors alone may read') FROM pg_class
WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'v', 'p') AND has_table_privilege('phi_auditor', oid, 'SELECT') AND NOT has_table_privilege('phi_custodian', oid, 'SELECT');
SELECT is(string_agg(relname::text, ' ' ORDER BY relname), NULL, 'and write nothing: ' || role) FROM unnest(ARRAY['phi_custodian', 'phi_auditor']) role LEFT JOIN pg_class
ON relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege(role, oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') GROUP BY role;
-- Nor by way of rights on all tables: each one asks who writes, in whatever role of replication.
SELECT is((SELECT string_agg(t.tgtype || t.tgenabled::text, ',') FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = 'phi.only_owner'::regproc), '62A', relname || ' is written by its owner alone') FROM pg_class c
WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'p');
SELECT is(has_schema_privilege('t_nobody', 'phi', 'CREATE'), false, 'nobody creates in schema phi');
SELECT is(rolcanlogin OR rolsuper OR rolcreaterole OR rolbypassrls, false, rolname || ' is a mere group') FROM pg_roles WHERE rolname IN ('phi_custodian', 'phi_auditor');

-- Everything says what it is.
SELECT is(string_agg(signature, ', ' ORDER BY signature), NULL, 'each function of phi has a comment') FROM t.function WHERE schema = 'phi' AND obj_description(oid, 'pg_proc') IS NULL;
SELECT is(string_agg(relname::text, ', ' ORDER BY relname), NULL, 'so has each table and view') FROM pg_class WHERE relnamespace = 'phi'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') IS NULL;
SELECT is(string_agg(enc, ', '), NULL, 'and each type') FROM t.type WHERE obj_description(enc::regtype, 'pg_type') IS NULL;
SELECT isnt(obj_description('phi'::regnamespace, 'pg_namespace'), NULL, 'and the schema');

-- The types look to clients as their base types do.
SELECT is(format('%s %s %s %s', e.typcategory, e.typcollation <> 0, e.typstorage, e.typnamespace::regnamespace), format('%s %s e pg_catalog', b.typcategory, b.typcollation <> 0), 'category, collation, storage, schema: ' || enc)
FROM t.type JOIN pg_type e ON e.typname = enc JOIN pg_type b ON b.oid = base::regtype;
SELECT is(format_type(enc::regtype, n), format('%s(%s)', enc, class), format('%s of class %s', enc, class)) FROM t.type, (VALUES (0, 'general'), (1, 'identity'), (2, 'insurance'), (3, 'clinical'), (4, 'sensitive')) c(n, class);
SELECT throws_ok(format('CREATE TABLE t.x (v %s(%s))', enc, modifier), '22023', NULL, format('%s(%s)', enc, modifier)) FROM t.type, unnest(ARRAY['secret', '1', 'search', 'identity, clinical', '"Identity"']) modifier WHERE enc = 'enctext' OR modifier = 'secret';

-- NULL, unknown and empty arguments: a clear error or NULL, and nothing done.
CREATE TABLE t.call (call text, wanted text);
INSERT INTO t.call VALUES
  ('phi.create_clinic(NULL, ''x'')', '22004'), ('phi.create_clinic(''x'', NULL)', '22004'), ('phi.create_clinic('''', ''x'')', '22023'), ('phi.create_clinic('' x'', ''x'')', '22023'), ('phi.create_clinic(E''x\n'', ''x'')', '22023'),
  ('phi.create_clinic(repeat(''x'', 65), ''x'')', '22023'), ('phi.create_clinic(''a'', ''again'')', '42710'),
  ('phi.rotate_key(NULL, ''identity'')', '42704'), ('phi.rotate_key(''a'', NULL)', '22004'), ('phi.rotate_key(''none'', ''identity'')', '42704'), ('phi.rotate_key(''a'', ''none'')', '22023'), ('phi.rotate_key(''a'', ''search'')', '22023'),
  ('phi.grant_clinic(NULL, ''a'')', '42704'), ('phi.grant_clinic(''t_nobody'', NULL)', '42704'), ('phi.grant_clinic(''t_nobody'', ''none'')', '42704'), ('phi.grant_clinic(''no_such_role'', ''a'')', '42704'), ('phi.grant_clinic(12345678::oid::regrole, ''a'')', '42704'),
  ('phi.grant_clinic(''t_nobody'', ''a'', ''{none}'')', '22023'), ('phi.grant_clinic(''t_nobody'', ''a'', ''{NULL}'')', '22004'), ('phi.grant_clinic(''t_nobody'', ''a'', ''{search}'')', '22023'),
  ('phi.revoke_clinic(NULL, ''a'')', '42704'), ('phi.revoke_clinic(''t_app_a'', NULL)', '42704'), ('phi.revoke_clinic(''t_nobody'', ''a'')', '42704'), ('phi.revoke_clinic(''t_app_a'', ''none'')', '42704'),
  ('phi.isolate(NULL, ''clinic'')', '42809'), ('phi.isolate(''t.call'', NULL)', '42703'), ('phi.isolate(''t.call'', ''none'')', '42703'), ('phi.isolate(''t.function'', ''name'')', '42809'), ('phi.isolate(''t.none'', ''clinic'')', '42P01'), ('phi.isolate(''t.call'', ''ctid'')', '42703'),
  ('phi.rotate_search_key(NULL)', '22004'), ('phi.rotate_search_key(''none'')', '42704'),
  ('phi.destroy_key(NULL)', '22004'), ('phi.destroy_key(1, NULL)', '22004'), ('phi.destroy_key(99999)', '42704'), ('phi.destroy_key((SELECT min(key_id) FROM phi.keys))', '55000'),
  ('phi.start_shred(NULL, ''a'')', '22004'), ('phi.start_shred(''a'', NULL)', '22004'), ('phi.start_shred(''a'', ''b'')', '22023'), ('phi.start_shred(''none'', ''none'')', '42704'), ('phi.shred_result(NULL)', '55000'),
  ('phi.approve(NULL)', '22004'), ('phi.approve(99999)', '42704'), ('phi.refuse_request(NULL)', '22004'), ('phi.refuse_request(99999)', '42704'),
  ('phi.open_compromise(NULL, ''x'', false, 2)', '22004'), ('phi.open_compromise(NULL, ''x'', NULL, 2)', '22004'), ('phi.open_compromise(1, ''x'', true, 2)', '22023'), ('phi.open_compromise(99999, ''x'', false, 2)', '42704'),
  ('phi.open_compromise((SELECT min(key_id) FROM phi.keys), NULL, false, 2)', '22004'), ('phi.open_compromise((SELECT min(key_id) FROM phi.keys), '' '', false, 2)', '22004'), ('phi.open_compromise((SELECT min(key_id) FROM phi.keys), ''x'', false, NULL)', '22023'), ('phi.open_compromise(NULL, NULL, true, 2)', '22004'),
  ('phi.compromise_step(NULL)', '42704'), ('phi.compromise_step(99999)', '42704'),
  ('phi.unseal('''')', '22023'), ('phi.unseal(''a passphrase'')', '22023'), ('phi.remove_custodian(NULL)', '22004'), ('phi.remove_custodian(''none'')', '42704'),
  ('phi.enroll_custodian(NULL, 1, 1, ''x'')', '22004'), ('phi.enroll_custodian(''x'', 1, 1, ''x'')', '22023'),
  ('phi.start_protect(''protect'', NULL, ''clinic'', ''{}'', ''{}'', true, false, ''1s'')', '22004'), ('phi.start_protect(''protect'', ''t.call'', ''clinic'', ''{}'', ''{}'', true, false, ''0s'')', '22023'), ('phi.start_protect(''unprotect'', ''t.call'', ''clinic'', ''[]'', ''{}'', true, false, ''1s'')', '22004'),
  ('phi.restart_protect(NULL, ''running'')', '42704'), ('phi.restart_protect(1, ''running'')', '42704'), ('phi.protect_step(NULL)', '42704'),
  ('phi.unisolate(NULL)', '42704'), ('phi.unisolate(''t.call'')', '42704'), ('phi.unisolate(0::regclass)', '42704'), ('phi.isolate(99999999::regclass, ''clinic'')', '42703');
CREATE TABLE t.before AS SELECT (SELECT count(*) FROM phi.clinic) clinics, (SELECT count(*) FROM phi.data_key) keys, (SELECT count(*) FROM phi.clinic_grant) grants, (SELECT count(*) FROM phi.grant_event) events, (SELECT count(*) FROM phi.key_event) key_events, (SELECT count(*) FROM phi.request) requests, (SELECT count(*) FROM phi.compromise_report) reports, (SELECT count(*) FROM phi.rekey_job) jobs, (SELECT count(*) FROM pg_policy) policies;
SELECT throws_ok('SELECT ' || call, wanted, NULL, 'refused: ' || call) FROM t.call;
SELECT results_eq('TABLE t.before', 'SELECT (SELECT count(*) FROM phi.clinic) clinics, (SELECT count(*) FROM phi.data_key) keys, (SELECT count(*) FROM phi.clinic_grant) grants, (SELECT count(*) FROM phi.grant_event) events, (SELECT count(*) FROM phi.key_event) key_events, (SELECT count(*) FROM phi.request) requests, (SELECT count(*) FROM phi.compromise_report) reports, (SELECT count(*) FROM phi.rekey_job) jobs, (SELECT count(*) FROM pg_policy) policies', 'and nothing was done');
SELECT is(t.run('t_app_a', 'a', 'SELECT ' || call), wanted, call)
FROM (VALUES ('phi.encrypt(''x'', NULL) IS NULL', 'true'), ('phi.encrypt(''x'', ''none'')', 'ERROR 22023'), ('phi.encrypt(''x'', '''')', 'ERROR 22023'), ('phi.encrypt(''x'', ''search'')', 'ERROR 22023'),
             ('phi.decrypt(NULL::enctext) IS NULL', 'true'), ('(phi.describe(NULL::enctext)).key_id IS NULL', 'true')) v(call, wanted);
SELECT * FROM finish();
ROLLBACK;
