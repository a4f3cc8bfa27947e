//! SHA-256 on all cores, two at a time on each: the steps of one digest wait for one another, so that a processor
//! with instructions for them is idle most of the time. Two that are fed in turns, block by block, take three
//! quarters of the time that they take one after the other. Changes nothing.
//!
//! A digest is a *lane*: of [what a reader gives](begin), or of [pieces](Pieces) that somebody has. Those with
//! something to do wait for a thread of the [`pool`]. While this process leaves cores idle each lane has its own;
//! when it does not, who works on one alone takes up a second one, and so does who
//! [updates a digest of its own](Hasher::update_beside).

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sha2::Digest as _;

use super::cancel::Cancel;
use super::pool::{self, Pending, lock};
use crate::ids::Sha256;

/// Bytes that SHA-256 takes at once.
const BLOCK: usize = 64;
/// Bytes that are read at once of what a lane reads by itself.
const BUFFER: usize = 128 << 10;
/// Pieces of one digest that wait at most.
const WAITING_PIECES: usize = 8;

/// Lanes with something to do that no thread has taken up.
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { lanes: VecDeque::new(), left: 0, alone: 0 });

/// A digest in the making.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    sha: sha2::Sha256,
    /// Bytes behind the last whole block.
    behind: usize,
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.behind = (self.behind + bytes.len()) % BLOCK;
    }

    /// Adds bytes, and meanwhile to digests for which no other thread is free.
    pub fn update_beside(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(mut lane) = spare() else { return self.update(bytes) };
            while lane.has_more() {
                if bytes.is_empty() {
                    return wait_for_thread(lane);
                }
                bytes = &bytes[lane.add_beside(self, bytes)..];
            }
        }
    }

    /// The digest of all of them.
    pub fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.sha.finalize().into())
    }

    /// Adds what fills its last block, or all.
    fn fill_block(&mut self, bytes: &mut &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min((BLOCK - self.behind) % BLOCK));
        self.update(first);
        *bytes = rest;
    }
}

/// Adds bytes to two digests, in turns.
fn update_both([(a, mut to_a), (b, mut to_b)]: [(&mut Hasher, &[u8]); 2]) {
    a.fill_block(&mut to_a);
    b.fill_block(&mut to_b);
    let (blocks_a, blocks_b) = (to_a.as_chunks::<BLOCK>().0, to_b.as_chunks::<BLOCK>().0);
    for (one, other) in blocks_a.iter().zip(blocks_b) {
        a.sha.update(one);
        b.sha.update(other);
    }
    let both = BLOCK * blocks_a.len().min(blocks_b.len());
    a.update(&to_a[both..]);
    b.update(&to_b[both..]);
}

/// Bytes that others may read meanwhile.
pub type Piece = Arc<Vec<u8>>;

/// Where the bytes of a lane come from.
trait Source: Send {
    /// Puts the next ones in place of those that `piece` holds, which were added. `false` where there are none:
    /// then it has what it needs of the digest, and the lane is over.
    fn next(&mut self, hasher: &mut Hasher, piece: &mut Piece) -> bool;
}

/// A digest that some thread works on, or could.
struct Lane {
    hasher: Hasher,
    piece: Piece,
    /// So much of the piece was added.
    at: usize,
    source: Box<dyn Source>,
}

impl Lane {
    fn new(hasher: Hasher, source: impl Source + 'static) -> Self {
        Self { hasher, piece: Piece::default(), at: 0, source: Box::new(source) }
    }

    /// Whether anything is left; fetches it.
    fn has_more(&mut self) -> bool {
        while self.at == self.piece.len() {
            if !self.source.next(&mut self.hasher, &mut self.piece) {
                return false;
            }
            self.at = 0;
        }
        true
    }

    /// Adds what was fetched.
    fn add(&mut self) {
        self.hasher.update(&self.piece[self.at..]);
        self.at = self.piece.len();
    }

