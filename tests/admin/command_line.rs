//! The commands `keys` and `usage` against a running admin API, as processes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Gateway, TOKEN};

const TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_TOKEN";

pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the command off the runtime, which serves it meanwhile.
async fn run(change: impl FnOnce(&mut Command)) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_remove(TOKEN_VARIABLE);
    change(&mut command);
    let done = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it ends");
    let Output { status, stdout, stderr } = done.expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome {
        code: status.code(),
        out: text(stdout),
        err: text(stderr),
    }
}

pub async fn tollgate(gateway: &Gateway, line: &str) -> Outcome {
    run(|command| {
        command
            .args(line.split(' '))
            .args(["--url", &gateway.url])
            .env(TOKEN_VARIABLE, TOKEN);
    })
    .await
}

#[tokio::test]
async fn keys_from_making_to_revoking() {
    let gateway = Gateway::start().await;
    let made = tollgate(
        &gateway,
        "keys create --name robot --owner team --tag search --tag critical",
    )
    .await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let key = made.out.trim();
    assert!(
        gateway.keys.ring().authenticate(key.as_bytes()).is_ok(),
        "standard output is the key alone: {key}"
    );
    let id = key["sk-tg-".len()..].split('-').next().expect("an id");

    let listed = tollgate(&gateway, "keys list").await;
    assert!(
        listed.out.contains(id)
            && ["robot", "team", "search, critical"]
                .iter()
                .all(|told| listed.out.contains(told)),
        "{}",
        listed.out
    );
    let listed: Value = serde_json::from_str(&tollgate(&gateway, "keys list --json").await.out).expect("JSON");
    assert_eq!(listed["keys"][0]["id"], id);

    let shown: Value =
        serde_json::from_str(&tollgate(&gateway, &format!("keys show {id} --json")).await.out).expect("JSON");
    assert_eq!(shown["name"], "robot");
    assert_eq!(shown["tags"], serde_json::json!(["search", "critical"]));
    let revoked = tollgate(&gateway, &format!("keys revoke {key}")).await;
    assert_eq!(revoked.code, Some(0), "a whole key does for its id: {}", revoked.err);
    assert!(
        gateway.keys.ring().authenticate(key.as_bytes()).is_err(),
        "refused from now on"
    );
    let secret = &key[key.len() - 32..];
    assert!(!revoked.out.contains(secret) && !revoked.err.contains(secret));

    let missing = tollgate(&gateway, "keys show AAAAAAAAAAAA").await;
    assert_eq!(missing.code, Some(1), "what was given is wrong");
    assert!(missing.err.contains("there is no key AAAAAAAAAAAA"), "{}", missing.err);
}

#[tokio::test]
async fn reports_have_a_line_of_totals() {
    let gateway = Gateway::start().await;
    for model in ["small", "large", "large"] {
        gateway.enter(0, |opening, _| opening.model = model.into());
    }
    let report = tollgate(&gateway, "usage report --by model").await;
    assert_eq!(report.code, Some(0), "{}", report.err);
    let lines: Vec<_> = report.out.lines().collect();
    assert_eq!(lines.len(), 5, "titles, two models, a rule, totals: {}", report.out);
    assert!(
        lines[0].starts_with("MODEL") && lines[4].starts_with("total"),
        "{}",
        report.out
    );
    assert!(
        lines
            .iter()
            .all(|line| line.chars().count() == lines[0].chars().count()),
        "aligned: {}",
        report.out
    );
    let json = tollgate(&gateway, "usage report --by model --model large --json").await;
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["total"]["attempts"], 2);
}

#[tokio::test]
async fn an_export_is_written_whole() {
    let gateway = Gateway::start().await;
    for _ in 0..3 {
        gateway.enter(0, |_, _| {});
    }
    let out = tollgate(&gateway, "usage export").await;
    assert_eq!((out.code, out.out.lines().count()), (Some(0), 3), "{}", out.err);
    let file = gateway.folder.path().join("out.csv");
    let done = tollgate(&gateway, &format!("usage export --format csv --out {}", file.display())).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(text.lines().count(), 4, "a header and three rows");
    assert!(!gateway.folder.path().join("out.csv.part").exists());
}

#[tokio::test]
async fn failures_say_whose_they_are() {
    let gateway = Gateway::start().await;
    let refused = run(|command| {
        command
            .args(["keys", "list", "--url", &gateway.url])
            .env(TOKEN_VARIABLE, "wrong");
    })
    .await;
    assert_eq!(refused.code, Some(1), "the token is wrong: {}", refused.err);
    assert!(refused.err.contains("refuses the admin token"), "{}", refused.err);

    let nobody = run(|command| {
        // A port that was free a moment ago, and is not served.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("an address")
            .port();
        command
            .args(["keys", "list", "--url", &format!("http://127.0.0.1:{port}")])
            .env(TOKEN_VARIABLE, TOKEN);
    })
    .await;
    assert_eq!(nobody.code, Some(2), "it could not be carried out: {}", nobody.err);
    assert!(nobody.err.contains("is the gateway running?"), "{}", nobody.err);

    let wrong = tollgate(&gateway, "usage report --from yesterday").await;
    assert_eq!(wrong.code, Some(1), "{}", wrong.err);
    assert!(wrong.err.contains("24h"), "it says what would be right: {}", wrong.err);
    let file = gateway.folder.path().join("no/such/folder/out");
    let out = tollgate(&gateway, &format!("usage export --out {}", file.display())).await;
    assert_eq!(out.code, Some(1), "{}", out.err);
}

