//! agent-run: many coding agents on one repository, each in its own git worktree and container.
//!
//! One sentence: a YAML spec of agent tasks becomes a plan; each task of the plan becomes a private
//! workspace and a container; everything that happens is an event; every finished task becomes a
//! branch that was checked before it entered the user's repository.

pub mod id;
pub mod secrets;
pub mod sanitize;
pub mod event;
pub mod engine;
pub mod spec;
pub mod plan;
pub mod git;
pub mod workspace;
pub mod journal;
pub mod collect;
pub mod runner;
