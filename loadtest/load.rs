//! The load test's driver. What it measures and how to run it: `loadtest/README.md`.

mod client;
mod compare;
mod flood;
mod machine;
mod peers;
mod report;
mod rps;
mod streams;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures gateways for language-model APIs.
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Requests per second: a closed loop on keep-alive HTTP/1.1 connections.
    Rps(rps::Rps),
    /// More requests than can be served: an open loop at a fixed rate.
    Flood(flood::Flood),
    /// Many SSE streams at once.
    Streams(streams::Streams),
    /// Sandbox, nginx, bare Pingora and tollgate in interleaved rounds; writes a section into RESULTS.md.
    Compare(compare::Compare),
}

fn main() -> anyhow::Result<()> {
    raise_descriptors().context("can't raise the limit of open files")?;
    match Arguments::parse().command {
        Command::Rps(rps) => println!("{}", rps.run()?.to_json()),
        Command::Flood(flood) => println!("{}", flood.run()?),
        Command::Streams(streams) => println!("{}", streams.run()?),
        Command::Compare(compare) => compare.run()?,
    }
    Ok(())
}

/// Thousands of streams need thousands of descriptors, here and in the processes started from here.
fn raise_descriptors() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
