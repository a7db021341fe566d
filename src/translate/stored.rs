//! What in a request stands for content that is not in it: kept at the provider, at an address, or found by the provider's own tools.
//! And how often a provider may read the prompt anew before it answers, which bills each time.

use memchr::memmem;
use serde_json::Value;

use crate::ir::{Block, Content, EmbeddingInput, EmbeddingRequest, Message, Native, Request, Tool, ToolDefinition};

use super::plain::FILE_IN_TEXT;

/// Parts of the names of fields of the request that bring more into a prompt than stands there: content cached at the provider,
/// stored conversations and instructions, searches.
const FETCHING: [&str; 14] = [
    "cached",
    "connector",
    "container",
    "continuation",
    "conversation",
    "knowledge",
    "mcp",
    "memory",
    "plugin",
    "preset",
    "retriev",
    "search",
    "skill",
    "thread",
];

/// Fields of the request that name things, none of which is read for the prompt: whose it is, what it is counted to, what it is
/// compared with.
const HARMLESS: [&str; 5] = ["client_metadata", "diagnostics", "labels", "metadata", "trace"];

/// Parts of the names of such fields of the request that let the provider work on the prompt more than once.
const LOOPING: [&str; 5] = ["mcp", "plugin", "preset", "compact", "context_management"];

/// Nodes that are in the body as a whole, unless a field in them refers to something ([`is_medium`]). Any other node that only
/// its own dialect knows may be no more than a name of what the provider stores.
const INLINE: [&str; 26] = [
    // OpenAI Chat.
    "reasoning_details",
    "thinking",
    // OpenAI Responses.
    "apply_patch_call",
    "apply_patch_call_output",
    "compaction",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_response",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    // Anthropic.
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "fallback",
    "mcp_tool_result",
    "mcp_tool_use",
    "search_result",
    "server_tool_use",
    "text_editor_code_execution_tool_result",
    "tool_reference",
    "tool_search_tool_result",
    "web_search_tool_result",
    // Gemini.
    "codeExecutionResult",
    "executableCode",
    "toolCall",
];

/// How tools of a provider's make are called that the client runs: they end the answer as any function does.
const RUN_BY_CLIENTS: [&str; 9] = [
    "apply_patch",
    "bash_2",
    "computer",
    "custom",
    "function",
    "local_shell",
    "memory_2",
    "str_replace",
    "text_editor",
];

/// Something in it stands for content whose size nobody here knows.
pub(super) fn refers(request: &Request) -> bool {
    request.bound.is_some()
        || request.native.iter().any(fetches)
        || request
            .tools
            .iter()
            .any(|tool| matches!(tool.kind, ToolDefinition::Native(_)))
        || request.all_messages().any(message)
}

/// The same of texts to be turned into vectors: what is no text has a size that only its provider knows.
pub(super) fn refers_to_media(request: &EmbeddingRequest) -> bool {
    let is_native = |input: &EmbeddingInput| matches!(input, EmbeddingInput::Native(_));
    request.inputs.iter().any(is_native)
}

/// A field of the request.
fn fetches(native: &Native) -> bool {
    // `generationConfig.x`: what it stands in says nothing. `metadata.x`: that it is harmless.
    let top = native.at.split('.').next().unwrap_or("");
    if HARMLESS.contains(&top) {
        return false;
    }
    let key = native.key.to_ascii_lowercase();
    FETCHING.iter().any(|word| key.contains(word)) || is_medium(&key) || any_field(&native.json, &is_medium)
}

fn message(message: &Message) -> bool {
    message.native.iter().any(aside) || message.blocks.iter().any(block)
}

fn block(block: &Block) -> bool {
    let stands = match &block.content {
        Content::Text(text) => memmem::find(text.as_bytes(), FILE_IN_TEXT.as_bytes()).is_some(),
        // Without its token it is found by its id.
        Content::Reasoning(_) => block.opaque.is_none() && block.native.iter().any(|native| &*native.key == "id"),
        Content::ToolResult(result) => result.blocks.iter().any(self::block),
        Content::Native(native) => !INLINE.contains(&&*native.key) || any_field(&native.json, &is_medium),
        // Media have bounds of their own.
        Content::Media(_) | Content::Refusal(_) | Content::ToolCall(_) => false,
    };
    stands || block.native.iter().any(aside)
}

