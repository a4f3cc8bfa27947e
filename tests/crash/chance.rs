//! Chance with a fixed seed: the sample is the same on every machine, and another one when it is told to.

use std::io::Write as _;

/// The seed of all samples; `ABSSCTL_TEST_CRASH_SEED` takes its place.
const SEED: u64 = 20_261_124;

/// Numbers that look like chance (splitmix64).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The chance of one test; says which seed it has.
    pub(crate) fn of(name: &str) -> Self {
        let wanted = std::env::var("ABSSCTL_TEST_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = wanted.unwrap_or(SEED);
        writeln!(std::io::stderr().lock(), "{name}: seed {seed}").unwrap();
        // Each test draws its own numbers from the one seed.
        Self(name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// So many of them in their order, spread: one of each equal part, so that no stretch is left out.
    pub(crate) fn some_of<T: Copy>(&mut self, all: impl IntoIterator<Item = T>, wanted: usize) -> Vec<T> {
        let all: Vec<T> = all.into_iter().collect();
        if all.len() <= wanted {
            return all;
        }
        let part = |number: usize| number * all.len() / wanted;
        let one = |number: usize| {
            let (from, to) = (part(number), part(number + 1));
            from + usize::try_from(self.next() % (to - from) as u64).unwrap_or(0)
        };
        let places: Vec<usize> = (0..wanted).map(one).collect();
        places.into_iter().map(|place| all[place]).collect()
    }
}
