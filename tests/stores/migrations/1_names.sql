CREATE TABLE names (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL UNIQUE);
CREATE TABLE nicknames (
    name_id BIGINT NOT NULL,
    nickname VARCHAR(100) NOT NULL CHECK (nickname <> ''),
    FOREIGN KEY (name_id) REFERENCES names (id)
);
