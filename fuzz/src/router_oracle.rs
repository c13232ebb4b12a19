//! The target `router`.

use std::panic::Location;

use crate::naive_router::{NaiveFound, NaiveRouter};
use crate::router::{Found, Params, Router};

/// Lines of method and pattern, an empty line, lines of method and path.
pub fn router(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (routes, requests) = text.split_once("\n\n").unwrap_or((text, ""));

    let mut router = Router::new();
    let mut naive = NaiveRouter::default();
    for (at, line) in routes.lines().take(64).enumerate() {
        let (method, pattern) = line.split_once(' ').unwrap_or((line, ""));
        let added = router.insert(method, pattern, at, Location::caller());
        assert_eq!(added.is_ok(), naive.insert(method, pattern), "{line:?}: {added:?}");
    }

    // A span of the last request is never seen by the next one.
    let mut params = Params::default();
    for line in requests.lines().take(64) {
        let (method, path) = line.split_once(' ').unwrap_or((line, ""));
        let found = match router.find(method, path, &mut params) {
            Found::Route(route) => {
                let values = (0..).map_while(|at| params.of(path, at)).map(str::to_owned).collect();
                NaiveFound::Route(route.pattern.to_string(), values)
            }
            Found::WrongMethod(allow) => NaiveFound::WrongMethod(allow),
            Found::Options(allow) => NaiveFound::Options(allow),
            Found::None => NaiveFound::None,
        };
        assert_eq!(found, naive.find(method, path), "{line:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/router")).unwrap()
        {
            super::router(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
