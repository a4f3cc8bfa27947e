//! A restore as an operator does it on the machine: plan, stop, apply, start.

use serde_json::Value;

use crate::instance::UNIT;
use crate::machine::Machine;

impl Machine {
    /// Writes a plan, applies it with the service stopped around it, and waits until it serves again.
    #[track_caller]
    pub(crate) fn restore(&self, args: &[&str]) -> Value {
        let plan = "/root/plan.json";
        let _ = self.run("rm", &["-f", plan]);
        let _ = self.run("abssctl", &[&["plan", "restore"], args, &["-o", plan]].concat()).ok();
        let _ = self.run("systemctl", &["stop", UNIT]).ok();
        let result = self.abssctl(&["apply", plan]);
        let _ = self.run("systemctl", &["start", UNIT]).ok();
        self.wait_until_it_serves();
        assert_eq!(result["outcome"], "applied", "{result:#}");
        result
    }

    /// Backs the live state up; the new backup's id.
    pub(crate) fn back_up(&self) -> String {
        self.abssctl(&["backup", "create", "budget"])["id"].as_str().unwrap().to_owned()
    }
}
