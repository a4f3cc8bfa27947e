//! Real inputs to begin with: the files of the fixture, what the program itself writes for it, sample plans.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use abssctl::plan::{emit, testing};
use tempfile::TempDir;

use crate::targets::archives::{ID, MEND};

/// The fixture, with a restore done on it.
static WORLD: LazyLock<World> = LazyLock::new(World::new);

struct World {
    root: TempDir,
    work: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { root: TempDir::new().unwrap(), work: TempDir::new().unwrap() };
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/budget-root.tar.gz");
        let unpacked = Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(world.root.path()).status();
        assert!(unpacked.unwrap().success());
        let (plan, receipt) = (world.work("plan.yaml"), world.work("receipt"));
        world.run(&["plan", "restore", ID, "-o", &plan]);
        world.run(&["plan", "restore", ID, "-o", &world.work("plan.json")]);
        world.run(&["plan", "restore", ID, "--clients", "reset", "-o", &world.work("reset.yaml")]);
        std::fs::write(world.work("facts.json"), world.run(&["facts", "--instance", "budget"])).unwrap();
        world.run(&["apply", &plan, "--yes", "--receipt", &receipt]);
        world
    }

    fn work(&self, name: &str) -> String {
        self.work.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Vec<u8> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_abssctl"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        let ran =
            command.arg("--root").arg(self.root.path()).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }

    fn read(&self, inside: impl AsRef<Path>) -> Vec<u8> {
        std::fs::read(self.root.path().join(inside)).unwrap()
    }
}

fn made(name: &str) -> Vec<u8> {
    std::fs::read(WORLD.work(name)).unwrap()
}

/// The seeds of a target.
pub(crate) fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "plan" => plans(),
        "facts" => vec![made("facts.json")],
        "receipt" => vec![made("receipt")],
        "archive" => archives(),
        "manifest" => vec![manifest()],
        "index" => vec![
            WORLD.read("srv/backups/backups.json"),
            b"{\"backups\": [], \"more\": {\"b\": 1, \"a\": 2.50}}".to_vec(),
        ],
        "registry" => vec![
            WORLD.read("var/lib/abssctl/registry/instances.yml"),
            b"instances:\n- name: x\n  domain: 'x.example'\n  port: 5001\n  version: '25.6'\n".to_vec(),
        ],
        "rules" => vec![RULES.as_bytes().to_vec(), b"clients: reset\nsessions: revoke\n".to_vec()],
        "log" => vec![WORLD.read("var/log/abssctl/operations.jsonl")],
        "migrate" => vec![
            WORLD.read("srv/budget/data/.migrate"),
            b"import(\"./1632365163126-x.js\"); const a = 'migrations/1632365163126-old.js', b=`1702667624000-b.js`"
                .to_vec(),
        ],
        "journal" => vec![journal()],
        "signatures" => kept("signatures"),
        other => panic!("{other} has no seeds"),
    }
}

fn plans() -> Vec<Vec<u8>> {
    let samples = [
        testing::sample(),
        testing::sample_with_service(),
        testing::sample_dest(),
        testing::sample_single(),
        testing::sample_copy(),
    ];
    let mut all = vec![made("plan.yaml"), made("plan.json"), made("reset.yaml")];
    for plan in &samples {
        all.push(emit::to_yaml(plan).unwrap().into_bytes());
        all.push(emit::to_json(plan).unwrap().into_bytes());
    }
    all
}

/// The newest journal, and its first halves: runs that were cut off.
fn journal() -> Vec<u8> {
    let runs = WORLD.root.path().join("var/lib/abssctl/runs");
    let run: PathBuf = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    std::fs::read(run.join("journal.jsonl")).unwrap()
}

