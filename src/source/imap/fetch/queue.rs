//! Queue of the requests that no connection has taken, by folder.
//!
//! Pure: it decides which messages make up the next set, and whether another worker is needed.

use std::collections::{BTreeMap, VecDeque};

use cynosure_engine::DocumentLocation;

use crate::source::imap::fetch::request::BodyRequest;

/// Maximum number of messages of a set: enough that a round trip costs little, and few enough that
/// little is requested again after a broken connection.
pub(super) const SET_REQUESTS_MAX: usize = 64;

/// Messages for which a second set or another connection is used. Less than half a set costs the
/// server, and its rate limit, more commands than it saves time.
pub(super) const SET_REQUESTS_MIN: usize = SET_REQUESTS_MAX / 2;

/// Later requests that may be served before an older one, because their folder is open already.
/// Without a limit, a folder that is never empty would keep the others waiting.
const FOLDER_LEAD_MAX: u64 = 1_024;

/// Requests of one command, by UID. All are of one folder and one UIDVALIDITY.
pub(super) type RequestSet = BTreeMap<u32, BodyRequest>;

/// Queue of requests, and the number of the workers that take them.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    /// Requests by folder, the oldest first. No folder is empty.
    folders: BTreeMap<String, VecDeque<BodyRequest>>,
    next_number: u64,
    workers: u32,
    /// Workers that have taken no set yet. They will take the oldest requests.
    starting_workers: u32,
}

impl RequestQueue {
    pub(super) fn push(&mut self, mut request: BodyRequest) {
        request.number = self.next_number;
        self.next_number += 1;
        self.folders.entry(request.location.folder.clone()).or_default().push_back(request);
    }

    /// Returns the number of the next request. All requests before have lower ones.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Puts requests that were taken back to the front, in their order.
    pub(super) fn put_back(&mut self, requests: impl DoubleEndedIterator<Item = BodyRequest>) {
        for request in requests.rev() {
            self.folders.entry(request.location.folder.clone()).or_default().push_front(request);
        }
    }

    /// Returns true if a request is queued. Abandoned ones are dropped.
    pub(super) fn has_requests(&mut self) -> bool {
        self.folders.retain(|_folder, requests| {
            requests.retain(|request| !request.is_abandoned());
            !requests.is_empty()
        });
        !self.folders.is_empty()
    }

    /// Returns the number of requests for a folder.
    pub(super) fn count_of(&self, folder: &str) -> usize {
        self.folders.get(folder).map_or(0, VecDeque::len)
    }

    /// Returns the folder to be served next: the `open` one, or that of the oldest request.
    pub(super) fn choose_folder(&self, open: Option<&str>) -> Option<&str> {
        let (oldest_folder, oldest) = self
            .folders
            .iter()
            .filter_map(|(folder, requests)| Some((folder, first_number(requests)?)))
            .min_by_key(|(_folder, number)| *number)?;
        let open = open.and_then(|open| self.folders.get_key_value(open));
        let served_first = open.filter(|(_folder, requests)| {
            first_number(requests).is_some_and(|first| first <= oldest + FOLDER_LEAD_MAX)
        });
        Some(served_first.map_or(oldest_folder, |(folder, _requests)| folder).as_str())
    }

    /// Takes the next set of a folder. `in_flight` are the requests that the connection waits for,
    /// if there are any. The result may be empty.
    pub(super) fn take_set(&mut self, folder: &str, in_flight: Option<&RequestSet>) -> RequestSet {
        let mut set = RequestSet::new();
        let Some(mut queued) = self.folders.remove(folder) else {
            return set;
        };
        queued.retain(|request| !request.is_abandoned());
        let Some(first) = queued.front() else {
            return set;
        };
        let (is_single, uid_validity) = (first.is_single, first.location.uid_validity);
        let mut rest = VecDeque::with_capacity(queued.len());
        for request in queued {
            let uid = request.location.uid;
            let is_taken = if is_single {
                set.is_empty() && in_flight.is_none()
            } else {
                set.len() < SET_REQUESTS_MAX
                    && !request.is_single
                    && request.location.uid_validity == uid_validity
                    // An answer to one UID is the answer to one request.
                    && !set.contains_key(&uid)
                    && in_flight.is_none_or(|in_flight| !in_flight.contains_key(&uid))
            };
            if is_taken {
                set.insert(uid, request);
            } else {
                rest.push_back(request);
            }
        }
        if !rest.is_empty() {
            self.folders.insert(folder.to_owned(), rest);
        }
        set
    }

