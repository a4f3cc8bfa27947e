//! `assets`: puts unit and vhost of the backup in the place of those of the machine, lets nginx test the
//! vhost, and tells systemd and nginx. Undo puts the old ones back.
//!
//! What is there is copied into the run's own directory first (`<run>/assets`, 0700), then the journal names
//! every file with its digest before and after; only then the first one is replaced, each in one step. So what
//! has come how far is seen by the digests: a crash leaves some files old and some new, and running again
//! writes the rest. What is neither, a person put there: it is never written over.
//!
//! Systemd and nginx run on with what they had read until they are told, which happens once all files are in
//! place and nginx took them. A machine that starts in the middle reads what is there without being told, so
//! an undo tells them in any case: once more does no harm. The same in a rollback, whose files are those that
//! the earlier run kept.

use cap_std::fs::Dir;

use super::context::{Done, Probe, StepContext, StepRunner};
use super::error::StepError;
use super::staging;
use crate::context::Context;
use crate::host::fs::{self, Attributes, IoContext as _};
use crate::host::proxy::{self, Nginx, Reloaded, Tested};
use crate::ids::{AbsPath, RunId, Sha256};
use crate::plan::assets::AssetKind;
use crate::plan::spec::{BackupSource, Source};
use crate::plan::step::{Action, AssetFile, AssetsWith, Step};
use crate::run::fact::{AssetChange, Fact, LinkChange};
use crate::run::{journal, list};
use crate::survey::assets::{self, MAX_ASSET, Refusal};

/// Where a run keeps what it replaced, below its own directory.
const KEPT: &str = "assets";

/// Mode of a unit or vhost of a backup where none was: a backup does not tell what it had.
const MODE: u32 = 0o644;

/// Mode of one that a run kept and did not note: it may have been nobody's to read.
const KEPT_MODE: u32 = 0o600;

/// The code of `assets`.
#[derive(Debug)]
pub struct Assets;

/// What the journal knows.
struct Noted {
    kept_in: AbsPath,
    files: Vec<AssetChange>,
    link: Option<LinkChange>,
}

impl Noted {
    fn touches(&self, kind: AssetKind) -> bool {
        let link = kind == AssetKind::Site && self.link.is_some();
        link || self.files.iter().any(|file| file.kind == kind)
    }
}

/// Which of its two states a file or link is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Old,
    New,
}

impl StepRunner for Assets {
    fn run(&self, cx: &StepContext<'_>, step: &Step) -> Result<Done, StepError> {
        let Action::Assets(with) = &step.action else {
            return Err(StepError::Unavailable { kind: step.kind() });
        };
        let noted = match noted(cx)? {
            Some(noted) => noted,
            None => note(cx, step, with)?,
        };
        if noted.files.is_empty() && noted.link.is_none() {
            return Ok(Done::new("unit and vhost are as they are to be already"));
        }
        write(cx, with, &noted)?;
        let mut done = Done::new(detail(&noted));
        let nginx = nginx(cx, with, &noted);
        if let Some(nginx) = &nginx {
            done.warnings.extend(test(cx, with, nginx, &noted)?);
        }
        tell_systemd(cx, with, &noted)?;
        match nginx.map(|nginx| nginx.reload()) {
            None | Some(Ok(Reloaded::Taken)) => {}
            Some(Ok(Reloaded::Kept)) => {
                return give_up(cx, with, &noted, refused(cx, not_taken()));
            }
            // Where it does not run it reads them when it starts; they are tested in any case.
            Some(Err(why)) => done
                .warnings
                .push(format!("nginx was not told of the vhost, and reads it when it starts: {why}")),
        }
        Ok(done)
    }

    fn undo(&self, cx: &StepContext<'_>, step: &Step) -> Result<(), StepError> {
        let Some(noted) = noted(cx)? else { return Ok(()) };
        let Action::Assets(with) = &step.action else { return Ok(()) };
        // Where one of them could not come back, they read the other all the same.
        let back = put_back(cx, &noted);
        let told = tell_systemd(cx, with, &noted);
        match nginx(cx, with, &noted).map(|nginx| nginx.reload()) {
            None | Some(Ok(Reloaded::Taken)) => {}
            Some(Ok(Reloaded::Kept)) => {
                cx.say(format!("nginx did not take the old vhost: {}", not_taken()));
            }
            Some(Err(why)) => {
                cx.say(format!("nginx was not told of the old vhost, and reads it when it starts: {why}"));
            }
        }
        back.and(told)?;
        // What is kept is what a person puts back by hand, as long as something is missing.
        remove_kept(cx.host, cx.run)
    }

