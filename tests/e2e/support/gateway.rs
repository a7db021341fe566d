//! The built binary, run as a user would: a folder with `conf/` and `rules/`, its own ports, its log in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use serde_json::Value;

use super::client::{self, Reply};
pub use super::setup::*;
use super::until;

/// How long a start or a stop may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway which runs.
pub struct Gateway {
    pub ports: Ports,
    /// Its client key.
    pub key: String,
    folder: tempfile::TempDir,
    options: Options,
    child: Option<Child>,
    /// Processes that took its place, one after the other. They are this process's children too, once the one before has ended.
    successors: Mutex<Vec<Pid>>,
}

impl Gateway {
    /// Writes a folder and starts the gateway in it.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["conf", "rules"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for (name, text) in &options.rules {
            fs::write(folder.path().join("rules").join(name), text).unwrap();
        }
        Self::start_in(folder, options, |path, ports, options| {
            if let Some((cert, key)) = &options.tls {
                fs::write(path.with_file_name("cert.pem"), cert).unwrap();
                fs::write(path.with_file_name("key.pem"), key).unwrap();
            }
            fs::write(path, configuration(ports, options)).unwrap()
        })
        .await
    }

    /// Starts in a folder prepared by the test; `configure` writes `conf/tollgate.toml` for the ports found.
    pub async fn start_in(
        mut folder: tempfile::TempDir,
        options: Options,
        configure: impl Fn(&Path, &Ports, &Options),
    ) -> Self {
        // So that a successor's exit code can be had.
        set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        for _ in 0..5 {
            let ports = Ports {
                http: free_port(),
                h2c: free_port(),
                tls: free_port(),
                admin: free_port(),
                metrics: free_port(),
            };
            configure(&folder.path().join("conf/tollgate.toml"), &ports, &options);
            let mut gateway = Gateway {
                ports,
                key: String::new(),
                folder,
                options: options.clone(),
                child: None,
                successors: Mutex::default(),
            };
            if gateway.run().await.is_ok() {
                gateway.key = gateway.first_run("key");
                return gateway;
            }
            let log = gateway.log();
            assert!(log.contains("listen on"), "the gateway did not start: {log}");
            // Somebody took the port between our look and its bind.
            folder = gateway.into_folder();
        }
        panic!("five races for a port were lost");
    }

    fn into_folder(mut self) -> tempfile::TempDir {
        self.stop_child();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Starts the process and waits until it is ready.
    async fn run(&mut self) -> Result<(), ExitStatus> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("stderr.log"))
            .unwrap();
        let out = File::options()
            .create(true)
            .append(true)
            .open(self.path("stdout.log"))
            .unwrap();
        let child = self
            .command()
            .stdout(out)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.stop_child();
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Err(status);
            }
            if client::try_get(self.ports.http, "/readyz")
                .await
                .is_some_and(|reply| reply.status == 200)
                // Each listener is bound by a service of its own: ready on one is not ready on all.
                && self.accepts_h2c().await
            {
                return Ok(());
            }
            assert!(Instant::now() < end, "not ready within {PATIENCE:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The second listener is there, if the configuration has it.
    async fn accepts_h2c(&self) -> bool {
        let conf = std::fs::read_to_string(self.path("conf/tollgate.toml")).unwrap_or_default();
        !conf.contains(&self.ports.h2c.to_string()) || tokio::net::TcpStream::connect(self.ports.h2c).await.is_ok()
    }

    /// The binary, in this folder and environment, without arguments.
    pub fn command(&self) -> Command {
        // Another build of it, as a release.
        let binary = std::env::var_os("TOLLGATE_E2E_BIN");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into());
        let mut command = match self.options.descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")])
                    .arg(binary);
                shell
            }
        };
        command
            .current_dir(self.folder.path())
            .env("E2E_PROVIDER_KEY", PROVIDER_KEY);
        for name in [
            "RUST_LOG",
            "HTTP_PROXY",
            "http_proxy",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
        ] {
            command.env_remove(name);
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the binary and returns (exit code, standard output, standard error).
    pub async fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command();
        command.args(arguments);
        let out = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        (
            out.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    /// What it wrote to standard output.
    pub fn out(&self) -> String {
        fs::read_to_string(self.path("stdout.log")).unwrap_or_default()
    }

    /// A value of `data/first-run.toml`.
    pub fn first_run(&self, name: &str) -> String {
        let text =
            fs::read_to_string(self.path("data/first-run.toml")).expect("the first start writes data/first-run.toml");
        let table: toml::Table = text.parse().unwrap();
        table[name].as_str().unwrap().to_owned()
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        match self.successors.lock().last() {
            Some(pid) => pid.as_raw_nonzero().get() as u32,
            None => self.child.as_ref().expect("it runs").id(),
        }
    }

    /// `tollgate upgrade`: the steps it told.
    pub async fn upgrade(&self) -> Vec<Value> {
        let (code, out, err) = self.cli(&["upgrade", "--json"]).await;
        assert_eq!(code, 0, "{out}{err}: {}", self.log());
        let steps: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let serving = steps.iter().find(|step| step["step"] == "serving").expect("it serves");
        let pid = Pid::from_raw(serving["pid"].as_i64().unwrap() as i32).unwrap();
        self.successors.lock().push(pid);
        steps
    }

    /// Waits until every process before the one that serves has ended.
    pub async fn alone(&self, bound: Duration) {
        until("the processes before have ended", bound, || async {
            (self.metric("tollgate_upgrade_phase{phase=\"serving\"}").await == 1.0).then_some(())
        })
        .await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// Kills it, as the kernel would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.take().unwrap().wait().unwrap();
    }

    /// Waits for its end; the exit code.
    pub async fn wait(&mut self) -> i32 {
        let serves = self.successors.lock().pop();
        if let Some(pid) = serves {
            let status = until("the process ends", PATIENCE, || {
                let ended = waitpid(Some(pid), WaitOptions::NOHANG);
                async move { ended.ok().flatten() }
            })
            .await;
            return status
                .1
                .exit_status()
                .unwrap_or_else(|| panic!("process {pid:?} was killed"));
        }
        let child = self.child.take().unwrap();
        let id = child.id();
        let mut child = Some(child);
        let status = until("the process ends", PATIENCE, || {
            let ended = child.as_mut().unwrap().try_wait().unwrap();
            async move { ended }
        })
        .await;
        status
            .code()
            .unwrap_or_else(|| panic!("process {id} was killed: {status}"))
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Starts it again on the same folder and ports.
    pub async fn restart(&mut self) {
        if let Err(status) = self.run().await {
            panic!("it did not start again: {status}: {}", self.log());
        }
    }

    fn stop_child(&mut self) {
        for pid in self.successors.lock().drain(..) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        client::get(self.ports.metrics, "/metrics").await.text()
    }

    /// The value of the line that begins with `series`.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        let line = page
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {series} on the metrics page"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Open descriptors of the process.
    pub async fn descriptors(&self) -> i64 {
        self.metric("process_open_fds").await as i64
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// A call of the admin API.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let token = fs::read_to_string(self.path("data/admin.token")).unwrap();
        let authorization = format!("Bearer {}", token.trim());
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        client::send(self.ports.admin, method, path, &headers, &body).await
    }

    /// All rows of the ledger. Those just written may come a moment later: poll.
    pub async fn rows(&self) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let reply = self
                .admin("GET", &format!("/api/v1/usage/rows?limit=1000{cursor}"), None)
                .await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let page = reply.json();
            rows.extend(page["rows"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    /// The rows, once there are `count` and none is open.
    pub async fn settled_rows(&self, count: usize) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let rows = self.rows().await;
            let open = self.status().await["ledger"]["open"].as_u64().unwrap();
            if rows.len() >= count && open == 0 {
                return rows;
            }
            assert!(
                Instant::now() < end,
                "{} rows of {count}, {open} open: {}",
                rows.len(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `/api/v1/status`.
    pub async fn status(&self) -> Value {
        self.admin("GET", "/api/v1/status", None).await.json()
    }

    /// Waits until no request is in flight and no row open.
    pub async fn idle(&self) {
        until("no request in flight, no row open", PATIENCE, || async {
            let open = self.status().await["ledger"]["open"].as_u64();
            (self.metric("tollgate_requests_in_flight").await == 0.0 && open == Some(0)).then_some(())
        })
        .await;
    }

    /// A POST with the client's key.
    pub async fn post(&self, path: &str, body: &[u8]) -> Reply {
        self.post_with(path, &[], body).await
    }

    /// … and more headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let authorization = self.bearer();
        let mut all = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        all.extend_from_slice(headers);
        client::send(self.ports.http, "POST", path, &all, body).await
    }

    /// The value of `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop_child();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            eprintln!(
                "---- the gateway's log ends:
{}",
                last.join(
                    "
"
                )
            );
        }
    }
}
