//! A client of ssh-agent: lists its keys and lets it sign. Speaks the two requests of
//! draft-miller-ssh-agent that are needed; the agent's answers are not trusted in length or form.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh_key::PublicKey;

/// An answer of this many bytes would be no agent's.
const LIMIT: u32 = 256 << 10;
const LIST: u8 = 11;
const LISTED: u8 = 12;
const SIGN: u8 = 13;
const SIGNED: u8 = 14;
/// RSA with SHA-512; other keys ignore it.
const RSA_SHA2_512: u32 = 4;
/// For the list alone: a signature may wait for a person's finger.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AgentError {
    /// It cannot be reached.
    #[error("ssh-agent at {} does not answer: {source}", .path.display())]
    #[diagnostic(
        code(abssctl::agent::io),
        help("start it (eval \"$(ssh-agent)\"; ssh-add), or name a private key: --key PATH")
    )]
    Io {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its answer makes no sense.
    #[error("ssh-agent at {} answers with something that is not understood", .path.display())]
    #[diagnostic(code(abssctl::agent::answer), help("name a private key instead: --key PATH"))]
    Answer {
        /// Its socket.
        path: PathBuf,
    },
    /// It will not sign.
    #[error("ssh-agent refuses to sign with this key")]
    #[diagnostic(
        code(abssctl::agent::refused),
        help("unlock it or confirm its question; `ssh-add -l` lists its keys")
    )]
    Refused,
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Agent {
    path: PathBuf,
    stream: UnixStream,
}

/// A key that an agent holds.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its public part.
    pub key: PublicKey,
    /// What its owner wrote beside it.
    pub comment: String,
    blob: Vec<u8>,
}

impl Agent {
    /// Connects to the agent at a socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, AgentError> {
        let io = |source| AgentError::Io { path: path.into(), source };
        let stream = UnixStream::connect(path).map_err(io)?;
        Ok(Self { path: path.into(), stream })
    }

    /// The keys that it holds; certificates and types that are not known are left out.
    ///
    /// # Errors
    /// It does not answer, or makes no sense.
    pub fn identities(&mut self) -> Result<Vec<Identity>, AgentError> {
        self.patience(Some(PATIENCE))?;
        let (kind, answer) = self.ask(LIST, &[])?;
        let mut rest = answer.as_slice();
        let count = number(&mut rest).filter(|_| kind == LISTED).ok_or_else(|| self.nonsense())?;
        let mut found = Vec::new();
        for _ in 0..count {
            let blob = string(&mut rest).ok_or_else(|| self.nonsense())?;
            let comment = string(&mut rest).ok_or_else(|| self.nonsense())?;
            if let Ok(key) = PublicKey::from_bytes(blob)
                && !key.key_data().is_other()
            {
                let comment = String::from_utf8_lossy(comment).into_owned();
                found.push(Identity { key, comment, blob: blob.to_vec() });
            }
        }
        Ok(found)
    }

    /// Lets it sign; gives the signature in SSH's encoding.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn sign(&mut self, identity: &Identity, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        self.patience(None)?;
        let mut body = Vec::new();
        for part in [&identity.blob, data] {
            let length = u32::try_from(part.len()).map_err(|_| self.nonsense())?;
            body.extend(length.to_be_bytes());
            body.extend(part);
        }
        body.extend(RSA_SHA2_512.to_be_bytes());
        let (kind, answer) = self.ask(SIGN, &body)?;
        if kind != SIGNED {
            return Err(AgentError::Refused);
        }
        string(&mut answer.as_slice()).map(<[u8]>::to_vec).ok_or_else(|| self.nonsense())
    }

    fn nonsense(&self) -> AgentError {
        AgentError::Answer { path: self.path.clone() }
    }

    fn io(&self, source: std::io::Error) -> AgentError {
        AgentError::Io { path: self.path.clone(), source }
    }

    fn patience(&self, time: Option<Duration>) -> Result<(), AgentError> {
        self.stream.set_read_timeout(time).map_err(|error| self.io(error))
    }

    fn ask(&mut self, kind: u8, body: &[u8]) -> Result<(u8, Vec<u8>), AgentError> {
        let length = u32::try_from(body.len() + 1).map_err(|_| self.nonsense())?;
        let mut request = length.to_be_bytes().to_vec();
        request.push(kind);
        request.extend(body);
        self.stream.write_all(&request).map_err(|error| self.io(error))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| self.io(error))?;
        let length = u32::from_be_bytes(length);
        if length == 0 || length > LIMIT {
            return Err(self.nonsense());
        }
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).map_err(|error| self.io(error))?;
        let kind = answer.remove(0);
        Ok((kind, answer))
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

fn string<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// An agent that gives one answer, whatever it is asked.
    fn answering(answer: Vec<u8>) -> Result<Vec<Identity>, AgentError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
        });
        let found = Agent::connect(&path).unwrap().identities();
        served.join().unwrap();
        found
    }

    #[test]
    fn answers_that_make_no_sense_are_refused() {
        assert!(answering(vec![0, 0, 0, 5, LISTED, 0, 0, 0, 0]).unwrap().is_empty());
        for answer in [
            vec![0, 0, 0, 0],
            vec![255, 255, 255, 255],
            vec![0, 0, 0, 1, 5],
            vec![0, 0, 0, 5, LISTED, 0, 0, 0, 1],
            vec![0, 0, 0, 9, LISTED, 0, 0, 0, 1, 255, 255, 255, 255],
        ] {
            assert!(matches!(answering(answer.clone()), Err(AgentError::Answer { .. })), "{answer:?}");
        }
        assert!(matches!(answering(vec![0, 0, 0, 9, 1]), Err(AgentError::Io { .. })));
        assert!(matches!(Agent::connect(Path::new("/nonexistent/agent")), Err(AgentError::Io { .. })));
    }
}
