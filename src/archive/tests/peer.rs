//! The archives that the older Python tool wrote.

use super::*;

#[test]
fn the_peers_archives_unpack_to_what_it_backed_up() {
    let root = fixture("budget-root.tar.gz");
    let backups = root.path().join("srv/backups/budget");
    let mut count = 0;
    for entry in std::fs::read_dir(&backups).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let algorithm = match name.split_once('.').unwrap().1 {
            "tar.zst" => Algorithm::Zstd,
            "tar.gz" => Algorithm::Gzip,
            "tar" => Algorithm::None,
            _ => continue,
        };
        count += 1;
        let id: BackupId = name.split_once('.').unwrap().0.parse().unwrap();
        let tar = || decoder(algorithm, std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(read_manifest(tar(), &id, &ROOMY).unwrap(), None);
        let staging = TempDir::new().unwrap();
        let owner = if is_root() { (12345, 54321) } else { own() };
        let resolve = |_: &Path| owner;
        let options =
            ExtractOptions { limits: ROOMY, owners: Owners::Resolve(&resolve), base: None, proof: None };
        let extracted =
            extract(tar(), &id, &dir(staging.path()), &options, &Cancel::default(), &|_| ()).unwrap();
        assert_eq!(extracted.manifest, None);
        let totals = scan(tar(), &id, &ROOMY, &Cancel::default(), &mut |_, _| Ok(())).unwrap();
        let got = Totals { bytes: extracted.bytes, entries: extracted.entries.len() as u64 };
        assert_eq!(totals, got);
        for (sha256, path) in sums("gen-a.sha256") {
            let file = staging.path().join("data").join(&path);
            assert_eq!(Sha256::of(&std::fs::read(&file).unwrap()), sha256, "{name}: {path}");
            let entry = extracted.entries.iter().find(|entry| entry.path == Path::new("data").join(&path));
            assert_eq!(entry.unwrap().sha256, Some(sha256));
        }
        for (path, text) in describe(staging.path()).iter().filter(|(path, _)| !path.is_empty()) {
            let shown = format!(" {}:{} ", owner.0, owner.1);
            assert!(text.contains(&shown), "{name}: {path}: {text}");
        }
        assert!(staging.path().join("metadata/instance.json").exists());
    }
    assert_eq!(count, 4);
}

fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[test]
fn gnu_tars_formats_are_read() {
    let top = TempDir::new().unwrap();
    let live = top.path().join(id().as_str());
    std::fs::create_dir_all(live.join("data/deep")).unwrap();
    create(&live.join("data/deep").join("n".repeat(200)), b"long");
    // Exactly 100 bytes: the old header has no room for a NUL.
    let prefix = format!("{}/data/", id()).len();
    create(&live.join("data").join("e".repeat(100 - prefix)), b"exact");
    std::os::unix::fs::symlink("s".repeat(150), live.join("data/link")).unwrap();
    std::fs::hard_link(live.join("data/deep").join("n".repeat(200)), live.join("data/hard")).unwrap();
    let want = describe(&live.join("data"));
    for format in ["gnu", "oldgnu", "posix"] {
        let file = top.path().join(format!("{format}.tar"));
        run(Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(&file)
            .arg("-C")
            .arg(top.path())
            .arg(id().as_str()));
        let (staging, extracted) = unpack(&std::fs::read(&file).unwrap(), Algorithm::None).unwrap();
        assert_eq!(extracted.manifest, None);
        let mut got = describe(&staging.path().join("data"));
        let mut want = want.clone();
        if format != "posix" {
            // These have whole seconds only.
            for text in got.values_mut().chain(want.values_mut()) {
                let dot = text.find('.').unwrap();
                text.replace_range(dot..dot + 10, "");
            }
        }
        assert_eq!(got, want, "{format}");
    }
}

#[test]
fn several_gzip_members_and_zstd_frames_are_one_stream() {
    let live = TempDir::new().unwrap();
    create(&live.path().join("f"), &noise(5000, 4));
    let (tar, _) = pack(live.path(), Algorithm::None);
    let (one, two) = tar.split_at(3000);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    unpack(&[zstd(one), zstd(two)].concat(), Algorithm::Zstd).unwrap();
    unpack(&[gzip(one), gzip(two)].concat(), Algorithm::Gzip).unwrap();
}
