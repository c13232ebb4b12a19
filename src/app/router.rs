//! From a method and a path to a route: static before `:param` before `*rest`, whatever the order
//! in which routes were added.
//!
//! A tree of whole segments. A look-up tries the better branch first and comes back when it leads
//! nowhere; it visits a node at most once, so no path can make it slow.

use std::fmt;
use std::panic::Location;

/// All routes of one server.
pub(crate) struct Router<T> {
    root: Node,
    routes: Vec<Route<T>>,
}

/// One method and pattern, and what it leads to.
pub(crate) struct Route<T> {
    pub(crate) method: Box<str>,
    pub(crate) pattern: Box<str>,
    pub(crate) value: T,
    at: &'static Location<'static>,
}

/// Where the parameters of a match lie in the path.
#[derive(Clone, Copy, Default)]
pub(crate) struct Params {
    spans: [(u16, u16); PARAMS_MAX],
    len: u8,
}

/// What a look-up finds.
pub(crate) enum Found<'r, T> {
    Route(&'r Route<T>),
    /// The path is known, the method is not: the value of Allow.
    WrongMethod(String),
    /// OPTIONS for a path that has no handler of its own for it: the value of Allow.
    Options(String),
    None,
}

/// Why a route cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RouteError(String);

/// Parameters of one route.
pub(crate) const PARAMS_MAX: usize = 8;

#[derive(Default)]
struct Node {
    statics: Vec<(Box<str>, Node)>,
    param: Option<Box<Node>>,
    leaf: Leaf,
    rest: Leaf,
}

/// Routes that end here, by index.
type Leaf = Vec<u32>;

impl<T> Router<T> {
    pub(crate) fn new() -> Router<T> {
        Router { root: Node::default(), routes: Vec::new() }
    }

    /// Adds a route. The error names this line, and the other one if two claim the same.
    pub(crate) fn insert(
        &mut self,
        method: &str,
        pattern: &str,
        value: T,
        at: &'static Location<'static>,
    ) -> Result<(), RouteError> {
        let bad = |why: &str| Err(RouteError(format!("{method} {pattern} ({at}): {why}")));
        let Some(path) = pattern.strip_prefix('/') else {
            return bad("a path begins with a slash");
        };
        if pattern.len() > usize::from(u16::MAX) || pattern.bytes().any(|b| b <= b' ' || b > b'~') {
            return bad("a path is printable ASCII, percent-encoded where it is not");
        }
        let mut names: Vec<Box<str>> = Vec::new();
        let mut node = &mut self.root;
        let mut leaf = None;
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let name = segment.strip_prefix([':', '*']);
            if let Some(name) = name {
                if name.is_empty() {
                    return bad("a parameter has no name");
                }
                if names.iter().any(|known| **known == *name) {
                    return bad("two parameters have the same name");
                }
                if names.len() == PARAMS_MAX {
                    return bad("more than 8 parameters");
                }
                names.push(name.into());
            }
            if segment.starts_with('*') {
                if segments.peek().is_some() {
                    return bad("a *rest is the last segment");
                }
                leaf = Some(&mut node.rest);
                break;
            }
            node = match name {
                Some(_) => node.param.get_or_insert_default(),
                None => node.child(segment),
            };
            if segments.peek().is_none() {
                leaf = Some(&mut node.leaf);
                break;
            }
        }
        let Some(leaf) = leaf else { return bad("no segment") };
        if let Some(other) =
            leaf.iter().map(|at| &self.routes[*at as usize]).find(|it| *it.method == *method)
        {
            return bad(&format!(
                "conflicts with {} {} ({})",
                other.method, other.pattern, other.at
            ));
        }
        leaf.push(self.routes.len() as u32);
        self.routes.push(Route { method: method.into(), pattern: pattern.into(), value, at });
        Ok(())
    }

    /// Looks a path up. HEAD is answered by GET where it has no route of its own.
    #[inline]
    pub(crate) fn find<'r>(
        &'r self,
        method: &str,
        path: &str,
        params: &mut Params,
    ) -> Found<'r, T> {
        params.len = 0;
        if !path.starts_with('/') {
            return Found::None; // `*`
        }
        if let Some(route) = self.walk(&self.root, method, path, 1, params) {
            return Found::Route(route);
        }
        if method == "HEAD" {
            params.len = 0;
            if let Some(route) = self.walk(&self.root, "GET", path, 1, params) {
                return Found::Route(route);
            }
        }
        self.refuse(method, path)
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// What route `id`, by the order of insertion, leads to.
    #[inline]
    pub(crate) fn value(&self, id: u32) -> &T {
        &self.routes[id as usize].value
    }

    /// In the order in which they were added.
    #[cfg(test)]
    fn routes(&self) -> impl Iterator<Item = &Route<T>> {
        self.routes.iter()
    }

    fn walk<'r>(
        &'r self,
        node: &'r Node,
        method: &str,
        path: &str,
        from: usize,
        params: &mut Params,
    ) -> Option<&'r Route<T>> {
        let rest = path.get(from..)?;
        let end = memchr::memchr(b'/', rest.as_bytes()).map(|at| from + at);
        let segment = &path[from..end.unwrap_or(path.len())];
        let kept = params.len;
        let down = |child: &'r Node, params: &mut Params| match end {
            Some(end) => self.walk(child, method, path, end + 1, params),
            None => self.of(&child.leaf, method),
        };
        if let Some((_, child)) = node.statics.iter().find(|(name, _)| **name == *segment)
            && let Some(route) = down(child, params)
        {
            return Some(route);
        }
        if let Some(child) = node.param.as_deref()
            && !segment.is_empty()
        {
            params.len = kept;
            params.push(from, from + segment.len());
            if let Some(route) = down(child, params) {
                return Some(route);
            }
        }
        params.len = kept;
        if !node.rest.is_empty() {
            params.push(from, path.len());
            return self.of(&node.rest, method);
        }
        None
    }

    fn of(&self, leaf: &[u32], method: &str) -> Option<&Route<T>> {
        leaf.iter().map(|at| &self.routes[*at as usize]).find(|route| *route.method == *method)
    }

    #[cold]
    fn refuse(&self, method: &str, path: &str) -> Found<'_, T> {
        let mut known: Vec<&str> = Vec::new();
        for route in &self.routes {
            if !known.contains(&&*route.method)
                && self.walk(&self.root, &route.method, path, 1, &mut Params::default()).is_some()
            {
                known.push(&route.method);
            }
        }
        if known.is_empty() {
            return Found::None;
        }
        for also in ["GET", "HEAD", "OPTIONS"] {
            if (also != "GET" || known.contains(&"GET"))
                && (also != "HEAD" || known.contains(&"GET"))
                && !known.contains(&also)
            {
                known.push(also);
            }
        }
        known.sort_unstable();
        let allow = known.join(", ");
        if method == "OPTIONS" { Found::Options(allow) } else { Found::WrongMethod(allow) }
    }
}

