//! TechEmpower's tests by axum and sqlx's stock pool, or one row of SQLite.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use soloist_peers::worlds::{self, Many, UPDATE, WORLD, World};
use soloist_peers::{HELLO, Options};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgConnection, PgPool, SqlitePool};

type Result<T, E = Failure> = std::result::Result<T, E>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::from_args();
    options.tokio()?.block_on(async {
        let app = match options.url.starts_with("sqlite:") {
            true => sqlite(&options).await?,
            false => postgres(&options).await?,
        };
        axum::serve(tokio::net::TcpListener::from_std(options.listener()?)?, app).await?;
        Ok(())
    })
}

async fn sqlite(options: &Options) -> Result<Router, sqlx::Error> {
    let pool = SqlitePoolOptions::new().max_connections(options.connections);
    let pool: SqlitePool = pool.connect(&options.url).await?;
    Ok(Router::new().route("/db", get(row)).with_state(pool))
}

async fn row(State(pool): State<SqlitePool>) -> Result<Json<World>> {
    Ok(Json(sqlx::query_as(WORLD).bind(worlds::random()).fetch_one(&pool).await?))
}

async fn postgres(options: &Options) -> Result<Router, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(options.connections);
    let pool: PgPool = pool.connect(&options.url).await?;
    let app = Router::new()
        .route("/plaintext", get(async || HELLO))
        .route("/db", get(one))
        .route("/queries", get(many))
        .route("/updates", get(update))
        .route("/fortunes", get(fortunes));
    Ok(app.with_state(pool))
}

async fn one(State(pool): State<PgPool>) -> Result<Json<World>> {
    Ok(Json(sqlx::query_as(WORLD).bind(worlds::random()).fetch_one(&pool).await?))
}

async fn many(State(pool): State<PgPool>, Query(asked): Query<Many>) -> Result<Json<Vec<World>>> {
    let mut conn = pool.acquire().await?; // once, not for each
    Ok(Json(worlds(&mut conn, asked.count()).await?))
}

async fn update(State(pool): State<PgPool>, Query(asked): Query<Many>) -> Result<Json<Vec<World>>> {
    let mut conn = pool.acquire().await?;
    let mut worlds = worlds(&mut conn, asked.count()).await?;
    let (ids, numbers) = worlds::change(&mut worlds);
    sqlx::query(UPDATE).bind(ids).bind(numbers).execute(&mut *conn).await?;
    Ok(Json(worlds))
}

async fn worlds(conn: &mut PgConnection, count: usize) -> Result<Vec<World>> {
    let mut worlds = Vec::with_capacity(count);
    for _ in 0..count {
        let query = sqlx::query_as(WORLD).bind(worlds::random());
        worlds.push(query.fetch_one(&mut *conn).await?);
    }
    Ok(worlds)
}

async fn fortunes(State(pool): State<PgPool>) -> Result<Html<String>> {
    Ok(Html(worlds::page(sqlx::query_as(worlds::FORTUNES).fetch_all(&pool).await?)))
}

struct Failure(sqlx::Error);

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}
