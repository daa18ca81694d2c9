//! The real command on a real engine and real repositories: what a person gets.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests start the command and git as a person does"
)]

mod agents;
mod attempts;
mod bad_input;
mod branches;
mod ci;
mod claims;
mod clean;
mod command_line;
mod commands;
mod container;
mod disk;
mod doctor;
mod dry_run;
mod egress;
mod endings;
mod faults;
mod engine;
mod environment;
mod export;
mod failures;
mod hostile;
mod firewall;
mod init;
mod logs;
mod many;
mod matrix;
mod ordinary_user;
mod others;
mod patterns;
mod pipelines;
mod ports;
mod previews;
mod outputs;
mod readme;
mod repeat;
mod resources;
mod resume;
mod runtime;
mod scene;
mod secrets;
mod services;
mod setup;
mod signals;
mod snapshots;
mod stop;
mod submodules;
mod terminal;
mod tidy;
mod verify;
mod views;
mod whole;
mod worktrees;
