//! TLS of the listeners: what is told of certificates before anything is served.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use tollgate::app::tls::check;
use tollgate::clock::UnixMicros;
use tollgate::config::{ClientAuth, TlsVersion, UnknownName, load};

use super::Folder;

/// 2026-11-22.
const NOW: UnixMicros = UnixMicros(1_795_305_600_000_000);

/// A certificate for these names until this day, and its key: `NAME.pem`, `NAME.key`.
fn pair(folder: &Folder, name: &str, names: &[&str], end: (i32, u8, u8)) {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(end.0, end.1, end.2);
    params.distinguished_name.push(DnType::CommonName, "common.test");
    let key = KeyPair::generate().unwrap();
    folder.write(&format!("{name}.pem"), params.self_signed(&key).unwrap().pem());
    secret(folder.write(&format!("{name}.key"), key.serialize_pem()));
}

fn secret(path: PathBuf) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const LATE: (i32, u8, u8) = (2045, 6, 7);

/// What is told of one listener with this TLS; `FOLDER/` stands for the folder.
fn told(folder: &Folder, tls: &str) -> String {
    let tls = tls.replace("FOLDER", folder.path().to_str().unwrap());
    let file = folder.write(
        "tollgate.toml",
        format!("[[listener]]\nlisten = \"127.0.0.1:1\"\n{tls}\n"),
    );
    let (config, mut problems) = load::read(&file);
    problems.extend(check(&config, NOW));
    folder.show(&problems)
}

#[test]
fn good_certificates_are_no_news() {
    let folder = Folder::new();
    pair(&folder, "a", &["a.test", "*.a.test"], LATE);
    pair(&folder, "b", &["b.test"], LATE);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    folder.write(
        "ca.pem",
        authority.self_signed(&KeyPair::generate().unwrap()).unwrap().pem(),
    );
    assert_eq!(
        told(&folder, "tls = { cert = \"FOLDER/a.pem\", key = \"FOLDER/a.key\" }"),
        ""
    );
    let tls = "[listener.tls]\ncertificates = [{ cert = \"FOLDER/a.pem\", key = \"FOLDER/a.key\" }, { cert = \"FOLDER/b.pem\", key = \
               \"FOLDER/b.key\" }]\nunknown_name = \"refuse\"\nmin_version = \"1.3\"\nclient_ca = \"FOLDER/ca.pem\"\nclient_auth = \"request\"";
    assert_eq!(told(&folder, tls), "");
    let (config, _) = load::load(&folder.path().join("tollgate.toml")).unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(
        (
            tls.certificates.len(),
            tls.unknown_name,
            tls.min_version,
            tls.client_auth
        ),
        (2, UnknownName::Refuse, TlsVersion::V1_3, ClientAuth::Request)
    );
    assert_eq!(tls.certificates[1].place.1, 4, "the line is kept");
    assert!(config.listeners[0].http2, "on with TLS");
}

#[test]
fn every_problem_of_certificates_is_told_at_once_with_its_place() {
    let folder = Folder::new();
    pair(&folder, "a", &["a.test"], LATE);
    pair(&folder, "b", &["b.test"], LATE);
    folder.write("none.pem", "-----BEGIN RUBBISH-----\nAA==\n-----END RUBBISH-----\n");
    folder.write(
        "bad.pem",
        "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n",
    );
    let tls = "[listener.tls]\nclient_ca = \"FOLDER/none.pem\"\ncertificates = [\n\
               { cert = \"FOLDER/a.pem\", key = \"FOLDER/b.key\" },\n\
               { cert = \"FOLDER/bad.pem\", key = \"FOLDER/a.pem\" },\n\
               { cert = \"FOLDER/none.pem\", key = \"FOLDER/a.key\" },\n]";
    assert_eq!(
        told(&folder, tls),
        "tollgate.toml:6  key = \"b.key\"\n    it is not the key of the first certificate in \"a.pem\". The server's own \
         certificate must come first there, then those which signed it.\n\
         tollgate.toml:7  cert = \"bad.pem\"\n    its certificate 1 can't be read\n\
         tollgate.toml:7  key = \"a.pem\"\n    it has no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)\n\
         warning: tollgate.toml:7  key = \"a.pem\"\n    every user of this machine can read this private key; `chmod o-r` it\n\
         tollgate.toml:8  cert = \"none.pem\"\n    it has no certificate: no -----BEGIN CERTIFICATE----- line\n\
         tollgate.toml:3  client_ca = \"none.pem\"\n    it has no certificate: no -----BEGIN CERTIFICATE----- line\n"
    );
}

