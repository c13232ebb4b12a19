CREATE UNIQUE INDEX todos_title ON todos (title);
