CREATE INDEX ASYNC sqlc_author_name ON sqlc_author (name);
