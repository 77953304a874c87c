-- What internal/proxy calls for conflicts. Runs after catalog.sql. A statement ends with a
-- semicolon and an empty line.

-- The tables that statements name; also those that functions name, if the statements call any, and
-- those that are bound to them by foreign keys. A table is plain if a copy needs only CREATE TABLE
-- LIKE and its rows.
CREATE FUNCTION sys.tables_of(statements text, OUT ids oid[], OUT schemas name[], OUT names name[], OUT owners name[], OUT plain boolean[])
LANGUAGE sql STABLE AS $$
	WITH RECURSIVE functions AS (
		SELECT p.proname, p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'sys')
	), words AS MATERIALIZED (
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
	SELECT pg_catalog.array_agg(c.oid ORDER BY c.oid), pg_catalog.array_agg(n.nspname ORDER BY c.oid), pg_catalog.array_agg(c.relname ORDER BY c.oid),
		pg_catalog.array_agg(pg_catalog.pg_get_userbyid(c.relowner) ORDER BY c.oid), pg_catalog.array_agg(c.relacl IS NULL
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f')
			AND NOT EXISTS (SELECT FROM pg_catalog.engine_pg_index i WHERE i.indrelid = c.oid AND NOT i.indisvalid)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND (a.attidentity <> '' OR a.attgenerated <> ''))
			ORDER BY c.oid)
	FROM named JOIN pg_catalog.pg_class c ON c.oid = named.found JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
$$;

-- The columns of a table that INSERT can give values.
CREATE FUNCTION sys.columns_of(t oid) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute
	WHERE attrelid = t AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

-- Copies tables for a transaction that will fail at COMMIT. The copies hide the tables and are not
-- visible to others. The arguments are what sys.tables_of returns. Planning is slow, so plpgsql
-- here avoids queries, and sys.tables_of, the slowest part, is called by the proxy, which caches it.
-- PostgreSQL forgets the session's plans, which use the tables, as session_replication_role changes.
-- Returns the names of the tables.
CREATE FUNCTION sys.copy_tables(ids oid[], schemas name[], names name[], owners name[], plain boolean[]) RETURNS TABLE (copied_schema name, copied_name name)
LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
DECLARE
	on_path boolean;
	copied oid[] := '{}';
BEGIN
	FOREACH on_path IN ARRAY '{true,false}'::boolean[] LOOP -- a table on the search path comes before others of its name
		FOR i IN 1 .. coalesce(pg_catalog.cardinality(ids), 0) LOOP
			CONTINUE WHEN pg_catalog.to_regclass('pg_temp.' || pg_catalog.quote_ident(names[i])) IS NOT NULL OR pg_catalog.pg_table_is_visible(ids[i]) <> on_path;
			EXECUTE pg_catalog.format('CREATE TEMP TABLE %I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING INDEXES)',
				names[i], schemas[i], names[i]);
			IF plain[i] THEN
				EXECUTE pg_catalog.format('INSERT INTO pg_temp.%2$I SELECT * FROM %1$I.%2$I', schemas[i], names[i]);
			ELSE
				PERFORM sys.copy_table(ids[i], schemas[i], names[i]);
			END IF;
			EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I OWNER TO %I', names[i], owners[i]);
			copied := copied || ids[i];
			copied_schema := schemas[i];
			copied_name := names[i];
			RETURN NEXT;
		END LOOP;
	END LOOP;
	IF false = ANY (plain) THEN
		PERFORM sys.copy_foreign_keys(copied);
	END IF;
END
$$;

-- Gives a copy what CREATE TABLE LIKE does not, and the rows.
CREATE FUNCTION sys.copy_table(id oid, schema name, name name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	made oid := pg_catalog.to_regclass('pg_temp.' || pg_catalog.quote_ident(name));
	c record;
BEGIN
	UPDATE pg_catalog.engine_pg_index SET indisunique = false FROM pg_catalog.engine_pg_index other -- there may be duplicates
		WHERE other.indrelid = id AND NOT other.indisvalid AND other.indkey::text = engine_pg_index.indkey::text AND engine_pg_index.indrelid = made;
	FOR c IN SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = id AND attidentity <> '' LOOP
		EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I ALTER COLUMN %I SET DEFAULT pg_catalog.nextval(%L)', name, c.attname,
			pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', schema, name), c.attname));
	END LOOP;
	IF sys.columns_of(id) IS NOT NULL THEN
		EXECUTE pg_catalog.format('INSERT INTO pg_temp.%1$I (%2$s) SELECT %2$s FROM %3$I.%1$I', name, sys.columns_of(id), schema);
	END IF;
	UPDATE pg_catalog.pg_class SET relacl = o.relacl FROM pg_catalog.pg_class o WHERE o.oid = id AND pg_class.oid = made;
END
$$;

-- Binds copies to each other as the tables are.
CREATE FUNCTION sys.copy_foreign_keys(tables oid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT f.oid AS key, r.relname AS name, p.relname AS parent FROM pg_catalog.pg_constraint f
		JOIN pg_catalog.pg_class r ON r.oid = f.conrelid JOIN pg_catalog.pg_class p ON p.oid = f.confrelid
		WHERE f.contype = 'f' AND f.conrelid = ANY (tables) AND f.confrelid = ANY (tables) LOOP
		EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I ADD %s', c.name,
			pg_catalog.regexp_replace(sys.engine_constraint(c.key), 'REFERENCES .*?\(', pg_catalog.format('REFERENCES pg_temp.%I(', c.parent)));
	END LOOP;
END
$$;

-- Writes again the rows that this transaction has locked and not changed, so that they conflict
-- with the writes of transactions that began before its end.
CREATE FUNCTION sys.mark_locked(ids oid[], schemas name[], names name[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
DECLARE
	own text[] := (SELECT pg_catalog.array_agg(transactionid::text) FROM pg_catalog.engine_pg_locks
		WHERE locktype = 'transactionid' AND granted AND pid = pg_catalog.pg_backend_pid());
BEGIN
	FOR i IN 1 .. coalesce(pg_catalog.cardinality(ids), 0) LOOP
		CONTINUE WHEN sys.columns_of(ids[i]) IS NULL;
		EXECUTE pg_catalog.format('WITH locked AS (DELETE FROM %1$I.%2$I WHERE xmax::text = ANY ($1) RETURNING %3$s)
			INSERT INTO %1$I.%2$I (%3$s) OVERRIDING SYSTEM VALUE SELECT * FROM locked', schemas[i], names[i], sys.columns_of(ids[i])) USING own;
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
