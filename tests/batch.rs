//! Many values in few statements, on each database: lists for IN, inserts of many rows, batches,
//! and loaders over them. Statements are counted.

#![allow(clippy::duplicate_mod)] // each store has its ports

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use soloist::prelude::*;
use soloist::sqlx::error::BoxDynError;
use soloist::sqlx::{self, AssertSqlSafe, Encode, QueryBuilder, Type};
use soloist::testing::TestServer;
use soloist::{Db, DbFault, DbOptions, PushIn};

#[path = "stores/mariadb.rs"]
mod mariadb;
#[path = "stores/postgres.rs"]
mod postgres;

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // Of Knuth's MMIX.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Side by side, as parts of one task are.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut ends: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, end) in all.iter_mut().zip(&mut ends) {
            if end.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *end = Some(value);
            }
        }
        if ends.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ends.into_iter().flatten().collect()
}

/// What a database is asked for has one connection, so that its statements are counted together.
fn holds<S: 'static>(build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static) {
    let server = TestServer::start(1, build);
    for path in [
        "/names",
        "/all-or-none",
        "/statements",
        "/within",
        "/mistakes",
        "/model",
        "/lists",
        "/batches",
        "/loaders",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status(), 204, "{path}: {}", String::from_utf8_lossy(answer.body()));
    }
}

