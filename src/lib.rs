//! `abssctl` puts an Actual Budget server back to a known-good state: one command writes a **plan**,
//! people and machines review it, another command **applies** exactly that plan.
//!
//! Layers, top to bottom; a layer knows the ones below it, never above:
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`cli`] | commands, text and JSON output, prompts, exit codes |
//! | [`doctor`] | says what is not in order on a machine; changes nothing |
//! | [`planner`] | reads the host, writes a plan; changes nothing |
//! | [`engine`] | runs a plan: schedule, journal, undo, events |
//! | [`steps`] | one file a step kind: run, undo, probe |
//! | [`survey`] | looks at machine, instance, backup and target; used by planner and check |
//! | [`run`] | what is on disk of each run: journal, state, facts |
//! | [`backup`] | makes a backup: archive, sidecar, index entry |
//! | [`facts`] | what a planner must know of a machine, as a document; pure |
//! | [`plan`] | the document: model, loading, graph rules, canonical form, renderings; pure |
//! | [`actual`] | what this program knows of Actual Budget's server |
//! | [`archive`] | the backup container: reader, writer, manifest |
//! | [`store`] | where archives lie |
//! | [`state`] | files shared with the peer tool: configuration, registry, backup index, operations log |
//! | [`host`] | the outside world: files, locks, clock, SQLite, processes |
//! | [`context`] | what every command needs: root, configuration, actor |
//! | [`duration`] | lengths of time as people write them |
//! | [`ids`] | names and digests that must not be mixed up |

pub mod actual;
pub mod archive;
pub mod backup;
pub mod cli;
pub mod context;
pub mod doctor;
pub mod duration;
pub mod engine;
pub mod facts;
pub mod host;
pub mod ids;
pub mod plan;
pub mod planner;
pub mod run;
pub mod state;
pub mod steps;
pub mod store;
pub mod survey;
