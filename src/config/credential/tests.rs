//! Accepted and rejected credentials.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;

use super::*;

const OWNER_ONLY: u32 = 0o600;

fn write_secret_file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = folder.join(name);
    let mut file = File::create(&path).expect("the folder is writable");
    io::Write::write_all(&mut file, content).expect("the disk has room");
    file.set_permissions(PermissionsExt::from_mode(mode)).expect("the file is ours");
    path
}

fn read_secret(credential: &CredentialRef) -> Result<String, String> {
    read_in_env(credential, &EnvVars::default())
}

fn read_in_env(credential: &CredentialRef, environment: &EnvVars) -> Result<String, String> {
    let secret = credential.read(environment).map_err(|error| error.to_string())?;
    Ok(secret.expose_secret().to_owned())
}

fn read_file_content(content: &[u8]) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    read_secret(&CredentialRef::File(write_secret_file(
        folder.path(),
        "token",
        content,
        OWNER_ONLY,
    )))
}

#[test]
fn one_line_break_at_the_end_is_not_part_of_the_secret() {
    for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        assert_eq!(read_file_content(content.as_bytes()), Ok("hunter2".to_owned()));
    }
    assert_eq!(read_file_content(b" two words "), Ok(" two words ".to_owned()));
}

#[test]
fn a_secret_of_several_lines_is_read_whole() {
    let folder = tempfile::tempdir().expect("there is room");
    let read = |content: &[u8]| {
        let path = write_secret_file(folder.path(), "key", content, OWNER_ONLY);
        let secret = CredentialRef::File(path).read_multiline(&EnvVars::default());
        secret.map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.to_string())
    };
    let json = "{\n\t\"key\": \"hunter2\"\r\n}\n";

    assert_eq!(read(json.as_bytes()), Ok(json.to_owned()));
    for (content, reason) in
        [(&b" \n"[..], "is empty"), (&b"hunter2\n\xff"[..], "is not UTF-8 text")]
    {
        let error = read(content).expect_err(reason);
        assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn anything_but_one_text_line_is_rejected_unquoted() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\n\n", "holds a line break"),
        (b"user\nhunter2\n", "holds a line break"),
        (b"hunter2\0", "holds a line break or another control character"),
        (b"hunter2\t", "holds a line break or another control character"),
        (b"hunter2\xff\xfe", "is not UTF-8 text"),
        (&[b'a'; SECRET_BYTES_MAX + 1], "gives more than 65536 bytes"),
    ];
    for (content, reason) in cases {
        let error = read_file_content(content).expect_err(reason);
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_largest_secret_is_read_whole() {
    assert_eq!(
        read_file_content(&[b'a'; SECRET_BYTES_MAX]).map(|secret| secret.len()),
        Ok(SECRET_BYTES_MAX)
    );
}

#[test]
fn a_file_accessible_to_others_is_rejected_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
        let path = write_secret_file(folder.path(), "token", b"hunter2", mode);
        let error = read_secret(&CredentialRef::File(path.clone())).expect_err("refused");

        assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
        assert!(error.ends_with(&format!("run `chmod 600 {}`", path.display())), "{error}");
    }
    for mode in [0o600, 0o400, 0o700] {
        let path = write_secret_file(folder.path(), &format!("token{mode}"), b"hunter2", mode);
        assert_eq!(read_secret(&CredentialRef::File(path)), Ok("hunter2".to_owned()));
    }
}

#[test]
fn a_symlink_is_checked_by_its_target() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("link");
    let open = write_secret_file(folder.path(), "open", b"hunter2", 0o644);
    let closed = write_secret_file(folder.path(), "closed", b"hunter2", OWNER_ONLY);

    symlink(&open, &link).expect("links can be made");
    assert!(
        read_secret(&CredentialRef::File(link.clone())).expect_err("refused").contains("mode 0644")
    );

    std::fs::remove_file(&link).expect("the link is ours");
    symlink(&closed, &link).expect("links can be made");
    assert_eq!(read_secret(&CredentialRef::File(link)), Ok("hunter2".to_owned()));
}

#[test]
fn a_missing_or_special_file_is_rejected_with_its_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dangling = folder.path().join("dangling");
    symlink(folder.path().join("nothing"), &dangling).expect("links can be made");
    let cases = [
        (folder.path().join("absent"), "cannot be read"),
        (dangling, "cannot be read"),
        (folder.path().to_owned(), "is not a regular file"),
        (PathBuf::from("/dev/zero"), "is not a regular file"),
    ];
    for (path, reason) in cases {
        let error = read_secret(&CredentialRef::File(path.clone())).expect_err(reason);
        assert!(error.contains(reason) && error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_pipe_is_rejected_without_waiting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, Mode::from_raw_mode(OWNER_ONLY), 0)
        .expect("pipes can be made");

    assert!(
        read_secret(&CredentialRef::File(pipe))
            .expect_err("refused")
            .contains("is not a regular file")
    );
}

#[test]
fn a_variable_is_read_from_the_given_environment() {
    let environment: EnvVars = [("WORK_PASSWORD", "hunter2"), ("EMPTY", "")].into_iter().collect();
    let read_variable =
        |name: &str| read_in_env(&CredentialRef::Env(name.to_owned()), &environment);

    assert_eq!(read_variable("WORK_PASSWORD"), Ok("hunter2".to_owned()));
    assert!(read_variable("EMPTY").expect_err("refused").contains("is empty"));
    assert!(
        read_variable("ABSENT")
            .expect_err("refused")
            .contains("credential variable ABSENT: is not set")
    );
}

#[test]
fn a_non_text_variable_is_rejected() {
    let value = std::ffi::OsString::from_vec(vec![0xff, 0xfe]);
    let environment: EnvVars = [("BINARY", value)].into_iter().collect();

    let error =
        read_in_env(&CredentialRef::Env("BINARY".to_owned()), &environment).expect_err("refused");
    assert!(error.contains("is not UTF-8 text"), "{error}");
}

#[test]
fn a_systemd_credential_is_accepted_with_any_mode() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_secret_file(folder.path(), "work", b"hunter2\n", 0o440);
    let environment: EnvVars = [(CREDENTIALS_DIRECTORY_VAR, folder.path())].into_iter().collect();
    let credential = CredentialRef::Systemd("work".to_owned());

    assert_eq!(read_in_env(&credential, &environment), Ok("hunter2".to_owned()));
    assert!(read_secret(&credential).expect_err("refused").contains("LoadCredential="));
}

#[test]
fn a_failed_command_is_reported_without_arguments() {
    let argv = ["sh", "-c", "echo hunter2 >&2; exit 1"].map(str::to_owned).to_vec();

    let error = read_secret(&CredentialRef::Command(argv)).expect_err("refused");
    assert!(error.starts_with("credential command sh: failed (exit status: 1)"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_changed_secret_is_not_equal() {
    let [one, again, other] = ["one", "one", "other"].map(Secret::from);

    assert!(secrets_equal(&one, &again));
    assert!(!secrets_equal(&one, &other));
}

#[test]
fn debug_output_hides_the_secret() {
    assert!(!format!("{:?}", Secret::from("hunter2")).contains("hunter2"));
}
