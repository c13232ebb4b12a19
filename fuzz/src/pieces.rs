//! An input in pieces.

/// Pieces of 1 to 16 bytes, by chance.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    state: u32,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], seed: u8) -> Pieces<'a> {
        Pieces { rest: bytes, state: u32::from(seed) }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = 1 + (self.state >> 28) as usize;
        let (piece, rest) = self.rest.split_at(size.min(self.rest.len()));
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}
