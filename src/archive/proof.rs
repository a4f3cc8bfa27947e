//! The proof of what comes out of an archive that is not read whole: its manifest, whose digest is known from
//! elsewhere. What each header says is compared as it comes; contents and what is missing once all is unpacked
//! ([`super::Manifest::verify`]). Pure.

use std::io::Read;
use std::path::Path;

use super::manifest::MANIFEST_PATH;
use super::reader::Members;
use super::{ArchiveError, Member};
use crate::ids::Sha256;

/// The manifest proves what each header says.
pub(super) struct Proof {
    /// The manifest's digest.
    manifest: Sha256,
    /// Whether it was there.
    met: bool,
    /// What came before it.
    before: Vec<Member>,
}

impl Proof {
    pub(super) fn new(manifest: Sha256) -> Self {
        Self { manifest, met: false, before: Vec::new() }
    }

    /// Takes up a member, that of the manifest included.
    ///
    /// # Errors
    /// [`ArchiveError::OtherManifest`], [`ArchiveError::ManifestMismatch`].
    pub(super) fn check(
        &mut self,
        member: &Member,
        members: &Members<'_, impl Read>,
    ) -> Result<(), ArchiveError> {
        if member.path == Path::new(MANIFEST_PATH) {
            members.require_manifest(self.manifest)?;
            self.met = true;
        }
        match &members.manifest {
            None => self.before.push(member.clone()),
            Some(manifest) => {
                let listed = self.before.drain(..).try_for_each(|member| manifest.require_member(&member));
                listed.and_then(|()| manifest.require_member(member))?;
            }
        }
        Ok(())
    }

    /// Refuses an archive that is over and had no manifest.
    ///
    /// # Errors
    /// [`ArchiveError::OtherManifest`].
    pub(super) fn end(&self) -> Result<(), ArchiveError> {
        if self.met {
            Ok(())
        } else {
            Err(ArchiveError::OtherManifest { found: None, planned: self.manifest })
        }
    }
}
