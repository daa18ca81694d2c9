//! The engine: one contract for the fake and for Docker, and what only Docker can show.

mod answers;
mod calls;
mod contract;
mod docker;
mod endpoint;
mod fake;
mod networks;
mod registry;
pub mod server;
mod volumes;