    /// Takes the newest request for a message.
    pub(super) fn take_newest(&mut self, location: &DocumentLocation) -> Option<BodyRequest> {
        let requests = self.folders.get_mut(&location.folder)?;
        let is_wanted =
            |request: &BodyRequest| request.location == *location && !request.is_abandoned();
        let newest = requests.iter().rposition(is_wanted)?;
        let taken = requests.remove(newest);
        if requests.is_empty() {
            self.folders.remove(&location.folder);
        }
        taken
    }

    pub(super) fn take_folder(&mut self, folder: &str) -> VecDeque<BodyRequest> {
        self.folders.remove(folder).unwrap_or_default()
    }

    pub(super) fn take_all(&mut self) -> Vec<BodyRequest> {
        std::mem::take(&mut self.folders).into_values().flatten().collect()
    }

    /// Counts another worker, if fewer than `max` run and the queue has enough requests for it.
    /// Returns true if it is to be started.
    pub(super) fn try_add_worker(&mut self, max: u32) -> bool {
        let queued: usize = self.folders.values().map(VecDeque::len).sum();
        let starting = usize::try_from(self.starting_workers).unwrap_or(usize::MAX);
        let needed = starting.saturating_mul(SET_REQUESTS_MAX).saturating_add(SET_REQUESTS_MIN);
        let is_needed = self.workers == 0 || (self.workers < max && needed <= queued);
        if is_needed {
            self.workers += 1;
            self.starting_workers += 1;
        }
        is_needed
    }

    /// Records that a worker has taken its first set.
    pub(super) fn on_worker_busy(&mut self) {
        self.starting_workers = self.starting_workers.saturating_sub(1);
    }

    /// Records that a busy worker has ended.
    pub(super) fn on_worker_ended(&mut self) {
        self.workers = self.workers.saturating_sub(1);
    }
}

fn first_number(requests: &VecDeque<BodyRequest>) -> Option<u64> {
    Some(requests.front()?.number)
}

#[cfg(test)]
mod tests {
    use cynosure_engine::ThrottleStrikes;
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::limiter::AttemptKind;
    use crate::source::imap::fetch::request::BodyEvent;

    /// Queue, and the receivers of its requests.
    #[derive(Default)]
    struct QueueWithReceivers {
        queue: RequestQueue,
        receivers: Vec<Receiver<BodyEvent>>,
    }

    impl QueueWithReceivers {
        fn push(&mut self, folder: &str, uid_validity: u32, uid: u32, attempt: AttemptKind) {
            let location = DocumentLocation { folder: folder.to_owned(), uid_validity, uid };
            let strikes = ThrottleStrikes::default();
            let (request, receiver) = BodyRequest::new(location, attempt, strikes);
            self.queue.push(request);
            self.receivers.push(receiver);
        }

        fn push_all(&mut self, folder: &str, uids: impl IntoIterator<Item = u32>) {
            for uid in uids {
                self.push(folder, 1, uid, AttemptKind::First);
            }
        }
    }

    fn uids(set: &RequestSet) -> Vec<u32> {
        set.keys().copied().collect()
    }

    #[test]
    fn a_set_takes_the_oldest_64_of_one_numbering() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", (2..=64).rev());
        requests.push("a", 2, 500, AttemptKind::First);
        requests.push("b", 1, 501, AttemptKind::First);
        requests.push_all("a", [65, 1, 66]);

        let set = requests.queue.take_set("a", None);

