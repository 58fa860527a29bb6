//! Tasks that outlive the wait for them, and blocking jobs.

/// Runs a task to its end, even if its caller stops waiting.
pub(super) async fn run_to_end<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(task).await {
        Ok(output) => output,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Runs a blocking job on another thread.
pub(super) async fn run_blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(job).await {
        Ok(output) => output,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
