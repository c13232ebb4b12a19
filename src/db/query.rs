//! A query as it is passed on, and what can be told from its text.

use sqlx::{Database, Execute, SqlStr};

/// The parts of a query, whose text can be looked at without taking it.
pub struct Parts<B: Database> {
    sql: SqlStr,
    arguments: Option<B::Arguments>,
    statement: Option<B::Statement>,
    is_persistent: bool,
}

impl<B: Database> Parts<B> {
    pub(super) fn of<'q>(mut query: impl Execute<'q, B>) -> Result<Parts<B>, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let (statement, is_persistent) = (query.statement().cloned(), query.persistent());
        Ok(Parts { sql: query.sql(), arguments, statement, is_persistent })
    }

    pub(super) fn text(&self) -> &str {
        self.sql.as_str()
    }

    /// Whether it is prepared, then run: one without is sent as it is.
    pub(super) fn has_arguments(&self) -> bool {
        self.arguments.is_some()
    }

    /// Nothing of it stays on the server.
    pub(super) fn prepare_for_once(&mut self) {
        self.is_persistent = false;
    }
}

impl<'q, B: Database> Execute<'q, B> for Parts<B> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&B::Statement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<B::Arguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

/// Whether a statement reads only, as far as its words tell: one that is not sure to is taken for
/// one that writes. What a function does that it calls cannot be seen.
pub(super) fn is_read(sql: &str) -> bool {
    let mut words = Words(sql);
    let Some(first) = words.next() else { return false };
    let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
    let is_any = |word: &str, of: &[&str]| of.iter().any(|it| is(word, it));
    if is_any(first, &["values", "show", "describe", "desc", "table"]) {
        return !words.any(|it| is(it, "into"));
    }
    if is_any(first, &["select", "with", "explain"]) {
        // FOR UPDATE, SELECT INTO, and changes within a WITH.
        return !words.any(|it| {
            is_any(
                it,
                &["into", "insert", "update", "delete", "merge", "replace", "share", "analyze"],
            )
        });
    }
    is(first, "pragma") && !sql.contains('=') && !sql.contains(';')
}

/// Whether a text leaves more on its connection than an answer, as far as its words tell: a
/// transaction, a lock, or a session that is not as it was. What a function does that it calls
/// cannot be seen, but for those that are there for nothing else.
pub(super) fn leaves_state(sql: &str) -> bool {
    const FIRST: [&str; 10] =
        ["begin", "start", "set", "use", "lock", "listen", "prepare", "load", "call", "do"];
    const ANY: [&str; 4] = ["temp", "temporary", "set_config", "get_lock"];
    let is_any = |word: &str, of: &[&str]| of.iter().any(|it| it.eq_ignore_ascii_case(word));
    let mut is_first = true;
    Words(sql).any(|word| {
        let is_of_session = is_any(word, if is_first { &FIRST } else { &ANY });
        is_first = word == ";";
        is_of_session || is_session_lock(word)
    })
}

/// Whether a text sets what belongs to its session and ends with it alone: a variable, the database
/// in use, a temporary table, a prepared statement.
#[cfg(feature = "mysql")]
pub(super) fn sets_session(sql: &str) -> bool {
    let mut is_first = true;
    Words(sql).any(|word| {
        let words: &[&str] = if is_first { &["set", "use", "prepare"] } else { &["temporary"] };
        is_first = word == ";";
        words.iter().any(|it| it.eq_ignore_ascii_case(word))
    })
}

/// What a statement begins with, behind comments and empty statements.
#[cfg(feature = "postgres-lane")]
pub(super) fn first_word(sql: &str) -> Option<&str> {
    Words(sql).find(|word| *word != ";")
}

/// `pg_advisory_lock` and its like, but for those that end with their transaction.
fn is_session_lock(word: &str) -> bool {
    let is_of_server = word.len() > 3 && word.as_bytes()[..3].eq_ignore_ascii_case(b"pg_");
    is_of_server && {
        let word = word.to_ascii_lowercase();
        word.contains("advisory") && !word.contains("xact")
    }
}

/// Words outside of quotes and comments, and the semicolons between statements.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let rest = self.0;
            let first = rest.chars().next()?;
            if first.is_ascii_alphabetic() || first == '_' {
                let is_in = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
                let len = rest.find(|c| !is_in(c)).unwrap_or(rest.len());
                self.0 = &rest[len..];
                return Some(&rest[..len]);
            }
            if first == ';' {
                self.0 = &rest[1..];
                return Some(&rest[..1]);
            }
            let after = |open: usize, close: &str| {
                let end = rest[open..].find(close).map(|at| open + at + close.len());
                &rest[end.unwrap_or(rest.len())..]
            };
            self.0 = match first {
                '\'' | '"' | '`' => after(1, &rest[..1]),
                '-' if rest.starts_with("--") => after(2, "\n"),
                '/' if rest.starts_with("/*") => after(2, "*/"),
                _ => &rest[first.len_utf8()..],
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_write_is_not_taken_for_a_read() {
        for (sql, reads) in [
            ("SELECT 1", true),
            ("  -- a comment, insert\n select * from t", true),
            ("/* update */ (SELECT 'delete' FROM \"insert\")", true),
            ("WITH a AS (SELECT 1) SELECT * FROM a", true),
            ("WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", false),
            ("SELECT * FROM t FOR UPDATE", false),
            ("select * from t for no key update", false),
            ("SELECT * FROM t FOR SHARE", false),
            ("SELECT * INTO u FROM t", false),
            ("SELECT updated, inserted FROM t", true),
            ("VALUES (1)", true),
            ("EXPLAIN SELECT 1", true),
            ("EXPLAIN ANALYZE SELECT f()", false),
            ("INSERT INTO t VALUES (1)", false),
            ("PRAGMA table_info(t)", true),
            ("PRAGMA user_version = 3", false),
            ("CREATE TABLE t (a)", false),
            ("", false),
            ("-- nothing", false),
            ("SELECT 'never closed", true),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_read(sql), reads, "{sql}");
        }
    }

    #[test]
    fn what_leaves_state_is_known_by_its_words() {
        for (sql, leaves) in [
            ("BEGIN", true),
            (" /* x */ start transaction", true),
            ("Set search_path TO a", true),
            ("SELECT 1; SET a = 1", true),
            ("SELECT 1;-- SET a = 1", false),
            ("SELECT ';SET a'", false),
            ("CREATE TEMP TABLE a (b int)", true),
            ("create temporary view a AS SELECT 1", true),
            ("SELECT pg_try_advisory_lock($1)", true),
            ("SELECT PG_ADVISORY_LOCK(1)", true),
            ("SELECT pg_advisory_xact_lock(1)", false),
            ("SELECT set_config('a.b', $1, false)", true),
            ("DO $$ BEGIN NULL; END $$", true),
            ("UPDATE t SET a = 1", false),
            ("SELECT 1", false),
            ("INSERT INTO t VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = 1", false),
            ("beginning", false),
            ("", false),
            (";", false),
        ] {
            assert_eq!(leaves_state(sql), leaves, "{sql}");
        }
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn what_only_ends_with_its_session_is_known_by_its_words() {
        for (sql, sets) in [
            ("SET @mine = 7", true),
            ("SELECT 1; use other", true),
            ("PREPARE mine FROM 'SELECT 1'", true),
            ("CREATE TEMPORARY TABLE t (n INT)", true),
            ("UPDATE t SET n = 1", false),
            ("SELECT 'SET' -- ; SET", false),
            ("START TRANSACTION", false),
            ("", false),
        ] {
            assert_eq!(sets_session(sql), sets, "{sql}");
        }
    }
}
