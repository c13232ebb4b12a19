//! From a method and a path to a route: static before `:param` before `*rest`, segment by segment,
//! whatever the order in which routes were added.
//!
//! A tree of whole segments. A look-up tries the better branch first and comes back when it leads
//! nowhere, or to other methods only. It enters a node at most once and needs no stack, so no path
//! can make it slow or deep; and it allocates only to say which methods are allowed.

use std::fmt;
use std::panic::Location;

use memchr::{memchr, memrchr};

/// All routes of one server.
pub(crate) struct Router<T> {
    nodes: Vec<Node>,
    routes: Vec<Route<T>>,
    methods: Vec<Box<str>>,
}

/// One method and pattern, and what it leads to.
pub(crate) struct Route<T> {
    #[allow(dead_code)]
    pub(crate) method: Box<str>,
    pub(crate) pattern: Box<str>,
    /// Of the parameters, in their order: for tests and the fuzz target.
    #[allow(dead_code)]
    pub(crate) names: Box<[Box<str>]>,
    pub(crate) value: T,
    at: &'static Location<'static>,
}

impl<T> Route<T> {
    /// Where it was added.
    #[allow(dead_code)]
    pub(crate) fn line(&self) -> String {
        line(self.at)
    }
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

/// A prefix of patterns, up to a slash.
#[derive(Default)]
struct Node {
    /// Sorted by `prefix`.
    statics: Vec<Static>,
    param: Option<u32>,
    /// Routes that end here.
    leaf: Vec<End>,
    /// Routes that take the rest of the path.
    rest: Vec<End>,
    parent: u32,
    is_param: bool,
}

struct Static {
    /// The first eight bytes of the name: most comparisons end with them.
    prefix: u64,
    name: Box<str>,
    node: u32,
}

/// A route, by index, and its method.
#[derive(Clone, Copy)]
struct End {
    method: u32,
    route: u32,
}

/// What is next to be tried at a node.
#[derive(Clone, Copy)]
enum Branch {
    Static,
    Param,
    Rest,
}

impl<T> Router<T> {
    pub(crate) fn new() -> Router<T> {
        Router { nodes: vec![Node::new(ROOT, false)], routes: Vec::new(), methods: Vec::new() }
    }

    /// Adds a route. `:name` takes one segment that is not empty; `*name` is the last segment and
    /// takes the rest of the path, slashes and all, which may be empty. The error names this line,
    /// and the other one if two claim the same.
    pub(crate) fn insert(
        &mut self,
        method: &str,
        pattern: &str,
        value: T,
        at: &'static Location<'static>,
    ) -> Result<(), RouteError> {
        let bad = |why: &str| RouteError(format!("{method} {pattern} ({}): {why}", line(at)));
        let names = param_names(pattern).map_err(bad)?;
        let mut node = ROOT;
        let mut takes_rest = false;
        for segment in pattern[1..].split('/') {
            match segment.as_bytes().first() {
                Some(b'*') => takes_rest = true,
                Some(b':') => node = self.param_child(node),
                _ => node = self.static_child(node, segment),
            }
        }
        let method_id = self.method(method.as_bytes()).unwrap_or(self.methods.len() as u32);
        let node = &mut self.nodes[node as usize];
        let ends = if takes_rest { &mut node.rest } else { &mut node.leaf };
        if let Some(end) = ends.iter().find(|end| end.method == method_id) {
            let other = &self.routes[end.route as usize];
            return Err(RouteError(format!(
                "{method} {pattern} ({}) conflicts with {method} {} ({})",
                line(at),
                other.pattern,
                line(other.at)
            )));
        }
        ends.push(End { method: method_id, route: self.routes.len() as u32 });
        if self.methods.len() == method_id as usize {
            self.methods.push(method.into());
        }
        let (method, pattern) = (method.into(), pattern.into());
        self.routes.push(Route { method, pattern, names, value, at });
        Ok(())
    }

