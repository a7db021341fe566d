//! Requests: read in every form the API takes, and home again.

use serde_json::{Value, json};

use super::*;
use crate::ir::{
    Content, Effort, EmbeddingInput, EmbeddingRequest, LossReport, MediaKind, MediaSource, Opaque, Request, Role,
    ToolChoice, ToolDefinition,
};

pub(super) fn target(method: &str) -> Target {
    let path = format!("/v1beta/models/gemini-x:{method}");
    let headers = http::HeaderMap::new();
    let line = Line {
        method: &Method::POST,
        path: &path,
        query: "",
        headers: &headers,
    };
    Gemini.target(line).expect("ours")
}

pub(super) fn read(body: &Value) -> Request {
    Gemini
        .decode_request(&target("generateContent"), body.to_string().as_bytes())
        .expect("a request")
}

pub(super) fn write(request: &Request, model: &str) -> (Value, LossReport) {
    let mut loss = LossReport::default();
    let to = Upstream {
        model,
        stream: false,
        ask_usage: false,
    };
    let body = Gemini.encode_request(request, &to, &mut loss).expect("written");
    (serde_json::from_slice(&body).expect("JSON"), loss)
}

pub(super) fn paths(loss: &LossReport) -> Vec<&str> {
    loss.losses().iter().map(|loss| loss.path.as_ref()).collect()
}

#[test]
fn both_spellings_and_all_short_forms_are_read() {
    let request = read(&json!({
        "system_instruction": "Be brief.",
        "contents": {"parts": {"text": "Hi"}},
        "tools": {"function_declarations": [{"name": "f"}], "google_search": {}},
        "toolConfig": {"function_calling_config": {"mode": "any", "allowedFunctionNames": ["f"]}},
        "generation_config": {"top_k": 40.0, "maxOutputTokens": "12", "stop_sequences": ["."], "thinking_config": {"thinkingLevel": "low"}},
        "safety_settings": [], "serviceTier": "FLEX", "somethingNew": 1,
    }));
    assert_eq!(request.system[0].text(), "Be brief.");
    assert_eq!(
        (request.messages[0].role, request.messages[0].text().as_str()),
        (Role::User, "Hi")
    );
    assert_eq!(&*request.messages[0].blocks[0].at, "contents[0].parts[0]");
    assert_eq!(&*request.tools[0].at, "tools[0].function_declarations[0]");
    assert!(matches!(&request.tools[1].kind, ToolDefinition::Native(native) if &*native.key == "googleSearch"));
    assert_eq!(request.tool_choice.expect("said").value, ToolChoice::Tool("f".into()));
    assert_eq!(request.sampling.top_k.expect("said").value, 40);
    assert_eq!(request.sampling.max_tokens.expect("said").value, 12);
    assert_eq!(
        request.sampling.stop.expect("said").at,
        "generationConfig.stopSequences"
    );
    assert_eq!(request.reasoning.effort.expect("said").value, Effort::Low);
    assert_eq!(request.service_tier.expect("said").value, "flex");
    let natives: Vec<(&str, &str)> = request.native.iter().map(|n| (&*n.key, &*n.at)).collect();
    assert_eq!(
        natives,
        [("safetySettings", "safety_settings"), ("somethingNew", "somethingNew")]
    );
}

