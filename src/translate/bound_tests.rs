use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::dialects::{Line, by_name, find};
use crate::translate::request;

fn read(path: &str, body: &serde_json::Value) -> (Option<Prompt>, Prompt) {
    let headers = HeaderMap::new();
    let target = find(Line {
        method: &Method::POST,
        path,
        query: "",
        headers: &headers,
    })
    .unwrap();
    let text = body.to_string();
    let decoded = request::decode(&target, text.as_bytes()).unwrap();
    (by_bytes(text.as_bytes()), of(&decoded, text.len()))
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn plain_text_is_bounded_by_its_bytes() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "How are you, my dear model?"}]});
    let (quick, slow) = read(CHAT, &body);
    let quick = quick.unwrap();
    assert_eq!(quick.most, body.to_string().len() as u64);
    assert!(!slow.open && slow.most == quick.most && slow.expected < slow.most);
    let long = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(BY_BYTES)}]});
    assert_eq!(by_bytes(long.to_string().as_bytes()), None);
}

#[test]
fn what_stands_for_more_than_its_bytes_is_read() {
    let user = |parts| json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
    let picture = |url: &str| user(json!([{"type": "image_url", "image_url": {"url": url}}]));
    for url in ["https://a.example/x.png", "data:image/png;base64,iVBORw0KGgo="] {
        let (quick, slow) = read(CHAT, &picture(url));
        assert_eq!(quick, None, "{url}");
        assert!(
            slow.most >= 50_000 && slow.most < 51_000 && !slow.open,
            "{url}: {slow:?}"
        );
    }
    let inline = "A".repeat(400_000);
    let (_, slow) = read(CHAT, &picture(&format!("data:image/png;base64,{inline}")));
    assert!(slow.most < 51_000, "base64 is no text: {slow:?}");
    let file = user(json!([{"type": "file", "file": {"file_id": "file-1"}}]));
    let (quick, slow) = read(CHAT, &file);
    assert!(quick.is_none() && slow.open);
    let stored = json!({"model": "m", "input": "Hi", "previous_response_id": "resp_1"});
    let (quick, slow) = read("/v1/responses", &stored);
    assert!(quick.is_none() && slow.open);
    let search = json!({"model": "m", "input": "Hi", "tools": [{"type": "web_search"}]});
    let (quick, slow) = read("/v1/responses", &search);
    assert!(quick.is_none() && slow.open);
    let cached = json!({"contents": [{"parts": [{"text": "Hi"}]}], "cachedContent": "cachedContents/1"});
    let (quick, slow) = read("/v1beta/models/m:generateContent", &cached);
    assert!(quick.is_none() && slow.open);
}

