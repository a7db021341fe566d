//! `[provider.NAME]` and its credentials: the words of every problem.

use super::PROVIDER;
use super::rules::{credential, says};

/// A provider whose lines end with `lines`; they begin at line 4.
fn provider(lines: &str) -> String {
    format!("{PROVIDER}{lines}\n")
}

#[test]
fn problems_of_providers() {
    says(
        "[provider.Big]\ndialects = { openai_chat = \"http://a\" }\nauth = \"none\"\n",
        "1  provider.Big\n    a name has 1 to 64 of the characters a-z, 0-9, - and _\n",
    );
    says(
        "[provider.a]\nauth = \"none\"\n",
        "1  provider.a\n    dialects is missing. Write dialects = { DIALECT = \"https://api.example.com/v1\" }.\n",
    );
    says(
        "[provider.a]\ndialects = {}\nauth = \"none\"\n",
        "2  provider.a.dialects\n    it speaks no dialect. Name at least one, with its base URL.\n",
    );
    says(
        "[provider.a]\ndialects = { openai_caht = \"http://a\" }\nauth = \"none\"\n",
        "2  provider.a.dialects.openai_caht = \"http://a\"\n    there is no dialect of this name. Did you mean \
         \"openai_chat\"?   (known: gemini, anthropic, openai_responses, openai_chat)\n",
    );
    says(
        "[provider.a]\ndialects = { openai_chat = \"http://a\" }\n",
        "1  provider.a\n    it has no credential. Add [[provider.a.credential]] with name and key, or auth = \"none\" if \
         it wants none.\n",
    );
    says(
        &provider("[[provider.a.credential]]\nname = \"m\"\nkey = \"env:KEY\""),
        "4  provider.a.credential\n    auth = \"none\" says that this provider wants no key. Remove the credential, or \
         remove auth.\n",
    );
    says(
        &provider("http = \"1\""),
        "4  provider.a.http = \"1\"\n    it must be one of these.   (known: 1.1, 2, both)\n",
    );
    says(
        &provider("connect_to = [\"a:1\"]"),
        "4  provider.a.connect_to[0] = \"a:1\"\n    it must be an IP address and a port, as in \"127.0.0.1:8080\" or \
         \"[::1]:8080\"\n",
    );
    says(
        &provider("timeouts = { first_bite = \"1s\" }"),
        "4  provider.a.timeouts.first_bite\n    there is no field of this name. Did you mean \"first_byte\"?   (known: \
         connect, first_byte, idle, total)\n",
    );
    says(
        "provider = 7\n",
        "1  provider = 7\n    it must be a table, as in { ... }, not a whole number\n",
    );
}

#[test]
fn problems_of_auth() {
    let auth = |auth: &str| credential(&format!("name = \"m\"\nkey = \"env:KEY\"\n[provider.a.auth]\n{auth}"));
    says(
        &auth("header = \"a b\""),
        "7  provider.a.auth.header = \"a b\"\n    this is not a header's name, as \"x-api-key\" is\n",
    );
    says(
        &auth("header = \"Host\""),
        "7  provider.a.auth.header = \"Host\"\n    this header carries something else; a key can't be sent in it\n",
    );
    says(
        "[provider.a]\nauth = \"baerer\"\ndialects = { openai_chat = \"http://a\" }\n",
        "2  provider.a.auth = \"baerer\"\n    it must be one of these. Did you mean \"bearer\"?   (known: bearer, \
         none)\n",
    );
}

#[test]
fn problems_of_base_urls() {
    let example = "write it as \"https://api.example.com/v1\"";
    let none = String::new();
    for (url, shown, help) in [
        (
            "a/v1",
            "",
            format!("it is not a URL (relative URL without a base); {example}"),
        ),
        (
            "ftp://a",
            "",
            format!("the scheme must be https (or http, for providers of your own); {example}"),
        ),
        ("https://", "", format!("it is not a URL (empty host); {example}")),
        (
            "https://me:pw@a/v1",
            "hidden",
            "a base URL has no user or password; give the provider a credential instead".to_owned(),
        ),
        (
            "https://a/v1?key=pw",
            "hidden",
            "a base URL has no ? or # part; a key in it belongs into a credential, a version into the path".to_owned(),
        ),
        (
            "https://a/v1#x",
            "",
            "a base URL has no ? or # part; a key in it belongs into a credential, a version into the path".to_owned(),
        ),
        (
            " https://a",
            "",
            "it has white space around it or control characters in it; remove them".to_owned(),
        ),
        (
            "https://a/${UNSET",
            "",
            "the } after ${ is missing; write it as ${NAME}".to_owned(),
        ),
        (
            "https://a/${A-B}",
            "",
            "between ${ and } stands the name of an environment variable: letters, digits and _".to_owned(),
        ),
        (
            "https://a/${UNSET}?x",
            "hidden",
            "a base URL has no ? or # part; a key in it belongs into a credential, a version into the path".to_owned(),
        ),
        ("http://sandbox.internal/v1", "", none),
    ] {
        let text = format!("[provider.a]\nauth = \"none\"\ndialects.gemini = \"{url}\"\n");
        let shown = if shown.is_empty() {
            format!(" = \"{url}\"")
        } else {
            String::new()
        };
        let expected = match help.is_empty() {
            true => String::new(),
            false => format!("3  provider.a.dialects.gemini{shown}\n    {help}\n"),
        };
        says(&text, &expected);
    }
}