    /// Adds as much of it as there are bytes for another digest, and these to that; gives how many.
    fn add_beside(&mut self, other: &mut Hasher, bytes: &[u8]) -> usize {
        let rest = &self.piece[self.at..];
        let now = rest.len().min(bytes.len());
        update_both([(&mut self.hasher, &rest[..now]), (other, &bytes[..now])]);
        self.at += now;
        now
    }

    fn add_both(&mut self, other: &mut Self) {
        self.at += other.add_beside(&mut self.hasher, &self.piece[self.at..]);
    }
}

fn wait_for_thread(lane: Lane) {
    lock(&WAITING).lanes.push_back(lane);
    drop(pool::submit(work));
}

/// A lane for which no core is free, to be worked on beside something else.
fn spare() -> Option<Lane> {
    lock(&WAITING).spare()
}

/// For each lane there is a job in the pool, or it was left to a thread that works on one alone; such a thread
/// does not end before it has looked here.
struct Waiting {
    lanes: VecDeque<Lane>,
    /// How many were left.
    left: usize,
    /// How many threads work on one lane alone.
    alone: usize,
}

impl Waiting {
    fn next(&mut self) -> Option<Lane> {
        let lane = self.lanes.pop_front();
        self.left = self.left.min(self.lanes.len());
        lane
    }

    fn spare(&mut self) -> Option<Lane> {
        let is_wanted = !self.lanes.is_empty() && (self.left > 0 || cores_are_busy());
        if is_wanted { self.next() } else { None }
    }

    /// A lane for a thread that has none.
    fn first(&mut self) -> Option<Lane> {
        if self.alone > self.left && self.lanes.len() > self.left && cores_are_busy() {
            self.left += 1;
            return None;
        }
        let lane = self.next();
        self.alone += usize::from(lane.is_some());
        lane
    }

    /// A lane for a thread whose only one is over.
    fn another(&mut self) -> Option<Lane> {
        let lane = self.next();
        self.alone -= usize::from(lane.is_none());
        lane
    }
}

/// Works on the lane that waits longest, and on those that it can take up meanwhile, until they are over.
fn work() {
    let Some(mut one) = lock(&WAITING).first() else { return };
    loop {
        if !one.has_more() {
            let another = lock(&WAITING).another();
            let Some(lane) = another else { return };
            one = lane;
        } else if let Some(lane) = beside() {
            one = work_on_both(one, lane);
        } else {
            one.add();
        }
    }
}

/// A second lane for a thread that works on one alone.
fn beside() -> Option<Lane> {
    let mut waiting = lock(&WAITING);
    let lane = waiting.spare();
    waiting.alone -= usize::from(lane.is_some());
    lane
}

/// Works on two until one of them is over, or a core is free for it; gives the other.
fn work_on_both(mut one: Lane, mut other: Lane) -> Lane {
    let left = loop {
        if !one.has_more() {
            break other;
        }
        if !other.has_more() {
            break one;
        }
        if !cores_are_busy() {
            wait_for_thread(other);
            break one;
        }
        one.add_both(&mut other);
    };
    lock(&WAITING).alone += 1;
    left
}

/// What this process used of the cores lately.
struct Load {
    since: Option<(Instant, Duration)>,
    is_busy: bool,
}

/// How long that is looked at: of a thread that runs the system counts the time at each tick only, every few
/// milliseconds.
const LATELY: Duration = Duration::from_millis(20);
/// Cores that are used so much of the time, in percent, are busy.
const BUSY: u32 = 70;

/// Whether this process leaves no core idle.
fn cores_are_busy() -> bool {
    static LOAD: Mutex<Load> = Mutex::new(Load { since: None, is_busy: true });
    static CORES: LazyLock<u32> = LazyLock::new(|| {
        thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
    });
    let mut load = lock(&LOAD);
    let now = Instant::now();
    let passed = load.since.map_or(10 * LATELY, |(since, _)| now - since);
    if passed >= LATELY {
        let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        let lately = load.since.map_or(Duration::ZERO, |(_, before)| used.saturating_sub(before));
        // What was long ago says nothing; then it is, until it shows that it is not.
        load.is_busy = passed >= 10 * LATELY || 100 * lately >= BUSY * *CORES * passed;
        load.since = Some((now, used));
    }
    load.is_busy
}

