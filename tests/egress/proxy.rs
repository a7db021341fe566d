//! Proxies on the loopback: HTTP CONNECT and SOCKS5, good ones and others. Whatever they are asked for, they connect to the
//! address they were made with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tollgate::config::Secret;
use tollgate::egress::Way;
use tollgate::rules::Egress;
use tollgate::rules::egress::{Proxy as Rule, ProxyKind};

/// What every login here has: nowhere to be seen.
pub const PASSWORD: &str = "canary-password";

/// What a proxy does.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Its work.
    Work,
    /// Its work, for this user with [`PASSWORD`] only.
    WorkFor(&'static str),
    /// Answers this to the (first) request, and closes.
    Say(&'static [u8]),
    /// SOCKS5: takes the greeting, then answers this to the request, and closes.
    Reply(&'static [u8]),
    /// Works, but sends its answer byte by byte.
    Bytewise,
    /// Answers with a header that never ends.
    Endless,
    /// A byte now and then, for ever.
    Drip,
    /// Says nothing.
    Silence,
    /// An interim answer, then its work; the target's first bytes come with the header.
    WorkWithFirst(&'static [u8]),
}

pub struct Proxy {
    pub address: SocketAddr,
    kind: ProxyKind,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
    from: Arc<Mutex<Vec<SocketAddr>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(kind: ProxyKind, target: SocketAddr, does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, asked, from) = (Arc::default(), Arc::default(), Arc::default());
        let mut proxy = Proxy {
            address,
            kind,
            connections,
            asked,
            from,
            task: tokio::spawn(async {}),
        };
        let (count, asked, from) = (proxy.connections.clone(), proxy.asked.clone(), proxy.from.clone());
        proxy.task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                from.lock().push(peer);
                let asked = asked.clone();
                tokio::spawn(async move {
                    // Who goes away is no fault here.
                    let _ = match kind {
                        ProxyKind::Connect => connect(stream, target, does, &asked).await,
                        ProxyKind::Socks5 => socks5(stream, target, does, &asked).await,
                    };
                });
            }
        });
        proxy
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What it was asked for, in order: `host:port`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    /// Where its clients came from.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.from.lock().clone()
    }

    /// What the rules say of it.
    pub fn rule(&self, user: Option<&str>) -> Egress {
        let rule = Rule {
            kind: self.kind,
            host: "127.0.0.1".into(),
            port: self.address.port(),
            login: user.map(|user| (user.into(), Secret::new(PASSWORD))),
        };
        Egress {
            proxy: Some(Arc::new(rule)),
            ..Egress::default()
        }
    }

    /// The way through it.
    pub fn way(&self, user: Option<&str>) -> Way {
        Way::new(&self.rule(user)).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    mut stream: TcpStream,
    target: SocketAddr,
    does: Does,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        header.push(stream.read_u8().await?);
    }
    let header = String::from_utf8(header).unwrap();
    let target_named = header.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
    assert!(header.contains(&format!("\r\nHost: {target_named}\r\n")), "{header}");
    asked.lock().push(target_named.to_owned());
    let done = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";
    match does {
        Does::Work => stream.write_all(done).await?,
        Does::WorkFor(user) => {
            let login = STANDARD.encode(format!("{user}:{PASSWORD}"));
            if !header.contains(&format!("\r\nProxy-Authorization: Basic {login}\r\n")) {
                let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                return stream.write_all(refused).await;
            }
            stream.write_all(done).await?;
        }
        Does::Bytewise => bytewise(&mut stream, done).await?,
        Does::WorkWithFirst(first) => {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
            stream.write_all(&[interim, &done[..], first].concat()).await?;
        }
        Does::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream
                    .write_all(b"X-More: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")
                    .await?;
            }
        }
        other => return amiss(ProxyKind::Connect, stream, other).await,
    }
    pass(stream, target).await
}

async fn socks5(
    mut stream: TcpStream,
    target: SocketAddr,
    does: Does,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let [version, count] = [stream.read_u8().await?, stream.read_u8().await?];
    assert_eq!(version, 5);
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await?;
    match does {
        Does::WorkFor(user) => {
            if !methods.contains(&2) {
                return stream.write_all(&[5, 0xff]).await;
            }
            stream.write_all(&[5, 2]).await?;
            assert_eq!(stream.read_u8().await?, 1);
            let mut texts = Vec::new();
            for _ in 0..2 {
                let mut text = vec![0; usize::from(stream.read_u8().await?)];
                stream.read_exact(&mut text).await?;
                texts.push(String::from_utf8(text).unwrap());
            }
            let good = texts == [user, PASSWORD];
            stream.write_all(&[1, u8::from(!good)]).await?;
            if !good {
                return Ok(());
            }
        }
        Does::Work | Does::Reply(_) | Does::WorkWithFirst(_) => stream.write_all(&[5, 0]).await?,
        Does::Bytewise => bytewise(&mut stream, &[5, 0]).await?,
        other => return amiss(ProxyKind::Socks5, stream, other).await,
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0]);
    let host = match head[3] {
        1 => std::net::Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => format!("[{}]", std::net::Ipv6Addr::from(stream.read_u128().await?)),
        _ => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).unwrap()
        }
    };
    let port = stream.read_u16().await?;
    asked.lock().push(format!("{host}:{port}"));
    let done = [&[5, 0, 0, 3, 4][..], b"here", &[0, 80]].concat();
    match does {
        Does::Reply(reply) => return stream.write_all(reply).await,
        Does::Bytewise => bytewise(&mut stream, &done).await?,
        Does::WorkWithFirst(first) => stream.write_all(&[&done, first].concat()).await?,
        _ => stream.write_all(&done).await?,
    }
    pass(stream, target).await
}

async fn amiss(kind: ProxyKind, mut stream: TcpStream, does: Does) -> std::io::Result<()> {
    match does {
        Does::Say(text) => stream.write_all(text).await,
        // Good beginnings, and no end.
        Does::Drip => {
            let begin: &[u8] = match kind {
                ProxyKind::Connect => b"HTTP/1.1 200 OK\r\nX: ",
                ProxyKind::Socks5 => &[5, 0, 5, 0, 0, 3, 255],
            };
            stream.write_all(begin).await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        _ => {
            // Until the other side goes.
            let _ = stream.read_u8().await;
            Ok(())
        }
    }
}

async fn bytewise(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn pass(mut stream: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    copy_bidirectional(&mut stream, &mut far).await.map(|_| ())
}
