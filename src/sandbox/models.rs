//! The sandbox's lists of models. Any other name is served as well.

use super::text::Json;

/// Names worth trying, smallest first.
pub const MODELS: [&str; 4] = ["small", "large,tokens=400", "reasoner,reasoning=64,tokens=64", "echo"];

/// When they were made, in every list: 2026-01-01T00:00:00Z.
const CREATED: (i64, &str) = (1_767_225_600, "2026-01-01T00:00:00Z");

/// Whose list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// OpenAI's, both dialects.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Gemini's.
    Gemini,
}

/// One model.
pub fn one(family: Family, id: &str) -> String {
    let (seconds, date) = CREATED;
    let json = Json(id);
    match family {
        Family::OpenAi => format!(r#"{{"id":{json},"object":"model","created":{seconds},"owned_by":"sandbox"}}"#),
        Family::Anthropic => {
            format!(r#"{{"type":"model","id":{json},"display_name":{json},"created_at":"{date}"}}"#)
        }
        Family::Gemini => format!(
            r#"{{"name":{},"version":"001","displayName":{json},"description":"A stand-in.","inputTokenLimit":1048576,"outputTokenLimit":65536,"supportedGenerationMethods":["generateContent","countTokens","embedContent","batchEmbedContents"]}}"#,
            Json(&format!("models/{id}")),
        ),
    }
}

/// All of them.
pub fn list(family: Family) -> String {
    let models = MODELS.map(|id| one(family, id)).join(",");
    match family {
        Family::OpenAi => format!(r#"{{"object":"list","data":[{models}]}}"#),
        Family::Anthropic => {
            let (first, last) = (Json(MODELS[0]), Json(MODELS[MODELS.len() - 1]));
            format!(r#"{{"data":[{models}],"has_more":false,"first_id":{first},"last_id":{last}}}"#)
        }
        Family::Gemini => format!(r#"{{"models":[{models}]}}"#),
    }
}
