//! Keys made of parts, so that no part can pass for two, or for a pattern.

use std::fmt::{self, Display, Write};

/// A key of parts with colons between: what lies under one is invalidated by its
/// [`below`](CacheKey::below). Colons, stars, question marks, equals signs and percent signs of a
/// part are written `%3A` and so on.
///
/// ```
/// use soloist::CacheKey;
///
/// let user = CacheKey::new("user").part(7);
/// let cart = user.clone().part("cart").param("page", 2).param("sort", "a:z");
/// assert_eq!(cart.as_ref(), "user:7:cart:page=2:sort=a%3Az");
/// assert_eq!(user.below(), "user:7:*");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(String);

impl CacheKey {
    /// A key of one part. Begin with what the value is of, or with a tenant: `new("acme")`.
    ///
    /// ```
    /// assert_eq!(soloist::CacheKey::new("user").as_ref(), "user");
    /// ```
    pub fn new(part: impl Display) -> CacheKey {
        let mut key = CacheKey(String::new());
        key.add(part);
        key
    }

    /// Adds a part.
    ///
    /// ```
    /// assert_eq!(soloist::CacheKey::new("user").part("a*").as_ref(), "user:a%2A");
    /// ```
    pub fn part(mut self, part: impl Display) -> CacheKey {
        self.0.push(':');
        self.add(part);
        self
    }

    /// Adds a part with a name, as of a question's parameters.
    ///
    /// ```
    /// assert_eq!(soloist::CacheKey::new("list").param("page", 2).as_ref(), "list:page=2");
    /// ```
    pub fn param(mut self, name: &str, value: impl Display) -> CacheKey {
        self.0.push(':');
        self.add(name);
        self.0.push('=');
        self.add(value);
        self
    }

    /// Adds the version of the values' form: a new one finds none of the old values.
    ///
    /// ```
    /// let key = soloist::CacheKey::new("user").version(2).part(7);
    /// assert_eq!(key.as_ref(), "user:v2:7");
    /// ```
    pub fn version(self, version: u32) -> CacheKey {
        self.part(format_args!("v{version}"))
    }

    /// The pattern of all keys under this one: for [`Cache::invalidate`](crate::Cache::invalidate).
    ///
    /// ```
    /// # use soloist::{CacheKey, prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<CacheKey, u32>("parts");
    /// let user = CacheKey::new("user").part(7);
    /// cache.insert(user.clone().part("age"), 30);
    /// cache.invalidate(&user.below());
    /// assert_eq!(cache.get(&user.part("age")), None);
    /// # });
    /// ```
    pub fn below(&self) -> String {
        format!("{}:*", self.0)
    }

    fn add(&mut self, part: impl Display) {
        // Writing to a String does not fail; a Display that does leaves what it has written.
        _ = write!(Escaping(&mut self.0), "{part}");
    }
}

impl AsRef<str> for CacheKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CacheKey> for String {
    fn from(key: CacheKey) -> String {
        key.0
    }
}

/// As they were written: parts are not escaped again.
impl std::str::FromStr for CacheKey {
    type Err = std::convert::Infallible;

    fn from_str(key: &str) -> Result<CacheKey, Self::Err> {
        Ok(CacheKey(key.to_owned()))
    }
}

struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                ':' | '*' | '?' | '=' | '%' => write!(self.0, "%{:02X}", char as u32)?,
                _ => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Different parts never make the same key, and none reaches out of its place.
    #[test]
    fn parts_stay_apart() {
        let parts = ["", "a", ":", "a:", ":a", "%", "%3A", "*", "?", "=", "a=", "v1", "\u{e9}"];
        let mut all = Vec::new();
        for one in parts {
            for other in parts {
                let key = CacheKey::new("x").part(one).part(other);
                assert_eq!(key.as_ref().matches(':').count(), 2, "{key}");
                assert!(!key.as_ref().contains(['*', '?', '=']), "{key}");
                all.push(key);
                all.push(CacheKey::new("x").param(one, other));
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
