//! Instructions of rules: they join the leading system and developer messages.

use std::ops::Range;

use crate::dialects::Splice;
use crate::dialects::instructions::{BETWEEN, Texts, splice};
use crate::dialects::spans::{elements, members, text_of, value_of};

/// The text before goes into the first of the leading system messages, the one after into the last. Without one they become a
/// system message before all others.
pub(super) fn add(body: &[u8], before: Option<&str>, after: Option<&str>) -> Vec<Splice> {
    let (Some(texts), Some(messages)) = (Texts::new(before, after), value_of(body, 0, "messages")) else {
        return Vec::new();
    };
    if body[messages.start] != b'[' {
        return Vec::new();
    }
    let mut leading = elements(body, messages.start).map_while(|message| content(body, &message));
    let Some(first) = leading.next() else {
        let message = format!(r#"{{"role":"system","content":{}}}"#, texts.json());
        let some = elements(body, messages.start).next().is_some();
        let inside = messages.start + 1;
        return vec![splice(inside..inside, if some { message + "," } else { message })];
    };
    let Some(last) = leading.last() else {
        return join(body, &first, texts);
    };
    let [before, after] = texts.apart();
    let both = before
        .map(|texts| (first, texts))
        .into_iter()
        .chain(after.map(|texts| (last, texts)));
    both.flat_map(|(content, texts)| join(body, &content, texts)).collect()
}

/// The content of a system or developer message that can be added to; `None`: it is another message.
fn content(body: &[u8], message: &Range<usize>) -> Option<Range<usize>> {
    let (mut role, mut content) = (None, None);
    for member in members(body, message.start) {
        match &*member.name {
            "role" => role = Some(member.value),
            "content" => content = Some(member.value),
            _ => {}
        }
    }
    let role = text_of(body, &role?)?;
    let content = content?;
    let known = matches!(body[content.start], b'"' | b'[' | b'n');
    (matches!(&*role, "system" | "developer") && known).then_some(content)
}

fn join(body: &[u8], content: &Range<usize>, texts: Texts<'_>) -> Vec<Splice> {
    match body[content.start] {
        b'"' => texts.join(content),
        b'[' => texts.around(body, content, BETWEEN, |text| {
            format!(r#"{{"type":"text","text":{text}}}"#)
        }),
        // `null`.
        _ => vec![splice(content.clone(), texts.json())],
    }
}
