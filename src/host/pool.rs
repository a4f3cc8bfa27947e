//! The threads on which the processor's work is done: compressing, decoding, hashing. One set for the whole
//! process, as many as it has cores, begun with the first job: two steps that run at once share them.
//!
//! A job owns what it works on and waits for no other job. What is in flight is bounded by whoever submits
//! ([`InOrder`]), so that memory grows with the cores and never with the data. With one thread each job runs
//! where it is submitted.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use super::cancel::Cancel;

/// The most there are: one thread reads the archive and one writes what comes out, and each batch in flight
/// holds files open, of which a process may have 1,024.
pub const MOST_THREADS: u16 = 16;

static THREADS: OnceLock<usize> = OnceLock::new();

type Job = Box<dyn FnOnce() + Send>;
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// Sets how many jobs run at once; of use before the first one only.
pub fn set_threads(threads: u16) {
    let _first = THREADS.set(usize::from(threads.clamp(1, MOST_THREADS)));
}

/// How many jobs run at once; 1 where none runs beside its caller.
pub fn threads() -> usize {
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS.into()))
}

/// Locks a mutex; a panic of another thread while it held it does not matter for the plain values behind those of
/// this program.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a job will give.
#[derive(Debug)]
pub struct Pending<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Done(T),
    Waits(Receiver<Outcome<T>>),
}

/// Gives what somebody waits for.
#[derive(Debug)]
pub struct Later<T>(SyncSender<Outcome<T>>);

impl<T> Later<T> {
    /// Gives it.
    pub fn give(&self, value: T) {
        // Whoever waited may be gone, having failed.
        drop(self.0.try_send(Ok(value)));
    }
}

impl<T> Pending<T> {
    /// What no job of its own leads to.
    pub fn later() -> (Later<T>, Self) {
        let (sender, receiver) = sync_channel(1);
        (Later(sender), Self(State::Waits(receiver)))
    }

    /// Waits for the end of the job, whatever it is.
    fn end(self) {
        if let State::Waits(receiver) = self.0 {
            drop(receiver.recv());
        }
    }

    /// Waits for the end of the job. A panic in it goes on here.
    pub fn wait(self) -> T {
        match self.0 {
            State::Done(value) => value,
            State::Waits(receiver) => match receiver.recv() {
                Ok(Ok(value)) => value,
                Ok(Err(panic)) => resume_unwind(panic),
                Err(gone) => resume_unwind(Box::new(gone)),
            },
        }
    }
}

/// Lets a job run as soon as a thread is free, in the order in which jobs were submitted.
pub(super) fn submit<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    let Some(jobs) = jobs() else { return Pending(State::Done(job())) };
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        // Whoever submitted it may be gone, having failed.
        drop(sender.send(catch_unwind(AssertUnwindSafe(job))));
    };
    if let Err(back) = jobs.send(Box::new(run)) {
        // No thread takes it: here, then.
        (back.0)();
    }
    Pending(State::Waits(receiver))
}

/// Where jobs go; `None` where they run at once.
fn jobs() -> Option<&'static Sender<Job>> {
    static JOBS: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    JOBS.get_or_init(|| {
        if threads() == 1 {
            return None;
        }
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let begun = (0..threads()).filter(|_| {
            let receiver = Arc::clone(&receiver);
            // A machine may allow no more threads: one of them is enough.
            thread::Builder::new().name("abssctl-work".to_owned()).spawn(move || work(&receiver)).is_ok()
        });
        (begun.count() > 0).then_some(sender)
    })
    .as_ref()
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = lock(jobs).recv();
        match next {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Results in the order of their jobs, with so many in flight. Whoever has no use for it any more waits for
/// the jobs in flight: none goes on behind the back of one who cleans up.
#[derive(Debug)]
pub struct InOrder<T> {
    pending: VecDeque<Pending<T>>,
    /// How many may be in flight, now and ever.
    window: usize,
    most: usize,
}

impl<T> Drop for InOrder<T> {
    fn drop(&mut self) {
        for pending in self.pending.drain(..) {
            pending.end();
        }
    }
}

impl<T: Send + 'static> InOrder<T> {
    /// One for each thread is at work, and some wait on both sides.
    pub fn new() -> Self {
        Self::window(threads() + 2)
    }

    /// With so many in flight.
    pub fn window(most: usize) -> Self {
        Self { pending: VecDeque::new(), window: most, most }
    }

    /// The same, with one in flight first, and twice as many after each result.
    pub fn growing() -> Self {
        Self { pending: VecDeque::new(), window: 1, most: threads() + 2 }
    }

    /// Whether no more jobs are to be submitted before a result is taken.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.window
    }

    /// Adds a job.
    pub fn submit(&mut self, job: impl FnOnce() -> T + Send + 'static) {
        self.pending.push_back(submit(job));
    }

    /// Adds what comes from elsewhere.
    pub fn add(&mut self, pending: Pending<T>) {
        self.pending.push_back(pending);
    }

    /// The oldest result, once it is there; `None` where nothing is in flight.
    pub fn pop(&mut self) -> Option<T> {
        self.window = self.most.min(2 * self.window);
        self.pending.pop_front().map(Pending::wait)
    }
}