        assert_eq!(uids(&set), (2..=65).collect::<Vec<_>>());
        assert_eq!(uids(&requests.queue.take_set("a", None)), [500]);
        assert_eq!(uids(&requests.queue.take_set("a", None)), [1, 66]);
        assert!(requests.queue.take_set("a", None).is_empty());
    }

    #[test]
    fn a_single_request_waits_until_nothing_is_in_flight() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", [1]);
        let in_flight = requests.queue.take_set("a", None);
        requests.push("a", 1, 2, AttemptKind::Suspect);
        requests.push_all("a", [3]);

        assert!(requests.queue.take_set("a", Some(&in_flight)).is_empty());
        assert_eq!(uids(&requests.queue.take_set("a", None)), [2]);
        assert_eq!(uids(&requests.queue.take_set("a", None)), [3]);
    }

    #[test]
    fn a_message_is_in_flight_once() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", [1, 1, 2]);

        let first = requests.queue.take_set("a", None);

        assert_eq!(uids(&first), [1, 2]);
        assert!(requests.queue.take_set("a", Some(&first)).is_empty());
        assert_eq!(uids(&requests.queue.take_set("a", None)), [1]);
    }

    #[test]
    fn abandoned_requests_are_dropped() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", [1, 2]);
        requests.push_all("b", [3]);
        requests.receivers.remove(0);
        requests.receivers.pop();

        assert!(requests.queue.has_requests());
        assert_eq!(requests.queue.choose_folder(Some("b")), Some("a"));
        assert_eq!(uids(&requests.queue.take_set("a", None)), [2]);
        assert!(!requests.queue.has_requests());
    }

    #[test]
    fn requests_are_put_back_before_others() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", 1..=66);
        let taken = requests.queue.take_set("a", None);
        assert_eq!(requests.queue.choose_folder(None), Some("a"));

        requests.queue.put_back(taken.into_values());

        assert_eq!(uids(&requests.queue.take_set("a", None)), (1..=64).collect::<Vec<_>>());
        assert_eq!(requests.queue.count_of("a"), 2);
    }

    #[test]
    fn the_newest_request_for_a_message_is_found() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("a", [1, 1, 1, 2]);
        requests.push("a", 2, 1, AttemptKind::First);
        // The request with the number 2 is abandoned.
        requests.receivers.remove(2);
        let location = DocumentLocation { folder: "a".to_owned(), uid_validity: 1, uid: 1 };

        let mut numbers = Vec::new();
        while let Some(request) = requests.queue.take_newest(&location) {
            numbers.push(request.number);
        }

        assert_eq!(numbers, [1, 0]);
    }

    #[test]
    fn the_open_folder_is_preferred_for_a_while() {
        let mut requests = QueueWithReceivers::default();
        requests.push_all("old", [1]);
        for uid in 1..=u32::try_from(FOLDER_LEAD_MAX).unwrap() {
            requests.push_all("open", [uid]);
        }
        requests.push_all("open", [9_999]);
        let choice = |requests: &QueueWithReceivers| {
            requests.queue.choose_folder(Some("open")).map(str::to_owned)
        };

        assert_eq!(choice(&requests).as_deref(), Some("open"));
        while requests.queue.count_of("open") > 1 {
            requests.queue.take_set("open", None);
        }
        assert_eq!(choice(&requests).as_deref(), Some("old"));
        assert_eq!(requests.queue.choose_folder(None), Some("old"));
        assert_eq!(requests.queue.choose_folder(Some("closed")), Some("old"));
    }

    #[test]
    fn workers_are_added_for_half_a_set_more() {
        let mut requests = QueueWithReceivers::default();
        let mut added_at = Vec::new();
        for uid in 1..=200 {
            requests.push_all("a", [uid]);
            if requests.queue.try_add_worker(3) {
                added_at.push(uid);
            }
        }
        assert_eq!(added_at, [1, 96, 160], "each is to take a whole set before");

        // The first has taken a set and ended; the others are still connecting.
        requests.queue.on_worker_busy();
        requests.queue.on_worker_ended();
        assert!(requests.queue.try_add_worker(3));
        assert!(!requests.queue.try_add_worker(3), "three run");
    }
}
