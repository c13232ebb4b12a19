//! Prepared statements of a lane's connection, by their texts; and those that it does not take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio_postgres::{Client, Error, Statement};

use crate::db::query;
use crate::db::watch::lock;

/// On its way for all who have come meanwhile: whoever of them is polled drives it.
pub(super) type Prepared = Shared<BoxFuture<'static, Result<Statement, Arc<Error>>>>;

pub(super) struct Statements {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_text: HashMap<Box<str>, Kept>,
    /// Counts uses.
    now: u64,
}

struct Kept {
    statement: Prepared,
    used: u64,
}

impl Statements {
    /// With room for at least one.
    pub(super) fn new(max: usize) -> Statements {
        Statements { max: max.max(1), inner: Mutex::default() }
    }

    /// The one of that text, prepared or not; the one that was used longest ago makes room.
    pub(super) fn get(&self, sql: &str, client: &Arc<Client>) -> Result<Prepared, sqlx::Error> {
        self.get_or(sql, || {
            let (client, sql) = (client.clone(), sql.to_owned());
            async move { client.prepare(&sql).await.map_err(Arc::new) }.boxed().shared()
        })
    }

    fn get_or(
        &self,
        sql: &str,
        prepare: impl FnOnce() -> Prepared,
    ) -> Result<Prepared, sqlx::Error> {
        let mut inner = lock(&self.inner);
        inner.now += 1;
        let now = inner.now;
        if let Some(kept) = inner.by_text.get_mut(sql) {
            kept.used = now;
            return Ok(kept.statement.clone());
        }
        if is_refused(sql) {
            let start: String = sql.trim_start().chars().take(TOLD_CHARS).collect();
            return Err(sqlx::Error::Configuration(
                format!(
                    "on a lane, whose session belongs to all queries that share it: {start:?}; \
                     use Db::begin, or a connection of Db::acquire"
                )
                .into(),
            ));
        }
        let mut oldest = None;
        if inner.by_text.len() >= self.max {
            let least = inner.by_text.iter().min_by_key(|(_, kept)| kept.used);
            let text = least.map(|(text, _)| text.clone());
            oldest = text.and_then(|text| inner.by_text.remove(&text));
        }
        let statement = prepare();
        inner.by_text.insert(sql.into(), Kept { statement: statement.clone(), used: now });
        drop(inner);
        drop(oldest); // it is closed on the server when its last query has ended
        Ok(statement)
    }

    /// It is of no more use: the next one is prepared anew.
    pub(super) fn forget(&self, sql: &str) {
        let gone = lock(&self.inner).by_text.remove(sql);
        drop(gone);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.inner).by_text.len()
    }
}

/// Whether a statement may leave the session other than it was, or has a protocol of its own, as
/// far as its words tell.
fn is_refused(sql: &str) -> bool {
    const FIRST: [&str; 17] = [
        "abort",
        "close",
        "commit",
        "copy",
        "deallocate",
        "declare",
        "discard",
        "end",
        "execute",
        "fetch",
        "move",
        "release",
        "reset",
        "rollback",
        "savepoint",
        "unlisten",
        "vacuum",
    ];
    let first = query::first_word(sql);
    first.is_some_and(|first| FIRST.iter().any(|it| it.eq_ignore_ascii_case(first)))
        || query::leaves_state(sql)
}

/// Of a statement that is refused.
const TOLD_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_session_is_refused() {
        for (sql, is) in [
            ("SELECT 1", false),
            ("  -- BEGIN\n /* SET */ select 'begin'", false),
            ("UPDATE t SET a = 1", false),
            ("(SELECT 1)", false),
            ("", false),
            ("SETTINGS", false),
            ("begin", true),
            ("/* a */ Start TRANSACTION", true),
            ("set statement_timeout = 0", true),
            ("COPY t FROM STDIN", true),
            ("; COMMIT", true),
            ("CREATE TEMP TABLE a (b int)", true),
            ("SELECT set_config('a.b', 'c', false)", true),
            ("SELECT pg_advisory_lock(1)", true),
            ("SELECT pg_advisory_xact_lock(1)", false),
        ] {
            assert_eq!(is_refused(sql), is, "{sql}");
        }
    }

    #[test]
    fn the_one_that_was_used_longest_ago_makes_room() {
        let statements = Statements::new(2);
        let get = |sql: &str| {
            let never = || std::future::pending().boxed().shared();
            statements.get_or(sql, never).expect("taken")
        };
        let one = get("SELECT 1");
        drop(get("SELECT 2"));
        assert!(one.ptr_eq(&get("SELECT 1")), "there");
        drop(get("SELECT 3"));
        assert_eq!(statements.len(), 2);
        assert!(one.ptr_eq(&get("SELECT 1")), "used since");
        statements.forget("SELECT 1");
        assert!(!one.ptr_eq(&get("SELECT 1")), "another");
    }
}
