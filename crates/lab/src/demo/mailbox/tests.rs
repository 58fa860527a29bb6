//! Properties of the mailbox that clients rely on.

use super::*;

const NEWEST_THREADS_FIRST: MessageQuery = MessageQuery {
    filter: MessageFilter::All(Vec::new()),
    order: SortOrder::NewestFirst,
    collapse_threads: true,
};

fn message_bytes(mailbox: &GeneratedMailbox, message: MessageNumber) -> Vec<u8> {
    mailbox.message(message).flatten().collect()
}

#[test]
fn a_message_is_as_long_as_its_size_says() {
    for (seed, items) in [(1, 2_000), (2, 300), (u64::MAX, 50)] {
        let mut mailbox = GeneratedMailbox::new(seed, items);
        mailbox.deliver(200);

        for message in (0..mailbox.messages_total()).map(MessageNumber) {
            let octets: usize = mailbox.message(message).map(|chunk| chunk.len()).sum();
            assert_eq!(octets, mailbox.size(message), "seed {seed}, {message:?}");
        }
    }
}

#[test]
fn a_long_thread_does_not_exceed_the_message_size() {
    let mut mailbox = GeneratedMailbox::new(4, 1);
    mailbox.deliver(4_000);

    for message in (0..mailbox.messages_total()).map(MessageNumber) {
        assert_eq!(message_bytes(&mailbox, message).len(), mailbox.size(message));
    }
}

#[test]
fn one_message_in_3200_is_large_and_most_are_small() {
    let mailbox = GeneratedMailbox::new(11, 2_000);
    let sizes: Vec<_> = (0..3_200).map(|number| mailbox.size(MessageNumber(number))).collect();

    assert_eq!(sizes.iter().filter(|size| 5_000_000 < **size).count(), 1);
    assert_eq!(sizes.iter().filter(|size| (100_000..5_000_000).contains(*size)).count(), 16);
    assert!(2_900 < sizes.iter().filter(|size| (2_048..=12_288).contains(*size)).count());
}

#[test]
fn the_same_seed_and_no_other_gives_the_same_mail() {
    let (one, same, other) =
        (GeneratedMailbox::new(1, 90), GeneratedMailbox::new(1, 90), GeneratedMailbox::new(2, 90));

    for message in (0..one.messages_total()).map(MessageNumber) {
        assert_eq!(message_bytes(&one, message), message_bytes(&same, message));
        assert_ne!(message_bytes(&one, message), message_bytes(&other, message));
    }
}

#[test]
fn a_large_message_comes_in_chunks_of_bounded_length() {
    let mailbox = GeneratedMailbox::new(3, 2_000);
    let large = (0..3_200).map(MessageNumber).max_by_key(|message| mailbox.size(*message)).unwrap();

    assert!(mailbox.message(large).all(|chunk| chunk.len() <= 80_000));
}

#[test]
fn a_reply_references_the_message_it_replies_to() {
    let mailbox = GeneratedMailbox::new(3, 40);
    let thread =
        (0..40).map(ThreadNumber).find(|thread| mailbox.messages_of(*thread).len() == 6).unwrap();
    let replies = &mailbox.messages_of(thread)[1..];
    let named = replies.iter().filter(|message| {
        let text = String::from_utf8_lossy(&message_bytes(&mailbox, **message)).into_owned();
        text.contains(&format!(".{}@example.com>\r\nReferences:", message.0 - 1))
    });

    assert!(3 <= named.count());
}

#[test]
fn every_id_resolves_until_its_object_is_destroyed() {
    let mut mailbox = GeneratedMailbox::new(8, 100);
    let message = MessageNumber(17);
    let (email, blob) = (mailbox.email_id(message), mailbox.blob_id(message));

    assert_eq!(mailbox.find_email(&email), Some(message));
    assert_eq!(mailbox.find_blob(&blob), Some(message));
    assert_eq!(mailbox.find_email(&mailbox.email_id(MessageNumber(160))), None);

    mailbox.destroy_message(message);
    assert_eq!((mailbox.find_email(&email), mailbox.find_blob(&blob)), (None, None));
}