#[tokio::test]
async fn an_export_that_breaks_off_leaves_no_file() {
    use std::io::{BufRead, BufReader, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let lines = BufReader::new(client.try_clone().expect("a handle")).lines();
        lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .for_each(drop);
        // A whole line, and no end of the body.
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        client
            .write_all(format!("{head}3\r\n{{}}\n\r\n").as_bytes())
            .expect("written");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.jsonl");
    std::fs::write(&file, "the export of yesterday").expect("written");
    let broken = run(|command| {
        let file = file.display().to_string();
        command
            .args(["usage", "export", "--url", &url, "--out", &file])
            .env(TOKEN_VARIABLE, TOKEN);
    })
    .await;
    server.join().expect("it served");
    assert_eq!(broken.code, Some(2), "{}", broken.err);
    assert!(broken.err.contains("not complete"), "{}", broken.err);
    assert_eq!(
        std::fs::read_to_string(&file).expect("the file"),
        "the export of yesterday"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("the folder").count(),
        1,
        "no part is left"
    );
}

fn write_conf(folder: &Path, admin: &str) -> String {
    let conf = folder.join("tollgate.toml");
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let text = format!("data = {:?}\n[admin]\nlisten = {admin:?}\n", data.display().to_string());
    std::fs::write(&conf, text).expect("the configuration");
    conf.display().to_string()
}

#[tokio::test]
async fn address_and_token_are_found_in_configuration_and_data_folder() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let conf = write_conf(folder.path(), gateway.url.trim_start_matches("http://"));
    let list = async || run(|command| _ = command.args(["--conf", &conf, "keys", "list"])).await;

    let none = list().await;
    assert_eq!(none.code, Some(1), "{}", none.err);
    assert!(none.err.contains(TOKEN_VARIABLE), "it says what to do: {}", none.err);

    let data = folder.path().join("data");
    std::fs::write(
        data.join("first-run.toml"),
        format!("client_key = \"x\"\nadmin_token = \"{TOKEN}\"\n"),
    )
    .expect("written");
    let found = list().await;
    assert_eq!(found.code, Some(0), "from first-run.toml: {}", found.err);

    std::fs::write(data.join("admin.token"), "wrong\n").expect("written");
    assert_eq!(list().await.code, Some(1), "admin.token comes first");
    std::fs::write(data.join("admin.token"), format!("{TOKEN}\n")).expect("written");
    assert_eq!(list().await.code, Some(0), "from admin.token");

    let file = folder.path().join("other.token");
    std::fs::write(&file, "wrong").expect("written");
    let file = file.display().to_string();
    let given = run(|command| _ = command.args(["--conf", &conf, "keys", "list", "--token-file", &file])).await;
    assert_eq!(given.code, Some(1), "a file that is given comes before all");
}

