//! Ways to a provider, proven with Pingora's own connector: proxies, certificates, local addresses, and which connections
//! are shared. Providers and proxies are on the loopback, in this process.

mod certificates;
mod client;
mod endpoint;
mod origin;
mod pki;
mod post;
mod probe;
mod proxy;
mod reuse;
mod tunnels;
