-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS goose_city (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);

-- +goose Down
DROP TABLE IF EXISTS goose_city;
