//! A directory as routes.

use std::panic::Location;
use std::path::PathBuf;
use std::rc::Rc;

use super::listing;
use super::options::Files;
use crate::app::builder::App;
use crate::app::ctx::Ctx;
use crate::app::handler::Endpoint;
use crate::app::reply::Reply;
use crate::app::routes::{Entry, check_prefix};
use crate::base::arena::Placed;
use crate::error::{Error, Result};
use crate::files::tree::{Found, Tree, is_safe};
use crate::ring::file::How;

impl<S: 'static> App<S> {
    /// Serves the files below a directory, for GET and HEAD, with the defaults of [`Files`].
    ///
    /// What is known of a file is looked up again after a second. A directory that is not there
    /// when the application is built is an error of [`Server::run`](crate::Server::run).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).files("/src", "src");
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let answer = client.get("/src/lib.rs").await.expect(200);
    /// let tag = answer.header("etag").expect("every file has one");
    /// client.get("/src/lib.rs").header("if-none-match", tag).await.expect(304);
    /// client.get("/src/lib.rs").header("range", "bytes=0-2").await.expect(206).text("//!");
    /// client.get("/src/../Cargo.toml").await.expect(404);
    /// # });
    /// ```
    #[track_caller]
    pub fn files(self, prefix: &str, dir: impl Into<PathBuf>) -> App<S> {
        self.files_with(prefix, Files::new(dir))
    }

    /// The same, in the way that is said.
    ///
    /// ```no_run
    /// use soloist::prelude::*;
    /// use soloist::Files;
    ///
    /// let app = App::new(()).files_with("/downloads", Files::new("downloads").listing(true));
    /// ```
    #[track_caller]
    pub fn files_with(mut self, prefix: &str, options: Files) -> App<S> {
        let prefix = prefix.trim_end_matches('/');
        let what = format!("files {prefix:?}");
        if !prefix.is_empty()
            && let Err(why) = check_prefix(prefix)
        {
            self.mistake(&what, why);
            return self;
        }
        let tree = Tree::new(&options.dir, How::read(options.symlinks), options.precompressed);
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                self.mistake(&what, &format!("{}: {error}", options.dir.display()));
                return self;
            }
        };
        let served = Served(Rc::new(Directory { tree, options }));
        if !prefix.is_empty() {
            self = self.route(prefix.to_owned(), Box::new(ToDirectory));
        }
        self.route(format!("{prefix}/*path"), Box::new(served))
    }

    #[track_caller]
    fn route(mut self, pattern: String, end: Box<dyn Endpoint<S>>) -> App<S> {
        self.push_route(Entry {
            method: "GET".into(),
            pattern,
            name: None,
            layers: Vec::new(),
            end,
            at: Location::caller(),
        });
        self
    }
}

struct Directory {
    tree: Tree,
    options: Files,
}

#[derive(Clone)]
struct Served(Rc<Directory>);

impl<S: 'static> Endpoint<S> for Served {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || self.0.serve(cx))
    }
}

/// A directory's name without its last slash: relative links of its page would lead elsewhere.
struct ToDirectory;

impl<S: 'static> Endpoint<S> for ToDirectory {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move { to_directory(cx) })
    }
}

fn to_directory<S>(cx: &Ctx<S>) -> Result<Reply> {
    let (path, query) = (cx.path(), cx.query());
    // Not `//host`, which would be another site.
    let path = path.trim_start_matches('/');
    let mark = if query.is_empty() { "" } else { "?" };
    let target = cx.format(format_args!("/{path}/{mark}{query}"));
    cx.status(308).set_header("location", target).empty()
}

impl Directory {
    async fn serve<S: 'static>(&self, cx: &Ctx<S>) -> Result<Reply> {
        let path: &str = match cx.param("path") {
            Ok(path) => path,
            Err(_) => return self.miss(cx).await, // a name that no file has
        };
        let local = &cx.core.local;
        // The usual case: a file that is known. Only safe names are.
        if let Some(open) = self.tree.known(local, path) {
            return self.answer(cx, path, open);
        }
        let (dir, slash) = match path.strip_suffix('/') {
            Some(dir) => (dir, true),
            None => (path, path.is_empty()),
        };
        if !is_safe(dir, self.options.hidden) {
            return self.miss(cx).await;
        }
        match self.tree.find(local, dir).await? {
            Some(Found::File(open)) if !slash => self.answer(cx, dir, open),
            Some(Found::Directory(_)) if !slash => to_directory(cx),
            Some(Found::Directory(handle)) => {
                if let Some(index) = &self.options.index {
                    let mark = if dir.is_empty() { "" } else { "/" };
                    let name = cx.format(format_args!("{dir}{mark}{index}"));
                    if let Some(Found::File(open)) = self.tree.find(local, name).await? {
                        return self.answer(cx, name, open);
                    }
                }
                match self.options.listing {
                    true => listing::show(cx, handle, dir, self.options.hidden).await,
                    false => self.miss(cx).await,
                }
            }
            _ => self.miss(cx).await,
        }
    }

    fn answer<S>(
        &self,
        cx: &Ctx<S>,
        path: &str,
        open: Rc<crate::files::open::Open>,
    ) -> Result<Reply> {
        if let Some(value) = self.options.cache_control_for(path)
            && !cx.core.has_field("cache-control")
        {
            cx.set_header("cache-control", value);
        }
        cx.answer_open(open)
    }

    async fn miss<S>(&self, cx: &Ctx<S>) -> Result<Reply> {
        let Some((status, file)) = &self.options.miss else { return Err(Error::not_found()) };
        match self.tree.find(&cx.core.local, file).await? {
            Some(Found::File(open)) => {
                if *status != 200 {
                    cx.status(*status);
                }
                self.answer(cx, file, open)
            }
            _ => Err(Error::not_found()),
        }
    }
}
