//! The processes which are compared. Each is started here on a free port of the loopback and stopped by its process id.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client;
use crate::rps::Rps;

/// Longest wait until a process serves, and until it has stopped.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A way to the sandbox.
pub struct Peer {
    /// Its name in the results.
    pub name: &'static str,
    /// Where it serves OpenAI Chat.
    pub url: String,
    /// Headers it wants.
    pub headers: Vec<String>,
    /// The process whose CPU time and memory count.
    pub process: Process,
}

/// What to start, and with what.
#[derive(clap::Args, Clone)]
pub struct Programs {
    /// The tollgate binary, for the sandbox and as a peer [default: beside this program's folder].
    #[arg(long)]
    pub tollgate: Option<PathBuf>,
    /// The bare_pingora binary [default: beside this program].
    #[arg(long)]
    pub bare_pingora: Option<PathBuf>,
    /// The nginx binary.
    #[arg(long, default_value = "nginx")]
    pub nginx: PathBuf,
    /// Template of tollgate's configuration: {{listen}}, {{dir}}, {{threads}} are filled in [default: built in].
    #[arg(long)]
    pub conf: Option<PathBuf>,
    /// Template of tollgate's rules: {{sandbox}} is filled in [default: built in].
    #[arg(long)]
    pub rules: Option<PathBuf>,
    /// Worker threads of each peer.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Threads of the sandbox.
    #[arg(long, default_value_t = 1)]
    pub sandbox_threads: usize,
}

/// The names of peers, in the order in which they are started.
pub const NAMES: [&str; 5] = ["direct", "nginx", "bare_pingora", "tollgate", "converted"];

impl Programs {
    fn beside(&self, given: Option<&PathBuf>, relative: &str) -> anyhow::Result<PathBuf> {
        let path = match given {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.parent().context("no folder")?.join(relative),
        };
        fs::canonicalize(&path).with_context(|| format!("{} is not there: build it first", path.display()))
    }

    /// The tollgate binary.
    pub fn tollgate(&self) -> anyhow::Result<PathBuf> {
        self.beside(self.tollgate.as_ref(), "../tollgate")
    }

    /// Starts a sandbox and says where it is.
    pub fn sandbox(&self) -> anyhow::Result<(Process, SocketAddr)> {
        let mut command = Command::new(self.tollgate()?);
        command.args([
            "sandbox",
            "--listen",
            "127.0.0.1:0",
            "--threads",
            &self.sandbox_threads.to_string(),
        ]);
        let child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("can't start the sandbox")?;
        let mut process = Process { child };
        let mut line = String::new();
        let output = process.child.stdout.as_mut().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line
            .trim()
            .rsplit_once("http://")
            .context("the sandbox does not say where it listens")?
            .1;
        let address = address.parse().with_context(|| format!("{address} is no address"))?;
        Ok((process, address))
    }

    /// Starts the peer of that name, its files in `dir`, and waits until it serves.
    pub fn start(&self, name: &'static str, sandbox: SocketAddr, dir: &Path) -> anyhow::Result<Peer> {
        let dir = dir.join(name);
        fs::create_dir_all(&dir)?;
        let listen = free_port()?;
        let path = "/v1/chat/completions";
        let mut headers = vec!["authorization: Bearer sk-load".to_owned()];
        let process = match name {
            "direct" => {
                // A sandbox of its own, so that its CPU time is that of this round only.
                let (process, address) = self.sandbox()?;
                return Ok(Peer {
                    name,
                    url: format!("http://{address}{path}"),
                    headers,
                    process,
                });
            }
            "nginx" => self.nginx(sandbox, listen, &dir)?,
            "bare_pingora" => {
                let program = self.beside(self.bare_pingora.as_ref(), "bare_pingora")?;
                let mut command = Command::new(program);
                command.args(["--listen", &listen.to_string(), "--upstream", &sandbox.to_string()]);
                command.args(["--threads", &self.threads.to_string()]);
                spawn(command, &dir)?
            }
            "tollgate" | "converted" => {
                let built_in = match name {
                    "converted" => include_str!("converted-rules.toml"),
                    _ => include_str!("tollgate-rules.toml"),
                };
                let (process, key) = self.gateway(sandbox, listen, &dir, built_in)?;
                if name == "tollgate" {
                    self.bind(&key, &dir)?;
                }
                headers = vec![format!("authorization: Bearer {key}")];
                process
            }
            other => bail!("there is no peer {other}"),
        };
        let mut peer = Peer {
            name,
            url: format!("http://{listen}{path}"),
            headers,
            process,
        };
        wait(&mut peer, listen, &dir)?;
        Ok(peer)
    }

