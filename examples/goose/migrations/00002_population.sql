-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE goose_city ADD COLUMN IF NOT EXISTS population bigint;

-- +goose Down
ALTER TABLE goose_city DROP COLUMN IF EXISTS population;
