//! Provider-bound tokens of reasoning. The wire has two kinds of block for them: `thinking` with a `signature`, whose
//! text may be withheld (`display: "omitted"`, the default of newer models), and `redacted_thinking` with `data`. The hub
//! has one: reasoning, whose text may be empty. So that a block without text goes back as it came, the token of a
//! `thinking` block without text is marked.

use serde_json::{Value, json};

/// Stands before the signature of a `thinking` block whose text was withheld. Signatures are of base64's standard
/// alphabet and have no underscore; the mark is of those characters which every dialect's home for tokens takes.
pub(super) const UNSEEN: &str = "thinking_unseen_";

/// Why the token of another block is lost. It could stand in a reasoning block after it, but clients take the last block
/// for the answer (Claude Code shows nothing if that is reasoning).
pub(super) const ONLY_REASONING: &str = "only reasoning has a token there";

/// The block for reasoning with its token; `None`: there is neither text nor token, and so nothing to say.
pub(super) fn block(text: &str, token: &str) -> Option<Value> {
    let signature = token.strip_prefix(UNSEEN);
    match (text, token, signature) {
        ("", "", _) => None,
        ("", data, None) => Some(json!({"type": "redacted_thinking", "data": data})),
        (text, _, Some(signature)) | (text, signature, None) => {
            Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
        }
    }
}
