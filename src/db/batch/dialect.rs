//! What the SQL of databases differs in, as far as batches need it.

use std::any::Any;
use std::fmt::Write;

use sqlx::Error;

use crate::db::backend::Backend;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    /// Of a database; where its type does not tell, its URL does.
    pub(super) fn of<B: Backend>(url: &str) -> Dialect {
        let scheme = url.split(':').next().unwrap_or_default();
        match if B::NAME == "Any" { scheme } else { B::NAME } {
            "PostgreSQL" | "postgres" | "postgresql" => Dialect::Postgres,
            "SQLite" | "sqlite" => Dialect::Sqlite,
            _ => Dialect::MySql,
        }
    }

    /// Values that one statement may bind: a number of 16 bits in their protocols, and
    /// SQLITE_MAX_VARIABLE_NUMBER.
    pub(super) fn binds_max(self) -> usize {
        match self {
            Dialect::MySql | Dialect::Postgres => 65_535,
            Dialect::Sqlite => 32_766,
        }
    }

    /// The place of the value with this number, from 1 on.
    pub(super) fn place(self, sql: &mut String, number: usize) {
        match self {
            Dialect::Postgres => write!(sql, "${number}").expect("to a string"),
            Dialect::MySql | Dialect::Sqlite => sql.push('?'),
        }
    }

    /// A name in quotes, whatever it is: what it holds cannot end them.
    pub(super) fn quote(self, sql: &mut String, name: &str) -> Result<(), Error> {
        if name.is_empty() || name.contains('\0') {
            return Err(Error::InvalidArgument(format!("no name of a table or column: {name:?}")));
        }
        let quote = if self == Dialect::MySql { '`' } else { '"' };
        sql.push(quote);
        for part in name.chars() {
            if part == quote {
                sql.push(quote);
            }
            sql.push(part);
        }
        sql.push(quote);
        Ok(())
    }

    /// Names in quotes, with commas between.
    pub(super) fn quote_all(self, sql: &mut String, names: &[&str]) -> Result<(), Error> {
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                sql.push_str(", ");
            }
            self.quote(sql, name)?;
        }
        Ok(())
    }
}

/// How many rows a statement has changed; sqlx has it for each database apart.
pub(super) fn affected(result: &dyn Any) -> u64 {
    #[cfg(feature = "sqlite")]
    if let Some(result) = result.downcast_ref::<sqlx::sqlite::SqliteQueryResult>() {
        return result.rows_affected();
    }
    #[cfg(feature = "postgres")]
    if let Some(result) = result.downcast_ref::<sqlx::postgres::PgQueryResult>() {
        return result.rows_affected();
    }
    #[cfg(feature = "mysql")]
    if let Some(result) = result.downcast_ref::<sqlx::mysql::MySqlQueryResult>() {
        return result.rows_affected();
    }
    result.downcast_ref::<sqlx::any::AnyQueryResult>().map_or(0, |it| it.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_quotes() {
        for (name, standard, mysql) in [
            ("users", Some("\"users\""), Some("`users`")),
            ("from", Some("\"from\""), Some("`from`")),
            ("a b; --", Some("\"a b; --\""), Some("`a b; --`")),
            ("a\"b", Some("\"a\"\"b\""), Some("`a\"b`")),
            ("a`b", Some("\"a`b\""), Some("`a``b`")),
            ("\"", Some("\"\"\"\""), Some("`\"`")),
            ("a\\", Some("\"a\\\""), Some("`a\\`")),
            ("", None, None),
            ("a\0b", None, None),
        ] {
            for (dialect, want) in [
                (Dialect::Sqlite, standard),
                (Dialect::Postgres, standard),
                (Dialect::MySql, mysql),
            ] {
                let mut sql = String::new();
                let done = dialect.quote(&mut sql, name);
                assert_eq!(done.is_ok().then_some(&*sql), want, "{dialect:?} {name:?}");
            }
        }
    }

    #[test]
    fn any_is_told_from_its_url() {
        for (url, want) in [
            ("sqlite::memory:", Dialect::Sqlite),
            ("postgres://a/b", Dialect::Postgres),
            ("postgresql://a/b", Dialect::Postgres),
            ("mysql://a/b", Dialect::MySql),
            ("mariadb://a/b", Dialect::MySql),
        ] {
            assert_eq!(Dialect::of::<sqlx::Any>(url), want, "{url}");
        }
    }
}
