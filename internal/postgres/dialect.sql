-- What makes PostgreSQL more like DSQL, as far as it can do that by itself. Runs in
-- template1 after setup.sql. A statement ends with a semicolon and an empty line.

SET allow_system_table_mods = on;

CREATE SCHEMA sys;

GRANT USAGE ON SCHEMA sys TO PUBLIC;

-- The engine's own, under other names: those of pg_catalog are about to change.
CREATE FUNCTION sys.engine_database() RETURNS name LANGUAGE internal STABLE STRICT AS 'current_database';

CREATE FUNCTION sys.engine_setting(text) RETURNS text LANGUAGE internal STABLE STRICT AS 'show_config_by_name';

CREATE FUNCTION sys.engine_setting(text, boolean) RETURNS text LANGUAGE internal STABLE STRICT AS 'show_config_by_name_missing_ok';

CREATE FUNCTION sys.engine_set(text, text, boolean) RETURNS text LANGUAGE internal VOLATILE AS 'set_config_by_name';

CREATE FUNCTION sys.engine_index(oid) RETURNS text LANGUAGE internal STABLE STRICT AS 'pg_get_indexdef';

CREATE FUNCTION sys.engine_index(oid, integer, boolean) RETURNS text LANGUAGE internal STABLE STRICT AS 'pg_get_indexdef_ext';

CREATE FUNCTION sys.engine_constraint(oid) RETURNS text LANGUAGE internal STABLE STRICT AS 'pg_get_constraintdef';

CREATE FUNCTION sys.engine_constraint(oid, boolean) RETURNS text LANGUAGE internal STABLE STRICT AS 'pg_get_constraintdef_ext';

CREATE OR REPLACE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
AS $$SELECT 'PostgreSQL 16'$$;

CREATE OR REPLACE FUNCTION pg_catalog.current_database() RETURNS name LANGUAGE sql STABLE STRICT PARALLEL SAFE
AS $$SELECT 'postgres'::pg_catalog.name$$;

-- Not strict, as the planner would not put it in place: PostgreSQL runs its own by number.
CREATE OR REPLACE FUNCTION pg_catalog.current_setting(text) RETURNS text LANGUAGE sql STABLE
AS $$SELECT CASE pg_catalog.lower($1) WHEN 'server_version' THEN '16.15' WHEN 'server_version_num' THEN '160015' ELSE sys.engine_setting($1) END$$;

CREATE OR REPLACE FUNCTION pg_catalog.current_setting(text, boolean) RETURNS text LANGUAGE sql STABLE
AS $$SELECT CASE pg_catalog.lower($1) WHEN 'server_version' THEN '16.15' WHEN 'server_version_num' THEN '160015' ELSE sys.engine_setting($1, $2) END$$;

CREATE FUNCTION sys.dsql_major_version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';

-- Functions that DSQL does not have. They get other numbers, as PostgreSQL runs its own by
-- number: so what SQL functions, views and defaults call is refused too.
DO $do$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT oid, proname FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
		AND (proname ~ '^pg_(try_)?advisory_' OR proname IN ('inet_server_addr', 'inet_server_port', 'set_config')) LOOP
		UPDATE pg_catalog.pg_proc SET oid = (f.oid::bigint + 4000000000)::oid, proisstrict = false,
			prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'plpgsql'),
			prosrc = CASE f.proname
				WHEN 'set_config' THEN 'BEGIN RAISE ''setting configuration parameter "%" not supported'', $1 USING ERRCODE = ''0A000''; END'
				ELSE pg_catalog.format('BEGIN RAISE ''function %s not supported'' USING ERRCODE = ''0A000''; END', f.proname) END
			WHERE oid = f.oid;
	END LOOP;
END
$do$;

-- The one text search configuration is simple, and collations are those of C.
DELETE FROM pg_catalog.pg_ts_config WHERE cfgname <> 'simple';

DELETE FROM pg_catalog.pg_ts_dict USING pg_catalog.pg_ts_template t WHERE t.oid = dicttemplate AND tmplname = 'snowball';

DELETE FROM pg_catalog.pg_ts_template WHERE tmplname = 'snowball';

DELETE FROM pg_catalog.pg_collation WHERE collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic');

-- A table of PostgreSQL's under another name, which it does not mind as it uses numbers, and
-- a view in its place that has other values in one column and some of the rows. It also has
-- the columns of version 16, which is what clients are told: psql asks for them.
CREATE PROCEDURE sys.show_instead(catalog text, col text, val text, condition text) LANGUAGE plpgsql AS $$
DECLARE
	columns text[] := ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
		WHERE attrelid = ('pg_catalog.' || catalog)::regclass AND attnum > 0 ORDER BY attnum);
	expressions text[] := pg_catalog.array_replace(columns, col, val || ' AS ' || col);
	missing record;