    fn probe(&self, cx: &StepContext<'_>, _step: &Step) -> Result<Probe, StepError> {
        let Some(noted) = noted(cx)? else { return Ok(Probe::NotBegun) };
        let mut states = Vec::new();
        for file in noted.files.iter().filter(|file| file.old != file.new) {
            states.push(state_of(cx, &noted, file)?);
        }
        if let Some(link) = &noted.link {
            states.push(state_of_link(cx, link)?);
        }
        // Whether all were told is not seen on disk: telling them again does no harm.
        let begun = states.contains(&State::New);
        Ok(if begun { Probe::Half } else { Probe::NotBegun })
    }
}

/// Proves that the files of the backup are those of the plan, before anything live changes.
pub(super) fn prove(cx: &StepContext<'_>) -> Result<(), StepError> {
    for step in &cx.plan.steps {
        if let Action::Assets(with) = &step.action {
            for file in &with.files {
                content(cx, file)?;
            }
        }
    }
    Ok(())
}

/// What is to be in a file, by the plan's digest; `None` where it is removed.
fn content(cx: &StepContext<'_>, file: &AssetFile) -> Result<Option<Vec<u8>>, StepError> {
    let Some(expected) = file.sha256 else { return Ok(None) };
    let (dir, place) = source(cx)?;
    let bytes = fs::read_optional(&dir, &file.member, MAX_ASSET)
        .context("read", cx.host.root.host_path(&place).join(&file.member))?;
    match bytes {
        Some(bytes) if Sha256::of(&bytes) == expected => Ok(Some(bytes)),
        Some(_) => Err(StepError::Unsound { why: format!("{} is not the file of the plan", file.member) }),
        None => Err(StepError::Unsound { why: format!("{} is missing", file.member) }),
    }
}

/// Where the files come from: the unpacked backup, or what an earlier run kept.
fn source(cx: &StepContext<'_>) -> Result<(Dir, AbsPath), StepError> {
    let gone = |place: &AbsPath| StepError::Changed { what: format!("{place} is gone") };
    match &cx.plan.spec.source {
        Source::Backup(BackupSource { .. }) => {
            let place = staging::staging(cx)?;
            Ok((staging::existing(cx.host, &place)?.ok_or_else(|| gone(&place))?, place))
        }
        Source::Run(run) => {
            let place = kept_in(cx.host, &run.run)?;
            Ok((cx.host.root.dir_optional(&place)?.ok_or_else(|| gone(&place))?, place))
        }
    }
}

/// Where a run keeps the files that it replaced.
pub fn kept_in(cx: &Context, run: &RunId) -> Result<AbsPath, StepError> {
    staging::join(&journal::run_directory(&cx.config, run)?, KEPT)
}

/// Removes what a run kept of unit and vhost.
pub fn remove_kept(cx: &Context, run: &RunId) -> Result<(), StepError> {
    let directory = journal::run_directory(&cx.config, run)?;
    if let Some(dir) = cx.root.dir_optional(&directory)? {
        fs::remove_tree(&dir, KEPT).context("remove", cx.root.host_path(&directory).join(KEPT))?;
    }
    Ok(())
}

fn noted(cx: &StepContext<'_>) -> Result<Option<Noted>, StepError> {
    let noted = cx.fact(|fact| {
        let Fact::Assets { kept_in, files, link } = fact else { return None };
        Some(Noted { kept_in: kept_in.clone(), files: files.clone(), link: link.clone() })
    });
    let Some(noted) = noted else { return Ok(None) };
    // Other files than the plan's come from somebody who edited the journal: they are not touched.
    let with = cx
        .plan
        .steps
        .iter()
        .find_map(|step| if let Action::Assets(with) = &step.action { Some(with) } else { None });
    let planned = |change: &AssetChange| {
        let file = |file: &AssetFile| {
            (file.kind, &file.path, file.sha256) == (change.kind, &change.path, change.new)
        };
        with.is_some_and(|with| with.files.iter().any(file))
    };
    let link = |change: &LinkChange| {
        let wish = with.and_then(|with| with.link.as_ref());
        wish.is_some_and(|wish| {
            (&wish.path, &wish.to, wish.wanted) == (&change.path, &change.to, change.made)
        })
    };
    if noted.kept_in != kept_in(cx.host, cx.run)?
        || !noted.files.iter().all(planned)
        || !noted.link.as_ref().is_none_or(link)
    {
        let what = format!("the journal of run {} names other files than its plan", cx.run);
        return Err(StepError::UnknownState { what });
    }
    Ok(Some(noted))
}

