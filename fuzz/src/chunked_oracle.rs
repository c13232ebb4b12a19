//! The target `chunked`.

use crate::chunked::{ChunkLimits, Chunked, Step};
use crate::naive_chunked::{self, NaiveBody};
use crate::pieces::Pieces;
use crate::reader::Stop;

/// The first byte chooses bounds, the second the sizes of the pieces.
pub fn chunked(data: &[u8]) {
    let [bounds, seed, bytes @ ..] = data else { return };
    let choice = |shift: u8| usize::from(bounds >> shift & 3);
    let limits = ChunkLimits {
        line_bytes_max: [3, 12, 40, 1024][choice(0)],
        trailer_bytes_max: [2, 16, 60, 8192][choice(2)],
        trailers_max: [0, 1, 3, 32][choice(4)],
    };

    let mut naive_body = NaiveBody::default();
    let naive = naive_chunked::decode(bytes, &limits, &mut naive_body);

    let mut decoder = Chunked::new(limits);
    let whole = feed(&mut decoder, std::iter::once(bytes));
    assert_eq!(whole.0, naive_body.payload);
    assert_eq!(whole.1, naive);
    if naive.is_ok() {
        let trailers: Vec<_> = decoder.trailers().map(|(n, v)| (n.into(), v.into())).collect();
        assert_eq!(trailers, naive_body.trailers);
        for (name, _) in &trailers {
            let first = trailers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            assert_eq!(decoder.trailer(name), first.map(|(_, value)| value.as_str()));
        }
    }

    // The same decoder again: after a reset nothing of the last body is left.
    let trailers: Vec<(String, String)> =
        decoder.trailers().map(|(n, v)| (n.into(), v.into())).collect();
    decoder.reset();
    let pieces = Pieces::new(bytes, *seed);
    assert_eq!(feed(&mut decoder, pieces), whole);
    assert!(decoder.trailers().eq(trailers.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
}

/// The payload, and how many bytes the body has or why it has no end.
fn feed<'a>(
    decoder: &mut Chunked,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<usize, Stop>) {
    let mut payload = Vec::new();
    let mut total = 0;
    for mut input in pieces {
        loop {
            match decoder.decode(input) {
                Ok(Step::More { taken }) => {
                    assert_eq!(taken, input.len());
                    total += taken;
                    break;
                }
                Ok(Step::Data { start, end }) => {
                    assert!(start < end);
                    payload.extend_from_slice(&input[start..end]);
                    total += end;
                    input = &input[end..];
                }
                Ok(Step::End { taken }) => {
                    assert_eq!(decoder.decode(&input[taken..]), Ok(Step::End { taken: 0 }));
                    return (payload, Ok(total + taken));
                }
                Err(refusal) => {
                    assert_eq!(decoder.decode(input), Err(refusal));
                    return (payload, Err(Stop::Refused(refusal.status)));
                }
            }
        }
    }
    (payload, Err(Stop::Partial))
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/chunked")).unwrap()
        {
            super::chunked(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
