//! Which path asks for what.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::models::Family;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// OpenAI Chat.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Anthropic's count of tokens.
    MessagesCount,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Generate {
        /// The model, decoded.
        model: String,
        /// A stream.
        stream: bool,
        /// The stream is a JSON array, not SSE.
        json_array: bool,
    },
    /// Gemini's `countTokens`.
    GeminiCount(String),
    /// Gemini's `embedContent`, or if true `batchEmbedContents`.
    GeminiEmbed(String, bool),
    /// OpenAI's embeddings.
    Embeddings,
    /// A list of models.
    Models(Family),
    /// One model.
    Model(Family, String),
    /// `GET /_sandbox/counts`
    Counts,
    /// `POST /_sandbox/reset`
    Reset,
    /// `GET /_sandbox/last`
    Last,
    /// Any method, any path that ends with `/_sandbox/echo`: the body comes back as it arrives.
    Echo,
    /// `HEAD /` or `GET /`: alive.
    Alive,
    /// The path is known, the method is not.
    WrongMethod(Family),
    /// No such path.
    Unknown(Family),
}

/// Reads a request line.
pub fn route(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Route {
    if path.ends_with("/_sandbox/echo") {
        return Route::Echo;
    }
    let (get, post) = (method == Method::GET, method == Method::POST);
    let when = |right: bool, route: Route, family: Family| if right { route } else { Route::WrongMethod(family) };
    // Only these two versions exist; a path without one is OpenAI's or Anthropic's, as their SDKs are sometimes set up.
    let (version, rest) = match path.strip_prefix("/v1beta/") {
        Some(rest) => ("v1beta", rest),
        None => (
            "v1",
            path.strip_prefix("/v1/")
                .or_else(|| path.strip_prefix('/'))
                .unwrap_or(path),
        ),
    };
    let asker = family(version, headers);
    match rest {
        "chat/completions" => when(post, Route::Chat, Family::OpenAi),
        "responses" => when(post, Route::Responses, Family::OpenAi),
        "embeddings" => when(post, Route::Embeddings, Family::OpenAi),
        "messages" => when(post, Route::Messages, Family::Anthropic),
        "messages/count_tokens" => when(post, Route::MessagesCount, Family::Anthropic),
        "models" => when(get, Route::Models(asker), asker),
        "_sandbox/counts" => when(get, Route::Counts, Family::OpenAi),
        "_sandbox/reset" => when(post, Route::Reset, Family::OpenAi),
        "_sandbox/last" => when(get, Route::Last, Family::OpenAi),
        "" if get || method == Method::HEAD => Route::Alive,
        _ => match rest.strip_prefix("models/") {
            Some(name) if get => Route::Model(asker, decoded(name)),
            Some(call) => when(post, gemini(call, query), Family::Gemini),
            None => Route::Unknown(asker),
        },
    }
}

/// `{model}:{verb}`; the model may hold slashes, commas, equals signs and colons, percent-encoded or not.
fn gemini(call: &str, query: Option<&str>) -> Route {
    let call = decoded(call);
    let Some((model, verb)) = call.rsplit_once(':') else {
        return Route::Unknown(Family::Gemini);
    };
    let model = model.to_owned();
    let sse = query
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair == "alt=sse" || pair == "$alt=sse");
    match verb {
        "generateContent" => Route::Generate {
            model,
            stream: false,
            json_array: false,
        },
        "streamGenerateContent" => Route::Generate {
            model,
            stream: true,
            json_array: !sse,
        },
        "countTokens" => Route::GeminiCount(model),
        "embedContent" => Route::GeminiEmbed(model, false),
        "batchEmbedContents" => Route::GeminiEmbed(model, true),
        _ => Route::Unknown(Family::Gemini),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Which SDK asks: three of them ask `GET /v1/models`.
fn family(version: &str, headers: &HeaderMap) -> Family {
    if version == "v1beta" || headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client") {
        Family::Gemini
    } else if headers.contains_key("anthropic-version") {
        Family::Anthropic
    } else {
        Family::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str, query: Option<&str>) -> Route {
        route(&Method::POST, path, query, &HeaderMap::new())
    }

    #[test]
    fn paths_with_and_without_version_are_known() {
        for prefix in ["", "/v1"] {
            assert_eq!(post(&format!("{prefix}/chat/completions"), None), Route::Chat);
            assert_eq!(post(&format!("{prefix}/responses"), None), Route::Responses);
            assert_eq!(post(&format!("{prefix}/messages"), Some("beta=true")), Route::Messages);
        }
        assert_eq!(post("/v2/chat/completions", None), Route::Unknown(Family::OpenAi));
        let wrong = route(&Method::GET, "/v1/messages", None, &HeaderMap::new());
        assert_eq!(wrong, Route::WrongMethod(Family::Anthropic));
    }

    #[test]
    fn scripts_survive_in_gemini_paths() {
        let model = "sandbox/x,tokens=3,fault=cut:2".to_owned();
        let plain = "/v1beta/models/sandbox/x,tokens=3,fault=cut:2:streamGenerateContent";
        let encoded = "/v1/models/sandbox%2Fx%2Ctokens%3D3%2Cfault%3Dcut%3A2:streamGenerateContent";
        for path in [plain, encoded] {
            let expected = Route::Generate {
                model: model.clone(),
                stream: true,
                json_array: true,
            };
            assert_eq!(post(path, None), expected);
            let expected = Route::Generate {
                model: model.clone(),
                stream: true,
                json_array: false,
            };
            assert_eq!(post(path, Some("key=k&alt=sse")), expected);
        }
    }

    #[test]
    fn lists_of_models_follow_the_asker() {
        let asked = |path: &str, header: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(header, http::HeaderValue::from_static("1"));
            }
            route(&Method::GET, path, None, &headers)
        };
        assert_eq!(asked("/v1/models", None), Route::Models(Family::OpenAi));
        assert_eq!(
            asked("/v1/models", Some("anthropic-version")),
            Route::Models(Family::Anthropic)
        );
        assert_eq!(
            asked("/v1/models", Some("x-goog-api-key")),
            Route::Models(Family::Gemini)
        );
        assert_eq!(asked("/v1beta/models", None), Route::Models(Family::Gemini));
        assert_eq!(
            asked("/v1/models/a%2Cb", None),
            Route::Model(Family::OpenAi, "a,b".to_owned())
        );
    }
}
