CREATE TABLE IF NOT EXISTS world (id integer PRIMARY KEY, randomnumber integer NOT NULL);
INSERT INTO world SELECT id, 1 + (random() * 9999)::integer FROM generate_series(1, 10000) AS id
  ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS fortune (id integer PRIMARY KEY, message varchar(2048) NOT NULL);
INSERT INTO fortune VALUES
  (1, 'fortune: No such file or directory'),
  (2, 'A computer scientist is someone who fixes things that aren''t broken.'),
  (3, 'After enough decimal places, nobody gives a damn.'),
  (4, 'A bad random number generator: 1, 1, 1, 1, 1, 4.33e+67, 1, 1, 1'),
  (5, 'A computer program does what you tell it to do, not what you want it to do.'),
  (6, U&'Emacs is a nice operating system, but I prefer UNIX. \2014 Tom Christaensen'),
  (7, 'Any program that runs right is obsolete.'),
  (8, U&'A list is only as strong as its weakest link. \2014 Donald Knuth'),
  (9, 'Feature: A bug with seniority.'),
  (10, 'Computers make very fast, very accurate mistakes.'),
  (11, '<script>alert("This should not be displayed in a browser alert box.");</script>'),
  (12, U&'\30D5\30EC\30FC\30E0\30EF\30FC\30AF\306E\30D9\30F3\30C1\30DE\30FC\30AF')
  ON CONFLICT DO NOTHING;
