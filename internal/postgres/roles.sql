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