/// Keeps what is there, and notes what becomes of it.
fn note(cx: &StepContext<'_>, step: &Step, with: &AssetsWith) -> Result<Noted, StepError> {
    let kept_in = kept_in(cx.host, cx.run)?;
    let mut link = None;
    if let Some(wish) = &with.link {
        let there = assets::is_linked(cx.host, &wish.path, &wish.to).map_err(changed)?;
        let change = LinkChange { path: wish.path.clone(), to: wish.to.clone(), made: wish.wanted };
        link = (there != wish.wanted).then_some(change);
    }
    let mut files = Vec::new();
    for file in &with.files {
        let live = assets::read(cx.host, &file.path).map_err(changed)?;
        let old = live.as_deref().map(Sha256::of);
        let of_link = link.is_some() && file.kind == AssetKind::Site;
        if old == file.sha256 && !of_link {
            continue;
        }
        // The differences that were reviewed are to that one.
        if old != file.sha256 && old != planned(cx, file.kind) {
            let what = format!("{} is not the file that the plan was made for", file.path);
            return Err(StepError::Changed { what });
        }
        let mut attributes = None;
        if let Some(bytes) = live {
            let (place, name) = cx.host.root.parent_of(&file.path)?;
            attributes =
                fs::attributes(&place, name).context("look at", cx.host.root.host_path(&file.path))?;
            let dir = cx.host.root.ensure_dir(&kept_in, 0o700)?;
            let name = file.kind.kept_name();
            fs::replace(&dir, name, &bytes, 0o600)
                .context("keep", cx.host.root.host_path(&kept_in).join(name))?;
        }
        let (kind, path, new) = (file.kind, file.path.clone(), file.sha256);
        files.push(AssetChange { kind, path, old, new, attributes });
    }
    cx.note(step, Fact::Assets { kept_in: kept_in.clone(), files: files.clone(), link: link.clone() })?;
    Ok(Noted { kept_in, files, link })
}

/// Digest of what the plan saw in a place.
fn planned(cx: &StepContext<'_>, kind: AssetKind) -> Option<Sha256> {
    let assets = cx.plan.observed.assets.as_ref()?;
    let file = match kind {
        AssetKind::Unit => assets.unit.as_ref()?,
        AssetKind::Site => assets.site.as_ref()?,
    };
    file.now
}

fn changed(refusal: Refusal) -> StepError {
    StepError::Changed { what: refusal.what }
}

/// Writes what is not there yet: files first, so that a link never leads to nothing, and the other way round
/// where they go.
fn write(cx: &StepContext<'_>, with: &AssetsWith, noted: &Noted) -> Result<(), StepError> {
    if let Some(link) = noted.link.as_ref().filter(|link| !link.made) {
        set_link(cx, link, State::New)?;
    }
    for change in &noted.files {
        if state_of(cx, noted, change)? == State::New {
            continue;
        }
        let file = with.files.iter().find(|file| file.kind == change.kind);
        let bytes = file.map(|file| content(cx, file)).transpose()?.flatten();
        put(cx, &change.path, bytes.as_deref(), fresh(cx, change.kind)?)?;
    }
    match noted.link.as_ref().filter(|link| link.made) {
        Some(link) => set_link(cx, link, State::New),
        None => Ok(()),
    }
}

/// Puts the old files and the old link back, wherever the new ones are. What a person put there stays, and
/// keeps the other of the two from nothing.
fn put_back(cx: &StepContext<'_>, noted: &Noted) -> Result<(), StepError> {
    let [unit, site] = [AssetKind::Unit, AssetKind::Site].map(|kind| put_back_one(cx, noted, kind));
    unit.and(site)
}

