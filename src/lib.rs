//! agent-run: many coding agents on one repository, each in its own git worktree and container.
//!
//! A YAML spec of agent tasks becomes a plan; each task of the plan becomes a private workspace and
//! a container; everything that happens is an event; every finished task becomes a branch that was
//! checked before it entered the user's repository.
//!
//! ```text
//! spec.yaml ─► spec ─► plan ─► runner ─► events ─► report ─► terminal, files
//!              pure     pure    │  │  ▲
//!                               ▼  ▼  │       one module per outside thing:
//!                      workspace  engine  collect ─► branches
//!                        (git)   (Docker)
//! ```
//!
//! Data flows one way, and one word has one meaning: **Spec** (what was asked) → **Plan** (what will
//! be done; immutable, serialisable) → **Config** (what is handed to the engine) → **Event** (what is
//! happening) → **Outcome** (what happened).
//!
//! The modules below stand in the order of that flow, and each may use only those that a table in
//! `tests/it/layering.rs` allows it. Fences hold the rest: host programs are started in [`git`]
//! only, tasks are spawned in [`runner`] and [`engine`] only, the environment is read and the
//! terminal written in [`cli`] and [`report`] only, and git2 opens nothing but the repository of
//! accepted results and the base's objects, both agent-run's own, in [`collect`].
//!
//! Three kinds of "went wrong" are kept apart. *The task went badly* is data:
//! [`event::TaskOutcome`] and [`event::BranchResult`]. *We could not do our part* is an `Err` of the
//! module's own error type, and becomes that one task's `Infra` outcome inside [`runner`]. *Cleaning
//! up went badly* is listed beside the outcome and never replaces it.

pub mod id;
pub mod secrets;
pub mod sanitize;
pub mod event;
pub mod engine;
pub mod egress;
pub mod agents;
pub mod spec;
pub mod plan;
pub mod git;
pub mod workspace;
pub mod journal;
pub mod claims;
pub mod collect;
pub mod forecast;
pub mod runner;
pub mod report;
pub mod cli;