BEGIN
	FOR missing IN SELECT * FROM (VALUES ('pg_database', 'datlocprovider', '''c''::"char"', ''), ('pg_database', 'daticulocale', 'NULL::text', 'datlocale'),
		('pg_database', 'daticurules', 'NULL::text', ''), ('pg_database', 'datcollversion', 'NULL::text', ''),
		('pg_collation', 'colliculocale', 'NULL::text', 'colllocale'), ('pg_collation', 'collicurules', 'NULL::text', '')) AS m (c, name, otherwise, later)
		WHERE c = catalog AND name <> ALL (columns) LOOP
		expressions := expressions || (CASE WHEN missing.later = ANY (columns) THEN missing.later ELSE missing.otherwise END || ' AS ' || missing.name);
	END LOOP;
	EXECUTE pg_catalog.format('ALTER TABLE pg_catalog.%s RENAME TO engine_%s', catalog, catalog);
	EXECUTE pg_catalog.format('CREATE VIEW pg_catalog.%s AS SELECT %s FROM pg_catalog.engine_%s WHERE %s', catalog,
		pg_catalog.array_to_string(expressions, ', '), catalog, condition);
	EXECUTE pg_catalog.format('GRANT SELECT ON pg_catalog.%s TO PUBLIC', catalog);
END
$$;

CALL sys.show_instead('pg_database', 'datname', $$'postgres'::pg_catalog.name$$, 'datname = sys.engine_database()');

CALL sys.show_instead('pg_am', 'amname', $$CASE amname WHEN 'btree' THEN 'btree_index' ELSE amname END$$, $$amname IN ('btree', 'heap')$$);

CALL sys.show_instead('pg_collation', 'collname', 'collname', 'true');

DROP PROCEDURE sys.show_instead;

-- A table is stored by its primary key, whose index therefore has all other columns.
CREATE FUNCTION sys.with_all_columns(definition text, index oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT pg_catalog.regexp_replace(definition, ' INCLUDE \(.*', '') || coalesce(' INCLUDE (' || pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')', '')
	FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attnum <> ALL ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
	WHERE i.indexrelid = index
$$;

CREATE FUNCTION sys.index_definition(definition text, index oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_index WHERE indexrelid = index AND indisprimary)
		THEN sys.with_all_columns(shown, index) ELSE shown END
	FROM (SELECT pg_catalog.regexp_replace(definition, ' USING btree \(', ' USING btree_index (') AS shown) AS d
$$;

CREATE FUNCTION sys.constraint_definition(definition text, con oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT coalesce((SELECT sys.with_all_columns(definition, conindid) FROM pg_catalog.pg_constraint WHERE oid = con AND contype = 'p'), definition)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.pg_get_indexdef(oid) RETURNS text LANGUAGE sql STABLE
AS $$SELECT sys.index_definition(sys.engine_index($1), $1)$$;

CREATE OR REPLACE FUNCTION pg_catalog.pg_get_indexdef(oid, integer, boolean) RETURNS text LANGUAGE sql STABLE
AS $$SELECT CASE $2 WHEN 0 THEN sys.index_definition(sys.engine_index($1, $2, $3), $1) ELSE sys.engine_index($1, $2, $3) END$$;

CREATE OR REPLACE FUNCTION pg_catalog.pg_get_constraintdef(oid) RETURNS text LANGUAGE sql STABLE
AS $$SELECT sys.constraint_definition(sys.engine_constraint($1), $1)$$;

CREATE OR REPLACE FUNCTION pg_catalog.pg_get_constraintdef(oid, boolean) RETURNS text LANGUAGE sql STABLE
AS $$SELECT sys.constraint_definition(sys.engine_constraint($1, $2), $1)$$;

-- Jobs. A job is done here when its statement is; the view shows it as submitted
-- for a tenth of a second.
CREATE TABLE sys.job (
	job_id text PRIMARY KEY,
	details text, -- why it failed
	job_type text NOT NULL,
	object_id oid,
	object_name text,
	start_time timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	held bigint -- it stays processing until sys.job_epoch is later
);

CREATE SEQUENCE sys.job_epoch;

SELECT pg_catalog.setval('sys.job_epoch', 1);

CREATE VIEW sys.jobs AS
SELECT job_id,
	CASE WHEN held THEN 'processing' WHEN NOT done THEN 'submitted' WHEN details IS NULL THEN 'completed' ELSE 'failed' END AS status,
	CASE WHEN done THEN details END AS details,
	job_type,
	1259::oid AS class_id,
	object_id,
	CASE WHEN NOT done OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = object_id) THEN object_name END AS object_name,
	start_time,
	CASE WHEN done THEN start_time + interval '100 milliseconds' END AS update_time
FROM (SELECT job_id, details, job_type, object_id, object_name, start_time, held,
		NOT held AND pg_catalog.clock_timestamp() > start_time + interval '100 milliseconds' AS done
	FROM (SELECT job_id, details, job_type, object_id, object_name, start_time,
		coalesce(job.held >= (SELECT last_value FROM sys.job_epoch), false) AS held FROM sys.job) AS job) AS job
WHERE start_time > pg_catalog.clock_timestamp() - interval '30 minutes';

GRANT SELECT ON sys.jobs TO PUBLIC;

-- A job's ID is a UUID in base 32, in lower case and without padding.
CREATE FUNCTION sys.add_job(kind text, object oid, object_name text, failure text DEFAULT NULL) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
	INSERT INTO sys.job (job_id, details, job_type, object_id, object_name)
	SELECT string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', 1 + substring(bits FROM 1 + 5 * i FOR 5)::bit(5)::int, 1), '' ORDER BY i),
		failure, kind, object, object_name
	FROM generate_series(0, 25) AS i,
		(SELECT ('x' || replace(gen_random_uuid()::text, '-', ''))::bit(128) || B'00' AS bits) AS id
	RETURNING job_id
$$;

-- What CREATE INDEX ASYNC runs. A unique index that cannot be is not left behind. There is no job if
-- IF NOT EXISTS finds the name taken.
CREATE FUNCTION sys.build_index(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made oid;
	failure text;
	violated text;
BEGIN
	PERFORM sys.engine_set('dsqltest.index', '', true);
	BEGIN
		EXECUTE command;
	EXCEPTION WHEN unique_violation THEN
		GET STACKED DIAGNOSTICS violated = SCHEMA_NAME;
		IF violated = 'pg_catalog' THEN -- two sessions create it at the same time
			RAISE 'schema has been updated by another transaction (OC001)' USING ERRCODE = '40001';
		END IF;
		failure := 'Found duplicate key while validating index for UCVs';
	WHEN program_limit_exceeded THEN
		EXECUTE command || E'\n WHERE false'; -- may find that the key cannot be
		RAISE 'key size too large' USING ERRCODE = '54000';
	END;
	made := nullif(pg_catalog.current_setting('dsqltest.index', true), '')::oid;
	IF made IS NULL AND failure IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN sys.add_job('INDEX_BUILD', made, (SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = made), failure);
END
$$;

-- What ALTER TABLE ASYNC runs. A constraint that does not hold stays NOT VALID.
CREATE FUNCTION sys.validate_constraint(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	failure text;
BEGIN
	BEGIN
		EXECUTE command;
	EXCEPTION WHEN check_violation OR foreign_key_violation OR not_null_violation THEN
		failure := sqlerrm;
	END;
	RETURN sys.add_job('VALIDATE_CONSTRAINT', NULL, NULL, failure);
END
$$;

CREATE PROCEDURE sys.wait_for_job(job text, INOUT succeeded boolean DEFAULT NULL)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	IF job !~ '^[a-z2-7]{26}$' THEN
		RAISE 'Unable to convert text to UUID' USING ERRCODE = '22P02';
	END IF;
	WHILE EXISTS (SELECT FROM sys.jobs WHERE job_id = job AND status IN ('submitted', 'processing')) LOOP
		PERFORM pg_sleep(0.005);
	END LOOP;
	succeeded := EXISTS (SELECT FROM sys.jobs WHERE job_id = job AND status = 'completed');
END
$$;

-- Roles. PostgreSQL's belong to all clusters of the process, so a cluster has a list
-- of those that are its own.
CREATE TABLE sys.roles (name text PRIMARY KEY, login boolean NOT NULL);

-- pg_roles shows them, and whether they may log in here.
DO $do$
DECLARE
	definition text := pg_catalog.rtrim(pg_catalog.pg_get_viewdef('pg_catalog.pg_roles'), ';');
BEGIN
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_roles AS ' || pg_catalog.replace(definition, 'pg_authid.rolcanlogin',
		'coalesce((SELECT r.login FROM sys.roles r WHERE r.name = pg_authid.rolname), pg_authid.rolcanlogin) AS rolcanlogin')
		|| $$ WHERE pg_authid.rolname IN ('admin', CURRENT_USER) OR EXISTS (SELECT FROM sys.roles r WHERE r.name = pg_authid.rolname)$$;
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_available_extensions AS SELECT * FROM ('
		|| pg_catalog.rtrim(pg_catalog.pg_get_viewdef('pg_catalog.pg_available_extensions'), ';') || ') AS v WHERE false';
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_available_extension_versions AS SELECT * FROM ('
		|| pg_catalog.rtrim(pg_catalog.pg_get_viewdef('pg_catalog.pg_available_extension_versions'), ';') || ') AS v WHERE false';
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_settings AS ' || pg_catalog.rtrim(pg_catalog.regexp_replace(
		pg_catalog.pg_get_viewdef('pg_catalog.pg_settings'), '(a\.)?setting,',
		$$CASE name WHEN 'server_version' THEN '16.15' WHEN 'server_version_num' THEN '160015' ELSE setting END AS setting,$$), ';');
END
$do$;

CREATE TABLE sys.iam_mapping (role text REFERENCES sys.roles, arn text, iam_oid oid, PRIMARY KEY (role, arn));

CREATE SEQUENCE sys.iam_oid START 26398 CACHE 1;

CREATE VIEW sys.iam_pg_role_mappings AS
SELECT m.iam_oid, m.arn, r.oid AS pg_role_oid, m.role AS pg_role_name,
	a.oid AS grantor_pg_role_oid, a.rolname::text AS grantor_pg_role_name
FROM sys.iam_mapping m
JOIN pg_catalog.pg_roles r ON r.rolname = m.role
JOIN pg_catalog.pg_roles a ON a.rolname = 'admin';

GRANT SELECT ON sys.iam_pg_role_mappings TO PUBLIC;

CREATE FUNCTION sys.is_admin() RETURNS boolean LANGUAGE sql STABLE AS $$
	SELECT session_user IN ('admin', 'dsqltest')
$$;

CREATE PROCEDURE sys.create_role(who text, may_log_in boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	IF NOT sys.is_admin() THEN
		RAISE 'permission denied to create role' USING ERRCODE = '42501';
	ELSIF who LIKE 'pg\_%' THEN
		RAISE 'role name "%" is reserved', who USING ERRCODE = '42939';
	ELSIF who IN ('admin', 'postgres', 'dsqltest') OR EXISTS (SELECT FROM sys.roles WHERE name = who) THEN
		RAISE 'role "%" already exists', who USING ERRCODE = '42710';
	END IF;
	BEGIN
		EXECUTE format('CREATE ROLE %I LOGIN', who);
		IF sys.engine_setting('server_version_num')::int >= 160000 THEN -- before, CREATEROLE was enough
			EXECUTE format('GRANT %I TO admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', who);
		END IF;
	EXCEPTION WHEN duplicate_object OR unique_violation THEN -- another cluster has one of that name
	END;
	INSERT INTO sys.roles VALUES (who, may_log_in);
END
$$;

CREATE PROCEDURE sys.alter_role(who text, may_log_in boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	IF NOT sys.is_admin() THEN
		RAISE 'permission denied to alter role' USING ERRCODE = '42501';
	END IF;
	UPDATE sys.roles SET login = may_log_in WHERE name = who;
	IF NOT FOUND THEN
		RAISE 'role "%" does not exist', who USING ERRCODE = '42704';
	END IF;
END
$$;

-- The name of a role belongs to all clusters of the process, so a new one takes its place;
-- it cannot take over what the role owns or may use.
CREATE PROCEDURE sys.rename_role(who text, new_name text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	may_log_in boolean := (SELECT login FROM sys.roles WHERE name = who);
BEGIN
	IF may_log_in IS NULL THEN
		RAISE 'role "%" does not exist', who USING ERRCODE = '42704';
	ELSIF EXISTS (SELECT FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 1260 AND d.refobjid = r.oid AND r.rolname = who
		JOIN pg_database b ON b.oid = d.dbid) THEN
		RAISE 'dsqltest: role "%" owns or may use objects, and so cannot be renamed here', who USING ERRCODE = '0A000';
	END IF;
	CALL sys.create_role(new_name, may_log_in);
	UPDATE sys.iam_mapping SET role = new_name WHERE role = who;
	DELETE FROM sys.roles WHERE name = who;
END
$$;

CREATE PROCEDURE sys.drop_roles(if_exists boolean, VARIADIC roles text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	who text;
BEGIN
	IF NOT sys.is_admin() THEN
		RAISE 'permission denied to drop role' USING ERRCODE = '42501';
	END IF;
	FOREACH who IN ARRAY roles LOOP
		IF EXISTS (SELECT FROM sys.iam_mapping m WHERE m.role = who) OR EXISTS (
			SELECT FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 1260 AND d.refobjid = r.oid AND r.rolname = who
			JOIN pg_database b ON b.oid = d.dbid) THEN
			RAISE 'role "%" cannot be dropped because some objects depend on it', who USING ERRCODE = '2BP01';
		END IF;
		DELETE FROM sys.roles WHERE name = who;
		IF NOT FOUND AND NOT if_exists THEN
			RAISE 'role "%" does not exist', who USING ERRCODE = '42704';
		END IF;
	END LOOP;
END
$$;

CREATE PROCEDURE sys.iam_grant(who text, principal text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	may_log_in boolean;
BEGIN
	SELECT login INTO may_log_in FROM sys.roles WHERE name = who;
	IF NOT sys.is_admin() THEN
		RAISE 'permission denied to grant IAM trust with role %', who USING ERRCODE = '42501';
	ELSIF principal !~ '^arn:[a-z-]+:iam::[0-9]{12}:[a-z-]+/.+' THEN
		RAISE 'IAM role must look like an IAM ARN' USING ERRCODE = '22023';
	ELSIF who IN ('admin', 'postgres') THEN
		RAISE 'Role % not supported', who USING ERRCODE = '0A000';
	ELSIF may_log_in IS NULL THEN
		RAISE 'Role % does not exist', who USING ERRCODE = '42704';
	ELSIF NOT may_log_in THEN
		RAISE 'role % must have the LOGIN attribute', who USING ERRCODE = '22023';
	END IF;
	INSERT INTO sys.iam_mapping VALUES (who, principal, nextval('sys.iam_oid')::oid);
EXCEPTION WHEN unique_violation THEN
	RAISE 'IAM role % is already granted to role %', principal, who USING ERRCODE = '42710';
END
$$;

CREATE PROCEDURE sys.iam_revoke(who text, principal text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	IF NOT sys.is_admin() THEN
		RAISE 'permission denied to revoke IAM trust with role %', who USING ERRCODE = '42501';
	END IF;
	DELETE FROM sys.iam_mapping m WHERE m.role = who AND m.arn = principal;
	IF NOT FOUND THEN
		RAISE 'IAM role % does not exist', principal USING ERRCODE = '42704';
	END IF;
END
$$;

-- Why a role may not log in with a principal; empty if it may.
CREATE FUNCTION sys.refuse_login(who text, principal text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT CASE
		WHEN NOT EXISTS (SELECT FROM sys.roles WHERE name = who) THEN 'does not exist'
		WHEN EXISTS (SELECT FROM sys.roles WHERE name = who AND NOT login) THEN 'may not log in'
		WHEN NOT EXISTS (SELECT FROM sys.iam_mapping m WHERE m.role = who AND m.arn = principal) THEN 'is not granted to ' || principal
		ELSE ''
	END
$$;

-- A value that is too long counts as it is stored, and that is compressed, but for bytea.
CREATE TABLE sys.scratch (v text);

CREATE FUNCTION sys.stored_size(v text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	size bigint;
BEGIN
	INSERT INTO sys.scratch VALUES ($1);
	DELETE FROM sys.scratch RETURNING pg_column_size(scratch.v) INTO size;
	RETURN size;
END
$$;

CREATE FUNCTION sys.stored_size(changed jsonb, t oid) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
	c record;
	size bigint;
	total bigint := 24;
BEGIN
	FOR c IN SELECT atttypid, attstorage, value FROM pg_attribute JOIN jsonb_each_text(changed) AS j ON key = attname
		WHERE attrelid = t AND attnum > 0 AND value IS NOT NULL LOOP
		size := octet_length(c.value);
		IF c.atttypid = 'bytea'::regtype THEN
			size := (size - 2) / 2;
		ELSIF (size > 1048576 OR size > 65535 AND c.atttypid = 'varchar'::regtype) AND c.attstorage IN ('x', 'm') THEN
			size := sys.stored_size(c.value);
		END IF;
		IF size > 1048576 THEN
			RAISE 'datatype limit greater than 1048576 bytes not supported for %', format_type(c.atttypid, NULL) USING ERRCODE = '54000';
		ELSIF size > 65535 AND c.atttypid = 'varchar'::regtype THEN
			RAISE 'datatype limit greater than 65535 bytes not supported for varchar' USING ERRCODE = '54000';
		END IF;
		total := total + size;
	END LOOP;
	RETURN total;
END
$$;

-- The limits on what a transaction writes. Every table gets this as a trigger, which
-- sees the rows that foreign keys change too.
CREATE FUNCTION sys.count_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	size bigint;
	longest bigint;
BEGIN
	SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.pg_column_size(changed)), pg_catalog.max(pg_catalog.pg_column_size(changed))
		INTO n, size, longest FROM changed;
	IF n = 0 THEN
		RETURN NULL;
	ELSIF longest > 65535 THEN
		SELECT pg_catalog.sum(s), pg_catalog.max(s) INTO size, longest
			FROM (SELECT sys.stored_size(pg_catalog.to_jsonb(changed), tg_relid) AS s FROM changed) AS sizes;
		IF longest > 2097152 THEN
			RAISE 'maximum row size exceeded' USING ERRCODE = '54000';
		END IF;
	END IF;
	n := n + coalesce(nullif(sys.engine_setting('dsqltest.rows', true), ''), '0')::bigint;
	size := size + coalesce(nullif(sys.engine_setting('dsqltest.bytes', true), ''), '0')::bigint;
	IF n > 3000 THEN
		RAISE 'transaction row limit exceeded' USING ERRCODE = '54000';
	ELSIF size > 10485760 THEN
		RAISE 'transaction size limit 10mb exceeded' USING ERRCODE = '54000',
			DETAIL = pg_catalog.format('Current transaction size %smb > 10mb', size / 1048576);
	END IF;
	PERFORM sys.engine_set('dsqltest.rows', n::text, true), sys.engine_set('dsqltest.bytes', size::text, true);
	RETURN NULL;
END
$$;

-- PostgreSQL would show the trigger to tools that look at a schema.
CREATE FUNCTION sys.count_changes_of(t regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER dsqltest_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS changed EXECUTE FUNCTION sys.count_changes()', t);
	EXECUTE format('CREATE TRIGGER dsqltest_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS changed EXECUTE FUNCTION sys.count_changes()', t);
	EXECUTE format('CREATE TRIGGER dsqltest_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS changed EXECUTE FUNCTION sys.count_changes()', t);
	UPDATE pg_catalog.pg_trigger SET tgisinternal = true WHERE tgrelid = t AND tgname LIKE 'dsqltest\_%';
END
$$;

-- Types of columns: working-with-postgresql-compatibility-supported-data-types.
CREATE FUNCTION sys.base_type(t oid) RETURNS oid LANGUAGE sql STABLE AS $$
	WITH RECURSIVE base AS (
		SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE oid = t
		UNION ALL
		SELECT p.oid, p.typbasetype FROM base JOIN pg_catalog.pg_type p ON p.oid = base.typbasetype
	)
	SELECT oid FROM base WHERE typbasetype = 0
$$;

-- Compression is lz4, if PostgreSQL was built with it.
CREATE FUNCTION sys.has_lz4() RETURNS boolean LANGUAGE sql STABLE AS $$
	SELECT coalesce('lz4' = ANY (enumvals), false) FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'
$$;

CREATE FUNCTION sys.check_columns(t regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c record;
	n bigint := 0;
BEGIN
	FOR c IN SELECT attname, attidentity, atttypmod, sys.base_type(atttypid)::regtype::text AS base, format_type(atttypid, NULL) AS shown
		FROM pg_attribute WHERE attrelid = t AND attnum > 0 AND NOT attisdropped ORDER BY attnum LOOP
		n := n + 1;
		IF c.base NOT IN ('smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric', 'character', 'character varying', 'text',
			'date', 'time without time zone', 'time with time zone', 'timestamp without time zone', 'timestamp with time zone', 'interval',
			'boolean', 'bytea', 'uuid', 'json', 'jsonb') THEN
			RAISE 'datatype % not supported', c.shown USING ERRCODE = '0A000';
		ELSIF c.attidentity <> '' AND c.base <> 'bigint' THEN
			RAISE 'datatype % not supported, identity column type must be bigint', c.shown USING ERRCODE = '0A000';
		ELSIF c.base = 'character' AND c.atttypmod - 4 > 4096 THEN
			RAISE 'Datatype limit greater than 4096 bytes not supported for char' USING ERRCODE = '54000';
		ELSIF c.base = 'character varying' AND c.atttypmod - 4 > 65535 THEN
			RAISE 'Datatype limit greater than 65535 bytes not supported for varchar' USING ERRCODE = '54000';
		END IF;
	END LOOP;
	IF n > 256 AND EXISTS (SELECT FROM pg_constraint WHERE conrelid = t AND contype = 'p') THEN
		RAISE 'cannot use more than 256 columns in an index' USING ERRCODE = '54011';
	ELSIF n > 256 THEN
		RAISE 'tables can have at most 255 columns' USING ERRCODE = '54011';
	END IF;
	UPDATE pg_attribute SET atttypmod = ((18 << 16) | 6) + 4 -- a bare numeric is numeric(18,6)
		WHERE attrelid = t AND atttypid = 'numeric'::regtype AND atttypmod = -1 AND attnum > 0;
	UPDATE pg_attribute SET attcompression = 'l' WHERE sys.has_lz4() AND attrelid = t AND attnum > 0 AND NOT attisdropped AND attcompression = ''
		AND atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype, 'json'::regtype, 'jsonb'::regtype);
END
$$;

CREATE FUNCTION sys.check_indexes(t oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	refused text;
BEGIN
	IF (SELECT count(*) FROM pg_index WHERE indrelid = t) > 24 THEN
		RAISE 'more than 24 indexes per table are not allowed' USING ERRCODE = '54000';
	ELSIF EXISTS (SELECT FROM pg_index WHERE indrelid = t AND indnkeyatts > 8) THEN
		RAISE 'more than 8 column keys in an index are not supported' USING ERRCODE = '54011';
	ELSIF (SELECT count(*) FROM pg_statistic_ext WHERE stxrelid = t) > 5 THEN
		RAISE 'more than 5 extended statistics per table are not allowed' USING ERRCODE = '54000';
	ELSIF EXISTS (SELECT FROM pg_constraint WHERE conrelid = t AND contype IN ('p', 'u') AND condeferrable) THEN
		RAISE 'DEFERRABLE constraint not supported' USING ERRCODE = '0A000';
	END IF;
	SELECT format_type(a.atttypid, NULL) INTO refused FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts
		WHERE i.indrelid = t AND a.atttypid IN ('bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'interval'::regtype, 'timetz'::regtype);
	IF FOUND THEN
		RAISE 'datatype % is not supported in a key', refused USING ERRCODE = '0A000';
	END IF;
END
$$;

CREATE FUNCTION sys.check_counts() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	own oid[] := ARRAY(SELECT oid FROM pg_namespace WHERE nspname NOT IN ('sys', 'information_schema') AND nspname NOT LIKE 'pg\_%');
	kinds text := (SELECT string_agg(relkind, '') FROM pg_class WHERE relnamespace = ANY (own) AND relkind IN ('r', 'v', 'S'));
BEGIN
	IF cardinality(own) > 11 THEN -- public does not count
		RAISE 'more than 10 schemas not allowed' USING ERRCODE = '54000';
	ELSIF length(replace(replace(kinds, 'v', ''), 'S', '')) > 1000 THEN
		RAISE 'creating more than 1000 tables not allowed' USING ERRCODE = '54000';
	ELSIF length(replace(replace(kinds, 'r', ''), 'S', '')) > 5000 THEN
		RAISE 'creating more than 5000 views not allowed' USING ERRCODE = '54000';
	ELSIF length(replace(replace(kinds, 'r', ''), 'v', '')) > 5000 THEN
		RAISE 'creating more than 5000 sequences is not allowed' USING ERRCODE = '54000';
	END IF;
END
$$;

CREATE FUNCTION sys.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT DISTINCT objid, object_type, command_tag FROM pg_event_trigger_ddl_commands() LOOP
		IF c.object_type = 'table' THEN
			PERFORM sys.check_columns(c.objid), sys.check_indexes(c.objid);
			IF c.command_tag = 'CREATE TABLE' THEN
				PERFORM sys.count_changes_of(c.objid);
			END IF;
		ELSIF c.object_type = 'index' AND c.command_tag = 'CREATE INDEX' THEN
			PERFORM sys.check_indexes(indrelid) FROM pg_index WHERE indexrelid = c.objid;
			PERFORM sys.engine_set('dsqltest.index', c.objid::text, true);
		ELSIF c.object_type = 'statistics object' THEN
			PERFORM sys.check_indexes(stxrelid) FROM pg_statistic_ext WHERE oid = c.objid;
		END IF;
	END LOOP;
	IF tg_tag LIKE 'CREATE %' THEN
		PERFORM sys.check_counts();
	END IF;
END
$$;

-- Once a column or a constraint is dropped, the catalog does not say that it was of the primary key.
CREATE FUNCTION sys.before_alter_table() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	PERFORM sys.engine_set('dsqltest.keys', coalesce((SELECT string_agg(oid || ',' || conrelid || '.' || array_to_string(conkey, ',' || conrelid || '.'), ',')
		FROM pg_constraint WHERE contype = 'p'), ''), true);
END
$$;

CREATE FUNCTION sys.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE original LOOP
		IF c.object_type = 'table column' AND c.objid || '.' || c.objsubid = ANY (string_to_array(current_setting('dsqltest.keys', true), ',')) THEN
			RAISE 'cannot drop primary key column %', (c.address_names)[3] USING ERRCODE = '0A000';
		ELSIF c.object_type = 'table constraint' AND c.objid::text = ANY (string_to_array(current_setting('dsqltest.keys', true), ',')) THEN
			RAISE 'unsupported ALTER TABLE DROP CONSTRAINT statement' USING ERRCODE = '0A000';
		ELSIF c.object_type = 'table' THEN
			PERFORM sys.add_job('DROP', c.objid, c.object_identity);
		END IF;
	END LOOP;
END
$$;

CREATE EVENT TRIGGER dsqltest_before ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
EXECUTE FUNCTION sys.before_alter_table();

CREATE EVENT TRIGGER dsqltest_after ON ddl_command_end
WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE INDEX', 'CREATE SCHEMA', 'CREATE VIEW', 'CREATE SEQUENCE', 'CREATE STATISTICS')
EXECUTE FUNCTION sys.after_ddl();

CREATE EVENT TRIGGER dsqltest_drop ON sql_drop WHEN TAG IN ('ALTER TABLE', 'DROP TABLE')
EXECUTE FUNCTION sys.after_drop();


-- Conflicts: see internal/proxy.

-- The tables that statements name, in an order in which those on the search path come first; also
-- those that functions name, if the statements call any, and those that are bound to them by foreign keys.
CREATE FUNCTION sys.tables_of(statements text) RETURNS TABLE (id oid, schema name, name name) LANGUAGE sql STABLE AS $$
	WITH RECURSIVE functions AS (
		SELECT p.proname, p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'sys')
	), words AS (
		SELECT ' ' || pg_catalog.regexp_replace(pg_catalog.lower(statements || coalesce((SELECT pg_catalog.string_agg(' ' || f.prosrc, '') FROM functions f
			WHERE EXISTS (SELECT FROM functions g WHERE pg_catalog.strpos(pg_catalog.lower(statements), pg_catalog.lower(g.proname)) > 0)), '')),
			'[^[:alnum:]]+', ' ', 'g') || ' ' AS text
	), named AS (
		SELECT c.oid AS found FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, words
		WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'sys') AND n.nspname NOT LIKE 'pg\_%'
			AND pg_catalog.strpos(words.text, ' ' || pg_catalog.regexp_replace(pg_catalog.lower(c.relname), '[^[:alnum:]]+', ' ', 'g') || ' ') > 0
		UNION
		SELECT CASE f.conrelid WHEN named.found THEN f.confrelid ELSE f.conrelid END
		FROM pg_catalog.pg_constraint f JOIN named ON named.found IN (f.conrelid, f.confrelid) WHERE f.contype = 'f'
	)
	SELECT c.oid, n.nspname, c.relname FROM named JOIN pg_catalog.pg_class c ON c.oid = named.found JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname), c.oid
$$;

-- The columns of a table that INSERT can give values.
CREATE FUNCTION sys.columns_of(t oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute
	WHERE attrelid = t AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

-- Copies of the tables that statements name, for a transaction that has lost a conflict: they hide
-- the tables, and others do not see them. Returns what has been copied.
CREATE FUNCTION sys.copy_tables(statements text) RETURNS TABLE (copied_schema name, copied_name name)
LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
DECLARE
	t record;
	c record;
	made oid[] := '{}';
BEGIN
	FOR t IN SELECT * FROM sys.tables_of(statements) LOOP
		CONTINUE WHEN pg_catalog.to_regclass('pg_temp.' || pg_catalog.quote_ident(t.name)) IS NOT NULL;
		EXECUTE pg_catalog.format('CREATE TEMP TABLE %I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING INDEXES)', t.name, t.schema, t.name);
		FOR c IN SELECT attname, attidentity FROM pg_catalog.pg_attribute WHERE attrelid = t.id AND attidentity <> '' LOOP
			EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I ALTER COLUMN %I SET DEFAULT pg_catalog.nextval(%L)', t.name, c.attname,
				pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', t.schema, t.name), c.attname));
		END LOOP;
		IF sys.columns_of(t.id) IS NOT NULL THEN
			EXECUTE pg_catalog.format('INSERT INTO pg_temp.%1$I (%2$s) SELECT %2$s FROM %3$I.%1$I', t.name, sys.columns_of(t.id), t.schema);
		END IF;
		UPDATE pg_catalog.pg_class SET relowner = o.relowner, relacl = o.relacl FROM pg_catalog.pg_class o
			WHERE o.oid = t.id AND pg_class.oid = pg_catalog.to_regclass('pg_temp.' || pg_catalog.quote_ident(t.name));
		made := made || t.id;
		copied_schema := t.schema;
		copied_name := t.name;
		RETURN NEXT;
	END LOOP;
	FOR c IN SELECT f.oid AS key, r.relname AS name, p.relname AS parent FROM pg_catalog.pg_constraint f
		JOIN pg_catalog.pg_class r ON r.oid = f.conrelid JOIN pg_catalog.pg_class p ON p.oid = f.confrelid
		WHERE f.contype = 'f' AND f.conrelid = ANY (made) AND f.confrelid = ANY (made) LOOP
		EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I ADD %s', c.name,
			pg_catalog.regexp_replace(sys.engine_constraint(c.key), 'REFERENCES .*?\(', pg_catalog.format('REFERENCES pg_temp.%I(', c.parent)));
	END LOOP;
	EXECUTE 'DISCARD PLANS';
END
$$;

-- Writes the rows anew that this transaction has locked and not changed, so that they conflict with
-- the writes of transactions that began before its end.
CREATE FUNCTION sys.mark_locked(statements text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
DECLARE
	t record;
	own text[] := (SELECT pg_catalog.array_agg(transactionid::text) FROM pg_catalog.pg_locks
		WHERE locktype = 'transactionid' AND granted AND pid = pg_catalog.pg_backend_pid());
BEGIN
	FOR t IN SELECT * FROM sys.tables_of(statements) LOOP
		CONTINUE WHEN sys.columns_of(t.id) IS NULL;
		EXECUTE pg_catalog.format('WITH locked AS (DELETE FROM %1$I.%2$I WHERE xmax::text = ANY ($1) RETURNING %3$s)
			INSERT INTO %1$I.%2$I (%3$s) OVERRIDING SYSTEM VALUE SELECT * FROM locked', t.schema, t.name, sys.columns_of(t.id)) USING own;
	END LOOP;
END
$$;

-- Random values that are the same when a transaction executes its writes again: PostgreSQL resets
-- the setting when it rolls back to a savepoint.
CREATE FUNCTION sys.next_random() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	n bigint := 1 + coalesce(nullif(sys.engine_setting('dsqltest.random', true), ''), '0')::bigint;
BEGIN
	PERFORM sys.engine_set('dsqltest.random', n::text, true);
	RETURN pg_catalog.md5(pg_catalog.concat(pg_catalog.pg_backend_pid(), ' ', pg_catalog.now(), ' ', n));
END
$$;

CREATE OR REPLACE FUNCTION pg_catalog.gen_random_uuid() RETURNS uuid LANGUAGE sql VOLATILE
AS $$SELECT overlay(overlay(sys.next_random() PLACING '4' FROM 13) PLACING '8' FROM 17)::uuid$$;

CREATE OR REPLACE FUNCTION pg_catalog.random() RETURNS double precision LANGUAGE sql VOLATILE
AS $$SELECT ('x' || pg_catalog.substr(sys.next_random(), 1, 13))::bit(52)::bigint / 4503599627370496.0::double precision$$;
