mod drain;
mod graph;
mod hold;
mod join;
mod model;
mod print;
mod rig;
mod world;