fn kept(prefix: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A small tar with every kind of member, as GNU tar writes them in its own form and with PAX records.
fn small_tar(format: &str) -> Vec<u8> {
    let work = TempDir::new().unwrap();
    let top = work.path().join(ID);
    std::fs::create_dir_all(top.join("data/sub")).unwrap();
    std::fs::write(top.join("data/file"), b"content").unwrap();
    std::fs::write(top.join(format!("data/{}", "n".repeat(150))), b"long").unwrap();
    std::fs::hard_link(top.join("data/file"), top.join("data/sub/hard")).unwrap();
    std::os::unix::fs::symlink("../file", top.join("data/sub/link")).unwrap();
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--format", format, "-C"]).arg(work.path()).arg(ID);
    let ran = command.output().unwrap();
    assert!(ran.status.success());
    // Without the blocks that GNU tar fills its record with.
    let end = ran.stdout.iter().rposition(|byte| *byte != 0).unwrap_or(0) / 512 * 512 + 1536;
    ran.stdout[..end.min(ran.stdout.len())].to_vec()
}

fn archives() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for format in ["gnu", "posix"] {
        let tar = small_tar(format);
        for (form, packed) in [
            (0, zstd::encode_all(&tar[..], 3).unwrap()),
            (1, gzip(&tar)),
            (2, tar.clone()),
            (MEND, tar.clone()),
            (MEND | 1, tar.clone()),
            (MEND | 2, tar.clone()),
        ] {
            all.push([&[form], &packed[..]].concat());
        }
    }
    let own = own_tar();
    all.push([&[MEND | 2], &own[..]].concat());
    all
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

/// An archive of our own, with its manifest, of a small directory.
fn own_tar() -> Vec<u8> {
    use abssctl::archive::{Algorithm, Payload, Scope, write};
    use cap_std::{ambient_authority, fs::Dir};
    let (live, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::create_dir(live.path().join("sub")).unwrap();
    std::fs::write(live.path().join("sub/file"), b"content").unwrap();
    std::fs::hard_link(live.path().join("sub/file"), live.path().join("hard")).unwrap();
    std::os::unix::fs::symlink("sub/file", live.path().join("link")).unwrap();
    let open = |path: &Path| Dir::open_ambient_dir(path, ambient_authority()).unwrap();
    let payload = Payload {
        id: &ID.parse().unwrap(),
        instance: &"budget".parse().unwrap(),
        created_at: jiff::Timestamp::from_second(1_795_487_992).unwrap(),
        scope: Scope::Data,
        data: &open(live.path()),
        extra: Vec::new(),
        scratch: &open(scratch.path()),
        exclude: &[],
    };
    let mut out = Vec::new();
    let cancel = abssctl::host::cancel::Cancel::default();
    write(&payload, Algorithm::None, None, &mut out, &cancel, &|_| ()).unwrap();
    out
}

fn manifest() -> Vec<u8> {
    let tar = own_tar();
    let from = tar.windows(2).position(|window| window == b"{\n" || window == b"{\"").unwrap();
    let length = tar[from..].iter().position(|byte| *byte == 0).unwrap();
    tar[from..from + length].to_vec()
}

const RULES: &str = r#"# /etc/abssctl/restore.yml
requireApprovals: 1
rules:
  - name: production
    instances: ["prod-*", "!prod-test"]
    requireApprovals: 2
    approvers: ["*@ops.example.org"]
    authorMayApprove: false
    approvalMaxAge: 3d
    planMaxAge: 7d
    clients: [reset]
    sessions: [revoke]
    preBackup: [quiesced]
    drift: [structure, exact]
    replay: [once]
    assets: [data]
    onFailure: [rollback]
    freeze:
      - {from: "2026-12-20T00:00", until: "2027-01-02T06:00", zone: Europe/Berlin, why: "year end"}
      - {days: [mon, tue, wed, thu, fri], from: "08:00", until: "18:00", zone: Europe/Berlin}
      - {from: "23:00", until: "01:00", zone: Europe/Berlin, why: "nightly backups"}
  - name: careful
    drift: [structure, exact]
"#;