    /// Gives the key what a customer's has: a group, limits of both a minute and at once, budgets of both, a markup. None of them
    /// is ever reached.
    fn bind(&self, key: &str, dir: &Path) -> anyhow::Result<()> {
        let id = key
            .strip_prefix("sk-tg-")
            .and_then(|rest| rest.split_once('-'))
            .with_context(|| format!("no key of the gateway is like the one in {}", dir.display()))?
            .0;
        let limits = ["--rpm=900000000", "--tpm=900000000000", "--concurrent=100000"];
        let budgets = ["--budget=day:tokens=900000000000", "--budget=month:money=900000000"];
        for what in [["groups", "create", "load"], ["keys", "update", id]] {
            let mut command = Command::new(self.tollgate()?);
            command.args(what).arg("--conf").arg(dir.join("tollgate.toml"));
            if what[0] == "keys" {
                command.args(["--group=load", "--markup=1.25"]);
            }
            let done = command.args(limits).args(budgets).current_dir(dir).output()?;
            if !done.status.success() {
                bail!("{}: {}", what.join(" "), String::from_utf8_lossy(&done.stderr).trim());
            }
        }
        Ok(())
    }

    fn nginx(&self, sandbox: SocketAddr, listen: SocketAddr, dir: &Path) -> anyhow::Result<Process> {
        let conf = include_str!("nginx.conf")
            .replace("{{sandbox}}", &sandbox.to_string())
            .replace("{{listen}}", &listen.to_string())
            .replace("{{threads}}", &self.threads.to_string());
        fs::write(dir.join("nginx.conf"), conf)?;
        let mut command = Command::new(&self.nginx);
        command
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .args(["-e", "stderr"]);
        spawn(command, dir)
    }

    fn gateway(
        &self,
        sandbox: SocketAddr,
        listen: SocketAddr,
        dir: &Path,
        built_in_rules: &str,
    ) -> anyhow::Result<(Process, String)> {
        let template = |given: &Option<PathBuf>, built_in: &str| match given {
            Some(file) => fs::read_to_string(file).with_context(|| format!("can't read {}", file.display())),
            None => Ok(built_in.to_owned()),
        };
        let conf = template(&self.conf, include_str!("tollgate.toml"))?
            .replace("{{listen}}", &listen.to_string())
            .replace("{{dir}}", &dir.display().to_string())
            .replace("{{threads}}", &self.threads.to_string());
        let rules = template(&self.rules, built_in_rules)?.replace("{{sandbox}}", &sandbox.to_string());
        fs::create_dir_all(dir.join("rules"))?;
        fs::write(dir.join("tollgate.toml"), conf)?;
        fs::write(dir.join("rules/10-load.toml"), rules)?;
        let mut command = Command::new(self.tollgate()?);
        command
            .arg("run")
            .arg("--conf")
            .arg(dir.join("tollgate.toml"))
            .current_dir(dir);
        let mut process = spawn(command, dir)?;
        let begun = Instant::now();
        loop {
            if let Ok(first_run) = fs::read_to_string(dir.join("data/first-run.toml"))
                && let Some(key) = first_run
                    .parse::<toml::Table>()
                    .ok()
                    .and_then(|t| Some(t.get("key")?.as_str()?.to_owned()))
            {
                return Ok((process, key));
            }
            alive(&mut process, begun, dir)?;
        }
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a program with its output in `dir/output.log`.
fn spawn(mut command: Command, dir: &Path) -> anyhow::Result<Process> {
    let log = fs::File::create(dir.join("output.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let program = command.get_program().to_string_lossy().into_owned();
    Ok(Process {
        child: command.spawn().with_context(|| format!("can't start {program}"))?,
    })
}

/// Fails if the process has ended, or time is up; waits a moment otherwise.
fn alive(process: &mut Process, begun: Instant, dir: &Path) -> anyhow::Result<()> {
    let ended = process.child.try_wait()?;
    if ended.is_some() || begun.elapsed() > START {
        let log = fs::read_to_string(dir.join("output.log")).unwrap_or_default();
        let last = log.lines().rev().take(5).collect::<Vec<_>>();
        let state = ended.map_or("does not serve".to_owned(), |status| format!("has ended ({status})"));
        bail!("it {state}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "));
    }
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

/// Waits until a request is answered with status 200.
fn wait(peer: &mut Peer, listen: SocketAddr, dir: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = client::Target::post(&peer.url, &peer.headers, &client::chat("sandbox/small", false, 256))?;
    loop {
        let asked = runtime.block_on(async {
            let asked = async { client::Connection::open(listen).await?.exchange(&target.request).await };
            tokio::time::timeout(Duration::from_secs(2), asked).await
        });
        match asked {
            Ok(Ok((200, _))) => return Ok(()),
            Ok(Ok((status, _))) if begun.elapsed() > START => bail!("it answers with status {status}"),
            _ => alive(&mut peer.process, begun, dir)?,
        }
    }
}

/// A run of requests against a peer.
pub fn requests(peer: &Peer, model: &str, size: usize, connections: usize, seconds: f64) -> Rps {
    Rps {
        url: peer.url.clone(),
        body: None,
        model: model.to_owned(),
        size,
        connections,
        seconds,
        pause: 0,
        threads: 1,
        header: peer.headers.clone(),
    }
}