/// Begins with the digest of what a reader gives, to its end, and how many bytes that is. To be taken up by a
/// [queue](super::pool::InOrder), which bounds how many there are.
pub fn begin(reader: impl Read + Send + 'static, cancel: &Cancel) -> Pending<io::Result<(Sha256, u64)>> {
    let (to, pending) = Pending::later();
    wait_for_thread(Lane::new(Hasher::default(), Reading { reader, cancel: cancel.clone(), bytes: 0, to }));
    pending
}

struct Reading<R> {
    reader: R,
    cancel: Cancel,
    bytes: u64,
    to: pool::Later<io::Result<(Sha256, u64)>>,
}

impl<R: Read + Send> Source for Reading<R> {
    fn next(&mut self, hasher: &mut Hasher, piece: &mut Piece) -> bool {
        let piece = Arc::make_mut(piece);
        piece.resize(BUFFER, 0);
        let read = loop {
            match self.cancel.check().map_err(io::Error::other).and_then(|()| self.reader.read(piece)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let ended = match read {
            Ok(0) => Ok((std::mem::take(hasher).finish(), self.bytes)),
            Ok(count) => {
                piece.truncate(count);
                self.bytes += count as u64;
                return true;
            }
            Err(error) => Err(error),
        };
        self.to.give(ended);
        false
    }
}

/// A digest of pieces in their order, taken beside whoever has them.
#[derive(Debug)]
pub struct Pieces {
    shared: Arc<Shared>,
    /// Pieces that are part of the digest.
    used: Receiver<Piece>,
    back: Sender<Piece>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// A piece was taken, or the lane is over.
    changed: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// The digest so far; absent while a lane has it.
    hasher: Option<Hasher>,
    waiting: VecDeque<Piece>,
    /// Nobody takes any more.
    failed: bool,
}

impl Pieces {
    /// Adds a piece; waits where many were not taken yet.
    pub fn push(&mut self, piece: Piece) {
        let idle = {
            let mut queue = lock(&self.shared.queue);
            queue.waiting.push_back(piece);
            queue.hasher.take()
        };
        if let Some(hasher) = idle {
            let taking = Taking { shared: Arc::clone(&self.shared), back: self.back.clone(), is_over: false };
            wait_for_thread(Lane::new(hasher, taking));
        }
        drop(self.wait(|queue| queue.waiting.len() <= WAITING_PIECES));
    }

    /// The oldest piece that is part of the digest and was not given back, where there is one: its memory can be
    /// used again.
    pub fn taken(&self) -> Option<Piece> {
        self.used.try_recv().ok()
    }

    /// The digest of all of them.
    pub fn finish(self) -> Sha256 {
        let mut queue = self.wait(|queue| queue.hasher.is_some());
        std::mem::take(queue.hasher.as_mut().expect("it was waited for")).finish()
    }

    fn wait(&self, until: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let mut queue = lock(&self.shared.queue);
        while !until(&queue) {
            assert!(!queue.failed, "a thread that took a digest failed");
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue
    }
}

impl Default for Pieces {
    /// Of none so far.
    fn default() -> Self {
        let queue = Queue { hasher: Some(Hasher::default()), waiting: VecDeque::new(), failed: false };
        let (back, used) = channel();
        Self { shared: Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() }), used, back }
    }
}

struct Taking {
    shared: Arc<Shared>,
    back: Sender<Piece>,
    is_over: bool,
}

impl Source for Taking {
    fn next(&mut self, hasher: &mut Hasher, piece: &mut Piece) -> bool {
        if !piece.is_empty() {
            // Nobody may want it any more.
            drop(self.back.send(std::mem::take(piece)));
        }
        let mut queue = lock(&self.shared.queue);
        if let Some(next) = queue.waiting.pop_front() {
            *piece = next;
        } else {
            queue.hasher = Some(std::mem::take(hasher));
            self.is_over = true;
        }
        drop(queue);
        self.shared.changed.notify_all();
        !self.is_over
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.shared.queue).failed = true;
            self.shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::pool::InOrder;