#[test]
fn problems_of_headers() {
    for (header, help) in [
        (
            "Authorization",
            "this header is for a key, and keys never stand in this file. Write it as a credential, with auth = { header \
             = \"...\" } if the provider wants it in this header.",
        ),
        (
            "x-goog-api-key",
            "this header is for a key, and keys never stand in this file. Write it as a credential, with auth = { header \
             = \"...\" } if the provider wants it in this header.",
        ),
        ("content-length", "the gateway sets this header itself; remove it"),
    ] {
        says(
            &provider(&format!("headers = {{ {header} = \"s3cr3t\" }}")),
            &format!("4  provider.a.headers.{header}\n    {help}\n"),
        );
    }
    says(
        &provider("headers = { x-a = \"1\", X-A = \"2\", \"a b\" = \"3\", x-c = \"4\\n5\" }"),
        "4  provider.a.headers.X-A\n    this header stands here twice, in different letters; remove one of them\n\
         4  provider.a.headers.\"a b\"\n    this is not a header's name, as \"http-referer\" is\n\
         4  provider.a.headers.x-c\n    a header's value is one line of visible characters\n",
    );
}

#[test]
fn problems_of_credentials() {
    let put = "put the key into an environment variable and write \"env:NAME\", or into a file of its own and write \
               \"file:PATH\", or into the gateway (`tollgate secrets set NAME`) and write \"store:NAME\"";
    for (key, help) in [
        (
            "\"sk-live-1\"",
            format!("a key must not stand in this file (if this is one, replace it now): {put}."),
        ),
        (
            "\"hunter2\"",
            format!("a key must not stand in this file (if this is one, replace it now): {put}."),
        ),
        (
            "\"store:sk-live-1\"",
            "after store: stands the name of a secret which the gateway keeps (a-z, 0-9, -, _ and ., beginning with a \
             letter or a digit), not the key itself"
                .to_owned(),
        ),
        (
            "\"env:sk-live-1\"",
            "after env: stands the name of an environment variable (letters, digits and _), not the key itself"
                .to_owned(),
        ),
        (
            "\"env:Qz7dkeyabcdefghijklmnopqrstuv0123\"",
            "after env: stands the name of an environment variable (letters, digits and _), not the key itself"
                .to_owned(),
        ),
        (
            "\"file:\"",
            "after file: stands the path of a file which holds the key and nothing else".to_owned(),
        ),
        ("1234567", "it must be a text in quotes, not a whole number".to_owned()),
        ("[\"hunter2\"]", "it must be a text in quotes, not a list".to_owned()),
    ] {
        // The value is never part of it.
        says(
            &credential(&format!("name = \"m\"\nkey = {key}")),
            &format!("5  provider.a.credential[0].key\n    {help}\n"),
        );
    }
    says(
        &credential("name = \"m\"\nkey = \"env:KEY\"\nweight = -1"),
        "6  provider.a.credential[0].weight = -1\n    it must be from 0 to 1000\n",
    );
    says(
        &credential("name = \"m\"\napi_key = \"hunter2\""),
        "3  provider.a.credential[0]\n    key is missing. Write key = \"env:NAME\" or key = \"file:PATH\".\n\
         5  provider.a.credential[0].api_key\n    there is no field of this name.   (known: name, weight, key, tags, \
         limits, proxy, bind)\n",
    );
    says(
        &credential("name = \"m\"\nkey = \"env:KEY\"\n[[provider.a.credential]]\nname = \"m\"\nkey = \"env:KEY\""),
        "7  provider.a.credential[1].name = \"m\"\n    there is another credential of this name at 4. Rename or remove \
         one of them.\n",
    );
}
