-- What dsqltest's faults by target call. Runs after the others. A statement ends with a
-- semicolon and an empty line.

-- Counts the COMMITs that a fault has applied to. A sequence counts those that are rolled back too.
CREATE SEQUENCE sys.fault_id;

-- Fails a COMMIT that changed a row with the key, the first so many times.
CREATE FUNCTION sys.fail_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	counter regclass := TG_ARGV[0];
	times bigint := TG_ARGV[1];
	wanted jsonb := TG_ARGV[2];
BEGIN
	IF NOT EXISTS (SELECT FROM unnest(ARRAY[to_jsonb(NEW), to_jsonb(OLD)]) AS changed
		WHERE changed IS NOT NULL AND NOT EXISTS (SELECT FROM jsonb_each_text(wanted) AS k WHERE changed ->> k.key IS DISTINCT FROM k.value)) THEN
		RETURN NULL;
	END IF;
	IF nextval(counter) <= times THEN
		RAISE 'change conflicts with another transaction (OC000)' USING ERRCODE = '40001';
	END IF;
	RETURN NULL;
END
$$;

-- key has the values of the primary key's first columns, as text.
CREATE PROCEDURE sys.conflict_on(relation text, times bigint, key text[]) LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
	target regclass := pg_catalog.to_regclass(relation);
	counter text := 'fault_' || pg_catalog.nextval('sys.fault_id');
	key_columns text[];
	wanted jsonb;
BEGIN
	IF target IS NULL THEN
		RAISE 'relation "%" does not exist', relation USING ERRCODE = '42P01';
	END IF;
	SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n) INTO key_columns FROM pg_catalog.pg_index i,
		pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, n), pg_catalog.pg_attribute a
		WHERE i.indrelid = target AND i.indisprimary AND a.attrelid = target AND a.attnum = k.attnum AND k.n <= i.indnkeyatts;
	IF pg_catalog.cardinality(key) > coalesce(pg_catalog.cardinality(key_columns), 0) THEN
		RAISE 'the primary key of % has % columns, not %', target, coalesce(pg_catalog.cardinality(key_columns), 0), pg_catalog.cardinality(key);
	END IF;
	wanted := pg_catalog.jsonb_object(key_columns[1:pg_catalog.cardinality(key)], key);
	EXECUTE pg_catalog.format('CREATE SEQUENCE sys.%I', counter);
	EXECUTE pg_catalog.format('CREATE CONSTRAINT TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s DEFERRABLE INITIALLY DEFERRED'
		' FOR EACH ROW EXECUTE FUNCTION sys.fail_commit(%L, %L, %L)', 'dsqltest_' || counter, target, 'sys.' || counter, times, coalesce(wanted, '{}'));
END
$$;

-- What happens to index jobs from now on. At most one row.
CREATE TABLE sys.job_fault (held boolean NOT NULL, details text);

CREATE FUNCTION sys.fault_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	fault sys.job_fault;
BEGIN
	SELECT * INTO fault FROM sys.job_fault;
	IF NOT FOUND OR NEW.job_type <> 'INDEX_BUILD' OR NEW.details IS NOT NULL THEN
		RETURN NEW;
	END IF;
	NEW.details := fault.details;
	IF fault.held THEN
		NEW.held := (SELECT last_value FROM sys.job_epoch);
	END IF;
	UPDATE pg_catalog.engine_pg_index SET indisvalid = false WHERE indexrelid = NEW.object_id;
	RETURN NEW;
END
$$;

CREATE TRIGGER fault BEFORE INSERT ON sys.job FOR EACH ROW EXECUTE FUNCTION sys.fault_job();

-- DSQL has no triggers that a client sees.
UPDATE pg_catalog.pg_trigger SET tgisinternal = true WHERE tgrelid = 'sys.job'::regclass;

CREATE PROCEDURE sys.set_job_fault(held boolean, details text) LANGUAGE sql AS $$
	DELETE FROM sys.job_fault;
	INSERT INTO sys.job_fault VALUES (held, details);
$$;

-- Ends the faults by target. It takes no lock that a client's transaction may hold.
CREATE PROCEDURE sys.end_faults() LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM sys.job_fault;
	UPDATE pg_catalog.engine_pg_index SET indisvalid = true WHERE NOT indisvalid
		AND indexrelid IN (SELECT object_id FROM sys.job WHERE held IS NOT NULL AND details IS NULL);
	COMMIT; -- no job is completed before its index is valid
	PERFORM pg_catalog.nextval('sys.job_epoch');
	PERFORM pg_catalog.setval(oid::regclass, 4611686018427387904) FROM pg_catalog.pg_class
		WHERE relkind = 'S' AND relnamespace = 'sys'::regnamespace AND relname ~ '^fault_[0-9]';
END
$$;

