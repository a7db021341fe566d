//! The OpenAPI document, and the paths it names.

use reqwest::Method;
use serde_json::Value;
use tollgate::admin;

use crate::support::{Answer, Gateway};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

fn document() -> Value {
    serde_json::to_value(admin::document()).expect("the document can be written")
}

/// Every operation: path, method, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("an object") {
            assert!(METHODS.contains(&method.as_str()), "{path} has {method}");
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert!(
        document["openapi"].as_str().expect("a version").starts_with("3.1."),
        "{}",
        document["openapi"]
    );
    let operations = operations(&document);
    assert_eq!(
        operations.len(),
        42,
        "a new operation needs a look at this test: {operations:#?}"
    );
    let mut ids = std::collections::BTreeSet::new();
    for (path, method, operation) in operations {
        let told = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
            "{told}: the id is taken"
        );
        assert!(
            operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
            "{told}: no summary"
        );
        let responses = operation["responses"].as_object().expect("responses");
        let good = responses
            .iter()
            .find(|(status, _)| status.starts_with('2'))
            .expect("a good answer")
            .1;
        let kinds = good["content"]
            .as_object()
            .unwrap_or_else(|| panic!("{told}: no content"));
        for (kind, content) in kinds {
            assert!(content["schema"].is_object(), "{told}: no schema of {kind}");
        }
        if path != admin::OPENAPI_PATH {
            let refused = &responses["401"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(
                refused, "#/components/schemas/Refused",
                "{told}: refusals have the one shape"
            );
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(
                parameter["description"].is_string(),
                "{told}: {parameter} is not described"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(reference)) = object.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                object.values().for_each(|value| walk(value, document));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, document)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

#[tokio::test]
async fn the_document_needs_no_token_and_every_path_in_it_is_served() {
    let gateway = Gateway::start().await;
    let answer = Answer::of(gateway.bare(Method::GET, admin::OPENAPI_PATH)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json(), document(), "what is served is what the code says");
    for (path, method, _) in operations(&document()) {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let path = path
            .replace("{id}", "AbCdEfGhIjKl")
            .replace(
                "{name}",
                if path.contains("{provider}") {
                    "{name}"
                } else {
                    "nobody"
                },
            )
            .replace("{provider}/{name}", "paid/nobody");
        let answer = Answer::of(gateway.request(method.clone(), &path)).await;
        let code = answer.status.as_u16();
        assert_ne!(code, 405, "{method} {path}");
        assert!(
            code != 404
                || [
                    "no key",
                    "no such credential",
                    "no such group",
                    "no admin token",
                    "no such secret"
                ]
                .iter()
                .any(|told| answer.text.contains(told)),
            "{method} {path} is not served: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn answers_hold_what_the_document_says() {
    let gateway = Gateway::start().await;
    gateway.enter(0, |_, _| {});
    let document = document();
    for (path, method, operation) in operations(&document) {
        let kinds = &operation["responses"]["200"]["content"];
        if method != "get" || path.contains('{') || path == admin::OPENAPI_PATH || kinds["application/json"].is_null() {
            continue;
        }
        let query = if path == "/api/v1/prices" {
            "?provider=paid&model=small-1"
        } else {
            ""
        };
        let answer = gateway.get(&format!("{path}{query}")).await;
        check(&answer, &kinds["application/json"]["schema"], &document, &path);
    }
}

/// Checks the part of JSON Schema that the document uses: references, required and known properties, items, types.
fn check(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(
            value,
            document.pointer(&reference[1..]).expect("it leads somewhere"),
            document,
            at,
        );
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choice = choices
            .iter()
            .find(|choice| (choice["type"] == "null") == value.is_null());
        return check(
            value,
            choice.unwrap_or_else(|| panic!("{at}: {value} is none of {choices:?}")),
            document,
            at,
        );
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|known| known == kind),
        known => known == kind,
    };
    assert!(fits, "{at}: {value} is not {}", schema["type"]);
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(required.as_str().expect("a name")).is_some(),
            "{at}: {required} is missing in {value}"
        );
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, value) in object {
            let schema = properties
                .get(name)
                .unwrap_or_else(|| panic!("{at}: {name} is not in the document"));
            check(value, schema, document, &format!("{at}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(item, &schema["items"], document, &format!("{at}[]"));
    }
}

#[test]
fn every_operation_says_which_role_it_needs() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        if path == admin::OPENAPI_PATH {
            continue;
        }
        let told = format!("{method} {path}");
        let description = operation["description"].as_str().unwrap_or_default();
        let role = ["viewer", "operator", "owner"]
            .into_iter()
            .find(|role| description.ends_with(&format!("Role: `{role}`.")))
            .unwrap_or_else(|| panic!("{told} does not say its role: {description}"));
        assert_eq!(operation["responses"]["403"].is_object(), role != "viewer", "{told}");
        assert!(method == "get" || role != "viewer", "{told}");
    }
}