#[tokio::test]
async fn every_field_of_a_key_has_a_flag() {
    let gateway = Gateway::start().await;
    let run = async |line: &str| {
        let done = tollgate(&gateway, line).await;
        assert_eq!(done.code, Some(0), "{line}: {}", done.err);
        done.out
    };
    run("groups create team --description for-tests --budget month:money=100 --models small*,large").await;
    let made = run("keys create --name n --group team --expires 30d --rpm 60 --tpm 5 --concurrent 2 --budget \
                    day:money=0.5,requests=3 --models {a,b}-x,y --routes r --providers p,q --networks 10.0.0.0/8 --markup 1.25 \
                    --time-zone Europe/Berlin --disabled --json")
    .await;
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let policy = &made["policy"];
    assert_eq!(policy["models"], serde_json::json!(["{a,b}-x", "y"]));
    assert_eq!(
        policy["budgets"],
        serde_json::json!([{ "window": "day", "requests": 3, "money": "0.5" }])
    );
    assert_eq!(
        (&policy["markup"], &policy["disabled"]),
        (&Value::from("1.25"), &Value::from(true))
    );
    assert!(made["expires_at"].is_string());
    let id = made["id"].as_str().expect("an id");

    run(&format!("keys enable {id}")).await;
    let changed = run(&format!(
        "keys update {id} --clear expires,models,budgets --owner o --rpm 0 --json"
    ))
    .await;
    let changed: Value = serde_json::from_str(&changed).expect("JSON");
    assert_eq!(
        (
            &changed["owner"],
            &changed["expires_at"],
            &changed["policy"]["requests_per_minute"]
        ),
        (&Value::from("o"), &Value::Null, &Value::from(0))
    );
    assert_eq!(
        (&changed["policy"]["models"], &changed["state"]),
        (&serde_json::json!([]), &Value::from("active"))
    );
    let shown = run(&format!("keys show {id}")).await;
    for told in ["requests a minute", "Europe/Berlin", "used", "month"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    let group = run("groups show team").await;
    assert!(group.contains("100 dollars") && group.contains("for-tests"), "{group}");
    run("groups update team --clear description,models --budget total:tokens=9").await;
    let key = run(&format!("keys rotate {id} --overlap 1h")).await;
    assert!(gateway.keys.ring().authenticate(key.trim().as_bytes()).is_ok());
    run("groups disable team").await;
    assert!(run("keys list --state group_disabled").await.contains(id));
    run("groups delete team").await;
    assert!(run("groups list").await.contains("deleted"));
    let refused = tollgate(&gateway, "keys create --name n --group team").await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(run("audit list").await.contains("PATCH /api/v1/keys/{id}"));
    assert!(run("audit verify").await.contains("whole"));
    std::fs::remove_file(gateway.folder.path().join("audit.jsonl")).expect("deleted");
    run("groups create after").await;
    let lost = tollgate(&gateway, "audit verify").await;
    assert_eq!(lost.code, Some(1), "{}", lost.out);
    assert!(lost.err.contains("continues lines that are not there"), "{}", lost.err);
}

#[tokio::test]
async fn keys_are_imported_without_their_texts_leaving_the_machine() {
    let gateway = Gateway::start().await;
    let file = gateway.folder.path().join("old keys");
    let canary = "sk-canary-theirs-0123456789abcdefghij";
    let mut text = format!("{canary} build robot\n");
    for at in 0..200 {
        text += &format!("sk-other-{at:08}-0123456789\n");
    }
    std::fs::write(&file, text).expect("written");
    let file = file.display().to_string();
    let imported = run(|command| {
        command
            .args(["keys", "import", &file, "--owner", "them", "--url", &gateway.url])
            .env(TOKEN_VARIABLE, TOKEN);
    })
    .await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    assert!(imported.err.contains("201 keys taken over"), "{}", imported.err);
    assert!(
        imported.out.contains("build robot") && !imported.out.contains(canary),
        "{}",
        imported.out
    );
    let grant = gateway.keys.ring().authenticate(canary.as_bytes()).expect("it is good");
    assert_eq!(grant.key.owner.as_deref(), Some("them"));
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    assert!(!audit.contains("canary"));
}

#[tokio::test]
async fn tokens_are_made_and_do_what_their_role_allows() {
    let gateway = Gateway::start().await;
    let made = tollgate(&gateway, "tokens create --name robot --role viewer").await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let token = made.out.trim().to_owned();
    let with = async |line: &str| {
        run(|command| {
            command
                .args(line.split(' '))
                .args(["--url", &gateway.url])
                .env(TOKEN_VARIABLE, &token);
        })
        .await
    };
    assert_eq!(with("keys list").await.code, Some(0));
    let refused = with("keys create --name n").await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("needs the role operator"), "{}", refused.err);
    let revoked = tollgate(&gateway, &format!("tokens revoke {token}")).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    assert_eq!(with("keys list").await.code, Some(1));
    assert!(tollgate(&gateway, "tokens list").await.out.contains("robot"));
}

#[tokio::test]
async fn what_the_gateway_refuses_is_told_in_the_words_of_the_command_line() {
    let gateway = Gateway::start().await;
    let refused = tollgate(&gateway, "keys create --name n --networks 10.0.0.0/8,10.0.0.0/33").await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("`10.0.0.0/33` is no network"), "{}", refused.err);
    for line in ["groups show nope", "groups delete nope", "secrets delete nope"] {
        let refused = tollgate(&gateway, line).await;
        assert_eq!(refused.code, Some(1), "{line}");
        let what = line.split(' ').next().expect("a word");
        assert!(
            refused.err.contains(&format!("`tollgate {what} list`")),
            "{line}: {}",
            refused.err
        );
        assert!(!refused.err.contains("/api/"), "{line}: {}", refused.err);
    }

    let rules = gateway.folder.path().join("rules/70-stored.toml");
    let variable = "A_LONG_NAME_".repeat(10);
    let text = format!(
        "[provider.stored]\ndialects = {{ openai_chat = \"http://127.0.0.1:1\" }}\n\
         [[provider.stored.credential]]\nname = \"a\"\nkey = \"store:mine\"\n\
         [[provider.stored.credential]]\nname = \"b\"\nkey = \"env:{variable}\"\n"
    );
    std::fs::write(rules, text).expect("written");
    let made = gateway.request(reqwest::Method::PUT, "/api/v1/secrets/mine");
    let made = made
        .json(&serde_json::json!({ "secret": "a-secret" }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(made.status(), 201);
    let reloaded = gateway.request(reqwest::Method::POST, "/api/v1/reload").send().await;
    assert_eq!(reloaded.expect("an answer").status(), 200);
    let refused = tollgate(&gateway, "secrets delete mine").await;
    assert!(
        refused.err.contains("or say --force") && !refused.err.contains("force=true"),
        "{}",
        refused.err
    );
    let listed = tollgate(&gateway, "credentials list").await.out;
    assert!(
        listed.contains("stored/b: ") && listed.contains(&variable),
        "in full below: {listed}"
    );
}
