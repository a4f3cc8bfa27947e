//! The fuzz targets: one function `fn(&[u8])` each, which panics when a promise is broken. They are used
//! by `tests/fuzz/main.rs` (stable, in CI) and by `tests/fuzz/coverage` (libFuzzer, for long runs), so they
//! need nothing but the crate itself. They write below [`place()`] only, and leave it as it was.

pub mod archives;
pub mod documents;
pub mod runs;
pub mod shared_files;
pub mod signatures;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::Path;

use abssctl::host::fs::Root;
use abssctl::state::config::{Config, ConfigFlags};
use tempfile::TempDir;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 12] = [
    ("plan", documents::plan),
    ("facts", documents::facts),
    ("receipt", documents::receipt),
    ("archive", archives::archive),
    ("manifest", archives::manifest),
    ("index", shared_files::index),
    ("registry", shared_files::registry),
    ("rules", shared_files::rules),
    ("log", shared_files::log),
    ("migrate", shared_files::migrate),
    ("journal", runs::journal),
    ("signatures", signatures::signatures),
];

thread_local! {
    static SEEN: RefCell<HashSet<u64>> = RefCell::default();
    static PLACE: TempDir = place();
}

/// Notes something that an input reached: a code, a kind, a branch. Inputs that reach something new are
/// kept by the mutator of `main.rs`; libFuzzer sees branches by itself.
pub fn note(what: impl Hash) {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    SEEN.with_borrow_mut(|seen| seen.insert(hasher.finish()));
}

/// What was noted since the last call.
pub fn noted() -> HashSet<u64> {
    SEEN.take()
}

/// A directory in memory where there is one: nothing here needs a disk, and syncing one is slow.
fn place() -> TempDir {
    let shm = Path::new("/dev/shm");
    let made = if shm.is_dir() { TempDir::with_prefix_in("abssctl-fuzz-", shm) } else { TempDir::new() };
    made.unwrap()
}

/// Calls with this thread's directory.
pub fn in_place<T>(work: impl FnOnce(&Path) -> T) -> T {
    PLACE.with(|place| work(place.path()))
}

/// Calls with a root that holds one file with these bytes, and the default configuration of it.
pub fn with_file<T>(inside: &str, bytes: &[u8], work: impl FnOnce(&Root, &Config) -> T) -> T {
    in_place(|place| {
        let file = place.join(inside);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let root = Root::open(place).unwrap();
        let config = Config::load(&root, &ConfigFlags::default(), &BTreeMap::new());
        let result = work(&root, &config.unwrap());
        std::fs::remove_file(&file).unwrap();
        result
    })
}
