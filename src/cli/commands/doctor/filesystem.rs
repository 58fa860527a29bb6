//! Checks of the folders, their filesystems, and the credentials.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use cynosure_engine::format_bytes;

use crate::app::archive_check::archive_mismatch;
use crate::app::context::AppContext;
use crate::cli::commands::doctor::DoctorCheck;
use crate::config::{
    ApplicationGrantSettings, ApplicationSettings, CredentialError, CredentialErrorKind,
    CredentialRef, EnvVars, OAuthSettings, Secret, SourceAuth, SourceName,
};
use crate::disk::{Disk, FsUsage, RealDisk, fs_usage, write_durable};
use crate::env::{Env, RealEnv};
use crate::human::format_date_time;
use crate::worker::token_file;

/// Minimum free space. Less would fill up before an operator notices.
const FREE_BYTES_MIN: u64 = 1_000_000_000;

/// Number of durable writes of a small file whose mean duration is measured.
const WRITE_PROBES: u32 = 8;

/// Maximum duration of a durable write. With slower ones a large mailbox takes days.
const WRITE_DURATION_MAX: Duration = Duration::from_millis(200);

/// Name of the small file.
const PROBE_FILE: &str = ".doctor";

pub(super) fn check_filesystem(context: &AppContext) -> Vec<DoctorCheck> {
    let archive = &context.loaded.settings.archive.dir;
    let mut checks = check_folder("state folder", &context.state_dir);
    let mismatches = check_archives(context);
    // Not checked if a source has lost its archive: the first start does not create that one.
    if mismatches.is_empty() || archive.is_dir() {
        checks.extend(check_folder("archive", archive));
    }
    checks.extend(mismatches);
    checks.extend(check_credentials(context));
    checks
}

/// Returns a failure for each source whose archive is missing or belongs to another ledger.
fn check_archives(context: &AppContext) -> Vec<DoctorCheck> {
    let settings = &context.loaded.settings;
    let checks = settings.enabled_sources().filter_map(|name| {
        let text = archive_mismatch(&context.state_dir, &settings.archive.dir, name.as_str())?;
        let (message, remedy) = text.split_once("; ").or_else(|| text.split_once(": "))?;
        Some(DoctorCheck::failed(format!("{name}: archive"), message, remedy))
    });
    checks.collect()
}

fn check_folder(subject: &str, path: &Path) -> Vec<DoctorCheck> {
    // The first start creates the missing folders.
    let Some(existing) = path.ancestors().find(|path| path.is_dir()) else {
        return vec![DoctorCheck::note(
            subject,
            format!("{}: no part of this path exists", path.display()),
        )];
    };
    let mut checks = match fs_usage(existing) {
        Ok(usage) => vec![check_free_space(subject, path, &usage)],
        Err(error) => vec![DoctorCheck::failed(
            subject,
            format!("{}: {error}", path.display()),
            "allow this user to access it",
        )],
    };
    if existing == path {
        checks.push(check_write_duration(subject, path));
    } else {
        let message = format!("{}: does not exist yet; the first start creates it", path.display());
        checks.push(DoctorCheck::note(subject, message));
    }
    checks
}

fn check_free_space(subject: &str, path: &Path, usage: &FsUsage) -> DoctorCheck {
    let fs_type = usage.fs_type.unwrap_or("unknown filesystem type");
    let message = format!("{}: {fs_type}, {} free", path.display(), format_bytes(usage.free_bytes));
    match usage.fs_type {
        Some("tmpfs" | "ramfs") => DoctorCheck::failed(
            subject,
            format!("{message}: lost at the next boot"),
            "move it to a disk",
        ),
        Some("nfs" | "cifs" | "smb2") => DoctorCheck::failed(
            subject,
            format!("{message}: locks and syncs are not reliable on a network filesystem"),
            "move it to a disk of this machine",
        ),
        Some(_) | None if usage.free_bytes < FREE_BYTES_MIN => {
            DoctorCheck::failed(subject, message, "free some space, or move it to a larger disk")
        }
        Some(_) | None => DoctorCheck::ok(subject, message),
    }
}

/// Writes a small file durably a few times, and checks the mean duration.
fn check_write_duration(subject: &str, path: &Path) -> DoctorCheck {
    let probe = path.join(PROBE_FILE);
    let started_at = RealEnv.now();
    let written = (0..WRITE_PROBES).try_for_each(|_| write_durable(&RealDisk, &probe, b"x"));
    let mean = RealEnv.now().since(started_at) / WRITE_PROBES;
    let removed = RealDisk.remove_file(&probe);
    match written.and(removed) {
        Err(error) => DoctorCheck::failed(
            subject,
            format!("{}: cannot be written ({error})", path.display()),
            "allow this user to write there, and check that the disk is not full or read-only",
        ),
        Ok(()) if mean > WRITE_DURATION_MAX => DoctorCheck::failed(
            subject,
            format!("a durable write takes {} ms", mean.as_millis()),
            "move it to a faster disk",
        ),
        Ok(()) => {
            DoctorCheck::ok(subject, format!("a durable write takes {} ms", mean.as_millis()))
        }
    }
}

