CREATE UNIQUE INDEX ASYNC city_name ON city (name);
