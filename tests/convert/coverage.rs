//! The fixtures cover every field of every request of every dialect, as far as the providers' schemas know them
//! (`../shared/specs`; skipped loudly where they are missing).

use std::collections::BTreeSet;

use serde_json::Value;
use tollgate::dialects::ALL;

use crate::{fixtures, recordings};

/// Deepest unions of unions.
const MAX_DEPTH: usize = 12;

/// A JSON Schema with named definitions.
struct Schema {
    root: Value,
}

/// A field: the definition it stands in, and its name.
type Field = (String, String);

impl Schema {
    fn resolve<'s>(&'s self, node: &'s Value, path: &str) -> (String, &'s Value) {
        match node["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
            Some(name) => {
                let defs = if self.root["$defs"].is_object() {
                    "$defs"
                } else {
                    "definitions"
                };
                (name.to_owned(), &self.root[defs][name])
            }
            None => (path.to_owned(), node),
        }
    }

    /// The node and all it is a union or a sum of.
    fn branches<'s>(&'s self, node: &'s Value, path: &str, depth: usize, out: &mut Vec<(String, &'s Value)>) {
        if depth > MAX_DEPTH {
            return;
        }
        let (name, node) = self.resolve(node, path);
        for kind in ["anyOf", "oneOf", "allOf"] {
            for branch in node[kind].as_array().into_iter().flatten() {
                self.branches(branch, &name, depth + 1, out);
            }
        }
        out.push((name, node));
    }

    /// Does the word at `name` speak against this branch?
    fn contradicts(&self, branch: &Value, instance: &Value, name: &str) -> bool {
        let (_, words) = self.resolve(&branch["properties"][name], "");
        let said = &instance[name];
        if said.is_null() {
            let required = branch["required"].as_array().into_iter().flatten();
            return name == "type" && required.into_iter().any(|required| required == name);
        }
        match (words.get("const"), words["enum"].as_array()) {
            (Some(word), _) => word != said,
            (None, Some(words)) => !words.contains(said),
            (None, None) => false,
        }
    }

    /// Notes the fields of an instance.
    fn walk(&self, instance: &Value, node: &Value, path: &str, seen: &mut BTreeSet<Field>) {
        let mut branches = Vec::new();
        self.branches(node, path, 0, &mut branches);
        for (name, branch) in branches {
            for element in instance.as_array().into_iter().flatten() {
                self.walk(element, &branch["items"], &name, seen);
            }
            let Some(object) = instance.as_object() else { continue };
            if ["type", "role"]
                .iter()
                .any(|word| self.contradicts(branch, instance, word))
            {
                continue;
            }
            for (key, value) in object {
                if let Some(property) = branch["properties"].get(key) {
                    seen.insert((name.clone(), key.clone()));
                    self.walk(value, property, &format!("{name}.{key}"), seen);
                } else if branch["additionalProperties"].is_object() {
                    self.walk(value, &branch["additionalProperties"], &format!("{name}.*"), seen);
                }
            }
        }
    }

    /// All fields there are.
    fn fields(&self, node: &Value, path: &str, visited: &mut BTreeSet<String>, out: &mut BTreeSet<Field>) {
        let (name, resolved) = self.resolve(node, path);
        if node.get("$ref").is_some() && !visited.insert(name.clone()) {
            return;
        }
        for (key, property) in resolved["properties"].as_object().into_iter().flatten() {
            out.insert((name.clone(), key.clone()));
            self.fields(property, &format!("{name}.{key}"), visited, out);
        }
        for kind in ["anyOf", "oneOf", "allOf"] {
            for branch in resolved[kind].as_array().into_iter().flatten() {
                self.fields(branch, &name, visited, out);
            }
        }
        for (inner, path) in [("items", name.clone()), ("additionalProperties", format!("{name}.*"))] {
            if resolved[inner].is_object() {
                self.fields(&resolved[inner], &path, visited, out);
            }
        }
    }
}

#[test]
fn fixtures_cover_every_field_of_the_schemas() {
    let mut missing = Vec::new();
    for dialect in ALL {
        let path = recordings::shared().join(format!("specs/{}.request.schema.json", dialect.id()));
        let Ok(text) = std::fs::read(&path) else {
            eprintln!("SKIPPED: no schema at {} (set TOLLGATE_SHARED)", path.display());
            continue;
        };
        let schema = Schema {
            root: serde_json::from_slice(&text).expect("a schema is JSON"),
        };
        let (mut all, mut seen) = (BTreeSet::new(), BTreeSet::new());
        schema.fields(&schema.root, "the request", &mut BTreeSet::new(), &mut all);
        for fixture in fixtures::requests()
            .iter()
            .filter(|fixture| fixture.dialect.id() == dialect.id())
        {
            schema.walk(&fixture.body, &schema.root, "the request", &mut seen);
        }
        println!("{}: {} fields", dialect.id(), all.len());
        let unseen = all
            .difference(&seen)
            .map(|(within, field)| format!("{}: {within}.{field}", dialect.id()));
        missing.extend(unseen);
    }
    assert!(missing.is_empty(), "no fixture has\n  {}", missing.join("\n  "));
}
