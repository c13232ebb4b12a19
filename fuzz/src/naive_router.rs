//! Routing by trying every route.

/// How good a route fits: by segment, static before a parameter before the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Static,
    Param,
    Rest,
}

#[derive(Default)]
pub(crate) struct NaiveRouter {
    routes: Vec<(String, String)>,
}

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NaiveFound {
    /// The pattern, and the values of its parameters.
    Route(String, Vec<String>),
    WrongMethod(String),
    Options(String),
    None,
}

impl NaiveRouter {
    /// Whether the route could be added.
    pub(crate) fn insert(&mut self, method: &str, pattern: &str) -> bool {
        if !pattern.starts_with('/') || !pattern.chars().all(|c| c.is_ascii_graphic()) {
            return false;
        }
        let segments: Vec<&str> = pattern[1..].split('/').collect();
        let mut names: Vec<&str> =
            segments.iter().filter_map(|s| s.strip_prefix([':', '*'])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !names.iter().all(|name| name.chars().all(is_name)) {
            return false;
        }
        if names.contains(&"") || names.len() < count || count > 8 {
            return false;
        }
        if segments[..segments.len() - 1].iter().any(|s| s.starts_with('*')) {
            return false;
        }
        let same =
            |other: &(String, String)| other.0 == method && shape(&other.1) == shape(pattern);
        if self.routes.iter().any(same) {
            return false;
        }
        self.routes.push((method.to_owned(), pattern.to_owned()));
        true
    }

    pub(crate) fn find(&self, method: &str, path: &str) -> NaiveFound {
        let best = |method: &str| {
            let of_method = self.routes.iter().filter(|(m, _)| m == method);
            let fits = of_method.filter_map(|(_, pattern)| {
                fit(pattern, path).map(|(ranks, values)| (ranks, pattern.clone(), values))
            });
            fits.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, pattern, values)| (pattern, values))
        };
        let found = best(method).or_else(|| if method == "HEAD" { best("GET") } else { None });
        if let Some((pattern, values)) = found {
            return NaiveFound::Route(pattern, values);
        }
        let mut allow: Vec<&str> = self
            .routes
            .iter()
            .filter(|(_, pattern)| fit(pattern, path).is_some())
            .map(|(method, _)| method.as_str())
            .collect();
        if allow.is_empty() {
            return NaiveFound::None;
        }
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.push("OPTIONS");
        allow.sort_unstable();
        allow.dedup();
        let allow = allow.join(", ");
        if method == "OPTIONS" {
            NaiveFound::Options(allow)
        } else {
            NaiveFound::WrongMethod(allow)
        }
    }
}

/// A pattern without the names of its parameters.
fn shape(pattern: &str) -> String {
    let nameless = |segment: &str| match segment.chars().next() {
        Some(mark @ (':' | '*')) => mark.to_string(),
        _ => segment.to_owned(),
    };
    pattern.split('/').map(nameless).collect::<Vec<_>>().join("/")
}

fn fit(pattern: &str, path: &str) -> Option<(Vec<Rank>, Vec<String>)> {
    let mut rest = Some(path.strip_prefix('/')?);
    let mut ranks = Vec::new();
    let mut values = Vec::new();
    for segment in pattern[1..].split('/') {
        let left = rest?;
        if segment.starts_with('*') {
            ranks.push(Rank::Rest);
            values.push(left.to_owned());
            return Some((ranks, values));
        }
        let (part, after) = match left.split_once('/') {
            Some((part, after)) => (part, Some(after)),
            None => (left, None),
        };
        if segment.starts_with(':') && !part.is_empty() {
            ranks.push(Rank::Param);
            values.push(part.to_owned());
        } else if segment == part {
            ranks.push(Rank::Static);
        } else {
            return None;
        }
        rest = after;
    }
    rest.is_none().then_some((ranks, values))
}
