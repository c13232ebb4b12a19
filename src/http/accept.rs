//! What a client likes best of what is on offer: RFC 9110 section 12, RFC 4647 section 3.4.
//!
//! Every function takes the values of all fields of one name, in their order. An entry that is not
//! well formed says nothing. Of hostile lists [`ACCEPT_ENTRIES_MAX`] entries are looked at.

use std::cmp::Reverse;

use super::head::is_token_byte;
use crate::limits::ACCEPT_ENTRIES_MAX;

/// The media type on offer that the client likes best; the earlier one of equals. The first one
/// where the client names none at all. None where it takes none of them.
///
/// The most specific range that covers an offer decides: `text/html;level=1`, `text/html`,
/// `text/*`, `*/*`.
pub(crate) fn media<'h, 'o>(
    fields: impl Iterator<Item = &'h str> + Clone,
    offers: &[&'o str],
) -> Option<&'o str> {
    if entries(fields.clone()).all(|entry| media_range(&entry).is_none()) {
        return offers.first().copied();
    }
    best(offers, |offer| {
        let (offered, offered_params) = offer.split_once(';').unwrap_or((offer, ""));
        let (kind, subkind) = offered.trim().split_once('/')?;
        let cover = entries(fields.clone()).filter_map(|entry| {
            let (range_kind, range_subkind) = media_range(&entry)?;
            let specific = match (range_kind, range_subkind) {
                ("*", "*") => 0,
                (range_kind, "*") if range_kind.eq_ignore_ascii_case(kind) => 1,
                _ if range_kind.eq_ignore_ascii_case(kind)
                    && range_subkind.eq_ignore_ascii_case(subkind) =>
                {
                    2
                }
                _ => return None,
            };
            let params = covered_params(entry.params, offered_params)?;
            Some((specific + params, entry.weight))
        });
        strongest(cover)
    })
}

/// The content coding on offer that the client likes best; the earlier one of equals. None is
/// `identity`: where the client sent no such field, takes none of them, or likes it as it is
/// better (RFC 9110 section 12.5.3).
pub(crate) fn encoding<'h, 'o>(
    fields: impl Iterator<Item = &'h str> + Clone,
    offers: &[&'o str],
) -> Option<&'o str> {
    let weight_of = |coding: &str, any: bool| {
        strongest(entries(fields.clone()).filter_map(|entry| match entry.range {
            "*" if any => Some((0, entry.weight)),
            range if is_coding(range, coding) => Some((1, entry.weight)),
            _ => None,
        }))
    };
    let found = best(offers, |offer| weight_of(offer, true))?;
    let identity = weight_of("identity", false).unwrap_or(0);
    (weight_of(found, true)? >= identity).then_some(found)
}

/// The language on offer that suits best, by lookup: `de-CH` takes `de-CH`, else `de`. The first
/// one where the client names none at all, or takes any. None where no range leads to an offer.
pub(crate) fn language<'h, 'o>(
    fields: impl Iterator<Item = &'h str> + Clone,
    offers: &[&'o str],
) -> Option<&'o str> {
    if entries(fields.clone()).next().is_none() {
        return offers.first().copied();
    }
    // What the longest range that an offer lies in says of it decides whether it is refused.
    let refused = |offer: &str| {
        let cover = entries(fields.clone()).filter_map(|entry| match entry.range {
            "*" => Some((0, entry.weight)),
            range => lies_in(offer, range).then_some((range.len(), entry.weight)),
        });
        strongest(cover) == Some(0)
    };
    let offers = || offers.iter().copied().filter(|offer| !refused(offer));
    // The heaviest range, the earlier one of equals; of one range the longest offer.
    let suits = |offer: &'o str| {
        let leads = |(at, entry): (usize, Entry<'_>)| {
            let leads = entry.weight > 0 && lies_in(entry.range, offer);
            leads.then_some((entry.weight, Reverse(at), offer.len()))
        };
        Some((entries(fields.clone()).enumerate().filter_map(leads).max()?, offer))
    };
    let found = offers().filter_map(suits).reduce(|a, b| if b.0 > a.0 { b } else { a });
    let any = || entries(fields.clone()).any(|entry| entry.range == "*" && entry.weight > 0);
    found.map(|(_, offer)| offer).or_else(|| offers().next().filter(|_| any()))
}