impl Node {
    fn child(&mut self, segment: &str) -> &mut Node {
        let at = self.statics.iter().position(|(name, _)| **name == *segment);
        let at = at.unwrap_or_else(|| {
            self.statics.push((segment.into(), Node::default()));
            self.statics.len() - 1
        });
        &mut self.statics[at].1
    }
}

impl Params {
    /// The piece of `path` that parameter `at` covers.
    #[inline]
    pub(crate) fn of<'p>(&self, path: &'p str, at: usize) -> Option<&'p str> {
        let (start, end) = *self.spans[..usize::from(self.len)].get(at)?;
        path.get(usize::from(start)..usize::from(end))
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(usize::from(self.len)) {
            *span = (start as u16, end as u16);
            self.len += 1;
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RouteError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[&str]) -> Router<usize> {
        let mut router = Router::new();
        for (at, route) in routes.iter().enumerate() {
            let (method, pattern) = route.split_once(' ').expect("METHOD /pattern");
            router.insert(method, pattern, at, Location::caller()).expect(route);
        }
        router
    }

    /// `pattern | name=value ...`, `405 allow`, `OPTIONS allow` or `404`.
    fn look(router: &Router<usize>, method: &str, path: &str) -> String {
        let mut params = Params::default();
        match router.find(method, path, &mut params) {
            Found::Route(route) => {
                let mut out = format!("{}", route.pattern);
                let names = route.pattern.split('/').filter_map(|it| it.strip_prefix([':', '*']));
                for (at, name) in names.enumerate() {
                    out += &format!(" {name}={}", params.of(path, at).expect("a span"));
                }
                out
            }
            Found::WrongMethod(allow) => format!("405 {allow}"),
            Found::Options(allow) => format!("OPTIONS {allow}"),
            Found::None => "404".into(),
        }
    }

    #[test]
    fn precedence_and_params() {
        let router = router(&[
            "GET /",
            "GET /*all",
            "GET /users/:id",
            "GET /users/me",
            "POST /users/:user",
            "GET /users/:id/posts/:post",
            "DELETE /users/me",
            "GET /files/*path",
            "GET /files/index",
            "GET /a/",
        ]);
        let cases = [
            ("GET", "/", "/"),
            ("HEAD", "/", "/"),
            ("GET", "/users/me", "/users/me"),
            ("GET", "/users/42", "/users/:id id=42"),
            ("POST", "/users/me", "/users/:user user=me"),
            ("GET", "/users/me/posts/7", "/users/:id/posts/:post id=me post=7"),
            ("GET", "/users/", "/*all all=users/"),
            ("GET", "/users/1/x", "/*all all=users/1/x"),
            ("GET", "/files/a/b//c", "/files/*path path=a/b//c"),
            ("GET", "/files/", "/files/*path path="),
            ("GET", "/files/index", "/files/index"),
            ("GET", "/a", "/*all all=a"),
            ("GET", "/a/", "/a/"),
            ("PUT", "/users/1", "405 GET, HEAD, OPTIONS, POST"),
            ("PUT", "/users/me", "405 DELETE, GET, HEAD, OPTIONS, POST"),
            ("OPTIONS", "/users/1", "OPTIONS GET, HEAD, OPTIONS, POST"),
            ("GET", "", "404"),
            ("GET", "*", "404"),
        ];
        for (method, path, want) in cases {
            assert_eq!(look(&router, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn what_cannot_be_added_says_why() {
        let mut router = router(&["GET /users/:id"]);
        let cases = [
            ("/users/:name", "conflicts with GET /users/:id (src/app/router.rs:"),
            ("users", "a path begins with a slash"),
            ("/a/:", "a parameter has no name"),
            ("/:a/:a", "two parameters have the same name"),
            ("/*rest/b", "a *rest is the last segment"),
            ("/:a/:b/:c/:d/:e/:f/:g/:h/:i", "more than 8 parameters"),
            ("/caf\u{e9}", "printable ASCII"),
        ];
        for (pattern, want) in cases {
            let error = router.insert("GET", pattern, 0, Location::caller()).expect_err(pattern);
            assert!(error.0.contains(want), "{pattern}: {error}");
        }
    }

    #[test]
    fn no_path_makes_it_slow_or_deep() {
        let mut routes = Vec::new();
        for bits in 0..256u32 {
            let word = |at: u32| if bits >> at & 1 == 1 { "a".into() } else { format!(":p{at}") };
            let path: Vec<String> = (0..8).map(word).collect();
            routes.push(format!("GET /{}", path.join("/")));
        }
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let router = router(&routes);
        for path in ["/a".repeat(9), "/a".repeat(30_000), "/".repeat(60_000)] {
            assert_eq!(look(&router, "GET", &path), "404");
        }
        assert_eq!(look(&router, "GET", &"/a".repeat(8)), "/a".repeat(8));
    }

    /// Every route that fits, the best one by precedence, segment by segment.
    fn naive<'r>(router: &'r Router<usize>, path: &str) -> Option<&'r str> {
        let parts: Vec<&str> = path[1..].split('/').collect();
        let rank = |pattern: &str| -> Option<Vec<u8>> {
            let mut ranks = Vec::new();
            let words: Vec<&str> = pattern[1..].split('/').collect();
            for (at, word) in words.iter().enumerate() {
                if word.starts_with('*') {
                    ranks.push(2);
                    return (at < parts.len()).then_some(ranks);
                }
                let part = parts.get(at)?;
                match word.strip_prefix(':') {
                    Some(_) if !part.is_empty() => ranks.push(1),
                    None if word == part => ranks.push(0),
                    _ => return None,
                }
            }
            (words.len() == parts.len()).then_some(ranks)
        };
        let fits = router.routes().filter_map(|it| Some((rank(&it.pattern)?, &*it.pattern)));
        fits.min().map(|(_, pattern)| pattern)
    }

    #[test]
    fn it_agrees_with_a_list_of_all_routes() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..300 {
            let mut router = Router::new();
            for at in 0..12 {
                let mut pattern = String::new();
                for depth in 0..=random(4) {
                    pattern += match random(5) {
                        0 => "/a",
                        1 => "/b",
                        2 => "/",
                        _ => "/:",
                    };
                    if pattern.ends_with(':') {
                        pattern += &format!("p{depth}");
                    }
                }
                if random(6) == 0 {
                    pattern += "/*rest";
                }
                let _ = router.insert("GET", &pattern, at, Location::caller());
            }
            for _ in 0..60 {
                let mut path = String::new();
                for _ in 0..=random(5) {
                    path += ["/a", "/b", "/c", "/"][random(4) as usize];
                }
                let found = match router.find("GET", &path, &mut Params::default()) {
                    Found::Route(route) => Some(&*route.pattern),
                    _ => None,
                };
                assert_eq!(found, naive(&router, &path), "{path}");
            }
        }
    }
}