#[test]
fn parts_become_what_they_are() {
    let request = read(&json!({"contents": [
        {"role": "model", "parts": [
            {"text": "hm", "thought": true},
            {"text": "", "thoughtSignature": "dG9r"},
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thought_signature": "c2ln"},
            {"executableCode": {"code": "1", "language": "PYTHON"}},
        ]},
        {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"error": "no"}}}]},
        {"parts": [
            {"inline_data": {"mime_type": "image/png", "data": "_-8"}, "mediaResolution": {"level": "HIGH"}},
            {"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}},
            {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}, "videoMetadata": {"fps": 1}},
        ]},
    ]}));
    let blocks: Vec<&Content> = request
        .messages
        .iter()
        .flat_map(|m| &m.blocks)
        .map(|b| &b.content)
        .collect();
    assert_eq!(*blocks[0], Content::Reasoning("hm".into()));
    assert_eq!(request.messages[0].blocks[1].opaque, Some(Opaque("dG9r".into())));
    assert!(matches!(blocks[2], Content::ToolCall(call) if call.arguments == "{\"a\":1}"));
    assert_eq!(request.messages[0].blocks[2].opaque, Some(Opaque("c2ln".into())));
    assert!(matches!(blocks[3], Content::Native(native) if &*native.key == "executableCode"));
    assert!(
        matches!(blocks[4], Content::ToolResult(r) if r.is_error == Some(true) && r.blocks[0].as_text() == Some("no"))
    );
    let media = |at: usize| match blocks[at] {
        Content::Media(media) => (media.kind, media.source.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(media(5), (MediaKind::Image, MediaSource::Inline("/+8=".into())));
    assert_eq!(
        media(6),
        (MediaKind::Document, MediaSource::File("gs://b/a.pdf".into()))
    );
    assert_eq!(media(7).0, MediaKind::Video);
    assert!(matches!(media(7).1, MediaSource::Url(_)));
    // And home.
    let (body, loss) = write(&request, "gemini-2.5-pro");
    assert_eq!(paths(&loss), [""; 0]);
    assert_eq!(
        body["contents"][0]["parts"][1],
        json!({"text": "", "thoughtSignature": "dG9r"})
    );
    assert_eq!(
        body["contents"][1]["parts"][0],
        json!({"functionResponse": {"name": "f", "response": {"error": "no"}}})
    );
    assert_eq!(
        body["contents"][1]["parts"][1]["mediaResolution"],
        json!({"level": "HIGH"})
    );
    assert_eq!(
        body["contents"].as_array().map(Vec::len),
        Some(2),
        "neighbours of one role are one content"
    );
}

#[test]
fn wrong_types_are_named_by_their_path() {
    for (body, path) in [
        (json!({"contents": 1}), "contents"),
        (json!({"contents": [{"role": "narrator"}]}), "contents[0].role"),
        (
            json!({"contents": [{"parts": [{"text": 1}]}]}),
            "contents[0].parts[0].text",
        ),
        (json!({"generation_config": {"topK": -1}}), "generation_config.topK"),
        (
            json!({"tools": [{"functionDeclarations": [{"name": 1}]}]}),
            "tools[0].functionDeclarations[0].name",
        ),
    ] {
        let read = Gemini.decode_request(&target("generateContent"), body.to_string().as_bytes());
        assert_eq!(read.map_err(|error| error.path), Err(path.to_owned()));
    }
}

#[test]
fn openapi_schemas_become_json_schema() {
    let google = json!({
        "type": "OBJECT", "propertyOrdering": ["a"], "required": ["a"], "minProperties": "1",
        "properties": {
            "a": {"type": "STRING", "nullable": true, "enum": ["x"], "format": "enum"},
            "type": {"type": "ARRAY", "items": {"type": "INTEGER", "maximum": 9}, "max_items": "3"},
            "b": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": true, "example": 1},
        },
    });
    let want = json!({
        "type": "object", "propertyOrdering": ["a"], "required": ["a"], "minProperties": 1,
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", null], "format": "enum"},
            "type": {"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 3},
            "b": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}], "examples": [1]},
        },
    });
    assert_eq!(schema::to_json_schema(google), want);
    // JSON Schema where a `Schema` should be stays what it was.
    let plain = json!({"type": ["string", "null"], "const": "a", "$defs": {"d_e": {"type": "null"}}, "allOf": [true]});
    assert_eq!(schema::to_json_schema(plain.clone()), plain);
}

#[test]
fn counts_are_asked_of_whole_requests() {
    for body in [
        json!({"contents": [{"parts": [{"text": "a"}]}]}),
        json!({"generateContentRequest": {"model": "models/x", "contents": [{"parts": [{"text": "a"}]}], "systemInstruction": "s"}}),
    ] {
        let request = Gemini
            .decode_request(&target("countTokens"), body.to_string().as_bytes())
            .expect("a request");
        assert_eq!(request.messages[0].text(), "a");
        let to = Upstream {
            model: "gemini-y",
            stream: false,
            ask_usage: false,
        };
        let written = Gemini.encode_count_request(&request, &to, &mut LossReport::default());
        let written: Value = serde_json::from_slice(&written.expect("known").expect("written")).expect("JSON");
        assert_eq!(written["generateContentRequest"]["model"], "models/gemini-y");
        assert_eq!(
            written["generateContentRequest"]["contents"][0]["parts"][0]["text"],
            "a"
        );
    }
    assert_eq!(Gemini.encode_count(7), Some(b"{\"totalTokens\":7}".to_vec()));
    assert_eq!(
        Gemini.decode_count(b"{\"totalTokens\":7}").and_then(Result::ok),
        Some(7)
    );
    assert!(Gemini.decode_count(b"{}").is_some_and(|read| read.is_err()));
}

