//! Conformance suite of the sources: cases written once, each run for every kind of server.
//!
//! A rig starts a server and builds the source that reads from it. [`source_tests`] declares one
//! test per case for a rig. A case that a rig cannot set up is `not applicable`, with the reason.
//! The compiler rejects a case that the macro does not list. Each test prints its cell of the table
//! kind × case, which `tests/setup/tally.awk` prints whole after a test run.

#[deny(dead_code)]
pub(crate) mod access;
#[deny(dead_code)]
pub(crate) mod changes;
#[deny(dead_code)]
pub(crate) mod contents;
pub(crate) mod extraction;
pub(crate) mod fault;
mod imap_proxy;
#[deny(dead_code)]
pub(crate) mod interruptions;
mod limiter;
#[deny(dead_code)]
pub(crate) mod listing;
pub(crate) mod options;
pub(crate) mod proxy;
mod rig;
#[deny(dead_code)]
pub(crate) mod transfers;

pub(crate) use self::fault::Fault;
pub(crate) use self::imap_proxy::ImapFaultProxy;
pub(crate) use self::options::{SourceOptions, imap_source, jmap_source};
pub(crate) use self::proxy::FaultProxy;
pub(crate) use self::rig::{CURSOR_IS_LOCAL, Rig, Unsupported, print_cell};

/// Declares one test per case for a rig.
macro_rules! source_tests {
    ($rig:ty) => {
        $crate::sources::suite::source_tests! {
            $rig:
            listing::every_document_is_listed_once,
            listing::every_document_is_counted_in_a_folder,
            listing::an_empty_mailbox_has_no_documents,
            listing::documents_that_arrive_during_a_listing_are_found,
            listing::documents_that_move_during_a_listing_are_found,
            listing::a_document_in_two_folders_is_one_document,
            listing::folders_renumbered_during_a_listing_are_found,
            contents::every_byte_of_unusual_documents_is_fetched,
            contents::an_empty_document_is_fetched,
            contents::a_document_of_50_megabytes_is_fetched,
            contents::a_destroyed_document_is_gone,
            contents::a_forbidden_document_spares_the_others,
            changes::new_documents_are_listed_since_the_cursor,
            changes::an_expired_cursor_leads_to_a_full_listing,
            changes::a_renumbered_folder_is_listed_again,
            access::a_refused_credential_is_renewed,
            access::a_rate_limit_with_a_wait_blocks_requests,
            access::a_rate_limit_without_a_wait_blocks_requests,
            transfers::a_cut_transfer_is_repeated_from_its_start,
            transfers::a_cut_document_is_never_complete,
            transfers::a_stalled_transfer_times_out,
            transfers::a_document_of_the_wrong_length_is_never_complete,
            interruptions::a_listing_resumes_after_a_kill_at_any_await,
            interruptions::a_fetch_is_repeated_after_a_drop_at_any_await,
        }
    };
    ($rig:ty: $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let case = Box::pin($crate::sources::suite::$module::$case::<$rig>());
                // Sources start local tasks, as in the worker.
                let result = tokio::task::LocalSet::new().run_until(case).await;
                $crate::sources::suite::print_cell::<$rig>(stringify!($case), result);
            }
        )+
    };
}

pub(crate) use source_tests;
