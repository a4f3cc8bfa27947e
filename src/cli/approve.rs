//! `abssctl plan approve`: signs a plan and adds the signature to its file, or writes it beside the plan.
//! Replaces one file in one step: a crash leaves the old or the new one.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use ssh_key::public::KeyData;

use super::args::PlanApproveArgs;
use super::error::CliError;
use super::session::{Session, typed};
use super::{exit, plan as plan_cli, prompt, verify};
use crate::host::agent::{Agent, Identity};
use crate::host::fs::{IoContext as _, read_limited};
use crate::host::keys::{self, KeyFile, Loaded};
use crate::host::{clock, terminal};
use crate::plan::approval::sshsig::{self, MAX_ARMOR, SshSig};
use crate::plan::approval::{Flaw, NAMESPACE, detached};
use crate::plan::model::{Approval, Plan, Time};
use crate::plan::render::{is_hidden, visible};
use crate::plan::spec::Source;
use crate::plan::{canonical, load};

/// A plan was not approved, or is not approved by enough people.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ApproveError {
    /// Nobody can apply it any more.
    #[error("the plan expired at {at}: a signature would be worth nothing")]
    #[diagnostic(code(abssctl::approve::expired), help("make a new one: abssctl plan refresh FILE"))]
    Expired {
        /// When.
        at: Time,
    },
    /// A signature is found beside a plan by a name that is text.
    #[error("the plan file {} has a name that is not UTF-8: no signature could be named after it", .path.display())]
    #[diagnostic(code(abssctl::approve::file_name), help("give the plan file another name"))]
    FileName {
        /// The plan file.
        path: PathBuf,
    },
    /// Nobody reads so many, and leaving some out would let whoever adds files choose which.
    #[error("{count} signatures of this plan lie in {}: more than 100 are not looked at", .directory.display())]
    #[diagnostic(
        code(abssctl::approve::too_many),
        help("take away the files PLAN.NAME.sig of people who did not sign it")
    )]
    TooMany {
        /// Where.
        directory: PathBuf,
        /// How many.
        count: usize,
    },
    /// Standard input has no file to write to.
    #[error("a plan from standard input cannot be approved: there is no file to write to")]
    #[diagnostic(
        code(abssctl::approve::standard_input),
        help("name the file: abssctl plan approve plan.yaml")
    )]
    StandardInput,
    /// The signature is not of this plan.
    #[error("the signature cannot be used: {flaw}")]
    #[diagnostic(
        code(abssctl::approve::signature),
        help(
            "sign exactly what this prints: abssctl plan show FILE --format canonical | ssh-keygen -Y sign -n abssctl-plan@v1 -f KEY -"
        )
    )]
    Signature {
        /// Why.
        flaw: Flaw,
    },
    /// No key, or more than one.
    #[error("which key? {what}")]
    #[diagnostic(
        code(abssctl::approve::which_key),
        help(
            "--key ~/.ssh/id_ed25519 signs with that file, --key ~/.ssh/id_ed25519.pub lets ssh-agent sign"
        )
    )]
    WhichKey {
        /// What there is.
        what: String,
    },
    /// Nobody knows whose key it is.
    #[error("who signs? {what}")]
    #[diagnostic(
        code(abssctl::approve::who_signs),
        help("name yourself as the allowed signers do: --principal NAME")
    )]
    WhoSigns {
        /// What is known.
        what: String,
    },
    /// A name that cannot be one.
    #[error("'{}' cannot be the name of a signer", visible(.name))]
    #[diagnostic(
        code(abssctl::approve::principal),
        help(
            "1 to {} bytes without control characters, as in the allowed signers: anna@example.org",
            detached::MAX_PRINCIPAL
        )
    )]
    Principal {
        /// The name.
        name: String,
    },
    /// No file can have the name that says whose signature it holds.
    #[error(
        "the signature of '{}' cannot lie beside the plan: the name of its file would be {excess} bytes too long",
        visible(.name)
    )]
    #[diagnostic(
        code(abssctl::approve::long_name),
        help("leave out --detached to sign in the plan file, or sign by a shorter --principal")
    )]
    LongName {
        /// Who signs.
        name: String,
        /// What is too much of it.
        excess: usize,
    },
    /// The plan says that it is made later than now: approvals of it would seem younger than they are.
    #[error("the plan was made at {at}, which is in the future")]
    #[diagnostic(
        code(abssctl::approve::future),
        help("set this machine's clock, or the one where the plan was made")
    )]
    Future {
        /// When it says that it was made.
        at: Time,
    },
    /// Nobody could be asked.
    #[error("nobody can be asked whether the plan was read: standard input is no terminal")]
    #[diagnostic(
        code(abssctl::approve::no_terminal),
        help("read it (abssctl plan show FILE), then add --yes")
    )]
    NoTerminal,
    /// Ctrl-C at the passphrase.
    #[error("nothing was signed: the question was broken off")]
    #[diagnostic(code(abssctl::approve::interrupted))]
    Interrupted,
    /// The new text would not be the plan that was signed.
    #[error("the plan would not be the same with the approval in it; nothing was written")]
    #[diagnostic(
        code(abssctl::approve::changed),
        help("this is a defect of abssctl; please report it with the plan file, and use --detached")
    )]
    Changed,
    /// Signatures that do not count.
    #[error("the plan is not approved: a signature is not valid, or none counts")]
    #[diagnostic(
        code(abssctl::approve::not_approved),
        help("the lines above say why; sign it: abssctl plan approve FILE")
    )]
    NotApproved,
    /// No list of signers.
    #[error("there is no list of allowed signers {}", .path.display())]
    #[diagnostic(
        code(abssctl::approve::no_list),
        help(
            "name one: --allowed-signers LIST, or allowedSigners in restore.yml; docs/approvals.md says how to write it"
        )
    )]
    NoList {
        /// The file.
        path: PathBuf,
    },
}

