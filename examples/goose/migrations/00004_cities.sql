-- +goose NO TRANSACTION
-- +goose Up
INSERT INTO goose_city (name, population) VALUES ('Lagos', 15946000), ('Quito', 1763000) ON CONFLICT (name) DO NOTHING;

-- +goose Down
DELETE FROM goose_city WHERE name IN ('Lagos', 'Quito');
