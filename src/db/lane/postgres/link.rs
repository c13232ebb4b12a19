//! One connection of a lane: how it is made and served, and a query on it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_core::Stream;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement, config};

use super::error::{Failed, lost};
use super::flow::{Counted, Flow};
use super::row::PgLaneRow;
use super::statements::Statements;
use crate::db::fault::{self, DbFault, PoolError};
use crate::db::watch::{Bell, lock, yield_now};
use crate::http::percent;
use crate::limits::DB_ROWS_A_TURN;
use crate::ring::socket::Place;

/// Hears whether a session was made.
pub(super) type Made = oneshot::Sender<Result<Client, sqlx::Error>>;

/// What a query is given.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Link {
    // First, so that statements that drop behind it do not ask for their end.
    pub(super) client: Arc<Client>,
    pub(super) statements: Statements,
    pub(super) line: Arc<Line>,
    /// Another thread serves it.
    pub(super) is_beside: bool,
    /// When it is too old.
    pub(super) expires_ms: u64,
    /// The place of its server among the others.
    pub(super) at: usize,
    /// The generation of addresses that it was made with.
    pub(super) generation: u64,
    /// A server that only reads is to be left for another.
    pub(super) is_spent: AtomicBool,
}

/// What a connection and its keeper know of each other.
pub(super) struct Line {
    pub(super) flow: Arc<Flow>,
    /// Rung when it has ended.
    bell: Arc<Bell>,
    has_ended: AtomicBool,
    /// Why it did, where somebody knows.
    why: Mutex<Option<PoolError>>,
}

impl Line {
    pub(super) fn new(bell: Arc<Bell>) -> Arc<Line> {
        Arc::new(Line {
            flow: Arc::default(),
            bell,
            has_ended: AtomicBool::new(false),
            why: Mutex::default(),
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Ends it at once, for a reason that all hear who wait for answers. The first one counts.
    pub(super) fn end(&self, why: PoolError) {
        lock(&self.why).get_or_insert(why);
        self.flow.end();
    }

    pub(super) fn why(&self) -> Option<PoolError> {
        lock(&self.why).clone()
    }
}

/// Ends with whoever serves the connection, however that ends.
struct Serving(Arc<Line>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
        self.0.bell.ring();
    }
}

/// Makes a session over a stream, hands its client over, and moves bytes until either side ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Config,
    line: Arc<Line>,
    mut made: Made,
) {
    let _serving = Serving(line.clone());
    let counted = Counted::new(stream, line.flow.clone());
    let mut connect = pin!(config.connect_raw(counted, NoTls));
    let connected = poll_fn(|cx| {
        if made.poll_closed(cx).is_ready() {
            return Poll::Ready(None); // nobody waits for it any more
        }
        connect.as_mut().poll(cx).map(Some)
    });
    let (client, mut connection) = match connected.await {
        Some(Ok(both)) => both,
        Some(Err(error)) => return drop(made.send(Err(Failed::of(&error).into_error()))),
        None => return,
    };
    line.flow.begin();
    if made.send(Ok(client)).is_err() {
        return;
    }
    let ended = poll_fn(|cx| {
        if line.flow.poll_over(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut connection).poll(cx)
    });
    if let Err(error) = ended.await {
        let error = Failed::of(&error).into_error();
        let fault = match DbFault::of(&error) {
            fault if fault.is_of_server() => fault,
            _ => DbFault::Unreachable,
        };
        line.end(PoolError::Away { why: error.to_string().into(), fault });
    }
}

impl Link {
    /// Runs a query and calls `each` with its rows. How many the server says that it was about.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: Values<'_>,
        mut each: impl FnMut(&PgLaneRow) -> Result<(), sqlx::Error>,
    ) -> Result<u64, sqlx::Error> {
        let prepared = self.statements.get(sql, &self.client)?;
        let prepared = match prepared.peek() {
            Some(prepared) => prepared.clone(),
            None => prepared.await,
        };
        let statement = prepared.map_err(|error| {
            self.statements.forget(sql);
            self.failed(sql, &error)
        })?;
        check_values(&statement, values)?;
        let asked = self.client.query_raw(&statement, values.iter().copied());
        let mut rows = pin!(asked.await.map_err(|error| self.failed(sql, &error))?);
        let (mut count, mut seen) = (0, Ok(()));
        // To its end, even if it is known: an error may still come, as of a deferred constraint.
        while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
            let row = PgLaneRow(row.map_err(|error| self.failed(sql, &error))?);
            if seen.is_ok() {
                seen = each(&row);
            }
            count += 1;
            if count % DB_ROWS_A_TURN == 0 {
                yield_now().await;
            }
        }
        seen.map(|()| rows.rows_affected().unwrap_or(0))
    }

    /// What an error means for the connection, and what it is for who has asked.
    #[cold]
    fn failed(&self, sql: &str, error: &tokio_postgres::Error) -> sqlx::Error {
        match Failed::of(error) {
            Failed::Said(error) => {
                let code = error.as_database_error().and_then(|it| it.code());
                // The tables of a statement have changed, or somebody has let go of it.
                if matches!(code.as_deref(), Some("0A000" | "26000")) {
                    self.statements.forget(sql);
                }
                if fault::ends_connection(&error) {
                    self.is_spent.store(true, Ordering::Release);
                    self.line.bell.ring();
                }
                error
            }
            Failed::Encode(error) => error,
            Failed::Lost(error) => self.line.why().map_or(error, sqlx::Error::from),
            Failed::Nonsense(error) => {
                let why = error.to_string().into();
                self.line.end(PoolError::Away { why, fault: DbFault::Unreachable });
                error
            }
        }
    }
}