impl<T: Send + 'static> Default for InOrder<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that a batch has at least, unless it has as many pieces as it may.
const BATCH_BYTES: u64 = 1 << 20;
/// Pieces of one batch: each may hold a file open.
const BATCH_PIECES: usize = 16;

type Work<I, O> = dyn Fn(Vec<I>, &Cancel) -> O + Send + Sync;

/// Pieces of work that are small, of which many go to a thread at once: to hand over each would cost as much
/// as to do it. Results come in the order of the pieces, those of one batch together. Whoever has no use for
/// it any more asks the jobs in flight to stop, and waits for them.
pub struct Batches<I, O> {
    work: Arc<Work<I, O>>,
    stop: Cancel,
    pieces: Vec<I>,
    bytes: u64,
    in_flight: InOrder<O>,
}

impl<I, O> std::fmt::Debug for Batches<I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<I: Send + 'static, O: Send + 'static> Batches<I, O> {
    /// What is done with a batch, and what stops it.
    pub fn new(cancel: &Cancel, work: impl Fn(Vec<I>, &Cancel) -> O + Send + Sync + 'static) -> Self {
        let (work, stop) = (Arc::new(work), cancel.child());
        Self { work, stop, pieces: Vec::new(), bytes: 0, in_flight: InOrder::new() }
    }

    /// Adds a piece that is this large. Gives the oldest result where enough is in flight.
    pub fn push(&mut self, piece: I, bytes: u64) -> Option<O> {
        self.pieces.push(piece);
        self.bytes += bytes;
        if self.bytes < BATCH_BYTES && self.pieces.len() < BATCH_PIECES {
            return None;
        }
        let oldest = if self.in_flight.is_full() { self.in_flight.pop() } else { None };
        self.flush();
        oldest
    }

    /// The oldest result; `None` where every piece has had its own.
    pub fn pop(&mut self) -> Option<O> {
        self.flush();
        self.in_flight.pop()
    }

    fn flush(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let (pieces, work, stop) =
            (std::mem::take(&mut self.pieces), Arc::clone(&self.work), self.stop.clone());
        self.bytes = 0;
        self.in_flight.submit(move || work(pieces, &stop));
    }
}

impl<I, O> Drop for Batches<I, O> {
    fn drop(&mut self) {
        self.stop.request();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_jobs() {
        let mut queue = InOrder::new();
        for number in 0..64_u64 {
            queue.submit(move || {
                thread::sleep(std::time::Duration::from_micros(640 - 10 * number));
                number
            });
        }
        assert!(queue.is_full());
        let results: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(results, (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn a_window_grows_to_that_of_all_threads() {
        let (mut growing, full) = (InOrder::growing(), InOrder::<usize>::new());
        let mut windows = Vec::new();
        for round in 0..6 {
            let mut count = 0;
            while !growing.is_full() {
                growing.submit(move || round);
                count += 1;
            }
            windows.push(count);
            assert!(growing.pop().is_some());
        }
        assert_eq!(windows[0], 1);
        assert_eq!((growing.window, growing.most), (full.window, full.most));
    }

    #[test]
    fn a_panic_comes_out_where_the_result_is_awaited_and_harms_no_other_job() {
        let [bad, good] = [submit(|| Vec::<u8>::new()[0]), submit(|| 7)];
        assert!(catch_unwind(AssertUnwindSafe(|| bad.wait())).is_err());
        assert_eq!(good.wait(), 7);
    }

    #[test]
    fn batches_lose_nothing_and_keep_the_order() {
        let mut batches = Batches::new(&Cancel::default(), |pieces: Vec<u64>, _| pieces);
        let mut found = Vec::new();
        for number in 0..1000 {
            found.extend(
                batches.push(number, if number % 7 == 0 { BATCH_BYTES } else { 0 }).unwrap_or_default(),
            );
        }
        found.extend(std::iter::from_fn(|| batches.pop()).flatten());
        assert_eq!(found, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn who_gives_up_stops_what_is_in_flight_and_waits_for_it() {
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&running);
        let cancel = Cancel::default();
        let mut batches = Batches::new(&cancel, move |_: Vec<()>, stop| {
            let _ = count.fetch_add(1, Ordering::SeqCst);
            while !stop.is_requested() {
                thread::yield_now();
            }
            let _ = count.fetch_sub(1, Ordering::SeqCst);
        });
        if threads() > 1 {
            for _ in 0..2 {
                assert!(batches.push((), BATCH_BYTES).is_none());
            }
            while running.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        }
        drop(batches);
        assert_eq!(running.load(Ordering::SeqCst), 0);
        assert!(!cancel.is_requested());
    }

    #[test]
    fn nobody_needs_to_wait() {
        for _ in 0..100 {
            drop(submit(|| vec![0_u8; 1000]));
        }
        assert_eq!(submit(|| 1).wait(), 1);
    }
}