#[test]
fn paging_by_anchor_lists_each_thread_once_despite_changes() {
    let mut mailbox = GeneratedMailbox::new(6, 500);
    let initial_messages = mailbox.query(&NEWEST_THREADS_FIRST).to_vec();
    let mut listed = Vec::new();

    while let Some(next) = {
        let list = mailbox.query(&NEWEST_THREADS_FIRST);
        let start = match listed.last() {
            None => Some(0),
            Some(anchor) => {
                position_of(&list, SortOrder::NewestFirst, *anchor).map(|position| position + 1)
            }
        };
        let start = start.expect("the anchor is still there");
        (start < list.len()).then(|| list[start..list.len().min(start + 40)].to_vec())
    } {
        listed.extend(next);
        let anchor = *listed.last().unwrap();
        mailbox.deliver(3);
        // The anchor stays in the listing while no newer message of its thread precedes it.
        for message in mailbox.messages_of(mailbox.thread_of(anchor)) {
            if anchor < message {
                mailbox.destroy_message(message);
            }
        }
        if let Some(below) = anchor.0.checked_sub(7) {
            mailbox.destroy_message(MessageNumber(below));
        }
    }

    assert!(listed.windows(2).all(|pair| pair[1] < pair[0]));
    let last = mailbox.query(&NEWEST_THREADS_FIRST);
    for message in initial_messages {
        let position = position_of(&last, SortOrder::NewestFirst, message);
        assert!(position.is_none() || listed.contains(&message), "{message:?} was skipped");
    }
}

#[test]
fn a_destroyed_first_message_is_no_longer_an_anchor() {
    let mut mailbox = GeneratedMailbox::new(6, 1);
    let anchor = mailbox.query(&NEWEST_THREADS_FIRST)[0];

    while mailbox.messages_of(ThreadNumber(0)).len() <= anchor.0 as usize + 1 {
        mailbox.deliver(1);
    }

    assert_eq!(
        position_of(&mailbox.query(&NEWEST_THREADS_FIRST), SortOrder::NewestFirst, anchor),
        None
    );
}

#[test]
fn changes_transform_the_old_listing_into_the_new_one() {
    let mut mailbox = GeneratedMailbox::new(12, 60);
    let query = MessageQuery { collapse_threads: false, ..NEWEST_THREADS_FIRST };
    let mut known: BTreeSet<_> = mailbox.query(&query).iter().copied().collect();
    let since = mailbox.state();

    mailbox.deliver(30);
    mailbox.destroy(40);
    mailbox.deliver(5);

    let changes = mailbox.message_changes(&since, usize::MAX).unwrap();
    for message in &changes.destroyed {
        assert!(known.remove(message));
    }
    known.extend(changes.created);
    assert_eq!(known, mailbox.query(&query).iter().copied().collect());
    assert_eq!(known.len(), mailbox.message_count() as usize);

    let threads = mailbox.thread_changes(&since, usize::MAX).unwrap();
    assert!(threads.created.iter().all(|thread| 60 <= thread.0 && mailbox.thread_exists(*thread)));
    assert!(threads.destroyed.iter().all(|thread| !mailbox.thread_exists(*thread)));
}

#[test]
fn a_moved_message_is_in_the_other_folder_only() {
    let mut mailbox = GeneratedMailbox::new(7, 100);
    let in_trash = mailbox.home_messages(Folder::Trash).len();
    let since = mailbox.state();

    mailbox.move_to_trash(9);

    let trash = mailbox.home_messages(Folder::Trash);
    assert_eq!(trash.len(), in_trash + 9);
    let changes = mailbox.changes_after(0, 100).unwrap().to_vec();
    assert_eq!(changes.len(), 9);
    for change in &changes {
        assert!(change.moved_from.is_some_and(|folder| folder != Folder::Trash));
        assert_eq!(mailbox.folders(change.message).count(), 1);
        assert!(trash.contains(&change.message));
    }
    assert!(changes.is_sorted_by_key(|change| change.message));
    assert_eq!(mailbox.message_changes(&since, 100).unwrap().updated.len(), 9);
    mailbox.move_to_inbox(1_000);
    assert_eq!(mailbox.home_messages(Folder::Inbox).len(), mailbox.message_count() as usize);
}

#[test]
fn a_thread_is_found_by_the_message_that_began_it() {
    let mut mailbox = GeneratedMailbox::new(3, 40);
    let thread =
        (0..40).map(ThreadNumber).find(|thread| mailbox.messages_of(*thread).len() == 2).unwrap();
    let [first, second] = mailbox.messages_of(thread).try_into().unwrap();
    let (first_id, second_id) = (mailbox.email_id(first), mailbox.email_id(second));
    assert_eq!(mailbox.find_thread_begun_by(&second_id), None);

    mailbox.destroy_message(first);
    assert_eq!(mailbox.find_thread_begun_by(&first_id), Some(thread));
    mailbox.destroy_message(second);
    assert_eq!(mailbox.find_thread_begun_by(&first_id), None);
}

#[test]
fn everything_can_be_destroyed() {
    let mut mailbox = GeneratedMailbox::new(5, 30);

    mailbox.destroy(1_000);

    assert_eq!(mailbox.message_count(), 0);
    assert!(mailbox.query(&NEWEST_THREADS_FIRST).is_empty());
}