fn check_values(statement: &Statement, values: Values<'_>) -> Result<(), sqlx::Error> {
    let (have, want) = (values.len(), statement.params().len());
    if have == want {
        return Ok(());
    }
    Err(sqlx::Error::Encode(format!("the query has {want} parameters, {have} were given").into()))
}

/// Where the server is, and with what a session begins there.
pub(super) fn target(with: &PgConnectOptions, statement_ms: u64) -> (Place, Config) {
    let port = with.get_port();
    let socket = match with.get_socket() {
        Some(folder) => Some(folder.clone()),
        None if with.get_host().starts_with('/') => Some(with.get_host().into()),
        None => None,
    };
    let host = with.get_host().trim_start_matches('[').trim_end_matches(']');
    let place = match socket {
        Some(folder) => Place::Unix(folder.join(format!(".s.PGSQL.{port}"))),
        None => Place::Tcp { host: host.to_owned(), port },
    };
    let mut config = Config::new();
    config.user(with.get_username()).ssl_mode(config::SslMode::Disable);
    if let Some(password) = password(with) {
        config.password(password);
    }
    if let Some(database) = with.get_database() {
        config.dbname(database);
    }
    if let Some(name) = with.get_application_name() {
        config.application_name(name);
    }
    let options = with.get_options().unwrap_or_default();
    config.options(format!("{options} -c statement_timeout={statement_ms}").trim_start());
    (place, config)
}

/// sqlx keeps it to itself, but for the URL that it makes of its options.
fn password(with: &PgConnectOptions) -> Option<String> {
    // Of what else is in it some is written as it is, which not every URL can be read with.
    let url = with.clone().host("host").username("user").to_url_lossy();
    percent::decode(url.password()?).ok().map(|it| it.into_owned())
}

/// Why a lane cannot reach what these options lead to.
pub(super) fn misfit(with: &PgConnectOptions) -> Option<String> {
    let mode = with.get_ssl_mode();
    matches!(mode, PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull).then(|| {
        format!(
            "a lane has no TLS, but sslmode is {mode:?}: use the pool, or let something else \
             encrypt, such as a tunnel, and set sslmode=prefer"
        )
    })
}

pub(super) fn closed() -> sqlx::Error {
    lost("the shard of the lane has ended")
}