#[test]
fn names_hidden_by_escapes_are_read_too() {
    for body in [
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"\u0069mage_url","\u0069mage_url":{"url":"https:\/\/x"}}]}]}"#,
        r#"{"model":"m","previous_response\u005fid":"r","input":"Hi"}"#,
    ] {
        assert_eq!(by_bytes(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn stored_content_without_a_mark_is_open() {
    const MESSAGES: &str = "/v1/messages";
    const RESPONSES: &str = "/v1/responses";
    const GEMINI: &str = "/v1beta/models/m:generateContent";
    let input = |item| json!({"model":"m","input":[item, {"role":"user","content":"Hi"}]});
    let chat = |message| json!({"model":"m","messages":[message, {"role":"user","content":"Hi"}]});
    let block = |block| json!({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[block]}]});
    let message = |field: &str, value| json!({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],field:value});
    let part = |part| json!({"contents":[{"parts":[part, {"text":"Hi"}]}]});
    let mut wrong = Vec::new();
    for (path, body) in [
        (RESPONSES, json!({"model":"m","input":"Hi","conversation":"conv_1"})),
        (
            RESPONSES,
            json!({"model":"m","input":"Hi","conversation":{"id":"conv_1"}}),
        ),
        (RESPONSES, json!({"model":"m","input":"Hi","prompt":{"id":"pmpt_1"}})),
        (
            RESPONSES,
            json!({"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}),
        ),
        (RESPONSES, json!({"model":"m","input":[{"id":"msg_1"}]})),
        (RESPONSES, input(json!({"type":"reasoning","id":"rs_1","summary":[]}))),
        (RESPONSES, input(json!({"type":"image_generation_call","id":"ig_1"}))),
        (
            RESPONSES,
            input(json!({"type":"file_search_call","id":"fs_1","queries":["x"],"status":"completed"})),
        ),
        (
            RESPONSES,
            input(json!({"type":"code_interpreter_call","id":"ci_1","container_id":"c"})),
        ),
        (
            RESPONSES,
            input(
                json!({"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":"https://a.example/x.png"}}),
            ),
        ),
        (
            RESPONSES,
            input(
                json!({"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","file_id":"f"}}),
            ),
        ),
        (
            RESPONSES,
            input(json!({"role":"user","content":[{"type":"input_file","file_id":"f"}]})),
        ),
        (
            RESPONSES,
            input(json!({"role":"user","content":[{"type":"input_file","file_url":"https://a.example/x.pdf"}]})),
        ),
        (
            RESPONSES,
            json!({"model":"m","input":"Hi","tools":[{"type":"file_search","vector_store_ids":["v"]}]}),
        ),
        (CHAT, chat(json!({"role":"assistant","audio":{"id":"audio_1"}}))),
        (CHAT, chat(json!({"role":"system","content":"fileid://file-fe-1"}))),
        (
            CHAT,
            chat(json!({"role":"user","content":[{"type":"text","text":"See fileid://file-fe-1"}]})),
        ),
        (CHAT, json!({"model":"m","messages":[],"preset":"mine"})),
        (CHAT, json!({"model":"m","messages":[],"web_search_options":{}})),
        (CHAT, json!({"model":"m","messages":[],"file_ids":["f"]})),
        (CHAT, json!({"model":"m","messages":[],"x":{"file_id":"f"}})),
        (
            MESSAGES,
            message(
                "mcp_servers",
                json!([{"type":"url","url":"https://a.example/sse","name":"x"}]),
            ),
        ),
        (MESSAGES, message("container", json!("container_1"))),
        (MESSAGES, message("container", json!({"skills":[{"skill_id":"pptx"}]}))),
        (
            MESSAGES,
            message("thread", json!({"type":"continue","previous_message_id":"msg_1"})),
        ),
        (MESSAGES, block(json!({"type":"container_upload","file_id":"f"}))),
        (
            MESSAGES,
            block(json!({"type":"document","source":{"type":"url","url":"https://a.example/x.pdf"}})),
        ),
        (
            MESSAGES,
            block(json!({"type":"document","source":{"type":"file","file_id":"f"}})),
        ),
        (
            MESSAGES,
            block(
                json!({"type":"tool_result","tool_use_id":"t","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}),
            ),
        ),
        (
            MESSAGES,
            block(json!({"type":"image","source":{"type":"file","file_id":"f"}})),
        ),
        (MESSAGES, block(json!({"type":"next_years_block","name":"x"}))),
        (
            GEMINI,
            json!({"contents":[{"parts":[{"text":"Hi"}]}],"cached_content":"cachedContents/1"}),
        ),
        (
            GEMINI,
            json!({"contents":[{"parts":[{"text":"Hi"}]}],"continuationToken":"x"}),
        ),
        (GEMINI, part(json!({"fileData":{"fileUri":"gs://a/b"}}))),
        (GEMINI, part(json!({"file_data":{"file_uri":"https://youtu.be/x"}}))),
        (
            GEMINI,
            part(json!({"toolResponse":{"response":{"file_uri":"gs://a/b"}}})),
        ),
        (
            GEMINI,
            part(json!({"functionResponse":{"name":"f","response":{},"parts":[{"fileData":{"fileUri":"gs://a/b"}}]}})),
        ),
    ] {
        let (quick, slow) = read(path, &body);
        if quick.is_some() || !(slow.open || slow.most > 1000) {
            wrong.push(format!("{body}: quick {quick:?}, slow {slow:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn usual_bodies_are_not_decoded() {
    for body in [
        r#"{"model":"m","messages":[{"role":"system","content":"Search the file at https://a.example/data and call your tools."},
            {"role":"user","content":[{"type":"text","text":"How \"conversation\": are you?"}]}],"stream":true,
            "stream_options":{"include_usage":true},"max_tokens":100,"temperature":0.5,"n":2}"#,
        r#"{"model":"m","max_tokens":64,"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],
            "messages":[{"role":"user","content":"Hi"}],"thinking":{"type":"enabled","budget_tokens":32},"metadata":{"user_id":"u"}}"#,
        r#"{"model":"m","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}],"instructions":"x",
            "store":false,"reasoning":{"effort":"low","summary":"auto"},"max_output_tokens":9,"prompt_cache_key":"k"}"#,
        r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}],"systemInstruction":{"parts":[{"text":"x"}]},
            "generationConfig":{"maxOutputTokens":12,"thinkingConfig":{"thinkingBudget":0}},"safetySettings":[{"category":"x","threshold":"y"}]}"#,
        r#"{"model":"m","input":["one","two"],"encoding_format":"base64","dimensions":256}"#,
    ] {
        let prompt = by_bytes(body.as_bytes());
        assert_eq!(
            prompt.map(|prompt| (prompt.most, prompt.open)),
            Some((body.len() as u64, false)),
            "{body}"
        );
    }
}

