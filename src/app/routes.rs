//! What an application is put together from: routes as they were added, the prefixes whose misses
//! have their own middleware, and hosts; then the tables that a shard serves from.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::Location;
use std::rc::Rc;

use super::core::RouteInfo;
use super::handler::{Endpoint, Layer};
use super::router::Router;

/// Middleware of one route, outermost first.
pub(crate) type Chain<S> = Vec<Rc<dyn Layer<S>>>;

/// One route, as it was added.
pub(crate) struct Entry<S> {
    pub(crate) method: Box<str>,
    pub(crate) pattern: String,
    pub(crate) name: Option<Box<str>>,
    pub(crate) layers: Chain<S>,
    pub(crate) end: Box<dyn Endpoint<S>>,
    pub(crate) at: &'static Location<'static>,
}

/// A prefix under which misses are answered in their own way.
pub(crate) struct Scope<S> {
    pub(crate) prefix: String,
    pub(crate) layers: Chain<S>,
    pub(crate) fallback: Option<Box<dyn Endpoint<S>>>,
    /// The fallback answers wrong methods too: it is that of a mounted part.
    pub(crate) whole: bool,
}

/// Routes for one host, or for all.
pub(crate) struct Part<S> {
    pub(crate) host: Option<HostName>,
    pub(crate) entries: Vec<Entry<S>>,
    pub(crate) scopes: Vec<Scope<S>>,
}

/// The same, ready to be looked up.
pub(crate) struct Table<S> {
    pub(crate) host: Option<HostName>,
    pub(crate) router: Router<Way<S>>,
    /// Longest prefix first.
    pub(crate) scopes: Vec<Scope<S>>,
}

/// What a route leads to.
pub(crate) struct Way<S> {
    pub(crate) info: Rc<RouteInfo>,
    pub(crate) layers: Chain<S>,
    pub(crate) end: Box<dyn Endpoint<S>>,
}

/// `example.com`, or `*.example.com` for every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostName {
    name: Box<str>,
    below: bool,
}

/// Patterns by the names of their routes.
#[derive(Default)]
pub(crate) struct Urls(BTreeMap<Box<str>, Rc<RouteInfo>>);

/// What becomes of a path that has a route only with, or only without, its last slash.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::Slashes;
///
/// let app = App::new(()).slashes(Slashes::Ignore).get("/docs", async |cx| cx.text("docs"));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/docs/").await.expect(200); // `Strict`: 404, `Redirect`: 308
/// # client.get("/docs").await.expect(200);
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slashes {
    /// 404: two paths are two resources.
    #[default]
    Strict,
    /// 308 to the path that has a route, query and all.
    Redirect,
    /// The route answers both.
    Ignore,
}

impl<S> Part<S> {
    pub(crate) fn new(host: Option<HostName>) -> Part<S> {
        Part { host, entries: Vec::new(), scopes: Vec::new() }
    }

    /// The table, with `outer` around everything. Mistakes are added to `mistakes`.
    pub(crate) fn build(
        self,
        outer: &Chain<S>,
        urls: &mut Urls,
        mistakes: &mut Vec<String>,
    ) -> Table<S> {
        let mut router = Router::new();
        for entry in self.entries {
            let names = entry.pattern.split('/').filter_map(|it| it.strip_prefix([':', '*']));
            let info = Rc::new(RouteInfo {
                pattern: entry.pattern.as_str().into(),
                names: names.map(Box::from).collect(),
                id: router.len() as u32,
                long_arena_bytes: Cell::new(0),
            });
            if let Some(name) = entry.name
                && let Some(other) = urls.0.insert(name.clone(), info.clone())
                && other.pattern != info.pattern
            {
                let (other, this) = (&other.pattern, &info.pattern);
                mistakes.push(format!("two routes are named {name}: {other} and {this}"));
            }
            let layers = outer.iter().cloned().chain(entry.layers).collect();
            let way = Way { info, layers, end: entry.end };
            if let Err(error) = router.insert(&entry.method, &entry.pattern, way, entry.at) {
                mistakes.push(error.to_string());
            }
        }
        let mut scopes = self.scopes;
        for scope in &mut scopes {
            scope.layers.splice(0..0, outer.iter().cloned());
        }
        scopes.sort_by_key(|scope| std::cmp::Reverse(scope.prefix.len()));
        Table { host: self.host, router, scopes }
    }
}

impl<S> Table<S> {
    /// The scope whose prefix reaches furthest into the path.
    pub(crate) fn scope(&self, path: &str) -> Option<&Scope<S>> {
        self.scopes.iter().find(|scope| is_under(&scope.prefix, path))
    }

    /// One line a route, as a person reads them.
    pub(crate) fn print(&self, out: &mut String) {
        for route in self.router.routes() {
            let host = self.host.as_ref().map(HostName::to_string).unwrap_or_default();
            let _ = writeln!(out, "{:<7} {host}{}  {}", route.method, route.pattern, route.line());
        }
    }
}

impl HostName {
    /// None if the text is no host name.
    pub(crate) fn parse(text: &str) -> Option<HostName> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[:]".contains(&byte);
        let fits = !name.is_empty() && name.bytes().all(is_name) && !name.ends_with('.');
        fits.then(|| HostName { name: name.to_ascii_lowercase().into(), below })
    }

    /// Whether an authority, with or without a port, is meant. Names have no case.
    pub(crate) fn matches(&self, authority: &str) -> bool {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let name = self.name.as_bytes();
        if !self.below {
            return host.eq_ignore_ascii_case(name);
        }
        let Some(cut) = host.len().checked_sub(name.len()) else { return false };
        cut >= 2 && host[cut - 1] == b'.' && host[cut..].eq_ignore_ascii_case(name)
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl Urls {
    pub(crate) fn get(&self, name: &str) -> Option<&RouteInfo> {
        self.0.get(name).map(Rc::as_ref)
    }
}

/// What is wrong with a prefix, if anything is.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    if !prefix.starts_with('/') {
        Err("a prefix begins with a slash")
    } else if prefix.ends_with('/') {
        Err("a prefix does not end with a slash: group() adds no prefix")
    } else if prefix.contains('*') {
        Err("a prefix has no *rest")
    } else {
        Ok(())
    }
}

/// A pattern below a prefix: `/` is the prefix itself.
pub(crate) fn join(prefix: &str, pattern: &str) -> String {
    match pattern {
        "/" if !prefix.is_empty() => prefix.to_owned(),
        pattern => format!("{prefix}{pattern}"),
    }
}

fn is_under(prefix: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    prefix.split('/').all(|part| match segments.next() {
        Some(segment) if part.starts_with(':') => !segment.is_empty(),
        Some(segment) => part == segment,
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (pattern, authority, meant) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com:8080", true),
            ("example.com", "example.com.", true),
            ("example.com", "a.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com:1", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "badexample.com", false),
            ("[::1]", "[::1]:80", true),
            ("[::1]", "[::1]", true),
        ] {
            let host = HostName::parse(pattern).expect(pattern);
            assert_eq!(host.matches(authority), meant, "{pattern} {authority}");
        }
        for bad in ["", "*.", "a b", "a/b", "*"] {
            assert_eq!(HostName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn prefixes() {
        for (prefix, path, under) in [
            ("/admin", "/admin", true),
            ("/admin", "/admin/x", true),
            ("/admin", "/administrator", false),
            ("/users/:id", "/users/7/x", true),
            ("/users/:id", "/users/", false),
            ("/a/b", "/a", false),
        ] {
            assert_eq!(is_under(prefix, path), under, "{prefix} {path}");
        }
    }
}
