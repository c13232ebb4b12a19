//! Where a request comes from, past the proxies in front of the server.

use std::net::{IpAddr, SocketAddr};

use super::builder::App;
use super::core::Core;
use super::ctx::Ctx;
use crate::http::forwarded::{Origin, by_forwarded, by_x_fields};
use crate::http::net::BadNet;

impl<S: 'static> App<S> {
    /// Believes what proxies at these addresses say of their clients: a network in CIDR notation,
    /// or one address. A mistake in one fails the start.
    ///
    /// From then on [`Ctx::client`], [`Ctx::scheme`] and [`Ctx::authority`] look at
    /// X-Forwarded-For, -Proto and -Host, and where none of them came at Forwarded (RFC 7239);
    /// only for a peer at one of these addresses. Such a proxy must overwrite or add to the fields
    /// that it sends, and drop the others of these four: what it passes on unseen is a stranger's
    /// word.
    ///
    /// The list of the whole application counts, also where a mounted one answers that has a list
    /// of its own.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::testing::TestClient;
    ///
    /// let app = async |_| {
    ///     let app = App::new(()).trust(&["10.0.0.0/8", "::1"]);
    ///     Ok(app.get("/", async |cx| cx.text(format!("{:?}", cx.client()))))
    /// };
    /// TestClient::run(app, async |client| {
    ///     client.peer(([10, 1, 2, 3], 4711)); // a proxy of ours
    ///     let call = client.get("/").header("x-forwarded-for", "6.6.6.6, 192.0.2.7");
    ///     call.await.expect(200).text("Some(192.0.2.7)"); // 6.6.6.6 is only what that one says
    ///     client.peer(([192, 0, 2, 9], 4711)); // a stranger
    ///     let call = client.get("/").header("x-forwarded-for", "6.6.6.6");
    ///     call.await.expect(200).text("Some(192.0.2.9)");
    /// });
    /// ```
    #[track_caller]
    pub fn trust(mut self, proxies: &[&str]) -> App<S> {
        for text in proxies {
            match text.parse() {
                Ok(net) => self.trusted.push(net),
                Err(BadNet(why)) => self.mistake(&format!("trust {text:?}"), why),
            }
        }
        self
    }
}

/// Where the request comes from.
impl<S> Ctx<S> {
    /// The client's address: the peer's, or, behind proxies of [`App::trust`], the nearest one to
    /// the server that is not trusted. Where the trail is lost, the last address that is known. At
    /// most 32 hops are looked at.
    ///
    /// IPv4 addresses that the kernel shows as IPv6 (`::ffff:192.0.2.1`) are IPv4 here. None in
    /// memory, unless the test client has a [`peer`](crate::testing::TestClient::peer).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// /// A request from somewhere else is none.
    /// async fn at_home(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     match cx.client() {
    ///         Some(addr) if addr.is_loopback() => next.run().await,
    ///         _ => Err(Error::forbidden()),
    ///     }
    /// }
    /// # let app = App::new(()).wrap(at_home).get("/", async |cx| cx.text("a"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.peer(([192, 0, 2, 7], 4711));
    /// # client.get("/").await.expect(403);
    /// # client.peer(([127, 0, 0, 1], 4711));
    /// # client.get("/").await.expect(200);
    /// # });
    /// ```
    pub fn client(&self) -> Option<IpAddr> {
        match self.core.origin() {
            Some(origin) => Some(origin.client),
            None => Some(self.peer()?.ip().to_canonical()),
        }
    }

    /// `https` if a trusted proxy says that the client came by it, else `http`.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn https_only(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     if cx.scheme() == "https" {
    ///         return next.run().await;
    ///     }
    ///     cx.redirect_with(308, cx.format(format_args!("https://example.com{}", cx.path())))
    /// }
    /// let app = App::new(()).trust(&["10.0.0.0/8"]).wrap(https_only);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.peer(([10, 1, 2, 3], 4711)); // the proxy
    /// client.get("/a").await.expect(308).has("location", "https://example.com/a");
    /// client.get("/a").header("x-forwarded-proto", "https").await.expect(404); // no route
    /// # });
    /// ```
    pub fn scheme(&self) -> &'static str {
        self.core.scheme()
    }

    /// The authority that the client asked for, such as `www.example.com:8443`: what a trusted
    /// proxy says, else [`host`](Ctx::host). It is the client's word, whoever passes it on: compare
    /// it with the names you serve before you build a link from it.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn here(cx: &Ctx<()>) -> Result<Reply> {
    ///     match cx.authority() {
    ///         it @ ("example.com" | "example.org") => cx.text(format!("{}://{it}/", cx.scheme())),
    ///         _ => Err(Error::new(421, "not served here")), // RFC 9110 section 15.5.20
    ///     }
    /// }
    /// let app = App::new(()).trust(&["10.0.0.0/8"]).get("/", here);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.peer(([10, 1, 2, 3], 4711));
    /// let call = client.get("/").header("x-forwarded-host", "example.org");
    /// call.await.text("http://example.org/");
    /// # client.get("/").await.expect(421);
    /// # });
    /// ```
    pub fn authority(&self) -> &str {
        let said = self.core.origin().and_then(|origin| origin.authority);
        said.unwrap_or_else(|| self.host())
    }
}

impl Core {
    /// Asked of the kernel once a connection.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.wire().peer(crate::shard::peer)
    }

    pub(super) fn scheme(&self) -> &'static str {
        let https = self.origin().is_some_and(|origin| origin.https);
        if https { "https" } else { "http" }
    }

    /// What proxies say; none if nobody is to be believed.
    fn origin(&self) -> Option<Origin<'_>> {
        let trusted = &self.whole.trusted;
        if trusted.is_empty() {
            return None;
        }
        let is_trusted = |addr: IpAddr| trusted.iter().any(|net| net.holds(addr));
        let peer = self.peer()?.ip().to_canonical();
        if !is_trusted(peer) {
            return None;
        }
        let hops = self.request_fields("x-forwarded-for");
        let proto = self.request_fields("x-forwarded-proto").next_back();
        let host = self.request_fields("x-forwarded-host").next_back();
        let any_x = hops.clone().next().or(proto).or(host).is_some();
        Some(match any_x {
            true => by_x_fields(peer, is_trusted, hops, proto, host),
            false => by_forwarded(peer, is_trusted, self.request_fields("forwarded")),
        })
    }
}
