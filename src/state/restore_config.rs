//! Our own settings, `restore.yml` beside the peer's `config.yml`: the peer refuses keys that it does
//! not know, so ours need a file of their own. Pure; [`super::config`] reads the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::DurationText;
use crate::ids::{AbsPath, Sha256, UrlTemplate};
use crate::state::rules::Rules;
use crate::state::size::SizeText;

/// How the backup before a restore is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreBackupDefault {
    /// With the service stopped: nothing can be written meanwhile.
    Quiesced,
    /// While the service runs: shorter downtime, writes after it are lost.
    Online,
    /// Not at all.
    None,
}

/// What a failed step leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailureDefault {
    /// Back to the state before.
    Rollback,
    /// Stop and wait for a person.
    Halt,
}

/// How much the world may differ from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftDefault {
    /// More rows and sessions are warned of, all else is refused.
    Structure,
    /// Any difference is refused.
    Exact,
    /// Only identity counts.
    Ignore,
}

/// What clients with newer changes may do after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientsDefault {
    /// They send their changes again.
    Merge,
    /// New group ids: they keep a local copy and send nothing.
    Reset,
}

/// What becomes of logins that come back with the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionsDefault {
    /// They are valid again.
    Keep,
    /// Everyone logs in again.
    Revoke,
}

/// What starts and stops the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceManagerChoice {
    /// systemd, where it runs this machine and the root is the machine's own.
    Auto,
    /// systemd's programs as `config.yml` names them, below any root.
    Systemd,
    /// Nothing that this program controls.
    None,
}

/// Where servers are asked whether they are well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthSource {
    /// Their address; absent: the instance's port on this machine, without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlTemplate>,
    /// The certificates that `https` is proven by, as PEM, inside the root; absent: the usual authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
}

/// The file that settings and policy come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Where it lies, inside the root.
    pub path: AbsPath,
    /// SHA-256 of its bytes.
    pub sha256: Sha256,
}

/// Defaults for new plans, and what a plan needs to be applied here. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestoreConfig {
    /// How long a new plan may be applied.
    pub plan_expires: DurationText,
    /// How long a displaced directory is kept.
    pub retain: DurationText,
    /// The backup before a restore.
    pub pre_backup: PreBackupDefault,
    /// What a failed step leads to.
    pub on_failure: OnFailureDefault,
    /// How much the world may differ from the plan.
    pub drift: DriftDefault,
    /// What clients with newer changes may do.
    pub clients: ClientsDefault,
    /// What becomes of logins in the backup.
    pub sessions: SessionsDefault,
    /// How long a started server may take until it answers.
    pub health_timeout: DurationText,
    /// Where a server is asked for it.
    pub health: HealthSource,
    /// What starts and stops the server.
    pub service_manager: ServiceManagerChoice,
    /// The directory in which nginx has `sites-available` and `sites-enabled`, where the registry is not to
    /// say where vhosts lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nginx_directory: Option<AbsPath>,
    /// The `nginx` program, a name or path.
    pub nginx_bin: String,
    /// How many times its own size an archive may unpack to before it is refused as a bomb.
    pub expansion_factor: u64,
    /// Unpacking to less than this is never refused.
    pub minimum_expansion: SizeText,
    /// How many people must have approved a plan before it is applied.
    pub require_approvals: u32,
    /// Who may approve with which key: a file in OpenSSH's format, inside the root.
    pub allowed_signers: AbsPath,
    /// Whether the approval of the plan's own author counts.
    pub author_may_approve: bool,
    /// What plans for some instances need on top of that.
    #[serde(skip_serializing_if = "Rules::is_empty")]
    pub rules: Rules,
}

/// Where the allowed signers are listed, unless `allowedSigners` says otherwise.
const ALLOWED_SIGNERS: &str = "/etc/abssctl/allowed_signers";

impl Default for RestoreConfig {
    fn default() -> Self {
        Self {
            plan_expires: DurationText::days(7),
            retain: DurationText::days(14),
            pre_backup: PreBackupDefault::Quiesced,
            on_failure: OnFailureDefault::Rollback,
            drift: DriftDefault::Structure,
            clients: ClientsDefault::Merge,
            sessions: SessionsDefault::Keep,
            health_timeout: DurationText::of_seconds(60),
            health: HealthSource::default(),
            service_manager: ServiceManagerChoice::Auto,
            nginx_directory: None,
            nginx_bin: "nginx".to_owned(),
            expansion_factor: 200,
            minimum_expansion: SizeText::mebibytes(64),
            require_approvals: 0,
            allowed_signers: ALLOWED_SIGNERS.parse().expect("a constant that is an absolute path"),
            author_may_approve: true,
            rules: Rules::default(),
        }
    }
}

impl RestoreConfig {
    /// The bytes that an archive of this size may unpack to.
    pub fn expansion_limit(&self, archive_bytes: u64) -> u64 {
        archive_bytes.saturating_mul(self.expansion_factor).max(self.minimum_expansion.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::yaml;

    #[test]
    fn every_key_may_be_left_out_and_the_defaults_survive_a_round_trip() {
        let defaults: RestoreConfig = yaml::from_str("{}").unwrap();
        assert_eq!(defaults, RestoreConfig::default());
        let text = yaml::to_pyyaml(&serde_json::to_value(&defaults).unwrap());
        assert_eq!(yaml::from_str::<RestoreConfig>(&text).unwrap(), defaults);
        assert_eq!(defaults.retain.to_string(), "14d");
    }

    #[test]
    fn small_archives_may_grow_and_large_ones_by_a_factor() {
        let config = RestoreConfig::default();
        assert_eq!(config.expansion_limit(10), 64 << 20);
        assert_eq!(config.expansion_limit(1 << 30), 200 << 30);
        assert_eq!(config.expansion_limit(u64::MAX), u64::MAX);
    }
}
