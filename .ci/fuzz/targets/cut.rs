//! How an input is cut into chunks: its first bytes say it.

/// The sizes of the chunks (repeated), and the stream itself.
pub fn cuts(input: &[u8]) -> ([usize; 2], &[u8]) {
    match input {
        [a, b, stream @ ..] => ([usize::from(*a) + 1, usize::from(*b % 7) + 1], stream),
        _ => ([1, 1], &[]),
    }
}

/// The stream in chunks of those sizes, in turn.
pub fn pieces(stream: &[u8], cuts: [usize; 2]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut turn) = (stream, 0);
    std::iter::from_fn(move || {
        let (piece, more) = rest.split_at(cuts[turn % 2].min(rest.len()));
        (rest, turn) = (more, turn + 1);
        (!piece.is_empty()).then_some(piece)
    })
}
