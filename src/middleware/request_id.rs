//! A name for every request, which the answer carries too.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::on_head::{KeptOnHead, ReplyHead};
use crate::limits::REQUEST_ID_BYTES_MAX;

/// What becomes of an `X-Request-Id` that comes with a request.
///
/// ```
/// use soloist::middleware::{Incoming, request_id};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
///
/// # async fn app(_: Shard) -> Result<App<()>> {
/// let app = App::new(()).wrap(request_id(Incoming::Trust)); // a proxy in front sets the field
/// # Ok(app.get("/", async |cx| cx.empty()))
/// # }
/// # TestClient::run(app, async |client| {
/// let id = ("x-request-id", "edge-7f3a");
/// client.get("/").header(id.0, id.1).await.has(id.0, id.1); // the same in both logs
/// # let answer = client.get("/").header(id.0, "a b").await;
/// # assert!(answer.header(id.0).is_some_and(|it| it != "a b"));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// It is not looked at: for a server that clients reach directly.
    Ignore,
    /// It is taken if it is 1 to 64 of `A-Z a-z 0-9 . _ -`: for a server behind a proxy that sets
    /// it. Anything else is replaced.
    Trust,
}

/// The id of a request: in a handler `cx.got::<RequestId>()`, none without a [`request_id`] around
/// it. A copy may outlive the request.
///
/// ```
/// use soloist::middleware::RequestId;
/// use soloist::prelude::*;
///
/// async fn order(cx: &Ctx<()>) -> Result<Reply> {
///     let id = cx.got::<RequestId>().copied();
///     cx.spawn(async move { println!("a mail for {id:?}") }); // the same id in its own lines
///     cx.status(202).empty()
/// }
/// # let app = App::new(()).post("/orders", order);
/// ```
#[derive(Clone, Copy)]
pub struct RequestId {
    text: [u8; REQUEST_ID_BYTES_MAX],
    len: u8,
}

/// Gives every request an id, and its answer the field `X-Request-Id`: errors, streams and a
/// handler's panic too. A request that is refused for its head has none.
///
/// An id is a random number of this process, the number of the middleware (each shard builds its
/// own) and a count, such as `3f9a1c2b77de-1-2a`. It is unique, it is no secret.
///
/// ```
/// use soloist::middleware::{Incoming, RequestId, request_id};
/// use soloist::prelude::*;
///
/// async fn show(cx: &Ctx<()>) -> Result<Reply> {
///     let id = cx.got::<RequestId>().map_or("none", RequestId::as_str);
///     cx.text(id)
/// }
/// let app = App::new(()).wrap(request_id(Incoming::Ignore)).get("/", show);
/// ```
pub fn request_id<S: 'static>(incoming: Incoming) -> impl Middleware<S> {
    let maker = Maker::new();
    let on_head: KeptOnHead = Rc::new(|head: &ReplyHead<'_>| {
        if let Some(id) = head.got::<RequestId>() {
            head.0.set_clean_field(NAME, id.bytes());
        }
    });
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let sent = match incoming {
            Incoming::Trust => cx.core.only_request_field(NAME).and_then(RequestId::read),
            Incoming::Ignore => None,
        };
        cx.put(sent.unwrap_or_else(|| maker.make()));
        cx.on_head_kept(&on_head);
        next.run().await
    }
}

const NAME: &str = "x-request-id";

impl RequestId {
    /// The id as text: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    ///
    /// ```
    /// # use soloist::middleware::{Incoming, RequestId, request_id};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// async fn pass_on(cx: &Ctx<()>) -> Result<Reply> {
    ///     let id = cx.got::<RequestId>().ok_or("no request_id around")?;
    ///     cx.text(format!("x-request-id: {}", id.as_str())) // for a request of one's own
    /// }
    /// # let app = async |_| Ok(App::new(()).wrap(request_id(Incoming::Trust)).get("/", pass_on));
    /// # TestClient::run(app, async |client| {
    /// #     client.get("/").header("x-request-id", "a-1").await.text("x-request-id: a-1");
    /// # });
    /// ```
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.bytes()).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }

    fn read(value: &str) -> Option<RequestId> {
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&value.len());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !fits || !value.bytes().all(is_plain) {
            return None;
        }
        let mut id = RequestId { text: [0; REQUEST_ID_BYTES_MAX], len: value.len() as u8 };
        id.text[..value.len()].copy_from_slice(value.as_bytes());
        Some(id)
    }

    fn push_hex(&mut self, value: u64) {
        let digits = (16 - value.leading_zeros() / 4).max(1);
        for digit in (0..digits).rev() {
            let nibble = (value >> (4 * digit)) & 15;
            self.push(b"0123456789abcdef"[nibble as usize]);
        }
    }

    fn push(&mut self, byte: u8) {
        self.text[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes ids that no other maker of this process makes.
struct Maker {
    /// Process and maker, with their hyphens.
    prefix: RequestId,
    count: Cell<u64>,
}

impl Maker {
    fn new() -> Maker {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static MAKERS: AtomicU32 = AtomicU32::new(1);
        // The standard library's hasher has random keys.
        let process = *PROCESS.get_or_init(|| RandomState::new().hash_one(0) >> 16);
        let mut prefix = RequestId { text: [0; REQUEST_ID_BYTES_MAX], len: 0 };
        prefix.push_hex(process | 1 << 47);
        prefix.push(b'-');
        prefix.push_hex(u64::from(MAKERS.fetch_add(1, Ordering::Relaxed)));
        prefix.push(b'-');
        Maker { prefix, count: Cell::new(0) }
    }

    fn make(&self) -> RequestId {
        let count = self.count.get() + 1;
        self.count.set(count);
        let mut id = self.prefix;
        id.push_hex(count);
        id
    }
}

// Process, maker and count at their longest, with two hyphens.
const _: () = assert!(12 + 1 + 8 + 1 + 16 <= REQUEST_ID_BYTES_MAX);
