//! What proxies say of the client: X-Forwarded-For and its kin, and Forwarded (RFC 7239).
//!
//! Each proxy adds at the right end, so everything is read from there: what stands to the left of
//! an address that is not trusted was sent by a stranger. For that reason commas are not looked
//! for in quoted strings: a stranger's open quote must not swallow what a proxy has added. A piece
//! that is not well formed then ends the search.

use std::net::{IpAddr, SocketAddr};

use super::head::{is_authority, is_token_byte};
use crate::limits::FORWARDED_HOPS_MAX;

/// What is known of the client once every trusted hop has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    /// The nearest address that is not trusted; the farthest one if all are.
    pub client: IpAddr,
    pub https: bool,
    pub authority: Option<&'a str>,
}

/// By X-Forwarded-For, -Proto and -Host. Of the latter two the right-most entry counts: what the
/// nearest proxy says.
pub(crate) fn by_x_fields<'a>(
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
    hops: impl DoubleEndedIterator<Item = &'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
) -> Origin<'a> {
    let mut client = peer;
    for hop in from_the_right(hops) {
        if !is_trusted(client) {
            break;
        }
        let Some(addr) = node(hop) else { break };
        client = addr;
    }
    let last = |list: &'a str| list.rsplit(',').next().unwrap_or_default().trim_matches(BLANKS);
    let host = host.map(last).filter(|host| is_authority(host.as_bytes()));
    let https = proto.map(last).is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    Origin { client, https, authority: host }
}

/// By Forwarded: protocol and host as the proxy nearest to the client has seen them.
pub(crate) fn by_forwarded<'a>(
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
    fields: impl DoubleEndedIterator<Item = &'a str>,
) -> Origin<'a> {
    let mut origin = Origin { client: peer, https: false, authority: None };
    for piece in from_the_right(fields) {
        if !is_trusted(origin.client) {
            break;
        }
        let Some(hop) = Hop::read(piece) else { break };
        origin.https = hop.proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        origin.authority = hop.host.filter(|host| is_authority(host.as_bytes()));
        let Some(addr) = hop.client.and_then(node) else { break };
        origin.client = addr;
    }
    origin
}

