-- Jobs of indexes and constraints. Runs after catalog.sql. A statement ends with a semicolon and an empty line.

-- A job is done here when its statement is; the view shows it as submitted
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

-- An index is not valid before its job is done.
CALL sys.show_instead('pg_index', 'indisvalid',
	$$indisvalid AND NOT EXISTS (SELECT FROM sys.jobs WHERE object_id = indexrelid AND update_time IS NULL)$$, 'true');

DROP PROCEDURE sys.show_instead;

-- Makes an index over duplicate keys unique from now on, and invalid.
CREATE FUNCTION sys.leave_invalid(index oid) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
	UPDATE pg_catalog.engine_pg_index SET indisunique = true, indisvalid = false WHERE indexrelid = index
$$;

-- What CREATE INDEX ASYNC runs. One that should be unique and cannot be stays: it is invalid, and
-- refuses further duplicates.
CREATE FUNCTION sys.build_index(command text, not_unique text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
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
		EXECUTE not_unique;
	WHEN program_limit_exceeded THEN
		EXECUTE command || E'\n WHERE false'; -- may find that the key cannot be
		RAISE 'key size too large' USING ERRCODE = '54000';
	END;
	made := nullif(pg_catalog.current_setting('dsqltest.index', true), '')::oid;
	IF made IS NULL AND failure IS NULL THEN
		RETURN NULL;
	END IF;
	IF failure IS NOT NULL THEN
		PERFORM sys.leave_invalid(made);
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
