//! Who and where: the machine's identity, the person or program that acts. Reads only.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::fs::{FsError, Root};
use crate::ids::{AbsPath, Sha256};

/// Whether a person, a pipeline or a service acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A person with a login.
    User,
    /// A continuous-integration job.
    Ci,
    /// A service or timer without a login.
    System,
}

/// Who acts: as in the peer's index and operations log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind of actor.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// The login or job owner.
    pub name: String,
    /// The terminal or job number, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// The environment of this process; variables that are not UTF-8 are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A digest that names the machine (or image) below a root: SHA-256 of `abssctl machine id v1` and
/// the content of `/etc/machine-id`. `None` where that is absent, empty or not yet set.
///
/// The id itself never leaves this function: machine-id(5) asks to keep it confidential, and plans
/// are meant to be shared.
pub fn machine_id(root: &Root) -> Result<Option<Sha256>, FsError> {
    let path = AbsPath::try_from("/etc/machine-id".to_owned());
    let Ok(path) = path else { return Ok(None) };
    let Some(bytes) = root.read(&path, 4096)? else { return Ok(None) };
    let id = bytes.trim_ascii();
    if id.is_empty() || id == b"uninitialized" {
        return Ok(None);
    }
    Ok(Some(Sha256::of(&[b"abssctl machine id v1\n", id].concat())))
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who runs this command; `lookup` gives environment variables.
///
/// In a pipeline (`CI` set): who started the job. Else the user behind `sudo`, else the login. A root
/// process with none of these variables was started by the system. A record for people, no proof.
pub fn actor(lookup: &dyn Fn(&str) -> Option<String>) -> Actor {
    let first = |names: &[&str]| names.iter().find_map(|name| lookup(name).and_then(|value| clean(&value)));
    let login = first(&["SUDO_USER", "USER", "LOGNAME"]);
    let uid = rustix::process::getuid();
    let unnamed = || if uid.is_root() { "root".to_owned() } else { format!("uid {}", uid.as_raw()) };
    let ci = lookup("CI").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    if ci {
        let name = first(&["GITHUB_ACTOR", "GITLAB_USER_LOGIN"]).or(login).unwrap_or_else(unnamed);
        return Actor { kind: ActorKind::Ci, name, session: first(&["GITHUB_RUN_ID", "CI_JOB_ID"]) };
    }
    let session = first(&["SSH_TTY", "TTYPATH"]);
    match login {
        Some(name) => Actor { kind: ActorKind::User, name, session },
        None if session.is_none() && uid.is_root() => {
            Actor { kind: ActorKind::System, name: unnamed(), session }
        }
        None => Actor { kind: ActorKind::User, name: unnamed(), session },
    }
}

/// Names end up in logs and terminals: no control characters, not endless.
fn clean(value: &str) -> Option<String> {
    let name: String = value.trim().chars().filter(|c| !c.is_control()).take(128).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Actor {
        actor(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_person_behind_sudo_is_the_actor() {
        let actor = from(&[("SUDO_USER", "ann"), ("USER", "root"), ("SSH_TTY", "/dev/pts/1")]);
        assert_eq!(
            actor,
            Actor { kind: ActorKind::User, name: "ann".into(), session: Some("/dev/pts/1".into()) }
        );
        assert_eq!(from(&[("LOGNAME", "bob")]).name, "bob");
        assert_eq!(from(&[("USER", " \u{1b}[31mbob\n")]).name, "[31mbob");
    }

    #[test]
    fn pipelines_name_who_started_them() {
        let actor =
            from(&[("CI", "true"), ("GITHUB_ACTOR", "ann"), ("GITHUB_RUN_ID", "7"), ("USER", "runner")]);
        assert_eq!(actor, Actor { kind: ActorKind::Ci, name: "ann".into(), session: Some("7".into()) });
        assert_eq!(from(&[("CI", "1"), ("GITLAB_USER_LOGIN", "bob")]).name, "bob");
        assert_eq!(from(&[("CI", "false"), ("USER", "ann")]).kind, ActorKind::User);
    }

    #[test]
    fn without_a_login_it_is_the_system_or_a_number() {
        let actor = from(&[]);
        let expected = if rustix::process::getuid().is_root() { ActorKind::System } else { ActorKind::User };
        assert_eq!(actor.kind, expected);
        assert!(!actor.name.is_empty());
        assert_eq!(
            serde_json::to_value(from(&[("USER", "a")])).unwrap(),
            serde_json::json!({"type": "user", "name": "a"})
        );
    }

    #[test]
    fn the_machine_is_named_by_a_digest_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(machine_id(&root).unwrap(), None);
        let file = cap_std::fs::Dir::from_std_file(File::open(dir.path()).unwrap());
        file.create_dir("etc").unwrap();
        for (content, expected) in [
            ("", None),
            ("uninitialized\n", None),
            ("0123abcd\n", Some(Sha256::of(b"abssctl machine id v1\n0123abcd"))),
        ] {
            file.write("etc/machine-id", content).unwrap();
            assert_eq!(machine_id(&root).unwrap(), expected, "{content:?}");
        }
    }
}
