//! One case per error of a spec, with its whole rendered message.

mod artifacts;
mod egress;
mod keys;
mod limits;
mod graph;
mod matrix;
mod services;
mod setup;
mod syntax;
mod work;
