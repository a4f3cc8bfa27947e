//! The restore holds: what the real server and the official clients make of it. Each test runs with the
//! server of the fixture and with a newer one.

use serde_json::{Value, json};

use crate::support::TestRoot;
use crate::support::root::LIVE;
use crate::support::world::{World, budget, with_both};

impl World {
    /// Does something while the server stands still; it complained of nothing before.
    fn stopped<T>(&mut self, act: impl FnOnce(&TestRoot) -> T) -> T {
        self.stop();
        let done = act(&self.root);
        self.start();
        done
    }

    /// A backup of the state now.
    fn quiet_backup(&mut self) -> String {
        self.stopped(|root| {
            let made = root.json(&["backup", "create", "budget"]).ok().json();
            made["id"].as_str().unwrap().to_owned()
        })
    }

    /// Restores a backup; gives what the plan said of each budget, by name.
    fn restore(&mut self, id: &str, args: &[&str]) -> Value {
        self.stopped(|root| {
            let plan = root.plan(&[&[id], args].concat());
            let document: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
            assert_eq!(root.apply(&plan).ok().json()["outcome"], "applied");
            document
        })
    }

    /// Messages of all groups of the server's files: (group, count).
    fn messages(&self) -> Vec<(String, i64)> {
        let directory = self.root.path(LIVE).join("data/user-files");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Some(group) = name.strip_prefix("group-").and_then(|name| name.strip_suffix(".sqlite"))
            else {
                continue;
            };
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = rusqlite::Connection::open_with_flags(&path, flags).unwrap();
            let count = "SELECT count(*) FROM messages_binary";
            found.push((group.to_owned(), connection.query_row(count, [], |row| row.get(0)).unwrap()));
        }
        found.sort();
        found
    }
}

#[test]
fn after_a_reset_old_devices_send_nothing_and_new_ones_open_the_restored_state() {
    with_both("after_a_reset_old_devices_send_nothing_and_new_ones_open_the_restored_state", |mut world| {
        let (mut a, mut b) = (world.opened("Household", None), world.opened("Household", None));
        a.write(3, "before");
        let id = world.quiet_backup();
        let then = a.notes();
        a.write(5, "after");
        b.write(2, "elsewhere");
        let _ = b.ask(&json!({ "do": "add", "transactions": 4, "notes": "offline" }));

        let plan = world.restore(&id, &["--clients", "reset"]);
        assert!(budget(&plan, "Household")["changesNewer"].as_u64().unwrap() > 0, "{plan:#}");
        let restored = world.messages();
        for old in [&mut a, &mut b] {
            assert_eq!(old.sync(), "file-has-reset");
        }
        let mut fresh = world.opened("Household", None);
        assert_eq!(fresh.notes(), then);
        assert_eq!(world.messages(), restored, "nothing came back");
        fresh.write(1, "new life");
        let mut other = world.opened("Household", None);
        assert_eq!(other.notes().len(), then.len() + 1);
        world.stop();
    });
}

#[test]
fn after_a_merge_exactly_the_changes_that_the_plan_counted_come_back() {
    with_both("after_a_merge_exactly_the_changes_that_the_plan_counted_come_back", |mut world| {
        let (mut a, mut b) = (world.opened("Household", None), world.opened("Household", None));
        let id = world.quiet_backup();
        a.write(5, "after");
        b.write(2, "elsewhere");
        assert_eq!(a.sync(), Value::Null);
        let (all, live) = (a.notes(), world.messages());

        let plan = world.restore(&id, &["--clients", "merge"]);
        let predicted = budget(&plan, "Household")["changesNewer"].as_i64().unwrap();
        let restored = world.messages();
        assert_eq!(a.sync(), Value::Null);
        let count = |messages: &[(String, i64)]| messages.iter().map(|(_, count)| count).sum::<i64>();
        assert_eq!(count(&world.messages()) - count(&restored), predicted, "{plan:#}");
        assert_eq!(world.messages(), live);
        assert_eq!(world.opened("Household", None).notes(), all, "the restore is undone, as the plan said");
        world.stop();
    });
}

#[test]
fn an_encrypted_budget_opens_with_its_password_after_a_reset() {
    with_both("an_encrypted_budget_opens_with_its_password_after_a_reset", |mut world| {
        let mut a = world.opened("Household", None);
        let _ = a.ask(&json!({ "do": "encrypt", "password": "sesame" }));
        a.write(3, "secret before");
        let id = world.quiet_backup();
        let then = a.notes();
        a.write(4, "secret after");

        let plan = world.restore(&id, &["--clients", "reset"]);
        let told = budget(&plan, "Household");
        assert_eq!(told["encrypted"], true);
        assert!(told["changesNewer"].as_u64().unwrap() > 0, "counted without the key: {told:#}");
        assert_eq!(a.sync(), "file-has-reset");
        let mut fresh = world.opened("Household", Some("sesame"));
        assert_eq!(fresh.notes(), then);
        world.stop();
    });
}

