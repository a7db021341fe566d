//! The built binary in a folder of its own, and the one who asks it.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Case;
use crate::judge::Received;
use crate::replay::{Pieces, ticket};

/// How long a start, or the way of a row into the store, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts before a race for a port counts as lost.
const STARTS: usize = 5;

pub struct Gateway {
    proxy: SocketAddr,
    admin: SocketAddr,
    key: String,
    token: String,
    child: Mutex<Child>,
    _folder: tempfile::TempDir,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Every model goes to `replay`; `through` is for paths which are passed through: its base has no path of its own.
fn rules(provider: SocketAddr) -> String {
    format!(
        "[provider.replay]\nauth = \"none\"\nhealth = \"off\"\nstream_usage = \"always\"\n\
         dialects = {{ openai_chat = \"http://{provider}/v1\", openai_responses = \"http://{provider}/v1\", \
         anthropic = \"http://{provider}\", gemini = \"http://{provider}\" }}\n\
         [provider.through]\nauth = \"none\"\nhealth = \"off\"\ndialects = {{ anthropic = \"http://{provider}\" }}\n\
         [[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{{ provider = \"replay\" }}]\n"
    )
}

impl Gateway {
    /// A gateway whose every model goes to `provider`, tried once.
    pub async fn start(provider: SocketAddr) -> Self {
        for _ in 0..STARTS {
            let folder = tempfile::tempdir().unwrap();
            for name in ["conf", "rules"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            }
            let (proxy, admin) = (free_port(), free_port());
            let conf = format!(
                "[[listener]]\nlisten = \"{proxy}\"\n[admin]\nlisten = \"{admin}\"\n[metrics]\nlisten = \"off\"\n\
                 [sandbox]\nlisten = \"off\"\n[overload]\nlag = \"off\"\n[limits]\nattempts = 1\nrequests_per_address = 1000000\n"
            );
            std::fs::write(folder.path().join("conf/tollgate.toml"), conf).unwrap();
            std::fs::write(folder.path().join("rules/replay.toml"), rules(provider)).unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .env("RUST_LOG", "off")
                .spawn()
                .unwrap();
            let mut gateway = Gateway {
                proxy,
                admin,
                key: String::new(),
                token: String::new(),
                child: Mutex::new(child),
                _folder: folder,
            };
            if gateway.is_ready().await {
                let text = std::fs::read_to_string(gateway._folder.path().join("data/first-run.toml")).unwrap();
                let made: toml::Table = text.parse().unwrap();
                gateway.key = made["key"].as_str().unwrap().to_owned();
                gateway.token = made["admin_token"].as_str().unwrap().to_owned();
                return gateway;
            }
        }
        panic!("the gateway did not start");
    }

    /// Waits until it serves; false: it ended.
    async fn is_ready(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        while Instant::now() < end {
            let answer = client.get(format!("http://{}/readyz", self.proxy)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            if self.child.lock().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Asks what was recorded.
    pub async fn exchange(&self, client: &reqwest::Client, case: &Case, index: usize, pieces: Pieces) -> Received {
        let request_id = format!("{}-{pieces:?}", case.id);
        let through = if case.passes_through() { "/p/through" } else { "" };
        let method = reqwest::Method::from_bytes(case.method.as_bytes()).unwrap();
        let mut request = client
            .request(method, format!("http://{}{through}{}", self.proxy, case.path))
            .header("x-request-id", &request_id)
            .header("traceparent", ticket(index, pieces));
        request = match case.dialect() {
            "anthropic" => request
                .header("x-api-key", &self.key)
                .header("anthropic-version", "2023-06-01"),
            "gemini" => request.header("x-goog-api-key", &self.key),
            _ => request.bearer_auth(&self.key),
        };
        if !case.request.is_empty() {
            request = request
                .header("content-type", "application/json")
                .body(case.request.clone());
        }
        let mut received = Received {
            request_id,
            ..Received::default()
        };
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                received.broke = Some(format!("{error:?}"));
                return received;
            }
        };
        received.status = answer.status().as_u16();
        let text = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        received.content_type = text("content-type").unwrap_or_default();
        received.answered_as = text("x-request-id").unwrap_or_default();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => received.body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    received.broke = Some(format!("{error:?}"));
                    break;
                }
            }
        }
        received
    }

    /// The ledger's rows, once there are as many as expected.
    pub async fn rows(&self, client: &reqwest::Client, expected: usize) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut rows = Vec::new();
            let mut cursor = String::new();
            loop {
                let url = format!("http://{}/api/v1/usage/rows?limit=1000{cursor}", self.admin);
                let answer = client.get(url).bearer_auth(&self.token).send().await.unwrap();
                assert_eq!(answer.status(), 200, "the admin API answers");
                let mut page: Value = answer.json().await.unwrap();
                if let Value::Array(more) = page["rows"].take() {
                    rows.extend(more);
                }
                match page["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            if rows.len() >= expected || Instant::now() > end {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Also when the test panicked; a second kill does nothing.
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        child.kill().ok();
        child.wait().ok();
    }
}
