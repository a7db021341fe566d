//! What the tests stand on: a gateway as a process, a scripted provider, clients which see every byte, the dialects' words.

pub mod client;
pub mod dialect;
pub mod gateway;
pub mod h2;
pub mod keyed;
pub mod provider;
pub mod sandboxed;
pub mod setup;
pub mod tls_client;
pub mod tls_front;

use std::future::Future;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Held by tests which load the machine, so that they don't run beside each other.
pub static HEAVY: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(|| tokio::sync::Mutex::new(()));

/// Polls `condition` until it yields something; fails the test with `what` after `bound`.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Printable bytes which compress badly and repeat never within a test.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut random = Random(seed | 1);
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        let word = random.next();
        out.extend((0..8).map(|at| LETTERS[(word >> (at * 8)) as usize & 63]));
    }
    out.truncate(length);
    out
}

/// xorshift64*: reproducible, as it is for tests.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// `text` as a Rust-like literal, cut: for messages.
pub fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
    format!("{text:?} ({} bytes)", bytes.len())
}
