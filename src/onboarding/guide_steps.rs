//! Steps at the mail providers, with the addresses of their pages.

pub(super) const FASTMAIL_TOKEN_STEPS: &[&str] = &[
    "At https://app.fastmail.com/settings/security/tokens, create an API token for JMAP with the \
     scope Email and with read-only access.",
];

pub(super) const FASTMAIL_PASSWORD_STEPS: &[&str] =
    &["At https://app.fastmail.com/settings/security, create an app password with access to mail \
     (IMAP)."];

pub(super) const GMAIL_PASSWORD_STEPS: &[&str] = &[
    "At https://myaccount.google.com/security, switch on 2-Step Verification.",
    "At https://myaccount.google.com/apppasswords, create an app password, and write it without \
     spaces.",
    "At https://mail.google.com, in the settings under Labels, let \"All Mail\", \"Spam\" and \
     \"Trash\" \"Show in IMAP\".",
    "At https://mail.google.com, in the settings under Forwarding and POP/IMAP, choose not to \
     limit the number of messages in an IMAP folder.",
];

pub(super) const GMAIL_API_STEPS: &[&str] = &[
    "At https://console.cloud.google.com/apis/library/gmail.googleapis.com, create a project and \
     enable the Gmail API in it.",
    "At https://console.cloud.google.com/auth/clients, create a client of the type \"Desktop \
     app\", and note its id and its secret.",
    "At https://console.cloud.google.com/auth/audience, publish the app (\"In production\"), \
     unless it is internal to your Workspace: in \"Testing\", every sign-in ends after 7 days.",
];

const REGISTER_STEP: &str = "At https://entra.microsoft.com, under App registrations, register \
                             an application for the accounts you have (of your organisation, \
                             personal ones, or both), and note its client id.";
const PUBLIC_CLIENT_STEP: &str = "At https://entra.microsoft.com, under Authentication, allow \
                                  public client flows; the application needs no secret.";
const REDIRECT_STEP: &str = "At https://entra.microsoft.com, under Authentication, add the \
                             platform \"Mobile and desktop applications\" with the redirect \
                             address http://127.0.0.1/, in the manifest; a sign-in with --device \
                             needs none.";

pub(super) const GRAPH_STEPS: &[&str] = &[
    REGISTER_STEP,
    PUBLIC_CLIENT_STEP,
    REDIRECT_STEP,
    "At https://entra.microsoft.com, under API permissions, add the delegated permission \
     Mail.Read of Microsoft Graph; some organisations want an administrator to consent.",
];

pub(super) const OUTLOOK_IMAP_STEPS: &[&str] = &[
    "At https://outlook.live.com, in Settings, Mail, Forwarding and IMAP, let devices and apps \
     use IMAP; at Microsoft 365 the administrator decides.",
    REGISTER_STEP,
    PUBLIC_CLIENT_STEP,
    REDIRECT_STEP,
];

pub(super) const MAILRU_STEPS: &[&str] = &[
    "At https://account.mail.ru/security, switch on two-step verification.",
    "At https://account.mail.ru/user/2-step-auth/passwords, create a password for external \
     applications, for IMAP.",
];

pub(super) const MAILRU_SESSION_STEPS: &[&str] =
    &["Save the session of your browser at https://e.mail.ru into a file, as docs/sources.md \
     describes it."];

pub(super) const YANDEX_STEPS: &[&str] = &[
    "At https://mail.yandex.com, in the settings under Email clients, allow access by IMAP with \
     app passwords.",
    "At https://id.yandex.com/security/app-passwords, create an app password for mail.",
];

pub(super) const YAHOO_STEPS: &[&str] =
    &["At https://login.yahoo.com/account/security, generate an app password."];

pub(super) const AOL_STEPS: &[&str] =
    &["At https://login.aol.com/account/security, generate an app password."];

pub(super) const ICLOUD_STEPS: &[&str] = &[
    "At https://account.apple.com, under Sign-In and Security, switch on two-factor \
     authentication.",
    "At https://account.apple.com, under Sign-In and Security, create an app-specific password; \
     with an address of your own domain, give your address at icloud.com in --username.",
];

pub(super) const GMX_STEPS: &[&str] = &[
    "At https://www.gmx.net or https://www.gmx.com, in the settings of the mailbox under POP3 and \
     IMAP, allow the access by IMAP.",
    "If two-factor authentication is on, create an application-specific password at \
     https://www.gmx.net or https://www.gmx.com, in the security settings.",
];

pub(super) const WEB_DE_STEPS: &[&str] = &[
    "At https://web.de, in the settings of the mailbox under POP3 and IMAP, allow the access by \
     IMAP.",
    "If two-factor authentication is on, create an application-specific password at \
     https://web.de, in the security settings.",
];

pub(super) const ZOHO_STEPS: &[&str] = &[
    "At https://mail.zoho.com, in the settings under Mail Accounts, switch IMAP access on; the \
     administrator of an organisation may have to allow it.",
    "If two-factor authentication is on, create an application-specific password at \
     https://accounts.zoho.com, under Security.",
];