    /// Looks a path up. HEAD is answered by GET where it has no route of its own.
    #[inline]
    pub(crate) fn find<'r>(
        &'r self,
        method: impl AsRef<[u8]>,
        path: impl AsRef<[u8]>,
        params: &mut Params,
    ) -> Found<'r, T> {
        let (method, path) = (method.as_ref(), path.as_ref());
        if let Some(route) = self.best(method, path, params) {
            return Found::Route(route);
        }
        if method == b"HEAD"
            && let Some(route) = self.best(b"GET", path, params)
        {
            return Found::Route(route);
        }
        self.refuse(method, path, params)
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
    #[allow(dead_code)]
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route<T>> {
        self.routes.iter()
    }

    #[inline]
    fn best(&self, method: &[u8], path: &[u8], params: &mut Params) -> Option<&Route<T>> {
        let method = self.method(method)?;
        let route = self.walk(path, params, |ends| {
            ends.iter().find(|end| end.method == method).map(|end| end.route)
        })?;
        self.routes.get(route as usize)
    }

    #[cold]
    fn refuse(&self, method: &[u8], path: &[u8], params: &mut Params) -> Found<'_, T> {
        let mut known: Vec<&str> = Vec::new();
        self.walk(path, params, |ends| {
            known.extend(ends.iter().map(|end| &*self.methods[end.method as usize]));
            None
        });
        if known.is_empty() {
            return Found::None;
        }
        if known.contains(&"GET") {
            known.push("HEAD");
        }
        known.push("OPTIONS");
        known.sort_unstable();
        known.dedup();
        let allow = known.join(", ");
        if method == b"OPTIONS" { Found::Options(allow) } else { Found::WrongMethod(allow) }
    }

    /// Offers the ends of all patterns that fit, best first, until `take` takes one. The
    /// parameters are those of the one taken, or none.
    #[inline]
    fn walk(
        &self,
        bytes: &[u8],
        params: &mut Params,
        mut take: impl FnMut(&[End]) -> Option<u32>,
    ) -> Option<u32> {
        params.len = 0;
        if bytes.first() != Some(&b'/') || bytes.len() > PATH_BYTES_MAX {
            return None;
        }
        let (mut at, mut from, mut branch) = (ROOT, 1, Branch::Static);
        let mut end = end_of_segment(bytes, from);
        loop {
            let node = &self.nodes[at as usize];
            let child = match branch {
                Branch::Static => {
                    branch = Branch::Param;
                    node.static_child(&bytes[from..end])
                }
                Branch::Param => {
                    branch = Branch::Rest;
                    let child = node.param.filter(|_| end > from);
                    if child.is_some() {
                        params.push(from, end);
                    }
                    child
                }
                Branch::Rest => {
                    if !node.rest.is_empty() {
                        params.push(from, bytes.len());
                        if let Some(route) = take(&node.rest) {
                            return Some(route);
                        }
                        params.len -= 1;
                    }
                    if at == ROOT {
                        return None;
                    }
                    // Back to the parent, whose segment ends at the slash before this one.
                    branch = node.next_branch(params);
                    at = node.parent;
                    end = from - 1;
                    from = memrchr(b'/', &bytes[..end]).map_or(0, |slash| slash + 1);
                    continue;
                }
            };
            let Some(child) = child else { continue };
            if end < bytes.len() {
                (at, from, branch) = (child, end + 1, Branch::Static);
                end = end_of_segment(bytes, from);
                continue;
            }
            let child = &self.nodes[child as usize];
            if !child.leaf.is_empty()
                && let Some(route) = take(&child.leaf)
            {
                return Some(route);
            }
            branch = child.next_branch(params);
        }
    }

    #[inline]
    fn method(&self, method: &[u8]) -> Option<u32> {
        self.methods.iter().position(|known| known.as_bytes() == method).map(|at| at as u32)
    }

    fn param_child(&mut self, parent: u32) -> u32 {
        let new = self.nodes.len() as u32;
        let child = *self.nodes[parent as usize].param.get_or_insert(new);
        if child == new {
            self.nodes.push(Node::new(parent, true));
        }
        child
    }

    fn static_child(&mut self, parent: u32, name: &str) -> u32 {
        let new = self.nodes.len() as u32;
        let node = &mut self.nodes[parent as usize];
        if let Some(child) = node.static_child(name.as_bytes()) {
            return child;
        }
        let prefix = prefix(name.as_bytes());
        let at = node.statics.partition_point(|known| known.prefix < prefix);
        node.statics.insert(at, Static { prefix, name: name.into(), node: new });
        self.nodes.push(Node::new(parent, false));
        new
    }
}