fn put_back_one(cx: &StepContext<'_>, noted: &Noted, kind: AssetKind) -> Result<(), StepError> {
    let link = noted.link.as_ref().filter(|_| kind == AssetKind::Site);
    let files: Vec<&AssetChange> = noted.files.iter().filter(|file| file.kind == kind).collect();
    // Where something else is in a place, its link stays too: none may lead to nothing.
    let states = files.iter().map(|file| state_of(cx, noted, file)).collect::<Result<Vec<_>, _>>()?;
    if let Some(link) = link.filter(|link| link.made) {
        set_link(cx, link, State::Old)?;
    }
    for (file, state) in files.into_iter().zip(states) {
        if state == State::New && file.old != file.new {
            let bytes = file.old.map(|old| kept(cx, noted, file.kind, old)).transpose()?;
            put(cx, &file.path, bytes.as_deref(), of_kept(file.attributes))?;
        }
    }
    match link.filter(|link| !link.made) {
        Some(link) => set_link(cx, link, State::Old),
        None => Ok(()),
    }
}

/// What the run kept of a file.
fn kept(cx: &StepContext<'_>, noted: &Noted, kind: AssetKind, old: Sha256) -> Result<Vec<u8>, StepError> {
    let path = cx.host.root.host_path(&noted.kept_in).join(kind.kept_name());
    let lost = || StepError::UnknownState {
        what: format!("the old {} is not in {} any more", kind.words(), path.display()),
    };
    assets::read_kept(cx.host, &noted.kept_in, kind, old)?.ok_or_else(lost)
}

/// Mode and owner of a file that is made.
type Fresh = (u32, Option<(u32, u32)>);

/// What a file of this kind gets where none is. One that an earlier run kept gets what it had.
fn fresh(cx: &StepContext<'_>, kind: AssetKind) -> Result<Fresh, StepError> {
    let Some(earlier) = cx.plan.spec.source.run() else { return Ok((MODE, None)) };
    let earlier = list::one(cx.host, earlier.run.clone())?;
    let files = assets::written(&earlier.state).map(|(_, files, _)| files).unwrap_or_default();
    Ok(of_kept(files.iter().find(|file| file.kind == kind).and_then(|file| file.attributes)))
}

fn of_kept(attributes: Option<Attributes>) -> Fresh {
    attributes.map_or((KEPT_MODE, None), |it| (it.mode, Some((it.uid, it.gid))))
}

/// Replaces a file in one step, or removes it. Mode and owner of one that is there stay.
fn put(cx: &StepContext<'_>, path: &AbsPath, bytes: Option<&[u8]>, fresh: Fresh) -> Result<(), StepError> {
    let (dir, name) = cx.host.root.parent_of(path)?;
    let place = cx.host.root.host_path(path);
    match bytes {
        Some(bytes) => fs::replace_as(&dir, name, bytes, fresh).context("write", place)?,
        None => drop(fs::remove_file(&dir, name).context("remove", place)?),
    }
    Ok(())
}

/// Whether a file is the old or the new one.
fn state_of(cx: &StepContext<'_>, noted: &Noted, file: &AssetChange) -> Result<State, StepError> {
    let unknown = |refusal: Refusal| StepError::UnknownState { what: refusal.what };
    let live = assets::read(cx.host, &file.path).map_err(unknown)?;
    let live = live.as_deref().map(Sha256::of);
    if live == file.new {
        return Ok(State::New);
    }
    if live == file.old {
        return Ok(State::Old);
    }
    let path = cx.host.root.host_path(&file.path).display().to_string();
    let kept = cx.host.root.host_path(&noted.kept_in).join(file.kind.kept_name());
    let (old, back) = match file.old {
        Some(_) => (format!("the old one is {}", kept.display()), format!("cp {} {path}", kept.display())),
        None => ("there was none before".to_owned(), format!("rm {path}")),
    };
    Err(StepError::Edited {
        what: format!("{path} was edited meanwhile, and stays as it is; {old}"),
        help: format!(
            "copy the edited one elsewhere if you need it; then: {back}; abssctl run rollback {}",
            cx.run
        ),
    })
}

