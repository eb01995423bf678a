//! korder in the places of `testbed`: scripts of what happens in the simulated cluster, runs of them, sweeps over
//! many, and their judges. The programs beside it show and measure korder. Of korder's code only the composition
//! root is used, and no judge uses any.

pub mod failover;
pub mod full;
pub mod month;
pub mod oracle;
pub mod run;
pub mod scenarios;
pub mod script;
pub mod show;
pub mod status;
pub mod sweep;
pub mod timed;
