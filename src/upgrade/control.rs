//! The socket in the data folder over which `tollgate upgrade` speaks to the running gateway: `data/run/control.sock`, in a folder only
//! its user can enter. One JSON line asks, JSON lines answer ([`Step`]).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::{Order, Step};

/// Largest question, in bytes: an environment may be in it.
const MAX_ORDER: u64 = 4 << 20;
/// How long a question may take to come.
const ASKING: std::time::Duration = std::time::Duration::from_secs(10);
/// Wait after a failed accept.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Steps that wait to be read.
const STEPS: usize = 64;

/// Where it is.
pub fn path(data: &Path) -> PathBuf {
    data.join("run").join("control.sock")
}

/// A socket that is not found yet.
pub struct Place {
    fresh: PathBuf,
    path: PathBuf,
}

impl Place {
    /// It takes the place of an older process's, in one step: there is always one that is heard.
    pub fn take_place(self) {
        let pid = self.path.with_file_name("tollgate.pid");
        let taken =
            fs::rename(&self.fresh, &self.path).and_then(|()| fs::write(pid, format!("{}\n", std::process::id())));
        if let Err(error) = taken {
            tracing::error!(%error, socket = %self.path.display(), "`tollgate upgrade` will not find this process");
        }
    }
}

/// The socket, under a name of its own.
pub fn bind(data: &Path) -> io::Result<(UnixListener, Place)> {
    let path = path(data);
    let folder = path.parent().unwrap_or(data);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let fresh = folder.join(format!("control.{}.sock", std::process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    listener.set_nonblocking(true)?;
    // Those of processes that came to nothing.
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("control.") && *name != *"control.sock" && fresh.file_name() != Some(name.as_ref().as_ref())
        {
            let _ = fs::remove_file(folder.join(&*name));
        }
    }
    Ok((listener, Place { fresh, path }))
}

/// Serves the socket for ever. `upgrade` is called for each order, on a thread of its own, and tells its steps.
pub async fn serve<F>(listener: UnixListener, upgrade: F) -> io::Result<()>
where
    F: Fn(Order, mpsc::Sender<Step>) + Clone + Send + 'static,
{
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor left, for instance.
                tracing::warn!(%error, "an order to upgrade could not be heard");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
            _ => continue,
        }
        let upgrade = upgrade.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, upgrade).await {
                tracing::debug!(%error, "who asked for an upgrade is gone");
            }
        });
    }
}

async fn answer<F>(stream: UnixStream, upgrade: F) -> io::Result<()>
where
    F: Fn(Order, mpsc::Sender<Step>) + Send + 'static,
{
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_ORDER));
    tokio::time::timeout(ASKING, read.read_line(&mut line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (steps, mut told) = mpsc::channel(STEPS);
    match serde_json::from_str(&line) {
        Ok(order) => {
            std::thread::Builder::new()
                .name("upgrade".into())
                .spawn(move || upgrade(order, steps))?;
        }
        Err(error) => {
            let why = format!("the order is not understood: {error}");
            let _ = steps.try_send(Step::Failed { why });
            drop(steps);
        }
    }
    while let Some(step) = told.recv().await {
        let mut line = serde_json::to_vec(&step)?;
        line.push(b'\n');
        write.write_all(&line).await?;
    }
    Ok(())
}
