//! The web server in front: nginx. It is asked whether it takes its configuration as it is on disk, and told
//! to read it again. Only the machine's own is: below another root, or where none is installed, there is none.
//! Changes what nginx serves with [`Nginx::reload`] alone; a crash leaves nginx with the old or the new
//! configuration, each of them whole.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fs::Root;
use super::processes::{self, Process};
use super::program::{self, ProgramError};

/// How long nginx may take to read its configuration: it looks up the names of upstream servers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nginx may take until it serves what it was told to read, besides the time that it just took to
/// read it for a test. It tries an address that is taken for 2.5 seconds.
const TAKING: Duration = Duration::from_secs(10);

/// Between two looks at its workers.
const SOON: Duration = Duration::from_millis(25);

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
    /// It takes it.
    Good {
        /// Names of the files that it read, as it names them.
        read: Vec<String>,
        /// What it warns of, in its own words.
        warning: Option<String>,
    },
    /// It does not: why, in its own words, with file and line.
    Bad(String),
}

/// What a running nginx made of the order to read its configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// It serves it.
    Taken,
    /// It goes on with what it had read.
    Kept,
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
        Ok(Tested::Good {
            read: ended.stdout.lines().filter_map(named).collect(),
            warning: told(&ended.stderr),
        })
    }

    /// Lets a running nginx read its configuration again, and waits until it serves it: the order itself says
    /// nothing of what becomes of it. A test tells no address that another program holds.
    ///
    /// # Errors
    /// It does not run, or cannot be told: why, in its own words.
    pub fn reload(&self) -> Result<Reloaded, String> {
        let before = self.workers();
        let begun = Instant::now();
        let ended = program::run(&self.name(), &["-s", "reload"], PATIENCE);
        let ended = ended.map_err(|error| error.to_string())?;
        if !ended.status.success() {
            return Err(words(&ended.stderr));
        }
        // Before it acts on the order it reads everything once more, which may take as long as it just did.
        let deadline = Instant::now() + begun.elapsed() + TAKING;
        loop {
            // It has new workers once it serves the new configuration. One that had none cannot be seen.
            if before.is_empty() || self.workers().iter().any(|worker| !before.contains(worker)) {
                return Ok(Reloaded::Taken);
            }
            if Instant::now() >= deadline {
                return Ok(Reloaded::Kept);
            }
            std::thread::sleep(SOON);
        }
    }

    /// Its processes that serve: those whose parent is one of it too.
    fn workers(&self) -> Vec<Process> {
        let all = self.processes();
        let child = |one: &&Process| all.iter().any(|other| other.pid == one.parent);
        all.iter().filter(child).copied().collect()
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
    told(stderr).unwrap_or_else(|| "it says nothing".to_owned())
}

/// The same; `None` where it complains of nothing.
fn told(stderr: &str) -> Option<String> {
    let text = program::plain(stderr);
    let told = text.lines().map(|line| without_clock(line.trim().trim_start_matches("nginx: ")));
    // Whether the test of a file went well is told by the exit code.
    let ends = [" test failed", " syntax is ok", " test is successful"];
    let told = told.filter(|line| !ends.iter().any(|end| line.ends_with(end)));
    let told = told.filter(|line| !line.is_empty() && !line.starts_with("[notice]"));
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
    if out.chars().count() > MOST {
        out = out.chars().take(MOST).collect::<String>() + " …";
    }
    (!out.is_empty()).then_some(out)
}

/// What comes late in a test looks like a line of its log: `2026/11/24 02:30:00 [warn] 22#22: …`.
fn without_clock(line: &str) -> String {
    let parts = line.split_once(" [").and_then(|(time, rest)| {
        let (level, said) = rest.split_once("] ")?;
        let (process, said) = said.split_once(": ")?;
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "/:# ".contains(c));
        (plain(time) && plain(process)).then(|| format!("[{level}] {said}"))
    });
    parts.unwrap_or_else(|| line.to_owned())
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
        let good = "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\nnginx: configuration file /etc/nginx/nginx.conf test is successful\n";
        assert_eq!(told(good), None);
        for clock in ["nginx: [warn] ", "2026/11/24 02:30:00 [warn] 22#22: "] {
            let warned = format!("{clock}conflicting server name \"a.b\" on 0.0.0.0:80, ignored\n{good}");
            assert_eq!(
                told(&warned).as_deref(),
                Some("[warn] conflicting server name \"…\" on 0.0.0.0:80, ignored")
            );
        }
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