    fn bytes(length: usize, first: u8) -> Vec<u8> {
        (first..=250).chain(0..first).cycle().take(length).collect()
    }

    proptest! {
        #[test]
        fn two_at_once_are_what_each_is_alone(
            before in (0..200_usize, 0..200_usize),
            now in (0..2000_usize, 0..2000_usize),
            after in 0..200_usize,
        ) {
            let (mut a, mut b) = (Hasher::default(), Hasher::default());
            let all = [bytes(before.0 + now.0, 1), bytes(before.1 + now.1 + after, 2)];
            a.update(&all[0][..before.0]);
            b.update(&all[1][..before.1]);
            update_both([(&mut a, &all[0][before.0..]), (&mut b, &all[1][before.1..before.1 + now.1])]);
            b.update(&all[1][before.1 + now.1..]);
            prop_assert_eq!([a.finish(), b.finish()], all.map(|all| Sha256::of(&all)));
        }
    }

    /// Many lanes of all kinds, on as many threads as there are, each with its own digest.
    #[test]
    fn each_lane_has_its_own_digest_whoever_takes_it_up() {
        let own = |number: u8| {
            let mut hasher = Hasher::default();
            let all = bytes(300_000, number);
            all.chunks(7000).for_each(|piece| hasher.update_beside(piece));
            assert_eq!(hasher.finish(), Sha256::of(&all), "{number}");
        };
        let pieces = |number: u8| {
            let mut digest = Pieces::default();
            let all = bytes(400_000 + usize::from(number), number);
            all.chunks(9001).for_each(|piece| digest.push(Arc::new(piece.to_vec())));
            assert_eq!(digest.finish(), Sha256::of(&all), "{number}");
        };
        let read = |number: u8| {
            let mut queue = InOrder::new();
            let all: Vec<_> = (0..9_usize).map(|count| bytes(count * 150_000, number)).collect();
            let mut found = Vec::new();
            for one in &all {
                if queue.is_full() {
                    found.extend(queue.pop());
                }
                queue.add(begin(io::Cursor::new(one.clone()), &Cancel::default()));
            }
            found.extend(std::iter::from_fn(|| queue.pop()));
            let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
            let wanted: Vec<_> = all.iter().map(|all| (Sha256::of(all), all.len() as u64)).collect();
            assert_eq!(found, wanted, "{number}");
        };
        for _ in 0..5 {
            thread::scope(|scope| {
                for number in 0..4 {
                    scope.spawn(move || own(number));
                    scope.spawn(move || pieces(number));
                    scope.spawn(move || read(number));
                }
            });
        }
    }

    #[test]
    fn few_pieces_wait() {
        let (mut digest, mut there) = (Pieces::default(), 0);
        for _ in 0..10 * WAITING_PIECES {
            digest.push(Arc::new(vec![0; 100_000]));
            there += 1;
            while digest.taken().is_some() {
                there -= 1;
            }
            // One more is worked on.
            assert!(there <= WAITING_PIECES + 1, "{there}");
        }
        let _all = digest.finish();
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_who_is_asked_stops() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let ended = |pending: Pending<io::Result<_>>| pending.wait().map_err(|error| error.to_string());
        let cancel = Cancel::default();
        assert_eq!(ended(begin(Broken, &cancel)), Err("broken".to_owned()));
        cancel.request();
        assert_eq!(ended(begin(io::repeat(0), &cancel)), Err("stopped on request".to_owned()));
    }

    #[test]
    fn a_failure_of_who_takes_a_piece_comes_out() {
        let mut digest = Pieces::default();
        let shared = Arc::clone(&digest.shared);
        let _hasher = lock(&shared.queue).hasher.take();
        drop(Taking { shared, back: digest.back.clone(), is_over: false });
        let push = || (0..=WAITING_PIECES).for_each(|_| digest.push(Arc::new(vec![0])));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(push)).is_err());
    }
}
