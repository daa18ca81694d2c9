//! Host git, and every shape of repository that the user may have. Real git; `PATH` says which.

mod command;
mod export;
pub mod fixture;
mod program;
mod repository;