/// What stands beside a message or a block. Its own id names it, what was cited is not read again.
fn aside(native: &Native) -> bool {
    match &*native.key {
        "annotations" | "citations" => any_field(&native.json, &is_medium),
        key => is_medium(key) || any_field(&native.json, &is_reference),
    }
}

/// A field of that name holds a file or a medium, or says where it is.
fn is_medium(name: &str) -> bool {
    let name: String = name.chars().filter(|c| *c != '_').collect();
    matches!(
        name.to_ascii_lowercase().as_str(),
        "fileid"
            | "fileids"
            | "fileurl"
            | "fileuri"
            | "filedata"
            | "imageurl"
            | "videourl"
            | "audiourl"
            | "documenturl"
            | "gcsuri"
            | "inlinedata"
            | "inputaudio"
            | "data"
    )
}

/// A field of that name holds a medium, an id or an address.
fn is_reference(name: &str) -> bool {
    let ends = |end: &str| name.ends_with(end);
    let is_id = name == "id" || ends("_id") || ends("_ids") || ends("Id") || ends("Ids");
    let lower = name.to_ascii_lowercase();
    is_id || lower.contains("url") || lower.contains("uri") || is_medium(name)
}

/// Some field in it, at any depth, is so called and is not `null`. JSON that was parsed is at most 128 deep.
fn any_field(json: &Value, named: &dyn Fn(&str) -> bool) -> bool {
    match json {
        Value::Object(map) => map
            .iter()
            .any(|(name, value)| !value.is_null() && (named(name) || any_field(value, named))),
        Value::Array(list) => list.iter().any(|value| any_field(value, named)),
        _ => false,
    }
}

/// How often the provider may read a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// At most so often; 0 is once too.
    Said(u64),
    /// The provider's own tools decide it, and the request does not say it: as often as `limits.tool_turns`, for all that is known.
    Open,
}

impl Default for Turns {
    fn default() -> Self {
        Turns::Said(1)
    }
}

/// After so many rounds Anthropic stops with `pause_turn` ("Handling stop reasons", the default limit of the server-side loop). Others name
/// no number.
const MOST_ROUNDS: u64 = 10;

/// How often the provider may read the prompt for one answer, at most: once, and again after each round of its own tools.
pub(super) fn turns(request: &Request) -> Turns {
    let looping = |native: &Native| {
        let key = native.key.to_ascii_lowercase();
        LOOPING.iter().any(|word| key.contains(word))
    };
    // A stored prompt may have tools.
    let others = request.native.iter().any(looping) || request.bound.as_deref() == Some("prompt");
    let tools: Vec<&Native> = request.tools.iter().filter_map(run_by_provider).collect();
    if tools.is_empty() && !others {
        return Turns::Said(1);
    }
    // Responses: all calls together. It says nothing of connected servers' tools.
    let calls = request.native.iter().find(|native| &*native.key == "max_tool_calls");
    let calls = calls.and_then(|native| native.json.as_u64());
    let connected = tools.iter().any(|tool| &*tool.key == "mcp");
    if let (Some(calls), false, false) = (calls, others, connected) {
        return Turns::Said(calls.saturating_add(1));
    }
    // Anthropic: each tool by itself.
    let uses: Option<u64> = tools
        .iter()
        .map(|tool| tool.json.get("max_uses")?.as_u64())
        .try_fold(0u64, |sum, uses| Some(sum.saturating_add(uses?)));
    match uses {
        Some(uses) if !others => Turns::Said(uses.saturating_add(1).min(MOST_ROUNDS)),
        _ => Turns::Open,
    }
}

fn run_by_provider(tool: &Tool) -> Option<&Native> {
    match &tool.kind {
        ToolDefinition::Native(native) => {
            let by_client = RUN_BY_CLIENTS.iter().any(|name| native.key.starts_with(name));
            (!by_client).then_some(native)
        }
        ToolDefinition::Function { .. } | ToolDefinition::Custom { .. } => None,
    }
}
