-- name: CreateAuthor :one
INSERT INTO sqlc_author (name, books) VALUES ($1, $2) RETURNING id;

-- name: AddBooks :execrows
UPDATE sqlc_author SET books = books + sqlc.arg(added) WHERE id = sqlc.arg(id);

-- name: ListAuthors :many
SELECT * FROM sqlc_author ORDER BY name;
