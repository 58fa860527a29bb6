//! Tests of documents before they are in the archive: the memory that they take, and the limits of
//! their batch.

use futures_util::FutureExt as _;

use super::*;

#[test]
fn no_document_is_begun_while_others_fill_the_memory() {
    let (archive, _report) = TestWorker::new(BatchOrder::Sequential).open_archive().unwrap();
    let new = archive.spool_document();
    let is_admitted = || new.wait_for_memory().now_or_never().is_some();
    let largest = vec![b'x'; SPOOL_MEMORY_BYTES_MAX];

    let mut held = Vec::new();
    while is_admitted() {
        let mut spooled = archive.spool_document();
        spooled.append(&largest).unwrap();
        held.push(spooled);
    }

    assert_eq!(held.len(), 2 * BATCH_BYTES_MAX / SPOOL_MEMORY_BYTES_MAX);
    // On disk it takes no memory, and neither does one that begins again.
    held[0].append(b"x").unwrap();
    assert!(is_admitted());
    let mut spooled = archive.spool_document();
    spooled.append(&largest).unwrap();
    assert!(!is_admitted());
    held[1].rewind();
    assert!(is_admitted());
    spooled.append(b"x").unwrap();
    drop(held);
    assert!(is_admitted());
}

#[tokio::test]
async fn a_document_waits_until_another_is_dropped() {
    let (archive, _report) = TestWorker::new(BatchOrder::Sequential).open_archive().unwrap();
    let count = 2 * BATCH_BYTES_MAX / SPOOL_MEMORY_BYTES_MAX;
    let held: Vec<SpooledDocument> = (0..count)
        .map(|_| {
            let mut spooled = archive.spool_document();
            spooled.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX]).unwrap();
            spooled
        })
        .collect();
    let new = archive.spool_document();

    let waiting = new.wait_for_memory();
    let freeing = async { drop(held) };

    // Polled in this order, so that the document waits first.
    futures_util::future::join(waiting, freeing).await;
}

#[test]
fn a_rewound_or_dropped_spool_leaves_no_files() {
    let worker = TestWorker::new(BatchOrder::Sequential);
    let (archive, _) = worker.open_archive().unwrap();
    let mut spooled = archive.spool_document();

    spooled.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX]).unwrap();
    assert!(!spooled.fits_in_memory(1));
    spooled.append(b"x").unwrap();
    assert_eq!(worker.files().len(), 1, "spilled");
    spooled.rewind();

    assert_eq!((spooled.length(), worker.files().len()), (0, 0));
}

#[test]
fn a_batch_is_full_before_exceeding_its_limits() {
    let (archive, _) = TestWorker::new(BatchOrder::Sequential).open_archive().unwrap();
    let mut batch = WriteBatch::new(archive.create_session_folder(STARTED, ACCOUNT).unwrap());

    while !batch.is_full() {
        let mut spooled = archive.spool_document();
        spooled.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX]).unwrap();
        let document = DocumentId::new(batch.len().to_string());
        batch.push(batch_entry(&ItemId::new("t"), &document, FIRST_VERSION, spooled));
    }

    assert_eq!(batch.len() * SPOOL_MEMORY_BYTES_MAX, BATCH_BYTES_MAX);
}
