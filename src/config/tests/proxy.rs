//! The pool of proxies.

use super::*;

#[test]
fn a_proxy_is_an_address_or_an_address_with_a_login() {
    let text = "[proxy]\npool = [\"http://127.0.0.1:3128\", \"socks5://[::1]:1080\", \
                { url = \"socks5://proxy.example.com:1080\", username = \"me\", password = { env = \"P\" } }]\n";
    let loaded = load_text(text).expect("it is valid");

    let pool = &loaded.settings.proxy.pool;
    let shown: Vec<_> = pool.iter().map(|proxy| (proxy.url.as_str(), &proxy.login)).collect();
    let login = Some(("me".to_owned(), CredentialRef::Env("P".to_owned())));
    assert_eq!(
        shown,
        [
            ("http://127.0.0.1:3128/", &None),
            ("socks5://[::1]:1080", &None),
            ("socks5://proxy.example.com:1080", &login)
        ]
    );
    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");
    assert_eq!(again.settings.proxy, loaded.settings.proxy);
}

#[test]
fn an_invalid_proxy_is_rejected_without_quoting_it() {
    let cases = [
        "\"http://me:hunter2@127.0.0.1:3128\"",
        "[5]",
        "[\"hunter2\"]",
        "[\"http://127.0.0.1:3128\", \"http://me:hunter2@127.0.0.1:3128\"]",
        "[\"https://hunter2:443\"]",
        "[5, \"http://127.0.0.1:3128\", \"https://hunter2:443\"]",
        "[\"socks5h://hunter2:1080\"]",
        "[\"socks5://\"]",
        "[\"http://127.0.0.1:3128/hunter2\"]",
        "[{ url = \"http://127.0.0.1:3128\", username = \"me\" }]",
        "[{ url = \"http://127.0.0.1:3128\", password = { env = \"hunter2\" } }]",
        "[{ url = \"http://127.0.0.1:3128\", username = \"me\", password = \"hunter2\" }]",
        "[{ url = \"http://127.0.0.1:3128\", user = \"hunter2\" }]",
        "[{ url = \"http://127.0.0.1:3128\", username = \"me:hunter2\", password = { env = \"P\" } }]",
    ];
    let errors: Vec<String> =
        cases.iter().map(|pool| load_errors(&format!("[proxy]\npool = {pool}\n"))).collect();

    assert!(errors.iter().all(|error| error.lines().count() == 2), "{errors:#?}");
    assert!(errors.iter().all(|error| !error.contains("hunter2")), "{errors:#?}");
    let first_lines: Vec<&str> = errors.iter().filter_map(|error| error.lines().next()).collect();
    insta::assert_snapshot!(first_lines.join("\n"), @r#"
    config.toml:2:1: `proxy.pool` is not a list; write one such as ["http://127.0.0.1:3128"]
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it is 5; write a text in quotes
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it is not a valid URL (relative URL without a base); write "http://127.0.0.1:3128" or "socks5://127.0.0.1:1080"
    config.toml:2:1: `proxy.pool` has an invalid entry 2: it holds a user name or a password; secrets are never written in the configuration: write { url = "http://127.0.0.1:3128", username = "me", password = { file = "proxy-password" } }
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it is neither http nor socks5; write "http://127.0.0.1:3128" or "socks5://127.0.0.1:1080"
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it is 5; write a text in quotes; it has an invalid entry 3: it is neither http nor socks5; write "http://127.0.0.1:3128" or "socks5://127.0.0.1:1080"
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it is socks5h; write socks5://, which resolves names at the proxy too
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has no host, or more than a host and a port; write "http://127.0.0.1:3128" or "socks5://127.0.0.1:1080"
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has no host, or more than a host and a port; write "http://127.0.0.1:3128" or "socks5://127.0.0.1:1080"
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has no `password`; write { url = "http://127.0.0.1:3128", username = "me", password = { file = "proxy-password" } }
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has no `username`; write { url = "http://127.0.0.1:3128", username = "me", password = { file = "proxy-password" } }
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has a `password` that is not a reference; secrets are never written in the configuration: write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has an unknown key `user`; did you mean `username`?
    config.toml:2:1: `proxy.pool` has an invalid entry 1: it has a `username` with a colon or of more than 255 bytes, which proxies do not accept; correct it
    "#);
}

#[test]
fn plain_http_through_a_remote_proxy_needs_consent() {
    let plain = SOURCE_TABLE.replace("https://api.example.com", "http://127.0.0.1:8080");
    let through = |proxy: &str| format!("[proxy]\npool = [\"{proxy}\"]\n{plain}");

    assert!(load_text(&through("http://127.0.0.1:3128")).is_ok());
    for socks in ["socks5://localhost:1080", "socks5://127.0.0.1:1080", "socks5://[::1]:1080"] {
        assert!(load_text(&through(socks)).is_ok(), "{socks}");
    }
    let error = load_errors(&through("http://10.0.0.1:3128"));
    assert!(error.starts_with("config.toml:6:1: `source.work.url` is plain http"), "{error}");
    let consent = format!("{}allow_plaintext = true\n", through("http://10.0.0.1:3128"));
    assert!(load_text(&consent).is_ok());
}
