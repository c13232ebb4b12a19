//! Routes that open sockets, and the handshake (RFC 6455 section 4.2).

use std::panic::Location;
use std::rc::Rc;

use super::options::{Origins, WsOptions};
use super::rooms::Rooms;
use super::run::Socket;
use super::socket::Ws;
use crate::app::builder::App;
use crate::app::ctx::Ctx;
use crate::app::handler::Endpoint;
use crate::app::reply::Reply;
use crate::app::routes::Entry;
use crate::app::upgrade::{Run, Upgrade};
use crate::base::arena::Placed;
use crate::base::counters::Count;
use crate::error::{Error, Result};
use crate::http::head::Body;
use crate::ws::handshake::{self, Deflate};

/// Speaks with a socket: `async fn name(cx: &Ctx<S>, ws: &mut Ws) -> Result<()>`.
///
/// ```
/// use soloist::WsHandler;
/// use soloist::prelude::*;
///
/// /// The same handler on two paths.
/// fn twice(app: App<()>, handler: impl WsHandler<()> + Clone) -> App<()> {
///     app.ws("/v1/live", handler.clone()).ws("/v2/live", handler)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot speak with a socket",
    label = "not a socket handler of `App<{S}>`",
    note = "it is `async fn name(cx: &Ctx<{S}>, ws: &mut Ws) -> Result<()>` or `async |cx, ws| ...`: check `async`, the `&`, the return type"
)]
pub trait WsHandler<S>: AsyncFn(&Ctx<S>, &mut Ws) -> Result<()> + 'static {}

#[diagnostic::do_not_recommend]
impl<S, F: AsyncFn(&Ctx<S>, &mut Ws) -> Result<()> + 'static> WsHandler<S> for F {}

impl<S: 'static> App<S> {
    /// Opens WebSockets (RFC 6455).
    ///
    /// The handler runs as long as the socket lives, and the socket is closed when it returns:
    /// with 1000; with 1008 and its message after an error below 500, such as that of
    /// [`Message::read_json`](crate::Message::read_json); with 1011 after another one or a panic.
    /// One whose connection is cut, or whose client gives no sign of life, is dropped at its next
    /// await. Middleware has run before, and is through: it may refuse the request, and what it
    /// [`put`](Ctx::put) is there.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::testing::TestClient;
    ///
    /// async fn room(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ///     let room: &str = cx.param("room")?;
    ///     ws.join(room)?;
    ///     while let Some(message) = ws.recv().await? {
    ///         cx.publish(room, message); // to everyone in the room, on every core
    ///     }
    ///     Ok(())
    /// }
    /// let app = async |_| Ok(App::new(()).ws("/rooms/:room", room));
    /// TestClient::run(app, async |client| {
    ///     let mut ann = client.ws("/rooms/rust").await;
    ///     let mut bob = client.ws("/rooms/rust").await;
    ///     ann.send("hi").await;
    ///     assert_eq!(bob.next().await, "hi");
    /// });
    /// ```
    #[track_caller]
    pub fn ws(self, path: &str, handler: impl WsHandler<S>) -> App<S> {
        self.ws_with(path, WsOptions::new(), handler)
    }

    /// The same, with [other settings](WsOptions) than the defaults.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::{WsDeflate, WsOptions};
    ///
    /// let options = WsOptions::new().deflate(WsDeflate::Shared).message_bytes_max(64 * 1024);
    /// let app = App::new(()).ws_with("/echo", options, async |_, ws| {
    ///     while let Some(message) = ws.recv().await? {
    ///         ws.send(message).await?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    #[track_caller]
    pub fn ws_with(mut self, path: &str, options: WsOptions, handler: impl WsHandler<S>) -> App<S> {
        let end = Opening { handler: Rc::new(handler), options: Rc::new(options) };
        self.push_route(Entry {
            method: "GET".into(),
            pattern: path.into(),
            name: None,
            layers: Vec::new(),
            end: Box::new(end),
            at: Location::caller(),
        });
        self
    }
}

/// The end of a route that opens sockets.
struct Opening<F> {
    handler: Rc<F>,
    options: Rc<WsOptions>,
}

impl<S: 'static, F: WsHandler<S>> Endpoint<S> for Opening<F> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move {
            let opened = self.open(cx);
            if opened.is_err() {
                cx.core.local.counters.add(Count::WsRefused, 1);
            }
            opened
        })
    }
}