/// Checks that each credential can be read, and that each source that signs in has a token.
fn check_credentials(context: &AppContext) -> Vec<DoctorCheck> {
    let environment = &context.environment;
    let mut checks = Vec::new();
    for (name, source) in &context.loaded.settings.sources {
        if !source.is_enabled {
            continue;
        }
        if let Some(credential) = source.auth.credential_ref() {
            let subject = format!("{name}: credential");
            let is_multiline = matches!(source.auth, SourceAuth::Session { .. });
            let secret = if is_multiline {
                credential.read_multiline(environment)
            } else {
                credential.read(environment)
            };
            checks.push(check_credential(subject, credential, secret));
        }
        if let SourceAuth::Application { client, .. } = &source.auth {
            checks.push(check_application(name, client, environment));
        }
        if let SourceAuth::SignIn { client, .. } = &source.auth {
            checks.push(check_sign_in(context, name, client));
            let secret = client.client_secret.as_ref();
            let subject = format!("{name}: client secret");
            let check = |secret: &CredentialRef| {
                check_credential(subject, secret, secret.read(environment))
            };
            checks.extend(secret.map(check));
        }
    }
    checks
}

/// Checks that there is a token file. Whether the server accepts its token shows at the login.
fn check_sign_in(context: &AppContext, name: &SourceName, client: &OAuthSettings) -> DoctorCheck {
    let folder = context.state_folder().source(name.as_str());
    let file = token_file(client, folder.path());
    let (subject, path) = (format!("{name}: credential"), file.path().display());
    match file.load() {
        Ok(Some(token)) => {
            let mode = mode_text(file.path());
            let future = match (&token.refresh_token, token.expires_at) {
                (Some(_), _) => "refreshes itself".to_owned(),
                (None, Some(at)) => format!("valid until {}", format_date_time(at)),
                (None, None) => "no refresh token".to_owned(),
            };
            DoctorCheck::ok(subject, format!("token file {path}: signed in, {future}{mode}"))
        }
        Ok(None) => DoctorCheck::failed(
            subject,
            format!("not signed in: {path} does not exist"),
            format!("sign in with `cynosure auth {name}`"),
        ),
        Err(error) => failed_credential(subject, &error.to_string()),
    }
}

/// Checks that the key or the secret of an application can be read.
fn check_application(
    name: &SourceName,
    client: &ApplicationSettings,
    environment: &EnvVars,
) -> DoctorCheck {
    let subject = format!("{name}: credential");
    match &client.grant {
        ApplicationGrantSettings::ServiceAccount { key, .. } => {
            check_credential(subject, key, key.read_multiline(environment))
        }
        ApplicationGrantSettings::ClientCredentials { client_secret, .. } => {
            check_credential(subject, client_secret, client_secret.read(environment))
        }
    }
}

/// Returns the result of reading a secret. Its value is not used.
fn check_credential(
    subject: String,
    credential: &CredentialRef,
    secret: Result<Secret, CredentialError>,
) -> DoctorCheck {
    match secret {
        Ok(_secret) => {
            let mode = file_mode_text(credential);
            DoctorCheck::ok(subject, format!("{credential}: can be read{mode}"))
        }
        Err(error) => match error.kind {
            // A systemd credential exists only inside the unit.
            CredentialErrorKind::NotUnderSystemd => DoctorCheck::note(subject, error.to_string()),
            CredentialErrorKind::Unreadable(_)
            | CredentialErrorKind::NotAFile
            | CredentialErrorKind::OpenToOthers { .. }
            | CredentialErrorKind::NotSet
            | CredentialErrorKind::CommandNotStarted(_)
            | CredentialErrorKind::CommandTimedOut
            | CredentialErrorKind::CommandFailed(_)
            | CredentialErrorKind::TooLarge
            | CredentialErrorKind::Empty
            | CredentialErrorKind::NotText
            | CredentialErrorKind::ControlCharacter => {
                failed_credential(subject, &error.to_string())
            }
        },
    }
}

/// Returns the failure for an error with problem and remedy in one sentence.
fn failed_credential(subject: String, text: &str) -> DoctorCheck {
    let (message, remedy) = text.rsplit_once("; ").unwrap_or((text, "correct it"));
    DoctorCheck::failed(subject, message, remedy)
}

/// Returns the mode of a credential file as text. Empty for other credentials.
fn file_mode_text(credential: &CredentialRef) -> String {
    let path = match credential {
        CredentialRef::File(path) => path,
        CredentialRef::Env(_) | CredentialRef::Command(_) | CredentialRef::Systemd(_) => {
            return String::new();
        }
    };
    mode_text(path)
}

fn mode_text(path: &Path) -> String {
    fs_err::metadata(path)
        .map(|metadata| format!(", mode {:04o}", metadata.mode() & 0o7777))
        .unwrap_or_default()
}
