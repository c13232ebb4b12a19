CREATE TABLE todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL CHECK (title <> ''),
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done'))
);
