//! Records of comma-separated values, one at a time.

use std::marker::PhantomData;
use std::num::IntErrorKind;

use csv::{ByteRecord, DeserializeErrorKind, ErrorKind, StringRecord};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde::de::DeserializeOwned;

use super::feed::Feed;
use super::field;
use crate::app::ctx::Ctx;
use crate::app::source::Source;
use crate::error::{Error, Result};
use crate::http::form::shown;
use crate::limits::{RECORD_BYTES_FIRST, RECORD_BYTES_MAX, RECORD_FIELDS_FIRST, RECORD_FIELDS_MAX};

/// Reading record by record.
impl<S> Ctx<S> {
    /// The records of a body of comma-separated values, in the memory of one: see [`Csv`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use serde::Deserialize;
    /// #[derive(Deserialize)]
    /// struct Sale {
    ///     item: String,
    ///     cents: u64,
    /// }
    ///
    /// async fn total(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (mut sales, mut total) = (cx.csv::<Sale>(), 0);
    ///     while let Some(sale) = sales.next().await? {
    ///         total += if sale.item == "gift" { 0 } else { sale.cents };
    ///     }
    ///     cx.json(&total)
    /// }
    /// # let app = App::new(()).post("/", total);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("item,cents\ntea,250\n\"cake, small\",1\n").await.text("251");
    /// # });
    /// ```
    pub fn csv<T: DeserializeOwned>(&self) -> Csv<T, &Ctx<S>> {
        Csv::of(self)
    }
}

