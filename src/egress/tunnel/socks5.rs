//! SOCKS5: RFC 1928; user and password: RFC 1929. Names go to the proxy as they are. Every message is read to its last
//! byte and no further, so that nothing of the target's is lost.

use std::net::IpAddr;

use pingora::protocols::l4::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Asked, Login, Target, Trouble, broken};

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_FITS: u8 = 0xff;

/// Asks for a connection.
pub(super) async fn ask(stream: &mut Stream, target: &Target, login: Option<&Login>) -> Asked {
    let methods: &[u8] = match login {
        Some(_) => &[VERSION, 2, NO_LOGIN, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_LOGIN],
    };
    send(stream, methods).await?;
    match (read::<2>(stream).await?, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(login)) => log_in(stream, login).await?,
        ([VERSION, NONE_FITS], None) => return Err((Trouble::Login, "wants a login".into())),
        ([VERSION, NONE_FITS], Some(_)) => return Err((Trouble::Login, "takes no user and password".into())),
        ([VERSION, _], _) => return Err((Trouble::Garbled, "chose a login we did not offer".into())),
        _ => return Err((Trouble::Garbled, "does not speak SOCKS5".into())),
    }
    send(stream, &request(target)?).await?;
    let [version, reply, _, kind] = read::<4>(stream).await?;
    if version != VERSION {
        return Err((Trouble::Garbled, "does not speak SOCKS5".into()));
    }
    if reply != 0 {
        return Err(refusal(reply));
    }
    // The address it connects from: of no use here, but to be read.
    let length = match kind {
        1 => 4,
        3 => usize::from(read::<1>(stream).await?[0]),
        4 => 16,
        _ => return Err((Trouble::Garbled, "answered with an unknown kind of address".into())),
    };
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).await.map_err(|error| broken(&error))?;
    Ok(())
}

async fn log_in(stream: &mut Stream, login: &Login) -> Asked {
    let mut message = Zeroizing::new(vec![1]);
    for text in [&*login.user, login.password.expose()] {
        let length = u8::try_from(text.len()).map_err(|_| (Trouble::Login, "takes no such login".to_owned()))?;
        message.push(length);
        message.extend_from_slice(text.as_bytes());
    }
    send(stream, &message).await?;
    match read::<2>(stream).await? {
        [_, 0] => Ok(()),
        _ => Err((Trouble::Login, "does not take our login".into())),
    }
}

fn request(target: &Target) -> Result<Vec<u8>, (Trouble, String)> {
    let mut request = vec![VERSION, 1, 0];
    match target.literal() {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        None => {
            let length = u8::try_from(target.host.len());
            let length = length.map_err(|_| (Trouble::Refused, "can't be asked for so long a name".to_owned()))?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(target.host.as_bytes());
        }
    }
    request.extend_from_slice(&target.port.to_be_bytes());
    Ok(request)
}

/// RFC 1928, 6.
fn refusal(reply: u8) -> (Trouble, String) {
    let (trouble, what) = match reply {
        1 => (Trouble::Refused, "failed"),
        2 => (Trouble::Refused, "does not allow this"),
        3 => (Trouble::Target, "can't reach the target's network"),
        4 => (Trouble::Target, "can't reach the target's host"),
        5 => (Trouble::Target, "says that the target refused"),
        6 => (Trouble::Target, "got no answer from the target in time"),
        7 => (Trouble::Refused, "does not know the command"),
        8 => (Trouble::Refused, "does not know this kind of address"),
        _ => (Trouble::Garbled, "answered with an unknown word"),
    };
    (trouble, format!("{what} ({reply})"))
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> Asked {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken(&error))
}

async fn read<const N: usize>(stream: &mut Stream) -> Result<[u8; N], (Trouble, String)> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(|error| broken(&error))?;
    Ok(bytes)
}

/// RFC 1929, 2: each 1 to 255 bytes.
pub(super) fn check(login: &Login) -> Result<(), String> {
    let fits = |text: &str| (1..=255).contains(&text.len());
    match fits(&login.user) && fits(login.password.expose()) {
        true => Ok(()),
        false => Err("user and password of a SOCKS5 proxy have 1 to 255 bytes each".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_the_proxy_and_addresses_as_addresses() {
        let target = |host: &str| Target {
            host: host.into(),
            port: 443,
        };
        assert_eq!(
            request(&target("192.0.2.1")).unwrap(),
            [5, 1, 0, 1, 192, 0, 2, 1, 1, 187]
        );
        assert_eq!(
            request(&target("a.b")).unwrap(),
            [5, 1, 0, 3, 3, b'a', b'.', b'b', 1, 187]
        );
        let v6 = request(&target("::1")).unwrap();
        assert_eq!((v6.len(), v6[3], v6[19]), (22, 4, 1));
        assert_eq!(request(&target(&"a".repeat(256))).unwrap_err().0, Trouble::Refused);
        assert_eq!(target("::1").to_string(), "[::1]:443");
    }
}
