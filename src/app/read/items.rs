//! JSON values, one at a time: of an array of any length, or one behind the other.

use std::marker::PhantomData;

use memchr::memchr2;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::feed::Feed;
use crate::app::ctx::Ctx;
use crate::app::source::Source;
use crate::error::{Error, Result};
use crate::http::form::shown;
use crate::limits::{ITEM_BYTES_MAX, JSON_DEPTH_MAX};

/// Reading JSON value by value.
impl<S> Ctx<S> {
    /// The elements of the JSON array that the body is, or the values that it holds one behind the
    /// other, in the memory of one: see [`JsonItems`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use serde::Deserialize;
    /// #[derive(Deserialize)]
    /// struct Sale {
    ///     cents: u64,
    /// }
    ///
    /// async fn total(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (mut sales, mut total) = (cx.json_items::<Sale>(), 0);
    ///     while let Some(sale) = sales.next().await? {
    ///         total += sale.cents;
    ///     }
    ///     cx.json(&total)
    /// }
    /// # let app = App::new(()).post("/", total);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body(r#"[{"cents": 250}, {"cents": 1}]"#).await.text("251");
    /// client.post("/").body("{\"cents\":250}\n{\"cents\":1}\n").await.text("251"); // NDJSON
    /// # });
    /// ```
    pub fn json_items<T: DeserializeOwned>(&self) -> JsonItems<T, &Ctx<S>> {
        JsonItems::of(self)
    }
}

/// Values of JSON (RFC 8259) that comes piece by piece.
///
/// If the first thing is a `[`, it is one array whose elements are read, and nothing may follow it.
/// Else values stand one behind the other, with white space or nothing between them, such as one a
/// line (NDJSON). Nothing at all is no values, and a byte order mark is skipped.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn sum(cx: &Ctx<()>) -> Result<Reply> {
///     let (mut numbers, mut sum) = (cx.json_items::<u32>(), 0);
///     while let Some(number) = numbers.next().await? {
///         sum += number;
///     }
///     cx.json(&sum)
/// }
/// # let app = App::new(()).post("/", sum);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.post("/").body("[1, 20, 300]").pieces(1).await.text("321"); // cut anywhere
/// client.post("/").body("1\n20\n300").await.text("321");
/// client.post("/").body("[]").await.text("0");
/// client.post("/").body("[1, 2,]").await.expect(400).text("item 3: `]` is no value");
/// client.post("/").body("[1, 2,").await.expect(400).text("the array has no end");
/// client.post("/").body("[1] 2").await.expect(400).text("`2` behind the array");
/// # });
/// ```
pub struct JsonItems<T, R> {
    feed: Feed<R>,
    place: Place,
    scan: Scan,
    /// Items given out.
    count: u64,
    item_bytes_max: usize,
    items: PhantomData<fn() -> T>,
}

/// Where the next byte stands that is no white space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// Behind the `[`.
    First,
    /// Behind an element.
    Behind,
    /// Behind a comma.
    Element,
    /// Behind the `]`.
    Closed,
    /// Among values without an array.
    Sequence,
}

