-- Limits on what a transaction writes and on tables, and what DSQL refuses of them. Runs after
-- jobs.sql. A statement ends with a semicolon and an empty line.

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
	key record;
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
	IF longest > 1900 AND tg_op <> 'DELETE' THEN
		FOR key IN SELECT pg_catalog.string_agg(pg_catalog.format('coalesce(pg_catalog.octet_length(%I::text), 0)', a.attname), ' + ') AS size
			FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
			WHERE i.indrelid = tg_relid AND i.indpred IS NULL AND a.atttypid IN ('text'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype, 'bpchar'::pg_catalog.regtype)
			GROUP BY i.indexrelid LOOP
			EXECUTE 'SELECT pg_catalog.max(' || key.size || ') FROM changed' INTO longest;
			IF longest > 1981 THEN
				RAISE 'key size too large' USING ERRCODE = '54000';
			END IF;
		END LOOP;
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

-- Storage modes are in comments, as internal/dialect writes them: PostgreSQL before 16 has no STORAGE in
-- the definition of a column, and no STORAGE DEFAULT.
CREATE FUNCTION sys.set_storage(t regclass, command text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT a.attname, a.attnum, y.typstorage, format_type(a.atttypid, NULL) AS shown, CASE m[2] WHEN 'extended' THEN 'x' WHEN 'default' THEN y.typstorage ELSE m[2]::"char" END AS mode
		FROM regexp_matches(command, '/\*storage ([0-9a-f]+) (\w+)\*/', 'g') AS m
		JOIN pg_attribute a ON a.attrelid = t AND a.attname = convert_from(decode(m[1], 'hex'), 'UTF8') JOIN pg_type y ON y.oid = a.atttypid LOOP
		IF c.mode <> 'p' AND c.typstorage = 'p' THEN
			RAISE 'column data type % can only have storage PLAIN', c.shown USING ERRCODE = '0A000';
		END IF;
		UPDATE pg_attribute SET attstorage = c.mode WHERE attrelid = t AND attnum = c.attnum;
	END LOOP;
END
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
	IF EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts AND a.atttypmod > 4
		WHERE i.indrelid = t AND a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) GROUP BY i.indexrelid HAVING sum(a.atttypmod - 4) > 2000) THEN
		RAISE 'key size greater than 2000 bytes not supported' USING ERRCODE = '54000';
	END IF;
	SELECT regexp_replace(j.object_name, '^.*\.', '') INTO refused FROM pg_constraint c JOIN sys.jobs j ON j.object_id = c.conindid AND j.update_time IS NULL
		WHERE c.conrelid = t AND c.contype = 'u';
	IF FOUND THEN
		RAISE 'index "%" is not valid', refused USING ERRCODE = '55000';
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
			PERFORM sys.set_storage(c.objid, current_query());
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
