//! The metrics page: Prometheus text of the default registry.

use std::sync::Once;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{IntGauge, Opts, TextEncoder};

/// The page. Registers the metrics of the process and of the build at the first call.
pub fn page() -> Result<String, prometheus::Error> {
    static COMMON: Once = Once::new();
    COMMON.call_once(|| {
        if let Err(error) = register_common() {
            tracing::error!(%error, "metrics of the process are missing from the metrics page");
        }
    });
    TextEncoder::new().encode_to_string(&prometheus::gather())
}

fn register_common() -> prometheus::Result<()> {
    let build = Opts::new("tollgate_build_info", "Always 1; the label says which version runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    prometheus::register(Box::new(build))?;
    prometheus::register(Box::new(super::process::Process::new()?))
}

/// Serves `GET /metrics`. `before` is called before each page: what is only counted when it is asked for is set there.
pub fn router(before: impl Fn() + Clone + Send + Sync + 'static) -> Router {
    let page = async move || {
        before();
        serve().await
    };
    Router::new().route("/metrics", get(page))
}

async fn serve() -> Response {
    match page() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_version_and_process() {
        let page = page().expect("the registry can be written");
        let version = format!("tollgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&version), "no version: {page}");
        if cfg!(target_os = "linux") {
            for name in [
                "process_resident_memory_bytes",
                "process_open_fds",
                "process_cpu_seconds_total",
            ] {
                let line = page
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_else(|| panic!("no {name}"));
                let value: f64 = line.trim().parse().expect("a number");
                assert!(value >= 0.0, "{name} is {value}");
            }
        }
    }

    #[tokio::test]
    async fn the_page_is_served_as_prometheus_text() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/metrics", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move { axum::serve(listener, router(|| ())).await });
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(url).send().await.expect("an answer");
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (StatusCode::OK, &"text/plain; version=0.0.4".parse().expect("a header"))
        );
        assert!(
            answer
                .text()
                .await
                .expect("a text")
                .contains("# TYPE tollgate_build_info gauge")
        );
        server.abort();
    }
}
