//! How many tokens a request may have, where no provider counts them. An estimate, and told as one.

use crate::ir::{Content, EmbeddingInput, EmbeddingRequest, Media, MediaSource, Request, ToolDefinition};

/// Characters of ASCII text per token: the rule of thumb of OpenAI's tokenizer guide ("one token generally corresponds to
/// ~4 characters of text for common English text").
const ASCII_PER_TOKEN: u64 = 4;
/// Tokens per other character, in tenths: CJK text takes about 0.6 to 1 token a character (DeepSeek's guide says 0.6).
const OTHER_TENTHS: u64 = 8;
/// Tokens around each message (OpenAI's cookbook on counting tokens: 3, and 1 for a name).
const PER_MESSAGE: u64 = 4;
/// Tokens around each tool (ours).
const PER_TOOL: u64 = 8;
/// Tokens of a picture whose size we don't know: what Anthropic's guide gives for about one megapixel.
const PER_PICTURE: u64 = 1334;
/// Bytes of base64 of other media per token (ours).
const MEDIA_BYTES_PER_TOKEN: u64 = 16;

#[derive(Default)]
struct Characters {
    ascii: u64,
    other: u64,
}

impl Characters {
    fn add(&mut self, text: &str) {
        let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
        self.other += other;
        self.ascii += text.chars().count() as u64 - other;
    }

    fn tokens(&self) -> u64 {
        self.ascii.div_ceil(ASCII_PER_TOKEN) + (self.other * OTHER_TENTHS).div_ceil(10)
    }
}

/// An estimate of the prompt's tokens.
pub fn prompt_tokens(request: &Request) -> u64 {
    let mut text = Characters::default();
    let mut extra = 0;
    for message in request.all_messages() {
        extra += PER_MESSAGE;
        for block in &message.blocks {
            content(&block.content, &mut text, &mut extra);
        }
    }
    for tool in &request.tools {
        extra += PER_TOOL;
        match &tool.kind {
            ToolDefinition::Function {
                name,
                description,
                parameters,
                ..
            } => {
                text.add(name);
                text.add(description.as_deref().unwrap_or(""));
                parameters.iter().for_each(|schema| text.add(&schema.to_string()));
            }
            ToolDefinition::Custom {
                name,
                description,
                format,
                ..
            } => {
                text.add(name);
                text.add(description.as_deref().unwrap_or(""));
                format.iter().for_each(|format| text.add(&format.to_string()));
            }
            ToolDefinition::Native(native) => text.add(&native.json.to_string()),
        }
    }
    text.tokens() + extra
}

/// An estimate of the tokens of texts to be turned into vectors.
pub fn embedding_tokens(request: &EmbeddingRequest) -> u64 {
    let (mut text, mut extra) = (Characters::default(), 0);
    for input in &request.inputs {
        match input {
            EmbeddingInput::Text(t) => text.add(t),
            EmbeddingInput::Tokens(tokens) => extra += tokens.len() as u64,
            EmbeddingInput::Native(native) => text.add(&native.json.to_string()),
        }
    }
    text.tokens() + extra
}

fn content(content_of: &Content, text: &mut Characters, extra: &mut u64) {
    match content_of {
        Content::Text(t) | Content::Reasoning(t) | Content::Refusal(t) => text.add(t),
        Content::ToolCall(call) => {
            text.add(&call.name);
            text.add(&call.arguments);
        }
        Content::ToolResult(result) => {
            for block in &result.blocks {
                content(&block.content, text, extra);
            }
        }
        Content::Media(Media { source, kind, .. }) => match source {
            MediaSource::Text(t) => text.add(t),
            _ if *kind == crate::ir::MediaKind::Image => *extra += PER_PICTURE,
            MediaSource::Inline(data) => *extra += (data.len() as u64).div_ceil(MEDIA_BYTES_PER_TOKEN),
            MediaSource::Url(_) | MediaSource::File(_) => *extra += PER_PICTURE,
        },
        Content::Native(native) => text.add(&native.json.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Block, Message, Role};

    #[test]
    fn english_and_chinese_are_near_what_tokenizers_say() {
        let of = |text: &str| {
            prompt_tokens(&Request {
                messages: vec![Message {
                    blocks: vec![Block::text(text, "")],
                    ..Message::new(Role::User, "")
                }],
                ..Request::default()
            })
        };
        // 11 and 9 tokens by OpenAI's o200k tokenizer, and the message's own.
        assert!((12..=18).contains(&of("The quick brown fox jumps over the lazy dog again.")));
        assert!((9..=20).contains(&of("今天天气很好,我们去公园吧")));
    }
}