/// What signs.
enum Signer {
    File(Box<KeyFile>),
    Agent(Agent, Identity),
    Made(SshSig),
}

/// `abssctl plan approve`
pub fn approve(session: &Session, args: &PlanApproveArgs) -> Result<u8, CliError> {
    if args.file == Path::new("-") {
        return Err(ApproveError::StandardInput.into());
    }
    let (plan, bytes) = plan_cli::load_plan(session, &args.file)?;
    if plan.metadata.expires_at.timestamp() <= clock::now() {
        return Err(ApproveError::Expired { at: plan.metadata.expires_at }.into());
    }
    if plan.metadata.created_at.timestamp() > clock::now() + clock::APART {
        return Err(ApproveError::Future { at: plan.metadata.created_at }.into());
    }
    let text = canonical::canonical(&plan)?;
    let signer = signer(args, &text)?;
    let key = signer.key().clone();
    sshsig::usable(&key).map_err(|flaw| ApproveError::Signature { flaw })?;
    let principal = principal(session, args.principal.as_deref(), &key)?;
    can_be_written(args, &principal)?;
    let digest = canonical::digest(&plan)?;
    let spec = &plan.spec;
    let target = &spec.target.directory;
    let note = |line: &str| session.output.note(line);
    let with = match &spec.source {
        Source::Backup(backup) => format!("backup {}", backup.backup_id),
        Source::Run(run) => format!("the old tree that run {} displaced", run.run),
    };
    note(&format!("plan {}: replaces {target} with {with}", plan.metadata.id));
    note(&format!("  instance {}, expires {}, {digest}", spec.instance, plan.metadata.expires_at));
    for warning in &plan.preview.warnings {
        note(&format!("  ! {}", warning.message));
    }
    note(&format!("  signed by {} with {}", visible(&principal), sshsig::fingerprint(&key)));
    match prompt::confirm(session, "Have you read it, and shall it be applied?") {
        Err(CliError::NoTerminal) => return Err(ApproveError::NoTerminal.into()),
        other => other?,
    }
    let signature = signer.sign(&text)?;
    let written = if args.detached {
        write_detached(&args.file, &principal, &signature)?
    } else {
        let approval = Approval {
            principal: principal.clone(),
            key_fingerprint: sshsig::fingerprint(&key),
            signed_at: Time::from(clock::now()),
            signature: signature.armored().to_owned(),
        };
        embed(&args.file, &plan, &bytes, approval)?;
        args.file.clone()
    };
    let value = json!({
        "plan": plan.metadata.id, "digest": digest, "principal": principal, "keyType": sshsig::key_type(&key),
        "keyFingerprint": sshsig::fingerprint(&key), "path": written.display().to_string(),
    });
    let line = format!("approved by {}: written to {}\n", visible(&principal), typed(&written));
    session.output.either(&value, &line)?;
    Ok(exit::DONE)
}

