CREATE TABLE sqlc_author (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text NOT NULL,
	books bigint NOT NULL
);
