//! Chance by a seed: the same numbers on every machine.

/// Which sample of crashes is tried where not all are.
const SEED: u64 = 20_261_125;

/// Numbers that look random (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// By the fixed seed, or `ABSSCTL_TEST_SEED`; `stream` tells apart what must not march in step.
    pub(crate) fn new(stream: &str) -> Self {
        let from = stream.bytes().fold(seed(), |all, byte| all.wrapping_mul(31).wrapping_add(byte.into()));
        Self(from)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below a number that is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// The seed in force.
pub(crate) fn seed() -> u64 {
    std::env::var("ABSSCTL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// Whether all crashes are asked for.
pub(crate) fn all() -> bool {
    std::env::var_os("ABSSCTL_TEST_CRASH").is_some_and(|wish| wish == "all")
}

/// Whether only the rules of order are asked for, and no crash is tried: tests/power/mutations.sh.
pub(crate) fn rules_only() -> bool {
    std::env::var_os("ABSSCTL_TEST_CRASH").is_some_and(|wish| wish == "rules")
}

/// At most `limit` of them, spread evenly, each of them the one of its stretch that chance says.
pub(crate) fn sample<T>(items: Vec<T>, limit: usize, random: &mut Random) -> Vec<T> {
    let count = items.len();
    if count <= limit || limit == 0 {
        return items;
    }
    let mut chosen: Vec<usize> = (0..limit)
        .map(|nth| {
            let (from, to) = (nth * count / limit, (nth + 1) * count / limit);
            from + random.below(to - from)
        })
        .collect();
    chosen.dedup();
    let mut place = 0;
    let mut items = items;
    items.retain(|_| {
        place += 1;
        chosen.binary_search(&(place - 1)).is_ok()
    });
    items
}