#[test]
fn revoked_sessions_log_in_again() {
    with_both("revoked_sessions_log_in_again", |mut world| {
        let mut a = world.opened("Household", None);
        let id = world.quiet_backup();
        let _ = world.restore(&id, &["--sessions", "revoke"]);
        assert_ne!(a.sync(), Value::Null, "its login is over");
        let _ = world.opened("Household", None);
        let _ = world.restore(&id, &["--sessions", "keep"]);
        assert_eq!(a.sync(), Value::Null, "its login came back with the backup");
    });
}

/// The sync group that the server gives a budget.
fn group(root: &TestRoot, name: &str) -> String {
    let path = root.path(LIVE).join("data/server-files/account.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let query = "SELECT group_id FROM files WHERE name = ?1";
    connection.query_row(query, [name], |row| row.get(0)).unwrap()
}

#[test]
fn a_reset_of_one_budget_leaves_the_clients_of_the_other_alone() {
    with_both("a_reset_of_one_budget_leaves_the_clients_of_the_other_alone", |mut world| {
        let (mut house, mut trip) = (world.opened("Household", None), world.opened("Holiday", None));
        let id = world.quiet_backup();
        let then = house.notes();
        house.write(3, "bad import");
        trip.write(2, "a good day");
        let of_trip = trip.notes();
        let (old_house, old_trip) = (group(&world.root, "Household"), group(&world.root, "Holiday"));

        let plan = world.restore(&id, &["--clients", "Household=reset"]);
        let named = plan["spec"]["clients"]["budgets"].as_object().unwrap();
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!(plan["spec"]["clients"]["default"], "merge");
        assert_ne!(group(&world.root, "Household"), old_house);
        assert_eq!(group(&world.root, "Holiday"), old_trip);
        assert_eq!(house.sync(), "file-has-reset");
        let before = world.messages();
        assert_eq!(trip.sync(), Value::Null, "the other goes on without a message");
        let predicted = budget(&plan, "Holiday")["changesNewer"].as_i64().unwrap();
        let count = |messages: &[(String, i64)]| {
            messages.iter().find(|(group, _)| *group == old_trip).map(|(_, count)| *count).unwrap()
        };
        assert_eq!(count(&world.messages()) - count(&before), predicted);
        assert_eq!(world.opened("Holiday", None).notes(), of_trip);
        assert_eq!(world.opened("Household", None).notes(), then);
        world.stop();
    });
}

#[test]
fn what_a_device_never_sent_survives_a_merge_and_stays_on_it_after_a_reset() {
    with_both("what_a_device_never_sent_survives_a_merge_and_stays_on_it_after_a_reset", |mut world| {
        let mut offline = world.opened("Household", None);
        let id = world.quiet_backup();
        let then = offline.notes();
        // It cannot reach the server, and keeps what it could not send.
        let log = world.server.take().unwrap().stop();
        drop(log);
        let _ = offline.ask(&json!({ "do": "add", "transactions": 4, "notes": "offline" }));
        assert_ne!(offline.sync(), Value::Null);
        let all = offline.notes();
        world.start();

        let plan = world.restore(&id, &["--clients", "merge"]);
        assert_eq!(budget(&plan, "Household")["changesNewer"], 0, "nobody can count what was never sent");
        assert_eq!(offline.sync(), Value::Null);
        assert_eq!(world.opened("Household", None).notes(), all);

        let _ = world.restore(&id, &["--clients", "reset"]);
        assert_eq!(offline.sync(), "file-has-reset");
        assert_eq!(offline.notes(), all, "its copy stays");
        assert_eq!(world.opened("Household", None).notes(), then);
        world.stop();
    });
}

#[test]
fn a_budget_made_after_the_backup_is_no_cloud_file_and_harms_nothing() {
    with_both("a_budget_made_after_the_backup_is_no_cloud_file_and_harms_nothing", |mut world| {
        let mut house = world.opened("Household", None);
        let id = world.quiet_backup();
        let then = house.notes();
        let mut late = world.device();
        let _ = late.ask(&json!({ "do": "make", "name": "Late", "transactions": 3 }));
        assert_eq!(late.sync(), Value::Null);
        let kept = late.notes();

        let plan = world.restore(&id, &["--clients", "merge"]);
        assert_eq!(budget(&plan, "Late")["presence"], "live-only");
        let restored = world.messages();
        assert_eq!(late.sync(), "file-not-found");
        assert_eq!(late.notes(), kept, "its copy stays");
        assert_eq!(world.messages(), restored);
        assert_eq!(house.sync(), Value::Null);
        assert_eq!(house.notes(), then);
        let _ = world.opened("Household", None);
        world.server.take().unwrap().stop();
    });
}
