//! Deterministic random numbers: each follows from the seed, its purpose, and an index.

/// Purpose of a random number. Two purposes give independent numbers for the same index.
#[derive(Clone, Copy, Debug)]
pub(super) enum RngStream {
    Rotation,
    ReceivedAt,
    Folders,
    Size,
    MessageKind,
    Text,
    MessageId,
    Subject,
    Reply,
    Parent,
    DestroyedMessage,
    Large,
    Id,
    Fault,
    Token,
    UidValidity,
}

/// Returns 64 bits that depend on every bit of the arguments (the finisher of SplitMix64, twice).
pub(super) fn random_u64(seed: u64, stream: RngStream, index: u64) -> u64 {
    mix(mix(seed ^ (stream as u64) << 56) ^ index)
}

/// Returns a random number in `0..bound`, or zero if `bound` is zero.
pub(super) fn random_below(seed: u64, stream: RngStream, index: u64, bound: u32) -> u32 {
    let wide = u128::from(random_u64(seed, stream, index)) * u128::from(bound);
    u32::try_from(wide >> 64).unwrap_or(0)
}

/// Returns a seeded generator, for purposes that need many random numbers.
pub(super) fn seeded_rng(seed: u64, stream: RngStream, index: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(random_u64(seed, stream, index))
}

fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
