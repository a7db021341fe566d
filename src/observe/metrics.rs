//! The metrics page: Prometheus text of the default registry.

/// The page.
pub fn page() -> String {
    String::new()
}
