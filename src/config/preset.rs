//! Presets of mail providers: the server of an account, the limits of its operator, and the
//! endpoints of its sign-in.
//!
//! A preset only fills what the configuration leaves out.

/// Connections of an account to a server of which nothing else is known. Dovecot accepts ten of a
/// user from one address, and other programs need some.
pub(super) const DEFAULT_CONNECTIONS: u32 = 4;

/// Server and limits of a mail provider.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Preset {
    /// Name of the preset, and default of `provider`.
    pub(super) name: &'static str,
    /// Domains of its accounts, in lower case. A `*` at the end stands for `com`, `co.uk` and such.
    domains: &'static [&'static str],
    /// IMAP server of these accounts.
    pub(super) host: &'static str,
    /// Other names of the server, for accounts in a domain of their own.
    other_hosts: &'static [&'static str],
    /// Connections of one account.
    pub(super) connections: u32,
    /// Bytes that one account may download a day, as far as the provider says so.
    pub(super) bytes_per_day: Option<u64>,
    /// False if the provider has switched password authentication off.
    pub(super) accepts_passwords: bool,
    /// Sign-in with OAuth 2.0, as far as the provider registers clients for mail.
    pub(super) sign_in: Option<SignInPreset>,
}

/// OAuth 2.0 endpoints of a mail provider, and the permission to read mail over IMAP.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct SignInPreset {
    pub(super) authorize_url: &'static str,
    pub(super) token_url: &'static str,
    pub(super) device_url: Option<&'static str>,
    pub(super) scopes: &'static [&'static str],
    /// Permissions of an application without a user; those of a user if empty.
    pub(super) application_scopes: &'static [&'static str],
}

impl Preset {
    const fn new(name: &'static str, domains: &'static [&'static str], host: &'static str) -> Self {
        Self {
            name,
            domains,
            host,
            other_hosts: &[],
            connections: DEFAULT_CONNECTIONS,
            bytes_per_day: None,
            accepts_passwords: true,
            sign_in: None,
        }
    }
}

/// The device endpoint of Google grants no access to mail
/// (<https://developers.google.com/identity/protocols/oauth2/limited-input-device#allowedscopes>).
const GOOGLE_SIGN_IN: SignInPreset = SignInPreset {
    authorize_url: "https://accounts.google.com/o/oauth2/v2/auth",
    token_url: "https://oauth2.googleapis.com/token",
    device_url: None,
    scopes: &["https://mail.google.com/"],
    // Shows all labels over IMAP, whatever the settings of the user are.
    application_scopes: &["https://www.googleapis.com/auth/gmail.imap_admin"],
};

/// `common` is for the accounts of organisations and for personal ones.
const MICROSOFT_SIGN_IN: SignInPreset = SignInPreset {
    authorize_url: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
    token_url: "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    device_url: Some("https://login.microsoftonline.com/common/oauth2/v2.0/devicecode"),
    scopes: &["https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access"],
    application_scopes: &["https://outlook.office365.com/.default"],
};

/// The device endpoint of Yandex does not follow RFC 8628.
const YANDEX_SIGN_IN: SignInPreset = SignInPreset {
    authorize_url: "https://oauth.yandex.com/authorize",
    token_url: "https://oauth.yandex.com/token",
    device_url: None,
    scopes: &["mail:imap_ro"],
    application_scopes: &[],
};

const MAILRU_SIGN_IN: SignInPreset = SignInPreset {
    authorize_url: "https://o2.mail.ru/login",
    token_url: "https://o2.mail.ru/token",
    device_url: None,
    scopes: &["userinfo", "mail.imap"],
    application_scopes: &[],
};

/// All presets. The first that matches applies.
static PRESETS: [Preset; 9] = [
    // https://support.google.com/a/answer/1071518: 2,500 MB a day by IMAP, and 15 connections, which
    // the owner's other devices need too.
    Preset {
        other_hosts: &["imap.googlemail.com"],
        connections: 3,
        bytes_per_day: Some(2_500_000_000),
        sign_in: Some(GOOGLE_SIGN_IN),
        ..Preset::new("gmail", &["gmail.com", "googlemail.com"], "imap.gmail.com")
    },
    // Exchange Online has no basic authentication since 2022, Outlook.com since 2024.
    Preset {
        other_hosts: &["imap-mail.outlook.com"],
        connections: 2,
        accepts_passwords: false,
        sign_in: Some(MICROSOFT_SIGN_IN),
        ..Preset::new(
            "outlook",
            &["outlook.com", "hotmail.com", "live.com", "msn.com", "outlook.*", "hotmail.*"],
            "outlook.office365.com",
        )
    },
    Preset {
        connections: 2,
        sign_in: Some(YANDEX_SIGN_IN),
        ..Preset::new("yandex", &["yandex.ru", "ya.ru"], "imap.yandex.ru")
    },
    Preset {
        connections: 2,
        sign_in: Some(YANDEX_SIGN_IN),
        ..Preset::new("yandex", &["yandex.*"], "imap.yandex.com")
    },
    Preset {
        connections: 2,
        sign_in: Some(MAILRU_SIGN_IN),
        ..Preset::new(
            "mailru",
            &["mail.ru", "inbox.ru", "list.ru", "bk.ru", "internet.ru"],
            "imap.mail.ru",
        )
    },
    // Yahoo Japan is another company, which must not be sent the password of a Yahoo account.
    Preset {
        connections: 1,
        ..Preset::new("yahoo-japan", &["yahoo.co.jp", "yahoo.ne.jp"], "imap.mail.yahoo.co.jp")
    },
    // Yahoo and AOL soon answer more connections with [LIMIT].
    Preset { connections: 1, ..Preset::new("yahoo", &["yahoo.*"], "imap.mail.yahoo.com") },
    Preset { connections: 1, ..Preset::new("aol", &["aol.com"], "imap.aol.com") },
    Preset::new("fastmail", &["fastmail.com", "fastmail.fm"], "imap.fastmail.com"),
];

/// Returns the preset for the domain of an account.
pub(super) fn find_by_account(account: &str) -> Option<&'static Preset> {
    let domain = domain_of(account)?.to_ascii_lowercase();
    let is_match = |pattern: &str| matches_domain(pattern, &domain);
    PRESETS.iter().find(|preset| preset.domains.iter().any(|pattern| is_match(pattern)))
}

