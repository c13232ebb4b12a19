//! How a directory is served.

use std::path::PathBuf;

/// A directory and how it is served: for [`App::files_with`](crate::App::files_with).
///
/// ```no_run
/// use soloist::prelude::*;
/// use soloist::Files;
///
/// let site = Files::new("public")
///     .cache_control("public, max-age=3600")
///     .cache_control_of(".html", "no-cache")
///     .not_found("404.html");
/// let app = App::new(()).files_with("/", site);
/// ```
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) dir: PathBuf,
    pub(super) index: Option<String>,
    pub(super) listing: bool,
    pub(super) hidden: bool,
    pub(super) symlinks: bool,
    pub(super) precompressed: bool,
    pub(super) cache_control: Option<String>,
    pub(super) cache_control_of: Vec<(String, String)>,
    pub(super) miss: Option<(u16, String)>,
}

impl Files {
    /// The files below a directory: `index.html` stands for its directory, hidden files are not
    /// there, symlinks are followed if they stay below, files compressed beforehand are found.
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// let app = App::new(()).files_with("/assets", soloist::Files::new("src"));
    /// ```
    pub fn new(dir: impl Into<PathBuf>) -> Files {
        Files {
            dir: dir.into(),
            index: Some("index.html".to_owned()),
            listing: false,
            hidden: false,
            symlinks: true,
            precompressed: true,
            cache_control: None,
            cache_control_of: Vec::new(),
            miss: None,
        }
    }

    /// The file that stands for its directory; none if the name is empty.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let docs = Files::new("docs").index("README.html");
    /// ```
    pub fn index(mut self, name: &str) -> Files {
        self.index = Some(name.to_owned()).filter(|it| !it.is_empty());
        self
    }

    /// Whether a directory without an index shows what it has, as a page. Off unless it is said.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let downloads = Files::new("downloads").listing(true);
    /// ```
    pub fn listing(mut self, listing: bool) -> Files {
        self.listing = listing;
        self
    }

    /// Whether names that begin with a dot are served and shown. They are not unless it is said:
    /// `.git` and `.env` are where secrets are found.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let known = Files::new("public/.well-known").hidden(true);
    /// ```
    pub fn hidden(mut self, hidden: bool) -> Files {
        self.hidden = hidden;
        self
    }

    /// Whether symlinks are followed: those that lead to a place below the directory are, unless it
    /// is said. One that leads out of it never is, nor one with an absolute target.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let uploads = Files::new("uploads").symlinks(false);
    /// ```
    pub fn symlinks(mut self, symlinks: bool) -> Files {
        self.symlinks = symlinks;
        self
    }

    /// Whether `a.css.br`, `a.css.zst` or `a.css.gz` is sent in place of `a.css` to clients that
    /// take it, where there is one. It is looked for unless it is said.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let archives = Files::new("archives").precompressed(false); // `a.tar.gz` is no form of `a.tar`
    /// ```
    pub fn precompressed(mut self, precompressed: bool) -> Files {
        self.precompressed = precompressed;
        self
    }

    /// The `Cache-Control` of every answer (RFC 9111 section 5.2). None unless it is said: a cache
    /// then asks again when it thinks fit.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let hashed = Files::new("dist").cache_control("public, max-age=31536000, immutable");
    /// ```
    pub fn cache_control(mut self, value: &str) -> Files {
        self.cache_control = Some(value.to_owned());
        self
    }

    /// The same for files whose names end so; what was said last is asked first.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let site = Files::new("dist").cache_control("max-age=86400").cache_control_of(".html", "no-cache");
    /// ```
    pub fn cache_control_of(mut self, ending: &str, value: &str) -> Files {
        self.cache_control_of.push((ending.to_owned(), value.to_owned()));
        self
    }

    /// The page for what is not there, below the directory, with the status 404. Without one it is
    /// an error like others: [`App::on_error`](crate::App::on_error).
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let site = Files::new("public").not_found("404.html");
    /// ```
    pub fn not_found(mut self, file: &str) -> Files {
        self.miss = Some((404, file.to_owned()));
        self
    }

    /// The page for whatever is not there, with the status 200: for an application in the browser
    /// that reads the path itself.
    ///
    /// ```
    /// use soloist::Files;
    ///
    /// let site = Files::new("dist").single_page("index.html");
    /// ```
    pub fn single_page(mut self, file: &str) -> Files {
        self.miss = Some((200, file.to_owned()));
        self
    }

    /// What the answer with a file of that name says to caches.
    pub(super) fn cache_control_for(&self, path: &str) -> Option<&str> {
        let own = self.cache_control_of.iter().rev().find(|(ending, _)| path.ends_with(&**ending));
        own.map(|(_, value)| value).or(self.cache_control.as_ref()).map(String::as_str)
    }
}
