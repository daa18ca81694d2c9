//! Docker, by Bollard.