/// Returns the preset for the name of a server.
pub(super) fn find_by_host(host: &str) -> Option<&'static Preset> {
    let is_same = |other: &str| other.eq_ignore_ascii_case(host);
    PRESETS.iter().find(|preset| {
        is_same(preset.host) || preset.other_hosts.iter().any(|other| is_same(other))
    })
}

/// Returns the name of the preset for a mail address, such as `gmail`.
#[must_use]
pub fn provider_of_account(account: &str) -> Option<&'static str> {
    find_by_account(account).map(|preset| preset.name)
}

/// Returns the name of the preset for a mail server, such as `gmail`.
#[must_use]
pub fn provider_of_host(host: &str) -> Option<&'static str> {
    find_by_host(host).map(|preset| preset.name)
}

/// Returns the mail server of a preset, for accounts in a domain of their own.
#[must_use]
pub fn host_of_provider(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|preset| preset.name == name).map(|preset| preset.host)
}

/// Returns the domain of a mail address.
pub(super) fn domain_of(account: &str) -> Option<&str> {
    account.rsplit_once('@').map(|(_, domain)| domain)
}

fn matches_domain(pattern: &str, domain: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => domain.strip_prefix(start).is_some_and(is_public_suffix),
        None => pattern == domain,
    }
}

/// True for one or two short labels, such as `com`, `de` and `co.uk`. A longer name may belong to
/// anybody, who would get the password.
fn is_public_suffix(text: &str) -> bool {
    let is_short = |label: &str| {
        matches!(label.len(), 2 | 3) && label.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    text.split('.').count() <= 2 && text.split('.').all(is_short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_an_account_gives_its_server() {
        for (account, host) in [
            ("me@gmail.com", Some("imap.gmail.com")),
            ("Me@GoogleMail.com", Some("imap.gmail.com")),
            ("me@hotmail.co.uk", Some("outlook.office365.com")),
            ("me@live.com", Some("outlook.office365.com")),
            ("me@yandex.ru", Some("imap.yandex.ru")),
            ("me@yandex.kz", Some("imap.yandex.com")),
            ("me@yandex.com.tr", Some("imap.yandex.com")),
            ("me@bk.ru", Some("imap.mail.ru")),
            ("me@yahoo.de", Some("imap.mail.yahoo.com")),
            ("me@yahoo.co.jp", Some("imap.mail.yahoo.co.jp")),
            ("me@aol.com", Some("imap.aol.com")),
            ("me@fastmail.com", Some("imap.fastmail.com")),
            ("me@example.com", None),
            ("me@gmail.com.example.com", None),
            ("me@yahoo.example", None),
            ("me@yahoo.co.uk.example", None),
            ("me@yahoo.", None),
            ("gmail.com", None),
        ] {
            let found = find_by_account(account).map(|preset| preset.host);
            assert_eq!(found, host, "{account}");
        }
    }

    #[test]
    fn a_server_is_found_by_each_of_its_names() {
        for (host, name) in [
            ("imap.gmail.com", Some("gmail")),
            ("IMAP.GoogleMail.com", Some("gmail")),
            ("outlook.office365.com", Some("outlook")),
            ("imap.yandex.ru", Some("yandex")),
            ("imap.yandex.com", Some("yandex")),
            ("imap.example.com", None),
            ("", None),
        ] {
            assert_eq!(find_by_host(host).map(|preset| preset.name), name, "{host}");
        }
    }

    #[test]
    fn a_preset_is_named_by_account_and_by_server() {
        assert_eq!(provider_of_account("me@GMAIL.com"), Some("gmail"));
        assert_eq!(provider_of_account("me@example.com"), None);
        assert_eq!(provider_of_host("imap.googlemail.com"), Some("gmail"));
        assert_eq!(provider_of_host("imap.example.com"), None);
        assert_eq!(host_of_provider("gmail"), Some("imap.gmail.com"));
        assert_eq!(host_of_provider("example"), None);
    }

    #[test]
    fn presets_of_one_name_have_the_same_limits() {
        for preset in &PRESETS {
            assert!(find_by_host(preset.host) == Some(preset), "{preset:?} is not found");
            for other in PRESETS.iter().filter(|other| other.name == preset.name) {
                assert_eq!(other.connections, preset.connections);
                assert_eq!(other.bytes_per_day, preset.bytes_per_day);
                assert_eq!(other.accepts_passwords, preset.accepts_passwords);
                assert_eq!(other.sign_in, preset.sign_in);
            }
        }
    }

    #[test]
    fn every_sign_in_endpoint_is_an_https_url() {
        for sign_in in PRESETS.iter().filter_map(|preset| preset.sign_in.as_ref()) {
            let urls = [Some(sign_in.authorize_url), Some(sign_in.token_url), sign_in.device_url];
            for text in urls.into_iter().flatten() {
                let url = url::Url::parse(text).expect("the URL is valid");
                assert_eq!((url.scheme(), url.as_str()), ("https", text));
            }
            assert!(!sign_in.scopes.is_empty());
        }
    }
}
