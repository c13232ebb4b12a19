//! Queries, forms, path parameters and header fields, read into types.

use std::str::FromStr;

use serde::de::Deserialize;

use super::core::Core;
use super::ctx::Ctx;
use crate::error::{Error, Result};
use crate::http::form::{self, Pair};
use crate::http::percent;
use crate::limits::FORM_FIELDS_MAX;

/// Reading into types.
///
/// A struct may hold `&str` (borrowed from the request where nothing is to be decoded, else from
/// its arena), `String`, numbers, `bool` (`true`, `on`, `false`, `off`), enums without contents,
/// newtypes of these, `Vec` of these for a name that comes more than once, and `Option` of all of
/// them: none for a name that does not come, or whose value is empty, as a browser sends an input
/// that was left empty. A name that comes more than once for anything else is a 400. A `Vec` needs
/// `#[serde(default)]` to be empty. `#[serde(flatten)]` hands every value on as text.
impl<S> Ctx<S> {
    /// The query as a struct or a map. 400 with a message that names the field: `age: missing`,
    /// `age: not a number`. At most 1,000 fields.
    ///
    /// ```
    /// # use serde::Deserialize;
    /// # use soloist::prelude::*;
    /// #[derive(Deserialize)]
    /// struct Search<'a> {
    ///     q: &'a str,
    ///     page: Option<u32>,
    ///     #[serde(default)]
    ///     tag: Vec<&'a str>,
    /// }
    /// async fn search(cx: &Ctx<()>) -> Result<Reply> {
    ///     let Search { q, page, tag } = cx.query_as()?; // ?q=io&tag=a&tag=b
    ///     cx.text(format!("{q}, page {}, {} tags", page.unwrap_or(1), tag.len()))
    /// }
    /// ```
    pub fn query_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.core.fields_of("query", self.query())
    }

    /// The path parameters as a struct or a map. 400 with a message that names the parameter.
    ///
    /// ```
    /// # use serde::Deserialize;
    /// # use soloist::prelude::*;
    /// #[derive(Deserialize)]
    /// struct Place<'a> {
    ///     room: &'a str,
    ///     seat: u16,
    /// }
    /// async fn show(cx: &Ctx<()>) -> Result<Reply> {
    ///     let Place { room, seat } = cx.params_as()?;
    ///     cx.text(format!("{room}, seat {seat}"))
    /// }
    /// let app = App::new(()).get("/rooms/:room/seats/:seat", show);
    /// ```
    pub fn params_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let core = &*self.core;
        let names = core.route.as_ref().map_or(&[][..], |route| &route.names);
        let mut scratch = core.local.spares.take();
        let pairs = names.iter().enumerate().map(|(at, name)| {
            let text = core.params.of(self.path(), at).unwrap_or_default();
            match core.decoded(text, false, &mut scratch) {
                Ok(value) => Ok(Pair { name, value, at }),
                Err(percent::BadPercent) => Err(bad_percent(name)),
            }
        });
        let pairs = core.arena.list(names.len(), pairs, form::sort);
        core.local.spares.give(scratch);
        form::read(pairs?).map_err(|mistake| mistake.into_error("path"))
    }

    /// The body, a form, as a struct or a map. 415 unless its type is
    /// `application/x-www-form-urlencoded`; 413 over
    /// [`body_bytes_max`](crate::Limits::body_bytes_max); 400 with a message that names the field.
    /// At most 1,000 fields.
    ///
    /// The text is UTF-8, percent-encoded (WHATWG URL, section 5.1).
    ///
    /// ```
    /// # use serde::Deserialize;
    /// # use soloist::prelude::*;
    /// #[derive(Deserialize)]
    /// struct SignUp<'a> {
    ///     name: &'a str,
    ///     age: u8,
    ///     #[serde(default)]
    ///     news: bool, // a box that is not ticked is not sent
    /// }
    /// async fn sign_up(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form: SignUp = cx.form().await?;
    ///     cx.text(format!("{}, {}, {}", form.name, form.age, form.news))
    /// }
    /// ```
    pub async fn form<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let mime = self.header("content-type").unwrap_or_default();
        let essence = mime.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(FORM) {
            return Err(Error::new(415, format!("content-type: not {FORM}")).set("accept", FORM));
        }
        let body = self.body().await?;
        let text = str::from_utf8(body).map_err(|_| Error::bad_request("form: not UTF-8"))?;
        self.core.fields_of("form", text)
    }

    /// The first header field of that name as any type with `FromStr`; none if there is no such
    /// field. 400 with its name if it is not valid.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn page(cx: &Ctx<()>) -> Result<Reply> {
    ///     let size: u32 = cx.header_as("x-page-size")?.unwrap_or(20);
    ///     cx.text(size.to_string())
    /// }
    /// ```
    pub fn header_as<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let value = self.header(name).map(str::parse).transpose();
        value.map_err(|_| Error::bad_request(format!("{name}: not valid")))
    }
}

/// What browsers send a form as.
const FORM: &str = "application/x-www-form-urlencoded";

impl Core {
    fn fields_of<'a, T: Deserialize<'a>>(&'a self, whole: &str, text: &'a str) -> Result<T> {
        let count = memchr::memchr_iter(b'&', text.as_bytes()).count() + 1;
        if count > FORM_FIELDS_MAX {
            return Err(Error::bad_request(format!("{whole}: more than {FORM_FIELDS_MAX} fields")));
        }
        let mut scratch = self.local.spares.take();
        let pairs = percent::raw_pairs(text).enumerate().map(|(at, (name, value))| {
            let name = self.decoded(name, true, &mut scratch);
            let name = name.map_err(|_| bad_percent(whole))?;
            let value = self.decoded(value, true, &mut scratch);
            Ok::<_, Error>(Pair { name, value: value.map_err(|_| bad_percent(name))?, at })
        });
        let pairs = self.arena.list(if text.is_empty() { 0 } else { count }, pairs, form::sort);
        self.local.spares.give(scratch);
        form::read(pairs?).map_err(|mistake| mistake.into_error(whole))
    }

    /// Percent-decoded text: as it came where nothing is to be decoded, else in the arena.
    pub(super) fn decoded<'a>(
        &'a self,
        piece: &'a str,
        plus_is_space: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<&'a str, percent::BadPercent> {
        match percent::decode_into(piece, plus_is_space, scratch)? {
            None => Ok(piece),
            Some(text) => Ok(self.arena.copy(text)),
        }
    }
}

#[cold]
fn bad_percent(name: &str) -> Error {
    Error::bad_request(format!("{}: bad percent-encoding", form::shown(name)))
}
