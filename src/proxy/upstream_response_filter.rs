//! The header of the answer: what kind of answer it is.

use http::header;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use crate::dialects;
use crate::ir::Operation;
use crate::sse::Framing;
use crate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding};

use super::Gateway;
use super::context::RequestContext;
use super::held::Release;

/// Pingora's `upstream_response_filter`.
pub fn execute(gateway: &Gateway, answer: &mut ResponseHeader, ctx: &mut RequestContext) -> Result<()> {
    let Some(attempt) = &mut ctx.attempt else { return Ok(()) };
    if answer.status.is_informational() {
        return Ok(());
    }
    let status = answer.status.as_u16();
    attempt.status = Some(status);
    attempt.first_byte = Some(attempt.began.elapsed());
    if status >= 400 {
        attempt.told = Some(answer.headers.clone());
    }
    let (Some(gate), Some(target)) = (&ctx.gate, &ctx.client.target) else {
        return Ok(());
    };
    if target.operation == Operation::CountTokens && matches!(status, 404 | 405 | 501) {
        // This provider does not count, whatever its dialect can: the client gets an estimate instead.
        ctx.response.estimate = true;
        return Error::e_explain(ErrorType::InternalError, "the provider does not count tokens");
    }
    let conversion = attempt.conversion.clone();
    // Providers of another dialect are asked for SSE.
    let framing = if conversion.is_some() {
        Framing::Sse
    } else {
        target.framing
    };
    let kind = kind(answer, status, attempt.stream, framing);
    let to_client = match &conversion {
        // An answer in a type we can't read is told as an error, when it is read.
        Some(conversion) if conversion.client_stream && kind != AnswerKind::Error => AnswerKind::Stream(target.framing),
        Some(_) if kind != AnswerKind::Error => AnswerKind::Whole,
        _ => kind,
    };
    ctx.response.streaming = matches!(to_client, AnswerKind::Stream(_));
    ctx.response.converted = conversion.is_some();
    let coding = coding(answer);
    let mut held = gate.lock();
    let release = match to_client {
        AnswerKind::Stream(_) if coding != Coding::Unknown => Release::Content,
        AnswerKind::Stream(_) => Release::Now,
        AnswerKind::Whole | AnswerKind::Error => Release::AtEnd,
        AnswerKind::Opaque => Release::Now,
    };
    // Coded bytes can't be searched for our keys here; they are when the masker's own decoder is.
    held.masker = ctx
        .route
        .as_ref()
        .filter(|_| coding == Coding::Identity || conversion.is_some())
        .map(|stage| stage.masker.clone());
    held.judge = kind == AnswerKind::Error;
    let mut answer = AnswerStream::new(AnswerPlan {
        dialect: attempt.dialect.map_or(target.dialect, dialects::get),
        operation: target.operation,
        status,
        kind,
        coding,
        withhold_usage: attempt.withhold_usage && coding == Coding::Identity,
        max_kept: gateway.config.limits.answer_kept,
        conversion,
    });
    if dialects::tokenizer(&attempt.model).is_some() {
        answer.keep_text();
    }
    held.begin_answer(answer, release);
    Ok(())
}

fn kind(answer: &ResponseHeader, status: u16, wants_stream: bool, framing: Framing) -> AnswerKind {
    if status >= 400 {
        return AnswerKind::Error;
    }
    let content_type = answer
        .headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let content_type = content_type
        .split(|&b| b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let is = |known: &str| content_type.eq_ignore_ascii_case(known.as_bytes());
    if is("text/event-stream") {
        AnswerKind::Stream(Framing::Sse)
    } else if wants_stream && framing == Framing::JsonArray && (is("application/json") || content_type.is_empty()) {
        AnswerKind::Stream(Framing::JsonArray)
    } else if is("application/json")
        || content_type.is_empty()
        || content_type.to_ascii_lowercase().starts_with(b"text/")
    {
        AnswerKind::Whole
    } else {
        AnswerKind::Opaque
    }
}

fn coding(answer: &ResponseHeader) -> Coding {
    let Some(coding) = answer.headers.get(header::CONTENT_ENCODING) else {
        return Coding::Identity;
    };
    match coding.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Coding::Identity,
        b"gzip" | b"x-gzip" => Coding::Gzip,
        b"deflate" => Coding::Deflate,
        b"br" => Coding::Brotli,
        b"zstd" => Coding::Zstd,
        _ => Coding::Unknown,
    }
}
