//! Look-ups among the routes of a service.

use std::hint::black_box;
use std::panic::Location;

use crate::router::{Found, Params, Router};
use crate::runner::Runner;

/// Five routes each, beside the root.
const RESOURCES: [&str; 8] =
    ["users", "teams", "projects", "issues", "labels", "comments", "invoices", "events"];

pub fn run(runner: &mut Runner) {
    let mut router = Router::new();
    for resource in RESOURCES {
        for (method, pattern) in [
            ("GET", format!("/api/v1/{resource}")),
            ("POST", format!("/api/v1/{resource}")),
            ("GET", format!("/api/v1/{resource}/:id")),
            ("GET", format!("/api/v1/{resource}/:id/files/:file")),
            ("GET", format!("/api/v1/{resource}/recent/all")),
        ] {
            router.insert(method, &pattern, (), Location::caller()).expect("a route of its own");
        }
    }
    let mut params = Params::default();
    for (name, path, known) in [
        ("router_static", "/api/v1/issues/recent/all", true),
        ("router_param", "/api/v1/issues/4711/files/17", true),
        ("router_unknown", "/api/v1/issues/4711/pages/17", false),
    ] {
        assert_eq!(matches!(router.find("GET", path, &mut params), Found::Route(_)), known);
        runner.run(name, || {
            black_box(router.find(black_box("GET"), black_box(path), &mut params));
        });
    }
}
