//! One request of a client, whatever it is: what a dialect reads can be written in every dialect or is refused, what is
//! written is a JSON object, and the same each time.

use http::{HeaderMap, Method};
use serde_json::Value;
use tollgate::dialects::{self, ALL, Line, Upstream};
use tollgate::ir::LossReport;

/// The check, for the dialect of that path.
pub fn check(path: &str, input: &[u8]) {
    let headers = HeaderMap::new();
    let line = Line {
        method: &Method::POST,
        path,
        query: "",
        headers: &headers,
    };
    let target = dialects::find(line).expect("a known path");
    let Ok(mut request) = target.dialect.decode_request(&target, input) else {
        return;
    };
    request.link_tools();
    for to in ALL {
        let upstream = Upstream {
            model: "a-model",
            stream: request.stream,
            ask_usage: true,
        };
        let mut loss = LossReport::default();
        let Ok(written) = to.encode_request(&request, &upstream, &mut loss) else {
            continue;
        };
        let value: Value = serde_json::from_slice(&written).expect("what is written is JSON");
        assert!(value.is_object(), "and an object");
        let again = to.encode_request(&request, &upstream, &mut LossReport::default());
        assert_eq!(again.ok().as_ref(), Some(&written), "and the same each time");
    }
}
