//! The run loop against a scripted engine, real git and tokio's clock: any call going wrong at any
//! point, time limits, interrupts, floods. Nothing may be leaked, ever.

mod attempts;
mod calls;
mod claims;
mod disk;
mod egress;
mod examine;
mod failures;
mod full;
mod faults;
mod journal;
mod killed;
mod kills;
mod limits;
mod many;
mod needs;
mod outage;
mod output;
mod patience;
mod prepared;
mod previews;
mod proof;
mod scene;
mod runtime;
mod services;
mod setup;
mod shutdown;
mod snapshots;
mod stop;
mod tidy;
mod usage;
mod verify;
mod views;
