//! Asks a provider as the gateway does: Pingora's connector, our peer.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tollgate::egress::{ConnectTimes, Reach, Way, peer};
use tollgate::rules::HttpVersions;

/// The provider's name: no resolver knows it.
pub const HOST: &str = "api.example.com";

pub struct Client(Connector);

/// What came back.
pub struct Got {
    pub text: String,
    pub reused: bool,
}

impl Client {
    pub fn new() -> Self {
        Client(Connector::new(Some(ConnectorOptions::new(16))))
    }

    pub async fn get(&self, reach: Reach<'_>) -> pingora::Result<Got> {
        self.get_with(&peer(reach)).await
    }

    pub async fn get_with(&self, peer: &HttpPeer) -> pingora::Result<Got> {
        let (mut session, reused) = self.0.get_http_session(peer).await?;
        let mut request = RequestHeader::build("GET", b"/", None)?;
        request.insert_header("host", HOST)?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        if let HttpSession::H1(h1) = &mut session {
            h1.respect_keepalive();
        }
        let mut body = Vec::new();
        while let Some(chunk) = session.read_response_body().await? {
            body.extend_from_slice(&chunk);
        }
        self.0.release_http_session(session, peer, None).await;
        let text = String::from_utf8(body).unwrap();
        Ok(Got { text, reused })
    }

    pub async fn fails(&self, reach: Reach<'_>) -> Box<pingora::Error> {
        match self.get(reach).await {
            Ok(got) => panic!("it answered: {}", got.text),
            Err(error) => error,
        }
    }
}

/// Plain HTTP/1.1 by this way; tests change what they are about.
pub fn reach(address: SocketAddr, way: &Way) -> Reach<'_> {
    Reach {
        address,
        pin: None,
        tls: false,
        host: HOST,
        port: 80,
        http: HttpVersions::H1,
        egress: way,
        times: ConnectTimes {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            read: Some(Duration::from_secs(10)),
            write: Duration::from_secs(10),
        },
    }
}

/// With TLS.
pub fn over_tls(address: SocketAddr, way: &Way) -> Reach<'_> {
    Reach {
        tls: true,
        port: 443,
        ..reach(address, way)
    }
}
