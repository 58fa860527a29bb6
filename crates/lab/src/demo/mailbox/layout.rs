//! Thread and time of receipt of each message, calculated without a table.
//!
//! Every block of twenty threads holds thirty-two messages. The lengths of the twenty follow one
//! pattern, rotated by a random number per block. Messages are numbered in the order of receipt.

use std::ops::Range;

use super::number::{MessageNumber, ThreadNumber};
use crate::demo::rng::{RngStream, random_below};

const BLOCK_THREADS: u32 = 20;
const BLOCK_MESSAGES: u32 = 32;

/// Messages per thread over one block; 1.6 on average.
const THREAD_LENGTHS: [u32; BLOCK_THREADS as usize] =
    [1, 2, 1, 1, 1, 4, 1, 1, 3, 1, 1, 1, 6, 1, 1, 2, 1, 1, 1, 1];

/// First message of each thread, over two repetitions of the pattern, so that a rotation needs no
/// wrap-around.
const THREAD_STARTS: [u32; 2 * BLOCK_THREADS as usize + 1] = thread_starts();

/// Thread of each message, over the same two repetitions.
const MESSAGE_THREADS: [u32; 2 * BLOCK_MESSAGES as usize] = message_threads();

/// 2015-01-01T00:00:00Z.
const FIRST_SECOND: i64 = 1_420_070_400;
/// 2026-01-01T00:00:00Z. All initial messages were received before it.
const LAST_SECOND: i64 = 1_767_225_600;
/// Seconds between messages that are delivered while the mailbox is served.
const DELIVERY_STEP_SECONDS: u32 = 60;

#[derive(Clone, Copy, Debug)]
pub(super) struct MailboxLayout {
    pub(super) seed: u64,
    pub(super) threads: u32,
    pub(super) messages: u32,
    step_seconds: u32,
}

impl MailboxLayout {
    pub(super) fn new(seed: u64, threads: u32) -> Self {
        let mut layout = Self { seed, threads, messages: 0, step_seconds: 1 };
        layout.messages = layout.first_message(threads);
        let duration_seconds = u32::try_from(LAST_SECOND - FIRST_SECOND).unwrap_or(u32::MAX);
        layout.step_seconds = (duration_seconds / layout.messages.max(1)).max(1);
        layout
    }

    /// Returns the initial messages of the thread; none if the thread was delivered later.
    pub(super) fn messages_of(&self, thread: ThreadNumber) -> Range<u32> {
        if self.threads <= thread.0 {
            return 0..0;
        }
        self.first_message(thread.0)..self.first_message(thread.0 + 1)
    }

    /// Returns the thread of an initial message.
    pub(super) fn thread_of(&self, message: MessageNumber) -> ThreadNumber {
        let block = message.0 / BLOCK_MESSAGES;
        let rotation = self.rotation(block);
        let index = THREAD_STARTS[rotation as usize] + message.0 % BLOCK_MESSAGES;
        ThreadNumber(block * BLOCK_THREADS + MESSAGE_THREADS[index as usize] - rotation)
    }

    /// Returns the Unix second at which the message was received. It is never earlier than that of
    /// a message with a lower number.
    pub(super) fn received_at(&self, message: MessageNumber) -> i64 {
        let (start, number, step) = if message.0 < self.messages {
            (FIRST_SECOND, message.0, self.step_seconds)
        } else {
            (LAST_SECOND, message.0 - self.messages, DELIVERY_STEP_SECONDS)
        };
        let offset = random_below(self.seed, RngStream::ReceivedAt, u64::from(message.0), step);
        start + i64::from(number) * i64::from(step) + i64::from(offset)
    }

    fn first_message(&self, thread: u32) -> u32 {
        let block = thread / BLOCK_THREADS;
        let rotation = self.rotation(block) as usize;
        let index = rotation + (thread % BLOCK_THREADS) as usize;
        block * BLOCK_MESSAGES + THREAD_STARTS[index] - THREAD_STARTS[rotation]
    }

    fn rotation(&self, block: u32) -> u32 {
        random_below(self.seed, RngStream::Rotation, u64::from(block), BLOCK_THREADS)
    }
}

const fn thread_starts() -> [u32; 2 * BLOCK_THREADS as usize + 1] {
    let mut starts = [0; 2 * BLOCK_THREADS as usize + 1];
    let mut thread = 0;
    while thread < 2 * BLOCK_THREADS as usize {
        starts[thread + 1] = starts[thread] + THREAD_LENGTHS[thread % BLOCK_THREADS as usize];
        thread += 1;
    }
    assert!(starts[BLOCK_THREADS as usize] == BLOCK_MESSAGES);
    starts
}

const fn message_threads() -> [u32; 2 * BLOCK_MESSAGES as usize] {
    let mut threads = [0; 2 * BLOCK_MESSAGES as usize];
    let (mut message, mut thread) = (0, 0);
    while message < threads.len() {
        while THREAD_STARTS[thread as usize + 1] as usize <= message {
            thread += 1;
        }
        threads[message] = thread;
        message += 1;
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_contiguous_and_messages_map_back_to_them() {
        for (seed, threads) in [(0, 0), (1, 1), (2, 19), (3, 20), (4, 21), (5, 2_000)] {
            let layout = MailboxLayout::new(seed, threads);
            let mut next = 0;

            for thread in (0..threads).map(ThreadNumber) {
                let messages = layout.messages_of(thread);
                assert_eq!(messages.start, next);
                assert!((1..=6).contains(&messages.len()));
                next = messages.end;
                for message in messages.map(MessageNumber) {
                    assert_eq!(layout.thread_of(message), thread);
                }
            }

            assert_eq!(layout.messages, next);
        }
    }

    #[test]
    fn threads_hold_1_6_messages_on_average() {
        assert_eq!(MailboxLayout::new(9, 2_000).messages, 3_200);
    }

    #[test]
    fn messages_are_received_in_the_order_of_their_numbers() {
        let layout = MailboxLayout::new(7, 500);

        let timestamps: Vec<_> = (0..layout.messages + 50)
            .map(|number| layout.received_at(MessageNumber(number)))
            .collect();

        assert!(timestamps.is_sorted());
        assert!(FIRST_SECOND <= timestamps[0]);
        assert!(timestamps[layout.messages as usize - 1] < LAST_SECOND);
    }
}