#[test]
fn what_is_in_the_body_as_a_whole_is_not_open() {
    for (path, body) in [
        (
            CHAT,
            json!({"model":"m","min_p":0.1,"chat_template_kwargs":{"enable_thinking":true},"provider":{"order":["a"]},
            "messages":[{"role":"user","content":"Hi"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"file_id\":1}"}}]},
            {"role":"tool","tool_call_id":"c","content":"x"},
            {"role":"assistant","content":"x","annotations":[{"type":"url_citation","url_citation":{"url":"https://a.example"}}]}],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"file_id":{"type":"string"}}}}}]}),
        ),
        (
            "/v1/responses",
            json!({"model":"m","client_metadata":{"thread_id":"t"},"input":[
            {"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"x"}]},
            {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"},
            {"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":"x"},
            {"type":"local_shell_call","id":"ls_1","call_id":"d","action":{"type":"exec","command":["ls"]},"status":"completed"},
            {"type":"local_shell_call_output","id":"d","output":"x"}]}),
        ),
        (
            "/v1/messages",
            json!({"model":"m","max_tokens":1,"diagnostics":{"previous_message_id":"msg_1"},"messages":[
            {"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"s"},
            {"type":"tool_use","id":"t","name":"f","input":{"file_id":"x"}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]},
            {"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}},
            {"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","url":"https://a.example","title":"x","encrypted_content":"E"}]}]}]}),
        ),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents":[{"parts":[{"text":"Hi","thoughtSignature":"AA=="},
            {"functionCall":{"id":"c","name":"f","args":{"url":"x"}}}]}],"labels":{"file_id":"x"}}),
        ),
    ] {
        let (_, slow) = read(path, &body);
        assert!(!slow.open && slow.turns == Turns::Said(1), "{body}: {slow:?}");
        assert!(slow.most < body.to_string().len() as u64 + 1001, "{body}: {slow:?}");
    }
}

#[test]
fn tools_of_the_provider_read_the_prompt_again() {
    let search =
        |max_uses: serde_json::Value| json!({"type":"web_search_20250305","name":"web_search","max_uses":max_uses});
    let claude = |tools| json!({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],"tools":tools});
    let gpt = |tools, calls: serde_json::Value| json!({"model":"m","input":"Hi","tools":tools,"max_tool_calls":calls});
    let web = json!({"type":"web_search"});
    let none = || json!(null);
    for (path, body, turns) in [
        ("/v1/messages", claude(json!([{"name":"f","input_schema":{}}])), 1),
        (
            "/v1/messages",
            claude(json!([{"type":"bash_20250124","name":"bash"},{"type":"text_editor_20250728","name":"e"}])),
            1,
        ),
        (
            "/v1/messages",
            claude(json!([{"type":"bash_20250124","name":"bash"}, search(json!(2))])),
            3,
        ),
        ("/v1/messages", claude(json!([search(json!(2)), search(json!(3))])), 6),
        ("/v1/messages", claude(json!([search(json!(2)), search(none())])), 0),
        (
            "/v1/messages",
            claude(json!([search(json!(u64::MAX)), search(json!(u64::MAX))])),
            10,
        ),
        ("/v1/messages", claude(json!([search(none())])), 0),
        ("/v1/responses", gpt(json!([web]), none()), 0),
        ("/v1/responses", gpt(json!([web]), json!(2)), 3),
        ("/v1/responses", gpt(json!([web]), json!(50)), 51),
        ("/v1/responses", gpt(json!([web]), json!("2")), 0),
        (
            "/v1/responses",
            gpt(json!([web, {"type":"mcp","server_label":"x"}]), json!(2)),
            0,
        ),
        ("/v1/responses", gpt(json!([{"type":"local_shell"}]), none()), 1),
        (
            "/v1/responses",
            json!({"model":"m","input":"Hi","prompt":{"id":"p"}}),
            0,
        ),
        (
            "/v1/responses",
            json!({"model":"m","input":"Hi","previous_response_id":"p"}),
            1,
        ),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents":[],"tools":[{"googleSearch":{}}]}),
            0,
        ),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents":[],"tools":[{"functionDeclarations":[{"name":"f"}]}]}),
            1,
        ),
    ] {
        let prompt = read(path, &body).1;
        // Where it is 0 the configuration says how often.
        let turns = if turns == 0 { Turns::Open } else { Turns::Said(turns) };
        assert_eq!(prompt.turns, turns, "{body}");
    }
}

