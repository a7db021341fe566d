//! The admin API from the command line: where it is, the token, and answers as types.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder};

use super::Failure;
use crate::admin::refusal::Refused;
use crate::config::{self, Config, Secret};
use crate::observe::redact::printable;

/// The environment variable with the admin token.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_TOKEN";

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the answer may be awaited: sums over a large ledger take their time.
const ANSWER: Duration = Duration::from_secs(300);

/// Largest answer read as a whole, in bytes.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// How to reach the admin API of the running gateway.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Reach {
    /// Its address, instead of the configuration's: `http://127.0.0.1:8081`.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A file with the admin token; without it TOLLGATE_ADMIN_TOKEN, then the data folder.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// A client of one gateway's admin API.
pub struct Client {
    agent: Agent,
    url: String,
    token: Secret,
}

impl Client {
    /// Finds out address and token; asks nothing yet. The configuration is read only for what is not given.
    pub fn new(conf: &Path, reach: &Reach) -> Result<Self, Failure> {
        let mut config = Lazy { conf, loaded: None };
        let url = match &reach.url {
            Some(url) => given_url(url)?,
            None => configured_url(config.get()?)?,
        };
        let token = token(&mut config, reach)?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // The token goes to the gateway and to nobody's HTTP_PROXY.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Client { agent, url, token })
    }

    /// Asks.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        self.read(self.open(path, query)?)
    }

    /// Asks for a whole list, page by page; `read` takes a page apart: what is on it, and the cursor of the next.
    pub fn all<P: DeserializeOwned, T>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        read: impl Fn(P) -> (Vec<T>, Option<String>),
    ) -> Result<Vec<T>, Failure> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "1000"));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (page, next) = read(self.get(path, &query)?);
            all.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Asks for something long: the answer's body as it comes. An answer that breaks off is an error of the reader.
    pub fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<impl Read + use<>, Failure> {
        let response = self.open(path, query)?;
        Ok(self.accepted(response)?.into_body().into_reader())
    }

    /// Changes something.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&impl Serialize>) -> Result<T, Failure> {
        let request = self.agent.post(format!("{}{path}", self.url));
        if let Some(body) = body {
            return self.send(request, body);
        }
        let sent = request.header("authorization", self.authorization()).send_empty();
        self.read(sent.map_err(|error| self.unreachable(error))?)
    }

    /// Puts something in its place.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(self.agent.put(format!("{}{path}", self.url)), body)
    }

    /// Changes some fields of something.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(self.agent.patch(format!("{}{path}", self.url)), body)
    }

    fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder<WithBody>,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = request.header("authorization", self.authorization());
        let sent = request.send_json(body);
        self.read(sent.map_err(|error| self.unreachable(error))?)
    }

    /// Takes something away.
    pub fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let request = self
            .agent
            .delete(format!("{}{path}", self.url))
            .header("authorization", self.authorization());
        let sent = request.query_pairs(query.iter().copied()).call();
        self.read(sent.map_err(|error| self.unreachable(error))?)
    }

    fn open(&self, path: &str, query: &[(&str, &str)]) -> Result<Response<Body>, Failure> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", self.authorization());
        let request = request.query_pairs(query.iter().copied());
        request.call().map_err(|error| self.unreachable(error))
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    fn read<T: DeserializeOwned>(&self, response: Response<Body>) -> Result<T, Failure> {
        let mut response = self.accepted(response)?;
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_json();
        Ok(read.with_context(|| format!("the answer of {} can't be read", self.url))?)
    }

    /// The response, unless it is a refusal. A refusal of what was given is the caller's fault, any other is not.
    fn accepted(&self, mut response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let Ok(Refused { error }) = response.body_mut().read_json::<Refused>() else {
            return Err(anyhow!("{} answered {status}: that is not the admin API of Tollgate", self.url).into());
        };
        if status.as_u16() == 401 {
            return Err(Failure::Given(format!(
                "the gateway at {} refuses the admin token; give the right one with --token-file or {TOKEN_VARIABLE}",
                self.url
            )));
        }
        let mut told = printable(&in_our_words(&error.message), 2000).into_owned();
        for problem in error.problems.iter().filter(|problem| !problem.warning) {
            let line = format!(
                "\n{}:{}  {}\n    {}",
                problem.file, problem.line, problem.what, problem.help
            );
            // Its line ends are ours.
            told.extend(
                line.split('\n')
                    .skip(1)
                    .map(|line| format!("\n{}", printable(line, 2000))),
            );
        }
        match status.is_client_error() {
            true => Err(Failure::Given(told)),
            false => Err(anyhow!("the gateway answered {status}: {told}").into()),
        }
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => anyhow!(
                "nothing answers at {}: is the gateway running? Start it with `tollgate run`",
                self.url
            )
            .into(),
            ureq::Error::BadUri(told) => Failure::Given(format!("--url: {told}")),
            error => anyhow::Error::new(error)
                .context(format!("the gateway at {} can't be asked", self.url))
                .into(),
        }
    }
}