impl Node {
    fn new(parent: u32, is_param: bool) -> Node {
        Node { parent, is_param, ..Node::default() }
    }

    #[inline]
    fn static_child(&self, name: &[u8]) -> Option<u32> {
        let prefix = prefix(name);
        let few = self.statics.len() <= 4;
        let sorted = |known: &Static| known.prefix < prefix;
        let from = if few { 0 } else { self.statics.partition_point(sorted) };
        self.statics[from..]
            .iter()
            .take_while(|known| known.prefix <= prefix)
            .find(|known| known.prefix == prefix && known.is_named(name))
            .map(|known| known.node)
    }

    /// What the parent tries when this child has led nowhere.
    #[inline]
    fn next_branch(&self, params: &mut Params) -> Branch {
        if self.is_param {
            params.len -= 1;
            Branch::Rest
        } else {
            Branch::Param
        }
    }
}

impl Static {
    /// Whether this is the name, given that the prefixes are the same.
    #[inline]
    fn is_named(&self, name: &[u8]) -> bool {
        let known = self.name.as_bytes();
        // No call to memcmp for a short name: for an empty one it is slow (70 ns), as the pointer
        // it speculates on leads nowhere.
        known.len() == name.len() && (name.len() <= 8 || known == name)
    }
}

impl Params {
    /// The piece of `path` that parameter `at` covers.
    #[inline]
    pub(crate) fn of<'p>(&self, path: &'p str, at: usize) -> Option<&'p str> {
        let (start, end) = *self.spans[..usize::from(self.len)].get(at)?;
        path.get(usize::from(start)..usize::from(end))
    }

    /// There is room: no way down the tree has more than `PARAMS_MAX` of them.
    #[inline]
    fn push(&mut self, start: usize, end: usize) {
        self.spans[usize::from(self.len)] = (start as u16, end as u16);
        self.len += 1;
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RouteError {}

const ROOT: u32 = 0;
/// A span is two `u16`.
const PATH_BYTES_MAX: usize = u16::MAX as usize;

fn param_names(pattern: &str) -> Result<Box<[Box<str>]>, &'static str> {
    let Some(segments) = pattern.strip_prefix('/') else {
        return Err("a path begins with a slash");
    };
    if pattern.len() > PATH_BYTES_MAX || !pattern.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a path is printable ASCII, percent-encoded where it is not");
    }
    let mut names: Vec<Box<str>> = Vec::new();
    let mut segments = segments.split('/');
    while let Some(segment) = segments.next() {
        let Some(name) = segment.strip_prefix([':', '*']) else { continue };
        if name.is_empty() {
            return Err("a parameter has no name");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err("a parameter is a whole segment, its name letters, digits, _ and -");
        }
        if names.iter().any(|known| **known == *name) {
            return Err("two parameters have the same name");
        }
        if names.len() == PARAMS_MAX {
            return Err("more than 8 parameters");
        }
        if segment.starts_with('*') && segments.next().is_some() {
            return Err("a *rest is the last segment");
        }
        names.push(name.into());
    }
    Ok(names.into())
}

fn line(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}

#[inline]
fn end_of_segment(path: &[u8], from: usize) -> usize {
    memchr(b'/', &path[from..]).map_or(path.len(), |at| from + at)
}

