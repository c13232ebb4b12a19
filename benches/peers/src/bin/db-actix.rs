//! TechEmpower's tests by actix-web and sqlx's stock pool, or one row of SQLite.

use actix_web::error::ErrorInternalServerError as failure;
use actix_web::web::{self, Data, Html, Json, Query};
use actix_web::{App, HttpServer, Result};
use soloist_peers::worlds::{self, Many, UPDATE, WORLD, World};
use soloist_peers::{BACKLOG, HELLO, IDLE, Options};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgConnection, PgPool, SqlitePool};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::from_args();
    if options.url.starts_with("sqlite:") {
        let pool = SqlitePoolOptions::new().max_connections(options.connections);
        let pool: SqlitePool = pool.connect(&options.url).await?;
        let app =
            move || App::new().app_data(Data::new(pool.clone())).route("/db", web::get().to(row));
        return Ok(server!(options, app).await?);
    }
    let pool = PgPoolOptions::new().max_connections(options.connections);
    let pool: PgPool = pool.connect(&options.url).await?;
    let app = move || {
        App::new()
            .app_data(Data::new(pool.clone()))
            .route("/plaintext", web::get().to(async || HELLO))
            .route("/db", web::get().to(one))
            .route("/queries", web::get().to(many))
            .route("/updates", web::get().to(update))
            .route("/fortunes", web::get().to(fortunes))
    };
    Ok(server!(options, app).await?)
}

/// The same for both applications, whose types have no name.
macro_rules! server {
    ($options:expr, $app:expr) => {
        HttpServer::new($app)
            .workers($options.workers)
            .backlog(BACKLOG as u32)
            .keep_alive(IDLE)
            .listen($options.listener()?)?
            .run()
    };
}
use server;

async fn row(pool: Data<SqlitePool>) -> Result<Json<World>> {
    let query = sqlx::query_as(WORLD).bind(worlds::random());
    Ok(Json(query.fetch_one(&**pool).await.map_err(failure)?))
}

async fn one(pool: Data<PgPool>) -> Result<Json<World>> {
    let query = sqlx::query_as(WORLD).bind(worlds::random());
    Ok(Json(query.fetch_one(&**pool).await.map_err(failure)?))
}

async fn many(pool: Data<PgPool>, asked: Query<Many>) -> Result<Json<Vec<World>>> {
    let mut conn = pool.acquire().await.map_err(failure)?; // once, not for each
    Ok(Json(worlds(&mut conn, asked.count()).await?))
}

async fn update(pool: Data<PgPool>, asked: Query<Many>) -> Result<Json<Vec<World>>> {
    let mut conn = pool.acquire().await.map_err(failure)?;
    let mut worlds = worlds(&mut conn, asked.count()).await?;
    let (ids, numbers) = worlds::change(&mut worlds);
    let query = sqlx::query(UPDATE).bind(ids).bind(numbers);
    query.execute(&mut *conn).await.map_err(failure)?;
    Ok(Json(worlds))
}

async fn worlds(conn: &mut PgConnection, count: usize) -> Result<Vec<World>> {
    let mut worlds = Vec::with_capacity(count);
    for _ in 0..count {
        let query = sqlx::query_as(WORLD).bind(worlds::random());
        worlds.push(query.fetch_one(&mut *conn).await.map_err(failure)?);
    }
    Ok(worlds)
}

async fn fortunes(pool: Data<PgPool>) -> Result<Html> {
    let query = sqlx::query_as(worlds::FORTUNES);
    Ok(Html::new(worlds::page(query.fetch_all(&**pool).await.map_err(failure)?)))
}