/// The same for each database, each of which has types of its own.
macro_rules! on {
    ($module:ident, $database:ty) => {
        mod $module {
            use super::*;

            type Base = Db<$database>;
            type Cx = Ctx<Base>;
            /// Number, text and a number that may be missing.
            type Line = (i64, String, Option<i64>);

            const COLUMNS: [&str; 3] = ["id", "name", "n"];

            pub async fn app(shard: Shard, options: DbOptions) -> Result<App<Base>> {
                let db: Base = shard.db(options.open_max(1)).await?;
                Ok(App::new(db)
                    .get("/names", names)
                    .get("/all-or-none", all_or_none)
                    .get("/statements", statements)
                    .get("/within", within)
                    .get("/mistakes", mistakes)
                    .get("/model", model)
                    .get("/lists", lists)
                    .get("/batches", batches)
                    .get("/loaders", loaders)
                    .on_error(|cx, error| cx.status(error.status()).text(format!("{error}"))))
            }

            async fn table(db: &Base, name: &str) -> Result<()> {
                let sql = format!(
                    "CREATE TABLE {name} \
                     (id BIGINT PRIMARY KEY, name VARCHAR(99) NOT NULL, n BIGINT)"
                );
                Ok(sqlx::query(AssertSqlSafe(sql)).execute(db).await.map(drop)?)
            }

            async fn all(db: &Base, table: &str) -> Result<Vec<Line>> {
                let sql = format!("SELECT id, name, n FROM {table} ORDER BY id");
                Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(db).await?)
            }

            fn lines(ids: std::ops::Range<i64>) -> Vec<Line> {
                ids.map(|id| (id, format!("name {id}"), (id % 3 > 0).then_some(id))).collect()
            }

            macro_rules! rows {
                ($insert:expr, $lines:expr) => {
                    $insert.rows($lines, |row, line| row.bind(line.0).bind(&line.1).bind(line.2))
                };
            }

            async fn names(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                let quoted = |name: &str| match db.stats().database {
                    "MySQL" => format!("`{}`", name.replace('`', "``")),
                    _ => format!("\"{}\"", name.replace('"', "\"\"")),
                };
                for (at, name) in ["select", "a b", "a\"b", "a`b", "a'b", "a;--", "$1", "?"]
                    .into_iter()
                    .enumerate()
                {
                    let (table, key) = (format!("t{at} {name}"), format!("k {name}"));
                    let sql = format!(
                        "CREATE TABLE {} ({} BIGINT PRIMARY KEY, {} BIGINT)",
                        quoted(&table),
                        quoted(&key),
                        quoted(name)
                    );
                    sqlx::query(AssertSqlSafe(sql)).execute(db).await?;
                    let (columns, keys) = ([&*key, name], [&*key]);
                    for (value, want) in [(1, 1), (2, 2)] {
                        let insert = db.insert(&table, &columns).upsert(&keys);
                        insert.rows([1_i64], |row, id| row.bind(id).bind(value)).await?;
                        let sql = format!("SELECT {} FROM {}", quoted(name), quoted(&table));
                        let got: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await?;
                        assert_eq!(got, want, "{name}");
                    }
                }
                cx.empty()
            }

            async fn all_or_none(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "whole").await?;
                for (count, rows_max) in
                    [(0, 9), (1, 9), (9, 9), (10, 9), (1_000, 512), (1_024, 512)]
                {
                    let lines = lines(0..count);
                    let insert = db.insert("whole", &COLUMNS).rows_max(rows_max);
                    assert_eq!(rows!(insert, &lines).await?, count as u64);
                    assert_eq!(all(db, "whole").await?, lines, "{count} by {rows_max}");
                    // The last one is there already.
                    let twice = [lines.clone(), lines].concat();
                    let again = twice.iter().map(|line| (line.0 + count, line.1.clone(), line.2));
                    if count > 0 {
                        let insert = db.insert("whole", &COLUMNS).rows_max(rows_max);
                        let error = rows!(insert, again).await.expect_err("twice");
                        assert_eq!(DbFault::of(&error), DbFault::Unique, "{count} by {rows_max}");
                        assert_eq!(all(db, "whole").await?.len() as i64, count, "none of them");
                    }
                    sqlx::query("DELETE FROM whole").execute(db).await?;
                }
                cx.empty()
            }

            async fn statements(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "counted").await?;
                // One that fits is one; others are a transaction, which counts as two.
                for (count, rows_max, sent) in [
                    (0, 512, 0),
                    (1, 512, 1),
                    (512, 512, 1),
                    (513, 512, 4),
                    (10_000, 512, 22),
                    (9, 3, 5),
                ] {
                    let before = db.stats().queries;
                    let insert = db.insert("counted", &COLUMNS).upsert(&["id"]).rows_max(rows_max);
                    rows!(insert, &lines(0..count)).await?;
                    // There 272 rows, the last ones, are 256 and 16.
                    let more = u64::from(count == 10_000 && db.stats().database == "MySQL");
                    let now = db.stats().queries;
                    assert_eq!(now - before, sent + more, "{count} by {rows_max}");
                }
                let before = db.stats().statements;
                for count in 1..300 {
                    let insert = db.insert("counted", &COLUMNS).upsert(&["id"]);
                    rows!(insert, &lines(0..count)).await?;
                }
                let kept = db.stats().statements - before;
                let most = if db.stats().database == "MySQL" { 8 + 5 } else { 8 };
                assert!(kept <= most, "{kept} statements kept for 299 lengths");
                cx.empty()
            }

            async fn within(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "shared").await?;
                for (commits, want) in [(false, 0), (true, 50)] {
                    let mut tx = db.begin().await?;
                    let insert = db.insert("shared", &COLUMNS).rows_max(20).within(&mut tx);
                    rows!(insert, &lines(0..40)).await?;
                    let mut inner = tx.begin().await?;
                    let insert = db.insert("shared", &COLUMNS).within(&mut inner);
                    rows!(insert, &lines(40..50)).await?;
                    inner.commit().await?;
                    let mut inner = tx.begin().await?;
                    let insert = db.insert("shared", &COLUMNS).rows_max(20).within(&mut inner);
                    rows!(insert, &lines(50..90)).await?;
                    inner.rollback().await?;
                    if commits {
                        tx.commit().await?;
                    } else {
                        tx.rollback().await?;
                    }
                    assert_eq!(all(db, "shared").await?, lines(0..want));
                }
                cx.empty()
            }

            /// A value that cannot be written.
            struct Never;

            impl Type<$database> for Never {
                fn type_info() -> <$database as sqlx::Database>::TypeInfo {
                    <i64 as Type<$database>>::type_info()
                }
            }

            impl Encode<'_, $database> for Never {
                fn encode_by_ref(
                    &self,
                    _: &mut <$database as sqlx::Database>::ArgumentBuffer,
                ) -> Result<sqlx::encode::IsNull, BoxDynError> {
                    Err("never".into())
                }
            }

            async fn mistakes(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "mistaken").await?;
                let before = db.stats().queries;
                let many: Vec<&str> = vec!["n"; 70_000];
                for (table, columns, keys, want) in [
                    ("mistaken", &[][..], None, "0 columns for an insert into mistaken"),
                    ("mistaken", &many, None, "70000 columns for an insert into mistaken"),
                    ("", &["id"], None, "no name of a table or column: \"\""),
                    ("mistaken.", &["id"], None, "no name of a table or column: \"\""),
                    ("a\0b", &["id"], None, "no name of a table or column: \"a\\0b\""),
                    ("mistaken", &["id", ""], None, "no name of a table or column: \"\""),
                    ("mistaken", &["id"], Some(&["\0"][..]), "no name of a table or column"),
                    ("mistaken", &["id"], Some(&[]), "no columns say which row it is"),
                    ("mistaken", &["id", "n"], None, "row 1 has 1 values for 2 columns"),
                ] {
                    let insert = db.insert(table, columns);
                    let insert = keys.iter().fold(insert, |insert, keys| insert.upsert(keys));
                    let error = insert.rows([1_i64], |row, id| row.bind(id)).await.expect_err(want);
                    assert!(matches!(error, sqlx::Error::InvalidArgument(_)), "{error:?}");
                    assert!(error.to_string().starts_with(want), "{error}, not {want}");
                }
                assert_eq!(db.stats().queries, before, "none of them was sent");
                for (at, want) in [(10, "row 11 has 0 values"), (700, "row 701 has 0 values")] {
                    let insert = db.insert("mistaken", &["id", "name"]);
                    let values = insert.rows(0..1_000_i64, |row, id| {
                        if id == at { row } else { row.bind(id).bind("ann") }
                    });
                    let error = values.await.expect_err("a short row").to_string();
                    assert!(error.starts_with(want), "{error}");
                    let insert = db.insert("mistaken", &["id", "name"]);
                    let values = insert.rows(0..1_000_i64, |row, id| {
                        let row = if id == at { row.bind(Never) } else { row.bind(id) };
                        row.bind("ann")
                    });
                    let error = values.await.expect_err("a bad value");
                    assert!(matches!(error, sqlx::Error::Encode(_)), "{error:?}");
                }
                assert_eq!(all(db, "mistaken").await?, [], "none was inserted");
                cx.empty()
            }

            async fn model(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "random").await?;
                let mut random = Random(7);
                let mut model = BTreeMap::<i64, Line>::new();
                for round in 0..60 {
                    let mut batch = BTreeMap::new();
                    for _ in 0..random.below(120) {
                        let id = random.below(300) as i64;
                        let text = ["", "'", "\u{e9}", "\\", "a\nb"][random.below(5)];
                        let n = (random.below(2) > 0).then(|| random.below(1_000) as i64 - 500);
                        batch.insert(id, (id, format!("{text}{round}"), n));
                    }
                    let is_upsert = random.below(3) > 0;
                    if !is_upsert {
                        batch.retain(|id, _| !model.contains_key(id));
                    }
                    let insert = db.insert("random", &COLUMNS).rows_max(1 + random.below(50));
                    let insert = if is_upsert { insert.upsert(&["id"]) } else { insert };
                    let count = rows!(insert, batch.values()).await?;
                    assert!(count >= batch.len() as u64, "round {round}");
                    model.extend(batch);
                    let all = all(db, "random").await?;
                    assert!(all.iter().eq(model.values()), "round {round}");
                }
                // A key that comes twice in one statement.
                let twice = [(1, "a".to_owned(), None), (1, "b".to_owned(), Some(2))];
                let done = rows!(db.insert("random", &COLUMNS).upsert(&["id"]), &twice).await;
                if db.stats().database == "PostgreSQL" {
                    let error = done.expect_err("twice");
                    let code = error.as_database_error().and_then(|it| it.code());
                    assert_eq!(code.as_deref(), Some("21000"));
                } else {
                    done?;
                    model.insert(1, twice[1].clone());
                }
                assert!(all(db, "random").await?.iter().eq(model.values()), "the last one wins");
                // A table of nothing but its key: what is there stays.
                for _ in 0..2 {
                    let insert = db.insert("random", &["id", "name"]).upsert(&["id", "name"]);
                    let keyed = sqlx::query("CREATE UNIQUE INDEX whole_line ON random (id, name)");
                    let _ = keyed.execute(db).await; // the second time it is there
                    let lines: Vec<_> = model.values().take(20).collect();
                    insert.rows(lines, |row, line| row.bind(line.0).bind(&line.1)).await?;
                    assert!(all(db, "random").await?.iter().eq(model.values()));
                }
                cx.empty()
            }

            async fn lists(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "listed").await?;
                rows!(db.insert("listed", &COLUMNS), &lines(0..500)).await?;
                let before = db.stats().statements;
                for count in [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 499, 500, 600, 16_000] {
                    let ids: Vec<i64> = (0..count).collect();
                    for (not, want) in [("", count.min(500)), ("NOT ", 500 - count.min(500))] {
                        let sql = format!("SELECT count(*) FROM listed WHERE {not}id ");
                        let mut query = QueryBuilder::new(sql);
                        query.push_in(&ids)?.push(" AND n IS NOT NULL OR id = ").push_bind(-1_i64);
                        let got: i64 = query.build_query_scalar().fetch_one(db).await?;
                        let n = |id: i64| id % 3 > 0 && (id < count) == not.is_empty();
                        let want_n = (0..500).filter(|id| n(*id)).count();
                        assert_eq!(got as usize, want_n, "{not}{count}");
                        assert!(got <= want);
                    }
                }
                let kept = db.stats().statements - before;
                let of_array = if db.stats().database == "PostgreSQL" { 2 } else { 18 };
                assert!(kept <= of_array, "{kept} statements kept for 16 lengths");
                // What is in no list is in none, and what is missing in neither.
                for (names, want) in [
                    (&[][..], 0),
                    (&["name 7"], 1),
                    (&["name 7", "name 8", "nobody"], 2),
                    (&["'; DROP TABLE listed; --"], 0),
                ] {
                    let mut query = QueryBuilder::new("SELECT count(*) FROM listed WHERE name ");
                    query.push_in(names)?;
                    let got: i64 = query.build_query_scalar().fetch_one(db).await?;
                    assert_eq!(got, want, "{names:?}");
                }
                let mut query = QueryBuilder::new("SELECT count(*) FROM listed WHERE NOT n ");
                query.push_in(&[0_i64; 0])?;
                let got: i64 = query.build_query_scalar().fetch_one(db).await?;
                assert_eq!(got, 500, "no n is in an empty list, and NULL is not");
                let ids = vec![0_i64; 16_385];
                let mut query = QueryBuilder::<$database>::new("SELECT 1 WHERE 1 ");
                let bounded = query.push_in(&ids).is_err();
                assert_eq!(bounded, db.stats().database != "PostgreSQL");
                cx.empty()
            }

            async fn batches(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "raised").await?;
                rows!(db.insert("raised", &COLUMNS), &lines(0..100)).await?;
                let sql = match db.stats().database {
                    "PostgreSQL" => "UPDATE raised SET n = $1 WHERE id = $2",
                    _ => "UPDATE raised SET n = ? WHERE id = ?",
                };
                let sum = async || -> Result<i64> {
                    let query = sqlx::query_as("SELECT id, n FROM raised WHERE n >= 1000");
                    let all: Vec<(i64, i64)> = query.fetch_all(db).await?;
                    Ok(all.iter().map(|(_, n)| n - 1_000).sum())
                };
                // Rows, commit after how many, statements with those of transactions, sum.
                for (rows, every, sent, want) in [
                    (0, usize::MAX, 0, 0),
                    (1, usize::MAX, 3, 1),
                    (100, usize::MAX, 102, 100),
                    (100, 30, 108, 100),
                    (100, 100, 102, 100),
                    (3, 0, 9, 3),
                ] {
                    let before = db.stats().queries;
                    let batch = db.batch(sql).commit_every(every);
                    let count = batch.rows(0..rows, |row, id| row.bind(1_001_i64).bind(id)).await?;
                    assert_eq!(count, rows as u64);
                    assert_eq!(db.stats().queries - before, sent, "{rows} by {every}");
                    assert_eq!(sum().await?, want);
                    sqlx::query("UPDATE raised SET n = 0").execute(db).await?;
                }
                // One that fails takes with it what was not committed.
                for (every, want) in [(usize::MAX, 0), (20, 60), (1, 70)] {
                    let insert = match db.stats().database {
                        "PostgreSQL" => "INSERT INTO raised (n, id, name) VALUES ($1, $2, '')",
                        _ => "INSERT INTO raised (n, id, name) VALUES (?, ?, '')",
                    };
                    let ids = (0..100).map(|at| if at == 70 { 1 } else { 1_000 + at });
                    let batch = db.batch(insert).commit_every(every);
                    let done = batch.rows(ids, |row, id| row.bind(1_001_i64).bind(id)).await;
                    assert_eq!(DbFault::of(&done.expect_err("twice")), DbFault::Unique);
                    assert_eq!(sum().await?, want, "by {every}");
                    sqlx::query("DELETE FROM raised WHERE id >= 1000").execute(db).await?;
                }
                cx.empty()
            }

            async fn name(cx: &Cx, id: i64) -> Result<Option<String>> {
                let names = cx.loader("names", async |ids: &[i64]| {
                    let mut query = QueryBuilder::new("SELECT id, name FROM loaded WHERE id ");
                    let query = query.push_in(ids)?;
                    let found: Vec<(i64, String)> =
                        query.build_query_as().fetch_all(cx.state()).await?;
                    Ok(found)
                });
                names.load(id).await
            }

            async fn loaders(cx: &Cx) -> Result<Reply> {
                let db = cx.state();
                table(db, "loaded").await?;
                rows!(db.insert("loaded", &COLUMNS), &lines(0..3_000)).await?;
                // How many are asked for, of whom the first so often, and the queries of it.
                for (ids, queries) in [
                    (vec![1], 1),
                    ((0..20).collect(), 1),
                    (vec![30, 31, 30, 30, 5, 9_999], 1), // 5 is known
                    (vec![9_999, 1, 2, 3], 0),           // so is that 9,999 is missing
                    ((100..3_000).collect(), 3),
                ] {
                    let before = db.stats().queries;
                    let names = join(ids.iter().map(|id| name(cx, *id)).collect()).await;
                    for (id, got) in ids.iter().zip(names) {
                        assert_eq!(got?, (*id < 3_000).then(|| format!("name {id}")));
                    }
                    assert_eq!(db.stats().queries - before, queries, "{}", ids.len());
                }
                // Those who wait get the error that the query had.
                let before = db.stats().queries;
                let broken = cx.loader("broken", async |_: &[i64]| {
                    let query = sqlx::query_as("SELECT id, name FROM nowhere");
                    let found: Vec<(i64, String)> = query.fetch_all(cx.state()).await?;
                    Ok(found)
                });
                let ends = join((0..20).map(|id| broken.load(id)).collect()).await;
                for end in ends {
                    let error = end.expect_err("no table");
                    assert_eq!(error.status(), 500);
                    assert!(error.to_string().contains("nowhere"), "{error}");
                }
                assert_eq!(db.stats().queries - before, 1);
                cx.empty()
            }
        }
    };
}

on!(sqlite_rows, sqlx::Sqlite);
on!(postgres_rows, sqlx::Postgres);
on!(mysql_rows, sqlx::MySql);
on!(any_rows, sqlx::Any);

#[test]
fn sqlite() {
    holds(async |shard| sqlite_rows::app(shard, DbOptions::new("sqlite::memory:")).await);
}

#[test]
fn any() {
    holds(async |shard| any_rows::app(shard, DbOptions::new("sqlite::memory:")).await);
}

#[test]
fn postgres() {
    let store = postgres::Postgres::start(20);
    let url = store.url();
    holds(async move |shard| postgres_rows::app(shard, DbOptions::new(url)).await);
}

#[test]
fn mariadb() {
    let store = mariadb::MariaDb::start(20);
    let url = store.url();
    holds(async move |shard| mysql_rows::app(shard, DbOptions::new(url)).await);
}
