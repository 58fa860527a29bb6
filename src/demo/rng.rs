//! Chance that repeats: every draw follows from the seed, what it is for, and a number.

/// What a draw decides, so that two draws for the same number are independent.
#[derive(Clone, Copy, Debug)]
pub(super) enum RngStream {
    Rotation,
    ReceivedAt,
    Folders,
    Size,
    Shape,
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
}

/// Returns 64 bits that depend on every bit of the arguments (the finisher of SplitMix64, twice).
pub(super) fn random_u64(seed: u64, what: RngStream, number: u64) -> u64 {
    mix(mix(seed ^ (what as u64) << 56) ^ number)
}

/// Returns a draw in `0..bound`; a bound of zero gives zero.
pub(super) fn random_below(seed: u64, what: RngStream, number: u64, bound: u32) -> u32 {
    let wide = u128::from(random_u64(seed, what, number)) * u128::from(bound);
    u32::try_from(wide >> 64).unwrap_or(0)
}

/// Returns a generator for the many draws that one thing needs.
pub(super) fn seeded_rng(seed: u64, what: RngStream, number: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(random_u64(seed, what, number))
}

fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
