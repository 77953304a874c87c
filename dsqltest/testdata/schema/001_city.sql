CREATE TABLE city (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text NOT NULL
);

INSERT INTO city (name) VALUES ('Lagos'), ('Quito');
