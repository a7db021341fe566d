//! Both framings: blocks do not depend on how the stream is cut, and every byte belongs to one block or to the rest.
#![no_main]

mod cut;

use libfuzzer_sys::fuzz_target;
use tollgate::sse::{Content, Framing, Splitter};

/// Larger than any input: nothing is oversized.
const MAX_KEPT: usize = 1 << 20;

type Blocks = Vec<(Option<(Option<String>, Vec<u8>)>, usize)>;

fn blocks<'a>(framing: Framing, chunks: impl Iterator<Item = &'a [u8]>) -> (Blocks, usize) {
    let mut splitter = Splitter::new(framing, MAX_KEPT);
    let mut all = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, |block| {
            let frame = match block.content {
                Content::Frame(frame) => Some((frame.event.map(str::to_owned), frame.data.to_vec())),
                Content::Nothing => None,
                Content::Oversized => panic!("nothing is larger than what is kept"),
            };
            all.push((frame, block.carried.len() + block.end - block.start));
        });
    }
    let rest = splitter.rest().len();
    (all, rest)
}

fuzz_target!(|input: &[u8]| {
    let (cuts, stream) = cut::cuts(input);
    for framing in [Framing::Sse, Framing::JsonArray] {
        let (whole, rest) = blocks(framing, std::iter::once(stream));
        let bytes: usize = whole.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(
            bytes + rest,
            stream.len(),
            "each byte belongs to one block or to the rest"
        );
        let frames = |(blocks, rest): (Blocks, usize)| {
            let bytes: usize = blocks.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(bytes + rest, stream.len(), "also when it is cut");
            blocks.into_iter().filter_map(|(frame, _)| frame).collect::<Vec<_>>()
        };
        let cut = frames(blocks(framing, cut::pieces(stream, cuts)));
        assert_eq!(
            frames((whole, rest)),
            cut,
            "frames do not depend on how the stream is cut"
        );
    }
});
