//! The web server in front: nginx. It is asked whether it takes its configuration as it is on disk, and told
//! to read it again. Only the machine's own is: below another root, or where none is installed, there is none.
//! Changes what nginx serves with [`Nginx::reload`] alone; a crash leaves nginx with the old or the new
//! configuration, each of them whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fs::Root;
use super::processes::{self, Process};
use super::program::{self, ProgramError};

/// How long nginx may take to read its configuration: it looks up the names of upstream servers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directories in which it lies where the search path has none of it.
const USUAL: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// Characters of what nginx says that are kept.
const MOST: usize = 1000;

/// nginx of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    program: PathBuf,
}

/// What nginx made of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    /// It takes it. Names of the files that it read, as it names them.
    Good(Vec<String>),
    /// It does not: why, in its own words, with file and line.
    Bad(String),
}

impl Nginx {
    /// Finds nginx; `program` is its name or path. `None` below a root that is not the machine's own, and
    /// where it is not installed. Starts nothing.
    pub fn find(root: &Root, program: &str) -> Option<Self> {
        if !root.is_host() {
            return None;
        }
        if program.contains('/') {
            return Some(Path::new(program))
                .filter(|path| path.is_file())
                .map(|path| Self { program: path.into() });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let search = std::env::split_paths(&path).filter(|directory| directory.is_absolute());
        let places = search.chain(USUAL.iter().map(PathBuf::from));
        places
            .map(|directory| directory.join(program))
            .find(|path| path.is_file())
            .map(|program| Self { program })
    }

    /// Lets nginx read its configuration from disk, without effect on what it serves.
    ///
    /// # Errors
    /// It cannot be run, or does not end in time.
    pub fn test(&self) -> Result<Tested, ProgramError> {
        let ended = program::run(&self.name(), &["-T"], PATIENCE)?;
        if !ended.status.success() {
            return Ok(Tested::Bad(words(&ended.stderr)));
        }
        let named =
            |line: &str| Some(line.strip_prefix("# configuration file ")?.strip_suffix(':')?.to_owned());
        Ok(Tested::Good(ended.stdout.lines().filter_map(named).collect()))
    }

    /// Lets a running nginx read its configuration again.
    ///
    /// # Errors
    /// It does not run, or cannot be told.
    pub fn reload(&self) -> Result<(), ProgramError> {
        program::succeed(&self.name(), &["-s", "reload"], PATIENCE).map(drop)
    }

    /// Whether a process of it is there.
    pub fn runs(&self) -> bool {
        !self.processes().is_empty()
    }

    fn processes(&self) -> Vec<Process> {
        let name = self.program.file_name().unwrap_or_default();
        processes::named(&name.to_string_lossy())
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }
}

/// Whether a file is among those that nginx read, under its own name or through a link.
pub fn is_among(file: &Path, read: &[String]) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(file) = real(file) else { return false };
    read.iter().any(|name| real(Path::new(name)).as_ref() == Some(&file))
}

/// What nginx complains of, in one line; what a configuration holds in quotes may be a secret, so that only
/// paths and plain words of it stay.
pub fn words(stderr: &str) -> String {
    let text = program::plain(stderr);
    let told = text.lines().map(|line| line.trim().trim_start_matches("nginx: "));
    // "configuration file … test failed" says nothing more.
    let told = told.filter(|line| !line.is_empty() && !line.ends_with(" test failed"));
    let told = told.collect::<Vec<_>>().join("; ");
    let mut out = String::new();
    for (at, part) in told.split('"').enumerate() {
        if at % 2 == 0 {
            out.push_str(part);
        } else {
            let word = part.len() <= 40 && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let path = part.starts_with('/') && !part.contains(['?', '=', '@']);
            out.push_str(&format!("\"{}\"", if word || path { part } else { "…" }));
        }
    }
    if out.is_empty() {
        return "it says nothing".to_owned();
    }
    if out.chars().count() > MOST { out.chars().take(MOST).collect::<String>() + " …" } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_says_is_kept_with_file_and_line_and_without_secrets() {
        let said = "nginx: [emerg] cannot load certificate \"/etc/ssl/private/cert.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory)\nnginx: configuration file /etc/nginx/nginx.conf test failed\n";
        assert_eq!(
            words(said),
            "[emerg] cannot load certificate \"/etc/ssl/private/cert.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory)"
        );
        let said = "nginx: [emerg] unknown directive \"CANARY-7\" in /etc/nginx/sites-enabled/x.conf:3\n";
        assert_eq!(words(said), "[emerg] unknown directive \"…\" in /etc/nginx/sites-enabled/x.conf:3");
        assert!(
            words("nginx: [emerg] \"server\" directive is not allowed here in /a:1").contains("\"server\"")
        );
        assert_eq!(words(""), "it says nothing");
        assert!(words(&"a".repeat(5000)).chars().count() < 1100);
    }

    #[test]
    fn below_another_root_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (Root::open(Path::new("/")).unwrap(), Root::open(directory.path()).unwrap());
        assert!(Nginx::find(&here, "sh").is_some() && Nginx::find(&here, "/bin/sh").is_some());
        assert_eq!(Nginx::find(&elsewhere, "sh"), None);
        assert_eq!(Nginx::find(&here, "no-such-program"), None);
        assert_eq!(Nginx::find(&here, "/no/such/program"), None);
    }
}
