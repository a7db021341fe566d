use serde_json::json;

use crate::dialects::errors;
use crate::ir::{Cause, ErrorKind, Resets};

const TOO_LONG: Option<Cause> = Some(Cause::ContextTooLong);
const POLICY: Option<Cause> = Some(Cause::ContentPolicy);

#[test]
fn causes_are_found_whoever_tells_them() {
    let openai = |message: &str, code: &str| json!({"error": {"message": message, "type": "invalid_request_error", "code": code}});
    let anthropic =
        |message: &str| json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
    let gemini = |message: &str| json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
    let flat = |message: &str| json!({"message": message, "object": "error", "code": 400});
    let cases = [
        (
            400,
            anthropic("prompt is too long: 3333404 tokens > 200000 maximum"),
            TOO_LONG,
        ),
        (
            400,
            anthropic("input length and `max_tokens` exceed context limit: 199000 + 21333 > 200000"),
            TOO_LONG,
        ),
        (
            400,
            openai("Your input exceeds the limit.", "context_length_exceeded"),
            TOO_LONG,
        ),
        (
            400,
            openai(
                "This model's maximum context length is 8192 tokens.",
                "invalid_request_error",
            ),
            TOO_LONG,
        ),
        (
            400,
            gemini("The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."),
            TOO_LONG,
        ),
        (
            400,
            json!({"error": {"message": "Too long.", "type": "too_many_prompt_tokens", "code": 400}}),
            TOO_LONG,
        ),
        (
            400,
            flat("This model's maximum context length is 4096 tokens and your request has 5000 input tokens."),
            TOO_LONG,
        ),
        (
            400,
            json!({"code": 20015, "message": "length of prompt_tokens (9) must be less than max_seq_len (8).", "data": null}),
            TOO_LONG,
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}),
            TOO_LONG,
        ),
        (
            413,
            json!({"error": {"message": "Please reduce the length of the messages or completion."}}),
            TOO_LONG,
        ),
        (
            400,
            json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {
                "raw": "{\"error\":{\"message\":\"prompt is too long: 9 tokens > 8 maximum\"}}", "provider_name": "x"}}}),
            TOO_LONG,
        ),
        (
            400,
            openai("Your request was rejected.", "content_policy_violation"),
            POLICY,
        ),
        (
            400,
            json!({"error": {"message": "The response was filtered.", "type": null, "param": "prompt", "code": "content_filter",
                "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
            POLICY,
        ),
        (400, anthropic("Output blocked by content filtering policy"), POLICY),
        (400, openai("Content Exists Risk", "invalid_request_error"), POLICY),
        (
            403,
            json!({"code": "forbidden", "error": "Content violates usage guidelines."}),
            POLICY,
        ),
        (
            403,
            json!({"error": {"code": 403, "message": "The model requires moderation. Your input was flagged", "metadata": {"reasons": ["x"]}}}),
            POLICY,
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "Blocked", "status": "PROHIBITED_CONTENT"}}),
            POLICY,
        ),
        (
            400,
            json!({"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
            POLICY,
        ),
        (400, openai("Invalid value", "invalid_value"), None),
        (401, openai("maximum context length", "invalid_api_key"), None),
        (
            429,
            openai(
                "Request too large for model: maximum context length; limit of tokens per min",
                "rate_limit_exceeded",
            ),
            None,
        ),
        (
            413,
            json!({"error": {"message": "Request too large for model on tokens per minute (TPM): Limit 6000, please reduce the length of the messages", "code": "rate_limit_exceeded"}}),
            None,
        ),
        (
            403,
            json!({"error": {"message": "Your key may not do this", "type": "permission_error"}}),
            None,
        ),
    ];
    for (status, body, want) in cases {
        assert_eq!(
            errors::answer(status, body.to_string().as_bytes()).cause,
            want,
            "{body}"
        );
        // The same within a stream, where there is no status but the one the error names.
        if status == 400 && body["error"].is_object() {
            assert_eq!(errors::inside(&body["error"].to_string()).cause, want, "inside: {body}");
        }
    }
    assert_eq!(
        errors::answer(400, b"Prompt is too long").cause,
        TOO_LONG,
        "plain text says it too"
    );
}

#[test]
fn waits_and_empty_accounts_are_found() {
    let limit = |message: &str| json!({"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}});
    let rate = ErrorKind::RateLimit;
    let dry = ErrorKind::InsufficientQuota;
    let cases = [
        (
            429,
            limit("Rate limit reached ... Please try again in 579ms. Visit"),
            rate,
            Some(1),
        ),
        (
            429,
            limit("... on tokens per day (TPD): Limit 1, Used 2. Please try again in 9m38.016s. Need more"),
            rate,
            Some(579),
        ),
        (429, limit("Please try again in 1.2s"), rate, Some(2)),
        (
            429,
            limit("Please retry after 3 seconds. Please go here"),
            rate,
            Some(3),
        ),
        (429, limit("Please try again later"), rate, None),
        (
            503,
            json!({"error": {"message": "busy, try again in 20s"}}),
            ErrorKind::Overloaded,
            Some(20),
        ),
        (
            400,
            json!({"error": {"message": "try again in 20s"}}),
            ErrorKind::InvalidRequest,
            None,
        ),
        (
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API."}}),
            dry,
            None,
        ),
        (
            403,
            json!({"code": 30001, "message": "Sorry, your account balance is insufficient", "data": null}),
            dry,
            None,
        ),
        (402, json!({"error": {"message": "Insufficient Balance"}}), dry, None),
        (
            429,
            json!({"error": {"message": "Your account is not active", "code": "billing_not_active"}}),
            dry,
            None,
        ),
        (
            429,
            json!({"error": {"code": 429, "message": "Please retry in 48.9s.", "status": "RESOURCE_EXHAUSTED", "details": [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}]}}),
            rate,
            Some(48),
        ),
    ];
    for (status, body, kind, wait) in cases {
        let error = errors::answer(status, body.to_string().as_bytes());
        assert_eq!(
            (error.kind, error.retry_after_secs, error.resets),
            (kind, wait, None),
            "{body}"
        );
    }
}

#[test]
fn limits_that_begin_anew_are_found() {
    let quota = |id: &str| {
        json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}, {"quotaId": 7}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "18s"}]}})
    };
    let router = json!({"error": {"message": "Rate limit exceeded", "code": 429, "metadata": {
        "headers": {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1754667660000"}}}});
    let cases = [
        (
            quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            Some(Resets::Daily),
        ),
        (quota("GenerateContentPaidTierInputTokensPerModelPerMinute"), None),
        (router, Some(Resets::At(1_754_667_660))),
    ];
    for (body, want) in cases {
        let error = errors::answer(429, body.to_string().as_bytes());
        assert_eq!((error.kind, error.resets), (ErrorKind::RateLimit, want), "{body}");
    }
}
