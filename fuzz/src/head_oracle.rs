//! The target `head`.

use crate::head::{Body, Head, HeadLimits, Method, Parsed, parse};
use crate::naive_head::{self, NaiveBody, NaiveHead};
use crate::reader::Stop;

/// The first byte chooses bounds, the second how far apart the prefixes are that are fed.
pub fn head(data: &[u8]) {
    let [bounds, step, bytes @ ..] = data else { return };
    let choice = |shift: u8| usize::from(bounds >> shift & 3);
    let limits = HeadLimits {
        target_bytes_max: [8, 40, 100, 8192][choice(0)],
        head_bytes_max: [64, 200, 1000, 70_000][choice(2)],
        fields_max: [1, 4, 16, 200][choice(4)],
    };

    let mut head = Head::default();
    let whole = parse(bytes, &limits, &mut head);
    let (naive, decided_at) = naive_head::parse(bytes, &limits);
    match (whole, &naive) {
        (Parsed::Partial, Err(Stop::Partial)) => {}
        (Parsed::Refused(refusal), Err(Stop::Refused(status))) => {
            assert_eq!(refusal.status, *status, "{}", refusal.reason);
        }
        (Parsed::Complete, Ok(naive)) => {
            assert_eq!(plain(bytes, &head), *naive);
            assert_eq!(head.len, decided_at);
        }
        _ => panic!("{whole:?} against {naive:?}"),
    }

    // Every prefix is partial until the byte that decides, and then has the answer of the whole.
    let mut grown = Head::default();
    let steps = (0..bytes.len()).step_by(1 + usize::from(step % 32));
    for len in steps.chain([decided_at.saturating_sub(1), decided_at]) {
        let now = parse(&bytes[..len], &limits, &mut grown);
        let is_decided = len >= decided_at && naive != Err(Stop::Partial);
        assert_eq!(now, if is_decided { whole } else { Parsed::Partial }, "{len} bytes");
        if now == Parsed::Complete {
            assert_eq!(grown, head, "{len} bytes");
        }
    }
}

/// A head as the naive parser would put it.
fn plain(bytes: &[u8], head: &Head) -> NaiveHead {
    let text = |span: crate::head::Span| span.text(bytes).to_owned();
    assert!(head.has_query || head.query.is_empty());
    let method = text(head.method_name);
    assert_eq!(head.method, Method::from_bytes(method.as_bytes()));
    NaiveHead {
        method,
        target: text(head.target),
        path: text(head.path),
        query: head.has_query.then(|| text(head.query)),
        host: text(head.host),
        minor: head.minor,
        fields: head.fields.iter().map(|f| (text(f.name), text(f.value))).collect(),
        body: match head.body {
            Body::None => NaiveBody::None,
            Body::Length(len) => NaiveBody::Length(len),
            Body::Chunked => NaiveBody::Chunked,
        },
        keep_alive: head.keep_alive,
        expect_continue: head.expect_continue,
        upgrade: head.upgrade,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/head")).unwrap() {
            super::head(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