/// One entry of a list: `range;params;q=weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    range: &'a str,
    /// What stands between the range and its weight.
    params: &'a str,
    /// Thousandths.
    weight: u16,
}

/// The well-formed entries, in order.
fn entries<'h>(
    fields: impl Iterator<Item = &'h str> + Clone,
) -> impl Iterator<Item = Entry<'h>> + Clone {
    let pieces = fields.flat_map(|field| split(field, b','));
    let pieces = pieces.filter(|piece| !piece.is_empty());
    pieces.take(ACCEPT_ENTRIES_MAX).filter_map(entry)
}

fn entry(piece: &str) -> Option<Entry<'_>> {
    let (range, params) = piece.split_once(';').unwrap_or((piece, ""));
    let range = range.trim_end_matches(BLANKS);
    if range.is_empty() || !range.bytes().all(|byte| is_token_byte(byte) || byte == b'/') {
        return None;
    }
    let mut weight = 1_000;
    let mut end = params.len();
    for param in split(params, b';').filter(|param| !param.is_empty()) {
        let (name, value) = param.split_once('=')?;
        if !is_token_text(name) {
            return None;
        }
        if name.eq_ignore_ascii_case("q") {
            weight = thousandths(value)?;
            end = param.as_ptr().addr() - params.as_ptr().addr();
            break; // what follows said something in RFC 7231, and says nothing now
        }
    }
    Some(Entry { range, params: &params[..end], weight })
}

/// `weight` of RFC 9110 section 12.4.2, without its name.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = part.bytes().chain(std::iter::repeat(b'0')).take(3);
    let part = part.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

fn media_range<'a>(entry: &Entry<'a>) -> Option<(&'a str, &'a str)> {
    let (kind, subkind) = entry.range.split_once('/')?;
    let well_formed = is_token_text(kind) && is_token_text(subkind);
    (well_formed && (kind != "*" || subkind == "*")).then_some((kind, subkind))
}

/// How many parameters a range names, if the offer has all of them.
fn covered_params(range: &str, offer: &str) -> Option<usize> {
    let mut count = 0;
    for param in split(range, b';').filter(|param| !param.is_empty()) {
        let same = |other: &str| {
            let pair = param.split_once('=').zip(other.split_once('='));
            pair.is_some_and(|((name, value), (other_name, other_value))| {
                name.eq_ignore_ascii_case(other_name)
                    && unquoted(value).eq_ignore_ascii_case(unquoted(other_value))
            })
        };
        if !split(offer, b';').any(same) {
            return None;
        }
        count += 1;
    }
    Some(count)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value)
}

/// RFC 9110 section 8.4.1: `x-gzip` and `x-compress` are old names.
fn is_coding(range: &str, coding: &str) -> bool {
    let plain = match range.as_bytes() {
        [b'x' | b'X', b'-', ..] => &range[2..],
        _ => "",
    };
    let old = ["gzip", "compress"].iter().any(|name| name.eq_ignore_ascii_case(plain));
    range.eq_ignore_ascii_case(coding) || (old && plain.eq_ignore_ascii_case(coding))
}

/// Whether `tag` is `range`, or that with further subtags.
fn lies_in(tag: &str, range: &str) -> bool {
    let (tag, range) = (tag.as_bytes(), range.as_bytes());
    let starts = tag.get(..range.len()).is_some_and(|start| start.eq_ignore_ascii_case(range));
    starts && matches!(tag.get(range.len()), None | Some(b'-'))
}