impl Signer {
    fn key(&self) -> &KeyData {
        match self {
            Self::File(file) => file.public(),
            Self::Agent(_, identity) => identity.key.key_data(),
            Self::Made(signature) => signature.key(),
        }
    }

    /// Signs the text; asks for the passphrase where one is needed.
    fn sign(self, text: &[u8]) -> Result<SshSig, CliError> {
        let bad = |flaw| ApproveError::Signature { flaw };
        match self {
            Self::Made(signature) => Ok(signature),
            Self::File(mut file) => {
                if file.is_encrypted() {
                    unlock(&mut file)?;
                }
                let signature = SshSig::read(&file.sign(NAMESPACE, text)?).map_err(bad)?;
                signature.prove(text).map_err(bad)?;
                Ok(signature)
            }
            Self::Agent(mut agent, identity) => {
                let unreadable = |error: ssh_key::Error| bad(Flaw::Unreadable { why: error.to_string() });
                let raw = agent.sign(&identity, &sshsig::to_be_signed(text).map_err(unreadable)?)?;
                Ok(sshsig::assemble(identity.key.key_data(), &raw, text).map_err(bad)?)
            }
        }
    }
}

fn signer(args: &PlanApproveArgs, text: &[u8]) -> Result<Signer, CliError> {
    if let Some(path) = &args.signature {
        let file = std::fs::File::open(path).context("open", path)?;
        let bytes = read_limited(file, MAX_ARMOR as u64).context("read", path)?;
        let signature = SshSig::read(&String::from_utf8_lossy(&bytes))
            .and_then(|signature| signature.prove(text).map(|()| signature))
            .map_err(|flaw| ApproveError::Signature { flaw })?;
        return Ok(Signer::Made(signature));
    }
    match args.key.as_deref().map(keys::load).transpose()? {
        Some(Loaded::Private(file)) => Ok(Signer::File(file)),
        Some(Loaded::Public(key)) => from_agent(Some(&key)),
        None => from_agent(None),
    }
}

/// The key of ssh-agent that was named, or its only one.
fn from_agent(wanted: Option<&KeyData>) -> Result<Signer, CliError> {
    let which = |what: String| CliError::from(ApproveError::WhichKey { what });
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    let socket =
        socket.ok_or_else(|| which("no ssh-agent is running here (SSH_AUTH_SOCK is not set)".to_owned()))?;
    let mut agent = Agent::connect(Path::new(&socket))?;
    let held = agent.identities()?;
    let fits = |held: &&Identity| wanted.is_none_or(|wanted| held.key.key_data() == wanted);
    let fitting: Vec<&Identity> = held.iter().filter(fits).collect();
    match (fitting.as_slice(), wanted) {
        ([one], _) => {
            let identity = Identity::clone(one);
            Ok(Signer::Agent(agent, identity))
        }
        ([], Some(key)) => {
            Err(which(format!("ssh-agent does not hold {}; add it: ssh-add", sshsig::fingerprint(key))))
        }
        ([], None) => Err(which("ssh-agent holds none; add one: ssh-add".to_owned())),
        (many, _) => {
            let list = many.iter().map(|held| {
                format!("\n  {} {}", sshsig::fingerprint(held.key.key_data()), visible(&held.comment))
            });
            Err(which(format!("ssh-agent holds {}:{}", many.len(), list.collect::<String>())))
        }
    }
}

