//! Folders, their filesystems, and the credentials.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::cli::archive_check::archive_mismatch;
use crate::cli::context::AppContext;
use crate::cli::doctor::DoctorCheck;
use crate::config::{CredentialErrorKind, CredentialRef};
use crate::disk::{Disk, FsUsage, RealDisk, fs_usage, write_durable};
use crate::human::format_bytes;
use crate::worker::{Env, RealEnv};

/// Less free space than this fills up before a person notices.
const FREE_BYTES_MIN: u64 = 1_000_000_000;

/// How often a small file is written durably to see how long that takes.
const WRITE_PROBES: u32 = 8;

/// A write slower than this makes a large mailbox take days.
const WRITE_DURATION_MAX: Duration = Duration::from_millis(200);

/// The file that is written for it.
const PROBE_FILE: &str = ".doctor";

pub(super) fn check_filesystem(ground: &AppContext) -> Vec<DoctorCheck> {
    let archive = &ground.loaded.settings.archive.dir;
    let mut found = check_folder("state folder", &ground.state_dir);
    let mismatches = check_archives(ground);
    // The first start does not make an archive that a source has lost.
    if mismatches.is_empty() || archive.is_dir() {
        found.extend(check_folder("archive", archive));
    }
    found.extend(mismatches);
    found.extend(check_credentials(ground));
    found
}

/// Each source whose archive is not there, or belongs to another ledger.
fn check_archives(ground: &AppContext) -> Vec<DoctorCheck> {
    let settings = &ground.loaded.settings;
    let found = settings.enabled_sources().filter_map(|name| {
        let why = archive_mismatch(&ground.state_dir, &settings.archive.dir, name.as_str())?;
        let (told, remedy) = why.split_once("; ").or_else(|| why.split_once(": "))?;
        Some(DoctorCheck::failed(format!("{name}: archive"), told, remedy))
    });
    found.collect()
}

fn check_folder(what: &str, path: &Path) -> Vec<DoctorCheck> {
    // The first start makes what is missing.
    let Some(standing) = path.ancestors().find(|path| path.is_dir()) else {
        return vec![DoctorCheck::note(
            what,
            format!("{}: nothing of it is there", path.display()),
        )];
    };
    let mut found = match fs_usage(standing) {
        Ok(room) => vec![check_free_space(what, path, &room)],
        Err(error) => vec![DoctorCheck::failed(
            what,
            format!("{}: {error}", path.display()),
            "let this user into it",
        )],
    };
    if standing == path {
        found.push(timed_write(what, path));
    } else {
        let told = format!("{}: not there yet; the first start makes it", path.display());
        found.push(DoctorCheck::note(what, told));
    }
    found
}

fn check_free_space(what: &str, path: &Path, room: &FsUsage) -> DoctorCheck {
    let kind = room.fs_type.unwrap_or("an unusual filesystem");
    let told = format!("{}: {kind}, {} free", path.display(), format_bytes(room.free_bytes));
    match room.fs_type {
        Some("tmpfs" | "ramfs") => DoctorCheck::failed(
            what,
            format!("{told}: gone at the next boot"),
            "put it onto a disk",
        ),
        Some("nfs" | "cifs" | "smb2") => DoctorCheck::failed(
            what,
            format!("{told}: locks and syncs of a network filesystem do not always hold"),
            "put it onto a disk of this machine",
        ),
        Some(_) | None if room.free_bytes < FREE_BYTES_MIN => {
            DoctorCheck::failed(what, told, "make room, or move it to a larger disk")
        }
        Some(_) | None => DoctorCheck::ok(what, told),
    }
}

/// Writes a small file durably a few times.
fn timed_write(what: &str, path: &Path) -> DoctorCheck {
    let probe = path.join(PROBE_FILE);
    let began = RealEnv.now();
    let written = (0..WRITE_PROBES).try_for_each(|_| write_durable(&RealDisk, &probe, b"x"));
    let each = RealEnv.now().since(began) / WRITE_PROBES;
    let removed = RealDisk.remove_file(&probe);
    match written.and(removed) {
        Err(error) => DoctorCheck::failed(
            what,
            format!("{}: cannot be written ({error})", path.display()),
            "let this user write there, and see that the disk is neither full nor read-only",
        ),
        Ok(()) if each > WRITE_DURATION_MAX => DoctorCheck::failed(
            what,
            format!("a durable write takes {} ms", each.as_millis()),
            "put it onto a faster disk",
        ),
        Ok(()) => DoctorCheck::ok(what, format!("a durable write takes {} ms", each.as_millis())),
    }
}

/// Whether each credential can be read. What it says is never looked at.
fn check_credentials(ground: &AppContext) -> Vec<DoctorCheck> {
    let sources = &ground.loaded.settings.sources;
    let enabled = sources.iter().filter(|(_, source)| source.is_enabled);
    let found = enabled.map(|(name, source)| {
        let (what, place) = (format!("{name}: credential"), source.auth.credential_ref());
        match place.read(&ground.environment) {
            Ok(_secret) => {
                DoctorCheck::ok(what, format!("{place}: can be read{}", check_file_mode(place)))
            }
            Err(error) => match error.kind {
                // It is there only within the unit.
                CredentialErrorKind::NotUnderSystemd => DoctorCheck::note(what, error.to_string()),
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
                | CredentialErrorKind::SeveralLines => {
                    let told = error.to_string();
                    let (told, remedy) = told.rsplit_once("; ").unwrap_or((&told, "correct it"));
                    DoctorCheck::failed(what, told, remedy)
                }
            },
        }
    });
    found.collect()
}

fn check_file_mode(place: &CredentialRef) -> String {
    let path = match place {
        CredentialRef::File(path) => path,
        CredentialRef::Env(_) | CredentialRef::Command(_) | CredentialRef::Systemd(_) => {
            return String::new();
        }
    };
    fs_err::metadata(path)
        .map(|metadata| format!(", mode {:04o}", metadata.mode() & 0o7777))
        .unwrap_or_default()
}
