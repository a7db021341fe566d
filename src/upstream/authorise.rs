//! How a credential is shown to a provider.

use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use crate::dialects::{self, AuthScheme};
use crate::ir::DialectId;
use crate::rules::{Auth, Credential, Provider};

/// The header which shows the credential: as the provider's rules say, else as the dialect's providers take it. `None`:
/// none is wanted, or the key holds characters that no header may (which the rules refuse).
pub fn authorisation(
    provider: &Provider,
    dialect: DialectId,
    credential: &Credential,
) -> Option<(HeaderName, HeaderValue)> {
    let secret = credential.secret.as_ref()?;
    let bearer = || (header::AUTHORIZATION, format!("Bearer {}", secret.expose()));
    let (name, text) = match &provider.auth {
        Some(Auth::None) => return None,
        Some(Auth::Bearer) => bearer(),
        Some(Auth::Header(name)) => (name.clone(), secret.expose().to_owned()),
        None => match dialects::get(dialect).auth() {
            AuthScheme::Bearer => bearer(),
            AuthScheme::Header(name) => (HeaderName::from_static(name), secret.expose().to_owned()),
        },
    };
    let mut value = HeaderValue::try_from(Zeroizing::new(text).as_str()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}
