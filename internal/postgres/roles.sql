-- Roles and their grants to IAM principals. Runs after catalog.sql. A statement ends with a semicolon and an empty line.

-- PostgreSQL's roles belong to all clusters of the process, so a cluster has a list
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

CREATE FUNCTION sys.acl_name(role oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT '"' || pg_catalog.replace(pg_catalog.pg_get_userbyid(role), '"', '""') || '"'
$$;

-- Returns a list of privileges with one role replaced by another.
CREATE FUNCTION sys.replace_in_acl(acl aclitem[], who oid, successor oid) RETURNS aclitem[] LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
	SELECT array_agg((CASE x.grantee WHEN 0 THEN '' ELSE sys.acl_name(CASE x.grantee WHEN who THEN successor ELSE x.grantee END) END
		|| substring(item::text FROM '^(?:"(?:[^"]|"")*"|[^"=]*)(=[a-zA-Z*]*/)')
		|| sys.acl_name(CASE x.grantor WHEN who THEN successor ELSE x.grantor END))::aclitem ORDER BY n)
	FROM unnest(acl) WITH ORDINALITY AS i (item, n), LATERAL (SELECT grantee, grantor FROM aclexplode(ARRAY[item]) LIMIT 1) AS x
$$;

-- The name of a role belongs to all clusters of the process, so a new role takes its place here,
-- and gets what the role owns and may use.
CREATE PROCEDURE sys.rename_role(who text, new_name text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET allow_system_table_mods = on AS $$
DECLARE
	may_log_in boolean := (SELECT login FROM sys.roles WHERE name = who);
	old oid := (SELECT oid FROM pg_authid WHERE rolname = who);
	new oid;
	c record;
BEGIN
	IF may_log_in IS NULL THEN
		RAISE 'role "%" does not exist', who USING ERRCODE = '42704';
	END IF;
	CALL sys.create_role(new_name, may_log_in);
	new := (SELECT oid FROM pg_authid WHERE rolname = new_name);
	FOR c IN SELECT * FROM (VALUES ('pg_class', 'relowner', 'relacl'), ('pg_proc', 'proowner', 'proacl'), ('pg_namespace', 'nspowner', 'nspacl'),
		('pg_type', 'typowner', 'typacl'), ('pg_default_acl', 'defaclrole', 'defaclacl'), ('pg_statistic_ext', 'stxowner', NULL), ('pg_attribute', NULL, 'attacl')) AS t (name, owner, acl) LOOP
		IF c.owner IS NOT NULL THEN
			EXECUTE format('UPDATE %I SET %I = $1 WHERE %2$I = $2', c.name, c.owner) USING new, old;
		END IF;
		IF c.acl IS NOT NULL THEN
			EXECUTE format('UPDATE %I SET %I = sys.replace_in_acl(%2$I, $1, $2) WHERE EXISTS (SELECT FROM aclexplode(%2$I) WHERE $1 IN (grantee, grantor))', c.name, c.acl) USING old, new;
		END IF;
	END LOOP;
	UPDATE pg_shdepend SET refobjid = new WHERE refclassid = 'pg_authid'::regclass AND refobjid = old AND dbid IN (SELECT oid FROM pg_database);
	FOR c IN SELECT g.rolname AS granted, m.rolname AS member FROM pg_auth_members a JOIN pg_authid g ON g.oid = a.roleid JOIN pg_authid m ON m.oid = a.member
		WHERE old IN (a.roleid, a.member) AND m.rolname <> 'admin' LOOP
		EXECUTE format('GRANT %I TO %I', CASE c.granted WHEN who THEN new_name ELSE c.granted END, CASE c.member WHEN who THEN new_name ELSE c.member END);
	END LOOP;
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
