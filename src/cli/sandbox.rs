//! `tollgate sandbox`: the stand-in provider by itself.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// A stand-in provider that speaks all four dialects, for trying out, tests and load tests. The model name says what it
/// does.
#[derive(clap::Args, Debug)]
#[command(after_help = crate::sandbox::script::HELP)]
pub struct Sandbox {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Threads which serve.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Remember the last requests as received, for GET /_sandbox/last. They hold the keys of who asks.
    #[arg(long)]
    record: bool,
}

impl Sandbox {
    /// Runs the command: serves until SIGINT or SIGTERM.
    pub fn execute(self) -> Result<(), Failure> {
        // The thread which accepts is one of them.
        let runtime = if self.threads == 1 {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?
        } else {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(self.threads.into())
                .enable_all()
                .build()?
        };
        runtime.block_on(self.serve())?;
        Ok(())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("can't listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // The first line is for programs: the load test reads the address from it. Nobody need read on.
        let body = r#"{"model":"small","messages":[{"role":"user","content":"Hi"}]}"#;
        let _ = write!(
            std::io::stdout(),
            "sandbox listening on http://{address}\n\
             \x20 all four dialects; any key, any model name; for example:\n\
             \x20 curl http://{address}/v1/chat/completions -d '{body}'\n\
             \x20 what it served: http://{address}/_sandbox/counts\n"
        );
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        crate::sandbox::serve(
            listener,
            crate::sandbox::Sandbox::new(self.record),
            std::future::pending(),
            stop,
        )
        .await?;
        Ok(())
    }
}
