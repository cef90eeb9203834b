//! The revocation list over HTTP, as clients of it fetch it: curl, and OpenSSL to look at it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::path::Path;

use support::{Home, Up, complaint, free_port, tool, until};

/// A GET by curl: status, headers, and the body in this file.
fn get(url: &str, into: &Path, headers: &[&str]) -> (u16, String) {
    let out = into.display().to_string();
    let mut words = vec!["-sS", "--max-time", "20", "-D", "-", "-o", &out];
    for header in headers {
        words.extend(["-H", header]);
    }
    words.push(url);
    let fetched = tool("curl", &words);
    assert!(fetched.status.success(), "{url}: {}", complaint(&fetched));
    let head = String::from_utf8(fetched.stdout).unwrap();
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), head)
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("{name}: {head}")).1.trim()
}

fn openssl(words: &[&str]) -> String {
    let output = tool("openssl", words);
    assert!(output.status.success(), "{words:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn everybody_gets_the_list_and_certificates_say_where() {
    let home = Home::new();
    let port = free_port();
    let config =
        format!("[ca]\ncrl_listen = [\"127.0.0.1:{port}\"]\ncrl_url = \"http://127.0.0.1:{port}/\"\n");
    fs::write(home.path("quoll.toml"), config).unwrap();
    home.init();
    home.ok(&["client", "add", "wall"]);
    let mut up = home.up(&[]);
    up.wait_for(|line| line == format!("Revocation list on http://127.0.0.1:{port}/ca.crl"));
    let (file, ca) = (home.path("fetched.crl"), home.path("pki/ca.crt").display().to_string());
    let base = format!("http://127.0.0.1:{port}");
    let (status, head) = get(&format!("{base}/ca.crl"), &file, &[]);
    assert_eq!((status, header(&head, "content-type")), (200, "application/pkix-crl"));
    let shown = |file: &Path| {
        openssl(&["crl", "-inform", "DER", "-in", file.to_str().unwrap(), "-noout", "-text", "-CAfile", &ca])
    };
    assert!(shown(&file).contains("No Revoked Certificates"));

    // Nothing new is not sent again.
    let (tag, date) = (header(&head, "etag").to_owned(), header(&head, "last-modified").to_owned());
    let same = format!("If-None-Match: {tag}");
    assert_eq!(get(&format!("{base}/ca.crl"), &home.path("none"), &[&same]).0, 304);
    assert_eq!(
        get(&format!("{base}/ca.crl"), &home.path("none"), &[&format!("If-Modified-Since: {date}")]).0,
        304
    );

    // A revocation is in the next one.
    let revoked = home.json(&["client", "revoke", "wall", "--yes"]);
    let (status, head) = get(&format!("{base}/ca.crl"), &file, &[&same]);
    assert_eq!(status, 200);
    assert_ne!(header(&head, "etag"), tag);
    assert!(shown(&file).contains(revoked["serials"][0].as_str().unwrap()));
    assert_eq!(get(&format!("{base}/other"), &home.path("none"), &[]).0, 404);
    let posted = tool(
        "curl",
        &["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", &format!("{base}/ca.crl")],
    );
    assert_eq!(String::from_utf8(posted.stdout).unwrap(), "405");

    // What the server's certificate names is there; a device's has no room for it.
    let text = |name: &str| {
        openssl(&[
            "x509",
            "-in",
            home.path(&format!("pki/issued/{name}.crt")).to_str().unwrap(),
            "-noout",
            "-text",
        ])
    };
    let server = home.json(&["server", "show"])["name"].as_str().unwrap().to_owned();
    let named = text(&server);
    let url = named
        .split("URI:")
        .nth(1)
        .expect("cRLDistributionPoints")
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    assert!(url.starts_with(&format!("{base}/")) && url.ends_with(".crl"), "{url}");
    assert_eq!(get(&url, &home.path("named"), &[]).0, 200);
    assert_eq!(fs::read(home.path("named")).unwrap(), fs::read(&file).unwrap());
    home.ok(&["ca", "issue", "lamp", "--profile", "tasmota"]);
    assert!(!text("lamp").contains("URI:"));
    let certificate = home.path(&format!("pki/issued/{server}.crt")).display().to_string();
    let crl_pem = home.path("pki/crl.pem").display().to_string();
    openssl(&["verify", "-crl_check", "-CRLfile", &crl_pem, "-CAfile", &ca, &certificate]);

    // As files.
    for (name, form) in [("out.crl", "DER"), ("out.pem", "PEM")] {
        let path = home.path(name).display().to_string();
        assert_eq!(home.json(&["ca", "crl", "--export", &path])["form"], form);
        openssl(&["crl", "-inform", form, "-in", &path, "-noout"]);
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn the_dashboard_has_it_too_both_cas_during_a_rollover_and_a_list_that_ends_is_told() {
    let home = Home::new();
    home.init();
    home.ok(&["ca", "rollover", "start"]);
    let listen = format!("127.0.0.1:{}", home.port);
    let web = format!("127.0.0.1:{}", free_port());
    let mut up = Up::of(home.command(&["up", "--listen", &listen, "--web", &web]));
    up.wait_for(|line| line.starts_with("Dashboard on"));
    let file = home.path("fetched.crl");
    let (status, head) = get(&format!("http://{web}/ca.crl"), &file, &[]);
    assert_eq!((status, header(&head, "content-type")), (200, "application/pkix-crl"));
    for (folder, ca) in [("pki", "Quoll CA"), ("pki-next", "Quoll CA 2")] {
        let pki = quoll_pki::Pki::open(&home.path(folder)).unwrap();
        let (status, _) = get(&format!("http://{web}/crl/{}.crl", pki.ca().anchor_id()), &file, &[]);
        assert_eq!(status, 200);
        let issuer = openssl(&["crl", "-inform", "DER", "-in", file.to_str().unwrap(), "-noout", "-issuer"]);
        assert!(issuer.trim().ends_with(&format!("CN = {ca}")), "{issuer}");
    }
    assert_eq!(up.stop(), 0);

    // A list that is over, by OpenSSL: it is handed out as it is, and everybody is told.
    let openssl_conf = home.path("pki/openssl-easyrsa.cnf").display().to_string();
    let passphrase = fs::read_to_string(home.path("ca-passphrase")).unwrap();
    let mut command = std::process::Command::new("openssl");
    command.args(["ca", "-gencrl", "-config", &openssl_conf, "-crl_lastupdate", "20200101000000Z"]);
    command.args(["-crl_nextupdate", "20200102000000Z", "-passin", &format!("pass:{}", passphrase.trim())]);
    command.arg("-out").arg(home.path("pki/crl.pem")).current_dir(home.dir.path());
    for (name, value) in
        [("PKI", home.path("pki").display().to_string()), ("CA_EXPIRE", "1".into()), ("CRL_DAYS", "1".into())]
    {
        command.env(format!("EASYRSA_{name}"), value);
    }
    for (name, value) in
        [("CERT_EXPIRE", "1"), ("DIGEST", "sha256"), ("KEY_SIZE", "2048"), ("DN", "cn_only"), ("REQ_CN", "x")]
    {
        command.env(format!("EASYRSA_{name}"), value);
    }
    for name in ["COUNTRY", "PROVINCE", "CITY", "ORG", "OU", "EMAIL"] {
        command.env(format!("EASYRSA_REQ_{name}"), "x");
    }
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", complaint(&made));
    let shown = home.run(&["ca", "show"]);
    assert!(complaint(&shown).contains("is over since 2020-01-02"), "{}", complaint(&shown));
    assert!(home.ok(&["ca", "check"]).contains("quoll ca crl"));
    let mut up = home.up(&[]);
    up.wait_for(|line| line.contains("is over since 2020-01-02") && line.contains("quoll ca crl"));
    assert_eq!(up.stop(), 0);
    home.ok(&["ca", "crl"]);
    until(|| complaint(&home.run(&["ca", "show"])), |said| !said.contains("is over since"));
}
