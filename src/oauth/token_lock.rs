//! Lock on a token file, held from the load of a refresh token to the save of the next one.
//!
//! A refresh token may be valid once, and processes share the file: a running worker, and `auth`,
//! `doctor` and `config check --probe` beside it.

use std::path::Path;
use std::time::Duration;

use cynosure_engine::{format_duration, sanitize_line};
use tokio::time::sleep;

use super::error::OAuthError;
use super::task::run_blocking;
use super::token_file::{StoredToken, TokenFile};
use crate::disk::{FileLock, LockFileError};

/// Interval between two attempts to take the lock.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of attempts: longer than the refresh of another process takes. A process that
/// takes longer is stopped or stuck.
const ATTEMPTS_MAX: u32 = 450;

impl TokenFile {
    /// Takes the lock of the file, and waits while another process holds it.
    ///
    /// # Errors
    /// [`OAuthError::Transient`] if it is held for too long, [`OAuthError::Storage`] if the lock
    /// file cannot be created.
    pub(super) async fn lock(&self) -> Result<FileLock, OAuthError> {
        let path = self.lock_path();
        for _ in 1..ATTEMPTS_MAX {
            match acquire(&path).await {
                Err(LockFileError::Held { .. }) => sleep(ATTEMPT_INTERVAL).await,
                result => return result.map_err(to_error),
            }
        }
        acquire(&path).await.map_err(to_error)
    }

    /// Replaces the tokens by those of a new sign-in.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and a storage failure of the write.
    pub async fn replace(&self, token: StoredToken) -> Result<(), OAuthError> {
        let _lock = self.lock().await?;
        let file = self.clone();
        run_blocking(move || file.save(&token)).await.map_err(OAuthError::Storage)
    }
}

async fn acquire(path: &Path) -> Result<FileLock, LockFileError> {
    let path = path.to_owned();
    run_blocking(move || FileLock::acquire(&path)).await
}

fn to_error(error: LockFileError) -> OAuthError {
    let (path, pid) = match error {
        LockFileError::Held { path, pid } => (path, pid),
        LockFileError::Storage(failure) => return OAuthError::Storage(failure),
    };
    let holder = pid.map_or_else(String::new, |pid| format!(" ({pid})"));
    let wait = format_duration(ATTEMPT_INTERVAL.saturating_mul(ATTEMPTS_MAX));
    let message = format!(
        "another process{holder} holds the lock of the tokens, {}, for more than {wait}; end that \
         process if it is stuck",
        path.display()
    );
    OAuthError::Transient { message: sanitize_line(&message), retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_stays_held_is_a_transient_error() {
        let home = tempfile::tempdir().unwrap();
        let file = TokenFile::new(home.path().join("token.json"));
        let held = file.lock().await.unwrap();

        let error = file.lock().await.unwrap_err();

        let OAuthError::Transient { message, retry_after: None } = error else { panic!("{error}") };
        let pid = std::process::id();
        assert!(message.contains(&format!("another process ({pid}) holds the lock")), "{message}");
        assert!(message.contains("token.json.lock, for more than 45 s"), "{message}");
        drop(held);
        file.lock().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let file = TokenFile::new(home.path().join("token.json"));
        let held = file.lock().await.unwrap();
        let release = async {
            sleep(Duration::from_secs(30)).await;
            drop(held);
        };

        let (locked, ()) = tokio::join!(file.lock(), release);

        locked.unwrap();
    }

    #[tokio::test]
    async fn a_lock_in_a_missing_folder_is_a_storage_failure() {
        let file = TokenFile::new("/nowhere/token.json".into());

        let error = file.lock().await.unwrap_err();

        assert!(matches!(error, OAuthError::Storage(_)), "{error}");
    }
}