#[test]
fn what_is_allowed_but_hardly_meant_is_warned_of() {
    let folder = Folder::new();
    pair(&folder, "first", &["a.test", "b.test"], (2026, 12, 5));
    pair(&folder, "over", &["A.test", "B.test", "c.test"], (2026, 11, 1));
    pair(&folder, "nameless", &["192.0.2.1"], LATE);
    pair(&folder, "common", &[], LATE);
    pair(&folder, "again", &["common.test"], LATE);
    std::fs::set_permissions(folder.path().join("again.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let list = ["first", "over", "nameless", "common", "again"]
        .map(|name| format!("{{ cert = \"FOLDER/{name}.pem\", key = \"FOLDER/{name}.key\" }},\n"))
        .concat();
    assert_eq!(
        told(&folder, &format!("[listener.tls]\ncertificates = [\n{list}]")),
        "warning: tollgate.toml:5  cert = \"first.pem\"\n    it ends on 2026-12-05 00:00 UTC\n\
         warning: tollgate.toml:6  cert = \"over.pem\"\n    it ended on 2026-11-01 00:00 UTC: clients refuse it\n\
         warning: tollgate.toml:9  key = \"again.key\"\n    every user of this machine can read this private key; `chmod o-r` it\n\
         warning: tollgate.toml:6  cert = \"over.pem\"\n    a.test (and 1 more of its names) is in \"first.pem\" too, which comes \
         first and has the same kind of key: this one is not shown for it\n\
         warning: tollgate.toml:7  cert = \"nameless.pem\"\n    it names no domain, so no client is shown it: only the first \
         certificate stands in for other names\n\
         warning: tollgate.toml:9  cert = \"again.pem\"\n    common.test is in \"common.pem\" too, which comes first and has the \
         same kind of key: this one is not shown for it\n"
    );
}

#[test]
fn fields_of_tls_that_do_not_go_together_are_refused() {
    let folder = Folder::new();
    pair(&folder, "a", &["a.test"], LATE);
    let one = "cert = \"FOLDER/a.pem\", key = \"FOLDER/a.key\"";
    for (tls, expected) in [
        (
            format!("tls = {{ {one}, client_auth = \"request\" }}"),
            "listener[0].tls.client_auth = \"request\"\n    it says nothing without client_ca",
        ),
        (
            format!("tls = {{ {one}, certificates = [{{ {one} }}] }}"),
            "listener[0].tls.cert = \"a.pem\"\n    cert and key are for one certificate; with certificates = [...] they go into",
        ),
        (
            "tls = { certificates = [] }".to_owned(),
            "listener[0].tls.certificates\n    there must be 1 to 256 of them",
        ),
        (
            format!("tls = {{ {one}, min_version = \"1.1\" }}"),
            "listener[0].tls.min_version = \"1.1\"\n    it must be one of these. Did you mean \"1.2\"?   (known: 1.2, 1.3)",
        ),
        (
            format!("tls = {{ {one}, client_ca = \"FOLDER/none\" }}"),
            "listener[0].tls.client_ca = \"none\"\n    the file can't be read: it does not exist",
        ),
        (
            format!("tls = {{ {one}, client_cert = \"x\" }}"),
            "listener[0].tls.client_cert\n    there is no field of this name. Did you mean \"client_",
        ),
        (
            "tls = { certificates = [{ cert = \"FOLDER/a.pem\" }] }".to_owned(),
            "listener[0].tls.certificates[0]\n    key is missing.",
        ),
    ] {
        let told = told(&folder, &tls);
        assert!(
            told.starts_with("tollgate.toml:3  ") && told.contains(expected),
            "{tls}: {told}"
        );
    }
}