impl<T: DeserializeOwned, R: Source> JsonItems<T, R> {
    /// The values of any source: a body, or a part of a form.
    ///
    /// ```
    /// # use soloist::{JsonItems, prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut names = JsonItems::<String, _>::of(cx); // what `cx.json_items()` does
    /// let first = names.next().await?;
    /// cx.text(first.unwrap_or_default())
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.post("/").body(r#"["ann","bob"]"#).await.text("ann");
    /// # });
    /// ```
    pub fn of(source: R) -> JsonItems<T, R> {
        JsonItems {
            feed: Feed::new(source),
            place: Place::Start,
            scan: Scan::default(),
            count: 0,
            item_bytes_max: ITEM_BYTES_MAX,
            items: PhantomData,
        }
    }

    /// Bytes of one item; more: 413. Default 1 MiB.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut names = cx.json_items::<String>().item_bytes_max(5);
    /// # while names.next().await?.is_some() {}
    /// # cx.empty()
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body(r#"["ann", "bob"]"#).await.expect(204);
    /// let answer = client.post("/").body(r#"["ann", "carl"]"#).await.expect(413);
    /// answer.text("item 2: longer than 5 bytes");
    /// # });
    /// ```
    pub fn item_bytes_max(mut self, bytes: usize) -> JsonItems<T, R> {
        self.item_bytes_max = bytes;
        self
    }

    /// The next item, none at the end.
    ///
    /// # Errors
    /// 400 that says which item, counted from 1, and why; lines and columns are counted from its
    /// first byte. After one that is JSON but no `T` the next call gives the item behind it. 413
    /// for one that is too long, 400 for what is no JSON or nested deeper than 128, and the errors
    /// of the source, such as [`Ctx::next_chunk`]'s: they come again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use serde::Deserialize;
    /// # #[derive(Deserialize)]
    /// # struct Sale { cents: u64 }
    /// # async fn total(cx: &Ctx<()>) -> Result<Reply> {
    /// #     let mut sales = cx.json_items::<Sale>();
    /// #     let mut total = 0;
    /// #     while let Some(sale) = sales.next().await? { total += sale.cents; }
    /// #     cx.json(&total)
    /// # }
    /// # let app = App::new(()).post("/", total);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let answer = client.post("/").body(r#"[{"cents": 1}, {"cents": -1}]"#).await.expect(400);
    /// answer.text("item 2: cents: invalid value: integer `-1`, expected u64 at line 1 column 12");
    /// # });
    /// ```
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.feed.check()?;
        if !self.begin().await? {
            return Ok(None);
        }
        let end = self.end().await?;
        self.scan = Scan::default();
        self.count += 1;
        if self.place != Place::Sequence {
            self.place = Place::Behind;
        }
        let json = self.feed.take(end);
        match serde_json::from_slice(json) {
            Ok(item) => Ok(Some(item)),
            Err(error) => {
                let is_json = error.is_data() && serde_json::from_slice::<IgnoredAny>(json).is_ok();
                let message = format!("item {}: {}", self.count, mistake::<T>(json, &error));
                if is_json {
                    return Err(Error::bad_request(message));
                }
                Err(self.feed.fail(400, message))
            }
        }
    }

    /// Goes to the first byte of the next item; false behind the last one.
    async fn begin(&mut self) -> Result<bool> {
        self.feed.skip_bom().await?;
        loop {
            let byte = self.feed.peek().await?;
            let next = match (self.place, byte) {
                (Place::Start, Some(b'[')) => Place::First,
                (Place::Start, Some(_)) => {
                    self.place = Place::Sequence;
                    continue;
                }
                (Place::First | Place::Behind, Some(b']')) => Place::Closed,
                (Place::Behind, Some(b',')) => Place::Element,
                (Place::First | Place::Element | Place::Sequence, Some(byte)) => {
                    if begins_value(byte) {
                        return Ok(true);
                    }
                    let message = format!("item {}: {} is no value", self.count + 1, named(byte));
                    return Err(self.feed.fail(400, message));
                }
                (Place::Behind, Some(byte)) => {
                    let message =
                        format!("item {}: {} behind it, and no comma", self.count, named(byte));
                    return Err(self.feed.fail(400, message));
                }
                (Place::Closed, Some(byte)) => {
                    return Err(self.feed.fail(400, format!("{} behind the array", named(byte))));
                }
                (Place::Start | Place::Sequence | Place::Closed, None) => return Ok(false),
                (Place::First | Place::Behind | Place::Element, None) => {
                    return Err(self.feed.fail(400, "the array has no end"));
                }
            };
            self.feed.take(1);
            self.place = next;
        }
    }

    /// How long the item is that the rest begins with.
    async fn end(&mut self) -> Result<usize> {
        let (number, max) = (self.count + 1, self.item_bytes_max);
        loop {
            // One byte more tells whether a number is over.
            let rest = self.feed.rest();
            let window = &rest[..rest.len().min(max.saturating_add(1))];
            let len = window.len();
            match self.scan.end(window) {
                Ok(Some(end)) if end <= max => return Ok(end),
                Ok(None) if len <= max => {}
                Ok(_) => {
                    let message = format!("item {number}: longer than {max} bytes");
                    return Err(self.feed.fail(413, message));
                }
                Err(TooDeep) => {
                    let message = format!("item {number}: nested deeper than {JSON_DEPTH_MAX}");
                    return Err(self.feed.fail(400, message));
                }
            }
            if !self.feed.more().await? {
                if self.place == Place::Sequence && self.scan.in_word {
                    return Ok(len);
                }
                return Err(self.feed.fail(400, format!("item {number}: it has no end")));
            }
        }
    }
}

fn begins_value(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
}

fn named(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("the byte {byte:#04x}")
    }
}

/// What is wrong with an item, and the path to it; found in a second reading, as for whole bodies.
#[cold]
fn mistake<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> String {
    let mut path = String::new();
    if error.classify() == Category::Data {
        let json = &mut serde_json::Deserializer::from_slice(json);
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(json) {
            path = error.path().to_string();
        }
    }
    let error = shown(&error.to_string());
    if path.is_empty() || path == "." { error } else { format!("{}: {error}", shown(&path)) }
}

/// Finds where a value ends; what is between is for serde to judge. It looks at each byte once,
/// however they come.
#[derive(Default)]
struct Scan {
    /// Bytes of the value looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    /// Behind a backslash.
    escaped: bool,
    /// In a number or a literal outside of everything, which ends where something else begins.
    in_word: bool,
}

struct TooDeep;

impl Scan {
    /// The length of the value that `bytes` begin with; none if its end is not there. They are what
    /// the last call had, and more.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, TooDeep> {
        while self.seen < bytes.len() {
            if self.in_string {
                if self.end_of_string(bytes) && self.depth == 0 {
                    return Ok(Some(self.seen));
                }
                continue;
            }
            let byte = bytes[self.seen];
            if self.in_word && ends_word(byte) {
                return Ok(Some(self.seen));
            }
            self.seen += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth == JSON_DEPTH_MAX => return Err(TooDeep),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Ok(Some(self.seen));
                    }
                }
                _ => self.in_word = self.depth == 0,
            }
        }
        Ok(None)
    }

    /// Goes on in a string; true behind its closing quote.
    fn end_of_string(&mut self, bytes: &[u8]) -> bool {
        if self.escaped {
            self.escaped = false;
            self.seen += 1;
            return false;
        }
        let Some(at) = memchr2(b'"', b'\\', &bytes[self.seen..]) else {
            self.seen = bytes.len();
            return false;
        };
        self.seen += at + 1;
        self.escaped = bytes[self.seen - 1] == b'\\';
        self.in_string = self.escaped;
        !self.escaped
    }
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':')
}