/// A refusal's message with the words of the command line in place of the API's.
fn in_our_words(message: &str) -> String {
    let mut told = message
        .replace("see `used_by`", "see `tollgate secrets list`")
        .replace("say force=true", "say --force");
    for what in ["groups", "credentials", "secrets"] {
        let theirs = format!("GET /api/v1/{what} lists them");
        told = told.replace(&theirs, &format!("`tollgate {what} list` shows them"));
    }
    told
}

/// The configuration, read when it is first needed.
struct Lazy<'a> {
    conf: &'a Path,
    loaded: Option<Config>,
}

impl Lazy<'_> {
    fn get(&mut self) -> Result<&Config, Failure> {
        if self.loaded.is_none() {
            let (config, _warnings) = config::load::load(self.conf).map_err(|problems| {
                let mut told = String::from("the configuration can't be used; correct it, or give --url and a token");
                for problem in problems.iter().filter(|problem| !problem.warning) {
                    told.push_str(&format!("\n{problem}"));
                }
                Failure::Given(told)
            })?;
            self.loaded = Some(config);
        }
        self.loaded.as_ref().ok_or_else(|| anyhow!("no configuration").into())
    }
}

fn given_url(url: &str) -> Result<String, Failure> {
    let url = url.trim_end_matches('/');
    if url.starts_with("https://") {
        return Err(Failure::Given(
            "--url: the admin API speaks plain HTTP; reach a distant one through a tunnel (ssh -L) and give http://127.0.0.1:PORT"
                .into(),
        ));
    }
    if !url.starts_with("http://") {
        return Err(Failure::Given(format!(
            "--url: {url} is not an address like http://127.0.0.1:8081"
        )));
    }
    Ok(url.to_owned())
}

fn configured_url(config: &Config) -> Result<String, Failure> {
    let Some(mut address) = config.admin.listen else {
        return Err(Failure::Given(
            "the admin API is off: set admin.listen in the configuration, or give --url".into(),
        ));
    };
    // An address that means "every interface" is reached at this machine's own.
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    Ok(format!("http://{address}"))
}

/// The token: from the file given, the environment, or the data folder.
fn token(config: &mut Lazy<'_>, reach: &Reach) -> Result<Secret, Failure> {
    if let Some(file) = &reach.token_file {
        let text =
            read_private(file).map_err(|error| Failure::Given(format!("--token-file {}: {error}", file.display())))?;
        return fit(text.expose(), &file.display().to_string());
    }
    if let Ok(token) = std::env::var(TOKEN_VARIABLE)
        && !token.is_empty()
    {
        return fit(&token, TOKEN_VARIABLE);
    }
    let data = config.get()?.data.clone();
    let file = data.join("admin.token");
    match read_private(&file) {
        Ok(text) => return fit(text.expose(), &file.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow::Error::new(error).context(format!("{}", file.display())).into()),
    }
    let first_run = data.join("first-run.toml");
    let text = match read_private(&first_run) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::Given(format!(
                "no admin token: set {TOKEN_VARIABLE}, give --token-file, or run this where the gateway's data folder is \
                 (neither {} nor {} is there)",
                file.display(),
                first_run.display()
            )));
        }
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context(format!("{}", first_run.display()))
                .into());
        }
    };
    // What is wrong with the text is not told: it would quote the file.
    let table: Option<toml::Table> = text.expose().parse().ok();
    match table
        .as_ref()
        .and_then(|table| table.get("admin_token"))
        .and_then(|token| token.as_str())
    {
        Some(token) => fit(token, &first_run.display().to_string()),
        None => Err(Failure::Given(format!("{} holds no admin_token", first_run.display()))),
    }
}

fn read_private(file: &Path) -> io::Result<Secret> {
    std::fs::read_to_string(file).map(Secret::new)
}

/// The token without white space around it, if it can be one.
fn fit(text: &str, source: &str) -> Result<Secret, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Given(format!(
            "{source} holds no admin token: one word of printable ASCII is expected"
        )));
    }
    Ok(Secret::new(token))
}