impl<F> Opening<F> {
    fn open<S: 'static>(&self, cx: &Ctx<S>) -> Result<Reply>
    where
        F: WsHandler<S>,
    {
        let key = check(cx)?;
        check_origin(cx, &self.options.origins)?;
        let local = &cx.core.local;
        let client = cx.client();
        Rooms::of(local).admit(local, client)?;
        let protocol = choose(cx, &self.options.protocols);
        let agreed = self.deflate(cx);
        cx.core.set_field("sec-websocket-accept", &handshake::accept_key(key), false);
        if let Some(protocol) = &protocol {
            cx.core.set_field("sec-websocket-protocol", protocol, false);
        }
        if let Some(agreed) = &agreed {
            cx.core.set_field("sec-websocket-extensions", &agreed.answer(), false);
        }
        cx.core.status.set(101);
        let (handler, options) = (self.handler.clone(), self.options.clone());
        let state = cx.state.clone();
        let socket = Run::Socket(Box::new(move |wire, core| {
            let cx = Ctx { core, state };
            Socket { cx, wire, options, agreed, protocol, client, handler }.start()
        }));
        cx.core.upgrade.set(Some(Box::new(Upgrade { protocol: "websocket", run: socket })));
        Ok(cx.answered(""))
    }

    fn deflate<S>(&self, cx: &Ctx<S>) -> Option<Deflate> {
        let takeover = self.options.deflate? == super::options::WsDeflate::Dedicated;
        handshake::agree(cx.core.request_fields("sec-websocket-extensions"), takeover)
    }
}

/// The key of a request that asks for a socket; each thing that is wrong with it has its answer.
fn check<S>(cx: &Ctx<S>) -> Result<&str> {
    let head = &cx.core.head;
    if cx.method() != "GET" {
        return Err(Error::new(405, "a WebSocket is opened by GET").set("allow", "GET"));
    }
    let asks = |name: &str, token: &str| {
        cx.core.request_fields(name).any(|list| handshake::has_token(list, token))
    };
    let upgrade = asks("upgrade", "websocket");
    if !upgrade || head.minor == 0 {
        return Err(Error::new(426, "this is a WebSocket: upgrade required")
            .set("upgrade", "websocket")
            .set("sec-websocket-version", VERSION));
    }
    if !asks("connection", "upgrade") {
        return Err(Error::bad_request("connection: must name upgrade"));
    }
    if head.body != Body::None {
        return Err(Error::bad_request("a handshake has no body"));
    }
    if cx.header("sec-websocket-version") != Some(VERSION) {
        return Err(Error::new(426, "sec-websocket-version: only 13 is spoken here")
            .set("upgrade", "websocket")
            .set("sec-websocket-version", VERSION));
    }
    let mut keys = cx.core.request_fields("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if handshake::is_key(key) => Ok(key),
        (None, _) => Err(Error::bad_request("sec-websocket-key: missing")),
        (Some(_), Some(_)) => Err(Error::bad_request("sec-websocket-key: more than one")),
        _ => Err(Error::bad_request("sec-websocket-key: not 16 bytes in base64")),
    }
}

/// RFC 6455 section 10.2: browsers say which page asks.
fn check_origin<S>(cx: &Ctx<S>, origins: &Origins) -> Result<()> {
    let Some(origin) = cx.header("origin") else { return Ok(()) };
    let allowed = match origins {
        Origins::Any => true,
        Origins::List(list) => list.iter().any(|it| it.eq_ignore_ascii_case(origin)),
        Origins::Same => is_same(origin, cx.authority()),
    };
    match allowed {
        true => Ok(()),
        false => Err(Error::new(403, "origin: pages of that origin may not open this socket")),
    }
}

/// Host and port of an origin are those that were asked for. Its scheme does not count: a proxy
/// that takes TLS off need not be trusted for it.
fn is_same(origin: &str, authority: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |it: &str| it.strip_suffix(default).unwrap_or(it).to_ascii_lowercase();
    bare(rest) == bare(authority)
}

/// The first subprotocol of the client's that is spoken here.
fn choose<S>(cx: &Ctx<S>, ours: &[String]) -> Option<String> {
    let offers = cx.core.request_fields("sec-websocket-protocol");
    let mut offers = offers.flat_map(|list| list.split(',')).map(str::trim_ascii);
    offers.find_map(|offer| ours.iter().find(|it| **it == *offer)).cloned()
}

const VERSION: &str = "13";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_origin() {
        let cases = [
            ("http://a.example", "a.example", true),
            ("http://A.example:80", "a.example", true),
            ("https://a.example", "a.example:443", true),
            ("http://a.example:8080", "a.example:8080", true),
            ("http://a.example:8080", "a.example", false),
            ("http://b.example", "a.example", false),
            ("null", "a.example", false),
            ("", "", false),
        ];
        for (origin, authority, same) in cases {
            assert_eq!(is_same(origin, authority), same, "{origin} {authority}");
        }
    }
}