/// Records of comma-separated values (RFC 4180) that come piece by piece. Feature `csv`.
///
/// The first record is the head: it names the fields, in any order. LF, CR LF or CR ends a record,
/// and empty lines are none. A byte order mark is skipped, and all is UTF-8. What RFC 4180 has no
/// reading for is refused: a quote that nothing closes, and text behind a closing quote.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use serde::Deserialize;
/// #[derive(Deserialize)]
/// struct User {
///     name: String,
///     age: Option<u8>, // an empty field is none
/// }
///
/// async fn ages(cx: &Ctx<()>) -> Result<Reply> {
///     let (mut users, mut ages) = (cx.csv::<User>().delimiter(b';'), Vec::new());
///     while let Some(user) = users.next().await? {
///         ages.push((user.name, user.age));
///     }
///     cx.json(&ages)
/// }
/// # let app = App::new(()).post("/", ages);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// let answer = client.post("/").body("age;name\r\n7;ann\r\n;bob\r\n").pieces(1).await;
/// answer.text(r#"[["ann",7],["bob",null]]"#);
/// let answer = client.post("/").body("age;name\n7;ann\nold;bob\n").await.expect(400);
/// answer.text("line 3: age: not a number");
/// # });
/// ```
pub struct Csv<T, R> {
    feed: Feed<R>,
    has_head: bool,
    delimiter: u8,
    record_bytes_max: usize,
    parser: Option<Reader>,
    track: Track,
    /// A record has begun, on this line.
    begun: Option<u64>,
    /// Its fields, and where each of them ends; both are used up to a length.
    text: Vec<u8>,
    text_len: usize,
    ends: Vec<usize>,
    ends_len: usize,
    head: Option<StringRecord>,
    /// How many fields the first record has.
    width: Option<usize>,
    /// Kept for its memory.
    row: ByteRecord,
    records: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned, R: Source> Csv<T, R> {
    /// The records of any source: a body, or a part of a form.
    ///
    /// ```
    /// # use soloist::{Csv, prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut pairs = Csv::<(String, u32), _>::of(cx); // what `cx.csv()` does
    /// cx.json(&pairs.next().await?)
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("name,age\nann,7").await.text(r#"["ann",7]"#);
    /// # });
    /// ```
    pub fn of(source: R) -> Csv<T, R> {
        Csv {
            feed: Feed::new(source),
            has_head: true,
            delimiter: b',',
            record_bytes_max: RECORD_BYTES_MAX,
            parser: None,
            track: Track { line: 1, after_cr: false, place: Place::Start },
            begun: None,
            text: Vec::new(),
            text_len: 0,
            ends: Vec::new(),
            ends_len: 0,
            head: None,
            width: None,
            row: ByteRecord::new(),
            records: PhantomData,
        }
    }

    /// The first record is one like the others: fields are told by their order.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut pairs = cx.csv::<(String, u32)>().headless();
    /// # let mut sum = 0;
    /// # while let Some((_, age)) = pairs.next().await? { sum += age; }
    /// # cx.json(&sum)
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("ann,7\nbob,8\n").await.text("15");
    /// let answer = client.post("/").body("ann,7\nbob,old\n").await.expect(400);
    /// answer.text("line 2: field 2: not a number");
    /// # });
    /// ```
    pub fn headless(mut self) -> Csv<T, R> {
        self.has_head = false;
        self
    }

    /// What stands between two fields: an ASCII character that is no quote and ends no line.
    /// Default `,`.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut pairs = cx.csv::<(String, u32)>().headless().delimiter(b'\t');
    /// # cx.json(&pairs.next().await?)
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("ann, b.\t7\n").await.text(r#"["ann, b.",7]"#);
    /// # });
    /// ```
    pub fn delimiter(mut self, delimiter: u8) -> Csv<T, R> {
        self.delimiter = delimiter;
        self
    }

    /// Bytes of the fields of one record; more: 413. Default 64 KiB. It has at most 1,024 fields.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut pairs = cx.csv::<(String, String)>().headless().record_bytes_max(4);
    /// # while pairs.next().await?.is_some() {}
    /// # cx.empty()
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("ab,cd\n\"e\",\"f\"\"g\"\n").await.expect(204);
    /// let answer = client.post("/").body("ab,cd\nabc,de\n").await.expect(413);
    /// answer.text("line 2: a record of more than 4 bytes");
    /// # });
    /// ```
    pub fn record_bytes_max(mut self, bytes: usize) -> Csv<T, R> {
        self.record_bytes_max = bytes;
        self
    }

    /// The next record, none at the end.
    ///
    /// # Errors
    /// 400 with the line on which the record begins and, of a value, its field. After one that is
    /// no `T`, is not UTF-8 or has another number of fields than the first record, the next call
    /// gives the one behind it. 413 for a record that is too long, 400 for quotes that cannot be
    /// read, and the errors of the source, such as [`Ctx::next_chunk`]'s: they come again. 500 for
    /// a delimiter that is none, or a type that no record can be.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut pairs = cx.csv::<(String, u8)>();
    /// let (mut good, mut bad) = (0, Vec::new());
    /// loop {
    ///     match pairs.next().await {
    ///         Ok(Some(_)) => good += 1,
    ///         Ok(None) => break,
    ///         Err(error) if error.status() == 400 && bad.len() < 10 => {
    ///             bad.push(error.message().to_owned()); // all that is to be mended, at once
    ///         }
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// cx.json(&(good, bad))
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let answer = client.post("/").body("name,age\nann,7\nbob,old\ndora\n").await;
    /// answer.text(r#"[1,["line 3: age: not a number","line 4: 1 fields, not 2"]]"#);
    /// # });
    /// ```
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.feed.check()?;
        if self.has_head && self.head.is_none() {
            let Some(line) = self.record().await? else { return Ok(None) };
            match self.row() {
                Ok(head) => self.head = Some(head),
                Err(field) => {
                    let message = format!("line {line}: field {}: not UTF-8", field + 1);
                    return Err(self.feed.fail(400, message));
                }
            }
        }
        let Some(line) = self.record().await? else { return Ok(None) };
        let (len, width) = (self.ends_len, *self.width.get_or_insert(self.ends_len));
        let row = self.row();
        if len != width {
            return Err(Error::bad_request(format!("line {line}: {len} fields, not {width}")));
        }
        let head = self.head.as_ref();
        match row {
            Ok(row) => {
                let read = row.deserialize(head);
                let read = read.map_err(|error| mistake::<T>(&error, line, &row, head));
                self.row = row.into_byte_record();
                read.map(Some)
            }
            Err(field) => {
                let name = name_of(field, head);
                Err(Error::bad_request(format!("line {line}: {name}: not UTF-8")))
            }
        }
    }

    /// Goes behind the next record: the line it begins on, none at the end. Its fields are in
    /// `text` then, for [`row`](Csv::row).
    async fn record(&mut self) -> Result<Option<u64>> {
        self.feed.skip_bom().await?;
        loop {
            if self.begun.is_none() {
                let blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
                let blank = self.feed.rest().iter().take_while(blank).count();
                self.track.blank(self.feed.take(blank));
            }
            if self.feed.rest().is_empty() && !self.feed.more().await? && self.begun.is_none() {
                return Ok(None);
            }
            if self.begun.is_none() {
                if matches!(self.feed.rest().first(), Some(b'\r' | b'\n')) {
                    continue;
                }
                (self.text_len, self.ends_len) = (0, 0);
            }
            let line = *self.begun.get_or_insert(self.track.line);
            if self.step(line)? {
                self.begun = None;
                self.width.get_or_insert(self.ends_len);
                return Ok(Some(line));
            }
        }
    }

    /// Parses what there is, or the end if nothing is; true behind a record.
    fn step(&mut self, line: u64) -> Result<bool> {
        let delimiter = self.delimiter;
        if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\r' | b'\n') {
            let cause = format!("no delimiter: {:?}", char::from(delimiter));
            return Err(Error::new(500, "internal error").because(cause));
        }
        let parser = self.parser.get_or_insert_with(|| parser(delimiter));
        let bytes = self.feed.rest();
        if bytes.is_empty() && self.track.place == Place::Quoted {
            return Err(self.feed.fail(400, format!("line {line}: a quote has no end")));
        }
        let (text, ends) = (&mut self.text[self.text_len..], &mut self.ends[self.ends_len..]);
        let (result, used, text_more, ends_more) = parser.read_record(bytes, text, ends);
        self.text_len += text_more;
        self.ends_len += ends_more;
        if self.track.follow(self.feed.take(used), delimiter).is_err() {
            let message = format!("line {line}: text behind a closing quote");
            return Err(self.feed.fail(400, message));
        }
        // One more of either tells that there are too many.
        let bytes_max = self.record_bytes_max;
        if self.text_len > bytes_max {
            let message = format!("line {line}: a record of more than {bytes_max} bytes");
            return Err(self.feed.fail(413, message));
        }
        if self.ends_len > RECORD_FIELDS_MAX {
            let message = format!("line {line}: a record of more than {RECORD_FIELDS_MAX} fields");
            return Err(self.feed.fail(413, message));
        }
        match result {
            ReadRecordResult::OutputFull => {
                let len = (2 * self.text.len()).max(RECORD_BYTES_FIRST);
                self.text.resize(len.min(bytes_max.saturating_add(1)), 0);
            }
            ReadRecordResult::OutputEndsFull => {
                let len = (2 * self.ends.len()).max(RECORD_FIELDS_FIRST);
                self.ends.resize(len.min(RECORD_FIELDS_MAX + 1), 0);
            }
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::Record | ReadRecordResult::End => return Ok(true),
        }
        Ok(false)
    }

    /// The fields of the record as text; else the first one that is none.
    fn row(&mut self) -> Result<StringRecord, usize> {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        let mut start = 0;
        for end in &self.ends[..self.ends_len] {
            row.push_field(&self.text[start..*end]);
            start = *end;
        }
        StringRecord::from_byte_record(row).map_err(|error| {
            let field = error.utf8_error().field();
            self.row = error.into_byte_record();
            field
        })
    }
}

fn parser(delimiter: u8) -> Reader {
    let mut parser = ReaderBuilder::new().delimiter(delimiter).build();
    // It would skip a byte order mark, another one than we do, if its first bytes came at once.
    parser.read_record(b"\n", &mut [0], &mut [0]);
    parser
}

fn name_of(field: usize, head: Option<&StringRecord>) -> String {
    match head.and_then(|head| head.get(field)) {
        Some(name) if !name.is_empty() => shown(name),
        _ => format!("field {}", field + 1),
    }
}

#[cold]
fn mistake<T: DeserializeOwned>(
    error: &csv::Error,
    line: u64,
    row: &StringRecord,
    head: Option<&StringRecord>,
) -> Error {
    let ErrorKind::Deserialize { err, .. } = error.kind() else {
        return Error::bad_request(format!("line {line}: {}", shown(&error.to_string())));
    };
    let what = match err.kind() {
        DeserializeErrorKind::Unsupported(_) => {
            return Error::new(500, "internal error").because(error.to_string());
        }
        DeserializeErrorKind::UnexpectedEndOfRow => "too few fields".to_owned(),
        DeserializeErrorKind::ParseBool(_) => "not true or false".to_owned(),
        DeserializeErrorKind::ParseFloat(_) => "not a number".to_owned(),
        DeserializeErrorKind::ParseInt(error) => match error.kind() {
            IntErrorKind::PosOverflow => "too large a number".to_owned(),
            IntErrorKind::NegOverflow => "too small a number".to_owned(),
            _ => "not a number".to_owned(),
        },
        other => shown(&other.to_string()),
    };
    let field = err.field().map(|field| field as usize);
    match field.or_else(|| field::refused::<T>(row, head)) {
        Some(field) => Error::bad_request(format!("line {line}: {}: {what}", name_of(field, head))),
        None => Error::bad_request(format!("line {line}: {what}")),
    }
}

/// Lines and quotes, beside the parser, which forgives what cannot be read.
struct Track {
    /// Of the next byte.
    line: u64,
    after_cr: bool,
    place: Place,
}

#[derive(PartialEq, Eq)]
enum Place {
    /// Before a field.
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the closing one, or half of one that is meant.
    Quote,
}

struct Misquoted;

impl Track {
    /// Over ends of lines between records.
    fn blank(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.count(*byte);
        }
    }

    fn follow(&mut self, bytes: &[u8], delimiter: u8) -> Result<(), Misquoted> {
        for byte in bytes {
            self.count(*byte);
            let ends = *byte == delimiter || matches!(byte, b'\r' | b'\n');
            self.place = match (&self.place, byte) {
                (Place::Start | Place::Quote, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Quote,
                (Place::Quoted, _) => Place::Quoted,
                (_, _) if ends => Place::Start,
                (Place::Start | Place::Plain, _) => Place::Plain,
                (Place::Quote, _) => return Err(Misquoted),
            };
        }
        Ok(())
    }

    fn count(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\r' || (byte == b'\n' && !self.after_cr));
        self.after_cr = byte == b'\r';
    }
}
