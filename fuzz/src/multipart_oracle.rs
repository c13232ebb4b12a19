//! The target `multipart`.

use crate::multipart::{Multipart, MultipartLimits, Step, boundary};
use crate::naive_multipart::{self, NaivePart};
use crate::pieces::Pieces;

/// The first byte chooses bounds, the second the sizes of the pieces. The rest is a content type,
/// a line feed, and the body.
pub fn multipart(data: &[u8]) {
    let [bounds, seed, bytes @ ..] = data else { return };
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(content_type) = std::str::from_utf8(&bytes[..end]) else { return };
    let body = &bytes[end + 1..];
    let boundary = match boundary(content_type) {
        Ok(boundary) => boundary,
        Err(refusal) => return assert!(matches!(refusal.status, 400 | 415)),
    };
    assert!((1..=70).contains(&boundary.len()));
    let choice = |shift: u8| usize::from(bounds >> shift & 3);
    let limits = MultipartLimits {
        head_bytes_max: [2, 50, 100, 8192][choice(0)],
        name_bytes_max: [0, 1, 8, 1024][choice(2)],
        parts_max: [0, 1, 3, 1000][choice(4)],
    };

    let whole = feed(boundary, limits, std::iter::once(body));
    assert_eq!(feed(boundary, limits, Pieces::new(body, *seed)), whole);
    assert_eq!(feed(boundary, limits, body.chunks(1)), whole);

    let mut parts = Vec::new();
    let end = naive_multipart::decode(body, boundary, &limits, &mut parts);
    assert_eq!(whole.0, parts);
    assert_eq!(whole.1.map_err(|(status, _)| status), end);
}

/// The parts, and status and reason of what ended the body.
type Fed = (Vec<NaivePart>, Result<(), (u16, &'static str)>);

fn feed<'a>(
    boundary: &str,
    limits: MultipartLimits,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Fed {
    let mut decoder = Multipart::new(boundary, limits);
    let mut parts: Vec<NaivePart> = Vec::new();
    for mut input in pieces {
        loop {
            let step = match decoder.decode(input) {
                Ok(step) => step,
                Err(refusal) => {
                    assert_eq!(decoder.decode(input), Err(refusal));
                    assert_eq!(decoder.finish(), Err(refusal));
                    return (parts, Err((refusal.status, refusal.reason)));
                }
            };
            let (data, taken) = match step {
                Step::More => break,
                Step::Part { taken } => {
                    assert!(parts.last().is_none_or(|part| part.is_over));
                    parts.push(NaivePart {
                        name: decoder.head().name.clone(),
                        file_name: decoder.head().file_name.clone(),
                        content_type: decoder.head().content_type.clone(),
                        ..NaivePart::default()
                    });
                    (&[][..], taken)
                }
                Step::Data { start, end } => {
                    assert!(start < end);
                    (&input[start..end], end)
                }
                Step::Held { start, end } => {
                    assert!(start < end && end < boundary.len() + 4);
                    (&decoder.delimiter()[start..end], 0)
                }
                Step::PartEnd { taken } => {
                    parts.last_mut().expect("a part").is_over = true;
                    (&[][..], taken)
                }
            };
            if !data.is_empty() {
                let part = parts.last_mut().expect("a part");
                assert!(!part.is_over);
                part.data.extend_from_slice(data);
            }
            input = &input[taken..];
        }
    }
    let end = decoder.finish();
    assert_eq!(decoder.finish(), end);
    (parts, end.map_err(|refusal| (refusal.status, refusal.reason)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/multipart")).unwrap()
        {
            super::multipart(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