#[inline]
fn prefix(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => name.iter().fold(0, |prefix, byte| prefix << 8 | u64::from(*byte)),
    }
}

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

    /// `METHOD /pattern name=value ...`, `405 allow`, `OPTIONS allow` or `404`.
    fn look(router: &Router<usize>, method: &str, path: &str) -> String {
        // Whatever an earlier look-up has left there.
        let mut params = Params { spans: [(7, 9); PARAMS_MAX], len: 8 };
        match router.find(method, path, &mut params) {
            Found::Route(route) => {
                let mut out = format!("{} {}", route.method, route.pattern);
                for (at, name) in route.names.iter().enumerate() {
                    out += &format!(" {name}={}", params.of(path, at).expect("a span"));
                }
                assert_eq!(usize::from(params.len), route.names.len());
                assert!(std::ptr::eq(router.value(route.value as u32), &route.value));
                out
            }
            Found::WrongMethod(allow) => format!("405 {allow}"),
            Found::Options(allow) => format!("OPTIONS {allow}"),
            Found::None => "404".into(),
        }
    }

    #[test]
    fn precedence_and_params() {
        let routes = "GET /, GET /*all, GET /users/:id, GET /users/me, POST /users/:user, \
            GET /users/:id/posts/:post, DELETE /users/me, GET /files/*path, HEAD /files/index, \
            GET /files/index, GET /a/, PROPFIND /dav/*path, GET /u/:id/a, GET /u/:name/b";
        let router = router(&routes.split(", ").collect::<Vec<_>>());
        let cases = [
            ("GET", "/", "GET /"),
            ("HEAD", "/", "GET /"),
            ("GET", "/users/me", "GET /users/me"),
            ("GET", "/users/42", "GET /users/:id id=42"),
            ("POST", "/users/me", "POST /users/:user user=me"),
            ("GET", "/users/me/posts/7", "GET /users/:id/posts/:post id=me post=7"),
            ("GET", "/users/%2F", "GET /users/:id id=%2F"),
            ("GET", "/users/", "GET /*all all=users/"),
            ("GET", "/users/1/x", "GET /*all all=users/1/x"),
            ("GET", "/files/a/b//c", "GET /files/*path path=a/b//c"),
            ("GET", "/files/", "GET /files/*path path="),
            ("GET", "/files", "GET /*all all=files"),
            ("GET", "/files/index", "GET /files/index"),
            ("HEAD", "/files/index", "HEAD /files/index"),
            ("HEAD", "/files/other", "GET /files/*path path=other"),
            ("GET", "/a", "GET /*all all=a"),
            ("GET", "/a/", "GET /a/"),
            ("GET", "//", "GET /*all all=/"),
            ("GET", "/\0users/1", "GET /*all all=\0users/1"),
            ("GET", "/u/1/a", "GET /u/:id/a id=1"),
            ("GET", "/u/1/b", "GET /u/:name/b name=1"),
            ("PROPFIND", "/dav/x", "PROPFIND /dav/*path path=x"),
            ("PUT", "/users/1", "405 GET, HEAD, OPTIONS, POST"),
            ("PUT", "/users/me", "405 DELETE, GET, HEAD, OPTIONS, POST"),
            ("get", "/", "405 GET, HEAD, OPTIONS"),
            ("", "/", "405 GET, HEAD, OPTIONS"),
            ("OPTIONS", "/users/1", "OPTIONS GET, HEAD, OPTIONS, POST"),
            ("GET", "", "404"),
            ("GET", "*", "404"),
            ("GET", "x/users/1", "404"),
            ("GET", "\u{e9}", "404"),
        ];
        for (method, path, want) in cases {
            assert_eq!(look(&router, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn without_get_there_is_no_head() {
        let router = router(&["POST /a", "OPTIONS /b", "HEAD /c"]);
        let cases = [
            ("HEAD", "/a", "405 OPTIONS, POST"),
            ("OPTIONS", "/a", "OPTIONS OPTIONS, POST"),
            ("OPTIONS", "/b", "OPTIONS /b"),
            ("GET", "/c", "405 HEAD, OPTIONS"),
            ("GET", "/", "404"),
            ("OPTIONS", "/", "404"),
        ];
        for (method, path, want) in cases {
            assert_eq!(look(&router, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn what_cannot_be_added_says_why() {
        let mut router = router(&["GET /users/:id", "GET /a/*rest"]);
        let nine = (0..9).map(|at| format!("/:p{at}")).collect::<String>();
        let nine_with_rest = nine.replace(":p8", "*p8");
        let there = line(router.routes[0].at);
        let conflict = format!(") conflicts with GET /users/:id ({there})");
        let cases = [
            ("/users/:name", &*conflict),
            ("/a/*other", "conflicts with GET /a/*rest"),
            ("users", "a path begins with a slash"),
            ("", "a path begins with a slash"),
            ("/a/:", "a parameter has no name"),
            ("/a/*", "a parameter has no name"),
            ("/:id.json", "a parameter is a whole segment"),
            ("/:a:b", "a parameter is a whole segment"),
            ("/:a/:a", "two parameters have the same name"),
            ("/:a/*a", "two parameters have the same name"),
            ("/*rest/b", "a *rest is the last segment"),
            ("/*rest/", "a *rest is the last segment"),
            (&nine, "more than 8 parameters"),
            (&nine_with_rest, "more than 8 parameters"),
            ("/caf\u{e9}", "printable ASCII"),
            ("/a b", "printable ASCII"),
        ];
        for (pattern, want) in cases {
            let here = Location::caller();
            let error = router.insert("GET", pattern, 0, here).expect_err(pattern).to_string();
            assert!(error.starts_with(&format!("GET {pattern} ({})", line(here))), "{error}");
            assert!(error.contains(want), "{pattern}: {error}");
        }
        assert_eq!((router.len(), router.nodes.len()), (2, 4), "nothing was left behind");
        router.insert("POST", "/users/:name", 0, Location::caller()).expect("another method");
    }

    #[test]
    fn many_siblings_with_like_beginnings() {
        let names = |at: u32| match at % 4 {
            0 => format!("{at}"),
            1 => format!("article-{at}"),
            2 => format!("articles{at}"),
            _ => "x".repeat(at as usize),
        };
        let routes: Vec<String> = (0..400).map(|at| format!("GET /{}", names(at))).collect();
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let router = router(&routes);
        for route in &routes {
            assert_eq!(look(&router, "GET", &route[4..]), *route);
            assert_eq!(look(&router, "GET", &format!("{}y", &route[4..])), "404");
        }
    }

    #[test]
    fn no_path_makes_it_slow_or_deep() {
        // Every mixture of a static segment and a parameter, eight deep: as much coming back as
        // there can be.
        let mut routes: Vec<String> = Vec::new();
        for bits in 0..256_u32 {
            let word = |at: u32| match bits >> at & 1 {
                1 => "/a".to_owned(),
                _ => format!("/:p{at}"),
            };
            routes.push(format!("GET {}", (0..8).map(word).collect::<String>()));
        }
        let deep = format!("GET /deep{}", "/d".repeat(30_000));
        routes.extend([deep.clone(), "GET /*all".to_owned()]);
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let router = router(&routes);
        let a_lot = "a".repeat(60_000);
        let paths = [
            "/a".repeat(7),
            "/a".repeat(8),
            "/a".repeat(9),
            "/a".repeat(30_000),
            "/".repeat(60_000),
            format!("{}/{a_lot}", "/a".repeat(7)),
            format!("/deep{}", "/d".repeat(29_999)),
            format!("/deep{}", "/d".repeat(30_001)),
        ];
        for path in paths {
            let mut offers = 0;
            let none = router.walk(path.as_bytes(), &mut Params::default(), |_| {
                offers += 1;
                None
            });
            assert!(none.is_none() && offers <= routes.len(), "{offers}");
        }
        assert_eq!(look(&router, "GET", &"/a".repeat(8)), format!("GET {}", "/a".repeat(8)));
        assert_eq!(look(&router, "GET", &deep[4..]), deep);
        for (bytes, want) in [(65_534, "GET /*all"), (65_535, "404")] {
            let found = look(&router, "GET", &format!("/{}", "b".repeat(bytes)));
            assert!(found.starts_with(want), "a span reaches up to 65,535");
        }
    }

    /// As `look`, by trying every route.
    fn naive_look(router: &Router<usize>, method: &str, path: &str) -> String {
        // How a pattern fits, segment by segment: 0 static, 1 parameter, 2 rest.
        let fit = |route: &Route<usize>| {
            let mut parts = path.strip_prefix('/')?.split('/');
            let mut ranks = Vec::new();
            let mut text = format!("{} {}", route.method, route.pattern);
            for word in route.pattern[1..].split('/') {
                let part = parts.next()?;
                let (rank, name) = match word.as_bytes() {
                    [b'*', ..] => (2, &word[1..]),
                    [b':', ..] if !part.is_empty() => (1, &word[1..]),
                    _ if word == part => (0, ""),
                    _ => return None,
                };
                ranks.push(rank);
                match rank {
                    0 => {}
                    1 => text += &format!(" {name}={part}"),
                    _ => {
                        let rest: Vec<&str> = [part].into_iter().chain(parts.by_ref()).collect();
                        text += &format!(" {name}={}", rest.join("/"));
                    }
                }
            }
            parts.next().is_none().then_some((ranks, text))
        };
        let best = |method: &str| {
            let routes = router.routes().filter(|route| *route.method == *method);
            routes.filter_map(fit).min().map(|(_, text)| text)
        };
        let found = best(method).or_else(|| best("GET").filter(|_| method == "HEAD"));
        let fits = router.routes().filter(|route| fit(route).is_some());
        let mut allow: Vec<&str> = fits.map(|route| &*route.method).collect();
        match (found, allow.is_empty()) {
            (Some(found), _) => return found,
            (None, true) => return "404".into(),
            _ => allow.push("OPTIONS"),
        }
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.sort_unstable();
        allow.dedup();
        format!("{} {}", if method == "OPTIONS" { "OPTIONS" } else { "405" }, allow.join(", "))
    }

    #[test]
    fn it_agrees_with_a_list_of_all_routes() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        const METHODS: [&str; 6] = ["GET", "GET", "POST", "HEAD", "OPTIONS", "LOCK"];
        let mut kinds = [0; 4];
        for _ in 0..2_000 {
            let mut router = Router::new();
            for _ in 0..random(16) {
                let mut pattern = String::new();
                for depth in 0..=random(4) {
                    match random(5) {
                        0 => pattern += "/a",
                        1 => pattern += "/b-longer-than-8",
                        2 => pattern += "/",
                        _ => pattern += &format!("/:p{depth}{}", random(2)),
                    }
                }
                if random(6) == 0 {
                    pattern += "/*rest";
                }
                let (method, at) = (METHODS[random(METHODS.len())], router.len());
                let _ = router.insert(method, &pattern, at, Location::caller());
            }
            for _ in 0..60 {
                let mut path = String::new();
                for _ in 0..=random(5) {
                    path += ["/a", "/b-longer-than-8", "/b-longer-than-9", "/"][random(4)];
                }
                let method = ["GET", "HEAD", "POST", "OPTIONS", "PUT"][random(5)];
                let found = look(&router, method, &path);
                assert_eq!(found, naive_look(&router, method, &path), "{method} {path}");
                let kind = ["404", "405", "OPTIONS O"].iter().position(|it| found.starts_with(it));
                kinds[kind.unwrap_or(3)] += 1;
            }
        }
        assert!(kinds.iter().all(|count| *count > 500), "{kinds:?}");
    }
}