/// One `forwarded-element`.
#[derive(Default)]
struct Hop<'a> {
    client: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Hop<'a> {
    fn read(piece: &'a str) -> Option<Hop<'a>> {
        let mut hop = Hop::default();
        for pair in piece.split(';') {
            let (name, value) = pair.trim_matches(BLANKS).split_once('=')?;
            let value = match value.strip_prefix('"') {
                Some(rest) => rest.strip_suffix('"').filter(|it| !it.contains(['"', '\\']))?,
                None if !value.is_empty() && value.bytes().all(is_token_byte) => value,
                None => return None,
            };
            let place = match name {
                _ if name.eq_ignore_ascii_case("for") => &mut hop.client,
                _ if name.eq_ignore_ascii_case("proto") => &mut hop.proto,
                _ if name.eq_ignore_ascii_case("host") => &mut hop.host,
                _ if !name.is_empty() && name.bytes().all(is_token_byte) => continue,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(hop)
    }
}

/// The pieces of all fields, the last one first.
fn from_the_right<'a>(
    fields: impl DoubleEndedIterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    let pieces = fields.rev().flat_map(|field| field.rsplit(','));
    let pieces = pieces.map(|piece| piece.trim_matches(BLANKS));
    pieces.take(FORWARDED_HOPS_MAX)
}

/// An address, with or without a port; not `unknown`, nor a name that hides one (RFC 7239 section
/// 6).
fn node(text: &str) -> Option<IpAddr> {
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let addr = text.parse().ok().or_else(in_brackets).or_else(with_port)?;
    Some(addr.to_canonical())
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    /// `10.` is trusted.
    fn is_trusted(addr: IpAddr) -> bool {
        matches!(addr, IpAddr::V4(addr) if addr.octets()[0] == 10)
    }

    fn peer() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    fn row(origin: Origin<'_>) -> String {
        let scheme = if origin.https { "https" } else { "http" };
        format!("{} {scheme} {}", origin.client, origin.authority.unwrap_or("-"))
    }

    #[test]
    fn x_forwarded() {
        let rows: &[(&[&str], &str)] = &[
            (&[], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6,1.2.3.4 ,\t10.0.0.2"], "1.2.3.4"),
            (&["1.2.3.4", "10.0.0.3, 10.0.0.2"], "1.2.3.4"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.2.3.4:80"], "1.2.3.4"),
            (&["[2001:db8::1]:80"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["6.6.6.6, ::ffff:10.0.0.9"], "6.6.6.6"),
            (&["1.2.3.4, nonsense, 10.0.0.2"], "10.0.0.2"),
            (&["1.2.3.4, unknown"], "10.0.0.1"),
            (&["1.2.3.4, "], "10.0.0.1"),
            (&["1.2.3.4,,10.0.0.2"], "10.0.0.2"),
            (&["1.2.3.4:99999"], "10.0.0.1"),
            (&["[1.2.3.4]"], "10.0.0.1"),
            (&["[[::1]]"], "10.0.0.1"),
            (&["\"1.2.3.4\""], "10.0.0.1"),
            (&["01.2.3.4"], "10.0.0.1"),
        ];
        for (hops, want) in rows {
            let origin = by_x_fields(peer(), is_trusted, hops.iter().copied(), None, None);
            assert_eq!(row(origin), format!("{want} http -"), "{hops:?}");
        }
        let rows: &[(&str, &str, &str)] = &[
            ("https", "a.example", "https a.example"),
            ("HTTPS", "a.example:8443", "https a.example:8443"),
            ("https, http", "evil, a.example", "http a.example"),
            ("http, https", "a.example, ", "https -"),
            ("wss", "[::1]:80", "http [::1]:80"),
            ("", "", "http -"),
            ("https://", "a b", "http -"),
            ("javascript:", "a/b", "http -"),
            ("https;", "a@b", "http -"),
        ];
        for (proto, host, want) in rows {
            let hops = std::iter::once("1.2.3.4");
            let origin = by_x_fields(peer(), is_trusted, hops, Some(proto), Some(host));
            assert_eq!(row(origin), format!("1.2.3.4 {want}"), "{proto} {host}");
        }
    }

    #[test]
    fn forwarded() {
        let rows: &[(&[&str], &str)] = &[
            (&[], "10.0.0.1 http -"),
            (&["for=1.2.3.4"], "1.2.3.4 http -"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17 http -"),
            (&["for=192.0.2.60;proto=https;by=203.0.113.43"], "192.0.2.60 https -"),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17 http -"),
            (
                &["for=1.2.3.4;host=a.example;proto=HTTPS", "for=10.0.0.2"],
                "1.2.3.4 https a.example",
            ),
            (&["for=6.6.6.6;proto=https;host=evil, for=1.2.3.4"], "1.2.3.4 http -"),
            (&["for=1.2.3.4; host=\"a.example:80\" ;proto=http"], "1.2.3.4 http a.example:80"),
            (&["for=1.2.3.4;host=\"a b\";proto=ftp"], "1.2.3.4 http -"),
            (&["for=10.0.0.3;proto=https, for=10.0.0.2"], "10.0.0.3 https -"),
            (&["for=_hidden;proto=https, for=10.0.0.2"], "10.0.0.2 https -"),
            (&["for=unknown;proto=https"], "10.0.0.1 https -"),
            (&["proto=https"], "10.0.0.1 https -"),
            (&["for=1.2.3.4, for=10.0.0.2;for=10.0.0.3"], "10.0.0.1 http -"),
            (&["for=\"evil", "for=1.2.3.4"], "1.2.3.4 http -"),
            (&["for=\"evil, for=1.2.3.4"], "1.2.3.4 http -"),
            (&["for=1.2.3.4;x=\"a,for=6.6.6.6\""], "10.0.0.1 http -"),
            (&["for=1.2.3.4;x=\"a;for=6.6.6.6\""], "10.0.0.1 http -"),
            (&["for=\"1.2.3.4"], "10.0.0.1 http -"),
            (&["for=1.2.3.4\""], "10.0.0.1 http -"),
            (&["for=\"1.2.3\\.4\""], "10.0.0.1 http -"),
            (&["for=[::1]"], "10.0.0.1 http -"),
            (&["for="], "10.0.0.1 http -"),
            (&["for"], "10.0.0.1 http -"),
            (&["=1.2.3.4"], "10.0.0.1 http -"),
            (&["for=1.2.3.4;;"], "10.0.0.1 http -"),
            (&["for = 1.2.3.4"], "10.0.0.1 http -"),
            (&["1.2.3.4"], "10.0.0.1 http -"),
        ];
        for (fields, want) in rows {
            let origin = by_forwarded(peer(), is_trusted, fields.iter().copied());
            assert_eq!(row(origin), *want, "{fields:?}");
        }
    }

    #[test]
    fn long_chains_are_cut() {
        let hops = "1.2.3.4,".to_owned() + &"10.0.0.2,".repeat(10_000) + "10.0.0.3";
        let origin = by_x_fields(peer(), is_trusted, std::iter::once(&*hops), None, None);
        assert_eq!(origin.client, IpAddr::from([10, 0, 0, 2]));
    }
}
