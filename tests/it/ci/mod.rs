//! What CI systems make of agent-run's output, by parsers of their syntax.

pub mod github;
pub mod gitlab;
