//! An instance of the fixture with the real server at work on it.

use serde_json::Value;

use super::TestRoot;
use super::actual::{Client, Program, Server};
use super::root::LIVE;

/// An instance with a server that runs.
pub(crate) struct World {
    pub(crate) root: TestRoot,
    pub(crate) program: Program,
    pub(crate) server: Option<Server>,
    pub(crate) port: u16,
}

impl World {
    pub(crate) fn new(program: Program) -> Self {
        let root = TestRoot::new();
        let server = Server::start(&program, &root.path(LIVE).join("data"));
        let port = server.port();
        Self { root, program, server: Some(server), port }
    }

    /// A new device, logged in.
    pub(crate) fn device(&self) -> Client {
        Client::new(&self.program, self.server.as_ref().unwrap())
    }

    /// A new device that opens this budget.
    pub(crate) fn opened(&self, name: &str, password: Option<&str>) -> Client {
        let mut device = self.device();
        device.download(name, password);
        device
    }

    /// Stops the server; it complained of nothing.
    pub(crate) fn stop(&mut self) {
        self.server.take().unwrap().stop_content();
    }

    /// Starts it where its devices look for it.
    pub(crate) fn start(&mut self) {
        self.server = Some(Server::start_at(&self.program, &self.root.path(LIVE).join("data"), self.port));
    }
}

/// Runs a test with both servers: that of the fixture and a newer one.
pub(crate) fn with_both(test: &str, act: impl Fn(World)) {
    for program in [Program::old(test), Program::new(test)].into_iter().flatten() {
        act(World::new(program));
    }
}

/// One budget of a plan's preview.
#[track_caller]
pub(crate) fn budget<'p>(plan: &'p Value, name: &str) -> &'p Value {
    let budgets = plan["preview"]["budgets"].as_array().unwrap();
    budgets.iter().find(|budget| budget["name"] == name).unwrap_or_else(|| panic!("{name}: {budgets:#?}"))
}
