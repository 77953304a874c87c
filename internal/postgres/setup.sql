-- Runs in template1, which every cluster's database is a copy of. A statement
-- ends with a semicolon and an empty line.

CREATE ROLE admin LOGIN CREATEROLE;

ALTER SCHEMA public OWNER TO admin;

-- As from PostgreSQL 15 on.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Unused, and two thirds of what each process copies.
UPDATE pg_database SET datistemplate = false WHERE datname = 'template0';

DROP DATABASE template0;

DROP DATABASE postgres;

