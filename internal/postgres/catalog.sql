-- What clients see of PostgreSQL's own functions and catalog. Runs after setup.sql.
-- A statement ends with a semicolon and an empty line.

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
		AND (proname ~ '^pg_(try_)?advisory_' OR proname ~ '^lo(read|write|_[a-z0-9_]+)$'
			OR proname IN ('inet_server_addr', 'inet_server_port', 'set_config', 'pg_notify', 'pg_export_snapshot')) LOOP
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
-- the columns of version 16, the version that clients see: psql asks for them.
CREATE PROCEDURE sys.show_instead(catalog text, col text, val text, condition text) LANGUAGE plpgsql AS $$
DECLARE
	columns text[] := ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
		WHERE attrelid = ('pg_catalog.' || catalog)::regclass AND attnum > 0 ORDER BY attnum);
	expressions text[] := pg_catalog.array_replace(columns, col, val || ' AS ' || col);
	missing record;
BEGIN
	FOR missing IN SELECT * FROM (VALUES ('pg_database', 'datlocprovider', '''c''::"char"', ''), ('pg_database', 'daticulocale', 'NULL::text', 'datlocale'),
		('pg_database', 'daticurules', 'NULL::text', ''), ('pg_database', 'datcollversion', 'NULL::text', ''),
		('pg_collation', 'colliculocale', 'NULL::text', 'colllocale'), ('pg_collation', 'collicurules', 'NULL::text', ''),
		('pg_index', 'indnullsnotdistinct', 'false', ''), ('pg_publication_rel', 'prqual', 'NULL::pg_node_tree', ''),
		('pg_publication_rel', 'prattrs', 'NULL::int2vector', ''), ('pg_auth_members', 'oid', 'NULL::oid', ''),
		('pg_auth_members', 'inherit_option', 'true', ''), ('pg_auth_members', 'set_option', 'true', ''), ('pg_subscription', 'suborigin', '''any''::text', ''),
		('pg_subscription', 'subpasswordrequired', 'true', ''), ('pg_subscription', 'subrunasowner', 'false', '')) AS m (c, name, otherwise, later)
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

-- DSQL's indexes are of btree_index; it lists PostgreSQL's access methods too, and btree_table.
CALL sys.show_instead('pg_am', 'amname', $$CASE amname WHEN 'btree' THEN 'btree_index' ELSE amname END$$, $$true
	UNION ALL SELECT (oid::bigint + 8000)::oid, CASE amname WHEN 'heap' THEN 'btree_table' ELSE amname END, amhandler, amtype
	FROM pg_catalog.engine_pg_am WHERE amname IN ('btree', 'heap')$$);

CALL sys.show_instead('pg_collation', 'collname', 'collname', 'true');

CALL sys.show_instead('pg_publication_rel', 'prrelid', 'prrelid', 'true');

CALL sys.show_instead('pg_auth_members', 'roleid', 'roleid', 'true');

CALL sys.show_instead('pg_subscription', 'subname', 'subname', 'true');

DO $do$
BEGIN
	IF pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') IS NULL THEN -- before PostgreSQL 15
		CREATE VIEW pg_catalog.pg_publication_namespace AS SELECT NULL::oid AS oid, NULL::oid AS pnpubid, NULL::oid AS pnnspid WHERE false;
		GRANT SELECT ON pg_catalog.pg_publication_namespace TO PUBLIC;
	END IF;
END
$do$;

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

-- Names of tables may begin with the database's, as in information_schema.
CREATE FUNCTION sys.without_database(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
AS $$SELECT pg_catalog.regexp_replace($1, '^\s*(?:"postgres"|[Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss])\s*\.\s*((?:"(?:[^"]|"")+"|[^".]+)\.\s*(?:"(?:[^"]|"")+"|[^".]+))$', '\1')$$;

CREATE FUNCTION sys.engine_regclass(text) RETURNS regclass LANGUAGE internal STABLE STRICT AS 'text_regclass';

CREATE FUNCTION sys.engine_to_regclass(text) RETURNS regclass LANGUAGE internal STABLE STRICT AS 'to_regclass';

CREATE OR REPLACE FUNCTION pg_catalog.regclass(text) RETURNS regclass LANGUAGE sql STABLE
AS $$SELECT sys.engine_regclass(sys.without_database($1))$$;

CREATE OR REPLACE FUNCTION pg_catalog.to_regclass(text) RETURNS regclass LANGUAGE sql STABLE
AS $$SELECT sys.engine_to_regclass(sys.without_database($1))$$;

-- Nothing can be installed, and the version is DSQL's.
DO $do$
BEGIN
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_available_extensions AS SELECT * FROM ('
		|| pg_catalog.rtrim(pg_catalog.pg_get_viewdef('pg_catalog.pg_available_extensions'), ';') || ') AS v WHERE false';
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_available_extension_versions AS SELECT * FROM ('
		|| pg_catalog.rtrim(pg_catalog.pg_get_viewdef('pg_catalog.pg_available_extension_versions'), ';') || ') AS v WHERE false';
	EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_settings AS ' || pg_catalog.rtrim(pg_catalog.regexp_replace(
		pg_catalog.pg_get_viewdef('pg_catalog.pg_settings'), '(a\.)?setting,',
		$$CASE name WHEN 'server_version' THEN '16.15' WHEN 'server_version_num' THEN '160015' ELSE setting END AS setting,$$), ';');
END
$do$;

-- DSQL does not have them.
ALTER VIEW pg_catalog.pg_locks RENAME TO engine_pg_locks;

ALTER VIEW pg_catalog.pg_stat_activity RENAME TO engine_pg_stat_activity;