#[test]
fn vectors_are_asked_for_in_batches() {
    let single = json!({"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "task_type": "RETRIEVAL_QUERY", "outputDimensionality": 3, "x": 1});
    let request = Gemini.decode_embeddings(&target("embedContent"), single.to_string().as_bytes());
    let request = request.expect("known").expect("read");
    assert!(request.single);
    assert_eq!(request.inputs, [EmbeddingInput::Text("ab".into())]);
    let to = Upstream {
        model: "e",
        stream: false,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    let written = |request: &EmbeddingRequest, loss: &mut LossReport| -> Value {
        let body = Gemini
            .encode_embeddings(request, &to, loss)
            .expect("known")
            .expect("written");
        serde_json::from_slice(&body).expect("JSON")
    };
    let want = json!({"requests": [{
        "model": "models/e", "content": {"parts": [{"text": "ab"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3, "x": 1,
    }]});
    assert_eq!(written(&request, &mut loss), want);
    let batch = json!({"requests": [
        {"content": {"parts": [{"text": "a"}]}, "taskType": "A"},
        {"content": {"parts": [{"text": "b"}]}, "taskType": "B"},
    ]});
    let request = Gemini.decode_embeddings(&target("batchEmbedContents"), batch.to_string().as_bytes());
    let request = request.expect("known").expect("read");
    assert!(!request.single);
    let home = written(&request, &mut loss);
    assert_eq!(
        (&home["requests"][0]["taskType"], &home["requests"][1]["taskType"]),
        (&json!("A"), &json!("B"))
    );
    let tokens = EmbeddingRequest {
        inputs: vec![EmbeddingInput::Tokens(vec![1])],
        ..EmbeddingRequest::default()
    };
    assert!(
        Gemini
            .encode_embeddings(&tokens, &to, &mut loss)
            .is_some_and(|written| written.is_err())
    );
}

/// Numbers each leaf of a body that is a text of the client's own.
fn mark(value: &mut Value, marks: &mut Vec<String>) {
    match value {
        Value::String(text) if text == "?" => {
            *text = format!("mark{}", marks.len());
            marks.push(text.clone());
        }
        Value::Array(list) => list.iter_mut().for_each(|value| mark(value, marks)),
        Value::Object(map) => map.values_mut().for_each(|value| mark(value, marks)),
        _ => {}
    }
}

#[test]
fn nothing_a_client_says_is_lost_on_the_way_home() {
    let mut body = json!({
        "cachedContent": "?", "labels": {"a": "?"}, "new_field": {"b_c": ["?"]},
        "safetySettings": [{"category": "?", "threshold": "?"}],
        "systemInstruction": {"parts": [{"text": "?", "newOfPart": "?"}], "newOfContent": "?"},
        "contents": [
            {"role": "user", "new_of_content": "?", "parts": [
                {"text": "?", "partMetadata": {"x": "?"}},
                {"inlineData": {"mimeType": "?", "data": "aaaa", "displayName": "?", "new": "?"}, "videoMetadata": {"startOffset": "?"}},
                {"fileData": {"mimeType": "?", "fileUri": "gs://?", "new": "?"}},
                {"audioTranscription": {"text": "?"}},
            ]},
            {"role": "model", "parts": [
                {"text": "?", "thought": true, "thoughtSignature": "?"},
                {"functionCall": {"name": "?", "args": {"x": "?"}, "id": "?", "new": "?"}, "thoughtSignature": "?"},
                {"toolCall": {"args": {"x": "?"}, "toolType": "?"}, "thought_signature": "?"},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "?", "id": "?", "response": {"x": "?"}, "scheduling": "?",
                    "parts": [{"inlineData": {"mimeType": "?", "data": "aaaa"}}]}, "newOfPart": "?"},
            ]},
        ],
        "tools": [
            {"functionDeclarations": [
                {"name": "?", "description": "?", "behavior": "?", "response": {"description": "?"},
                    "parameters": {"type": "OBJECT", "description": "?", "properties": {"x": {"type": "STRING", "enum": ["?"], "new": "?"}}}},
                {"name": "?", "parametersJsonSchema": {"description": "?"}, "parameters": {"description": "?"}, "responseJsonSchema": {"x": "?"}},
            ], "googleMaps": {"new": "?"}},
            {"googleSearch": {"new": "?"}},
        ],
        "toolConfig": {"retrievalConfig": {"languageCode": "?"}, "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["?", "?"], "new": "?"}},
        "generationConfig": {
            "stopSequences": ["?"], "responseMimeType": "?", "responseSchema": {"description": "?"}, "speechConfig": {"languageCode": "?"},
            "thinkingConfig": {"thinkingLevel": "?", "new": "?"}, "mediaResolution": "?", "new": "?",
        },
    });
    let mut marks = Vec::new();
    mark(&mut body, &mut marks);
    let mut request = read(&body);
    request.link_tools();
    let (home, loss) = write(&request, "gemini-2.5-pro");
    let home = home.to_string();
    let lost: Vec<_> = marks
        .iter()
        .filter(|mark| !home.contains(&format!("{mark}\"")))
        .collect();
    assert_eq!((lost, paths(&loss)), (Vec::new(), Vec::new()));
}