fn state_of_link(cx: &StepContext<'_>, link: &LinkChange) -> Result<State, StepError> {
    let there = assets::is_linked(cx.host, &link.path, &link.to)
        .map_err(|refusal| StepError::UnknownState { what: refusal.what })?;
    Ok(if there == link.made { State::New } else { State::Old })
}

/// Makes or removes the link, where it is not so yet.
fn set_link(cx: &StepContext<'_>, link: &LinkChange, wanted: State) -> Result<(), StepError> {
    if state_of_link(cx, link)? == wanted {
        return Ok(());
    }
    let (dir, name) = cx.host.root.parent_of(&link.path)?;
    let place = cx.host.root.host_path(&link.path);
    if link.made == (wanted == State::New) {
        fs::make_link(&dir, name, link.to.as_path()).context("make the link", place)?;
    } else {
        fs::remove_file(&dir, name).context("remove the link", place)?;
    }
    Ok(())
}

/// Lets nginx test what it would read; puts everything back where it does not take it. Gives what to say.
fn test(
    cx: &StepContext<'_>,
    with: &AssetsWith,
    nginx: &Nginx,
    noted: &Noted,
) -> Result<Vec<String>, StepError> {
    match nginx.test() {
        Ok(Tested::Good { read, warning }) => {
            let warning = warning.map(|said| format!("nginx takes the vhost, and warns: {said}"));
            Ok(warning.into_iter().chain(unread(cx, noted, &read)).collect())
        }
        Ok(Tested::Bad(said)) => give_up(cx, with, noted, refused(cx, said)),
        Err(error) => give_up(cx, with, noted, error.into()),
    }
}

/// Puts everything back, since nginx does not take the vhost.
fn give_up<T>(
    cx: &StepContext<'_>,
    with: &AssetsWith,
    noted: &Noted,
    error: StepError,
) -> Result<T, StepError> {
    let back = put_back(cx, noted);
    // In a run that goes on after a boot systemd has read the new unit, though nobody told it.
    let told = tell_systemd(cx, with, noted);
    back.and(told).and(Err(error))
}

/// nginx refuses what came.
fn refused(cx: &StepContext<'_>, said: String) -> StepError {
    let without = cx.plan.spec.source.run().map_or_else(
        || "leave out --with-assets".to_owned(),
        |earlier| format!("bring back the data alone: abssctl run rollback {} --data-only", earlier.run),
    );
    StepError::Nginx { without, said }
}

/// What nginx tells nobody but its own log.
fn not_taken() -> String {
    "it goes on with what it had read; is an address that it is to listen on taken? see its error log, and ss -ltnp".to_owned()
}

/// What is not among the files that nginx read was not tested either.
fn unread(cx: &StepContext<'_>, noted: &Noted, read: &[String]) -> Option<String> {
    let assets = cx.plan.observed.assets.as_ref()?;
    let site = &assets.site.as_ref()?.path;
    let removed = noted.files.iter().any(|file| file.kind == AssetKind::Site && file.new.is_none());
    let enabled = assets.enabled.as_ref().map(|link| &link.path);
    let known = proxy::is_among(site.as_path(), read);
    (!known && !removed).then(|| {
        let path = enabled.unwrap_or(site);
        format!("nginx does not read {path}, so the vhost was not tested; include it in nginx.conf")
    })
}

/// Lets systemd read its units again, where one of them is another.
fn tell_systemd(cx: &StepContext<'_>, with: &AssetsWith, noted: &Noted) -> Result<(), StepError> {
    if with.systemd && noted.touches(AssetKind::Unit) {
        cx.host.services().daemon_reload()?;
    }
    Ok(())
}

/// The nginx that reads the vhost, where it is another one.
fn nginx(cx: &StepContext<'_>, with: &AssetsWith, noted: &Noted) -> Option<Nginx> {
    assets::nginx(cx.host).filter(|_| with.nginx && noted.touches(AssetKind::Site))
}

fn detail(noted: &Noted) -> String {
    let file = |file: &AssetChange| {
        format!("{} {}", file.path, if file.new.is_some() { "written" } else { "removed" })
    };
    let link = |link: &LinkChange| format!("{} {}", link.path, if link.made { "linked" } else { "removed" });
    let files = noted.files.iter().filter(|file| file.old != file.new);
    files.map(file).chain(noted.link.iter().map(link)).collect::<Vec<_>>().join(", ")
}
