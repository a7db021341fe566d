//! What systemd is told, where it started us with `Type=notify` (sd_notify(3)): that we serve, and which process the service is after an
//! upgrade.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// This process serves; it is the service's main one from now on.
pub fn serving() {
    tell(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
}

/// This process stops, and the service with it.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=draining");
}

fn tell(what: &str) {
    if let Err(error) = try_tell(what) {
        tracing::warn!(%error, "systemd can't be told how the service stands");
    }
}

fn try_tell(what: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_systemd_nothing_is_told() {
        super::try_tell("READY=1").unwrap();
    }
}