#[test]
fn embeddings_are_as_many_prompts_as_texts() {
    let (_, texts) = read("/v1/embeddings", &json!({"model":"m","input":["a","b","c"]}));
    assert_eq!((texts.turns, texts.open), (Turns::Said(3), false));
    let (quick, picture) = read(
        "/v1/embeddings",
        &json!({"model":"m","input":[{"image":"https://a.example/x.png"}]}),
    );
    assert!(quick.is_none() && picture.open, "{picture:?}");
}

#[test]
fn limits_are_found_under_each_name() {
    // The limit, and whether every parser reads the same there.
    let cases = [
        ("openai_chat", r#"{"max_tokens":5}"#, Said::Number(5), true),
        (
            "openai_chat",
            r#"{"max_completion_tokens":7,"max_tokens":5}"#,
            Said::Number(5),
            false,
        ),
        ("openai_chat", r#"{"max_completion_tokens":7}"#, Said::Number(7), false),
        ("openai_chat", r#"{"max_tokens":null}"#, Said::Nothing, true),
        (
            "openai_chat",
            r#"{"max_tokens":5,"max_tokens":null}"#,
            Said::Number(5),
            false,
        ),
        ("openai_chat", r#"{"max_tokens":-1}"#, Said::Odd, true),
        ("openai_chat", r#"{"max_tokens":1.5}"#, Said::Odd, true),
        ("openai_chat", r#"{"max_tokens":100.0}"#, Said::Number(100), true),
        ("openai_chat", r#"{"messages":[{"max_tokens":5}]}"#, Said::Nothing, true),
        ("anthropic", r#"{"max_tokens":64}"#, Said::Number(64), true),
        ("openai_responses", r#"{"max_output_tokens":9}"#, Said::Number(9), true),
        (
            "gemini",
            r#"{"generationConfig":{"maxOutputTokens":"12"}}"#,
            Said::Number(12),
            true,
        ),
        (
            "gemini",
            r#"{"generation_config":{"max_output_tokens":12}}"#,
            Said::Number(12),
            true,
        ),
        (
            "gemini",
            r#"{"generation_config":{"max_output_tokens":12},"generationConfig":{"maxOutputTokens":13}}"#,
            Said::Number(13),
            false,
        ),
        (
            "gemini",
            r#"{"generationConfig":{"maxOutputTokens":12},"generationConfig":{}}"#,
            Said::Number(12),
            false,
        ),
        ("gemini", r#"{"contents":[]}"#, Said::Nothing, true),
    ];
    for (dialect, body, want, settled) in cases {
        let asked = answer(body.as_bytes(), by_name(dialect).unwrap(), "m");
        assert_eq!((asked.limit, asked.settled), (want, settled), "{body:?}");
    }
    let chat = |body: &str, model| answer(body.as_bytes(), by_name("openai_chat").unwrap(), model);
    let newer = chat(r#"{"max_completion_tokens":7}"#, "gpt-5.2");
    assert_eq!((newer.limit, newer.settled), (Said::Number(7), true));
    let older = chat(r#"{"max_tokens":7}"#, "gpt-4o");
    assert_eq!(
        (older.limit, older.settled),
        (Said::Number(7), true),
        "OpenAI knows it or refuses it"
    );
    assert_eq!(chat(r#"{"n":3}"#, "m").candidates, Said::Number(3));
    assert_eq!(chat(r#"{"n":3,"best_of":5}"#, "m").candidates, Said::Number(5));
    assert!(chat(r#"{"prediction":{"type":"content"}}"#, "m").predicted);
    assert!(!chat(r#"{"prediction":null}"#, "m").predicted);
    let gemini = answer(
        br#"{"generationConfig":{"candidateCount":2}}"#,
        by_name("gemini").unwrap(),
        "m",
    );
    assert_eq!(gemini.candidates, Said::Number(2));
    assert_eq!(
        answer(br#"{"n":3}"#, by_name("anthropic").unwrap(), "m").candidates,
        Said::Nothing
    );
}