/// The weight of the most specific; of equals the greatest.
fn strongest<K: Ord>(cover: impl Iterator<Item = (K, u16)>) -> Option<u16> {
    cover.max().map(|(_, weight)| weight)
}

/// The offer of the greatest weight above zero, the first one of equals.
fn best<'o>(offers: &[&'o str], weigh: impl Fn(&str) -> Option<u16>) -> Option<&'o str> {
    let mut found = (0, None);
    for offer in offers {
        let weight = weigh(offer).unwrap_or(0);
        if weight > found.0 {
            found = (weight, Some(*offer));
        }
    }
    found.1
}

/// Blank space that may stand around an entry (RFC 9110 section 5.6.3).
const BLANKS: [char; 2] = [' ', '\t'];

/// The pieces between marks that stand in no quoted string, without blanks around them.
fn split(text: &str, mark: u8) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let ends = |byte: u8| {
            let is_mark = !quoted && byte == mark;
            quoted ^= byte == b'"' && !escaped;
            escaped = quoted && byte == b'\\' && !escaped;
            is_mark
        };
        let end = text.bytes().position(ends);
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim_matches(BLANKS))
    })
}

fn is_token_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pick = for<'o> fn(&[&str], &[&'o str]) -> Option<&'o str>;

    fn check(pick: Pick, rows: &[(&[&str], &[&str], &str)]) {
        for (fields, offers, want) in rows {
            assert_eq!(pick(fields, offers).unwrap_or("-"), *want, "{fields:?} of {offers:?}");
        }
    }

    #[test]
    fn media_types() {
        let both: &[&str] = &["application/json", "text/html"];
        let levels: &[&str] = &["text/html;level=1", "text/html", "text/plain", "image/jpeg"];
        check(
            |fields, offers| media(fields.iter().copied(), offers),
            &[
                (&[], both, "application/json"),
                (&[""], both, "application/json"),
                (&[" , ,"], both, "application/json"),
                (&["nonsense"], both, "application/json"),
                (&["*/*"], both, "application/json"),
                (&["text/html"], both, "text/html"),
                (&["TEXT/HTML"], both, "text/html"),
                (&["text/*"], both, "text/html"),
                (&["text/html, application/json"], both, "application/json"),
                (&["application/json;q=0.5, text/html"], both, "text/html"),
                (&["application/json;q=0.5", "text/html;q=0.6"], both, "text/html"),
                (&["text/html ; Q=0.1 , */* ; q=0.2"], both, "application/json"),
                (&["*/*, application/json;q=0"], both, "text/html"),
                (&["*/*;q=0.5, application/*;q=0"], both, "text/html"),
                (&["image/png"], both, "-"),
                (&["*/*;q=0"], both, "-"),
                (&["text/html;q=0.0"], both, "-"),
                (&["text/html"], &[], "-"),
                (&[], &[], "-"),
                // RFC 9110 section 12.5.1, with its table of weights.
                (
                    &["text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, \
                       text/plain;format=fixed;q=0.4, */*;q=0.5"],
                    &["text/html", "image/jpeg", "text/plain", "text/plain;format=flowed"],
                    "text/plain;format=flowed",
                ),
                (&["text/*, text/html;level=1;q=0.2, text/html;q=0.1"], levels, "text/plain"),
                (&["text/html;level=\"1\", */*;q=0.1"], levels, "text/html;level=1"),
                (&["text/html;level=2, image/*;q=0.1"], levels, "image/jpeg"),
                (&["text/html;a=\"x,y;q=0\";q=0.5, text/plain;q=0.4"], levels, "text/plain"),
                // Malformed entries say nothing.
                (&["*/html, text/html"], both, "text/html"),
                (&["application/json;q=2, text/html;q=0.1"], both, "text/html"),
                (&["application/json;q=0.1234, text/html;q=0.1"], both, "text/html"),
                (&["application/json;q=-1, text/html;q=0.1"], both, "text/html"),
                (&["application/json;q=, text/html;q=0.1"], both, "text/html"),
                (&["application/json;q, text/html;q=0.1"], both, "text/html"),
                (&["application/json; =1, text/html;q=0.1"], both, "text/html"),
                (&["appl ication/json, text/html;q=0.1"], both, "text/html"),
                (&["a/b/c, text/html;q=0.1"], both, "text/html"),
                (&["/, //, text/html;q=0.1"], both, "text/html"),
                (&["application/json;;;q=0.2;;, text/html;q=0.1"], both, "application/json"),
                (&["x/y;z=\"never closed, text/html"], both, "-"),
                (&["caf\u{e9}/\u{e9}, text/html"], both, "text/html"),
            ],
        );
    }

    #[test]
    fn encodings() {
        let both: &[&str] = &["br", "gzip"];
        check(
            |fields, offers| encoding(fields.iter().copied(), offers),
            &[
                (&[], both, "-"),
                (&[""], both, "-"),
                (&["gzip"], both, "gzip"),
                (&["gzip, br"], both, "br"),
                (&["GZIP;q=1.000, br;q=0.9"], both, "gzip"),
                (&["x-gzip"], both, "gzip"),
                (&["x-br, x-x-gzip, x-"], both, "-"),
                (&["*"], both, "br"),
                (&["br;q=0, *"], both, "gzip"),
                (&["*;q=0, gzip"], both, "gzip"),
                (&["identity, gzip;q=0.5"], both, "-"),
                (&["identity;q=0.5, gzip;q=0.5"], both, "gzip"),
                (&["identity;q=0"], both, "-"),
                (&["gzip;q=0, br;q=0"], both, "-"),
                (&["deflate"], both, "-"),
                (&["br;q=1.1, gzip;q=0.001"], both, "gzip"),
            ],
        );
    }

    #[test]
    fn languages() {
        let three: &[&str] = &["en", "de", "de-CH"];
        check(
            |fields, offers| language(fields.iter().copied(), offers),
            &[
                (&[], three, "en"),
                (&[""], three, "en"),
                (&["de"], three, "de"),
                (&["de-CH"], three, "de-CH"),
                (&["DE-ch-1996"], three, "de-CH"),
                (&["de-AT"], three, "de"),
                (&["fr, de;q=0.5, en;q=0.7"], three, "en"),
                (&["en;q=0.7", "de;q=0.7"], three, "en"),
                (&["de;q=0.7, en;q=0.7"], three, "de"),
                (&["fr"], three, "-"),
                (&["fr, *;q=0.1"], three, "en"),
                (&["*, de;q=0.5"], three, "de"),
                (&["*"], three, "en"),
                (&["*, en;q=0"], three, "de"),
                (&["*, en;q=0, de;q=0"], three, "-"),
                (&["*, de;q=0, de-CH;q=0.1, en;q=0"], three, "de-CH"),
                (&["de-AT, de;q=0, en;q=0.1"], three, "en"),
                (&["*;q=0, en"], three, "en"),
                (&["*;q=0"], three, "-"),
                (&["d, deu, e"], three, "-"),
                (&["en"], &["en-US"], "-"),
                (&["-, --, en-"], three, "en"),
                (&["zh-Hant-CN-x-private1-private2"], &["zh", "zh-Hant"], "zh-Hant"),
            ],
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let noise = "a/b,".repeat(ACCEPT_ENTRIES_MAX - 1);
        let offers = ["text/html"];
        let fits = format!("{noise}text/html");
        assert_eq!(media([&*fits].into_iter(), &offers), Some("text/html"));
        let over = format!("a/b,{noise}text/html");
        assert_eq!(media([&*over].into_iter(), &offers), None);
        let commas = ",".repeat(60_000) + "text/html";
        assert_eq!(media([&*commas].into_iter(), &offers), Some("text/html"));
    }
}
