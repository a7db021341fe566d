use super::*;
use crate::dialects;
use crate::ir::{Block, Role, Set, Tool, ToolResult};

const RULE: NameRule = NameRule {
    max: 12,
    also: "_-",
    letter_first: true,
};

fn tool(kind: ToolDefinition) -> Tool {
    Tool {
        kind,
        cache: None,
        at: "tools[0]".into(),
        native: Vec::new(),
    }
}

fn named(name: &str, group: Option<&str>) -> Tool {
    tool(ToolDefinition::Function {
        name: name.into(),
        description: None,
        parameters: None,
        strict: None,
        namespace: group.map(str::to_owned),
    })
}

/// A dialect without groups and free-text tools.
fn plain() -> &'static dyn Dialect {
    dialects::ALL
        .iter()
        .copied()
        .find(|dialect| !dialect.has_tool_namespaces() && !dialect.has_custom_tools())
        .expect("there is one")
}

#[test]
fn names_fit_and_stay_apart() {
    assert_eq!(fitted("fine-name", RULE), "fine-name");
    assert_eq!(fitted("über.x", RULE), "_ber_x");
    assert_eq!(fitted("1st", RULE), "_1st");
    assert_eq!(fitted("", RULE), "_");
    let (long, other) = (fitted("a_very_long_name", RULE), fitted("a_very_long_nose", RULE));
    assert!(RULE.allows(&long) && RULE.allows(&other) && long != other);
    let taken = HashSet::from(["a".to_owned(), "a_2".to_owned()]);
    assert_eq!(unique("a".into(), RULE, &taken), "a_3");
}

#[test]
fn groups_become_prefixes_and_come_back() {
    let mut request = Request {
        tools: vec![named("read", None), named("read", Some("files"))],
        tool_choice: Some(Set::new(ToolChoice::Tool("read".into()), "tool_choice")),
        ..Request::default()
    };
    let names = adapt(&mut request, plain(), &mut LossReport::default());
    let wires: Vec<_> = request
        .tools
        .iter()
        .map(|tool| match &tool.kind {
            ToolDefinition::Function { name, .. } => name.as_str(),
            _ => "",
        })
        .collect();
    assert_eq!(wires, ["read", "files__read"]);
    assert_eq!(names.own("read"), None);
    let own = names.own("files__read").expect("known");
    assert_eq!((own.name.as_str(), own.namespace.as_str()), ("read", "files"));
    assert_eq!(
        request.tool_choice.map(|c| c.value),
        Some(ToolChoice::Tool("read".into()))
    );
}

#[test]
fn free_text_tools_become_functions_and_history_follows() {
    let call = |id: &str| {
        Block::new(
            Content::ToolCall(ToolCall {
                id: id.into(),
                name: "patch".into(),
                arguments: "*** Begin \"x\"".into(),
                kind: ToolKind::Custom,
                namespace: None,
            }),
            "",
        )
    };
    let result = Block::new(
        Content::ToolResult(ToolResult {
            call: "a b".into(),
            name: Some("patch".into()),
            blocks: Vec::new(),
            is_error: None,
            kind: ToolKind::Custom,
        }),
        "",
    );
    let mut request = Request {
        tools: vec![tool(ToolDefinition::Custom {
            name: "patch".into(),
            description: Some("Patches.".into()),
            format: Some(json!({"type": "grammar", "syntax": "lark", "definition": "start: /x/"})),
            namespace: None,
        })],
        messages: vec![
            Message {
                blocks: vec![call("a b")],
                ..Message::new(Role::Assistant, "")
            },
            Message {
                blocks: vec![result],
                ..Message::new(Role::User, "")
            },
        ],
        ..Request::default()
    };
    let mut loss = LossReport::default();
    let names = adapt(&mut request, plain(), &mut loss);
    assert_eq!(loss.losses().len(), 1);
    assert_eq!(names.own("patch").map(|own| own.kind), Some(ToolKind::Custom));
    let ToolDefinition::Function { description, .. } = &request.tools[0].kind else {
        unreachable!()
    };
    assert!(description.as_ref().is_some_and(|text| text.contains("start: /x/")));
    let Content::ToolCall(called) = &request.messages[0].blocks[0].content else {
        unreachable!()
    };
    assert_eq!(free_text(&called.arguments).as_deref(), Some("*** Begin \"x\""));
    let Content::ToolResult(result) = &request.messages[1].blocks[0].content else {
        unreachable!()
    };
    assert_eq!(result.call, called.id, "the result follows its call");
    assert!(plain().tool_id_rule().allows(&called.id));
}

#[test]
fn names_made_up_alike_are_told_apart() {
    // A dialect which keeps groups, and takes no dots.
    let grouped = dialects::ALL
        .iter()
        .copied()
        .find(|dialect| dialect.has_tool_namespaces())
        .expect("there is one");
    let mut request = Request {
        tools: vec![named("fs.read", None), named("fs_read", None)],
        ..Request::default()
    };
    let names = adapt(&mut request, grouped, &mut LossReport::default());
    let wires: Vec<_> = request
        .tools
        .iter()
        .map(|tool| match &tool.kind {
            ToolDefinition::Function { name, .. } => name.clone(),
            _ => String::new(),
        })
        .collect();
    assert_ne!(wires[0], wires[1], "each has a name of its own");
    for (wire, own) in wires.iter().zip(["fs.read", "fs_read"]) {
        assert_eq!(
            names.own(wire).map_or(wire.as_str(), |own| &own.name),
            own,
            "and gets its own back"
        );
    }
}