fn unlock(file: &mut KeyFile) -> Result<(), CliError> {
    let question = format!("Passphrase of {}: ", file.path().display());
    match terminal::passphrase(&question) {
        Ok(Some(passphrase)) => Ok(file.unlock(&passphrase)?),
        Ok(None) => Err(CliError::NoPassphrase(file.path().into())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(ApproveError::Interrupted.into()),
        Err(error) => Err(error).context("read the passphrase from", "/dev/tty")?,
    }
}

/// Who signs: as it was said, or the only name that the allowed signers have for the key.
fn principal(session: &Session, said: Option<&str>, key: &KeyData) -> Result<String, CliError> {
    let cx = session.context()?;
    let signers = match verify::signers(&cx, None) {
        Ok((_, signers)) => Some(signers),
        Err(CliError::Approve(ApproveError::NoList { .. })) => None,
        // A list that this user may not read is none; whoever judges the signature can read it.
        Err(CliError::Fs(_)) => None,
        Err(error) => return Err(error),
    };
    let Some(said) = said else {
        let names = signers.as_ref().map(|signers| signers.names_of(key)).unwrap_or_default();
        return match names.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => {
                Err(ApproveError::WhoSigns { what: "no allowed signer here has this key".to_owned() }.into())
            }
            many => Err(ApproveError::WhoSigns {
                what: format!("the key belongs to {}", visible(&many.join(", "))),
            }
            .into()),
        };
    };
    if said.is_empty() || said.len() > detached::MAX_PRINCIPAL || said.chars().any(is_hidden) {
        return Err(ApproveError::Principal { name: said.to_owned() }.into());
    }
    if let Some(Err(flaw)) = signers.map(|signers| signers.permits(said, key, NAMESPACE, clock::now())) {
        session.output.note(&format!("! on this machine it would not count: {flaw}"));
    }
    Ok(said.to_owned())
}

/// Puts the approval into the plan file in the file's own format, and proves that nothing else changes.
fn embed(path: &Path, plan: &Plan, bytes: &[u8], approval: Approval) -> Result<(), CliError> {
    let mut approved = plan.clone();
    // A key counts once, so that signing again under the right name puts a wrong one right.
    approved.approvals.retain(|old| old.key_fingerprint != approval.key_fingerprint);
    approved.approvals.push(approval);
    let document = plan_cli::document(&approved, plan_cli::format_in(bytes))?;
    let read_back = load::load(&path.display().to_string(), document.as_bytes())?;
    if read_back != approved || canonical::canonical(&read_back)? != canonical::canonical(plan)? {
        return Err(ApproveError::Changed.into());
    }
    plan_cli::put(path, document.as_bytes())
}

/// Nobody is asked to sign what then cannot be written.
fn can_be_written(args: &PlanApproveArgs, principal: &str) -> Result<(), CliError> {
    if !args.detached {
        return plan_cli::refuse_link(&args.file);
    }
    let name = args.file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match detached::excess(&name, principal) {
        0 => plan_cli::refuse_link(&args.file.with_file_name(detached::file_name(&name, principal))),
        excess => Err(ApproveError::LongName { name: principal.to_owned(), excess }.into()),
    }
}

fn write_detached(plan: &Path, principal: &str, signature: &SshSig) -> Result<PathBuf, CliError> {
    let Some(name) = plan.file_name().and_then(|name| name.to_str()) else {
        return Err(ApproveError::FileName { path: plan.into() }.into());
    };
    let path = plan.with_file_name(detached::file_name(name, principal));
    plan_cli::put(&path, signature.armored().as_bytes())?;
    Ok(path)
}
