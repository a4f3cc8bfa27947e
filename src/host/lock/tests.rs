//! Tests with real second processes: `flock` of util-linux, and Python's `fcntl.flock` as the peer uses it.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use super::*;

const SHORT: Duration = Duration::from_millis(150);

fn scratch() -> (tempfile::TempDir, Root, AbsPath) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root, "/run/abssctl".parse().unwrap())
}

fn instance(name: &str) -> LockName {
    LockName::Instance(name.parse().unwrap())
}

fn take(root: &Root, dir: &AbsPath, names: &[LockName], timeout: Duration) -> Result<LockGuard, LockError> {
    acquire(root, dir, names, timeout, &|| false, &|_| ())
}

/// A process that holds the lock of `path` until it is dropped.
struct Holder(Child);

impl Holder {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn flock(path: &Path) -> Self {
        Self::start(Command::new("flock").arg("-F").arg(path).args(["sh", "-c", "echo held; exec sleep 60"]))
    }

    fn python(path: &Path) -> Self {
        let script = "import fcntl,os,sys\nfd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT,0o640)\n\
                      fcntl.flock(fd,fcntl.LOCK_EX|fcntl.LOCK_NB)\n\
                      os.write(fd,b'{\"pid\":%d,\"acquired_at\":\"2026-11-24T02:26:32Z\"}' % os.getpid())\n\
                      print('held',flush=True)\nsys.stdin.read()";
        Self::start(Command::new("python3").args(["-c", script]).arg(path))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_process_that_holds_the_flock_keeps_us_out_and_is_named() {
    let (_keep, root, dir) = scratch();
    root.ensure_dir(&dir, 0o755).unwrap();
    let path = root.host_path(&dir).join("budget.lock");
    for start in [Holder::flock, Holder::python] {
        let holder = start(&path);
        let told = RefCell::new(Vec::new());
        let names = [LockName::Global, instance("budget")];
        let error =
            acquire(&root, &dir, &names, SHORT, &|| false, &|wait| told.borrow_mut().push(wait.clone()))
                .unwrap_err();
        let LockError::Timeout { holder: Some(who), name, .. } = &error else { panic!("{error}") };
        assert_eq!(name, &instance("budget"));
        assert!(who.contains(&format!("process {} (", holder.0.id())), "{who}");
        assert_eq!(told.borrow().len(), 1);
        // The global lock was let go again when the instance's lock was not to be had.
        take(&root, &dir, &[LockName::Global], Duration::ZERO).unwrap();
        drop(holder);
        take(&root, &dir, &names, Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn our_lock_keeps_others_out_until_it_is_dropped() {
    let (_keep, root, dir) = scratch();
    let path = root.host_path(&dir).join("abssctl.lock");
    let guard = take(&root, &dir, &[LockName::Global], SHORT).unwrap();
    let free = || Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap().success();
    let python = "import fcntl,os,sys\nfd=os.open(sys.argv[1],os.O_RDWR)\n\
                  try: fcntl.flock(fd,fcntl.LOCK_EX|fcntl.LOCK_NB)\nexcept BlockingIOError: sys.exit(7)";
    let python = || Command::new("python3").args(["-c", python]).arg(&path).status().unwrap().code();
    assert!(!free());
    assert_eq!(python(), Some(7));
    let text = std::fs::read_to_string(&path).unwrap();
    let content: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(content["pid"], std::process::id());
    assert!(
        text.starts_with("{\"pid\":") && text.contains("\"acquired_at\":\"") && !text.ends_with('\n'),
        "{text}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    drop(guard);
    assert!(free());
    assert_eq!(python(), Some(0));
    assert!(path.exists(), "the file stays");
}

#[test]
fn locks_are_taken_global_first_and_then_by_name() {
    let (_keep, root, dir) = scratch();
    let names = [instance("b"), LockName::Global, instance("a"), instance("b")];
    let guard = take(&root, &dir, &names, SHORT).unwrap();
    let held: Vec<LockName> = guard.held.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(held, [LockName::Global, instance("a"), instance("b")]);
}

#[test]
fn a_wait_ends_when_the_lock_is_free_and_when_it_is_called_off() {
    let (_keep, root, dir) = scratch();
    let guard = take(&root, &dir, &[LockName::Global], SHORT).unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(guard);
    });
    let second = take(&root, &dir, &[LockName::Global], Duration::from_secs(20)).unwrap();
    assert!(second.waited() >= Duration::from_millis(100), "{:?}", second.waited());
    release.join().unwrap();

    let tries = std::cell::Cell::new(0);
    let cancel = || {
        tries.set(tries.get() + 1);
        tries.get() > 2
    };
    let error =
        acquire(&root, &dir, &[LockName::Global], Duration::from_secs(60), &cancel, &|_| ()).unwrap_err();
    assert!(matches!(error, LockError::Cancelled { .. }), "{error}");
}

#[test]
fn a_lock_whose_name_was_removed_is_not_held() {
    let (_keep, root, dir) = scratch();
    let path = root.host_path(&dir).join("abssctl.lock");
    let first = take(&root, &dir, &[LockName::Global], SHORT).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = take(&root, &dir, &[LockName::Global], SHORT).unwrap();
    assert!(!is_still(&root.dir(&dir).unwrap(), &LockName::Global, &first.held[0].1));
    assert!(is_still(&root.dir(&dir).unwrap(), &LockName::Global, &second.held[0].1));
}

#[test]
fn what_is_no_file_is_no_lock() {
    let (_keep, root, dir) = scratch();
    root.ensure_dir(&"/run/abssctl/abssctl.lock".parse().unwrap(), 0o755).unwrap();
    let error = take(&root, &dir, &[LockName::Global], SHORT).unwrap_err();
    assert!(matches!(error, LockError::NotAFile { .. }), "{error}");
    let target = root.host_path(&dir).join("elsewhere");
    std::os::unix::fs::symlink(&target, root.host_path(&dir).join("a.lock")).unwrap();
    let error = take(&root, &dir, &[instance("a")], SHORT).unwrap_err();
    assert!(matches!(error, LockError::NotAFile { .. }), "{error}");
    assert!(!target.exists());
}

#[test]
fn a_journal_is_locked_as_long_as_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let first = File::create(&path).unwrap();
    let second = File::open(&path).unwrap();
    assert!(try_lock_file(&first).unwrap());
    assert!(!try_lock_file(&second).unwrap());
    drop(first);
    assert!(try_lock_file(&second).unwrap());
}

#[test]
fn an_instance_with_the_name_of_the_global_lock_is_refused_at_once() {
    let (_keep, root, dir) = scratch();
    let names = [LockName::Global, instance("abssctl")];
    let error = take(&root, &dir, &names, Duration::from_secs(60)).unwrap_err();
    assert!(matches!(&error, LockError::ReservedName { .. }), "{error}");
    assert!(error.to_string().contains("cannot be called 'abssctl'"), "{error}");
    assert!(!root.host_path(&dir).exists(), "nothing was made");
}
