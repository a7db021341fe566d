//! Floods and the strict check of the header: nothing here needs the body.

use http::Version;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use crate::ids::RequestId;
use crate::ir::{ApiError, ErrorKind};

use super::Gateway;
use super::context::RequestContext;
use super::{client_address, door, front_check};

/// Pingora's `early_request_filter`.
pub fn execute(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> pingora::Result<()> {
    door::header_is_complete(session);
    ctx.in_flight = Some(super::metrics::InFlight::begin());
    // For our own answers too: on HTTP/2 a client without a window would hold them for ever.
    session.set_write_timeout(Some(gateway.config.timeouts.write_stall));
    let draining = session.is_process_shutting_down() || super::ending::closes_connections();
    if draining {
        session.set_keepalive(None);
    } else if session.get_keepalive().is_some() {
        // Pingora's default is for ever.
        session.set_keepalive(Some(gateway.config.timeouts.keepalive.as_secs().max(1)));
    }
    if session.req_header().version == Version::HTTP_10 {
        session.set_keepalive(None);
    }
    ctx.client.request_id = RequestId::from_client(session.get_header("x-request-id").map(|id| id.as_bytes()));
    ctx.client.address = client_address::of(session, &gateway.config.trusted_proxies, &gateway.config.client_address);
    if let Err(refusal) = check(session, gateway) {
        return refused(ctx, refusal);
    }
    // Of whom nobody knows the address its proxy is counted.
    if let Some(address) = ctx.client.address.or_else(|| client_address::peer(session))
        && !gateway.flood.allows(address)
    {
        let refusal = ApiError::new(ErrorKind::RateLimit, "too many requests a second from your address")
            .code("address_rate_limit")
            .retry_after(1);
        return refused(ctx, refusal);
    }
    Ok(())
}

fn check(session: &Session, gateway: &Gateway) -> Result<(), ApiError> {
    let header = session.req_header();
    if header.version != Version::HTTP_2 {
        let chunked = header.headers.contains_key(http::header::TRANSFER_ENCODING);
        front_check::check_bytes(&session.as_downstream().to_h1_raw(), chunked)?;
    }
    front_check::check(header, &gateway.config.limits)
}

/// Ends the request: `fail_to_proxy` tells the client, and the connection closes.
fn refused(ctx: &mut RequestContext, refusal: ApiError) -> pingora::Result<()> {
    ctx.refusal = Some(refusal);
    Error::e_explain(ErrorType::InvalidHTTPHeader, "refused at the front")
}
