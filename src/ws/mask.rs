//! Masking (RFC 6455 section 5.3): eight bytes at a time, which the compiler makes wider.

/// Masks or unmasks in place; `phase` bytes of the payload went before.
#[inline]
pub(crate) fn apply(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    let at = |offset: usize| key[(phase + offset) % 4];
    let turned = [at(0), at(1), at(2), at(3)];
    let mut wide = [0; 8];
    wide[..4].copy_from_slice(&turned);
    wide[4..].copy_from_slice(&turned);
    let wide = u64::from_ne_bytes(wide);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("eight bytes")) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (offset, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= turned[offset % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_phase_is_as_byte_by_byte() {
        let key = [0x12, 0x34, 0x56, 0x78];
        for len in 0..70 {
            for phase in 0..9 {
                let plain: Vec<u8> = (0..len).map(|it| (it as u8).wrapping_mul(7)).collect();
                let mut masked = plain.clone();
                apply(&mut masked, key, phase);
                let slow: Vec<u8> =
                    plain.iter().enumerate().map(|(at, it)| it ^ key[(phase + at) % 4]).collect();
                assert_eq!(masked, slow, "{len} {phase}");
            }
        }
    }
}
